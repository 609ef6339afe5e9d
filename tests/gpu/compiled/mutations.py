"""Which barriers the checks would miss: `python -m tests.gpu.compiled.mutations [--only trees|triton] [--json FILE]`.

In: nothing; no GPU is needed. Out: per kernel how many barriers its PTX has, how many of them the cases come to, and of
how many of these the deletion is noticed; those that are not noticed by their lines of source.
Source: mutation analysis; a barrier that all threads pass without waiting is the mutation.

Cases are chosen for what they come to: few pixels, and every phase of the trees and of the order statistics. A barrier
may stay unnoticed because another one comes before what it guards is used: a phase ends with a barrier of its own, also
where the next phase touches other arrays, has each index on the same thread, or only adds by atomic operations. Where
two phases meet in atomic operations alone, no race tells that one came early; then only a wrong result does.
"""

import argparse
import json
import warnings
from collections import Counter, defaultdict
from pathlib import Path

from wsolkern.ops.gpu import statistics

from . import building, checking
from .running import Broken, machine

TREES = [
    *((name, "count_box_hits") for name in ("pinched_ring", "plateau_moat", "noise_16_levels", "comb_interlocked")),
    *((name, "threshold_boxes") for name in ("pinched_ring", "plateau_moat", "noise_16_levels")),
    ("negative", "level_image"),  # a normalization without a score map
    ("cam_14x14", "level_image"),  # branches with many levels
]
TRITON = ("cam_14x14", "noise", "mostly_minimum", "cam_13x17")
TRITON_OPERATIONS = ("resize", "affine", "normalize", "cut_points", "level_image", "pixel_histograms", "digitize")
MOST_ACCESSES = 20_000_000  # of a launch; a loop that a deleted barrier keeps from ending is noticed by them


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.compiled.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("trees", "triton"), help="the kernels of nvcc, or those of Triton")
    parser.add_argument("--kernel", default="", metavar="TEXT", help="only kernels with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found to a file")
    arguments = parser.parse_args()
    if missing := building.missing():
        raise SystemExit(f"compiled device code: {missing}")
    warnings.simplefilter("ignore", RuntimeWarning)
    found: dict[tuple, dict] = {}
    wanted = arguments.kernel
    if arguments.only != "triton":
        for shared_limit in (232_448, 0):
            mutations(found, TREES, wanted, shared_limit=shared_limit)
    if arguments.only != "trees":
        mutations(found, [(name, each) for name in TRITON for each in TRITON_OPERATIONS], wanted)
        for constant, value in (("CELLS", 16), ("GROUP", 32), ("GATHERED", 32)):  # most ranks by radix
            setattr(statistics, constant, value)
        mutations(found, [(name, "affine") for name in ("cam_13x17", "noise", "mostly_minimum")], wanted)
    found = list(found.values())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def mutations(found: dict[tuple, dict], cases: list[tuple[str, str]], wanted: str, *, shared_limit: int = -1) -> None:
    """Deletes each barrier that a case comes to, in one run of each such case until one of them fails.

    With a limit of shared memory it is those of the trees. What was noticed before is not asked again.
    """
    trees = shared_limit >= 0
    check = checking.check_trees if trees else checking.check_kernels
    reached: dict[tuple, list[tuple[str, str]]] = defaultdict(list)
    with machine(90, trees=trees, shared_limit=shared_limit) as made:
        made.most_accesses = MOST_ACCESSES
        for case in cases:
            before = _counts(made)
            check(*case)
            for at, count in _counts(made).items():
                if count > before.get(at, 0):
                    reached[at].append(case)
        for launch, library in dict(made.libraries).items():
            for site, text in _barriers(library).items():
                kernel = library.site_kernel(site).decode()
                kernel += "" if trees or not launch.variant else f", {launch.variant}"
                known = found.setdefault((library._name, site), {"kernel": kernel, "source": text.split()[0]})
                if wanted not in kernel:
                    del found[library._name, site]
                    continue
                if known.get("noticed"):
                    continue
                notices = (_failure(made, (launch, site), check, case) for case in reached[launch, site])
                known["noticed"] = next(filter(None, notices), "")
                known["cases"] = known.get("cases", 0) + len(reached[launch, site])
                print("." if known["noticed"] else "!" if known["cases"] else "-", end="", flush=True)
    print()


def _failure(made, at: tuple, check, case: tuple[str, str]) -> str:
    """What tells that a barrier is missing: the machine, or a wrong result."""
    launch, site = at
    made.deleted = launch, site
    for each, library in made.libraries.items():
        made.configure(library, each)
    try:
        check(*case)
    except (Broken, RuntimeError) as error:
        return str(error).partition("\n")[0][:300]
    except AssertionError:
        return "another result"
    finally:
        made.deleted = None, -1
        for each, library in made.libraries.items():
            made.configure(library, each)
    return ""


def _barriers(library) -> dict[int, str]:
    texts = {site: library.site_text(site).decode() for site in range(library.count_sites())}
    return {site: text for site, text in texts.items() if text.partition(" ")[2].startswith(("bar.sync", "barrier"))}


def _counts(made) -> dict[tuple, int]:
    return {(launch, site): library.times_reached(site) for launch, library in made.libraries.items()
            for site in _barriers(library)}  # fmt: skip


def show(found: list[dict]) -> None:
    """A line a kernel, and one for each line of source with barriers whose deletion nobody noticed."""
    kernels = defaultdict(list)
    for each in found:
        kernels[each["kernel"]].append(each)
    print(f"{'kernel':60} barriers  reached  noticed")
    for kernel, some in sorted(kernels.items()):
        reached = [each for each in some if each["cases"]]
        print(f"{kernel[:60]:60} {len(some):8} {len(reached):8} {sum(bool(each['noticed']) for each in reached):8}")
    reached = [each for each in found if each["cases"]]
    print(f"{'all':60} {len(found):8} {len(reached):8} {sum(bool(each['noticed']) for each in reached):8}")
    for title, some in (
        ("not noticed", [each for each in reached if not each["noticed"]]),
        ("not reached", [each for each in found if not each["cases"]]),
    ):
        places = Counter((each["kernel"][:50], each["source"]) for each in some)
        print(f"\n{title}:")
        for (kernel, place), count in sorted(places.items()):
            print(f"  {place:28} {count:3}  {kernel}")


if __name__ == "__main__":
    main()

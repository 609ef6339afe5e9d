"""Which barriers the checks would miss: `python -m tests.gpu.compiled.mutations [--only trees|triton] [--json FILE]`.

In: nothing; no GPU is needed. Out: per kernel how many barriers its PTX has, how many of them the cases come to, and of
how many of these the deletion is noticed; the others by their lines of source. The JSON is written as the run goes on.
Source: mutation analysis; a barrier that all threads pass without waiting is the mutation.

Cases are chosen for what they come to: few pixels, and every phase of the trees and of the order statistics. A race
across the deleted barrier is noticed by the machine. Where two threads meet across it in atomic operations alone there
is no race, and only a wrong result tells; "met" lists the instructions that do. A barrier that is neither noticed nor
meets anything has nothing of two threads on its two sides in any case: another barrier comes before what it guards.
docs/gpu.md has the figures, and why each line that is never noticed stays.
"""

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from wsolkern.ops.gpu import statistics

from . import building, checking
from .running import Broken, machine

TREES = [
    *(
        (name, operation)
        for operation, names in {
            "count_box_hits": ("plateau_moat", "noise_16_levels", "comb_interlocked", "zero"),
            "box_hits": ("pinched_ring",),  # the largest contours alone, too
            "threshold_boxes": ("pinched_ring", "plateau_moat", "noise_16_levels", "zero"),
            "level_image": ("negative", "cam_14x14", "noise"),  # no score map; branches with many levels
        }.items()
        for name in names
    ),
    # Wrong boxes where a branch is looked at before all of it is there; runs and crests in different words of a row.
    *(
        (name, operation)
        for name in ("two_towers_with_arms", "wide_11x61")
        for operation in ("count_box_hits", "threshold_boxes", "level_image")
    ),
]
TRITON = ("cam_14x14", "noise", "mostly_minimum", "cam_13x17")
RADIX = ("below_one_level", "cam_spike", "cam_constant")  # ranks by radix, as cells and groups are sized
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

    def save() -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(list(found.values()), indent=1) + "\n")

    if arguments.only != "triton":
        for shared_limit in (232_448, 0):
            mutations(found, TREES, wanted, save, shared_limit=shared_limit)
    if arguments.only != "trees":
        mutations(found, [(name, each) for name in TRITON for each in TRITON_OPERATIONS], wanted, save)
        mutations(found, [(name, "affine") for name in RADIX], wanted, save)
        for constant, value in (("CELLS", 16), ("GROUP", 32), ("GATHERED", 32)):  # most ranks by radix
            setattr(statistics, constant, value)
        mutations(found, [(name, "affine") for name in ("cam_13x17", "noise", "mostly_minimum")], wanted, save)
    found = list(found.values())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def mutations(
    found: dict[tuple, dict],
    cases: list[tuple[str, str]],
    wanted: str,
    save: Callable[[], None],  # called whenever something was found
    *,
    shared_limit: int = -1,
) -> None:
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
                known["noticed"], met = "", set(known.get("met", ()))
                for case in reached[launch, site]:
                    known["noticed"], pairs = _failure(made, (launch, site), check, case)
                    met |= pairs
                    if known["noticed"]:
                        break
                known["met"] = [] if known["noticed"] else sorted(met)
                known["cases"] = known.get("cases", 0) + len(reached[launch, site])
                print("." if known["noticed"] else "!" if known["cases"] else "-", end="", flush=True)
                save()
    print()


def _failure(made, at: tuple, check, case: tuple[str, str]) -> tuple[str, set[str]]:
    """What tells that a barrier is missing: the machine, or a wrong result; and which atomic operations meet then."""
    made.deleted = at
    libraries = [(each, library) for each, library in made.libraries.items() if each == at[0]]
    for each, library in libraries:
        made.configure(library, each)
    failure = ""
    try:
        check(*case)
    except (Broken, RuntimeError) as error:
        failure = str(error).partition("\n")[0][:300]
    except AssertionError:
        failure = "another result"
    met = {pair for _, library in libraries for pair in library.met().decode().splitlines()}
    made.deleted = None, -1
    for each, library in libraries:
        made.configure(library, each)
    return failure, met


def _barriers(library) -> dict[int, str]:
    texts = {site: library.site_text(site).decode() for site in range(library.count_sites())}
    return {site: text for site, text in texts.items() if text.partition(" ")[2].startswith(("bar.sync", "barrier"))}


def _counts(made) -> dict[tuple, int]:
    return {(launch, site): library.times_reached(site) for launch, library in made.libraries.items()
            for site in _barriers(library)}  # fmt: skip


def show(found: list[dict]) -> None:
    """A line a kernel, and one for each line of source with a barrier that was not reached or not noticed."""
    kernels, places = defaultdict(list), defaultdict(list)
    for each in found:
        kernels[each["kernel"]].append(each)
        file, _, line = each["source"].partition(":")
        places[file, int(line or 0)].append(each)
    print(f"{'kernel':60} barriers  reached  noticed")
    for kernel, some in [*sorted(kernels.items()), ("all", found)]:
        print(f"{kernel[:60]:60} {_numbers(some)}")
    print(f"\n{'source, where not all were noticed':60} barriers  reached  noticed")
    for (file, line), some in sorted(places.items()):
        if not all(each["noticed"] for each in some):
            meets = any(each["met"] for each in some)
            print(f"{file + ':' + str(line):60} {_numbers(some)}{'  atomic operations meet' if meets else ''}")


def _numbers(some: list[dict]) -> str:
    reached = [each for each in some if each["cases"]]
    return f"{len(some):8} {len(reached):8} {sum(bool(each['noticed']) for each in reached):8}"


if __name__ == "__main__":
    main()

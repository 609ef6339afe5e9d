"""Whether a result depends on anything but its data: `python -m benchmarks.determinism`.

In: maps, boxes and masks of exact values, made here. Out: a row for each way to count them (threads, batches, orders,
processes, instruction sets, backends, interpreters) with the hash of all counts and figures; the exit code is 1 if two
differ. What cannot run here has a row that says why.
Source: none.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.digest import maps_of

NORMALIZATIONS = "minmax max pas:0.9 ivr:0.00..0.95/0.05 ivr:0.45+pas:0.9"
SIZE = (31, 40)
ROOT = Path(__file__).parent.parent
FEW = 6  # of so many maps the emulated GPU code counts one, as it takes long
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")


def made(every: int = 1, seed: int = 0) -> tuple[list[str], np.ndarray, dict, dict]:
    """Ids; maps float64 [N, 14, 14], all values k / 1024; boxes and masks by id. ``every``: of so many one."""
    rng = np.random.default_rng(seed)
    maps = np.concatenate([maps_of(rng, (14, 14)) for _ in range(3)])
    ids = [f"{number}.jpg" for number in range(len(maps))]
    corners = np.sort(rng.integers(0, SIZE[::-1], (len(ids), 2, 2)), axis=1).reshape(-1, 1, 4)
    masks = rng.choice(np.array([0, 1, 255], np.uint8), (len(ids), *SIZE))
    ids, maps, corners, masks = (each[::every] for each in (ids, maps, corners, masks))
    return ids, maps, dict(zip(ids, corners, strict=True)), dict(zip(ids, masks, strict=True))


def counted(part: int, parts: int, batch: int, order: str, backend: str, every: int):
    """The evaluator of every ``parts``-th image from ``part`` on."""
    from wsolkern import Evaluator

    ids, maps, boxes, masks = made(every)
    thresholds = np.arange(0, 1, 0.01)
    evaluator = Evaluator(
        NORMALIZATIONS, boxes=boxes, masks=masks, size=SIZE, thresholds=thresholds, backend=backend
    )  # fmt: skip
    places = {
        "as listed": np.arange(len(ids)),
        "backwards": np.arange(len(ids))[::-1],
        "shuffled": np.random.default_rng(1).permutation(len(ids)),
    }[order][part::parts]
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        evaluator.update(maps[some], [ids[each] for each in some])
    return evaluator


def digest(evaluator) -> str:
    """16 hexadecimal digits of SHA-256 over the counts and over the JSON of the figures with their curves."""
    found = hashlib.sha256(json.dumps(evaluator.compute().to_dict(curves=True), sort_keys=True).encode())
    for counts in (evaluator.num_correct, evaluator.hist, evaluator.num_degenerate):
        found.update(np.ascontiguousarray(counts, np.int64))
    return found.hexdigest()[:16]


def cell(part: int, parts: int, batch: int, every: int, order: str, backend: str, out: str) -> None:
    """One process: its part of the counts, as a file."""
    if backend == "emulated":
        sys.path.insert(0, str(ROOT / "tests"))
        from kept import emulated
        from shared import stand_in

        sys.modules["wsolkern._cuda"] = stand_in(emulated())
        backend = "cuda"
    counted(part, parts, batch, order, backend, every).save(out)


def run(
    *,
    processes: int = 1,
    batch: int = 64,
    every: int = 1,
    order: str = "as listed",
    backend: str = "cpu",
    python: str = sys.executable,
    **environment: str,
) -> str:
    """The digest of one way to count, which processes of its own do; or why it cannot be done here."""
    from wsolkern import Evaluator

    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSOLKERN_")}
    own = inherited | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"} | environment
    own |= {name: value for name, value in os.environ.items() if name == "WSOLKERN_COMPILED_CACHE"}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, str(part))) for part in range(processes)]
        started = [
            subprocess.Popen(
                [python, "-m", "benchmarks.determinism", "--cell"]
                + [str(part), str(processes), str(batch), str(every), order, backend, file],
                cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for part, file in enumerate(files)
        ]  # fmt: skip
        for each in started:
            _, errors = each.communicate()
            if each.returncode:
                return f"not here: {(errors.strip().splitlines() or ['ended'])[-1][:90]}"
        merged = Evaluator.load(files[0])
        for file in files[1:]:
            merged.merge(Evaluator.load(file))
        return digest(merged)


def rows(pythons: Sequence[str], fast: bool) -> list[tuple[str, dict]]:
    """What is varied, and how."""
    from wsolkern.ops import backends

    found: list[tuple[str, dict]] = [("reference", {"backend": "reference"})]
    found += [(f"threads {each}", {"WSOLKERN_NUM_THREADS": str(each)}) for each in (1, 2, 3, 8)]
    found += [(f"batch {each}", {"batch": each}) for each in (1, 7, 64)]
    found += [(f"order {each}", {"order": each}) for each in ("backwards", "shuffled")]
    found += [(f"processes {each}", {"processes": each, "order": "shuffled"}) for each in (1, 2, 3)]
    found += [(f"instructions {each}", {"WSOLKERN_ISA": each}) for each in reversed(backends.ISAS)]
    if not fast:
        few = len(made(FEW)[0])
        found += [
            (f"{few} maps", {"every": FEW}),
            (f"{few} maps, GPU code, emulated", {"every": FEW, "backend": "emulated"}),
        ]
    return found + [(version(each), {"python": each}) for each in pythons]


def version(python: str) -> str:
    """Of an interpreter, its NumPy and what they run on; the path of one without NumPy."""
    code = (
        "import platform as p, numpy as n; print(f'Python {p.python_version()}, NumPy {n.__version__}, {p.machine()}')"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or python


def interpreters() -> list[str]:
    """Those on PATH and of pyenv, each once; ``sys.executable`` is in all other rows."""
    there = [shutil.which(name) for name in PYTHONS]
    there += [str(each) for name in PYTHONS for each in Path.home().glob(f".pyenv/versions/*/bin/{name}")]
    return sorted({each for each in there if each and "shims" not in each})


def main() -> int:
    """Runs the command line; 1 if two digests differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", help="an interpreter with wsolkern; default: all that are found")
    parser.add_argument("--fast", action="store_true", help="without the emulated GPU code, and none but these")
    parser.add_argument("--cell", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        cell(*map(int, arguments.cell[:4]), *arguments.cell[4:])
        return 0
    print(f"{len(made()[0])} maps, {version(sys.executable)}")
    digests: dict[int, set[str]] = {1: set()}  # by which maps were counted
    pythons = arguments.python or ([] if arguments.fast else interpreters())
    for name, how in rows(pythons, arguments.fast):
        found = run(**how)
        print(f"{name:36} {found}", flush=True)
        if not found.startswith("not here"):
            digests.setdefault(how.get("every", 1), set()).add(found)
    for every, different in digests.items():
        print(f"{len(made(every)[0])} maps: {len(different)} different digest{'s' * (len(different) != 1)}")
    return max(len(each) != 1 for each in digests.values())


if __name__ == "__main__":
    sys.exit(main())

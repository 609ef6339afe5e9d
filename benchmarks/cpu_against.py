"""Two revisions beside each other on the CPU: `python -m benchmarks.cpu_against --old REVISION`.

In: a git revision (built here) or a checkout that is built. Out: a line a case: microseconds a map of both, taking
turns in one run on one core, the median of the ratios of turns, and with --instructions those that valgrind counts.
Each only after both gave the same counts; else the exit code is 1. Python's part of a call is measured with it.
Source: the operations of wsolkern.ops, as each checkout has them.
"""

import argparse
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks import harness, inputs
from benchmarks.cpu_rows import MANY, ONE
from benchmarks.harness import RESULTS, ROOT, WrongResult, use_cores
from wsolkern.ops.backends import runnable_isas

KINDS = ("demo 14x14", "white noise", "4-level noise", "4-level smooth")
MOST_MAPS = {"white noise": 8, "4-level noise": 16}  # others: all there are, at least 100
COUNTED = 24  # maps of an instruction count, whatever the kind
TURNS, SECONDS = 9, 2.0  # at least so many, and for so long

# A process for each checkout, so that both have their own Python: argv[1] is the file of cases, argv[2] the checkout.
# `getpgid` is called for nothing but that callgrind writes down what it has counted.
WORKER = """
import hashlib, os, pickle, sys, time
import wsolkern
assert wsolkern.__file__.startswith(sys.argv[2]), wsolkern.__file__
from wsolkern.ops import count_box_hits, localize
with open(sys.argv[1], "rb") as file:
    cases = pickle.load(file)

def call(cams, boxes, normalizations, threshold):
    if threshold is not None:
        return localize(cams, normalizations, [threshold])[:2]
    return count_box_hits(cams, boxes, normalizations, contours="both")

for line in sys.stdin:
    name, repeats = line.rstrip().split("|")
    cams, boxes, normalizations, threshold, alone = cases[name]
    parts = [slice(n, n + 1) for n in range(len(cams))] if alone else [slice(None)]
    os.getpgid(0)
    begun = time.perf_counter()
    for _ in range(int(repeats)):
        found = [call(cams[part], boxes[part], normalizations, threshold) for part in parts]
    seconds = (time.perf_counter() - begun) / int(repeats)
    os.getpgid(0)
    digest = hashlib.sha256(b"".join(each.tobytes() for pair in found for each in pair)).hexdigest()
    print(f"{seconds!r} {digest}", flush=True)
"""


def main() -> int:
    """Runs the command line; 1 if the revisions do not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_against", description=__doc__.splitlines()[0])
    parser.add_argument("--old", required=True, help="git revision, built in a temporary folder, or a built checkout")
    parser.add_argument("--isa", default=",".join(runnable_isas()), help="which (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has TEXT in it")
    parser.add_argument("--instructions", action="store_true", help="count them too (valgrind; minutes; no AVX-512)")
    parser.add_argument("--no-demo", action="store_true", help="without the demo's CAMs, which take a minute to make")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    cases = {name: case for name, case in make_cases(arguments.no_demo).items() if arguments.only in name}
    results = {
        "machine": harness.describe(),
        "old": arguments.old,
        "load_before": os.getloadavg(),
        "rows": [],
    }
    with tempfile.TemporaryDirectory(prefix="wsolkern-against-") as scratch:
        old = Path(arguments.old).resolve() if Path(arguments.old).is_dir() else built(arguments.old, Path(scratch))
        path = Path(scratch) / "cases"
        path.write_bytes(pickle.dumps(cases))
        use_cores([max(os.sched_getaffinity(0))])
        try:
            for isa in arguments.isa.split(","):
                counted = []  # valgrind has no AVX-512
                if arguments.instructions and isa != "avx512":
                    counted = [instructions(isa, cases, Path(scratch), root) for root in (old, ROOT)]
                for row in measured(isa, cases, path, (old, ROOT)):
                    if counted:
                        row["instructions_a_map"] = [each[row["case"]] for each in counted]
                    results["rows"].append(row)
                    show(row)
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
    results["load_after"] = os.getloadavg()
    if arguments.save:
        print(f"written: {harness.save(results, 'cpu-against')}")
    return 0


def make_cases(no_demo: bool = False) -> dict[str, tuple]:
    """Name -> CAMs, boxes, normalizations, a threshold to localize at (None: hits), whether one map a call."""
    real, problem = ([], "demo CAMs left out, as asked for") if no_demo else inputs.demo()
    if problem:
        print(problem, file=sys.stderr)
    cases = {}
    for kind in [*real, *inputs.synthetic(np.random.default_rng(0), 100)]:
        if kind.name not in KINDS:
            continue
        some = slice(MOST_MAPS.get(kind.name))
        cams, boxes = kind.cams[some], kind.boxes[some]
        for work, how in {
            "1 norm.": (ONE, None, False),
            "24 norm.": (MANY, None, False),
            "1 norm., one map a call": (ONE, None, True),
            "localize": (ONE, 0.2, False),
        }.items():
            cases[f"{kind.name}, {work}"] = (cams, boxes, *how)
    return cases


def built(revision: str, folder: Path) -> Path:
    """A checkout of a revision, its native core built."""
    root = folder / "old"
    root.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(root)], input=archive, check=True)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=root, env={**os.environ, "WSOLKERN_CUDA": "0"}, stderr=subprocess.DEVNULL, check=True)
    return root


def command(root: Path, path: Path) -> list[str]:
    """That of a worker."""
    return [sys.executable, "-c", WORKER, str(path), str(root)]


def environment(isa: str) -> dict[str, str]:
    """Of a worker."""
    return {**os.environ, "WSOLKERN_ISA": isa, "WSOLKERN_NUM_THREADS": "1"}


@contextmanager
def worker(root: Path, path: Path, isa: str) -> Iterator[subprocess.Popen]:
    """A process that answers a line "case|repeats" with the seconds of one and a digest of its result."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(root, path), cwd=root, env=environment(isa), **pipes)
    with process:
        yield process
        process.stdin.close()


def ask(process: subprocess.Popen, case: str, repeats: int = 1) -> tuple[float, str]:
    """Seconds and digest."""
    process.stdin.write(f"{case}|{repeats}\n")
    process.stdin.flush()
    seconds, digest = process.stdout.readline().split()
    return float(seconds), digest


def measured(isa: str, cases: dict[str, tuple], path: Path, roots: tuple[Path, Path]) -> Iterator[dict]:
    """A row a case.

    Raises:
        WrongResult: The results differ.
    """
    with ExitStack() as stack:
        old, new = (stack.enter_context(worker(root, path, isa)) for root in roots)
        for name, (cams, *_) in cases.items():
            digests = {ask(each, name)[1] for each in (old, new)}
            if len(digests) > 1:
                raise WrongResult(f"{isa}, {name}: the two revisions differ")
            turns: list[list[float]] = []
            while len(turns) < TURNS or sum(map(sum, turns)) < SECONDS:
                turns.append([ask(each, name)[0] for each in (old, new)])
            times = np.array(turns)
            yield {
                "isa": isa,
                "case": name,
                "num_maps": len(cams),
                "us_a_map": (np.median(times, axis=0) / len(cams) * 1e6).tolist(),
                "ratio": float(np.median(times[:, 1] / times[:, 0])),
                "ratio_of_least": float(times[:, 1].min() / times[:, 0].min()),
            }


def instructions(isa: str, cases: dict[str, tuple], scratch: Path, root: Path) -> dict[str, float]:
    """Instructions a map of each case, Python's included: of the second pass over at most COUNTED maps."""
    some = {name: (cams[:COUNTED], boxes[:COUNTED], *how) for name, (cams, boxes, *how) in cases.items()}
    path, out = scratch / "counted-cases", scratch / "callgrind"
    path.write_bytes(pickle.dumps(some))
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getpgid"]
    lines = "".join(f"{name}|1\n" * 2 for name in some)
    subprocess.run(
        [*tool, *command(root, path)], cwd=root, env=environment(isa), input=lines, text=True, capture_output=True,
        check=True,
    )  # fmt: skip
    # Four a case: before and after the first pass, before and after the second.
    dumps = [scratch / f"callgrind.{number}" for number in range(4, 4 * len(some) + 1, 4)]
    found = {}
    for (name, (cams, *_)), dump in zip(some.items(), dumps, strict=True):
        found[name] = int(re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)[1]) / len(cams)
    for dump in scratch.glob("callgrind*"):
        dump.unlink()
    return found


def show(row: dict) -> None:
    """Prints a row."""
    old, new = row["us_a_map"]
    counted = row.get("instructions_a_map")
    more = f"; instructions {counted[0]:,.0f} -> {counted[1]:,.0f}, {counted[1] / counted[0]:.2f}" if counted else ""
    print(
        f"{row['isa']:8}{row['case']:40}{old:9.1f} us -> {new:9.1f} us  ratio {row['ratio']:.2f} "
        f"(of the least {row['ratio_of_least']:.2f}){more}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

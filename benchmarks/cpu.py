"""What the CPU does: `python -m benchmarks.cpu`, a table against OpenCV.

In: the options below. Out: milliseconds a map of wsolkern, of the published loop and of OpenCV on the distinct levels,
measured in one run on one core, each row only after its results were equal; the exit code is 1 if one was not.
Source: benchmarks/cpu_rows.py for what is measured, benchmarks/inputs.py for what it is measured on.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import folder, harness, inputs
from benchmarks.cpu_rows import MANY, ONE, Row, box_row, pixel_row
from benchmarks.harness import RESULTS, WrongResult, use_cores
from wsolkern.ops import count_box_hits
from wsolkern.ops.backends import native

HITS = "score map -> V1, V2 hits"
COUNTS = "CAM -> V1, V2 counts"
PIXELS = "CAM, mask -> PxAP counts"
NUM_PAIRS = 21


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=128, help="distinct maps of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument("--metadata", metavar="FOLDER", help="metadata folder with real boxes, such as CUB/test")
    parser.add_argument("--no-demo", action="store_true", help="without the demo's CAMs, which take a minute to make")
    parser.add_argument("--only", default="", metavar="TEXT", help='rows whose name has TEXT in it, such as "14x14"')
    parser.add_argument("--isa", metavar="LIST", help="a table for each of these, such as generic,avx2,avx512")
    parser.add_argument("--folder", action="store_true", help="evaluate a folder of score maps too; writes 2.3 GB")
    parser.add_argument("--folder-maps", type=int, default=5794, help="how many of them (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    if arguments.isa:
        return max(run_with(isa) for isa in arguments.isa.split(","))
    results, rows = measure_all(arguments)
    show(results, rows)
    if arguments.save:
        isa = results["machine"]["native_module"].rpartition("_")[2]
        print(f"written: {harness.save({**results, 'rows': [asdict(row) for row in rows]}, f'cpu-{isa}')}")
    return 1 if results["wrong_results"] else 0


def measure_all(arguments: argparse.Namespace) -> tuple[dict, list[Row]]:
    """Every number of a run, JSON-able, and the table's rows."""
    progress = Console(stderr=True, highlight=False)
    cores = sorted(os.sched_getaffinity(0))
    kinds, notes = make_inputs(arguments)
    results = {
        "machine": harness.describe() | {"native_module": native().__name__},
        "options": {name: each for name, each in vars(arguments).items() if name not in ("save", "metadata")},
        "inputs": {each.name: list(each.cams.shape) for each in kinds},
        "notes": notes,
        "wrong_results": [],
        "folder": {},
    }
    use_cores(cores[-1:])
    results["copy_bytes_per_second"] = bandwidth = harness.copy_bandwidth()
    results["scratch_bytes"] = scratch_bytes(kinds)
    rows = []
    for name, measure in plan(kinds):
        if arguments.only not in name:
            continue
        progress.print(f"measuring {name}")
        try:
            row = measure()
        except WrongResult as error:
            results["wrong_results"].append(str(error))
            continue
        row.copy_fraction = row.bytes_read / bandwidth / (row.ms / 1e3)
        rows.append(row)
    least = min((row.cpu_share for row in rows), default=1)
    if least < 0.97:
        notes.append(f"other programs were running (the core was ours {least:.0%} of the time): do not rely on times")
    results["two_threads_speedup"] = {} if arguments.only else two_threads(kinds, cores)
    use_cores(cores)
    if arguments.folder:
        progress.print("measuring the folder")
        try:
            results["folder"] = folder.measure(arguments.folder_maps, arguments.seed)
        except WrongResult as error:
            results["wrong_results"].append(str(error))
    return results, rows


def show(results: dict, rows: list[Row]) -> None:
    """Prints a run."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    about = results["machine"]
    console.print(f"{about['cpu']}, {about['native_module']}, OpenCV {cv2.__version__}, {about['date']}")
    console.print(table(rows))
    for kind, speedup in results["two_threads_speedup"].items():
        console.print(f"two threads against one, {COUNTS}, {kind}: {speedup:.2f}x")
    for kind, size in results["scratch_bytes"].items():
        console.print(f"scratch memory a thread, {kind}: {size / 1e6:.2f} MB")
    loops = [row.published_ms / 2 for row in rows if row.work == HITS and row.kind == "CAM-like 14x14"]
    for line in folder.report(results["folder"], loops[0] if loops else None) + results["notes"]:
        console.print(line)
    for line in results["wrong_results"]:
        console.print(f"WRONG RESULT: {line}", style="red")


def run_with(isa: str) -> int:
    """The same command in a process of its own with one instruction set forced."""
    rest = list(sys.argv[1:])
    at = next(index for index, each in enumerate(rest) if each.startswith("--isa"))
    del rest[at : at + (1 if "=" in rest[at] else 2)]
    command = [sys.executable, "-m", "benchmarks.cpu", *rest]
    return subprocess.run(command, env={**os.environ, "WSOLKERN_ISA": isa}, cwd=Path.cwd()).returncode


def make_inputs(arguments: argparse.Namespace) -> tuple[list[inputs.Inputs], list[str]]:
    """Every kind of map, and notes about what is missing."""
    rng = np.random.default_rng(arguments.seed)
    boxes = inputs.real_boxes(arguments.metadata, arguments.maps, rng) if arguments.metadata else None
    real, missing = ([], "demo CAMs left out, as asked for") if arguments.no_demo else inputs.demo()
    source = (
        f"of {'/'.join(Path(arguments.metadata).parts[-2:])}"
        if arguments.metadata
        else "synthetic, with the statistics of CUB's test split"
    )
    notes = [f"boxes of all but the demo's maps: {source}", *([missing] if missing else [])]
    return real + inputs.synthetic(rng, arguments.maps, boxes), notes


def plan(kinds: list[inputs.Inputs]) -> list[tuple[str, Callable[[], Row]]]:
    """The rows' names and how to measure them."""
    cams = [kind for kind in kinds if kind.cams.shape[1] < inputs.SIZE[0]]
    rows = [(f"{HITS}, {kind.name}", lambda kind=kind: box_row(HITS, kind, None)) for kind in kinds]
    for names in (ONE, MANY):
        work = f"{COUNTS}, {len(names)} norm."
        rows += [
            (f"{work}, {kind.name}", lambda work=work, kind=kind, n=names: box_row(work, kind, n)) for kind in cams
        ]
    for names in (ONE, MANY):
        work = f"{PIXELS}, {len(names)} norm."
        rows += [
            (f"{work}, {kind.name}", lambda work=work, kind=kind, n=names: pixel_row(work, kind, n))
            for kind in cams
            if kind.cams.shape[1] == 14
        ]
    return rows


def two_threads(kinds: list[inputs.Inputs], cores: list[int]) -> dict[str, float]:
    """How many times faster two threads on two cores are than one; empty if there is one core only."""
    speedups = {}
    for kind in kinds if len(cores) > 1 else []:
        if kind.cams.shape[1] != 14 and kind.name != "white noise":
            continue
        for names in (ONE, MANY) if kind.cams.shape[1] == 14 else (ONE,):
            speedups[f"{len(names)} norm., {kind.name}"] = float(np.median([*_pairs(kind, names, cores[-2:])]))
    return speedups


def _pairs(kind: inputs.Inputs, names: tuple[str, ...], cores: list[int]) -> Iterator[float]:
    """Ratios of calls right after each other, on one core, each in turn, and on two: the machine's speed may drift."""
    for repeat in range(NUM_PAIRS + 1):
        seconds = []
        for used in ([cores[repeat % 2]], cores):
            use_cores(used)
            seconds.append(harness.seconds(lambda: _count(kind, names)))
        if repeat:  # the first warms up
            yield seconds[0] / seconds[1]


def scratch_bytes(kinds: list[inputs.Inputs]) -> dict[str, int]:
    """Peak bytes of a thread's workspace for each kind; it only grows, so kinds come in the order of what they need."""
    if not hasattr(native(), "scratch_bytes"):
        return {}
    sizes = {}
    noisy = [kind for kind in kinds if kind.name.endswith("noise")]
    calm = [kind for kind in kinds if kind not in noisy]
    for some, names in ((calm, ONE), (calm, MANY), (noisy[::-1], ONE)):
        for kind in some:
            _count(kind, names)
            sizes[f"{len(names)} norm., {kind.name}"] = int(native().scratch_bytes())
    return sizes


def _count(kind: inputs.Inputs, names: tuple[str, ...]) -> None:
    count_box_hits(kind.cams, kind.boxes, names, contours="both", size=inputs.SIZE)


def table(rows: list[Row]) -> Table:
    """The rows as a table that is Markdown at the same time."""

    def peer(ms: float | None, ours: float, number: int) -> tuple[str, str]:
        return ("", "") if ms is None else (f"{ms:.1f} ({number})", f"{ms / ours:,.0f}x")

    result = Table(
        box=box.MARKDOWN,
        title="milliseconds a map of 224x224, one core, medians; in brackets: maps a peer was measured on",
    )
    for name, justify in (
        ("work", "left"),
        ("maps", "left"),
        ("maps / checked", "right"),
        ("wsolkern", "right"),
        ("one map a call", "right"),
        ("of copy speed", "right"),
        ("published loop", "right"),
        ("ratio", "right"),
        ("OpenCV, 255 levels", "right"),
        ("ratio", "right"),
    ):
        result.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        result.add_row(
            row.work,
            row.kind,
            f"{row.num_maps} / {row.num_checked}",
            f"{row.ms:.4f}",
            f"{row.ms_alone:.4f}",
            f"{row.copy_fraction:.1%}",
            *peer(row.published_ms, row.ms, row.num_published),
            *peer(row.levels_ms, row.ms, row.num_levels),
        )
    return result


if __name__ == "__main__":
    sys.exit(main())

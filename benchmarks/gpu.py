"""What a GPU does a second: `python -m benchmarks.gpu`; benchmarks/gpu.sh builds and tests before it.

In: the options below. Out: a table, a JSON file, measured against the targets; exit code 1 if a result was wrong, an
error came up or time ran out, never because a target was missed.
Source: benchmarks/gpu_device.py for what is measured, benchmarks/gpu_peers.py for what it is compared with.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import gpu_peers, harness, inputs
from benchmarks.cpu_rows import ONE
from benchmarks.harness import RESULTS, WrongResult
from wsolkern.ops import backends, resize

MAIN = "CAM-like 14x14"


@dataclass
class Target:
    """What is to be reached on one H100."""

    name: str
    unit: str
    target: float
    at_least: bool
    """Else at most."""
    measured: "float | None" = None

    @property
    def outcome(self) -> str:
        """Met or not."""
        if self.measured is None:
            return "not measured"
        reached = self.measured >= self.target if self.at_least else self.measured <= self.target
        return "met" if reached else "NOT MET"


def main(arguments: "list[str] | None" = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", metavar="FOLDER", help="metadata folder with real boxes, such as CUB/test")
    parser.add_argument("--seconds", type=float, default=240, help="begin nothing after them (default: %(default)s)")
    parser.add_argument("--ncu", type=Path, metavar="FILE", help="profile the tree kernel, leave ncu's report in FILE")
    parser.add_argument("--steps", type=Path, metavar="FILE", help="what gpu.sh did before, kept in the JSON")
    parser.add_argument(
        "--save", nargs="?", type=Path, const=RESULTS, metavar="FOLDER", help="write the numbers (default: %(const)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes: does it run? Its times mean nothing")
    options = parser.parse_args(arguments)
    if missing := backends.missing_for_cuda():
        print(f"nothing to measure: {missing}", file=sys.stderr)
        return 1
    results = Run(options).measure()
    show(results)
    return 1 if results["wrong_results"] or results["errors"] or results["left_out"] else 0


class Run:
    """One run: its plan, and what came of it."""

    def __init__(self, options: argparse.Namespace):
        from benchmarks import gpu_device

        self.device = gpu_device
        self.options = options
        self.sizes = gpu_device.TINY if options.dry_run else gpu_device.Sizes()
        self.rng = np.random.default_rng(0)
        self.rows: dict[tuple[str, str], gpu_device.Row] = {}
        self.peers: list[gpu_peers.Peer] = []
        self.results = {
            "machine": harness.describe() | {"native_module": backends.native().__name__} | about_device(),
            "options": {"dry_run": options.dry_run, "seconds": options.seconds, **asdict(self.sizes)},
            "steps": steps(options.steps),
            "notes": [],
            "inputs": {},
            "copy_bytes_per_second": None,
            "forward": {},
            "ncu": {},
            "wrong_results": [],
            "errors": [],
            "left_out": [],
        }

    def measure(self) -> dict:
        """Works through the plan; what was measured is on disk after each of its entries."""
        begun, progress = time.perf_counter(), Console(stderr=True, highlight=False)
        for name, work in self.plan():
            spent = time.perf_counter() - begun
            if spent > self.options.seconds:
                self.results["left_out"].append(name)
            else:
                progress.print(f"{spent:4.0f} s  {name}")
                self.attempt(name, work)
            self.collect()
        return self.results

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Goes on after a wrong result or an error, which is listed: the other numbers are wanted."""
        try:
            work()
        except WrongResult as error:
            self.results["wrong_results"].append(str(error))
        except Exception as error:
            self.results["errors"].append(f"{name}: {type(error).__name__}: {error}")

    def plan(self) -> list[tuple[str, Callable[[], None]]]:
        """What is measured, the targets first."""
        entries = [
            ("copy bandwidth", self.copy),
            (MAIN, lambda: self.count(self.cam_like(14), with_stages=True, through_evaluator=True)),
            ("maps of the evaluation size", self.levels),
            ("ResNet-50", self.forward),
            ("peers", self.compare),
        ]
        if self.options.ncu:
            entries.append(("ncu", self.profile))
        if not self.options.dry_run:
            entries += [
                (f"CAM-like {side}x{side}", lambda side=side: self.count(self.cam_like(side))) for side in (7, 28)
            ]
        return [*entries, ("noise and plateaus", self.full_size), ("demo CAMs", self.demo)]

    def copy(self) -> None:
        self.results["copy_bytes_per_second"] = self.device.copy_bandwidth(self.sizes)

    def count(self, kind: inputs.Inputs, *, with_stages: bool = False, through_evaluator: bool = False) -> None:
        """The rows of one kind of CAMs."""
        sets = self.device.batches(kind, self.sizes)
        self.results["inputs"][kind.name] = [*kind.cams.shape, len(sets)]
        rows = [
            lambda work=work: self.device.count_row(work, kind.name, sets, self.sizes, with_stages=with_stages)
            for work in (self.device.V2, self.device.ALL, self.device.many(self.sizes))
        ]
        if through_evaluator:
            rows += [
                lambda has_masks=has_masks: self.device.evaluator_row(kind.name, sets, self.sizes, has_masks)
                for has_masks in (False, True)
            ]
        for row in rows:
            self.attempt(kind.name, lambda row=row: self.add(row()))

    def levels(self) -> None:
        """Normalize and digitize without a resize."""
        cams = self.cam_like(14)
        full = inputs.Inputs("resized CAM-like", resize(cams.cams, self.sizes.size), cams.boxes)
        for dtype in (np.float32, np.float64):
            for row in self.device.level_rows(full, dtype, self.sizes, self.results["copy_bytes_per_second"]):
                self.add(row)

    def forward(self) -> None:
        self.results["forward"] = self.device.forward_cost(self.sizes)

    def compare(self) -> None:
        kind, how = self.cam_like(14), {"seconds": 3.0, "notes": self.results["notes"]}
        if self.options.dry_run:
            how["seconds"] = 0.0
        boxes = [each // (224 // self.sizes.size[0]) for each in kind.boxes]
        for peer in gpu_peers.measure(kind.cams, boxes, ONE[0], self.sizes.size, **how):
            self.peers.append(peer)

    def profile(self) -> None:
        if not shutil.which("ncu"):
            self.results["notes"].append("profile of the tree kernel left out: ncu is not on PATH")
        else:
            self.results["ncu"] = self.device.ncu(self.options.ncu)

    def full_size(self) -> None:
        """White noise and plateaus of the evaluation size."""
        num, step = self.sizes.full_batch, 224 // self.sizes.size[0]
        kinds = [each for each in inputs.synthetic(self.rng, num) if each.cams.shape[1] == inputs.SIZE[0]]
        for kind in kinds[:1] if self.options.dry_run else kinds:
            cams = np.ascontiguousarray(kind.cams[:, ::step, ::step], np.float32)
            self.count(inputs.Inputs(kind.name, cams, kind.boxes))

    def demo(self) -> None:
        """Real CAMs, where the demo's packages are installed."""
        found, missing = ([], "demo CAMs left out of the dry run") if self.options.dry_run else inputs.demo()
        self.results["notes"] += [missing] if missing else []
        for kind in found:
            repeated = np.arange(self.sizes.batch) % len(kind.cams)
            boxes = [kind.boxes[index] for index in repeated]
            self.count(inputs.Inputs(kind.name, kind.cams[repeated].astype(np.float32), boxes))

    def cam_like(self, side: int) -> inputs.Inputs:
        """CAMs of synthetic or real boxes; in a dry run smaller ones."""
        rng, num = np.random.default_rng(side), self.sizes.batch
        folder = self.options.metadata
        boxes = inputs.real_boxes(folder, num, rng) if folder else inputs.synthetic_boxes(rng, num)
        cams = inputs.cam_like(rng, boxes, 2 if self.options.dry_run else side)
        return inputs.Inputs(f"CAM-like {side}x{side}", cams.astype(np.float32), boxes)

    def add(self, row) -> None:
        self.rows[row.work, row.kind] = row

    def collect(self) -> None:
        """Puts everything into ``results`` and, if asked for, on the disk."""
        device, forward = self.device, self.results["forward"]

        def rate(work) -> "float | None":
            row = self.rows.get((work.name, MAIN))
            return row and row.maps_per_second

        def fraction(dtype: str) -> "float | None":
            row = self.rows.get((device.LEVELS, f"resized CAM-like, {dtype}"))
            return row and row.copy_fraction

        targets = [
            Target(device.V2.name, "maps/s", 1e6, True, rate(device.V2)),
            Target(device.ALL.name, "maps/s", 5e5, True, rate(device.ALL)),
            Target(device.many(self.sizes).name, "CAMs/s", 2.5e5, True, rate(device.many(self.sizes))),
            Target(f"{device.LEVELS}, float32", "of copy speed", 0.7, True, fraction("float32")),
            Target(f"{device.LEVELS}, float64", "of copy speed", 0.7, True, fraction("float64")),
            Target("evaluation added to ResNet-50", "of its time", 0.02, False, forward.get("added_to_forward")),
        ]
        self.results |= {
            "rows": [asdict(row) for row in self.rows.values()],
            "peers": [asdict(peer) for peer in self.peers],
            "targets": [asdict(each) | {"outcome": each.outcome} for each in targets],
        }
        if self.options.save:
            harness.save(self.results, "gpu", self.options.save)


def about_device() -> dict:
    """The device and what drives it, JSON-able."""
    import torch
    import triton

    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton.__version__}
    if backends.device_of(None).type == "cpu":
        return {"device": {"name": "stand-in on the host"}, "device_versions": versions}
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    device = {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "l2_bytes": found.L2_cache_size,
    }
    return {"device": device, "device_versions": versions}


def steps(file: "Path | None") -> list[dict]:
    """What gpu.sh did: name, exit code, seconds and the last line of each step's log, separated by tabs."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    names = "name", "exit_code", "seconds", "last_line"
    return [dict(zip(names, line.split("\t"), strict=False)) for line in lines]


def show(results: dict) -> None:
    """Prints a run, the targets last."""
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    about, bandwidth = results["machine"], results["copy_bytes_per_second"]
    versions = ", ".join(f"{name} {version}" for name, version in about["device_versions"].items())
    console.print(f"{about['device']['name']}, {versions}; {about['cpu']}, {about['num_cores']} cores; {about['date']}")
    if results["options"]["dry_run"]:
        console.print("DRY RUN: no time below means anything")
    if bandwidth:
        console.print(f"copy on the device: {bandwidth / 1e12:.3f} TB/s read and written")
    table = Table(box=box.MARKDOWN)
    for name in ("work", "maps"):
        table.add_column(name, no_wrap=True)
    for name in ("a call", "ms a call", "maps/s", "of copy speed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results["rows"]:
        times = row["times"]
        low, high = (each / times["median"] - 1 for each in times["quartiles"])
        table.add_row(
            row["work"],
            row["kind"],
            str(row["num_maps"]),
            f"{times['median'] * 1e3:.3f} ({low:+.1%} {high:+.1%}){' ' if times['is_graph'] else '*'}",
            f"{row['maps_per_second']:,.0f}",
            f"{row['copy_fraction']:.0%}" if row["copy_fraction"] else "",
        )
    console.print(table)
    console.print("milliseconds: medians (quartiles); * launched from Python, all others replays of CUDA graphs;")
    console.print(
        "counts: with boxes and masks on the device already; Evaluator.update: with boxes and masks on the host"
    )
    for row in results["rows"]:
        if row["stages"]:
            stages = ", ".join(f"{name} {seconds * 1e3:.3f}" for name, seconds in row["stages"].items())
            console.print(f"stages of {row['work']}, {row['kind']}, ms: {stages}")
    ours = results["targets"][0]["measured"]
    for peer in results["peers"]:
        ratio = f", the GPU {ours / peer['maps_per_second']:,.0f}x" if ours else ""
        console.print(
            f"{peer['name']}, V2, {MAIN}: {peer['maps_per_second']:,.1f} maps/s ({peer['num_maps']} maps){ratio}"
        )
    for name, seconds in results["forward"].get("seconds", {}).items():
        console.print(f"ResNet-50, {results['forward']['batch'][0]} images, {name}: {seconds * 1e3:.2f} ms")
    if forward := results["forward"]:
        added = f"{forward['added_to_forward']:+.2%}, without CAMs' share {forward['added_to_forward_and_cams']:+.2%}"
        console.print(f"CAMs and evaluation add {added}; {forward['degenerate']} degenerate CAMs")
    for name, value in sorted(results["ncu"].items(), key=lambda each: ("stalled" in each[0], -each[1])):
        console.print(f"ncu, tree kernel: {name} {value:,.2f}")
    for line in results["notes"]:
        console.print(line)
    for step in results["steps"]:
        console.print(
            f"{step['name']}: exit code {step['exit_code']}, {step['seconds']} s; {step.get('last_line', '')}"
        )
    for kind, style in (("wrong_results", "red"), ("errors", "red"), ("left_out", "yellow")):
        for line in results[kind]:
            console.print(f"{kind.replace('_', ' ').upper()}: {line}", style=style)
    targets = Table("target", "measured", "wanted", "", box=box.MARKDOWN)
    for each in results["targets"]:
        number = "{:,.0f}" if each["target"] > 1 else "{:.2%}"
        measured = "" if each["measured"] is None else number.format(each["measured"])
        wanted = f"{'>=' if each['at_least'] else '<='} {number.format(each['target'])} {each['unit']}"
        targets.add_row(each["name"], measured, wanted, each["outcome"])
    console.print(targets)


if __name__ == "__main__":
    sys.exit(main())

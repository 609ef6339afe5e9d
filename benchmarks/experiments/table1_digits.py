"""An experiment, not a benchmark: Table 1 in small, `python -m benchmarks.experiments.table1_digits --out DIR`.

In: the digits data set, made here; minutes a method may train for. Out: MaxBoxAccV2 of six methods on test under
min-max, max, PaS and IVR with a percentile chosen on val, with durations; JSON in benchmarks/results with --save.
Source: Kim et al., arXiv 2107.13221, table 1; the data set: wsolkern/datasets/digits.py.

The steps are the project's own commands, each of which goes on where it was killed: make-dataset, train, extract. All
methods have the same small network, the same settings and the same number of epochs.
"""

import argparse
import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from benchmarks import harness
from benchmarks.harness import RESULTS
from wsolkern.cams import open_maps
from wsolkern.cli import app
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.files import write_whole
from wsolkern.metrics import Evaluator
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.selection import select
from wsolkern.models import METHODS, build
from wsolkern.report.tables import plain_table
from wsolkern.studies.counting import count_maps, evaluator_for
from wsolkern.studies.paper import canonical
from wsolkern.training import Recipe

NORMALIZATIONS = "minmax max pas:0.9 ivr:0.00..0.95/0.05"
FIXED = ("minmax", "max", "pas:0.9")
NETWORK = "tiny"
METRIC = "MaxBoxAccV2"
SETTINGS = {
    "batch_size": 64,
    "resize_size": 72,
    "crop_size": 64,
    "flip_rate": 0.0,
    "lr": 0.03,
}  # digits have a left side
NUM_RESAMPLES = 1000
_NUM_TIMED = 10  # batches

# The steps.


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; 0 if all steps are done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.table1_digits", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for all that is made; one that is there goes on"
    )
    parser.add_argument(
        "--minutes-per-method",
        type=float,
        default=2.0,
        help="CPU minutes for CAM's passes, forward and backward; all methods get its epochs (default: %(default)s)",
    )
    for split, default in (("train", 4000), ("val", 500), ("test", 1000)):
        parser.add_argument(f"--{split}", type=int, default=default, help="images (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args(argv)
    os.environ["WSOLKERN_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    job = Job(
        arguments.out, {name: getattr(arguments, name) for name in ("minutes_per_method", "train", "val", "test")}
    )
    job.make_dataset()
    for method in METHODS:
        job.train(method)
        for split in ("val", "test"):
            job.extract(method, split)
    results = {"is_experiment": True, "machine": harness.describe(), **job.state, "table": job.table()}
    results["machine"]["versions"]["torch"] = torch.__version__
    show(results)
    if arguments.save:
        print(f"written: {harness.save(results, 'experiment-table1-digits')}")
    return 0


class Job:
    """All that is made in a folder; a step that is done is not done again.

    Raises:
        ValueError: The folder is one of other settings.
    """

    def __init__(self, out: Path, options: dict):
        self.out, self._path = out, out / "table1.json"
        out.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self.state = json.loads(self._path.read_text())
            if self.state["options"] != options:
                raise ValueError(f"{self._path}: expected {self.state['options']}, found {options}")
        else:
            batches = -(-options["train"] // SETTINGS["batch_size"])
            per_batch = batch_seconds()
            epochs = max(1, int(options["minutes_per_method"] * 60 / (per_batch * batches)))
            about = {"cpu_seconds_per_batch": per_batch, "epochs": epochs, "settings": SETTINGS}
            self.state = {"options": options, **about, "seconds": {}}

    def make_dataset(self) -> None:
        """OUT/digits."""
        part = self.out / "digits.unfinished"
        shutil.rmtree(part, ignore_errors=True)
        counts = [f"--{split}={self.state['options'][split]}" for split in ("train", "val", "test")]
        self._step("digits", lambda: (_run("make-dataset", "digits", part, *counts), part.rename(self._data())))

    def train(self, method: str) -> None:
        """OUT/METHOD/run."""
        epochs = self.state["epochs"]
        settings = SETTINGS | {"epochs": epochs, "lr_decay_frequency": max(1, -(-epochs * 4 // 5))}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        where = "--dataset", self._data("images"), "--metadata", self._data("metadata/digits-boxes")
        command = ["train", *where, "--backbone", NETWORK, "--method", method, "-o", self.out / method / "run"]
        self._step(f"train {method}", lambda: _run(*command, *options, "--workers", 1))

    def extract(self, method: str, split: str) -> None:
        """OUT/METHOD/SPLIT, CAMs of the best checkpoint as the published protocol has it."""
        network = "wsolkern.models:build", "-a", f"backbone={NETWORK}", "-a", f"method={method}", "-a", "num_classes=10"
        weights = "--weights", self.out / method / "run" / "best_checkpoint.pth.tar", "--size", SETTINGS["crop_size"]
        where = "--images", self._data("images"), "--metadata", self._split(split)
        command = [
            "extract",
            *network,
            *_network_options(method),
            *weights,
            *where,
            "--method",
            canonical(method),
            "-o",
            self.out / method / split,
        ]
        self._step(f"extract {method} {split}", lambda: _run(*command))

    def table(self) -> list[dict]:
        """A row a method: figures on test in percent, IVR with CAM's percentile and with the method's own."""
        rows, cams = [], None
        for method in METHODS:
            val = load_metadata(self._split("val"))
            evaluator = evaluator_for(val, NORMALIZATIONS)
            _count(evaluator, val, self.out / method / "val")
            on_val = evaluator.compute()
            own = next(str(choice.normalization) for choice in select(on_val, METRIC) if choice.family == "ivr")
            cams = cams or own
            test = load_metadata(self._split("test"))
            names = list(dict.fromkeys((*FIXED, cams, own)))
            counts = evaluator_for(test, names)
            on_test = BootstrapEvaluator(counts.protocol, counts.truth, METRIC, test.image_ids)
            _count(on_test, test, self.out / method / "test")
            figures = on_test.compute(NUM_RESAMPLES)
            difference = figures.difference(cams, "minmax")
            rows.append(
                {
                    "method": canonical(method),
                    "best_epoch": _best_epoch(self.out / method / "run"),
                    "test": {name: figures[name].figure for name in names},
                    "ivr_of_cam": cams,
                    "ivr_own": own,
                    "ivr_of_cam_minus_minmax": [difference.figure, *difference.interval],
                    "val": {row.name: row.max_box_acc_v2 for row in on_val},
                }
            )
        return rows

    def _step(self, name: str, run: Callable[[], object]) -> None:
        if name in self.state["seconds"]:
            return
        print(name, file=sys.stderr)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        run()
        took = {"wall": time.perf_counter() - begun, "cpu": time.process_time() - begun_cpu}
        self.state["seconds"][name] = {clock: round(seconds, 1) for clock, seconds in took.items()}
        write_whole(self._path, json.dumps(self.state, indent=1).encode())

    def _data(self, part: str = "") -> Path:
        return self.out / "digits" / part

    def _split(self, split: str) -> Path:
        return self._data("metadata/digits-boxes") / split


def batch_seconds() -> float:
    """CPU seconds that CAM's network needs to learn from a batch."""
    side = SETTINGS["crop_size"]
    network, images = build(NETWORK, "cam", 10), torch.randn(SETTINGS["batch_size"], 3, side, side)
    begun = time.process_time()
    for _ in range(_NUM_TIMED):
        network(images)["logits"].logsumexp(1).mean().backward()
    return (time.process_time() - begun) / _NUM_TIMED


def _network_options(method: str) -> list[str]:
    options = Recipe(NETWORK, method).network_options
    return [part for name, value in options.items() for part in ("-a", f"{name}={value}")]


def _run(*command) -> None:
    if code := app([str(each) for each in command], standalone_mode=False):
        raise SystemExit(code)


def _count(evaluator: Evaluator | BootstrapEvaluator, split: Metadata, store: Path) -> None:
    if problems := count_maps(evaluator, open_maps(store, split.image_ids)):
        raise ValueError(f"{store}: {problems}")


def _best_epoch(run: Path) -> dict:
    """The row of log.csv that the best checkpoint is of, without its figures."""
    with open(run / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row[f"{METRIC} minmax"]))
    return {name: float(best[name]) for name in ("epoch", "train_loss", "train_accuracy", "val_accuracy")}


def show(results: dict) -> None:
    """Prints the table, and what was chosen and how long it took under it."""
    rows, options = results["table"], results["options"]
    percentile = rows[0]["ivr_of_cam"].partition(":")[2]
    table = plain_table(f"{METRIC} on {options['test']:,} digits of test, in percent, the best of each method in bold")
    for heading in ("method", "min-max", "max", "PaS 0.9", f"IVR {percentile}", "IVR own"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for heading in (f"IVR {percentile} - min-max, 95%", "epoch", "val accuracy", "train CPU s"):
        table.add_column(heading, justify="right")
    for method, row in zip(METHODS, rows, strict=True):
        figures = [row["test"][name] for name in (*FIXED, row["ivr_of_cam"])]
        cells = [f"[bold]{each:.2f}[/bold]" if each == max(figures) else f"{each:.2f}" for each in figures]
        own = f"{row['test'][row['ivr_own']]:.2f} ({row['ivr_own'].partition(':')[2]})"
        difference, low, high = row["ivr_of_cam_minus_minmax"]
        best = row["best_epoch"]
        last = f"{difference:+.2f} [{low:+.2f}, {high:+.2f}]", f"{best['epoch']:.0f}", f"{best['val_accuracy']:.1f}"
        seconds = results["seconds"][f"train {method}"]
        table.add_row(row["method"], *cells, own, escape(last[0]), *last[1:], f"{seconds['cpu']:.0f}")
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    totals = [sum(each[clock] for each in results["seconds"].values()) for clock in ("wall", "cpu")]
    console.print(
        f"{results['epochs']} epochs of {options['train']:,} images; IVR {percentile} was chosen with CAM on "
        f"{options['val']:,} images of val, IVR own with the method itself; all steps: {totals[0]:.0f} s, "
        f"of the processor {totals[1]:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())

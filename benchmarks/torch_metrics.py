"""What torchmetrics adds to the engine: `python -m benchmarks.torch_metrics`, ratios of times.

In: batches of 64 distinct CAMs, as a loop over a data set gives them. Out: CPU seconds of the operations alone, of an
Evaluator's update and compute and of a metric's, in turn in one process on one core; of each the least of all rounds.
Source: the interface is torchmetrics'.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import harness, inputs
from benchmarks.cpu_rows import MANY, ONE
from benchmarks.harness import WrongResult
from wsolkern import Evaluator
from wsolkern.metrics import torch as metrics
from wsolkern.ops import count_box_hits, count_pixels

NUM_MAPS, BATCH, ROUNDS = 1024, 64, 9


@dataclass(frozen=True)
class Row:
    """Of each the least CPU time of all rounds: what else the machine does only ever adds to it."""

    work: str
    seconds_operations: float
    evaluator_over_operations: float
    metric_over_operations: float
    metric_over_evaluator: float


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_metrics", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds that are timed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument(
        "--save", action="store_true", help=f"write the numbers to {harness.RESULTS.relative_to(harness.ROOT)}"
    )
    arguments = parser.parse_args()
    results = {"machine": harness.describe(), "options": vars(arguments)}
    harness.use_cores(sorted(os.sched_getaffinity(0))[-1:])
    torch.set_num_threads(1)
    console = Console(highlight=False)
    try:
        rows = measure(arguments.rounds, arguments.seed)
    except WrongResult as error:
        console.print(f"WRONG RESULT: {error}", style="red")
        return 1
    table = Table("work", "ops, ms a map", "Evaluator / ops", "metric / ops", "metric / Evaluator")
    for row in rows:
        ratios = (row.evaluator_over_operations, row.metric_over_operations, row.metric_over_evaluator)
        table.add_row(row.work, f"{1000 * row.seconds_operations:.3f}", *(f"{each:.3f}" for each in ratios))
    console.print(table)
    if arguments.save:
        print(f"written: {harness.save(results | {'rows': [asdict(row) for row in rows]}, 'torch-metrics')}")
    return 0


def measure(rounds: int, seed: int) -> list[Row]:
    """A row for each kind of ground truth and number of normalizations.

    Raises:
        WrongResult: The metric's figures are not the Evaluator's.
    """
    rng = np.random.default_rng(seed)
    boxes = inputs.synthetic_boxes(rng, NUM_MAPS)
    kind = inputs.Inputs("CAM-like 14x14", inputs.cam_like(rng, boxes, 14).astype(np.float32), boxes)
    found = []
    for truth, held in (("boxes", boxes), ("masks", kind.masks())):
        for names in (ONE, MANY):
            work = f"{kind.name}, {truth}, {len(names)} norm."
            calls = ways(kind.cams, truth, held, names)
            if calls[1]() != calls[2]():
                raise WrongResult(f"{work}: the metric's figures differ from the Evaluator's")
            times = np.array([[cpu_seconds(call) for call in calls] for _ in range(rounds)]).min(axis=0)
            ratios = [float(times[a] / times[b]) for a, b in ((1, 0), (2, 0), (2, 1))]
            found.append(Row(work, float(times[0]) / NUM_MAPS, *ratios))
    return found


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def ways(cams: np.ndarray, truth: str, held: list | np.ndarray, names: list[str]) -> list[Callable[[], dict | None]]:
    """The operations, an Evaluator and a metric on all batches; the last two return figures by normalization."""
    parts = [slice(start, start + BATCH) for start in range(0, len(cams), BATCH)]
    batches = [torch.from_numpy(cams[part]) for part in parts]
    ids = [[f"images/{number:05}.jpg" for number in range(len(cams))[part]] for part in parts]
    by_id = dict(zip(sum(ids, []), held, strict=True))
    operation, how = (count_box_hits, {"contours": "both"}) if truth == "boxes" else (count_pixels, {})
    make = {"boxes": metrics.MaxBoxAccV2, "masks": metrics.PxAP}[truth]

    def operations() -> None:
        for batch, part in zip(batches, parts, strict=True):
            operation(batch, held[part], names, **how)

    def evaluator() -> dict:
        counted = Evaluator(names, **{truth: by_id})
        for batch, some in zip(batches, ids, strict=True):
            counted.update(batch, some)
        return {row.name: row.max_box_acc_v2 if truth == "boxes" else row.pxap for row in counted.compute()}

    def metric() -> dict:
        counted = make(names)
        for batch, part, some in zip(batches, parts, ids, strict=True):
            counted.update(batch, held[part], some)
        figures = counted.compute()
        figures = figures if isinstance(figures, dict) else {str(names[0]): figures}
        return {name: figure.item() for name, figure in figures.items()}

    return [operations, evaluator, metric]


if __name__ == "__main__":
    sys.exit(main())

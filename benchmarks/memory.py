"""Whether memory stays flat over 100,000 maps: `python -m benchmarks.memory`.

In: CAM-like maps, some hundred of them again and again under other ids. Out: for each way that maps go, in a process of
its own, resident memory before the first tenth of the maps and after each, and bytes a map from the first tenth on
(least squares). Exit code 1 if those are more than the way keeps of an image.
Source: /proc/self/status; an Evaluator keeps a key of each image, see wsolkern/metrics/identity.py.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import harness, inputs
from benchmarks.harness import RESULTS, WrongResult
from wsolkern import Evaluator, ops
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.metrics.per_image import Chosen, PerImageEvaluator
from wsolkern.metrics.protocol import GroundTruth, Protocol

NUM_MAPS, NUM_POINTS = 100_000, 11
NUM_DISTINCT, SIDE, BATCH = 512, 14, 64
NORMALIZATIONS = "minmax ivr:0.45"
NOTHING, KEY = 20.0, 160.0  # bytes a map: what an allocator's rounding may look like; a key, and the room of a dict

CHILD = "import sys; from benchmarks.memory import watch; watch(*sys.argv[1:])"


@dataclass(frozen=True)
class Maps:
    """What goes in: the same maps again and again."""

    cams: np.ndarray  # float32 [NUM_DISTINCT, SIDE, SIDE]
    scores: np.ndarray  # float64 [NUM_DISTINCT, H, W], in [0, 1]
    boxes: list[np.ndarray]

    @classmethod
    def made(cls) -> "Maps":
        rng = np.random.default_rng(0)
        boxes = inputs.synthetic_boxes(rng, NUM_DISTINCT)
        cams = inputs.cam_like(rng, boxes, SIDE).astype(np.float32)
        return cls(cams, ops.normalize(cams, "minmax", inputs.SIZE), boxes)

    def batches(self, num_maps: int, what: str = "cams") -> Iterator[tuple[np.ndarray, list[int]]]:
        """Maps and their ids, which begin with 0."""
        maps = getattr(self, what)
        for begin in range(0, num_maps, BATCH):
            ids = list(range(begin, min(begin + BATCH, num_maps)))
            place = begin % NUM_DISTINCT
            yield maps[place : place + len(ids)], ids

    def truth(self, num_maps: int) -> dict[int, np.ndarray]:
        return dict(zip(range(num_maps), cycle(self.boxes)))


def operations(maps: Maps, num_maps: int) -> Iterator[int]:
    """count_box_hits."""
    for cams, ids in maps.batches(num_maps):
        ops.count_box_hits(cams, [maps.boxes[each % NUM_DISTINCT] for each in ids], NORMALIZATIONS)
        yield len(ids)


def counts_of_cams(maps: Maps, num_maps: int) -> Iterator[int]:
    """Evaluator.update with CAMs."""
    yield from _counts(Evaluator(NORMALIZATIONS, boxes=maps.truth(num_maps)), maps.batches(num_maps), num_maps)


def counts_of_score_maps(maps: Maps, num_maps: int) -> Iterator[int]:
    """Evaluator.update with score maps."""
    yield from _counts(Evaluator(None, boxes=maps.truth(num_maps)), maps.batches(num_maps, "scores"), num_maps)


def _counts(evaluator: Evaluator, batches, num_maps: int) -> Iterator[int]:
    for each, ids in batches:
        evaluator.update(each, ids)
        yield len(ids)
    assert evaluator.num_images == num_maps, evaluator.num_images


def boxes(maps: Maps, num_maps: int) -> Iterator[int]:
    """localize and threshold_boxes."""
    for (cams, ids), (scores, _) in zip(maps.batches(num_maps), maps.batches(num_maps, "scores"), strict=True):
        ops.localize(cams, NORMALIZATIONS, [0.2])
        ops.threshold_boxes(scores, [0.2, 0.5])
        yield len(ids)


def rows_of_images(maps: Maps, num_maps: int) -> Iterator[int]:
    """PerImageEvaluator.update, whose rows are left behind."""
    protocol, num_rows = Protocol(NORMALIZATIONS, thresholds=np.arange(0, 1, 0.01)), 0
    one = {delta: 0.2 for delta in protocol.iou_thresholds.tolist()}

    def count(rows) -> None:
        nonlocal num_rows
        num_rows += len(rows)

    chosen = [Chosen(0.2, one, one)] * len(protocol.names)
    evaluator = PerImageEvaluator(protocol, GroundTruth(maps.truth(num_maps)), chosen, count)
    for cams, ids in maps.batches(num_maps):
        evaluator.update(cams, ids)
        yield len(ids)
    assert num_rows == num_maps * len(protocol.names), num_rows


def reading_a_store(maps: Maps, num_maps: int) -> Iterator[int]:
    """CamStore.records, verified."""
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
        with CamWriter(Path(scratch) / "store", Manifest(dataset="ILSVRC", split="test")) as writer:
            for cams, ids in maps.batches(num_maps):
                writer.add([f"{each}.jpg" for each in ids], cams)
        store = CamStore(Path(scratch) / "store")
        for records in store.records(BATCH):
            yield len(records.image_ids)
        assert not store.problems, store.problems


# The way that maps go -> the most bytes that are kept of an image.
WAYS = {
    operations: NOTHING,
    counts_of_cams: KEY,
    counts_of_score_maps: KEY,
    boxes: NOTHING,
    rows_of_images: NOTHING,
    reading_a_store: NOTHING,
}
BY_NAME = {each.__name__.replace("_", " "): each for each in WAYS}


def main() -> int:
    """Runs the command line; 1 if memory grew, or not all maps went through."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=BY_NAME, default=list(BY_NAME), help="in quotes (default: all)")
    parser.add_argument("--maps", type=int, default=NUM_MAPS, help="that go each way (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    console, rows = Console(width=None if sys.stdout.isatty() else 200, highlight=False), []
    console.print(f"resident MB before {arguments.maps:,} maps and after each tenth of them; bytes a map")
    try:
        for name in arguments.ways:
            rows.append(measure(name, arguments.maps))
            console.print(described(rows[-1]))
    except WrongResult as error:
        console.print(f"WRONG RESULT: {error}", style="red")
        return 1
    if arguments.save:
        print(f"written: {harness.save({'machine': harness.describe(), 'rows': rows}, 'memory')}")
    return int(any(row["bytes_per_map"] > row["most_bytes_per_map"] for row in rows))


def measure(name: str, num_maps: int) -> dict:
    """One way, in a process of its own: JSON-able.

    Raises:
        WrongResult: It failed, or not all maps went through.
    """
    command = [sys.executable, "-c", CHILD, name, str(num_maps)]
    done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise WrongResult(f"{name}: exit code {done.returncode}: {done.stderr[-2000:]}")
    points = json.loads(done.stdout)
    if len(points) != NUM_POINTS or points[-1][0] != num_maps:
        raise WrongResult(f"{name}: {len(points)} points up to {points[-1][0]:,} maps, expected {NUM_POINTS}")
    slope = np.polyfit(*np.array(points[1:], float).T, 1)[0]
    most = WAYS[BY_NAME[name]]
    return {"way": name, "points": points, "bytes_per_map": float(slope), "most_bytes_per_map": most}


def watch(name: str, num_maps: str) -> None:
    """Goes a way and prints how many maps had gone it and what memory was resident then, NUM_POINTS times."""
    total, num_done = int(num_maps), 0
    maps, points = Maps.made(), []
    for num in BY_NAME[name](maps, total):
        while num_done >= len(points) * total / (NUM_POINTS - 1):
            points.append((num_done, harness.memory_bytes()["VmRSS"]))
        num_done += num
    points.append((num_done, harness.memory_bytes()["VmRSS"]))
    print(json.dumps(points))


def described(row: dict) -> str:
    """A row as one line."""
    curve = " ".join(f"{resident / 1e6:6.1f}" for _, resident in row["points"])
    return f"{row['way']:<20} {curve}  {row['bytes_per_map']:+8.1f}, at most {row['most_bytes_per_map']:.0f}"


if __name__ == "__main__":
    sys.exit(main())

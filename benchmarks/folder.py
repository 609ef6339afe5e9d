"""A whole data set from disk: `wsolkern evaluate` on a folder of score maps, one .npy of 224x224 float64 an image.

In: how many maps. Out: seconds of the command on all cores, and of reading the files alone.
Source: the size of CUB's test split is 5,794 images; the metadata folder is in the layout of Choe et al.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import levels, published
from benchmarks.cpu_rows import IOU_THRESHOLDS
from benchmarks.harness import WrongResult
from benchmarks.inputs import SIZE, cam_like, synthetic_boxes
from wsolkern.datasets import MapFolder, Metadata
from wsolkern.ops import DEFAULT_THRESHOLDS

NUM_CHECKED = 100  # maps that the command's result is compared on, as a data set of their own


def measure(num_maps: int, seed: int) -> dict:
    """Writes ``num_maps`` files to a temporary folder, checks the command on some of them and times it on all.

    The files have just been written, so that what memory can hold is read from memory.

    Raises:
        WrongResult: The command's percentages are not those of OpenCV.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as name:
        root = Path(name)
        image_ids = [f"{number:05d}.jpg" for number in range(num_maps)]
        boxes = synthetic_boxes(rng, num_maps)
        (root / "maps").mkdir()
        expected = []
        for image_id, cam, truth in zip(image_ids, cam_like(rng, boxes, 14), boxes, strict=True):
            scores = published.score_map(cam, "minmax", SIZE)
            np.save(root / "maps" / f"{image_id}.npy", scores)
            if len(expected) < NUM_CHECKED:
                expected.append(levels.hits(scores, truth, DEFAULT_THRESHOLDS, IOU_THRESHOLDS))
        few = write_metadata(root / "few", image_ids[:NUM_CHECKED], boxes)
        everything = write_metadata(root / "all", image_ids, boxes)

        check(evaluate(root / "maps", few), np.mean(expected, axis=0) * 100)
        start = time.perf_counter()
        num_read = sum(len(maps) for _, maps in MapFolder(root / "maps", image_ids).batches())
        reading = time.perf_counter() - start
        start = time.perf_counter()
        result = evaluate(root / "maps", everything)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        evaluate(root / "maps", write_metadata(root / "one", image_ids[:1], boxes))
        start_up = time.perf_counter() - start
    if not result["num_images"] == num_read == num_maps:
        raise WrongResult(f"folder: {result['num_images']} images evaluated and {num_read} read of {num_maps}")
    return {
        "num_maps": num_maps,
        "num_checked": len(expected),
        "evaluate_seconds": seconds,
        "start_up_seconds": start_up,
        "reading_seconds": reading,
    }


def write_metadata(folder: Path, image_ids: list[str], boxes: list[np.ndarray]) -> Path:
    """A metadata folder of images of 224x224 pixels, each with its first box."""
    Metadata(
        tuple(image_ids),
        image_sizes=dict.fromkeys(image_ids, SIZE[::-1]),
        boxes={each: truth[:1] for each, truth in zip(image_ids, boxes, strict=False)},
    ).write(folder)
    return folder


def evaluate(maps: Path, metadata: Path) -> dict:
    """What `wsolkern evaluate --json -` prints, from a process of its own."""
    command = [sys.executable, "-c", "from wsolkern.cli import main; main()", "evaluate"]
    options = ["--score-maps", str(maps), "--metadata", str(metadata), "--json", "-"]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"wsolkern evaluate failed: {run.stderr.strip()}")
    return json.loads(run.stdout)


def check(result: dict, accuracy: np.ndarray) -> None:
    """The maxima over thresholds of box accuracy [2, D, T] in percent, against the command's."""
    row = result["normalizations"][0]
    ours = np.array([list(row[name].values()) for name in ("max_box_acc", "max_box_acc_v2_per_iou")])
    if not np.allclose(ours, accuracy.max(axis=2), rtol=0, atol=1e-9):  # hits differ by 1 / NUM_CHECKED at least
        raise WrongResult(f"folder: expected {accuracy.max(axis=2).tolist()}, found {ours.tolist()}")


def report(numbers: dict, published_ms: float | None) -> list[str]:
    """Lines for people; ``published_ms``: milliseconds a map of the published loop in one mode, from the same run."""
    if not numbers:
        return []
    seconds, num_maps = numbers["evaluate_seconds"], numbers["num_maps"]
    lines = [
        f"wsolkern evaluate on {num_maps:,} .npy score maps, all cores, V1 and V2: {seconds:.1f} s, of which "
        f"{numbers['start_up_seconds']:.1f} s to start; reading the files alone: {numbers['reading_seconds']:.1f} s"
    ]
    if published_ms is not None:
        loop = published_ms * num_maps / 1e3
        lines.append(
            f"the published loop takes {loop:.0f} s a mode for them without reading (from {published_ms:.1f} ms a map "
            f"above), {loop / seconds:.0f} times as long, and {2 * loop / seconds:.0f} times for both modes"
        )
    return lines

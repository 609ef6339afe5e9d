"""Boxes of a data set from a CAM store, on one core: `python -m benchmarks.boxes`.

In: a number of CAMs. Out: images a second of `wsolkern boxes` with one normalization and threshold, reading and image
sizes included; after the boxes of the first images were those of the reference.
Source: the command itself, and the reference backend of wsolkern.ops.localize.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness, inputs
from benchmarks.harness import RESULTS, WrongResult, use_cores
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets.metadata import original_boxes
from wsolkern.ops import localize

BATCH, CHECKED = 64, 24
NORMALIZATION, THRESHOLD, IMAGE_SIZE = "ivr:0.45", 0.2, (500, 375)  # width, height of every image


def main() -> int:
    """Runs the command line; 1 if a box was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boxes", description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=20_000, help="CAMs in the store (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the command (default: %(default)s)")
    parser.add_argument("--no-demo", action="store_true", help="CAM-like maps in place of the demo's CAMs with noise")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    results = {"machine": harness.describe(), "options": vars(arguments), "load_before": os.getloadavg()}
    use_cores([max(os.sched_getaffinity(0))])
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
        store, metadata = make_store(Path(scratch), arguments.maps, arguments.no_demo)
        try:
            rates = [rate(store, metadata, Path(scratch) / "boxes.json") for _ in range(arguments.repeats)]
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
    results |= {"images_per_second": rates, "load_after": os.getloadavg()}
    print(
        f"{results['machine']['cpu']}, one core: {np.median(rates):,.0f} images/s, {min(rates):,.0f}-{max(rates):,.0f}"
    )
    if arguments.save:
        print(f"written: {harness.save(results, 'boxes')}")
    return 0


def make_store(scratch: Path, num_maps: int, no_demo: bool = False) -> tuple[Path, Path]:
    """A store of 14x14 CAMs, all different, and the metadata of their images."""
    rng = np.random.default_rng(0)
    real = [] if no_demo else [kind for kind in inputs.demo()[0] if kind.cams.shape[1] == 14]
    some = real[0].cams if real else inputs.cam_like(rng, inputs.synthetic_boxes(rng, 128), 14)
    image_ids = [f"val/{number:07d}.jpg" for number in range(num_maps)]
    with CamWriter(scratch / "store", Manifest(dataset="benchmark", split="test", method="CAM")) as writer:
        for start in range(0, num_maps, BATCH):
            names = image_ids[start : start + BATCH]
            noise = rng.normal(0, 0.02 * some.std(), (len(names), 14, 14))
            writer.add(names, (some[rng.integers(0, len(some), len(names))] + noise).astype(np.float32))
    metadata = scratch / "metadata"
    metadata.mkdir()
    (metadata / "image_ids.txt").write_text("".join(f"{each}\n" for each in image_ids))
    width, height = IMAGE_SIZE
    (metadata / "image_sizes.txt").write_text("".join(f"{each},{width},{height}\n" for each in image_ids))
    return scratch / "store", metadata


def rate(store: Path, metadata: Path, out: Path) -> float:
    """Images a second of the command, as it counts them itself: without its imports and writing.

    Raises:
        WrongResult: A box is not the reference's.
    """
    about = out.with_name("about.json")
    command = [sys.executable, "-m", "wsolkern", "boxes", str(store), "--metadata", str(metadata), "-n", NORMALIZATION]
    command += ["--threshold", str(THRESHOLD), "--threads", "1", "-o", str(out), "--json", str(about)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check(store, json.loads(out.read_text()))
    found = json.loads(about.read_text())
    return float(found["num_images"] / found["seconds"])


def check(store: Path, detections: list[dict]) -> None:
    """Compares the first boxes with the reference's.

    Raises:
        WrongResult: They differ.
    """
    some = detections[:CHECKED]
    reader = CamStore(store)
    cams = np.stack([reader.read(each["image_id"]) for each in some])
    resized = localize(cams, NORMALIZATION, [THRESHOLD], backend="reference").boxes[0, :, 0]
    wanted = original_boxes(resized, np.tile(np.array(IMAGE_SIZE, np.int64), (len(some), 1)), inputs.SIZE)
    boxes = np.array([each["bbox"] for each in some])
    boxes[:, 2:] += boxes[:, :2] - 1
    if not np.array_equal(boxes, wanted):
        raise WrongResult("wsolkern boxes: a box differs from the reference's")


if __name__ == "__main__":
    sys.exit(main())

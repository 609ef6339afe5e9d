"""What rows of images and groups cost beside the metrics: `python -m benchmarks.rows --metadata CUB/test`.

In: a metadata folder with real boxes, how many of its images. Out: seconds and memory of `wsolkern evaluate` alone,
with --by and with --per-image, in turn, and the ratio to evaluate alone. Seconds are those of the CPU, one thread, from
the command's first check to its last line, without starting Python; memory is the most that the process had.
Source: none; the peer is the same command without the option.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.harness import WrongResult
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata

NORMALIZATIONS = "minmax max ivr:0.45"
OPTIONS = {
    "evaluate": [],
    "--by class": ["--by", "class"],
    "--by size": ["--by", "size"],
    "--per-image": ["--per-image", "rows.csv"],
    "--per-image --by size": ["--per-image", "rows.csv", "--by", "size"],
}


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", required=True, help="metadata folder with real boxes, such as CUB/test")
    parser.add_argument("--images", type=int, default=2000, help="how many of its images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all in turn (default: %(default)s)")
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in OPTIONS}
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
        write(arguments.metadata, Path(scratch), arguments.images)
        try:
            for _ in range(arguments.rounds):
                figures = None
                for name, options in OPTIONS.items():
                    seconds, megabytes, content = measured(Path(scratch), options)
                    figures = figures or content["normalizations"]
                    if content["normalizations"] != figures:
                        raise WrongResult(f"{name}: the metrics are not those of evaluate alone")
                    found[name].append((seconds, megabytes))
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
    alone = [seconds for seconds, _ in found["evaluate"]]
    for name, each in found.items():
        ratio = statistics.median(seconds / one for (seconds, _), one in zip(each, alone, strict=True))
        seconds, megabytes = (statistics.median(values) for values in zip(*each, strict=True))
        print(f"{name:22} {seconds:7.2f} s, {ratio:5.2f} times evaluate, {megabytes:6.0f} MB at most")
    print(f"{arguments.images} images, {NORMALIZATIONS}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def write(metadata: str, root: Path, num_images: int) -> None:
    """The images that are evaluated, evenly spread over a split, and a store of CAM-like maps of them."""
    split = load_metadata(metadata)
    places = np.linspace(0, len(split.image_ids) - 1, num_images).round().astype(int)
    kept = [split.image_ids[place] for place in places.tolist()]
    tables = ("class_labels", "image_sizes", "boxes")
    split = replace(
        split, image_ids=tuple(kept), **{n: {each: getattr(split, n)[each] for each in kept} for n in tables}
    )
    split.write(root / "metadata")
    boxes, rng = split.resized_boxes(inputs.SIZE), np.random.default_rng(0)
    with CamWriter(root / "store", Manifest(), maps_per_shard=512) as writer:
        for start in range(0, num_images, 64):
            some = split.image_ids[start : start + 64]
            writer.add(some, inputs.cam_like(rng, [boxes[each] for each in some], 14).astype(np.float32))


def measured(root: Path, options: list[str]) -> tuple[float, float, dict]:
    """CPU seconds of the command in a process of its own, the most memory it had, in MB, and its JSON."""
    report = root / "report.json"
    report.unlink(missing_ok=True)
    command = ["evaluate", "--cams", root / "store", "--metadata", root / "metadata", "--threads", 1]
    command += ["-n", NORMALIZATIONS, "--json", report, *options]
    child = os.fork()
    if not child:
        os.chdir(root)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from wsolkern.cli import main as cli

        sys.argv = ["wsolkern", *map(str, command)]
        began = time.process_time()
        try:
            cli()
        finally:
            (root / "seconds").write_text(f"{time.process_time() - began}")
            os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        raise WrongResult(f"the command ended with {status}")
    return float((root / "seconds").read_text()), used.ru_maxrss / 1024, json.loads(report.read_text())


if __name__ == "__main__":
    sys.exit(main())

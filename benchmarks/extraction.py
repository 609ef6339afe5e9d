"""What extraction costs beside the forward pass: `python -m benchmarks.extraction [--save]`.

In: the demo's photographs, written as JPEG files of ImageNet's usual size. Out: seconds of a classifier's forward
passes alone, on images that lie in memory, and of `wsolkern.cams.extract` from files to a store; in turns, on one core.
Source: EfficientNet-Lite0, whose weights come in a package; the stored CAMs are compared before anything is timed.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from wsolkern.cams import CamStore, CamWriter, Manifest, cam_model, extract
from wsolkern.datasets import ImageFolder, Preprocessing
from wsolkern.demo.photographs import load_crops

RESULTS = machine.ROOT / "benchmarks" / "results"
FILE_SIZE = (500, 375)  # width and height, in pixels
QUALITY = 90  # of the JPEG files
PASSES = 5
SIDES = (224, 448)
# Otherwise glibc gives large blocks back to the system after a pass, or does not, as it happens: the same forward pass
# took 36 or 55 ms.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2 * 10**9), "MALLOC_MMAP_THRESHOLD_": str(10**9)}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="images of a pass (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help="write a JSON file to benchmarks/results")
    arguments = parser.parse_args()
    if not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **KEEP_MEMORY})
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["WSOLKERN_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        image_ids = write_images(Path(folder), arguments.images)
        rows = [measure(Path(folder), image_ids, side) for side in SIDES]
    table = Table(
        "pixels", "forward pass alone, ms an image", "extraction", "adds", title="EfficientNet-Lite0, one core"
    )
    for row in rows:
        forward, whole = row["forward_seconds"] * 1e3, row["extract_seconds"] * 1e3
        table.add_row(f"{row['side']}", f"{forward:.1f}", f"{whole:.1f}", f"{100 * row['added']:.1f}%")
    Console().print(table)
    if arguments.save:
        content = {"machine": machine.describe(), "file_size": FILE_SIZE, "quality": QUALITY, "rows": rows}
        path = RESULTS / f"{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime())}-extraction.json"
        path.write_text(json.dumps(content, indent=1) + "\n")


def write_images(folder: Path, num_images: int) -> list[str]:
    """The demo's crops as JPEG files; their names."""
    from PIL import Image

    names = []
    for index, crop in enumerate(load_crops()[:num_images]):
        names.append(f"{index:04}.jpg")
        Image.fromarray(crop.pixels()).resize(FILE_SIZE).save(folder / names[-1], quality=QUALITY)
    return names


def measure(folder: Path, image_ids: list[str], side: int) -> dict:
    """Medians over passes that take turns, seconds an image; ``added`` is the median of the passes' own ratios."""
    import torch

    from wsolkern.models.efficientnet_lite import efficientnet_lite0

    torch.set_num_threads(1)
    preprocessing = Preprocessing((side, side), mean=(127, 127, 127), std=(128, 128, 128), white=255)
    model = cam_model(efficientnet_lite0(), (side, side))
    labels = dict.fromkeys(image_ids, 281)
    folders = ImageFolder(folder, image_ids, preprocessing)
    in_memory = [torch.from_numpy(each.images.copy()) for each in folders.windows([[name] for name in image_ids])]

    def forward() -> None:
        with torch.inference_mode():
            for images in in_memory:
                model.model(images)

    def whole() -> Path:
        store = folder / f"store-{side}-{time.monotonic_ns()}"
        with CamWriter(store, Manifest(dataset="photographs")) as writer:
            problems = extract(model, ImageFolder(folder, image_ids, preprocessing), writer, labels)
        assert not problems, problems
        return store

    stored = CamStore(whole())
    forward()
    for name, images in zip(image_ids, in_memory, strict=True):
        np.testing.assert_array_equal(stored.read(name), model(images, torch.tensor([281])).cams[0].numpy())
    times = {"forward": [], "extract": []}
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        for _ in range(PASSES):
            for what, work in (("forward", lambda: thread.submit(forward).result()), ("extract", whole)):
                begun = time.perf_counter()
                work()
                times[what].append((time.perf_counter() - begun) / len(image_ids))
    ratios = np.array(times["extract"]) / np.array(times["forward"])
    return {
        "side": side,
        "num_images": len(image_ids),
        "forward_seconds": float(np.median(times["forward"])),
        "extract_seconds": float(np.median(times["extract"])),
        "added": float(np.median(ratios) - 1),
        "passes": times,
    }


if __name__ == "__main__":
    main()

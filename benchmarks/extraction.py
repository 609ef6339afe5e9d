"""What extraction costs beside the forward pass: `python -m benchmarks.extraction [--save]`, about 15 minutes.

In: the demo's photographs, written as JPEG files of ImageNet's usual size. Out: seconds of a network's forward passes
alone, on images that lie in memory; of reading; and of `wsolkern.cams.extract` from files to a store; in turns, on one
core. Source: the paper's backbones with random weights, which cost what trained ones do, and EfficientNet-Lite0
as the least work that reading can be compared with. The stored CAMs are compared before anything is timed.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import harness
from wsolkern import machine
from wsolkern.cams import CamStore, CamWriter, Manifest, cam_model, extract
from wsolkern.datasets import ImageFolder, Preprocessing
from wsolkern.demo.photographs import load_crops
from wsolkern.models import build

FILE_SIZE = (500, 375)  # width and height, in pixels
QUALITY = 90  # of the JPEG files
PASSES = 5
CHUNK = 16  # images
LABEL = 281


class Case(NamedTuple):
    """A network, and what a pass is of."""

    name: str
    make: Callable[[], torch.nn.Module]
    side: int  # of an image, in pixels
    num_images: int


def lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 with its weights."""
    from wsolkern.models.efficientnet_lite import efficientnet_lite0

    return efficientnet_lite0()


CASES = (
    Case("VGG16", lambda: build("vgg16", "cam"), 224, 32),
    Case("InceptionV3", lambda: build("inception_v3", "cam"), 224, 64),
    Case("ResNet50", lambda: build("resnet50", "cam"), 224, 64),
    Case("EfficientNet-Lite0", lite0, 448, 96),
    Case("EfficientNet-Lite0", lite0, 224, 256),
)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction", description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write a JSON file to benchmarks/results")
    arguments = parser.parse_args()
    machine.keep_freed_memory()  # as the command does
    harness.use_cores([min(os.sched_getaffinity(0))])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        image_ids = write_images(Path(folder), max(case.num_images for case in CASES))
        rows = [measure(Path(folder), image_ids[: case.num_images], case) for case in CASES]
    columns = "network", "pixels", "forward pass, ms", "reading, ms", "extraction, ms", "adds"
    table = Table(*columns, title=f"one core; medians over chunks of {CHUNK} images")
    for row in rows:
        times = (f"{1e3 * row[what]:.1f}" for what in ("forward_seconds", "read_seconds", "extract_seconds"))
        table.add_row(row["network"], f"{row['side']}", *times, f"{100 * row['added']:.1f}%")
    Console().print(table)
    if arguments.save:
        content = {"machine": harness.describe(), "file_size": FILE_SIZE, "quality": QUALITY, "rows": rows}
        print(f"written: {harness.save(content, 'extraction')}")


def write_images(folder: Path, num_images: int) -> list[str]:
    """The demo's crops as JPEG files, over again if there are too few; their names."""
    from PIL import Image

    names = []
    for index, crop in enumerate(islice(cycle(load_crops()), num_images)):
        names.append(f"{index:04}.jpg")
        Image.fromarray(crop.pixels()).resize(FILE_SIZE).save(folder / names[-1], quality=QUALITY)
    return names


def measure(folder: Path, image_ids: list[str], case: Case) -> dict:
    """Seconds an image: medians over chunks of a few images, as the machine's own speed drifts within seconds.

    ``added`` is the median of the chunks' ratios of extraction to forward passes, less 1, and the store's closing, of
    which a chunk has its share.
    """
    size = (case.side, case.side)
    preprocessing = Preprocessing(size, mean=(127, 127, 127), std=(128, 128, 128), white=255)
    network = case.make()
    model = cam_model(network, size)
    labels = dict.fromkeys(image_ids, LABEL)
    chunks = [image_ids[begin : begin + CHUNK] for begin in range(0, len(image_ids), CHUNK)]

    def read(names: list[str]) -> list[torch.Tensor]:
        batches = ImageFolder(folder, names, preprocessing).windows([[name] for name in names])
        return [torch.from_numpy(batch.images) for batch in batches]

    def forward(images: list[torch.Tensor]) -> None:
        with torch.inference_mode():
            for each in images:
                network(each)

    def add(names: list[str], writer: CamWriter) -> None:
        problems = extract(model, ImageFolder(folder, names, preprocessing), writer, labels)
        assert not problems, problems

    times = {"forward": [], "extract": [], "read": [], "close": []}

    def timed(what: str, work: Callable, *arguments) -> None:
        times[what].append(harness.seconds(lambda: work(*arguments)))

    in_memory = [read(names) for names in chunks]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        for turn in range(PASSES + 1):
            store = folder / f"store-{time.monotonic_ns()}"
            writer = CamWriter(store, Manifest(dataset="photographs"))
            for names, images in zip(chunks, in_memory, strict=True):
                timed("forward", lambda images=images: thread.submit(forward, images).result())
                timed("extract", add, names, writer)
                timed("read", read, names)
            timed("close", writer.close)
            if turn == 0:
                stored = CamStore(store)
                for name, each in zip(image_ids, sum(in_memory, []), strict=True):
                    expected = model(each, torch.tensor([LABEL])).cams[0].numpy()
                    np.testing.assert_array_equal(stored.read(name), expected)
                times = {what: [] for what in times}
    counts = np.tile([len(names) for names in chunks], PASSES)
    each = {what: np.array(times[what]) / counts for what in ("forward", "extract", "read")}
    close = float(np.median(times["close"])) / len(image_ids)
    seconds = {f"{what}_seconds": float(np.median(values)) for what, values in each.items()}
    seconds["extract_seconds"] += close
    return {
        "network": case.name,
        "side": case.side,
        "num_images": len(image_ids),
        **seconds,
        "close_seconds": close,
        "added": float(np.median(each["extract"] / each["forward"])) - 1 + close / seconds["forward_seconds"],
        "chunks": {what: values.tolist() for what, values in each.items()},
    }


if __name__ == "__main__":
    main()

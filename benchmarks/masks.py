"""Masks in the drop-in: `accumulate` of every image and `compute`, with masks to read and with masks that were read.

In: a folder with PNG masks such as OpenImages has, `NAME_ignore.png` and `NAME_m*.png`, or none: then some are drawn.
Out: milliseconds an image and ratios to the published evaluation, measured in turns in one process.
Source: Choe et al., arXiv 2007.04178, section 4.3; the published side reads with OpenCV, as its code does.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from benchmarks import published
from benchmarks.harness import WrongResult
from benchmarks.inputs import SIZE
from wsolkern.compat import evaluation
from wsolkern.compat.data_loaders import configure_metadata
from wsolkern.metrics import pxap
from wsolkern.ops import DEFAULT_THRESHOLDS

NUM_COPIES = 8  # of each image, in files of their own


def draw(folder: Path, rng: np.random.Generator) -> None:
    """Three images of 1600 x 1066: instances of one bit, a region to ignore in colours."""
    for number in range(3):
        for name, mode, white in ((f"{number}_m1", "1", 1), (f"{number}_ignore", "RGB", (255, 255, 255))):
            image = Image.new(mode, (1600, 1066))
            x, y = rng.integers(0, 700, 2).tolist()
            ImageDraw.Draw(image).ellipse((x, y, x + 500, y + 300), fill=white)
            image.save(folder / f"{name}.png")


def read(root: str, masks: list[str], ignore: str) -> np.ndarray:
    """Ground truth as the published evaluation reads it, uint8 [224, 224]."""

    def load(name: str) -> np.ndarray:
        grey = np.float32(cv2.imread(os.path.join(root, name), cv2.IMREAD_GRAYSCALE))
        return cv2.resize(grey, SIZE[::-1], interpolation=cv2.INTER_NEAREST) > 0.5

    objects = np.any([load(each) for each in masks], axis=0)
    return np.where(objects, 1, np.where(load(ignore), 255, 0)).astype(np.uint8)


def measure(source: Path | None, num_rounds: int, seed: int) -> dict:
    """Raises WrongResult where the drop-in's PxAP is not that of the published evaluation."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as name:
        root = Path(name)
        if source is None:
            source = root / "drawn"
            source.mkdir()
            draw(source, rng)
        lines, wanted = [], {}
        for copy in range(NUM_COPIES):
            shutil.copytree(source, root / f"{copy}")
            for ignore in sorted((root / f"{copy}").rglob("*_ignore.png")):
                masks = sorted(ignore.parent.glob(ignore.name.replace("_ignore.png", "_m*.png")))
                names = [str(each.relative_to(root)) for each in masks]
                if names:
                    image_id = f"{ignore.relative_to(root)}.jpg"
                    wanted[image_id] = names, str(ignore.relative_to(root))
                    first = [names[0], str(ignore.relative_to(root))]
                    lines += [",".join([image_id, *each]) for each in (first, *([each, ""] for each in names[1:]))]
        (root / "localization.txt").write_text("\n".join(lines))
        (root / "image_ids.txt").write_text("\n".join(wanted))
        cams = [rng.random((side, side)) for side in (7, 14, 28) * len(wanted)]
        maps = {each: published.score_map(cam, "minmax", SIZE) for each, cam in zip(wanted, cams, strict=False)}

        def theirs() -> float:
            histograms = np.zeros((2, len(DEFAULT_THRESHOLDS) + 2), np.int64)
            for image_id, scores in maps.items():
                mask = read(name, *wanted[image_id])
                histograms += published.pixel_histogram(scores, mask, DEFAULT_THRESHOLDS)
            return pxap(histograms)

        def ours() -> float:
            evaluator = evaluation.MaskEvaluator(
                configure_metadata(name), "OpenImages", "val", list(DEFAULT_THRESHOLDS), [50], name, True
            )
            for image_id, scores in maps.items():
                evaluator.accumulate(scores, image_id)
            with contextlib.redirect_stdout(io.StringIO()):
                return evaluator.compute()

        def unread() -> float:
            evaluation.MASKS.clear()
            return ours()

        times: dict[str, list[float]] = {"published": [], "read": [], "kept": []}
        for _ in range(num_rounds):
            results = {}
            for key, run in (("published", theirs), ("read", unread), ("kept", ours)):
                start = time.perf_counter()
                results[key] = run()
                times[key].append(time.perf_counter() - start)
            if len(set(results.values())) > 1:
                raise WrongResult(f"masks: {results}")
        medians = {key: statistics.median(each) / len(maps) * 1e3 for key, each in times.items()}
    return {"num_images": len(maps), "milliseconds": medians, "bytes_kept": evaluation.MASKS.bytes}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masks", description=__doc__.partition("\n")[0])
    parser.add_argument("--masks", type=Path, help="folder of PNG masks; else some are drawn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = measure(options.masks, options.rounds, options.seed)
    times = result["milliseconds"]
    ratios = {key: round(times["published"] / each, 1) for key, each in times.items()}
    print(json.dumps({**result, "ratio": ratios}, indent=2))


if __name__ == "__main__":
    main()

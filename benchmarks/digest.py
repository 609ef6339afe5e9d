"""One number for all that the operations compute: `python -m benchmarks.digest`.

In: maps of exact values, the same on every machine. Out: a hash of every operation's result; two builds, instruction
sets or numbers of threads whose hashes are equal computed the same bits.
Source: none.
"""

import argparse
import hashlib

import numpy as np

from wsolkern import ops
from wsolkern.normalization import parse_all

NORMALIZATIONS = "minmax max pas:0.9 ivr:0.00..0.95/0.05 ivr:0.45+pas:0.9"
SHAPES = ((1, 1), (1, 9), (7, 7), (14, 14), (37, 53), (64, 64))  # of maps, several kinds each
SIZES = ((1, 1), (64, 64), (224, 224), (31, 70))  # evaluation sizes, in turn


def maps_of(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Noise, few levels, sums of ramps, constants and single pixels; float64 [N, h, w], all values k / 1024."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    kinds = [rng.integers(-512, 1024, shape) for _ in range(4)]
    kinds += [rng.integers(0, levels, shape) * 300 - 200 for levels in (2, 3, 5)]
    kinds += [np.minimum(rows * a, columns * b) + (rows // 3 % 2) * c for a, b, c in rng.integers(-40, 40, (4, 3))]
    kinds += [np.full(shape, 7), (rows == height // 2) & (columns == width // 2), (rows + columns) % 2]
    return np.stack(kinds) / 1024


def digest(backend: str = "auto", seed: int = 0) -> str:
    """16 hexadecimal digits of SHA-256 over shapes, dtypes and bytes of every result."""
    found, rng = hashlib.sha256(), np.random.default_rng(seed)

    def add(*arrays) -> None:
        for each in map(np.ascontiguousarray, arrays):
            found.update(f"{each.dtype.str} {each.shape}\n".encode())
            found.update(each)

    normalizations = parse_all(NORMALIZATIONS)
    for number, shape in enumerate(SHAPES):
        cams, size = maps_of(rng, shape), SIZES[number % len(SIZES)]
        sides = np.array([size[1], size[0]])
        corners = np.sort(rng.integers(0, sides, (len(cams), 2, 2, 2)), axis=2).reshape(len(cams), 2, 4)
        masks = rng.choice(np.array([0, 1, 255], np.uint8), (len(cams), *size))
        how = {"size": size, "backend": backend}
        resized = ops.resize(cams, size, backend=backend)
        add(resized)
        for dtype in (np.float32, np.float64):
            typed = cams.astype(dtype)
            add(ops.box_hits(typed, list(corners), normalizations, contours="both", **how))
            add(*ops.count_box_hits(typed, list(corners), normalizations, contours="both", **how))
            add(ops.pixel_histograms(typed, masks, normalizations, **how))
            add(*ops.count_pixels(typed, masks, normalizations, **how))
        for each in normalizations[:6]:
            scores = ops.normalize(resized, each, backend=backend)
            add(scores)
            for contours in ("largest", "all"):
                for boxes in ops.threshold_boxes(scores, contours=contours, backend=backend):
                    add(*boxes)
    return found.hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digest", description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="auto", help='"auto", "reference", "cpu" or "cuda" (default: %(default)s)')
    print(digest(parser.parse_args().backend))

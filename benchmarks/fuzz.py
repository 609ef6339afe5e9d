"""Zero-difference fuzzing against OpenCV: `python -m benchmarks.fuzz --maps 20000 --seed 0`.

In: random maps of 1 to 64 pixels a side, or the demo's CAMs. Out: how much was compared and how many differences there
were; the exit code is 1 if there was one, and the first such map is written to a file.
Source: every comparison is with OpenCV and numpy through benchmarks/levels.py and benchmarks/published.py.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

import wsolkern
from benchmarks import inputs, levels, published
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.ops.backends import native

NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.05", "ivr:0.95", "ivr:0.45+pas:0.9")


@dataclass(frozen=True)
class Case:
    """One map and everything it is evaluated with."""

    kind: str
    cam: np.ndarray  # float [h, w]
    size: tuple[int, int]  # evaluation size H, W
    normalizations: tuple[str, ...]  # the first one is checked, the others are along for company
    mask: np.ndarray  # uint8 [H, W] of 0, 1, 255
    thresholds: np.ndarray  # float64 [T], non-decreasing
    boxes: np.ndarray  # int32 [n, 4]
    iou_thresholds: np.ndarray  # float64 [D]


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """White noise of 2 to 256 different values."""
    return rng.integers(0, int(2 ** rng.uniform(1, 8)) + 1, (height, width)).astype(np.float64)


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A small CAM, to be resized by whoever evaluates it."""
    return rng.normal(0, 1, (rng.integers(1, min(height, 14) + 1), rng.integers(1, min(width, 14) + 1)))


def plateaus(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth hills cut into 2 to 12 terraces."""
    hills = gaussian_filter(rng.normal(0, 1, (height, width)), rng.uniform(0.6, 4))
    hills = (hills - hills.min()) / (np.ptp(hills) or 1)
    return np.floor(hills * rng.integers(2, 13))


def rings(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Rings in rings around one or two centres, round or square, each ring with a value of its own."""
    y, x = np.mgrid[:height, :width]
    result = np.zeros((height, width))
    for _ in range(rng.integers(1, 3)):
        down, across = np.abs(y - rng.integers(0, height)), np.abs(x - rng.integers(0, width))
        distance = np.hypot(down, across) if rng.random() < 0.5 else np.maximum(down, across)
        values = rng.integers(0, rng.integers(2, 20), 2 * max(height, width))
        result = np.maximum(result, values[(distance / rng.integers(1, 4)).astype(int)])
    return result


def checkerboard(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Fields of 1 to 4 pixels in turn, on a ramp or with some fields changed."""
    y, x = np.mgrid[:height, :width]
    board = ((y // rng.integers(1, 5) + x // rng.integers(1, 5)) % rng.integers(2, 4)).astype(np.float64)
    board += rng.choice([0, 1, 3]) * np.round((x + y) / (height + width), 1)
    changed = rng.random((height, width)) < rng.choice([0, 0.02, 0.2])
    return np.where(changed, rng.integers(0, 5, (height, width)), board)


def lines(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Lines one pixel wide, straight and diagonal, crossing each other."""
    result = np.zeros((height, width))
    for _ in range(rng.integers(1, 16)):
        step = np.arange(rng.integers(1, max(height, width) + 1))
        down, across = rng.integers(-1, 2, 2)
        y, x = rng.integers(0, height) + down * step, rng.integers(0, width) + across * step
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        result[y[inside], x[inside]] = rng.integers(0, 12)
    return result


def frame(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Rectangles that touch or follow the frame, with holes open to it and closed by it."""
    result = np.zeros((height, width))
    for _ in range(rng.integers(1, 12)):
        y0, x0 = rng.integers(0, height), rng.integers(0, width)
        y1, x1 = y0 + rng.integers(1, height + 1), x0 + rng.integers(1, width + 1)
        side = rng.integers(0, 4)
        y0, x0 = (0 if side == 0 else y0), (0 if side == 1 else x0)
        y1, x1 = (height if side == 2 else y1), (width if side == 3 else x1)
        result[y0:y1, x0:x1] = rng.integers(0, 8)
    return result


def bin_edges(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Values exactly on the edges of the score histograms once they are divided by their maximum, 1."""
    result = rng.choice(DEFAULT_THRESHOLDS, (height, width))
    result[rng.integers(0, height), rng.integers(0, width)] = 1
    return result


KINDS = (noise, smooth, plateaus, rings, checkerboard, lines, frame, bin_edges)


def random_case(seed: int, number: int) -> Case:
    """Map ``number`` of a seed, the same one in every run."""
    rng = np.random.default_rng([seed, number])
    make = KINDS[number % len(KINDS)]
    height, width = size = tuple((1 + 64 * rng.random(2) ** 1.5).astype(int).tolist())
    cam = make(rng, height, width)
    if make is not bin_edges:
        scale, offset = 10 ** rng.uniform(-3, 3), rng.choice([0, rng.uniform(-1, 1)]) * np.ptp(cam)
        cam = ((cam + offset) * scale).astype(rng.choice([np.float64, np.float64, np.float32]))
    order = rng.permutation(NORMALIZATIONS)[: rng.integers(1, 4)]
    if make is bin_edges:
        order = np.append("max", order)
    thresholds = DEFAULT_THRESHOLDS if rng.random() < 0.5 else np.sort(rng.random(rng.integers(1, 40)))
    mask = rng.choice(np.array([0, 1, 255], np.uint8), size)

    # Ground truth near boxes that really come out, and IoU thresholds that are sometimes exactly reached.
    scores = published.score_map(cam, order[0], size)
    image = levels.quantize(scores)
    some = levels.level_boxes(image, rng.integers(0, max(1, int(image.max())), 3)).every
    boxes = rng.choice(some, rng.integers(1, 5)) + rng.integers(-2, 3, 4)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    reached = published.iou(some, boxes)
    candidates = np.append(reached[reached > 0], rng.random(2) + 1e-3).clip(max=1)
    iou_thresholds = rng.choice(candidates, rng.integers(1, 4))
    if rng.random() < 0.5:
        iou_thresholds = np.array([0.3, 0.5, 0.7])
    return Case(
        make.__name__, cam, size, tuple(order.tolist()), mask, thresholds, boxes.astype(np.int32), iou_thresholds
    )


def demo_cases() -> Iterator[Case]:
    """Every CAM of the demo under every normalization."""
    found, why_not = inputs.demo()
    if why_not:
        sys.exit(why_not)
    for each in found:
        for cam, boxes, mask in zip(each.cams, each.boxes, each.masks(), strict=True):
            for name in NORMALIZATIONS:
                order = (name, *(other for other in NORMALIZATIONS if other != name))
                yield Case(
                    each.name, cam, inputs.SIZE, order, mask, DEFAULT_THRESHOLDS, boxes, np.array([0.3, 0.5, 0.7])
                )


def row_keys(boxes: np.ndarray, counts: np.ndarray, side: int) -> np.ndarray:
    """Boxes [B, 4], ``counts`` of them a position, as sorted int64 [B]: one number for each position and box."""
    keys = np.repeat(np.arange(len(counts)), counts)
    for corner in boxes.astype(np.int64).T:
        keys = keys * (side + 1) + corner
    return np.sort(keys)


def check(case: Case, backend: str, compared: Counter) -> list[str]:
    """Evaluates one case both ways; counts in ``compared`` what was compared and returns what differed."""
    differences = []

    def compare(what, ours, theirs):
        if not np.array_equal(ours, theirs):
            differences.append(what)

    cams, how = case.cam[None], {"backend": backend}
    name, thresholds = case.normalizations[0], case.thresholds

    scores = published.score_map(case.cam, name, case.size)
    compare("score map", wsolkern.normalize(cams, name, case.size, **how)[0], scores)

    image = levels.quantize(scores)
    found, index = levels.distinct_levels(image, thresholds, only_occurring=True)
    expected = levels.level_boxes(image, found)
    counts = np.diff(np.append(expected.starts, len(expected.every)))
    first = np.array([np.flatnonzero(index == position)[0] for position in range(len(found))])
    side = max(case.size)
    ours = wsolkern.threshold_boxes(scores[None], thresholds[first], contours="all", **how)[0]
    ours_counts = np.array([len(each) for each in ours])
    compare("number of boxes", ours_counts, counts)
    compare("boxes", row_keys(np.concatenate(ours), ours_counts, side), row_keys(expected.every, counts, side))
    ours = wsolkern.threshold_boxes(scores[None], thresholds[first], contours="largest", **how)[0]
    compare("largest box", np.concatenate(ours), expected.largest)

    hits = expected.hits(case.boxes, case.iou_thresholds)[:, :, index]
    how |= {"thresholds": thresholds}
    hits_how = {**how, "iou_thresholds": case.iou_thresholds, "contours": "both"}
    ours = wsolkern.box_hits(scores[None], [case.boxes], None, **hits_how)[:, 0, 0]
    compare("hits of the score map", ours, hits)
    ours = wsolkern.box_hits(cams, [case.boxes], case.normalizations, size=case.size, **hits_how)[:, 0, 0]
    compare("hits of the CAM", ours, hits)
    for contours, alone in zip(("largest", "all"), hits, strict=True):
        ours = wsolkern.box_hits(scores[None], [case.boxes], None, **{**hits_how, "contours": contours})[0, 0]
        compare(f"hits with contours={contours!r}", ours, alone)

    histogram = published.pixel_histogram(scores, case.mask, thresholds)
    ours = wsolkern.pixel_histograms(scores[None], case.mask[None], None, **how)[0, 0]
    compare("pixel histogram of the score map", ours, histogram)
    ours = wsolkern.pixel_histograms(cams, case.mask[None], case.normalizations, size=case.size, **how)[0, 0]
    compare("pixel histogram of the CAM", ours, histogram)

    compared.update(maps=1, levels=len(found), boxes=len(expected.every), hits=hits.size, bins=histogram.size)
    return differences


def main() -> int:
    """Runs the command line; 1 if there was a difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=20000, help="how many random maps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument(
        "--first", type=int, default=0, metavar="NUMBER", help="start at this one; with --maps 1 it is the only one"
    )
    parser.add_argument("--demo", action="store_true", help="the demo's CAMs instead of random maps")
    parser.add_argument("--backend", default="auto", help="auto, cpu or reference (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the first map that differs")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    numbers = range(arguments.first, arguments.first + arguments.maps)
    cases = demo_cases() if arguments.demo else (random_case(arguments.seed, number) for number in numbers)
    compared, differing, kinds, start, told = Counter(), Counter(), Counter(), time.monotonic(), 0.0
    for number, case in enumerate(cases, 0 if arguments.demo else arguments.first):
        try:
            differences = check(case, arguments.backend, compared)
        except Exception:
            print(f"map {number} ({case.kind}) raised; it is in {write(case, arguments.out, number)}")
            raise
        kinds[case.kind] += 1
        if differences:
            where = f"; it is in {write(case, arguments.out, number)}" if not differing else ""
            print(f"map {number} ({case.kind}, {case.normalizations[0]}) differs: {', '.join(differences)}{where}")
            differing.update(differences)
        if time.monotonic() - start > told + 20:
            told = time.monotonic() - start
            print(f"{compared['maps']} maps after {told:.0f} s", file=sys.stderr)
    code = "reference" if arguments.backend == "reference" else native().__name__
    print(f"{code}, OpenCV {cv2.__version__}, numpy {np.__version__}")
    print("kinds: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
    print("compared: " + ", ".join(f"{count:,} {what}" for what, count in compared.items()))
    print(f"differences: {differing.total()}" + "".join(f", {what} {count}" for what, count in differing.items()))
    print(f"{time.monotonic() - start:.0f} s")
    return 1 if differing else 0


def write(case: Case, folder: Path, number: int) -> Path:
    """Writes a case as fuzz-difference-<number>.npz, an array a field."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fuzz-difference-{number}.npz"
    np.savez(path, **asdict(case))
    return path


if __name__ == "__main__":
    sys.exit(main())

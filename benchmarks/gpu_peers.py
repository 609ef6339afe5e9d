"""What the GPU is compared with in the same run: OpenCV's loop, wsolkern on the CPU, CuPy's labels.

In: CAMs and boxes on the host, one normalization. Out: maps a second of each, after its results were equal.
Source: benchmarks/published.py, benchmarks/levels.py; labels: scipy.ndimage, which CuPy has on the GPU.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import cv2
import numpy as np

from benchmarks import levels, published
from benchmarks.cpu_rows import IOU_THRESHOLDS
from benchmarks.harness import WrongResult
from wsolkern import ops


@dataclass
class Peer:
    """One way to do what the GPU does."""

    name: str
    num_maps: int
    """Maps it was timed on, all of them checked."""
    maps_per_second: float


def measure(
    cams: np.ndarray,  # float32 [N, h, w]
    boxes: list[np.ndarray],  # int32 [n, 4] each
    name: str,
    size: tuple[int, int],
    *,
    seconds: float,
    notes: list[str],
) -> Iterator[Peer]:
    """V2 hits by each peer, about ``seconds`` for each; ``notes`` gets what is missing here.

    Raises:
        WrongResult: A peer finds other hits than wsolkern on the CPU.
    """
    cores, how = len(os.sched_getaffinity(0)), {"size": size, "iou_thresholds": IOU_THRESHOLDS}
    hits = ops.box_hits(cams, boxes, name, **how, backend="cpu")[0]
    for number in sorted({1, cores}):
        yield _opencv(cams, boxes, name, size, number, seconds, hits)
    for number in sorted({1, cores}):
        yield _cpu(cams, boxes, name, how, number, seconds, hits.sum(axis=0))
    try:
        import cupy
        from cupyx.scipy import ndimage
    except ImportError as error:
        notes.append(f"labels per level on the GPU left out: CuPy does not load ({error})")
        return
    yield labels(cams, name, size, seconds, cupy, ndimage, cupy.cuda.Device().synchronize)


def labels(
    cams: np.ndarray,  # float32 [N, h, w]
    name: str,
    size: tuple[int, int],
    seconds: float,
    xp,
    ndimage,
    synchronize: Callable[[], None] = lambda: None,
) -> Peer:
    """The boxes of all contours at every distinct level by connected-component labels, all levels of a map at once.

    ``xp`` and ``ndimage`` are CuPy's, or NumPy's and SciPy's. From CAM to score map is not in its time, nor are IoUs.
    """
    spent, num_maps = [], 0
    for cam in cams:
        image = levels.quantize(published.score_map(cam, name, size))
        distinct, which = levels.distinct_levels(image, ops.DEFAULT_THRESHOLDS)
        on_device = xp.asarray(image), xp.asarray(distinct)
        synchronize()
        start = time.perf_counter()
        found = label_boxes(*on_device, xp, ndimage)
        synchronize()
        spent.append(time.perf_counter() - start)
        found = found.get() if hasattr(found, "get") else found
        # Scores and thresholds that come to these very levels.
        scores = np.append(0, ops.LEVEL_SCORES)[image][None]
        thresholds = (distinct + 0.5) / max(1, int(image.max()))
        for place, boxes in enumerate(ops.threshold_boxes(scores, thresholds, backend="cpu")[0] if image.any() else ()):
            some = found[found[:, 0] == place, 1:]
            if not np.array_equal(some[np.lexsort(some.T[::-1])], boxes):
                raise WrongResult(f"labels, map {num_maps}: other boxes than wsolkern's at level {distinct[place]}")
        num_maps += 1
        if sum(spent) > seconds and num_maps > 1:
            break
    # The first compiles kernels.
    return Peer(f"{xp.__name__}, labels per level", num_maps, 1 / float(np.median(spent[1:] or spent)))


def label_boxes(image, distinct, xp, ndimage):
    """The boxes of a level image [H, W] at ``distinct`` levels [K]: rows of level index, x0, y0, x1, y1.

    Outer borders are those of 8-connected components, hole borders those of 4-connected background inside the frame.
    """
    height, width = image.shape
    above = image[None] > distinct[:, None, None]
    eight, four = np.zeros((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    eight[1], four[1] = True, [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    result = []
    for mask, structure, margin in ((above, eight, 0), (~above, four, 1)):
        labelled, num = ndimage.label(mask, structure)
        at, y, x = (each.astype(xp.int32) for each in xp.nonzero(labelled))
        which = labelled[at, y, x] - 1
        low, high = xp.full((3, num), 1 << 30, xp.int32), xp.full((2, num), -1, xp.int32)
        for row, values in zip(low, (at, x, y), strict=True):
            xp.minimum.at(row, which, values)
        for row, values in zip(high, (x, y), strict=True):
            xp.maximum.at(row, which, values)
        (level, x0, y0), (x1, y1) = low, high
        x0, y0, x1, y1 = x0 - margin, y0 - margin, x1 + 1 + margin, y1 + 1 + margin
        rows = xp.stack([level, x0, y0, xp.minimum(x1, width - 1), xp.minimum(y1, height - 1)], axis=1)
        # A background that touches the frame has no border: it would begin before or end behind it.
        inside = (x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)
        result.append(rows[inside])
    return xp.concatenate(result)


def _opencv(cams, boxes, name, size, num_processes, seconds, hits) -> Peer:
    """The published loop, each process on maps of its own."""
    parts = [slice(index, None, num_processes) for index in range(min(num_processes, len(cams)))]
    work = [(cams[part], boxes[part], name, size, seconds) for part in parts]
    if num_processes == 1:
        done = [_published_hits(*work[0])]
    else:
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
            done = list(pool.map(_published_hits, *zip(*work, strict=True)))
    for part, (found, _) in zip(parts, done, strict=True):
        if not np.array_equal(found, hits[part][: len(found)]):
            raise WrongResult("OpenCV's loop finds other hits than wsolkern on the CPU")
    num_maps = sum(len(found) for found, _ in done)
    return Peer(f"OpenCV's loop, {_cores(num_processes)}", num_maps, num_maps / max(spent for _, spent in done))


def _published_hits(cams, boxes, name, size, seconds) -> tuple[np.ndarray, float]:
    """Hits bool [n, D, T] of as many maps as there is time for, and the seconds that they took."""
    cv2.setNumThreads(1)
    found, start = [], time.perf_counter()
    for cam, truth in zip(cams, boxes, strict=True):
        scores = published.score_map(cam, name, size)
        found.append(published.hits(scores, truth, ops.DEFAULT_THRESHOLDS, IOU_THRESHOLDS, "all"))
        if time.perf_counter() - start > seconds:
            break
    return np.stack(found), time.perf_counter() - start


def _cpu(cams, boxes, name, how, num_threads, seconds, counts) -> Peer:
    """wsolkern's CPU engine."""
    with _threads(num_threads):
        found, spent = ops.count_box_hits(cams, boxes, name, **how, backend="cpu")[0][0], []
        while not spent or sum(spent) < seconds:
            start = time.perf_counter()
            ops.count_box_hits(cams, boxes, name, **how, backend="cpu")
            spent.append(time.perf_counter() - start)
    if not np.array_equal(found, counts):
        raise WrongResult("wsolkern on the CPU: counts are not the sum of hits")
    return Peer(f"wsolkern on the CPU, {_cores(num_threads)}", len(cams), len(cams) / float(np.median(spent)))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = os.environ.get("WSOLKERN_NUM_THREADS")
    os.environ["WSOLKERN_NUM_THREADS"] = str(number)
    try:
        yield
    finally:
        del os.environ["WSOLKERN_NUM_THREADS"]
        if before is not None:
            os.environ["WSOLKERN_NUM_THREADS"] = before


def _cores(number: int) -> str:
    return "1 core" if number == 1 else f"{number} cores"

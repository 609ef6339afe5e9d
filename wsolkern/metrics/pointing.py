"""Where a map points, and how much of it lies on the object: the pointing game and the energy pointing game.

In: maps or score maps at the evaluation size, ground-truth boxes or masks. Out: points, squared distances, fractions.
Source: pointing game: Zhang et al., arXiv 1608.00507 (Excitation Backprop); energy: Wang et al., arXiv 1910.01279
(Score-CAM).
"""

from collections.abc import Sequence

import numpy as np

TOLERANCE = 15
"""The margin around the object that Zhang et al. allow, in pixels."""

_SCALE = float(1 << 36)  # of a score in the integers whose sums are energies
_NOWHERE = np.iinfo(np.int64).max


def maxima(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each map is largest.

    Args:
        maps: float64 [N, H, W].

    Returns:
        (points, exists): int64 [N, 2], x y of the first pixel in raster order that has the maximum, and bool [N]: a map
        that is constant or holds a NaN has no such point, which is -1 -1 then.
    """
    flat = maps.reshape(len(maps), -1)
    place = flat.argmax(axis=1)  # that of a NaN, if there is one
    highest = flat[np.arange(len(flat)), place]
    exists = np.asarray(~np.isnan(highest) & (flat.min(axis=1) != highest))
    points = np.stack([place % maps.shape[2], place // maps.shape[2]], axis=1)
    return np.where(exists[:, None], points, -1), exists


def distances_to_boxes(points: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Squared distances of points, int64 [N, 2], to the nearest of each map's boxes, inclusive corners: int64 [N]."""
    found = []
    for (x, y), own in zip(points.tolist(), boxes, strict=True):
        x0, y0, x1, y1 = np.asarray(own, np.int64).T
        across, down = np.maximum(0, np.maximum(x0 - x, x - x1)), np.maximum(0, np.maximum(y0 - y, y - y1))
        found.append(int((across**2 + down**2).min()))
    return np.array(found, np.int64)


def distances_to_pixels(points: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Squared distances of points, int64 [N, 2], to the nearest pixel of objects, bool [N, H, W]: int64 [N]."""
    found = []
    for (x, y), mask in zip(points.tolist(), objects, strict=True):
        ys, xs = np.nonzero(mask)
        found.append(int(((xs - x) ** 2 + (ys - y) ** 2).min()) if len(xs) else _NOWHERE)
    return np.array(found, np.int64)


def energies(
    maps: np.ndarray, affine: np.ndarray, objects: np.ndarray, counted: np.ndarray | None = None
) -> np.ndarray:
    """The part of each score map's sum that lies on the object, for every normalization.

    A score counts as ``int(score * 2**36)``, so that sums are integers: the same for any order and number of threads.

    Args:
        maps: float64 [N, H, W].
        affine: What makes scores of them, ``clip((map - offset) / divisor, 0, 1)``: float64 [N, M, 2], offset and
            divisor, both 0 where there is no score map; as from :func:`wsolkern.ops.affine`.
        objects: Which pixels are the object's, bool [N, H, W].
        counted: Which pixels count at all, bool [N, H, W]; None: all.

    Returns:
        float64 [M, N], fractions; 0 for a score map whose counted scores are all zero.
    """
    found = np.zeros(affine.shape[1::-1])
    for n, (each, inside) in enumerate(zip(maps, objects, strict=True)):
        outside = ~inside if counted is None else counted[n] & ~inside
        pixels = np.concatenate([each[inside], each[outside]])  # the object's first
        num_inside = int(np.count_nonzero(inside))
        scores, whole = np.empty_like(pixels), np.empty(len(pixels), np.int64)
        for m, (offset, divisor) in enumerate(affine[n].tolist()):
            if divisor == 0:
                continue
            np.subtract(pixels, offset, out=scores)
            np.divide(scores, divisor, out=scores)
            np.clip(scores, 0, 1, out=scores)
            np.multiply(scores, _SCALE, out=scores)
            np.copyto(whole, scores, casting="unsafe")
            on_object = whole[:num_inside].sum()
            total = on_object + whole[num_inside:].sum()
            found[m, n] = on_object / total if total else 0.0
    return found


def painted(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels of each map's boxes (inclusive corners, cut off at the frame), bool [N, H, W]."""
    pixels = np.zeros((len(boxes), *size), bool)
    for own, out in zip(boxes, pixels, strict=True):
        for x0, y0, x1, y1 in np.asarray(own).tolist():
            out[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
    return pixels

"""Where a map points: the pointing game.

In: maps or score maps at the evaluation size, ground-truth boxes or masks; numpy arrays or torch tensors. Out: points,
and which are on the object, of the same kind.
Source: Zhang et al., arXiv 1608.00507 (Excitation Backprop).
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsolkern.ops import inputs
from wsolkern.ops.inputs import Array

TOLERANCE = 15
"""The margin around the object that Zhang et al. allow, in pixels."""


def maxima(maps: Array) -> tuple[Array, Array]:
    """Where each map is largest.

    Args:
        maps: float64 [N, H, W].

    Returns:
        (points, exists): int64 [N, 2], x y of the first pixel in raster order that has the maximum, and bool [N]: a map
        that is constant or holds a NaN has no such point, which is -1 -1 then.
    """
    library, flat = _library(maps), maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    place, width = flat.argmax(1), maps.shape[2]
    highest = flat[_like(maps, np.arange(len(maps))), place]  # NaN, if there is one
    exists = (highest == highest) & (library.amin(flat, 1) != highest)
    points = library.stack([place % width, place // width], 1)
    return library.where(exists[:, None], points, -1), exists


def near_boxes(points: Array, boxes: Sequence[Any], tolerance: int) -> Array:
    """Which points are at most so many pixels from one of their map's boxes.

    Args:
        points: int64 [N, 2], as from :func:`maxima`; -1 -1 is no point and near to nothing.
        boxes: Per map integers [N_i, 4], x0 y0 x1 y1, inclusive.
        tolerance: See above.

    Returns:
        bool [N].

    Raises:
        MapError: A box is not as above.
    """
    rows, offsets = inputs.check_boxes(boxes, len(points))
    owner = _like(points, np.repeat(np.arange(len(points)), np.diff(offsets)))
    library, (x0, y0, x1, y1) = _library(points), _like(points, rows.T.astype(np.int64))
    x, y = points[owner, 0], points[owner, 1]
    across = library.clip(library.maximum(x0 - x, x - x1), 0, None)
    down = library.clip(library.maximum(y0 - y, y - y1), 0, None)
    near = across**2 + down**2 <= tolerance**2
    each: Array = ((owner == _like(points, np.arange(len(points)))[:, None]) & near).any(1) & (points[:, 0] >= 0)
    return each


def near_pixels(points: Array, objects: Array, tolerance: int) -> Array:
    """Which points, as for :func:`near_boxes`, are that near to a pixel of their map's object, bool [N, H, W]."""
    xs, ys = (_like(points, np.arange(side)) for side in (objects.shape[2], objects.shape[1]))
    squares = ((ys - points[:, 1:]) ** 2)[:, :, None] + ((xs - points[:, :1]) ** 2)[:, None, :]
    near: Array = ((squares <= tolerance**2) & objects).any(1).any(1) & (points[:, 0] >= 0)
    return near


def painted(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels of each map's boxes (inclusive corners, cut off at the frame), bool [N, H, W]."""
    pixels = np.zeros((len(boxes), *size), bool)
    for own, out in zip(boxes, pixels, strict=True):
        for x0, y0, x1, y1 in np.asarray(own).tolist():
            out[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
    return pixels


def _library(value: Array) -> Any:
    """What has the functions for it: their names, and what they do, are the same in numpy and torch."""
    return sys.modules["torch"] if inputs.is_tensor(value) else np


def _like(value: Array, array: np.ndarray) -> Array:
    """A numpy array as it is, or as a tensor where ``value`` is one."""
    return inputs.to_device(array, value.device) if inputs.is_tensor(value) else array

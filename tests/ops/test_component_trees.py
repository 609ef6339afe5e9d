"""Boxes of all thresholds at once, from scikit-image's component tree: the native core's idea, and none of its code.

In: score maps of the table of cases. Out: the same boxes as labelling each threshold's foreground (the reference), and
as the native core.
Source: skimage.morphology.max_tree, by Carlinet and Géraud, IEEE TIP 23 (2014), section III.
"""

import numpy as np
import pytest
from cases import CASES, FEW_CASES, evaluation_size
from shared import slow_but
from skimage.morphology import max_tree

from wsolkern import ops

THRESHOLDS = np.arange(0, 100, 3) / 100


def components(levels: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that a threshold cuts out of an image of levels.

    Args:
        levels: int [H, W].
        connectivity: 1 for four neighbours of a pixel, 2 for eight.

    Returns:
        The lowest level of each component, int [C], the level of what it grows into (-1 for the whole image), and its
        box, int [C, 4], x0 y0 x1 y1 with x1 and y1 one past the last pixel.
    """
    padded = np.pad(levels + 1, 1)  # max_tree takes no image of less than three rows or columns; the frame is the root
    parents, order = (each.ravel() for each in max_tree(padded, connectivity=connectivity))
    rows, columns = np.divmod(np.arange(padded.size), padded.shape[1])
    low, high = np.stack([columns, rows], axis=1), np.stack([columns, rows], axis=1) + 1
    for pixel in order[::-1]:  # from the leaves to the root
        parent = parents[pixel]
        low[parent], high[parent] = np.minimum(low[parent], low[pixel]), np.maximum(high[parent], high[pixel])
    level = padded.ravel() - 1
    nodes = np.flatnonzero(level != level[parents])
    return level[nodes], level[parents[nodes]], np.concatenate([low, high], axis=1)[nodes] - 1


def boxes_of_trees(levels: np.ndarray, thresholds: np.ndarray) -> list[np.ndarray]:
    """Per threshold int32 [B, 4], as ``ops.threshold_boxes`` gives them for contours "all"."""
    height, width = levels.shape
    level, below, outer = components(levels, 2)
    hole_level, hole_below, holes = components(255 - levels, 1)
    inside = (holes[:, :2] > 0).all(axis=1) & (holes[:, 2] < width) & (holes[:, 3] < height)
    found = []
    for threshold in thresholds:
        least = int(threshold * levels.max())  # foreground is above it
        above = outer[(level > least) & (below <= least)]
        enclosed = holes[(hole_level > 254 - least) & (hole_below <= 254 - least) & inside] + [-1, -1, 1, 1]
        each = np.minimum(np.concatenate([above, enclosed]), [width, height, width - 1, height - 1])
        each = each if len(above) else np.zeros((1, 4), int)
        found.append(each[np.lexsort(each.T[::-1])].astype(np.int32))
    return found


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_boxes_are_those_of_a_component_tree(name, backend):
    f = ops.resize(CASES[name][None], evaluation_size(name), backend="reference")
    scores = f if f.min() >= 0 and f.max() <= 1 else ops.normalize(f, "minmax", backend="reference")
    (found,) = ops.threshold_boxes(scores, THRESHOLDS, contours="all", backend=backend)
    expected = boxes_of_trees((scores[0] * 255).astype(np.uint8).astype(int), THRESHOLDS)
    for threshold, each, other in zip(THRESHOLDS, found, expected, strict=True):
        np.testing.assert_array_equal(each, other, err_msg=f"threshold {threshold}")

"""OpenCV on the distinct levels only: the fair peer, and the oracle that large checks can afford.

In: one score map. Out: the boxes of every contour per level and of the largest one, and hits per threshold.
Source: Choe et al., arXiv 2007.04178, section 4: a threshold acts through the integer level it selects, 255 at most.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.published import contour_box, iou


@dataclass(frozen=True)
class LevelBoxes:
    """The boxes of one score map at some levels."""

    levels: np.ndarray  # int [K], ascending
    largest: np.ndarray  # int64 [K, 4], the contour of largest area
    every: np.ndarray  # int64 [B, 4], all contours, level after level
    starts: np.ndarray  # int64 [K], where each level begins in `every`

    def hits(self, truth: np.ndarray, iou_thresholds: np.ndarray) -> np.ndarray:
        """Hits of the largest and of all contours, bool [2, D, K]."""
        largest = iou(self.largest, truth).max(axis=1)
        every = np.maximum.reduceat(iou(self.every, truth).max(axis=1), self.starts)
        return np.stack([largest, every])[:, None] >= np.asarray(iou_thresholds)[:, None]


def quantize(scores: np.ndarray) -> np.ndarray:
    """Score map to levels, uint8."""
    return (scores * 255).astype(np.uint8)


def distinct_levels(
    image: np.ndarray,  # uint8 [H, W]
    thresholds: np.ndarray,  # float64 [T]
    *,
    only_occurring: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # int [K] ascending, int [T]
    """The levels that thresholds select, and the position among them of each threshold's level.

    ``only_occurring`` merges levels that select the same pixels: each is replaced by the largest value of the image
    that does not exceed it, or -1 if that selects everything.
    """
    highest = int(image.max())
    levels, index = np.unique([int(threshold * highest) for threshold in thresholds], return_inverse=True)
    if not only_occurring:
        return levels, index
    present = np.append(-1, np.unique(image))
    levels, again = np.unique(present[np.searchsorted(present, levels, side="right") - 1], return_inverse=True)
    return levels, again[index]


def level_boxes(image: np.ndarray, levels: np.ndarray) -> LevelBoxes:
    """Boxes of a level image uint8 [H, W] at ``levels``, one contour search each."""
    largest, every, starts = [], [], []
    for level in np.asarray(levels).tolist():
        starts.append(len(every))
        found, _ = cv2.findContours((image > level).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        boxes = [contour_box(each, image.shape) for each in found] or [(0, 0, 0, 0)]
        areas = [cv2.contourArea(each) for each in found] if len(found) > 1 else [0]
        largest.append(boxes[areas.index(max(areas))])
        every += boxes
    return LevelBoxes(np.asarray(levels), np.array(largest), np.array(every), np.array(starts))


def hits(
    scores: np.ndarray,  # float64 [H, W]
    truth: np.ndarray,  # int [m, 4]
    thresholds: np.ndarray,  # float64 [T]
    iou_thresholds: np.ndarray,  # float64 [D]
    *,
    only_occurring: bool = False,
) -> np.ndarray:  # bool [2, D, T]
    """Hits of the largest and of all contours: what the published loop finds, from at most 255 contour searches."""
    image = quantize(scores)
    levels, index = distinct_levels(image, thresholds, only_occurring=only_occurring)
    return level_boxes(image, levels).hits(truth, iou_thresholds)[:, :, index]

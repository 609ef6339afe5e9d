"""The published evaluation, written again step by step on OpenCV: one binary image and one contour search a threshold.

In: one CAM or score map and its ground truth. Out: score maps, hits per IoU threshold and threshold, histograms.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221, equations 3-6 (normalizations).

It does the same work as the published code: every threshold is binarized and traced, once for the largest contour and
once for all of them. Where that code repeats itself for nothing (checks, a maximum taken anew for every threshold),
this one does not, so ratios against it are on the low side.
"""

import cv2
import numpy as np

from wsolkern.normalization import Normalization


def score_map(cam: np.ndarray, normalization: str | Normalization, size: tuple[int, int]) -> np.ndarray:
    """A CAM [h, w] resized to ``size`` (height, width) and normalized, float64 [H, W]; zeros if degenerate."""
    normalization = Normalization.parse(normalization)
    cam = cam.astype(np.float64)
    if cam.shape != tuple(size):
        cam = cv2.resize(cam, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    if np.isnan(cam).any() or cam.min() == cam.max():
        return np.zeros(size)

    def order_statistic(p):
        return np.sort(cam, axis=None)[int(cam.size * p)]

    if normalization.name == "max":
        cam = np.maximum(0, cam)
    else:
        cam = cam - (cam.min() if normalization.ivr is None else order_statistic(normalization.ivr))
    if normalization.ivr is not None:
        cam = np.maximum(0, cam)
    divisor = cam.max() if normalization.pas is None else order_statistic(normalization.pas)
    if divisor == 0:
        return np.zeros(size)
    cam = cam / divisor
    return cam if normalization.pas is None else np.minimum(1, cam)


def contour_box(contour: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A contour's box x0, y0, x1, y1: x1 and y1 one past the contour unless the frame clips them."""
    x, y, width, height = cv2.boundingRect(contour)
    return x, y, min(x + width, size[1] - 1), min(y + height, size[0] - 1)


def threshold_boxes(scores: np.ndarray, thresholds: np.ndarray, contours: str) -> list[np.ndarray]:
    """The boxes of one score map for every threshold, int64 [n, 4] each; ``contours`` is "largest" or "all"."""
    image = (scores * 255).astype(np.uint8)
    highest = np.max(image)
    result = []
    for threshold in thresholds:
        _, binary = cv2.threshold(image, int(threshold * highest), 255, cv2.THRESH_BINARY)
        found, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if not found:
            result.append(np.zeros((1, 4), np.int64))
            continue
        if contours == "largest":
            found = [max(found, key=cv2.contourArea)]
        result.append(np.array([contour_box(each, image.shape) for each in found]))
    return result


def iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of each box [n, 4] with each ground-truth box [m, 4], corners inclusive, float64 [n, m]."""

    def area(low, high):
        return np.prod(np.maximum(0, high - low + 1), axis=-1)

    ours, theirs = boxes[:, None], truth[None, :]
    shared = area(np.maximum(ours[..., :2], theirs[..., :2]), np.minimum(ours[..., 2:], theirs[..., 2:]))
    union = area(ours[..., :2], ours[..., 2:]) + area(theirs[..., :2], theirs[..., 2:]) - shared
    return np.where(union <= 0, 0.0, shared / np.where(union <= 0, 1, union))


def hits(
    scores: np.ndarray,  # float64 [H, W]
    truth: np.ndarray,  # int [m, 4]
    thresholds: np.ndarray,  # float64 [T]
    iou_thresholds: np.ndarray,  # float64 [D]
    contours: str,  # "largest" or "all"
) -> np.ndarray:  # bool [D, T]
    """Which thresholds localize the object, for every IoU threshold."""
    boxes = threshold_boxes(scores, thresholds, contours)
    best = iou(np.concatenate(boxes), truth).max(axis=1)
    starts = np.cumsum([0, *(len(each) for each in boxes[:-1])])
    return np.maximum.reduceat(best, starts) >= np.asarray(iou_thresholds)[:, None]


def pixel_histogram(scores: np.ndarray, mask: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Score histograms of the object's and the background's pixels, int64 [2, T + 2]."""
    edges = np.append(thresholds, [1.0, 2.0, 3.0])
    return np.stack([np.histogram(scores[mask == value], bins=edges)[0] for value in (1, 0)])

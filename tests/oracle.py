"""The second oracle: the published evaluation written with OpenCV, threshold by threshold.

In: one map, float64 [h, w], and one normalization, threshold or pair of boxes. Out: what OpenCV and numpy make of it.
Source: Choe et al., arXiv 2007.04178, section 4.2; Kim et al., arXiv 2107.13221, equations 3-6. It shares no code with
wsolkern and takes no shortcut.
"""

from functools import cache

import cv2
import numpy as np
import pytest


@cache
def _weight() -> float:
    """One weight of a resize."""
    return cv2.resize(np.eye(2)[:1], (6, 1), interpolation=cv2.INTER_CUBIC)[0, 2]


def skip_where_opencv_fuses() -> None:
    """Skips a test where cv2.resize has other weights than on x86-64, from fused multiply-adds, as on aarch64."""
    if _weight() != float.fromhex("0x1.5ed096p-1"):
        pytest.skip(f"OpenCV resizes otherwise here than on x86-64, with a weight of {_weight().hex()}")


def resize(f: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float64 [H, W]."""
    skip_where_opencv_fuses()
    height, width = size
    return cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC)


def score_map(f: np.ndarray, normalization: str) -> np.ndarray | None:
    """float64 [H, W] of a map at its evaluation size; None where the formula comes to no number."""
    if np.isnan(f).any() or f.min() == f.max():
        return None
    f = f.astype(np.float64)
    for part in normalization.split("+"):
        name, _, percentile = part.partition(":")
        rank = int(f.size * float(percentile or 0))
        with np.errstate(all="ignore"):
            if name == "ivr":
                f -= np.sort(f.flatten())[rank]
                f = np.maximum(0, f)
            elif name == "max":
                f = np.maximum(0, f)
            elif part == normalization:
                f -= f.min()
            if name == "pas":
                f = np.minimum(1, f / np.sort(f.flatten())[rank])
            elif part == normalization:
                f /= f.max()
    return None if np.isnan(f).any() else f


def boxes(scores: np.ndarray, threshold: float, largest: bool) -> np.ndarray:
    """int32 [B, 4] in the order of OpenCV's list of contours."""
    image = (scores * 255).astype(np.uint8)
    _, binary = cv2.threshold(image, int(threshold * image.max()), 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros((1, 4), np.int32)
    if largest:
        contours = [max(contours, key=cv2.contourArea)]
    height, width = image.shape
    corners = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        corners.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
    return np.array(corners, np.int32)


def iou(a, b) -> float:
    """Intersection over union of two boxes, corners inclusive."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    intersection = max(0, width) * max(0, height)
    union = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)) - intersection
    return intersection / union if union > 0 else 0.0


def hits(scores: np.ndarray, truth: np.ndarray, thresholds, iou_thresholds, largest: bool) -> np.ndarray:
    """bool [D, T]."""
    out, known = np.zeros((len(iou_thresholds), len(thresholds)), bool), {}
    for t, threshold in enumerate(thresholds):
        found = boxes(scores, threshold, largest)
        key = found.tobytes()
        if key not in known:
            known[key] = max(iou(a, b) for a in found.tolist() for b in truth.tolist())
        out[:, t] = known[key] >= np.asarray(iou_thresholds)
    return out


def histograms(scores: np.ndarray, mask: np.ndarray, thresholds) -> np.ndarray:
    """int64 [2, T + 2]: object pixels, background pixels."""
    edges = np.append(thresholds, [1.0, 2.0, 3.0])
    return np.stack([np.histogram(scores[mask == value].astype(float), edges)[0] for value in (1, 0)])

"""The published box rules written with OpenCV and scikit-image, threshold by threshold.

In: one raw CAM [h, w], a threshold, ground-truth boxes. Out: the box that each rule makes, and which IoUs it reaches.
Source: for each rule its own paper, as wsolkern/box_rule.py names it. It shares no code with wsolkern and takes no
shortcut. OpenCV resizes without Intel's IPP here, whose bilinear weights differ from its own.
"""

import cv2
import numpy as np
import skimage.measure
from oracle import skip_where_opencv_fuses

cv2.ipp.setUseIPP(False)


def bilinear(cam, size):
    """float32 [H, W]."""
    skip_where_opencv_fuses()
    return cv2.resize(np.asarray(cam, np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def min_max(f):
    """float32 in [0, 1]; None of a map that is constant or no number."""
    low, high = f.min(), f.max()
    return None if not high > low else (f - low) / (high - low)


def nested_contours(binary):
    """Of an 8-bit image whatever is not 0, in OpenCV's order."""
    return cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]


def box_of_contour(contour):
    """Without a look at where the image ends."""
    x, y, w, h = cv2.boundingRect(contour)
    return x, y, x + w, y + h


def ts_cam(cam, size, tau):
    """8-bit levels, what is at most a fraction of their maximum set to zero, the contour of largest area."""
    scores = min_max(bilinear(cam, size))
    if scores is None:
        return 0, 0, 1, 1
    gray = (scores * 255.0).astype(np.uint8)
    _, kept = cv2.threshold(gray, int(tau * np.max(gray)), 255, cv2.THRESH_TOZERO)
    contours = nested_contours(kept)
    return box_of_contour(max(contours, key=cv2.contourArea)) if contours else (0, 0, 1, 1)


def rethinking(cam, size, tau):
    """The same with the 90th percentile of the levels in place of their maximum."""
    scores = min_max(bilinear(cam, size))
    if scores is None:
        return 0, 0, 0, 0
    gray = (scores * 255.0).astype(np.uint8)
    _, kept = cv2.threshold(gray, tau * np.percentile(gray, 90), 255, cv2.THRESH_BINARY)
    contours = nested_contours(kept)
    return box_of_contour(max(contours, key=cv2.contourArea)) if contours else (0, 0, 0, 0)


def most_pixels(mask):
    """The box of the region of most pixels, of several the first."""
    regions = skimage.measure.regionprops(skimage.measure.label(mask, connectivity=2))
    if not regions:
        return 0, 0, 0, 0
    y0, x0, y1, x1 = max(regions, key=lambda region: region.area).bbox
    return x0, y0, x1, y1


def sat(cam, size, tau):
    """The region of most pixels above a fixed score."""
    scores = min_max(bilinear(cam, size))
    return (0, 0, 0, 0) if scores is None else most_pixels(scores > np.float32(tau))


def psol(cam, size, tau):
    """The region of most positive pixels; a threshold other than 0 is a fraction of the largest value."""
    f = bilinear(cam, size)
    if not f.max() > 0 or f.min() == f.max() or np.isnan(f).any():
        return 0, 0, 0, 0
    if tau == 0:
        return most_pixels(f > 0)
    return most_pixels(np.maximum(f, 0) / f.max() > np.float32(tau))


BOXES = {"ts-cam": ts_cam, "rethinking": rethinking, "sat": sat, "bas": sat, "psol": psol}


def iou(a, b, one):
    """Of two boxes whose sides are x1 - x0 + one."""
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + one for i in (0, 1)]
    common = max(0, sides[0]) * max(0, sides[1])
    areas = [(box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)]
    return common / (sum(areas) - common) if sum(areas) > common else 0.0


def hits(name, cam, size, truth, thresholds, iou_thresholds):
    """bool [D, T]."""
    one = 0 if name == "psol" else 1
    best = [max(iou(BOXES[name](cam, size, tau), box, one) for box in truth.tolist()) for tau in thresholds.tolist()]
    return np.array(best) >= np.array(iou_thresholds)[:, None]

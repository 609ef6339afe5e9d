"""The operations: from class activation maps to hits and histograms, on the backend that runs fastest here.

In: numpy arrays or torch tensors. Out: the same kind, on the same device; every backend returns the same bits.
Source: each file names its own; the plain ``..._reference`` twin stands beside each operation and is what it equals.
"""

from wsolkern.ops.boxes import box_hits, count_box_hits, threshold_boxes
from wsolkern.ops.constants import DEFAULT_THRESHOLDS, LEVEL_SCORES
from wsolkern.ops.cutting import cut_points, digitize
from wsolkern.ops.histograms import count_pixels, pixel_histograms
from wsolkern.ops.normalizing import affine, normalize
from wsolkern.ops.resizing import resize

__all__ = [
    "DEFAULT_THRESHOLDS",
    "LEVEL_SCORES",
    "affine",
    "box_hits",
    "count_box_hits",
    "count_pixels",
    "cut_points",
    "digitize",
    "normalize",
    "pixel_histograms",
    "resize",
    "threshold_boxes",
]

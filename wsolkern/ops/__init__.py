"""The operations: from class activation maps to hits and histograms, on the backend that runs fastest here.

In: numpy arrays or torch tensors. Out: the same kind, on the same device; every backend returns the same bits.
Source: each file names its own; the plain ``..._reference`` twin stands beside each operation and is what it equals.
"""

from wsolkern.ops.boxes import Localization, box_hits, box_ious, count_box_hits, localize, threshold_boxes
from wsolkern.ops.constants import DEFAULT_THRESHOLDS, LEVEL_SCORES
from wsolkern.ops.cutting import cut_points, digitize
from wsolkern.ops.histograms import count_pixels, pixel_histograms
from wsolkern.ops.normalizing import affine, normalize
from wsolkern.ops.resizing import resize

__all__ = [
    "DEFAULT_THRESHOLDS",
    "LEVEL_SCORES",
    "Localization",
    "affine",
    "box_hits",
    "box_ious",
    "count_box_hits",
    "count_pixels",
    "cut_points",
    "digitize",
    "localize",
    "normalize",
    "pixel_histograms",
    "resize",
    "threshold_boxes",
]

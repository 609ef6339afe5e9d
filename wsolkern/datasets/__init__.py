"""Data sets in the field's own files: metadata folders, images, masks, and folders of score maps or CAMs.

In: `metadata/<data set>/<split>/*.txt`, images, masks, one map file an image. Out: ids, boxes, masks, batches.
Source: the file layout of Choe et al., arXiv 2007.04178; any data set in that layout, there is no list of names.
"""

from wsolkern.datasets.images import ImageFolder, Preprocessing, class_folders
from wsolkern.datasets.maps import MapFolder
from wsolkern.datasets.masks import MaskFolder, load_mask, without_missing_ignore
from wsolkern.datasets.metadata import Metadata, load_metadata

__all__ = [
    "ImageFolder",
    "MapFolder",
    "MaskFolder",
    "Metadata",
    "Preprocessing",
    "class_folders",
    "load_mask",
    "load_metadata",
    "without_missing_ignore",
]

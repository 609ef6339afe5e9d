"""Data sets in the field's own files: metadata folders, masks, and folders of score maps or CAMs.

In: `metadata/<data set>/<split>/*.txt`, mask images, one map file an image. Out: ids, boxes, masks, batches of maps.
Source: the file layout of Choe et al., arXiv 2007.04178; any data set in that layout, there is no list of names.
"""

from wsolkern.datasets.maps import MapFolder
from wsolkern.datasets.masks import load_mask
from wsolkern.datasets.metadata import Metadata, load_metadata

__all__ = ["MapFolder", "Metadata", "load_mask", "load_metadata"]

"""Class activation maps: how they are formed, and the store that keeps those of one run.

In: features and class weights; or maps with their image ids. Out: CAMs [N, h, w]; a folder that streams them back.
Source: Zhou et al., arXiv 1512.04150 (CAM); Kim et al., arXiv 2107.13221 (NWC, and what the runs are compared by).
"""

from wsolkern.cams.activation import class_activation_maps
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.merging import merge_stores
from wsolkern.cams.records import Records
from wsolkern.cams.store import CamSource, CamStore, open_maps
from wsolkern.cams.writer import CamWriter, repair_store

__all__ = [
    "CamSource",
    "CamStore",
    "CamWriter",
    "Manifest",
    "Records",
    "class_activation_maps",
    "merge_stores",
    "open_maps",
    "repair_store",
]

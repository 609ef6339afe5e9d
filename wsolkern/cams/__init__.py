"""Class activation maps: how they are formed, from any classifier, and the store that keeps those of one run.

In: features and class weights; a model and images; or maps with their ids. Out: CAMs [N, h, w]; a folder of them.
Source: Zhou et al., arXiv 1512.04150 (CAM); Bae et al., ECCV 2020 (NWC); Kim et al., arXiv 2107.13221 (normalization).
"""

from wsolkern.cams.activation import Look, class_activation_maps
from wsolkern.cams.extraction import extract, outdated
from wsolkern.cams.looks import NamedCams, OwnCams, PooledCams, cam_model
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.merging import merge_stores
from wsolkern.cams.named import CAM_METHODS, CamMethod, check_cam, named_cams
from wsolkern.cams.ranks import ALONE, Ranks, shared_writer
from wsolkern.cams.records import Records
from wsolkern.cams.stamps import FileStamp, stamp
from wsolkern.cams.store import CamSource, CamStore, open_maps
from wsolkern.cams.writer import CamWriter, repair_store

__all__ = [
    "ALONE",
    "CAM_METHODS",
    "CamMethod",
    "CamSource",
    "CamStore",
    "CamWriter",
    "FileStamp",
    "Look",
    "Manifest",
    "NamedCams",
    "OwnCams",
    "PooledCams",
    "Ranks",
    "Records",
    "cam_model",
    "check_cam",
    "class_activation_maps",
    "extract",
    "merge_stores",
    "named_cams",
    "open_maps",
    "outdated",
    "repair_store",
    "shared_writer",
    "stamp",
]

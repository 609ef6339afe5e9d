"""The images that a run learns from, and the split it is measured on.

In: a data root, a folder of splits. Out: ids and classes of train, the val split with its boxes or masks.
Source: the file layout of Choe et al., arXiv 2007.04178; train is train-weaksup, val is train-fullsup.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from wsolkern.datasets import Metadata, load_metadata
from wsolkern.errors import DatasetError


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A data set to train on."""

    root: Path
    """The data root, of both splits."""
    labels: dict[str, int]
    """Image id -> class of train, in the order of image_ids.txt."""
    val: Metadata
    """The val split; every image has a class."""
    mask_root: Path | None = None
    """Folder that the mask paths of val start from; None for boxes."""

    @classmethod
    def load(
        cls,
        root: str | os.PathLike,
        metadata: str | os.PathLike,
        mask_root: str | os.PathLike | None = None,
        *,
        box_format: str = "xyxy",
        box_rounding: str = "none",
    ) -> "TrainingData":
        """Reads ``metadata/train`` (image_ids.txt and class_labels.txt; no boxes are needed) and ``metadata/val``.

        ``box_format`` and ``box_rounding`` are of the boxes of val, as :func:`load_metadata` takes them.

        Raises:
            DatasetError: A file is missing or damaged, or an image has no class.
        """
        train = load_metadata(Path(metadata) / "train", localization=False)
        val = load_metadata(Path(metadata) / "val", box_format=box_format, box_rounding=box_rounding)
        for split in (train, val):
            if not split.class_labels:
                raise DatasetError(f"{split.folder}/class_labels.txt: needed for training, found no class")
        return cls(Path(root), dict(train.class_labels), val, None if mask_root is None else Path(mask_root))

    @property
    def num_classes(self) -> int:
        """One more than the largest class."""
        return 1 + max(*self.labels.values(), *self.val.class_labels.values())

    def sha256(self) -> str:
        """What ids, classes, boxes and mask paths are; pixels and folders do not count."""
        boxes = {image_id: each.tolist() for image_id, each in self.val.boxes.items()}
        val = [
            dict(self.val.class_labels),
            dict(self.val.image_sizes),
            boxes,
            self.val.mask_paths,
            self.val.ignore_paths,
        ]
        return hashlib.sha256(json.dumps([self.labels, *val]).encode()).hexdigest()

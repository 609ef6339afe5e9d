"""The images that a run learns from, and the split it is measured on.

In: a data root, a folder of splits. Out: ids and classes of train, the val split with its boxes or masks.
Source: the file layout of Choe et al., arXiv 2007.04178; train is train-weaksup, val is train-fullsup.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsolkern.datasets import Metadata, load_metadata
from wsolkern.datasets.labels import check_labels, line_of
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
    folder: Path | None = None
    """The folder of train's metadata, for messages."""
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height in pixels of train's images, where its image_sizes.txt lists them."""
    any_image_size: bool = False
    """Image files need not have the sizes that are listed."""

    @classmethod
    def load(
        cls,
        root: str | os.PathLike,
        metadata: str | os.PathLike,
        mask_root: str | os.PathLike | None = None,
        *,
        any_image_size: bool = False,
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
        data = cls(
            Path(root),
            dict(train.class_labels),
            val,
            None if mask_root is None else Path(mask_root),
            Path(train.folder),
            train.image_sizes,
            any_image_size,
        )
        data.expect_classes(None)
        return data

    def expect_classes(self, num_classes: int | None) -> None:
        """Does nothing if all classes are in [0, num_classes), and those of train can be those of val.

        Raises:
            DatasetError: They are not; the message names file, line and image.
        """
        for folder, labels in ((self.folder, self.labels), (self.val.folder, self.val.class_labels)):

            def place(image_id: str, folder: Path | None = folder) -> str:
                return "train" if folder is None else line_of(Path(folder) / "class_labels.txt", image_id)

            check_labels(labels, labels, num_classes, place=place)
        train, val = set(self.labels.values()), set(self.val.class_labels.values())
        for step in (1, -1):
            if len(train) > 1 and not val <= train and {each + step for each in val} == train:
                raise DatasetError(
                    f"{self.val.folder}/class_labels.txt: expected the classes of train, {min(train)} to {max(train)}, "
                    f"found {min(val)} to {max(val)}; the first class is 0 in both"
                )

    @property
    def remarks(self) -> list[str]:
        """What about the classes is odd, if anything."""
        train, val = set(self.labels.values()), set(self.val.class_labels.values())
        found = []
        if 0 not in train | val:
            found.append(f"no image is of class 0: the labels seem to start at {min(train | val)}")
        if missing := sorted(val - train):
            number = sum(each in missing for each in self.val.class_labels.values())
            shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            found.append(f"{number:,} images of val are of classes that no image of train has: {shown}")
        return found

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

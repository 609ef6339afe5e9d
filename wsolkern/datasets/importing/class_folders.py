"""A folder of class folders: DIR/CLASS/IMAGE, or DIR/SPLIT/CLASS/IMAGE, as torchvision's ImageFolder reads them.

In: images; a CSV file with boxes, if there is one. Out: the field's layout, see :mod:`.assembly`.
Source: none.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wsolkern.datasets.images import class_folders
from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.csv_table import instances_of, read_boxes
from wsolkern.datasets.importing.records import Dropped, Picture
from wsolkern.errors import DatasetError, PathError

SPLITS = ("train", "val", "valid", "validation", "test")


def import_imagefolder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    boxes: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Imports a folder that has a folder a class, or these in folders that are called train, val and test.

    Args:
        folder: The folder; it is the image root.
        out: Metadata folder of the data set.
        choices: What the user decides.
        boxes: CSV file with a box a line, as :func:`import_csv` reads it, without classes. None: the splits have images
            and classes, but nothing to localize: enough to train and to extract with.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; or the folder has no class folders.
    """
    choices = choices or Choices()
    if choices.masks is not None:
        raise DatasetError("masks: a folder of class folders has none")
    root = Path(folder)
    if not root.is_dir():
        raise PathError(folder, "no such folder")
    names = {each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")}
    splits = sorted(names & set(SPLITS), key=SPLITS.index)
    if splits and names - set(SPLITS):
        raise PathError(
            folder, f"expected folders of classes, or of splits alone, found both: {', '.join(sorted(names))}"
        )
    classes: dict[str, tuple[str, str | None]] = {}
    for split in splits or (None,):
        for image_id in class_folders(root / split if split else root):
            name = {"valid": "val", "validation": "val"}.get(split, split) if split else None
            classes[f"{split}/{image_id}" if split else image_id] = image_id.split("/")[0], name
    dropped = Dropped()
    found, file = ({}, "") if boxes is None else (read_boxes(boxes, choices.box_format, {}), os.fspath(boxes))
    for image_id, some in found.items():
        if image_id not in classes:
            dropped.add("boxes of no image", f"{file}, line {some[0][0]}: {image_id}")

    def pictures() -> Iterator[Picture]:
        for image_id, (name, split) in classes.items():
            if boxes is None:
                yield Picture(image_id, str(root), category=name, split=split, located=False)
            else:
                instances = instances_of(found.get(image_id, []), boxes, name)
                # Nobody needs a box to train.
                yield Picture(image_id, str(root), instances, category=name, split=split, located=split != "train")

    return assemble(
        pictures(), out, replace(choices, images=choices.images or root), dropped=dropped, progress=progress,
        total=len(classes),
    )  # fmt: skip

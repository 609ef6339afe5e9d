"""CUB-200-2011 as it is distributed: a folder of tables and images.

In: images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt, classes.txt, images/. Out: the splits
train and test of the field's layout, in the order of images.txt.
Source: Wah et al., Caltech-UCSD Birds-200-2011; Choe et al., arXiv 2007.04178, whose boxes are x, y, x + w, y + h and
end at the last pixel.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.records import Instance, Picture, expect_id
from wsolkern.datasets.importing.texts import read_words
from wsolkern.errors import ArgumentError, PathError


def import_cub(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    progress: Progress | None = None,
) -> Imported:
    """Imports CUB-200-2011: the published metadata's ids, classes, sizes and boxes of train and test.

    Args:
        folder: CUB_200_2011, as the archive unpacks.
        out: Metadata folder of the data set.
        choices: What the user decides; boxes are "xywh" whatever it says.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; or the tables do not hold together.
    """
    choices = replace(choices or Choices(), box_format="xywh", fractions=False)
    if choices.masks is not None:
        raise ArgumentError("masks", "CUB's segmentations are no part of its evaluation; leave it out")
    root = Path(folder)
    names = _table(root / "classes.txt", "class name")
    images = _table(root / "images.txt", "image path")
    labels = _table(root / "image_class_labels.txt", "image class", of=images)
    is_train = _table(root / "train_test_split.txt", "image is_training_image", of=images)
    boxes = _table(root / "bounding_boxes.txt", "image x y width height", of=images)

    def pictures() -> Iterator[Picture]:
        for key, (line, (path,)) in images.items():
            where = f"images.txt:{line}"
            (label,), (train,), box_line = labels[key][1], is_train[key][1], boxes[key][0]
            if label not in names:
                raise PathError(root / "image_class_labels.txt", f"line {labels[key][0]}: classes.txt has no {label!r}")
            if train not in ("0", "1"):
                raise PathError(
                    root / "train_test_split.txt", f"line {is_train[key][0]}: expected 0 or 1, found {train!r}"
                )
            name = names[label][1][0]
            box = Instance(name, f"bounding_boxes.txt:{box_line}", boxes[key][1], name=key)
            yield Picture(
                expect_id(path, where), where, [box], category=name, split="train" if train == "1" else "test"
            )

    return assemble(
        pictures(), out, choices, class_names=[name for _, (name,) in names.values()], image_root=root / "images",
        progress=progress, total=len(images),
    )  # fmt: skip


def _table(path: Path, names: str, of: Collection[str] | None = None) -> dict[str, tuple[int, list[str]]]:
    """First field -> line and other fields; ``of`` are the first fields that there must be."""
    found: dict[str, tuple[int, list[str]]] = {}
    for line, (key, *fields) in read_words(path, names.split()):
        if key in found:
            raise PathError(path, f"line {line}: {key!r} is on line {found[key][0]} already")
        if of is not None and key not in of:
            raise PathError(path, f"line {line}: images.txt has no image {key!r}")
        found[key] = line, fields
    if of is not None and (missing := next((each for each in of if each not in found), None)) is not None:
        raise PathError(path, f"expected a line for each image of images.txt, found none for {missing!r}")
    return found

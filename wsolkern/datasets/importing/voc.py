"""Pascal VOC, or any folder in its layout: Annotations/*.xml, JPEGImages, ImageSets/Main.

In: an XML file an image. Out: the field's layout, see :mod:`.assembly`.
Source: Everingham et al., The PASCAL VOC Challenge: the first pixel is 1, corners are inclusive; `difficult` objects do
not count; SegmentationObject has the number of the object in each pixel, 255 where nothing is said.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.records import Dropped, Instance, Picture, expect_id, expect_size, number
from wsolkern.datasets.importing.texts import Node, read_words, read_xml
from wsolkern.errors import PathError
from wsolkern.files import open_regular

SETS = ("train", "val", "test")


def import_voc(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    first_pixel: int = 1,
    difficult: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Imports a folder of VOC annotations; its JPEGImages is the image root.

    ImageSets/Main/train.txt, val.txt and test.txt give the splits, if they are there and ``choices.splits`` is empty;
    else all annotations go to ``choices.split``.

    Args:
        folder: Such as VOCdevkit/VOC2012.
        out: Metadata folder of the data set.
        choices: What the user decides; boxes are "xyxy" whatever it says.
        first_pixel: What the first pixel of an image is in these files, 1 (VOC) or 0 (many tools that write VOC files):
            it is subtracted from all four numbers.
        difficult: Keep objects that are marked so.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there.
    """
    choices = replace(choices or Choices(), box_format="xyxy", fractions=False)
    root = Path(folder)
    if not (root / "Annotations").is_dir():
        raise PathError(folder, "expected a folder Annotations in it, as VOC has it")
    stems: dict[str, str | None] = {}
    for name in () if choices.splits else SETS:
        listed = root / "ImageSets/Main" / f"{name}.txt"
        if listed.exists():
            for line, (stem,) in read_words(listed, ["image"]):
                stem = expect_id(stem.split()[0], f"{listed}, line {line}")
                if stem in stems:
                    raise PathError(listed, f"line {line}: {stem!r} is in {stems[stem]}.txt already")
                stems[stem] = name
    if not stems:
        stems = dict.fromkeys(sorted(each.stem for each in (root / "Annotations").glob("*.xml")))
    dropped = Dropped()

    def pictures() -> Iterator[Picture]:
        for stem, split in stems.items():
            path = root / "Annotations" / f"{stem}.xml"
            if split is not None and not path.exists():  # VOC keeps those of test to itself
                dropped.add("images without an annotation", f"{stem} ({split}.txt)")
            else:
                yield _picture(path, split, root, first_pixel, difficult, choices.masks is not None, dropped)

    images = root / "JPEGImages"
    return assemble(
        pictures(), out, choices, dropped=dropped, image_root=images if images.is_dir() else None,
        check_images=images.is_dir(), progress=progress, total=len(stems),
    )  # fmt: skip


def _picture(
    path: Path, split: str | None, root: Path, first: int, difficult: bool, with_masks: bool, dropped: Dropped
) -> Picture:
    top = read_xml(path)
    image_id = expect_id(top.get("filename"), f"{path}, line {top.line}")
    size = None
    if top.get("size", "width") not in (None, "0"):
        size = expect_size(top.get("size", "width"), top.get("size", "height"), f"{path}, line {top.line}")
    instances = []
    for place, each in enumerate(top.all("object"), start=1):
        where, name = f"{path.name}:{each.line}", each.get("name")
        if not name or "\n" in name:
            raise PathError(path, f"line {each.line}: expected an object with a name, found {name!r}")
        if each.get("difficult") == "1" and not difficult:
            dropped.add("objects marked difficult", f"{where}: {name}")
            continue
        mask = partial(_mask, root / "SegmentationObject" / f"{path.stem}.png", place)
        instances.append(Instance(name, where, _box(each, first), mask if with_masks else None, name=str(place)))
    if with_masks and instances:
        void = partial(_mask, root / "SegmentationObject" / f"{path.stem}.png", 255)
        instances.append(Instance(instances[0].category, path.name, None, void, ignored=True))
    return Picture(image_id, path.name, instances, size, split=split)


def _box(node: Node, first: int) -> list[float | None]:
    numbers = [number(node.get("bndbox", name)) for name in ("xmin", "ymin", "xmax", "ymax")]
    return [None if each is None else each - first for each in numbers]


def _mask(path: Path, value: int) -> np.ndarray:
    """Where a palette image has that value, bool [H, W]."""
    try:
        with open_regular(path) as file:
            image = Image.open(file)
            if image.mode not in ("P", "L"):
                raise ValueError(f"{path.name}: expected a palette image, found the mode {image.mode}")
            return np.asarray(np.asarray(image) == value)
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror or error}") from None

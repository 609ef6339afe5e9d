"""OpenImages as it is distributed: tables of segmentations and boxes, PNG masks, images.

In: <set>-annotations-object-segmentation.csv, <set>-annotations-bbox.csv, masks, images of the sets train, validation,
test. Out: the splits train, val and test of the field's layout, with masks, ignore masks and images below one root.
Source: https://storage.googleapis.com/openimages/web/download.html; Choe et al., arXiv 2007.04178: images of a single
class, class n is the n-th label in alphabetical order, ids are SPLIT/LABEL/IMAGE.jpg and masks
SPLIT/LABEL/IMAGE_mLABEL_BOX.png, IMAGE_ignore.png.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.records import MAX_PIXELS, Instance, Picture, image_size, number
from wsolkern.datasets.importing.texts import read_csv
from wsolkern.errors import ArgumentError, PathError
from wsolkern.files import open_regular

SETS = {"train": "train", "validation": "val", "test": "test"}
_SAME = 0.002  # of the image's sides: a box of both tables
_NAME = re.compile(r"[0-9a-f]{16}", re.ASCII)
_LABEL = re.compile(r"/m/[0-9a-z_]+", re.ASCII)
_SEGMENTATION = ("MaskPath", "ImageID", "LabelName", "BoxID", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
_BOX = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")


def import_openimages(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    progress: Progress | None = None,
) -> Imported:
    """Imports OpenImages with masks, in the names of the published metadata.

    Images whose segmentations are of one label are taken; the published sets are a random choice of them, which
    ``choices.ids`` (a published image_ids.txt, one split at a time) makes again. What is ignored: boxes of the label
    that have no mask of their own, and groups (IsGroupOf), from the table of boxes if it is there. The images get links
    below ``choices.masks``, beside their masks, as in the published data set.

    Args:
        folder: Has the tables; masks and images are anywhere below it, images in a folder that is called as their set.
        out: Metadata folder of the data set.
        choices: What the user decides; ``masks`` is needed, and ``several`` is "drop" whatever it says.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; or no table is in the folder.
    """
    choices = replace(choices or Choices(), several="drop")
    if choices.masks is None:
        raise ArgumentError("masks", "expected a folder for images and masks, such as dataset/OpenImages")
    root = Path(folder)
    tables = {name: _find(root, f"*{name}-annotations-object-segmentation.csv") for name in SETS}
    if not any(tables.values()):
        raise PathError(folder, "expected validation-annotations-object-segmentation.csv or another set's, found none")
    files = _files(root)

    def pictures() -> Iterator[Picture]:
        for name, split in SETS.items():
            table = tables[name]
            if table is not None:
                yield from _of_set(root, name, split, table, files)

    return assemble(pictures(), out, choices, image_root=choices.masks, progress=progress)


def _of_set(root: Path, name: str, split: str, table: Path, files: dict[str, str]) -> Iterator[Picture]:
    segments: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, record in read_csv(table, _SEGMENTATION):
        _expect_names(table, line, record)
        if not re.fullmatch(r"[\w.-]+\.png", record["MaskPath"]) or not re.fullmatch(r"[0-9a-f]+", record["BoxID"]):
            raise PathError(
                table, f"line {line}: expected a mask's file and a box's id, found {record['MaskPath']!r:.60}"
            )
        segments.setdefault(record["ImageID"], []).append((line, record))
    boxes: dict[str, list[tuple[str, dict[str, str]]]] = {}
    box_table = _find(root, f"*{name}-annotations-bbox.csv")
    if box_table is not None:
        for line, record in read_csv(box_table, _BOX):
            if record["ImageID"] in segments:
                _expect_names(box_table, line, record)
                boxes.setdefault(record["ImageID"], []).append((f"{box_table.name}:{line}", record))
    for image, some in segments.items():
        label = some[0][1]["LabelName"].removeprefix("/m/")
        image_id, file = f"{split}/{label}/{image}.jpg", files.get(f"{name}/{image}.jpg")
        where = f"{table.name}:{some[0][0]}"
        if file is None:
            yield Picture(image_id, where, split=split, file=str(root / name / f"{image}.jpg"))
            continue
        try:
            size = image_size(file)
        except (OSError, ValueError):
            size = (1, 1)  # the file is looked at again, and the image is dropped
        instances = [_segment(table, line, record, files, size) for line, record in some]
        masked: dict[str, list[list[float | None]]] = {each["LabelName"]: [] for _, each in some}
        for _, each in some:
            masked[each["LabelName"]].append(_corners(each, "Box"))
        for here, each in boxes.get(image, ()):
            known = masked.get(each["LabelName"])
            if known is not None and (each["IsGroupOf"] == "1" or not _has(known, _corners(each))):
                draw = partial(_filled, _corners(each), size)
                instances.append(Instance(each["LabelName"].removeprefix("/m/"), here, None, draw, ignored=True))
        yield Picture(image_id, where, instances, size, split=split, file=file)


def _segment(table: Path, line: int, record: dict[str, str], files: dict[str, str], size: tuple[int, int]) -> Instance:
    label = record["LabelName"].removeprefix("/m/")
    mask = partial(_read_mask, files.get(record["MaskPath"]), record["MaskPath"], size)
    return Instance(label, f"{table.name}:{line}", None, mask, name=f"m{label}_{record['BoxID']}")


def _read_mask(file: str | None, name: str, size: tuple[int, int]) -> np.ndarray:
    """A mask's file at the size of its image, nearest neighbour: bool [H, W]."""
    if file is None:
        raise ValueError(f"{name}: no such mask file")
    try:
        with open_regular(file) as opened:
            image = Image.open(opened)
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{name}: expected at most {MAX_PIXELS} pixels")
            return np.asarray(image.convert("L").resize(size, Image.Resampling.NEAREST)) > 0
    except OSError as error:
        raise ValueError(f"{name}: cannot be read as an image: {error}") from None


def _filled(corners: list[float | None], size: tuple[int, int]) -> np.ndarray:
    """A box in fractions as a mask: all pixels that it touches."""
    if None in corners or size[0] * size[1] > MAX_PIXELS:
        raise ValueError("expected four fractions")
    x0, x1, y0, y1 = np.clip(np.array(corners, float), 0, 1) * [size[0], size[0], size[1], size[1]]
    mask = np.zeros(size[::-1], bool)
    mask[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = True
    return mask


def _corners(record: dict[str, str], prefix: str = "") -> list[float | None]:
    return [number(record[f"{prefix}{each}"]) for each in ("XMin", "XMax", "YMin", "YMax")]


def _has(known: list[list[float | None]], box: list[float | None]) -> bool:
    return any(
        all(a is not None and b is not None and abs(a - b) <= _SAME for a, b in zip(each, box, strict=True))
        for each in known
    )


def _expect_names(table: Path, line: int, record: dict[str, str]) -> None:
    if not _NAME.fullmatch(record["ImageID"]) or not _LABEL.fullmatch(record["LabelName"]):
        found = f"{record['ImageID']!r:.40}, {record['LabelName']!r:.40}"
        raise PathError(
            table, f"line {line}: expected an image of 16 hexadecimal digits and a label /m/..., found {found}"
        )


def _find(root: Path, pattern: str) -> Path | None:
    return next(iter(sorted(root.glob(pattern))), None)


def _files(root: Path) -> dict[str, str]:
    """Name of a mask -> its file; SET/NAME of an image -> its file."""
    found = {}
    for at, _, names in os.walk(root):
        for name in names:
            if name.endswith(".png"):
                found[name] = os.path.join(at, name)
            elif name.endswith(".jpg"):
                found[f"{os.path.basename(at)}/{name}"] = os.path.join(at, name)
    return found

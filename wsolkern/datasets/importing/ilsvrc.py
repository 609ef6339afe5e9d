"""ILSVRC 2012 as it is distributed: the images of val with their boxes, and ImageNetV2's.

In: the folder of the Kaggle archive, or of the original ones. Out: the split test (ILSVRC's val), val (ImageNetV2) and
train of the field's layout.
Source: Russakovsky et al., arXiv 1409.0575; Choe et al., arXiv 2007.04178: class n is the n-th synset in alphabetical
order, ids are val/ILSVRC2012_val_*.JPEG, val2/CLASS/*.jpeg and train/SYNSET/*.JPEG, corners end at the last pixel.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from wsolkern.datasets.images import class_folders
from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.csv_table import instances_of, read_boxes
from wsolkern.datasets.importing.records import Instance, Picture, expect_id, expect_size
from wsolkern.datasets.importing.texts import read_csv, read_words, read_xml
from wsolkern.errors import ArgumentError, DatasetError, PathError

_SYNSET = re.compile(r"n[0-9]{8}", re.ASCII)
_IMAGE = re.compile(r"ILSVRC2012_val_[0-9]{8}", re.ASCII)


def import_ilsvrc(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    v2_boxes: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Imports ILSVRC 2012 and ImageNetV2: the published metadata's ids, classes, sizes and boxes.

    The boxes of val are read from LOC_val_solution.csv, or from XML files in `val` below Annotations (or `bbox/val`);
    the synsets from LOC_synset_mapping.txt or synset_words.txt, else from what occurs. Images are in `val`, `train` and
    `val2` below ILSVRC/Data/CLS-LOC, Data/CLS-LOC or the folder itself, which is the image root.

    Args:
        folder: The folder that the archive was unpacked in.
        out: Metadata folder of the data set.
        choices: What the user decides; boxes are "xyxy" whatever it says.
        v2_boxes: ImageNetV2_boxes.txt of the published evaluation, for the split val; its images are in `val2`.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; or nothing of this is in the folder.
    """
    choices = replace(choices or Choices(), box_format="xyxy", fractions=False)
    if choices.masks is not None:
        raise ArgumentError("masks", "ILSVRC has boxes only; leave it out")
    root = Path(folder)
    if not root.is_dir():
        raise PathError(folder, "no such folder")
    places = (root / "ILSVRC/Data/CLS-LOC", root / "Data/CLS-LOC", root)
    data = next((each for each in places if (each / "val").is_dir()), None)
    val = _val(root)
    synsets = _synsets(root)
    if synsets is None:
        synsets = sorted({each.instances[0].category for each in val if each.instances})
    if not val and v2_boxes is None:
        raise PathError(folder, "expected LOC_val_solution.csv or XML files in Annotations/CLS-LOC/val, found neither")

    def train() -> Iterator[Picture]:
        if data is not None and (data / "train").is_dir():
            for image_id in class_folders(data / "train"):
                name = image_id.split("/")[0]
                yield Picture(f"train/{image_id}", "train", category=name, split="train", located=False)

    pictures = chain(val, _v2(v2_boxes, synsets), train())
    has_images = data is not None and next((data / "val").iterdir(), None) is not None
    return assemble(
        pictures, out, choices, class_names=synsets, image_root=data, check_images=has_images, progress=progress
    )


def _val(root: Path) -> list[Picture]:
    """ILSVRC's val in the order of its numbers."""
    solution = root / "LOC_val_solution.csv"
    if solution.exists():
        found = [_from_solution(solution, *each) for each in read_csv(solution, ("ImageId", "PredictionString"))]
    else:
        names = ("ILSVRC/Annotations/CLS-LOC/val", "Annotations/CLS-LOC/val", "Annotations/val", "bbox/val", "val_xml")
        folder = next((root / each for each in names if (root / each).is_dir()), None)
        found = [] if folder is None else [_from_xml(each) for each in folder.glob("*.xml")]
    return sorted(found, key=lambda each: each.image_id)


def _from_solution(path: Path, line: int, record: dict[str, str]) -> Picture:
    name, fields, where = record["ImageId"], record["PredictionString"].split(), f"{path.name}:{line}"
    if not _IMAGE.fullmatch(name) or not fields or len(fields) % 5:
        raise PathError(
            path,
            f"line {line}: expected ILSVRC2012_val_00000001,SYNSET X0 Y0 X1 Y1 ..., found "
            f"{name!r:.40},{record['PredictionString']!r:.60}",
        )
    instances = [Instance(fields[at], where, fields[at + 1 : at + 5], name=str(at)) for at in range(0, len(fields), 5)]
    return _checked(Picture(f"val/{name}.JPEG", where, instances, split="test"), path, line)


def _from_xml(path: Path) -> Picture:
    top = read_xml(path)
    size = expect_size(top.get("size", "width"), top.get("size", "height"), f"{path}, line {top.line}")
    if not _IMAGE.fullmatch(path.stem):
        raise PathError(path, "expected a file that is called ILSVRC2012_val_00000001.xml")
    instances = [
        Instance(
            each.get("name") or "", f"{path.name}:{each.line}",
            [each.get("bndbox", name) for name in ("xmin", "ymin", "xmax", "ymax")], name=str(place),
        )
        for place, each in enumerate(top.all("object"))
    ]  # fmt: skip
    return _checked(Picture(f"val/{path.stem}.JPEG", path.name, instances, size, split="test"), path, top.line)


def _checked(picture: Picture, path: Path, line: int) -> Picture:
    for each in picture.instances:
        if not _SYNSET.fullmatch(each.category):
            raise PathError(path, f"line {line}: expected a synset such as n01440764, found {each.category!r:.40}")
    return picture


def _synsets(root: Path) -> list[str] | None:
    for name in ("LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt"):
        if (root / name).exists():
            found = []
            for line, (text,) in read_words(root / name, ["synset"]):
                if not _SYNSET.fullmatch(text.split()[0]):
                    raise PathError(
                        root / name, f"line {line}: expected a synset such as n01440764, found {text[:40]!r}"
                    )
                found.append(text.split()[0])
            return sorted(set(found))
    return None


def _v2(path: str | os.PathLike[str] | None, synsets: list[str]) -> Iterator[Picture]:
    """ImageNetV2: its folders are called by the number of the class."""
    if path is None:
        return
    found = read_boxes(path, "xyxy", {})

    def label(image_id: str) -> int:
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})\.jpeg", image_id, re.ASCII)
        if match is None or int(match[1]) >= len(synsets):
            raise DatasetError(
                f"{os.fspath(path)}: expected CLASS/NUMBER.jpeg with a class below {len(synsets)}, found {image_id!r}"
            )
        return int(match[1])

    for image_id in sorted(found):  # as text: the published order
        name, some = synsets[label(image_id)], found[image_id]
        where = f"{os.path.basename(path)}:{some[0][0]}"
        yield Picture(
            expect_id(f"val2/{image_id}", where), where, instances_of(some, path, name), category=name, split="val"
        )

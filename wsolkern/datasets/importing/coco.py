"""COCO: a JSON file of images, annotations and categories.

In: `instances_*.json`, or any file in its format. Out: the field's layout, see :mod:`.assembly`.
Source: https://cocodataset.org/#format-data; boxes are x, y, width, height in pixels from 0, with fractions.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from wsolkern.datasets.importing import run_lengths
from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.records import Dropped, Instance, Picture, expect_id, expect_size
from wsolkern.datasets.importing.texts import read_json
from wsolkern.errors import PathError


def import_coco(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    progress: Progress | None = None,
) -> Imported:
    """Imports a COCO file.

    With ``choices.masks`` the polygons and run lengths of the annotations become mask files, and what is `iscrowd`
    becomes the ignore mask of its image. Classes are numbered from 0 in the order of the categories' ids, all of them.
    Without, boxes are taken, and what is `iscrowd` is dropped: it is not the box
    of one object.

    Args:
        file: The JSON file; all of it is held in memory.
        out: Metadata folder of the data set.
        choices: What the user decides; the box format is "xywh", which is COCO's, whatever it says.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; records of the JSON file are named by their place in it.
        ImportError: Polygons need pycocotools.
    """
    choices = replace(choices or Choices(), box_format="xywh", fractions=False)
    content = read_json(file)
    images, annotations, categories = (_list(content, name, file) for name in ("images", "annotations", "categories"))
    names: dict[Any, str] = {}
    for place, each in enumerate(categories):
        if not isinstance(each.get("name"), str) or not each["name"].strip() or "\n" in each["name"]:
            raise PathError(file, f"categories[{place}]: expected a name, found {each.get('name')!r:.60}")
        names[_key(each, "id", f"categories[{place}]", file)] = each["name"].strip()
    if len(set(names.values())) != len(categories):
        raise PathError(file, "categories: expected distinct ids and names")
    of_image: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    ids = {_key(each, "id", f"images[{place}]", file) for place, each in enumerate(images)}
    if len(ids) != len(images):
        raise PathError(file, "images: expected distinct ids")
    dropped = Dropped()
    for place, each in enumerate(annotations):
        where = f"annotations[{place}]"
        image = _key(each, "image_id", where, file)
        if image not in ids:
            dropped.add("annotations of no image", f"{where}: image_id {image!r}")
        elif _key(each, "category_id", where, file) not in names:
            dropped.add("annotations of no category", f"{where}: category_id {each['category_id']!r}")
        else:
            of_image.setdefault(image, []).append((place, each))

    def pictures() -> Iterator[Picture]:
        for place, image in enumerate(images):
            where = f"{os.fspath(file)}: images[{place}]"
            size = expect_size(image.get("width"), image.get("height"), where)
            image_id = expect_id(image.get("file_name"), where)
            instances = [_instance(each, size, number, names) for number, each in of_image.get(image["id"], ())]
            yield Picture(image_id, where, instances, size)

    ordered = sorted(names) if all(isinstance(each, int) for each in names) else list(names)
    return assemble(
        pictures(), out, choices, dropped=dropped, class_names=[names[each] for each in ordered], progress=progress,
        total=len(images),
    )  # fmt: skip


def _instance(annotation: dict[str, Any], size: tuple[int, int], place: int, names: dict[Any, str]) -> Instance:
    box = annotation.get("bbox")
    segmentation = annotation.get("segmentation")
    return Instance(
        names[annotation["category_id"]],
        f"annotations[{place}]",
        box if isinstance(box, list) else None,
        partial(run_lengths.decode, segmentation, size) if segmentation else None,
        bool(annotation.get("iscrowd")),
        str(place),
    )


def _list(content: Any, name: str, file: str | os.PathLike[str]) -> list[dict[str, Any]]:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise PathError(file, f"expected a list of records in {name!r}, as COCO's instances have it")
    return found


def _key(record: dict[str, Any], name: str, where: str, file: str | os.PathLike[str]) -> Any:
    found = record.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise PathError(file, f"{where}: expected {name}, a number or a text, found {found!r:.60}")
    return found

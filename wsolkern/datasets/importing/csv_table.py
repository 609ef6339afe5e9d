"""A CSV file with a box a line, and a folder of class folders with boxes in a CSV file beside it.

In: a header line and records. Out: the field's layout, see :mod:`.assembly`.
Source: none; the names of columns are those in common use.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wsolkern.datasets.importing.assembly import Choices, Imported, Progress, assemble
from wsolkern.datasets.importing.records import Instance, Picture, expect_id, expect_size
from wsolkern.datasets.importing.texts import read_csv
from wsolkern.errors import PathError

IMAGE = ("image", "image_id", "id", "filename", "file_name", "file", "path", "image_path", "imageid")
CLASS = ("class", "label", "category", "class_name", "labelname", "name")
WIDTH, HEIGHT = ("width", "image_width", "w_image"), ("height", "image_height", "h_image")
BOXES = {
    "xyxy": (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"),
             ("left", "top", "right", "bottom")),
    "xywh": (("x", "y", "w", "h"), ("x", "y", "box_width", "box_height"), ("left", "top", "w", "h"),
             ("x0", "y0", "w", "h"), ("xmin", "ymin", "w", "h")),
    "cxcywh": (("cx", "cy", "w", "h"), ("xc", "yc", "w", "h"), ("x_center", "y_center", "w", "h"),
               ("x", "y", "w", "h")),
}  # fmt: skip


def import_csv(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    choices: Choices | None = None,
    *,
    progress: Progress | None = None,
) -> Imported:
    """Imports a CSV file with one box a line; an image may have several lines.

    Its first line names the columns, in any order and case: the image's path below the image root (`image`, `image_id`,
    `filename`, `path`, ...), its class (`class`, `label`, `category`, ...), the box in the format of ``choices``
    (`x0 y0 x1 y1` or `xmin ymin xmax ymax`; `x y w h`; `cx cy w h`), and, if the images are not at hand, their `width`
    and `height`. A column `split` gives the split. Other columns are left alone. A line with four empty fields for the
    box is an image without one.

    Args:
        file: The CSV file, UTF-8.
        out: Metadata folder of the data set.
        choices: What the user decides.
        progress: As for :func:`wsolkern.datasets.importing.assembly.assemble`.

    Raises:
        DatasetError: As there; a column is missing, or the lines of an image contradict each other.
    """
    choices = choices or Choices()
    return assemble(_pictures(read_boxes(file, choices.box_format), file), out, choices, progress=progress)


def read_boxes(
    file: str | os.PathLike[str], box_format: str, class_of: Mapping[str, str] | None = None
) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Image id -> line and fields under their own names: "class", "split", "size" and "box", None where there is none.

    Args:
        file: The CSV file.
        box_format: Which columns are the box.
        class_of: The classes of the images, if they are known: then the file has none.
    """
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    columns: _Columns | None = None
    for line, record in read_csv(file):
        if columns is None:
            columns = _columns(list(record), file, box_format, class_of is None)
        where = f"{os.fspath(file)}, line {line}"
        image_id = expect_id(record[columns.image], where)
        box = tuple(record[each] for each in columns.box)
        size = None
        if columns.size is not None:
            width, height = columns.size
            size = expect_size(record[width], record[height], where)
        fields: dict[str, Any] = {
            "class": None if columns.category is None else record[columns.category],
            "split": None if columns.split is None else record[columns.split] or None,
            "size": size,
            "box": box if any(box) else None,
        }
        if fields["class"] == "":
            raise PathError(file, f"line {line}: expected a class, found an empty field")
        some = found.setdefault(image_id, [])
        for name in ("split", "size"):
            if some and some[0][1][name] != fields[name]:
                reason = f"{image_id!r} has the {name} {some[0][1][name]} on line {some[0][0]}, found {fields[name]}"
                raise PathError(file, f"line {line}: {reason}")
        split = fields["split"]
        if split is not None and (split in (".", "..") or set(str(split)) & set("/\\\0\n")):
            raise PathError(file, f"line {line}: expected the name of a split, found {split!r}")
        some.append((line, fields))
    return found


def instances_of(
    some: list[tuple[int, dict[str, Any]]], file: str | os.PathLike[str], category: str | None = None
) -> list[Instance]:
    """The objects of an image's lines; ``category`` is its class where the file has none."""
    return [
        Instance(category or fields["class"], f"{os.path.basename(file)}:{line}", fields["box"], name=str(line))
        for line, fields in some
        if fields["box"] is not None
    ]


def _pictures(found: dict[str, list[tuple[int, dict[str, Any]]]], file: str | os.PathLike[str]) -> Iterator[Picture]:
    for image_id, some in found.items():
        line, first = some[0]
        where = f"{os.path.basename(file)}:{line}"
        yield Picture(image_id, where, instances_of(some, file), first["size"], split=first["split"])


class _Columns(NamedTuple):
    """What each thing's columns are called in a file."""

    image: str
    box: tuple[str, ...]
    category: str | None
    split: str | None
    size: tuple[str, str] | None


def _columns(header: list[str], file: str | os.PathLike[str], box_format: str, with_class: bool) -> _Columns:
    """What each thing's columns are called in this file."""
    known = {each.lower(): each for each in header}

    def one(names: tuple[str, ...]) -> str | None:
        return next((known[each] for each in names if each in known), None)

    image, category, split = one(IMAGE), one(CLASS), one(("split", "set"))
    boxes = (tuple(known[each] for each in names) for names in BOXES[box_format] if known.keys() >= {*names})
    box = next(boxes, None)
    if box is None and box_format != "xyxy":  # width and height may be the box's
        for x, y in (names[:2] for names in BOXES[box_format]):
            if {x, y, "width", "height"} <= set(known):
                box = tuple(known[each] for each in (x, y, "width", "height"))
                break
    width, height = one(WIDTH), one(HEIGHT)
    size = (width, height) if width and height and width not in (box or ()) else None
    if image is None or box is None or (category is None and with_class):
        need = [("image", IMAGE, image), ("box", BOXES[box_format][0], box)]
        need[1:1] = [("class", CLASS, category)] if with_class else []
        said = "; ".join(f"{each} (such as {', '.join(names[:4])})" for each, names, found in need if not found)
        raise PathError(file, f"line 1: expected names of columns for {said}, found {', '.join(header)[:120]}")
    return _Columns(image, box, category, split, size)

"""Metadata folders: which images a split has, their classes and sizes, and where their objects are.

In: image_ids.txt, class_labels.txt, image_sizes.txt, localization.txt of one split. Out: a Metadata of them, checked;
and the files of one.
Source: the file layout of Choe et al., arXiv 2007.04178; boxes are scaled as its evaluation does, truncated.
"""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wsolkern.datasets import box_formats
from wsolkern.datasets.ids import check_distinct, check_image_ids
from wsolkern.datasets.tables import (
    ImageIds,
    Problems,
    Table,
    find_line,
    first_fields,
    join_fields,
    read_numbers,
    read_texts,
    shorten,
)
from wsolkern.errors import DatasetError
from wsolkern.files import write_whole

_MAX_SIDE = 1 << 20  # pixels of an image; more is a slip of the pen
_MAX_CLASS = (1 << 31) - 1
_TABLES = ("class_labels", "image_sizes", "boxes", "mask_paths", "ignore_paths")  # by image id


class _Rows(Mapping):
    """Rows of one array by image id: what a dictionary would hold, without an object an image."""

    def __init__(self, places: dict[str, int], values: np.ndarray, ends: np.ndarray | None = None):
        self._places = places  # image id -> number from 0, in order
        self._values = values
        self._ends = ends  # int64 [n + 1]: an image has the rows from its end to the next; None: one row each

    def __getitem__(self, image_id: str):
        place = self._places[image_id]
        if self._ends is not None:
            return self._values[self._ends[place] : self._ends[place + 1]]
        value = self._values[place].tolist()
        return tuple(value) if isinstance(value, list) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._places

    def __repr__(self) -> str:
        return f"<{len(self):,} images>"


def _flat(rows: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a mapping as one array, and how many each image has, int64 [n]."""
    if isinstance(rows, _Rows):
        return rows._values, np.ones(len(rows), np.int64) if rows._ends is None else np.diff(rows._ends)
    values = [np.atleast_2d(each) for each in rows.values()]
    return np.concatenate(values or [np.empty((0, 0))]), np.array([len(each) for each in values], np.int64)


@dataclass(frozen=True, eq=False)
class Metadata:
    """One split of a data set, as its files say it."""

    image_ids: tuple[str, ...]
    """The images, in the order of image_ids.txt; the other fields hold these ids and no others."""
    class_labels: Mapping[str, int] = field(default_factory=dict)
    """Class of an image; empty if class_labels.txt is missing or empty."""
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height of an image, in pixels; empty where image_sizes.txt may be, and is, missing or empty."""
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Boxes of an image, int32 [n, 4], n >= 1, x0 y0 x1 y1 in pixels of the original image; empty for masks."""
    mask_paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mask files of an image, one an instance, relative to the mask root; empty for boxes."""
    ignore_paths: Mapping[str, str | None] = field(default_factory=dict)
    """File of the region of an image that does not count, relative to the mask root, or None; empty for boxes."""
    folder: str = ""
    """The folder it was read from, if it was."""
    box_format: str = "xyxy"
    """How the file writes its boxes, as :func:`load_metadata` was told."""
    box_rounding: str = "none"
    """How their fractions were rounded."""

    @property
    def kind(self) -> str | None:
        """What localizes the objects: "boxes" or "masks"; None if localization.txt was not asked for."""
        return "boxes" if self.boxes else "masks" if self.mask_paths else None

    def resized_boxes(self, size: tuple[int, int] = (224, 224)) -> Mapping[str, np.ndarray]:
        """The boxes in pixels of a map.

        Args:
            size: Height and width of the map, in pixels.

        Returns:
            Image id -> int32 [n, 4], x0 y0 x1 y1: each coordinate times the map's side over the image's, truncated.
        """
        if not self.boxes:
            return {}
        boxes, counts = _flat(self.boxes)
        places = {image_id: place for place, image_id in enumerate(self.boxes)}
        in_order = list(self.image_sizes) == list(places)
        image_sizes, _ = _flat(self.image_sizes if in_order else {each: self.image_sizes[each] for each in places})
        return _Rows(places, scale_boxes(boxes, np.repeat(image_sizes, counts, axis=0), size), np.cumsum([0, *counts]))

    def sha256(self) -> str:
        """What tells this ground truth from another: of the ids, the sizes and what localizes the objects."""
        found = hashlib.sha256(json.dumps([self.image_ids, self.kind, self.mask_paths, self.ignore_paths]).encode())
        for rows in (self.image_sizes, self.boxes):
            values, counts = _flat(rows)
            found.update(json.dumps([list(rows) != list(self.image_ids) and list(rows), values.shape]).encode())
            found.update(np.ascontiguousarray(values, np.int64))
            found.update(counts)
        return found.hexdigest()

    def write(self, folder: str | os.PathLike) -> None:
        """Writes the split's four files, over those that are there; :func:`load_metadata` gives the same value back.

        Boxes are written as x0,y0,x1,y1 whatever the format was that they were read in; a file of what the split does
        not have is empty.

        Args:
            folder: Made if it is not there.

        Raises:
            ValueError: Something that could not be read back; it is named, and nothing is written.
        """
        records = _records(self)
        files = {name: "".join(f"{join_fields(each)}\n" for each in some) for name, some in records.items()}
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(Path(folder, name), text.encode())

    def first_per_class(self, num: int) -> "Metadata":
        """The split with the first images of every class only: the field's ``num_val_sample_per_class``.

        Args:
            num: How many images of each class to keep, at least 1, in the order of image_ids.txt.

        Raises:
            DatasetError: The split has no classes.
            ValueError: ``num`` is less than 1.
        """
        if num < 1:
            raise ValueError(f"images per class: expected at least 1, found {num}")
        if not self.class_labels:
            raise DatasetError(
                f"{self.folder}/class_labels.txt: needed to take {num} images of each class, found no class"
            )
        seen: Counter[int] = Counter()
        kept = []
        for image_id in self.image_ids:
            label = self.class_labels[image_id]
            seen[label] += 1
            if seen[label] <= num:
                kept.append(image_id)
        tables = {name: getattr(self, name) for name in _TABLES}
        shorter = {name: {each: table[each] for each in kept} if table else {} for name, table in tables.items()}
        return replace(self, image_ids=tuple(kept), **shorter)

    def line_of(self, name: str, image_id: str) -> int | None:
        """The first line of a file that is about an image, for messages; the file is read anew for every call.

        Args:
            name: Such as "class_labels.txt".
            image_id: The image.

        Returns:
            The line's number from 1, or None if there is none or the file cannot be read any more.
        """
        return find_line(Path(self.folder, name), image_id)


def load_metadata(
    folder: str | os.PathLike,
    *,
    box_format: str = "xyxy",
    box_rounding: str = "none",
    localization: bool = True,
) -> Metadata:
    """Reads and checks one split of a data set.

    The files are UTF-8 with one record a line; empty lines are left out, and a field with commas is put in quotation
    marks:

    - ``image_ids.txt``: ``id``;
    - ``localization.txt``: ``id,x0,y0,x1,y1`` for a box or ``id,mask_path,ignore_path`` for a mask, told apart by the
      number of columns; one or more lines an image. The ignore path may be empty, and an image has at most one;
    - ``image_sizes.txt``: ``id,width,height``; for masks it may be missing or empty;
    - ``class_labels.txt``: ``id,class``, classes from 0; it may be missing or empty.

    Ids are relative paths without ``..``. Boxes lie inside their image; x1 = width and y1 = height, one past the last
    pixel, are accepted. Lines about ids that image_ids.txt does not have are left out: a shorter image_ids.txt selects
    a subset.

    Args:
        folder: The split's folder, such as ``metadata/CUB/test``.
        box_format: What the four numbers of a box are: "xyxy" for x0,y0,x1,y1 or "xywh" for x,y,width,height, which
            become x0 = x, y0 = y, x1 = x + width, y1 = y + height, as the published metadata of CUB were made; or
            "cxcywh" for the center's x,y,width,height, which become x - width / 2, ..., y + height / 2 and need a
            rounding. Corners are inclusive: the pixel x1, y1 belongs to the box.
        box_rounding: "none": boxes are integers. Otherwise they may have fractions, and corners become whole pixels:
            "nearest" (halves up), "floor", or "outward" (x0, y0 down, x1, y1 up); what is then at most one pixel
            outside its image comes to the edge.
        localization: False leaves localization.txt alone, and image_sizes.txt may be missing or empty: for what needs
            images and classes only.

    Returns:
        The split.

    Raises:
        DatasetError: A file, a record or a column is missing, an id is there twice, a number is none, a box is outside
            its image or ends before it begins. The one error lists the first such problems, each with file and line,
            how many more there are, and what may be behind them.
        ValueError: No such format or rounding.
    """
    box_formats.check_format(box_format, box_rounding)
    folder, problems = Path(folder), Problems()
    ids, lines = read_image_ids(folder / "image_ids.txt", problems)
    labels = read_class_labels(folder / "class_labels.txt", ids, problems, optional=True)
    located, boxes, mask_paths, ignore_paths = np.empty(0, np.int32), {}, {}, {}
    kind = read_kind(folder / "localization.txt", problems) if localization else None
    sizes = read_image_sizes(folder / "image_sizes.txt", ids, problems, optional=kind != "boxes")
    if kind == "boxes":
        table = read_boxes(folder / "localization.txt", ids, problems, fractions=box_rounding != "none")
        located, rows = table.places, _corners(table, ids, sizes, box_format, box_rounding, problems)
    elif kind == "masks":
        known, ignored = read_masks(folder / "localization.txt", problems)
        located = np.array([ids.places[each] for each in known if each in ids.places], np.int32)

    for name, found, has_lines in (
        ("class_labels.txt", labels.places, len(labels.places) > 0),
        ("image_sizes.txt", sizes.places, len(sizes.places) > 0),
        ("localization.txt", located, kind == "masks" or len(located) > 0),
    ):
        if has_lines:  # else it may be missing, or its absence is a problem already
            there = np.zeros(len(ids.places), bool)
            there[found] = True
            missing = np.flatnonzero(~there[: len(ids.listed)])
            problems.add_all(
                len(missing),
                (f"image_ids.txt:{lines[each]}: {ids.at(each)!r} has no line in {name}" for each in missing.tolist()),
            )
    problems.raise_if_any(folder)

    ids.forget_others()
    if kind == "boxes":
        boxes = _Rows(ids.places, *_by_image(table.places, rows, len(ids.listed)))
    elif kind == "masks":
        mask_paths = {image_id: tuple(known[image_id]) for image_id in ids.listed}
        ignore_paths = {image_id: ignored[image_id] or None for image_id in ids.listed}
    return Metadata(
        folder=str(folder),
        image_ids=ids.listed,
        class_labels=_one_each(labels, ids),
        image_sizes=_one_each(sizes, ids),
        boxes=boxes,
        mask_paths=mask_paths,
        ignore_paths=ignore_paths,
        box_format=box_format,
        box_rounding=box_rounding,
    )


def _records(split: Metadata) -> dict[str, list[tuple]]:
    """The fields of each record of each file, all of which can be read back."""
    ids = split.image_ids
    if not ids:
        raise ValueError("image_ids: expected one or more, found none")
    check_image_ids(ids)
    check_distinct(ids)
    for name in _TABLES:
        found = getattr(split, name)
        if found and set(found) != set(ids):
            other = next(each for each in (*ids, *found) if (each in found) != (each in split.image_ids))
            raise ValueError(
                f"{name}: expected the {len(ids)} ids of image_ids, found others: {other!r} is in one only"
            )
    if split.boxes and (split.mask_paths or not split.image_sizes):
        raise ValueError("boxes: expected the sizes of their images, and no masks")
    labels = [(each, _whole("class_labels", each, label, 0, _MAX_CLASS)) for each, label in split.class_labels.items()]
    sizes = [
        (each, *(_whole("image_sizes", each, side, 1, _MAX_SIDE) for side in (width, height)))
        for each, (width, height) in split.image_sizes.items()
    ]
    located: list[tuple] = []
    for image_id in ids:
        if split.boxes:
            boxes, size = np.asarray(split.boxes[image_id]), np.array([split.image_sizes[image_id]])
            if boxes.dtype.kind not in "iu" or boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
                raise ValueError(f"boxes: {image_id!r}: expected integers [n, 4] with n >= 1, found {boxes.tolist()}")
            if box_formats.is_backwards(boxes).any() or not box_formats.is_inside(boxes, size).all():
                raise ValueError(f"boxes: {image_id!r}: expected boxes inside its image, found {boxes.tolist()}")
            located += [(image_id, *row) for row in boxes.tolist()]
        elif split.mask_paths:
            ignored = split.ignore_paths[image_id] if split.ignore_paths else None
            paths = list(split.mask_paths[image_id])
            if not paths or not all(paths) or ignored == "":
                raise ValueError(f"mask_paths: {image_id!r}: expected names of files, found {paths} and {ignored!r}")
            located += [(image_id, path, "" if place else ignored or "") for place, path in enumerate(paths)]
    return {
        "image_ids.txt": [(each,) for each in ids],
        "class_labels.txt": labels,
        "image_sizes.txt": sizes,
        "localization.txt": located,
    }


def _whole(name: str, image_id: str, value: object, low: int, high: int) -> int:
    """The value as an int, if it is an integer from ``low`` to ``high``."""
    if not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ValueError(f"{name}: {image_id!r}: expected an integer from {low} to {high}, found {value!r}")
    return int(value)


def scale_boxes(boxes: np.ndarray, image_sizes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes in pixels of maps instead of their images.

    Args:
        boxes: int [n, 4], x0 y0 x1 y1 in pixels of the image.
        image_sizes: Width and height of each box's image, int [n, 2].
        size: Height and width of the maps, in pixels.

    Returns:
        int32 [n, 4]: x * width of the map / width of the image in float64, truncated; y likewise.
    """
    map_sides = np.array([size[1], size[0]] * 2, np.float64)
    return (boxes * map_sides / np.tile(image_sizes, 2)).astype(np.int32)


def original_boxes(boxes: np.ndarray, image_sizes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes of resized maps in pixels of their images: what :func:`scale_boxes` undoes.

    The evaluation puts an image's pixel X on the map's pixel ``int(X * w / W)``. Here x0 becomes the first pixel of the
    image that comes to x0, and x1 the last that comes to x1: ``ceil(x0 * W / w)`` and ``ceil((x1 + 1) * W / w) - 1``,
    which lie inside the image. Scaling that as ground truth is scaled gives the box back, exactly, where the image is
    at least as wide and high as the map. On a shorter side several pixels of the map share one of the image, and a box
    may come back up to ``w / W`` pixels off; it has at least one pixel of the image.

    Args:
        boxes: x0 y0 x1 y1 in pixels of the map, inclusive, int [N, 4].
        image_sizes: Width and height of each box's image, int [N, 2].
        size: Height and width of the maps, in pixels.

    Returns:
        int32 [N, 4], x0 y0 x1 y1 in pixels of the image, inclusive.
    """
    sides, map_sides = np.asarray(image_sizes, np.int64), np.array([size[1], size[0]])
    corners = np.asarray(boxes, np.int64)
    first = np.minimum(-(-corners[:, :2] * sides // map_sides), sides - 1)
    last = -(-(corners[:, 2:] + 1) * sides // map_sides) - 1
    return np.concatenate([first, np.maximum(first, last)], axis=1).astype(np.int32)


# The files, one function each. What is wrong goes into ``problems``, and reading goes on: what they return is usable
# only if there are none in the end. ``places`` numbers the image ids and grows by those that it does not have.


def read_image_ids(path: Path, problems: Problems) -> tuple[ImageIds, np.ndarray]:
    """image_ids.txt: the ids, and the line of each, int32 [n]."""
    lines, (image_ids,) = read_texts(path, ("id",), problems)
    ids = ImageIds(tuple(image_ids))
    if len(ids.places) < len(image_ids):
        first: dict[str, int] = {}
        for line, image_id in zip(lines.tolist(), image_ids, strict=True):
            if first.setdefault(image_id, line) != line:
                problems.add("{}:{}: {!r} is on line {} already", path.name, line, image_id, first[image_id])
        return ImageIds(tuple(first)), np.array(list(first.values()), np.int32)
    return ids, lines


def read_class_labels(
    path: Path, ids: ImageIds, problems: Problems, *, optional: bool = False, repeated: Problems | None = None
) -> Table:
    """class_labels.txt: the class of each image, [n, 1]. Second lines of an image are ``repeated`` if that is there."""
    table = read_numbers(path, ("id", "class"), ids, problems, optional=optional)
    labels = table.numbers[:, 0]
    wrong = np.flatnonzero(table.good & ~((labels >= 0) & (labels <= _MAX_CLASS)))
    expected = f"expected a class from 0 to {_MAX_CLASS}"
    problems.add_all(
        len(wrong), (f"{path.name}:{table.lines[row]}: {expected}, found {int(labels[row])}" for row in wrong.tolist())
    )
    _expect_distinct(path, table, ids, problems if repeated is None else repeated)
    return table


def read_image_sizes(
    path: Path, ids: ImageIds, problems: Problems, *, optional: bool = False, repeated: Problems | None = None
) -> Table:
    """image_sizes.txt: width and height of each image in pixels, [n, 2]; ``repeated`` as above."""
    table = read_numbers(path, ("id", "width", "height"), ids, problems, optional=optional)
    wrong = table.good & ((table.numbers < 1) | (table.numbers > _MAX_SIDE)).any(axis=1)

    def problem(row: int) -> str:
        width, height = table.numbers[row].astype(int)
        return f"{path.name}:{table.lines[row]}: expected sides of 1 to {_MAX_SIDE} pixels, found {width} x {height}"

    problems.add_all(np.count_nonzero(wrong), map(problem, np.flatnonzero(wrong).tolist()))
    _expect_distinct(path, table, ids, problems if repeated is None else repeated)
    return table._replace(good=table.good & ~wrong)


def read_kind(path: Path, problems: Problems) -> str | None:
    """Whether localization.txt holds "boxes" (5 columns) or "masks" (3); its first line of either kind tells."""
    first, before = None, problems.num
    for line, fields, text in first_fields(path, problems):
        if kind := {5: "boxes", 3: "masks"}.get(len(fields)):
            return kind
        first = first or (line, text)
    if first:
        problems.add(
            "{}:{}: expected id,x0,y0,x1,y1 or id,mask_path,ignore_path, found {}",
            path.name,
            first[0],
            shorten(first[1]),
        )
    elif problems.num == before:
        problems.add("{}: is empty", path.name)
    return None


def read_boxes(path: Path, ids: ImageIds, problems: Problems, *, fractions: bool = False) -> Table:
    """localization.txt with boxes: x0 y0 x1 y1 in pixels of the image, [n, 4]; an image may have several."""
    return read_numbers(path, ("id", "x0", "y0", "x1", "y1"), ids, problems, fractions=fractions)


def read_masks(path: Path, problems: Problems) -> tuple[dict[str, list[str]], dict[str, str]]:
    """localization.txt with masks: id -> mask paths, and id -> ignore path, "" where there is none."""
    mask_paths: dict[str, list[str]] = {}
    ignore_paths: dict[str, str] = {}
    lines, columns = read_texts(path, ("id", "mask_path", "ignore_path"), problems)
    for line, image_id, mask_path, ignore_path in zip(lines.tolist(), *columns, strict=True):
        if not mask_path:
            problems.add("{}:{}: {!r} has an empty mask path", path.name, line, image_id)
        mask_paths.setdefault(image_id, []).append(mask_path)
        known = ignore_paths.get(image_id, "")
        ignore_paths[image_id] = known or ignore_path
        if known and ignore_path not in ("", known):
            problems.add(
                "{}:{}: {!r} has the ignore path {!r} already, found {!r} too",
                path.name, line, image_id, known, ignore_path,
            )  # fmt: skip
    return mask_paths, ignore_paths


def _expect_distinct(path: Path, table: Table, ids: ImageIds, problems: Problems) -> None:
    """An image with a second line is a problem."""
    if (np.diff(table.places) > 0).all():
        return
    distinct, first = np.unique(table.places, return_index=True)
    if len(distinct) == len(table.places):
        return
    first_of = dict(zip(distinct.tolist(), first.tolist(), strict=True))
    again = np.setdiff1d(np.arange(len(table.places)), first)

    def problem(row: int) -> str:
        place = int(table.places[row])
        image_id = ids.at(place)
        line, before = table.lines[row], table.lines[first_of[place]]
        return f"{path.name}:{line}: {image_id!r} is on line {before} already"

    problems.add_all(len(again), map(problem, again.tolist()))


def _corners(
    table: Table,
    ids: ImageIds,
    sizes: Table,
    box_format: str,
    box_rounding: str,
    problems: Problems,
) -> np.ndarray:
    """The corners of boxes, [n, 4]; a box of an image of the split that is not inside it is a problem."""
    size_of = np.zeros((len(ids.places), 2), np.int32)  # 0: not known
    size_of[sizes.places[sizes.good]] = sizes.numbers[sizes.good]
    size = size_of[table.places]
    rows = table.numbers if table.good.all() else np.nan_to_num(table.numbers)
    corners = box_formats.to_corners(rows, size, box_format, box_rounding)
    sized, here = size[:, 0] > 0, table.places < len(ids.listed)
    backwards, outside = box_formats.is_backwards(corners), ~box_formats.is_inside(corners, size) & sized
    wrong = np.flatnonzero((backwards | outside) & here & table.good)
    names = "x0 <= x1 and y0 <= y1" if box_format == "xyxy" else "a width and a height that are not negative"

    def problem(row: int) -> str:
        image_id = ids.at(table.places[row])
        width, height = size[row]
        expected = f"with {names}" if backwards[row] else f"inside its image of {width} x {height} pixels"
        found = ",".join(map(str, table.numbers[row].tolist()))
        return f"localization.txt:{table.lines[row]}: {image_id!r}: expected a box {expected}, found {found}"

    problems.add_all(len(wrong), map(problem, wrong.tolist()))
    read = here & sized & ~np.isnan(table.numbers).any(axis=1)
    if box_formats.are_fractions(table.numbers[read], size[read]) and table.good.all():
        problems.add("localization.txt: expected boxes in pixels, found no number above 1")
    elif table.good.all() and not len(wrong):
        if suspicion := box_formats.suspicion(corners[read], size[read]):
            warnings.warn(f"localization.txt: {suspicion}", stacklevel=3)
        return corners
    found = table.numbers[read]
    if box_rounding == "none" and table.good[read].all():  # floats only because of lines that are left out here
        found = found.astype(np.int64)
    problems.guesses += box_formats.guesses(found, size[read], box_format, box_rounding)
    return corners


def _one_each(table: Table, ids: ImageIds) -> Mapping:
    """What a table without problems says about each image; empty if it is empty."""
    if not len(table.lines):
        return {}
    known = table.places < len(ids.listed)
    values = np.empty((len(ids.listed), table.numbers.shape[1]), np.int32)
    values[table.places[known]] = table.numbers[known]
    return _Rows(ids.places, values[:, 0] if values.shape[1] == 1 else values)


def _by_image(places: np.ndarray, rows: np.ndarray, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in the order of the images, int32 [n, 4], and where each image's begin and end, int64 [images + 1]."""
    if (np.diff(places) < 0).any():
        order = np.argsort(places, kind="stable")
        places, rows = places[order], rows[order]
    ends = np.searchsorted(places, np.arange(num_images + 1))
    return rows[: ends[-1]].astype(np.int32), ends

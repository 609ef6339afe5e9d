"""Metadata folders: which images a split has, their classes and sizes, and where their objects are.

In: image_ids.txt, class_labels.txt, image_sizes.txt, localization.txt of one split. Out: a Metadata of them, checked.
Source: the file layout of Choe et al., arXiv 2007.04178; boxes are scaled as its evaluation does, truncated.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsolkern.errors import DatasetError

_NUM_LISTED = 8  # problems that one error spells out; it counts the rest
_MAX_SIDE = 1 << 20  # pixels of an image; more is a slip of the pen


@dataclass(frozen=True, eq=False)
class Metadata:
    """One split of a data set, as its files say it."""

    folder: str
    """The folder it was read from."""
    image_ids: tuple[str, ...]
    """The images, in the order of image_ids.txt; the other fields hold these ids and no others."""
    kind: str
    """What localizes the objects: "boxes" or "masks"."""
    class_labels: dict[str, int]
    """Class of an image; empty if class_labels.txt is missing or empty."""
    image_sizes: dict[str, tuple[int, int]]
    """Width and height of an image, in pixels; empty for masks whose image_sizes.txt is missing or empty."""
    boxes: dict[str, np.ndarray]
    """Boxes of an image, int32 [n, 4], n >= 1, x0 y0 x1 y1 in pixels of the original image; empty for masks."""
    mask_paths: dict[str, tuple[str, ...]]
    """Mask files of an image, one an instance, relative to the mask root; empty for boxes."""
    ignore_paths: dict[str, str | None]
    """File of the region of an image that does not count, relative to the mask root, or None; empty for boxes."""

    def resized_boxes(self, size: tuple[int, int] = (224, 224)) -> dict[str, np.ndarray]:
        """The boxes in pixels of a map.

        Args:
            size: Height and width of the map, in pixels.

        Returns:
            Image id -> int32 [n, 4], x0 y0 x1 y1: each coordinate times the map's side over the image's, truncated.
        """
        if not self.boxes:
            return {}
        counts = [len(boxes) for boxes in self.boxes.values()]
        image_sizes = np.repeat([self.image_sizes[image_id] for image_id in self.boxes], counts, axis=0)
        scaled = scale_boxes(np.concatenate(list(self.boxes.values())), image_sizes, size)
        return dict(zip(self.boxes, _split(scaled, counts), strict=True))

    def line_of(self, name: str, image_id: str) -> int | None:
        """The first line of a file that is about an image, for messages; the file is read anew for every call.

        Args:
            name: Such as "class_labels.txt".
            image_id: The image.

        Returns:
            The line's number from 1, or None if there is none or the file cannot be read any more.
        """
        for line, text in zip(*_lines(Path(self.folder, name), []), strict=True):
            if text.partition(",")[0] == image_id:
                return line
        return None


def load_metadata(folder: str | os.PathLike) -> Metadata:
    """Reads and checks one split of a data set.

    The files are UTF-8 with one record a line; empty lines are left out:

    - ``image_ids.txt``: ``id``;
    - ``localization.txt``: ``id,x0,y0,x1,y1`` for a box or ``id,mask_path,ignore_path`` for a mask, told apart by the
      number of columns; one or more lines an image. The ignore path may be empty, and an image has at most one;
    - ``image_sizes.txt``: ``id,width,height``; for masks it may be missing or empty;
    - ``class_labels.txt``: ``id,class``; it may be missing or empty.

    Boxes lie inside their image; x1 = width and y1 = height, one past the last pixel, are accepted. Lines about ids
    that image_ids.txt does not have are left out: a shorter image_ids.txt selects a subset.

    Args:
        folder: The split's folder, such as ``metadata/CUB/test``.

    Returns:
        The split.

    Raises:
        DatasetError: A file, a record or a column is missing, an id is there twice, a number is none, a box is outside
            its image or ends before it begins. The one error lists the first such problems, each with file and line,
            and how many more there are.
    """
    folder = Path(folder)
    problems: list[str] = []
    image_ids = read_image_ids(folder / "image_ids.txt", problems)
    kind = read_kind(folder / "localization.txt", problems)
    class_labels = read_class_labels(folder / "class_labels.txt", problems, optional=True)
    image_sizes = read_image_sizes(folder / "image_sizes.txt", problems, optional=kind != "boxes")
    boxes, mask_paths, ignore_paths, located = {}, {}, {}, ()
    if kind == "boxes":
        lines, located, rows = read_boxes(folder / "localization.txt", problems)
        boxes = _group_boxes(lines, located, rows, image_ids, image_sizes, problems)
        located = set(located)
    elif kind == "masks":
        located, ignore_paths = read_masks(folder / "localization.txt", problems)
        mask_paths = {image_id: tuple(located.get(image_id, ())) for image_id in image_ids}

    # An empty table is a file that may be missing, or one whose absence is a problem already.
    for name, table in (
        ("class_labels.txt", class_labels),
        ("image_sizes.txt", image_sizes),
        ("localization.txt", located),
    ):
        problems += missing_lines(image_ids, table, name)
    raise_problems(folder, problems)
    return Metadata(
        folder=str(folder),
        image_ids=tuple(image_ids),
        kind=kind,
        class_labels={image_id: class_labels[image_id] for image_id in image_ids} if class_labels else {},
        image_sizes={image_id: image_sizes[image_id] for image_id in image_ids} if image_sizes else {},
        boxes=boxes,
        mask_paths=mask_paths,
        ignore_paths={image_id: ignore_paths[image_id] or None for image_id in mask_paths},
    )


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


# The files, one function each. What is wrong goes into ``problems``, and reading goes on: what they return is usable
# only if there are none in the end.


def read_image_ids(path: Path, problems: list[str]) -> dict[str, int]:
    """image_ids.txt: id -> the line it is on."""
    lines, (image_ids,) = _table(path, ("id",), problems)
    return _unique(path, lines, image_ids, lines, problems)


def read_class_labels(path: Path, problems: list[str], *, optional: bool = False) -> dict[str, int]:
    """class_labels.txt: id -> class."""
    lines, (image_ids, *columns) = _table(path, ("id", "class"), problems, optional=optional)
    labels = _integers(path, lines, columns, problems)
    return _unique(path, lines, image_ids, labels[:, 0].tolist(), problems)


def read_image_sizes(path: Path, problems: list[str], *, optional: bool = False) -> dict[str, tuple[int, int]]:
    """image_sizes.txt: id -> width and height in pixels."""
    lines, (image_ids, *columns) = _table(path, ("id", "width", "height"), problems, optional=optional)
    sizes = _integers(path, lines, columns, problems, instead=_MAX_SIDE)
    for row in np.flatnonzero(((sizes < 1) | (sizes > _MAX_SIDE)).any(axis=1)):
        width, height = sizes[row]
        problems.append(
            f"{path.name}:{lines[row]}: expected sides of 1 to {_MAX_SIDE} pixels, found {width} x {height}"
        )
    return _unique(path, lines, image_ids, list(map(tuple, sizes.tolist())), problems)


def read_kind(path: Path, problems: list[str]) -> str | None:
    """Whether localization.txt holds "boxes" (5 columns) or "masks" (3); its first line of either kind tells."""
    lines, texts = _lines(path, problems)
    for text in texts:
        if kind := {4: "boxes", 2: "masks"}.get(text.count(",")):
            return kind
    if lines:
        problems.append(
            f"{path.name}:{lines[0]}: expected id,x0,y0,x1,y1 or id,mask_path,ignore_path, found {_shorten(texts[0])}"
        )
    return None


def read_boxes(path: Path, problems: list[str]) -> tuple[list[int], list[str], np.ndarray]:
    """localization.txt with boxes: lines, ids and x0 y0 x1 y1 in pixels of the image, int64 [n, 4], n of each."""
    lines, (image_ids, *columns) = _table(path, ("id", "x0", "y0", "x1", "y1"), problems)
    return lines, image_ids, _integers(path, lines, columns, problems)


def read_masks(path: Path, problems: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """localization.txt with masks: id -> mask paths, and id -> ignore path, "" where there is none."""
    mask_paths: dict[str, list[str]] = {}
    ignore_paths: dict[str, str] = {}
    lines, columns = _table(path, ("id", "mask_path", "ignore_path"), problems)
    for line, image_id, mask_path, ignore_path in zip(lines, *columns, strict=True):
        if not mask_path:
            problems.append(f"{path.name}:{line}: {image_id!r} has an empty mask path")
        mask_paths.setdefault(image_id, []).append(mask_path)
        known = ignore_paths.get(image_id, "")
        ignore_paths[image_id] = known or ignore_path
        if known and ignore_path not in ("", known):
            problems.append(
                f"{path.name}:{line}: {image_id!r} has the ignore path {known!r} already, found {ignore_path!r} too"
            )
    return mask_paths, ignore_paths


def missing_lines(image_ids: dict[str, int], table: dict, name: str) -> list[str]:
    """Problems: ids, with their lines in image_ids.txt, that a table read from a file lacks; none if it is empty."""
    if not table:
        return []
    return [
        f"image_ids.txt:{line}: {image_id!r} has no line in {name}"
        for image_id, line in image_ids.items()
        if image_id not in table
    ]


def raise_problems(where: str | os.PathLike, problems: list[str]) -> None:
    """Raises one DatasetError that lists the first problems and counts the others; does nothing if there are none."""
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:_NUM_LISTED])
        more = f"\n  and {len(problems) - _NUM_LISTED} more" if len(problems) > _NUM_LISTED else ""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DatasetError(f"{os.fspath(where)}: {count}{listed}{more}")


def _lines(path: Path, problems: list[str], *, optional: bool = False) -> tuple[list[int], list[str]]:
    """The lines of a file that are not empty: their numbers from 1, and their texts."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if not optional:
            problems.append(f"{path.name}: no such file")
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name}: cannot be read: {error}")
        return [], []
    texts = text.split("\n")
    numbers = [number for number, line in enumerate(texts, start=1) if line]
    if not numbers and not optional:
        problems.append(f"{path.name}: is empty")
    return numbers, [line for line in texts if line]


def _table(
    path: Path, names: tuple[str, ...], problems: list[str], *, optional: bool = False
) -> tuple[list[int], list[list[str]]]:
    """The records of a file: their lines, and one list a column; a wrong number of columns is a problem, no record."""
    lines, texts = _lines(path, problems, optional=optional)
    width = len(names)
    wrong = [index for index, text in enumerate(texts) if text.count(",") != width - 1]
    for index in wrong:
        problems.append(
            f"{path.name}:{lines[index]}: expected {','.join(names)}, "
            f"found {texts[index].count(',') + 1} columns in {_shorten(texts[index])}"
        )
    for index in reversed(wrong):
        del lines[index], texts[index]
    fields = ",".join(texts).split(",") if texts else []
    return lines, [fields[column::width] for column in range(width)]


def _integers(
    path: Path, lines: list[int], columns: list[list[str]], problems: list[str], *, instead: int = 0
) -> np.ndarray:
    """Columns of numbers as int64 [n, columns]; a record with anything else is a problem and reads ``instead``."""
    try:
        return np.array([list(map(int, column)) for column in columns], np.int64).T
    except (ValueError, OverflowError):
        rows = []
        for line, *texts in zip(lines, *columns, strict=True):
            try:
                rows.append(np.array(list(map(int, texts)), np.int64))
            except (ValueError, OverflowError):
                problems.append(f"{path.name}:{line}: expected integers, found {_shorten(','.join(texts))}")
                rows.append(np.full(len(columns), instead, np.int64))
        return np.stack(rows)


def _unique(path: Path, lines: list[int], image_ids: list[str], values: list, problems: list[str]) -> dict:
    """id -> value; an id that comes again is a problem."""
    table = dict(zip(image_ids, values, strict=True))
    if len(table) < len(image_ids):
        first: dict[str, int] = {}
        for line, image_id in zip(lines, image_ids, strict=True):
            if first.setdefault(image_id, line) != line:
                problems.append(f"{path.name}:{line}: {image_id!r} is on line {first[image_id]} already")
    return table


def _group_boxes(
    lines: list[int],
    located: list[str],
    rows: np.ndarray,
    image_ids: dict[str, int],
    image_sizes: dict[str, tuple[int, int]],
    problems: list[str],
) -> dict[str, np.ndarray]:
    """Boxes by image, int32 [n, 4] each, in the order of the ids; a box that is not inside its image is a problem."""
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    image_of_row = np.array([position.get(image_id, -1) for image_id in located], np.int64)
    order = np.argsort(image_of_row, kind="stable")
    order = order[image_of_row[order] >= 0]
    rows, image_of_row = rows[order], image_of_row[order]

    sizes = np.array([image_sizes.get(image_id, (0, 0)) for image_id in image_ids], np.int64).reshape(-1, 2)
    (x0, y0, x1, y1), (width, height) = rows.T, sizes[image_of_row].T
    backwards = (x1 < x0) | (y1 < y0)
    outside = (x0 < 0) | (y0 < 0) | (x0 >= width) | (y0 >= height) | (x1 > width) | (y1 > height)
    for row in np.flatnonzero(backwards | outside & (width > 0)):
        box = ",".join(map(str, rows[row]))
        expected = f"inside its image of {width[row]} x {height[row]} pixels"
        problems.append(
            f"localization.txt:{lines[order[row]]}: {located[order[row]]!r}: "
            f"expected a box {'with x0 <= x1 and y0 <= y1' if backwards[row] else expected}, found {box}"
        )
    counts = np.bincount(image_of_row, minlength=len(image_ids)).tolist()
    return dict(zip(image_ids, _split(rows.astype(np.int32), counts), strict=True))


def _split(rows: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    """Consecutive pieces of ``rows``, one for each count."""
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")

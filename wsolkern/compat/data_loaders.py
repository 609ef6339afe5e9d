"""Metadata files under the published evaluator's names.

In: a metadata folder. Out: its paths, and what each file holds, as dictionaries by image id.
Source: the module ``data_loaders`` of Choe et al.'s evaluator: names, signatures and types; files are described in
:func:`wsolkern.datasets.load_metadata`, which checks them against each other. Here each one is checked by itself.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wsolkern.datasets import metadata as files
from wsolkern.datasets.tables import ImageIds, Problems, read_texts

_FILES = ("image_ids", "image_ids_proxy", "class_labels", "image_sizes", "localization")


class _Paths(dict):
    """Paths by name, as items and as attributes."""

    def __getattr__(self, name: str) -> str:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: str) -> None:
        self[name] = value


def configure_metadata(metadata_root: str) -> _Paths:
    """The paths of a metadata folder's files, as attributes and as items; nothing is opened."""
    return _Paths({name: os.path.join(metadata_root, f"{name}.txt") for name in _FILES})


def get_image_ids(metadata, proxy: bool = False) -> list[str]:
    """The image ids, in the order of the file; ``proxy`` reads image_ids_proxy.txt instead.

    One that is listed twice is there twice, as published, with a warning: such an image counts twice.
    """
    path = metadata["image_ids_proxy" if proxy else "image_ids"]
    ids = list(_read(lambda path, problems: read_texts(path, ("id",), problems).columns[0], path))
    if twice := [image_id for image_id, times in Counter(ids).items() if times > 1]:
        warnings.warn(
            f"{path}: {len(twice):,} ids are listed more than once, the first is {twice[0]!r}; such an image counts as "
            "often as it is accumulated",
            stacklevel=2,
        )
    return ids


def get_class_labels(metadata) -> dict[str, int]:
    """Image id -> class; the last one, with a warning, where a file gives several."""
    return _by_image(files.read_class_labels, metadata["class_labels"], lambda rows: rows[:, 0].tolist())


def get_bounding_boxes(metadata) -> dict[str, list[tuple[int, int, int, int]]]:
    """Image id -> boxes, (x0, y0, x1, y1) in pixels of the original image.

    A line that holds no box is an error if its image is in image_ids.txt, otherwise it is left out, with a warning.
    """
    ids, problems, path = ImageIds(), Problems(), Path(metadata["localization"])
    table = files.read_boxes(path, ids, problems)
    wrong = np.flatnonzero(~table.good)
    if len(wrong) and problems.num == len(wrong):  # nothing else is the matter
        names = list(ids.places)
        used = set(get_image_ids(metadata)).intersection(names[place] for place in table.places[wrong].tolist())
        if not used:
            warnings.warn(
                f"{problems.message(path.parent)}\n  in images that image_ids.txt does not list", stacklevel=2
            )
            problems = Problems()
    problems.raise_if_any(path.parent)
    boxes: dict[str, list] = {image_id: [] for image_id in ids.places}
    per_image = list(boxes.values())
    numbers = table.numbers[table.good].astype(np.int64, copy=False)
    for place, box in zip(table.places[table.good].tolist(), map(tuple, numbers.tolist()), strict=True):
        per_image[place].append(box)
    return {image_id: each for image_id, each in boxes.items() if each}


def get_mask_paths(metadata) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Image id -> paths of its masks, and image id -> path of what to ignore, "" where there is none."""
    return _read(files.read_masks, metadata["localization"])


def get_image_sizes(metadata) -> dict[str, tuple[int, int]]:
    """Image id -> (width, height) in pixels; the last ones, with a warning, where a file gives several."""
    return _by_image(files.read_image_sizes, metadata["image_sizes"], lambda rows: map(tuple, rows.tolist()))


def _read(read: Callable, path: str):
    """What a reader makes of a file that has nothing wrong with it; a DatasetError names file and line of the rest."""
    problems = Problems()
    content = read(Path(path), problems)
    problems.raise_if_any(Path(path).parent)
    return content


def _by_image(read: Callable, path: str, values: Callable) -> dict:
    """The same for a file of one line an image, as a dictionary."""
    ids, repeated = ImageIds(), Problems()
    table = _read(lambda path, problems: read(path, ids, problems, repeated=repeated), path)
    if repeated.num:
        warnings.warn(f"{repeated.message(Path(path).parent)}\n  the last line counts", stacklevel=3)
    names = list(ids.places)
    return {names[place]: value for place, value in zip(table.places.tolist(), values(table.numbers), strict=True)}

"""Metadata files under the published evaluator's names.

In: a metadata folder. Out: its paths, and what each file holds, as dictionaries by image id.
Source: the module ``data_loaders`` of Choe et al.'s evaluator: names, signatures and types; files are described in
:func:`wsolkern.datasets.load_metadata`, which checks them against each other. Here each one is checked by itself.
"""

import os
from collections.abc import Callable
from pathlib import Path

from wsolkern.datasets import metadata as files
from wsolkern.datasets.tables import ImageIds, Problems

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
    """The image ids, in the order of the file; ``proxy`` reads image_ids_proxy.txt instead."""
    ids, _ = _read(files.read_image_ids, metadata["image_ids_proxy" if proxy else "image_ids"])
    return list(ids.listed)


def get_class_labels(metadata) -> dict[str, int]:
    """Image id -> class."""
    ids = ImageIds()
    labels = _read(files.read_class_labels, metadata["class_labels"], ids).numbers[:, 0]
    return dict(zip(ids.places, labels.tolist(), strict=True))


def get_bounding_boxes(metadata) -> dict[str, list[tuple[int, int, int, int]]]:
    """Image id -> boxes, (x0, y0, x1, y1) in pixels of the original image."""
    ids = ImageIds()
    table = _read(files.read_boxes, metadata["localization"], ids)
    boxes: dict[str, list] = {image_id: [] for image_id in ids.places}
    per_image = list(boxes.values())
    for place, box in zip(table.places.tolist(), map(tuple, table.numbers.tolist()), strict=True):
        per_image[place].append(box)
    return boxes


def get_mask_paths(metadata) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Image id -> paths of its masks, and image id -> path of what to ignore, "" where there is none."""
    return _read(files.read_masks, metadata["localization"])


def get_image_sizes(metadata) -> dict[str, tuple[int, int]]:
    """Image id -> (width, height) in pixels."""
    ids = ImageIds()
    sizes = _read(files.read_image_sizes, metadata["image_sizes"], ids).numbers
    return dict(zip(ids.places, map(tuple, sizes.tolist()), strict=True))


def _read(read: Callable, path: str, *ids: ImageIds):
    """What a reader makes of a file that has nothing wrong with it; a DatasetError names file and line of the rest."""
    problems = Problems()
    content = read(Path(path), *ids, problems)
    problems.raise_if_any(Path(path).parent)
    return content

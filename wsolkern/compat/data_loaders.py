"""Metadata files under the published evaluator's names.

In: a metadata folder. Out: its paths, and what each file holds, as dictionaries by image id.
Source: the module ``data_loaders`` of Choe et al.'s evaluator: names, signatures and types; files are described in
:func:`wsolkern.datasets.load_metadata`, which checks them against each other. Here each one is checked by itself.
"""

import os
from collections.abc import Callable
from pathlib import Path

from wsolkern.datasets import metadata as files

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
    return list(_read(files.read_image_ids, metadata["image_ids_proxy" if proxy else "image_ids"]))


def get_class_labels(metadata) -> dict[str, int]:
    """Image id -> class."""
    return _read(files.read_class_labels, metadata["class_labels"])


def get_bounding_boxes(metadata) -> dict[str, list[tuple[int, int, int, int]]]:
    """Image id -> boxes, (x0, y0, x1, y1) in pixels of the original image."""
    _, image_ids, rows = _read(files.read_boxes, metadata["localization"])
    boxes: dict[str, list] = {}
    for image_id, box in zip(image_ids, map(tuple, rows.tolist()), strict=True):
        boxes.setdefault(image_id, []).append(box)
    return boxes


def get_mask_paths(metadata) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Image id -> paths of its masks, and image id -> path of what to ignore, "" where there is none."""
    return _read(files.read_masks, metadata["localization"])


def get_image_sizes(metadata) -> dict[str, tuple[int, int]]:
    """Image id -> (width, height) in pixels."""
    return _read(files.read_image_sizes, metadata["image_sizes"])


def _read(read: Callable, path: str):
    """What a reader makes of a file that has nothing wrong with it; a DatasetError names file and line of the rest."""
    problems: list[str] = []
    content = read(Path(path), problems)
    files.raise_problems(Path(path).parent, problems)
    return content

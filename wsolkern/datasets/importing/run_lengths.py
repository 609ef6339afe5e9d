"""Masks of COCO: run lengths, plain or compressed, and polygons, as bool [H, W].

In: the `segmentation` of an annotation. Out: its mask.
Source: COCO's format, https://cocodataset.org/#format-data: runs go down the columns and begin with background. The
compressed text has 5 bits a character, from the lowest on, and from the third count on differences to the last but one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsolkern.datasets.importing.records import MAX_PIXELS, number

_MAX_CHARACTERS = 13  # of one count: 64 bits


def decode(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of a segmentation.

    Args:
        segmentation: A list of polygons, or {"size": [height, width], "counts": numbers or text}.
        size: Width and height of the image in pixels.

    Returns:
        bool [height, width].

    Raises:
        ValueError: It is none of these, or does not fit the image.
        ImportError: Polygons need pycocotools, which is not installed.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"expected an image of at most {MAX_PIXELS} pixels, found {width} x {height}")
    if isinstance(segmentation, list):
        return _polygons(segmentation, size)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        found = segmentation.get("size") if isinstance(segmentation, dict) else segmentation
        raise ValueError(f"expected polygons, or run lengths of the size [{height}, {width}], found {str(found)[:60]}")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = uncompress(counts)
    if not isinstance(counts, list) or not all(type(each) is int and 0 <= each <= MAX_PIXELS for each in counts):
        raise ValueError("expected run lengths from 0")
    if sum(counts) != width * height:
        raise ValueError(f"expected run lengths with the sum {width * height}, found {sum(counts)}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def uncompress(text: str) -> list[int]:
    """The counts of a compressed run length.

    Raises:
        ValueError: It is none.
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        while True:
            if place >= len(text) or not 48 <= ord(text[place]) < 112 or shift >= 5 * _MAX_CHARACTERS:
                raise ValueError("expected compressed run lengths, found damaged text")
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            shift += 5
            place += 1
            if not bits & 32:
                break
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def _polygons(polygons: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    width, height = size
    if not polygons:
        raise ValueError("expected polygons, found none")
    for each in polygons:
        values = each if isinstance(each, list) else []
        numbers = [found for found in map(number, values) if found is not None]
        if len(numbers) < 6 or len(numbers) % 2 or len(numbers) < len(values):
            raise ValueError(f"expected polygons of three or more corners x, y, found {str(each)[:60]}")
        # pycocotools takes room for every pixel along an edge.
        if min(numbers) < -1 or max(numbers[::2]) > width + 1 or max(numbers[1::2]) > height + 1:
            raise ValueError(f"expected a polygon inside its image of {width} x {height}, found {str(each)[:60]}")
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError(f"{error}; polygons are drawn by pycocotools: pip install 'wsolkern[coco]'") from error
    runs = mask.frPyObjects([[float(value) for value in each] for each in polygons], height, width)
    return np.asarray(mask.decode(mask.merge(runs)), bool)

"""Boxes as files write them, to corners in whole pixels; and what a file may mean whose boxes are not valid.

In: four numbers a box, sizes of images, what the numbers are, how fractions are rounded. Out: x0 y0 x1 y1; guesses.
Source: corners as in Choe et al.'s metadata, where CUB's own x, y, w, h became x, y, x + w, y + h.
"""

from collections.abc import Iterator

import numpy as np

BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
BOX_ROUNDINGS = ("none", "nearest", "floor", "outward")
_RESIZED = 224  # pixels: the evaluation size of the published numbers
_ENOUGH = 50  # boxes, from which on a suspicion is more than chance


def check_format(box_format: str, box_rounding: str) -> None:
    """Does nothing for names that there are.

    Raises:
        ValueError: There is none such, and the message lists those that there are; or the two do not go together.
    """
    for name, found, allowed in (
        ("box_format", box_format, BOX_FORMATS),
        ("box_rounding", box_rounding, BOX_ROUNDINGS),
    ):
        if found not in allowed:
            raise ValueError(f"{name}: expected {', '.join(allowed[:-1])} or {allowed[-1]}, found {found!r}")
    if box_format == "cxcywh" and box_rounding == "none":  # half of an odd width is a fraction
        raise ValueError(
            "box_rounding: expected nearest, floor or outward for boxes of the format cxcywh, found 'none'"
        )


def to_corners(
    rows: np.ndarray,  # [n, 4], int64 or float64
    sizes: np.ndarray,  # int64 [n, 2]: width and height of each box's image
    box_format: str,
    box_rounding: str,
) -> np.ndarray:  # [n, 4], int64; of the dtype of ``rows`` for "none"
    """Corners in pixels; with a rounding, what is at most one pixel outside comes to the edge of the image."""
    if box_format == "xywh":
        rows = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)
    elif box_format == "cxcywh":
        rows = np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2], axis=1)
    if box_rounding == "none":
        return rows
    if box_rounding == "nearest":
        rows = np.floor(rows + 0.5)  # halves up
    elif box_rounding == "floor":
        rows = np.floor(rows)
    else:
        rows = np.concatenate([np.floor(rows[:, :2]), np.ceil(rows[:, 2:])], axis=1)
    return _to_edge(rows, sizes).astype(np.int64)


def is_backwards(corners: np.ndarray) -> np.ndarray:
    """bool [n]: the box ends before it begins."""
    return (corners[:, 2:] < corners[:, :2]).any(axis=1)


def is_inside(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool [n]: the box begins on a pixel of its image and ends there, or one past the last."""
    low, high = corners[:, :2], corners[:, 2:]
    return ((low >= 0) & (low < sizes) & (high <= sizes)).all(axis=1)


def guesses(rows: np.ndarray, sizes: np.ndarray, box_format: str, box_rounding: str) -> Iterator[str]:
    """What boxes may mean that are not valid as they stand, and what to do about it.

    Args:
        rows: The numbers of the file, [n, 4].
        sizes: Width and height of each box's image, at least 1, int64 [n, 2].
        box_format, box_rounding: How they were read.
    """
    total = len(rows)
    if total == 0:
        return
    if are_fractions(rows, sizes):
        yield "looks like fractions of the image: multiply x by its width and y by its height"
        return
    if box_rounding == "none" and rows.dtype.kind == "f":
        num_fractions = np.count_nonzero((rows != np.floor(rows)).any(axis=1))
        yield (
            f"numbers with a decimal point, {num_fractions:,} of {total:,} lines with a fraction: "
            "--box-rounding nearest, floor or outward says what becomes of them"
        )
    corners = to_corners(rows, sizes, box_format, box_rounding)
    valid = _are_valid(corners, sizes)
    if valid.all():
        return
    if box_rounding == "none" and _are_valid(_to_edge(corners, sizes), sizes).all():
        yield (
            f"{np.count_nonzero(~valid):,} of {total:,} lines are at most one pixel outside: "
            "--box-rounding nearest, floor or outward moves them to the edge of the image"
        )
        return
    other, columns = ("xywh", "x,y,w,h") if box_format == "xyxy" else ("xyxy", "x0,y0,x1,y1")
    ways = [
        (columns, to_corners(rows, sizes, other, box_rounding), f"--box-format {other}"),
        ("x0,x1,y0,y1", rows[:, [0, 2, 1, 3]], "order the columns"),
        ("y0,x0,y1,x1, or sizes that are height,width", rows[:, [1, 0, 3, 2]], "order the columns"),
        ("x1,y1,x0,y0", rows[:, [2, 3, 0, 1]], "order the columns"),
    ]
    if rows.max() <= _RESIZED:
        what = f"pixels of an image resized to {_RESIZED} x {_RESIZED}"
        ways.append((what, rows * np.tile(sizes, 2) / _RESIZED, "scale them back to the image's size"))
    found = [_are_valid(each, sizes) for _, each, _ in ways]
    best = int(np.argmax([np.count_nonzero(each) for each in found]))
    gained, lost = np.count_nonzero(found[best] & ~valid), np.count_nonzero(valid & ~found[best])
    if gained > lost:
        what, _, advice = ways[best]
        yield (
            f"looks like {what}: {gained:,} of {total:,} lines would be valid so and are not as read, {lost:,} the "
            f"other way round: {advice}"
        )


def suspicion(corners: np.ndarray, sizes: np.ndarray) -> str | None:
    """What is odd about boxes that are all valid, as if they were in pixels of resized images; None if nothing is."""
    if len(corners) < _ENOUGH:
        return None
    largest = corners[:, 2:].max()
    if 0.9 * _RESIZED <= largest <= _RESIZED and (sizes > 1.25 * _RESIZED).all(axis=1).mean() > 0.9:
        return (
            f"no box reaches beyond {largest} pixels, though most images are larger than {_RESIZED} x {_RESIZED}; "
            "boxes are expected in pixels of the original image, and look like those of a resized one"
        )
    return None


def are_fractions(rows: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether all numbers are fractions of something: none is above 1, some are between, and images are larger."""
    return (
        len(rows) > 0
        and rows.dtype.kind == "f"
        and bool(rows.min() >= 0 and rows.max() <= 1 and (rows != np.floor(rows)).any() and (sizes > 1).any())
    )


def _to_edge(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What is at most one pixel outside its image comes to the edge; all else stays."""
    high = np.tile(sizes, 2)
    corners = np.where((corners < 0) & (corners >= -1), 0, corners)
    return np.where((corners > high) & (corners <= high + 1), high, corners)


def _are_valid(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return ~is_backwards(corners) & is_inside(corners, sizes)

"""Labels against the classes that a model tells apart, before anything is computed with them.

In: image id -> class, from a file, from folders or from anyone's code. Out: the same as plain integers, or one error.
Source: none.
"""

import csv
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from wsolkern.errors import DatasetError
from wsolkern.files import read_regular


def check_labels(
    labels: Mapping[str, int],
    image_ids: Iterable[str],
    num_classes: int | None = None,
    *,
    place: Callable[[str], str] | None = None,
) -> dict[str, int]:
    """The labels of some images, if a model can take them all.

    Args:
        labels: Image id -> class.
        image_ids: The images; labels of others are left out.
        num_classes: How many classes the model tells apart, K; None is unknown.
        place: What the label of an image is called in an error, such as :func:`line_of` says; default: "labels".

    Returns:
        Image id -> class, an int in [0, K).

    Raises:
        DatasetError: An image has no label, or one that is no integer or is outside [0, K); the error names the first,
            and how many others there are.
    """
    found: dict[str, int] = {}
    wrong: dict[str, object] = {}
    for image_id in image_ids:
        try:
            label = labels[image_id]
        except KeyError:
            raise DatasetError(f"labels: image {image_id!r} has none") from None
        if type(label) is not int:
            label = _integer(label)
        if label is None:
            wrong[image_id] = labels[image_id]
        else:
            found[image_id] = label
            if label < 0 or (num_classes is not None and label >= num_classes):
                wrong[image_id] = label
    if not wrong:
        return found
    image_id, label = next(iter(wrong.items()))
    if num_classes is None:
        expected = "an integer of at least 0"
    else:
        expected = f"an integer in [0, {num_classes}), as the model tells {num_classes} classes apart"
    more = f", and {len(wrong) - 1:,} more such labels" if len(wrong) > 1 else ""
    guess = ""
    if found and num_classes is not None and min(found.values()) >= 1 and max(found.values()) == num_classes:
        guess = f". The labels seem to start at 1: of {num_classes} classes the first is 0"
    where = "labels" if place is None else place(image_id)
    raise DatasetError(f"{where}: image {image_id!r}: expected {expected}, found {label!r}{more}{guess}")


def line_of(file: str | os.PathLike, image_id: str) -> str:
    """A file of records ``id,...`` and the line that an image has there, as "FILE:LINE"; without it, only "FILE"."""
    try:
        lines = read_regular(Path(file)).decode("utf-8-sig").split("\n")
        for number, line in enumerate(lines, start=1):
            if image_id in line.replace('""', '"') and next(csv.reader([line.rstrip("\r")]))[0] == image_id:
                return f"{os.fspath(file)}:{number}"
    except (OSError, ValueError, csv.Error):
        pass
    return os.fspath(file)


def _integer(value: object) -> int | None:
    """An int of any integer; None of a truth value or anything else."""
    try:
        return None if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")) else operator.index(value)
    except TypeError:
        return None

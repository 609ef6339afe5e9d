"""What every source is brought to before it is written, and the account of what is left out.

In: one annotated image after another. Out: values that :mod:`wsolkern.datasets.importing.assembly` takes.
Source: none.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from wsolkern.datasets.ids import id_problem
from wsolkern.datasets.pixels import open_image
from wsolkern.errors import DatasetError
from wsolkern.files import open_regular

MAX_SIDE = 1 << 20  # pixels, as metadata may have
MAX_PIXELS = 1 << 28  # of an image whose masks are drawn
_NUM_EXAMPLES = 3


class Instance(NamedTuple):
    """One annotated object."""

    category: str
    """Its class, by name."""
    where: str
    """File and line, or record, for messages."""
    box: Sequence[object] | None = None
    """Four numbers as the file has them."""
    mask: Callable[[], np.ndarray] | None = None
    """Gives bool [H, W] at the image's size; ValueError says why it cannot."""
    ignored: bool = False
    """It is a region that does not count, such as a crowd."""
    name: str = ""
    """What tells its mask's file from others of the image."""


class Picture(NamedTuple):
    """One annotated image."""

    image_id: str
    """Its path below the image root."""
    where: str
    instances: Sequence[Instance] = ()
    size: tuple[int, int] | None = None
    """Width and height in pixels; None: from the image itself."""
    category: str | None = None
    """The class of the image, where its source gives one; else that of its objects."""
    split: str | None = None
    """The split it belongs to, where its source says so."""
    located: bool = True
    """False: its split needs classes only, and neither size nor objects are asked for."""
    file: str | None = None
    """The image's file where it is not below the image root; it then gets a link there, under its id."""


class Dropped:
    """What was left out: a number for each reason, and the first examples."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str) -> None:
        """One more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _NUM_EXAMPLES:
            examples.append(example)

    def lines(self) -> list[str]:
        """A line a reason, for people."""
        return [f"{count:,} {reason}: {'; '.join(self.examples[reason])}" for reason, count in self.counts.items()]

    def to_dict(self) -> dict[str, Any]:
        """Reason -> number and first examples."""
        return {reason: {"count": count, "examples": self.examples[reason]} for reason, count in self.counts.items()}


def expect_id(image_id: object, where: str) -> str:
    """The id, if it is a path that stays below its root.

    Raises:
        DatasetError: It is not; the message says where it stands.
    """
    if problem := id_problem(image_id):
        raise DatasetError(f"{where}: image: {problem}")
    return str(image_id)


def number(value: object) -> float | None:
    """A finite number of a file, which may be text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # which float() takes
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e9 else None


def expect_size(width: object, height: object, where: str) -> tuple[int, int]:
    """Width and height in pixels.

    Raises:
        DatasetError: They are none.
    """
    found = [side for side in (number(width), number(height)) if side is not None]
    if len(found) < 2 or any(side != int(side) or not 1 <= side <= MAX_SIDE for side in found):
        raise DatasetError(
            f"{where}: expected a width and a height of 1 to {MAX_SIDE} pixels, found {width!r:.40}, {height!r:.40}"
        )
    return int(found[0]), int(found[1])


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file as it is stored; only its header is read.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no image.
    """
    with open_regular(path) as file:
        try:
            return open_image(file).size
        except Exception as error:  # whatever a damaged file makes its decoder raise
            raise ValueError(f"{os.fspath(path)}: cannot be read as an image: {error}") from error

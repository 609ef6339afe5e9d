"""The errors wsolkern raises on purpose, beside ValueError and TypeError for wrong arguments, and what they say.

In: what is wrong, and with which argument, map, image or file. Out: exceptions that carry these and say them in short.
Source: none.
"""

import os
from collections.abc import Mapping


class BackendUnavailable(RuntimeError):
    """A backend asked for by name cannot run here; the message says what is missing."""


class IsaUnavailable(BackendUnavailable):
    """The instruction set that WSOLKERN_ISA names is none, or this CPU does not have it."""


class DatasetError(ValueError):
    """Files of a data set do not hold together; the message names file and line of the first few problems."""


class PathError(DatasetError):
    """A file or a folder is not what it should be.

    Args:
        path: Which.
        reason: What was expected and what was found.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{os.fspath(self.path)}: {self.reason}"


class ArgumentError(ValueError):
    """An argument is not as documented. It carries the argument's name, which a command spells as its option.

    Args:
        arguments: The name of the argument, or of several that do not go together.
        reason: What was expected and what was found.
        value: The part of the argument that it is about, such as "OpenImages=DIR"; it follows the name.
    """

    def __init__(self, arguments: str | tuple[str, ...], reason: str, value: str = ""):
        super().__init__(arguments, reason, value)
        self.arguments = (arguments,) if isinstance(arguments, str) else tuple(arguments)
        self.reason, self.value = reason, value

    def spelled(self, names: Mapping[str, str]) -> str:
        """The message, with other names for arguments: "--mask-root: ..." in place of "mask_root: ..."."""
        name = ", ".join(names.get(each, each) for each in self.arguments)
        return f"{name} {self.value}: {self.reason}" if self.value else f"{name}: {self.reason}"

    def __str__(self) -> str:
        return self.spelled({})


class MapError(ValueError):
    """One map of a batch, or what comes with it (its boxes, its mask), is not as documented.

    Args:
        argument: The argument that holds it, such as "boxes".
        place: The map's place in the batch.
        reason: What was expected and what was found.
        row: Which of the map's boxes; None for all of them, or for a map or a mask.
    """

    def __init__(self, argument: str, place: int, reason: str, row: int | None = None):
        super().__init__(argument, place, reason, row)
        self.argument, self.place, self.reason, self.row = argument, int(place), reason, row

    def __str__(self) -> str:
        return f"{self.argument}[{self.place}]{'' if self.row is None else f'[{self.row}]'}: {self.reason}"


class ImageError(ValueError):
    """One image of a batch cannot be counted; the same as a MapError for those who know the images by their ids.

    Args:
        image_id: Which.
        reason: What was expected and what was found.
    """

    def __init__(self, image_id: object, reason: str):
        super().__init__(image_id, reason)
        self.image_id, self.reason = image_id, reason

    def __str__(self) -> str:
        return f"image {self.image_id!r}: {self.reason}"


class DeviceUnavailable(ArgumentError, BackendUnavailable):
    """A device that was asked for by name is not there."""


def message(error: BaseException) -> str:
    """What an error says, a file before what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"not enough memory: {error}".rstrip(": ") if isinstance(error, MemoryError) else str(error)

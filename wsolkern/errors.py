"""The errors wsolkern raises on purpose, beside ValueError and TypeError for wrong arguments, and what an error says.

In: what is wrong, and with which argument. Out: exceptions, and their text in one line.
Source: none.
"""

import os
from collections.abc import Mapping


class BackendUnavailable(RuntimeError):
    """A backend asked for by name cannot run here; the message says what is missing."""


class DatasetError(ValueError):
    """Files of a data set do not hold together; the message names file and line of the first few problems."""


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


class DeviceUnavailable(ArgumentError, BackendUnavailable):
    """A device that was asked for by name is not there."""


def message(error: BaseException) -> str:
    """What an error says, a file before what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"not enough memory: {error}".rstrip(": ") if isinstance(error, MemoryError) else str(error)

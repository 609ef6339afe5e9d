"""Where the commands print: results on standard output, all else on standard error, and no name is taken for a command.

In: texts and tables. Out: the same on the two streams, whatever their encoding, be they closed, full or a pipe.
Source: none.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, TextIO

import typer

from wsolkern.errors import message

if TYPE_CHECKING:
    from rich.console import Console

UNREAD = 141  # the exit code where nobody reads what is printed, as a shell says of other programs then

_WIDTH = 200  # columns where there is no terminal


def stdout() -> "Console":
    """Where results go; tables are never squeezed to a pipe's 80 columns."""
    return console(sys.stdout)


def stderr() -> "Console":
    """Where progress and messages go; nowhere in a block that is :func:`silent`."""
    return console(_Messages(sys.stderr), quiet=_is_silent)


_is_silent = False


@contextmanager
def silent(wanted: bool = True) -> Iterator[None]:
    """Messages are not printed in the block, or are all the same if that is not wanted."""
    global _is_silent
    before, _is_silent = _is_silent, wanted
    try:
        yield
    finally:
        _is_silent = before


def console(file: TextIO, width: int = _WIDTH, *, quiet: bool = False) -> "Console":
    """Prints on a file, so many columns wide, or on a terminal, as wide as that is."""
    found = _plain_console()(file=file, quiet=quiet)
    return found if found.is_terminal else _plain_console()(file=file, width=width, quiet=quiet)


@cache
def _plain_console() -> type["Console"]:
    """A console that takes no text for a command: [brackets] and :names: stay, control characters are spelled out."""
    from rich.console import Console
    from rich.segment import Segment

    from wsolkern.report.plain import visible

    class PlainConsole(Console):
        def __init__(self, **how):
            super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **how)

        def render(self, renderable, options=None):
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, lines=True), style, control)

        def on_broken_pipe(self) -> None:
            raise  # the error that rich is handling; `printing` says what comes of it

    return PlainConsole


class _Messages:
    """Standard error: that a message cannot be written, as on a full disk, ends no command."""

    def __init__(self, file: TextIO):
        self._file = file

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._file.write(text)
        _discard(self._file)
        return len(text)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            _discard(self._file)


def _discard(stream: TextIO) -> None:
    """Drops what a stream has still to write and all that comes; else it fails again when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare_streams() -> None:
    """Lets any text be printed, whatever the encoding, also to a stream that is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # else the next file that is opened would take its place
            setattr(sys, name, open(os.devnull, "w"))
        getattr(sys, name).reconfigure(errors="backslashreplace")


@contextmanager
def printing() -> Iterator["Console"]:
    """What is in the block prints on standard output, whose console it gives, and does nothing else.

    Raises:
        OSError: It cannot be written, as on a full disk; the message names it.
        typer.Exit: Nobody reads it any more, as behind ``| head``.
    """
    try:
        yield stdout()
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(UNREAD) from None
        raise OSError(f"standard output: {message(error)}") from error


def say(text: str) -> None:
    """A line on standard output."""
    with printing() as console:
        console.print(text)


def print_text(text: str) -> None:
    """A text that ends its own lines on standard output."""
    with printing():
        sys.stdout.write(text)

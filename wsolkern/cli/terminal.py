"""What the commands share: where they print, their progress bar, and errors as one line instead of a traceback.

In: nothing. Out: results on standard output, all else on standard error.
Source: none.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from wsolkern.metrics import Result

PROBLEMS, FAILED, INTERRUPTED = 1, 2, 130  # exit codes: some maps were left out; nothing could be done; Ctrl-C

_NUM_LISTED = 10  # problems printed


def stdout() -> "Console":
    """Where results go; tables are never squeezed to a pipe's 80 columns."""
    return _console(sys.stdout)


def stderr() -> "Console":
    """Where progress and messages go."""
    return _console(sys.stderr)


def _console(stream) -> "Console":
    from rich.console import Console

    console = Console(file=stream, highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(file=stream, highlight=False, width=200)


def print_result(result: "Result", title: str) -> None:
    """The table on standard output, as wide as that is."""
    from wsolkern.report.tables import rich_tables

    console = stdout()
    console.print(*rich_tables(result, title, console.width), sep="")


def progress_bar(unit: str = "images") -> "Progress":
    """A bar on standard error with how many are done, their rate and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=stderr(),
    )


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """What a user can mend (arguments, files, packages) becomes one line on standard error and exit code 2."""
    from wsolkern.errors import BackendUnavailable

    try:
        yield
    except (BackendUnavailable, ImportError, OSError, ValueError) as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(FAILED) from error


def list_problems(what: str, problems: dict[str, str], more: str = "") -> None:
    """Prints the first problems on standard error, under a line with their number and ``what``.

    Args:
        what: Continues "12 ", such as "of 100 maps were left out".
        problems: Name -> what is wrong.
        more: What follows the number of those that are not printed.
    """
    if not problems:
        return
    console = stderr()
    console.print(f"{len(problems):,} {what}:", style="yellow", markup=False)
    for name, problem in islice(problems.items(), _NUM_LISTED):
        console.print(f"  {name}: {problem}", markup=False)
    if len(problems) > _NUM_LISTED:
        console.print(f"  and {len(problems) - _NUM_LISTED:,} more{more}")


def write_json(content: dict, where: str) -> None:
    """Writes to a file, or to standard output if ``where`` is "-"."""
    text = json.dumps(content, indent=2) + "\n"
    if where == "-":
        sys.stdout.write(text)
    else:
        Path(where).write_text(text, encoding="utf-8")

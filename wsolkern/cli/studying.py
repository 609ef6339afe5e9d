"""What the commands around a study share: its ground truth, its progress as bars, and how it ends.

In: paths and settings as the commands got them; what a study gives or raises. Out: bars, lists of problems, exit codes.
Source: none; the studies are :mod:`wsolkern.studies`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wsolkern.cli import streams, terminal
from wsolkern.errors import message
from wsolkern.targets import Targets, check_masks

if TYPE_CHECKING:
    from wsolkern.datasets import Metadata
    from wsolkern.studies import Interrupted


@contextmanager
def running(
    keep: Callable[["Interrupted"], str] | None = None, *, resumes: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """A study runs in the block: gives its progress callback, and turns how it ends into messages and exit codes.

    Args:
        keep: The name of a state for what was counted before an interrupt, where there is none; None: it is lost.
        resumes: Whether a state can be gone on from at all.
    """
    from wsolkern.interrupts import interrupts_raise
    from wsolkern.studies import Interrupted, NothingCounted

    try:
        with interrupts_raise(), terminal.showing_progress() as progress:
            yield progress
    except NothingCounted as error:
        terminal.list_problems(f"of {error.num_all:,} maps were left out", error.problems)
        raise
    except Interrupted as error:
        kept = error.kept or (keep and _keep(error, keep(error)))
        where = f" in {kept}; go on with --resume {kept}" if kept else " and are lost"
        if not kept and keep is None and resumes:
            where += "; --resume STATE would have kept them"
        what = "" if error.what == "evaluating" else f"{error.what}: "
        streams.stderr().print(f"interrupted: {what}{error.in_short}{where}")
        raise typer.Exit(terminal.INTERRUPTED) from None


def state_name(maps: Path) -> Callable[["Interrupted"], str]:
    """What a state is called that nobody named."""
    return lambda error: f"{maps.resolve().name}-{error.counting.job[:8]}.state"


def _keep(error: "Interrupted", name: str) -> Path | None:
    """The file that has the counts now: one in this folder, else one among the temporary files, else none."""
    elsewhere = Path(tempfile.gettempdir(), f"wsolkern-{os.getpid()}")
    for path in (Path(name), elsewhere / name):
        try:
            if path.parent == elsewhere:
                path.parent.mkdir(mode=0o700)  # an error if somebody made it before
            error.counting.save(path)
            return path
        except OSError as failure:
            streams.stderr().print(f"error: {message(failure)}", style="red")
    return None


def load_split(
    folder: Path,
    mask_root: Path | None,
    targets: Targets,
    box_format: str,
    box_rounding: str,
    allow_missing_ignore: bool,
) -> "Metadata":
    """A split as the options say it, none of whose masks is a file that will be written."""
    from wsolkern.datasets import load_metadata

    split = load_metadata(folder, box_format=box_format, box_rounding=box_rounding)
    check_masks(targets, split, mask_root)
    return expect_ignore_masks(split, mask_root, allow_missing_ignore)


def expect_ignore_masks(split: "Metadata", mask_root: Path | None, allow_missing: bool) -> "Metadata":
    """The split, without the ignore masks that are not there if that is allowed; says how many these are."""
    import warnings

    from wsolkern.datasets import without_missing_ignore

    if not allow_missing or mask_root is None:
        return split
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split = without_missing_ignore(split, mask_root)
    warn(str(each.message) for each in caught)
    return split


def warn(texts) -> None:
    """Prints warnings on standard error."""
    for text in texts:
        streams.stderr().print(text, style="yellow")


def finish(num_all: int, problems: Mapping[str, str], allow_missing: bool) -> None:
    """Lists what was left out and ends the command accordingly.

    Raises:
        typer.Exit: Something was left out, and that is not allowed.
    """
    terminal.list_problems(f"of {num_all:,} maps were left out", problems, "; --json FILE lists all")
    if problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)


def finish_stores(problems: Mapping[str, Mapping[str, str]], what: str, allow_missing: bool) -> None:
    """The same for several stores: a line for each, with the first of its problems."""
    for store, found in problems.items():
        for name, reason in islice(found.items(), 1):
            warn([f"{store}: {len(found):,} {what} were left out, the first is {name}: {reason}"])
    if any(problems.values()) and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)


def finish_shards(what: str, problems: Mapping[str, str]) -> None:
    """Lists what of a store was left out, under ``what``; raises typer.Exit if there is anything."""
    terminal.list_problems(what, problems)
    if problems:
        raise typer.Exit(terminal.PROBLEMS)

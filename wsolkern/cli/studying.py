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

from wsolkern import machine
from wsolkern.cli import streams, terminal
from wsolkern.errors import message
from wsolkern.targets import Targets, check_masks

if TYPE_CHECKING:
    from wsolkern.cams import Ranks
    from wsolkern.datasets import Metadata
    from wsolkern.studies import Interrupted, ProcessLost


@contextmanager
def together() -> Iterator["Ranks"]:
    """A command whose work several processes share runs in the block: those that torchrun started, or this one alone.

    Each has its share of the machine's cores. Errors become messages as in :func:`terminal.errors_as_messages`. The
    first process speaks for all; another one speaks only if that one is gone without a word.
    """
    from wsolkern.cams import Ranks

    with terminal.errors_as_messages(), Ranks.joined() as ranks:
        if ranks.num_local > 1:
            machine.share_cores(ranks.num_local)
        with (
            streams.silent(ranks.rank > 0),
            terminal.errors_as_messages(lambda text: _speak(ranks, text, lambda: terminal.print_error(text))),
        ):
            yield ranks


def _speak(ranks: "Ranks | None", why: str, show: Callable[[], object]) -> None:
    """Shows why a command ends, in one of the processes, and tells it to the others."""
    if ranks is None or ranks.rank == 0:
        show()  # before torchrun hears of any end, and ends all
    if ranks is not None and not ranks.leave(why):
        with streams.silent(False):
            show()


@contextmanager
def running(
    keep: Callable[["Interrupted | ProcessLost"], str | None] | None = None,
    ranks: "Ranks | None" = None,
    *,
    resumes: bool = True,
    beside: Path | None = None,
) -> Iterator[Callable[[str, int, int], None]]:
    """A study runs in the block: gives its progress callback, and turns how it ends into messages and exit codes.

    Args:
        keep: The name of a state for what was counted before an interrupt, where there is none; None, or none given: it
            is lost.
        ranks: The processes that share the study, from :func:`together`.
        resumes: Whether a state can be gone on from at all.
        beside: What --resume is given, where the study's own state is a file beside that.
    """
    from wsolkern.cams.meeting import STOPPED
    from wsolkern.interrupts import interrupts_raise
    from wsolkern.studies import Interrupted, NothingCounted, ProcessLost

    def kept_in(error: "Interrupted | ProcessLost") -> Path | None:
        kept = error.kept
        if kept is not None and ranks is not None and ranks.rank:
            kept = kept.with_suffix("")  # the first one's: it is the state that one goes on from
        if kept is not None and beside is not None:
            kept = beside
        name = keep(error) if keep is not None and kept is None else None
        return kept if name is None else _keep(error, name, ranks)

    try:
        with interrupts_raise(), terminal.showing_progress() as progress:
            yield progress
    except NothingCounted as error:
        terminal.list_problems(f"of {error.num_all:,} maps were left out", error.problems)
        raise
    except Interrupted as error:
        what, kept = "" if error.what == "evaluating" else f"{error.what}: ", kept_in(error)
        where = f" in {kept}; go on with --resume {kept}" if kept else " and are lost"
        if not kept and keep is None and resumes:
            where += "; --resume STATE would have kept them"
        text = f"interrupted: {what}{error.in_short}{where}"
        _speak(ranks, STOPPED, lambda: streams.stderr().print(text))
        raise typer.Exit(terminal.INTERRUPTED) from None
    except ProcessLost as error:
        kept = kept_in(error)
        advice = f"what was counted is in {kept}; go on with --resume {kept}" if kept else "what was counted is lost"
        lost = f"{error}; {advice}"
        _speak(ranks, lost, lambda: terminal.print_error(lost))
        raise typer.Exit(terminal.FAILED) from error


def state_name(maps: Path) -> Callable[["Interrupted | ProcessLost"], str | None]:
    """What a state is called that nobody named; None of a pass for resamples, which begins anew each time."""

    def name(error: "Interrupted | ProcessLost") -> str | None:
        if getattr(error, "what", None) == "resampling":
            return None
        return f"{maps.resolve().name}-{error.counting.job[:8]}.state"

    return name


def _keep(error: "Interrupted | ProcessLost", name: str, ranks: "Ranks | None") -> Path | None:
    """The file that has the counts now: one in this folder, else one among the temporary files, else none."""
    from wsolkern.studies.passes import rank_file

    elsewhere = Path(tempfile.gettempdir(), f"wsolkern-{os.getpid()}")
    for path in (Path(name), elsewhere / name):
        try:
            if path.parent == elsewhere:
                path.parent.mkdir(mode=0o700)  # an error if somebody made it before
            error.counting.save(rank_file(path, ranks.rank if ranks else 0))
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

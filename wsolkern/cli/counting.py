"""What ``evaluate`` and ``sweep`` share: from a folder or store of maps and a split's metadata to counts.

In: paths and settings as the commands got them. Out: an evaluator with its counts, and what was left out; exit codes.
Source: none; the counting itself is :mod:`wsolkern.studies.counting`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wsolkern.cli import terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsolkern.cams import CamSource
    from wsolkern.datasets import MapFolder, Metadata
    from wsolkern.datasets.scaling import UnitRange
    from wsolkern.metrics import Evaluator
    from wsolkern.metrics.bootstrap import BootstrapEvaluator


@dataclass(frozen=True)
class Counted:
    """One split, counted."""

    root: Path
    split: "Metadata"
    evaluator: "Evaluator"
    problems: dict[str, str]
    """Image id -> why it was left out."""
    seconds: float
    """What it took, in seconds."""
    save: Callable[[], None] = lambda: None
    """Saves the state of --resume once more where that failed before."""

    def to_dict(self) -> dict:
        """What the JSON files of all commands begin with."""
        import wsolkern

        return {
            "wsolkern": wsolkern.__version__,
            "maps": str(self.root),
            "metadata": self.split.folder,
            "box_format": self.split.box_format,
            "box_rounding": self.split.box_rounding,
            "size": list(self.evaluator.size),
            "num_missing": len(self.problems),
            "missing": self.problems,
            "seconds": round(self.seconds, 3),
        }

    def finish(self, allow_missing: bool) -> None:
        """Lists what was left out and ends the command accordingly.

        Raises:
            ValueError: Nothing was counted.
            typer.Exit: Something was left out, and that is not allowed.
        """
        what = f"of {len(self.split.image_ids):,} maps were left out"
        terminal.list_problems(what, self.problems, "; --json FILE lists all" if self.evaluator.num_images else "")
        if not self.evaluator.num_images:
            raise ValueError(f"{self.root}: no map could be read")
        if self.problems and not allow_missing:
            raise typer.Exit(terminal.PROBLEMS)


def count_under_bar(
    evaluator: "Evaluator | BootstrapEvaluator", source: "CamSource | MapFolder", bar: "Progress", what: str
) -> dict[str, str]:
    """Feeds a source to an evaluator, with a task of its own in the bar; returns image id -> why it was left out."""
    from wsolkern.studies.counting import count_maps

    task = bar.add_task(what, total=len(source))
    problems = count_maps(evaluator, source, on_batch=lambda ids, _: bar.update(task, advance=len(ids)))
    bar.update(task, completed=len(source))
    tell_scaled(source.spans, what)
    return problems


def tell_scaled(spans: "UnitRange", what: object) -> None:
    """Says on standard error that CAMs were scaled before, if they were."""
    if spans:
        terminal.stderr().print(f"{what}: {spans.NOTE}", style="yellow")

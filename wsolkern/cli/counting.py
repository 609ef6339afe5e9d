"""What ``evaluate`` and ``sweep`` share: from a folder or store of maps and a split's metadata to counts.

In: paths and settings as the commands got them. Out: an evaluator with its counts, and what was left out; exit codes.
Source: none; the counting itself is :mod:`wsolkern.metrics.counting`.
"""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wsolkern.cli import options, terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsolkern.cams import CamSource
    from wsolkern.datasets import MapFolder, Metadata
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

    def to_dict(self) -> dict:
        """What the JSON files of all commands begin with."""
        import wsolkern

        return {
            "wsolkern": wsolkern.__version__,
            "maps": str(self.root),
            "metadata": self.split.folder,
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
        terminal.list_problems(what, self.problems, "; --json FILE lists all")
        if not self.evaluator.num_images:
            raise ValueError(f"{self.root}: no map could be read")
        if self.problems and not allow_missing:
            raise typer.Exit(terminal.PROBLEMS)


def count_under_bar(
    evaluator: "Evaluator | BootstrapEvaluator", source: "CamSource | MapFolder", bar: "Progress", what: str
) -> dict[str, str]:
    """Feeds a source to an evaluator, with a task of its own in the bar; returns image id -> why it was left out."""
    from wsolkern.metrics.counting import count_maps

    task = bar.add_task(what, total=len(source))
    problems = count_maps(evaluator, source, on_batch=lambda ids, _: bar.update(task, advance=len(ids)))
    bar.update(task, completed=len(source))
    return problems


def _alone(count: Callable[..., Counted]) -> Callable[..., Counted]:
    """Keeps other processes out of the state of --resume, and turns SIGTERM into what Ctrl-C does, while it counts."""

    @wraps(count)
    def alone(*arguments, resume: Path | None, **how) -> Counted:
        from wsolkern.files import only_one_at
        from wsolkern.interrupts import interrupts_raise

        what = f"--resume {resume}: another process is counting into it"
        with interrupts_raise(), nullcontext() if resume is None else only_one_at(resume, what):
            return count(*arguments, resume=resume, **how)

    return alone


@_alone
def count_split(
    root: Path,
    metadata: Path,
    normalizations: list[str] | None,
    *,
    mask_root: Path | None,
    nwc: bool,
    size: str,
    iou_thresholds: str,
    interval: float,
    resume: Path | None,
) -> Counted:
    """Counts the maps of a split under a progress bar; score maps if ``normalizations`` is None.

    After Ctrl-C (or SIGTERM) what was counted is in the file of --resume, or in one in the current folder.

    Raises:
        ValueError, OSError: As the parts do; a state that is not about this is named.
        typer.Exit: Interrupted.
    """
    from wsolkern.cams import CamStore, open_maps
    from wsolkern.datasets import load_metadata
    from wsolkern.metrics.counting import SplitCount, evaluator_for, fingerprint

    started = time.perf_counter()
    split = load_metadata(metadata)
    evaluator = evaluator_for(
        split,
        normalizations,
        mask_root=mask_root,
        size=options.parse_size(size),
        thresholds=options.thresholds(interval),
        iou_thresholds=options.parse_fractions("--iou-thresholds", iou_thresholds),
    )
    maps = {"root": str(root.resolve()), "kind": "score maps" if normalizations is None else "CAMs"}
    if CamStore.is_at(root):
        manifest = CamStore(root).manifest
        maps |= {"nwc": nwc, "manifest": asdict(manifest)}
        if normalizations is not None and manifest.content == "score maps":
            raise ValueError(f"{root}: holds score maps, which are normalized already: wsolkern evaluate --score-maps")
        if normalizations is None and manifest.content == "cams":
            raise ValueError(f"{root}: holds raw CAMs, expected score maps: wsolkern evaluate --cams")
    job = fingerprint(split, mask_root, maps)
    counting = SplitCount(evaluator, split.image_ids, job)
    if resume is not None and resume.exists():
        counting.load(resume)
    source = open_maps(root, counting.remaining, siblings=split.image_ids, nwc=nwc)
    with terminal.progress_bar() as bar:
        task = bar.add_task("evaluating", total=len(split.image_ids), completed=evaluator.num_images)
        try:
            problems = counting.run(source, state=resume, progress=lambda done: bar.update(task, completed=done))
        except KeyboardInterrupt:
            bar.stop()
            kept = resume or Path(f"{root.name}-{job[:8]}.state")
            counting.save(kept)
            done = f"{evaluator.num_images:,} of {len(split.image_ids):,} images are counted in {kept}"
            terminal.stderr().print(f"interrupted: {done}; go on with --resume {os.fspath(kept)}", markup=False)
            raise typer.Exit(terminal.INTERRUPTED) from None
        bar.update(task, completed=evaluator.num_images + len(problems))
    return Counted(root, split, evaluator, problems, time.perf_counter() - started)

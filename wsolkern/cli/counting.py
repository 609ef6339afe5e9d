"""What ``evaluate`` and ``sweep`` share: from a folder or store of maps and a split's metadata to counts.

In: paths and settings as the commands got them. Out: an evaluator with its counts, and what was left out; exit codes.
Source: none; the counting itself is :mod:`wsolkern.studies.counting`.
"""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wsolkern.cli import options, terminal
from wsolkern.errors import message
from wsolkern.targets import Targets, check_masks, check_targets

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsolkern.cams import CamSource
    from wsolkern.datasets import MapFolder, Metadata
    from wsolkern.datasets.scaling import UnitRange
    from wsolkern.metrics import Evaluator
    from wsolkern.metrics.bootstrap import BootstrapEvaluator
    from wsolkern.studies.counting import SplitCount


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


def _alone(count: Callable[..., Counted]) -> Callable[..., Counted]:
    """Keeps other processes out of the state of --resume, and turns SIGTERM into what Ctrl-C does, while it counts."""

    @wraps(count)
    def alone(*arguments, resume: Path | None, **how) -> Counted:
        from wsolkern.files import only_one_at
        from wsolkern.interrupts import interrupts_raise

        check_targets({"--resume": resume})
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
    allow_missing_ignore: bool,
    box_format: str,
    box_rounding: str,
    nwc: bool,
    size: str,
    iou_thresholds: str,
    interval: float,
    resume: Path | None,
    targets: Targets,
) -> Counted:
    """Counts the maps of a split under a progress bar; score maps if ``normalizations`` is None.

    After Ctrl-C (or SIGTERM) what was counted is in the file of --resume, or in one in the current folder or, where
    there can be none, in one of the system's folder for temporary files. ``targets`` are the other files that will be
    written; all are checked first.

    Raises:
        ValueError, OSError: As the parts do; a state that is not about this is named.
        typer.Exit: Interrupted.
    """
    from wsolkern.cams import CamStore, open_maps
    from wsolkern.datasets import load_metadata
    from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint, mask_files_of

    started = time.perf_counter()
    targets = {**targets, "--resume": resume}
    check_targets(targets, (root, metadata))
    split = load_metadata(metadata, box_format=box_format, box_rounding=box_rounding)
    check_masks(targets, split, mask_root)
    split = options.expect_ignore_masks(split, mask_root, allow_missing_ignore)
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
        store = CamStore(root)
        manifest = store.manifest
        maps |= {"nwc": nwc, "manifest": asdict(manifest)}
        if normalizations is not None and manifest.content == "score maps":
            raise ValueError(f"{root}: holds score maps, which are normalized already: wsolkern evaluate --score-maps")
        if normalizations is None and manifest.content == "cams":
            raise ValueError(f"{root}: holds raw CAMs, expected score maps: wsolkern evaluate --cams")
        store.check_split(split)
    job = fingerprint(split, mask_root, maps)
    counting = SplitCount(evaluator, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
    if resume is not None and resume.exists():
        counting.load(resume)
    failed: list[OSError] = []
    source = open_maps(root, counting.remaining, siblings=split.image_ids, nwc=nwc)
    with terminal.progress_bar() as bar:
        task = bar.add_task("evaluating", total=len(split.image_ids), completed=evaluator.num_images)
        try:
            problems = counting.run(
                source,
                state=resume,
                on_save_error=failed.append,
                progress=lambda done: bar.update(task, completed=done),
            )
        except KeyboardInterrupt:
            bar.stop()
            kept = _keep(counting, resume or Path(f"{root.resolve().name}-{job[:8]}.state"))
            done = f"{evaluator.num_images:,} of {len(split.image_ids):,} images are counted"
            where = f" in {kept}; go on with --resume {kept}" if kept else " and are lost"
            terminal.stderr().print(f"interrupted: {done}{where}")
            raise typer.Exit(terminal.INTERRUPTED) from None
        bar.update(task, completed=evaluator.num_images + len(problems))
    if normalizations is not None:
        tell_scaled(source.spans, root)
    counted = Counted(root, split, evaluator, problems, time.perf_counter() - started)
    return replace(counted, save=lambda: counting.save(resume)) if failed else counted


def _keep(counting: "SplitCount", wanted: Path) -> Path | None:
    """The file that has the counts now: the one that is wanted, else one among the temporary files, else none."""
    elsewhere = Path(tempfile.gettempdir(), f"wsolkern-{os.getpid()}")
    for path in (wanted, elsewhere / wanted.name):
        try:
            if path.parent == elsewhere:
                path.parent.mkdir(mode=0o700)  # an error if somebody made it before
            counting.save(path)
            return path
        except OSError as error:
            terminal.stderr().print(f"error: {message(error)}", style="red")
    return None

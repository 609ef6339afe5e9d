"""The files of a run: its recipe, its checkpoints, its log.

In: a network, an optimizer, how far the run is. Out: RUN/recipe.toml, last_checkpoint.pth.tar, best_checkpoint.pth.tar,
log.csv; each is there whole or not at all.
Source: the checkpoints' format is that of clovaai/wsolevaluation (MIT), main.py, with more beside it.
"""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from wsolkern.cams import Ranks
from wsolkern.files import UNFINISHED, only_one, write_whole
from wsolkern.models import load_checkpoint
from wsolkern.training.recipe import Recipe
from wsolkern.training.shards import Tally

RECIPE, LAST, BEST, LOG = "recipe.toml", "last_checkpoint.pth.tar", "best_checkpoint.pth.tar", "log.csv"
_LOCK = ".lock"
_PROGRESS = "wsolkern"  # the checkpoint's entry for what the published format has no place for


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0
    """Epochs that are done and evaluated."""
    batch: int = 0
    """Batches of the next epoch that are done."""
    tally: Tally = Tally()
    """Of the next epoch's images so far."""
    log: list[dict] = field(default_factory=list)
    """One row an epoch, as log.csv has them."""
    problems: dict[str, str] = field(default_factory=dict)
    """Image id -> why it was left out."""

    def best(self, column: str) -> dict:
        """The row with the largest figure in a column, the first of those."""
        return max(self.log, key=lambda row: row[column])


@contextmanager
def claimed(run: str | os.PathLike, recipe: Recipe, ranks: Ranks) -> Iterator[None]:
    """Makes a run's folder with its recipe, or finds it there with the same one; keeps others out of it in the block.

    Raises:
        ValueError: It is the folder of another recipe, or has other things in it, or somebody else trains there.
    """
    _expect_own(Path(run), recipe)
    ranks.gather(None)  # nobody makes what another one still looks for
    if ranks.rank > 0:
        ranks.gather(None)
        yield
        return
    Path(run).mkdir(parents=True, exist_ok=True)
    with only_one(Path(run) / _LOCK, f"{run}: another process is training there"):
        _expect_own(Path(run), recipe)
        if not (path := Path(run) / RECIPE).exists():
            write_whole(path, f"# wsolkern train --recipe; the settings of this run\n{recipe.to_toml()}".encode())
        ranks.gather(None)
        yield


def _expect_own(run: Path, recipe: Recipe) -> None:
    path = run / RECIPE
    if path.exists():
        if (difference := Recipe.read(path, {}).first_difference(recipe)) is not None:
            raise ValueError(f"{path}: the run there has other settings: {difference}; take another folder")
    elif run.exists() and (not run.is_dir() or _is_other(run)):
        raise ValueError(f"{run}: expected a run's folder, an empty one or none, found something without {RECIPE}")


def save(
    run: str | os.PathLike,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
    *,
    best: bool = False,
) -> None:
    """Writes the best checkpoint if this is it, the log, and the last checkpoint.

    A kill between them leaves an older last checkpoint, from which the others are made again.
    """
    content = io.BytesIO()
    rest = {"batch": progress.batch, "tally": list(progress.tally), "log": progress.log, "problems": progress.problems}
    torch.save(
        {
            "architecture": _architecture(network),
            "epoch": progress.epoch,
            "state_dict": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            _PROGRESS: {**rest, "scaler": scaler.state_dict()},
        },
        content,
    )
    if best:
        write_whole(Path(run) / BEST, content.getvalue())
    _write_log(run, progress)
    write_whole(Path(run) / LAST, content.getvalue())


def restore(
    run: str | os.PathLike, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> Progress:
    """Takes over what the last checkpoint has, if there is one.

    Raises:
        ValueError: It is damaged, or another network's.
    """
    path = Path(run) / LAST
    if not path.exists():
        return Progress()
    content = load_checkpoint(network, path)
    if _PROGRESS not in content:
        raise ValueError(f"{path}: expected a checkpoint of wsolkern train, found one to begin another run with")
    rest = content[_PROGRESS]
    optimizer.load_state_dict(content["optimizer"])
    if rest["scaler"]:
        scaler.load_state_dict(rest["scaler"])
    return Progress(content["epoch"], rest["batch"], Tally(*rest["tally"]), rest["log"], rest["problems"])


def _architecture(network: nn.Module) -> str:
    """The name that a network gives its backbone, or else its class."""
    name = getattr(network, "backbone", None)
    return name if isinstance(name, str) else type(network).__name__


def _is_other(folder: Path) -> bool:
    """Whether there is something in a folder, other than what a killed run left before its recipe was whole."""
    return any(each.name != _LOCK and not each.name.endswith(UNFINISHED) for each in folder.iterdir())


def _write_log(run: str | os.PathLike, progress: Progress) -> None:
    if progress.log:
        text = io.StringIO()
        writer = csv.DictWriter(text, progress.log[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(progress.log)
        write_whole(Path(run) / LOG, text.getvalue().encode())

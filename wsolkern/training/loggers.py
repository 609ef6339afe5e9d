"""A run's log where people watch it: TensorBoard's events in RUN/tensorboard, a run of Weights & Biases in RUN/wandb.

In: rows of the log, one an epoch. Out: every number of a row, and which normalization val would choose, by epoch.
Source: none.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from wsolkern.errors import ArgumentError
from wsolkern.files import write_whole

LOGGERS = ("tensorboard", "wandb")
Write = Callable[[Mapping[str, float]], object]
_MODULES = {"tensorboard": ("torch.utils.tensorboard", "train"), "wandb": ("wandb", "wandb")}  # each with its extra


def check_loggers(names: Iterable[str]) -> tuple[str, ...]:
    """The loggers, each once, all of which are installed.

    Raises:
        ArgumentError: There is no such logger.
        ImportError: One is not installed.
    """
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in LOGGERS:
            raise ArgumentError("log", f"expected {' or '.join(LOGGERS)}, found {name!r}")
        module, extra = _MODULES[name]
        try:
            import_module(module)
        except ImportError as error:
            raise ImportError(f"{error}; {name} needs it: pip install 'wsolkern[{extra}]'") from error
    return chosen


@contextmanager
def writing(names: Iterable[str], run: Path, log: list[dict], settings: Mapping[str, object]) -> Iterator[Write]:
    """Gives what writes a row to all of some loggers; the rows that there are already are written first.

    Args:
        names: From :func:`check_loggers`.
        run: The run's folder.
        log: Its rows so far.
        settings: What the run was started with, for loggers that show it.

    Raises:
        ArgumentError: Weights & Biases refuses to begin, as without a key; the message says what it wants.
    """
    with ExitStack() as stack:
        begin = {"tensorboard": _tensorboard, "wandb": _wandb}
        writers = [stack.enter_context(begin[name](run, settings)) for name in names]

        def write(row: Mapping[str, float]) -> None:
            for each in writers:
                each(row)

        for row in log:
            write(row)
        yield write


def chosen(row: Mapping[str, float]) -> str:
    """The normalization with the best figure of a row, the first of those that tie."""
    figures = {name.partition(" ")[2]: value for name, value in row.items() if " " in name}
    return max(figures, key=figures.__getitem__)


@contextmanager
def _tensorboard(run: Path, settings: Mapping[str, object]) -> Iterator[Write]:
    """Events in a folder that is made anew, so that each row is there once."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    with SummaryWriter(run / "tensorboard") as writer:

        def write(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                writer.add_scalar(name, value, row["epoch"])
            writer.add_text("chosen normalization", chosen(row), row["epoch"])
            writer.flush()

        yield write


@contextmanager
def _wandb(run: Path, settings: Mapping[str, object]) -> Iterator[Write]:
    """One run of Weights & Biases, however often it goes on: its id is kept beside its files.

    WANDB_MODE, WANDB_PROJECT and the other variables of wandb count; without WANDB_PROJECT the project is "wsolkern".
    """
    import wandb

    known = run / "wandb" / "id.txt"
    if not known.exists():
        known.parent.mkdir(exist_ok=True)
        write_whole(known, uuid.uuid4().hex[:8].encode())
    try:
        writer = wandb.init(
            dir=os.fspath(run),
            project=os.environ.get("WANDB_PROJECT", "wsolkern"),
            name=run.resolve().name,
            id=known.read_text(),
            resume="allow",
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True),
        )
    except wandb.Error as error:
        raise ArgumentError("log", f"Weights & Biases does not begin: {error}", "wandb") from error
    last = writer.step - 1 if writer.resumed else 0  # what its server has of a run that goes on

    def write(row: Mapping[str, float]) -> None:
        if row["epoch"] > last:
            writer.log({**row, "chosen normalization": chosen(row)}, step=int(row["epoch"]))

    is_over = False
    try:
        yield write
        is_over = True
    finally:
        writer.finish(exit_code=0 if is_over else 1)

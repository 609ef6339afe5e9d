"""The command line, ``wsolkern COMMAND``: a module a command.

In: arguments, folders of maps and metadata. Out: tables, JSON and pictures; exit code 0 only if all went well.
Source: none; what is computed is in the rooms that the commands call, imported when a command runs.
"""

import os
import signal
import sys
import time
from typing import Annotated

import typer

import wsolkern
from wsolkern.cli import (
    boxes,
    compare,
    demo,
    diagnose,
    doctor,
    evaluate,
    extract,
    figure,
    import_dataset,
    make_dataset,
    profile,
    report,
    select,
    show,
    store,
    streams,
    sweep,
    table,
    terminal,
    train,
    verify,
)

_PATIENCE = 5.0  # seconds that the first of several processes has to say what is wrong

app = terminal.group("wsolkern", pretty_exceptions_enable=False)
for command in (
    train.train,
    extract.extract,
    evaluate.evaluate,
    sweep.sweep,
    select.select,
    table.table,
    boxes.boxes,
    report.report,
    compare.compare,
    show.show,
    figure.figure,
    verify.verify,
    diagnose.diagnose,
    profile.profile,
    demo.demo,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(store.app, name="store")
app.add_typer(make_dataset.app, name="make-dataset")
app.add_typer(import_dataset.app, name="import-dataset")
for group in (app, store.app, make_dataset.app, import_dataset.app):
    for registered in group.registered_commands:
        registered.cls = terminal.Command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wsolkern {wsolkern.__version__}")
        raise typer.Exit


_SHARED = ("extract", "train", "evaluate", "sweep", "select", "table")  # the commands whose work processes share


def _leave_it_to_the_first(command: str | None) -> None:
    """Ends this process if it is one of several, and the command is for one.

    Raises:
        typer.Exit: It is not the first one. Of torchrun's, all others end well.
    """
    rank, num_ranks = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if command in _SHARED or not (rank.isdigit() and num_ranks.isdigit() and 0 < int(rank)):
        return
    text = f"process {rank} of {num_ranks}: wsolkern {command} is done by one process alone, that of RANK=0"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        typer.echo(text, err=True)
        raise typer.Exit
    typer.secho(f"error: {text}; unset RANK and WORLD_SIZE to run it here", fg=typer.colors.RED, err=True)
    raise typer.Exit(terminal.FAILED)


@app.callback()
def _app_options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Evaluates weakly supervised object localization: MaxBoxAcc, MaxBoxAccV2 and PxAP of class activation maps.

    The numbers are those of the published evaluator, to the last digit, under every normalization at once.

    Start with **wsolkern demo**.
    """
    terminal.spell_as_typed(context)
    _leave_it_to_the_first(context.invoked_subcommand)


def main() -> None:
    """The entry point."""
    streams.prepare_streams()
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        _as_a_later_process()
    else:
        app()


def _as_a_later_process() -> None:
    """As :func:`main`, in a process of torchrun's behind the first one, which says what is wrong with the arguments."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = terminal.INTERRUPTED
    except Exception as error:
        code = getattr(error, "exit_code", None)  # of what typer, or its click, has to say about arguments
        if code is None:
            raise
        signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
        time.sleep(_PATIENCE)  # torchrun ends all processes when it sees the first end
    sys.exit(code)

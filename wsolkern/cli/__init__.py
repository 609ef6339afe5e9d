"""The command line, ``wsolkern COMMAND``: a module a command.

In: arguments, folders of maps and metadata. Out: tables, JSON and pictures; exit code 0 only if all went well.
Source: none; what is computed is in the rooms that the commands call, imported when a command runs.
"""

from typing import Annotated

import typer

import wsolkern
from wsolkern.cli import (
    demo,
    diagnose,
    doctor,
    evaluate,
    extract,
    make_dataset,
    profile,
    select,
    store,
    sweep,
    table,
    terminal,
    train,
)

app = typer.Typer(
    name="wsolkern",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
for command in (
    train.train,
    extract.extract,
    evaluate.evaluate,
    sweep.sweep,
    select.select,
    table.table,
    diagnose.diagnose,
    profile.profile,
    demo.demo,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(store.app, name="store")
app.add_typer(make_dataset.app, name="make-dataset")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wsolkern {wsolkern.__version__}")
        raise typer.Exit


@app.callback()
def _app_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Evaluates weakly supervised object localization: MaxBoxAcc, MaxBoxAccV2 and PxAP of class activation maps.

    The numbers are those of the published evaluator, to the last digit, under every normalization at once.

    Start with **wsolkern demo**.
    """


def main() -> None:
    """The entry point."""
    terminal.prepare_streams()
    app()

"""What the commands share: how a result goes out, progress bars, and errors as one line instead of a traceback.

In: results, progress, errors. Out: what :mod:`wsolkern.cli.streams` prints, files, exit codes.
Source: none.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import cleandoc
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand

from wsolkern.cli.streams import UNREAD, print_text, printing, stderr
from wsolkern.errors import ArgumentError, BackendUnavailable, message
from wsolkern.files import write_whole

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsolkern.metrics import Result
    from wsolkern.studies import Evaluation

# Exit codes: some maps were left out; nothing could be done, or not all written; Ctrl-C.
PROBLEMS, FAILED, INTERRUPTED = 1, 2, 130

_NUM_LISTED = 10  # problems printed


class Command(TyperCommand):
    """A command whose help is readable at 80 columns: an option that is long has a line of its own, and none is cut."""

    def format_help(self, context, formatter) -> None:
        """Usage, the docstring (Markdown), arguments, options."""
        from rich.console import Console
        from rich.markdown import Markdown
        from rich.padding import Padding

        drawn = Console(file=StringIO(), width=formatter.width, force_terminal=True)
        drawn.print(Padding(Markdown(cleandoc(self.help or "")), (1, 0, 0, 2)))
        self.format_usage(context, formatter)
        formatter.write(drawn.file.getvalue())
        self.format_options(context, formatter)


def group(name: str, **about) -> typer.Typer:
    """Commands under one name; without one of them it prints its help."""
    help_options = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(
        name=name, no_args_is_help=True, context_settings=help_options, rich_markup_mode="markdown", **about
    )


def deliver(*steps: Callable[[], object] | None) -> None:
    """Takes all steps that a result goes out by, whichever of them fail: printing, files, a list of what is missing.

    Args:
        steps: What is done, in this order; None, as of a file that is not wanted, is nothing.

    Raises:
        typer.Exit: Some did, or ended the command.
    """
    codes = set()
    for step in steps:
        try:
            with errors_as_messages():
                if step is not None:
                    step()
        except typer.Exit as ended:
            codes.add(ended.exit_code)
    for code in (INTERRUPTED, FAILED, PROBLEMS, UNREAD):
        if code in codes:
            raise typer.Exit(code)


def deliver_result(
    json_file: str | None,
    content: Callable[[], dict],
    show: Callable[[], object] | None,
    *steps: Callable[[], object] | None,
) -> None:
    """Takes the steps of a result that goes out as JSON, too; it is not shown where the JSON is printed.

    Args:
        json_file: Where the JSON goes, "-" for standard output; None: nowhere.
        content: Gives what it holds.
        show: Prints the result.
        steps: What follows, as for :func:`deliver`.

    Raises:
        typer.Exit: As from there.
    """
    deliver(
        None if json_file == "-" else show,
        None if json_file is None else lambda: write_json(content(), json_file),
        *steps,
    )


def print_result(result: "Result", title: str, *, markdown: bool = False) -> None:
    """The table on standard output, as wide as that is; as Markdown it has no title."""
    from wsolkern.report.tables import markdown_table, rich_tables

    if markdown:
        return print_text(markdown_table(result))
    about = f"{title}, {len(result.thresholds)} thresholds, metrics in percent"
    with printing() as console:
        console.print(*rich_tables(result, about, console.width), sep="")


def print_evaluation(evaluation: "Evaluation", title: str, *, markdown: bool = False) -> None:
    """The same and, where images were classified, a second table: of localization with classification."""
    print_result(evaluation.result, title, markdown=markdown)
    if evaluation.localization is not None:
        print_localization(evaluation, markdown=markdown)


def print_localization(evaluation: "Evaluation", *, markdown: bool = False) -> None:
    """The second table alone, of an evaluation whose images were classified."""
    from wsolkern.report.tables import localization_table, markdown_localization

    if markdown:
        return print_text(markdown_localization(evaluation))
    with printing() as console:
        console.print(localization_table(evaluation))


def progress_bar(unit: str = "images") -> "Progress":
    """A bar on standard error with how many are done, their rate and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn
    from rich.text import Text

    from wsolkern.report.plain import visible

    class Description(ProgressColumn):
        def render(self, task):
            return Text(visible(task.description))

    class Rate(ProgressColumn):
        def render(self, task):
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s")

    return Progress(
        Description(),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=stderr(),
    )


@contextmanager
def showing_progress(unit: str = "images") -> Iterator[Callable[[str, int, int], None]]:
    """Gives a study's progress callback; what it tells is a bar for each thing that is being done."""
    bar, tasks = progress_bar(unit), {}

    def progress(what: str, done: int, total: int) -> None:
        bar.start()  # not before: what is refused at once shows no bar
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done)

    try:
        yield progress
    finally:
        if tasks:
            bar.stop()


_spellings: dict[str, str] = {}  # of the command that runs: an argument's name -> how it is typed


def spell_as_typed(context: typer.Context) -> None:
    """From now on errors name an argument as the command that is being invoked takes it: --mask-root for mask_root."""
    _spellings.clear()
    command = context.command.get_command(context, context.invoked_subcommand or "")
    for each in command.params if command else ():
        is_option = each.opts[0].startswith("-")
        _spellings[each.name] = max(each.opts, key=len) if is_option else each.metavar or each.name.upper()


def print_error(text: str) -> None:
    """A line on standard error that says why a command fails."""
    stderr().print(f"error: {text}", style="red")


@contextmanager
def errors_as_messages(say: Callable[[str], object] = print_error) -> Iterator[None]:
    """What a user can mend (arguments, files, packages, memory) becomes one line on standard error and exit code 2.

    Args:
        say: Prints the line, or has it printed.
    """
    try:
        yield
    except (BackendUnavailable, ImportError, MemoryError, OSError, ValueError) as error:
        say(error.spelled(_spellings) if isinstance(error, ArgumentError) else message(error))
        raise typer.Exit(FAILED) from error


def list_problems(what: str, problems: Mapping[str, str], more: str = "") -> None:
    """Prints the first problems on standard error, under a line with their number and ``what``.

    Args:
        what: Continues "12 ", such as "of 100 maps were left out".
        problems: Name -> what is wrong.
        more: What follows the number of those that are not printed.
    """
    if not problems:
        return
    out = stderr()
    out.print(f"{len(problems):,} {what}:", style="yellow")
    for name, problem in islice(problems.items(), _NUM_LISTED):
        out.print(f"  {name}: {problem}")
    if len(problems) > _NUM_LISTED:
        out.print(f"  and {len(problems) - _NUM_LISTED:,} more{more}")


def write_json(content: dict, where: str) -> None:
    """Writes to a file, whole or not at all, or to standard output if ``where`` is "-"; keys are sorted."""
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    if where == "-":
        print_text(text)
    else:
        write_whole(where, text.encode())

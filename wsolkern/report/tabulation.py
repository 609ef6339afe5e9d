"""A study's tables on a console or in a file: text, Markdown, LaTeX or CSV.

In: tables of :mod:`wsolkern.report.paper` with notes. Out: what a console or its file is written.
Source: none.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.report import paper
from wsolkern.report.plain import markdown_text

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("text", "markdown", "latex", "csv")


def write(console: "Console", tables: Sequence[paper.PaperTable], notes: Sequence[str], format_: str) -> None:
    """Writes to a console's file, as wide as the console is, in one of :data:`FORMATS`."""
    if format_ == "text":
        for each in tables:
            console.print(*paper.rich_tables(each, console.width), sep="")
        for note in notes:
            console.print(note)
    elif format_ == "csv":
        console.file.write(paper.csv_text(tables))
    elif format_ == "latex":
        console.file.write("\n".join(paper.latex(each, notes) for each in tables))
    else:
        titled = [f"{paper.title(each)}.\n\n{paper.markdown(each)}" for each in tables]
        console.file.write("\n".join((*titled, *(f"{markdown_text(each)}.\n" for each in notes))))

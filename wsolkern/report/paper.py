"""The tables of the paper on a console or in a file: text, Markdown, LaTeX or CSV.

In: tables of :mod:`wsolkern.studies.paper` with notes. Out: rich tables, texts, what a console or its file is written.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2.

A cell reads "64.29", or with the paper's number and the difference "64.29 (65.27, -0.98)".
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wsolkern.report.plain import latex_text, markdown_text, visible
from wsolkern.report.tables import csv_text as rows_as_csv
from wsolkern.report.tables import plain_table
from wsolkern.studies.paper import COLUMNS, NORMALIZATIONS, PUBLISHED_LAYOUTS, PaperTable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FORMATS = ("text", "markdown", "latex", "csv")


def write(console: "Console", tables: Sequence[PaperTable], notes: Sequence[str], format_: str) -> None:
    """Writes to a console's file, as wide as the console is, in one of :data:`FORMATS`."""
    if format_ == "text":
        for each in tables:
            console.print(*rich_tables(each, console.width), sep="")
        for note in notes:
            console.print(note)
    elif format_ == "csv":
        console.file.write(csv_text(tables))
    elif format_ == "latex":
        console.file.write("\n".join(latex(each, notes) for each in tables))
    else:
        titled = [f"{title(each)}.\n\n{markdown(each)}" for each in tables]
        console.file.write("\n".join((*titled, *(f"{markdown_text(each)}.\n" for each in notes))))


def title(table: PaperTable) -> str:
    """What a table is about, in one line."""
    what = "WSOL methods under four normalizations, in percent, the best of each method in bold"
    if not table.measured:
        number = 1 + PUBLISHED_LAYOUTS.index(table.layout)
        return f"{what}; as published: Kim et al., arXiv 2107.13221, table {number}"
    beside = any(figure.published is not None for figure in table.figures.values())
    return what + ("; in brackets: as published, difference" if beside else "")


def rich_tables(table: PaperTable, width: int) -> "list[Table]":
    """The table for a terminal of ``width`` columns; where it is too wide, one table for each title of its header."""
    from rich.console import Console

    groups = table.groups()
    whole = _rich_table(table, groups, title(table))
    if Console(width=10_000).measure(whole).maximum <= width:
        return [whole]
    return [_rich_table(table, [group], None if place else title(table)) for place, group in enumerate(groups)]


def markdown(table: PaperTable) -> str:
    """The table as Markdown, which has one line of headings: a column's says data set, backbone and metric."""
    headings = [markdown_text(" ".join((*name, heading))) for name, columns in table.groups() for heading, _ in columns]
    lines = [["method", "normalization", *headings], ["---", "---", *("---:" for _ in headings)]]
    for first, _, row in _blocks(table):
        cells = [_cell(table, row, column, "**{}**") for column in table.columns]
        lines.append([markdown_text(row[0]) if first else "", NORMALIZATIONS[row[1]], *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: PaperTable, notes: Sequence[str] = ()) -> str:
    """The table as a LaTeX ``table`` environment, with ``notes`` in its caption; the document needs booktabs."""
    groups = table.groups()
    titles, rules, start = ["", ""], [], 3
    for name, columns in groups:
        end = start + len(columns) - 1
        titles.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{latex_text(' '.join(name))}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{end}}}")
        start = end + 1
    headings = [latex_text(heading) for _, columns in groups for heading, _ in columns]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{'. '.join(map(latex_text, (title(table), *notes)))}.}}",
        rf"\begin{{tabular}}{{ll{'r' * len(headings)}}}",
        r"\toprule",
        rf"{' & '.join(titles)} \\",
        " ".join(rules),
        rf"{' & '.join(['method', 'normalization', *headings])} \\",
    ]
    for first, _, row in _blocks(table):
        cells = [_cell(table, row, column, r"\textbf{{{}}}", missing="--", minus="$-$") for column in table.columns]
        lines += [r"\midrule"] if first else []
        lines.append(rf"{' & '.join([latex_text(row[0]) if first else '', NORMALIZATIONS[row[1]], *cells])} \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "".join(f"{line}\n" for line in lines)


def csv_text(tables: Iterable[PaperTable]) -> str:
    """Tables as one CSV in long form, a line a cell: :data:`COLUMNS`; what is missing is empty."""
    return rows_as_csv([_csv_row(cell) for table in tables for cell in table.to_dict()["cells"]])


def _csv_row(cell: dict) -> dict:
    """A cell without what is in bold; what is published has two digits."""
    row = {name: visible(cell[name]) if isinstance(cell[name], str) else cell[name] for name in COLUMNS}
    return row | {name: None if row[name] is None else f"{row[name]:.2f}" for name in ("published", "difference")}


def _cell(table: PaperTable, row, column, bold: str, *, missing: str = "–", minus: str = "-") -> str:
    """The text of a cell; ``bold`` has {} where the number goes if it is the best."""
    figure = table.at(row, column)
    value, beside = (figure.value, figure.published) if table.measured else (figure.published, None)
    text = missing if value is None else f"{value:.2f}"
    if table.is_best(row, column):
        text = bold.format(text)
    if beside is None:
        return text
    if value is None:
        return f"{text} ({beside:.2f})"
    return f"{text} ({beside:.2f}, {f'{figure.difference:+.2f}'.replace('-', minus)})"


def _blocks(table: PaperTable) -> Iterable[tuple[bool, bool, tuple[str, str]]]:
    """The rows, with whether they are the first and the last of their method."""
    methods = [None, *(method for method, _ in table.rows), None]
    for before, row, after in zip(methods, table.rows, methods[2:], strict=False):
        yield before != row[0], after != row[0], row


def _rich_table(table: PaperTable, groups, caption: str | None) -> "Table":
    from rich.text import Text

    made = plain_table(caption)
    height = max(len(name) for name, _ in groups)
    for heading in ("method", "normalization"):
        made.add_column("\n" * height + heading, no_wrap=True)
    for name, columns in groups:
        for place, (heading, _) in enumerate(columns):
            # The title of a group stands above its first column.
            above = () if place else name
            lines = (*[""] * (height - len(above)), *above, heading)
            made.add_column(Text("\n".join(map(visible, lines))), justify="right", no_wrap=True)
    for first, last, row in _blocks(table):
        cells = [_rich_cell(table, row, column) for _, columns in groups for _, column in columns]
        name = Text(visible(row[0]) if first else "")
        made.add_row(name, NORMALIZATIONS[row[1]], *cells, end_section=last)
    return made


def _rich_cell(table: PaperTable, row, column) -> "Text":
    from rich.text import Text

    number, *others = _cell(table, row, column, "{}").split(" ", 1)
    style = "bold" if table.is_best(row, column) else ""
    return Text.assemble((number, style), *(f" {each}" for each in others))

"""A Result as a table, one row a normalization.

In: a Result. Out: a rich Table, Markdown text or a CSV file; everything in percent but thresholds and counts.
Source: the columns are those of :mod:`wsolkern.metrics.presentation`.
"""

import csv
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.files import write_whole
from wsolkern.metrics import Metric
from wsolkern.metrics.metric import usual_iou_threshold
from wsolkern.metrics.presentation import columns
from wsolkern.report.plain import visible

if TYPE_CHECKING:
    from rich.table import Table

    from wsolkern.metrics import NormalizationResult, Result
    from wsolkern.studies.evaluation import Evaluation


def localization_columns(evaluation: "Evaluation") -> list[tuple[str, str, list[str]]]:
    """Top-1, Top-5 and GT-known localization, as :func:`columns`; of CAMs of the predicted class the last has another
    name, for it is GT-known only of CAMs of the labels."""
    assert evaluation.localization is not None
    found = [("", "normalization", [row.name for row in evaluation.result])]
    for place, each in enumerate(evaluation.localization[0]):
        usual = usual_iou_threshold(tuple(each.per_iou))
        heading = "any class" if each.top is None and evaluation.cams_of == "predicted" else each.name
        group = f"{each.metric}@{usual:g}" if each.metric is Metric.MAX_BOX_ACC else str(each.metric)
        found.append((group, heading, [f"{figures[place].figure:.2f}" for figures in evaluation.localization]))
    return found


def about_localization(evaluation: "Evaluation") -> str:
    """What a reader of these columns must know: which CAMs, how good the classifier is, where figures are taken."""
    accuracy = evaluation.result.classification_accuracy or {}
    classified = ", ".join(f"Top-{k} {figure:.2f}" for k, figure in accuracy.items())
    cams = {"labels": "the image's own class", "predicted": "the predicted class"}
    at = evaluation.at
    policy = {"best": "each figure at its best threshold on these images", "gt-known": "at the best GT-known threshold"}
    where = policy.get(at, "") if isinstance(at, str) else f"at threshold {at:g}" if isinstance(at, float) else ""
    return (
        f"Localization with classification: CAMs of {cams.get(evaluation.cams_of or '', 'an unknown class')}, "
        f"classification accuracy {classified}, {where or 'at thresholds selected on other images'}"
    )


def rich_tables(result: "Result", title: str, width: int) -> "list[Table]":
    """The table for a terminal of ``width`` columns; where it is too wide, thresholds are a table of their own."""
    shown = columns(result)
    whole = _rich_table(shown, title)
    if sum(_width(*column) + 2 for column in shown) <= width:
        return [whole]
    thresholds = [column for column in shown if column[0] == "threshold"]
    others = [column for column in shown if column not in thresholds]
    return [_rich_table(others, title), _rich_table([shown[0], *thresholds], None)]


def plain_table(title: str | None = None) -> "Table":
    """An empty table as all of the project's look in a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # What is not ours is a Text: in a string, a console that is not the commands' own takes brackets for its markup.
    title = title and Text(visible(title), "table.title")
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _rich_table(shown: list[tuple[str, str, list[str]]], title: str | None) -> "Table":
    table = plain_table(title)
    previous = ""
    for group, heading, _ in shown:
        # The name of a group stands above its first column.
        above, previous = "" if group == previous else group, group
        is_name = heading == "normalization"
        style = "bold" if is_name or heading == "mean" else None
        table.add_column(f"{above}\n{heading}", justify="left" if is_name else "right", style=style, no_wrap=True)
    for row in zip(*(cells for _, _, cells in shown), strict=True):
        table.add_row(*row)
    return table


def _width(group: str, heading: str, cells: list[str]) -> int:
    return max(map(len, (group, heading, *cells)))


def localization_table(evaluation: "Evaluation") -> "Table":
    """The same table for a terminal."""
    return _rich_table(localization_columns(evaluation), about_localization(evaluation))


def markdown_table(result: "Result") -> str:
    """The table as Markdown."""
    return _markdown(columns(result))


def markdown_localization(evaluation: "Evaluation") -> str:
    """The localization with classification as Markdown, with what must be known of it above."""
    return f"\n{about_localization(evaluation)}\n\n{_markdown(localization_columns(evaluation))}"


def _markdown(shown: list[tuple[str, str, list[str]]]) -> str:
    lines = [
        [f"{group} {heading}".strip() for group, heading, _ in shown],
        ["---" if heading == "normalization" else "---:" for _, heading, _ in shown],
        *(list(row) for row in zip(*(cells for _, _, cells in shown), strict=True)),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_csv(path: str | os.PathLike, result: "Result") -> None:
    """Writes a result as CSV, one row a normalization, numbers with all their digits."""
    write_whole(path, csv_text([_csv_row(row, result) for row in result]).encode())


def csv_text(rows: Sequence[dict]) -> str:
    """Rows of the same columns, at least one, as CSV under a line of the columns' names."""
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(row: "NormalizationResult", result: "Result") -> dict:
    of = row.normalization
    cells = {"normalization": row.name, "ivr": of and of.ivr, "pas": of and of.pas, "num_images": result.num_images}
    for each in row.measured():
        cells[each.column] = each.value
        if each.threshold is not None:
            cells[each.threshold_column] = each.threshold
    return cells | {"num_degenerate": row.num_degenerate}

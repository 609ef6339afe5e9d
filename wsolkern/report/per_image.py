"""Rows by image as CSV and Parquet, written as they come, and the tables of what they and groups come to.

In: ImageRows batch by batch, summaries, groups. Out: files, rich tables, Markdown.
Source: none; the columns are those of :mod:`wsolkern.metrics.per_image`.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wsolkern.errors import ArgumentError
from wsolkern.files import replacing
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.metrics.metric import usual_iou_threshold
from wsolkern.metrics.per_image import ImageRows, ImageSummary, known
from wsolkern.report.plain import visible
from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from wsolkern.metrics.grouping import Group
    from wsolkern.studies.grouping import Grouping
    from wsolkern.studies.images import PerImage

Columns = list[tuple[str, list[str]]]

_ROW_GROUP = 1 << 14  # rows that a Parquet file keeps together


def check_file(path: str | os.PathLike[str]) -> None:
    """Does nothing if rows can be written under that name here.

    Raises:
        ArgumentError: It ends neither in .csv nor in .parquet.
        ImportError: It ends in .parquet, and there is no pyarrow.
    """
    suffix = Path(path).suffix
    if suffix not in (".csv", ".parquet"):
        raise ArgumentError("per_image", f"expected a name that ends in .csv or .parquet, found {os.fspath(path)}")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ImportError(f"{os.fspath(path)}: needs pyarrow: pip install wsolkern[parquet]") from error


@contextmanager
def writing_rows(path: str | os.PathLike[str]) -> Iterator[Callable[[ImageRows], None]]:
    """A file of rows, by its name CSV or Parquet, that is there when the block ends well, and not before.

    Memory does not depend on the number of rows. In CSV, floats have all their digits, bools are 1 and 0, and what is
    not known is empty. In Parquet columns have the types of the rows, and what is not known is null.

    Yields:
        What writes some rows behind the others.

    Raises:
        ArgumentError, ImportError: As :func:`check_file`.
        OSError: The file cannot be written.
    """
    check_file(path)
    try:
        with (
            replacing(path) as file,
            _parquet(file) if Path(path).suffix == ".parquet" else _csv(file) as write,
        ):
            yield write
    except OSError as error:  # of the file itself, which does not know what it is called
        if error.filename is not None or error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def _csv(file: BinaryIO) -> Iterator[Callable[[ImageRows], None]]:
    names: list[str] = []

    def write(rows: ImageRows) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not names:
            names.extend(rows.columns)
            writer.writerow(names)
        cells = []
        for name in names:
            column = rows.columns[name]
            cells.append(known(column.astype("int8") if column.dtype.kind == "b" else column))
        writer.writerows(zip(*cells, strict=True))
        file.write(text.getvalue().encode())

    yield write


@contextmanager
def _parquet(file: BinaryIO) -> Iterator[Callable[[ImageRows], None]]:
    import pyarrow
    import pyarrow.parquet

    writer: Any = None
    waiting: list[ImageRows] = []

    def flush() -> None:
        nonlocal writer
        rows = ImageRows.joined(waiting)
        waiting.clear()
        columns = {name: pyarrow.array(known(column), _type(pyarrow, column)) for name, column in rows.columns.items()}
        table = pyarrow.table(columns)
        writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)

    def write(rows: ImageRows) -> None:
        waiting.append(rows)
        if sum(map(len, waiting)) >= _ROW_GROUP:
            flush()

    yield write
    if waiting:
        flush()
    if writer is not None:
        writer.close()


def _type(pyarrow: Any, column: Any) -> Any:
    return pyarrow.string() if column.dtype.kind == "O" else pyarrow.from_numpy_dtype(column.dtype)


def summary_columns(summaries: Sequence[ImageSummary]) -> Columns:
    """What the table of summaries shows: a heading and a cell a normalization, fractions in percent."""

    def percent(value: float) -> str:
        return f"{100 * value:.2f}"

    found: Columns = [("normalization", [each.name for each in summaries])]
    found.append(("threshold", [f"{each.chosen.threshold:.6g}" for each in summaries]))
    found.append(("mean IoU, there", [percent(each.mean_iou) for each in summaries]))
    for contours in summaries[0].mean_best_iou:
        found.append((f"mean best IoU, {contours}", [percent(each.mean_best_iou[contours]) for each in summaries]))
    for contours in summaries[0].peak_mean_iou:
        cells = [
            f"{percent(each.peak_mean_iou[contours])} at {each.peak_mean_iou_threshold[contours]:.6g}"
            for each in summaries
        ]
        found.append((f"peak mean IoU, {contours}", cells))
    if summaries[0].peak_iou is not None:
        cells = [f"{percent(each.peak_iou or 0.0)} at {each.peak_iou_threshold:.6g}" for each in summaries]
        found.append(("peak IoU", cells))
    found.append(("energy", [percent(each.energy) for each in summaries]))
    return found


def error_columns(summaries: Sequence[ImageSummary]) -> Columns:
    """What the table of errors shows: images by category; none for masks."""
    if summaries[0].errors is None:
        return []
    found: Columns = [("normalization", [each.name for each in summaries])]
    for name in CATEGORIES:
        cells = [f"{100 * each.errors[name] / each.num_images:.2f}" if each.errors else "" for each in summaries]
        found.append((name.replace("_", " "), cells))
    return found


def group_columns(groups: "Sequence[Group]", heading: str) -> Columns:
    """What the table of groups shows, a line a group and normalization, in percent.

    "overall" is at the thresholds that are best for all images together, "own" at the group's.
    """
    pairs = [(group, row) for group in groups for row in group.rows]
    found: Columns = [
        (heading, [group.name for group, _ in pairs]),
        ("images", [f"{group.num_images:,}" for group, _ in pairs]),
        ("normalization", [row.own.name for _, row in pairs]),
    ]
    if pairs[0][1].max_box_acc is not None:
        usual = usual_iou_threshold(tuple(pairs[0][1].max_box_acc))
        found += [
            (f"MaxBoxAcc {usual:g}, overall", [f"{(row.max_box_acc or {})[usual]:.2f}" for _, row in pairs]),
            ("own", [f"{(row.own.max_box_acc or {})[usual]:.2f}" for _, row in pairs]),
            ("MaxBoxAccV2, overall", [f"{row.max_box_acc_v2:.2f}" for _, row in pairs]),
            ("own", [f"{row.own.max_box_acc_v2:.2f}" for _, row in pairs]),
        ]
    else:
        own = [row.own for _, row in pairs]
        found += [
            ("IoU, overall", [f"{row.pixel_iou:.2f}" for _, row in pairs]),
            ("own", ["" if each.peak_iou is None else f"{each.peak_iou:.2f}" for each in own]),
            ("PxAP", ["" if each.pxap is None else f"{each.pxap:.2f}" for each in own]),
        ]
    return found


def shown_groups(found: "Grouping") -> tuple[str, Columns]:
    """The title and the columns of a table of groups."""
    about = f"by {found.by}, in percent; own: at the group's best thresholds, overall: at those of all images"
    if found.size_bounds is not None:
        lower, upper = found.size_bounds
        about += f"; objects of at most {lower:,} pixels are small, of at most {upper:,} medium"
    return about, group_columns(found.groups, found.by)


def shown_images(found: "PerImage") -> list[tuple[str, Columns]]:
    """Titles and columns of the tables of what the rows come to."""
    game, tables = found.pointing_game, [("per image, in percent", summary_columns(found.summaries))]
    if columns := error_columns(found.summaries):
        tables.append(("images by error, in percent", columns))
    pointing = [
        ("tolerance", [f"{game.tolerance} pixels"]),
        ("hits", [f"{game.num_hits:,} of {game.num_images:,}"]),
        ("accuracy", [f"{100 * game.accuracy:.2f}"]),
    ]
    if game.mean_over_classes is not None:
        pointing.append(("mean over classes", [f"{100 * game.mean_over_classes:.2f}"]))
    return [*tables, ("pointing game, in percent", pointing)]


def rich_table(title: str, columns: Columns) -> "Table":
    """A table for the terminal; headings are broken at their commas."""
    table = plain_table(title)
    for place, (heading, _) in enumerate(columns):
        table.add_column(heading.replace(", ", "\n"), justify="right" if place else "left")
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*map(visible, row))
    return table


def markdown(title: str, columns: Columns) -> str:
    """The same as Markdown, under its title."""
    lines = [
        [heading for heading, _ in columns],
        ["---:" if place else "---" for place in range(len(columns))],
        *(list(row) for row in zip(*(cells for _, cells in columns), strict=True)),
    ]
    return f"\n{title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

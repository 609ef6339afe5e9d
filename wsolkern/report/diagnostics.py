"""What the extremes of runs' maps say: a table, a CSV and a picture.

In: minima and maxima by map, with their Diagnosis. Out: rich tables, CSV and PNG files.
Source: Kim et al., arXiv 2107.13221, section 6; the pictures are laid out as its figures 4 and 6.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsolkern.files import write_whole
from wsolkern.metrics.diagnostics import RunExtremes, has_range
from wsolkern.report import style
from wsolkern.report.plain import visible
from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_POINT, _MARKED = style.Look(style.BLUE, "", "o"), style.Look(style.VERMILLION, "", "x")
_MOST_COLUMNS = 3  # panels side by side, where there is one a store


def rich_table(runs: Sequence[RunExtremes]) -> "Table":
    """The distributions, two rows a run."""
    from rich.text import Text

    table = plain_table()
    for heading in ("store", "maps", "of each map"):
        table.add_column(heading, justify="right" if heading == "maps" else "left", no_wrap=True)
    for heading in ("mean", "std", "min", "Q1", "median", "Q3", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        for first, name, each in ((True, "minimum", run.diagnosis.minima), (False, "maximum", run.diagnosis.maxima)):
            numbers = [f"{value:.4g}" for value in vars(each).values()]
            labels = (Text(visible(run.name)), f"{run.diagnosis.num_maps:,}") if first else ("", "")
            table.add_row(*labels, name, *numbers, end_section=not first)
    return table


def write_csv(path: str | os.PathLike, runs: Iterable[RunExtremes]) -> None:
    """Writes a line a map: store, image_id, minimum, maximum, is_outlier_minimum, and whether its box is right.

    A map that the diagnosis leaves out (constant, not finite) has no is_outlier_minimum. Whether boxes are right is in
    one column a normalization (right_minmax, ..., right_ivr: True or False), if that is known.
    """
    runs = list(runs)
    families = [each.name for each in runs[0].localized] if runs else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["store", "image_id", "minimum", "maximum", "is_outlier_minimum", *(f"right_{each}" for each in families)]
    )
    for run in runs:
        name = visible(run.name)
        used, outlier = has_range(run.minima, run.maxima), run.minima < run.diagnosis.outlier_below
        for place, image_id in enumerate(run.image_ids):
            extremes = float(run.minima[place]), float(run.maxima[place])
            is_outlier = bool(outlier[place]) if used[place] else ""
            right = (bool(each[place]) for each in run.localized.values())
            writer.writerow([name, visible(image_id), *extremes, is_outlier, *right])
    write_whole(path, file.getvalue().encode())


def draw_extremes(path: str | os.PathLike, runs: Sequence[RunExtremes]) -> None:
    """Draws minimum (x) against maximum (y), a point a map.

    Where it is known whether boxes are right there is a row a run and a panel a normalization, wrong ones as crosses
    (figure 4 of the paper); else there is a panel a run, outlier minima as crosses (figure 6). Maps that the diagnosis
    leaves out are not drawn.

    Args:
        path: File to write, in the format that its name ends in (.png, .pdf, ...).
        runs: What to draw, at least one.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: There is nothing to draw, or the name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from wsolkern.report.drawing import check_picture

    check_picture(path)
    style.save(path, extremes_figure(runs))


def extremes_figure(runs: Sequence[RunExtremes], iou_threshold: float = 0.7, *, rasterized: bool = False) -> "Figure":
    """The same as a figure of matplotlib.

    Args:
        runs: What to draw, at least one.
        iou_threshold: At which boxes are right, for the legend; a fraction.
        rasterized: In a file of lines the points are a picture, whose size does not depend on their number.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not runs:
        raise ValueError("runs: expected at least one, found none")
    by_box = bool(runs[0].localized)
    if by_box:
        panels = [
            (run, f"{name}, {100 * right.mean():.1f} % right", ~right)
            for run in runs
            for name, right in run.localized.items()
        ]
    else:
        ratio = "std of maxima / std of minima"
        panels = [(run, f"{ratio} {run.diagnosis.ratio:.2f}", run.minima < run.diagnosis.outlier_below) for run in runs]
    num_columns = len(runs[0].localized) if by_box else min(_MOST_COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    height = 3.0 * num_rows + 0.4  # inches
    figure = style.new_figure(max(3.1 * num_columns + 0.2, 4.6), height, layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axis in grid.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axis, *panel, rasterized)
    wrong = f"box wrong, at the best threshold for IoU {iou_threshold:g}"
    _legend(figure, ("box right", wrong) if by_box else ("map", "outlier minimum"))
    return figure


def _draw_panel(axis, run: RunExtremes, subtitle: str, marked: np.ndarray, rasterized: bool) -> None:
    from wsolkern.report.drawing import PLAIN

    used = has_range(run.minima, run.maxima)
    for shown, look in ((used & ~marked, _POINT), (used & marked, _MARKED)):
        how = {"facecolors": "none"} if look.marker == "o" else {}
        how["rasterized"] = rasterized
        axis.scatter(
            run.minima[shown], run.maxima[shown], s=12, marker=look.marker, color=look.colour, linewidths=0.7, **how
        )
    name = visible(os.path.basename(os.path.normpath(run.name)))
    axis.set_title(f"{name}\n{subtitle}", color=style.INK, fontsize=9, **PLAIN)
    style.finish_axes(axis, "minimum", "maximum")


def _legend(figure, labels: tuple[str, str]) -> None:
    from matplotlib.lines import Line2D

    points = [
        Line2D([], [], color=look.colour, marker=look.marker, markerfacecolor="none", linestyle="", label=label)
        for look, label in zip((_POINT, _MARKED), labels, strict=True)
    ]
    figure.legend(handles=points, loc="outside upper left", ncols=2, frameon=False, fontsize=9)

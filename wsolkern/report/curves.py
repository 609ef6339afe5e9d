"""Accuracy over percentile: which percentile suits IVR and PaS, as bars in a terminal and a picture.

In: curves of :mod:`wsolkern.metrics.curves`. Out: one rich table a curve, a PNG file.
Source: figure 5 of Kim et al., arXiv 2107.13221.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.metrics.curves import PercentileCurve
from wsolkern.report.plain import visible
from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 40  # characters of the longest bar
_SPAN = 10  # percent below the peak at which bars begin: what is farther below is not worth telling apart
_COLOURS = ("#2f8fff", "#ff3b30", "#34d158", "#b07cff", "#ff9f0a")


def curve_table(curve: PercentileCurve, mark: str = "█") -> "Table":
    """A curve for the terminal: bars show how far a value is above the lowest, or above 10 percent below the peak.

    Args:
        curve: The curve.
        mark: The character that bars are made of.
    """
    high = curve.values.max()
    low = max(curve.values.min(), high - _SPAN)
    table = plain_table(f"{curve.metric} over P, {curve.name}")
    table.add_column("P", justify="right")
    table.add_column(curve.metric, justify="right")
    table.add_column("", no_wrap=True)
    for index, (percentile, value) in enumerate(zip(curve.percentiles, curve.values, strict=True)):
        filled = round(_BAR * max(0, value - low) / (high - low)) if high > low else 0
        is_peak = index == curve.peak
        bar = mark * filled + (" peak" if is_peak else "")
        table.add_row(f"{percentile:g}", f"{value:.2f}", bar, style="bold" if is_peak else None)
    return table


def draw_percentile_curves(path: str | os.PathLike, curves: Sequence[PercentileCurve], title: str) -> None:
    """Draws curves into one picture, an axis a metric, peaks marked.

    Args:
        path: File to write, in the format that its name ends in (.png, .pdf, ...).
        curves: What to draw.
        title: What stands above it.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: There is no curve, or the name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from wsolkern.report.drawing import PLAIN, save_picture

    if not curves:
        raise ValueError("curves: expected at least one, that is two percentiles of one normalization, found none")
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    figure = Figure(figsize=(5.2 * len(metrics), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(visible(title), **PLAIN)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for index, curve in enumerate(each for each in curves if each.metric == metric):
            colour = _COLOURS[index % len(_COLOURS)]
            axes.plot(curve.percentiles, curve.values, ".-", color=colour, label=curve.name)
            at, value = curve.percentiles[curve.peak], curve.values[curve.peak]
            axes.plot(at, value, "o", markersize=10, markerfacecolor="none", color=colour)
            axes.annotate(f"{value:.2f} at {at:g}", (at, value), (0, 9), textcoords="offset points", ha="center")
        axes.set(xlabel="percentile P", ylabel=f"{metric} (%)")
        axes.margins(y=0.15)
        axes.grid(alpha=0.3)
        axes.legend()
    save_picture(path, figure, dpi=130)

"""Accuracy over percentile: which percentile suits IVR and PaS, as bars in a terminal and a picture.

In: curves and levels of :mod:`wsolkern.metrics.curves`, a Bootstrap. Out: one rich table a curve; a picture.
Source: figure 5 of Kim et al., arXiv 2107.13221.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsolkern.metrics.curves import Level, PercentileCurve
from wsolkern.report import style
from wsolkern.report.plain import visible
from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from wsolkern.metrics.bootstrap import Bootstrap

_BAR = 40  # characters of the longest bar
_DEPTH = 20  # percent below the best figure at which an axis ends, so that near ones can be told apart
_SPAN = 10  # percent below the peak at which bars begin: what is farther below is not worth telling apart


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


def draw_percentile_curves(
    path: str | os.PathLike,
    curves: Sequence[PercentileCurve],
    title: str,
    levels: Sequence[Level] = (),
    bootstrap: "Bootstrap | None" = None,
) -> None:
    """Draws curves into one picture, an axis a metric: peaks marked, what has no percentile as lines across.

    What is more than 20 points below the best is cut off. Where a metric was resampled, each curve lies in the band of
    its intervals, and a line has its interval as a bar at the right.

    Args:
        path: File to write, in the format that its name ends in (.png, .pdf, ...).
        curves: What to draw.
        title: What stands above it.
        levels: Normalizations that are on no curve.
        bootstrap: Intervals of all of them in one metric.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: There is no curve, or the name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from wsolkern.report.drawing import check_picture

    check_picture(path)
    style.save(path, percentile_figure(curves, title, levels, bootstrap))


def percentile_figure(
    curves: Sequence[PercentileCurve],
    title: str = "",
    levels: Sequence[Level] = (),
    bootstrap: "Bootstrap | None" = None,
) -> "Figure":
    """The same as a figure of matplotlib; without a title there is no room for one.

    Raises:
        ValueError: There is no curve.
    """
    from wsolkern.report.drawing import PLAIN

    if not curves:
        raise ValueError("curves: expected at least one, that is two percentiles of one normalization, found none")
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    figure = style.new_figure(5.6 * len(metrics), 3.9, layout="constrained")
    if title:
        figure.suptitle(visible(title), fontsize=10, color=style.INK, **PLAIN)
    for axis, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        resampled = bootstrap if bootstrap is not None and bootstrap.metric == metric else None
        draw_axis(
            axis,
            [each for each in curves if each.metric == metric],
            [each for each in levels if each.metric == metric],
            resampled,
        )
        if resampled is not None:
            note = (
                f"bands and bars: {100 * resampled.confidence:.6g}% intervals, {len(resampled.resampled):,} resamples"
            )
            axis.set_title(note, fontsize=8, color=style.FAINT, loc="left")
    return figure


def draw_axis(
    axis: Any, curves: Sequence[PercentileCurve], levels: Sequence[Level], bootstrap: "Bootstrap | None" = None
) -> None:
    """The curves and lines of one metric, with their names and values at the right."""
    labels = []
    seen: Counter[str] = Counter()
    right = max(curve.percentiles[-1] for curve in curves)
    left = min(curve.percentiles[0] for curve in curves)
    span = right - left
    for curve in curves:
        family = curve.normalizations[0].name
        look = style.FAMILIES[family] if not seen[family] else style.OTHERS[(seen[family] + 1) % len(style.OTHERS)]
        seen[family] += 1
        how: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "linewidth": 1.6}
        axis.plot(curve.percentiles, curve.values, marker=look.marker, markersize=3.5, label=curve.name, **how)
        at, value = curve.percentiles[curve.peak], curve.values[curve.peak]
        axis.plot([at], [value], "o", markersize=9, markerfacecolor="none", color=look.colour, label="_peak")
        labels.append((float(value), f"{curve.name} peak\n{value:.2f} at {at:g}", look.colour))
        if bootstrap is not None:
            low, high = zip(*(bootstrap[each].interval for each in curve.normalizations), strict=True)
            axis.fill_between(curve.percentiles, low, high, color=look.colour, alpha=0.15, linewidth=0)
    for place, each in enumerate(levels):
        look = style.FAMILIES[each.normalization.name]
        axis.plot(
            [left, right], [each.value] * 2, color=look.colour, linestyle=look.line, linewidth=1.4,
            label=str(each.normalization),
        )  # fmt: skip
        labels.append((each.value, f"{each.normalization} {each.value:.2f}", look.colour))
        if bootstrap is not None:
            low, high = bootstrap[each.normalization].interval
            x = right + (0.03 + 0.025 * place) * span
            error = [[each.value - low], [high - each.value]]
            axis.errorbar([x], [each.value], error, color=look.colour, marker=look.marker, markersize=4, capsize=2.5)
    style.finish_axes(axis, "percentile P", f"{curves[0].metric} (%)")
    axis.margins(y=0.06)
    best = max([curve.values.max() for curve in curves] + [each.value for each in levels])
    bottom, top = axis.get_ylim()
    axis.set_ylim(max(bottom, best - _DEPTH), top)
    room = 0.03 + (0.025 * len(levels) if bootstrap is not None else 0)
    axis.set_xlim(left - 0.02 * span, right + room * span)
    axis.legend(loc="lower left", fontsize=8, frameon=False, handlelength=3)
    _label_at_the_right(axis, labels)


def _label_at_the_right(axis: Any, labels: list[tuple[float, str, str]]) -> None:
    """Names beside their lines' ends, (height, text, colour), moved apart where they would lie on each other."""
    low, high = axis.get_ylim()
    labels = sorted((min(max(value, low), high), text, colour) for value, text, colour in labels)
    line = 0.052 * (high - low)  # of text
    heights = [line * (1 + text.count("\n")) for _, text, _ in labels]
    places = [value for value, _, _ in labels]
    places[0] = max(places[0], low + heights[0] / 2)
    for place in range(1, len(places)):
        places[place] = max(places[place], places[place - 1] + (heights[place - 1] + heights[place]) / 2)
    excess = max(0.0, places[-1] + heights[-1] / 2 - high)
    for place in reversed(range(len(places))):
        ceiling = (
            high - heights[-1] / 2
            if place == len(places) - 1
            else places[place + 1] - (heights[place] + heights[place + 1]) / 2
        )
        if excess:
            places[place] = min(places[place], ceiling)
    for (value, text, colour), place in zip(labels, places, strict=True):
        axis.annotate(
            text, (1, value), (1.03, place), xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            color=colour, fontsize=8, va="center", annotation_clip=False,
        )  # fmt: skip

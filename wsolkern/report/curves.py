"""Accuracy over percentile: which percentile suits IVR and PaS, as bars in a terminal, numbers and a picture.

In: a Result with several percentiles of a normalization. Out: curves, one rich table each, a PNG file, CSV rows.
Source: figure 5 of Kim et al., arXiv 2107.13221.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsolkern.files import write_whole
from wsolkern.metrics import Metric, NormalizationResult, Result
from wsolkern.metrics.selection import DECIMALS
from wsolkern.normalization import Normalization
from wsolkern.report.plain import visible
from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 40  # characters of the longest bar
_SPAN = 10  # percent below the peak at which bars begin: what is farther below is not worth telling apart
_COLOURS = ("#2f8fff", "#ff3b30", "#34d158", "#b07cff", "#ff9f0a")


@dataclass(frozen=True, eq=False)
class PercentileCurve:
    """One metric over the percentiles of one normalization."""

    name: str
    """The normalization, P standing for the percentile: "ivr:P", "pas:P", "ivr:P+pas:0.9"."""
    metric: Metric
    percentiles: np.ndarray
    """Ascending fractions, float64 [n], n >= 2."""
    values: np.ndarray
    """The metric in percent, float64 [n]."""

    @property
    def peak(self) -> int:
        """Index of the largest value, the first of those that tie."""
        return int(self.values.round(DECIMALS).argmax())

    def to_dict(self) -> dict:
        """As JSON can hold it."""
        return {
            "name": self.name,
            "metric": self.metric,
            "percentiles": self.percentiles.tolist(),
            "values": self.values.tolist(),
            "peak": {"percentile": float(self.percentiles[self.peak]), "value": float(self.values[self.peak])},
        }


def has_curve(normalizations: Iterable[str]) -> bool:
    """Whether a result of these, each of which is there once, will hold a curve."""
    names = Counter(name for each in normalizations for name, _ in _positions(Normalization.parse(each)))
    return max(names.values(), default=0) > 1


def percentile_curves(result: Result) -> list[PercentileCurve]:
    """The curves that a result holds: of each normalization with at least two percentiles, each metric measured.

    MaxBoxAcc is the one at IoU 0.5, or at the first IoU threshold if that was not asked for. Of IVR and PaS together
    there is a curve over one's percentile for each percentile of the other.
    """
    points: dict[str, dict[float, NormalizationResult]] = {}
    for row in result:
        if row.normalization is None:
            raise ValueError(f"result: expected rows of normalizations, found one of {row.name}")
        for name, percentile in _positions(row.normalization):
            points.setdefault(name, {})[percentile] = row
    curves = []
    for name, rows in points.items():
        if len(rows) < 2:
            continue
        percentiles = sorted(rows)
        for metric in Metric:
            if metric.is_in(rows[percentiles[0]]):
                values = np.array([metric.figure(rows[percentile]) for percentile in percentiles])
                curves.append(PercentileCurve(name, metric, np.array(percentiles), values))
    return curves


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


def write_csv(path: str | os.PathLike, result: Result) -> None:
    """Writes a result as CSV, one row a normalization, numbers with all their digits."""
    rows = [_csv_row(row, result) for row in result]
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, file.getvalue().encode())


def _csv_row(row: NormalizationResult, result: Result) -> dict:
    of = row.normalization
    cells = {"normalization": row.name, "ivr": of and of.ivr, "pas": of and of.pas, "num_images": result.num_images}
    if row.max_box_acc is not None:
        for iou in result.iou_thresholds:
            cells |= {f"max_box_acc@{iou:g}": row.max_box_acc[iou], f"threshold@{iou:g}": row.best_threshold[iou]}
        cells["max_box_acc_v2"] = row.max_box_acc_v2
        for iou in result.iou_thresholds:
            cells[f"max_box_acc_v2@{iou:g}"] = row.max_box_acc_v2_per_iou[iou]
            cells[f"threshold_v2@{iou:g}"] = row.best_threshold_v2[iou]
    if row.pxap is not None:
        cells["pxap"] = row.pxap
    return cells | {"num_degenerate": row.num_degenerate}


def _positions(normalization: Normalization) -> list[tuple[str, float]]:
    """The curves that a normalization is a point of, and where."""
    ivr, pas = normalization.ivr, normalization.pas
    if ivr is None or pas is None:
        return [(f"{normalization.name}:P", ivr if pas is None else pas)] if ivr != pas else []
    return [(f"ivr:P+pas:{pas!r}", ivr), (f"ivr:{ivr!r}+pas:P", pas)]

"""The paper's figures 1 to 6 as pictures.

In: a PaperFigure. Out: a file, for print as .pdf or .svg.
Source: Kim et al., arXiv 2107.13221, figures 1 to 6.
"""

import os
from typing import TYPE_CHECKING

from wsolkern.report import curves, diagnostics, pictures, style
from wsolkern.report.plain import visible

if TYPE_CHECKING:
    from wsolkern.studies.figures import PaperFigure

_HATCHES = {"minmax": "....", "max": "", "pas": "////", "ivr": "xx"}
_MOST_COLUMNS = 3


def draw_figure(path: str | os.PathLike, figure: "PaperFigure") -> None:
    """Draws what a figure has.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: The name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from wsolkern.report.drawing import check_picture

    check_picture(path)
    if figure.shown is not None:
        pictures.draw_localizations(path, figure.shown.images, figure.shown.caption)
    elif figure.runs:
        diagnostics.draw_extremes(path, figure.runs)
    elif figure.sweeps:
        _draw_sweeps(path, figure)
    elif figure.alignment is not None:
        _draw_alignment(path, figure)
    else:
        _draw_bars(path, figure)


def _draw_bars(path: str | os.PathLike, figure: "PaperFigure") -> None:
    from wsolkern.report.drawing import PLAIN

    drawn = style.new_figure(max(4.6, 3.4 * len(figure.bars)), 3.2, layout="constrained")
    axes = drawn.subplots(1, max(1, len(figure.bars)), squeeze=False)[0]
    for axis, ((dataset, metric), methods) in zip(axes, figure.bars.items(), strict=False):
        for place, (family, hatch) in enumerate(_HATCHES.items()):
            at = [k + 0.2 * (place - 1.5) for k, each in enumerate(methods.values()) if family in each]
            values = [each[family] for each in methods.values() if family in each]
            colour = style.FAMILIES[family].colour
            axis.bar(at, values, 0.18, label=family, facecolor="white", edgecolor=colour, hatch=hatch, linewidth=1.2)
            for x, value in zip(at, values, strict=True):
                axis.annotate(
                    f"{value:.1f}", (x, value), (0, 2), textcoords="offset points", ha="center", va="bottom",
                    fontsize=6.5, rotation=90, color=style.INK,
                )  # fmt: skip
        values = [value for each in methods.values() for value in each.values()]
        low, high = min(values), max(values)
        axis.set_ylim(max(0, low - 5), high + max(2, 0.25 * (high - max(0, low - 5))))
        axis.set_xticks(range(len(methods)), [visible(each) for each in methods], **PLAIN)
        style.finish_axes(axis, "", f"{metric} (%)" + (", not from 0" if axis.get_ylim()[0] > 0 else ""))
        axis.set_title(visible(dataset), fontsize=10, color=style.INK, **PLAIN)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    style.save(path, drawn)


def _draw_alignment(path: str | os.PathLike, figure: "PaperFigure") -> None:
    from wsolkern.report.drawing import PLAIN

    found = figure.alignment
    assert found is not None
    drawn = style.new_figure(5.2, 4.4, layout="constrained")
    axis, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for normalization, scores in found.scores.items():
        look = style.FAMILIES[normalization.name]
        axis.plot(found.values, scores, color=look.colour, linestyle=look.line, linewidth=1.6, label=str(normalization))
    axis.legend(fontsize=8, frameon=False, handlelength=3)
    style.finish_axes(axis, "", "score")
    axis.set_title(visible(found.image_id), fontsize=9, color=style.INK, **PLAIN)
    below.hist(found.values, 60, color="#888888")
    style.finish_axes(below, "value of the class activation map", "pixels")
    style.save(path, drawn)


def _draw_sweeps(path: str | os.PathLike, figure: "PaperFigure") -> None:
    from wsolkern.report.drawing import PLAIN

    num_columns = min(_MOST_COLUMNS, len(figure.sweeps))
    num_rows = -(-len(figure.sweeps) // num_columns)
    drawn = style.new_figure(5.2 * num_columns, 3.6 * num_rows, layout="constrained")
    grid = drawn.subplots(num_rows, num_columns, squeeze=False)
    for axis in grid.flat[len(figure.sweeps) :]:
        axis.set_axis_off()
    for axis, store, each in zip(grid.flat, figure.stores, figure.sweeps, strict=False):
        metric = next(curve.metric for curve in each.percentile_curves if curve.metric != "MaxBoxAcc")
        curves.draw_axis(
            axis,
            [curve for curve in each.percentile_curves if curve.metric == metric],
            [level for level in each.levels if level.metric == metric],
            each.bootstrap,
        )
        axis.set_title(visible(os.path.basename(os.path.normpath(store))), fontsize=9, color=style.INK, **PLAIN)
    style.save(path, drawn)

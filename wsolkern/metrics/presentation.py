"""A Result for people: columns of a table, HTML for a notebook, a pandas frame, curves.

In: a Result. Out: texts, a pandas.DataFrame, a matplotlib figure. What of a row is shown: NormalizationResult.measured.
Source: the columns are those of Choe et al., arXiv 2007.04178, tables 2 and 3, with the thresholds that reach them.
"""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from wsolkern.errors import ArgumentError
from wsolkern.metrics.metric import Metric, usual_iou_threshold

_MOST_NAMED = 12  # lines that a picture's legend names


class Shown(Protocol):
    """What is read of a :class:`wsolkern.metrics.Result`, which has these as its methods."""

    @property
    def num_images(self) -> int: ...
    @property
    def thresholds(self) -> np.ndarray: ...
    @property
    def iou_thresholds(self) -> tuple[float, ...]: ...
    @property
    def rows(self) -> tuple[Any, ...]: ...
    def __iter__(self) -> Iterator[Any]: ...


def columns(result: Shown) -> list[tuple[str, str, list[str]]]:
    """What the tables show, column by column.

    Returns:
        (group, heading, one cell a normalization); metrics that were not measured have no column. MaxBoxAcc is the
        one at IoU 0.5, as the field prints it, or at the first IoU threshold if that was not asked for.
    """
    rows = list(result)
    found = [("", "normalization", [row.name for row in rows])]
    usual = usual_iou_threshold(result.iou_thresholds)
    by_place = list(zip(*(row.measured() for row in rows), strict=True))  # what all rows say at one place
    for metric, group in groupby(by_place, lambda place: place[0].metric):
        places = [each for each in group if metric != Metric.MAX_BOX_ACC or each[0].iou == usual]
        for each in places:
            iou, cells = each[0].iou, [f"{one.value:.2f}" for one in each]
            title = (metric, "mean" if iou is None else f"IoU {iou:g}")
            found.append((*(("", metric) if iou is None and len(places) == 1 else title), cells))
        for each in places if metric == Metric.MAX_BOX_ACC_V2 else ():
            if each[0].iou is not None:
                found.append(("threshold", f"IoU {each[0].iou:g}", [f"{one.threshold:.6g}" for one in each]))
    found.append(("", "degenerate", [str(row.num_degenerate) for row in rows]))
    return found


def html_table(result: Shown) -> str:
    """The table as HTML without style or script, every text in it escaped."""
    shown = columns(result)

    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = line("th", [f"{group} {heading}".strip() for group, heading, _ in shown])
    body = "".join(line("td", row) for row in zip(*(cells for _, _, cells in shown), strict=True))
    caption = f"{result.num_images:,} images, {len(result.thresholds)} thresholds, metrics in percent"
    return f"<table><caption>{escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def frame(result: Shown) -> Any:
    """A row for each normalization, metric and IoU threshold; see :meth:`Result.to_frame`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"to_frame needs pandas ({error}): pip install 'wsolkern[frame]'") from error
    rows = [
        {
            "normalization": row.name,
            "ivr": row.normalization and row.normalization.ivr,
            "pas": row.normalization and row.normalization.pas,
            "metric": str(each.metric),
            "iou": each.iou,
            "value": each.value,
            "threshold": each.threshold,
            "num_images": result.num_images,
            "num_degenerate": row.num_degenerate,
        }
        for row in result
        for each in row.measured()
    ]
    found = pandas.DataFrame(rows)
    numbers = ["ivr", "pas", "iou", "value", "threshold"]
    return found.astype(dict.fromkeys(numbers, "float64"))  # a column of None alone would hold objects


def draw(result: Shown, metric: "str | Metric | None", axes: Any) -> Any:
    """Curves, a panel for each IoU threshold; see :meth:`Result.plot`."""
    there = [each for each in Metric if each.is_in(result.rows[0])]
    wanted = there[0] if metric is None else Metric.parse(metric)
    if wanted not in there:
        raise ArgumentError("metric", f"{wanted} needs {wanted.truth}, the result has none")
    ious = result.iou_thresholds if wanted.contours else (None,)
    panels = _panels(len(ious), axes)
    for place, (iou, panel) in enumerate(zip(ious, panels, strict=True)):
        for row in result:
            if iou is None:
                label = f"{row.name} {row.pxap:.2f}"
                panel.plot(row.recall, row.precision, label=label)
                continue
            curves = row.box_accuracy if wanted is Metric.MAX_BOX_ACC else row.box_accuracy_v2
            best = next(each for each in row.measured() if (each.metric, each.iou) == (wanted, iou))
            assert curves is not None
            (line,) = panel.plot(result.thresholds, curves[place], label=f"{row.name} {best.value:.2f}")
            panel.plot(best.threshold, best.value, "o", color=line.get_color())
        if iou is None:
            panel.set(xlabel="recall", ylabel="precision", title=f"{wanted}")
        else:
            panel.set(xlabel="threshold", ylabel="box accuracy (%)", title=f"{wanted}, IoU {iou:g}")
        lines = [each for each in panel.get_lines() if not each.get_label().startswith("_")]
        panel.legend(handles=lines[:_MOST_NAMED], title=f"{len(lines)} in all" if len(lines) > _MOST_NAMED else None)
        panel.grid(alpha=0.3)
    return panels[0].figure


def _panels(num: int, axes: Any) -> list[Any]:
    """As many axes of matplotlib: those that are passed, or new ones.

    Raises:
        ArgumentError: Others are passed.
    """
    if axes is not None:
        panels = [axes] if hasattr(axes, "plot") else [each for each in getattr(axes, "flat", axes)]
        if len(panels) != num:
            raise ArgumentError(
                "axes", f"expected {num}, one for each IoU threshold or one for PxAP, found {len(panels)}"
            )
        return panels
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"plot needs matplotlib ({error}): pip install 'wsolkern[report]'") from error
    _, found = pyplot.subplots(1, num, figsize=(4.6 * num, 3.8), layout="constrained", squeeze=False)
    return list(found[0])

"""The choice of percentiles (and thresholds) on train-fullsup, so that test images decide nothing.

In: a Result on the val split (train-fullsup). Out: one normalization a family, with its figure, thresholds and curve.
Source: Choe et al., arXiv 2007.04178, section 4 (train-fullsup); percentiles: Kim et al., arXiv 2107.13221.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wsolkern.metrics.result import NormalizationResult, Result, usual_iou_threshold
from wsolkern.normalization import Normalization

# Of percent: figures that agree so far are the same, for means of equal sums may differ in their last bits.
DECIMALS = 9
METRICS = ("MaxBoxAccV2", "MaxBoxAcc", "PxAP")


@dataclass(frozen=True)
class Choice:
    """What was chosen of one family of normalizations."""

    normalization: str
    """The chosen one, as in "ivr:0.45"."""
    family: str
    """Its :attr:`Normalization.name`: "minmax", "max", "pas", "ivr" or "ivr+pas"."""
    figure: float
    """Its metric on the val split, in percent."""
    thresholds: dict[float, float]
    """Where it is reached: fraction of a map's maximum level, by IoU threshold; empty for PxAP."""
    curve: tuple[tuple[str, float], ...]
    """All candidates of the family with their figures in percent, by rising percentile."""

    def to_dict(self) -> dict:
        """Fields as JSON can hold them, IoU thresholds as strings."""
        return {
            **vars(self),
            "thresholds": {str(iou): threshold for iou, threshold in self.thresholds.items()},
            "curve": [{"normalization": name, "figure": figure} for name, figure in self.curve],
        }


def select(result: Result, metric: str) -> tuple[Choice, ...]:
    """The best percentile of every family: one normalization for each :attr:`Normalization.name` there is.

    The one with the largest metric is chosen; of several that reach it the one with the smallest percentile (that of
    IVR first, then that of PaS).

    Args:
        result: Figures of all candidates on the val split.
        metric: "MaxBoxAccV2", "MaxBoxAcc" (at IoU 0.5, or the first IoU threshold if that was not asked for) or "PxAP".

    Returns:
        The choices, in the order in which their families first appear.

    Raises:
        ValueError: Another metric, or one that the result has not; a row that is no normalization ("score maps").
    """
    families: dict[str, dict[Normalization, NormalizationResult]] = {}
    for row in result:
        candidate = Normalization.parse(row.normalization)
        families.setdefault(candidate.name, {})[candidate] = row
    choices = []
    for family, rows in families.items():
        rising = sorted(rows, key=lambda each: (each.ivr or 0.0, each.pas or 0.0))
        figures = {each: _figure(rows[each], metric, result.iou_thresholds) for each in rising}
        chosen = max(rising, key=lambda each: round(figures[each], DECIMALS))
        curve = tuple((str(each), figure) for each, figure in figures.items())
        thresholds = _best_thresholds(rows[chosen], metric, result.iou_thresholds)
        choices.append(Choice(str(chosen), family, figures[chosen], thresholds, curve))
    return tuple(choices)


def best(choices: Sequence[Choice]) -> Choice:
    """The choice with the largest figure on the val split, the first of them if several have it."""
    return max(choices, key=lambda choice: round(choice.figure, DECIMALS))


def iou_thresholds_of(metric: str, iou_thresholds: Sequence[float]) -> tuple[float, ...]:
    """The IoU thresholds that a metric is the mean over, out of those asked for.

    Returns:
        All of them for MaxBoxAccV2; 0.5 for MaxBoxAcc, or the first one if 0.5 is not among them; none for PxAP.

    Raises:
        ValueError: Another metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, found {metric!r}")
    usual = usual_iou_threshold(iou_thresholds)
    return {"MaxBoxAccV2": tuple(iou_thresholds), "MaxBoxAcc": (usual,), "PxAP": ()}[metric]


def _figure(row: NormalizationResult, metric: str, iou_thresholds: Sequence[float]) -> float:
    """A row's metric in percent."""
    ious = iou_thresholds_of(metric, iou_thresholds)
    if (row.pxap if metric == "PxAP" else row.max_box_acc) is None:
        raise ValueError(f"metric: {metric} needs {'masks' if metric == 'PxAP' else 'boxes'}, the result has none")
    return {
        "MaxBoxAccV2": lambda: row.max_box_acc_v2,
        "MaxBoxAcc": lambda: row.max_box_acc[ious[0]],
        "PxAP": lambda: row.pxap,
    }[metric]()


def _best_thresholds(row: NormalizationResult, metric: str, iou_thresholds: Sequence[float]) -> dict[float, float]:
    """Where a row reaches its metric, by IoU threshold."""
    best = row.best_threshold if metric == "MaxBoxAcc" else row.best_threshold_v2
    return {iou: best[iou] for iou in iou_thresholds_of(metric, iou_thresholds)}

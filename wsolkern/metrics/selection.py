"""The choice of percentiles (and thresholds) on train-fullsup, so that test images decide nothing.

In: a Result on the val split (train-fullsup). Out: one normalization a family, with its figure, thresholds and curve.
Source: Choe et al., arXiv 2007.04178, section 4 (train-fullsup); percentiles: Kim et al., arXiv 2107.13221.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsolkern.metrics.metric import Metric
from wsolkern.metrics.result import NormalizationResult, Result
from wsolkern.normalization import Normalization

# Of percent: figures that agree so far are the same, for means of equal sums may differ in their last bits.
DECIMALS = 9


@dataclass(frozen=True)
class Choice:
    """What was chosen of one family of normalizations."""

    normalization: Normalization
    """The chosen one."""
    figure: float
    """Its metric on the val split, in percent."""
    thresholds: dict[float, float]
    """Where it is reached: fraction of a map's maximum level, by IoU threshold; empty for PxAP."""
    curve: tuple[tuple[Normalization, float], ...]
    """All candidates of the family with their figures in percent, by rising percentile."""

    @property
    def family(self) -> str:
        """Its :attr:`Normalization.name`: "minmax", "max", "pas", "ivr" or "ivr+pas"."""
        return self.normalization.name

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them, normalizations and IoU thresholds as strings."""
        return {
            "normalization": str(self.normalization),
            "family": self.family,
            "figure": self.figure,
            "thresholds": {str(iou): threshold for iou, threshold in self.thresholds.items()},
            "curve": [{"normalization": str(each), "figure": figure} for each, figure in self.curve],
        }


def select(result: Result, metric: str | Metric) -> tuple[Choice, ...]:
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
    metric = Metric.parse(metric)
    families: dict[str, dict[Normalization, NormalizationResult]] = {}
    for candidate, row in result.by_normalization().items():
        families.setdefault(candidate.name, {})[candidate] = row
    choices = []
    for rows in families.values():
        rising = sorted(rows, key=lambda each: (each.ivr or 0.0, each.pas or 0.0))
        figures = {each: metric.figure(rows[each]) for each in rising}
        chosen = max(rising, key=lambda each: round(figures[each], DECIMALS))
        choices.append(Choice(chosen, figures[chosen], metric.thresholds(rows[chosen]), tuple(figures.items())))
    return tuple(choices)


def best(choices: Sequence[Choice]) -> Choice:
    """The choice with the largest figure on the val split, the first of them if several have it."""
    return max(choices, key=lambda choice: round(choice.figure, DECIMALS))

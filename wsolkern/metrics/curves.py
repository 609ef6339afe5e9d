"""Accuracy over percentile: the figures of a result as curves, of which figure 5 of the paper is one.

In: a Result with several percentiles of a normalization. Out: curves, one for each metric.
Source: figure 5 of Kim et al., arXiv 2107.13221.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern.metrics.metric import Metric
from wsolkern.metrics.result import NormalizationResult, Result
from wsolkern.metrics.selection import DECIMALS
from wsolkern.normalization import Normalization


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
    normalizations: tuple[Normalization, ...] = ()
    """The n normalizations."""

    @property
    def peak(self) -> int:
        """Index of the largest value, the first of those that tie."""
        return int(self.values.round(DECIMALS).argmax())

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "name": self.name,
            "metric": self.metric,
            "percentiles": self.percentiles.tolist(),
            "values": self.values.tolist(),
            "peak": {"percentile": float(self.percentiles[self.peak]), "value": float(self.values[self.peak])},
        }


@dataclass(frozen=True)
class Level:
    """One metric of a normalization that is on no curve: the same at all percentiles."""

    normalization: Normalization
    metric: Metric
    value: float
    """In percent."""


def levels(result: Result) -> list[Level]:
    """What stands beside the curves of a result: each normalization that is a point of none, each metric measured."""
    rows = result.by_normalization()
    on_curves = Counter(name for each in rows for name, _ in _positions(each))
    return [
        Level(normalization, metric, metric.figure(row))
        for normalization, row in rows.items()
        if not any(on_curves[name] > 1 for name, _ in _positions(normalization))
        for metric in Metric
        if metric.is_in(row)
    ]


def has_curve(normalizations: Iterable[Normalization]) -> bool:
    """Whether a result of these, each of which is there once, will hold a curve."""
    names = Counter(name for each in normalizations for name, _ in _positions(each))
    return max(names.values(), default=0) > 1


def percentile_curves(result: Result) -> list[PercentileCurve]:
    """The curves that a result holds: of each normalization with at least two percentiles, each metric measured.

    MaxBoxAcc is the one at IoU 0.5, or at the first IoU threshold if that was not asked for. Of IVR and PaS together
    there is a curve over one's percentile for each percentile of the other.
    """
    points: dict[str, dict[float, NormalizationResult]] = {}
    for normalization, row in result.by_normalization().items():
        for name, percentile in _positions(normalization):
            points.setdefault(name, {})[percentile] = row
    curves = []
    for name, rows in points.items():
        if len(rows) < 2:
            continue
        percentiles = sorted(rows)
        for metric in Metric:
            if metric.is_in(rows[percentiles[0]]):
                values = np.array([metric.figure(rows[percentile]) for percentile in percentiles])
                found = tuple(each for p in percentiles if (each := rows[p].normalization) is not None)
                curves.append(PercentileCurve(name, metric, np.array(percentiles), values, found))
    return curves


def _positions(normalization: Normalization) -> list[tuple[str, float]]:
    """The curves that a normalization is a point of, and where."""
    ivr, pas = normalization.ivr, normalization.pas
    if ivr is not None and pas is not None:
        return [(f"ivr:P+pas:{pas!r}", ivr), (f"ivr:{ivr!r}+pas:P", pas)]
    return [(f"{normalization.name}:P", each) for each in (ivr, pas) if each is not None]

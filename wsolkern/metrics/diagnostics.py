"""Minimum and maximum of every class activation map: what tells which normalization a run needs.

In: CAMs [N, h, w], or their extremes; for boxes the best thresholds. Out: extremes, a Diagnosis, a Comparison.
Source: Kim et al., arXiv 2107.13221, section 6 (their standard deviations' ratio) and figures 4 and 6.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from wsolkern.metrics.bootstrap import Difference
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.result import Result
from wsolkern.metrics.selection import select
from wsolkern.normalization import Normalization
from wsolkern.ops import box_hits, inputs, resize


@dataclass(frozen=True)
class Distribution:
    """Some numbers in short, in the units of the CAM."""

    mean: float
    std: float
    """Standard deviation of these numbers themselves (divided by their count, as numpy does by default)."""
    minimum: float
    quartile_1: float
    """Quartiles are interpolated linearly between neighbours, as numpy does by default."""
    median: float
    quartile_3: float
    maximum: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Distribution":
        """Of float64 [n], n >= 1."""
        return cls(float(values.mean()), float(values.std()), *np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist())


@dataclass(frozen=True)
class Diagnosis:
    """How the extremes of a run's maps are distributed; maps without a score map are left out."""

    num_maps: int
    """Maps that the distributions are about."""
    num_constant: int
    """Maps left out because all their pixels are equal."""
    num_not_finite: int
    """Maps left out because they hold a NaN or an infinite value."""
    minima: Distribution
    """Of the maps' minima, at the evaluation size, before normalization."""
    maxima: Distribution
    """Of their maxima."""
    ratio: float
    """Standard deviation of the maxima over that of the minima: the higher, the more max normalization suffices.
    Infinite if all minima are equal, NaN if all maxima are too."""
    outlier_below: float
    """The lower Tukey fence of the minima, Q1 - 1.5 (Q3 - Q1): our rule, the paper speaks of outliers without one."""
    num_outlier_minima: int
    """Minima below it."""

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them; a ratio that is no number is None."""
        return asdict(self) | {"ratio": self.ratio if math.isfinite(self.ratio) else None}


@dataclass(frozen=True, eq=False)
class RunExtremes:
    """The maps of one run."""

    name: str
    diagnosis: Diagnosis
    minima: np.ndarray
    """Minimum of each map at the evaluation size, float64 [N]."""
    maxima: np.ndarray
    """Maximum of each map, float64 [N]."""
    image_ids: Sequence[str] = ()
    """N ids; for the CSV only."""
    localized: dict[Normalization, np.ndarray] = field(default_factory=dict)
    """Normalization -> whether each map's box is right, bool [N]; the same normalizations, or families of them, in
    the same order for all runs."""


@dataclass(frozen=True)
class Comparison:
    """Max normalization against IVR at its best percentile, as measured."""

    metric: Metric
    """What was compared."""
    max: float
    """Of max normalization, in percent."""
    ivr: float
    """Of IVR at its best percentile, in percent."""
    best_ivr: Normalization
    """That normalization; the lowest percentile of those that are equal."""
    difference: Difference | None = None
    """IVR at that percentile minus max, with its bootstrap interval over these images; None if there is none. That the
    percentile was chosen on these very images favours IVR."""
    confidence: float = 0.95
    """Of the interval, a fraction."""

    @property
    def better(self) -> Normalization:
        """The better of the two; max, which needs no percentile, if they are equal."""
        return self.best_ivr if self.ivr > self.max else Normalization("max")

    @property
    def margin(self) -> float:
        """How much better it is, in percentage points."""
        return abs(self.ivr - self.max)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them, normalizations as strings."""
        names = {"best_ivr": str(self.best_ivr), "better": str(self.better)}
        difference = self.difference and self.difference.to_dict()
        return vars(self) | names | {"margin": self.margin, "difference": difference}


def extremes(cams: Any, size: tuple[int, int] = (224, 224)) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of each map at the evaluation size, where bicubic resizing may exceed those of the CAM.

    Args:
        cams: Raw class activation maps, float16, float32 or float64 [N, h, w], numpy or torch.
        size: Height and width of the evaluation, in pixels.

    Returns:
        (minima, maxima): float64 [N] each, NaN for a map that holds one at that size.

    Raises:
        ValueError: A shape, dtype or size is not as above.
    """
    maps: Any = inputs.on_host(resize(cams, size))
    return maps.min(axis=(1, 2)), maps.max(axis=(1, 2))


def diagnose(minima: np.ndarray, maxima: np.ndarray) -> Diagnosis:
    """The distributions of a run's minima and maxima.

    Args:
        minima: Minimum of each map at the evaluation size, float64 [N], from :func:`extremes`.
        maxima: Maximum of each map, float64 [N].

    Raises:
        ValueError: Another shape, or no map that is neither constant nor holds a value that is not finite.

    Source: Kim et al., arXiv 2107.13221, section 6.
    """
    minima, maxima = (
        inputs.real_numbers(each, name, "numbers") for name, each in (("minima", minima), ("maxima", maxima))
    )
    if minima.ndim != 1 or minima.shape != maxima.shape:
        raise ValueError(f"minima, maxima: expected [N] each, found shapes {minima.shape} and {maxima.shape}")
    used = has_range(minima, maxima)
    num_not_finite = int((~np.isfinite(minima) | ~np.isfinite(maxima)).sum())
    num_constant = len(used) - int(used.sum()) - num_not_finite
    if not used.any():
        raise ValueError(
            f"minima, maxima: expected a map with two different values, found {num_constant} constant maps and "
            f"{num_not_finite} with a value that is not finite"
        )
    below, above = Distribution.of(minima[used]), Distribution.of(maxima[used])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(above.std) / below.std)
    fence = below.quartile_1 - 1.5 * (below.quartile_3 - below.quartile_1)
    num_outliers = int((minima[used] < fence).sum())
    return Diagnosis(int(used.sum()), num_constant, num_not_finite, below, above, ratio, fence, num_outliers)


def has_range(minima: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Which maps have two different values and finite ones only, bool [N]; the others have no score map."""
    return np.asarray(np.isfinite(minima) & np.isfinite(maxima) & (minima != maxima))


def compare(result: Result, metric: str | Metric) -> Comparison:
    """Max against IVR at its best percentile.

    Args:
        result: Has the row "max" and IVR at one or more percentiles; other rows do not matter.
        metric: "MaxBoxAccV2" or "PxAP".

    Raises:
        ValueError: There is no row of max or of IVR, or the result has not that metric.
    """
    metric = Metric.parse(metric)
    choices = {choice.family: choice for choice in select(result, metric)}
    absent = [family for family in ("max", "ivr") if family not in choices]
    if absent:
        raise ValueError(f"result: expected rows of max and ivr, found none of {' and '.join(absent)}")
    return Comparison(metric, choices["max"].figure, choices["ivr"].figure, choices["ivr"].normalization)


def localized(
    cams: Any,
    boxes: Sequence[np.ndarray],
    thresholds: Mapping[str | Normalization, float] | Mapping[Normalization, float],
    *,
    iou_threshold: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Whether each map has a box that is right, under several normalizations, each at one threshold.

    Args:
        cams: Raw class activation maps, float32 or float64 [N, h, w], numpy or torch.
        boxes: Ground truth per map, int [n, 4], x0 y0 x1 y1 in pixels of the resized map, inclusive.
        thresholds: Normalization -> threshold, a fraction of a map's maximum level in [0, 1); M of them.
        iou_threshold: A fraction.
        size: Height and width of the evaluation, in pixels.

    Returns:
        bool [M, N]; of all contours, as for MaxBoxAccV2.

    Raises:
        ValueError: As :func:`wsolkern.ops.box_hits`.
    """
    found = box_hits(cams, boxes, list(thresholds), list(thresholds.values()), (iou_threshold,), size=size)
    hits: Any = inputs.on_host(found)
    return np.stack([hits[row, :, 0, row] for row in range(len(thresholds))])

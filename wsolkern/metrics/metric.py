"""The three metrics, and all in which they differ: ground truth, contours, IoU thresholds, and how counts become one.

In: counts, or a row of a Result. Out: figures in percent and the thresholds where they are reached.
Source: Choe et al., arXiv 2007.04178, section 4; formulas in :mod:`wsolkern.metrics.formulas`.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np

from wsolkern.errors import ArgumentError
from wsolkern.metrics import formulas


class Row(Protocol):
    """What a metric reads of a :class:`wsolkern.metrics.NormalizationResult`."""

    @property
    def pxap(self) -> float | None: ...
    @property
    def max_box_acc(self) -> dict[float, float] | None: ...
    @property
    def max_box_acc_v2(self) -> float | None: ...
    @property
    def best_threshold(self) -> dict[float, float] | None: ...
    @property
    def best_threshold_v2(self) -> dict[float, float] | None: ...


class Metric(str, Enum):
    """A metric, which is also the string that the papers call it by."""

    MAX_BOX_ACC_V2 = "MaxBoxAccV2", "boxes", "all"
    MAX_BOX_ACC = "MaxBoxAcc", "boxes", "largest"
    PXAP = "PxAP", "masks", ""

    truth: str
    """The ground truth that it needs: "boxes" or "masks"."""
    contours: str
    """The contours whose boxes count: "all" or "largest"; "" for PxAP, which has none."""

    def __new__(cls, spelling: str, truth: str, contours: str) -> "Metric":
        metric = str.__new__(cls, spelling)
        metric._value_, metric.truth, metric.contours = spelling, truth, contours
        return metric

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def parse(cls, text: "str | Metric") -> "Metric":
        """The metric that a string names.

        Raises:
            ArgumentError: Another string.
        """
        try:
            return cls(text)  # type: ignore[call-arg]  # by value; __new__ is for the members
        except ValueError:
            raise ArgumentError("metric", f"expected one of {', '.join(cls)}, found {text!r}") from None

    @classmethod
    def of(cls, truth: str) -> "Metric":
        """What is reported where nothing else is asked for: MaxBoxAccV2 of "boxes", PxAP of "masks"."""
        return next(metric for metric in cls if metric.truth == truth)

    def ious(self, iou_thresholds: Sequence[float]) -> tuple[float, ...]:
        """The IoU thresholds that the metric is the mean over, out of those asked for.

        Returns:
            All of them for MaxBoxAccV2; the usual one for MaxBoxAcc; none for PxAP.
        """
        if self is Metric.MAX_BOX_ACC_V2:
            return tuple(iou_thresholds)
        return (usual_iou_threshold(iou_thresholds),) if self is Metric.MAX_BOX_ACC else ()

    def figures(self, counts: np.ndarray, num_images: int) -> np.ndarray:
        """The metric of many counts.

        Args:
            counts: Images that hit, int64 [R, M, D, T], D the metric's IoU thresholds; for PxAP object and background
                pixels, int64 [R, M, 2, T + 2].
            num_images: Images that were counted.

        Returns:
            float64 [R, M], in percent.

        Raises:
            ValueError: Histograms without an object pixel.
        """
        if self is Metric.PXAP:
            return np.array([[formulas.pxap(histogram) for histogram in each] for each in counts])
        maxima = formulas.max_box_acc(formulas.box_accuracy(counts, num_images))
        return np.array([[formulas.max_box_acc_v2(per_iou) for per_iou in each] for each in maxima])

    def is_in(self, row: Row) -> bool:
        """Whether a row has it: the ground truth that it needs was there."""
        return (row.pxap if self is Metric.PXAP else row.max_box_acc) is not None

    def figure(self, row: Row) -> float:
        """What a row says, in percent.

        Raises:
            ArgumentError: It was not measured.
        """
        if row.pxap is not None and self is Metric.PXAP:
            return row.pxap
        if row.max_box_acc is not None and row.max_box_acc_v2 is not None and self is not Metric.PXAP:
            usual = usual_iou_threshold(tuple(row.max_box_acc))
            return row.max_box_acc[usual] if self is Metric.MAX_BOX_ACC else row.max_box_acc_v2
        raise ArgumentError("metric", f"{self} needs {self.truth}, the result has none")

    def thresholds(self, row: Row) -> dict[float, float]:
        """Where a row reaches it: a fraction of a map's maximum level, by IoU threshold; empty for PxAP."""
        best = row.best_threshold if self is Metric.MAX_BOX_ACC else row.best_threshold_v2
        return {} if self is Metric.PXAP or best is None else {iou: best[iou] for iou in self.ious(tuple(best))}


def usual_iou_threshold(iou_thresholds: Sequence[float]) -> float:
    """Where the field prints MaxBoxAcc: IoU 0.5, or the first IoU threshold if that was not asked for.

    0.5000000000000001, an entry of numpy.arange(0.2, 0.9, 0.1), is 0.5 here.
    """
    return next((each for each in iou_thresholds if abs(each - 0.5) < 1e-9), iou_thresholds[0])

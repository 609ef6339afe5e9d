"""What an Evaluator's counts amount to, one row a normalization.

In: integer counts. Out: frozen values that print, index by normalization string and turn into JSON.
Source: Choe et al., arXiv 2007.04178, section 4; formulas in :mod:`wsolkern.metrics.formulas`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern.metrics import formulas, presentation
from wsolkern.metrics.localization import At, LocalizationFigure, figures
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization

SCORE_MAPS = "score maps"  # the row's name when maps came normalized already
_MOST_ROWS = 20  # that are printed of a result


@dataclass(frozen=True)
class Measured:
    """One figure of a row."""

    metric: str
    """What it is: a :class:`wsolkern.metrics.Metric`."""
    value: float
    """In percent."""
    iou: float | None = None
    """The IoU threshold that it is at, a fraction; None for a mean over them, and where there is none."""
    threshold: float | None = None
    """Where it is reached, a fraction of a map's maximum level; None for a mean, and for an area."""
    column: str = ""
    """What a file of columns calls it: "max_box_acc@0.5"."""
    threshold_column: str = ""
    """What that calls its threshold."""


@dataclass(frozen=True, eq=False, repr=False)
class NormalizationResult:
    """The metrics of one normalization. What was not measured (no boxes, no masks) is None.

    A best threshold is the first one that reaches the maximum.
    """

    normalization: Normalization | None
    """What was normalized with; None where maps came normalized already."""
    num_degenerate: int
    """Maps without a score map under this normalization (constant, not finite, 0/0); they count as all zeros."""
    max_box_acc: dict[float, float] | None = None
    """MaxBoxAcc (largest contour) in percent, by IoU threshold as a fraction."""
    best_threshold: dict[float, float] | None = None
    """Where MaxBoxAcc is reached: fraction of a map's maximum level, by IoU threshold."""
    max_box_acc_v2: float | None = None
    """MaxBoxAccV2 (all contours) in percent: the mean over IoU thresholds."""
    max_box_acc_v2_per_iou: dict[float, float] | None = None
    """What MaxBoxAccV2 is the mean of, in percent, by IoU threshold."""
    best_threshold_v2: dict[float, float] | None = None
    """Where each of them is reached: fraction of a map's maximum level, by IoU threshold."""
    box_accuracy: np.ndarray | None = None
    """Box accuracy of the largest contour over thresholds, float64 [D, T], in percent."""
    box_accuracy_v2: np.ndarray | None = None
    """Box accuracy of all contours over thresholds, float64 [D, T], in percent."""
    pxap: float | None = None
    """PxAP in percent."""
    precision: np.ndarray | None = None
    """Pixel precision from the top bin down, float64 [T + 2], a fraction; 1 where no pixel is predicted."""
    recall: np.ndarray | None = None
    """Pixel recall from the top bin down, float64 [T + 2], a fraction."""
    peak_iou: float | None = None
    """Peak IoU in percent: the largest pixel IoU of all images together that a threshold gives."""
    peak_iou_threshold: float | None = None
    """Where it is reached: a score, from which on a pixel is predicted."""

    localized: dict[int, np.ndarray] | None = None
    """Of images whose class is among the first k logits only, the box accuracy of the largest contour and of all over
    thresholds, float64 [2, D, T], in percent of all images, by k; None where no image was classified."""

    @classmethod
    def from_counts(
        cls,
        normalization: Normalization | None,
        *,
        num_images: int,
        num_degenerate: int,
        thresholds: np.ndarray,  # [T]
        iou_thresholds: np.ndarray,  # [D]
        num_correct: np.ndarray | None,  # [2, D, T]: largest contour, all contours
        histogram: np.ndarray | None,  # [2, T + 2]: object pixels, background pixels
        num_localized: dict[int, np.ndarray] | None = None,  # by k, as num_correct
    ) -> "NormalizationResult":
        """The metrics of one normalization's counts.

        Raises:
            ValueError: Histograms without an object pixel.
        """
        metrics: dict[str, Any] = {}
        if num_correct is not None:
            largest, every = formulas.box_accuracy(num_correct, num_images)  # [D, T] each

            def by_iou(values: np.ndarray) -> dict[float, float]:
                return dict(zip(iou_thresholds.tolist(), values.tolist(), strict=True))

            metrics = {
                "max_box_acc": by_iou(formulas.max_box_acc(largest)),
                "best_threshold": by_iou(thresholds[largest.argmax(axis=1)]),
                "max_box_acc_v2": formulas.max_box_acc_v2(formulas.max_box_acc(every)),
                "max_box_acc_v2_per_iou": by_iou(formulas.max_box_acc(every)),
                "best_threshold_v2": by_iou(thresholds[every.argmax(axis=1)]),
                "box_accuracy": largest,
                "box_accuracy_v2": every,
            }
        if num_localized is not None:
            metrics["localized"] = {k: formulas.box_accuracy(each, num_images) for k, each in num_localized.items()}
        if histogram is not None:
            precision, recall = formulas.precision_recall(histogram)
            metrics |= {"pxap": formulas.pxap(histogram), "precision": precision, "recall": recall}
            pixel_iou = formulas.pixel_iou(*formulas.pixel_overlap(histogram))
            metrics["peak_iou"] = float(100 * pixel_iou.max())
            metrics["peak_iou_threshold"] = float(thresholds[pixel_iou.argmax()])
        return cls(normalization, num_degenerate, **metrics)

    @property
    def name(self) -> str:
        """The normalization's string, as in "ivr:0.45"; "score maps" where maps came normalized already."""
        return SCORE_MAPS if self.normalization is None else str(self.normalization)

    def measured(self) -> list[Measured]:
        """The figures that there are: what tables, files of columns and frames show, in this order."""
        found = []
        if self.max_box_acc is not None and self.max_box_acc_v2 is not None:
            found += _at_each(Metric.MAX_BOX_ACC, "", self.max_box_acc, self.best_threshold)
            found.append(Measured(Metric.MAX_BOX_ACC_V2, self.max_box_acc_v2, column="max_box_acc_v2"))
            found += _at_each(Metric.MAX_BOX_ACC_V2, "_v2", self.max_box_acc_v2_per_iou, self.best_threshold_v2)
        if self.pxap is not None:
            found.append(Measured(Metric.PXAP, self.pxap, column="pxap"))
        return found

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Fields as JSON can hold them, IoU thresholds as strings; the arrays only if ``curves``."""
        fields: dict[str, Any] = {"normalization": self.name}
        for name, value in vars(self).items():
            if name == "normalization" or (name == "localized" and (value is None or not curves)):
                continue
            if name == "localized":
                value = {k: each.tolist() for k, each in value.items()}
            if isinstance(value, np.ndarray):
                if curves:
                    fields[name] = value.tolist()
            elif isinstance(value, dict):
                fields[name] = {str(iou): each for iou, each in value.items()}
            else:
                fields[name] = value
        return fields

    def __repr__(self) -> str:
        return f"NormalizationResult({self._in_short()})"

    def _in_short(self) -> str:
        """What the row says in a line, in percent."""
        figures = [f"{metric} {metric.figure(self):.2f}" for metric in Metric if metric.is_in(self)]
        return ", ".join([self.name, *figures, f"{self.num_degenerate} degenerate"])


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """All rows of an evaluation: ``result["ivr:0.45"]`` is one, iteration gives them in the order asked for."""

    num_images: int
    """Images that were counted."""
    thresholds: np.ndarray
    """The thresholds of the curves, float64 [T], fractions of a map's maximum level."""
    iou_thresholds: tuple[float, ...]
    """The IoU thresholds, D fractions."""
    rows: tuple[NormalizationResult, ...]
    """One row a normalization."""
    classification_accuracy: dict[int, float] | None = None
    """Images whose class is among the first k logits, in percent, by k; None where no image was classified."""

    def __getitem__(self, normalization: str | Normalization) -> NormalizationResult:
        """The row of a normalization; any spelling that parses to it will do ("ivr:.45")."""
        wanted = None if normalization == SCORE_MAPS else Normalization.parse(normalization)
        for row in self.rows:
            if row.normalization == wanted:
                return row
        name = SCORE_MAPS if wanted is None else str(wanted)
        raise KeyError(f"no row {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def __iter__(self) -> Iterator[NormalizationResult]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def localization(self, at: At = "best") -> tuple[tuple[LocalizationFigure, ...], ...]:
        """Top-1, Top-5 and GT-known localization of each row, as MaxBoxAcc and as MaxBoxAccV2.

        An image counts for Top-k if its box hits and its class is among the first k logits. GT-known counts it whatever
        its logits are, which is that name's meaning only where CAMs are of the images' labels.

        Args:
            at: "best": each figure at the threshold where it is the largest; "gt-known": all at the threshold where the
                GT-known figure is; a number: at this threshold; :class:`SelectedThresholds`: at those that were chosen
                on other images, for the metric that they were chosen for.

        Returns:
            A tuple a row; in it of each metric Top-k for each k in rising order, then GT-known.

        Raises:
            ValueError: No image was classified, there are no boxes, or ``at`` is no threshold of these.
        """
        metrics, found = (Metric.MAX_BOX_ACC, Metric.MAX_BOX_ACC_V2), []
        for row in self.rows:
            if row.localized is None or row.box_accuracy is None or row.box_accuracy_v2 is None:
                raise ValueError("localization: expected images with boxes that were counted with logits, found others")
            known = dict(zip(metrics, (row.box_accuracy, row.box_accuracy_v2), strict=True))
            localized = {k: dict(zip(metrics, each, strict=True)) for k, each in row.localized.items()}
            found.append(figures(row.normalization, known, localized, self.thresholds, self.iou_thresholds, at))
        return tuple(found)

    def by_normalization(self) -> dict[Normalization, NormalizationResult]:
        """The rows by what they are of.

        Raises:
            ValueError: One is of no normalization but of score maps.
        """
        rows = {}
        for row in self.rows:
            if row.normalization is None:
                raise ValueError(f"result: expected rows of normalizations, found one of {row.name}")
            rows[row.normalization] = row
        return rows

    def __repr__(self) -> str:
        """A line a row, of some rows at least: it fits on a screen."""
        ious = ", ".join(shorten_list([f"{iou:g}" for iou in self.iou_thresholds]))
        head = f"Result of {self.num_images} images, {len(self.thresholds)} thresholds, IoU {ious}, in percent:"
        rows = [row._in_short() for row in self.rows[:_MOST_ROWS]]
        rows += [f"... {len(self)} rows in all"] if len(self) > _MOST_ROWS else []
        return "\n  ".join([head, *rows])

    def _repr_html_(self) -> str:
        """The table that the commands print, for notebooks."""
        return presentation.html_table(self)

    def to_frame(self) -> Any:
        """The figures as a pandas.DataFrame, which has a row for each normalization, metric and IoU threshold.

        Columns: normalization, ivr and pas (its percentiles, NaN where it has none), metric, iou (NaN for MaxBoxAccV2,
        which is a mean over IoU thresholds, and for PxAP), value in percent, threshold (where it is reached; NaN for
        the mean and PxAP), num_images and num_degenerate. A wide table is
        ``frame.pivot(index="normalization", columns=["metric", "iou"], values="value")``.

        Raises:
            ImportError: pandas is not installed (the ``frame`` extra).
        """
        return presentation.frame(self)

    def plot(self, metric: str | Metric | None = None, *, axes: Any = None) -> Any:
        """Draws box accuracy over thresholds, a panel for each IoU threshold, or precision over recall.

        Args:
            metric: "MaxBoxAccV2" (all contours), "MaxBoxAcc" (the largest one) or "PxAP"; None: the first of them that
                was measured.
            axes: Axes of matplotlib to draw into, as many as there are panels; None: new ones, of pyplot.

        Returns:
            The matplotlib figure; its ``axes`` are the panels. A legend names the first 12 normalizations.

        Raises:
            ArgumentError: The metric was not measured, or there are more axes or fewer.
            ImportError: matplotlib is not installed (the ``report`` extra).
        """
        return presentation.draw(self, metric, axes)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """All of it as JSON can hold it; thresholds and the arrays over them only if ``curves``."""
        thresholds = {"thresholds": self.thresholds.tolist()} if curves else {}
        accuracy = {str(k): each for k, each in (self.classification_accuracy or {}).items()}
        return {
            "num_images": self.num_images,
            "iou_thresholds": list(self.iou_thresholds),
            **thresholds,
            **({} if self.classification_accuracy is None else {"classification_accuracy": accuracy}),
            "normalizations": [row.to_dict(curves=curves) for row in self.rows],
        }


def _at_each(
    metric: Metric, suffix: str, values: dict[float, float] | None, thresholds: dict[float, float] | None
) -> list[Measured]:
    """A metric's figures at each IoU threshold."""
    return [
        Measured(
            metric, value, iou, (thresholds or {})[iou], f"max_box_acc{suffix}@{iou:g}", f"threshold{suffix}@{iou:g}"
        )
        for iou, value in (values or {}).items()
    ]


def shorten_list(values: list[str]) -> list[str]:
    """A list's first entries, for a line."""
    return values if len(values) <= 6 else [*values[:4], f"... {len(values)} in all"]

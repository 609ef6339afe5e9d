"""Localization with classification: Top-1, Top-5 and GT-known localization, and where over thresholds they are taken.

In: box accuracies over thresholds of all images, and of those that are classified. Out: figures in percent.
Source: Russakovsky et al., arXiv 1409.0575, section 4.2 (Top-5); Zhou et al., arXiv 1512.04150, section 3.2 (CAM); Choe
et al., arXiv 2007.04178, section 4 (GT-known, thresholds).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.errors import ArgumentError
from wsolkern.metrics import formulas
from wsolkern.metrics.metric import Metric, usual_iou_threshold
from wsolkern.normalization import Normalization

if TYPE_CHECKING:
    from wsolkern.metrics import protocol as protocols

POLICIES = ("best", "gt-known")
_SAME = 1e-9  # fractions that are this near are one, as in numpy.arange's


class Selected(Protocol):
    """What is read of a :class:`wsolkern.metrics.selection.Choice`."""

    @property
    def normalization(self) -> Normalization: ...
    @property
    def thresholds(self) -> Mapping[float, float]: ...


@dataclass(frozen=True)
class SelectedThresholds:
    """Thresholds that were chosen on other images, train-fullsup: by :func:`wsolkern.studies.select`."""

    metric: Metric
    """What they were chosen for; figures of other metrics are not taken at them."""
    thresholds: Mapping[Normalization, Mapping[float, float]]
    """Normalization -> IoU threshold -> fraction of a map's maximum level."""
    box_rule: BoxRule = CHOE
    """What boxes were made by; they say nothing of other rules' thresholds."""

    @classmethod
    def of(
        cls, metric: str | Metric, choices: Iterable[Selected], box_rule: str | BoxRule = "choe"
    ) -> "SelectedThresholds":
        """Those of choices, as :func:`wsolkern.metrics.selection.select` gives them for a metric.

        Raises:
            ArgumentError: The metric has no thresholds.
        """
        metric = Metric.parse(metric)
        if not metric.contours:
            raise ArgumentError("metric", f"{metric} is an area over all thresholds, none can be selected")
        return cls(metric, {each.normalization: each.thresholds for each in choices}, BoxRule.parse(box_rule))

    @classmethod
    def from_json(cls, text: str | bytes) -> "SelectedThresholds":
        """Those of a file that ``wsolkern select --json`` wrote.

        Raises:
            ValueError: It is another file, or one whose metric has no thresholds.
        """
        try:
            content = json.loads(text)
            metric = Metric.parse(content["bootstrap"]["metric"])
            thresholds = {
                Normalization.parse(each["normalization"]): {
                    float(iou): float(at) for iou, at in each["thresholds"].items()
                }
                for each in content["choices"]
            }
            box_rule = BoxRule.recorded_in(content)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected what wsolkern select --json writes, found another file ({error!r:.200})"
            ) from error
        if not metric.contours or not thresholds:
            raise ValueError(
                f"expected thresholds that were selected, found none: {metric} is an area over all of them"
            )
        return cls(metric, thresholds, box_rule)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        named = {str(each): {str(iou): at for iou, at in by_iou.items()} for each, by_iou in self.thresholds.items()}
        return {"metric": self.metric, "thresholds": named, **self.box_rule.recorded()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SelectedThresholds":
        """What :meth:`to_dict` gave.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: It is something else.
        """
        thresholds = {
            Normalization.parse(name): {float(iou): float(at) for iou, at in by_iou.items()}
            for name, by_iou in content["thresholds"].items()
        }
        return cls(Metric.parse(content["metric"]), thresholds, BoxRule.recorded_in(content))

    def expect_rule(self, box_rule: BoxRule) -> None:
        """Does nothing if boxes are made by the same rule.

        Raises:
            ArgumentError: They are made by another one.
        """
        if self.box_rule != box_rule:
            raise ArgumentError(
                ("at", "box_rule"),
                f"expected thresholds that were selected by box rule {box_rule}, found those by {self.box_rule}",
            )


At: TypeAlias = str | float | SelectedThresholds
"""Where over thresholds a figure is taken: "best", where it is the largest itself, on these very images, as most papers
do; "gt-known", where the GT-known figure of the same metric and IoU threshold is; a number, a threshold that is fixed;
SelectedThresholds, chosen on other images. Of several best the first."""


@dataclass(frozen=True)
class LocalizationFigure:
    """One figure of one normalization: a metric's, of the images that are classified or of all."""

    metric: Metric
    """MaxBoxAcc: the largest contour; MaxBoxAccV2: all."""
    top: int | None
    """An image counts if its class is among so many first ones, too; None: whatever its logits are (GT-known)."""
    per_iou: dict[float, float]
    """Share of all images in percent, by IoU threshold as a fraction."""
    thresholds: dict[float, float]
    """Where it was taken, fraction of a map's maximum level, by IoU threshold."""

    @property
    def name(self) -> str:
        """As papers call it: "Top-1", "Top-5", "GT-known"."""
        return name_of(self.top)

    @property
    def figure(self) -> float:
        """In percent: of MaxBoxAcc at IoU 0.5, or the first IoU threshold if that was not asked for; else the mean."""
        if self.metric is Metric.MAX_BOX_ACC:
            return self.per_iou[usual_iou_threshold(tuple(self.per_iou))]
        return formulas.max_box_acc_v2(np.array(list(self.per_iou.values())))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it, IoU thresholds as strings."""
        by_iou = {
            name: {str(iou): each for iou, each in getattr(self, name).items()} for name in ("per_iou", "thresholds")
        }
        return {"name": self.name, "metric": self.metric, "top": self.top, "figure": self.figure, **by_iou}


def name_of(top: int | None) -> str:
    """What papers call the figure of a k: "Top-1"; None is "GT-known"."""
    return "GT-known" if top is None else f"Top-{top}"


def check_at(at: At) -> At:
    """The same, a number as a float.

    Raises:
        ArgumentError: It is nothing of the kind.
    """
    if isinstance(at, SelectedThresholds) or (isinstance(at, str) and at in POLICIES):
        return at
    if isinstance(at, int | float | np.floating) and not isinstance(at, bool) and 0 <= at < 1:
        return float(at)
    expected = f"{', '.join(POLICIES)}, a fraction in [0, 1) or SelectedThresholds"
    raise ArgumentError("at", f"expected one of {expected}, found {at!r}")


def expect_thresholds(at: At, protocol: "protocols.Protocol") -> None:
    """Does nothing if figures of a protocol can be taken there, before anything is counted.

    Raises:
        ArgumentError: As :func:`figures`; or they were selected with boxes by another rule.
    """
    at = check_at(at)
    if isinstance(at, SelectedThresholds):
        at.expect_rule(protocol.box_rule)
    if not isinstance(at, str):
        for each in protocol.normalizations or (None,):
            _places(each, protocol.thresholds, tuple(protocol.iou_thresholds.tolist()), at)


def figures(
    normalization: Normalization | None,
    box_accuracy: Mapping[Metric, np.ndarray],  # of all images over thresholds, float64 [D, T]
    localized: Mapping[int, Mapping[Metric, np.ndarray]],  # of those classified, by k, the same
    thresholds: np.ndarray,  # [T]
    iou_thresholds: tuple[float, ...],
    at: At = "best",
) -> tuple[LocalizationFigure, ...]:
    """Of each metric the figure of every k, in rising order, and the GT-known one.

    Args:
        normalization: What the accuracies are of; None where maps came normalized already.
        box_accuracy, localized: In percent.
        thresholds: Fractions of a map's maximum level, float64 [T].
        iou_thresholds: D fractions.
        at: Where the figures are taken.

    Raises:
        ArgumentError: A fixed or selected threshold is none of ``thresholds``, or nothing was selected.
    """
    at, found = check_at(at), []
    for metric, known in box_accuracy.items():
        if isinstance(at, SelectedThresholds) and metric is not at.metric:
            continue
        for top in (*sorted(localized), None):
            accuracy = known if top is None else localized[top][metric]
            if isinstance(at, str):
                places = dict(enumerate(formulas.best_thresholds(known if at == "gt-known" else accuracy).tolist()))
            else:
                places = _places(normalization, thresholds, iou_thresholds, at)
            found.append(
                LocalizationFigure(
                    metric,
                    top,
                    {iou_thresholds[d]: float(accuracy[d, t]) for d, t in places.items()},
                    {iou_thresholds[d]: float(thresholds[t]) for d, t in places.items()},
                )
            )
    return tuple(found)


def _places(
    normalization: Normalization | None,
    thresholds: np.ndarray,
    iou_thresholds: tuple[float, ...],
    at: float | SelectedThresholds,
) -> dict[int, int]:
    """The place of the threshold for each place of an IoU threshold that there is one for."""
    if not isinstance(at, SelectedThresholds):
        return dict.fromkeys(range(len(iou_thresholds)), _place(thresholds, at))
    by_iou = at.thresholds.get(normalization) if normalization is not None else None
    if by_iou is None:
        there = ", ".join(map(str, at.thresholds))
        raise ArgumentError("at", f"no threshold was selected for {normalization or 'score maps'}; there are {there}")
    found = {}
    for d, iou in enumerate(iou_thresholds):
        chosen = next((each for known, each in by_iou.items() if abs(known - iou) < _SAME), None)
        if chosen is not None:
            found[d] = _place(thresholds, chosen)
    if not found or (at.metric is Metric.MAX_BOX_ACC_V2 and len(found) < len(iou_thresholds)):
        there = ", ".join(f"{iou:g}" for iou in by_iou)
        raise ArgumentError("at", f"thresholds of {normalization} were selected for IoU {there}, not for all asked for")
    return found


def _place(thresholds: np.ndarray, wanted: float) -> int:
    """The first threshold that is the wanted one."""
    place = int(np.abs(thresholds - wanted).argmin())
    if abs(thresholds[place] - wanted) >= _SAME:
        num = len(thresholds)
        raise ArgumentError(
            "at", f"expected one of the {num} thresholds, found {wanted:g}; next to it is {thresholds[place]:g}"
        )
    return place

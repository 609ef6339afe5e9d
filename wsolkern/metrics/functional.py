"""The metrics of one batch, as functions: the twins of the classes in :mod:`wsolkern.metrics.torch`.

In: CAMs or score maps [N, h, w], each of another image, with boxes or masks. Out: percentages, float64 tensors.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6; pointing
game: Zhang et al., arXiv 1608.00507.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from wsolkern import defaults
from wsolkern.box_rule import BoxRule
from wsolkern.errors import ArgumentError
from wsolkern.metrics import pointing
from wsolkern.metrics.classification import TOP
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.localization import At, SelectedThresholds, check_at
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import NormalizationResult, Result
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS, inputs, resize
from wsolkern.ops.constants import MAX_SIDE

__all__ = ["max_box_acc", "max_box_acc_v2", "pixel_iou", "pointing_game", "pxap", "top_k_localization"]

Normalizations: TypeAlias = str | Iterable[str | Normalization] | None
Figures: TypeAlias = torch.Tensor | dict[str, torch.Tensor]


def max_box_acc(
    cams: Any,
    boxes: Sequence[Any],
    normalizations: Normalizations = "minmax",
    *,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    box_rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Figures:
    """MaxBoxAcc at IoU 0.5, or the first IoU threshold if that is not among them, of the largest contour.

    Args:
        cams: CAMs, or score maps in [0, 1] of the evaluation size, float16, bfloat16, float32 or float64 [N, h, w],
            torch or numpy.
        boxes: Ground truth per map, integers [N_i, 4] each, x0 y0 x1 y1 in pixels of the resized map, inclusive.
        normalizations: What to normalize with, M of them, strings such as "ivr:0.45"; None for score maps.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions in (0, 1], D of them.
        size: Height and width, in pixels, that CAMs are resized to.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam".
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        Percent, float64 [], on the device of ``cams``; for several normalizations a dictionary of these by their names.

    Raises:
        ValueError: As from :meth:`wsolkern.Evaluator.update`, or there is no map.
    """
    protocol = Protocol(
        normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size, box_rule=box_rule
    )
    result = _once(protocol, backend, cams, boxes=boxes)
    return in_percent(result, map(Metric.MAX_BOX_ACC.figure, result), cams)


def max_box_acc_v2(
    cams: Any,
    boxes: Sequence[Any],
    normalizations: Normalizations = "minmax",
    *,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    box_rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Figures:
    """MaxBoxAccV2: all contours, the mean over the IoU thresholds; else as :func:`max_box_acc`."""
    protocol = Protocol(
        normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size, box_rule=box_rule
    )
    result = _once(protocol, backend, cams, boxes=boxes)
    return in_percent(result, map(Metric.MAX_BOX_ACC_V2.figure, result), cams)


def pxap(
    cams: Any,
    masks: Any,
    normalizations: Normalizations = "minmax",
    *,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    backend: str = "auto",
) -> Figures:
    """PxAP: the area under the pixel precision-recall curve; else as :func:`max_box_acc`.

    Args:
        cams, normalizations, size, backend: As there.
        masks: Ground truth per map, uint8 [N, H, W]: 1 object, 0 background, 255 ignored.
        thresholds: Lower edges of the bins of scores, float64 [T], in [0, 1), not decreasing.
    """
    protocol = Protocol(normalizations, thresholds=thresholds, size=size)
    result = _once(protocol, backend, cams, masks=masks)
    return in_percent(result, map(Metric.PXAP.figure, result), cams)


def top_k_localization(
    cams: Any,
    boxes: Sequence[Any],
    logits: Any,
    labels: Any,
    normalizations: Normalizations = "minmax",
    *,
    top: int = 1,
    metric: str | Metric = Metric.MAX_BOX_ACC,
    at: At = "best",
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    box_rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Figures:
    """Top-1 or Top-5 localization: MaxBoxAcc or MaxBoxAccV2 of the images whose class is among the first k logits.

    Args:
        cams: Of the classes that the figure is to be of: those of the labels or those predicted.
        boxes, normalizations, thresholds, iou_thresholds, size, box_rule, backend: As for :func:`max_box_acc`.
        logits: Of all classes, numbers [N, C].
        labels: The images' classes, integers [N] in [0, C).
        top: k, 1 or 5.
        metric: "MaxBoxAcc" or "MaxBoxAccV2".
        at: Where over thresholds, as for :meth:`wsolkern.metrics.Result.localization`.

    Returns:
        As :func:`max_box_acc`, in percent of all images.

    Raises:
        ValueError: As there, or ``top``, ``metric`` or ``at`` is something else.
    """
    figure = check_localization(top, metric, at)
    protocol = Protocol(
        normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size, box_rule=box_rule
    )
    result = _once(protocol, backend, cams, boxes=boxes, logits=logits, labels=labels)
    return in_percent(result, localization_of(result, *figure), cams)


def pixel_iou(
    cams: Any,
    masks: Any,
    normalizations: Normalizations = "minmax",
    *,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    backend: str = "auto",
) -> Figures:
    """Peak IoU: the pixels that objects and score maps share in all maps together, over those of either, at its best.

    Args:
        cams, masks, normalizations, size, backend: As for :func:`pxap`.
        thresholds: Scores from which on a pixel is predicted, float64 [T], from 0 on, not decreasing.

    Raises:
        ValueError: As from there, or the first threshold is not 0.
    """
    protocol = check_from_zero(Protocol(normalizations, thresholds=thresholds, size=size))
    result = _once(protocol, backend, cams, masks=masks)
    return in_percent(result, map(peak_iou_of, result), cams)


def pointing_game(
    cams: Any,
    boxes: Sequence[Any] | None = None,
    masks: Any = None,
    *,
    tolerance: int = 0,
    size: tuple[int, int] = defaults.SIZE,
    backend: str = "auto",
) -> torch.Tensor:
    """Pointing game: the maps that are largest on the object, or near it. No normalization changes that.

    Args:
        cams, size, backend: As for :func:`max_box_acc`.
        boxes, masks: Ground truth, one of them, as for :func:`max_box_acc` and :func:`pxap`.
        tolerance: How far from the object a map may be largest, in pixels of the resized map; Zhang et al. take 15.

    Returns:
        Percent, float64 [], on the device of ``cams``.

    Raises:
        ValueError: As from these, there is no map, or there are boxes and masks.

    Source: Zhang et al., arXiv 1608.00507, section 4.2.
    """
    if (boxes is None) == (masks is None):
        raise ArgumentError(("boxes", "masks"), "expected one of them, found both or none")
    check_tolerance(tolerance)
    hits = point(cams, boxes, masks, tolerance, inputs.check_size(size), backend)
    if not len(hits):
        raise ValueError("cams: expected at least one map, found none")
    return hits.sum(dtype=torch.float64) * 100.0 / len(hits)


def point(
    cams: Any, boxes: Sequence[Any] | None, masks: Any, tolerance: int, size: tuple[int, int], backend: str
) -> torch.Tensor:
    """Which maps are largest on their object, or near it: bool [N] on the device of ``cams``, which is not waited for.

    What a map points at is the first pixel in raster order that has its maximum; a map that is constant or holds a NaN
    points nowhere. Arguments are those of :func:`pointing_game`.

    Raises:
        MapError: A box or mask is not as documented.
    """
    maps = resize(inputs.plain(cams, "cams"), size, backend=backend)
    maps = maps if isinstance(maps, torch.Tensor) else torch.from_numpy(maps)
    points, _ = pointing.maxima(maps)
    near: torch.Tensor
    if boxes is not None:
        near = pointing.near_boxes(points, boxes, tolerance)
    else:
        objects = inputs.to_device(inputs.check_masks(masks, len(maps), size), maps.device) == 1
        near = pointing.near_pixels(points, objects, tolerance)
    return near


def check_tolerance(tolerance: int) -> None:
    """Raises ArgumentError if it is no number of pixels."""
    if not isinstance(tolerance, int) or isinstance(tolerance, bool) or not 0 <= tolerance <= MAX_SIDE:
        raise ArgumentError("tolerance", f"expected pixels, 0 or more, found {tolerance!r}")


def check_localization(top: int, metric: str | Metric, at: At) -> tuple[int, Metric, At]:
    """What :func:`localization_of` takes.

    Raises:
        ArgumentError: It is not as documented.
    """
    if top not in TOP or isinstance(top, bool):
        raise ArgumentError("top", f"expected {' or '.join(map(str, TOP))}, found {top!r}")
    metric, at = Metric.parse(metric), check_at(at)
    if not metric.contours:
        raise ArgumentError("metric", f"expected MaxBoxAcc or MaxBoxAccV2, found {metric}")
    if isinstance(at, SelectedThresholds) and at.metric is not metric:
        raise ArgumentError("at", f"expected thresholds that were selected for {metric}, found those for {at.metric}")
    return int(top), metric, at


def check_from_zero(protocol: Protocol) -> Protocol:
    """The same; raises ArgumentError if pixels may be in no bin."""
    if protocol.thresholds[0] != 0:
        raise ArgumentError("thresholds", f"expected 0 as the first, found {protocol.thresholds[0]}")
    return protocol


def localization_of(result: Result, top: int, metric: Metric, at: At) -> Iterator[float]:
    """Of each row the localization figure, in percent."""
    for figures in result.localization(at):
        yield next(each.figure for each in figures if (each.metric, each.top) == (metric, top))


def peak_iou_of(row: NormalizationResult) -> float:
    """A row's peak IoU, in percent."""
    assert row.peak_iou is not None  # there are masks
    return row.peak_iou


def counted(
    protocol: Protocol,
    backend: str,
    cams: Any,
    image_ids: Sequence[Any],
    *,
    boxes: Sequence[Any] | None = None,
    masks: Any = None,
    **classification: Any,
) -> Evaluator:
    """An evaluator that has counted a batch.

    Args:
        protocol: How.
        backend, cams, boxes, masks: As for :func:`max_box_acc` and :func:`pxap`; boxes or masks.
        image_ids: N distinct ids.
        classification: As for :meth:`wsolkern.Evaluator.update`.

    Raises:
        ValueError: As from there.
    """
    targets = {name: target for name, target in (("boxes", boxes), ("masks", masks)) if target is not None}
    for name, target in targets.items():
        if not hasattr(target, "__len__") or len(target) != len(image_ids):
            found = len(target) if hasattr(target, "__len__") else type(target).__name__
            raise ValueError(f"{name}: expected one for each of {len(image_ids)} ids, found {found}")
    truth: dict[str, Any] = {name: dict(zip(image_ids, target, strict=True)) for name, target in targets.items()}
    if masks is not None:
        truth["masks"] = _Together(truth["masks"])
        truth["masks"].masks = masks
    evaluator = Evaluator.of(protocol, _Batch(**truth), backend=backend)
    evaluator.update(cams, image_ids, **classification)
    return evaluator


@dataclass(frozen=True, eq=False, repr=False)
class _Batch(GroundTruth):
    """The ground truth of one batch, whose masks are together already: to copy them would cost 4% of the counting."""

    def masks_of(self, image_ids: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
        assert isinstance(self.masks, _Together)
        together = self.masks.masks
        if isinstance(together, torch.Tensor) and together.device.type == "cpu" and not together.is_sparse:
            together = inputs.on_host(together, "masks")
        shape = (len(image_ids), *size)
        if isinstance(together, np.ndarray) and together.dtype == np.uint8 and together.shape == shape:
            return together
        return super().masks_of(image_ids, size)  # it says what is wrong, and with which


class _Together(dict[Any, Any]):
    """Masks by image id, and all together."""

    masks: Any


def in_percent(result: Result, figures: Iterable[float], like: Any) -> Figures:
    """A figure a row as tensors on the device of ``like``: of one row the tensor, of several a dictionary by name."""
    device = like.device if isinstance(like, torch.Tensor) else like if isinstance(like, torch.device) else None
    tensors = [torch.tensor(each, dtype=torch.float64, device=device) for each in figures]
    return dict(zip((row.name for row in result), tensors, strict=True)) if len(result) > 1 else tensors[0]


def _once(protocol: Protocol, backend: str, cams: Any, **given: Any) -> Result:
    """The result of one batch."""
    num_maps = len(cams) if hasattr(cams, "__len__") else 0
    return counted(protocol, backend, cams, range(num_maps), **given).compute()

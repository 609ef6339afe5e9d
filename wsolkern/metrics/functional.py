"""The metrics of one batch, as functions: the twins of the classes in :mod:`wsolkern.metrics.torch`.

In: CAMs or score maps [N, h, w], each of another image, with boxes or masks. Out: percentages, float64 tensors.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from wsolkern import defaults
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import NormalizationResult, Result
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS

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
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        Percent, float64 [], on the device of ``cams``; for several normalizations a dictionary of these by their names.

    Raises:
        ValueError: As from :meth:`wsolkern.Evaluator.update`, or there is no map.
    """
    protocol = Protocol(normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size)
    return in_percent(_once(protocol, backend, cams, boxes=boxes), Metric.MAX_BOX_ACC.figure, cams)


def max_box_acc_v2(
    cams: Any,
    boxes: Sequence[Any],
    normalizations: Normalizations = "minmax",
    *,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    size: tuple[int, int] = defaults.SIZE,
    backend: str = "auto",
) -> Figures:
    """MaxBoxAccV2: all contours, the mean over the IoU thresholds; else as :func:`max_box_acc`."""
    protocol = Protocol(normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size)
    return in_percent(_once(protocol, backend, cams, boxes=boxes), Metric.MAX_BOX_ACC_V2.figure, cams)


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
    return in_percent(_once(protocol, backend, cams, masks=masks), Metric.PXAP.figure, cams)


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
    truth = {name: dict(zip(image_ids, target, strict=True)) for name, target in targets.items()}
    evaluator = Evaluator.of(protocol, GroundTruth(**truth), backend=backend)
    evaluator.update(cams, image_ids, **classification)
    return evaluator


def in_percent(result: Result, figure: Callable[[NormalizationResult], float], like: Any) -> Figures:
    """A figure of each row as a tensor on the device of ``like``: of one row itself, of several by their names."""
    device = like.device if isinstance(like, torch.Tensor) else like if isinstance(like, torch.device) else None
    figures = {row.name: torch.tensor(figure(row), dtype=torch.float64, device=device) for row in result}
    return figures if len(figures) > 1 else next(iter(figures.values()))


def _once(protocol: Protocol, backend: str, cams: Any, **truth: Any) -> Result:
    num_maps = len(cams) if hasattr(cams, "__len__") else 0
    return counted(protocol, backend, cams, range(num_maps), **truth).compute()

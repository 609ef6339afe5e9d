"""The metrics as torchmetrics has them: for training loops, MetricCollection and Lightning.

In: batches of CAMs with boxes or masks and image ids. Out: percentages, float64 tensors, the same as the Evaluator's.
Source: Choe et al., arXiv 2007.04178, section 4; the interface: torchmetrics.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch.utils.data.distributed import DistributedSampler
from torchmetrics.utilities.distributed import gather_all_tensors

from wsolkern import defaults
from wsolkern.box_rule import BoxRule
from wsolkern.errors import ArgumentError, ImageError, MapError
from wsolkern.metrics.classification import TOP
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.functional import (
    Figures,
    Normalizations,
    check_from_zero,
    check_localization,
    check_tolerance,
    counted,
    in_percent,
    localization_of,
    peak_iou_of,
    point,
)
from wsolkern.metrics.identity import INTEGER, KEY_BYTES, key_of, named
from wsolkern.metrics.localization import At
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import GroundTruth, Protocol, check_ids
from wsolkern.metrics.result import Result
from wsolkern.ops import DEFAULT_THRESHOLDS, inputs

__all__ = [
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "PixelIoU",
    "PointingGame",
    "PxAP",
    "TopKLocalization",
    "UnpaddedSampler",
]


class _Counting(torchmetrics.Metric):
    """What the metrics share: integer counts as states, the keys of the images that are in them, and the settings.

    The settings are a state too: torchmetrics lets metrics of a collection share states that are equal after the first
    batch, which counts of other settings may be by chance, and it adds whatever processes have.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    settings: torch.Tensor
    image_keys: list[torch.Tensor]
    num_invalid: torch.Tensor

    def __init__(self, settings: dict[str, Any], counts: dict[str, tuple[int, ...]], **kwargs: Any):
        super().__init__(**kwargs)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()[:16]
        self.add_state("settings", torch.tensor(list(digest), dtype=torch.uint8), _the_same)
        self.add_state("image_keys", [], "cat")
        self.add_state("num_invalid", torch.zeros((), dtype=torch.int64), "sum")
        for name, shape in counts.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), "sum")
        self._ids: dict[Any, None] = {}  # for messages: those of any process and epoch
        self._checks: list[tuple[Any, Sequence[Any], Any]] = []

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return len(self._keys())

    def reset(self) -> None:
        """Forgets all counts."""
        super().reset()
        self._checks = []

    def set_dtype(self, dst_type: "str | torch.dtype") -> "_Counting":
        """Does nothing: counts are int64, and figures float64, whatever the dtype."""
        return self

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A figure and axes of a value of :meth:`compute`, of a list of them, or of the present one.

        Args:
            val: What is drawn; None: what :meth:`compute` gives.
            ax: Matplotlib's axes to draw into; None: new ones.

        Raises:
            ModuleNotFoundError: Matplotlib is not installed.
        """
        return self._plot(val, ax)

    def _ids_of(self, image_ids: Any, num_maps: int) -> tuple[Sequence[Any], torch.Tensor | None]:
        """What messages call the images; and their keys, if they are on a device, where they stay unread."""
        if isinstance(image_ids, torch.Tensor) and image_ids.device.type != "cpu":
            if image_ids.shape != (num_maps,) or image_ids.is_floating_point() or image_ids.is_complex():
                found = f"{image_ids.dtype} {tuple(image_ids.shape)}"
                raise ArgumentError("image_ids", f"expected {num_maps} integers, one for each map, found {found}")
            integers = image_ids.long()
            return range(num_maps), torch.stack([integers, torch.full_like(integers, INTEGER)], 1)
        if isinstance(image_ids, torch.Tensor | np.ndarray):
            image_ids = image_ids.tolist()
        ids = check_ids(image_ids, num_maps)
        self._ids.update(dict.fromkeys(ids))
        return ids, None

    def _add_images(self, keys: torch.Tensor | Iterable[bytes]) -> None:
        """Adds images that were counted: their keys, int64 [N, 2], or 16 bytes each."""
        if isinstance(keys, torch.Tensor):
            self.image_keys.append(keys)
        else:
            rows = np.frombuffer(b"".join(keys), np.int64).reshape(-1, KEY_BYTES // 8)
            self.image_keys.append(inputs.to_device(rows, self.device))

    def _sync_dist(self, dist_sync_fn: Any = gather_all_tensors, process_group: Any = None) -> None:
        """torchmetrics' own, which expects that each process has counted an image."""
        self.image_keys = self.image_keys or [torch.empty((0, 2), dtype=torch.int64, device=self.device)]
        super()._sync_dist(dist_sync_fn, process_group)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """torchmetrics' own, of a metric of the same settings."""
        found, own = state_dict.get(f"{prefix}settings"), self.settings.cpu()
        if found is not None and not torch.equal(found.cpu(), own):
            *_, error_messages = args
            error_messages.append(f"{prefix}settings: expected counts of a metric of the same settings, found others")
            return
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        """Without what only this process can wait for; ``num_invalid`` knows how it ends."""
        return super().__getstate__() | {"_checks": []}

    def _expect_sound(self) -> None:
        """Raises if the counts are not of images that are there once, with maps as documented."""
        if not self.num_images:
            raise ValueError("no image was counted yet: call update first")
        if int(self.num_invalid):
            for check, image_ids, found in self._checks:
                found.synchronize()
                if error := check.error():
                    raise ValueError(f"image {image_ids[error.place]!r}: {error}") from error
            raise ValueError(f"{int(self.num_invalid)} batches, of this process or others, held no score maps")
        rows = self._keys().cpu().numpy()
        rows = rows[np.lexsort(rows.T)]
        twice = np.flatnonzero((rows[1:] == rows[:-1]).all(axis=1))
        if len(twice):
            keys, known = [rows[place].tobytes() for place in twice], {key_of(each) for each in self._ids}
            one = named(next((key for key in keys if key in known), keys[0]), self._ids)
            raise ValueError(
                f"image_ids: expected each image once, over all updates and processes, found {len(twice):,} of "
                f"{len(rows):,} again, one is {one}; a sampler that gives each process its own images does not repeat "
                "any (wsolkern.metrics.torch.UnpaddedSampler)"
            )

    def _keys(self) -> torch.Tensor:
        """int64 [N, 2]: of a list, or what torchmetrics has made of it when it has asked the other processes."""
        if isinstance(self.image_keys, torch.Tensor):
            return self.image_keys
        return torch.cat(self.image_keys) if self.image_keys else torch.empty((0, 2), dtype=torch.int64)


class _Evaluating(_Counting):
    """A metric whose counts are an :class:`Evaluator`'s; arguments as of :class:`MaxBoxAcc`."""

    truth: str
    """What maps are compared with: "boxes" or "masks"."""

    def __init__(
        self,
        normalizations: Normalizations = "minmax",
        *,
        thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
        iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
        size: tuple[int, int] = defaults.SIZE,
        box_rule: str | BoxRule = "choe",
        backend: str = "auto",
        **kwargs: Any,
    ):
        protocol = Protocol(
            normalizations, thresholds=thresholds, iou_thresholds=iou_thresholds, size=size, box_rule=box_rule
        )
        empty = self._evaluator(protocol, backend).moment().on_host
        shapes = {name: counts.shape for name, counts in empty.items()}
        super().__init__({"truth": self.truth, **protocol.to_dict()}, shapes, **kwargs)
        self.protocol, self.backend = protocol, backend
        self._counted = tuple(shapes)

    def result(self) -> Result:
        """All that is known of the images that this process counted: every figure, best thresholds, curves.

        Of all processes together: ``with metric.sync_context(): metric.result()``.

        Raises:
            ValueError: As :meth:`compute`.
        """
        self._expect_sound()
        evaluator = self._evaluator(self.protocol, self.backend)
        arrays = {name: getattr(self, name).cpu().numpy() for name in self._counted}
        evaluator._counts = evaluator.moment().plus(self.num_images, arrays, self._top(arrays))
        return evaluator.compute()

    def compute(self) -> Figures:
        """The metric of what all processes counted.

        Returns:
            Percent, float64 []; for several normalizations a dictionary of these by their names.

        Raises:
            ValueError: No image was counted, or one more than once; score maps on a device were none; masks have no
                object pixel.
        """
        result = self.result()
        return in_percent(result, self._figures(result), self.device)

    def _count(self, cams: Any, image_ids: Any, **given: Any) -> Any:
        """Adds the counts of a batch, and returns them; those on a device are not waited for."""
        ids, keys = self._ids_of(image_ids, len(cams) if isinstance(cams, Sized) else 0)
        moment = counted(self.protocol, self.backend, cams, ids, **given).moment()
        totals = {name: torch.tensor(counts) for name, counts in moment.on_host.items() if name in self._counted}
        totals |= {name: total for (name, *_), (total, _) in moment.on_devices.items()}
        for name, total in totals.items():
            setattr(self, name, getattr(self, name) + total.to(self.device, non_blocking=True))
        for check in moment.checks:
            self.num_invalid = self.num_invalid + (~check[0].is_valid).to(self.device, non_blocking=True)
        self._checks = [*(each for each in self._checks if not each[2].query() or each[0].error()), *moment.checks]
        self._add_images(moment.images if keys is None else keys)
        return moment

    def _evaluator(self, protocol: Protocol, backend: str) -> Evaluator:
        return Evaluator.of(protocol, GroundTruth(**{self.truth: {}}), backend=backend)

    def _top(self, arrays: dict[str, np.ndarray]) -> tuple[int, ...]:
        """The k that all images were classified for."""
        return ()

    def _figures(self, result: Result) -> Iterable[float]:
        raise NotImplementedError


class _OfBoxes(_Evaluating):
    truth = "boxes"
    num_correct: torch.Tensor
    num_unclassified: torch.Tensor

    def __init__(self, normalizations: Normalizations = "minmax", **how: Any):
        super().__init__(normalizations, **how)
        # Where images come with logits; the same states for all, so that metrics in a collection share them.
        shapes = {"num_classified": (len(TOP),), "num_localized": (len(TOP), *self.num_correct.shape)}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), "sum")
        self.add_state("num_unclassified", torch.zeros((), dtype=torch.int64), "sum")
        self._counted += tuple(shapes)

    def update(self, cams: Any, boxes: Sequence[Any], image_ids: Any, logits: Any = None, labels: Any = None) -> None:
        """Counts a batch.

        CAMs on a CUDA device are counted there and not waited for; boxes, and ids that are text, belong on the host.

        Args:
            cams: CAMs, or score maps in [0, 1] of the evaluation size, float16, bfloat16, float32 or float64
                [N, h, w], torch or numpy.
            boxes: Ground truth per map, integers [N_i, 4] each, x0 y0 x1 y1 in pixels of the resized map, inclusive.
            image_ids: What tells the images apart, in all processes: N texts, or N integers (a tensor, too).
            logits: Of all classes, numbers [N, C]; for :class:`TopKLocalization` in the same collection.
            labels: With logits: the images' classes, integers [N] in [0, C).

        Raises:
            ValueError: Ids that are repeated or not N; a map, box, logit or label that is not as documented. Nothing of
                the batch is counted then. Images of two updates or processes that are the same are refused by
                :meth:`compute`.
        """
        moment = self._count(cams, image_ids, boxes=boxes, logits=logits, labels=labels)
        self.num_unclassified = self.num_unclassified + (0 if moment.top else moment.num_images)

    def _top(self, arrays: dict[str, np.ndarray]) -> tuple[int, ...]:
        if not int(self.num_unclassified):
            return TOP
        for name in ("num_classified", "num_localized"):
            del arrays[name]
        return ()


class _OfMasks(_Evaluating):
    truth = "masks"

    def update(self, cams: Any, masks: Any, image_ids: Any) -> None:
        """Counts a batch.

        CAMs on a CUDA device are counted there and not waited for; masks, and ids that are text, belong on the host.

        Args:
            cams: CAMs, or score maps in [0, 1] of the evaluation size, float16, bfloat16, float32 or float64
                [N, h, w], torch or numpy.
            masks: Ground truth per map, uint8 [N, H, W] of the evaluation size: 1 object, 0 background, 255 ignored.
            image_ids: What tells the images apart, in all processes: N texts, or N integers (a tensor, too).

        Raises:
            ValueError: Ids that are repeated or not N; a map or mask that is not as documented. Nothing of the batch is
                counted then. Images of two updates or processes that are the same are refused by :meth:`compute`.
        """
        self._count(cams, image_ids, masks=masks)


class MaxBoxAcc(_OfBoxes):
    """MaxBoxAcc of the largest contour at IoU 0.5, or at the first IoU threshold if that is not among them.

    Args:
        normalizations: What to normalize with, M of them, strings such as "ivr:0.45"; None to be fed score maps.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1); non-decreasing for masks.
        iou_thresholds: Fractions in (0, 1], D of them; of no meaning for masks.
        size: Height and width, in pixels, that CAMs are resized to; score maps must have it.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam"; of no
            meaning for masks.
        backend: "auto", "reference", "cpu" or "cuda".
        kwargs: torchmetrics' own, such as ``sync_on_compute``.

    Raises:
        ValueError: An argument is not as above.
    """

    def _figures(self, result: Result) -> Iterable[float]:
        return map(Metric.MAX_BOX_ACC.figure, result)


class MaxBoxAccV2(_OfBoxes):
    """MaxBoxAccV2: all contours, the mean over IoU thresholds; arguments as of :class:`MaxBoxAcc`."""

    def _figures(self, result: Result) -> Iterable[float]:
        return map(Metric.MAX_BOX_ACC_V2.figure, result)


class TopKLocalization(_OfBoxes):
    """Top-1 or Top-5 localization: MaxBoxAcc or MaxBoxAccV2 of the images whose class is among the first k logits.

    Args:
        normalizations: As of :class:`MaxBoxAcc`.
        top: k, 1 or 5.
        metric: "MaxBoxAcc" or "MaxBoxAccV2".
        at: Where over thresholds, as for :meth:`wsolkern.metrics.Result.localization`.
        how: All else, as of :class:`MaxBoxAcc`.

    Raises:
        ValueError: An argument is not as above.
    """

    def __init__(
        self,
        normalizations: Normalizations = "minmax",
        *,
        top: int = 1,
        metric: str | Metric = Metric.MAX_BOX_ACC,
        at: At = "best",
        **how: Any,
    ):
        localization = check_localization(top, metric, at)
        super().__init__(normalizations, **how)
        self.top, self.metric, self.at = localization

    def update(self, cams: Any, boxes: Sequence[Any], image_ids: Any, logits: Any, labels: Any) -> None:  # type: ignore[override]
        """Counts a batch, as :meth:`MaxBoxAcc.update` does.

        Args:
            cams: Of the classes that the figure is to be of: those of the labels, or those predicted.
            boxes, image_ids, logits, labels: As there; all of them are needed.
        """
        super().update(cams, boxes, image_ids, logits, labels)

    def _top(self, arrays: dict[str, np.ndarray]) -> tuple[int, ...]:
        top = super()._top(arrays)
        if not top:
            raise ValueError(
                f"logits: expected them with all {self.num_images} images, found {int(self.num_unclassified)} without"
            )
        return top

    def _figures(self, result: Result) -> Iterable[float]:
        return localization_of(result, self.top, self.metric, self.at)


class PxAP(_OfMasks):
    """PxAP: the area under the pixel precision-recall curve; arguments as of :class:`MaxBoxAcc`."""

    def _figures(self, result: Result) -> Iterable[float]:
        return map(Metric.PXAP.figure, result)


class PixelIoU(_OfMasks):
    """Peak IoU: the pixels that objects and score maps share in all images, over those of either, at its best.

    At a threshold the pixels whose score reaches it are predicted. Arguments are those of :class:`MaxBoxAcc`; the first
    threshold is 0.
    """

    def __init__(self, normalizations: Normalizations = "minmax", **how: Any):
        super().__init__(normalizations, **how)
        check_from_zero(self.protocol)

    def _figures(self, result: Result) -> Iterable[float]:
        return map(peak_iou_of, result)


class PointingGame(_Counting):
    """Pointing game: the maps that are largest on the object, or near it, in percent; no normalization changes that.

    Args:
        truth: What maps are compared with: "boxes" or "masks".
        tolerance: How far from the object a map may be largest, in pixels of the resized map; Zhang et al. take 15.
        size: Height and width, in pixels, that CAMs are resized to.
        backend: "auto", "reference", "cpu" or "cuda".
        kwargs: torchmetrics' own.

    Raises:
        ValueError: An argument is not as above.

    Source: Zhang et al., arXiv 1608.00507, section 4.2.
    """

    num_hits: torch.Tensor

    def __init__(
        self,
        truth: str = "boxes",
        *,
        tolerance: int = 0,
        size: tuple[int, int] = defaults.SIZE,
        backend: str = "auto",
        **kwargs: Any,
    ):
        if truth not in ("boxes", "masks"):
            raise ArgumentError("truth", f'expected "boxes" or "masks", found {truth!r}')
        check_tolerance(tolerance)
        size = inputs.check_size(size)
        settings = {"pointing": truth, "tolerance": tolerance, "size": size}
        super().__init__(settings, {"num_hits": ()}, **kwargs)
        self.truth, self.tolerance, self.size, self.backend = truth, tolerance, size, backend

    def update(self, cams: Any, boxes: Any = None, image_ids: Any = None, masks: Any = None) -> None:
        """Counts a batch.

        Args:
            cams: CAMs or score maps, float16, bfloat16, float32 or float64 [N, h, w], torch or numpy.
            boxes: Where ``truth`` is "boxes": per map integers [N_i, 4], as for :meth:`MaxBoxAcc.update`.
            image_ids: What tells the images apart, in all processes: N texts, or N integers (a tensor, too).
            masks: Where ``truth`` is "masks": uint8 [N, H, W], as for :meth:`PxAP.update`.

        Raises:
            ValueError: As from these.
        """
        target = {"boxes": boxes, "masks": masks}[self.truth]
        for name, given in ((self.truth, target), ("image_ids", image_ids)):
            if given is None:
                raise ArgumentError(name, "expected one for each map, found None")
        ids, keys = self._ids_of(image_ids, len(cams) if isinstance(cams, Sized) else 0)
        given = {"boxes": None, "masks": None} | {self.truth: target}
        try:
            hits = point(cams, given["boxes"], given["masks"], self.tolerance, self.size, self.backend)
        except MapError as error:
            raise ImageError(ids[error.place], str(error)) from error
        self.num_hits = self.num_hits + hits.sum().to(self.device, non_blocking=True)
        self._add_images(map(key_of, ids) if keys is None else keys)

    def compute(self) -> torch.Tensor:
        """The pointing game of what all processes counted.

        Returns:
            Percent, float64 [].

        Raises:
            ValueError: No image was counted, or one more than once.
        """
        self._expect_sound()
        return self.num_hits.to(torch.float64) * 100.0 / self.num_images


class UnpaddedSampler(DistributedSampler[Any]):
    """Each image to one process, in turn, none twice: what DistributedSampler does, but for the images it repeats.

    Processes may have one image more or less than others, so nothing that all must do together belongs into the loop
    over batches: in evaluation call the network itself, not the DistributedDataParallel around it, which sends buffers.

    Args:
        dataset: What has a length.
        num_replicas, rank: The processes, and this one; None: as torch.distributed has them.
    """

    def __init__(self, dataset: Any, num_replicas: int | None = None, rank: int | None = None):
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.total_size = len(dataset)
        self.num_samples = len(range(self.rank, self.total_size, self.num_replicas))

    def __iter__(self) -> Iterator[Any]:
        return iter(range(self.rank, self.total_size, self.num_replicas))


def _the_same(settings: torch.Tensor) -> torch.Tensor:
    """The settings that all have, uint8 [P, 16].

    Raises:
        ValueError: They are not the same.
    """
    if (settings != settings[0]).any():
        raise ValueError("metrics of different settings were added: expected the same in all processes")
    return settings[0]

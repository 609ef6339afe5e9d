"""Metrics by class or by the size of the object: images are counted by group, and all together.

In: batches of CAMs with their image ids, the group of each image. Out: counts by group, whose sum is an Evaluator's.
Source: Choe et al., arXiv 2007.04178, section 4; what the size of an object is, is ours: docs/per-image.md.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wsolkern.errors import ArgumentError
from wsolkern.metrics import formulas, pointing, sealed
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import NormalizationResult, Result
from wsolkern.ops import inputs
from wsolkern.ops.sharing import sums_in_groups

if TYPE_CHECKING:
    from wsolkern.cams import Ranks

SIZES = ("small", "medium", "large")
MAX_BYTES = 2 << 30
_FORMAT = {"content": "counts by group", "version": 2}


@dataclass(frozen=True, eq=False)
class GroupRow:
    """A normalization's metrics on the images of one group."""

    own: NormalizationResult
    """At the group's own best thresholds."""
    max_box_acc: dict[float, float] | None = None
    """MaxBoxAcc's box accuracy in percent, by IoU threshold, at the threshold that is best for all images together."""
    max_box_acc_v2: float | None = None
    """The mean over IoU thresholds of the next."""
    max_box_acc_v2_per_iou: dict[float, float] | None = None
    """MaxBoxAccV2's box accuracies in percent at the thresholds that are best for all images together."""
    pixel_iou: float | None = None
    """Pixel IoU of the group's images together, in percent, at the score that is best for all images together."""

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them: under "own" at the group's thresholds, under "overall" at those of all."""
        overall = {
            name: {str(iou): each for iou, each in value.items()} if isinstance(value, dict) else value
            for name, value in vars(self).items()
            if name != "own" and value is not None
        }
        return {"normalization": self.own.name, "own": self.own.to_dict(), "overall": overall}


@dataclass(frozen=True, eq=False)
class Group:
    """The images of one class, or with objects of about one size."""

    name: str
    num_images: int
    rows: tuple[GroupRow, ...]
    """One a normalization."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"name": self.name, "num_images": self.num_images, "normalizations": [r.to_dict() for r in self.rows]}


def object_pixels(truth: GroundTruth, image_ids: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """How many pixels of the resized map each image's object has, int64 [N]: of the union of its boxes, or its mask.

    Boxes have inclusive corners and are cut off at the frame.
    """
    found = []
    for image_id in image_ids:
        if truth.boxes is not None:
            boxes = np.asarray(inputs.on_host(truth.boxes_of([image_id])[0]))
            found.append(_num_pixels(boxes, size))
        else:
            found.append(int((truth.masks_of([image_id], size) == 1).sum()))
    return np.array(found, np.int64)


def size_bounds(pixels: np.ndarray) -> tuple[int, int]:
    """The most pixels of a small and of a medium object: the terciles of all images' objects.

    Args:
        pixels: Of each image's object, int64 [N], N >= 1.

    Returns:
        The values at ranks ``ceil(N / 3)`` and ``ceil(2 N / 3)``, counted from 1, of the sorted numbers. Objects of
        equal size are in one group, so that groups need not be of equal size.
    """
    rising = np.sort(pixels)
    lower, upper = (int(rising[-(-part * len(rising) // 3) - 1]) for part in (1, 2))
    return lower, upper


class _Held(NamedTuple):
    """What is counted."""

    counts: tuple[np.ndarray, ...]
    """Of each group int64 [2, M, D, T] or [M, 2, T + 2]."""
    images: np.ndarray
    """int64 [G]."""
    degenerate: np.ndarray
    """Maps without a score map, int64 [G, M]."""


class GroupEvaluator:
    """An Evaluator that also counts by group: the counts of groups are those of all images in parts.

    Args:
        protocol: How maps are evaluated.
        truth: Boxes or masks, one of the two.
        groups: Image id -> the number of its group, from 0.
        names: What the groups are called, G of them.
        backend: "auto", "reference", "cpu" or "cuda".

    Raises:
        ArgumentError: As from :class:`GroupCounts`.
    """

    def __init__(
        self,
        protocol: Protocol,
        truth: GroundTruth,
        groups: Mapping[Any, int],
        names: Sequence[str],
        *,
        backend: str = "auto",
    ):
        self.counts = GroupCounts(protocol, truth, groups, names)
        """By group."""
        self.evaluator = Evaluator.of(protocol, truth, backend=backend)
        """Of all images."""

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return self.evaluator.num_images

    def update(self, cams: Any, image_ids: Sequence[Any], **classified: Any) -> None:
        """Counts a batch, as :meth:`wsolkern.metrics.Evaluator.update`."""
        there, numbers = self.counts.numbers_of(image_ids)
        self.counts.add(there, self.evaluator.update_in_groups(cams, image_ids, numbers, len(there), **classified))

    def compute(self) -> tuple[Result, tuple[Group, ...]]:
        """The metrics of all images, and those of each group that has an image.

        Raises:
            ValueError: There was no image; or masks without any object pixel.
        """
        result = self.evaluator.compute()
        return result, self.counts.compute()

    def moment(self) -> tuple[Any, "_Held"]:
        """The counts there are now; later updates do not change them."""
        return self.evaluator.moment(), self.counts.moment()

    def to_bytes(self, moment: "tuple[Any, _Held] | None" = None) -> bytes:
        """The content of a file: of now, or of a moment before."""
        of_all, held = self.moment() if moment is None else moment
        arrays = {"evaluator": np.frombuffer(self.evaluator.to_bytes(of_all), np.uint8), **self.counts.arrays(held)}
        return sealed.seal({**_FORMAT, "about": self.counts.about()}, arrays)

    def merge_over(self, ranks: "Ranks") -> None:
        """Gives all processes the counts of all, each of which saw other images; all of them call this."""
        self.evaluator.merge_over(ranks)
        self.counts.merge_over(ranks)

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """Adds what :meth:`to_bytes` gave of other images under the same settings; ``path`` is what messages call it.

        Raises:
            ValueError: It is no such content, or of other settings or numbers; nothing is added then.
        """
        header, arrays = sealed.unseal(content, _FORMAT, ("about",))
        for name, value in self.counts.about().items():
            if header["about"].get(name) != value:
                raise ValueError(f"expected counts of the same {name}, found others")
        of_all = arrays.pop("evaluator").tobytes()
        self.counts.expect(arrays, num_images)
        self.evaluator.take_over(of_all, num_images, path)
        self.counts.take_over(arrays)


class GroupCounts:
    """Counts by group.

    Args:
        protocol: How maps are evaluated.
        truth: Boxes or masks, one of the two.
        groups: Image id -> the number of its group, from 0.
        names: What the groups are called, G of them.

    Raises:
        ArgumentError: There are both boxes and masks; thresholds of masks decrease; or the counts of so many groups
            need more than MAX_BYTES of memory.
    """

    def __init__(self, protocol: Protocol, truth: GroundTruth, groups: Mapping[Any, int], names: Sequence[str]):
        if len(truth.kinds) == 2:
            raise ArgumentError("truth", "expected boxes or masks, found both")
        self.protocol, self.truth = protocol, truth
        self.names = tuple(names)
        self._groups = groups
        self._kind = "num_correct" if truth.boxes is not None else "hist"
        num_rows, num_thresholds = len(protocol.names), len(protocol.thresholds)
        last = (
            (2, num_rows, len(protocol.iou_thresholds), num_thresholds)
            if truth.boxes is not None
            else (num_rows, 2, num_thresholds + 2)
        )
        num_bytes = 8 * len(names) * int(np.prod(last))
        if num_bytes > MAX_BYTES:
            raise ArgumentError(
                ("by", "normalizations", "thresholds"),
                f"counts of {len(names):,} groups need {num_bytes / 2**30:,.1f} GiB of memory, expected at most "
                f"{MAX_BYTES / 2**30:g}: take fewer normalizations or thresholds",
            )
        if truth.masks is not None:
            inputs.check_thresholds(protocol.thresholds, sorted_=True)
        # None of these arrays is changed: another takes its place, so that a moment costs no copy of all.
        self._held = _Held(
            (np.zeros(last, np.int64),) * len(names),
            np.zeros(len(names), np.int64),
            np.zeros((len(names), num_rows), np.int64),
        )

    def numbers_of(self, image_ids: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """The groups that some images are in, rising [G'], and the place of each image's group among these, [N]."""
        groups = np.array([self._groups.get(each, 0) for each in image_ids], np.int64)  # who counts refuses the unknown
        return np.unique(groups, return_inverse=True)

    def add(self, groups: np.ndarray, added: Mapping[str, np.ndarray]) -> None:
        """Adds what images of some groups, numbers [G'], added: as :meth:`Evaluator.update_in_groups` returns it."""
        counts, images, degenerate = list(self._held.counts), self._held.images.copy(), self._held.degenerate.copy()
        for place, group in enumerate(groups.tolist()):
            counts[group] = counts[group] + added[self._kind][place]
        images[groups] += added["num_images"]
        degenerate[groups] += added["num_degenerate"]
        self._held = _Held(tuple(counts), images, degenerate)

    def add_known(self, each_map: np.ndarray, degenerate: np.ndarray, image_ids: Sequence[Any]) -> None:
        """Counts images of which is known what they add.

        Args:
            each_map: Which thresholds hit, bool [2, M, N, D, T], with the largest contour and with all; for masks
                histograms, int64 [M, N, 2, T + 2].
            degenerate: Maps without a score map, bool [M, N].
            image_ids: N ids, each of which has a group.
        """
        groups, numbers = self.numbers_of(image_ids)
        axis = 2 if self.truth.boxes is not None else 1
        sums = {name: sums_in_groups(values, numbers, len(groups), at) for name, values, at in (
            (self._kind, each_map, axis), ("num_degenerate", degenerate, 1),
        )}  # fmt: skip
        self.add(groups, sums | {"num_images": np.bincount(numbers, minlength=len(groups))})

    def compute(self) -> tuple[Group, ...]:
        """The metrics of each group that has an image.

        Raises:
            ValueError: Masks without any object pixel.
        """
        counts, images, degenerate = self._held
        total = sum(counts, np.zeros_like(counts[0]))
        rows = self._rows(total, degenerate.sum(axis=0), int(images.sum()), all_=True)
        best, groups = [self._places(row) for row in rows], []
        for place in np.flatnonzero(images).tolist():
            num_images = int(images[place])
            own = self._rows(counts[place], degenerate[place], num_images)
            found = [self._at_overall(self._of(counts[place], m), num_images, r, best[m]) for m, r in enumerate(own)]
            groups.append(Group(self.names[place], num_images, tuple(found)))
        return tuple(groups)

    def _of(self, counts: np.ndarray, row: int) -> np.ndarray:
        """A normalization's counts: [2, D, T] or [2, T + 2]."""
        return np.asarray(counts[:, row] if self.truth.boxes is not None else counts[row])

    def _rows(
        self, counts: np.ndarray, num_degenerate: np.ndarray, num_images: int, *, all_: bool = False
    ) -> tuple[NormalizationResult, ...]:
        """A row a normalization; a group may have no object pixel, and no PxAP then, all images together may not."""

        def histogram(m: int) -> np.ndarray | None:
            return self._of(counts, m) if self.truth.masks is not None and (all_ or counts[m, 0].any()) else None

        return tuple(
            NormalizationResult.from_counts(
                normalization,
                num_images=num_images,
                num_degenerate=int(num_degenerate[m]),
                thresholds=self.protocol.thresholds,
                iou_thresholds=self.protocol.iou_thresholds,
                num_correct=self._of(counts, m) if self.truth.boxes is not None else None,
                histogram=histogram(m),
            )
            for m, normalization in enumerate(self.protocol.normalizations or (None,))
        )

    def _places(self, overall: NormalizationResult) -> np.ndarray:
        """Of the thresholds that are best for all images: int64 [2, D], or [] of the pixel IoU's peak."""
        thresholds = self.protocol.thresholds.tolist()
        if self.truth.masks is not None:
            return np.array(thresholds.index(overall.peak_iou_threshold))
        assert overall.best_threshold is not None and overall.best_threshold_v2 is not None
        ways = overall.best_threshold, overall.best_threshold_v2
        return np.array(
            [[thresholds.index(best[iou]) for iou in self.protocol.iou_thresholds.tolist()] for best in ways]
        )

    def _at_overall(
        self, counts: np.ndarray, num_images: int, own: NormalizationResult, places: np.ndarray
    ) -> GroupRow:
        if self.truth.masks is not None:
            shared, union = formulas.pixel_overlap(counts)
            return GroupRow(own, pixel_iou=float(100 * formulas.pixel_iou(shared[places], union[places])))
        there = np.take_along_axis(counts, places[:, :, None], axis=2)[..., 0]  # [2, D]
        accuracy = formulas.box_accuracy(there, num_images)
        ious = self.protocol.iou_thresholds.tolist()
        largest, every = (dict(zip(ious, each, strict=True)) for each in accuracy.tolist())
        return GroupRow(own, largest, formulas.max_box_acc_v2(np.array([*every.values()])), every)

    def moment(self) -> "_Held":
        """The counts there are now; later updates do not change them."""
        return self._held

    def arrays(self, held: "_Held") -> dict[str, np.ndarray]:
        """Those of a moment by name."""
        return {"counts": np.stack(held.counts), "images": held.images, "degenerate": held.degenerate}

    def merge_over(self, ranks: "Ranks") -> None:
        """Gives all processes the counts of all, each of which saw other images; all of them call this."""
        sums = ranks.sum(self.arrays(self._held))
        self._held = _Held(tuple(sums["counts"]), sums["images"], sums["degenerate"])

    def expect(self, arrays: Mapping[str, np.ndarray], num_images: int) -> None:
        """Does nothing if these are counts of so many images of such groups.

        Raises:
            ValueError: They are not.
        """
        mine = self.arrays(self._held)
        if any(arrays[name].shape != each.shape or arrays[name].dtype != each.dtype for name, each in mine.items()):
            raise ValueError("expected counts of these groups, found others")
        if int(arrays["images"].sum()) != num_images:
            raise ValueError(f"expected counts of {num_images} images, found {int(arrays['images'].sum())}")

    def take_over(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds those of other images."""
        added = {name: each + arrays[name] for name, each in self.arrays(self._held).items()}
        self._held = _Held(tuple(added["counts"]), added["images"], added["degenerate"])

    def about(self) -> dict[str, Any]:
        """What counts that add up have in common."""
        return {**self.protocol.to_dict(), "groups": list(self.names), "kind of ground truth": list(self.truth.kinds)}


def _num_pixels(boxes: np.ndarray, size: tuple[int, int]) -> int:
    """Pixels of the union of boxes [n, 4]."""
    if len(boxes) == 1:
        x0, y0, x1, y1 = map(int, boxes[0])
        return max(0, min(x1, size[1] - 1) - max(x0, 0) + 1) * max(0, min(y1, size[0] - 1) - max(y0, 0) + 1)
    return int(pointing.painted([boxes], size).sum())

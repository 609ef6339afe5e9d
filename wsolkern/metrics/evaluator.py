"""The Evaluator: fed with batches of CAMs, it keeps integer counts only.

In: CAMs or score maps [N, h, w] with their image ids, boxes or masks by image id. Out: counts, a Result at any time.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.errors import ArgumentError, ImageError, MapError
from wsolkern.files import read_regular, write_whole
from wsolkern.metrics import formulas, sealed
from wsolkern.metrics.classification import check_correct, expect_images, groups_of, num_correct_of, top_k, top_of
from wsolkern.metrics.identity import KEY_BYTES, Images, key_of, named
from wsolkern.metrics.protocol import Boxes, GroundTruth, Masks, Protocol, check_batch, describe
from wsolkern.metrics.result import NormalizationResult, Result, shorten_list
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS, count_box_hits, count_pixels, inputs, resize
from wsolkern.ops.sharing import checked_groups, sums_in_groups
from wsolkern.stages import stage

if TYPE_CHECKING:
    from wsolkern.cams import Ranks

_FORMAT = {"content": "Evaluator counts", "version": 1}
_MOST_IMAGES = 1 << 32

# Held while an evaluator's counts are replaced by larger ones, which takes less than a millisecond: one for all
# evaluators, so that they can be copied and pickled.
_adding = threading.Lock()


def _renew() -> None:
    """In a forked child, where the thread that held the lock is not."""
    global _adding
    _adding = threading.Lock()


os.register_at_fork(after_in_child=_renew)


@dataclass(frozen=True)
class _Counts:
    """The counts of one moment, which never change; who has them needs no lock to read them."""

    num_images: int
    on_host: dict[str, np.ndarray]
    """By name, read-only."""
    on_devices: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """Tensors, to be added to those of the host, each with the event that follows them: by name, device and stream."""
    checks: tuple[tuple[inputs.DeviceCheck, Sequence[Any], Any], ...] = ()
    """Of batches on devices: what is found of one, its image ids, and the event that follows the finding."""
    top: tuple[int, ...] | None = None
    """The k that images were classified for, rising; empty if they were not; None while there are no images."""
    images: Images = field(default_factory=Images)
    """Which were counted; fewer than ``num_images`` where a file from before they were kept was loaded."""

    def plus(
        self,
        num_images: int,
        added: Mapping[str, Any],
        top: tuple[int, ...] | None = (),
        new_checks: Sequence[inputs.DeviceCheck] = (),
        image_ids: Sequence[Any] = (),
        keys: Iterable[bytes] = (),
    ) -> "_Counts":
        """The sum with the counts, arrays or tensors, of other images; ``new_checks``: what they are yet to be found.

        Raises:
            ArgumentError: As :meth:`expect_top`.
        """
        self.expect_top(top)
        on_host, on_devices = dict(self.on_host), dict(self.on_devices)
        # Batches that turned out well are forgotten, so that only those in flight are kept.
        checks = [each for each in self.checks if not each[2].query() or each[0].error()]
        for check in new_checks:
            stream = sys.modules["torch"].cuda.current_stream(check.is_valid.device)
            checks.append((check, image_ids, stream.record_event()))
        for name, counts in added.items():
            if _is_on_device(counts):
                stream = sys.modules["torch"].cuda.current_stream(counts.device)
                place = name, counts.device, stream.cuda_stream
                total = on_devices[place][0] + counts if place in on_devices else counts
                on_devices[place] = total, stream.record_event()
            else:
                on_host[name] = _read_only(on_host.get(name, 0) + inputs.on_host(counts))
        num_all = self.num_images + num_images
        top = top if self.top is None else self.top
        return _Counts(num_all, on_host, on_devices, tuple(checks), top, self.images.plus(keys))

    def expect_top(self, top: tuple[int, ...] | None) -> None:
        """Does nothing if images that were classified for these k, or not at all, can be added; None: no images are.

        Raises:
            ArgumentError: Those that were counted already are of another kind.
        """
        if self.top is not None and top is not None and self.top != top:
            what = f"{self.num_images} images before were counted"
            raise ArgumentError(
                "correct", f"{what} {_classified(self.top)}, expected the same, found {_classified(top)}"
            )

    def arrays(self) -> dict[str, np.ndarray]:
        """All counts by name, read-only; what is on devices is waited for.

        Raises:
            ImageError: Score maps on a device were none.
        """
        for check, image_ids, found in self.checks:
            found.synchronize()
            if error := check.error():
                raise ImageError(image_ids[error.place], str(error)) from error
        arrays = dict(self.on_host)
        for (name, _, _), (counts, computed) in self.on_devices.items():
            computed.synchronize()  # streams do not wait for each other
            arrays[name] = _read_only(arrays.get(name, 0) + inputs.on_host(counts))
        return arrays


class Evaluator:
    """Counts, over any number of images, what MaxBoxAcc, MaxBoxAccV2 and PxAP are computed from.

    There are ``num_images``, ``num_degenerate``, ``num_correct`` and ``hist``, ``num_classified`` and ``num_localized``
    where images come with logits, and about 100 bytes an image to know which images were counted. An image counts once:
    :meth:`update` and :meth:`merge` refuse one that is counted already, such as those that a sampler adds so that all
    processes have the same number.

    CAMs on a CUDA device are counted there: :meth:`update` queues the work on the current stream and returns, and the
    counts come to the host when somebody reads them. Score maps, and logits there, are checked there too: if some were
    none, whoever reads counts gets the ImageError.

    Threads may update, merge and read one evaluator at once: no count is lost, and who reads sees whole batches only.

    The arguments make two values, :class:`Protocol` and :class:`GroundTruth`. Who has these already, to share them with
    another evaluator or a :class:`wsolkern.metrics.bootstrap.BootstrapEvaluator`, calls :meth:`of`.

    Args:
        normalizations: What to normalize with, M of them, strings such as "ivr:0.45"; None to be fed score maps, M = 1.
        boxes: Image id -> ground truth, int [n, 4], n >= 1, x0 y0 x1 y1 in pixels of the resized map, inclusive.
        masks: Image id -> ground truth, uint8 [H, W] (1 object, 0 background, 255 ignored), as a mapping or a function
            that loads it; asked for when an image is counted and not kept.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1); non-decreasing if there are masks.
        iou_thresholds: Fractions, D of them.
        size: Height and width, in pixels, that CAMs are resized to; score maps must have it.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam".
        backend: "auto", "reference", "cpu" or "cuda".

    Raises:
        ValueError: An argument is not as above, or there are neither boxes nor masks.
    """

    def __init__(
        self,
        normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
        *,
        boxes: "Boxes | None" = None,  # in quotes: help prints an alias by its name
        masks: "Masks | None" = None,
        thresholds: "Sequence[float] | np.ndarray" = DEFAULT_THRESHOLDS,
        iou_thresholds: "Sequence[float] | np.ndarray" = defaults.IOU_THRESHOLDS,
        size: tuple[int, int] = (224, 224),
        box_rule: str | BoxRule = "choe",
        backend: str = "auto",
    ):
        truth = GroundTruth(boxes, masks)
        how: dict[str, Any] = {"thresholds": thresholds, "iou_thresholds": iou_thresholds, "size": size}
        protocol = Protocol(normalizations, **how, box_rule=box_rule)
        self._begin(protocol, truth, backend)

    @classmethod
    def of(cls, protocol: Protocol, truth: GroundTruth, *, backend: str = "auto") -> "Evaluator":
        """An empty evaluator of a protocol and ground truth, which it does not change.

        Raises:
            ValueError: There are masks, and the protocol's thresholds decrease somewhere.
        """
        evaluator = cls.__new__(cls)
        evaluator._begin(protocol, truth, backend)
        return evaluator

    def _begin(self, protocol: Protocol, truth: GroundTruth, backend: str) -> None:
        if truth.masks is not None:
            inputs.check_thresholds(protocol.thresholds, sorted_=True)
        self.protocol, self.truth, self.backend = protocol, truth, backend
        self.reset()

    def reset(self) -> None:
        """Forgets all counts, as if nothing had been counted; settings, boxes and masks stay.

        Threads may do it at any time. A batch that another thread is counting meanwhile is added afterwards.
        """
        protocol, truth = self.protocol, self.truth
        num_rows, num_thresholds = len(protocol.names), len(protocol.thresholds)
        shapes: dict[str, tuple[int, ...]] = {"num_degenerate": (num_rows,)}
        if truth.boxes is not None:
            shapes["num_correct"] = (2, num_rows, len(protocol.iou_thresholds), num_thresholds)
        if truth.masks is not None:
            shapes["hist"] = (num_rows, 2, num_thresholds + 2)
        empty = _Counts(0, {name: _read_only(np.zeros(shape, np.int64)) for name, shape in shapes.items()})
        with _adding:
            self._counts = empty

    @property
    def normalizations(self) -> tuple[Normalization, ...] | None:
        """What is normalized with, M of them; None where score maps are fed."""
        return self.protocol.normalizations

    @property
    def thresholds(self) -> np.ndarray:
        """Fractions of a map's maximum level, float64 [T], read-only."""
        return self.protocol.thresholds

    @property
    def iou_thresholds(self) -> np.ndarray:
        """Fractions, float64 [D], read-only."""
        return self.protocol.iou_thresholds

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, that CAMs are resized to."""
        return self.protocol.size

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return self._counts.num_images

    @property
    def num_degenerate(self) -> np.ndarray:
        """int64 [M], read-only: maps without a score map."""
        return self._counts.arrays()["num_degenerate"]

    @property
    def num_correct(self) -> np.ndarray | None:
        """int64 [2, M, D, T], read-only: images that hit, with the largest contour and with all; None without boxes."""
        return self._counts.arrays().get("num_correct")

    @property
    def hist(self) -> np.ndarray | None:
        """int64 [M, 2, T + 2], read-only: object pixels and background pixels by score; None without masks."""
        return self._counts.arrays().get("hist")

    @property
    def top(self) -> tuple[int, ...]:
        """The k, rising, that images were classified for, K of them: (1, 5) with logits; none without."""
        return self._counts.top or ()

    @property
    def num_classified(self) -> np.ndarray | None:
        """int64 [K], read-only: images whose class is among the first k logits; None where none were classified."""
        return self._counts.arrays().get("num_classified")

    @property
    def num_localized(self) -> np.ndarray | None:
        """int64 [K, 2, M, D, T], read-only: the images of ``num_correct`` whose class is among the first k logits.

        None without boxes, and where no image was classified.
        """
        return self._counts.arrays().get("num_localized")

    def update(
        self,
        cams: Any,
        image_ids: Sequence[Any],
        *,
        logits: Any = None,
        labels: Any = None,
        correct: Any = None,
    ) -> None:
        """Counts a batch; maps of another size go into another call.

        All batches come with a classification, or none does. What a figure of it is of depends on the class that CAMs
        are of, which is for the caller to know.

        Args:
            cams: CAMs, or score maps in [0, 1] of the evaluation size, float16, bfloat16, float32 or float64
                [N, h, w], numpy or torch.
            image_ids: N distinct ids.
            logits: The classifier's, of all classes, numbers [N, C], on the host or the device of ``cams``: an image is
                counted as classified for k = 1 and 5, as :func:`wsolkern.metrics.top_k` says it.
            labels: With logits: the images' classes, integers [N] in [0, C).
            correct: In place of both: whether the classifier is right, bool [N], or k -> bool [N]: whether it is among
                its first k classes.

        Raises:
            ValueError: Ids that are unknown, repeated or not N; an image that is counted already, a map, box or mask
                that is not as documented, or a NaN among the logits, named by its image id (an ImageError); images
                before were classified in another way. Nothing of the batch is counted then. Values of score maps and
                logits on a GPU are not waited for: what is wrong with them is raised when counts are read.
        """
        self._update(cams, image_ids, logits, labels, correct)

    def update_in_groups(
        self,
        cams: Any,
        image_ids: Sequence[Any],
        groups: Any,
        num_groups: int,
        *,
        logits: Any = None,
        labels: Any = None,
        correct: Any = None,
    ) -> dict[str, np.ndarray]:
        """:meth:`update`, and what the images of each group added; counts on a device are waited for.

        Args:
            cams, image_ids, logits, labels, correct: As there.
            groups: The number of each image's group, integers [N] in [0, G).
            num_groups: G.

        Returns:
            By name int64 [G, ...]: "num_images" [G], "num_degenerate" [G, M], and what there is of "num_correct"
            [G, 2, M, D, T] and "hist" [G, M, 2, T + 2].

        Raises:
            ValueError: As from there, or groups are not as above.
        """
        numbers = checked_groups(groups, len(image_ids), num_groups)
        return self._update(cams, image_ids, logits, labels, correct, numbers, num_groups)

    def _update(
        self,
        cams: Any,
        image_ids: Sequence[Any],
        logits: Any,
        labels: Any,
        correct: Any,
        numbers: np.ndarray | None = None,  # of the images' groups, [N]
        num_groups: int = 0,
    ) -> dict[str, np.ndarray]:
        """As the two above; without groups it returns nothing of them."""
        cams, image_ids = check_batch(self.protocol, self.truth, cams, image_ids)
        keys = [key_of(each) for each in image_ids]
        self._expect_new(image_ids, keys)
        two_operations = len(self.truth.kinds) == 2 and self.protocol.box_rule == CHOE
        if two_operations and self.normalizations is not None and tuple(cams.shape[1:]) != self.size:
            # Once for both operations: 6% less time with one normalization.
            cams = resize(cams, self.size, backend=self.backend)
        how: dict[str, Any] = {"normalizations": self.normalizations, "size": self.size, "backend": self.backend}
        # All counts exist before any is added: a batch that fails leaves everything as it was.
        added: dict[str, Any] = {}
        of_groups: dict[str, np.ndarray] = {}
        found = top_of(logits, labels, correct)
        top = found if image_ids else None
        self._counts.expect_top(top)
        try:
            if self.truth.boxes is not None:
                boxes = self.truth.boxes_of(image_ids)
            if self.truth.masks is not None:
                with stage("read") as timer:
                    masks = self.truth.masks_of(image_ids, self.size)
                    timer.moved(masks.nbytes)
            with inputs.deferring_checks() as checks:
                if top:
                    by_k = top_k(logits, labels) if correct is None else check_correct(correct, len(image_ids))
                    expect_images(by_k, len(image_ids))
                    added["num_classified"] = num_correct_of(by_k)
                if self.truth.boxes is not None:
                    how_boxes = how | {"contours": "both", "iou_thresholds": self.iou_thresholds}
                    how_boxes |= {"rule": self.protocol.box_rule, "thresholds": self.thresholds}
                    ways = groups_of(by_k) if top else None
                    if numbers is None:
                        how_boxes |= {"groups": ways, "num_groups": len(top or ()) + 1}
                        counts, degenerate = count_box_hits(cams, boxes, **how_boxes)
                    else:
                        of_groups["num_correct"], counts, degenerate = _in_groups(
                            count_box_hits, cams, boxes, numbers, num_groups, ways, len(top or ()) + 1, **how_boxes
                        )
                    if top:
                        sums = counts.cumsum(0)  # who is right for a k is so for every larger one
                        added["num_localized"], counts = sums[:-1], sums[-1]
                    added["num_correct"] = counts
                if self.truth.masks is not None:
                    how_masks = how | {"thresholds": self.thresholds}
                    if numbers is None:
                        added["hist"], degenerate = count_pixels(cams, masks, **how_masks)
                    else:
                        of_groups["hist"], added["hist"], degenerate = _in_groups(
                            count_pixels, cams, masks, numbers, num_groups, **how_masks
                        )
            if checks and not _is_on_device(degenerate):
                for check in checks:  # counts are on the host: nobody has to wait for the device later
                    if check.is_valid.device.type == "cuda":
                        sys.modules["torch"].cuda.current_stream(check.is_valid.device).synchronize()
                    if error := check.error():
                        raise error
                checks = []
        except MapError as error:
            raise ImageError(image_ids[error.place], str(error)) from error
        with stage("reduce", getattr(cams, "device", None)) as timer:
            timer.moved(3 * sum(each.nbytes for each in added.values()), len(image_ids))
            added["num_degenerate"] = degenerate.sum(1)
            for check in checks:
                added = {
                    name: counts * check.is_valid if _is_on_device(counts) else counts for name, counts in added.items()
                }
            with _adding:
                self._expect_new(image_ids, keys)  # another thread may have counted them meanwhile
                self._counts = self._counts.plus(len(image_ids), added, top, checks, image_ids, keys)
        if numbers is not None:
            flat = np.asarray(inputs.on_host(degenerate)).T  # [N, M]
            of_groups["num_degenerate"] = sums_in_groups(flat, numbers, num_groups, 0)
            of_groups["num_images"] = np.bincount(numbers, minlength=num_groups)
        return of_groups

    def merge(self, other: "Evaluator") -> None:
        """Adds the counts of another evaluator, which saw other images under the same settings.

        With which boxes or masks is for the caller to know: counts do not tell. They tell of which images they are,
        unless they come from a file that was saved before evaluators knew.

        Raises:
            ValueError: The other has different settings, and the message names the first difference; or it counted
                images that are counted here already, and the message names one. Nothing is added then.
        """
        if not isinstance(other, Evaluator):
            raise TypeError(f"other: expected an Evaluator, found {type(other).__name__}")
        self._expect_same("other", other._settings())
        counts = other._counts
        arrays, keys = counts.arrays(), list(counts.images)
        with _adding:
            twice = [key for key in keys if key in self._counts.images]
            if twice:
                held = (*vars(self.truth).values(), *vars(other.truth).values())
                raise ArgumentError(
                    "other",
                    f"expected images that are not counted yet, found {len(twice):,} of {len(keys):,} that are, one is "
                    f"{named(twice[0], *held)}; a sampler that gives each process its own images does not repeat any "
                    "(wsolkern.metrics.torch.UnpaddedSampler)",
                )
            try:
                self._counts = self._counts.plus(counts.num_images, arrays, counts.top, keys=keys)
            except ArgumentError as error:
                raise ArgumentError("other", error.reason) from error

    def merge_over(self, ranks: "Ranks") -> None:
        """Adds the counts of the other processes' evaluators, each of which saw other images under the same settings.

        All processes call this; afterwards the evaluator of each has the counts of all.

        Args:
            ranks: The processes, from :meth:`wsolkern.cams.Ranks.joined`.

        Raises:
            ValueError: They have different settings, and the message names a process and the first difference; or two
                of them counted one image, and the message names it.
            OSError: One of them has ended.
        """
        for rank, settings in enumerate(ranks.gather(self._settings())):
            self._expect_same(f"process {rank}", settings)
        counts = self._counts
        mine, top = {"num_images": np.array(counts.num_images), **counts.arrays()}, counts.top
        for theirs in ranks.gather(top):
            counts.expect_top(theirs)
            top = theirs if top is None else top
        if top and not counts.top:  # no image was here
            mine["num_classified"] = np.zeros(len(top), np.int64)
            if "num_correct" in mine:
                mine["num_localized"] = np.zeros((len(top), *mine["num_correct"].shape), np.int64)
        every = Images()
        for rank, packed in enumerate(ranks.gather(b"".join(sorted(counts.images)))):
            keys = [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]
            if twice := [key for key in keys if key in every]:
                name = named(twice[0], *vars(self.truth).values())
                reason = f"expected images that no other process has counted, found one that has been: {name}"
                raise ArgumentError(f"process {rank}", reason)
            every = every.plus(keys)
        added = {name: total - mine[name] for name, total in ranks.sum(mine).items()}
        with _adding:
            more = [key for key in every if key not in counts.images]
            self._counts = self._counts.plus(int(added.pop("num_images")), added, top, keys=more)

    def _expect_same(self, whose: str, settings: Mapping[str, Any]) -> None:
        """Raises ArgumentError if another evaluator's settings are not those of this one."""
        for name, mine in self._settings().items():
            if mine != settings[name]:
                reason = f"expected the same {name}, {_shorten(mine)}, found {_shorten(settings[name])}"
                raise ArgumentError(whose, reason)

    def compute(self) -> Result:
        """The metrics of what was counted so far.

        Raises:
            ValueError: No image was counted, or masks without any object pixel.
        """
        counts = self._counts
        if counts.num_images == 0:
            raise ValueError("no image was counted yet: call update first")
        arrays = counts.arrays()
        num_correct, hist = arrays.get("num_correct"), arrays.get("hist")
        num_localized, top = arrays.get("num_localized"), counts.top or ()
        rows = [
            NormalizationResult.from_counts(
                normalization,
                num_images=counts.num_images,
                num_degenerate=int(arrays["num_degenerate"][row]),
                thresholds=self.thresholds,
                iou_thresholds=self.iou_thresholds,
                num_correct=None if num_correct is None else num_correct[:, row],
                histogram=None if hist is None else hist[row],
                num_localized=None if num_localized is None else dict(zip(top, num_localized[:, :, row], strict=True)),
            )
            for row, normalization in enumerate(self.normalizations or (None,))
        ]
        accuracy = None
        if top:
            shares = formulas.box_accuracy(arrays["num_classified"], counts.num_images)
            accuracy = dict(zip(top, shares.tolist(), strict=True))
        ious = tuple(self.iou_thresholds.tolist())
        return Result(counts.num_images, self.thresholds, ious, tuple(rows), accuracy)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes settings and counts as a safetensors file, whole or not at all; boxes and masks are not in it."""
        write_whole(path, self.to_bytes())

    def moment(self) -> _Counts:
        """The counts there are now, for :meth:`to_bytes` later; they never change."""
        return self._counts

    def to_bytes(self, moment: _Counts | None = None) -> bytes:
        """The content of the file that :meth:`save` writes: of now, or of a :meth:`moment` before."""
        counts = self._counts if moment is None else moment
        header = {**_FORMAT, "num_images": counts.num_images, "size": self.size, "normalizations": None}
        if self.normalizations is not None:
            header["normalizations"] = self.protocol.names
        header |= self.protocol.box_rule.recorded()
        arrays = {"thresholds": self.thresholds, "iou_thresholds": self.iou_thresholds, **counts.arrays()}
        if counts.top:
            arrays["top"] = np.array(counts.top, np.int64)
        if len(counts.images):  # sorted: the same bytes in whatever order they were counted
            keys = np.frombuffer(b"".join(sorted(counts.images)), np.uint8)
            arrays["image_keys"] = keys.reshape(-1, KEY_BYTES)
        return sealed.seal(header, arrays)

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """Adds what :meth:`to_bytes` gave of so many other images under the same settings; ``path`` does not matter.

        Raises:
            ValueError: As from :meth:`from_bytes` and :meth:`merge`, or it counts another number of images; nothing is
                added then.
        """
        loaded = Evaluator.from_bytes(content, source="its counts")
        if loaded.num_images != num_images:
            raise ValueError(f"expected counts of {num_images} images, found {loaded.num_images}")
        self.merge(loaded)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        boxes: Boxes | None = None,
        masks: Masks | None = None,
        backend: str = "auto",
    ) -> "Evaluator":
        """The evaluator that :meth:`save` wrote; boxes and masks are needed only to go on counting.

        That they are those of the images that were counted before is for the caller to know: counts do not tell.

        Raises:
            FileNotFoundError: No such file.
            OSError: It cannot be read, or is no regular file.
            ValueError: Not a file of that kind, a damaged one, or one whose counts are not about what is passed.
        """
        return cls.from_bytes(read_regular(path), boxes=boxes, masks=masks, backend=backend, source=os.fspath(path))

    @classmethod
    def from_bytes(
        cls,
        content: bytes,
        *,
        boxes: Boxes | None = None,
        masks: Masks | None = None,
        backend: str = "auto",
        source: str = "content",
    ) -> "Evaluator":
        """The evaluator that :meth:`to_bytes` gave; as :meth:`load`.

        Raises:
            ValueError: As from :meth:`load`; ``source`` is what the message calls the content.
        """
        expected = f"{source}: expected a file written by Evaluator.save"
        try:
            header, arrays = sealed.unseal(content, _FORMAT, ("num_images", "size", "normalizations"), ("box_rule",))
        except sealed.OtherVersion as error:
            raise ValueError(f"{source}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{expected}, {error}") from error
        for name, given, counts in (("boxes", boxes, "num_correct"), ("masks", masks, "hist")):
            if given is not None and counts not in arrays:
                raise ValueError(f"{name}: {source} was counted without {name}, so none can be added now")
        try:
            size = inputs.check_size(header["size"])
            axes = [arrays.pop(name) for name in ("thresholds", "iou_thresholds")]
            if any(axis.dtype != np.float64 for axis in axes):
                raise ValueError("thresholds, iou_thresholds: expected float64, found another dtype")
            evaluator = cls(
                _as_counted(header["normalizations"], size),
                boxes={} if boxes is None and "num_correct" in arrays else boxes,
                masks={} if masks is None and "hist" in arrays else masks,
                thresholds=axes[0],
                iou_thresholds=axes[1],
                size=size,
                box_rule=BoxRule.recorded_in(header),
                backend=backend,
            )
            evaluator._restore(header["num_images"], arrays)
        except Exception as error:  # whatever content of another origin leads to
            cause = str(error)[:200] if isinstance(error, ValueError) else repr(error)[:200]
            raise ValueError(f"{expected}, found a damaged one ({cause})") from error
        return evaluator

    def __eq__(self, other: object) -> bool:
        """Same settings and same counts; where boxes and masks come from does not matter."""
        if not isinstance(other, Evaluator):
            return NotImplemented
        mine, theirs = self._counts, other._counts
        if self._settings() != other._settings() or (mine.num_images, mine.top) != (theirs.num_images, theirs.top):
            return False
        arrays = theirs.arrays()
        return all(np.array_equal(counts, arrays[name]) for name, counts in mine.arrays().items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return (
            f"Evaluator({', '.join(shorten_list(self.protocol.names))}; {' and '.join(self.truth.kinds)}; "
            f"{len(self.thresholds)} thresholds; "
            f"size {self.size[0]}x{self.size[1]}; "
            f"{'' if self.protocol.box_rule == CHOE else f'box rule {self.protocol.box_rule}; '}"
            f"{self.num_images} images)"
        )

    def _settings(self) -> dict[str, Any]:
        """What two evaluators must share so that their counts add up, comparable with ``==``."""
        return {
            **self.protocol.to_dict(),
            "normalizations": self.protocol.names,
            "size": self.size,
            "box_rule": self.protocol.box_rule,
            "kind of ground truth": list(self.truth.kinds),
        }

    def _expect_new(self, image_ids: Sequence[Any], keys: Sequence[bytes]) -> None:
        """None of the images is counted already.

        Raises:
            ImageError: One is.
        """
        images = self._counts.images
        for image_id, key in zip(image_ids, keys, strict=True):
            if key in images:
                raise ImageError(image_id, "expected it once, found it a second time")

    def _restore(self, num_images: int, arrays: dict[str, np.ndarray]) -> None:
        """Takes the counts over from a file's content."""
        if type(num_images) is not int or not 0 <= num_images <= _MOST_IMAGES:
            raise ValueError(f"num_images: expected a count, found {num_images!r}")
        keys = arrays.pop("image_keys", np.empty((0, KEY_BYTES), np.uint8))
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES or len(keys) > num_images:
            raise ValueError(f"image_keys: expected those of {num_images} images, found {describe(keys)}")
        images = Images(map(bytes, keys))
        if len(images) != len(keys):
            raise ValueError(f"image_keys: expected {len(keys)} different ones, found {len(images)}")
        expected = {name: (counts.dtype, counts.shape) for name, counts in self._counts.on_host.items()}
        top: tuple[int, ...] | None = () if num_images else None
        if "top" in arrays:
            top = tuple(_rising_top(arrays.pop("top"), num_images))
            expected["num_classified"] = np.dtype(np.int64), (len(top),)
            if "num_correct" in expected:
                expected["num_localized"] = np.dtype(np.int64), (len(top), *expected["num_correct"][1])
        if set(arrays) != set(expected):
            raise ValueError(f"expected {', '.join(expected)}, found {', '.join(arrays) or 'nothing'}")
        for name, counts in arrays.items():
            dtype, shape = expected[name]
            if counts.dtype != dtype or counts.shape != shape:
                raise ValueError(f"{name}: expected {dtype} {shape}, found {describe(counts)}")
            if counts.min() < 0 or (name != "hist" and counts.max() > num_images):
                raise ValueError(f"{name}: expected counts of {num_images} images, found other numbers")
        if "hist" in arrays:
            num_pixels = arrays["hist"].sum(axis=(1, 2), dtype=np.float64)  # without those below the first threshold
            if num_pixels.max() > num_images * self.size[0] * self.size[1]:
                raise ValueError(f"hist: expected the pixels of {num_images} images, found other numbers")
        if top:
            rising = [arrays["num_classified"]]
            if "num_localized" in arrays:
                rising.append(np.concatenate([arrays["num_localized"], arrays["num_correct"][None]]))
                rising.append(np.stack([arrays["num_localized"].max(axis=(1, 2, 3, 4)), arrays["num_classified"]]))
            if any((np.diff(each, axis=0) < 0).any() for each in rising):
                raise ValueError("num_classified, num_localized: expected more images for a larger k, found fewer")
        kept = {name: _read_only(counts.copy()) for name, counts in arrays.items()}
        self._counts = _Counts(num_images, kept, top=top, images=images)


def _in_groups(
    count: Callable[..., tuple[Any, Any]],
    cams: Any,
    truth: Any,
    numbers: np.ndarray,  # of the images' groups, [N]
    num_groups: int,
    ways: Any = None,  # of the images, how they are classified, [N]
    num_ways: int = 1,
    **how: Any,
) -> tuple[np.ndarray, Any, Any]:
    """Counts by group, [G, ...], of all images, by way where there are ways, and which maps are degenerate."""
    pairs = numbers if ways is None else numbers * num_ways + np.asarray(inputs.on_host(ways))
    there, places = np.unique(pairs, return_inverse=True)
    counts, degenerate = count(cams, truth, groups=places, num_groups=max(len(there), 1), **how)
    counts = np.asarray(inputs.on_host(counts))
    by_group, by_way = (np.zeros((num, *counts.shape[1:]), np.int64) for num in (num_groups, num_ways))
    for each, pair in zip(counts, there.tolist(), strict=False):  # without images there is one of zeros
        by_group[pair // num_ways] += each
        by_way[pair % num_ways] += each
    return by_group, by_way[0] if ways is None else by_way, degenerate


def _is_on_device(counts: Any) -> bool:
    return inputs.is_tensor(counts) and bool(counts.device.type == "cuda")


def _rising_top(values: np.ndarray, num_images: int) -> list[int]:
    """The k that a file names."""
    found: list[int] = values.tolist()
    is_rising = found == sorted({each for each in found if each >= 1})
    if values.dtype != np.int64 or not found or not is_rising or not num_images:
        raise ValueError(f"top: expected rising integers, found {describe(values)}")
    return found


def _classified(top: tuple[int, ...]) -> str:
    """How images were classified, in words."""
    return f"with a classification for k = {', '.join(map(str, top))}" if top else "without a classification"


def _read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values


def _as_counted(names: list[str] | None, size: tuple[int, int]) -> tuple[Normalization, ...] | None:
    """The normalizations that a file names.

    Raises:
        ValueError: They are no such list; or a percentile's spelling, from before it became canonical, stands for other
            pixels now: 0.29000000000000004 of 100 pixels are 29, 0.29 of them 28.
    """
    if names is None:
        return None
    if not isinstance(names, list):
        raise ValueError(f"normalizations: expected a list, found {type(names).__name__}")
    num_pixels = size[0] * size[1]
    normalizations = tuple(map(Normalization.parse, names))
    for name, each in zip(names, normalizations, strict=True):
        was = [int(num_pixels * float(percentile)) for percentile in re.findall(r":([^+]+)", name)]
        if was != [rank for rank in each.ranks(num_pixels) if rank >= 0]:
            raise ValueError(f"{name} was counted with other pixels than {each} stands for")
    return normalizations


def _shorten(value: Any) -> str:
    """A list's first entries, for a message."""
    return str(value) if not isinstance(value, list) else f"[{', '.join(shorten_list([str(v) for v in value]))}]"

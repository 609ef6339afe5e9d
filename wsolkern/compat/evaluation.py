"""The published evaluator's names, counted by wsolkern's operations.

In: score maps in [0, 1] from files or one by one, metadata. Out: MaxBoxAcc, MaxBoxAccV2, PxAP, and the counts behind.
Source: the module ``evaluation`` of Choe et al.'s evaluator, names, signatures and values; metrics: arXiv 2007.04178,
section 4.

``python -m wsolkern.compat.evaluation`` takes the flags of the published script.
"""

import argparse
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from wsolkern import ops
from wsolkern.compat.data_loaders import (
    configure_metadata,
    get_bounding_boxes,
    get_image_ids,
    get_image_sizes,
    get_mask_paths,
)
from wsolkern.compat.masks import MaskCache
from wsolkern.compat.published import all_published, equal_to_published, is_published
from wsolkern.compat.util import check_box_convention, check_scoremap_validity, t2n
from wsolkern.datasets import MapFolder
from wsolkern.datasets.masks import existing_ignore_paths, load_grey
from wsolkern.datasets.metadata import read_kind, scale_boxes
from wsolkern.datasets.tables import Problems
from wsolkern.errors import DatasetError, ImageError
from wsolkern.metrics import box_accuracy, max_box_acc, pxap
from wsolkern.ops import backends
from wsolkern.ops.constants import LEVEL_SCORES
from wsolkern.ops.inputs import check_thresholds, on_host, plain, threshold_grid

__all__ = [
    "BoxEvaluator",
    "CamDataset",
    "LocalizationEvaluator",
    "MaskEvaluator",
    "calculate_multiple_iou",
    "check_box_convention",
    "check_scoremap_validity",
    "compute_bboxes_from_scoremaps",
    "configure_metadata",
    "evaluate_wsol",
    "get_bounding_boxes",
    "get_image_ids",
    "get_image_sizes",
    "get_mask",
    "get_mask_paths",
    "load_mask_image",
    "resize_bbox",
    "t2n",
]

_RESIZE_LENGTH = 224  # pixels a side: the evaluation size of the published numbers
_BATCH = 64  # score maps that are counted together
_LEVELS = np.append(0.0, LEVEL_SCORES)  # a score of every 8-bit level
MASKS = MaskCache()  # of all evaluators


@equal_to_published
def calculate_multiple_iou(box_a: np.ndarray, box_b: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes.

    Args:
        box_a: int [A, 4], x0 y0 x1 y1, inclusive.
        box_b: int [B, 4], likewise.

    Returns:
        float64 [A, B].

    Raises:
        RuntimeError: A negative number, another shape, or a box that ends before it begins.
    """
    for boxes in (box_a, box_b):
        check_box_convention(boxes, "x0y0x1y1")
        if boxes.ndim != 2:
            raise RuntimeError(f"boxes: expected shape [num_boxes, 4], found {boxes.shape}")
    # Differences of unsigned numbers would wrap, those of narrow ones, too.
    a, b = (each if each.dtype.kind == "f" else each.astype(np.int64) for each in (box_a[:, None], box_b[None, :]))
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    intersection = np.maximum(0, sides).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2] + 1).prod(axis=-1) + (b[..., 2:] - b[..., :2] + 1).prod(axis=-1) - intersection
    return intersection / union


@equal_to_published
def resize_bbox(box: Sequence, image_size: Sequence, resize_size: Sequence) -> tuple[int, int, int, int]:
    """A box x0, y0, x1, y1 in an image of ``image_size`` (width, height), brought to ``resize_size`` (width, height).

    Raises:
        RuntimeError: A negative number, or a box that ends before it begins.
    """
    boxes = np.array([box])
    check_box_convention(boxes, "x0y0x1y1")
    width, height = resize_size
    return tuple(scale_boxes(boxes, np.array([image_size]), (height, width))[0].tolist())


@equal_to_published
def compute_bboxes_from_scoremaps(
    scoremap: np.ndarray, scoremap_threshold_list: Iterable[float], multi_contour_eval: bool = False
) -> tuple[list[np.ndarray], list[int]]:
    """The boxes that each threshold finds in a score map.

    Args:
        scoremap: float64 [H, W] in [0, 1].
        scoremap_threshold_list: Fractions of the map's maximum level, in [0, 1).
        multi_contour_eval: All contours instead of the largest one.

    Returns:
        Boxes int [n, 4] x0 y0 x1 y1 and n, a list of each over thresholds. Rows are sorted: OpenCV's order of
        contours is not kept.

    Raises:
        TypeError, ValueError: Not a score map.
    """
    check_scoremap_validity(scoremap)
    contours = "all" if multi_contour_eval else "largest"
    (boxes,) = ops.threshold_boxes(scoremap[None], list(scoremap_threshold_list), contours=contours)
    boxes = [each.astype(np.int64) for each in boxes]
    return boxes, [len(each) for each in boxes]


@equal_to_published
def load_mask_image(file_path: str, resize_size: tuple[int, int]) -> np.ndarray:
    """An image file as float32 [H, W] grey values, nearest neighbour; ``resize_size`` is (width, height) as in OpenCV.

    Raises:
        DatasetError: No such file, no image, or one that holds values but reads as empty.
    """
    width, height = resize_size
    return load_grey(file_path, (height, width)).astype(np.float32)


@equal_to_published
def get_mask(mask_root: str, mask_paths: Iterable[str], ignore_path: str | None) -> np.ndarray:
    """Ground truth of an image, uint8 [224, 224]: 1 object, 0 background, 255 ignored.

    Nothing is ignored if there is no ignore path.

    Raises:
        DatasetError: As :func:`wsolkern.datasets.load_mask`.
    """
    return MASKS.get(mask_root, mask_paths, ignore_path, (_RESIZE_LENGTH, _RESIZE_LENGTH))


class CamDataset:
    """Score maps of a folder by position: ``dataset[i]`` is (map, image id); a ``DataLoader`` takes it as it is.

    Args:
        scoremap_path: Folder of ``<image id>.npy`` or ``<image id without extension>.npy``; see
            :class:`wsolkern.datasets.MapFolder`.
        image_ids: The images.
    """

    def __init__(self, scoremap_path: str, image_ids: Sequence[str]):
        self.scoremap_path = scoremap_path
        self.image_ids = image_ids
        self._folder = MapFolder(scoremap_path, image_ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        image_id = self.image_ids[index]
        return self._folder.read(image_id), image_id

    def __len__(self) -> int:
        return len(self.image_ids)


class LocalizationEvaluator:
    """What evaluators share: settings, :meth:`accumulate` for every score map, :meth:`compute` at the end.

    Settings that no figure can come of are a ValueError here, before any score map. Functions and settings of the
    module (``_RESIZE_LENGTH``, ``calculate_multiple_iou``, ...) are looked up when they are needed: what a project has
    put in their place is what counts, and so is a method that a subclass has.

    Args:
        metadata: Paths from ``configure_metadata``.
        dataset_name: "CUB", "ILSVRC", "OpenImages" or any other name.
        split: Such as "val" or "test".
        cam_threshold_list: Fractions of a map's maximum level, T of them, not negative. No pixel is above those of 1
            and more. For masks: up to 1, not decreasing.
        iou_threshold_list: IoU thresholds in percent, in [1, 100], each once.
        mask_root: Folder that the mask paths start from.
        multi_contour_eval: All contours (MaxBoxAccV2) instead of the largest one (MaxBoxAcc).
        allow_missing_ignore: Ignore nothing where an ignore mask that is named is not there, and warn of it.
    """

    _home: dict = globals()  # where names are looked up: of the project's module in the classes that install() makes

    def __init__(
        self,
        metadata,
        dataset_name: str,
        split: str,
        cam_threshold_list: Sequence[float],
        iou_threshold_list: Sequence[int],
        mask_root: str | None,
        multi_contour_eval: bool,
        *,
        allow_missing_ignore: bool = False,
    ):
        self.metadata = metadata
        self.dataset_name = dataset_name
        self.split = split
        self.cam_threshold_list = cam_threshold_list
        self.iou_threshold_list = iou_threshold_list
        self.mask_root = mask_root
        self.multi_contour_eval = multi_contour_eval
        self.allow_missing_ignore = allow_missing_ignore
        check_thresholds([0.0 if 1 <= each < np.inf else each for each in cam_threshold_list])
        # As fractions they would be thresholds below 1 %, which every box reaches; twice, they would count twice.
        percents = list(iou_threshold_list)
        if not percents or not all(1 <= each <= 100 for each in percents) or len(set(percents)) < len(percents):
            raise ValueError(
                f"iou_threshold_list: expected different percents from 1 to 100, such as 50, found {percents}"
            )

    def accumulate(self, scoremap: np.ndarray, image_id: str) -> None:
        raise NotImplementedError

    def compute(self):
        raise NotImplementedError


class _Count:
    """An attribute that holds everything accumulated whenever it is read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, evaluator: "_BatchEvaluator", owner: type):
        if evaluator is None:
            return self
        evaluator.flush()
        return getattr(evaluator, self._name)

    def __set__(self, evaluator: "_BatchEvaluator", value) -> None:
        evaluator.flush()
        evaluator._times.clear()  # the counts are somebody else's now
        setattr(evaluator, self._name, value)


class _BatchEvaluator(LocalizationEvaluator):
    """Score maps are kept, checked, until a batch is full or somebody reads a count; then they are counted together.

    Where a project has put a function of its own in the place of one that the published evaluator counts with, each map
    is counted by that function, at once.

    Ground truth comes in pixels of the score map. For maps of another size than 224 x 224 that is a warning, because
    the published evaluator brings it to 224 x 224 whatever the map's size. As there, an image that is accumulated twice
    (padding of a sampler) counts twice, and one that is not (a loader that drops its last batch) does not count;
    :meth:`compute` warns of both.
    """

    _COUNTED_WITH: tuple[str, ...] = ()  # names of functions that a map's counts come from

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        length = self._home["_RESIZE_LENGTH"] if "_RESIZE_LENGTH" in self._home else _RESIZE_LENGTH
        self._size = (length, length)  # of ground truth
        self._maps = np.empty((0, *self._size))  # room for _BATCH of them once there is one
        self._ids: list[str] = []
        self._correct: list[bool | None] = []
        self._times: Counter[str] = Counter()  # image id -> how often it was counted
        self._warned = False

    def accumulate_batch(self, scoremaps, image_ids: Sequence[str], correct: Sequence[bool] | None = None) -> None:
        """Counts several images of one size, score maps float [N, H, W], an array or a tensor on any device.

        They are given to ``accumulate`` one by one if a project has an :meth:`accumulate` of its own, or counts with
        functions of its own. Errors are those of :meth:`accumulate`.
        """
        self.flush()
        scoremaps = plain(scoremaps, "scoremaps")
        for image_id in image_ids:
            self._check_known(image_id)
        if len(scoremaps) != len(image_ids):
            raise ValueError(f"image_ids: expected {len(scoremaps)}, one a score map, found {len(image_ids)}")
        if correct is not None and len(correct) != len(image_ids):
            raise ValueError(f"correct: expected {len(image_ids)}, one an image, found {len(correct)}")
        if not len(image_ids):
            return
        flags = [None] * len(image_ids) if correct is None else [bool(each) for each in correct]
        own = not is_published(getattr(self.accumulate, "__func__", self.accumulate))
        if own or not all_published(self._home, "check_scoremap_validity", *self._COUNTED_WITH):
            for scoremap, image_id, flag in zip(scoremaps, image_ids, flags, strict=True):
                more = {} if flag is None else {"correct": flag}
                self.accumulate(on_host(scoremap).astype(np.float64), image_id, **more)
        else:
            self._count_batch(scoremaps, image_ids, flags)

    def flush(self) -> None:
        """Counts the score maps that are still kept.

        Raises:
            ValueError, OSError: One of them cannot be counted, because its mask cannot be read; all others are.
        """
        image_ids, self._ids = self._ids, []
        correct, self._correct = self._correct, []
        if not image_ids:
            return
        maps, first = self._maps[: len(image_ids)], None
        try:
            self._count_batch(maps, image_ids, correct)
        except (OSError, ValueError):
            for place, image_id in enumerate(image_ids):
                try:
                    self._count_batch(maps[place : place + 1], [image_id], correct[place : place + 1])
                except (OSError, ValueError) as error:
                    first = first or (image_id, error)
            if first is None:
                return
            image_id, error = first
            kind, reason = OSError if isinstance(error, OSError) else DatasetError, str(error)
            if isinstance(error, ImageError):
                reason = error.reason
            raise kind(f"image {image_id!r}: {reason}") from error

    def _keep(self, scoremap: np.ndarray, image_id: str, correct: bool | None = None) -> None:
        """Takes one map that is checked; counts once there are enough."""
        if self._maps.shape[1:] != scoremap.shape or not len(self._maps):
            self.flush()
            self._maps = np.empty((_BATCH, *scoremap.shape))
        self._maps[len(self._ids)] = scoremap
        self._ids.append(image_id)
        self._correct.append(correct)
        if len(self._ids) == _BATCH:
            self.flush()

    def _count_batch(self, scoremaps, image_ids: Sequence[str], correct: Sequence[bool | None]) -> None:
        if scoremaps.shape[1:] != self._size and not self._warned:
            self._warned = True
            warnings.warn(
                f"score maps of {scoremaps.shape[1]} x {scoremaps.shape[2]} pixels (H x W) are compared with ground "
                f"truth at their own size; the published evaluator keeps ground truth at {self._size[0]} x "
                f"{self._size[1]}",
                stacklevel=3,
            )
        try:
            self._count(scoremaps, image_ids, correct)
            self._times.update(image_ids)
        except ValueError:
            for scoremap, image_id in zip(scoremaps, image_ids, strict=True):
                try:
                    check_scoremap_validity(on_host(scoremap).astype(np.float64))
                except ValueError as error:
                    raise ImageError(image_id, str(error)) from None
            raise

    def _warn_of_counts(self, image_ids: Collection[str]) -> None:
        """Says how the images that were accumulated since counts were set differ from those of the split."""
        twice = [image_id for image_id, times in self._times.items() if times > 1]
        if twice:
            warnings.warn(
                f"{len(twice):,} images were accumulated more than once and count as often, the first is {twice[0]!r} "
                f"({self._times[twice[0]]} times): the performance is not that of {len(self._times):,} images",
                stacklevel=3,
            )
        distinct = dict.fromkeys(image_ids)
        if 0 < len(self._times) < len(distinct):
            absent = next(each for each in distinct if each not in self._times)
            warnings.warn(
                f"{len(distinct) - len(self._times):,} of {len(distinct):,} images were not accumulated, the first "
                f"is {absent!r}: the performance is that of the others",
                stacklevel=3,
            )

    def _check_known(self, image_id: str) -> None:
        raise NotImplementedError

    def _count(self, scoremaps: np.ndarray, image_ids: Sequence[str], correct: Sequence[bool | None]) -> None:
        raise NotImplementedError


class BoxEvaluator(_BatchEvaluator):
    """Box accuracy: the share of images in which a box found by a threshold reaches the IoU thresholds.

    ``num_correct`` is {IoU threshold in percent: float64 [T]}, the images that hit; ``cnt`` the images counted;
    ``num_correct_top1`` the images that hit and are classified correctly, of the ``num_judged`` accumulated with
    ``correct``.
    ``original_bboxes``, ``image_sizes`` and ``gt_bboxes`` (boxes at 224 x 224) are dictionaries by image id.

    Args:
        As for :class:`LocalizationEvaluator`.

    Raises:
        DatasetError: The metadata have something wrong with them.
        RuntimeError: A box is negative, or ends before it begins; a warning if its image is not in image_ids.txt.
    """

    num_correct = _Count()
    num_correct_top1 = _Count()
    num_judged = _Count()
    cnt = _Count()
    _COUNTED_WITH = ("compute_bboxes_from_scoremaps", "calculate_multiple_iou", "check_box_convention")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        home = self._home
        self.resize_length = self._size[0]
        self.cnt = 0
        self.num_correct = {iou: np.zeros(len(self.cam_threshold_list)) for iou in self.iou_threshold_list}
        self.num_correct_top1 = {iou: np.zeros(len(self.cam_threshold_list)) for iou in self.iou_threshold_list}
        self.num_judged = 0
        self.image_ids = home.get("get_image_ids", get_image_ids)(self.metadata)
        self.original_bboxes = home.get("get_bounding_boxes", get_bounding_boxes)(self.metadata)
        self.image_sizes = home.get("get_image_sizes", get_image_sizes)(self.metadata)
        missing = [each for each in self.image_ids if each not in self.original_bboxes or each not in self.image_sizes]
        problems = Problems()
        problems.add_all(len(missing), (f"{each!r} has no box or no image size" for each in missing))
        problems.raise_if_any(self.metadata["image_ids"])
        self._warn_of_unused_boxes()
        self.gt_bboxes = self._published_bboxes = self._load_resized_boxes(self.original_bboxes)

    def _load_resized_boxes(self, original_bboxes: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
        """Image id -> its boxes in pixels of maps of ``resize_length`` a side."""
        size = (self.resize_length, self.resize_length)
        distinct = list(dict.fromkeys(self.image_ids))
        if not all_published(self._home, "resize_bbox", "check_box_convention"):
            resize = self._home["resize_bbox"]
            return {
                each: [resize(box, self.image_sizes[each], size) for box in original_bboxes[each]] for each in distinct
            }
        counts = [len(original_bboxes[each]) for each in distinct]
        rows = np.array([box for each in distinct for box in original_bboxes[each]])
        check_box_convention(rows, "x0y0x1y1")
        sizes = np.repeat([self.image_sizes[each] for each in distinct], counts, axis=0)
        resized = iter(map(tuple, scale_boxes(rows, sizes, size).tolist()))
        return {each: list(islice(resized, count)) for each, count in zip(distinct, counts, strict=True)}

    @equal_to_published
    def accumulate(self, scoremap: np.ndarray, image_id: str, correct: bool | None = None) -> None:
        """Counts one image.

        Args:
            scoremap: float64 [H, W] in [0, 1].
            image_id: An id of the split.
            correct: Whether the image is classified correctly, for Top-1 localization (:meth:`compute_top1`); for Top-5
                whether its class is among the first five. None: not known.

        Raises:
            TypeError, ValueError: Not a score map.
            KeyError: No such image.
        """
        correct = None if correct is None else bool(correct)
        if not all_published(self._home, *self._COUNTED_WITH):
            self.flush()
            self._add_hits(self._hits(scoremap, image_id)[None], [correct])
            self._times.update([image_id])
            return
        self._home.get("check_scoremap_validity", check_scoremap_validity)(scoremap)
        self._check_known(image_id)
        if not all_published(self._home, "check_scoremap_validity"):  # other dtypes and ranges have other levels
            scoremap = _LEVELS[(scoremap * 255).astype(np.uint8)]
        self._keep(scoremap, image_id, correct)

    def compute(self) -> list[float]:
        """MaxBoxAcc for each IoU threshold, in percent: the box accuracy at the threshold that suits it best.

        Raises:
            RuntimeError: No score map was accumulated.
        """
        return self._maxima(self.num_correct)

    def compute_top1(self) -> list[float]:
        """The same of images that are localized and classified correctly; all must be accumulated with ``correct``.

        Raises:
            RuntimeError: No score map was accumulated, or one without ``correct``.
        """
        counts = self.num_correct_top1
        if self.num_judged != self.cnt:
            raise RuntimeError(
                f"correct: expected it for all {self.cnt:,} images that were accumulated, found it for "
                f"{self.num_judged:,}"
            )
        return self._maxima(counts)

    def _maxima(self, counts: dict[int, np.ndarray]) -> list[float]:
        if self.cnt == 0:
            raise RuntimeError("no score map was accumulated")
        self._warn_of_counts(self.image_ids)
        return [max_box_acc(box_accuracy(counts[iou], self.cnt))[()] for iou in self.iou_threshold_list]

    def _warn_of_unused_boxes(self) -> None:
        unused = self.original_bboxes.keys() - set(self.image_ids)
        for image_id in sorted(unused):
            try:
                check_box_convention(np.array(self.original_bboxes[image_id]), "x0y0x1y1")
            except RuntimeError as error:
                warnings.warn(f"{image_id!r}, which is not in image_ids.txt: {error}", stacklevel=4)
                return

    def _check_known(self, image_id: str) -> None:
        if image_id not in self.gt_bboxes:
            raise KeyError(image_id)

    def _hits(self, scoremap: np.ndarray, image_id: str) -> np.ndarray:
        """bool [D, T] of one map, by the functions that the project's module has."""
        boxes, counts = self._home["compute_bboxes_from_scoremaps"](
            scoremap=scoremap,
            scoremap_threshold_list=self.cam_threshold_list,
            multi_contour_eval=self.multi_contour_eval,
        )
        truth = np.array(self.gt_bboxes[image_id])
        ious = self._home["calculate_multiple_iou"](np.concatenate(boxes, axis=0), truth).max(axis=1)
        best = np.maximum.reduceat(ious, np.cumsum([0, *counts[:-1]]))
        return np.stack([best >= iou / 100 for iou in self.iou_threshold_list])

    def _count(self, scoremaps: np.ndarray, image_ids: Sequence[str], correct: Sequence[bool | None]) -> None:
        boxes = self._truth(image_ids, scoremaps.shape[1:])
        fractions = np.array(self.cam_threshold_list, np.float64)
        deltas = [iou / 100 for iou in self.iou_threshold_list]
        low = fractions < 1
        # Above a threshold of 1 there is no pixel, and the box of no pixel is 0 0 0 0.
        none = [calculate_multiple_iou(np.zeros((1, 4), np.int64), each).max() for each in ([] if low.all() else boxes)]
        hits = np.zeros((len(image_ids), len(deltas), len(fractions)), bool)
        if not low.all():
            hits[..., ~low] = (np.array(none)[:, None] >= deltas)[..., None]
        settings = {"contours": "all" if self.multi_contour_eval else "largest"}
        if not low.any():
            self._add_hits(hits, correct)
        elif low.all() and all(each is None for each in correct):
            counts, _ = ops.count_box_hits(scoremaps, boxes, None, fractions, deltas, **settings)
            self._add(self._num_correct, on_host(counts[0]))
            self._cnt += len(image_ids)
        else:
            hits[..., low] = on_host(ops.box_hits(scoremaps, boxes, None, fractions[low], deltas, **settings)[0])
            self._add_hits(hits, correct)

    def _truth(self, image_ids: Sequence[str], size: tuple[int, int]) -> list[np.ndarray]:
        """Boxes of some images in pixels of their maps; as the project says where it has resized them itself."""
        if size == self._size or self.gt_bboxes is not self._published_bboxes or self._has_own_boxes():
            return [np.array(self.gt_bboxes[each]) for each in image_ids]
        return [
            scale_boxes(np.array(self.original_bboxes[each]), np.array(self.image_sizes[each]), size)
            for each in image_ids
        ]

    def _has_own_boxes(self) -> bool:
        own = type(self)._load_resized_boxes is not BoxEvaluator._load_resized_boxes
        return own or not all_published(self._home, "resize_bbox")

    def _add_hits(self, hits: np.ndarray, correct: Sequence[bool | None]) -> None:
        """Hits bool [N, D, T] of some images."""
        self._add(self._num_correct, hits.sum(axis=0))
        self._add(self._num_correct_top1, hits[np.array([each is True for each in correct])].sum(axis=0))
        self._num_judged += sum(each is not None for each in correct)
        self._cnt += len(hits)

    def _add(self, counts: dict[int, np.ndarray], more: np.ndarray) -> None:
        for iou, count in zip(self.iou_threshold_list, more, strict=True):
            counts[iou] += count


class MaskEvaluator(_BatchEvaluator):
    """PxAP: how well scores tell the pixels of objects from the others.

    ``gt_true_score_hist`` and ``gt_false_score_hist``, float64 [T + 2], count object and background pixels by score;
    the bins are [t0, t1), ..., [t last, 1), [1, 2), [2, 3]. ``mask_paths`` and ``ignore_paths`` are dictionaries by
    image id. Masks are read once: see :class:`wsolkern.compat.masks.MaskCache`.

    Args:
        As for :class:`LocalizationEvaluator`.

    Raises:
        ValueError: The data set is CUB or ILSVRC, which have no masks.
        DatasetError: The metadata have something wrong with them.
    """

    gt_true_score_hist = _Count()
    gt_false_score_hist = _Count()
    _COUNTED_WITH = ("get_mask", "load_mask_image")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.dataset_name in ("CUB", "ILSVRC"):
            raise ValueError(f"dataset_name: expected a data set with masks, found {self.dataset_name!r}")
        below_one = np.nextafter(1, 0)
        check_thresholds([below_one if each == 1 else each for each in self.cam_threshold_list], sorted_=True)
        self.mask_paths, self.ignore_paths = self._home.get("get_mask_paths", get_mask_paths)(self.metadata)
        if self.allow_missing_ignore:
            self.ignore_paths = existing_ignore_paths(self.ignore_paths, self.mask_root)
        self.num_bins = len(self.cam_threshold_list) + 2
        self.threshold_list_right_edge = np.append(self.cam_threshold_list, [1.0, 2.0, 3.0])
        self.gt_true_score_hist = np.zeros(self.num_bins)
        self.gt_false_score_hist = np.zeros(self.num_bins)

    @equal_to_published
    def accumulate(self, scoremap: np.ndarray, image_id: str) -> None:
        """Counts one image.

        Args:
            scoremap: float64 [H, W] in [0, 1].
            image_id: An id of the split.

        Raises:
            TypeError, ValueError: Not a score map.
            KeyError: No such image.
        """
        self._home.get("check_scoremap_validity", check_scoremap_validity)(scoremap)
        self._check_known(image_id)
        ours = all_published(self._home, *self._COUNTED_WITH)
        if ours and not all_published(self._home, "check_scoremap_validity"):
            ours = bool(((scoremap >= 0) & (scoremap <= 1)).all())
        if ours:
            self._keep(scoremap, image_id)
            return
        paths = self.mask_paths[image_id], self.ignore_paths[image_id]
        mask = self._home.get("get_mask", get_mask)(self.mask_root, *paths)
        self.flush()
        self._gt_true_score_hist += np.histogram(scoremap[mask == 1], bins=self.threshold_list_right_edge)[0]
        self._gt_false_score_hist += np.histogram(scoremap[mask == 0], bins=self.threshold_list_right_edge)[0]
        self._times.update([image_id])

    def compute(self) -> float:
        """PxAP in percent; prints ``Mask AUC on split <split>: <PxAP>``.

        Raises:
            RuntimeError: No object pixel in all masks together.
        """
        histogram = np.stack([self.gt_true_score_hist, self.gt_false_score_hist])
        if histogram[0].sum() == 0:
            raise RuntimeError("masks: expected at least one object pixel in all images together, found none")
        self._warn_of_counts(self.mask_paths)
        auc = pxap(histogram)
        print(f"Mask AUC on split {self.split}: {auc}")
        return auc

    def _check_known(self, image_id: str) -> None:
        if image_id not in self.mask_paths:
            raise KeyError(image_id)

    def _count(self, scoremaps: np.ndarray, image_ids: Sequence[str], correct: Sequence[bool | None]) -> None:
        wanted = [
            (self.mask_root, self.mask_paths[each], self.ignore_paths[each], scoremaps.shape[1:]) for each in image_ids
        ]
        masks = [MASKS.kept(*each) for each in wanted]
        unread = [place for place, mask in enumerate(masks) if mask is None]
        if unread:
            with ThreadPoolExecutor(backends.num_threads()) as pool:
                for place, mask in zip(unread, pool.map(lambda place: MASKS.get(*wanted[place]), unread), strict=True):
                    masks[place] = mask
        thresholds = np.array(self.cam_threshold_list, np.float64)
        ones = np.count_nonzero(thresholds == 1)  # the last ones: bins [1, 1), which nothing is in
        low = thresholds[: len(thresholds) - ones]
        counts, _ = ops.count_pixels(scoremaps, np.stack(masks), None, low if len(low) else [0.0])
        counts = on_host(counts[0])
        if not len(low):
            counts = counts[:, 1:]
        counts = np.insert(counts, [len(low)] * ones, 0, axis=1)
        self._gt_true_score_hist += counts[0]
        self._gt_false_score_hist += counts[1]


def evaluation_kind(dataset_name: str, metadata) -> str:
    """Ground truth of a data set: "boxes" of CUB and ILSVRC, "masks" of OpenImages, else what localization.txt has.

    Raises:
        DatasetError: Another name, and localization.txt cannot be read.
    """
    kind = {"CUB": "boxes", "ILSVRC": "boxes", "OpenImages": "masks"}.get(dataset_name)
    if kind is None:
        path, problems = Path(metadata["localization"]), Problems()
        kind = read_kind(path, problems)
        problems.raise_if_any(path.parent)
    return kind


def make_evaluator(home: dict, allow_missing_ignore: bool, *, dataset_name: str, metadata, **settings):
    """The evaluator of a data set, of the class that a module has, with the published arguments."""
    name = "BoxEvaluator" if evaluation_kind(dataset_name, metadata) == "boxes" else "MaskEvaluator"
    if allow_missing_ignore:  # which the project's own class does not know
        settings["allow_missing_ignore"] = True
    return home.get(name, globals()[name])(metadata=metadata, dataset_name=dataset_name, **settings)


def accumulate_all(evaluator, scoremaps, image_ids: Sequence[str]) -> None:
    """Gives a batch of score maps [N, H, W] to an evaluator, ours or a project's."""
    if isinstance(evaluator, _BatchEvaluator):
        evaluator.accumulate_batch(scoremaps, image_ids)
    else:
        for scoremap, image_id in zip(on_host(scoremaps), image_ids, strict=True):
            evaluator.accumulate(scoremap.astype(np.float64), image_id)


def evaluate_wsol(
    scoremap_root: str,
    metadata_root: str,
    mask_root: str,
    dataset_name: str,
    split: str,
    multi_contour_eval: bool,
    multi_iou_eval: bool,
    iou_threshold_list: Sequence[int],
    cam_curve_interval: float = 0.001,
    *,
    allow_missing_ignore: bool = False,
) -> float:
    """Evaluates the score maps of a folder, prints ``localization: <performance>`` and returns it.

    Args:
        scoremap_root: Folder of ``<image id>.npy`` or ``<image id without extension>.npy``, [H, W] in [0, 1] each.
        metadata_root: Metadata are read from ``<metadata_root>/<dataset_name>/<split>``.
        mask_root: Masks are read from ``<mask_root>/<dataset_name>``; not used for boxes.
        dataset_name: "CUB", "ILSVRC", "OpenImages" or the name of any folder of metadata.
        split: "val" (train-fullsup), "test" or any other.
        multi_contour_eval: All contours instead of the largest one.
        multi_iou_eval: The mean over IoU thresholds instead of the value at 50.
        iou_threshold_list: IoU thresholds in percent, in [1, 100], each once.
        cam_curve_interval: Step between thresholds, 0.00001 at least.
        allow_missing_ignore: Ignore nothing where an ignore mask that is named is not there, and warn of it.

    Returns:
        Percent: box accuracy at the best threshold, of each IoU threshold or of 50; PxAP for masks.

    Raises:
        DatasetError: Something is wrong with the metadata, a mask or a score map's file; the message names them.
        ValueError: A map that is no score map, thresholds that are none, or no 50 among the IoU thresholds where it is
            needed.
    """
    return evaluate_folder(**locals(), home=globals())


def evaluate_folder(
    scoremap_root,
    metadata_root,
    mask_root,
    dataset_name,
    split,
    multi_contour_eval,
    multi_iou_eval,
    iou_threshold_list,
    cam_curve_interval=0.001,
    *,
    home: dict,
    allow_missing_ignore=False,
) -> float:
    """:func:`evaluate_wsol` with the evaluators of a module."""  # fmt: skip
    metadata = configure_metadata(os.path.join(metadata_root, dataset_name, split))
    averaged = multi_iou_eval or evaluation_kind(dataset_name, metadata) == "masks"
    evaluator = make_evaluator(
        home,
        allow_missing_ignore,
        metadata=metadata,
        dataset_name=dataset_name,
        split=split,
        cam_threshold_list=list(threshold_grid(cam_curve_interval, "cam_curve_interval")),
        iou_threshold_list=iou_threshold_list,
        mask_root=os.path.join(mask_root, dataset_name),
        multi_contour_eval=multi_contour_eval,
    )
    if not averaged and 50 not in iou_threshold_list:
        raise ValueError(
            f"iou_threshold_list: expected 50 in it, or multi_iou_eval to average them, found {iou_threshold_list}"
        )
    times = Counter(get_image_ids(metadata))
    folder = MapFolder(scoremap_root, list(times))
    for image_ids, scoremaps in folder.batches(_BATCH):
        accumulate_all(evaluator, scoremaps, image_ids)
        again = [place for place, image_id in enumerate(image_ids) for _ in range(times[image_id] - 1)]
        accumulate_all(evaluator, scoremaps[again], [image_ids[place] for place in again])
    problems = Problems()
    problems.add_all(len(folder.problems), (f"{image_id!r}: {why}" for image_id, why in folder.problems.items()))
    problems.raise_if_any(scoremap_root)
    performance = evaluator.compute()
    performance = np.average(performance) if averaged else performance[iou_threshold_list.index(50)]
    print(f"localization: {performance}")
    return performance


def _str2bool(text: str) -> bool:
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: evaluates a folder of score maps with the flags of the published script."""
    parser = argparse.ArgumentParser(
        prog="python -m wsolkern.compat.evaluation", description="Evaluate a folder of score maps."
    )
    parser.add_argument("--scoremap_root", default="train_log/scoremaps/", help="folder of <image id>.npy")
    parser.add_argument("--metadata_root", default="metadata/", help="folder of <dataset_name>/<split>/*.txt")
    parser.add_argument("--mask_root", default="dataset/", help="folder of <dataset_name>/<mask path>, for masks")
    parser.add_argument("--dataset_name", required=True, help="CUB, ILSVRC, OpenImages or any other folder's name")
    parser.add_argument("--split", required=True, help="val (train-fullsup), test or any other folder's name")
    parser.add_argument("--cam_curve_interval", type=float, default=0.01, help="step between thresholds")
    switch = {"type": _str2bool, "nargs": "?", "const": True, "default": False, "metavar": "BOOL"}
    parser.add_argument("--multi_contour_eval", **switch, help="all contours instead of the largest one")
    parser.add_argument("--multi_iou_eval", **switch, help="mean over IoU thresholds instead of the value at 50")
    parser.add_argument("--iou_threshold_list", type=int, nargs="+", default=[30, 50, 70], help="percent")
    parser.add_argument(
        "--allow_missing_ignore", **switch, help="ignore nothing where an ignore mask that is named is not there"
    )
    options = vars(parser.parse_args(arguments))
    try:
        evaluate_wsol(**options)
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n".encode(errors="backslashreplace").decode())


if __name__ == "__main__":
    main()

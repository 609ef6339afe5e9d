"""A look at every image of a split: one pass, of which a report takes all that figures of the whole split do not say.

In: maps, and the thresholds that were chosen for all of them. Out: arrays over images; counts by group; what the
bootstrap draws from.
Source: Choe et al., arXiv 2007.04178, section 4; groups and errors: docs/per-image.md.

Boxes are found once: groups, bootstrap, curves and errors come from the same IoUs. IoUs at all thresholds are kept in
float32, [M, N, T], to be drawn; beyond 64 MB they are in a temporary file that the array maps. What else is kept of an
image is its map as it is stored and some dozen numbers a normalization.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from wsolkern.errors import ImageError, MapError
from wsolkern.metrics import GroundTruth, Protocol, Result, formulas
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.breakdown import CATEGORIES, ErrorRule
from wsolkern.metrics.grouping import GroupCounts
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import check_batch
from wsolkern.ops import affine, box_ious, inputs, localize, normalize, pixel_histograms, resize, threshold_boxes
from wsolkern.ops.boxes import ious_reference
from wsolkern.studies.passes import Unsaved

_IN_MEMORY_BYTES = 64 << 20  # of curves; what is larger is in a temporary file
_WAYS = ("largest", "all")  # the leading axis of IoUs

Groups: TypeAlias = "tuple[Mapping[str, int], Sequence[str], tuple[int, int] | None]"
"""Image id -> number of its group; the groups' names; bounds of sizes."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What each image of a run gives under M normalizations, at the thresholds chosen for all images together."""

    image_ids: tuple[str, ...]
    """The N images that were looked at, in the order of the split."""
    maps: list[np.ndarray]
    """Their maps as they are stored, float32 or float64 [h, w]; none for masks."""
    extremes: np.ndarray
    """Minimum and maximum of each map at the evaluation size, before normalization, float64 [2, N]."""
    chosen: np.ndarray
    """Which threshold was chosen for each IoU threshold, int64 [M, D]; for masks [M, 1]."""
    ious: np.ndarray
    """IoU at the chosen thresholds, float64 [M, N, D]: of the box with the nearest ground truth, or of the mask."""
    best_ious: np.ndarray
    """Best IoU over all thresholds, float64 [M, N]."""
    degenerate: np.ndarray
    """Whether the normalization leaves nothing of the map, bool [M, N]."""
    boxes: np.ndarray | None = None
    """The boxes, int32 [M, N, D, 4], x0 y0 x1 y1 in pixels of the resized map; 0 0 0 0 where there is none."""
    num_contours: np.ndarray | None = None
    """Contours at the threshold that was chosen for the middle IoU threshold, int64 [M, N]."""
    curves: np.ndarray | None = None
    """IoU of the nearest box at every threshold, float32 [M, N, T]: to be drawn, never compared."""
    errors: np.ndarray | None = None
    """Places in :data:`wsolkern.metrics.breakdown.CATEGORIES` at the middle IoU threshold, int8 [M, N]."""

    def num_errors(self) -> list[dict[str, int]]:
        """Images by category, a normalization each; for boxes only."""
        assert self.errors is not None
        counts = [np.bincount(each, minlength=len(CATEGORIES)).tolist() for each in self.errors]
        return [dict(zip(CATEGORIES, each, strict=True)) for each in counts]


class Look(Unsaved):
    """What fills a :class:`Looked`, for :func:`wsolkern.studies.passes.run_pass`.

    Args:
        protocol: How maps are evaluated, by the box rule "choe".
        truth: Boxes or masks, one of the two.
        image_ids: The split's images, distinct.
        contours: "all", whose nearest box counts, or "largest".
        groups: Name of a grouping -> what :func:`wsolkern.studies.grouping.groups_of` gives.
        labels: Image id -> class, where that is known.
        predicted: Image id -> predicted class, where that is known.

    Raises:
        ArgumentError: Counts of so many groups need too much memory.
    """

    def __init__(
        self,
        protocol: Protocol,
        truth: GroundTruth,
        image_ids: Sequence[str],
        *,
        contours: str,
        groups: Mapping[str, Groups],
        labels: Mapping[str, int],
        predicted: Mapping[str, int],
    ):
        self.protocol, self.truth = protocol, truth
        self.groups = {name: GroupCounts(protocol, truth, *each[:2]) for name, each in groups.items()}
        """Counts by group."""
        kind = "boxes" if truth.boxes is not None else "masks"
        metrics = [each for each in Metric if each.truth == kind and protocol.normalizations is not None]
        self.bootstraps = {each: BootstrapEvaluator(protocol, truth, each, image_ids) for each in metrics}
        """What the bootstrap draws from, by metric; none for score maps."""
        self.predicted = predicted
        self._way, self._labels = _WAYS.index(contours), labels
        self._ids, self._places = tuple(image_ids), {each: place for place, each in enumerate(image_ids)}
        self._seen = np.zeros(len(image_ids), bool)
        self._middle = len(protocol.iou_thresholds) // 2
        self._rule = ErrorRule(right=float(protocol.iou_thresholds[self._middle]))

    def begin(self, result: Result) -> None:
        """Takes the thresholds that are the best ones of a result, whose rows are the protocol's normalizations."""
        grid = self.protocol.thresholds.tolist()
        num_rows, num_images, num_thresholds = len(result), len(self._ids), len(grid)
        if self.truth.boxes is None:
            best: list[Any] = [{0.5: row.peak_iou_threshold} for row in result]
        else:
            best = [row.best_threshold_v2 if self._way else row.best_threshold for row in result]
        self._chosen = np.array([[grid.index(each) for each in some.values()] for some in best], np.int64)
        shape, num_deltas = (num_rows, num_images), self._chosen.shape[1]
        self._arrays: dict[str, np.ndarray] = {
            "extremes": np.zeros((2, num_images)),
            "ious": np.zeros((*shape, num_deltas)),
            "best_ious": np.zeros(shape),
            "degenerate": np.zeros(shape, bool),
        }
        self._maps: list[np.ndarray] = []
        if self.truth.boxes is not None:
            self._arrays |= {
                "boxes": np.zeros((*shape, num_deltas, 4), np.int32),
                "num_contours": np.zeros(shape, np.int64),
                "curves": _roomy((*shape, num_thresholds)),
                "errors": np.zeros(shape, np.int8),
            }
            self._maps = [np.empty((0, 0))] * num_images

    @property
    def num_images(self) -> int:
        """Images that were looked at."""
        return int(self._seen.sum())

    def update(self, cams: Any, image_ids: Sequence[str]) -> None:
        """Looks at a batch, as :meth:`wsolkern.metrics.Evaluator.update` counts one."""
        raw, ids = check_batch(self.protocol, self.truth, cams, image_ids)
        normalizations, size = self.protocol.normalizations, self.protocol.size
        maps: Any = np.asarray(inputs.on_host(raw), np.float64)
        degenerate = np.zeros((len(self.protocol.names), len(ids)), bool)
        if normalizations is not None:
            maps = inputs.on_host(resize(raw, size))
            found: Any = affine(maps, normalizations)
            degenerate = (found[..., 1] == 0).T
        try:
            look = self._boxes if self.truth.boxes is not None else self._masks
            each_map, known, values = look(maps, ids)
        except MapError as error:
            raise ImageError(ids[error.place], str(error)) from error
        values |= {"degenerate": degenerate, "extremes": np.stack([maps.min(axis=(1, 2)), maps.max(axis=(1, 2))])}
        packed = {metric: each.pack_known(known[metric]) for metric, each in self.bootstraps.items()}
        # From here on nothing fails, so that a batch is counted whole or not at all.
        for metric, rows in packed.items():
            self.bootstraps[metric].add(rows, ids)
        for counts in self.groups.values():
            counts.add_known(each_map, degenerate, ids)
        places = [self._places[each] for each in ids]
        for name, value in values.items():
            self._arrays[name][:, places] = value
        if self._maps:
            host = np.asarray(inputs.on_host(raw))
            kept = host.dtype if host.dtype == np.float64 else np.float32
            for row, place in enumerate(places):
                self._maps[place] = host[row].astype(kept)
        self._seen[places] = True

    def _boxes(self, maps: np.ndarray, ids: list[Any]) -> tuple[np.ndarray, dict[Metric, np.ndarray], dict[str, Any]]:
        """Hits [2, M, N, D, T], IoUs by metric, and the arrays' values."""
        truth = [np.asarray(inputs.on_host(each)) for each in self.truth.boxes_of(ids)]
        protocol, grid, middle = self.protocol, self.protocol.thresholds, self._middle
        how: dict[str, Any] = {"size": protocol.size}
        ious: Any = box_ious(maps, truth, protocol.normalizations, grid, contours="both", **how)  # [2, M, N, T]
        mine = ious[self._way]
        at = grid[self._chosen]  # [M, D]
        found = localize(maps, protocol.normalizations, at, **how)
        boxes, num_contours = np.asarray(found.boxes), np.asarray(found.num_contours, np.int64)[:, :, middle]
        if self._way:
            boxes = np.stack([self._nearest(maps, m, thresholds, truth) for m, thresholds in enumerate(at)])
        chosen_ious = np.take_along_axis(mine, self._chosen[:, None], axis=2)
        wrong = np.array([self._is_misclassified(each) for each in ids])
        errors = self._rule.categories(boxes[:, :, middle], num_contours > 0, chosen_ious[..., middle], truth, wrong)
        hits = ious[:, :, :, None] >= protocol.iou_thresholds[:, None]
        return hits, {Metric.MAX_BOX_ACC: ious[0], Metric.MAX_BOX_ACC_V2: ious[1]}, {
            "ious": chosen_ious,
            "best_ious": mine.max(axis=2),
            "boxes": boxes,
            "num_contours": num_contours,
            "curves": mine,
            "errors": errors,
        }  # fmt: skip

    def _nearest(self, maps: np.ndarray, row: int, thresholds: np.ndarray, truth: Sequence[np.ndarray]) -> np.ndarray:
        """Of all boxes at some thresholds the one nearest to a ground-truth box, int32 [N, D, 4]."""
        of = self.protocol.normalizations
        scores: Any = maps if of is None else normalize(maps, of[row])
        nearest = np.zeros((len(maps), len(thresholds), 4), np.int32)
        for n, per_threshold in enumerate(threshold_boxes(scores, thresholds)):
            every = np.concatenate([np.asarray(each) for each in per_threshold])
            ious, start = ious_reference(every, truth[n]).max(axis=1), 0
            for d, each in enumerate(per_threshold):
                stop = start + len(each)
                nearest[n, d] = every[start + ious[start:stop].argmax()]
                start = stop
        return nearest

    def _is_misclassified(self, image_id: str) -> bool:
        label, predicted = self._labels.get(image_id, -1), self.predicted.get(image_id, -1)
        return label >= 0 and predicted >= 0 and label != predicted

    def _masks(self, maps: np.ndarray, ids: list[Any]) -> tuple[np.ndarray, dict[Metric, np.ndarray], dict[str, Any]]:
        """The same with histograms [M, N, 2, T + 2] in place of hits."""
        protocol, masks = self.protocol, self.truth.masks_of(ids, self.protocol.size)
        counted: Any = pixel_histograms(maps, masks, protocol.normalizations, protocol.thresholds, size=protocol.size)
        ious = formulas.pixel_iou(*formulas.pixel_overlap(counted))  # [M, N, T]
        return counted, {Metric.PXAP: counted}, {
            "ious": np.take_along_axis(ious, self._chosen[:, None], axis=2),
            "best_ious": ious.max(axis=2),
        }  # fmt: skip

    def looked(self) -> Looked:
        """What there is of the images that were looked at; afterwards there is nothing here."""
        rows = np.flatnonzero(self._seen)
        arrays = {}
        for name, each in self._arrays.items():
            if len(rows) < len(self._ids):
                for start in range(0, len(rows), 64):  # a copy of all curves might not fit
                    some = rows[start : start + 64]
                    each[:, start : start + len(some)] = each[:, some]
            arrays[name] = each[:, : len(rows)]
        del self._arrays
        maps = [self._maps[row] for row in rows] if self._maps else []
        return Looked(tuple(self._ids[row] for row in rows), maps, chosen=self._chosen, **arrays)


def _roomy(shape: tuple[int, ...]) -> np.ndarray:
    """An array of float32 zeros, which is a mapped temporary file if it is large; the file goes with it."""
    if 4 * int(np.prod(shape)) <= _IN_MEMORY_BYTES:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)

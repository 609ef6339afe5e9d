"""What each image gives: its box or mask at a chosen threshold, IoUs, hits, what is wrong, where the map points.

In: batches of CAMs or score maps with their image ids, and the thresholds that images are looked at. Out: rows, one an
image and normalization; summaries of all.
Source: Choe et al., arXiv 2007.04178, section 4 (hits); docs/per-image.md has all definitions and their sources.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsolkern.box_rule import CHOE
from wsolkern.datasets.metadata import original_boxes
from wsolkern.errors import ArgumentError, ImageError, MapError
from wsolkern.metrics import formulas, pointing
from wsolkern.metrics.breakdown import CATEGORIES, ErrorRule
from wsolkern.metrics.exact import ExactSums
from wsolkern.metrics.metric import usual_iou_threshold
from wsolkern.metrics.protocol import GroundTruth, Protocol, check_batch
from wsolkern.metrics.result import SCORE_MAPS, NormalizationResult
from wsolkern.normalization import Normalization
from wsolkern.ops import affine, box_ious, inputs, localize, pixel_histograms, resize
from wsolkern.ops.energies import BESIDE, NOT_COUNTED, ON_OBJECT, energies
from wsolkern.ops.rules import check_num_thresholds, inclusive_corners, rule_resize

CONTOURS = ("largest", "all")
"""The axis of what there is for the largest contour (MaxBoxAcc) and for all contours (MaxBoxAccV2)."""


@dataclass(frozen=True)
class Chosen:
    """The thresholds at which images are looked at under one normalization, fractions of a map's maximum level."""

    threshold: float
    """Of the largest contour's box, or of the mask."""
    largest: Mapping[float, float] = field(default_factory=dict)
    """Of the hits of the largest contour, by IoU threshold; empty for masks."""
    every: Mapping[float, float] = field(default_factory=dict)
    """Of the hits of all contours, by IoU threshold; empty for masks."""

    @classmethod
    def best(cls, row: NormalizationResult) -> "Chosen":
        """The best ones of the images that a row of a result is about.

        That of the box is where MaxBoxAcc at IoU 0.5 is reached (or at the first IoU threshold, without 0.5), that of
        the mask where the pixel IoU over all images has its peak.
        """
        if row.best_threshold is not None and row.best_threshold_v2 is not None:
            usual = usual_iou_threshold(tuple(row.best_threshold))
            return cls(row.best_threshold[usual], row.best_threshold, row.best_threshold_v2)
        assert row.peak_iou_threshold is not None
        return cls(row.peak_iou_threshold)

    @classmethod
    def elsewhere(cls, thresholds: Mapping[float, float] | float, iou_thresholds: Sequence[float]) -> "Chosen":
        """One for all, or one by IoU threshold, as of a :class:`wsolkern.metrics.selection.Choice`.

        Raises:
            ArgumentError: There is none for one of the IoU thresholds, and more than one for others; or none at all.
        """
        if not isinstance(thresholds, Mapping):
            return cls(thresholds, dict.fromkeys(iou_thresholds, thresholds), dict.fromkeys(iou_thresholds, thresholds))
        if len(thresholds) == 1:
            return cls.elsewhere(next(iter(thresholds.values())), iou_thresholds)
        absent = [each for each in iou_thresholds if each not in thresholds]
        if absent or not thresholds:
            raise ArgumentError(
                "at", f"expected a threshold for each IoU threshold, or one for all, found none for {absent}"
            )
        by_iou = {each: thresholds[each] for each in iou_thresholds}
        return cls(by_iou[usual_iou_threshold(tuple(by_iou))], by_iou, by_iou)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them, IoU thresholds as strings."""
        by_iou = {"max_box_acc": self.largest, "max_box_acc_v2": self.every}
        return {"threshold": self.threshold} | {
            name: {str(iou): each for iou, each in some.items()} for name, some in by_iou.items() if some
        }


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Some rows, one an image and normalization: all normalizations of an image follow each other."""

    columns: dict[str, np.ndarray]
    """Arrays [R] by name: str, int, float or bool. Where nothing is known, -1 in integers and NaN in floats."""

    def __len__(self) -> int:
        return len(self.columns["image_id"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Row by row, as dictionaries of Python values."""
        for values in zip(*(column.tolist() for column in self.columns.values()), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns as lists, as JSON can hold them: None where nothing is known."""
        return {name: known(column) for name, column in self.columns.items()}

    @classmethod
    def joined(cls, parts: Sequence["ImageRows"]) -> "ImageRows":
        """The rows of all parts, at least one."""
        names = parts[0].columns
        return cls({name: np.concatenate([part.columns[name] for part in parts]) for name in names})


def known(column: np.ndarray) -> list[Any]:
    """A column's values, None where nothing is known."""
    unknown = np.isnan(column) if column.dtype.kind == "f" else column == -1 if column.dtype.kind == "i" else None
    if unknown is None or not unknown.any():
        values: list[Any] = column.tolist()
        return values
    return [None if missing else value for value, missing in zip(column.tolist(), unknown.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class ImageSummary:
    """All images under one normalization. Fractions; means are those of exact sums, rounded once."""

    normalization: Normalization | None
    """None where maps came normalized already."""
    chosen: Chosen
    num_images: int
    mean_iou: float
    """Mean over images of the IoU at the chosen threshold: of the largest contour's box, or of the mask."""
    mean_best_iou: dict[str, float]
    """Mean over images of the best IoU that any threshold reaches, by contours: "largest" and "all", or "mask"."""
    mean_iou_curve: dict[str, np.ndarray]
    """Mean IoU over images at each threshold, float64 [T], by contours."""
    peak_mean_iou: dict[str, float]
    """The curve's maximum, by contours: the mean IoU at the best single threshold."""
    peak_mean_iou_threshold: dict[str, float]
    """Where it is first reached."""
    energy: float
    """Energy pointing game: mean over images of the part of the score map's sum that lies on the object."""
    errors: dict[str, int] | None = None
    """Images by category, :data:`wsolkern.metrics.breakdown.CATEGORIES`; their sum is all images. None for masks."""
    iou_curve: np.ndarray | None = None
    """Masks: pixel IoU of all images together at each threshold, sum of intersections over sum of unions, [T]."""
    peak_iou: float | None = None
    """Its maximum: the peak IoU."""
    peak_iou_threshold: float | None = None
    """Where it is first reached."""

    @property
    def name(self) -> str:
        """The normalization's string; "score maps" where maps came normalized already."""
        return SCORE_MAPS if self.normalization is None else str(self.normalization)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Fields as JSON can hold them; the curves only if ``curves``."""
        found: dict[str, Any] = {"normalization": self.name, "chosen": self.chosen.to_dict()}
        for name, value in vars(self).items():
            if name in found or value is None or (name.endswith("curve") and not curves):
                continue
            if isinstance(value, dict):
                value = {key: np.asarray(each).tolist() for key, each in value.items()}
            found[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return found


@dataclass(frozen=True)
class PointingGame:
    """How many maps are largest on the object; no normalization changes that."""

    tolerance: int
    """The margin around the object, in pixels of the resized map."""
    num_images: int
    num_hits: int
    accuracy: float
    """Hits over images, a fraction."""
    mean_over_classes: float | None
    """The mean over classes of their accuracies, as Zhang et al. report it; None without class labels."""

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them."""
        return dict(vars(self))


class PerImageEvaluator:
    """Fed with batches of CAMs, it hands on the rows of each and keeps sums only.

    Args:
        protocol: How maps are evaluated.
        truth: Boxes or masks, one of the two.
        chosen: The thresholds of each normalization, in the protocol's order.
        on_rows: Called with the rows of each batch.
        class_labels: Image id -> class; an image without has -1.
        predicted: Image id -> class that was predicted, as ``class_labels``; no image is a classification error whose
            label or predicted class is not known.
        image_sizes: Image id -> width and height in pixels, for boxes in pixels of the original image.
        tolerance: Margin of the pointing game, in pixels of the resized map.
        errors: What tells the categories of errors apart.
        backend: "auto", "reference", "cpu" or "cuda".

    Raises:
        ArgumentError: There are both boxes and masks; not as many thresholds as normalizations; thresholds of masks
            that do not begin with 0 or decrease; or a tolerance below 0.
    """

    def __init__(
        self,
        protocol: Protocol,
        truth: GroundTruth,
        chosen: Sequence[Chosen],
        on_rows: Callable[[ImageRows], object],
        *,
        class_labels: Mapping[Any, int] | None = None,
        predicted: Mapping[Any, int] | None = None,
        image_sizes: Mapping[Any, tuple[int, int]] | None = None,
        tolerance: int = 0,
        errors: ErrorRule | None = None,
        backend: str = "auto",
    ):
        if len(truth.kinds) == 2:
            raise ArgumentError("truth", "expected boxes or masks, found both")
        if len(chosen) != len(protocol.names):
            raise ArgumentError("chosen", f"expected one for each of {len(protocol.names)} rows, found {len(chosen)}")
        if tolerance < 0:
            raise ArgumentError("tolerance", f"expected pixels, 0 or more, found {tolerance}")
        if truth.masks is not None and inputs.check_thresholds(protocol.thresholds, sorted_=True)[0] != 0:
            raise ArgumentError("thresholds", f"expected 0 as the first for masks, found {protocol.thresholds[0]}")
        self.protocol, self.truth, self.chosen, self.backend = protocol, truth, tuple(chosen), backend
        self.tolerance, self.errors = tolerance, errors or ErrorRule()
        self.num_images = 0
        self._on_rows = on_rows
        self._labels, self._predicted = class_labels or {}, predicted or {}
        self._image_sizes = image_sizes or {}
        self._contours = CONTOURS if truth.boxes is not None else ("mask",)
        num_rows, num_thresholds = len(protocol.names), len(protocol.thresholds)
        self._curve = ExactSums((len(self._contours), num_rows, num_thresholds))
        self._best = ExactSums((len(self._contours), num_rows))
        self._at_chosen, self._energy = ExactSums((num_rows,)), ExactSums((num_rows,))
        self._exact = {"curve": self._curve, "best": self._best, "at_chosen": self._at_chosen, "energy": self._energy}
        # These arrays, as the digits of exact sums, are never changed: others take their places.
        self._categories = np.zeros((num_rows, len(CATEGORIES)), np.int64)
        self._overlap = np.zeros((2, num_rows, num_thresholds), np.int64)
        self._pointed: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._thresholds, self._places = self._looked_at()

    def _looked_at(self) -> tuple[np.ndarray, np.ndarray]:
        """The protocol's thresholds with the chosen ones, [T'], and the places of the latter, [M, 1 + 2 D]."""
        grid = self.protocol.thresholds
        deltas = self.protocol.iou_thresholds.tolist() if self.truth.boxes is not None else []
        wanted = [
            [each.threshold, *(each.largest[iou] for iou in deltas), *(each.every[iou] for iou in deltas)]
            for each in self.chosen
        ]
        known_places = {float(threshold): place for place, threshold in reversed(list(enumerate(grid)))}
        if len(known_places) < len(grid):
            raise ArgumentError("thresholds", "expected each once, found some twice")
        for threshold in [each for some in wanted for each in some]:
            known_places.setdefault(float(threshold), len(known_places))
        places = np.array([[known_places[float(each)] for each in some] for some in wanted])
        thresholds = np.array(sorted(known_places, key=lambda each: known_places[each]))
        if self.truth.masks is not None and len(thresholds) > len(grid):
            order = np.argsort(thresholds)  # histograms want them in order
            thresholds, places = thresholds[order], np.argsort(order)[places]
        check_num_thresholds(self.protocol.box_rule, thresholds)
        return inputs.check_thresholds(thresholds), places

    def update(self, cams: Any, image_ids: Sequence[Any]) -> None:
        """The rows of a batch, and its sums.

        Args:
            cams: As for :meth:`wsolkern.metrics.Evaluator.update`.
            image_ids: N distinct ids.

        Raises:
            ValueError: As from there; nothing of the batch is added or handed on then.
        """
        cams, image_ids = check_batch(self.protocol, self.truth, cams, image_ids)
        size, rule = self.protocol.size, self.protocol.box_rule
        maps: Any
        if self.protocol.normalizations is None:
            maps = np.asarray(inputs.on_host(cams), np.float64)
        elif rule == CHOE:
            maps = inputs.on_host(resize(cams, size, backend=self.backend))
        else:
            maps = rule_resize(inputs.check_maps(cams, "cams"), size, rule)
        try:
            rows, add = self._boxes(maps, image_ids) if self.truth.boxes is not None else self._masks(maps, image_ids)
        except MapError as error:
            raise ImageError(image_ids[error.place], str(error)) from error
        add()
        self.num_images += len(image_ids)
        self._on_rows(rows)

    def _boxes(self, maps: np.ndarray, image_ids: list[Any]) -> tuple[ImageRows, Callable[[], None]]:
        truth = [np.asarray(inputs.on_host(each)) for each in self.truth.boxes_of(image_ids)]
        rule = self.protocol.box_rule
        how: dict[str, Any] = {"size": self.protocol.size, "rule": rule, "backend": self.backend}
        normalizations, grid = self.protocol.normalizations, self.protocol.thresholds
        ious: Any = box_ious(maps, truth, normalizations, self._thresholds, contours="both", **how)  # [2, M, N, T']
        found = localize(maps, normalizations, self._thresholds[self._places[:, :1]], **how)
        boxes, num_contours, degenerate = (np.asarray(each) for each in found)
        boxes, num_contours = boxes[:, :, 0], num_contours[:, :, 0]
        num_deltas = len(self.protocol.iou_thresholds)
        at = [np.take_along_axis(ious[way], self._places[:, None], axis=2) for way in (0, 0, 1)]
        iou = at[0][..., 0]  # [M, N]
        deltas = self.protocol.iou_thresholds
        hits = {
            "hit": rule.reaches(iou[..., None], deltas),
            "max_box_acc": rule.reaches(at[1][..., 1 : 1 + num_deltas], deltas),
            "max_box_acc_v2": rule.reaches(at[2][..., 1 + num_deltas :], deltas),
        }
        objects = pointing.painted(truth, self.protocol.size)
        common, points, energy, labels, predicted, _ = self._common(maps, image_ids, objects, None)
        misclassified = (labels != predicted) & (labels >= 0) & (predicted >= 0)
        categories = self.errors.categories(boxes, num_contours > 0, iou, truth, misclassified, rule)
        over_grid = ious[..., : len(grid)]
        best, where = over_grid.max(axis=-1), over_grid.argmax(axis=-1)  # [2, M, N]
        pointed: Any = pointing.near_boxes(points, truth, self.tolerance)
        in_image = self._in_image(boxes, num_contours > 0, image_ids)
        columns: dict[str, Any] = common | {
            "num_boxes": np.array([len(each) for each in truth]),
            "threshold": np.array([each.threshold for each in self.chosen])[:, None],
            **{name: boxes[..., place] for place, name in enumerate(("x0", "y0", "x1", "y1"))},
            **{f"image_{name}": in_image[..., place] for place, name in enumerate(("x0", "y0", "x1", "y1"))},
            "iou": iou,
            **{
                f"{name}@{delta:g}": some[..., place]
                for name, some in hits.items()
                for place, delta in enumerate(deltas.tolist())
            },
            "best_iou": best[0],
            "best_iou_threshold": grid[where[0]],
            "best_iou_v2": best[1],
            "best_iou_v2_threshold": grid[where[1]],
            "num_contours": num_contours,
            "degenerate": degenerate,
            "error": np.array(CATEGORIES, object)[categories],
            "point_x": points[:, 0],
            "point_y": points[:, 1],
            "pointing": pointed,
            "energy": energy,
        }

        def add() -> None:
            self._curve.add(over_grid, axis=2)
            self._best.add(best, axis=2)
            self._at_chosen.add(iou, axis=1)
            self._energy.add(energy, axis=1)
            self._point(labels, pointed)
            found_here = np.empty_like(self._categories)
            for category in range(len(CATEGORIES)):
                found_here[:, category] = (categories == category).sum(axis=1)
            self._categories = self._categories + found_here

        return self._rows(columns, len(image_ids)), add

    def _masks(self, maps: np.ndarray, image_ids: list[Any]) -> tuple[ImageRows, Callable[[], None]]:
        masks = self.truth.masks_of(image_ids, self.protocol.size)
        how: dict[str, Any] = {"size": self.protocol.size, "backend": self.backend}
        normalizations, grid = self.protocol.normalizations, self.protocol.thresholds
        histograms: Any = pixel_histograms(maps, masks, normalizations, self._thresholds, **how)
        shared, union = formulas.pixel_overlap(histograms)  # [M, N, T'] each
        num_predicted = histograms[..., ::-1].cumsum(axis=-1)[..., ::-1].sum(axis=2)[..., :-2]
        here = np.broadcast_to(self._places[:, :1, None], (*shared.shape[:2], 1))
        at = [np.take_along_axis(each, here, axis=2)[..., 0] for each in (shared, union, num_predicted)]
        iou = formulas.pixel_iou(at[0], at[1])
        in_grid = np.searchsorted(self._thresholds, grid)
        over_grid = formulas.pixel_iou(shared, union)[..., in_grid]
        best, where = over_grid.max(axis=-1), over_grid.argmax(axis=-1)
        objects = masks == 1
        common, points, energy, labels, _, degenerate = self._common(maps, image_ids, objects, masks != 255)
        pointed: Any = pointing.near_pixels(points, objects, self.tolerance)
        columns: dict[str, Any] = common | {
            "threshold": np.array([each.threshold for each in self.chosen])[:, None],
            "object_pixels": objects.sum(axis=(1, 2)),
            "predicted_pixels": at[2],
            "intersection": at[0],
            "union": at[1],
            "iou": iou,
            "best_iou": best,
            "best_iou_threshold": grid[where],
            "degenerate": degenerate,
            "point_x": points[:, 0],
            "point_y": points[:, 1],
            "pointing": pointed,
            "energy": energy,
        }

        def add() -> None:
            self._curve.add(over_grid[None], axis=2)
            self._best.add(best[None], axis=2)
            self._at_chosen.add(iou, axis=1)
            self._energy.add(energy, axis=1)
            self._point(labels, pointed)
            self._overlap = self._overlap + np.stack(
                [shared[..., in_grid].sum(axis=1), union[..., in_grid].sum(axis=1)]
            )

        return self._rows(columns, len(image_ids)), add

    def _common(
        self, maps: np.ndarray, image_ids: list[Any], objects: np.ndarray, counted: np.ndarray | None
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first columns, where maps point, int64 [N, 2], energies, float64 [M, N], labels and predicted classes,
        int64 [N] each, and which maps are degenerate, bool [M, N]."""
        points: Any = pointing.maxima(maps)[0]
        divisors: Any = np.broadcast_to([0.0, 1.0], (len(maps), 1, 2))  # score maps are what they are
        if self.protocol.normalizations is not None:
            divisors = np.asarray(affine(maps, self.protocol.normalizations, backend=self.backend))
        parts = np.where(objects, np.uint8(ON_OBJECT), np.uint8(BESIDE))
        if counted is not None:
            parts[~counted] = NOT_COUNTED
        energy = energies(maps, divisors, parts, backend=self.backend)
        labels, predicted = (
            np.array([classes.get(each, -1) for each in image_ids], np.int64)
            for classes in (self._labels, self._predicted)
        )
        num_pixels = self.protocol.size[0] * self.protocol.size[1]
        return (
            {
                "image_id": np.array([*map(str, image_ids)], object),
                "label": labels,
                "predicted": predicted,
                "normalization": np.array(self.protocol.names, object)[:, None],
                "object_area": objects.sum(axis=(1, 2)) / num_pixels,
            },
            points,
            energy,
            labels,
            predicted,
            (divisors[..., 1] == 0).T,
        )

    def _in_image(self, boxes: np.ndarray, found: np.ndarray, image_ids: list[Any]) -> np.ndarray:
        """Boxes [M, N, 4] in pixels of their images; 0 0 0 0 where none was found, -1 where sizes are not known."""
        known_sizes = np.array([each in self._image_sizes for each in image_ids])
        sizes = np.array([self._image_sizes.get(each, (1, 1)) for each in image_ids])
        all_sizes = np.broadcast_to(sizes, (len(boxes), *sizes.shape)).reshape(-1, 2)
        corners = inclusive_corners(boxes, self.protocol.size, self.protocol.box_rule)
        in_image = original_boxes(corners.reshape(-1, 4), all_sizes, self.protocol.size).reshape(boxes.shape)
        in_image = np.where(found[..., None], in_image, 0)
        return np.where(known_sizes[:, None], in_image, -1)

    def _point(self, labels: np.ndarray, pointed: np.ndarray) -> None:
        self._seen.update(labels.tolist())
        self._pointed.update(labels[pointed].tolist())

    def _rows(self, columns: Mapping[str, Any], num_images: int) -> ImageRows:
        """Columns [M, N], or what stands for that, as rows: image by image."""
        shape = len(self.chosen), num_images
        return ImageRows({name: np.broadcast_to(values, shape).T.ravel() for name, values in columns.items()})

    def about(self) -> dict[str, Any]:
        """What sums that add up have in common, as JSON can hold it."""
        return {
            **self.protocol.to_dict(),
            "kind of ground truth": list(self.truth.kinds),
            "thresholds of images": [each.to_dict() for each in self.chosen],
            "tolerance": self.tolerance,
            "error rule": vars(self.errors),
        }

    def sums(self) -> dict[str, np.ndarray]:
        """All sums of now, which never change: int64 arrays by name; those by class are [classes, 3], others add up."""
        labels = sorted(self._seen)
        return {
            "num_images": np.array([self.num_images], np.int64),
            "by_class": np.array([[k, self._seen[k], self._pointed[k]] for k in labels], np.int64).reshape(-1, 3),
            **self._added(),
        }

    def add_sums(self, sums: Mapping[str, np.ndarray]) -> None:
        """Adds what :meth:`sums` gave of other images, under the same settings."""
        for name, each in self._exact.items():
            each.digits = each.digits + sums[name]
        self._categories = self._categories + sums["categories"]
        self._overlap = self._overlap + sums["overlap"]
        for label, seen, pointed in sums["by_class"].tolist():
            self._seen[label] += seen
            self._pointed[label] += pointed
        self.num_images += int(sums["num_images"][0])

    def _added(self) -> dict[str, np.ndarray]:
        digits = {name: each.digits for name, each in self._exact.items()}
        return {**digits, "categories": self._categories, "overlap": self._overlap}

    def compute(self) -> tuple[ImageSummary, ...]:
        """The summary of each normalization.

        Raises:
            ValueError: There was no image.
        """
        if not self.num_images:
            raise ValueError("no image was counted yet: call update first")
        curve, best = self._curve.means(self.num_images), self._best.means(self.num_images)
        at_chosen, energy = self._at_chosen.means(self.num_images), self._energy.means(self.num_images)
        thresholds = self.protocol.thresholds
        found = []
        for m, normalization in enumerate(self.protocol.normalizations or (None,)):
            by_contours = dict(enumerate(self._contours))
            masks: dict[str, Any] = {"errors": dict(zip(CATEGORIES, self._categories[m].tolist(), strict=True))}
            if self.truth.masks is not None:
                iou_curve = formulas.pixel_iou(self._overlap[0, m], self._overlap[1, m])
                masks = {
                    "iou_curve": iou_curve,
                    "peak_iou": float(iou_curve.max()),
                    "peak_iou_threshold": float(thresholds[iou_curve.argmax()]),
                }
            found.append(
                ImageSummary(
                    normalization,
                    self.chosen[m],
                    self.num_images,
                    float(at_chosen[m]),
                    {name: float(best[c, m]) for c, name in by_contours.items()},
                    {name: curve[c, m] for c, name in by_contours.items()},
                    {name: float(curve[c, m].max()) for c, name in by_contours.items()},
                    {name: float(thresholds[curve[c, m].argmax()]) for c, name in by_contours.items()},
                    float(energy[m]),
                    **masks,
                )
            )
        return tuple(found)

    def pointing_game(self) -> PointingGame:
        """The pointing game of the images so far, at least one."""
        num_hits = self._pointed.total()
        classes = [each for each in self._seen if each >= 0]
        shares = np.array([[self._pointed[each] / self._seen[each]] for each in sorted(classes)]).reshape(-1, 1)
        mean = None
        if len(shares):
            sums = ExactSums((1,))
            sums.add(shares, axis=0)
            mean = float(sums.means(len(shares))[0])
        return PointingGame(self.tolerance, self.num_images, num_hits, num_hits / self.num_images, mean)

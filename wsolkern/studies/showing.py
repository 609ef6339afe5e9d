"""Show: the score maps of some images of a split, with what the chosen thresholds make of them.

In: maps, a split, normalizations; which images: named, the worst, the best, or those that two normalizations differ on.
Out: a Shown: score maps, boxes or masks and IoUs of each image, and its pixels if there is a folder of images.
Source: figure 3 of Kim et al., arXiv 2107.13221; the boxes are those of MaxBoxAccV2, Choe et al., arXiv 2007.04178.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import open_maps
from wsolkern.datasets import Metadata
from wsolkern.datasets.thumbnails import small_image
from wsolkern.errors import ArgumentError
from wsolkern.metrics import formulas
from wsolkern.metrics.localization import At, check_at
from wsolkern.metrics.per_image import Chosen
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.result import SCORE_MAPS
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS, box_ious, inputs, normalize, threshold_boxes
from wsolkern.ops.boxes import ious_reference
from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import check_kind, evaluate
from wsolkern.studies.images import chosen_thresholds
from wsolkern.studies.passes import NothingCounted, Progress, Unsaved, about_maps, alone, run_pass
from wsolkern.studies.picking import Agreement, pick, wanted_images

NUM_SHOWN = 8  # images, where nothing else is said
_LONGEST = 512  # pixels of an image's longer side that are kept to be drawn


@dataclass(frozen=True)
class Found:
    """The box that counts at one threshold: of all contours the one nearest to a ground-truth box."""

    iou_threshold: float
    """The IoU threshold that the threshold was chosen for, a fraction."""
    threshold: float
    """Fraction of the map's maximum level."""
    box: tuple[int, int, int, int]
    """x0 y0 x1 y1 in pixels of the evaluated map."""
    iou: float
    """With the nearest ground-truth box."""

    @property
    def is_hit(self) -> bool:
        """Whether that is enough."""
        return self.iou >= self.iou_threshold


@dataclass(frozen=True, eq=False)
class View:
    """An image under one normalization."""

    name: str
    """The normalization's string; "score maps" where maps came normalized already."""
    score_map: np.ndarray
    """float64 [H, W] in [0, 1]."""
    found: tuple[Found, ...] = ()
    """The boxes, one an IoU threshold; none for masks."""
    threshold: float | None = None
    """Masks: the score from which on a pixel is predicted."""
    iou: float | None = None
    """Masks: pixel IoU there, without the ignored pixels."""


@dataclass(frozen=True, eq=False)
class Localized:
    """An image to draw."""

    title: str
    """What stands below it; its id."""
    pixels: np.ndarray | None
    """RGB, uint8 [height, width, 3]; None where there is no image."""
    views: tuple[View, ...]
    """One a normalization."""
    boxes: np.ndarray | None = None
    """Ground truth, int [n, 4], x0 y0 x1 y1 in pixels of the evaluated map, inclusive."""
    mask: np.ndarray | None = None
    """Ground truth, uint8 [H, W]: 1 object, 0 background, 255 ignored."""
    aspect: float | None = None
    """Width over height of the original image, where that is known."""
    group: str = ""
    """Why it is shown: what it has in common with its neighbours."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Images of a split, in the order that they are drawn."""

    maps: str
    """Where they are."""
    split: Metadata
    size: tuple[int, int]
    """Height and width of the evaluation, in pixels."""
    at: str
    """Where the thresholds are from, in words."""
    order: str
    """Which images these are, in words."""
    images: tuple[Localized, ...]
    num_images: int
    """Images of the split that could be looked at."""
    agreement: Agreement | None
    """Of the two normalizations whose difference is shown."""
    problems: Mapping[str, str]
    """Image id -> why it was left out."""
    warnings: tuple[str, ...]
    seconds: float

    @property
    def caption(self) -> str:
        """What a picture says above: the maps, and where the thresholds are from."""
        return f"{os.path.basename(os.path.normpath(self.maps))}; thresholds: {self.at}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but score maps and pixels."""
        import wsolkern

        def view_of(view: View) -> dict[str, Any]:
            about: dict[str, Any] = {"normalization": view.name}
            if view.iou is not None:
                return about | {"threshold": view.threshold, "iou": view.iou}
            return about | {"found": [vars(each) | {"box": list(each.box)} for each in view.found]}

        return {
            "wsolkern": wsolkern.__version__,
            "maps": self.maps,
            "metadata": self.split.folder,
            "size": list(self.size),
            "at": self.at,
            "order": self.order,
            "agreement": self.agreement and vars(self.agreement),
            "num_images": self.num_images,
            "images": [
                {"image_id": each.title, "group": each.group, "normalizations": [view_of(v) for v in each.views]}
                for each in self.images
            ],
            "missing": dict(self.problems),
            "seconds": round(self.seconds, 3),
        }


def show(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    images: str | os.PathLike[str] | None = None,
    image_ids: Sequence[str] = (),
    worst: int = 0,
    best: int = 0,
    between: "tuple[str | Normalization, str | Normalization] | None" = None,
    num: int = NUM_SHOWN,
    at: At = "best",
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Shown:
    """What the thresholds make of some images of a split: boxes (or a mask) of each score map, with their IoU.

    Of boxes each IoU threshold has its own threshold and box, the one that MaxBoxAccV2 counts. Without ``image_ids``,
    ``worst``, ``best`` and ``between`` there are ``num`` images at even distances in the split.

    Args:
        maps: As for :func:`wsolkern.studies.evaluate`.
        split: See there; it has boxes or masks.
        normalizations: See there; ``between`` is in place of it.
        images: Folder that image ids are paths below; None: score maps alone.
        image_ids: Which images, in this order.
        worst: So many with the lowest IoU under the first normalization: the mean of the boxes' over IoU thresholds,
            or the mask's. Of equal ones the first of the split.
        best: The same with the highest.
        between: Two normalizations: up to ``num`` images each that the first localizes and the second does not, and
            the other way round, those with the largest difference of IoU first. An image is localized if the box for
            the IoU threshold 0.5 (or the only one, or the first) reaches it; a mask, if its IoU reaches 0.5.
        num: How many images, as said above.
        at: As for :func:`wsolkern.studies.per_image`: the best thresholds of the whole split, or others.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, 1 to 3 of them.
        device: "cpu" or "cuda": where the pass that finds the best thresholds evaluates maps.
        progress: Called with "evaluating" (for the best thresholds) and "looking", the number of images done and of
            all.

    Raises:
        ArgumentError: An argument is not as above, or an image is not in the split.
        NothingCounted: No map could be read.
        DatasetError: Maps and split do not belong together, or an image to be shown cannot be read.
        Interrupted: SIGINT or SIGTERM came.

    Source: Kim et al., arXiv 2107.13221, figure 3; Choe et al., arXiv 2007.04178, section 4.
    """
    started = time.perf_counter()
    wanted = wanted_images(split, image_ids, worst, best, between, num)
    if between is not None:
        normalizations = parse_all([*between])
        if len(normalizations) != 2 or normalizations[0] == normalizations[1]:
            raise ArgumentError("between", f"expected two different normalizations, found {between}")
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    evaluator = evaluator_for(split, normalizations, mask_root=mask_root, **how)
    protocol, truth = evaluator.protocol, evaluator.truth
    if len(protocol.iou_thresholds) > 3:
        raise ArgumentError("iou_thresholds", f"expected at most 3 to draw, found {len(protocol.iou_thresholds)}")
    if images is not None:
        _pixels(images, wanted[0], split)  # a wrong folder is said before the work
    at = check_at(at)
    if isinstance(at, str):
        where = "best of this split"
        given: Any = dict(mask_root=mask_root, nwc=nwc, device=device, with_logits=False, progress=progress)
        chosen = chosen_thresholds(
            evaluate(maps, split, protocol.normalizations, **given, **how).result, protocol, split.kind
        )
    else:
        chosen = chosen_thresholds(at, protocol, split.kind)
        where = f"fixed at {at:g}" if isinstance(at, float) else f"chosen on other images ({at.metric})"
    are_scores = protocol.normalizations is None
    about, store = about_maps(maps, "score maps" if are_scores else "CAMs", nwc)
    if store is not None:
        check_kind(maps, store.manifest.content, are_scores)
        store.check_split(split)
    opened = maps if store is None else store
    lookup = _Lookup(protocol, truth, chosen)
    counting = SplitCount(
        lookup,
        wanted,
        fingerprint(split, mask_root, about),
        mask_files=mask_files_of(split, mask_root),
    )
    with alone(None, {os.fspath(maps): split}, mask_root):
        looked = run_pass(
            counting,
            lambda remaining: open_maps(opened, remaining, siblings=split.image_ids, nwc=nwc),
            "looking",
            state=None,
            device=None,
            progress=progress,
            scaled=None if are_scores else os.fspath(maps),
        )
    problems, warnings = dict(looked.problems), list(looked.warnings)
    if not lookup.image_ids:
        raise NothingCounted(maps, problems, len(split.image_ids))
    names, ious = lookup.in_order(wanted)
    groups, agreement = pick(names, ious, protocol, lookup.of_boxes, image_ids, worst, best, between, num)
    picked = [each for _, ids in groups for each in ids]
    source = open_maps(opened, picked, siblings=split.image_ids, nwc=nwc)
    cams = {name: cam for names, batch in source.batches() for name, cam in zip(names, batch, strict=True)}
    drawn = []
    for group, ids in groups:
        for image_id in ids:
            pixels = None if images is None else _pixels(images, image_id, split)
            ground = truth_of(truth, image_id, protocol.size)
            views = views_of(cams[image_id], *ground, protocol, chosen)
            width, height = split.image_sizes.get(image_id, (None, None)) if split.image_sizes else (None, None)
            aspect = None if width is None or height is None else width / height
            drawn.append(Localized(image_id, pixels, views, *ground, aspect, group))
    order = "; ".join(dict.fromkeys(group for group, _ in groups))
    return Shown(
        os.fspath(maps), split, protocol.size, where, order, tuple(drawn), len(lookup.image_ids), agreement,
        problems, tuple(warnings), time.perf_counter() - started,
    )  # fmt: skip


def views_of(
    cam: np.ndarray,
    boxes: np.ndarray | None,
    mask: np.ndarray | None,
    protocol: Protocol,
    chosen: Sequence[Chosen],
) -> tuple[View, ...]:
    """One map under all normalizations of a protocol, each at its chosen thresholds.

    Args:
        cam: [h, w]; a score map [H, W] if the protocol has no normalizations.
        boxes: Ground truth, int [n, 4] in pixels of the evaluated map, or None.
        mask: Ground truth, uint8 [H, W] of 0, 1 and 255, or None.
        protocol: How it is evaluated.
        chosen: Thresholds, one each.
    """
    views = []
    for normalization, name, each in zip(
        protocol.normalizations or (None,), protocol.names or (SCORE_MAPS,), chosen, strict=True
    ):
        scores = np.asarray(cam, np.float64)
        if normalization is not None:
            scores = np.asarray(inputs.on_host(normalize(scores, normalization, protocol.size)))
        if boxes is not None:
            views.append(View(name, scores, tuple(boxes_that_count(scores, boxes, each.every))))
        else:
            assert mask is not None
            views.append(View(name, scores, (), each.threshold, float(_mask_ious(scores[None], mask[None], each)[0])))
    return tuple(views)


def boxes_that_count(score_map: np.ndarray, truth: np.ndarray, thresholds: Mapping[float, float]) -> list[Found]:
    """Of all contours at each threshold, the one nearest to a ground-truth box.

    Args:
        score_map: float64 [H, W] in [0, 1].
        truth: int [n, 4], x0 y0 x1 y1 in its pixels, inclusive.
        thresholds: IoU threshold -> threshold.
    """
    found = threshold_boxes(score_map[None], np.array(list(thresholds.values())))[0]
    counted = []
    for (iou_threshold, threshold), boxes in zip(thresholds.items(), found, strict=True):
        ious = ious_reference(boxes, truth).max(axis=1)
        nearest = int(ious.argmax())
        counted.append(Found(iou_threshold, threshold, tuple(boxes[nearest].tolist()), float(ious[nearest])))
    return counted


def truth_of(truth: GroundTruth, image_id: str, size: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Boxes and mask of an image, of which one is None."""
    if truth.boxes is not None:
        return np.asarray(inputs.on_host(truth.boxes_of([image_id])[0])), None
    return None, np.asarray(truth.masks_of([image_id], size)[0])


def _mask_ious(scores: np.ndarray, masks: np.ndarray, chosen: Chosen) -> np.ndarray:
    """Pixel IoU of each mask [N, H, W] at the threshold, float64 [N]; ignored pixels are in neither."""
    above = (scores >= chosen.threshold) & (masks != 255)
    objects = masks == 1
    shared, union = (np.count_nonzero(each, axis=(1, 2)) for each in (above & objects, above | objects))
    return np.asarray(formulas.pixel_iou(shared, union))


class _Lookup(Unsaved):
    """Keeps the IoU of every image under every normalization; for :func:`run_pass`."""

    def __init__(self, protocol: Protocol, truth: GroundTruth, chosen: Sequence[Chosen]):
        self._protocol, self._truth, self._chosen = protocol, truth, chosen
        self.of_boxes = truth.boxes is not None
        self.image_ids: list[str] = []
        self._parts: list[np.ndarray] = []

    @property
    def num_images(self) -> int:
        """Images that were looked at."""
        return len(self.image_ids)

    def update(self, cams: Any, image_ids: Sequence[str]) -> None:
        """The IoUs of a batch, or ValueError and nothing of it."""
        self._parts.append(self._boxes(cams, image_ids) if self.of_boxes else self._masks(cams, image_ids))
        self.image_ids += image_ids

    def _boxes(self, cams: Any, image_ids: Sequence[str]) -> np.ndarray:
        wanted = np.array([[*each.every.values()] for each in self._chosen])  # [M, D]
        distinct, places = np.unique(wanted, return_inverse=True)
        ious: Any = inputs.on_host(
            box_ious(
                cams,
                self._truth.boxes_of(image_ids),
                self._protocol.normalizations,
                distinct,
                contours="all",
                size=self._protocol.size,
            )
        )  # [M, N, T]
        return np.moveaxis(np.take_along_axis(ious, places.reshape(len(wanted), 1, -1), axis=2), 1, 0)

    def _masks(self, cams: Any, image_ids: Sequence[str]) -> np.ndarray:
        masks = np.asarray(self._truth.masks_of(image_ids, self._protocol.size))
        rows = []
        for normalization, chosen in zip(self._protocol.normalizations or (None,), self._chosen, strict=True):
            scores: Any = np.asarray(inputs.on_host(cams), np.float64)
            if normalization is not None:
                scores = inputs.on_host(normalize(cams, normalization, self._protocol.size))
            rows.append(_mask_ious(np.asarray(scores), masks, chosen))
        return np.stack(rows, axis=1)[..., None]

    def in_order(self, image_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """The images that were looked at in this order, and their IoUs [N, M, D]; D is 1 for masks."""
        place_of = {each: place for place, each in enumerate(image_ids)}
        order = np.argsort([place_of[each] for each in self.image_ids])
        return [self.image_ids[place] for place in order], np.concatenate(self._parts)[order]


def _pixels(root: str | os.PathLike[str], image_id: str, split: Metadata) -> np.ndarray:
    """An image in RGB, uint8 [height, width, 3], made small enough to draw.

    Raises:
        DatasetError: It cannot be read.
    """
    return np.asarray(small_image(root, image_id, split.image_sizes, _LONGEST))

"""Localize: the boxes of a whole data set at one normalization and threshold, in pixels of the original images.

In: maps on disk, the sizes of their images, a normalization and a threshold, or what `select` chose. Out: a
Localizations: boxes, scores, a Metadata of them.
Source: MaxBoxAcc's box, Choe et al., arXiv 2007.04178, section 4.2; pseudo boxes: Murtaza et al., WACV 2025.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import BoxRule
from wsolkern.cams import CamStore
from wsolkern.cams.store import open_maps
from wsolkern.datasets import Metadata
from wsolkern.datasets.metadata import original_boxes
from wsolkern.errors import ArgumentError, DatasetError, PathError
from wsolkern.files import read_regular
from wsolkern.interrupts import interrupts_raise
from wsolkern.metrics.selection import DECIMALS
from wsolkern.normalization import Normalization
from wsolkern.ops import localize
from wsolkern.ops.rules import inclusive_corners
from wsolkern.studies.counting import count_maps
from wsolkern.studies.evaluation import check_kind
from wsolkern.studies.passes import NothingCounted, Progress

_BATCH_SIZE = 256  # maps


@dataclass(frozen=True, eq=False)
class Localizations:
    """Where the objects of a split are, an image after the other; images without a readable map are not among them."""

    root: str
    """Where the maps are."""
    split: Metadata
    """The images: their sizes, and their classes if these are known."""
    normalization: Normalization | None
    """None: the maps were score maps."""
    threshold: float
    """Fraction of a map's maximum level."""
    size: tuple[int, int]
    """Height and width, in pixels, that maps were resized to."""
    box_rule: BoxRule
    """How boxes were made."""
    image_ids: tuple[str, ...]
    """The N images, in the split's order."""
    resized_boxes: np.ndarray
    """int32 [N, 4]: x0 y0 x1 y1 in pixels of the resized map, as :func:`wsolkern.ops.localize` gives them."""
    boxes: np.ndarray
    """int32 [N, 4]: the same in pixels of the original image, inclusive corners, as
    :func:`wsolkern.datasets.metadata.original_boxes` makes them;
    0 0 0 0 where nothing was found."""
    scores: np.ndarray
    """float64 [N]: the largest value of the map as it is stored: no probability."""
    num_contours: np.ndarray
    """int32 [N]: contours at the threshold; 0: nothing is above it, so there is no object."""
    degenerate: np.ndarray
    """bool [N]: maps that have no score map."""
    problems: Mapping[str, str]
    """Image id -> why it was left out."""
    warnings: tuple[str, ...]
    """What a reader should know."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """How they were made, and how many there are; as JSON can hold it."""
        import wsolkern

        rule = self.box_rule.recorded()
        return {
            "wsolkern": wsolkern.__version__,
            "maps": self.root,
            "metadata": self.split.folder,
            "size": list(self.size),
            **rule,
            "normalization": self.normalization and str(self.normalization),
            "threshold": self.threshold,
            "num_images": len(self.image_ids),
            "num_found": int(np.count_nonzero(self.num_contours)),
            "num_degenerate": int(np.count_nonzero(self.degenerate)),
            "num_missing": len(self.problems),
            "missing": dict(self.problems),
            "seconds": round(self.seconds, 3),
        }

    def detections(self) -> list[dict[str, Any]]:
        """As COCO has them, one an image; an image in which nothing was found has none.

        Returns:
            ``image_id`` (a text), ``category_id`` (the image's class; 0 if classes are not known), ``bbox`` (x, y,
            width and height in pixels, so that x + width - 1 is x1), ``score``.
        """
        found = np.flatnonzero(self.num_contours)
        boxes = self.boxes[found]
        rows = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1], axis=1).tolist()
        names, labels = [self.image_ids[place] for place in found.tolist()], self.split.class_labels
        return [
            {"image_id": name, "category_id": labels[name] if labels else 0, "bbox": row, "score": score}
            for name, row, score in zip(names, rows, self.scores[found].tolist(), strict=True)
        ]

    def metadata(self) -> Metadata:
        """The boxes as the ground truth of a split: of the images in which something was found.

        Raises:
            DatasetError: There is none.
        """
        found = [self.image_ids[place] for place in np.flatnonzero(self.num_contours).tolist()]
        if not found:
            raise DatasetError(f"{self.root}: nothing is above the threshold {self.threshold} in any image")
        labels = self.split.class_labels
        return Metadata(
            tuple(found),
            {each: labels[each] for each in found} if labels else {},
            {each: self.split.image_sizes[each] for each in found},
            dict(zip(found, self.boxes[self.num_contours > 0][:, None], strict=True)),
        )


def localizations(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalization: str | Normalization | None,
    threshold: float,
    *,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    box_rule: str | BoxRule = "choe",
    progress: Progress | None = None,
) -> Localizations:
    """Localizes the object of every image of a split: the box of the largest contour, in pixels of the image.

    Maps are read and left behind batch by batch; what is kept of each takes less than 100 bytes.

    Args:
        maps: A CAM store, or a folder or file of maps as :class:`wsolkern.datasets.MapFolder` reads them.
        split: The images with their sizes, from :func:`wsolkern.datasets.load_metadata`; boxes and masks of objects are
            not looked at (``localization=False`` need not even have any).
        normalization: Such as "ivr:0.45". None: the maps are score maps, in [0, 1] and of the evaluation size.
        threshold: Fraction of a map's maximum level, in [0, 1).
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        box_rule: How a box is made of a map, or the name of a published rule such as "ts-cam".
        progress: Called with "localizing", the number of images done and the number of images.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DatasetError: Maps and split do not belong together, or the split has no image sizes.
        NothingCounted: No map could be read.
        KeyboardInterrupt: SIGINT or SIGTERM came.

    Source: Choe et al., arXiv 2007.04178, section 4.2; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    started = time.perf_counter()
    parsed = None if normalization is None else Normalization.parse(normalization)
    rule = BoxRule.parse(box_rule)
    if not 0 <= threshold < 1:
        raise ArgumentError("threshold", f"expected a fraction in [0, 1), found {threshold}")
    if not split.image_sizes:
        raise DatasetError(f"{split.folder}/image_sizes.txt: needed for boxes in pixels of the images, found no size")
    store = CamStore(maps) if CamStore.is_at(maps) else None
    if store is not None:
        check_kind(maps, store.manifest.content, parsed is None)
        store.check_split(split)
    source = open_maps(maps if store is None else store, split.image_ids, siblings=split.image_ids, nwc=nwc)
    localizer = _Localizer(parsed, threshold, size, rule)

    def tell(done: int) -> None:
        if progress is not None:
            progress("localizing", done, len(split.image_ids))

    tell(0)
    with interrupts_raise():
        problems = count_maps(
            localizer,
            source,
            batch_size=_BATCH_SIZE,
            on_batch=lambda *_: tell(localizer.num_images + len(source.problems)),
        )
    if not localizer.num_images:
        raise NothingCounted(maps, problems, len(split.image_ids))
    tell(len(split.image_ids))
    order, boxes, scores, num_contours, degenerate = localizer.in_order(split.image_ids)
    image_ids = tuple(split.image_ids[place] for place in order.tolist())
    sizes = np.array([split.image_sizes[each] for each in image_ids], np.int64)
    original = original_boxes(inclusive_corners(boxes, size, rule), sizes, size)
    original[num_contours == 0] = 0
    warnings = (f"{os.fspath(maps)}: {source.spans.NOTE}",) if parsed is not None and source.spans else ()
    return Localizations(
        os.fspath(maps), split, parsed, float(threshold), size, rule, image_ids, boxes, original, scores,
        num_contours, degenerate, problems, warnings, time.perf_counter() - started,
    )  # fmt: skip


def read_selection(
    path: str | os.PathLike[str],
    family: str | None = None,
    iou_threshold: float | None = None,
    threshold: float | None = None,
) -> tuple[Normalization, float, BoxRule]:
    """The normalization, the threshold and the box rule that `wsolkern select` chose with, from its JSON.

    Args:
        path: The file.
        family: "minmax", "max", "pas", "ivr" or "ivr+pas": the choice of this family; None: the choice with the largest
            figure on val, the first of those.
        iou_threshold: Which of the choice's thresholds: that of the best box accuracy at this IoU; None: 0.5 or, if it
            was not chosen for that, the only one.
        threshold: To be taken instead of those: what was chosen by PxAP has none.

    Raises:
        OSError: The file cannot be read.
        PathError: It is not such a file, or has no choice or threshold of that kind; the message lists what it has.
    """

    def refuse(expected: str, found: str) -> PathError:
        return PathError(path, f"expected {expected}, found {found}")

    try:
        content = json.loads(read_regular(path))
        choices = [
            (
                Normalization.parse(each["normalization"]),
                float(each["figure"]),
                {float(iou): float(threshold) for iou, threshold in each["thresholds"].items()},
            )
            for each in content["choices"]
        ]
        rule = BoxRule.recorded_in(content)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise refuse("the JSON of wsolkern select (--json)", f"another file ({error})") from error
    ours = [each for each in choices if family is None or each[0].name == family]
    if not ours:
        raise refuse(f"a choice of {family or 'some family'}", ", ".join(str(each[0]) for each in choices) or "none")
    normalization, _, thresholds = max(ours, key=lambda each: round(each[1], DECIMALS))
    if threshold is not None:
        return normalization, threshold, rule
    wanted = iou_threshold
    if wanted is None:
        wanted = 0.5 if 0.5 in thresholds or len(thresholds) != 1 else next(iter(thresholds))
    if wanted not in thresholds or not 0 <= thresholds[wanted] < 1:
        listed = ", ".join(f"{iou:g}" for iou in thresholds) or "none (it was chosen by PxAP)"
        raise refuse(f"a threshold of {normalization} in [0, 1) for IoU {wanted:g}", f"those for {listed}")
    return normalization, thresholds[wanted], rule


class _Localizer:
    """Keeps the localization of every map that it is given; for :func:`count_maps`."""

    def __init__(self, normalization: Normalization | None, threshold: float, size: tuple[int, int], rule: BoxRule):
        self._normalization, self._threshold, self._size, self._rule = normalization, threshold, size, rule
        self._image_ids: list[str] = []
        self._parts: list[tuple[np.ndarray, ...]] = []

    @property
    def num_images(self) -> int:
        """Images that were localized."""
        return len(self._image_ids)

    def update(self, cams: Any, image_ids: Sequence[str]) -> None:
        """Localizes a batch [N, h, w], or raises ValueError and keeps nothing of it."""
        if self._normalization is None and cams.shape[1:] != self._size:
            expected, found = ("x".join(map(str, each)) for each in (self._size, cams.shape[1:]))
            raise ValueError(f"expected a score map of {expected} pixels, found {found}")
        how: Any = {"size": self._size, "rule": self._rule}
        places = localize(cams, self._normalization and (self._normalization,), [self._threshold], **how)
        scores = cams.max(axis=(1, 2)).astype(np.float64)
        self._parts.append((places.boxes[0, :, 0], scores, places.num_contours[0, :, 0], places.degenerate[0]))
        self._image_ids += image_ids

    def in_order(self, image_ids: Sequence[str]) -> list[np.ndarray]:
        """Places in ``image_ids``, boxes, scores, numbers of contours and whether degenerate, by rising place."""
        place_of = {each: place for place, each in enumerate(image_ids)}
        places = np.array([place_of[each] for each in self._image_ids])
        order = np.argsort(places)
        return [each[order] for each in (places, *map(np.concatenate, zip(*self._parts, strict=True)))]

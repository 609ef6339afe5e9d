"""The groups that a split's images are counted in: classes, or sizes of the object.

In: a split, its ground truth at the evaluation size. Out: the group of each image; a Grouping has their metrics.
Source: what the size of an object is, is ours: docs/per-image.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wsolkern.cams import ALONE, Ranks
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.grouping import SIZES, Group, object_pixels, size_bounds
from wsolkern.studies.passes import Progress


@dataclass(frozen=True, eq=False)
class Grouping:
    """The metrics of the images of each group."""

    by: str
    """"class" or "size"."""
    groups: tuple[Group, ...]
    """Those that have an image: classes by number, or "small", "medium", "large"."""
    size_bounds: tuple[int, int] | None = None
    """By size: the most pixels of the resized map that a small and a medium object have."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        bounds = {} if self.size_bounds is None else {"size_bounds": list(self.size_bounds)}
        return {"by": self.by, **bounds, "groups": [each.to_dict() for each in self.groups]}


def groups_of(
    by: str, evaluator: Evaluator, split: Metadata, progress: Progress | None = None, ranks: Ranks = ALONE
) -> tuple[dict[str, int], list[str], tuple[int, int] | None]:
    """The number of each image's group; the groups' names; by size, the bounds of :attr:`Grouping.size_bounds`."""
    if by == "class":
        classes = sorted({split.class_labels[each] for each in split.image_ids})
        places = {label: number for number, label in enumerate(classes)}
        names = [str(label) for label in classes]
        return {each: places[split.class_labels[each]] for each in split.image_ids}, names, None
    pixels = _measured(evaluator, split, progress, ranks)
    readable = pixels[pixels >= 0]
    bounds = size_bounds(readable) if len(readable) else (0, 0)
    groups = dict(zip(split.image_ids, np.searchsorted(bounds, pixels).tolist(), strict=True))
    return groups, list(SIZES), bounds


def expect_groups(by: str, split: Metadata) -> None:
    """Does nothing if a split has such groups; else raises as :func:`wsolkern.studies.evaluate` does."""
    if by not in ("class", "size"):
        raise ArgumentError("by", f"expected class or size, found {by!r}")
    if by == "class" and not split.class_labels:
        raise DatasetError(f"{split.folder}/class_labels.txt: needed for metrics by class, found no class")


def _measured(evaluator: Evaluator, split: Metadata, progress: Progress | None, ranks: Ranks) -> np.ndarray:
    """Pixels of each image's object, int64 [N]; -1 where its mask cannot be read, so that it will be left out."""
    if split.kind == "boxes":
        return object_pixels(evaluator.truth, split.image_ids, evaluator.size)
    mine = split.image_ids[ranks.share(len(split.image_ids))]
    pixels = np.zeros(len(mine), np.int64)
    for place, image_id in enumerate(mine):
        if progress is not None and ranks.rank == 0 and place % 64 == 0:
            progress("measuring objects", place, len(pixels))
        try:
            pixels[place] = object_pixels(evaluator.truth, [image_id], evaluator.size)[0]
        except ValueError:
            pixels[place] = -1
    if progress is not None and ranks.rank == 0:
        progress("measuring objects", len(pixels), len(pixels))
    return np.concatenate(ranks.gather(pixels))

"""Per image and per group: what each map of a split gives, and the metrics by class and by size of the object.

In: a folder or store of CAMs or score maps, a split. Out: a PerImage with rows and summaries, a Grouped with groups.
Source: Choe et al., arXiv 2007.04178, section 4; docs/per-image.md has all definitions and their sources.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Result
from wsolkern.metrics.breakdown import ErrorRule
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.grouping import SIZES, Group, GroupEvaluator, object_pixels, size_bounds
from wsolkern.metrics.per_image import Chosen, ImageRows, ImageSummary, PerImageEvaluator, PointingGame
from wsolkern.metrics.result import SCORE_MAPS
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import Counter, SplitCount, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import Evaluation, check_kind, evaluate
from wsolkern.studies.passes import Counted, NothingCounted, Progress, about_maps, alone, run_pass

At = Mapping[Any, Mapping[float, float] | float]
"""Normalization, or its string -> a threshold, or one by IoU threshold."""


@dataclass(frozen=True, eq=False)
class PerImage:
    """What each image of a split gives, and all of them together."""

    counted: Counted
    """What was counted, and what was left out."""
    summaries: tuple[ImageSummary, ...]
    """One a normalization."""
    pointing_game: PointingGame
    errors: ErrorRule
    """What tells the categories of errors apart."""
    rows: ImageRows | None
    """The rows, where nobody took them batch by batch."""

    def __getitem__(self, normalization: str | Normalization) -> ImageSummary:
        """The summary of a normalization, in any spelling; "score maps" where maps came normalized already."""
        for each in self.summaries:
            if each.normalization is None or each.normalization == Normalization.parse(normalization):
                return each
        raise KeyError(f"no summary {str(normalization)!r}; there are {', '.join(s.name for s in self.summaries)}")

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """All of it as JSON can hold it; the rows as columns, if there are any; curves only if ``curves``."""
        rows = {} if self.rows is None else {"rows": self.rows.to_dict()}
        return self.counted.to_dict() | {
            "num_images": self.counted.num_images,
            "pointing_game": self.pointing_game.to_dict(),
            "error_rule": vars(self.errors),
            "normalizations": [each.to_dict(curves=curves) for each in self.summaries],
            **rows,
        }


@dataclass(frozen=True, eq=False)
class Grouped(Evaluation):
    """The metrics of one split's maps, and those of each of its groups."""

    by: str
    """"class" or "size"."""
    groups: tuple[Group, ...]
    """Those that have an image: classes by number, or "small", "medium", "large"."""
    size_bounds: tuple[int, int] | None = None
    """By size: the most pixels of the resized map that a small and a medium object have."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """As :meth:`Evaluation.to_dict`, with the groups."""
        bounds = {} if self.size_bounds is None else {"size_bounds": list(self.size_bounds)}
        groups = {"by": self.by, **bounds, "groups": [each.to_dict() for each in self.groups]}
        return super().to_dict(curves=curves) | groups


def per_image(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    at: Result | At | float | None = None,
    on_rows: Callable[[ImageRows], object] | None = None,
    tolerance: int = 0,
    errors: ErrorRule | None = None,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    device: str = "cpu",
    progress: Progress | None = None,
) -> PerImage:
    """What each image gives: box or mask at a chosen threshold, IoUs, hits, error, pointing game.

    The maps are read once if ``at`` says where they are looked at, and twice if that comes from the split itself.
    Memory does not depend on the number of images where ``on_rows`` takes the rows.

    Args:
        maps: As for :func:`wsolkern.studies.evaluate`.
        split: See there; the columns "label" and "error" take its classes, "predicted" the logits that a store has.
        normalizations: See there.
        at: Thresholds, one for all or by normalization; each of the latter one, or by IoU threshold, as
            :attr:`wsolkern.metrics.selection.Choice.thresholds` has them. A Result: its best ones. None: the best ones
            of this split, which :func:`evaluate` finds first.
        on_rows: Called with the rows of each batch; None: the value keeps them.
        tolerance: Margin of the pointing game around the object, in pixels of the resized map; Zhang et al. take 15.
        errors: What tells the categories of errors apart.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1); for masks scores, 0 the first.
        iou_thresholds: Fractions, D of them.
        device: "cpu" or "cuda": where the pass that finds the best thresholds evaluates maps.
        progress: Called with "evaluating" (unless ``at`` is given) and "per image", the number of images done and of
            all.

    Returns:
        Summaries, and the rows if nobody took them.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        NothingCounted: No map could be read.
        DatasetError: Maps and split do not belong together.
        Interrupted: SIGINT or SIGTERM came.

    Source: Choe et al., arXiv 2007.04178, section 4; docs/per-image.md has all definitions and their sources.
    """
    started = time.perf_counter()
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    evaluator = evaluator_for(split, normalizations, mask_root=mask_root, **how)
    protocol = evaluator.protocol
    kept: list[ImageRows] = []

    def counter_at(at: Result | At | float) -> PerImageEvaluator:
        return PerImageEvaluator(
            protocol,
            evaluator.truth,
            chosen_thresholds(at, protocol.names, protocol.iou_thresholds.tolist()),
            kept.append if on_rows is None else on_rows,
            class_labels=split.class_labels,
            predicted=_predicted(maps, split),
            image_sizes=split.image_sizes,
            tolerance=tolerance,
            errors=errors,
        )

    counter = counter_at(0.0 if at is None else at)  # what is wrong with an argument is said before maps are read
    if at is None:
        first = evaluate(
            maps,
            split,
            protocol.normalizations,
            mask_root=mask_root,
            nwc=nwc,
            device=device,
            progress=progress,
            **how,
        )
        counter = counter_at(first.result)
    with alone(None, {os.fspath(maps): split}, mask_root):
        counted = _pass(
            counter, maps, split, protocol.normalizations is None, "per image", started,
            mask_root=mask_root, nwc=nwc, size=protocol.size, progress=progress,
        )  # fmt: skip
    rows = ImageRows.joined(kept) if on_rows is None else None
    return PerImage(counted, counter.compute(), counter.pointing_game(), counter.errors, rows)


def by_group(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    by: str,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    device: str = "cpu",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Grouped:
    """The metrics of a split and of its groups, in one pass: each group at the thresholds of all, and at its own.

    Args:
        by: "class", or "size": small, medium and large objects, the terciles of the pixels that the split's objects
            have in the resized map (the union of an image's boxes, or its mask).
        maps, split, normalizations, mask_root, nwc, size, thresholds, iou_thresholds, device, resume: As for
            :func:`wsolkern.studies.evaluate`.
        progress: See there; before, with "measuring objects" for masks by size.

    Returns:
        The metrics of all images, which are those of ``evaluate``, and of each group.

    Raises:
        ArgumentError: An argument is not as above, or counts of so many groups need too much memory.
        DatasetError: By class, and the split has no classes; else as from ``evaluate``.
        ValueError, Interrupted: As from ``evaluate``.

    Source: Choe et al., arXiv 2007.04178, section 4; the sizes are ours.
    """
    started, place = time.perf_counter(), gpu_of(device)
    if by not in ("class", "size"):
        raise ArgumentError("by", f"expected class or size, found {by!r}")
    if by == "class" and not split.class_labels:
        raise DatasetError(f"{split.folder}/class_labels.txt: needed for metrics by class, found no class")
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    with alone(resume, {os.fspath(maps): split}, mask_root):
        evaluator = evaluator_for(split, normalizations, mask_root=mask_root, **how)
        bounds = None
        if by == "class":
            classes = sorted({split.class_labels[each] for each in split.image_ids})
            places = {label: number for number, label in enumerate(classes)}
            names = [str(label) for label in classes]
            groups = {each: places[split.class_labels[each]] for each in split.image_ids}
        else:
            pixels = _measured(evaluator, split, progress)
            readable = pixels[pixels >= 0]
            bounds, names = size_bounds(readable) if len(readable) else (0, 0), list(SIZES)
            groups = dict(zip(split.image_ids, np.searchsorted(bounds, pixels).tolist(), strict=True))
        counter = GroupEvaluator(evaluator.protocol, evaluator.truth, groups, names)
        counted = _pass(
            counter, maps, split, evaluator.normalizations is None, "evaluating", started,
            mask_root=mask_root, nwc=nwc, size=evaluator.size, progress=progress, about=["by", by],
            state=None if resume is None else Path(resume), place=place,
        )  # fmt: skip
    result, found = counter.compute()
    return Grouped(counted, result, by, found, bounds)


def chosen_thresholds(at: Result | At | float, names: Sequence[str], iou_thresholds: Sequence[float]) -> list[Chosen]:
    """Where the images of each normalization are looked at, in their order.

    Args:
        at: As for :func:`per_image`.
        names: The normalizations as strings, or "score maps" alone.
        iou_thresholds: Fractions, D of them.

    Raises:
        ArgumentError: There is none for a normalization or an IoU threshold, or one is not in [0, 1).
    """
    if isinstance(at, Result):
        rows = {row.name: row for row in at}
        _expect_all(names, rows)
        return [Chosen.best(rows[name]) for name in names]
    wanted: list[Mapping[float, float] | float]
    if isinstance(at, Mapping):
        by_name = {str(key if key == SCORE_MAPS else Normalization.parse(key)): some for key, some in at.items()}
        _expect_all(names, by_name)
        wanted = [by_name[name] for name in names]
    else:
        wanted = [at] * len(names)
    chosen = [Chosen.elsewhere(some, iou_thresholds) for some in wanted]
    for each in chosen:
        for threshold in (each.threshold, *each.largest.values()):
            if not 0 <= threshold < 1:
                raise ArgumentError("at", f"expected thresholds in [0, 1), found {threshold!r}")
    return chosen


def _expect_all(names: Sequence[str], found: Mapping[str, object]) -> None:
    """Raises ArgumentError if a normalization is not among those that there are thresholds of."""
    absent = [name for name in names if name not in found]
    if absent:
        raise ArgumentError("at", f"expected thresholds of {absent[0]}, found those of {', '.join(found)}")


def _predicted(maps: str | os.PathLike[str], split: Metadata) -> dict[str, int]:
    """The classes that a store's logits say; none for a folder."""
    _, store = about_maps(maps, "", False)
    return {} if store is None else store.predicted_classes(split.image_ids)


def _measured(evaluator: Evaluator, split: Metadata, progress: Progress | None) -> np.ndarray:
    """Pixels of each image's object, int64 [N]; -1 where its mask cannot be read, so that it will be left out."""
    if split.kind == "boxes":
        return object_pixels(evaluator.truth, split.image_ids, evaluator.size)
    pixels = np.zeros(len(split.image_ids), np.int64)
    for place, image_id in enumerate(split.image_ids):
        if progress is not None and place % 64 == 0:
            progress("measuring objects", place, len(pixels))
        try:
            pixels[place] = object_pixels(evaluator.truth, [image_id], evaluator.size)[0]
        except ValueError:
            pixels[place] = -1
    if progress is not None:
        progress("measuring objects", len(pixels), len(pixels))
    return pixels


def _pass(
    counter: Counter,
    maps: str | os.PathLike[str],
    split: Metadata,
    are_scores: bool,
    what: str,
    started: float,
    *,
    mask_root: str | os.PathLike[str] | None,
    nwc: bool,
    size: tuple[int, int],
    progress: Progress | None,
    about: object = None,
    state: Path | None = None,
    place: Any = None,
) -> Counted:
    """Feeds the maps of a split to what counts them; raises NothingCounted if there is none."""
    about_it, store = about_maps(maps, "score maps" if are_scores else "CAMs", nwc)
    if store is not None:
        check_kind(maps, store.manifest.content, are_scores)
        store.check_split(split)
    job = fingerprint(split, mask_root, [about_it, about])
    counting = SplitCount(counter, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
    if state is not None and state.exists():
        counting.load(state)
    found = run_pass(
        counting,
        lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
        what,
        state=state,
        device=place,
        progress=progress,
        scaled=None if are_scores else os.fspath(maps),
    )
    if not counter.num_images:
        raise NothingCounted(maps, found.problems, len(split.image_ids))
    seconds = time.perf_counter() - started
    about_all = os.fspath(maps), split, size, counter.num_images, found.problems, seconds
    return Counted(*about_all, found.warnings, found.save)

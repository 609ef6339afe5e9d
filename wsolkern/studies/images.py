"""Per image: what each map of a split gives.

In: a folder or store of CAMs or score maps, a split. Out: a PerImage with rows and summaries.
Source: Choe et al., arXiv 2007.04178, section 4; docs/per-image.md has all definitions and their sources.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import BoxRule
from wsolkern.cams import ALONE, CamStore, Ranks, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError
from wsolkern.metrics import Result
from wsolkern.metrics.breakdown import ErrorRule
from wsolkern.metrics.localization import At, SelectedThresholds, check_at
from wsolkern.metrics.per_image import Chosen, ImageRows, ImageSummary, PerImageEvaluator, PointingGame
from wsolkern.metrics.protocol import Protocol
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import SharedCounter, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import check_kind, evaluate
from wsolkern.studies.passes import Counted, NothingCounted, OnePass, Progress, about_maps, alone, run_pass
from wsolkern.studies.rows import RowCounter, RowFile


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


def per_image(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    at: Result | At = "best",
    on_rows: Callable[[ImageRows], object] | None = None,
    tolerance: int = 0,
    errors: ErrorRule | None = None,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    box_rule: str | BoxRule = "choe",
    device: str = "cpu",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> PerImage:
    """What each image gives: box or mask at a chosen threshold, IoUs, hits, error, pointing game.

    The maps are read once if ``at`` says where they are looked at, and twice if that comes from the split itself.
    Memory does not depend on the number of images where ``on_rows`` takes the rows.

    Args:
        maps: As for :func:`wsolkern.studies.evaluate`.
        split: See there; the columns "label" and "error" take its classes, "predicted" the logits that a store has.
        normalizations: See there.
        at: "best", the best thresholds of this split, which :func:`evaluate` finds first, or "gt-known", which is the
            same here; a number, one for all; :class:`wsolkern.metrics.SelectedThresholds`, chosen on other images; or a
            Result, whose best ones are taken.
        on_rows: Called with the rows of some images at a time, in the order of the split, when all are there, by the
            first process; None: the value of the first process keeps them.
        tolerance: Margin of the pointing game around the object, in pixels of the resized map; Zhang et al. take 15.
        errors: What tells the categories of errors apart.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1); for masks scores, 0 the first.
        iou_thresholds: Fractions, D of them.
        box_rule: As for :func:`evaluate`.
        device: "cpu" or "cuda": where the pass that finds the best thresholds evaluates maps.
        progress: Called with "evaluating" (for "best") and "per image", the number of images done and of
            all.
        resume: File that rows are saved to every few seconds, and gone on from if it is there; where ``at`` is "best",
            the counts of the first pass are in a file beside it, named with ".best".
        ranks: The processes that share the images, as for :func:`wsolkern.studies.evaluate`.

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
    how["box_rule"] = box_rule
    evaluator = evaluator_for(split, normalizations, mask_root=mask_root, **how)
    protocol = evaluator.protocol
    _, store = about_maps(maps, "", nwc)
    predicted = {} if store is None else store.predicted_classes(split.image_ids)

    def counter_at(at: Result | SelectedThresholds | float) -> RowCounter:
        rows = RowFile(split.image_ids, protocol.names)
        counter = PerImageEvaluator(
            protocol,
            evaluator.truth,
            chosen_thresholds(at, protocol, split.kind),
            rows.add,
            class_labels=split.class_labels,
            predicted=predicted,
            image_sizes=split.image_sizes,
            tolerance=tolerance,
            errors=errors,
        )
        return RowCounter(counter, rows)

    at = at if isinstance(at, Result) else check_at(at)
    counter = counter_at(0.0 if isinstance(at, str) else at)  # what is wrong with an argument is said before the work
    if isinstance(at, str):
        first = evaluate(
            maps,
            split,
            protocol.normalizations,
            mask_root=mask_root,
            nwc=nwc,
            device=device,
            with_logits=False,
            resume=None if resume is None else f"{os.fspath(resume)}.best",
            progress=progress,
            ranks=ranks,
            **how,
        )
        counter = counter_at(first.result)
    with alone(resume, {os.fspath(maps): split}, mask_root, ranks):
        counted = _pass(
            counter, maps, split, protocol.normalizations is None, "per image", started, store=store,
            mask_root=mask_root, nwc=nwc, size=protocol.size, progress=progress, about="rows",
            state=None if resume is None else Path(resume), ranks=ranks,
        )  # fmt: skip
    rows = None
    if ranks.rank == 0:
        parts = counter.rows.in_order()
        if on_rows is None:
            rows = ImageRows.joined([*parts])
        else:
            for part in parts:
                on_rows(part)
    found = counter.evaluator
    return PerImage(counted, found.compute(), found.pointing_game(), found.errors, rows)


def chosen_thresholds(
    at: Result | SelectedThresholds | float, protocol: Protocol, kind: str | None = "boxes"
) -> list[Chosen]:
    """Where the images of each of a protocol's normalizations are looked at.

    Args:
        at: As for :func:`per_image`, but no name of a policy.
        protocol: How maps are evaluated.
        kind: What localizes the objects, "boxes" or "masks".

    Raises:
        ArgumentError: They were selected for the other kind, or with boxes by another rule; there is none for a
            normalization or an IoU threshold; or one is not in [0, 1).
    """
    ious = protocol.iou_thresholds.tolist()
    if isinstance(at, Result):
        rows = {row.name: row for row in at}
        return [Chosen.best(_found(rows, name)) for name in protocol.names]
    if isinstance(at, SelectedThresholds):
        if at.metric.truth != kind:
            raise ArgumentError("at", f"expected thresholds for {kind}, found those that {at.metric} selected")
        at.expect_rule(protocol.box_rule)
        selected = {str(each): by_iou for each, by_iou in at.thresholds.items()}
        chosen = [Chosen.elsewhere(_found(selected, name), ious) for name in protocol.names]
    else:
        chosen = [Chosen.elsewhere(at, ious)] * len(protocol.names)
    for each in chosen:
        for threshold in (each.threshold, *each.largest.values()):
            if not 0 <= threshold < 1:
                raise ArgumentError("at", f"expected thresholds in [0, 1), found {threshold!r}")
    return chosen


_Found = TypeVar("_Found")


def _found(by_name: Mapping[str, _Found], name: str) -> _Found:
    """What there is of a normalization."""
    if name not in by_name:
        raise ArgumentError("at", f"expected thresholds of {name}, found those of {', '.join(by_name)}")
    return by_name[name]


def _pass(
    counter: SharedCounter,
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
    store: CamStore | None = None,
    ranks: Ranks = ALONE,
) -> Counted:
    """Feeds the maps of a split to what counts them; raises NothingCounted if there is none."""
    about_it, store = about_maps(maps if store is None else store, "score maps" if are_scores else "CAMs", nwc)
    if store is not None:
        check_kind(maps, store.manifest.content, are_scores)
        store.check_split(split)
    job = fingerprint(split, mask_root, [about_it, about])
    passes = OnePass(state, ranks)
    counting = passes.count("", counter, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
    found = run_pass(
        counting,
        lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
        what,
        state=state,
        device=place,
        progress=progress,
        scaled=None if are_scores else os.fspath(maps),
        ranks=ranks,
    )
    passes.finish()
    if not counter.num_images:
        raise NothingCounted(maps, found.problems, len(split.image_ids))
    seconds = time.perf_counter() - started
    about_all = os.fspath(maps), split, size, counter.num_images, found.problems, seconds
    return Counted(*about_all, found.warnings, found.save)

"""Evaluate and sweep: maps and ground truth to the metrics of every normalization, in one pass.

In: a folder or store of CAMs or score maps, a split. Out: an Evaluation; a Sweep has curves over percentile, too.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221, equations 3-6 and figure 5.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.cams import ALONE, CamStore, Ranks, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Result
from wsolkern.metrics.bootstrap import Bootstrap, BootstrapEvaluator, interval_rank
from wsolkern.metrics.curves import Level, PercentileCurve, levels, percentile_curves
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.grouping import GroupEvaluator
from wsolkern.metrics.localization import At, LocalizationFigure, SelectedThresholds, expect_thresholds
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.grouping import Grouping, expect_groups, groups_of
from wsolkern.studies.passes import Counted, NothingCounted, OnePass, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import Data, Provenance, protocol_dict


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one split's maps."""

    counted: Counted
    """What was counted, and what was left out."""
    result: Result
    """A row a normalization."""
    localization: tuple[tuple[LocalizationFigure, ...], ...] | None = None
    """Of each row Top-1, Top-5 and GT-known localization; None where there were no logits, no labels or no boxes."""
    at: At = "best"
    """Where over thresholds these are taken."""
    cams_of: str | None = None
    """The class that each CAM is of: its image's "labels", or the one "predicted"; None where that is not known."""
    box_rule: BoxRule = CHOE
    """How boxes were made."""
    grouping: Grouping | None = field(default=None, kw_only=True)
    """The metrics of groups of the images, if they were wanted."""
    provenance: Provenance = field(kw_only=True)
    """What it was made of and with."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """All of it as JSON can hold it; thresholds and the arrays over them only if ``curves``, the box rule only if
        it is another than "choe"."""
        rule = self.box_rule.recorded()
        made = {"provenance": self.provenance.to_dict()}
        content = self.counted.to_dict() | rule | self.result.to_dict(curves=curves) | made
        if self.localization is not None:
            content["localization"] = localization_dict(self)
        return content | ({} if self.grouping is None else self.grouping.to_dict())

    def _repr_html_(self) -> str:
        """The result's table, for notebooks."""
        return self.result._repr_html_()


@dataclass(frozen=True, eq=False)
class Sweep(Evaluation):
    """The same with curves over percentile."""

    percentile_curves: tuple[PercentileCurve, ...] = ()
    """Of each normalization that has several percentiles, each metric that was measured."""
    levels: tuple[Level, ...] = ()
    """Of each normalization that is on no curve, each metric that was measured."""
    bootstrap: Bootstrap | None = None
    """MaxBoxAccV2 or PxAP of all of them on resamples of the images, if that was wanted; of several processes the first
    has it."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """As :meth:`Evaluation.to_dict`, with the curves over percentile."""
        resampled = self.bootstrap
        intervals = {}
        if resampled is not None:
            about = {name: getattr(resampled, name) for name in ("metric", "num_images", "seed", "confidence")}
            each = [resampled[name].to_dict() for name in resampled.normalizations]
            intervals = {"bootstrap": about | {"num_resamples": len(resampled.resampled), "normalizations": each}}
        drawn = {"percentile_curves": [each.to_dict() for each in self.percentile_curves]}
        return super().to_dict(curves=curves) | drawn | intervals


def localization_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Localization with classification as JSON can hold it, of an evaluation that has it."""
    assert evaluation.localization is not None
    named, at = zip(evaluation.result, evaluation.localization, strict=True), evaluation.at
    return {
        "cams_of": evaluation.cams_of,
        "at": at.to_dict() if isinstance(at, SelectedThresholds) else at,
        "normalizations": [
            {"normalization": row.name, "figures": [each.to_dict() for each in figures]} for row, figures in named
        ],
    }


def evaluate(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    box_rule: str | BoxRule = "choe",
    device: str = "cpu",
    with_logits: bool = True,
    at: At = "best",
    by: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Evaluates the maps of a split.

    Maps that are missing or unreadable are left out of the counts and listed in the value.

    Args:
        maps: A CAM store, or a folder or file of maps as :class:`wsolkern.datasets.MapFolder` reads them.
        split: The ground truth, from :func:`wsolkern.datasets.load_metadata`.
        normalizations: What to normalize with, strings such as "ivr:0.45"; ranges are expanded. None: the maps are
            score maps, in [0, 1] and of the evaluation size.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, D of them.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam".
        device: "cpu" or "cuda": where maps are evaluated.
        with_logits: Where a store has logits of all images, and the split has labels: count which images are
            classified, for Top-1, Top-5 and GT-known localization.
        at: Where over thresholds these are taken: see :meth:`Result.localization`.
        by: Count groups, too: "class", or "size": small, medium and large objects, the terciles of the pixels that the
            split's objects have in the resized map (the union of an image's boxes, or its mask).
        resume: File that counts are saved to every few seconds, and gone on from if it is there.
        progress: Called with "evaluating", the number of images done and the number of images; for masks by size before
            with "measuring objects".
        ranks: The processes that share the images, from :meth:`wsolkern.cams.Ranks.joined`: all of them call this with
            the same arguments, and each gets the same value. The first one tells the progress.

    Returns:
        The metrics, and what was left out.

    Raises:
        ArgumentError: An argument is not as above, or counts of so many groups need too much memory; it carries the
            argument's name.
        DeviceUnavailable: There is no such device.
        NothingCounted: No map could be read.
        DatasetError: Maps and split do not belong together, or another process counts into ``resume``; by class, and
            the split has no classes.
        ValueError: ``resume`` is about something else, or what it counted has changed.
        Interrupted: SIGINT or SIGTERM came.
        ProcessLost: One of several processes has ended.

    Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    started, place = time.perf_counter(), gpu_of(device, ranks.gpu)
    if by is not None:
        expect_groups(by, split)
    state = None if resume is None else Path(resume)
    with alone(resume, {os.fspath(maps): split}, mask_root, ranks):
        evaluator = evaluator_for(
            split,
            normalizations,
            mask_root=mask_root,
            size=size,
            thresholds=thresholds,
            iou_thresholds=iou_thresholds,
            box_rule=box_rule,
        )
        about, store = about_maps(maps, "score maps" if normalizations is None else "CAMs", nwc)
        if store is not None:
            check_kind(maps, store.manifest.content, normalizations is None)
            store.check_split(split)
        labels, cams_of, notes = labels_of(store, split) if with_logits else (None, None, [])
        if at != "best" and (labels is None or split.kind != "boxes"):
            raise ArgumentError("at", "needs boxes and a CAM store with the logits of all images, found none to count")
        expect_thresholds(at, evaluator.protocol)
        counter: Evaluator | GroupEvaluator = evaluator
        if by is not None:
            groups, names, bounds = groups_of(by, evaluator, split, progress, ranks)
            counter = GroupEvaluator(evaluator.protocol, evaluator.truth, groups, names)
            evaluator = counter.evaluator
        job = fingerprint(split, mask_root, about if by is None else [about, ["by", by]])
        passes = OnePass(state, ranks)
        counting = passes.count("", counter, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
        counted_before = [top for num_images, top in ranks.gather((evaluator.num_images, evaluator.top)) if num_images]
        if any(counted_before) and labels is None:
            raise ValueError(f"{state}: its images were counted with their logits, found that these are to be left out")
        if not all(counted_before) and labels is not None:
            labels, more = None, f"{state}: its images were counted without their logits, so others are, too"
            notes = [more]
        counting.labels = labels
        found = run_pass(
            counting,
            lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
            "evaluating",
            state=state,
            device=place,
            progress=progress,
            scaled=None if normalizations is None else os.fspath(maps),
            ranks=ranks,
        )
        passes.finish()
    if not evaluator.num_images:
        raise NothingCounted(maps, found.problems, len(split.image_ids))
    seconds = time.perf_counter() - started
    about_it = os.fspath(maps), split, evaluator.size, evaluator.num_images, found.problems, seconds
    grouping = None
    if isinstance(counter, GroupEvaluator):
        assert by is not None
        grouping = Grouping(by, counter.counts.compute(), bounds)
    counted = Counted(*about_it, (*notes, *found.warnings), found.save)
    data = Data.of(maps, store, split, mask_root, nwc)
    made = evaluation_of(evaluator, counted, data, at=at, cams_of=cams_of, with_logits=with_logits, device=device)
    return replace(made, grouping=grouping)


def evaluation_of(
    evaluator: Evaluator,
    counted: Counted,
    data: Data,
    *,
    at: At,
    cams_of: str | None,
    with_logits: bool = True,
    device: str = "cpu",
) -> Evaluation:
    """What an evaluator counted in a pass over a split, as :func:`evaluate` gives it.

    Args:
        evaluator: With the counts.
        counted: The pass.
        data: What it read.
        at, with_logits, device: As for :func:`evaluate`.
        cams_of: See :attr:`Evaluation.cams_of`.
    """
    result, protocol = evaluator.compute(), evaluator.protocol
    localization = None if evaluator.num_localized is None else result.localization(at)
    arguments = {"with_logits": with_logits, "at": at.to_dict() if isinstance(at, SelectedThresholds) else at}
    made = Provenance.of("evaluate", (data,), protocol_dict(protocol), device=device, arguments=arguments)
    return Evaluation(counted, result, localization, at, cams_of, protocol.box_rule, provenance=made)


def sweep(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str" = defaults.CANDIDATES,
    *,
    num_resamples: int = 0,
    seed: int = 0,
    confidence: float = 0.95,
    **how: Any,
) -> Sweep:
    """Evaluates many normalizations and percentiles in one pass; a normalization that is repeated counts once.

    Args:
        maps: As for :func:`evaluate`.
        split: See there.
        normalizations: Such as "max ivr:0.00..0.95/0.05".
        num_resamples: Resamples of the images for intervals of all figures, which take a second pass; 0: none.
        seed: What they are drawn with.
        confidence: Of the intervals, a fraction.
        how: All else that :func:`evaluate` takes.

    Raises:
        ValueError: As from there.

    Source: Kim et al., arXiv 2107.13221, figure 5 (accuracy over percentile).
    """
    if num_resamples:
        interval_rank(num_resamples, confidence)
    wanted = tuple(dict.fromkeys(parse_all(normalizations)))
    found = evaluate(maps, split, wanted, **how)
    curves = tuple(percentile_curves(found.result))
    about = found.localization, found.at, found.cams_of, found.box_rule
    made = replace(found.provenance, study="sweep")
    resampled = None
    if num_resamples:
        judge = _judged(maps, split, wanted, **{name: value for name, value in how.items() if name != "by"})
        if how.get("ranks", ALONE).rank == 0:  # which has all images
            resampled = judge.compute(num_resamples, seed=seed, confidence=confidence)
    beside = tuple(levels(found.result))
    parts = found.counted, found.result, *about, curves, beside, resampled
    return Sweep(*parts, grouping=found.grouping, provenance=made)


def _judged(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: tuple[Normalization, ...],
    *,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    with_logits: bool = True,
    at: At = "best",
    resume: str | os.PathLike[str] | None = None,
    ranks: Ranks = ALONE,
    **how: Any,
) -> BootstrapEvaluator:
    """What each image of a split contributes to MaxBoxAccV2 or PxAP; nothing of this pass is kept for later.

    Of several processes the first has all images afterwards.
    """
    evaluator = evaluator_for(split, normalizations, mask_root=mask_root, **how)
    metric = Metric.of(str(split.kind))
    judge = BootstrapEvaluator(evaluator.protocol, evaluator.truth, metric, split.image_ids)
    about, store = about_maps(maps, "CAMs", nwc)
    job, masks = fingerprint(split, mask_root, about), mask_files_of(split, mask_root)
    with alone(None, {os.fspath(maps): split}, mask_root, ranks):
        run_pass(
            SplitCount(judge, split.image_ids, job, mask_files=masks),
            lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
            "resampling",
            state=None,
            device=gpu_of(device, ranks.gpu),
            progress=progress,
            scaled=None,
            ranks=ranks,
        )
    return judge


def labels_of(store: CamStore | None, split: Metadata) -> tuple[Mapping[str, int] | None, str | None, list[str]]:
    """Labels to count images with, None where logits or labels are not there; what CAMs are of; what to say of that."""
    if store is None or not split.class_labels:
        return None, None, []
    known = store.classification(split)
    if known.num_images == known.num_with_logits:
        return (split.class_labels if known.num_images else None), known.cams_of, []
    notes = [
        f"{store.path}: {known.num_with_logits:,} of {known.num_images:,} images have logits and a label: "
        "no image is counted with its logits"
    ]
    return None, known.cams_of, notes if known.num_with_logits else []


def is_classified(maps: str | os.PathLike[str], split: Metadata) -> bool:
    """Whether :func:`evaluate` counts which images are classified: of boxes, with labels, in a store with logits."""
    _, store = about_maps(maps, "", False)
    return split.kind == "boxes" and labels_of(store, split)[0] is not None


def check_kind(maps: str | os.PathLike[str], content: str, wants_score_maps: bool) -> None:
    """Raises DatasetError if a store holds the other kind of maps."""
    if not wants_score_maps and content == "score maps":
        raise DatasetError(
            f"{os.fspath(maps)}: holds score maps, which are normalized already: wsolkern evaluate --score-maps"
        )
    if wants_score_maps and content == "cams":
        raise DatasetError(f"{os.fspath(maps)}: holds raw CAMs, expected score maps: wsolkern evaluate --cams")

"""Report and compare: one run, or two on the same images, with all that a page about them says.

In: one or two stores (or folders) of CAMs or score maps, a split. Out: a Report: figures with intervals, curves over
thresholds and percentiles, groups, errors, what each image gives, what it was made of.
Source: Choe et al., arXiv 2007.04178, section 4; Kim et al., arXiv 2107.13221, figures 4 and 5; intervals: Efron &
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

A run is read twice: :func:`wsolkern.studies.sweep` counts it, so that its JSON is one that ``wsolkern verify`` makes
again, and :mod:`wsolkern.studies.looking` looks at its images at the thresholds that came of that.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import CamStore, Manifest, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics import Protocol, Result
from wsolkern.metrics.bootstrap import Bootstrap, Difference, interval_rank
from wsolkern.metrics.localization import LocalizationFigure
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import Evaluation, check_kind, evaluate, sweep
from wsolkern.studies.grouping import Grouping, groups_of
from wsolkern.studies.looking import Look, Looked
from wsolkern.studies.passes import Progress, about_maps, alone, run_pass

NUM_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class RunReport:
    """One run."""

    name: str
    """The last part of its path, or all of it where that is needed to tell two runs apart."""
    evaluation: Evaluation
    """Figures and curves over thresholds of all normalizations, with their provenance; a Sweep but for score maps."""
    result: Result
    """The rows that were listed, M of them."""
    localization: tuple[tuple[LocalizationFigure, ...], ...] | None
    """As :attr:`Evaluation.localization`, of these."""
    bootstraps: dict[Metric, Bootstrap]
    """Intervals of these by metric; none for score maps."""
    groupings: tuple[Grouping, ...]
    """By size of the object and, where images have labels, by class."""
    looked: Looked
    """What each image gives."""
    predicted: Mapping[str, int]
    """Image id -> class of its largest logit, where the store has logits."""
    manifest: Manifest | None
    """Of its store; None for a folder of maps."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The evaluation's JSON with what the report has beside it, as JSON can hold it."""
        groups = [
            {"by": each.by, "size_bounds": each.size_bounds, "groups": [group.to_dict() for group in each.groups]}
            for each in self.groupings
        ]
        errors = {} if self.looked.errors is None else {"errors": self.looked.num_errors()}
        return {
            "name": self.name,
            "result": self.evaluation.to_dict(curves=curves),
            "bootstrap": [each.to_dict() for each in self.bootstraps.values()],
            "groups": groups,
            **errors,
        }


@dataclass(frozen=True, eq=False)
class Report:
    """One run, or two that are compared."""

    split: Metadata
    protocol: Protocol
    """How maps are evaluated; its normalizations are those that were listed."""
    contours: str
    """"all" or "largest": whose boxes images are looked at with."""
    runs: tuple[RunReport, ...]
    """One or two."""
    image_ids: tuple[str, ...]
    """The images that all runs have, in the order of the split, N of them."""
    differences: dict[Metric, tuple[Difference, ...]]
    """Of two runs: the first's figure minus the second's on these images, one a normalization, by metric."""
    class_names: tuple[str, ...] | None = None
    """What the classes are called, by number."""

    @property
    def is_comparison(self) -> bool:
        """Whether there are two runs."""
        return len(self.runs) == 2

    @property
    def middle(self) -> int:
        """The place of the IoU threshold at which images are told apart: the middle one, 0 for masks."""
        return len(self.protocol.iou_thresholds) // 2 if self.split.kind == "boxes" else 0

    @property
    def iou_threshold(self) -> float:
        """That threshold; masks are told apart at 0.5."""
        return float(self.protocol.iou_thresholds[self.middle]) if self.split.kind == "boxes" else 0.5

    def places(self, run: RunReport) -> np.ndarray:
        """Where the common images are among a run's, int64 [N]."""
        places = {each: place for place, each in enumerate(run.looked.image_ids)}
        return np.array([places[each] for each in self.image_ids], np.int64)

    def ious(self, run: RunReport) -> np.ndarray:
        """A run's IoU with the common images at the threshold chosen for the middle IoU threshold, float64 [M, N]."""
        return np.asarray(run.looked.ious[:, self.places(run), self.middle])

    def class_name(self, number: int) -> str:
        """What a class is called: its number where there are no names."""
        return str(number) if self.class_names is None else self.class_names[number]

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """All of it as JSON can hold it but single images; curves over thresholds only if ``curves``."""
        differences = {str(metric): [one.to_dict() for one in each] for metric, each in self.differences.items()}
        return {
            "contours": self.contours,
            "num_images": len(self.image_ids),
            "runs": [each.to_dict(curves=curves) for each in self.runs],
            **({"differences": differences} if self.is_comparison else {}),
        }


def report(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    **how: Any,
) -> Report:
    """Everything about one run that its page says.

    Memory holds the maps as they are stored and some dozen numbers an image and normalization; IoUs at all thresholds
    are float32 in a temporary file where they are more than 64 MB.

    Args:
        maps: A CAM store, or a folder or file of maps, as for :func:`wsolkern.studies.evaluate`.
        split: The ground truth, from :func:`wsolkern.datasets.load_metadata`.
        normalizations: What to normalize with, M of them; None: the maps are score maps.
        how: All else that :func:`reports_of` takes.

    Raises:
        ValueError: As from there.

    Source: Choe et al., arXiv 2007.04178, section 4; Kim et al., arXiv 2107.13221.
    """
    return reports_of([maps], split, normalizations, **how)


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    **how: Any,
) -> Report:
    """Two runs on the images that both have: their figures side by side, and their paired difference.

    The resamples of the bootstrap are the same images for both runs, so that what both find hard does not blur the
    difference. Each run's own figures are of all images that it has.

    Args:
        first: A run, as for :func:`report`.
        second: Another one.
        split, normalizations, how: See there.

    Raises:
        ArgumentError: Both are the same; they have no image in common.
        ValueError: As from there.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (paired by image).
    """
    if os.path.realpath(first) == os.path.realpath(second):
        raise ArgumentError(("first", "second"), f"expected two runs, found {os.fspath(first)} twice")
    return reports_of([first, second], split, normalizations, **how)


def reports_of(
    maps: Sequence[str | os.PathLike[str]],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None",
    *,
    candidates: "Iterable[str | Normalization] | str | None" = defaults.CANDIDATES,
    contours: str = "all",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    class_names: Sequence[str] | None = None,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Report:
    """What :func:`report` and :func:`compare` have in common.

    Args:
        maps: One or two runs.
        split, normalizations: See there.
        candidates: Further normalizations that are evaluated for curves over the percentile; None: none.
        contours: "all": images are looked at with the box of all contours that is nearest to the object, at the
            thresholds of MaxBoxAccV2; "largest": with that of the largest contour, at those of MaxBoxAcc.
        num_resamples: Resamples of the images for intervals.
        seed: What they are drawn with.
        confidence: Of the intervals, a fraction.
        class_names: What the classes are called, by number.
        mask_root, nwc, size, thresholds, iou_thresholds: As for :func:`wsolkern.studies.evaluate`.
        device: "cpu" or "cuda": where the first pass evaluates maps.
        progress: Called with "evaluating" and "looking", or these with the run's name, the number of images done and
            of all.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        NothingCounted: No map of a run could be read.
        DatasetError: Maps and split do not belong together, or maps went while they were read.
        Interrupted: SIGINT or SIGTERM came.
    """
    interval_rank(num_resamples, confidence)
    if contours not in ("all", "largest"):
        raise ArgumentError("contours", f"expected all or largest, found {contours!r}")
    listed = None if normalizations is None else tuple(dict.fromkeys(parse_all(normalizations)))
    others = () if candidates is None or listed is None else parse_all(candidates)
    every = None if listed is None else tuple(dict.fromkeys([*listed, *others]))
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    evaluator = evaluator_for(split, listed, mask_root=mask_root, **how)
    protocol = evaluator.protocol
    if len(np.unique(protocol.thresholds)) < len(protocol.thresholds):
        raise ArgumentError("thresholds", "expected each once, found some twice")
    evaluator_for(split, every, mask_root=mask_root, **how)
    _check_names(class_names, split)
    stores = [about_maps(each, "", nwc)[1] for each in maps]
    # What is wrong with the second is said before the first is counted.
    for each, store in zip(maps, stores, strict=True):
        if store is not None:
            check_kind(each, store.manifest.content, listed is None)
            store.check_split(split)
            store.source(split.image_ids[:1], nwc=nwc)
        else:
            open_maps(each, split.image_ids, nwc=nwc)
    given: dict[str, Any] = {"mask_root": mask_root, "nwc": nwc, "device": device}
    kinds = ("size", "class")[: 1 + bool(split.class_labels)]
    groups = {by: groups_of(by, evaluator, split, progress) for by in kinds}

    names = [os.path.basename(os.path.realpath(each)) for each in maps]
    if len(set(names)) < len(names):
        names = [os.fspath(each) for each in maps]
    resampled: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed, "confidence": confidence}
    looks, runs = [], []
    for each, store, name in zip(maps, stores, names, strict=True):
        tell = progress if progress is None or len(maps) == 1 else _named(progress, name)
        predicted = {} if store is None else store.predicted_classes(split.image_ids)
        shown: dict[str, Any] = {"contours": contours, "labels": split.class_labels, "predicted": predicted}
        look = Look(protocol, evaluator.truth, split.image_ids, groups=groups, **shown)
        evaluation = (
            evaluate(each, split, None, progress=tell, **given, **how)
            if every is None
            else sweep(each, split, every, progress=tell, **given, **how)
        )
        result, localization = _listed(evaluation, protocol)
        look.begin(result)
        _pass(look, each, store, split, mask_root, nwc, tell)
        if look.num_images != result.num_images:
            read = f"{result.num_images:,} images were read the first time and {look.num_images:,} the second"
            raise DatasetError(f"{os.fspath(each)}: expected maps that stay as they are, found that {read}")
        bootstraps = {m: one.compute(**resampled) for m, one in look.bootstraps.items()}
        found = tuple(Grouping(by, one.compute(), groups[by][2]) for by, one in look.groups.items())
        about = evaluation, result, localization, bootstraps, found, look.looked(), look.predicted
        runs.append(RunReport(name, *about, None if store is None else store.manifest))
        looks.append(look)
    common = _common([run.looked for run in runs], split)
    differences = _differences(looks, runs, common, resampled) if len(runs) == 2 else {}
    labels = None if class_names is None else tuple(class_names)
    return Report(split, protocol, contours, tuple(runs), common, differences, labels)


def pairs(run: RunReport, metric: Metric) -> list[Difference]:
    """The differences between all listed normalizations of a run; none for score maps."""
    found = run.bootstraps.get(metric)
    return [] if found is None else [found.difference(*each) for each in combinations(found.normalizations, 2)]


def _check_names(class_names: Sequence[str] | None, split: Metadata) -> None:
    if class_names is None:
        return
    if not split.class_labels:
        raise ArgumentError("class_names", f"{split.folder} has no class_labels.txt, so that nothing has a class")
    last = max(split.class_labels.values())
    if len(class_names) <= last:
        raise ArgumentError("class_names", f"expected a name for each class up to {last}, found {len(class_names)}")


def _named(progress: Progress, name: str) -> Progress:
    return lambda what, done, total: progress(f"{what} {name}", done, total)


def _listed(
    evaluation: Evaluation, protocol: Protocol
) -> tuple[Result, tuple[tuple[LocalizationFigure, ...], ...] | None]:
    """The rows of the listed normalizations, in their order."""
    names = [row.name for row in evaluation.result]
    places = [names.index(each) for each in protocol.names]
    rows = tuple(evaluation.result.rows[place] for place in places)
    found = evaluation.localization
    return replace(evaluation.result, rows=rows), found and tuple(found[place] for place in places)


def _pass(
    look: Look,
    maps: str | os.PathLike[str],
    store: CamStore | None,
    split: Metadata,
    mask_root: str | os.PathLike[str] | None,
    nwc: bool,
    progress: Progress | None,
) -> None:
    """The second pass over a run: what its images give."""
    about, _ = about_maps(maps if store is None else store, "look", nwc)
    job, masks = fingerprint(split, mask_root, about), mask_files_of(split, mask_root)
    with alone(None, {os.fspath(maps): split}, mask_root):
        run_pass(
            SplitCount(look, split.image_ids, job, mask_files=masks),
            lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
            "looking",
            state=None,
            device=None,
            progress=progress,
            scaled=None,
        )


def _common(looked: Sequence[Looked], split: Metadata) -> tuple[str, ...]:
    shared = set(looked[0].image_ids).intersection(*(each.image_ids for each in looked[1:]))
    if not shared:
        raise ArgumentError(("first", "second"), "expected runs with an image in common, found none")
    return tuple(each for each in split.image_ids if each in shared)


def _differences(
    looks: Sequence[Look], runs: Sequence[RunReport], common: tuple[str, ...], resampled: dict[str, Any]
) -> dict[Metric, tuple[Difference, ...]]:
    """The first run minus the second on their common images, a normalization each."""
    differences = {}
    for metric in runs[0].bootstraps:
        of_each = []
        for look, run in zip(looks, runs, strict=True):
            has_all = len(common) == len(run.looked.image_ids)
            found = run.bootstraps[metric]
            of_each.append(found if has_all else look.bootstraps[metric].compute(among=common, **resampled))
        first, second = of_each
        differences[metric] = tuple(first.difference(each, each, second) for each in first.normalizations)
    return differences

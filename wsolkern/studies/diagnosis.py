"""Diagnose: do the maps of a run need IVR, or does max normalization suffice?

In: CAM stores; a split to measure it instead of guessing. Out: a Diagnoses, an entry a store.
Source: Kim et al., arXiv 2107.13221, section 6, figures 4 and 6; intervals: Efron & Tibshirani, 1993, chapter 13.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import CamStore
from wsolkern.datasets import Metadata
from wsolkern.datasets.scaling import UnitRange
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Result, bootstrap, diagnostics, sealed
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization, parse_all
from wsolkern.studies.counting import evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.passes import Pass, Passes, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import versions_of
from wsolkern.studies.recommendation import CAVEAT, Recommendation, recommend, recommend_measured

if TYPE_CHECKING:
    import torch

_IOU_THRESHOLD = 0.7  # that of figure 4
_STATE = {"content": "wsolkern extremes of maps", "version": 2}


@dataclass(frozen=True, eq=False)
class StoreDiagnosis:
    """All about one store."""

    store: CamStore
    nwc: bool
    extremes: diagnostics.RunExtremes
    """Minimum and maximum of each map, and how they are distributed."""
    recommendation: Recommendation
    """With ground truth, what the measured difference supports; without, the rule of thumb."""
    rule_of_thumb: Recommendation
    """What the extremes alone speak for."""
    comparison: diagnostics.Comparison | None
    """Max against IVR as measured; None without ground truth."""
    problems: Mapping[str, str]
    """Image id, or file of a shard -> why it was left out."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but the single maps."""
        manifest, measured = self.store.manifest, self.comparison
        return {
            "store": self.extremes.name,
            "manifest_sha256": self.store.manifest_sha256,
            "index_sha256": self.store.index_sha256,
            **{name: getattr(manifest, name) for name in ("dataset", "split", "method", "backbone")},
            "nwc": self.nwc,
            **self.extremes.diagnosis.to_dict(),
            "recommendation": asdict(self.recommendation),
            "rule_of_thumb": asdict(self.rule_of_thumb),
            "measured": measured and measured.to_dict(),
            "num_localized": {str(each): int(right.sum()) for each, right in self.extremes.localized.items()},
            "missing": self.problems,
        }


@dataclass(frozen=True, eq=False)
class Diagnoses:
    """What some stores need."""

    stores: tuple[StoreDiagnosis, ...]
    size: tuple[int, int]
    """Height and width of the evaluation, in pixels."""
    split: Metadata | None
    """The ground truth that was measured against."""
    warnings: tuple[str, ...] = ()
    """What a reader of the figures should know."""
    save: Callable[[], object] = lambda: None
    """As :attr:`Counted.save`."""
    device: str = "cpu"
    """Where maps were evaluated."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        import wsolkern

        return {
            "wsolkern": wsolkern.__version__,
            "size": list(self.size),
            "versions": versions_of(self.device),
            "metadata": None if self.split is None else self.split.folder,
            "metadata_sha256": None if self.split is None else self.split.sha256(),
            "caveat": CAVEAT,
            "stores": [each.to_dict() for each in self.stores],
        }


def diagnose(
    stores: Sequence[str | os.PathLike[str]],
    split: Metadata | None = None,
    *,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    device: str = "cpu",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Diagnoses:
    """Tells whether runs need IVR or max normalization.

    The higher the standard deviation of the maps' maxima over that of their minima, the more max suffices. That is a
    rule of thumb. With ground truth both are evaluated, and what is recommended is what their difference supports: one
    of them only if the bootstrap interval of the difference does not hold 0.

    Args:
        stores: CAM stores.
        split: Measure on its images, all of which have the same ground truth for each store; None: guess.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of stores that have them.
        size: Height and width of the evaluation, in pixels.
        num_resamples: Resamples of the images, for the interval of the difference.
        seed: What they are drawn with.
        confidence: Of the interval, a fraction.
        device: "cpu" or "cuda": where maps are evaluated.
        resume: File that all passes are saved to every few seconds, and gone on from if it is there.
        progress: Called with "evaluating STORE" or "extremes of STORE", the number of maps done and the number of maps.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        DatasetError: A store holds no CAMs, none that can be read, or none of the split.
        ValueError: All maps of a store are constant; ``resume`` is about something else.
        Interrupted: SIGINT or SIGTERM came.

    Source: Kim et al., arXiv 2107.13221, section 6, figures 4 and 6.
    """
    if mask_root is not None and split is None:
        raise ArgumentError("mask_root", "expected a split with it, whose mask paths start there")
    bootstrap.interval_rank(num_resamples, confidence)
    place, opened = gpu_of(device), [CamStore(path) for path in stores]
    for store in opened:
        if store.manifest.content != "cams":
            raise DatasetError(f"{store.path}: expected CAMs, found {store.manifest.content}: normalized already")
        if nwc and not store.manifest.nwc:
            raise ArgumentError("nwc", f"{store.path} holds no CAMs without negative weights (NWC)")
        if split is not None:
            store.check_split(split)
    state = None if resume is None else Path(resume)
    with alone(state, {os.fspath(path): split for path in stores}, mask_root):
        resampling = {"num_resamples": num_resamples, "seed": seed, "confidence": confidence}
        examining = _Examining(split, mask_root, nwc, size, resampling, place, state, Passes(state), progress)
        examined = tuple(examining.examine(store) for store in opened)
    return Diagnoses(examined, size, split, tuple(examining.warnings), examining.save, device)


class _Examining:
    """Goes through stores, once for the extremes and, with ground truth, once before to find the best thresholds."""

    def __init__(
        self,
        split: Metadata | None,
        mask_root: str | os.PathLike[str] | None,
        nwc: bool,
        size: tuple[int, int],
        resampling: dict[str, Any],
        device: "torch.device | None",
        state: Path | None,
        passes: Passes,
        progress: Progress | None,
    ):
        self._split, self._mask_root, self._nwc, self._size = split, mask_root, nwc, size
        self._resampling = resampling
        self._device, self._state, self._passes, self._progress = device, state, passes, progress
        self.warnings: list[str] = []
        self.save: Callable[[], object] = lambda: None

    def examine(self, store: CamStore) -> StoreDiagnosis:
        """All about one store."""
        result = None if self._split is None else self._evaluate(store, self._split)
        comparison, judge = None, None
        thresholds: dict[Normalization, float] = {}
        if self._split is not None and result is not None:
            comparison = diagnostics.compare(result, Metric.of(str(self._split.kind)))
            judge = self._judge(self._split, comparison)
            if self._split.kind == "boxes":
                shown = (*parse_all("minmax max pas:0.9"), comparison.best_ivr)
                best = {each: result[each].best_threshold_v2 or {} for each in shown}
                thresholds = {each: found[_IOU_THRESHOLD] for each, found in best.items()}
        seen, problems = self._extremes(store, thresholds, judge)
        minima, maxima, right, rows = seen.arrays()
        if comparison is not None and judge is not None:
            judge.add(rows, seen.image_ids)
            try:
                found = judge.compute(**self._resampling)
                difference = found.difference(comparison.best_ivr, "max")
                comparison = replace(comparison, difference=difference, confidence=found.confidence)
            except ValueError as error:  # a resample without an object pixel
                self.warnings.append(f"{store.path}: the difference of max and IVR has no interval: {error}")
        try:
            diagnosis = diagnostics.diagnose(minima, maxima)
        except ValueError as error:
            raise ValueError(f"{store.path}: {error}") from error
        localized = dict(zip(thresholds, right, strict=True))
        extremes = diagnostics.RunExtremes(os.fspath(store.path), diagnosis, minima, maxima, seen.image_ids, localized)
        guessed = recommend(diagnosis, store.manifest.dataset, store.manifest.backbone)
        recommendation = guessed if comparison is None else recommend_measured(comparison)
        return StoreDiagnosis(store, self._nwc, extremes, recommendation, guessed, comparison, problems)

    def _judge(self, split: Metadata, comparison: diagnostics.Comparison) -> bootstrap.BootstrapEvaluator:
        """The bootstrap of max and the best IVR."""
        compared = (Normalization("max"), comparison.best_ivr)
        tested = evaluator_for(split, compared, mask_root=self._mask_root, size=self._size)
        return bootstrap.BootstrapEvaluator(tested.protocol, tested.truth, comparison.metric, split.image_ids)

    def _evaluate(self, store: CamStore, split: Metadata) -> Result:
        """Max, IVR at all percentiles, and for figure 4 the other two."""
        evaluator = evaluator_for(split, defaults.CANDIDATES, mask_root=self._mask_root, size=self._size)
        job = fingerprint(split, self._mask_root, self._about(store))
        name, masks = f"evaluating {store.path}", mask_files_of(split, self._mask_root)
        counting = self._passes.count(name, evaluator, split.image_ids, job, mask_files=masks)
        self._run(counting, lambda remaining: self._source(store, remaining, split.image_ids), name)
        if not evaluator.num_images:
            raise DatasetError(f"{store.path}: no map of {split.folder} could be read")
        return evaluator.compute()

    def _extremes(
        self,
        store: CamStore,
        thresholds: Mapping[Normalization, float],
        judge: bootstrap.BootstrapEvaluator | None,
    ) -> "tuple[_Extremes, dict[str, str]]":
        """Minima, maxima and which boxes are right, and image id or shard -> why maps were left out."""
        split, about = self._split, [self._about(store), self._size, {str(each): t for each, t in thresholds.items()}]
        boxes = split.resized_boxes(self._size) if split is not None and thresholds else {}
        if judge is not None:
            about.append([str(each) for each in judge.protocol.normalizations or ()])
        seen = _Extremes(boxes, thresholds, self._size, judge)
        mask_root = self._mask_root if judge is not None else None
        masks = None if mask_root is None or split is None else mask_files_of(split, mask_root)
        if split is not None:
            image_ids, job = split.image_ids, fingerprint(split, mask_root, about)
        else:
            image_ids = tuple(dict.fromkeys(each for _, entries in store.entries() for each in entries.image_ids))
            job = fingerprint(_no_truth(store, image_ids), None, about)
        name = f"extremes of {store.path}"
        counting = self._passes.count(name, seen, image_ids, job, mask_files=masks)

        def source(remaining: tuple[str, ...]) -> Any:
            if split is not None:
                return self._source(store, remaining, image_ids)
            return _AllMaps(store, store.source(remaining, nwc=self._nwc, siblings=image_ids, to_the_end=True))

        found = self._run(counting, source, name, scaled=None if split is not None else os.fspath(store.path))
        if not seen.num_images:
            raise DatasetError(f"{store.path}: no map could be read")
        return seen, found.problems

    def _about(self, store: CamStore) -> dict[str, object]:
        return about_maps(store, "CAMs", self._nwc)[0]

    def _source(self, store: CamStore, image_ids: tuple[str, ...], siblings: tuple[str, ...]) -> Any:
        return store.source(image_ids, nwc=self._nwc, siblings=siblings)

    def _run(self, counting: Any, source: Callable[[tuple[str, ...]], Any], name: str, scaled: str | None = "") -> Pass:
        how: dict[str, Any] = {"state": self._state, "device": self._device, "progress": self._progress}
        found = run_pass(counting, source, name, scaled=name if scaled == "" else scaled, **how)
        self.warnings += found.warnings
        self.save = found.save
        return found


class _AllMaps:
    """All maps of a store as a source; what is missing are its damaged shards."""

    def __init__(self, store: CamStore, source: Any):
        self._store, self._source = store, source
        self.stamps, self.changed = source.stamps, source.changed

    @property
    def problems(self) -> dict[str, str]:
        """File of a shard -> what is wrong with it."""
        return dict(self._store.problems)

    @property
    def spans(self) -> UnitRange:
        """Whether all maps span exactly [0, 1]."""
        spans: UnitRange = self._source.spans
        return spans

    def batches(self, size: int) -> "Iterable[tuple[tuple[str, ...], np.ndarray]]":
        """In the order of the store."""
        batches: Iterable[tuple[tuple[str, ...], np.ndarray]] = self._source.batches(size)
        return batches


class _Extremes:
    """Counts maps by keeping their minima and maxima, and which have a box that is right; in the order they come in.

    Args:
        boxes: Ground truth by image id, in pixels of the resized map.
        thresholds: Normalization -> threshold at which boxes are looked at; M of them, or none.
        size: Height and width of the evaluation, in pixels.
        judge: What packs the rows of the bootstrap, which are kept, too; None: none are.
    """

    def __init__(
        self,
        boxes: Mapping[str, np.ndarray],
        thresholds: Mapping[Normalization, float],
        size: tuple[int, int],
        judge: bootstrap.BootstrapEvaluator | None,
    ):
        self._boxes, self._thresholds, self._size, self._judge = boxes, thresholds, size, judge
        self.image_ids: list[str] = []
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return len(self.image_ids)

    def update(self, cams: Any, image_ids: Sequence[str]) -> None:
        """Keeps the extremes of a batch [N, h, w]."""
        minima, maxima = diagnostics.extremes(cams, self._size)
        right = np.empty((0, len(image_ids)), bool)
        if self._thresholds:
            truth = [self._boxes[each] for each in image_ids]
            how: dict[str, Any] = {"iou_threshold": _IOU_THRESHOLD, "size": self._size}
            right = diagnostics.localized(cams, truth, self._thresholds, **how)
        rows = self._judge.pack(cams, image_ids) if self._judge is not None else np.empty((len(image_ids), 0), np.uint8)
        self._parts.append((minima, maxima, right, rows))
        self.image_ids += image_ids

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Minima and maxima, float64 [N] each, which boxes are right, bool [M, N], and the bootstrap's rows, [N, R]."""
        return self._joined(self._parts)

    def _joined(
        self, parts: "Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not parts:
            return np.empty(0), np.empty(0), np.empty((len(self._thresholds), 0), bool), np.empty((0, 0), np.uint8)
        minima, maxima, right, rows = zip(*parts, strict=True)
        return np.concatenate(minima), np.concatenate(maxima), np.concatenate(right, axis=1), np.concatenate(rows)

    def moment(self) -> tuple[int, int]:
        """How many parts and images there are."""
        return len(self._parts), self.num_images

    def to_bytes(self, moment: tuple[int, int] | None = None) -> bytes:
        """What there was at a moment."""
        num_parts, num_images = moment or self.moment()
        minima, maxima, right, rows = self._joined(self._parts[:num_parts])
        arrays = {"minima": minima, "maxima": maxima, "right": right.astype(np.uint8), "rows": rows}
        return sealed.seal({**_STATE, "image_ids": self.image_ids[:num_images]}, arrays)

    def take_over(self, content: bytes, num_images: int) -> None:
        """Goes on from what :meth:`to_bytes` gave."""
        header, arrays = sealed.unseal(content, _STATE, ("image_ids",))
        parts = arrays["minima"], arrays["maxima"], arrays["right"].astype(bool), arrays["rows"]
        counts = {*(each.shape[-1] for each in parts[:3]), len(parts[3]), len(header["image_ids"])}
        if counts != {num_images}:
            raise ValueError(f"expected extremes of {num_images} maps, found others")
        self.image_ids, self._parts = list(header["image_ids"]), [parts] if num_images else []


def _no_truth(store: CamStore, image_ids: tuple[str, ...]) -> Metadata:
    """The images of a store without ground truth, as a split."""
    return Metadata(image_ids, folder=os.fspath(store.path))

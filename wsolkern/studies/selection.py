"""Select: percentiles chosen on train-fullsup, figures on test, and how sure their differences are.

In: a store or folder of CAMs and a split, each for val and test. Out: choices, and a bootstrap of their figures.
Source: Choe et al., arXiv 2007.04178, section 4 (protocol); Efron & Tibshirani, 1993, chapter 13 (intervals).
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import BoxRule
from wsolkern.cams import ALONE, Ranks, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Evaluator, bootstrap, sealed, selection
from wsolkern.metrics.localization import SelectedThresholds
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import Counter, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import Evaluation, evaluation_of, is_classified, labels_of, localization_dict
from wsolkern.studies.passes import Counted, NothingCounted, Passes, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import Data, Provenance, protocol_dict

_FORMAT = {"content": "rows of images with their classification", "version": 1}


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen on val, and how that does on test."""

    val: Counted
    """The split that percentiles were chosen on."""
    test: Counted
    """The split of the figures."""
    choices: tuple[selection.Choice, ...]
    """One of each family of normalizations, with its figure on val."""
    figures: bootstrap.Bootstrap
    """Their figures on test, with intervals."""
    nwc: bool
    iou_thresholds: tuple[float, ...]
    num_val_per_class: int
    """Images of each class that were chosen on; 0: all."""
    select_threshold: bool
    """Whether thresholds were chosen on val, too."""
    box_rule: BoxRule
    """How boxes were made."""
    seconds: float
    provenance: Provenance
    """What it was made of and with; the protocol is val's, of all candidates."""
    localized: Evaluation | None = None
    """Top-1, Top-5 and GT-known localization of the choices on test, at the thresholds chosen on val, if asked for."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but the single resamples; the box rule only if it is another than "choe"."""
        import wsolkern

        rule = self.box_rule.recorded()
        localized = {} if self.localized is None else {"localization": localization_dict(self.localized)}
        return (
            rule
            | localized
            | {
                "wsolkern": wsolkern.__version__,
                "val": _about(self.val) | {"num_val_per_class": self.num_val_per_class},
                "test": _about(self.test),
                "nwc": self.nwc,
                "size": list(self.test.size),
                "iou_thresholds": list(self.iou_thresholds),
                "select_threshold": self.select_threshold,
                "seconds": round(self.seconds, 3),
                "choices": [choice.to_dict() for choice in self.choices],
                "bootstrap": self.figures.to_dict(),
                "provenance": self.provenance.to_dict(),
            }
        )


def select(
    val: str | os.PathLike[str],
    val_split: Metadata,
    test: str | os.PathLike[str],
    test_split: Metadata,
    normalizations: "Iterable[str | Normalization] | str" = defaults.CANDIDATES,
    *,
    metric: str | None = None,
    select_threshold: bool = False,
    localization: bool = False,
    num_val_per_class: int = 0,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
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
) -> Selection:
    """Chooses percentiles on val (train-fullsup) and reports them on test, with bootstrap confidence intervals.

    Args:
        val: CAM store, or folder or file of CAMs, of the val split.
        val_split: Its ground truth.
        test: The same of the test split.
        test_split: Its ground truth, of other images.
        normalizations: The candidates; of each family the best one on val goes to the test.
        metric: "MaxBoxAccV2", "MaxBoxAcc" (at IoU 0.5) or "PxAP"; None: MaxBoxAccV2, or PxAP for masks.
        select_threshold: Choose thresholds on val, too, and report the box accuracy at these.
        localization: Report Top-1, Top-5 and GT-known localization on test, too, at the thresholds chosen on val: of
            boxes, with a test store that has the logits of all images; counted in the same pass.
        num_val_per_class: Choose on the first so many val images of each class only; 0: on all.
        num_resamples: Resamples of the test images.
        seed: What they are drawn with.
        confidence: Of the intervals, a fraction.
        mask_root: Folder that both splits' mask paths start from; for masks only.
        nwc: Take the NWC maps of stores that have them.
        size: Height and width of the evaluation, in pixels.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, D of them.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam".
        device: "cpu" or "cuda": where maps are evaluated.
        resume: File that both passes are saved to every few seconds, and gone on from if it is there. What the test's
            resamples are drawn from is in a second file beside it, with ".rows" behind its name.
        progress: Called with "val" or "test", the number of images done and the number of images.
        ranks: As for :func:`wsolkern.studies.evaluate`; the first process draws the resamples.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        NothingCounted: No map of a split could be read.
        DatasetError: Maps and split do not belong together, or another process counts into ``resume``.
        ValueError: ``resume`` is about something else, or what it counted has changed.
        Interrupted: SIGINT or SIGTERM came.
        ProcessLost: One of several processes has ended.

    Source: Choe et al., arXiv 2007.04178, section 4; Efron & Tibshirani, 1993, section 13.3.
    """
    started, place = time.perf_counter(), gpu_of(device, ranks.gpu)
    bootstrap.interval_rank(num_resamples, confidence)
    judged_by = _check_metric(metric, val_split, test_split, select_threshold)
    if localization and not is_classified(test, test_split):
        raise ArgumentError(
            "localization",
            "needs boxes, labels and a CAM store with the logits of all images, found not all of them in "
            f"{os.fspath(test)} and {test_split.folder}",
        )
    # Both are opened before any is read, so that a slip in the second path costs no time.
    used = val_split.first_per_class(num_val_per_class) if num_val_per_class else val_split
    _check_apart(val, val_split, test, test_split)
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    state = None if resume is None else Path(resume)
    with alone(state, {os.fspath(val): val_split, os.fspath(test): test_split}, mask_root, ranks):
        passes = Passes(state, ranks)
        about = {root: _about_cams(root, nwc) for root in (val, test)}
        opened = {root: root if store is None else store for root, (_, store) in about.items()}
        for root, split, siblings in ((val, used, val_split.image_ids), (test, test_split, test_split.image_ids)):
            store = about[root][1]
            if store is not None:
                store.check_split(split, siblings=siblings)
            open_maps(opened[root], split.image_ids, siblings=siblings, nwc=nwc)
        labels, cams_of, _ = labels_of(about[test][1], test_split) if localization else (None, None, [])

        def count(
            name: str,
            root: str | os.PathLike[str],
            split: Metadata,
            siblings: tuple[str, ...],
            counter: Counter,
            settings: object,
            labels: Mapping[str, int] | None = None,
        ) -> Counted:
            began = time.perf_counter()
            job = fingerprint(split, mask_root, [about[root][0], settings])
            counting = passes.count(name, counter, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
            counting.labels = labels
            found = run_pass(
                counting,
                lambda remaining: open_maps(opened[root], remaining, siblings=siblings, nwc=nwc),
                name,
                state=state,
                device=place,
                progress=progress,
                scaled=name,
                ranks=ranks,
            )
            if not counting.num_counted:
                raise NothingCounted(root, found.problems, len(split.image_ids))
            seconds = time.perf_counter() - began
            about_it = os.fspath(root), split, size, counting.num_counted, found.problems, seconds
            return Counted(*about_it, found.warnings, found.save)

        evaluator = evaluator_for(used, normalizations, mask_root=mask_root, box_rule=box_rule, **how)
        rule = evaluator.protocol.box_rule
        on_val = count("val", val, used, val_split.image_ids, evaluator, None)
        choices = selection.select(evaluator.compute(), judged_by)
        chosen = [choice.normalization for choice in choices]
        tested = evaluator_for(test_split, chosen, mask_root=mask_root, box_rule=rule, **how)
        fixed = [choice.thresholds for choice in choices] if select_threshold else None
        judge = bootstrap.BootstrapEvaluator(
            tested.protocol,
            tested.truth,
            judged_by,
            test_split.image_ids,
            thresholds=fixed,
            rows=None if passes.path is None else bootstrap.rows_beside(passes.path),
        )
        settings = {name: np.asarray(value).tolist() for name, value in how.items()}
        settings |= rule.recorded()
        levels = None if fixed is None else [sorted(each.items()) for each in fixed]
        about_test: list[object] = [judged_by, [*map(str, chosen)], settings, levels]
        counter: Counter = judge
        if localization:  # states of passes without have nothing of it
            counter, about_test = _Judged(judge, tested), [*about_test, "with logits"]
        on_test = count("test", test, test_split, test_split.image_ids, counter, about_test, labels)
        passes.finish()
    is_first = ranks.rank == 0  # which has all images
    mine = judge.compute(num_resamples, seed=seed, confidence=confidence) if is_first else None
    figures: bootstrap.Bootstrap = ranks.gather(mine)[0]
    localized = None
    if localization:
        data, at = (
            Data.of(test, about[test][1], test_split, mask_root, nwc),
            SelectedThresholds.of(judged_by, choices, rule),
        )
        localized = evaluation_of(tested, on_test, data, at=at, cams_of=cams_of, device=device)
    ious = tuple(evaluator.iou_thresholds.tolist())
    seconds = time.perf_counter() - started
    about_it = nwc, ious, num_val_per_class, select_threshold, rule, seconds
    made = Provenance.of(
        "select",
        tuple(
            Data.of(root, about[root][1], split, mask_root, nwc)
            for root, split in ((val, val_split), (test, test_split))
        ),
        protocol_dict(evaluator.protocol),
        device=device,
        arguments={
            "metric": str(judged_by),
            "select_threshold": select_threshold,
            "localization": localization,
            "num_val_per_class": num_val_per_class,
            "num_resamples": num_resamples,
            "seed": seed,
            "confidence": confidence,
        },
    )
    return Selection(on_val, on_test, choices, figures, *about_it, made, localized)


class _Judged:
    """What resamples are drawn from and, of the same batches, what Top-1 and Top-5 localization are computed from.

    Args:
        judge: What remembers each image.
        evaluator: What counts all, with their classification.
    """

    def __init__(self, judge: bootstrap.BootstrapEvaluator, evaluator: Evaluator):
        self._judge, self._evaluator = judge, evaluator

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return self._judge.num_images

    def update(self, cams: object, image_ids: Sequence[str], *, correct: Any = None) -> None:
        """Counts a batch, as :meth:`Evaluator.update`, in both or in none."""
        rows = self._judge.pack(cams, image_ids)
        self._evaluator.update(cams, image_ids, correct=correct)
        self._judge.add(rows, image_ids)

    def moment(self) -> tuple[Any, int]:
        """The counts there are now, and the number of images that is remembered."""
        return self._evaluator.moment(), self._judge.moment()

    def to_bytes(self, moment: tuple[Any, int] | None = None) -> bytes:
        """The content of a file: of now, or of a moment before."""
        of_all, num_images = self.moment() if moment is None else moment
        parts = {"evaluator": self._evaluator.to_bytes(of_all), "judge": self._judge.to_bytes(num_images)}
        return sealed.seal(_FORMAT, {name: np.frombuffer(each, np.uint8) for name, each in parts.items()})

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """Adds what :meth:`to_bytes` gave of other images.

        Raises:
            OSError, ValueError: As from :meth:`wsolkern.metrics.bootstrap.BootstrapEvaluator.take_over` and
                :meth:`Evaluator.take_over`; the study ends then.
        """
        _, arrays = sealed.unseal(content, _FORMAT, ())
        self._judge.take_over(arrays["judge"].tobytes(), num_images, path)
        self._evaluator.take_over(arrays["evaluator"].tobytes(), num_images)

    def merge_over(self, ranks: Ranks) -> None:
        """Gives all processes the counts of all, and the first one what is remembered; all of them call this."""
        self._evaluator.merge_over(ranks)
        self._judge.merge_over(ranks)


def _check_metric(text: str | None, val_split: Metadata, test_split: Metadata, select_threshold: bool) -> Metric:
    """The metric, which both splits have the ground truth for."""
    metric = Metric.of(str(val_split.kind)) if text is None else Metric.parse(text)
    for split in (val_split, test_split):
        if metric.truth != split.kind:
            raise ArgumentError("metric", f"{split.folder} localizes objects with {split.kind}, found {metric}")
    if select_threshold and not metric.contours:
        raise ArgumentError("select_threshold", f"{metric} is an area over all thresholds, there is none to choose")
    return metric


def _check_apart(
    val: str | os.PathLike[str], val_split: Metadata, test: str | os.PathLike[str], test_split: Metadata
) -> None:
    """Raises ArgumentError if images that are chosen on are tested on, too."""
    both = set(val_split.image_ids).intersection(test_split.image_ids)
    pairs = (val, test), (val_split.folder, test_split.folder)
    if both and any(Path(one).resolve() == Path(other).resolve() for one, other in pairs):
        raise ArgumentError(
            ("val", "test"),
            f"expected different images, found {len(both):,} that are in {val_split.folder} and {test_split.folder}, "
            f"such as {min(both)!r}: what is chosen on the images it is tested on proves nothing",
        )


def _about_cams(root: str | os.PathLike[str], nwc: bool) -> tuple[dict[str, object], Any]:
    """As :func:`about_maps`, of CAMs."""
    about, store = about_maps(root, "CAMs", nwc)
    if store is not None and store.manifest.content == "score maps":
        raise DatasetError(f"{os.fspath(root)}: holds score maps, which are normalized already; expected CAMs")
    return about, store


def _about(on: Counted) -> dict[str, Any]:
    """What the JSON says about a split."""
    known = on.to_dict() | {"num_images": on.num_images}
    names = ("maps", "metadata", "box_format", "box_rounding", "num_images", "num_missing", "missing")
    return {name: known[name] for name in names}

"""Select: percentiles chosen on train-fullsup, figures on test, and how sure their differences are.

In: a store or folder of CAMs and a split, each for val and test. Out: choices, and a bootstrap of their figures.
Source: Choe et al., arXiv 2007.04178, section 4 (protocol); Efron & Tibshirani, 1993, chapter 13 (intervals).
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.cams import ALONE, Ranks, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError, DatasetError, MapError
from wsolkern.machine import gpu_of
from wsolkern.metrics import bootstrap, sealed, selection
from wsolkern.metrics.classification import stored_top_k
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.metrics.localization import SelectedThresholds, expect_thresholds
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import Counter, Source, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import Evaluation, is_classified, localization_dict
from wsolkern.studies.passes import Counted, NothingCounted, Passes, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import Data, Provenance, protocol_dict

_FORMAT = {"content": "wsolkern counts for select --localization", "version": 1}


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

        rule = {} if self.box_rule == CHOE else {"box_rule": self.box_rule.to_dict()}
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
            boxes, with a test store that has the logits of all images. Test is read once for all.
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

        def count(
            name: str,
            root: str | os.PathLike[str],
            split: Metadata,
            siblings: tuple[str, ...],
            counter: Counter,
            settings: object,
            begin: Callable[[Any], Any] = lambda source: source,
        ) -> Counted:
            began = time.perf_counter()
            job = fingerprint(split, mask_root, [about[root][0], settings])
            counting = passes.count(name, counter, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
            found = run_pass(
                counting,
                lambda remaining: begin(open_maps(opened[root], remaining, siblings=siblings, nwc=nwc)),
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
        if rule != CHOE:  # states from before there were rules have none
            settings["box_rule"] = rule.to_dict()
        levels = None if fixed is None else [sorted(each.items()) for each in fixed]
        about_test = [judged_by, [*map(str, chosen)], settings, levels]
        of_test = "test", test, test_split, test_split.image_ids
        if localization:
            at = SelectedThresholds.of(judged_by, choices)
            expect_thresholds(at, chosen, tested.thresholds, tuple(tested.iou_thresholds.tolist()))
            localizing = _Localizing(judge, tested, test_split.class_labels)
            on_test = count(*of_test, localizing, [*about_test, "localization"], localizing.begin)
        else:
            on_test = count(*of_test, judge, about_test)
        passes.finish()
    is_first = ranks.rank == 0  # which has all images
    mine = judge.compute(num_resamples, seed=seed, confidence=confidence) if is_first else None
    figures: bootstrap.Bootstrap = ranks.gather(mine)[0]
    localized = None
    if localization:
        data = Data.of(test, about[test][1], test_split, mask_root, nwc)
        localized = localizing.evaluation(on_test, at, about[test][1].classification(test_split).cams_of, data, device)
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


class _Localizing:
    """A bootstrap's evaluator and one that counts which images are classified, fed with the same maps.

    An image whose logits say nothing is left out of the second one only.

    Args:
        judge: The bootstrap's; which images are counted is what it says.
        evaluator: The other one, of the same normalizations and images.
        labels: The images' classes.
    """

    def __init__(self, judge: bootstrap.BootstrapEvaluator, evaluator: Evaluator, labels: Mapping[str, int]):
        self._judge, self._evaluator, self._labels = judge, evaluator, labels
        self._problems: dict[str, str] = {}  # image id -> what is wrong with its logits
        self._source: Any = None

    @property
    def num_images(self) -> int:
        """Images that were counted, those without logits included."""
        return self._judge.num_images

    def begin(self, source: Source) -> Source:
        """The same source, whose logits are asked for: a :class:`wsolkern.cams.store.CamSource`."""
        self._source = source
        return source

    def update(self, cams: Any, image_ids: Sequence[str]) -> None:
        """Counts a batch, or raises ValueError and counts nothing of it."""
        correct, problems = self._classified(image_ids)
        self._judge.update(cams, image_ids)  # which refuses all that the other one would
        if problems:
            cams = cams[[place for place, each in enumerate(image_ids) if each not in problems]]
        self._evaluator.update(cams, [each for each in image_ids if each not in problems], correct=correct)
        self._problems = self._problems | problems

    def _classified(self, image_ids: Sequence[str]) -> tuple[dict[int, np.ndarray], dict[str, str]]:
        """Which images are classified, by k, without those whose logits say nothing; image id -> why these do not."""
        classes, logits = self._source.top5(image_ids)
        places, problems = [*range(len(image_ids))], dict[str, str]()
        while True:
            try:
                labels = [self._labels[image_ids[place]] for place in places]
                return stored_top_k(classes[places], logits[places], labels), problems
            except MapError as error:
                place = places.pop(error.place)
                problems[image_ids[place]] = str(MapError(error.argument, 0, error.reason))

    def moment(self) -> tuple[int, Any, dict[str, str]]:
        """What there is now; later updates do not change it."""
        return self._judge.moment(), self._evaluator.moment(), self._problems

    def to_bytes(self, moment: Any = None) -> bytes:
        """What there was at a moment, or is now, as the content of a file."""
        judged, counted, problems = moment or self.moment()
        parts = {"judge": self._judge.to_bytes(judged), "evaluator": self._evaluator.to_bytes(counted)}
        arrays = {name: np.frombuffer(each, np.uint8) for name, each in parts.items()}
        return sealed.seal({**_FORMAT, "problems": problems}, arrays)

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """As :meth:`wsolkern.metrics.bootstrap.BootstrapEvaluator.take_over`."""
        header, arrays = sealed.unseal(content, _FORMAT, ("problems",))
        problems = dict(header["problems"])
        added = Evaluator.of(self._evaluator.protocol, self._evaluator.truth)
        added.take_over(arrays["evaluator"].tobytes(), num_images - len(problems))
        self._judge.take_over(arrays["judge"].tobytes(), num_images, path)
        self._evaluator.merge(added)
        self._problems = self._problems | problems

    def merge_over(self, ranks: Ranks) -> None:
        """Gives all processes the counts of all, and the first one what each image contributes; all call this."""
        self._judge.merge_over(ranks)
        self._evaluator.merge_over(ranks)
        for theirs in ranks.gather(self._problems):
            self._problems = self._problems | theirs

    def evaluation(
        self, on_test: Counted, at: SelectedThresholds, cams_of: str | None, data: Data, device: str
    ) -> Evaluation:
        """What :func:`wsolkern.studies.evaluate` gives with these thresholds.

        Raises:
            NothingCounted: No image has logits that say something.
        """
        problems = on_test.problems | self._problems
        ordered = {each: problems[each] for each in on_test.split.image_ids if each in problems} | problems
        if not self._evaluator.num_images:
            raise NothingCounted(on_test.root, ordered, len(on_test.split.image_ids))
        counted = replace(on_test, num_images=self._evaluator.num_images, problems=ordered)
        result, protocol = self._evaluator.compute(), self._evaluator.protocol
        arguments = {"with_logits": True, "at": at.to_dict()}
        made = Provenance.of("evaluate", (data,), protocol_dict(protocol), device=device, arguments=arguments)
        return Evaluation(counted, result, result.localization(at), at, cams_of, protocol.box_rule, provenance=made)


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

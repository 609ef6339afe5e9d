"""Table: CAM stores into the tables of the paper, with its own numbers beside them.

In: stores whose manifests name data set, split, method and backbone; folders of metadata. Out: a Tabulation.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; IVR's percentile is selected on train-fullsup, as there.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import ALONE, CamStore, Ranks
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Evaluator, Protocol, Result
from wsolkern.metrics.localization import At, SelectedThresholds, expect_thresholds
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.selection import select
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies import paper
from wsolkern.studies.counting import evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.evaluation import is_classified
from wsolkern.studies.passes import Passes, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import Data, Provenance, protocol_dict

if TYPE_CHECKING:
    import torch

_VALIDATION = ("val", "train-fullsup")  # the split that percentiles are selected on: its folder, its name in papers
_PERCENTILES = "ivr:0.00..0.95/0.05"  # what is tried on it
_BASELINE = "CAM"  # the method whose percentile serves all of them


@dataclass(frozen=True)
class Run:
    """A store, with names as the paper spells them."""

    store: CamStore
    method: str
    dataset: str
    backbone: str

    @property
    def path(self) -> str:
        """Where the store is."""
        return os.fspath(self.store.path)

    @property
    def is_validation(self) -> bool:
        """Whether percentiles are selected on it; then it is no cell."""
        return self.store.manifest.split in _VALIDATION

    @property
    def column(self) -> tuple[str, str]:
        """Data set and backbone."""
        return self.dataset, self.backbone

    @property
    def cell(self) -> str:
        """As in "CAM on CUB VGG16"."""
        return f"{self.method} on {self.dataset} {self.backbone}"


@dataclass(frozen=True)
class Percentile:
    """The IVR percentile of a run, and where it comes from."""

    value: float
    """A fraction."""
    source: str
    """ "given", "the paper's" or "selected on train-fullsup with METHOD"."""


@dataclass(frozen=True, eq=False)
class Tabulation:
    """The tables, and what they were made of."""

    tables: tuple[paper.PaperTable, ...]
    """One a layout."""
    notes: tuple[str, ...] = ()
    """What belongs under the tables: settings, and where percentiles come from."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Settings and runs, as JSON can hold them; empty where there are the paper's numbers only."""
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Store -> image id -> why its map was left out."""
    warnings: tuple[str, ...] = ()
    """What a reader of the figures should know."""
    save: Callable[[], object] = lambda: None
    """As :attr:`Counted.save`."""
    provenance: Provenance | None = None
    """What it was made of and with; None where there are the paper's numbers only."""

    def to_dict(self) -> dict[str, Any]:
        """All cells as JSON can hold them, behind the settings and runs."""
        missing = {"missing": self.problems} if self.about else {}
        made = {"provenance": self.provenance.to_dict()} if self.provenance else {}
        return {**self.about, **missing, "tables": [each.to_dict() for each in self.tables], **made}


def table(
    runs: Sequence[str | os.PathLike[str]] = (),
    metadata_root: str | os.PathLike[str] | None = None,
    *,
    mask_roots: Mapping[str, str | os.PathLike[str]] | None = None,
    layouts: Sequence[str] | None = None,
    at: At = "best",
    ivr: "Mapping[tuple[str, str] | None, float] | None" = None,
    published: bool = False,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] = defaults.IOU_THRESHOLDS,
    load: Callable[[Path, str], Metadata] = lambda folder, dataset: load_metadata(folder),
    device: str = "cpu",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Tabulation:
    """Puts CAM stores into the tables of the paper: methods under min-max, max, PaS (0.9) and IVR.

    Each store is read once for all normalizations.

    Args:
        runs: CAM stores whose manifests name data set, split, method and backbone, in any spelling. A store of split
            val (train-fullsup) is no cell: IVR's percentile is selected on it. None: the paper's own numbers.
        metadata_root: Folder of DATASET/SPLIT folders with the ground truth, such as CUB/test.
        mask_roots: Data set -> folder that its mask paths start from.
        layouts: Of "backbones" (table 1), "ious" (table 2) and "localization" (Top-1, Top-5 and GT-known with
            MaxBoxAcc's box, for stores with boxes and the logits of all images); None: the first, or the first two
            without runs.
        at: For "localization": where over thresholds its figures are taken, "best" (each at its own best on these
            images), "gt-known" or a number; see :meth:`wsolkern.metrics.Result.localization`.
        ivr: Percentile of IVR, a fraction, by data set and backbone; None stands for all. Where there is none it is the
            best on the val store of CAM, else of the same method, else the paper's.
        published: Set the paper's numbers beside ours; these need the paper's IoU thresholds.
        nwc: Add rows METHOD+NWC, where stores have these maps.
        size: Height and width of the evaluation, in pixels.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, D of them.
        load: Reads the ground truth of a folder and a data set.
        device: "cpu" or "cuda": where maps are evaluated.
        resume: File that all passes are saved to every few seconds, and gone on from if it is there.
        progress: Called with a pass such as "CAM on CUB VGG16", the number of images done and the number of images.
        ranks: As for :func:`wsolkern.studies.evaluate`; each store is shared.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        DatasetError: A store and its ground truth do not belong together, or another process counts into ``resume``.
        ValueError: A store has no percentile or no map that can be counted; ``resume`` is about something else.
        Interrupted: SIGINT or SIGTERM came.
        ProcessLost: One of several processes has ended.

    Source: Kim et al., arXiv 2107.13221, tables 1 and 2.
    """
    if not runs and not published:
        raise ArgumentError(("runs", "published"), "expected CAM stores, the paper's own numbers, or both")
    layouts = layouts or paper.LAYOUTS[: 1 if runs else 2]
    localizes = "localization" in layouts
    if localizes and published:
        reason = "the paper has no Top-1, Top-5 and GT-known localization to set beside ours"
        raise ArgumentError(("published", "layouts"), reason)
    if at != "best" and not localizes:
        raise ArgumentError("at", "needs the layout localization; the others are at the best thresholds")
    if isinstance(at, SelectedThresholds):
        raise ArgumentError("at", "expected one policy for all stores, found thresholds that were selected for one")
    if not runs:
        return Tabulation(tuple(paper.arrange([], each, published=published) for each in layouts))
    if published and tuple(iou_thresholds) != paper.IOU_THRESHOLDS:
        papers, ours = (" ".join(map(str, each)) for each in (paper.IOU_THRESHOLDS, iou_thresholds))
        raise ArgumentError(("published", "iou_thresholds"), f"expected the paper's {papers}, found {ours}")
    opened = _open(runs)
    roots = {paper.canonical(dataset): root for dataset, root in (mask_roots or {}).items()}
    there = sorted({run.dataset for run in opened})
    for dataset in roots.keys() - set(there):
        raise ArgumentError("mask_roots", f"expected a data set of RUNS ({', '.join(there)}), found {dataset}")
    given = _canonical(ivr or {}, {run.column for run in opened if not run.is_validation})
    splits = _GroundTruth(metadata_root, load)
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    state = None if resume is None else Path(resume)
    measuring = _Measuring(splits, roots, how, gpu_of(device, ranks.gpu), state, progress, ranks)
    expect_thresholds(at, Protocol(None, thresholds=thresholds, iou_thresholds=iou_thresholds))
    passes = _passes(opened, nwc)
    choices = _choose(opened, given)
    used = [*(run for run, _ in passes), *(each for each in choices.values() if isinstance(each, Run))]
    for run in used:  # what is wrong with arguments and metadata shows before anything is counted
        measuring.evaluator(run, "max")
        run.store.check_split(splits.of(run))
        if localizes and not run.is_validation:
            measuring.expect_classified(run)
    inputs = {run.path: splits.of(run) for run in used}
    with alone(state, inputs, {run.path: roots.get(run.dataset) for run in used}.get, ranks):
        measuring.passes = Passes(state, ranks)
        percentiles = _select(choices, measuring)
        figures = []
        for run, is_nwc in passes:
            names = ["minmax", "max", f"pas:{paper.PAS}", f"ivr:{percentiles[run.path].value!r}"]
            method = run.method + (paper.NWC if is_nwc else "")
            what = f"{method} on {run.dataset} {run.backbone}"
            result = measuring.count(run, names, what, nwc=is_nwc, classified=localizes)
            figures += paper.result_figures(result, method=method, dataset=run.dataset, backbone=run.backbone, at=at)
        measuring.passes.finish()
    tables = tuple(paper.arrange(figures, each, published=published) for each in layouts)
    cells = [run for run in opened if not run.is_validation]
    notes = _notes(cells, how, percentiles)
    if localizes:
        notes += _about_localization(cells, splits, at)
    if published and any(not backbone for each in tables for _, backbone, _ in each.columns):
        notes.append("The paper's table 2 has columns of its own, since its numbers here name no backbone")
    about = _about(cells, splits, how, percentiles)
    warnings = tuple(measuring.warnings)
    made = Provenance.of(
        "table",
        tuple(
            Data.of(run.path, run.store, splits.of(run), roots.get(run.dataset), is_nwc)
            for run, is_nwc in {run.path: (run, (run, True) in passes) for run in used}.values()
        ),
        {name: each for name, each in protocol_dict(Protocol(**how)).items() if name != "normalizations"},
        device=device,
        arguments={
            "runs": [run.path for run in opened],
            "metadata_root": os.fspath(metadata_root or ""),
            "mask_roots": {dataset: os.fspath(root) for dataset, root in roots.items()},
            "layouts": list(layouts),
            "at": at,
            "ivr": [[*(column or (None, None)), value] for column, value in given.items()],
            "published": published,
            "nwc": nwc,
        },
    )
    return Tabulation(tables, tuple(notes), about, measuring.problems, warnings, measuring.save, made)


class _GroundTruth:
    """The splits of runs, each read once.

    Args:
        root: Folder of DATASET/SPLIT folders.
        load: Reads one.
    """

    def __init__(self, root: str | os.PathLike[str] | None, load: Callable[[Path, str], Metadata]):
        self._root, self._load = root, load
        self._splits: dict[Path, Metadata] = {}

    def of(self, run: Run) -> Metadata:
        """The ground truth of a run.

        Raises:
            ArgumentError: There is no folder of it.
            DatasetError: It is damaged.
        """
        if self._root is None:
            raise ArgumentError("metadata_root", "needed for RUNS, a folder of DATASET/SPLIT folders")
        manifest = run.store.manifest
        names = dict.fromkeys((paper.metadata_folder(run.dataset), manifest.dataset, run.dataset))
        splits = _VALIDATION if run.is_validation else (manifest.split,)
        folders = [Path(self._root, str(name), str(split)) for name in names for split in splits]
        folder = next((each for each in folders if each.is_dir()), None)
        if folder is None:
            looked_for = " or ".join(map(str, folders))
            reason = f"{run.path} needs its ground truth in {looked_for}, found no such folder"
            raise ArgumentError("metadata_root", reason)
        if folder not in self._splits:
            self._splits[folder] = self._load(folder, run.dataset)
        return self._splits[folder]


@dataclass
class _Measuring:
    """How runs are counted; collects what is left out."""

    splits: _GroundTruth
    mask_roots: Mapping[str, str | os.PathLike[str]]
    how: Mapping[str, Any]
    device: "torch.device | None"
    state: Path | None
    progress: Progress | None
    ranks: Ranks
    passes: Passes = field(default_factory=lambda: Passes(None))
    problems: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    save: Callable[[], object] = lambda: None

    def evaluator(self, run: Run, normalizations: str | list[str]) -> Evaluator:
        """An empty evaluator for a run."""
        root = self.mask_roots.get(run.dataset)
        try:
            return evaluator_for(self.splits.of(run), normalizations, mask_root=root, **self.how)
        except ArgumentError as error:
            if error.arguments != ("mask_root",):
                raise
            raise ArgumentError("mask_roots", error.reason, f"{run.dataset}=DIR") from error

    def expect_classified(self, run: Run) -> None:
        """Does nothing if a store can be counted with its logits.

        Raises:
            ArgumentError: It cannot.
        """
        if not is_classified(run.store.path, self.splits.of(run)):
            needs = "layout localization needs boxes, labels and the logits of all images"
            raise ArgumentError("layouts", f"{run.path}: {needs}, found not all of them")

    def count(
        self, run: Run, normalizations: str | list[str], what: str, *, nwc: bool = False, classified: bool = False
    ) -> Result:
        """One pass over a store; ``classified``: with its logits.

        Raises:
            DatasetError: It has no map that could be counted.
        """
        split, root = self.splits.of(run), self.mask_roots.get(run.dataset)
        evaluator = self.evaluator(run, normalizations)
        job = fingerprint(split, root, about_maps(run.store, "CAMs", nwc)[0])
        name = f"{what}, with logits" if classified else what  # counts without them are none of these
        counting = self.passes.count(name, evaluator, split.image_ids, job, mask_files=mask_files_of(split, root))
        counting.labels = split.class_labels if classified else None
        found = run_pass(
            counting,
            lambda remaining: run.store.source(remaining, nwc=nwc, siblings=split.image_ids),
            what,
            state=self.state,
            device=self.device,
            progress=self.progress,
            scaled=what,
            ranks=self.ranks,
        )
        self.warnings += found.warnings
        self.save = found.save
        if found.problems:
            self.problems[run.path] = self.problems.get(run.path, {}) | found.problems
        if not evaluator.num_images:
            image_id, reason = next(iter(found.problems.items()))
            raise DatasetError(f"{run.path}: no map could be counted, such as that of {image_id!r}: {reason}")
        return evaluator.compute()


def _open(paths: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """The stores by their manifests.

    Raises:
        ValueError: A manifest lacks a name, a store holds score maps, or two stores are the same cell.
    """
    runs: dict[tuple[str, str, str, bool], Run] = {}
    for path in paths:
        store = CamStore(path)
        manifest = store.manifest
        absent = [name for name in ("dataset", "split", "method", "backbone") if not getattr(manifest, name)]
        if absent:
            raise DatasetError(f"{os.fspath(path)}: expected a manifest that names its {', '.join(absent)}, found none")
        if manifest.content != "cams":
            raise DatasetError(
                f"{os.fspath(path)}: expected CAMs, found {manifest.content}, which are normalized already"
            )
        names = (paper.canonical(str(each)) for each in (manifest.method, manifest.dataset, manifest.backbone))
        run = Run(store, *names)
        other = runs.setdefault((run.method, run.dataset, run.backbone, run.is_validation), run)
        if other is not run:
            what = f"{run.cell}, split {manifest.split}"
            raise ArgumentError("runs", f"expected one store a cell, found two of {what}: {other.path} and {run.path}")
    if all(run.is_validation for run in runs.values()):
        reason = f"expected a store of another split than {' or '.join(_VALIDATION)}, found none"
        raise ArgumentError("runs", reason)
    return list(runs.values())


def _passes(runs: list[Run], nwc: bool) -> list[tuple[Run, bool]]:
    """The passes over cells, each with whether it is over NWC maps."""
    cells = [run for run in runs if not run.is_validation]
    others = [(run, True) for run in cells if nwc and run.store.manifest.nwc]
    if nwc and not others:
        raise ArgumentError("nwc", "expected a store that holds CAMs without negative weights (NWC), found none")
    return [(run, False) for run in cells] + others


def _canonical(
    ivr: "Mapping[tuple[str, str] | None, float]", columns: set[tuple[str, str]]
) -> "dict[tuple[str, str] | None, float]":
    """The percentiles that are given, by data set and backbone as the paper spells them."""
    given: dict[tuple[str, str] | None, float] = {}
    for column, value in ivr.items():
        spelled = None if column is None else (paper.canonical(column[0]), paper.canonical(column[1]))
        if spelled is not None and spelled not in columns:
            there = ", ".join(sorted(map("/".join, columns)))
            found = "/".join(column or ())
            raise ArgumentError("ivr", f"expected a data set and a backbone of RUNS ({there}), found {found}")
        given[spelled] = float(Normalization("ivr", ivr=value).ivr or 0.0)
    return given


def _choose(runs: list[Run], given: "Mapping[tuple[str, str] | None, float]") -> "dict[str, Percentile | Run]":
    """Each cell's IVR percentile, or the store to select it on.

    Raises:
        ArgumentError: A cell is left without a percentile.
    """
    validation = {(run.method, *run.column): run for run in runs if run.is_validation}
    choices: dict[str, Percentile | Run] = {}
    for run in runs:
        if run.is_validation:
            continue
        papers = paper.ivr_percentile(*run.column)
        wanted = given.get(run.column, given.get(None))
        if wanted is not None:
            choices[run.path] = Percentile(wanted, "given")
        elif store := validation.get((_BASELINE, *run.column)) or validation.get((run.method, *run.column)):
            choices[run.path] = store
        elif papers is not None:
            choices[run.path] = Percentile(papers, "the paper's")
        else:
            reason = f"{run.path}: no IVR percentile for {run.cell}: the paper has none; pass one, or add its store of "
            raise ArgumentError("ivr", f"{reason}split val to RUNS", f"{'/'.join(run.column)}=0.45")
    return choices


def _select(choices: "Mapping[str, Percentile | Run]", measuring: _Measuring) -> dict[str, Percentile]:
    """The percentiles themselves: one pass over each store that some are selected on."""
    selected: dict[str, Percentile] = {}
    for run in choices.values():
        if isinstance(run, Run) and run.path not in selected:
            result = measuring.count(run, _PERCENTILES, f"train-fullsup: {run.cell}")
            (best,) = select(result, Metric.of(str(measuring.splits.of(run).kind)))
            percentile = best.normalization.ivr or 0.0
            selected[run.path] = Percentile(percentile, f"selected on train-fullsup with {run.method}")
    return {path: selected[each.path] if isinstance(each, Run) else each for path, each in choices.items()}


def _notes(cells: list[Run], how: Mapping[str, Any], percentiles: Mapping[str, Percentile]) -> list[str]:
    """Settings, and where the IVR percentiles come from: by column, and by method where methods differ."""
    described = []
    for column in dict.fromkeys(run.column for run in cells):
        found = {run.method: percentiles[run.path] for run in cells if run.column == column}
        if len(set(found.values())) == 1:
            found = {"": next(iter(found.values()))}
        for method, each in found.items():
            described.append(f"{' '.join((*column, method)).strip()} {each.value:g} ({each.source})")
    height, width = how["size"]
    fractions = ", ".join(f"{each:g}" for each in how["iou_thresholds"])
    num_thresholds = len(how["thresholds"])
    return [
        f"Maps of {height}x{width}, {num_thresholds} thresholds, IoU thresholds {fractions}, PaS {paper.PAS}",
        f"IVR percentiles: {'; '.join(described)}",
    ]


def _about_localization(cells: list[Run], splits: _GroundTruth, at: At) -> list[str]:
    """What CAMs are of, where they are not of the images' labels, and where figures are taken."""
    policy = {"best": "each figure at its best threshold on these images", "gt-known": "at the best GT-known threshold"}
    notes = [f"Localization: MaxBoxAcc's box, {policy[at] if isinstance(at, str) else f'at threshold {at:g}'}"]
    for run in cells:
        cams_of = run.store.classification(splits.of(run)).cams_of
        if cams_of != "labels":
            of = "the predicted class" if cams_of == "predicted" else "an unknown class"
            notes.append(f"{run.path}: CAMs of {of}, so that GT-known is not what its name says")
    return notes


def _about(
    cells: list[Run], splits: _GroundTruth, how: Mapping[str, Any], percentiles: Mapping[str, Percentile]
) -> dict[str, Any]:
    """What the JSON says beside the tables."""
    import wsolkern

    return {
        "wsolkern": wsolkern.__version__,
        "size": list(how["size"]),
        "num_thresholds": len(how["thresholds"]),
        "iou_thresholds": list(how["iou_thresholds"]),
        "runs": [
            {
                "store": run.path,
                **{name: getattr(run, name) for name in ("method", "dataset", "backbone")},
                "split": run.store.manifest.split,
                "metadata": splits.of(run).folder,
                "ivr": asdict(percentiles[run.path]),
            }
            for run in cells
        ],
    }

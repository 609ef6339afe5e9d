"""``wsolkern table``: CAM stores to the tables of the paper, with its own numbers beside them.

In: stores whose manifests name data set, split, method and backbone; metadata. Out: text, Markdown, LaTeX, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; IVR's percentile is selected on train-fullsup, as there.
"""

import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, studying, terminal
from wsolkern.cli.counting import count_under_bar
from wsolkern.errors import ArgumentError
from wsolkern.files import write_whole
from wsolkern.targets import Targets, check_masks, check_targets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from wsolkern.cams import CamStore
    from wsolkern.datasets import Metadata
    from wsolkern.metrics import Evaluator, Result
    from wsolkern.report.paper import Figure, PaperTable

_VALIDATION = ("val", "train-fullsup")  # the split that percentiles are selected on: its folder, its name in papers
_PERCENTILES = "ivr:0.00..0.95/0.05"  # what is tried on it
_WIDEST = 10_000  # columns of a file
_BASELINE = "CAM"  # the method whose percentile serves all of them


class Layout(str, Enum):
    """The paper's table 1 and table 2."""

    backbones = "backbones"
    ious = "ious"


class Format(str, Enum):
    """What a table can be written as."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def table(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUNS",
            help="CAM stores whose manifests name data set, split, method and backbone. A store of split val "
            "(train-fullsup) is no cell: IVR's percentile is selected on it.",
            show_default=False,
        ),
    ] = None,
    metadata_root: Annotated[
        Path | None, typer.Option(help="Folder of DATASET/SPLIT folders with the ground truth, such as CUB/test.")
    ] = None,
    mask_root: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET=DIR", help="Folder that the mask paths of a data set start from (PxAP)."),
    ] = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="backbones: the paper's table 1, MaxBoxAccV2 or PxAP by backbone; ious: its table 2, box accuracy by "
            "IoU threshold. Default: backbones, or both without RUNS.",
            show_default=False,
        ),
    ] = None,
    ivr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P|DATASET/BACKBONE=P",
            help="Percentile of IVR, a fraction, for all or for one column. Default: the best on the store of split "
            "val of CAM, else of the same method, else the paper's.",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the paper's numbers: beside ours, or alone without RUNS.")
    ] = False,
    nwc: Annotated[
        bool,
        typer.Option(
            "--nwc", help="Add rows METHOD+NWC: CAMs without negative classifier weights, where stores have them."
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="What the table is written as.")] = Format.text,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there, do not print it.")] = None,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    interval: options.Interval = options.DEFAULT_INTERVAL,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Put CAM stores into the tables of the paper.

    Rows are methods under min-max, max, PaS (0.9) and IVR; each store is read once for all of them. The best
    normalization of a method is in bold.

    - wsolkern table runs/* --metadata-root metadata --published

    - wsolkern table --published --format latex
    """
    with terminal.errors_as_messages():
        from wsolkern.report import paper

        machine.use_threads(threads)
        targets = {"--json": json_file, "--out": out}
        check_targets(targets, (*(runs or ()), metadata_root))
        counting, figures, notes, content = None, [], [], {}
        if runs:
            counting = _Counting(
                metadata_root=metadata_root,
                mask_roots=_by_dataset(mask_root or []),
                allow_missing_ignore=allow_missing_ignore,
                box_format=box_format,
                box_rounding=box_rounding,
                size=options.parse_size(size),
                iou_thresholds=tuple(options.parse_fractions("--iou-thresholds", iou_thresholds)),
                interval=interval,
                targets=targets,
            )
            if published and counting.iou_thresholds != paper.IOU_THRESHOLDS:
                raise ValueError(
                    f"--published: expected the paper's --iou-thresholds {options.DEFAULT_IOU_THRESHOLDS!r}, "
                    f"found {iou_thresholds!r}"
                )
            figures, notes, content = _measure(_open(runs), counting, ivr or [], nwc)
        elif not published:
            raise ValueError("RUNS: expected at least one CAM store, or --published alone for the paper's own numbers")
        layouts = [layout.value] if layout else paper.LAYOUTS[: 1 if runs else 2]
        tables = [paper.arrange(figures, each, published=published) for each in layouts]
        if published and runs and any(not backbone for each in tables for _, backbone, _ in each.columns):
            notes.append("The paper's table 2 has columns of its own, since its numbers here name no backbone")

        def write_json() -> None:
            cells = [{"layout": each.layout, "cells": paper.records(each)} for each in tables]
            terminal.write_json({**content, "tables": cells}, json_file)

        def finish() -> None:
            if counting is not None and counting.report_problems() and not allow_missing:
                raise typer.Exit(terminal.PROBLEMS)

        steps = []
        if out is not None:
            steps.append(lambda: _write(out, tables, notes, format_))
        elif json_file != "-":
            steps.append(lambda: _print(tables, notes, format_))
        if json_file is not None:
            steps.append(write_json)
        terminal.deliver(*steps, finish)


@dataclass(frozen=True)
class _Run:
    """A store, with names as the paper spells them."""

    store: "CamStore"
    method: str
    dataset: str
    backbone: str

    @property
    def path(self) -> str:
        return os.fspath(self.store.path)

    @property
    def is_validation(self) -> bool:
        return self.store.manifest.split in _VALIDATION

    @property
    def cell(self) -> str:
        return f"{self.method} on {self.dataset} {self.backbone}"


@dataclass(frozen=True)
class _Percentile:
    """The IVR percentile of a run, and where it comes from."""

    value: float
    source: str


@dataclass
class _Counting:
    """How runs are counted; collects what is left out."""

    metadata_root: Path | None
    mask_roots: dict[str, Path]
    allow_missing_ignore: bool
    box_format: str
    box_rounding: str
    size: tuple[int, int]
    iou_thresholds: tuple[float, ...]
    interval: float
    targets: Targets
    problems: dict[str, dict[str, str]] = field(default_factory=dict)
    """Store -> image id -> why its map was left out."""
    _splits: dict[Path, "Metadata"] = field(default_factory=dict)

    def split(self, run: _Run) -> "Metadata":
        """The ground truth of a run.

        Raises:
            ValueError: There is no folder of it, or it is damaged.
        """
        from wsolkern.datasets import load_metadata
        from wsolkern.report import paper

        if self.metadata_root is None:
            raise ValueError("--metadata-root: needed for RUNS, a folder of DATASET/SPLIT folders")
        manifest = run.store.manifest
        names = dict.fromkeys((paper.metadata_folder(run.dataset), manifest.dataset, run.dataset))
        splits = _VALIDATION if run.is_validation else (manifest.split,)
        folders = [self.metadata_root / name / split for name in names for split in splits]
        folder = next((each for each in folders if each.is_dir()), None)
        if folder is None:
            looked_for = " or ".join(map(str, folders))
            raise ValueError(
                f"--metadata-root: {run.path} needs its ground truth in {looked_for}, found no such folder"
            )
        if folder not in self._splits:
            how = {"box_format": self.box_format, "box_rounding": self.box_rounding}
            self._splits[folder] = studying.expect_ignore_masks(
                load_metadata(folder, **how), self.mask_roots.get(run.dataset), self.allow_missing_ignore
            )
            check_masks(self.targets, self._splits[folder], self.mask_roots.get(run.dataset))
        return self._splits[folder]

    def evaluator(self, run: _Run, normalizations: str | list[str]) -> "Evaluator":
        """An empty evaluator for a run."""
        from wsolkern.studies.counting import evaluator_for

        try:
            return evaluator_for(
                self.split(run),
                normalizations,
                mask_root=self.mask_roots.get(run.dataset),
                size=self.size,
                thresholds=options.thresholds(self.interval),
                iou_thresholds=self.iou_thresholds,
            )
        except ArgumentError as error:
            if error.arguments != ("mask_root",):
                raise
            raise ArgumentError("mask_root", error.reason, f"{run.dataset}=DIR") from error

    def count(
        self, run: _Run, normalizations: str | list[str], what: str, bar: "Progress", *, nwc: bool = False
    ) -> "Result":
        """One pass over a store.

        Raises:
            ValueError: It has no map that could be counted.
        """
        evaluator = self.evaluator(run, normalizations)
        problems = count_under_bar(evaluator, run.store.source(self.split(run).image_ids, nwc=nwc), bar, what)
        if problems:
            self.problems[run.path] = self.problems.get(run.path, {}) | problems
        if not evaluator.num_images:
            image_id, reason = next(iter(problems.items()))
            raise ValueError(f"{run.path}: no map could be counted, such as that of {image_id!r}: {reason}")
        return evaluator.compute()

    def report_problems(self) -> bool:
        """Says what was left out; whether anything was."""
        for path, problems in self.problems.items():
            image_id, reason = next(iter(problems.items()))
            text = f"{path}: {len(problems):,} maps were left out, such as that of {image_id!r}: {reason}"
            terminal.stderr().print(text, style="yellow")
        return bool(self.problems)


def _open(paths: Iterable[Path]) -> list[_Run]:
    """The stores by their manifests.

    Raises:
        ValueError: A manifest lacks a name, a store holds score maps, or two stores are the same cell.
    """
    from wsolkern.cams import CamStore
    from wsolkern.report import paper

    runs: dict[tuple, _Run] = {}
    for path in paths:
        store = CamStore(path)
        manifest = store.manifest
        absent = [name for name in ("dataset", "split", "method", "backbone") if not getattr(manifest, name)]
        if absent:
            raise ValueError(f"{path}: expected a manifest that names its {', '.join(absent)}, found none")
        if manifest.content != "cams":
            raise ValueError(f"{path}: expected CAMs, found {manifest.content}, which are normalized already")
        run = _Run(store, *(paper.canonical(each) for each in (manifest.method, manifest.dataset, manifest.backbone)))
        other = runs.setdefault((run.method, run.dataset, run.backbone, run.is_validation), run)
        if other is not run:
            what = f"{run.cell}, split {manifest.split}"
            raise ValueError(f"RUNS: expected one store a cell, found two of {what}: {other.path} and {run.path}")
    if all(run.is_validation for run in runs.values()):
        raise ValueError(f"RUNS: expected a store of another split than {' or '.join(_VALIDATION)}, found none")
    return list(runs.values())


def _measure(
    runs: list[_Run], counting: _Counting, ivr: list[str], nwc: bool
) -> tuple[list["Figure"], list[str], dict]:
    """Figures of all cells, notes about them, and the beginning of the JSON."""
    from wsolkern.report import paper

    cells = [run for run in runs if not run.is_validation]
    passes = [(run, False) for run in cells] + [(run, True) for run in cells if nwc and run.store.manifest.nwc]
    if nwc and len(passes) == len(cells):
        raise ValueError("--nwc: expected a store that holds CAMs without negative weights (NWC), found none")
    datasets = {run.dataset for run in runs}
    for dataset in counting.mask_roots.keys() - datasets:
        raise ValueError(f"--mask-root: expected a data set of RUNS ({', '.join(sorted(datasets))}), found {dataset}")
    choices = _choose(runs, cells, ivr)
    for run in cells + [choice for choice in choices.values() if isinstance(choice, _Run)]:
        counting.evaluator(run, "max")  # what is wrong with arguments and metadata shows before anything is counted
        run.store.check_split(counting.split(run))
    figures: list[Figure] = []
    with terminal.progress_bar() as bar:
        percentiles = _select(choices, counting, bar)
        for run, is_nwc in passes:
            names = ["minmax", "max", f"pas:{paper.PAS}", f"ivr:{percentiles[run.path].value!r}"]
            method = run.method + (paper.NWC if is_nwc else "")
            result = counting.count(run, names, f"{method} on {run.dataset} {run.backbone}", bar, nwc=is_nwc)
            figures += paper.result_figures(result, method=method, dataset=run.dataset, backbone=run.backbone)
    return figures, _notes(cells, counting, percentiles), _about(cells, counting, percentiles)


def _select(choices: dict[str, "_Percentile | _Run"], counting: _Counting, bar: "Progress") -> dict[str, _Percentile]:
    """The percentiles themselves: one pass over each store that some are selected on."""
    from wsolkern.metrics.selection import select
    from wsolkern.normalization import Normalization

    selected: dict[str, _Percentile] = {}
    for run in choices.values():
        if isinstance(run, _Run) and run.path not in selected:
            result = counting.count(run, _PERCENTILES, f"train-fullsup: {run.cell}", bar)
            (best,) = select(result, "PxAP" if counting.split(run).kind == "masks" else "MaxBoxAccV2")
            percentile = Normalization.parse(best.normalization).ivr
            selected[run.path] = _Percentile(percentile, f"selected on train-fullsup with {run.method}")
    return {path: selected[each.path] if isinstance(each, _Run) else each for path, each in choices.items()}


def _choose(runs: list[_Run], cells: list[_Run], ivr: list[str]) -> dict[str, "_Percentile | _Run"]:
    """Each cell's IVR percentile, or the store to select it on.

    Raises:
        ValueError: An --ivr is no fraction or is for no store; a cell is left without a percentile.
    """
    from wsolkern.report import paper

    given = _parse_ivr(ivr, {(run.dataset, run.backbone) for run in cells})
    validation = {(run.method, run.dataset, run.backbone): run for run in runs if run.is_validation}
    choices: dict[str, _Percentile | _Run] = {}
    for run in cells:
        column = run.dataset, run.backbone
        papers = paper.ivr_percentile(*column)
        if column in given or None in given:
            choices[run.path] = _Percentile(given.get(column, given.get(None)), "given")
        elif store := validation.get((_BASELINE, *column)) or validation.get((run.method, *column)):
            choices[run.path] = store
        elif papers is not None:
            choices[run.path] = _Percentile(papers, "the paper's")
        else:
            raise ValueError(
                f"{run.path}: no IVR percentile for {run.cell}: the paper has none; add its store of split val "
                f"to RUNS, or pass --ivr 0.45 or --ivr {run.dataset}/{run.backbone}=0.45"
            )
    return choices


def _parse_ivr(texts: list[str], columns: set[tuple[str, str]]) -> dict[tuple[str, str] | None, float]:
    """--ivr by data set and backbone; None stands for all."""
    from wsolkern.normalization import Normalization
    from wsolkern.report import paper

    given = {}
    for text in texts:
        where, _, percentile = text.rpartition("=")
        try:
            value = Normalization("ivr", ivr=float(percentile)).ivr
        except ValueError:
            raise ValueError(f"--ivr {text}: expected a fraction in [0, 1), as in 0.45 or CUB/VGG16=0.45") from None
        column = tuple(map(paper.canonical, where.split("/"))) if where else None
        if column is not None and column not in columns:
            there = ", ".join(sorted(map("/".join, columns)))
            raise ValueError(f"--ivr {text}: expected a data set and a backbone of RUNS ({there}), found {where}")
        given[column] = value
    return given


def _by_dataset(texts: list[str]) -> dict[str, Path]:
    """--mask-root by data set."""
    from wsolkern.report import paper

    roots = {}
    for text in texts:
        dataset, equals, folder = text.partition("=")
        if not (dataset and equals and folder):
            raise ValueError(f"--mask-root {text}: expected DATASET=DIR, as in OpenImages=dataset/OpenImages")
        roots[paper.canonical(dataset)] = Path(folder)
    return roots


def _notes(cells: list[_Run], counting: _Counting, percentiles: dict[str, _Percentile]) -> list[str]:
    """Settings, and where the IVR percentiles come from: by column, and by method where methods differ."""
    from wsolkern.report import paper

    described = []
    for column in dict.fromkeys((run.dataset, run.backbone) for run in cells):
        found = {run.method: percentiles[run.path] for run in cells if (run.dataset, run.backbone) == column}
        if len(set(found.values())) == 1:
            found = {"": next(iter(found.values()))}
        for method, each in found.items():
            described.append(f"{' '.join((*column, method)).strip()} {each.value:g} ({each.source})")
    height, width = counting.size
    num_thresholds = len(options.thresholds(counting.interval))
    fractions = ", ".join(f"{each:g}" for each in counting.iou_thresholds)
    return [
        f"Maps of {height}x{width}, {num_thresholds} thresholds, IoU thresholds {fractions}, PaS {paper.PAS}",
        f"IVR percentiles: {'; '.join(described)}",
    ]


def _about(cells: list[_Run], counting: _Counting, percentiles: dict[str, _Percentile]) -> dict:
    """What the JSON says beside the tables."""
    import wsolkern

    return {
        "wsolkern": wsolkern.__version__,
        "size": list(counting.size),
        "num_thresholds": len(options.thresholds(counting.interval)),
        "iou_thresholds": list(counting.iou_thresholds),
        "runs": [
            {
                "store": run.path,
                **{name: getattr(run, name) for name in ("method", "dataset", "backbone")},
                "split": run.store.manifest.split,
                "metadata": counting.split(run).folder,
                "ivr": asdict(percentiles[run.path]),
            }
            for run in cells
        ],
        "missing": counting.problems,
    }


def _write(out: Path, tables: list["PaperTable"], notes: list[str], format_: Format) -> None:
    """Writes a file; a table that cannot go there is printed after all."""
    file = io.StringIO()
    _format(terminal.console(file, _WIDEST), tables, notes, format_)
    try:
        write_whole(out, file.getvalue().encode())
    except OSError:
        _print(tables, notes, format_)
        raise


def _print(tables: list["PaperTable"], notes: list[str], format_: Format) -> None:
    with terminal.printing():
        _format(terminal.stdout(), tables, notes, format_)


def _format(console: "Console", tables: list["PaperTable"], notes: list[str], format_: Format) -> None:
    """Writes to a console's file, as wide as the console is."""
    from wsolkern.report import paper
    from wsolkern.report.plain import markdown_text

    if format_ is Format.text:
        for each in tables:
            console.print(*paper.rich_tables(each, console.width), sep="")
        for note in notes:
            console.print(note)
    elif format_ is Format.csv:
        console.file.write(paper.csv_text(tables))
    elif format_ is Format.latex:
        console.file.write("\n".join(paper.latex(each, notes) for each in tables))
    else:
        titled = [f"{paper.title(each)}.\n\n{paper.markdown(each)}" for each in tables]
        console.file.write("\n".join((*titled, *(f"{markdown_text(each)}.\n" for each in notes))))

"""``wsolkern diagnose``: do the maps of a run need IVR, or does max normalization suffice?

In: CAM stores; a split's metadata to measure it instead of guessing. Out: a table, JSON, CSV, a picture.
Source: Kim et al., arXiv 2107.13221, section 6, figures 4 and 6.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, studying, terminal
from wsolkern.cli.counting import count_under_bar, tell_scaled
from wsolkern.targets import check_masks, check_targets

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress

    from wsolkern.cams import CamStore
    from wsolkern.datasets import Metadata
    from wsolkern.metrics import Result
    from wsolkern.metrics.diagnostics import Comparison
    from wsolkern.report.diagnostics import Recommendation, RunExtremes

_BATCH = 64  # maps
_IOU_THRESHOLD = 0.7  # that of figure 4
_METRICS = {"boxes": "MaxBoxAccV2", "masks": "PxAP"}  # by kind of ground truth


def diagnose(
    stores: Annotated[list[Path], typer.Argument(metavar="STORES", help="CAM stores.", show_default=False)],
    metadata: Annotated[
        Path | None,
        typer.Option(
            help="Folder of one split, such as metadata/CUB/test: measure max against IVR on its images, and which "
            "boxes are right, beside what the extremes say."
        ),
    ] = None,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    nwc: options.Nwc = False,
    size: options.Size = "224",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write minimum and maximum of each map.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw minimum against maximum (needs the report extra).")
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Tell whether a run needs IVR or max normalization.

    The higher the standard deviation of the maps' maxima over that of their minima, the more max suffices. That is a
    rule of thumb; with --metadata both are evaluated.

    - wsolkern diagnose runs/cam-vgg16-cub --plot extremes.png

    - wsolkern diagnose runs/* --metadata metadata/CUB/test --csv extremes.csv
    """
    with terminal.errors_as_messages():
        import wsolkern
        from wsolkern.cams import CamStore
        from wsolkern.datasets import load_metadata
        from wsolkern.report import diagnostics

        machine.use_threads(threads)
        targets = {"--json": json_file, "--csv": csv_file, "--plot": plot}
        options.check_plot(plot)
        check_targets(targets, (*stores, metadata))
        if mask_root is not None and metadata is None:
            raise ValueError("--mask-root: expected --metadata with it, whose mask paths start there")
        opened = [CamStore(path) for path in stores]
        for store in opened:
            if store.manifest.content != "cams":
                raise ValueError(f"{store.path}: expected CAMs, found {store.manifest.content}: normalized already")
            if nwc and not store.manifest.nwc:
                raise ValueError(f"--nwc: {store.path} holds no CAMs without negative weights (NWC)")
        split = None
        if metadata is not None:
            split = load_metadata(metadata, box_format=box_format, box_rounding=box_rounding)
            check_masks(targets, split, mask_root)
            split = studying.expect_ignore_masks(split, mask_root, allow_missing_ignore)
            for store in opened:
                store.check_split(split)
        evaluated = options.parse_size(size)
        with terminal.progress_bar() as bar:
            reader = _Reader(split, mask_root, nwc, evaluated, csv_file is not None, bar)
            examined = [reader.examine(store) for store in opened]
        runs = [each.extremes for each in examined]

        def write_json() -> None:
            content = {
                "wsolkern": wsolkern.__version__,
                "size": list(reader.size),
                "metadata": None if split is None else split.folder,
                "caveat": diagnostics.CAVEAT,
                "stores": [each.to_dict() for each in examined],
            }
            terminal.write_json(content, json_file)

        def finish() -> None:
            if any([each.report_problems() for each in examined]) and not allow_missing:
                raise typer.Exit(terminal.PROBLEMS)

        steps = []
        if json_file != "-":
            steps.append(lambda: _print(examined))
        if json_file is not None:
            steps.append(write_json)
        if csv_file is not None:
            steps.append(lambda: diagnostics.write_csv(csv_file, runs))
        if plot is not None:
            steps.append(lambda: diagnostics.draw_extremes(plot, runs))
        terminal.deliver(*steps, finish)


@dataclass(frozen=True, eq=False)
class _Examined:
    """All about one store."""

    store: "CamStore"
    nwc: bool
    extremes: "RunExtremes"
    recommendation: "Recommendation"
    comparison: "Comparison | None"
    problems: dict[str, str]

    def to_dict(self) -> dict:
        manifest, measured = self.store.manifest, self.comparison
        return {
            "store": self.extremes.name,
            **{name: getattr(manifest, name) for name in ("dataset", "split", "method", "backbone")},
            "nwc": self.nwc,
            **self.extremes.diagnosis.to_dict(),
            "recommendation": asdict(self.recommendation),
            "measured": measured and asdict(measured) | {"better": measured.better, "margin": measured.margin},
            "num_localized": {name: int(right.sum()) for name, right in self.extremes.localized.items()},
            "missing": self.problems,
        }

    def report_problems(self) -> bool:
        """Says what was left out; whether anything was."""
        for image_id, reason in islice(self.problems.items(), 1):
            text = f"{len(self.problems):,} maps or shards were left out, the first is {image_id}: {reason}"
            terminal.stderr().print(f"{self.extremes.name}: {text}", style="yellow")
        return bool(self.problems)


@dataclass
class _Reader:
    """Goes through stores, once for the extremes and, with ground truth, once before to find the best thresholds."""

    split: "Metadata | None"
    mask_root: Path | None
    nwc: bool
    size: tuple[int, int]
    keeps_ids: bool
    bar: "Progress"

    def examine(self, store: "CamStore") -> _Examined:
        from wsolkern.metrics import diagnostics
        from wsolkern.report.diagnostics import RunExtremes, recommend

        result = None if self.split is None else self._evaluate(store)
        comparison = None if result is None else diagnostics.compare(result, _METRICS[self.split.kind])
        thresholds = {}
        if result is not None and self.split.kind == "boxes":
            names = ("minmax", "max", "pas:0.9", comparison.best_ivr)
            thresholds = {name: result[name].best_threshold_v2[_IOU_THRESHOLD] for name in names}
        image_ids, minima, maxima, right, problems = self._extremes(store, thresholds)
        try:
            diagnosis = diagnostics.diagnose(minima, maxima)
        except ValueError as error:
            raise ValueError(f"{store.path}: {error}") from error
        manifest = store.manifest
        extremes = RunExtremes(os.fspath(store.path), diagnosis, minima, maxima, image_ids, right)
        recommendation = recommend(diagnosis, manifest.dataset, manifest.backbone)
        return _Examined(store, self.nwc, extremes, recommendation, comparison, problems)

    def _evaluate(self, store: "CamStore") -> "Result":
        """Max, IVR at all percentiles, and for figure 4 the other two."""
        from wsolkern.studies.counting import evaluator_for

        evaluator = evaluator_for(self.split, defaults.CANDIDATES, mask_root=self.mask_root, size=self.size)
        source = store.source(self.split.image_ids, nwc=self.nwc)
        count_under_bar(evaluator, source, self.bar, f"evaluating {store.path}")
        if not evaluator.num_images:
            raise ValueError(f"{store.path}: no map of {self.split.folder} could be read")
        return evaluator.compute()

    def _extremes(self, store: "CamStore", thresholds: dict[str, float]) -> tuple:
        """Ids if they are kept, minima, maxima, which boxes are right, and image id -> why a map was left out."""
        import numpy as np

        from wsolkern.metrics import diagnostics

        boxes = self.split.resized_boxes(self.size) if thresholds else {}
        image_ids, minima, maxima, right, problems = [], [], [], [], {}
        for ids, maps in self._batches(store, problems):
            try:
                lowest, highest = diagnostics.extremes(maps, self.size)
                if thresholds:
                    truth = [boxes[each] for each in ids]
                    how = {"iou_threshold": _IOU_THRESHOLD, "size": self.size}
                    right.append(diagnostics.localized(maps, truth, thresholds, **how))
            except ValueError as error:  # maps of one batch have one shape: none of them can be used
                problems |= dict.fromkeys(ids, str(error))
                continue
            minima.append(lowest)
            maxima.append(highest)
            if self.keeps_ids:
                image_ids += ids
        if not minima:
            raise ValueError(f"{store.path}: no map could be read")
        by_name = dict(zip(thresholds, np.concatenate(right, axis=1), strict=True)) if thresholds else {}
        return image_ids, np.concatenate(minima), np.concatenate(maxima), by_name, problems

    def _batches(self, store: "CamStore", problems: dict[str, str]) -> "Iterator[tuple[tuple[str, ...], np.ndarray]]":
        """All maps of a store, or those of the split, under the bar; then adds what could not be read."""
        from wsolkern.datasets.scaling import UnitRange

        if self.split is None:
            owner, num_maps = store, store.num_maps
            batches = ((each.image_ids, each.nwc_cams if self.nwc else each.cams) for each in store.records(_BATCH))
        else:
            owner = store.source(self.split.image_ids, nwc=self.nwc)
            num_maps, batches = len(owner), owner.batches(_BATCH)
        task = self.bar.add_task(f"extremes of {store.path}", total=num_maps)
        spans = UnitRange()
        for image_ids, maps in batches:
            spans.see(maps)
            yield image_ids, maps
            self.bar.update(task, advance=len(image_ids))
        self.bar.update(task, completed=num_maps)
        problems |= owner.problems
        if self.split is None:  # with a split, counting says it
            tell_scaled(spans, store.path)


def _print(examined: list[_Examined]) -> None:
    from wsolkern.report import diagnostics

    console = terminal.stdout()
    with terminal.printing():
        console.print(diagnostics.rich_table([each.extremes for each in examined]))
        for each in examined:
            found, measured = each.extremes.diagnosis, each.comparison
            console.print(f"{each.extremes.name}{' (NWC)' if each.nwc else ''}", style="bold")
            fence = "Q1 - 1.5 IQR, Tukey's fence; the paper gives no rule"
            lines = {
                "std of maxima / std of minima": f"{found.ratio:.2f} (population standard deviations)",
                "outlier minima": f"{found.num_outlier_minima:,} below {found.outlier_below:.4g} ({fence})",
                "left out": f"{found.num_constant:,} constant maps, {found.num_not_finite:,} with NaN or infinity",
                "recommended": f"{each.recommendation.normalization or 'none'}: {each.recommendation.reason}",
            }
            if measured is not None:
                ahead = f"{measured.better} is ahead by {measured.margin:.2f}" if measured.margin else "they are equal"
                figures = f"{measured.max:.2f} with max, {measured.ivr:.2f} with {measured.best_ivr}"
                lines["measured"] = f"{ahead}: {measured.metric} {figures}"
            for name, text in lines.items():
                console.print(f"  {name:<30} {text}")
        console.print(diagnostics.CAVEAT)

"""``wsolkern select``: percentiles chosen on train-fullsup, figures on test, and how sure their differences are.

In: a store or folder of CAMs and metadata for each of the two splits. Out: a table, JSON, CSV.
Source: Choe et al., arXiv 2007.04178, section 4 (protocol); Efron & Tibshirani, 1993, chapter 13 (intervals).
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import counting, options, outputs, terminal
from wsolkern.files import write_whole

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsolkern.cams import CamSource
    from wsolkern.datasets import MapFolder, Metadata
    from wsolkern.metrics import Evaluator
    from wsolkern.metrics.bootstrap import BootstrapEvaluator

_DEFAULT_NORMALIZATIONS = "minmax max pas:0.9 ivr:0.00..0.95/0.05"


def select(
    val: Annotated[Path, typer.Option(help="CAM store, or folder of CAMs, of the val split (train-fullsup).")],
    val_metadata: Annotated[Path, typer.Option(help="Its metadata, such as metadata/CUB/val.")],
    test: Annotated[Path, typer.Option(help="CAM store, or folder of CAMs, of the test split.")],
    test_metadata: Annotated[Path, typer.Option(help="Its metadata, such as metadata/CUB/test.")],
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    normalizations: options.normalizations(_DEFAULT_NORMALIZATIONS) = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What to choose by and to report: MaxBoxAccV2, MaxBoxAcc (at IoU 0.5) or PxAP. Default: MaxBoxAccV2, "
            "or PxAP where the metadata has masks.",
            show_default=False,
        ),
    ] = None,
    select_threshold: Annotated[
        bool,
        typer.Option(
            "--select-threshold", help="Choose thresholds on val, too, and report the box accuracy on test at these."
        ),
    ] = False,
    num_val_per_class: Annotated[
        int, typer.Option(min=0, help="Choose on the first so many val images of each class only; 0: on all of them.")
    ] = 0,
    num_bootstrap: Annotated[int, typer.Option(min=1, max=1_000_000, help="Resamples of the test images.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="What they are drawn with.")] = 0,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals, a fraction.")] = 0.95,
    nwc: options.Nwc = False,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    interval: options.Interval = options.DEFAULT_INTERVAL,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: options.CsvFile = None,
    markdown: options.Markdown = False,
    threads: options.Threads = None,
) -> None:
    """Choose percentiles on val (train-fullsup) and report them on test, with bootstrap confidence intervals.

    Of each family of normalizations (minmax, max, pas, ivr, ivr+pas) the percentile with the best figure on val goes to
    the test. Intervals come from resamples of the test images, the same for all normalizations.

    - wsolkern select --val cub_val/ --val-metadata metadata/CUB/val --test cub_test/ --test-metadata metadata/CUB/test
    """
    with terminal.errors_as_messages():
        import wsolkern
        from wsolkern.datasets import load_metadata
        from wsolkern.metrics import bootstrap, selection
        from wsolkern.metrics.counting import evaluator_for
        from wsolkern.report import selection as report

        started = time.perf_counter()
        options.use_threads(threads)
        targets = {"--json": json_file, "--csv": csv_file}
        outputs.check_targets(targets, (val, val_metadata, test, test_metadata))
        bootstrap.interval_rank(num_bootstrap, confidence)
        how = {
            "mask_root": mask_root,
            "size": options.parse_size(size),
            "thresholds": options.thresholds(interval),
            "iou_thresholds": options.parse_fractions("--iou-thresholds", iou_thresholds),
        }
        val_split, test_split = (
            options.expect_ignore_masks(
                load_metadata(each, box_format=box_format, box_rounding=box_rounding), mask_root, allow_missing_ignore
            )
            for each in (val_metadata, test_metadata)
        )
        for split in (val_split, test_split):
            outputs.check_masks(targets, split, mask_root)
        if metric is None:
            metric = "PxAP" if val_split.kind == "masks" else "MaxBoxAccV2"
        if metric not in selection.METRICS:
            raise ValueError(f"--metric: expected one of {', '.join(selection.METRICS)}, found {metric!r}")
        for split in (val_split, test_split):
            if (metric == "PxAP") != (split.kind == "masks"):
                raise ValueError(f"--metric: {split.folder} localizes objects with {split.kind}, found {metric}")
        if select_threshold and metric == "PxAP":
            raise ValueError("--select-threshold: PxAP is an area over all thresholds, there is none to choose")
        # Both are opened before any is read, so that a slip in the second path costs no time.
        used = selection.first_per_class(val_split, num_val_per_class) if num_val_per_class else val_split
        _check_apart(val, val_split, test, test_split)
        val_source = _open_cams(val, used, val_split.image_ids, nwc)
        test_source = _open_cams(test, test_split, test_split.image_ids, nwc)
        evaluator = evaluator_for(used, normalizations or _DEFAULT_NORMALIZATIONS, **how)
        with terminal.progress_bar() as bar:
            on_val = _count(val, used, evaluator, val_source, bar, "val")
        on_val.finish(allow_missing=True)
        choices = selection.select(evaluator.compute(), metric)
        counts = evaluator_for(test_split, [choice.normalization for choice in choices], **how)
        evaluator = bootstrap.BootstrapEvaluator(
            counts.protocol,
            counts.truth,
            metric,
            test_split.image_ids,
            thresholds=[choice.thresholds for choice in choices] if select_threshold else None,
        )
        with terminal.progress_bar() as bar:
            on_test = _count(test, test_split, evaluator, test_source, bar, "test")
        on_test.finish(allow_missing=True)
        figures = evaluator.compute(num_bootstrap, seed=seed, confidence=confidence)

        def show() -> None:
            images = [f"{on.evaluator.num_images:,} images of {on.split.folder}" for on in (on_val, on_test)]
            lines = report.caption(choices, figures, *images, fixed=select_threshold)
            shown = report.columns(choices, figures, fixed=select_threshold)
            if markdown:
                terminal.print_text(report.markdown(lines, shown))
            else:
                console = terminal.stdout()
                with terminal.printing():
                    console.print(*lines, *report.rich_tables(shown, console.width), sep="\n")

        def write_json() -> None:
            content = {
                "wsolkern": wsolkern.__version__,
                "val": _about(on_val) | {"num_val_per_class": num_val_per_class},
                "test": _about(on_test),
                "nwc": nwc,
                "size": list(how["size"]),
                "iou_thresholds": how["iou_thresholds"],
                "select_threshold": select_threshold,
                "seconds": round(time.perf_counter() - started, 3),
                "choices": [choice.to_dict() for choice in choices],
                "bootstrap": figures.to_dict(),
            }
            terminal.write_json(content, json_file)

        steps = []
        if json_file != "-":
            steps.append(show)
        if json_file is not None:
            steps.append(write_json)
        if csv_file is not None:
            text = report.csv_text(choices, figures, fixed=select_threshold)
            steps.append(lambda: write_whole(csv_file, text.encode()))
        terminal.deliver(*steps)
    if not allow_missing and (on_val.problems or on_test.problems):
        raise typer.Exit(terminal.PROBLEMS)


def _check_apart(val: Path, val_split: "Metadata", test: Path, test_split: "Metadata") -> None:
    """Raises ValueError if images that are chosen on are tested on, too."""
    both = set(val_split.image_ids).intersection(test_split.image_ids)
    same = [val.resolve() == test.resolve(), Path(val_split.folder).resolve() == Path(test_split.folder).resolve()]
    if both and any(same):
        raise ValueError(
            f"--val, --test: expected different images, found {len(both):,} that are in {val_split.folder} and "
            f"{test_split.folder}, such as {min(both)!r}: what is chosen on the images it is tested on proves nothing"
        )


def _open_cams(root: Path, split: "Metadata", siblings: tuple[str, ...], nwc: bool) -> "CamSource | MapFolder":
    """The CAMs of a split, or of a part of one whose other images are ``siblings``."""
    from wsolkern.cams import CamStore, open_maps

    if CamStore.is_at(root):
        store = CamStore(root)
        if store.manifest.content == "score maps":
            raise ValueError(f"{root}: holds score maps, which are normalized already; expected CAMs")
        store.check_split(split, siblings=siblings)
    return open_maps(root, split.image_ids, siblings=siblings, nwc=nwc)


def _count(
    root: Path,
    split: "Metadata",
    evaluator: "Evaluator | BootstrapEvaluator",
    source: "CamSource | MapFolder",
    bar: "Progress",
    name: str,
) -> counting.Counted:
    """Feeds the maps of a split to an evaluator."""
    started = time.perf_counter()
    problems = counting.count_under_bar(evaluator, source, bar, name)
    return counting.Counted(root, split, evaluator, problems, time.perf_counter() - started)


def _about(on: counting.Counted) -> dict:
    """What the JSON says about a split."""
    return {
        "maps": str(on.root),
        "metadata": on.split.folder,
        "box_format": on.split.box_format,
        "box_rounding": on.split.box_rounding,
        "num_images": on.evaluator.num_images,
        "num_missing": len(on.problems),
        "missing": on.problems,
    }

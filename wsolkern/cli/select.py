"""``wsolkern select``: percentiles chosen on train-fullsup, figures on test, and how sure their differences are.

In: a store or folder of CAMs and metadata for each of the two splits. Out: a table, JSON, CSV.
Source: Choe et al., arXiv 2007.04178, section 4 (protocol); Efron & Tibshirani, 1993, chapter 13 (intervals).
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_targets

_MORE = "; --json FILE lists all"


def select(
    val: Annotated[Path, typer.Option(help="CAM store, or folder of CAMs, of the val split (train-fullsup).")],
    val_metadata: Annotated[Path, typer.Option(help="Its metadata, such as metadata/CUB/val.")],
    test: Annotated[Path, typer.Option(help="CAM store, or folder of CAMs, of the test split.")],
    test_metadata: Annotated[Path, typer.Option(help="Its metadata, such as metadata/CUB/test.")],
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    normalizations: options.normalizations(defaults.CANDIDATES) = None,
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
    localization: Annotated[
        bool,
        typer.Option(
            "--localization",
            help="Report Top-1, Top-5 and GT-known localization on test, too, at thresholds chosen on val; the test "
            "store must have the images' logits.",
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
    box_rule: options.BoxRule = "choe",
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.SharedDevice = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: options.CsvFile = None,
    markdown: options.Markdown = False,
    threads: options.Threads = None,
    resume: options.Resume = None,
) -> None:
    """Choose percentiles on val (train-fullsup) and report them on test, with bootstrap confidence intervals.

    Of each family of normalizations (minmax, max, pas, ivr, ivr+pas) the percentile with the best figure on val goes to
    the test. Intervals come from resamples of the test images, the same for all normalizations.

    Several processes share the images: torchrun --nproc-per-node 2 -m wsolkern select ...

    - wsolkern select --val cub_val/ --val-metadata metadata/CUB/val --test cub_test/ --test-metadata metadata/CUB/test
    """
    with studying.together() as ranks:
        from wsolkern import studies
        from wsolkern.report import selection as report

        machine.use_threads(threads)
        rows = None if resume is None else f"{resume}.rows"
        targets = {"--json": json_file, "--csv": csv_file, "--resume": resume, "--resume, beside it": rows}
        check_targets(targets, (val, val_metadata, test, test_metadata))
        how = options.evaluation(size, iou_thresholds, interval)
        splits = [
            studying.load_split(folder, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
            for folder in (val_metadata, test_metadata)
        ]
        with studying.running(ranks=ranks) as progress:
            found = studies.select(
                val,
                splits[0],
                test,
                splits[1],
                normalizations or defaults.CANDIDATES,
                metric=metric,
                select_threshold=select_threshold,
                localization=localization,
                num_val_per_class=num_val_per_class,
                num_resamples=num_bootstrap,
                seed=seed,
                confidence=confidence,
                mask_root=mask_root,
                nwc=nwc,
                box_rule=box_rule,
                device=device,
                resume=resume,
                progress=progress,
                ranks=ranks,
                **how,
            )
        if ranks.rank:  # the first process delivers
            return
        both = found.val, found.test
        for on in both:
            studying.warn(on.warnings)
            terminal.list_problems(f"of {len(on.split.image_ids):,} maps were left out", on.problems, _MORE)

        def show() -> None:
            by_rule = options.by_rule(found.box_rule.name)
            images = [f"{on.num_images:,} images of {on.split.folder}{by_rule}" for on in both]
            lines = report.caption(found.choices, found.figures, *images, fixed=select_threshold)
            shown = report.columns(found.choices, found.figures, fixed=select_threshold)
            if markdown:
                streams.print_text(report.markdown(lines, shown))
            else:
                with streams.printing() as console:
                    console.print(*lines, *report.rich_tables(shown, console.width), sep="\n")
            if found.localized is not None:
                terminal.print_localization(found.localized, markdown=markdown)

        def write() -> None:
            write_whole(csv_file, report.csv_text(found.choices, found.figures, fixed=select_threshold).encode())

        saves = found.val.save, found.test.save
        terminal.deliver_result(json_file, found.to_dict, show, csv_file and write, *saves)
    if not allow_missing and any(on.problems for on in both):
        raise typer.Exit(terminal.PROBLEMS)

"""``wsolkern sweep``: all normalizations and percentiles of stored CAMs in one pass.

In: a CAM store (or a folder of CAMs), metadata in the field's layout. Out: a table, curves over percentile, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, figure 5 (accuracy over percentile); metrics: Choe et al., arXiv 2007.04178.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.studies.evaluation import Sweep


def sweep(
    cams: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="CAM store; a folder of CAMs, as for wsolkern evaluate, will do too."),
    ],
    metadata: options.Metadata,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    normalizations: options.normalizations(defaults.CANDIDATES) = None,
    nwc: options.Nwc = False,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    box_rule: options.BoxRule = "choe",
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.SharedDevice = "cpu",
    without_logits: options.WithoutLogits = False,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: options.CsvFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the curves over percentile: .png, .svg, .pdf (the report extra)."),
    ] = None,
    num_bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Resamples of the images, for intervals in picture and JSON, in a second pass over the maps; 0: none.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="What they are drawn with.")] = 0,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals, a fraction.")] = 0.95,
    curves: Annotated[
        bool, typer.Option("--curves", help="Put box accuracy and precision-recall over all thresholds in the JSON.")
    ] = False,
    markdown: options.Markdown = False,
    threads: options.Threads = None,
    resume: options.Resume = None,
) -> None:
    """Evaluate stored CAMs under many normalizations and percentiles in one pass.

    Prints the metrics of each normalization with its best thresholds and, where a normalization has several
    percentiles, the curve over them with its peak. A percentile is chosen on train-fullsup: see wsolkern select.

    Several processes share the images: torchrun --nproc-per-node 2 -m wsolkern sweep ...

    - wsolkern sweep runs/cub-vgg16-cam --metadata metadata/CUB/val

    - wsolkern sweep STORE --metadata metadata/CUB/val -n "max ivr:0.3..0.6/0.01" --plot sweep.pdf --num-bootstrap 1000
    """
    with studying.together() as ranks:
        from wsolkern import studies
        from wsolkern.metrics.curves import has_curve
        from wsolkern.normalization import parse_all
        from wsolkern.report import curves as report
        from wsolkern.report.tables import write_csv

        machine.use_threads(threads)
        wanted = tuple(dict.fromkeys(parse_all(normalizations or defaults.CANDIDATES)))
        if plot is not None and not has_curve(wanted):
            raise ValueError("--plot: expected two percentiles of one normalization at least, found no such two")
        options.check_picture("--plot", plot)
        targets = {"--json": json_file, "--csv": csv_file, "--plot": plot, "--resume": resume}
        check_targets(targets, (cams, metadata))
        how = options.evaluation(size, iou_thresholds, interval)
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        with studying.running(studying.state_name(cams), ranks) as progress:
            found = studies.sweep(
                cams,
                split,
                wanted,
                mask_root=mask_root,
                nwc=nwc,
                box_rule=box_rule,
                device=device,
                with_logits=not without_logits,
                resume=resume,
                progress=progress,
                ranks=ranks,
                num_resamples=num_bootstrap,
                seed=seed,
                confidence=confidence,
                **how,
            )
        if ranks.rank:  # the first process delivers
            return
        studying.warn(found.counted.warnings)
        result, title = (
            found.result,
            f"{found.result.num_images:,} images of {split.folder}{options.by_rule(found.box_rule.name)}",
        )

        def show() -> None:
            terminal.print_evaluation(found, title, markdown=markdown)
            if not markdown:
                shown = [each for each in found.percentile_curves if each.metric != "MaxBoxAcc"]
                with streams.printing() as console:
                    mark = "#" if console.options.ascii_only else "█"
                    console.print(*(report.curve_table(each, mark) for each in shown), sep="")

        terminal.deliver_result(
            json_file,
            lambda: found.to_dict(curves=curves),
            show,
            csv_file and (lambda: write_csv(csv_file, result)),
            plot and (lambda: _draw(plot, found, title)),
            found.counted.save,
            lambda: studying.finish(len(split.image_ids), found.counted.problems, allow_missing),
        )


def _draw(path: Path, found: "Sweep", title: str) -> None:
    from wsolkern.report import curves

    curves.draw_percentile_curves(path, found.percentile_curves, title, found.levels, found.bootstrap)

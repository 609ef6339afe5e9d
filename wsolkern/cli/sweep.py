"""``wsolkern sweep``: all normalizations and percentiles of stored CAMs in one pass.

In: a CAM store (or a folder of CAMs), metadata in the field's layout. Out: a table, curves over percentile, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, figure 5 (accuracy over percentile); metrics: Choe et al., arXiv 2007.04178.
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets


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
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.Device = "cpu",
    without_logits: options.WithoutLogits = False,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: options.CsvFile = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the curves over percentile (the report extra).")
    ] = None,
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

    - wsolkern sweep runs/cub-vgg16-cam --metadata metadata/CUB/val

    - wsolkern sweep STORE --metadata metadata/CUB/val -n "max ivr:0.3..0.6/0.01" --csv sweep.csv --plot sweep.png
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.metrics.curves import has_curve
        from wsolkern.normalization import parse_all
        from wsolkern.report import curves as report
        from wsolkern.report.tables import write_csv

        machine.use_threads(threads)
        wanted = tuple(dict.fromkeys(parse_all(normalizations or defaults.CANDIDATES)))
        if plot is not None and not has_curve(wanted):
            raise ValueError("--plot: expected two percentiles of one normalization at least, found no such two")
        options.check_plot(plot)
        targets = {"--json": json_file, "--csv": csv_file, "--plot": plot, "--resume": resume}
        check_targets(targets, (cams, metadata))
        how = options.evaluation(size, iou_thresholds, interval)
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        with studying.running(studying.state_name(cams)) as progress:
            found = studies.sweep(
                cams,
                split,
                wanted,
                mask_root=mask_root,
                nwc=nwc,
                device=device,
                with_logits=not without_logits,
                resume=resume,
                progress=progress,
                **how,
            )
        studying.warn(found.counted.warnings)
        result, title = found.result, f"{found.result.num_images:,} images of {split.folder}"

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
            plot and (lambda: report.draw_percentile_curves(plot, found.percentile_curves, title)),
            found.counted.save,
            lambda: studying.finish(len(split.image_ids), found.counted.problems, allow_missing),
        )

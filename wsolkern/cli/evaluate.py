"""``wsolkern evaluate``: maps and a metadata folder to a table of localization metrics.

In: score maps or raw CAMs, one file an image or a CAM store; metadata in the field's layout. Out: a table, JSON, state.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221 (normalizations).
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets


def evaluate(
    metadata: options.Metadata,
    cams: Annotated[
        Path | None,
        typer.Option(
            help="Folder of raw class activation maps [h, w] of any size: IMAGE_ID.npy, .npz or .safetensors, the "
            "id's own extension kept or left out; or one .npz or .safetensors file that holds all; or a CAM store."
        ),
    ] = None,
    score_maps: Annotated[
        Path | None,
        typer.Option(help="The same for maps that are normalized to [0, 1] and have the evaluation size already."),
    ] = None,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    normalizations: options.normalizations(defaults.NORMALIZATIONS) = None,
    nwc: options.Nwc = False,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.Device = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    curves: Annotated[
        bool, typer.Option("--curves", help="Put box accuracy and precision-recall over all thresholds in the JSON.")
    ] = False,
    markdown: options.Markdown = False,
    threads: options.Threads = None,
    resume: options.Resume = None,
    per_image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv|.parquet",
            help="Write a row for each image and normalization: box, IoUs, hits, error, pointing games. The maps are "
            "read a second time for it. What the rows come to is printed, and in the JSON.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="With --per-image: look at all images at this threshold. Default: the best one of the split."
        ),
    ] = None,
    thresholds_from: Annotated[
        Path | None,
        typer.Option(
            metavar="SELECT.json",
            help="With --per-image: look at images at the thresholds that the JSON of wsolkern select has; without "
            "--normalizations, those that it chose are taken.",
        ),
    ] = None,
    tolerance: Annotated[
        int, typer.Option(min=0, help="With --per-image: margin of the pointing game, in pixels of the resized map.")
    ] = 0,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="class|size",
            help="Print the metrics of each class, or of small, medium and large objects, too (terciles of the split).",
        ),
    ] = None,
) -> None:
    """Evaluate a folder or store of CAMs, or of score maps.

    Maps that are missing or unreadable are left out of the counts, listed at the end, and make the exit code 1.

    - wsolkern evaluate --cams cams/ --metadata metadata/CUB/test

    - wsolkern evaluate --score-maps scoremaps/ --metadata metadata/OpenImages/test --mask-root masks/

    - wsolkern evaluate --cams cams/ --metadata metadata/CUB/test --per-image rows.csv --by size
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report import per_image as report

        machine.use_threads(threads)
        if (cams is None) == (score_maps is None):
            raise ValueError("--cams, --score-maps: expected exactly one of them")
        if score_maps is not None and normalizations:
            raise ValueError("--normalizations: score maps are normalized already; pass --cams, or leave it out")
        if per_image is None and (threshold is not None or thresholds_from is not None or tolerance):
            raise ValueError("--threshold, --thresholds-from, --tolerance: expected --per-image with them")
        if threshold is not None and thresholds_from is not None:
            raise ValueError("--threshold, --thresholds-from: expected one of them at most")
        if by not in (None, "class", "size"):
            raise ValueError(f"--by: expected class or size, found {by!r}")
        if per_image is not None:
            report.check_file(per_image)
        at = options.selected_thresholds(thresholds_from) if thresholds_from is not None else threshold
        wanted = normalizations or (" ".join(at) if isinstance(at, dict) else defaults.NORMALIZATIONS)
        maps, targets = cams or score_maps, {"--json": json_file, "--resume": resume, "--per-image": per_image}
        check_targets(targets, (maps, metadata, thresholds_from))
        how = options.evaluation(size, iou_thresholds, interval)
        if at is not None:
            options.check_thresholds_at(at, None if cams is None else wanted, how["iou_thresholds"])
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        groups = {} if by is None else {"by": by}
        with studying.running(studying.state_name(maps)) as progress:
            found = (studies.by_group if groups else studies.evaluate)(
                maps,
                split,
                None if cams is None else wanted,
                **groups,
                mask_root=mask_root,
                nwc=nwc,
                device=device,
                resume=resume,
                progress=progress,
                **how,
            )
        studying.warn(found.counted.warnings)
        tables = [report.shown_groups(found)] if groups else []
        title = f"{found.result.num_images:,} images of {split.folder}"
        images = None

        def look_at_images() -> None:
            nonlocal images, tables
            with studying.running(resumes=False) as progress, report.writing_rows(per_image) as write:
                images = studies.per_image(
                    maps,
                    split,
                    None if cams is None else wanted,
                    at=found.result if at is None else at,
                    on_rows=write,
                    tolerance=tolerance,
                    mask_root=mask_root,
                    nwc=nwc,
                    progress=progress,
                    **how,
                )
            studying.warn(set(images.counted.warnings) - set(found.counted.warnings))
            tables += report.shown_images(images)

        def content() -> dict:
            of_images = {} if images is None else {"per_image": images.to_dict(curves=curves)}
            return found.to_dict(curves=curves) | of_images

        def show() -> None:
            terminal.print_result(found.result, title, markdown=markdown)
            for each in tables:
                if markdown:
                    streams.print_text(report.markdown(*each))
                else:
                    with streams.printing() as console:
                        console.print(report.rich_table(*each))

        terminal.deliver(
            per_image and look_at_images,
            lambda: terminal.deliver_result(
                json_file,
                content,
                show,
                found.counted.save,
                lambda: studying.finish(len(split.image_ids), found.counted.problems, allow_missing),
            ),
        )

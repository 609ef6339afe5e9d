"""``wsolkern evaluate``: maps and a metadata folder to a table of localization metrics.

In: score maps or raw CAMs, one file an image or a CAM store; metadata in the field's layout. Out: a table, JSON, state.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221 (normalizations).
"""

from contextlib import nullcontext
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
    box_rule: options.BoxRule = "choe",
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.SharedDevice = "cpu",
    without_logits: options.WithoutLogits = False,
    at: Annotated[
        str,
        typer.Option(
            metavar="best|gt-known|TAU|SELECT.json",
            help="Where over thresholds Top-1, Top-5 and GT-known localization are taken: each where it is best on "
            "these images, all where GT-known is best, at a fixed threshold such as 0.2, or at those that wsolkern "
            "select --json wrote, chosen on train-fullsup. With --per-image also where images are looked at.",
        ),
    ] = "best",
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
    tolerance: Annotated[
        int, typer.Option(min=0, help="With --per-image: margin of the pointing game, in pixels of the resized map.")
    ] = 0,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="class|size",
            help="Print the metrics of each class, or of small, medium and large objects (terciles of the split), too. "
            "Counted in the same pass.",
        ),
    ] = None,
) -> None:
    """Evaluate a folder or store of CAMs, or of score maps.

    Maps that are missing or unreadable are left out of the counts, listed at the end, and make the exit code 1.

    Several processes share the images: torchrun --nproc-per-node 2 -m wsolkern evaluate ...

    - wsolkern evaluate --cams cams/ --metadata metadata/CUB/test

    - wsolkern evaluate --score-maps scoremaps/ --metadata metadata/OpenImages/test --mask-root masks/

    - wsolkern evaluate --cams cams/ --metadata metadata/CUB/test --per-image rows.csv --by size
    """
    with studying.together() as ranks:
        from wsolkern import studies
        from wsolkern.box_rule import BoxRule
        from wsolkern.metrics import Protocol, SelectedThresholds
        from wsolkern.report import per_image as report
        from wsolkern.studies.images import chosen_thresholds

        machine.use_threads(threads)
        if (cams is None) == (score_maps is None):
            raise ValueError("--cams, --score-maps: expected exactly one of them")
        if score_maps is not None and normalizations:
            raise ValueError("--normalizations: score maps are normalized already; pass --cams, or leave it out")
        if per_image is None and tolerance:
            raise ValueError("--tolerance: expected --per-image with it")
        if per_image is not None:
            report.check_file(per_image)
        maps, targets = cams or score_maps, {"--json": json_file, "--resume": resume, "--per-image": per_image}
        check_targets(targets, (maps, metadata))
        rule = BoxRule.parse(box_rule)
        how = options.evaluation(size, iou_thresholds, interval)
        where = options.parse_at(at)
        if cams is not None and not normalizations and isinstance(where, SelectedThresholds):
            normalizations = [str(each) for each in where.thresholds]
        wanted = None if cams is None else normalizations or rule.normalization or defaults.NORMALIZATIONS
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        at_figures = where
        if per_image is not None:
            if not isinstance(where, str):
                chosen_thresholds(where, Protocol(wanted, box_rule=rule, **how), split.kind)
            if without_logits or not studies.evaluation.is_classified(maps, split):
                at_figures = "best"  # of none: it is for the rows only
        with studying.running(studying.state_name(maps), ranks) as progress:
            found = studies.evaluate(
                maps,
                split,
                wanted,
                mask_root=mask_root,
                nwc=nwc,
                box_rule=rule,
                device=device,
                with_logits=not without_logits,
                at=at_figures,
                by=by,
                resume=resume,
                progress=progress,
                ranks=ranks,
                **how,
            )
        studying.warn(found.counted.warnings)
        title = f"{found.result.num_images:,} images of {split.folder}{options.by_rule(found.box_rule.name)}"
        tables, more = [] if found.grouping is None else [report.shown_groups(found.grouping)], {}

        def look_at_images() -> None:
            place = found.result if isinstance(where, str) else where
            writing = report.writing_rows(per_image) if ranks.rank == 0 else nullcontext(lambda rows: None)
            with studying.running(None, ranks, resumes=False, beside=resume) as progress, writing as write:
                images = studies.per_image(
                    maps,
                    split,
                    wanted,
                    at=place,
                    on_rows=write,
                    tolerance=tolerance,
                    mask_root=mask_root,
                    nwc=nwc,
                    box_rule=rule,
                    device=device,
                    resume=None if resume is None else resume.with_name(f"{resume.name}.rows"),
                    progress=progress,
                    ranks=ranks,
                    **how,
                )
            tables.extend(report.shown_images(images))
            recorded = where.to_dict() if isinstance(where, SelectedThresholds) else where
            more["per_image"] = {"at": recorded, **images.to_dict(curves=curves)}

        def show() -> None:
            terminal.print_evaluation(found, title, markdown=markdown)
            for each in tables:
                if markdown:
                    streams.print_text(report.markdown(*each))
                else:
                    with streams.printing() as console:
                        console.print(report.rich_table(*each))

        terminal.deliver(
            per_image and look_at_images,
            None
            if ranks.rank  # the first process delivers
            else lambda: terminal.deliver_result(
                json_file,
                lambda: found.to_dict(curves=curves) | more,
                show,
                found.counted.save,
                lambda: studying.finish(len(split.image_ids), found.counted.problems, allow_missing),
            ),
        )

"""``wsolkern show``: a picture of the score maps of some images, with the boxes of the chosen thresholds.

In: a CAM store (or a folder of maps), metadata, a folder of images if there is one. Out: a picture, JSON.
Source: Kim et al., arXiv 2107.13221, figure 3.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.studies.showing import Shown


def show(
    maps: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="CAM store; a folder of maps, as for wsolkern evaluate, will do too.",
            show_default=False,
        ),
    ],
    metadata: options.Metadata,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The picture: .png, or .svg or .pdf for print."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DATA_ROOT", help="Folder that image ids are paths below. Without it: score maps alone."),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--ids", metavar="ID", help="Image ids; several in one quoted string, or the option several times."
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="So many images with the lowest IoU under the first normalization.")
    ] = 0,
    best: Annotated[int, typer.Option(min=0, help="So many with the highest; with --worst both, side by side.")] = 0,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Two normalizations, such as ivr:0.45 minmax: images that A localizes and B does not, and the other "
            "way round.",
            show_default=False,
        ),
    ] = None,
    num: Annotated[
        int, typer.Option(min=1, help="Images of each side of --between; else so many at even distances in the split.")
    ] = 8,
    normalizations: options.normalizations(defaults.NORMALIZATIONS) = None,
    score_maps: Annotated[
        bool, typer.Option("--score-maps", help="The maps are normalized already, of the evaluation size.")
    ] = False,
    at: Annotated[
        str,
        typer.Option(
            metavar="best|THRESHOLD|FILE.json",
            help="Where over thresholds: best on this split, one for all, or those that wsolkern select --json wrote.",
        ),
    ] = "best",
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    nwc: options.Nwc = False,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.Device = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Draw score maps with the boxes of the chosen thresholds, the ground truth and the IoU.

    Each IoU threshold has its own box: the one that MaxBoxAccV2 counts at the best threshold of the whole split, or at
    those of --at. Masks: the outline of the pixels above the threshold of the peak IoU.

    - wsolkern show STORE --metadata metadata/CUB/test --images dataset/CUB --worst 4 --best 4 -o extremes.pdf

    - wsolkern show STORE --metadata metadata/CUB/test --between ivr:0.45 minmax --images dataset/CUB -o picture.png
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report.pictures import draw_localizations

        machine.use_threads(threads)
        options.check_picture("--out", out)
        targets = {"--out": out, "--json": json_file}
        check_targets(targets, (maps, metadata, images))
        if sum((bool(normalizations), between is not None, score_maps)) > 1:
            raise ValueError("--normalizations, --between, --score-maps: expected one of them, found several")
        where, how = options.parse_at(at), options.evaluation(size, iou_thresholds, interval)
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        wanted = None if score_maps else " ".join(normalizations or [defaults.NORMALIZATIONS])
        with studying.running(resumes=False) as progress:
            found = studies.show(
                maps,
                split,
                wanted,
                images=images,
                image_ids=_named(ids or [], split.image_ids),
                worst=worst,
                best=best,
                between=between,
                num=num,
                at=where,
                mask_root=mask_root,
                nwc=nwc,
                device=device,
                progress=progress,
                **how,
            )
        studying.warn(found.warnings)
        terminal.deliver_result(
            json_file,
            found.to_dict,
            lambda: _print(found, out),
            (lambda: draw_localizations(out, found.images, found.caption)) if found.images else None,
            lambda: studying.finish(found.num_images + len(found.problems), found.problems, allow_missing),
        )


def _named(texts: "list[str]", known: "tuple[str, ...]") -> list[str]:
    """The ids in some texts, each of which is one id, spaces and all, or several between spaces."""
    are_ids = set(known).intersection(texts)
    return [each for text in texts for each in ([text] if text in are_ids else text.split())]


def _print(found: "Shown", out: Path) -> None:
    with streams.printing() as console:
        if found.agreement is not None:
            about = found.agreement
            console.print(
                f"of {found.num_images:,} images at IoU {about.iou_threshold:g}: {about.both:,} localized by both, "
                f"{about.only_first:,} by {about.first} only, {about.only_second:,} by {about.second} only, "
                f"{about.neither:,} by neither"
            )
        if found.images:
            console.print(f"{len(found.images)} images in {out}: {found.order}; thresholds: {found.at}")
        else:
            console.print(f"no picture: there is no image of that kind ({found.order})")

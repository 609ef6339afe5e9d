"""``wsolkern report``: one run as a page, with a viewer of every image.

In: a CAM store (or a folder of maps), metadata, a folder of images if there is one. Out: one file of HTML, JSON.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221, figures 4 and 5.
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults
from wsolkern.cli import options, reporting


def report(
    maps: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="CAM store; a folder of maps, as for wsolkern evaluate, will do too.",
            show_default=False,
        ),
    ],
    metadata: options.Metadata,
    out: reporting.Out,
    images: reporting.Images = None,
    no_thumbnails: reporting.NoThumbnails = False,
    normalizations: options.normalizations(defaults.NORMALIZATIONS) = None,
    score_maps: reporting.ScoreMaps = False,
    sweep: reporting.Sweep = defaults.CANDIDATES,
    contours: reporting.Contours = "all",
    class_names: reporting.Classes = None,
    title: reporting.Title = "",
    num_bootstrap: reporting.NumBootstrap = 1000,
    seed: reporting.Seed = 0,
    confidence: reporting.Confidence = 0.95,
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
    """Write a run down as one page of HTML, the record of an experiment.

    The page has figures with bootstrap intervals, curves over threshold and percentile, errors, groups, what all of it
    was made of, and a viewer: every image with its map, under any normalization and threshold. It loads nothing but
    images that --no-thumbnails links to, so that it can be kept, sent and opened from disk. wsolkern verify checks it.

    - wsolkern report STORE --metadata metadata/CUB/test --images dataset/CUB -o report.html

    - wsolkern report STORE --metadata metadata/OpenImages/test --mask-root dataset/OpenImages -o report.html
    """
    reporting.make_page(
        [maps],
        metadata,
        out,
        images=images,
        no_thumbnails=no_thumbnails,
        normalizations=normalizations,
        score_maps=score_maps,
        sweep=sweep,
        contours=contours,
        class_names=class_names,
        title=title,
        num_bootstrap=num_bootstrap,
        seed=seed,
        confidence=confidence,
        mask_root=mask_root,
        allow_missing_ignore=allow_missing_ignore,
        box_format=box_format,
        box_rounding=box_rounding,
        nwc=nwc,
        size=size,
        iou_thresholds=iou_thresholds,
        interval=interval,
        device=device,
        allow_missing=allow_missing,
        json_file=json_file,
        threads=threads,
    )

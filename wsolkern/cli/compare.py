"""``wsolkern compare``: two runs on the same images as a page, image by image.

In: two CAM stores (or folders of maps), metadata, a folder of images if there is one. Out: one file of HTML, JSON.
Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (paired by image).
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults
from wsolkern.cli import options, reporting


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="CAM store, or a folder of maps.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one.", show_default=False)],
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
    """Compare two runs image by image, on one page of HTML.

    It is the page of wsolkern report for both, with their paired difference and its bootstrap interval (each resample
    is the same images for both) and the images where they differ most.

    - wsolkern compare runs/cam runs/has --metadata metadata/CUB/test --images dataset/CUB -o compare.html
    """
    reporting.make_page(
        [first, second],
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

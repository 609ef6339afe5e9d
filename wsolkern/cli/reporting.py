"""What ``wsolkern report`` and ``wsolkern compare`` share: their options, and what comes of them.

In: paths and settings as the commands got them. Out: the page, a table, JSON.
Source: none; the study is :mod:`wsolkern.studies.reporting`, the page :mod:`wsolkern.report.pages`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.datasets import Metadata
    from wsolkern.studies.reporting import Report

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html", help="The page: one file that needs no other.")]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DATA_ROOT",
        help="Folder that image ids are paths below. Without it the viewer shows score maps alone.",
    ),
]
NoThumbnails = Annotated[
    bool,
    typer.Option(
        "--no-thumbnails",
        help="Link to the images' files instead of putting small copies into the page, as for more than 6,000 images.",
    ),
]
ScoreMaps = Annotated[bool, typer.Option("--score-maps", help="The maps are normalized already.")]
Sweep = Annotated[
    str,
    typer.Option(
        metavar="NORMALIZATIONS",
        help="What is evaluated beside them, for the curves over the percentile; '' for nothing.",
    ),
]
Contours = Annotated[
    str,
    typer.Option(
        metavar="all|largest",
        help="Whose boxes the images are looked at with: of all contours the one nearest to the object, as for "
        "MaxBoxAccV2, or that of the largest contour, as for MaxBoxAcc.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Names of the classes, a line each; default: class_names.txt beside the folder of the split, if there.",
    ),
]
Title = Annotated[str, typer.Option(help="What stands above the page; default: the names of run and split.")]
NumBootstrap = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="Resamples of the images, for the intervals of all figures.")
]
Seed = Annotated[int, typer.Option(min=0, help="What they are drawn with.")]
Confidence = Annotated[float, typer.Option(help="Confidence of the intervals, a fraction.")]


def make_page(
    maps: Sequence[Path],
    metadata: Path,
    out: Path,
    *,
    images: Path | None,
    no_thumbnails: bool,
    normalizations: list[str] | None,
    score_maps: bool,
    sweep: str,
    contours: str,
    class_names: Path | None,
    title: str,
    num_bootstrap: int,
    seed: int,
    confidence: float,
    mask_root: Path | None,
    allow_missing_ignore: bool,
    box_format: str,
    box_rounding: str,
    nwc: bool,
    size: str,
    iou_thresholds: str,
    interval: float,
    device: str,
    allow_missing: bool,
    json_file: str | None,
    threads: int | None,
) -> None:
    """Reports on one run, or compares two; all arguments are those of the commands."""
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.datasets.thumbnails import small_image
        from wsolkern.report import pages
        from wsolkern.report.page import render

        machine.use_threads(threads)
        pages.check_extra()
        if out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out: expected a name that ends in .html, found {out}")
        targets = {"--out": out, "--json": json_file}
        check_targets(targets, (*maps, metadata, images, class_names))
        if score_maps and normalizations:
            raise ValueError("--normalizations: score maps are normalized already; leave it or --score-maps out")
        how: dict[str, Any] = options.evaluation(size, iou_thresholds, interval)
        split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
        if images is not None and split.kind == "boxes":
            small_image(images, split.image_ids[0], split.image_sizes, 1)  # a wrong folder is said before the work
        do = studies.report if len(maps) == 1 else studies.compare
        with studying.running(resumes=False) as progress:
            found = do(
                *maps,
                split,
                None if score_maps else " ".join(normalizations or [defaults.NORMALIZATIONS]),
                candidates=sweep.strip() or None,
                contours=contours,
                num_resamples=num_bootstrap,
                seed=seed,
                confidence=confidence,
                class_names=_class_names(class_names, split),
                mask_root=mask_root,
                nwc=nwc,
                device=device,
                progress=progress,
                **how,
            )
            page = pages.page_of(
                found,
                images=images,
                with_thumbnails=not no_thumbnails,
                beside=out.parent,
                title=title,
                progress=progress,
            )
        text = render(page)
        for run in found.runs:
            studying.warn(run.evaluation.counted.warnings)
        unread = [each for each, small in zip(page.ids, page.thumbnails or (), strict=False) if small is None]
        if unread:
            of_all = f"{len(unread):,} of {len(page.ids):,} images cannot be read, the first is {unread[0]}"
            studying.warn([f"{images}: {of_all}; the viewer shows their maps alone"])
        terminal.deliver_result(
            json_file,
            found.to_dict,
            lambda: _print(found, out),
            lambda: write_whole(out, text.encode()),
            lambda: studying.finish_stores(
                {run.name: run.evaluation.counted.problems for run in found.runs}, "maps", allow_missing
            ),
        )


def _class_names(given: Path | None, split: "Metadata") -> list[str] | None:
    """The names of a file, or of the one that an import writes beside its splits."""
    from wsolkern.datasets.importing.assembly import CLASS_NAMES, read_class_names

    usual = Path(split.folder).resolve().parent / CLASS_NAMES
    if given is None and not (usual.is_file() and split.class_labels):
        return None
    return read_class_names(given or usual)


def _print(found: "Report", out: Path) -> None:
    for run in found.runs:
        result = run.result
        terminal.print_result(result, f"{run.name}: {result.num_images:,} images of {found.split.folder}")
    for metric, each in found.differences.items():
        confidence = 100 * found.runs[0].bootstraps[metric].confidence
        streams.say(f"{metric}, first minus second, {len(found.image_ids):,} images, {confidence:.6g}% intervals:")
        for one in each:
            low, high = one.interval
            streams.say(f"  {one.first}: {one.figure:+.2f} [{low:+.2f}, {high:+.2f}]")
    of_second = ", with --run 2 those of the second run" if found.is_comparison else ""
    streams.say(f"{out}: open it in a browser; wsolkern verify {out} makes its figures again{of_second}")

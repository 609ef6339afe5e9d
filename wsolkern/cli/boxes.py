"""``wsolkern boxes``: where the objects of a data set are, as boxes in pixels of its images.

In: a CAM store (or a folder of maps), image sizes, a normalization and a threshold. Out: COCO detections, CSV, or
metadata with pseudo boxes.
Source: MaxBoxAcc's box, Choe et al., arXiv 2007.04178, section 4.2.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import following, options, streams, studying, terminal
from wsolkern.errors import ArgumentError
from wsolkern.files import write_whole
from wsolkern.targets import check_folder, check_targets

if TYPE_CHECKING:
    from wsolkern.box_rule import BoxRule
    from wsolkern.normalization import Normalization
    from wsolkern.studies.localization import Localizations

_FORMATS = {".json": "coco", ".csv": "csv", "": "metadata"}  # by what the name of the target ends in


def boxes(
    maps: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="CAM store; a folder of maps, as for wsolkern evaluate, will do too.",
            show_default=False,
        ),
    ],
    metadata: Annotated[
        Path,
        typer.Option(
            help="Folder of the images' split: image_ids.txt and image_sizes.txt, class_labels.txt if there is one. "
            "Boxes of its own are not read."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE|DIR", help="What to write: boxes.json, boxes.csv, or a folder of metadata."
        ),
    ],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="coco|csv|metadata",
            help="How to write it; default: by the ending, .json, .csv or none.",
            show_default=False,
        ),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option("--normalization", "-n", help="One, such as ivr:0.45.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Fraction of a map's maximum level, in [0, 1), such as 0.2.", show_default=False),
    ] = None,
    selected: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="In their place what wsolkern select --json FILE chose: the best normalization on val, with its "
            "threshold. With --threshold only the normalization is taken from there.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="minmax|max|pas|ivr|ivr+pas",
            help="Take what was selected of this family instead of the best of all.",
            show_default=False,
        ),
    ] = None,
    iou_threshold: Annotated[
        float | None,
        typer.Option(
            "--iou-threshold",
            help="Take the threshold that was selected for this IoU. Default: 0.5, or the only one.",
            show_default=False,
        ),
    ] = None,
    score_maps: Annotated[
        bool, typer.Option("--score-maps", help="The maps are normalized already, of the evaluation size.")
    ] = False,
    nwc: options.Nwc = False,
    size: options.Size = "224",
    box_rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How a box is made of a map, as for wsolkern evaluate. Default: the rule that thresholds were "
            "selected with, or choe.",
            show_default=False,
        ),
    ] = None,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Write the box of the largest contour of every map, in pixels of the original images.

    At one normalization and one threshold, or those that wsolkern select chose. As COCO detections, as CSV, or as
    metadata: pseudo boxes that all commands read as ground truth.

    - wsolkern boxes runs/cub-vgg16-cam --metadata metadata/CUB/test -n ivr:0.45 --threshold 0.2 -o boxes.json

    - wsolkern boxes STORE --metadata metadata/CUB/train --selected selection.json -o pseudo/CUB/train
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.datasets import load_metadata

        machine.use_threads(threads)
        kind = _format(out, file_format)
        targets = {"--out": None if kind == "metadata" else out, "--json": json_file}
        check_targets(targets, (maps, metadata, selected))
        if kind == "metadata":
            _check_metadata_folder(out, maps)
        chosen, at, rule = _setting(normalization, threshold, selected, family, iou_threshold, score_maps, box_rule)
        how = {"nwc": nwc, "size": options.parse_size(size), "box_rule": rule}
        split = load_metadata(metadata, localization=False)
        done, num_all = 0, len(split.image_ids)
        try:
            with studying.running() as progress:

                def tell(what: str, now: int, total: int) -> None:
                    nonlocal done
                    done = now
                    progress(what, now, total)

                found = studies.localizations(maps, split, chosen, at, progress=tell, **how)
        except KeyboardInterrupt:
            streams.stderr().print(f"interrupted: {done:,} of {num_all:,} images are done; nothing is written")
            raise typer.Exit(terminal.INTERRUPTED) from None
        studying.warn(found.warnings)
        terminal.deliver_result(
            json_file,
            found.to_dict,
            lambda: _print(found, out),
            lambda: _write(found, out, kind),
            lambda: _say_next(found, maps, metadata, out, kind),
            lambda: studying.finish(num_all, found.problems, allow_missing),
        )


def _format(out: Path, wanted: str | None) -> str:
    """How the result is written.

    Raises:
        ArgumentError: The ending says nothing, or there is no such format.
    """
    if wanted is None:
        if out.suffix not in _FORMATS:
            raise ArgumentError("out", f"expected a name in .json or .csv, or a folder's, or --format, found {out}")
        return _FORMATS[out.suffix]
    if wanted not in _FORMATS.values():
        raise ArgumentError("file_format", f"expected coco, csv or metadata, found {wanted!r}")
    return wanted


def _check_metadata_folder(out: Path, maps: Path) -> None:
    """Does nothing if pseudo boxes can go there without replacing anybody's ground truth.

    Raises:
        ValueError: There is metadata, or the folder is that of the maps.
        OSError: Nothing can be written there.
    """
    check_folder("--out", out)
    if out.resolve() == maps.resolve():
        raise ArgumentError("out", f"{out} holds the maps; name a folder of its own")
    there = [name for name in ("image_ids.txt", "localization.txt") if (out / name).exists()]
    if there:
        raise ArgumentError("out", f"expected a new folder, found {out / there[0]}: remove it, or name another folder")


def _setting(
    normalization: str | None,
    threshold: float | None,
    selected: Path | None,
    family: str | None,
    iou_threshold: float | None,
    score_maps: bool,
    box_rule: str | None,
) -> "tuple[Normalization | None, float, BoxRule]":
    """The normalization, the threshold and the box rule that the options say.

    Raises:
        ArgumentError: They say none, or several; or the threshold was selected with boxes by another rule.
        PathError, OSError: The file of what was selected says none.
    """
    from wsolkern.box_rule import BoxRule
    from wsolkern.normalization import Normalization
    from wsolkern.studies.localization import read_selection

    wanted = None if box_rule is None else BoxRule.parse(box_rule)
    if normalization is None and selected is None and not score_maps and wanted is not None:
        normalization = wanted.normalization and str(wanted.normalization)
    given = {
        "normalization": normalization is not None, "selected": selected is not None, "score_maps": score_maps
    }  # fmt: skip
    if sum(given.values()) != 1:
        names = tuple(name for name, is_given in given.items() if is_given) or tuple(given)
        raise ArgumentError(names, f"expected one of them, found {'several' if any(given.values()) else 'none'}")
    if selected is None:
        for name, value in (("family", family), ("iou_threshold", iou_threshold)):
            if value is not None:
                raise ArgumentError(name, "expected --selected with it, whose choice it is about")
    elif threshold is not None and iou_threshold is not None:
        raise ArgumentError(("threshold", "iou_threshold"), "expected one of them, found both")
    if threshold is not None and not 0 <= threshold < 1:
        raise ArgumentError("threshold", f"expected a fraction in [0, 1), found {threshold}")
    if selected is not None:
        chosen, at, rule = read_selection(selected, family, iou_threshold, threshold)
        if wanted is not None and wanted != rule and threshold is None:
            raise ArgumentError(
                "box_rule", f"expected {rule}, with which {selected} was selected, or --threshold, found {wanted}"
            )
        return chosen, at, wanted or rule
    if threshold is None:
        raise ArgumentError("threshold", "needed, because nothing was selected")
    parsed = None if normalization is None else Normalization.parse(normalization)
    return parsed, threshold, wanted or BoxRule.parse("choe")


def _write(found: "Localizations", out: Path, kind: str) -> None:
    from wsolkern.interrupts import interrupts_wait
    from wsolkern.report import localizations as report

    if kind == "metadata":
        split = found.metadata()
        with interrupts_wait():  # four files that belong together
            split.write(out)
    else:
        text = report.coco_text(found) if kind == "coco" else report.csv_text(found)
        write_whole(out, text.encode())


def _say_next(found: "Localizations", maps: Path, metadata: Path, out: Path, kind: str) -> None:
    """The picture of what was made: of pseudo boxes as the ground truth, else of these boxes beside the split's."""
    how = ["--score-maps"] if found.normalization is None else ["-n", found.normalization]
    if kind == "metadata":
        following.say_next("show", maps, "--metadata", out, *how, "-o", f"{out}.png")
    else:
        picture = out.with_suffix(".png")
        following.after_boxes(maps, metadata, *how, "--at", f"{found.threshold:g}", "-o", picture)


def _print(found: "Localizations", out: Path) -> None:
    about = found.to_dict()
    none = about["num_images"] - about["num_found"]
    how = f"{about['normalization'] or 'score maps'}, threshold {found.threshold:g}"
    rate = about["num_images"] / max(found.seconds, 1e-9)
    streams.print_text(
        f"{about['num_found']:,} boxes of {about['num_images']:,} images ({how}) in {out}; {rate:,.0f} images/s\n"
        + (f"{none:,} images have none: nothing is above the threshold there\n" if none else "")
    )

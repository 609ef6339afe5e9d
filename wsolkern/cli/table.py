"""``wsolkern table``: CAM stores to the tables of the paper, with its own numbers beside them.

In: stores whose manifests name data set, split, method and backbone; metadata. Out: text, Markdown, LaTeX, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; IVR's percentile is selected on train-fullsup, as there.
"""

import io
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.studies.tabulation import Tabulation

_WIDEST = 10_000  # columns of a file


# The paper's table 1 and table 2, and what a table can be written as.
Layout = Enum("Layout", {each: each for each in ("backbones", "ious", "localization")}, type=str)
Format = Enum("Format", {each: each for each in ("text", "markdown", "latex", "csv")}, type=str)


def table(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUNS",
            help="CAM stores whose manifests name data set, split, method and backbone. A store of split val "
            "(train-fullsup) is no cell: IVR's percentile is selected on it.",
            show_default=False,
        ),
    ] = None,
    metadata_root: Annotated[
        Path | None, typer.Option(help="Folder of DATASET/SPLIT folders with the ground truth, such as CUB/test.")
    ] = None,
    mask_roots: Annotated[
        list[str] | None,
        typer.Option(
            "--mask-root", metavar="DATASET=DIR", help="Folder that the mask paths of a data set start from (PxAP)."
        ),
    ] = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    layouts: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            help="backbones: the paper's table 1, MaxBoxAccV2 or PxAP by backbone; ious: its table 2, box accuracy by "
            "IoU threshold; localization: Top-1, Top-5 and GT-known (MaxBoxAcc, IoU 0.5), from stores with logits. "
            "Default: backbones, or the paper's two without RUNS.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            metavar="best|gt-known|THRESHOLD",
            help="For localization, where over thresholds: each figure at its best on these images, at the best "
            "GT-known one, or at one for all.",
        ),
    ] = "best",
    ivr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P|DATASET/BACKBONE=P",
            help="Percentile of IVR, a fraction, for all or for one column. Default: the best on the store of split "
            "val of CAM, else of the same method, else the paper's.",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the paper's numbers: beside ours, or alone without RUNS.")
    ] = False,
    nwc: Annotated[
        bool,
        typer.Option(
            "--nwc", help="Add rows METHOD+NWC: CAMs without negative classifier weights, where stores have them."
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="What the table is written as.")] = Format.text,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there, do not print it.")] = None,
    size: options.Size = "224",
    iou_thresholds: options.IouThresholds = options.DEFAULT_IOU_THRESHOLDS,
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.SharedDevice = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
    resume: options.Resume = None,
) -> None:
    """Put CAM stores into the tables of the paper.

    Rows are methods under min-max, max, PaS (0.9) and IVR; each store is read once for all of them. The best
    normalization of a method is in bold.

    Several processes share the images: torchrun --nproc-per-node 2 -m wsolkern table ...

    - wsolkern table runs/* --metadata-root metadata --published

    - wsolkern table --published --format latex

    - wsolkern table runs/* --metadata-root metadata --layout localization
    """
    with studying.together() as ranks:
        from wsolkern import studies

        machine.use_threads(threads)
        targets = {"--json": json_file, "--out": out, "--resume": resume}
        check_targets(targets, (*(runs or ()), metadata_root))
        roots = options.parse_folders(mask_roots or [])

        def load(folder: Path, dataset: str):
            root = roots.get(dataset)
            return studying.load_split(folder, root, targets, box_format, box_rounding, allow_missing_ignore)

        with studying.running(ranks=ranks) as progress:
            found = studies.table(
                runs or (),
                metadata_root,
                mask_roots=roots,
                layouts=[layouts.value] if layouts else None,
                at=options.parse_at(at),
                ivr=options.parse_percentiles(ivr or []),
                published=published,
                nwc=nwc,
                load=load,
                device=device,
                resume=resume,
                progress=progress,
                ranks=ranks,
                **options.evaluation(size, iou_thresholds, interval),
            )
        if ranks.rank:  # the first process delivers
            return
        studying.warn(found.warnings)
        terminal.deliver_result(
            json_file,
            found.to_dict,
            None if out else lambda: _print(found, format_),
            out and (lambda: _write(out, found, format_)),
            found.save,
            lambda: studying.finish_stores(found.problems, "maps", allow_missing),
        )


def _write(out: Path, found: "Tabulation", format_: Format) -> None:
    """Writes a file; a table that cannot go there is printed after all."""
    from wsolkern.report import paper

    file = io.StringIO()
    paper.write(streams.console(file, _WIDEST), found.tables, found.notes, format_.value)
    try:
        write_whole(out, file.getvalue().encode())
    except OSError:
        _print(found, format_)
        raise


def _print(found: "Tabulation", format_: Format) -> None:
    from wsolkern.report import paper

    with streams.printing() as console:
        paper.write(console, found.tables, found.notes, format_.value)

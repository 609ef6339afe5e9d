"""``wsolkern table``: CAM stores to the tables of the paper, with its own numbers beside them.

In: stores whose manifests name data set, split, method and backbone; metadata. Out: text, Markdown, LaTeX, CSV, JSON.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; IVR's percentile is selected on train-fullsup, as there.
"""

import io
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, studying, terminal
from wsolkern.errors import ArgumentError
from wsolkern.files import write_whole
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from rich.console import Console

    from wsolkern.studies.tabulation import Tabulation

_WIDEST = 10_000  # columns of a file


class Layout(str, Enum):
    """The paper's table 1 and table 2."""

    backbones = "backbones"
    ious = "ious"


class Format(str, Enum):
    """What a table can be written as."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


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
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="backbones: the paper's table 1, MaxBoxAccV2 or PxAP by backbone; ious: its table 2, box accuracy by "
            "IoU threshold. Default: backbones, or both without RUNS.",
            show_default=False,
        ),
    ] = None,
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
    device: options.Device = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
    resume: options.Resume = None,
) -> None:
    """Put CAM stores into the tables of the paper.

    Rows are methods under min-max, max, PaS (0.9) and IVR; each store is read once for all of them. The best
    normalization of a method is in bold.

    - wsolkern table runs/* --metadata-root metadata --published

    - wsolkern table --published --format latex
    """
    with terminal.errors_as_messages():
        from wsolkern import studies

        machine.use_threads(threads)
        targets = {"--json": json_file, "--out": out, "--resume": resume}
        check_targets(targets, (*(runs or ()), metadata_root))
        roots = _by_dataset(mask_roots or [])

        def load(folder: Path, dataset: str):
            return studying.load_split(
                folder,
                roots.get(dataset),
                targets,
                box_format=box_format,
                box_rounding=box_rounding,
                allow_missing_ignore=allow_missing_ignore,
            )

        with studying.running() as progress:
            found = studies.table(
                runs or (),
                metadata_root,
                mask_roots=roots,
                layouts=[layout.value] if layout else None,
                ivr=_parse_ivr(ivr or []),
                published=published,
                nwc=nwc,
                load=load,
                device=device,
                resume=resume,
                progress=progress,
                **options.evaluation(size, iou_thresholds, interval),
            )
        studying.warn(found.warnings)
        steps = []
        if out is not None:
            steps.append(lambda: _write(out, found, format_))
        elif json_file != "-":
            steps.append(lambda: _print(found, format_))
        if json_file is not None:
            steps.append(lambda: terminal.write_json(found.to_dict(), json_file))
        terminal.deliver(*steps, found.save, lambda: _finish(found, allow_missing))


def _parse_ivr(texts: list[str]) -> dict[tuple[str, str] | None, float]:
    """--ivr by data set and backbone; None stands for all."""
    from wsolkern.normalization import Normalization

    given = {}
    for text in texts:
        where, _, percentile = text.rpartition("=")
        try:
            column = tuple(where.split("/")) if where else None
            if column is not None and len(column) != 2:
                raise ValueError(where)
            given[column] = Normalization("ivr", ivr=float(percentile)).ivr
        except ValueError:
            raise ArgumentError("ivr", "expected a fraction in [0, 1), as in 0.45 or CUB/VGG16=0.45", text) from None
    return given


def _by_dataset(texts: list[str]) -> dict[str, Path]:
    """--mask-root by data set."""
    from wsolkern.report import paper

    roots = {}
    for text in texts:
        dataset, equals, folder = text.partition("=")
        if not (dataset and equals and folder):
            raise ArgumentError("mask_roots", "expected DATASET=DIR, as in OpenImages=dataset/OpenImages", text)
        roots[paper.canonical(dataset)] = Path(folder)
    return roots


def _finish(found: "Tabulation", allow_missing: bool) -> None:
    """Says what was left out and ends the command accordingly."""
    for path, problems in found.problems.items():
        for image_id, reason in islice(problems.items(), 1):
            studying.warn([f"{path}: {len(problems):,} maps were left out, such as that of {image_id!r}: {reason}"])
    if found.problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)


def _write(out: Path, found: "Tabulation", format_: Format) -> None:
    """Writes a file; a table that cannot go there is printed after all."""
    file = io.StringIO()
    _format(terminal.console(file, _WIDEST), found, format_)
    try:
        write_whole(out, file.getvalue().encode())
    except OSError:
        _print(found, format_)
        raise


def _print(found: "Tabulation", format_: Format) -> None:
    with terminal.printing():
        _format(terminal.stdout(), found, format_)


def _format(console: "Console", found: "Tabulation", format_: Format) -> None:
    """Writes to a console's file, as wide as the console is."""
    from wsolkern.report import paper
    from wsolkern.report.plain import markdown_text

    tables, notes = found.tables, found.notes

    if format_ is Format.text:
        for each in tables:
            console.print(*paper.rich_tables(each, console.width), sep="")
        for note in notes:
            console.print(note)
    elif format_ is Format.csv:
        console.file.write(paper.csv_text(tables))
    elif format_ is Format.latex:
        console.file.write("\n".join(paper.latex(each, notes) for each in tables))
    else:
        titled = [f"{paper.title(each)}.\n\n{paper.markdown(each)}" for each in tables]
        console.file.write("\n".join((*titled, *(f"{markdown_text(each)}.\n" for each in notes))))

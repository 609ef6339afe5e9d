"""``wsolkern diagnose``: do the maps of a run need IVR, or does max normalization suffice?

In: CAM stores; a split's metadata to measure it instead of guessing. Out: a table, JSON, CSV, a picture.
Source: Kim et al., arXiv 2107.13221, section 6, figures 4 and 6.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.studies.diagnosis import StoreDiagnosis


def diagnose(
    stores: Annotated[list[Path], typer.Argument(metavar="STORES", help="CAM stores.", show_default=False)],
    metadata: Annotated[
        Path | None,
        typer.Option(
            help="Folder of one split, such as metadata/CUB/test: measure max against IVR on its images, and which "
            "boxes are right, beside what the extremes say."
        ),
    ] = None,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    nwc: options.Nwc = False,
    size: options.Size = "224",
    device: options.Device = "cpu",
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write minimum and maximum of each map.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw minimum against maximum (needs the report extra).")
    ] = None,
    threads: options.Threads = None,
    resume: options.Resume = None,
) -> None:
    """Tell whether a run needs IVR or max normalization.

    The higher the standard deviation of the maps' maxima over that of their minima, the more max suffices. That is a
    rule of thumb; with --metadata both are evaluated.

    - wsolkern diagnose runs/cam-vgg16-cub --plot extremes.png

    - wsolkern diagnose runs/* --metadata metadata/CUB/test --csv extremes.csv
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report import diagnostics

        machine.use_threads(threads)
        targets = {"--json": json_file, "--csv": csv_file, "--plot": plot, "--resume": resume}
        options.check_plot(plot)
        check_targets(targets, (*stores, metadata))
        if mask_root is not None and metadata is None:
            raise ValueError("--mask-root: expected --metadata with it, whose mask paths start there")
        split = metadata and studying.load_split(
            metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore
        )
        evaluated = options.parse_size(size)
        with studying.running() as progress:
            found = studies.diagnose(
                stores,
                split,
                mask_root=mask_root,
                nwc=nwc,
                size=evaluated,
                device=device,
                resume=resume,
                progress=progress,
            )
        studying.warn(found.warnings)
        runs = [each.extremes for each in found.stores]
        problems = {each.extremes.name: each.problems for each in found.stores}
        terminal.deliver_result(
            json_file,
            found.to_dict,
            lambda: _print(found.stores),
            csv_file and (lambda: diagnostics.write_csv(csv_file, runs)),
            plot and (lambda: diagnostics.draw_extremes(plot, runs)),
            found.save,
            lambda: studying.finish_stores(problems, "maps or shards", allow_missing),
        )


def _print(examined: "tuple[StoreDiagnosis, ...]") -> None:
    from wsolkern.report import diagnostics
    from wsolkern.studies.recommendation import CAVEAT

    with streams.printing() as console:
        console.print(diagnostics.rich_table([each.extremes for each in examined]))
        for each in examined:
            found, measured = each.extremes.diagnosis, each.comparison
            console.print(f"{each.extremes.name}{' (NWC)' if each.nwc else ''}", style="bold")
            fence = "Q1 - 1.5 IQR, Tukey's fence; the paper gives no rule"
            lines = {
                "std of maxima / std of minima": f"{found.ratio:.2f} (population standard deviations)",
                "outlier minima": f"{found.num_outlier_minima:,} below {found.outlier_below:.4g} ({fence})",
                "left out": f"{found.num_constant:,} constant maps, {found.num_not_finite:,} with NaN or infinity",
                "recommended": f"{each.recommendation.normalization or 'none'}: {each.recommendation.reason}",
            }
            if measured is not None:
                ahead = f"{measured.better} is ahead by {measured.margin:.2f}" if measured.margin else "they are equal"
                figures = f"{measured.max:.2f} with max, {measured.ivr:.2f} with {measured.best_ivr}"
                lines["measured"] = f"{ahead}: {measured.metric} {figures}"
            for name, text in lines.items():
                console.print(f"  {name:<30} {text}")
        console.print(CAVEAT)

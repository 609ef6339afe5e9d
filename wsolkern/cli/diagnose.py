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
    num_bootstrap: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Resamples of the images, for the interval of what is measured.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="What they are drawn with.")] = 0,
    confidence: Annotated[float, typer.Option(help="Confidence of the interval, a fraction.")] = 0.95,
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
    rule of thumb, and is called one. With --metadata both are evaluated, and one of them is recommended only if the
    bootstrap interval of their difference does not hold 0.

    - wsolkern diagnose runs/cam-vgg16-cub --plot extremes.png

    - wsolkern diagnose runs/* --metadata metadata/CUB/test --csv extremes.csv
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report import diagnostics

        machine.use_threads(threads)
        targets = {"--json": json_file, "--csv": csv_file, "--plot": plot, "--resume": resume}
        options.check_picture("--plot", plot)
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
                num_resamples=num_bootstrap,
                seed=seed,
                confidence=confidence,
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
            }
            guess = each.rule_of_thumb
            lines["rule of thumb"] = f"{guess.normalization or 'none'}: {guess.reason}"
            if measured is not None:
                figures = (
                    f"{measured.max:.2f} with max, {measured.ivr:.2f} with {measured.best_ivr}, the best percentile"
                )
                lines["measured"] = f"{measured.metric} {figures}"
                lines["recommended"] = f"{each.recommendation.normalization or 'neither'}: {each.recommendation.reason}"
            for name, text in lines.items():
                console.print(f"  {name:<30} {text}")
        if any(each.comparison is None for each in examined):
            console.print(CAVEAT)

"""``wsolkern profile``: where the time of an evaluation goes, stage by stage, and what limits it.

In: maps and metadata as for ``wsolkern evaluate``, or any function. Out: a table, JSON, a Chrome/Perfetto trace.
Source: none; the timers are :mod:`wsolkern.profiling`, the yardstick is a copy in memory measured in the same run.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.files import write_whole
from wsolkern.functions import find_function, find_modules_here
from wsolkern.targets import check_targets


def profile(
    maps: Annotated[
        Path | None,
        typer.Argument(metavar="STORE", help="CAM store, or a folder or file of maps as for wsolkern evaluate."),
    ] = None,
    metadata: Annotated[Path | None, typer.Option(help="Folder of the split, as for wsolkern evaluate.")] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Call this function of yours instead, without arguments; modules in the current folder are found.",
        ),
    ] = None,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    normalizations: options.normalizations(defaults.NORMALIZATIONS) = None,
    score_maps: Annotated[
        bool, typer.Option("--score-maps", help="The maps are normalized already; a store knows that itself.")
    ] = False,
    size: options.Size = "224",
    interval: options.Interval = options.DEFAULT_INTERVAL,
    device: options.Device = "cpu",
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate only the first images of the split.")] = None,
    repeat: Annotated[
        int,
        typer.Option(
            min=1,
            help="Passes; the median one is shown. From 2 on, unprofiled passes alternate with them to tell what "
            "profiling costs; storage is warm then.",
        ),
    ] = 1,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write a pass as a trace for ui.perfetto.dev or chrome://tracing, by torch.profiler, which slows it "
            "down: from --repeat 2 on it is one more pass.",
        ),
    ] = None,
    allow_missing: options.AllowMissing = False,
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Tell which stage of an evaluation takes how long, and what limits it.

    Stages: read (the wait for maps), forward (the model), resize, statistics, digitize, tree (component trees), gather
    (hits or pixels to counts), reduce (adding up). A stage's time is its threads' busy time over their number; its
    bytes are those it must read and write, in memory or in a cache.

    - wsolkern profile runs/cub-vgg16-cam --metadata metadata/CUB/test --repeat 3

    - wsolkern profile --run mymodule:evaluate --trace trace.json
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.report import timing as report

        machine.use_threads(threads)
        if (maps is None) == (run is None) or (maps is None) != (metadata is None):
            raise ValueError("STORE, --metadata, --run: expected a store or folder with --metadata, or --run alone")
        if run is not None and (normalizations or mask_root or score_maps or limit or device != "cpu"):
            raise ValueError("--run: expected no options about maps with it: the function chooses them itself")
        targets = {"--json": json_file, "--trace": trace}
        check_targets(targets, (maps, metadata))
        if trace is not None:
            import torch  # noqa: F401 (the trace is its, and its absence must not cost a run)
        how = {"repeat": repeat, "trace": trace is not None}
        if run is not None:
            found = studies.profile_function(_function(run), name=run, **how)
        else:
            split = studying.load_split(metadata, mask_root, targets, box_format, box_rounding, allow_missing_ignore)
            with studying.running():
                found = studies.profile(
                    maps,
                    split,
                    normalizations,
                    score_maps=score_maps,
                    mask_root=mask_root,
                    size=options.parse_size(size),
                    thresholds=options.thresholds(interval),
                    limit=limit,
                    device=device,
                    **how,
                )
        studying.warn(found.warnings)
        counted = found.counted

        def show() -> None:
            what = run or f"{counted.num_images:,} images of {counted.split.folder}"
            with streams.printing() as console:
                console.print(report.rich_table(found.findings, what), *report.lines(found.findings), sep="\n")

        terminal.deliver_result(
            json_file,
            found.to_dict,
            show,
            trace and (lambda: write_whole(trace, found.trace)),
            counted and (lambda: studying.finish(len(counted.split.image_ids), counted.problems, allow_missing)),
        )


def _function(name: str) -> Callable[[], None]:
    """The function that --run names; an error of its own is printed as Python does, and ends the command.

    Raises:
        ValueError, ImportError: There is no such function.
    """
    find_modules_here()
    function = find_function("--run", name)

    def work() -> None:
        try:
            function()
        except Exception as error:
            traceback.print_exc()
            raise typer.Exit(terminal.FAILED) from error

    return work

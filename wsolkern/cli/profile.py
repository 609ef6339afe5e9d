"""``wsolkern profile``: where the time of an evaluation goes, stage by stage, and what limits it.

In: maps and metadata as for ``wsolkern evaluate``, or any function. Out: a table, JSON, a Chrome/Perfetto trace.
Source: none; the timers are :mod:`wsolkern.profiling`, the yardstick is a copy in memory measured in the same run.
"""

import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import counting, options, studying, terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    import torch

    from wsolkern.profiling import Profile, StageTime

_COPIED_BYTES = 256 << 20  # more than a cache holds
_COPIES = 5
_ANCHOR = "wsolkern profile"  # the range in a trace that the profile's clock begins with
_BOUND_BY_MEMORY = 0.5  # of the copy bandwidth: who moves more than this is limited by memory
_DOMINANT = 0.4  # of the time: what takes less does not limit a run alone

# What a stage that dominates says: what limits it, and what helps.
_LIMITS = {
    "read": (
        "the run waits for its maps: storage limits it",
        "a CAM store in place of single files, a faster disk, or maps that are in the page cache already; more "
        "threads do not help",
    ),
    "forward": ("the model limits the run", "mixed precision, larger batches, a faster device"),
    "resize": (None, "a smaller --size"),
    "statistics": (None, "fewer percentiles, a smaller --size"),
    "digitize": (None, "fewer normalizations, a smaller --size"),
    "tree": (
        "its work grows with the number of components in the maps, not with their bytes",
        "more threads, fewer normalizations at once, smoother maps (noise has the most components)",
    ),
    "gather": (
        "its work grows with normalizations x thresholds x IoU thresholds (boxes), or with pixels (masks)",
        "fewer of these, more threads",
    ),
    "reduce": ("adding up the counts of batches limits the run", "larger batches"),
    "other": (
        "that is Python between the stages, threads that wait for one another, and all that is no stage",
        "larger batches, or a look at the trace (--trace)",
    ),
}


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
    device: Annotated[str, typer.Option(help="cpu or cuda: where the maps are evaluated.")] = "cpu",
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
        machine.use_threads(threads)
        if (maps is None) == (run is None) or (maps is None) != (metadata is None):
            raise ValueError("STORE, --metadata, --run: expected a store or folder with --metadata, or --run alone")
        if run is not None and (normalizations or mask_root or score_maps or limit or device != "cpu"):
            raise ValueError("--run: expected no options about maps with it: the function chooses them itself")
        check_targets({"--json": json_file, "--trace": trace}, (maps, metadata))
        if trace is not None:
            import torch  # noqa: F401 (the trace is its, and its absence must not cost a run)
        counted = None
        if run is not None:
            work = _function(run)
        else:
            from wsolkern.datasets import load_metadata

            split = load_metadata(metadata, box_format=box_format, box_rounding=box_rounding)
            split = studying.expect_ignore_masks(split, mask_root, allow_missing_ignore)
            evaluation = _Evaluation(
                maps, split, normalizations, mask_root, score_maps, size, interval, _cuda(device), limit
            )
            work = evaluation.run
        found, traced = _take(work, repeat, trace is not None)
        if run is None:
            counted = evaluation.counted(found.profile.seconds)
        content = {
            "run": run,
            **({} if counted is None else counted.to_dict() | {"num_images": counted.evaluator.num_images}),
            **found.to_dict(),
        }
        steps = []
        if json_file != "-":
            what = run or f"{counted.evaluator.num_images:,} images of {counted.split.folder}"
            steps.append(lambda: _print(found, what))
        if json_file is not None:
            steps.append(lambda: terminal.write_json(content, json_file))
        if trace is not None:
            steps.append(lambda: write_whole(trace, traced))
        if counted is not None:
            steps.append(lambda: counted.finish(allow_missing))
        terminal.deliver(*steps)


@dataclass(frozen=True)
class _Row:
    """A stage, measured against the run."""

    stage: "StageTime"
    share: float
    """Of the sum of all stages' times, the one of no stage included."""
    copy_bandwidth: float
    """Of the place it runs on, in bytes read and written a second."""

    @property
    def maps_per_second(self) -> float | None:
        stage = self.stage
        return stage.num_maps / stage.seconds if stage.num_maps and stage.seconds else None

    @property
    def copy_fraction(self) -> float | None:
        """Bytes moved a second over those of a copy."""
        stage = self.stage
        return stage.num_bytes / stage.seconds / self.copy_bandwidth if stage.num_bytes and stage.seconds else None

    def to_dict(self) -> dict:
        computed = {name: getattr(self, name) for name in ("share", "maps_per_second", "copy_fraction")}
        return {**asdict(self.stage), "seconds": self.stage.seconds, **computed}


@dataclass(frozen=True)
class _Findings:
    """A profile and what it was compared with."""

    profile: "Profile"
    bandwidths: dict[str, float]
    """Place -> bytes that a copy reads and writes there a second."""
    profiled: list[float]
    """What the profiled passes took, in seconds, in their order; a traced one only if there is no other."""
    unprofiled: list[float]
    """What the unprofiled pass before each of them took; empty for a single pass."""
    num_threads: int
    """What an operation may use."""

    @property
    def rows(self) -> list[_Row]:
        stages = self.profile.stages
        total = sum(each.seconds for each in stages)
        return [_Row(each, each.seconds / total, self.bandwidths[each.place]) for each in stages]

    @property
    def num_maps(self) -> int:
        """What went through the stage that most maps went through."""
        return max(each.num_maps for each in self.profile.stages)

    @property
    def overhead(self) -> float | None:
        """What profiling adds, a fraction: the median over the pairs of neighbouring passes."""
        pairs = list(zip(self.profiled, self.unprofiled, strict=False))
        return statistics.median(on / off for on, off in pairs) - 1 if pairs else None

    def limit(self) -> str:
        """What limits the run and what would help, with the numbers it rests on."""
        rows = sorted(self.rows, key=lambda row: row.share, reverse=True)
        first = rows[0]
        name, fraction = first.stage.name, first.copy_fraction
        text = f"{name} takes {first.share:.0%} of the time"
        why, what = _LIMITS.get(name, (None, "a look at what it does"))
        if why is None and fraction is not None:
            cause = "memory" if fraction >= _BOUND_BY_MEMORY else "arithmetic or latency, not memory,"
            why = f"it moves bytes at {fraction:.0%} of the copy bandwidth: {cause} limits it"
        if name == "tree":
            micros = first.stage.busy_seconds / first.stage.num_maps * 1e6
            why = f"{micros:,.0f} us a map and thread: {why}"
        text += f"; {why}." if why else "."
        if first.share < _DOMINANT:
            text += f" No stage dominates: {rows[1].stage.name} takes {rows[1].share:.0%}."
        text += f" What helps: {what}."
        if name == "other":
            return text
        gain = f"{1 / (1 - first.share):.1f}" if first.share < 0.95 else "many"
        return f"{text} Without {name} the run would be {gain} times as fast at most."

    def to_dict(self) -> dict:
        return {
            "seconds": self.profile.seconds,
            "num_threads": self.num_threads,
            "copy_bandwidth": self.bandwidths,
            "stages": [row.to_dict() for row in self.rows],
            "limit": self.limit(),
            "seconds_profiled": self.profiled,
            "seconds_unprofiled": self.unprofiled,
            "overhead": self.overhead,
        }


class _Evaluation:
    """What ``wsolkern evaluate`` does between opening the maps and computing the metrics, as often as it is run."""

    def __init__(self, root, split, normalizations, mask_root, score_maps, size, interval, device, limit):
        from wsolkern.cams import CamStore

        if CamStore.is_at(root):
            store = CamStore(root)
            store.check_split(replace(split, image_ids=split.image_ids[:limit]), siblings=split.image_ids)
            score_maps = score_maps or store.manifest.content == "score maps"
        if score_maps and normalizations:
            raise ValueError("--normalizations: score maps are normalized already; leave it out")
        self._root, self._device, self._mask_root = root, device, mask_root
        self._split = replace(split, image_ids=split.image_ids[:limit])
        self._siblings = split.image_ids
        self._normalizations = None if score_maps else normalizations or [defaults.NORMALIZATIONS]
        self._how = {"size": options.parse_size(size), "thresholds": options.thresholds(interval)}

    def run(self) -> None:
        from wsolkern.cams import open_maps
        from wsolkern.studies.counting import count_maps, evaluator_for

        self._evaluator = evaluator_for(self._split, self._normalizations, mask_root=self._mask_root, **self._how)
        source = open_maps(self._root, self._split.image_ids, siblings=self._siblings)
        self._problems = count_maps(self._evaluator, source, device=self._device)

    def counted(self, seconds: float) -> counting.Counted:
        """The counts of the last run."""
        return counting.Counted(self._root, self._split, self._evaluator, self._problems, seconds)


def _take(work: Callable[[], object], repeat: int, with_trace: bool) -> tuple[_Findings, bytes]:
    """Runs the work profiled, and unprofiled in between if it is repeated; gives the trace's file, too, if wanted."""
    from wsolkern.ops import backends
    from wsolkern.profiling import HOST, Profile

    profiles, unprofiled, trace = [], [], b""
    if repeat > 1:
        work()  # so that the first pass that is timed is no colder than the others
        for _ in range(repeat):
            began = time.perf_counter()
            work()
            unprofiled.append(time.perf_counter() - began)
            with Profile() as taken:
                work()
            profiles.append(taken)
    if with_trace:
        traced, trace = _traced(work)
        profiles = profiles or [traced]
    elif not profiles:
        with Profile() as taken:
            work()
        profiles.append(taken)
    median = sorted(profiles, key=lambda each: each.seconds)[len(profiles) // 2]
    num_threads = backends.num_threads()
    places = {each.place for each in median.stages}
    bandwidths = {each: _host_copy(num_threads) if each == HOST else _device_copy(each) for each in sorted(places)}
    return _Findings(median, bandwidths, [each.seconds for each in profiles], unprofiled, num_threads), trace


def _host_copy(num_threads: int) -> float:
    """Bytes that all threads together read and write a second when they copy what no cache holds."""
    import numpy as np

    pairs = [(np.ones(_COPIED_BYTES // num_threads, np.uint8),) * 2 for _ in range(num_threads)]
    pairs = [(source.copy(), target) for source, target in pairs]
    seconds = []
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(_COPIES):
            began = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            seconds.append(time.perf_counter() - began)
    return 2 * sum(source.nbytes for source, _ in pairs) / statistics.median(seconds)


def _device_copy(place: str) -> float:
    """The same for a copy within a device's memory."""
    import torch

    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(_COPIES + 1)]
    with torch.cuda.device(place):
        target.copy_(source)
        for event in events:
            event.record()
            target.copy_(source)
        torch.cuda.synchronize()
    seconds = [begin.elapsed_time(end) * 1e-3 for begin, end in zip(events, events[1:], strict=False)]
    return 2 * source.nbytes / statistics.median(seconds)


def _traced(work: Callable[[], object]) -> "tuple[Profile, bytes]":
    """A profile, and its spans with all that torch did as the file of one trace."""
    import torch
    from torch.profiler import ProfilerActivity, record_function

    from wsolkern.profiling import Profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with torch.profiler.profile(activities=activities) as tracer:
        with record_function("wsolkern"):  # the first range is slow to begin
            pass
        with record_function(_ANCHOR), Profile(with_spans=True) as taken:
            work()
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch) / "trace.json"
        tracer.export_chrome_trace(str(own))
        content = json.loads(own.read_text(encoding="utf-8"))
    events = content["traceEvents"]
    (began,) = (each["ts"] for each in events if each["name"] == _ANCHOR and each["ph"] == "X")
    core = "wsolkern core"
    events += [
        {
            "ph": "X",
            "cat": "wsolkern",
            "name": span.name,
            "pid": os.getpid() if span.thread > 0 else core,
            "tid": span.thread if span.thread > 0 else f"thread {-span.thread}",
            "ts": began + span.begin * 1e-3,  # microseconds
            "dur": (span.end - span.begin) * 1e-3,
        }
        for span in taken.spans
    ]
    if taken.num_spans_left_out:
        text = f"the last {taken.num_spans_left_out:,} stages of the core are not in it; --limit makes it whole"
        terminal.stderr().print(f"--trace: {text}")
    return taken, json.dumps(content).encode()


def _function(name: str) -> Callable[[], None]:
    """The function that --run names; an error of its own is printed as Python does, and ends the command.

    Raises:
        ValueError, ImportError: There is no such function.
    """
    import pkgutil

    if not all(name.partition(":")):
        raise ValueError(f"--run: expected package.module:function, found {name!r}")
    options.find_modules_here()
    try:
        function = pkgutil.resolve_name(name)
    except AttributeError as error:
        raise ValueError(f"--run: {error}") from error
    if not callable(function):
        raise ValueError(f"--run: expected {name} to be a function, found {type(function).__name__}")

    def work() -> None:
        try:
            function()
        except Exception as error:
            traceback.print_exc()
            raise typer.Exit(terminal.FAILED) from error

    return work


def _cuda(device: str) -> "torch.device | None":
    """The device that maps are copied to; None leaves them on the CPU.

    Raises:
        ValueError: Another device.
        BackendUnavailable: There is no GPU.
    """
    if device == "cpu":
        return None
    if device != "cuda":
        raise ValueError(f"--device: expected cpu or cuda, found {device!r}")
    return machine.place_of(device)


def _print(found: _Findings, what: str) -> None:
    from wsolkern.report.tables import plain_table

    console = terminal.stdout()
    table = plain_table(f"{what}: {found.profile.seconds:,.3f} s")
    for heading in ("stage", "on", "threads", "ms", "share", "maps/s", "MB moved", "of copy"):
        table.add_column(heading, justify="left" if heading in ("stage", "on") else "right")
    for row in found.rows:
        stage = row.stage
        table.add_row(
            stage.name,
            stage.place,
            str(stage.num_threads),
            f"{stage.seconds * 1e3:,.1f}",
            f"{row.share:.1%}",
            "" if row.maps_per_second is None else f"{row.maps_per_second:,.0f}",
            f"{stage.num_bytes / 1e6:,.1f}" if stage.num_bytes else "",
            "" if row.copy_fraction is None else f"{row.copy_fraction:.0%}",
        )
    with terminal.printing():
        console.print(table)
        if found.num_maps:
            console.print(f"  {found.num_maps / found.profile.seconds:,.0f} maps/s in all")
        for place, bandwidth in found.bandwidths.items():
            threads = f" by {found.num_threads} threads" if place == "host" else ""
            console.print(f"  copy bandwidth on {place}{threads}: {bandwidth / 1e9:.1f} GB/s")
        if found.overhead is not None:
            off, on = (statistics.median(each) * 1e3 for each in (found.unprofiled, found.profiled))
            text = f"medians of {len(found.profiled)} alternating passes, {found.overhead:+.1%} in the median pair"
            console.print(f"  profiling off {off:,.1f} ms, on {on:,.1f} ms: {text}")
        console.print(found.limit())

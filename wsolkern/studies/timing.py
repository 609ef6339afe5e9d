"""Profile: where the time of an evaluation goes, stage by stage, and what limits it.

In: maps and a split as for ``evaluate``, or any function. Out: a Profiled: findings, counts, a Chrome/Perfetto trace.
Source: none; the timers are :mod:`wsolkern.profiling`, the yardstick is a copy in memory measured in the same run.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import CamStore, open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError
from wsolkern.machine import gpu_of
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS, backends
from wsolkern.profiling import HOST, Profile, StageTime
from wsolkern.studies.counting import count_maps, evaluator_for
from wsolkern.studies.passes import Counted, NothingCounted, Progress

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


@dataclass(frozen=True)
class StageShare:
    """A stage, measured against the run."""

    stage: StageTime
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

    def to_dict(self) -> dict[str, Any]:
        computed = {name: getattr(self, name) for name in ("share", "maps_per_second", "copy_fraction")}
        return {**asdict(self.stage), "seconds": self.stage.seconds, **computed}


@dataclass(frozen=True)
class Findings:
    """A profile and what it was compared with."""

    profile: Profile
    bandwidths: dict[str, float]
    """Place -> bytes that a copy reads and writes there a second."""
    profiled: list[float]
    """What the profiled passes took, in seconds, in their order; a traced one only if there is no other."""
    unprofiled: list[float]
    """What the unprofiled pass before each of them took; empty for a single pass."""
    num_threads: int
    """What an operation may use."""

    @property
    def rows(self) -> list[StageShare]:
        stages = self.profile.stages
        total = sum(each.seconds for each in stages)
        return [StageShare(each, each.seconds / total, self.bandwidths[each.place]) for each in stages]

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

    def to_dict(self) -> dict[str, Any]:
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


@dataclass(frozen=True, eq=False)
class Profiled:
    """Where the time of some work goes."""

    findings: Findings
    counted: Counted | None
    """What a pass counted; None for a function of one's own."""
    name: str | None = None
    """What a function of one's own is called."""
    trace: bytes = b""
    """A pass as the file of a trace, if it was asked for."""
    warnings: tuple[str, ...] = ()
    """What is not in the trace."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but the trace."""
        on = {} if self.counted is None else self.counted.to_dict() | {"num_images": self.counted.num_images}
        return {"run": self.name, **on, **self.findings.to_dict()}


def profile(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = None,
    *,
    score_maps: bool = False,
    mask_root: str | os.PathLike[str] | None = None,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    limit: int | None = None,
    repeat: int = 1,
    trace: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Profiled:
    """Tells which stage of an evaluation takes how long, and what limits it.

    It takes no ``resume``, as the other studies do, because a measurement cannot be gone on with: a pass is measured
    whole, and the times of two runs do not add up (another load, other maps in the page cache, a first batch that is
    slow again).

    Args:
        maps: As for :func:`wsolkern.studies.evaluate`.
        split: The ground truth.
        normalizations: What to normalize with; None: the default, or none for score maps.
        score_maps: The maps are normalized already; a store knows that itself.
        mask_root: Folder that the split's mask paths start from; for masks only.
        size: Height and width of the evaluation, in pixels.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, D of them.
        limit: Evaluate only so many first images of the split.
        repeat: Passes; the median one is shown. From 2 on, unprofiled passes alternate with them to tell what
            profiling costs; storage is warm then.
        trace: Take a pass as a trace, too, by torch.profiler, which slows it down.
        device: "cpu" or "cuda": where maps are evaluated.
        progress: Called with "passes", the number of passes done and the number of passes.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        NothingCounted: No map could be read.
        DatasetError: Maps and split do not belong together.
        BackendUnavailable: The native core is not built.

    Source: none; the timers are :mod:`wsolkern.profiling`.
    """
    place = gpu_of(device)
    first = replace(split, image_ids=split.image_ids[:limit])
    if CamStore.is_at(maps):
        store = CamStore(maps)
        store.check_split(first, siblings=split.image_ids)
        score_maps = score_maps or store.manifest.content == "score maps"
    if score_maps and normalizations:
        raise ArgumentError("normalizations", "score maps are normalized already; leave it out")
    names = None if score_maps else normalizations or defaults.NORMALIZATIONS
    how: dict[str, Any] = {"size": size, "thresholds": thresholds, "iou_thresholds": iou_thresholds}
    last: dict[str, Any] = {}

    def work() -> None:
        evaluator = evaluator_for(first, names, mask_root=mask_root, **how)
        source = open_maps(maps, first.image_ids, siblings=split.image_ids)
        last["problems"] = count_maps(evaluator, source, device=place)
        last["num_images"] = evaluator.num_images

    found = profile_function(work, repeat=repeat, trace=trace, progress=progress)
    if not last["num_images"]:
        raise NothingCounted(maps, last["problems"], len(first.image_ids))
    seconds = found.findings.profile.seconds
    return replace(found, counted=Counted(os.fspath(maps), first, size, seconds=seconds, **last))


def profile_function(
    function: Callable[[], object],
    *,
    name: str | None = None,
    repeat: int = 1,
    trace: bool = False,
    progress: Progress | None = None,
) -> Profiled:
    """Tells which stage of any function takes how long; :func:`wsolkern.profiling.stage` adds stages.

    Args:
        function: Called once a pass, without arguments.
        name: What it is called.
        repeat: As for :func:`profile`.
        trace: See there.
        progress: See there.

    Raises:
        BackendUnavailable: The native core is not built.
    """
    num_all = (2 * repeat + 1 if repeat > 1 else 0) + (1 if trace or repeat == 1 else 0)
    num_done = 0

    def work() -> None:
        nonlocal num_done
        function()
        num_done += 1
        if progress is not None:
            progress("passes", num_done, num_all)

    findings, content, num_left_out = _take(work, repeat, trace)
    text = f"trace: the last {num_left_out:,} stages of the core are not in it; fewer images (limit) make it whole"
    return Profiled(findings, None, name, content, (text,) if num_left_out else ())


def _take(work: Callable[[], object], repeat: int, with_trace: bool) -> tuple[Findings, bytes, int]:
    """Runs the work profiled, and unprofiled in between if it is repeated; gives the trace's file, too, if wanted."""
    profiles: list[Profile] = []
    unprofiled: list[float] = []
    trace, num_left_out = b"", 0
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
        num_left_out = traced.num_spans_left_out
        profiles = profiles or [traced]
    elif not profiles:
        with Profile() as taken:
            work()
        profiles.append(taken)
    median = sorted(profiles, key=lambda each: each.seconds)[len(profiles) // 2]
    num_threads = backends.num_threads()
    places = {each.place for each in median.stages}
    bandwidths = {each: _host_copy(num_threads) if each == HOST else _device_copy(each) for each in sorted(places)}
    seconds = [each.seconds for each in profiles]
    return Findings(median, bandwidths, seconds, unprofiled, num_threads), trace, num_left_out


def _host_copy(num_threads: int) -> float:
    """Bytes that all threads together read and write a second when they copy what no cache holds."""
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
    event: Any = torch.cuda.Event
    events = [event(enable_timing=True) for _ in range(_COPIES + 1)]
    with torch.cuda.device(place):
        target.copy_(source)
        for event in events:
            event.record()
            target.copy_(source)
        torch.cuda.synchronize()
    seconds = [begin.elapsed_time(end) * 1e-3 for begin, end in zip(events, events[1:], strict=False)]
    return float(2 * source.nbytes / statistics.median(seconds))


def _traced(work: Callable[[], object]) -> tuple[Profile, bytes]:
    """A profile, and its spans with all that torch did as the file of one trace."""
    import torch
    from torch.profiler import ProfilerActivity, record_function

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
    return taken, json.dumps(content).encode()

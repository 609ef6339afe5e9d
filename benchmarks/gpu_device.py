"""What the GPU does a second: every number is checked against the CPU engine first.

In: CAMs with boxes and masks. Out: maps a second, times of stages, bytes a second against a copy, the cost to a model.
Source: wsolkern/ops/gpu/evaluation.py is what runs; a result that differs in one count raises WrongResult, untimed.

Times are medians of warm calls between CUDA events. A call is a CUDA graph, as training loops use them and because
launches from Python would take longer than some kernels. Calls take turns on several batches, and before a batch
comes up again the others have read and written more than the L2 cache holds.
"""

import csv
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from benchmarks.cpu_rows import IOU_THRESHOLDS, MANY, ONE
from benchmarks.harness import WrongResult
from benchmarks.inputs import Inputs, cam_like, synthetic_boxes
from wsolkern import Evaluator, ops
from wsolkern.models import build
from wsolkern.normalization import parse_all
from wsolkern.ops import inputs
from wsolkern.ops.backends import device_of
from wsolkern.ops.gpu import cutting, evaluation, resizing, statistics
from wsolkern.profiling import HOST, STAGES, Profile

NCU_STALLS = (
    "barrier", "branch_resolving", "dispatch_stall", "drain", "imc_miss", "lg_throttle", "long_scoreboard",
    "math_pipe_throttle", "membar", "mio_throttle", "no_instruction", "not_selected", "selected", "short_scoreboard",
    "sleeping", "tex_throttle", "wait",
)  # fmt: skip
NCU_METRICS = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "l1tex__throughput.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    *(f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio" for reason in NCU_STALLS),
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    size: tuple[int, int] = (224, 224)
    batch: int = 1024
    """CAMs a call."""
    full_batch: int = 256
    """Maps a call that have the evaluation size already."""
    many: tuple[str, ...] = MANY
    num_sets: int = 4
    """Distinct batches that take turns: one and its mirror images."""
    copy_bytes: int = 1 << 30
    seconds: float = 0.5
    """For the calls of one row."""
    images: int = 256
    image_side: int = 224
    rounds: int = 7
    """Comparisons of the forward pass with and without evaluation, and calls of an Evaluator."""


TINY = Sizes((8, 8), 1, 1, ("minmax", "ivr:0.45+pas:0.9"), 1, 1 << 20, 0, 2, 32, 1)  # for the stand-in on the host


@dataclass(frozen=True)
class Work:
    """What is counted."""

    name: str
    normalizations: tuple[str, ...]
    contours: str
    has_pixels: bool = False


LEVELS = "normalize and digitize alone"
V2 = Work("V2 counts, 1 norm.", ONE, "all")
ALL = Work("V1, V2, PxAP counts, 1 norm.", ONE, "both", True)


def many(sizes: Sizes) -> Work:
    """V2 for all normalizations at once."""
    return Work(f"V2 counts, {len(sizes.many)} norm.", sizes.many, "all")


@dataclass(frozen=True)
class Batch:
    """One call's maps with their ground truth, on the host; what the device sees is copied there once."""

    cams: np.ndarray  # float32 or float64 [N, h, w]
    boxes: list[np.ndarray]  # int32 [n, 4] each
    masks: np.ndarray  # uint8 [N, H, W]

    @cached_property
    def on_device(self) -> tuple[torch.Tensor, ...]:
        """CAMs, rows of boxes, where each map's rows begin, masks."""
        each = self.cams, *inputs.check_boxes(self.boxes, len(self.cams)), self.masks
        return tuple(torch.from_numpy(np.ascontiguousarray(one)).to(device_of(None)) for one in each)


@dataclass
class Times:
    """Seconds a call."""

    median: float
    quartiles: tuple[float, float]
    num_calls: int
    is_graph: bool
    """Replays of a CUDA graph; else launches from Python."""


@dataclass
class Row:
    """One line of the table."""

    work: str
    kind: str
    num_maps: int
    """A call."""
    num_checked: int
    """Maps whose counts were compared with the CPU engine's; no others were timed."""
    times: Times
    maps_per_second: float
    num_bytes: int = 0
    """Bytes that a call must read and write; 0: not a question of memory."""
    copy_fraction: float = 0.0
    """The share of its time that a copy of as many bytes on the device would take."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds a call, medians, launched from Python."""


def batches(kind: Inputs, sizes: Sizes, masks: np.ndarray | None = None) -> list[Batch]:
    """The maps of a kind and their mirror images; ``masks`` are those of all 224 x 224 pixels, made if not given."""
    step = 224 // sizes.size[0]  # boxes and masks of a kind are made for 224 x 224
    masks = (kind.masks() if masks is None else masks)[:, ::step, ::step]
    result = []
    for across, down in ((1, 1), (-1, 1), (1, -1), (-1, -1))[: sizes.num_sets]:
        boxes = [_mirrored(each // step, across, down, sizes.size) for each in kind.boxes]
        result.append(Batch(kind.cams[:, ::down, ::across], boxes, masks[:, ::down, ::across]))
    return result


def _mirrored(boxes: np.ndarray, across: int, down: int, size: tuple[int, int]) -> np.ndarray:
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    x = size[1] - 1 - x[:, ::-1] if across < 0 else x
    y = size[0] - 1 - y[:, ::-1] if down < 0 else y
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.int32)


def count(batch: Batch, work: Work, size: tuple[int, int]) -> list[torch.Tensor]:
    """What the dispatch of ``wsolkern.ops`` calls for CUDA tensors, with the ground truth on the device already."""
    cams, rows, starts, masks = batch.on_device
    parsed = parse_all(work.normalizations)
    how = parsed, ops.DEFAULT_THRESHOLDS
    found = [*evaluation.box_hits(cams, rows, starts, *how, IOU_THRESHOLDS, work.contours, size, True)]
    if work.has_pixels:
        found += evaluation.pixel_histograms(cams, masks, *how, size, True)
    return found


def expected(batch: Batch, work: Work, size: tuple[int, int]) -> list[np.ndarray]:
    """The same by the CPU engine."""
    how = {"normalizations": work.normalizations, "size": size, "backend": "cpu"}
    counts, degenerate = ops.count_box_hits(
        batch.cams, batch.boxes, iou_thresholds=IOU_THRESHOLDS, contours=work.contours, **how
    )
    found = [counts if work.contours == "both" else counts[None], degenerate]
    return found + [*ops.count_pixels(batch.cams, batch.masks, **how)] if work.has_pixels else found


def count_row(
    work: Work,
    kind: str,
    sets: Sequence[Batch],
    sizes: Sizes,
    *,
    with_stages: bool = False,
    expect: Callable[[Batch, Work, tuple[int, int]], list[np.ndarray]] = expected,
) -> Row:
    """CAMs to counts on the device.

    Raises:
        WrongResult: The counts are not what ``expect`` gives; nothing is timed then.
    """
    calls = [lambda batch=batch: count(batch, work, sizes.size) for batch in sets]
    wanted = [expect(batch, work, sizes.size) for batch in sets]
    row = checked_row(work.name, kind, calls, wanted, sizes, len(sets[0].cams))
    if with_stages:
        row.stages = stage_seconds(calls[0], sizes)
    return row


def level_rows(kind: Inputs, dtype: type, sizes: Sizes, bandwidth: float) -> list[Row]:
    """Normalize and digitize alone, and the order statistics alone, of maps that have the evaluation size already."""
    no_masks = np.zeros((len(kind.cams), 1, 1), np.uint8)
    sets = batches(Inputs(kind.name, kind.cams.astype(dtype), kind.boxes), sizes, no_masks)
    prepared = [resizing.prepare(batch.on_device[0], sizes.size) for batch in sets]
    ranks = inputs.ranks(parse_all(ONE), sizes.size[0] * sizes.size[1])
    affines = [ops.affine(batch.cams, ONE, backend="cpu") for batch in sets]
    images = [(ops.normalize(batch.cams, ONE[0], backend="cpu") * 255).astype(np.uint8) for batch in sets]
    on_device = [inputs.to_device(each, prepared[0].source.device) for each in affines]
    digitize = [
        lambda resized=resized, numbers=numbers: [cutting.level_image(resized, numbers)[0]]
        for resized, numbers in zip(prepared, on_device, strict=True)
    ]
    select = [lambda resized=resized: [statistics.affine(resized, ranks)] for resized in prepared]
    about = f"{kind.name}, {np.dtype(dtype).name}"
    rows = []
    for work, calls, wanted, written in (
        (LEVELS, digitize, images, images[0].nbytes),
        ("order statistics alone", select, affines, 0),
    ):
        row = checked_row(work, about, calls, [[each] for each in wanted], sizes, len(images[0]))
        row.num_bytes = sets[0].cams.nbytes + written
        row.copy_fraction = row.num_bytes / bandwidth / row.times.median
        rows.append(row)
    return rows


def evaluator_row(kind: str, sets: Sequence[Batch], sizes: Sizes, has_masks: bool) -> Row:
    """``Evaluator.update`` as users call it: CAMs on the device, boxes and masks on the host; by the host's clock."""
    work = f"Evaluator.update, {'boxes and masks' if has_masks else 'boxes'}, 1 norm."
    ids = range(len(sets[0].cams))
    boxes = {(s, n): batch.boxes[n] for s, batch in enumerate(sets) for n in ids}
    masks = {(s, n): batch.masks[n] for s, batch in enumerate(sets) for n in ids} if has_masks else None
    cams = [batch.on_device[0] for batch in sets]

    def evaluated(backend: str) -> Evaluator:
        evaluator = Evaluator(ONE, boxes=boxes, masks=masks, size=sizes.size, backend=backend)
        for s, maps in enumerate(cams):
            evaluator.update(maps, [(s, n) for n in ids])
        return evaluator

    if evaluated("cuda") != evaluated("cpu"):
        raise WrongResult(f"{work}, {kind}: the counts differ from the CPU engine's")
    spent = [_seconds(lambda: evaluated("cuda")) / len(sets) for _ in range(sizes.rounds)]
    times = _times(spent, False)
    return Row(work, kind, len(ids), len(boxes), times, len(ids) / times.median)


def forward_cost(sizes: Sizes) -> dict:
    """A forward pass of ResNet-50 alone, with CAMs, and with CAMs and their evaluation: seconds a batch, and shares.

    The three take turns, so that a change of the clocks meets them alike. All batches of a round are queued before the
    host waits, as in an evaluation.
    """
    device, num, side, step = device_of(None), sizes.images, sizes.image_side, 224 // sizes.size[0]
    rng, ids = np.random.default_rng(0), range(num)
    torch.manual_seed(0)
    model = build("resnet50", "cam").eval().to(device, torch.bfloat16, memory_format=torch.channels_last)
    coarse = torch.randn(sizes.num_sets, num, 3, side // 32, side // 32, device=device)
    smooth = [torch.nn.functional.interpolate(each, size=(side, side), mode="bicubic") for each in coarse]
    images = [each.to(torch.bfloat16, memory_format=torch.channels_last) for each in smooth]
    labels = torch.from_numpy(rng.integers(0, 1000, num)).to(device)
    boxes = dict(zip(ids, [each // step for each in synthetic_boxes(rng, num)], strict=True))

    def evaluator(backend: str) -> Evaluator:
        return Evaluator(ONE, boxes=boxes, size=sizes.size, backend=backend)

    ways = {
        "forward": lambda each: model(each),
        "forward and CAMs": lambda each: model(each, labels, return_cam=True),
        "forward, CAMs and evaluation": lambda each: evaluator("cuda").update(
            model(each, labels, return_cam=True), ids
        ),
    }
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        cams = model(images[0], labels, return_cam=True)
        one, other = evaluator("cuda"), evaluator("cpu")
        one.update(cams, ids)
        other.update(cams, ids)
        if one != other:
            raise WrongResult("CAMs of ResNet-50: the counts differ from the CPU engine's")
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(sizes.rounds + 1):
            for name, way in ways.items():
                seconds = _seconds(lambda way=way: [way(each) for each in images]) / len(images)
                spent[name] += [seconds] if repeat else []  # the first warms up
    alone, with_cams, with_all = (np.array(each) for each in spent.values())
    return {
        "batch": list(images[0].shape),
        "cams": list(cams.shape),
        "degenerate": int(other.num_degenerate[0]),
        "seconds": {name: float(np.median(each)) for name, each in spent.items()},
        "added_to_forward": float(np.median(with_all / alone - 1)),
        "added_to_forward_and_cams": float(np.median(with_all / with_cams - 1)),
        "rounds": len(alone),
    }


def copy_bandwidth(sizes: Sizes) -> float:
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.rand(sizes.copy_bytes // 4, device=device_of(None))
    target = torch.empty_like(source)
    times, _ = timed([lambda: target.copy_(source)], sizes.seconds, as_graphs=False)
    return 2 * source.nbytes / times.median


def stage_seconds(call: Callable[[], object], sizes: Sizes) -> dict[str, float]:
    """Medians of the stages of a call, by the CUDA events that `wsolkern profile` uses."""
    device, spent = device_of(None), []
    source = torch.rand(sizes.copy_bytes // 4, device=device)
    for _ in range(20 if device.type == "cuda" else 1):
        for _ in range(4):  # copies keep the device busy while the host queues the stages: no gaps between them
            source.clone()
        with Profile() as profile:
            call()
        place = HOST if device.type == "cpu" else str(device)
        spent.append({each.name: each.busy_seconds for each in profile.stages if each.place == place})
    return {name: float(np.median([each[name] for each in spent])) for name in STAGES if name in spent[0]}


def ncu(report: Path) -> dict[str, float]:
    """What the profiler says about the tree kernel: metric -> value; its own text is left in ``report``.

    Raises:
        OSError: ncu is not installed.
        RuntimeError: It reports nothing.
    """
    command = [
        "ncu", "--clock-control", "none", "--kernel-name", "regex:evaluate_bytes", "--launch-skip", "2",
        "--launch-count", "1", "--metrics", ",".join(NCU_METRICS), "--csv", "--log-file", str(report),
        sys.executable, "-c", "from benchmarks import gpu_device; gpu_device.call_main_row()",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
    text = report.read_text() if report.exists() else ""
    found = parse_ncu(text)
    if not found:
        raise RuntimeError(f"ncu reports nothing, exit code {done.returncode}: {(text + done.stderr).strip()[-400:]}")
    return found


def parse_ncu(text: str) -> dict[str, float]:
    """Metric -> value of ncu's CSV; lines before its header are messages."""
    lines = text.splitlines()
    header = next((index for index, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    rows = csv.DictReader(lines[header:])
    return {row["Metric Name"]: float(row["Metric Value"].replace(",", "")) for row in rows if row.get("Metric Value")}


def call_main_row() -> None:
    """A few calls of the first row, for a profiler to look at."""
    boxes = synthetic_boxes(np.random.default_rng(0), Sizes.batch)
    cams = cam_like(np.random.default_rng(0), boxes, 14).astype(np.float32)
    batch = Batch(cams, boxes, np.zeros((0, *Sizes.size), np.uint8))
    for _ in range(4):
        count(batch, V2, Sizes.size)
    torch.cuda.synchronize()


def checked_row(
    work: str,
    kind: str,
    calls: Sequence[Callable[[], list[torch.Tensor]]],
    wanted: Sequence[list[np.ndarray]],
    sizes: Sizes,
    num_maps: int,
) -> Row:
    """Compare what each call gives, time the calls, and compare again: also replays of a graph must be right."""
    name = f"{work}, {kind}"
    _compare(name, [call() for call in calls], wanted)
    times, found = timed(calls, sizes.seconds)
    _compare(f"{name}, as it was timed", found, wanted)
    return Row(work, kind, num_maps, num_maps * len(calls), times, num_maps / times.median)


def _compare(name: str, found: Sequence[list[torch.Tensor]], wanted: Sequence[list[np.ndarray]]) -> None:
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        for one, other in zip(ours, theirs, strict=True):
            one, other = one.cpu().numpy(), np.asarray(other)
            if one.shape != other.shape or (one != other).any():
                raise WrongResult(f"{name}: batch {index} differs from the CPU engine's result")


def timed(calls: Sequence[Callable[[], object]], seconds: float, *, as_graphs: bool = True) -> tuple[Times, list]:
    """Times of calls that take turns, all warm already, and what the last call of each gave."""
    if device_of(None).type != "cuda":
        results = []
        return _times([_seconds(lambda call=call: results.append(call())) for call in calls], False), results
    is_graph = False
    if as_graphs:
        try:
            calls, is_graph = _captured(calls), True
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph, launches from Python are timed: {error}", stacklevel=2)
    _between_events(calls)  # clocks go up
    spent, _ = _between_events(calls)
    rounds = int(min(max(seconds / sum(spent), 5), 200))
    spent, results = _between_events([*calls] * rounds, len(calls))
    return _times(spent, is_graph), results


def _captured(calls: Sequence[Callable]) -> list[Callable]:
    """Replays of CUDA graphs, which give the tensors that the graph writes."""
    pool, replays = torch.cuda.graph_pool_handle(), []
    for call in calls:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = call()
        replays.append(lambda graph=graph, result=result: graph.replay() or result)
    return replays


def _between_events(calls: Sequence[Callable], num_kept: int = 1) -> tuple[list[float], list]:
    """Seconds of each call on the device, all queued before the first is waited for; and the last results."""
    events, results = [], deque(maxlen=num_kept)
    for call in calls:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        results.append(call())
        after.record()
        events.append((before, after))
    torch.cuda.synchronize()
    return [before.elapsed_time(after) * 1e-3 for before, after in events], [*results]


def _seconds(call: Callable[[], object]) -> float:
    """By the host's clock, the device done before and after."""
    wait = torch.cuda.synchronize if device_of(None).type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def _times(spent: Sequence[float], is_graph: bool) -> Times:
    median, *quartiles = np.quantile(spent, (0.5, 0.25, 0.75)).tolist()
    return Times(median, tuple(quartiles), len(spent), is_graph)

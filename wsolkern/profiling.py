"""Which stage of an evaluation the time goes to: timers that cost nothing until a profile is taken.

In: stages, as they are entered on any thread or CUDA device. Out: their times, bytes and maps.
Source: none; the native core times its own stages (csrc/cpu/stages.h), and a profile adds them to these.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import torch

STAGES = ("read", "forward", "resize", "statistics", "digitize", "tree", "gather", "reduce")
OTHER = "other"
HOST = "host"

_Item = TypeVar("_Item")


class _Untimed:
    """A stage while there is no profile."""

    __slots__ = ()

    def __enter__(self) -> "_Untimed":
        return self

    def __exit__(self, *_) -> None:
        pass

    def moved(self, num_bytes: int, num_maps: int = 0) -> None:
        """Says how many bytes the stage read and wrote, and how many maps it worked on."""


_UNTIMED = _Untimed()
_profile: "Profile | None" = None


def stage(name: str, device: "torch.device | str | None" = None) -> "_Untimed | _Timer":
    """Times a ``with`` block as a stage, if a profile is being taken; ``as`` gives what ``moved`` can be called on.

    A stage inside another one is not counted twice: its time is its own, and the outer one has the rest.

    Args:
        name: One of ``STAGES``, or a name of your own.
        device: Where the work is done. On a CUDA device the block is an NVTX range between two CUDA events on the
            current stream, read when the profile ends; nothing waits for them before. None, the CPU, and what
            ``numpy.ndarray.device`` is: this thread.
    """
    return _UNTIMED if _profile is None else _profile.timer(name, device)


def timed(name: str, items: Iterable[_Item], moved: Callable[[_Item], tuple[int, int]]) -> Iterable[_Item]:
    """The items, with the wait for each as a stage.

    Args:
        name: As for :func:`stage`.
        items: What is waited for.
        moved: The bytes and maps of an item; called only while a profile is taken.
    """
    return items if _profile is None else _timed(name, items, moved)


def _timed(name: str, items: Iterable[_Item], moved: Callable[[_Item], tuple[int, int]]) -> Iterator[_Item]:
    iterator = iter(items)
    while True:
        with stage(name) as timer:
            try:
                item = next(iterator)
            except StopIteration:
                return
            timer.moved(*moved(item))
        yield item


@dataclass
class StageTime:
    """A stage on one place, in all."""

    name: str
    place: str
    """"host", or a device such as "cuda:0"."""
    busy_seconds: float = 0.0
    """Summed over the threads that were in it."""
    num_threads: int = 1
    """Threads that were in it; of the native core, the most that were at work at once."""
    num_bytes: int = 0
    """Read and written; 0 if the stage does not say."""
    num_maps: int = 0
    """0 if the stage does not say."""

    @property
    def seconds(self) -> float:
        """What the stage takes of the run: its busy time, spread evenly over its threads."""
        return self.busy_seconds / self.num_threads


class Span(NamedTuple):
    """One thread was in one stage; nanoseconds since the profile began."""

    name: str
    thread: int
    """The system's number of a Python thread; minus 1, minus 2, ... are threads of the native core."""
    begin: int
    end: int


class Profile:
    """Times all stages while it is entered; one at a time in a process. Read it afterwards.

    Args:
        with_spans: Keep when each stage was entered, not only how long it took; of the native core's the first 200,000.

    Raises:
        RuntimeError: Another profile is being taken.
        BackendUnavailable: The native core is not built.
    """

    def __init__(self, *, with_spans: bool = False):
        self.seconds = 0.0
        """What everything took, all devices done."""
        self.stages: list[StageTime] = []
        """In the order of ``STAGES``, others after them; the last is ``OTHER``, the time that no stage accounts for."""
        self.spans: list[Span] = []
        """Empty unless asked for."""
        self.num_spans_left_out = 0
        """Spans of the native core that were more than are kept."""
        self._with_spans = with_spans
        self._timers: list[_Timer] = []
        self._local = threading.local()

    def __enter__(self) -> "Profile":
        global _profile
        from wsolkern.ops import backends

        if _profile is not None:
            raise RuntimeError("a profile is being taken already")
        self._native = backends.native()
        self.thread_stage_nanoseconds = self._native.stage_nanoseconds
        self._native.start_stages(self._with_spans)
        self._began = time.perf_counter_ns()
        _profile = self
        return self

    def __exit__(self, *_) -> None:
        global _profile
        _profile = None
        timers = list(self._timers)
        for device in {each.device for each in timers} - {None}:
            import torch

            torch.cuda.synchronize(device)
        self.seconds = (time.perf_counter_ns() - self._began) * 1e-9
        totals, num_threads, spans, num_spans = self._native.stop_stages()
        self._add_up(timers, totals, num_threads)
        if self._with_spans:
            self.spans = [Span(t.name, t.thread, t.began - self._began, t.ended - self._began) for t in timers]
            self.spans += [Span(totals[s][0], -1 - lane, begin, end) for s, lane, begin, end in spans.tolist()]
            self.num_spans_left_out = num_spans - len(spans)

    def timer(self, name: str, device: "torch.device | str | None") -> "_Untimed | _Timer":
        """What :func:`stage` returns."""
        if getattr(device, "type", "cpu") != "cuda":  # of a numpy array it is a string
            return _Timer(self, name, None)
        import torch

        # Events that are captured into a CUDA graph have no times.
        return _UNTIMED if torch.cuda.is_current_stream_capturing() else _CudaTimer(self, name, device)

    def stack(self) -> "list[_Timer]":
        """The stages that this thread is in."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        return self._local.stack

    def keep(self, timer: "_Timer") -> None:
        self._timers.append(timer)

    def _add_up(self, timers: "list[_Timer]", native_totals: list[tuple], num_native_threads: int) -> None:
        found: dict[tuple[str, str], StageTime] = {}
        threads: dict[tuple[str, str], set] = defaultdict(set)

        def total(name: str, place: str) -> StageTime:
            return found.setdefault((name, place), StageTime(name, place))

        for each in timers:
            own, seconds = total(each.name, each.place), each.seconds()
            own.busy_seconds += seconds
            own.num_bytes += each.num_bytes
            own.num_maps += each.num_maps
            if each.outer is not None:
                total(each.outer.name, each.place).busy_seconds -= seconds
            threads[each.name, each.place].add(each.thread if each.device is None else None)
        for key, its_threads in threads.items():
            found[key].num_threads = len(its_threads)
        for name, nanoseconds, num_bytes, num_maps in native_totals:
            if nanoseconds:
                own = total(name, HOST)
                own.busy_seconds += nanoseconds * 1e-9
                own.num_bytes += num_bytes
                own.num_maps += num_maps
                own.num_threads = max(own.num_threads, num_native_threads)
        order = {name: place for place, name in enumerate(STAGES)}
        self.stages = sorted(found.values(), key=lambda each: (order.get(each.name, len(order)), each.name, each.place))
        rest = max(0.0, self.seconds - sum(each.seconds for each in self.stages))
        self.stages.append(StageTime(OTHER, HOST, rest))


class _Timer:
    """A stage on this thread."""

    __slots__ = (
        "name", "device", "place", "thread", "outer", "num_bytes", "num_maps", "began", "ended", "_profile", "_native"
    )  # fmt: skip

    def __init__(self, profile: Profile, name: str, device: "torch.device | None"):
        self._profile, self.name, self.device = profile, name, device
        self.place = HOST if device is None else str(device)
        self.num_bytes = self.num_maps = 0

    def __enter__(self) -> "_Timer":
        stack = self._profile.stack()
        self.outer = next((each for each in reversed(stack) if each.place == self.place), None)
        stack.append(self)
        self.thread = threading.get_native_id()
        self._native = self._profile.thread_stage_nanoseconds()
        self.began = time.perf_counter_ns()
        return self

    def __exit__(self, *_) -> None:
        self.ended = time.perf_counter_ns()
        self._native = self._profile.thread_stage_nanoseconds() - self._native
        self._profile.stack().pop()
        self._profile.keep(self)

    def moved(self, num_bytes: int, num_maps: int = 0) -> None:
        self.num_bytes += num_bytes
        self.num_maps += num_maps

    def seconds(self) -> float:
        """Without the native core's own stages."""
        return (self.ended - self.began - self._native) * 1e-9


class _CudaTimer(_Timer):
    """A stage on the current stream of a CUDA device."""

    __slots__ = ("_first", "_last", "_stream")

    def __enter__(self) -> "_CudaTimer":
        import torch

        super().__enter__()
        torch.cuda.nvtx.range_push(f"wsolkern {self.name}")
        self._first, self._last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._stream = torch.cuda.current_stream(self.device)
        self._first.record(self._stream)
        return self

    def __exit__(self, *_) -> None:
        import torch

        self._last.record(self._stream)
        torch.cuda.nvtx.range_pop()
        super().__exit__()

    def seconds(self) -> float:
        """Once the device is synchronized."""
        return self._first.elapsed_time(self._last) * 1e-3

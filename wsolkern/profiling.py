"""Which stage of an evaluation the time goes to: timers that cost nothing until a profile is taken.

In: stages, as they are entered on any thread or CUDA device. Out: their times, bytes and maps.
Source: none; the native core times its own stages (csrc/cpu/stages.h), and a profile adds them to these.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from wsolkern import stages
from wsolkern.stages import HOST, STAGES, Timer, stage, timed

__all__ = ["HOST", "OTHER", "STAGES", "Profile", "Span", "StageTime", "stage", "timed"]

OTHER = "other"


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
        self._timers: list[Timer] = []
        self._local = threading.local()

    def __enter__(self) -> "Profile":
        from wsolkern.ops import backends

        if stages.taken is not None:
            raise RuntimeError("a profile is being taken already")
        self._native = backends.native()
        self.thread_stage_nanoseconds = self._native.stage_nanoseconds
        self._native.start_stages(self._with_spans)
        self._began = time.perf_counter_ns()
        stages.taken = self
        return self

    def __exit__(self, *_) -> None:
        stages.taken = None
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

    def stack(self) -> list[Timer]:
        """The stages that this thread is in."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        return self._local.stack

    def keep(self, timer: Timer) -> None:
        self._timers.append(timer)

    def _add_up(self, timers: list[Timer], native_totals: list[tuple], num_native_threads: int) -> None:
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

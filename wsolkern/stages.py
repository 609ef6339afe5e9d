"""The stages of an evaluation, and timers on them that cost nothing until a profile is taken.

In: stages, as they are entered on any thread or CUDA device. Out: timers, kept by the profile that is being taken.
Source: none; :mod:`wsolkern.profiling` takes the profiles.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

STAGES = ("read", "forward", "resize", "statistics", "digitize", "tree", "gather", "reduce")
HOST = "host"
taken: Any = None
"""The :class:`wsolkern.profiling.Profile` that is being taken, if one is."""

_Item = TypeVar("_Item")


class Untimed:
    """A stage while there is no profile."""

    __slots__ = ()

    def __enter__(self) -> "Untimed":
        return self

    def __exit__(self, *_) -> None:
        pass

    def moved(self, num_bytes: int, num_maps: int = 0) -> None:
        """Says how many bytes the stage read and wrote, and how many maps it worked on."""


_UNTIMED = Untimed()


def stage(name: str, device: "torch.device | str | None" = None) -> "Untimed | Timer":
    """Times a ``with`` block as a stage, if a profile is being taken; ``as`` gives what ``moved`` can be called on.

    A stage inside another one is not counted twice: its time is its own, and the outer one has the rest.

    Args:
        name: One of ``STAGES``, or a name of your own.
        device: Where the work is done. On a CUDA device the block is an NVTX range between two CUDA events on the
            current stream, read when the profile ends; nothing waits for them before. None, the CPU, and what
            ``numpy.ndarray.device`` is: this thread.
    """
    return _UNTIMED if taken is None else _timer(name, device)


def timed(name: str, items: Iterable[_Item], moved: Callable[[_Item], tuple[int, int]]) -> Iterable[_Item]:
    """The items, with the wait for each as a stage.

    Args:
        name: As for :func:`stage`.
        items: What is waited for.
        moved: The bytes and maps of an item; called only while a profile is taken.
    """
    return items if taken is None else _timed(name, items, moved)


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


def _timer(name: str, device: "torch.device | str | None") -> "Untimed | Timer":
    if getattr(device, "type", "cpu") != "cuda":  # of a numpy array it is a string
        return Timer(taken, name, None)
    import torch

    # Events that are captured into a CUDA graph have no times.
    return _UNTIMED if torch.cuda.is_current_stream_capturing() else _CudaTimer(taken, name, device)


class Timer:
    """A stage on this thread."""

    __slots__ = (
        "name", "device", "place", "thread", "outer", "num_bytes", "num_maps", "began", "ended", "_profile", "_native"
    )  # fmt: skip

    def __init__(self, profile: Any, name: str, device: "torch.device | None"):
        self._profile, self.name, self.device = profile, name, device
        self.place = HOST if device is None else str(device)
        self.num_bytes = self.num_maps = 0

    def __enter__(self) -> "Timer":
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


class _CudaTimer(Timer):
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

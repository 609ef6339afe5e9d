"""Ctrl-C and SIGTERM as one KeyboardInterrupt, at moments that leave nothing half done.

In: SIGINT and SIGTERM. Out: one KeyboardInterrupt in the main thread, at once or after the block that it waits for.
Source: none.

Both signals mean the same, and often come together: a terminal sends SIGINT to all processes of a group, and torchrun
sends SIGTERM to those that it started. So what follows within _AGAIN seconds changes nothing. Later, somebody has lost
patience, and the process ends at once, as without a handler: files are whole, but what was not saved is lost.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AGAIN = 2.0  # seconds
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class _Handler:
    """What both signals call while a block of this module runs."""

    def __init__(self):
        self.came: float | None = None  # when the first one did
        self.num_waits = 0  # blocks that are not to be interrupted
        self._is_raised = False

    def __call__(self, number: int, _) -> None:
        if self.came is None:
            self.came = time.monotonic()
            self.deliver()
        elif time.monotonic() - self.came > _AGAIN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def deliver(self) -> None:
        if self.came is not None and not self.num_waits and not self._is_raised:
            self._is_raised = True
            raise KeyboardInterrupt

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], bool]]:
        self.num_waits += 1
        try:
            yield lambda: self.came is not None
        except KeyboardInterrupt:  # by who asked whether one came
            self._is_raised = True
            raise
        finally:
            self.num_waits -= 1
        self.deliver()


_active: _Handler | None = None


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as SIGINT does; :func:`interrupts_wait` in it holds both back.

    Where signals do not arrive, outside of the main thread, and for signals that this process ignores, nothing changes.
    """
    with _handling():
        yield


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Holds SIGINT and SIGTERM back, and raises KeyboardInterrupt at the end of the block if one came.

    Yields:
        What tells whether one came, for blocks that are long: they raise KeyboardInterrupt themselves then.
    """
    with _handling() as handler:
        if handler is None:
            yield lambda: False
        else:
            with handler.waiting() as came:
                yield came


@contextmanager
def unbroken() -> Iterator[None]:
    """A short block that interrupts of a surrounding :func:`interrupts_raise` wait for; without one, nothing."""
    if _active is None or threading.current_thread() is not threading.main_thread():
        yield
    else:
        with _active.waiting():
            yield


@contextmanager
def _handling() -> Iterator[_Handler | None]:
    """The handler of both signals while the block runs; None where there can be none."""
    global _active
    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive
        yield None
        return
    if _active is not None:
        yield _active
        return
    handler = _Handler()
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    mine = [number for number in _NUMBERS if before[number] not in (None, signal.SIG_IGN)]
    try:
        for number in mine:
            signal.signal(number, handler)
        _active = handler
        yield handler
    finally:
        handler.num_waits += 1  # until all is as it was
        _active = None
        for number in mine:
            signal.signal(number, before[number])
    handler.num_waits -= 1
    handler.deliver()

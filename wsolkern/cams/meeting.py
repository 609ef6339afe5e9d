"""Where the processes of a run wait for each other, within limits, and saying for whom.

In: what torchrun tells a process (MASTER_ADDR, MASTER_PORT) and WSOLKERN_WAIT_SECONDS. Out: all processes at the same
place of the program, or an error that names those which are not.
Source: none.

Each process says every few seconds that it lives, so that a slow one is waited for however long it takes, and one that
died, stands still or never began is not.
"""

import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

WAIT = "WSOLKERN_WAIT_SECONDS"
_DEFAULT_WAIT = 300.0
_LONGEST_WAIT = 30 * 24 * 3600.0
_FIRST_NOTICE, _NEXT_NOTICES = 8.0, 60.0  # seconds after which those who are awaited are named
_LINGER = 3.0  # seconds
_BEAT = 5.0  # seconds between two signs of life, at most
_LOOK = 1.0  # seconds between two looks at those who are awaited
_LOOK_SHARE = 0.02  # at least so many for each of them, at work: a look takes less than a thousandth of that
STOPPED = "it was stopped"
"""Why a process ends that SIGINT or SIGTERM came to."""
_ALONE = "unset WORLD_SIZE and RANK to run in one process"


def wait_seconds() -> float:
    """How long a process is waited for that gives no sign of life.

    Raises:
        ValueError: WSOLKERN_WAIT_SECONDS is no number of seconds.
    """
    text = os.environ.get(WAIT, "")
    try:
        seconds = float(text) if text else _DEFAULT_WAIT
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_WAIT:
        raise ValueError(f"{WAIT}: expected seconds, more than 0 and at most {_LONGEST_WAIT:.0f}, found {text!r}")
    return seconds


class ProcessStopped(ConnectionError):
    """SIGINT or SIGTERM came to another process, which has ended."""


class Meeting:
    """One process's view of the others.

    Args:
        rank: This process.
        num_ranks: All of them.
        tell: Gives each process what the first one calls it with, where processes can do that already: the first one
            then makes the place. None: the place is where MASTER_ADDR and MASTER_PORT say.

    Raises:
        ValueError: An environment variable is missing or not as expected; the message names it.
        OSError: The processes' common place cannot be reached in time.
    """

    def __init__(
        self, rank: int, num_ranks: int, tell: Callable[[tuple[str, int] | None], tuple[str, int]] | None = None
    ):
        from torch.distributed import PrefixStore, TCPStore

        self.rank, self.num_ranks = rank, num_ranks
        self.wait = wait_seconds()
        self._number = 0
        self._lives: dict[int, tuple[bytes, float]] = {}  # of those looked at at work: as in `_await`
        self._next_look, self._others_done, self._has_left = 0.0, 0, False
        # Whether the place is in this process, and not in torchrun's.
        self._is_host = rank == 0 and (tell is not None or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True")
        host, port = (os.environ.get("MASTER_ADDR") or socket.gethostname(), 0) if tell else _address(num_ranks)
        if not self._is_host and tell is None:
            self._reach(host, port)
        how = {"timeout": timedelta(seconds=self.wait), "wait_for_workers": False}
        try:
            server = TCPStore(host, port, is_master=True, **how) if self._is_host else None
            if tell is not None:
                host, port = tell(None if server is None else (host, server.port))
            clients = (
                server or TCPStore(host, port, is_master=False, **how),
                TCPStore(host, port, is_master=False, **how),
            )
        except (RuntimeError, OSError) as error:
            raise OSError(f"MASTER_ADDR, MASTER_PORT: no meeting at {host}:{port}: {_first_line(error)}") from error
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store, self._beats = (PrefixStore(f"wsolkern/{attempt}", each) for each in clients)
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="wsolkern-beat", daemon=True)
        self._beating.start()

    def meet(self) -> None:
        """Returns when all processes have called this as often as this one.

        Raises:
            OSError: One has ended, or has given no sign of life for too long; the message names it.
        """
        number, self._number = self._number, self._number + 1
        try:
            self.store.set(_key("at", number, self.rank), "")
            self._await({each for each in range(self.num_ranks) if each != self.rank}, number)
            if number:  # all have left that one
                self.store.delete_key(_key("at", number - 1, self.rank))
        except RuntimeError as error:
            raise self._place_has_ended(error) from error
        self._lives, self._next_look, self._others_done = {}, 0.0, 0

    def at_work(self, done: int) -> int:
        """Tells how much this process has done since all met, and gives how much all have, as far as it knows.

        The first process knows of the others, which know of themselves. About once a second it asks, and they look
        after it, as it does after them.

        Raises:
            OSError: One of these has ended, or has given no sign of life for too long; the message names it.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + max(_LOOK, _LOOK_SHARE * self.num_ranks)
            looked_at = range(1, self.num_ranks) if self.rank == 0 else [0]
            try:
                self._tell_done(done)
                for each in looked_at:
                    self._lives.setdefault(each, (b"", now))
                    self._expect_alive(each, self._lives, now)
                if self.rank == 0:
                    self._others_done = sum(map(self._done, looked_at))
            except RuntimeError as error:
                raise self._place_has_ended(error) from error
        return done + self._others_done

    def ends_with(self, done: int) -> int:
        """As :meth:`at_work`, of a process that was stopped; the first one waits a little for the others to leave."""
        try:
            self._tell_done(done)
            if self.rank == 0:
                self._wait_for_leaving(range(1, self.num_ranks))
                self._others_done = sum(map(self._done, range(1, self.num_ranks)))
        except RuntimeError:
            pass  # then nobody knows more
        return done + self._others_done

    def leave(self, why: str = "") -> bool:
        """Tells the others that this process ends, and why.

        Returns:
            Whether this is the first process, or that one has left before; where there is a reason it is waited for, a
            little.
        """
        if self._has_left:
            return True
        self._has_left = True
        self._over.set()
        self._beating.join()
        with suppress(RuntimeError):  # then they know
            self.store.set(_key("left", self.rank), why)
            if self._is_host:  # until they have read it
                self._wait_for_leaving(
                    [each for each in range(self.num_ranks) if self.store.check([_key("beat", each)])]
                )
            return self.rank == 0 or not why or self._wait_for_leaving([0])
        return self.rank == 0

    def _wait_for_leaving(self, several: Iterable[int]) -> bool:
        """Whether they have, within a while."""
        end, keys = time.monotonic() + _LINGER, [_key("left", each) for each in several]
        while not (have_left := self.store.check(keys)) and time.monotonic() < end:
            time.sleep(0.01)
        return have_left

    def _tell_done(self, done: int) -> None:
        self.store.set(_key("done", self.rank), f"{self._number} {done}")

    def _done(self, each: int) -> int:
        """What that process said last of the work that this one is at."""
        if not self.store.check([_key("done", each)]):
            return 0
        number, done = map(int, self.store.get(_key("done", each)).split())
        return done if number == self._number else 0

    def _place_has_ended(self, error: RuntimeError) -> ConnectionError:
        return ConnectionError(f"{self._process(0)}, where all meet, has ended: {_first_line(error)}")

    def _await(self, awaited: set[int], number: int) -> None:
        began = time.monotonic()
        lives = {each: (b"", began) for each in awaited}  # the last sign of life, and since when
        notice, look, pause = began + _FIRST_NOTICE, began + _LOOK, 0.0005
        # The store's own way to wait answers no signal, and prints a warning whenever it has waited.
        while awaited := {each for each in awaited if not self.store.check([_key("at", number, each)])}:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
            now = time.monotonic()
            if now < look:
                continue
            look = now + _LOOK
            for each in sorted(awaited):
                self._expect_alive(each, lives, now)
            if now >= notice and self.rank == min(set(range(self.num_ranks)) - awaited):
                said = ", ".join(f"{each} ({_state(*lives[each], now)})" for each in sorted(awaited))
                print(
                    f"waiting for process {said} of {self.num_ranks} (WORLD_SIZE); "
                    f"this ends after {self.wait:g} s without a sign of life ({WAIT})",
                    file=sys.stderr,
                    flush=True,
                )
                notice = now + _NEXT_NOTICES

    def _expect_alive(self, each: int, lives: dict[int, tuple[bytes, float]], now: float) -> None:
        if self.store.check([_key("left", each)]):
            why = self.store.get(_key("left", each)).decode(errors="replace")
            error = ProcessStopped if why == STOPPED else ConnectionError
            raise error(f"{self._process(each)} has ended{': ' if why else ''}{why}")
        beat = self.store.get(_key("beat", each)) if self.store.check([_key("beat", each)]) else b""
        if beat != lives[each][0]:
            lives[each] = beat, now
        if now - lives[each][1] > self.wait:
            what = "has given no sign of life" if beat else "has not begun"
            advice = "" if beat else f"; {_ALONE}"
            raise TimeoutError(f"{self._process(each)} {what} for {self.wait:g} s ({WAIT}){advice}")

    def _beat(self) -> None:
        beat = 0
        while True:
            try:
                self._beats.set(_key("beat", self.rank), str(beat := beat + 1))
            except RuntimeError:
                return
            if self._over.wait(min(_BEAT, self.wait / 8)):
                return

    def _reach(self, host: str, port: int) -> None:
        """Waits until somebody listens there."""
        began = time.monotonic()
        notice = began + _FIRST_NOTICE
        while True:
            try:
                socket.create_connection((host, port), timeout=min(self.wait, _LOOK)).close()
                return
            except OSError as error:
                now, place = time.monotonic(), f"{host}:{port} (MASTER_ADDR, MASTER_PORT): {error}"
                if now - began > self.wait:
                    text = f"{self._process(0)} has not begun for {self.wait:g} s ({WAIT}) at {place}; {_ALONE}"
                    raise TimeoutError(text) from error
                if now >= notice:
                    text = f"process {self.rank} is waiting for {self._process(0)} at {place}; this ends after"
                    print(f"{text} {self.wait:g} s ({WAIT})", file=sys.stderr, flush=True)
                    notice = now + _NEXT_NOTICES
                time.sleep(0.1)

    def _process(self, rank: int) -> str:
        return f"process {rank} of {self.num_ranks}"


def _address(num_ranks: int) -> tuple[str, int]:
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not host:
        raise ValueError(f"MASTER_ADDR: expected where {num_ranks} processes meet, found none; {_ALONE}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"MASTER_PORT: expected a port, found {port!r}; {_ALONE}")
    return host, int(port)


def _key(*parts: object) -> str:
    return "/".join(map(str, parts))


def _state(beat: bytes, since: float, now: float) -> str:
    if not beat:
        return "it has not begun"
    silence = now - since
    return f"no sign of life for {silence:.0f} s" if silence > _FIRST_NOTICE else "it is at work"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

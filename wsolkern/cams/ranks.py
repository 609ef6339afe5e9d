"""Several processes at one work: how they find each other and exchange what they have, and how they write one store.

In: what torchrun tells a process, or a torch.distributed group that is there. Out: every process's value in each of
them, sums; STORE.rank0, STORE.rank1, ... while they run, and STORE with all their maps.
Source: none.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern import machine
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.meeting import STOPPED, Meeting, wait_seconds
from wsolkern.cams.merging import merge_stores
from wsolkern.cams.store import CamStore
from wsolkern.cams.writer import CamWriter
from wsolkern.errors import DatasetError
from wsolkern.interrupts import interrupts_raise

if TYPE_CHECKING:
    import torch

_SET_BY = "torchrun sets it; unset it to run in one process"


@dataclass(frozen=True)
class Ranks:
    """The processes that work on one store, seen from one of them."""

    rank: int = 0
    """This process, in [0, num_ranks)."""
    num_ranks: int = 1
    local_rank: int = 0
    """The same among those on this machine."""
    num_local: int = 1
    _meeting: Meeting | None = field(default=None, repr=False, compare=False)
    _group: Any = field(default=None, repr=False, compare=False)  # None: the default one, which is ours

    @property
    def gpu(self) -> int | None:
        """Which GPU "cuda" stands for: of several that torchrun started each has its own; None: the current one."""
        return self.local_rank if self.num_ranks > 1 and self._group is None else None

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Ranks"]:
        """The processes that torchrun started, connected while the block runs; without torchrun this one alone.

        Where torch.distributed is initialized already, the processes of its default group: all of them call this.

        A process that has begun is waited for as long as it gives signs of life; one that does not begin, is stopped or
        died, for WSOLKERN_WAIT_SECONDS, 300 by default. Who is awaited is said on standard error after 10 seconds.

        Raises:
            ValueError: An environment variable is not as torchrun sets it; the message names it.
            OSError: Another process did not come, or has ended; the message names it. From :meth:`gather`, too.
        """
        in_group = "torch" in sys.modules and _is_initialized()
        ranks = cls(*(_from_group() if in_group else _from_environment()))
        if ranks.num_ranks == 1:
            yield ranks
            return
        import torch.distributed as dist

        group = None
        if in_group:  # one of ours in it, which needs no GPU
            group = dist.new_group(backend="gloo", timeout=timedelta(seconds=wait_seconds()))
            ranks = replace(ranks, _group=group)
            meeting = Meeting(ranks.rank, ranks.num_ranks, lambda place: ranks.gather(place)[0])
        else:
            meeting = Meeting(ranks.rank, ranks.num_ranks)
        why = STOPPED
        try:
            ranks = replace(ranks, _meeting=meeting)
            with ranks.together():
                if not in_group:
                    dist.init_process_group(
                        "gloo",
                        store=meeting.store,
                        rank=ranks.rank,
                        world_size=ranks.num_ranks,
                        timeout=timedelta(seconds=meeting.wait),
                    )
            try:
                yield ranks
                why = ""
            finally:
                dist.destroy_process_group(group)
        except Exception as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            meeting.leave(why)

    @classmethod
    @contextmanager
    def joined_on(cls, device: str) -> Iterator[tuple["Ranks", "torch.device"]]:
        """As :meth:`joined`, each process with its share of this machine's cores and, of GPUs, one of its own.

        SIGTERM raises KeyboardInterrupt in the block, as SIGINT does.

        Args:
            device: "cpu" or "cuda".

        Yields:
            The processes, and the device of this one.

        Raises:
            ArgumentError, DeviceUnavailable: As :func:`wsolkern.machine.place_of`.
        """
        with interrupts_raise(), cls.joined() as ranks:
            if ranks.num_local > 1:
                machine.share_cores(ranks.num_local)
            yield ranks, machine.place_of(device, ranks.local_rank)

    def gather(self, value) -> list:
        """Every rank's value, in their order; returns when all ranks have given one."""
        if self.num_ranks == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.num_ranks
        with self.together():
            dist.all_gather_object(values, value, group=self._group)
        return values

    def gather_first(self, value) -> list:
        """As :meth:`gather`, for what is large: the first rank alone gets the values, all others an empty list."""
        if self.num_ranks == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.num_ranks if self.rank == 0 else None
        with self.together():
            dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def sum(self, counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The sums over all ranks, in each of them.

        Args:
            counts: int64 arrays, of the same names and shapes in all ranks.
        """
        if self.num_ranks == 1:
            return dict(counts)
        import torch
        import torch.distributed as dist

        sums = {name: torch.from_numpy(np.array(counts[name], np.int64)) for name in sorted(counts)}
        with self.together():
            for each in sums.values():
                dist.all_reduce(each, group=self._group)
        return {name: sums[name].numpy() for name in counts}

    def share(self, num: int) -> slice:
        """Which of so many things are this rank's: neighbours, as many as any other rank has, or one more or less."""
        return slice(self.rank * num // self.num_ranks, (self.rank + 1) * num // self.num_ranks)

    def at_work(self, done: int) -> int:
        """Tells the others what this rank has done since all met, and gives what all have, as the first rank knows it.

        Cheap enough for every batch: about once a second it asks.

        Raises:
            OSError: One of them has ended, or gives no sign of life; the first rank looks at all, they look at it.
        """
        return done if self._meeting is None else self._meeting.at_work(done)

    def ends_with(self, done: int) -> int:
        """As :meth:`at_work`, of a rank that was stopped: the first one waits a little for what the others say then."""
        return done if self._meeting is None else self._meeting.ends_with(done)

    def leave(self, why: str) -> bool:
        """Tells the others that this rank ends, and why.

        Returns:
            Whether the first rank, which speaks for all, has ended before, or this is the first.
        """
        return self._meeting is None or self._meeting.leave(why)

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes are at this block when it begins; in it they exchange what they have.

        Raises:
            OSError: One of them has ended, or is not there in time.
        """
        if self._meeting is None:
            yield
            return
        self._meeting.meet()
        try:
            yield
        except RuntimeError as error:  # of the connections between them
            raise ConnectionError(f"one of {self.num_ranks} processes has ended: {error}") from error


ALONE = Ranks()
"""One process, which is all there are."""


def _is_initialized() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _from_group() -> list[int]:
    """The same as of :func:`_from_environment`, of the default group of torch.distributed."""
    import torch.distributed as dist

    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    if {"LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= os.environ.keys():
        return [rank, num_ranks, *_from_environment()[2:]]
    return [rank, num_ranks, 0, 1]


def _from_environment() -> list[int]:
    """RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE."""
    found = []
    for name, default, least in (
        ("RANK", 0, 0),
        ("WORLD_SIZE", 1, 1),
        ("LOCAL_RANK", 0, 0),
        ("LOCAL_WORLD_SIZE", 1, 1),
    ):
        text = os.environ.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ValueError(f"{name}: expected an integer, at least {least}, found {text!r}; {_SET_BY}")
        found.append(default if text is None else int(text))
    rank, num_ranks, local_rank, num_local = found
    for name, value, of, most in (
        ("RANK", rank, "WORLD_SIZE", num_ranks),
        ("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", num_local),
    ):
        if value >= most and (name == "RANK" or of in os.environ):
            raise ValueError(f"{name}: expected less than {of}, {most}, found {value}; {_SET_BY}")
    return found


@contextmanager
def shared_writer(store: str | os.PathLike, manifest: Manifest, ranks: Ranks) -> Iterator[tuple[CamWriter, set[str]]]:
    """What one of several processes writes, which is in ``store`` when all of them have left the block.

    A process alone writes the store itself. What killed processes left beside it, however many they were, is put into
    it first. A store that exists goes on.

    Args:
        store: The store.
        manifest: The run.
        ranks: The processes; all of them must get here.

    Yields:
        The writer, and the ids that other stores than its own have already.

    Raises:
        DatasetError: As of :class:`CamWriter`, also if the store or a rank's is another run's.
    """
    store = Path(store)
    if ranks.rank == 0:
        with CamWriter(store, manifest):
            pass  # it is there now, and of this run
        _put_together(store, manifest)
    ranks.gather(None)
    if ranks.num_ranks == 1:
        with CamWriter(store, manifest) as writer:
            yield writer, set()
        return
    stored = set(CamStore(store).image_ids)
    with CamWriter(store.with_name(f"{store.name}.rank{ranks.rank}"), manifest) as writer:
        yield writer, stored
    ranks.gather(None)
    if ranks.rank == 0:
        _put_together(store, manifest)
    ranks.gather(None)


def _put_together(store: Path, manifest: Manifest) -> None:
    """Moves the maps of all ranks' stores into one."""
    parts = sorted(
        path
        for path in store.absolute().parent.iterdir()
        if re.fullmatch(re.escape(store.name) + r"\.rank\d+", path.name)
    )
    for part in parts:
        with CamWriter(part, manifest):
            pass  # nobody writes it, it is of this run, and whole
    if not parts:
        return
    if problems := merge_stores(store, parts):
        raise DatasetError(f"{store}: damaged shards: {problems}")
    for part in parts:
        shutil.rmtree(part)

"""One CAM store from several processes: each writes a store beside it, the first one puts them together.

In: what torchrun tells a process. Out: STORE.rank0, STORE.rank1, ... while they run, and STORE with all their maps.
Source: none.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wsolkern import machine
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.meeting import Meeting
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

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Ranks"]:
        """The processes that torchrun started, connected while the block runs; without torchrun this one alone.

        A process that has begun is waited for as long as it gives signs of life; one that does not begin, is stopped or
        died, for WSOLKERN_WAIT_SECONDS, 300 by default. Who is awaited is said on standard error after 10 seconds.

        Raises:
            ValueError: An environment variable is not as torchrun sets it; the message names it.
            OSError: Another process did not come, or has ended; the message names it. From :meth:`gather`, too.
        """
        import torch.distributed as dist

        ranks = cls(*_from_environment())
        if ranks.num_ranks == 1:
            yield ranks
            return
        meeting = Meeting(ranks.rank, ranks.num_ranks)
        why = "it was stopped"
        try:
            ranks = replace(ranks, _meeting=meeting)
            with ranks.together():
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
                dist.destroy_process_group()
        except (ImportError, OSError, ValueError) as error:
            why = str(error)
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
        import torch.distributed as dist

        values = [value]
        if self.num_ranks > 1:
            values = [None] * self.num_ranks
            with self.together():
                dist.all_gather_object(values, value)
        return values

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

"""One CAM store from several processes: each writes a store beside it, the first one puts them together.

In: what torchrun tells a process. Out: STORE.rank0, STORE.rank1, ... while they run, and STORE with all their maps.
Source: none.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from wsolkern.cams.manifest import Manifest
from wsolkern.cams.merging import merge_stores
from wsolkern.cams.store import CamStore
from wsolkern.cams.writer import CamWriter
from wsolkern.errors import DatasetError

_PATIENCE = timedelta(days=30)  # for the slowest rank: one that dies is noticed by torchrun


@dataclass(frozen=True)
class Ranks:
    """The processes that work on one store, seen from one of them."""

    rank: int = 0
    """This process, in [0, num_ranks)."""
    num_ranks: int = 1
    local_rank: int = 0
    """The same among those on this machine."""
    num_local: int = 1

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Ranks"]:
        """The processes that torchrun started, connected while the block runs; without torchrun this one alone."""
        import torch.distributed as dist

        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        ranks = cls(*(int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0, 1), strict=True)))
        if ranks.num_ranks == 1:
            yield ranks
            return
        dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield ranks
        finally:
            dist.destroy_process_group()

    def gather(self, value) -> list:
        """Every rank's value, in their order; returns when all ranks have given one."""
        import torch.distributed as dist

        values = [value]
        if self.num_ranks > 1:
            values = [None] * self.num_ranks
            dist.all_gather_object(values, value)
        return values


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

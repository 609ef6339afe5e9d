"""Writing a CAM store: what is flushed is safe, and a killed run goes on where it stopped.

In: batches of maps with their ids. Out: shards, then the index that lists them; each file takes its place whole.
Source: none; :mod:`wsolkern.cams.layout` says what the files hold.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from wsolkern.cams import layout
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.records import Records, make_records
from wsolkern.cams.stamps import FileStamp
from wsolkern.cams.store import CamStore
from wsolkern.errors import DatasetError, MapError
from wsolkern.files import UNFINISHED, only_one, sync_folder

_SHARD_BYTES = 32 << 20  # of maps: a shard of large maps has fewer than maps_per_shard
_LOCK = ".lock"


class CamWriter:
    """Creates a CAM store, or goes on with one of the same manifest.

    Maps are pending until a shard is full or :meth:`flush` is called; what is flushed survives any kill. There is one
    writer at a time. A ``with`` block flushes at its end, also when it ends with an exception.

    Args:
        path: The store's folder: a store, an empty folder, or none yet.
        manifest: The run. A store that exists keeps its own, whose versions may differ.
        maps_per_shard: Most maps a file, at least 1.

    Raises:
        DatasetError: The folder is another writer's now, another run's, no store, or has damaged shards.
    """

    def __init__(self, path: str | os.PathLike, manifest: Manifest, *, maps_per_shard: int = 1024):
        if maps_per_shard < 1:
            raise ValueError(f"maps_per_shard: expected at least 1, found {maps_per_shard}")
        self.path = Path(path)
        self.manifest = manifest
        """That of the store."""
        self.image_ids: set[str] = set()
        """Ids whose maps are stored or pending, to skip them; not to be changed."""
        self._maps_per_shard = maps_per_shard
        self._shards: list[layout.Shard] = []
        self._next_number = 0
        self._pending: list[Records] = []
        self._num_pending = self._pending_bytes = 0  # maps, and bytes of theirs
        with ExitStack() as stack:
            stack.enter_context(_only_writer(self.path))
            if CamStore.is_at(self.path):
                self._resume()
            else:
                self._create()
            self._sha256 = layout.manifest_sha256(self.manifest)
            self._lock = stack.pop_all()
        self._closed = False

    def add(
        self,
        image_ids: Iterable[str],
        cams,
        *,
        nwc_cams=None,
        classes=None,
        logits=None,
        files: Sequence[FileStamp | None] | None = None,
    ) -> None:
        """Takes a batch of maps of one size; all of them or, if anything is wrong, none.

        Args:
            image_ids: N ids that are not in the store: relative paths, text of one line.
            cams: Raw CAMs, float32 or float64 [N, h, w], numpy or torch; copied, and kept as they are, NaN and
                infinite values too. float16 and bfloat16 become float32. In a store of score maps: values in [0, 1],
                kept as float64.
            nwc_cams: The same with negative class weights clamped to 0; exactly where the manifest says nwc.
            classes: Class that each map is of, integers [N] from 0; -1 or None is unknown.
            logits: Of all classes, float [N, K]; the five largest are kept.
            files: What :func:`wsolkern.cams.stamp` said of the file of each image before it was read.

        Raises:
            ValueError: An argument is not as above, or an id is in the store already.
            OSError: The shard that became full cannot be written; its maps stay pending.
        """
        self._add(make_records(image_ids, cams, nwc_cams, classes, logits, files))

    def add_records(self, records: Records) -> None:
        """Takes what :meth:`CamStore.records` gave, with all that is kept; otherwise as :meth:`add`."""
        checked = make_records(*records[:4])
        self._add(Records(*checked[:4], *records[4:]))

    def drop(self, image_ids: Iterable[str]) -> None:
        """Takes maps out, pending ones too, so that others of the same images can be added; other ids do nothing.

        Shards that hold some of them are written anew without them. A kill at any moment leaves the store with all or
        with none of these maps.

        Raises:
            DatasetError: A shard cannot be read any more.
            OSError: A shard or the index cannot be written; nothing is taken out.
        """
        dropped = self.image_ids.intersection(image_ids)
        if not dropped:
            return
        self.flush()
        shards, number, replaced = [], self._next_number, []
        for shard in self._shards:
            entries = layout.read_entries(self.path, shard)
            if dropped.isdisjoint(entries.image_ids):
                shards.append(shard)
                continue
            replaced.append(shard)
            parts = []
            for part in layout.read_shard(self.path, shard, self._sha256, nwc=self.manifest.nwc):
                rows = [row for row, image_id in enumerate(part.image_ids) if image_id not in dropped]
                parts += [part.pick(rows)] if rows else []
            if parts:
                shards.append(layout.write_shard(self.path, number, self._sha256, parts))
                number += 1
        layout.write_index(self.path, self._sha256, shards)
        self._shards, self._next_number = shards, number
        self.image_ids -= dropped
        for shard in replaced:
            (self.path / shard.file).unlink(missing_ok=True)

    def flush(self) -> None:
        """Puts what is pending on the disk; on return it is safe.

        Raises:
            OSError: It cannot be written; it stays pending.
        """
        self._check_open()
        if not self._pending:
            return
        shards, number = list(self._shards), self._next_number
        by_dtype = sorted(self._pending, key=lambda part: str(part.cams.dtype))
        for _, parts in groupby(by_dtype, key=lambda part: part.cams.dtype):
            shards.append(layout.write_shard(self.path, number, self._sha256, list(parts)))
            number += 1
        layout.write_index(self.path, self._sha256, shards)
        # In one statement: an interrupt between two would have the same maps written again.
        self._shards, self._next_number, self._pending, self._num_pending, self._pending_bytes = (
            shards,
            number,
            [],
            0,
            0,
        )

    def close(self) -> None:
        """Flushes and lets the next writer in; does nothing the second time."""
        if not self._closed:
            with self._lock:
                try:
                    self.flush()
                finally:
                    self._closed = True

    def __enter__(self) -> "CamWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _create(self) -> None:
        """Makes an empty store; it is one as soon as it has its manifest."""
        self.path.joinpath(layout.SHARDS).mkdir(exist_ok=True)
        layout.write_index(self.path, layout.manifest_sha256(self.manifest), ())
        layout.write_manifest(self.path, self.manifest)
        sync_folder(self.path.absolute().parent)

    def _resume(self) -> None:
        """Finds out what is stored, and removes what a killed writer left unfinished."""
        store = CamStore(self.path)
        differs = store.manifest.difference(self.manifest)
        if differs is not None:
            raise DatasetError(f"{self.path}: holds another run: {differs}")
        self.image_ids = set(store.image_ids)
        if store.problems or len(self.image_ids) != store.num_maps:
            problems = store.verify()
            advice = f"wsolkern store verify --repair {self.path} takes them out, so that their maps can be added again"
            listed = "".join(f"\n  {file}: {problem}" for file, problem in problems.items())
            raise DatasetError(f"{self.path}: damaged shards: {advice}{listed}")
        self.manifest, self._shards = store.manifest, list(store.shards)
        self._next_number = 1 + max((int(Path(shard.file).stem) for shard in store.shards), default=-1)
        for path in layout.unlisted_files(self.path, self._shards):
            path.unlink()

    def _add(self, records: Records) -> None:
        self._check_open()
        if (records.nwc_cams is not None) != self.manifest.nwc:
            expected, found = ("maps", "none") if self.manifest.nwc else ("none", "maps")
            raise ValueError(f"nwc_cams: expected {expected}, as the manifest of {self.path} says, found {found}")
        if stored := self.image_ids.intersection(records.image_ids):
            raise ValueError(f"image_ids: expected ids that are not in {self.path} yet, found {min(stored)!r}")
        if self.manifest.content == "score maps":
            records = _score_maps(records)
        map_bytes = records.cams[:1].nbytes * (1 + self.manifest.nwc)
        start, num_maps = 0, len(records.image_ids)
        while start < num_maps:
            room = min(self._maps_per_shard - self._num_pending, -(-(_SHARD_BYTES - self._pending_bytes) // map_bytes))
            part = records.pick(range(start, min(num_maps, start + max(1, room))))
            self._pending.append(part)
            self.image_ids.update(part.image_ids)
            start += len(part.image_ids)
            self._num_pending += len(part.image_ids)
            self._pending_bytes += len(part.image_ids) * map_bytes
            if self._num_pending >= self._maps_per_shard or self._pending_bytes >= _SHARD_BYTES:
                self.flush()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: this writer is closed")


def repair_store(path: str | os.PathLike, *, progress: Callable[[int], None] | None = None) -> dict[str, str]:
    """Takes damaged shards out of a store's index, so that a writer can add their maps again.

    Args:
        path: The store.
        progress: As for :meth:`CamStore.verify`.

    Returns:
        File of a shard that was taken out -> what was wrong with it.

    Raises:
        DatasetError: There is no store, it has a writer now, or its manifest or index is damaged.
    """
    CamStore(path)  # before anything is made there
    with _only_writer(Path(path)):
        store = CamStore(path)
        problems = store.verify(progress=progress)
        if problems:
            kept = [shard for shard in store.shards if shard.file not in problems]
            layout.write_index(store.path, layout.manifest_sha256(store.manifest), kept)
    return problems


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Makes the folder of a store and keeps other writers out of it, until the end or this process's death."""
    if not CamStore.is_at(path):
        _check_unused(path)
        path.mkdir(parents=True, exist_ok=True)
    with only_one(path / _LOCK, f"{path}: another process is writing this CAM store"):
        yield


def _check_unused(path: Path) -> None:
    """A new store goes where nothing is, or only what a writer leaves that was killed before there was a manifest."""
    if path.exists() and not path.is_dir():
        raise DatasetError(f"{path}: expected a folder, found a file")
    own = (_LOCK, layout.INDEX, layout.SHARDS)
    others = [each.name for each in path.glob("*") if each.name not in own and not each.name.endswith(UNFINISHED)]
    if others:
        raise DatasetError(f"{path}: expected a CAM store or an empty folder, found {min(others)!r} in it")


def _score_maps(records: Records) -> Records:
    """As float64.

    Raises:
        MapError: A value is outside [0, 1] or NaN; the message names the image.
    """
    for name in ("cams", "nwc_cams"):
        maps = getattr(records, name)
        if maps is not None:
            wrong = ~((maps >= 0) & (maps <= 1)).all(axis=(1, 2))
            if wrong.any():
                row = int(wrong.argmax())
                raise MapError(
                    name,
                    row,
                    f"image {records.image_ids[row]!r}: expected a score map with values in [0, 1], "
                    f"found {maps[row].min()} to {maps[row].max()}",
                )
            records = records._replace(**{name: maps.astype(np.float64)})
    return records

"""Reading a CAM store: one pass in constant memory, every shard verified as it is read.

In: a folder that :class:`wsolkern.cams.CamWriter` wrote. Out: batches of ids and maps [N, h, w], or all that is kept.
Source: none; :mod:`wsolkern.cams.layout` says what the files hold.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsolkern.cams import layout
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.records import Records
from wsolkern.datasets import MapFolder, Metadata
from wsolkern.datasets.scaling import UnitRange
from wsolkern.datasets.spelling import nearest_spellings
from wsolkern.errors import DatasetError, PathError
from wsolkern.files import readers

CLASSES = ("labels", "predicted")
"""Which class of an image its CAM is of."""
_NUM_LISTED = 4  # damaged shards, or images of other classes, that one message names


class Classification(NamedTuple):
    """What a store knows of the classes of some images; see :meth:`CamStore.classification`."""

    num_images: int
    """Those that it has maps of."""
    num_with_logits: int
    """Those of them that it has logits of and that have a label."""
    cams_of: str | None
    """The class that each map is of: its image's "labels", or the one "predicted"; as the manifest says, or else as the
    stored classes are; None: neither."""


class CamStore:
    """The maps of one run, as its index lists them now; maps that a writer adds later are in the next CamStore.

    A shard that is missing, cut off or damaged costs the maps in it and no others: what reads many maps goes on, and
    the shard is in ``problems``.

    Args:
        path: The store's folder.

    Raises:
        DatasetError: There is no store, or its manifest or index is missing, damaged, edited or not its own.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.is_at(self.path):
            raise PathError(self.path, f"no CAM store: expected a folder with {layout.MANIFEST}")
        self.manifest: Manifest
        """The run that the maps come from."""
        self.manifest, self._sha256 = layout.read_manifest(self.path)
        self.shards: tuple[layout.Shard, ...] = layout.read_index(self.path, self._sha256)
        """The files of maps: their names, SHA-256, numbers of maps and bytes."""
        self.problems: dict[str, str] = {}
        """File of a shard -> why it cannot be read, of the shards tried so far."""
        self._opened: tuple[layout.Shard, dict[str, tuple[Records, int]]] | None = None  # what read() used last

    @staticmethod
    def is_at(path: str | os.PathLike) -> bool:
        """Whether a folder is a CAM store, be it damaged or not."""
        path = Path(path)
        if (path / layout.MANIFEST).is_file():
            return True
        return (path / layout.INDEX).is_file() and any((path / layout.SHARDS).glob("*.safetensors"))

    @property
    def num_maps(self) -> int:
        """How many maps the index lists, those in damaged shards included."""
        return sum(shard.num_maps for shard in self.shards)

    @property
    def manifest_sha256(self) -> str:
        """What tells the run from others."""
        return self._sha256

    @property
    def index_sha256(self) -> str:
        """What tells the maps from others: of the hashes of all shards, which are compared when shards are read."""
        return layout.index_sha256(self._sha256, self.shards)

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of all maps that can be read, in the order of the store; all shards are read for that, once."""
        return tuple(self._shard_of)

    def source(
        self, image_ids: Iterable[str], *, nwc: bool = False, siblings: Iterable[str] = (), to_the_end: bool = False
    ) -> "CamSource":
        """The maps of some images, as batches.

        The map of ``a/b.jpg`` is stored as ``a/b.jpg`` or ``a/b``, as a folder's are named: see :class:`MapFolder`.

        Args:
            image_ids: The images, in any order.
            nwc: Their NWC maps instead.
            siblings: Other images that have maps there too: they decide with these which ids need their full names.
            to_the_end: Read on behind the last of these, so that ``problems`` of the store has all damaged shards.

        Raises:
            ValueError: NWC maps of a store that has none.
        """
        self._check_nwc(nwc)
        return CamSource(self, image_ids, nwc, siblings, to_the_end)

    def read(self, image_id: str, *, nwc: bool = False) -> np.ndarray:
        """The map of one image, float32 or float64 [h, w]. All shards are read at the first call, to find ids.

        Raises:
            DatasetError: It is not there, or its shard is damaged.
            ValueError: An NWC map of a store that has none.
        """
        self._check_nwc(nwc)
        record = self.record(image_id)
        return (record.nwc_cams if nwc else record.cams)[0].copy()

    def record(self, image_id: str) -> Records:
        """All that is kept of one image, N = 1; otherwise as :meth:`read`."""
        names = [name for name in dict.fromkeys((image_id, _stem(image_id))) if name in self._shard_of]
        if not names:
            near = nearest_spellings([image_id], self.image_ids)
            raise DatasetError(f"image {image_id!r}: {self.absence(near.get(image_id))}")
        if len(names) > 1:
            raise DatasetError(f"image {image_id!r}: {_twice(names)}")
        shard = self._shard_of[names[0]]
        if self._opened is None or self._opened[0] != shard:
            try:
                records = self._read(shard)
            except DatasetError as error:
                raise DatasetError(f"image {image_id!r}: {self.path / shard.file}: {error}") from error
            self._opened = shard, {each: (part, row) for part in records for row, each in enumerate(part.image_ids)}
        part, row = self._opened[1][names[0]]
        return part.pick(range(row, row + 1))

    def check_split(self, split: Metadata, *, siblings: Iterable[str] = ()) -> None:
        """Does nothing if the maps fit a split: for use before they are evaluated on it.

        Where the manifest says that CAMs are of the labels (``preprocessing["classes"]`` is "labels"), the stored class
        of each of the split's images is compared with its label; an unknown class is not.

        Args:
            split: The images that will be evaluated, and their labels.
            siblings: As for :meth:`source`.

        Raises:
            DatasetError: The store has none of the images, or a CAM is of another class than the image's label; the
                error names the first few.
        """
        wanted, (names, _) = set(split.image_ids), self.source(split.image_ids, siblings=siblings).names()
        compared = self.manifest.preprocessing.get("classes") == "labels" and bool(split.class_labels)
        wrong: dict[str, int] = {}
        num_found = num_read = 0
        for shard, entries in self.entries():
            num_read += 1
            image_ids = [names.get(each, each) for each in entries.image_ids] if names else entries.image_ids
            num_found += len(wanted.intersection(image_ids))
            if compared:
                labels = np.fromiter((split.class_labels.get(each, -1) for each in image_ids), np.int64, len(image_ids))
                differ = (labels != entries.classes) & (labels >= 0) & (entries.classes >= 0)
                here = {image_ids[row]: int(entries.classes[row]) for row in np.flatnonzero(differ)}
                if here and self._is_whole(shard):
                    wrong |= {image_id: found for image_id, found in here.items() if image_id in wanted}
        if wrong:
            first = islice(wrong.items(), _NUM_LISTED)
            listed = "; ".join(f"{name!r}: stored {found}, label {split.class_labels[name]}" for name, found in first)
            more = f"; and {len(wrong) - _NUM_LISTED:,} more" if len(wrong) > _NUM_LISTED else ""
            raise DatasetError(
                f"{self.path}: the CAMs of {len(wrong):,} of {num_found:,} images are of other classes than "
                f"{Path(split.folder, 'class_labels.txt')} says: {listed}{more}. The same wsolkern extract command "
                "makes just these again; or correct class_labels.txt"
            )
        if wanted and not num_found and num_read == len(self.shards):
            raise DatasetError(self._strange(split))

    def classification(self, split: Metadata, *, siblings: Iterable[str] = ()) -> "Classification":
        """What the store knows of the classes of a split's images; in milliseconds, because shards are not verified.

        Args:
            split: The images, and their labels.
            siblings: As for :meth:`source`.
        """
        wanted, (names, _) = set(split.image_ids), self.source(split.image_ids, siblings=siblings).names()
        num_images = num_with_logits = num_labels = num_predicted = 0
        for _, entries in self.entries():
            image_ids = [names.get(each, each) for each in entries.image_ids] if names else entries.image_ids
            rows = [row for row, image_id in enumerate(image_ids) if image_id in wanted]
            labels = np.array([split.class_labels.get(image_ids[row], -1) for row in rows], np.int64)
            classes, predicted = entries.classes[rows], entries.top5_classes[rows, 0]
            num_images += len(rows)
            num_with_logits += int(((predicted >= 0) & (labels >= 0)).sum())
            num_labels += int(((classes == labels) & (labels >= 0)).sum())
            num_predicted += int(((classes == predicted) & (predicted >= 0)).sum())
        cams_of = self.manifest.preprocessing.get("classes")
        if cams_of not in CLASSES:
            found = (name for name, num in zip(CLASSES, (num_labels, num_predicted), strict=True) if num == num_images)
            cams_of = next(found, None) if num_images else None
        return Classification(num_images, num_with_logits, cams_of)

    def _strange(self, split: Metadata) -> str:
        """That a store has none of a split's images, and why that may be."""
        about = f"{self.path}: has none of the {len(split.image_ids):,} images of {split.folder}"
        own = list(chain.from_iterable(entries.image_ids for _, entries in self.entries()))
        if not own:
            return f"{about}: it is empty"
        near = nearest_spellings(split.image_ids, own)
        for wanted, found in near.items():
            return f"{about}: {wanted!r} is {found!r} there, and {len(near) - 1:,} more are spelled otherwise"
        run = ", ".join(f"{name} {each}" for name in ("dataset", "split") if (each := getattr(self.manifest, name)))
        about += f", such as {split.image_ids[0]!r}; it has {len(own):,} others, such as {own[0]!r}"
        return f"{about}, of {run}" if run else about

    def records(self, size: int = 64) -> Iterator[Records]:
        """All that is kept, in the order of the store, at most ``size`` maps of one size at a time.

        What a damaged shard holds is left out: see ``problems`` afterwards.
        """
        for _, records in self.contents():
            for part in records:
                for start in range(0, len(part.image_ids), size):
                    yield part.pick(range(start, min(start + size, len(part.image_ids))))

    def contents(self, shards: Iterable[layout.Shard] | None = None) -> Iterator[tuple[layout.Shard, list[Records]]]:
        """The shards that can be read, each with its records, one item a run of maps of one size.

        The next shard is read by a thread while the caller works on one; a shard that cannot be read is in
        ``problems`` then.

        Args:
            shards: Some of the store's shards; None: all of them.
        """
        with readers(1, "wsolkern-store") as pool:
            some = self.shards if shards is None else shards
            ahead = ((shard, pool.submit(self._read, shard)) for shard in some)
            following = next(ahead, None)
            while following is not None:
                shard, future = following
                following = next(ahead, None)
                try:
                    records = future.result()
                except DatasetError as error:
                    self.problems[shard.file] = str(error)
                    continue
                self.problems.pop(shard.file, None)
                yield shard, records

    def entries(self) -> Iterator[tuple[layout.Shard, layout.Entries]]:
        """The shards, each with what it keeps beside maps; in milliseconds, because it is not verified.

        Shards that cannot be read are left out.
        """
        for shard in self.shards:
            try:
                yield shard, layout.read_entries(self.path, shard)
            except DatasetError:
                continue

    def predicted_classes(self, image_ids: Iterable[str]) -> dict[str, int]:
        """The class of the largest logit of each image, of those that the store has logits of; not verified."""
        source = self.source(image_ids)
        wanted, (names, _) = set(source.image_ids), source.names()
        found: dict[str, int] = {}
        for _, entries in self.entries():
            for image_id, first in zip(entries.image_ids, entries.top5_classes[:, 0].tolist(), strict=True):
                image_id = names.get(image_id, image_id)
                if first >= 0 and image_id in wanted:
                    found.setdefault(image_id, first)
        return found

    def verify(self, *, progress: Callable[[int], None] | None = None) -> dict[str, str]:
        """Reads all shards.

        Args:
            progress: Called with the number of maps read so far, after each shard.

        Returns:
            File of a shard -> what is wrong with it; empty if all is well.
        """
        seen: set[str] = set()
        repeated: dict[str, str] = {}
        num_maps = 0
        for shard, records in self.contents():
            image_ids = [image_id for part in records for image_id in part.image_ids]
            for image_id in image_ids:
                if image_id in seen:
                    repeated.setdefault(shard.file, f"holds a second map of {image_id!r}")
                seen.add(image_id)
            num_maps += shard.num_maps
            if progress is not None:
                progress(num_maps)
        found = self.problems | repeated
        return {shard.file: found[shard.file] for shard in self.shards if shard.file in found}

    def absence(self, near: str | None = None) -> str:
        """Why an image that was looked for in all shards was not found; ``near`` is another spelling that was."""
        damaged = [shard.file for shard in self.shards if shard.file in self.problems]
        named = [f"{file}: {self.problems[file]}" for file in damaged[:_NUM_LISTED]]
        if near is not None:
            return f"not in the store {self.path}, but {near!r} is"
        if not named:
            return f"not in the store {self.path}"
        if len(damaged) > _NUM_LISTED:
            named.append(f"{len(damaged) - _NUM_LISTED} more")
        plural = "shard" if len(damaged) == 1 else "shards"
        return f"not in the store {self.path}, or in its damaged {plural} {'; '.join(named)}"

    @cached_property
    def _shard_of(self) -> dict[str, layout.Shard]:
        """The shard that each map is in, the first one if there are two."""
        found: dict[str, layout.Shard] = {}
        for shard, records in self.contents():
            for part in records:
                for image_id in part.image_ids:
                    found.setdefault(image_id, shard)
        return found

    def _read(self, shard: layout.Shard) -> list[Records]:
        return layout.read_shard(self.path, shard, self._sha256, nwc=self.manifest.nwc)

    def _is_whole(self, shard: layout.Shard) -> bool:
        try:
            return bool(self._read(shard))
        except DatasetError:
            return False

    def _check_nwc(self, nwc: bool) -> None:
        if nwc and not self.manifest.nwc:
            raise ValueError(f"nwc: {self.path} was made without NWC maps (nwc in its {layout.MANIFEST})")


class CamSource:
    """The maps of some images of a store, what :meth:`CamStore.source` gives; read as :class:`MapFolder` is."""

    def __init__(
        self,
        store: CamStore,
        image_ids: Iterable[str],
        nwc: bool,
        siblings: Iterable[str] = (),
        to_the_end: bool = False,
    ):
        self.image_ids = tuple(dict.fromkeys(image_ids))
        """The images that are wanted."""
        self.problems: dict[str, str] = {}
        """Image id -> why it has no map, of those looked for so far; what is absent is known after the last batch."""
        self.spans = UnitRange()
        """Whether the maps read so far span exactly [0, 1]."""
        self._store, self._nwc, self._siblings, self._to_the_end = store, nwc, tuple(siblings), to_the_end
        self._shard: layout.Shard | None = None  # of the last batch
        self._batch: Records | None = None  # the last one

    def __len__(self) -> int:
        return len(self.image_ids)

    def stamps(self, image_ids: Iterable[str]) -> np.ndarray:
        """What tells later whether the maps of some images of the last batch are still those that were read.

        Returns:
            uint64 [N], from the SHA-256 of the shard they are in.
        """
        return np.full(len(list(image_ids)), _stamp(self._shard), np.uint64)

    def top5(self, image_ids: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """The five largest logits of some images of the last batch.

        Returns:
            Classes int64 [N, 5] and logits float32 [N, 5], as :class:`Records` has them.
        """
        assert self._batch is not None
        places = {image_id: row for row, image_id in enumerate(self._batch.image_ids)}
        rows = [places[image_id] for image_id in image_ids]
        return self._batch.top5_classes[rows], self._batch.top5_logits[rows]

    def changed(self, image_ids: Sequence[str], stamps: np.ndarray) -> list[str]:
        """The images, of some, whose maps are not those that :meth:`stamps` was about: the shard is not there."""
        there = np.array([_stamp(shard) for shard in self._store.shards], np.uint64)
        return [image_ids[place] for place in np.flatnonzero(~np.isin(stamps, there))]

    def batches(self, size: int = 64) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """Reads all wanted maps in the order of the store, from shards that have some of them.

        Memory holds three shards at most, whatever the number of images. A second map of an image is left out. Where
        images are missing the other shards are read, too, so that all damaged ones are known.

        Args:
            size: Most maps a batch, at least 1.

        Yields:
            (image ids, maps): maps float32 or float64 [N, h, w], as they were stored.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, found {size}")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        self.problems.clear()
        remaining = set(self.image_ids)
        names, twice = self.names()
        self.problems.update(twice)
        remaining.difference_update(twice)
        without = self._shards_without(remaining, names)
        some = [shard for shard in self._store.shards if shard not in without]
        for shard, part in ((shard, part) for shard, records in self._store.contents(some) for part in records):
            if names:
                part = part._replace(image_ids=tuple(names.get(each, each) for each in part.image_ids))
            rows = _take(part.image_ids, remaining)
            self._shard = shard
            for start in range(0, len(rows), size):
                batch = part.pick(rows[start : start + size])
                self._batch = batch
                maps = batch.nwc_cams if self._nwc else batch.cams
                self.spans.see(maps)
                yield batch.image_ids, maps
            if not (remaining or self._to_the_end):
                return
        if remaining or self._to_the_end:
            for _ in self._store.contents(without):
                pass  # `problems` of the store are what is wanted
        present = chain.from_iterable(entries.image_ids for _, entries in self._store.entries())
        near = nearest_spellings(remaining, present)
        reason = self._store.absence()
        for image_id in self.image_ids:
            if image_id in remaining:
                self.problems[image_id] = self._store.absence(near[image_id]) if image_id in near else reason

    def _shards_without(self, image_ids: set[str], names: dict[str, str]) -> dict[layout.Shard, None]:
        """The shards that can be read and have none of the images; ``names`` as from :meth:`names`."""
        stored = image_ids.union(names) if names else image_ids
        return {shard: None for shard, entries in self._store.entries() if stored.isdisjoint(entries.image_ids)}

    def names(self) -> tuple[dict[str, str], dict[str, str]]:
        """Id in the store -> image, where the store lacks the image's extension; image -> why, where it is there twice.

        Memory holds no ids but these.
        """
        absent, num_maps = set(self.image_ids), 0
        for _, entries in self._store.entries():
            absent.difference_update(entries.image_ids)
            num_maps += len(entries.image_ids)
        if not absent and num_maps == len(self.image_ids):
            return {}, {}  # as nearly always, all have their full names
        counts = Counter(map(_stem, {*self.image_ids, *self._siblings}))
        stems = {stem: each for each in self.image_ids if (stem := _stem(each)) != each and counts[stem] == 1}
        names: dict[str, str] = {}
        for _, entries in self._store.entries():
            names.update((stem, stems[stem]) for stem in stems.keys() & entries.image_ids)
        twice = {each: _twice([each, stem]) for stem, each in names.items() if each not in absent}
        return {stem: each for stem, each in names.items() if each in absent}, twice


def open_maps(
    root: str | os.PathLike | CamStore, image_ids: Sequence[str], *, siblings: Iterable[str] = (), nwc: bool = False
) -> CamSource | MapFolder:
    """The maps of some images, wherever they are: batches of them, and why others are missing.

    Args:
        root: A CAM store, opened already or its folder, or what :class:`MapFolder` reads: a folder with one file an
            image, or one file for all.
        image_ids: The images.
        siblings: Other images that have maps there too; see :class:`MapFolder`.
        nwc: The NWC maps instead; only a store has them.

    Raises:
        DatasetError: There is nothing of the kind, or a store's manifest or index is damaged.
        ValueError: NWC maps of what has none.
    """
    if isinstance(root, CamStore) or CamStore.is_at(root):
        store = root if isinstance(root, CamStore) else CamStore(root)
        return store.source(image_ids, nwc=nwc, siblings=siblings)
    if nwc:
        raise ValueError(f"nwc: {os.fspath(root)} is no CAM store, and only stores keep NWC maps")
    return MapFolder(root, image_ids, siblings=siblings)


def _stamp(shard: layout.Shard) -> int:
    return int(shard.sha256[:16], 16) or 1


def _take(image_ids: tuple[str, ...], remaining: set[str]) -> range | list[int]:
    """The rows whose ids remain, each id once; they remain no longer."""
    found = remaining.intersection(image_ids)
    remaining -= found
    if len(found) == len(image_ids):
        return range(len(image_ids))
    first = {image_id: row for row, image_id in reversed(list(enumerate(image_ids))) if image_id in found}
    return sorted(first.values())


def _stem(image_id: str) -> str:
    return os.path.splitext(image_id)[0]


def _twice(names: Sequence[str]) -> str:
    return f"expected one map, found {' and '.join(map(repr, names))}"

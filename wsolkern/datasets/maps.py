"""Folders of score maps or raw CAMs, read ahead in the background as batches.

In: one file an image, or one file for all of them, .npy, .npz or .safetensors. Out: batches of ids and maps [N, h, w].
Source: file names as in Choe et al.'s evaluation: `<root>/<image id>.npy`, the id's own extension kept or left out.
"""

import io
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import deserialize, safe_open

from wsolkern.datasets.folders import nearest_files
from wsolkern.datasets.ids import id_problem
from wsolkern.datasets.scaling import UnitRange
from wsolkern.datasets.spelling import nearest_spellings
from wsolkern.errors import DatasetError
from wsolkern.files import MAP_SUFFIXES, open_regular, read_regular, readers, stamp

_NUM_READERS = 2  # threads; they read this many batches ahead of the one that was asked for
_MAX_BATCH_BYTES = 64 << 20  # batches of large maps are cut to this
_FEW = 4  # images of a folder whose files are looked for one by one; for more it is listed

_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}

_NPY_HEADER_BYTES = 128  # what numpy writes for a plain array: version 1.0, padded to a multiple of 64
_NPY_START = b"\x93NUMPY\x01\x00" + (_NPY_HEADER_BYTES - 10).to_bytes(2, "little")


class MapFolder:
    """The maps of some images, in a folder or in one file.

    In a folder, image ``a/b.jpg`` has one of ``a/b.jpg.npy`` and ``a/b.npy``, or the same with .npz or .safetensors;
    such a file holds exactly one array. If two ids differ in their extension only, they need their full names. A root
    that is itself an .npz or .safetensors file holds the arrays under the ids, with or without their extension.

    A map that is missing, damaged, there twice or not a [h, w] array of numbers is left out of the batches and is in
    ``problems``; for one that is missing it says which file has its name in another spelling. NaN and infinite values
    are no problem here. Only regular files are read, never one outside the folder; symbolic links are followed.

    Args:
        root: The folder, or the file.
        image_ids: The images to read, in this order.
        siblings: Other images that have maps there too: they decide with these which ids need their full names.

    Raises:
        DatasetError: There is no such folder or file, or the file is none of the two kinds.
    """

    def __init__(self, root: str | os.PathLike, image_ids: Sequence[str], *, siblings: Iterable[str] = ()):
        self.root = Path(root)
        self.image_ids = tuple(image_ids)
        self.problems: dict[str, str] = {}
        """Image id -> why its map could not be read, of the images read so far."""
        self._archive_stamp = stamp([self.root])
        self._stamps: dict[str, int] = {}  # of the images in the batches that are on their way
        self.spans = UnitRange()
        """Whether the maps read so far span exactly [0, 1]."""
        if not self.root.exists():
            raise DatasetError(f"{self.root}: no such folder of maps")
        self._archive = None if self.root.is_dir() else _open_archive(self.root)
        stems = Counter(map(_stem, {*self.image_ids, *siblings}))
        self._shared_stems = {stem for stem, count in stems.items() if count > 1}

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: str) -> np.ndarray:
        """The map of one image, float32 or float64 [h, w], as in :meth:`batches`.

        Raises:
            DatasetError: It cannot be read; the message says why.
        """
        found = self._search((image_id,))
        groups, problems = self._read_window((image_id,), found, self._nearest((image_id,), found))
        self._stamps.pop(image_id, None)
        if problems:
            raise DatasetError(f"{self.root}: map of {image_id!r}: {problems[image_id]}")
        return groups[0][1][0]

    def stamps(self, image_ids: Iterable[str]) -> np.ndarray:
        """What tells later whether the maps of some images of the last batch are still those that were read.

        Returns:
            uint64 [N], from the sizes and times of modification that their files had before they were read.
        """
        return np.array([self._stamps[each] for each in image_ids], np.uint64)

    def changed(self, image_ids: Sequence[str], stamps: np.ndarray) -> list[str]:
        """The images, of some, whose maps are not those that :meth:`stamps` was about: other files, or none."""

        def is_same(image_id: str, found: int, was: int) -> bool:
            names = self._names(image_id, found)
            return len(names) == 1 and self._stamp(names[0]) == was

        found = self._search(image_ids)
        each_one = zip(image_ids, found, stamps.tolist(), strict=True)
        return [image_id for image_id, bits, was in each_one if not is_same(image_id, bits, was)]

    def _stamp(self, name: str) -> int:
        """Of the file of that name, or of the one for all."""
        return self._archive_stamp if self._archive else stamp([f"{self.root}/{name}"])

    def batches(self, size: int = 64) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """Reads all maps, while the caller works on those it has.

        Images are taken ``size`` at a time; those of one shape and dtype are one batch, so that there is one batch
        where all maps are alike. Memory does not depend on the number of images.

        Args:
            size: Most maps a batch, at least 1; fewer if they are very large.

        Yields:
            (image ids, maps): maps float32 [N, h, w] from float16, bfloat16 and float32 files, float64 from all others.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, found {size}")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        start = 0
        found = self._search(self.image_ids)
        nearest = self._nearest(self.image_ids, found)
        map_bytes = self._first_map_bytes(found)
        pending: deque = deque()
        with readers(1 if self._archive else _NUM_READERS, "wsolkern-maps") as pool:
            while start < len(self.image_ids) or pending:
                while start < len(self.image_ids) and len(pending) <= _NUM_READERS:
                    count = max(1, min(size, _MAX_BATCH_BYTES // map_bytes))
                    part = slice(start, start + count)
                    window = self.image_ids[part]
                    pending.append((window, pool.submit(self._read_window, window, found[part], nearest)))
                    start += len(window)
                window, future = pending.popleft()
                groups, problems = future.result()
                for image_id in window:
                    self.problems.pop(image_id, None)
                    if image_id in problems:
                        self.problems[image_id] = problems[image_id]
                while groups:
                    image_ids, maps = groups.pop(0)
                    self.spans.see(maps)
                    map_bytes = max(map_bytes, maps[0].nbytes)
                    yield image_ids, maps
                for image_id in window:
                    self._stamps.pop(image_id, None)

    def _first_map_bytes(self, found: bytes) -> int:
        """Size of the first map that can be read: what batches are planned with before anything is known."""
        for image_id, bits in zip(self.image_ids[:8], found, strict=False):
            groups, _ = self._read_window((image_id,), bytes([bits]), {})
            if groups:
                return groups[0][1].nbytes
        return 1

    def _read_window(
        self, image_ids: tuple[str, ...], searched: bytes, nearest: dict[str, str]
    ) -> tuple[list[tuple[tuple[str, ...], np.ndarray]], dict[str, str]]:
        """The maps of some images, grouped by shape and dtype, and why others could not be read.

        Args:
            image_ids: The images.
            searched: What :meth:`_search` says of them.
            nearest: What :meth:`_nearest` says.
        """
        groups, problems, found = _Groups(len(image_ids)), {}, {}
        for image_id, bits in zip(image_ids, searched, strict=True):
            names = self._names(image_id, bits)
            if len(names) == 1:
                found[image_id] = names[0]
            elif names:
                problems[image_id] = f"expected one map, found {' and '.join(names)}"
            else:
                problems[image_id] = self._absence(image_id, nearest.get(image_id))
        self._stamps.update((image_id, self._stamp(name)) for image_id, name in found.items())
        if not self._archive:
            _announce(f"{self.root}/{name}" for name in found.values())
        for image_id, name in found.items():
            try:
                if self._archive:
                    array = self._archive[1](name)
                    groups.room(array.shape, array.dtype)[...] = array
                else:
                    _read_file(f"{self.root}/{name}", groups.room)
                groups.keep(image_id)
            except Exception as error:  # whatever a damaged file makes its decoder raise
                problems[image_id] = f"{name}: {str(error) or type(error).__name__}"
        return groups.batches(), problems

    def _spellings(self, image_id: str) -> tuple[str, ...]:
        """The names that a map of this image may have, without what says that it is a file of maps."""
        stem = _stem(image_id)
        return (image_id,) if stem == image_id or stem in self._shared_stems else (image_id, stem)

    def _candidates(self, image_id: str) -> list[str]:
        """The keys, or the files relative to the root, that may hold an image's map."""
        names = self._spellings(image_id)
        return list(names) if self._archive else [name + suffix for name in names for suffix in MAP_SUFFIXES]

    def _names(self, image_id: str, bits: int) -> list[str]:
        """Those of them that are there."""
        return [name for place, name in enumerate(self._candidates(image_id)) if bits >> place & 1] if bits else []

    def _search(self, image_ids: Sequence[str]) -> bytes:
        """For each image one bit for each of its candidates that is there.

        A folder is listed once, and one at a time is in memory.
        """
        found = bytearray(len(image_ids))

        def mark(place: int, exists: Callable[[str], bool]) -> None:
            for bit, name in enumerate(self._candidates(image_ids[place])):
                if exists(name):
                    found[place] |= 1 << bit

        if self._archive:
            for place in range(len(image_ids)):
                mark(place, self._archive[0].__contains__)
            return bytes(found)
        by_folder: dict[str, list[int]] = defaultdict(list)
        for place, image_id in enumerate(image_ids):
            if id_problem(image_id) is None:
                by_folder[image_id.rpartition("/")[0]].append(place)
        for folder, places in by_folder.items():
            if len(places) <= _FEW:
                for place in places:
                    mark(place, lambda name: os.path.exists(f"{self.root}/{name}"))
            else:
                there = _listed(self.root, folder)
                for place in places:
                    mark(place, there.__contains__)
        return bytes(found)

    def _nearest(self, image_ids: Sequence[str], searched: bytes) -> dict[str, str]:
        """Image id -> the file or key that is there in place of its map, for those that have one."""
        missing = [image_id for image_id, bits in zip(image_ids, searched, strict=True) if not bits]
        if self._archive:
            return nearest_spellings(missing, self._archive[0])
        return nearest_files(self.root, missing, MAP_SUFFIXES) if missing else {}

    def _absence(self, image_id: str, nearest: str | None) -> str:
        if not self._archive and (problem := id_problem(image_id)):
            return problem
        ending = "" if self._archive else f" with {', '.join(MAP_SUFFIXES[:-1])} or {MAP_SUFFIXES[-1]}"
        return f"no map {' or '.join(self._spellings(image_id))}{ending}" + (f"; there is {nearest}" if nearest else "")


class _Groups:
    """The maps of one window, gathered by shape and dtype in arrays that files are read into directly."""

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._last: dict[tuple, tuple[np.ndarray, list[str]]] = {}  # by shape and dtype: the group that has room
        self._all: list[tuple[np.ndarray, list[str]]] = []
        self._ids: list[str] = []

    def room(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Where the next map of this shape and dtype goes; it counts only once :meth:`keep` is called."""
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"expected a map [h, w], found shape {tuple(shape)}")
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise ValueError(f"expected numbers of at most 64 bits, found {dtype}")
        wide = np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)
        maps, self._ids = self._last.get((shape, wide), (None, self._ids))
        if maps is None or len(self._ids) == len(maps):
            # Pages that stay unused cost nothing, so there may be room for more maps than come.
            most = max(1, _MAX_BATCH_BYTES // (shape[0] * shape[1] * wide.itemsize))
            maps, self._ids = np.empty((min(self._capacity, most), *shape), wide), []
            self._last[shape, wide] = maps, self._ids
            self._all.append((maps, self._ids))
        return maps[len(self._ids)]

    def keep(self, image_id: str) -> None:
        """The array that :meth:`room` gave last holds the map of this image now."""
        self._ids.append(image_id)

    def batches(self) -> list[tuple[tuple[str, ...], np.ndarray]]:
        return [(tuple(ids), maps[: len(ids)]) for maps, ids in self._all if ids]


def _stem(image_id: str) -> str:
    return os.path.splitext(image_id)[0]


def _listed(root: Path, folder: str) -> set[str]:
    """The files of maps in a folder of the root, relative to the root; none if it cannot be listed."""
    prefix = f"{folder}/" if folder else ""
    try:
        with os.scandir(root / folder) as entries:
            return {prefix + entry.name for entry in entries if entry.name.endswith(MAP_SUFFIXES)}
    except OSError:
        return set()


def _open_archive(path: Path) -> tuple[frozenset[str], Callable[[str], np.ndarray]]:
    """One file that holds many maps: the keys in it, and what reads one."""
    try:
        open_regular(path).close()
        if path.suffix == ".npz":
            archive = np.load(path, allow_pickle=False)
            return frozenset(archive.files), archive.__getitem__
        if path.suffix == ".safetensors":
            archive = safe_open(path, framework="numpy")
            return frozenset(archive.keys()), lambda key: _read_key(archive, path, key)
    except Exception as error:  # whatever a damaged file makes its decoder raise
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    raise DatasetError(f"{path}: expected a folder of maps, an .npz or a .safetensors file")


def _read_key(archive, path: Path, key: str) -> np.ndarray:
    """An array of an opened .safetensors file; numpy has no bfloat16, but torch has."""
    dtype = archive.get_slice(key).get_dtype()
    _expect_numbers(dtype)
    if dtype != "BF16":
        return archive.get_tensor(key)
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(key).float().numpy()


def _expect_numbers(dtype: str) -> None:
    if dtype not in _SAFETENSORS:
        raise ValueError(f"expected integers, bool or floats of 16 to 64 bits, found {dtype}")


def _announce(paths: Iterable[str]) -> None:
    """Tells the system which files are read next, so that a disk fetches them all at once; harmless if it cannot."""
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with suppress(OSError), open_regular(path, buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _put(array: np.ndarray, room: Callable[..., np.ndarray]) -> None:
    room(array.shape, array.dtype)[...] = array


def _read_file(path: str, room: Callable[..., np.ndarray]) -> None:
    """Reads a file that holds one map."""
    if path.endswith(".npy"):
        _read_npy(path, room)
    elif path.endswith(".npz"):
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            _put(archive[_only(archive.files)], room)
    else:
        (_, tensor) = _only(deserialize(read_regular(path)))
        _expect_numbers(tensor["dtype"])
        values = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]]).reshape(tensor["shape"])
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        _put(values, room)


def _only(keys: list):
    if len(keys) != 1:
        raise ValueError(f"expected one array in the file, found {len(keys)}")
    return keys[0]


def _read_npy(path: str, room: Callable[..., np.ndarray]) -> None:
    """Reads an .npy file: a plain float array by one read into its place, anything else by numpy."""
    with open_regular(path, buffering=0) as file:
        shape, dtype = _plain_npy(file.read(_NPY_HEADER_BYTES))
        if dtype is None:
            file.seek(0)
            # From memory: where values are said to be arrays, numpy takes the numbers of a file for the values.
            _put(np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False), room)
            return
        out = room(shape, dtype)
        num_bytes = file.readinto(out)
        if num_bytes < out.nbytes:
            raise ValueError(f"cut off: expected {out.nbytes} bytes of data, found {num_bytes}")


@lru_cache(maxsize=256)
def _plain_npy(header: bytes) -> tuple[tuple[int, ...], np.dtype | None]:
    """Shape and dtype if this is all of the header of a C-contiguous float32 or float64 array, else dtype None.

    The files of a folder have the same few headers, and parsing one takes as long as reading 100 KB.
    """
    if not header.startswith(_NPY_START):
        return (), None
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header[len(_NPY_START) - 2 :]))
    return shape, dtype if dtype in (np.float32, np.float64) and dtype.isnative and not fortran_order else None

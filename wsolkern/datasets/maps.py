"""Folders of score maps or raw CAMs, read ahead in the background as batches.

In: one file an image, or one file for all of them, .npy, .npz or .safetensors. Out: batches of ids and maps [N, h, w].
Source: file names as in Choe et al.'s evaluation: `<root>/<image id>.npy`, the id's own extension kept or left out.
"""

import io
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import safe_open

from wsolkern.errors import DatasetError
from wsolkern.files import stamp

_SUFFIXES = (".npy", ".npz", ".safetensors")
_NUM_READERS = 2  # threads; they read this many batches ahead of the one that was asked for
_MAX_BATCH_BYTES = 64 << 20  # batches of large maps are cut to this

_NPY_HEADER_BYTES = 128  # what numpy writes for a plain array: version 1.0, padded to a multiple of 64
_NPY_START = b"\x93NUMPY\x01\x00" + (_NPY_HEADER_BYTES - 10).to_bytes(2, "little")


class MapFolder:
    """The maps of some images, in a folder or in one file.

    In a folder, image ``a/b.jpg`` has one of ``a/b.jpg.npy`` and ``a/b.npy``, or the same with .npz or .safetensors;
    such a file holds exactly one array. If two ids differ in their extension only, they need their full names. A root
    that is itself an .npz or .safetensors file holds the arrays under the ids, with or without their extension.

    A map that is missing, damaged, there twice or not a [h, w] array of numbers is left out of the batches and is in
    ``problems``. NaN and infinite values are no problem here.

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
        self._archive = _open_archive(self.root) if self.root.is_file() else None
        if self._archive is None and not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder of maps")
        stems = Counter(map(_stem, {*self.image_ids, *siblings}))
        self._shared_stems = {stem for stem, count in stems.items() if count > 1}

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: str) -> np.ndarray:
        """The map of one image, float32 or float64 [h, w], as in :meth:`batches`.

        Raises:
            DatasetError: It cannot be read; the message says why.
        """
        groups, problems = self._read_window((image_id,))
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

        def is_same(image_id: str, was: int) -> bool:
            try:
                return self._stamp(self._find(image_id)) == was
            except ValueError:
                return False

        return [each for each, was in zip(image_ids, stamps.tolist(), strict=True) if not is_same(each, was)]

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
            (image ids, maps): maps float32 [N, h, w] from float16 and float32 files, float64 from all others.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, found {size}")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        start = 0
        map_bytes = self._first_map_bytes()
        pool = ThreadPoolExecutor(1 if self._archive else _NUM_READERS, thread_name_prefix="wsolkern-maps")
        pending: deque = deque()
        try:
            while start < len(self.image_ids) or pending:
                while start < len(self.image_ids) and len(pending) <= _NUM_READERS:
                    count = max(1, min(size, _MAX_BATCH_BYTES // map_bytes))
                    window = self.image_ids[start : start + count]
                    pending.append((window, pool.submit(self._read_window, window)))
                    start += len(window)
                window, future = pending.popleft()
                groups, problems = future.result()
                for image_id in window:
                    self.problems.pop(image_id, None)
                    if image_id in problems:
                        self.problems[image_id] = problems[image_id]
                while groups:
                    image_ids, maps = groups.pop(0)
                    map_bytes = max(map_bytes, maps[0].nbytes)
                    yield image_ids, maps
                for image_id in window:
                    self._stamps.pop(image_id, None)
        finally:
            pool.shutdown(cancel_futures=True)

    def _first_map_bytes(self) -> int:
        """Size of the first map that can be read: what batches are planned with before anything is known."""
        for image_id in self.image_ids[:8]:
            groups, _ = self._read_window((image_id,))
            if groups:
                return groups[0][1].nbytes
        return 1

    def _read_window(
        self, image_ids: tuple[str, ...]
    ) -> tuple[list[tuple[tuple[str, ...], np.ndarray]], dict[str, str]]:
        """The maps of some images, grouped by shape and dtype, and why others could not be read."""
        groups, problems, found = _Groups(len(image_ids)), {}, {}
        for image_id in image_ids:
            try:
                found[image_id] = self._find(image_id)
            except ValueError as error:
                problems[image_id] = str(error)
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

    def _find(self, image_id: str) -> str:
        """The file, relative to the root, or the key that holds an image's map.

        Raises:
            ValueError: There is none, or more than one.
        """
        stem = _stem(image_id)
        names = (image_id,) if stem == image_id or stem in self._shared_stems else (image_id, stem)
        if self._archive:
            found = [name for name in names if name in self._archive[0]]
        else:
            files = [f"{name}{suffix}" for name in names for suffix in _SUFFIXES]
            found = [file for file in files if os.path.exists(f"{self.root}/{file}")]
        if len(found) > 1:
            raise ValueError(f"expected one map, found {' and '.join(found)}")
        if not found:
            ending = "" if self._archive else f" with {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
            raise ValueError(f"no map {' or '.join(names)}{ending}")
        return found[0]


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


def _open_archive(path: Path) -> tuple[frozenset[str], Callable[[str], np.ndarray]]:
    """One file that holds many maps: the keys in it, and what reads one."""
    try:
        if path.suffix == ".npz":
            archive = np.load(path, allow_pickle=False)
            return frozenset(archive.files), archive.__getitem__
        if path.suffix == ".safetensors":
            archive = safe_open(path, framework="numpy")
            return frozenset(archive.keys()), archive.get_tensor
    except Exception as error:  # whatever a damaged file makes its decoder raise
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    raise DatasetError(f"{path}: expected a folder of maps, an .npz or a .safetensors file")


def _announce(paths: Iterable[str]) -> None:
    """Tells the system which files are read next, so that a disk fetches them all at once; harmless if it cannot."""
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with suppress(OSError), open(path, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _put(array: np.ndarray, room: Callable[..., np.ndarray]) -> None:
    room(array.shape, array.dtype)[...] = array


def _read_file(path: str, room: Callable[..., np.ndarray]) -> None:
    """Reads a file that holds one map."""
    if path.endswith(".npy"):
        _read_npy(path, room)
    elif path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as archive:
            _put(archive[_only(archive.files)], room)
    else:
        with safe_open(path, framework="numpy") as archive:
            _put(archive.get_tensor(_only(list(archive.keys()))), room)


def _only(keys: list[str]) -> str:
    if len(keys) != 1:
        raise ValueError(f"expected one array in the file, found {len(keys)}")
    return keys[0]


def _read_npy(path: str, room: Callable[..., np.ndarray]) -> None:
    """Reads an .npy file: a plain float array by one read into its place, anything else by numpy."""
    with open(path, "rb", buffering=0) as file:
        shape, dtype = _plain_npy(file.read(_NPY_HEADER_BYTES))
        if dtype is None:
            file.seek(0)
            _put(np.lib.format.read_array(file, allow_pickle=False), room)
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

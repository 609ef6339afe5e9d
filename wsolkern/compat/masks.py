"""Masks that were read, kept in memory: evaluations of the next epoch or normalization do not read them again.

In: mask files of an image and a size. Out: its ground truth, uint8 [H, W] of 1, 0 and 255.
Source: :func:`wsolkern.datasets.load_mask`, which reads them.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock

import numpy as np

from wsolkern.datasets import load_mask

MAX_BYTES = 128 << 20
"""What is kept at most, for all evaluators of a process together: 10,600 masks of 224 x 224; OpenImages has 7,500."""


class MaskCache:
    """Ground truth by its files, two bits a pixel: 12,544 bytes for 224 x 224.

    What was asked for longest ago goes first. A file that has changed (its inode, size or time) is read again.

    Args:
        max_bytes: Of pixels, at most.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.bytes = 0
        """Of pixels, at present."""
        self._kept: OrderedDict[tuple, tuple[tuple, np.ndarray]] = OrderedDict()  # key -> (files' stamps, packed bits)
        self._lock = Lock()

    def kept(
        self, root: str | os.PathLike, paths: Iterable[str], ignore: str | None, size: tuple[int, int]
    ) -> np.ndarray | None:
        """Ground truth that is kept, a new array each time; None if it is not, or its files have changed."""
        key = _key(root, paths, ignore, size)
        stamps = _stamps(key)
        with self._lock:
            known, packed = self._kept.get(key, (None, None))
            if packed is None or known != stamps:
                return None
            self._kept.move_to_end(key)
        return _unpacked(packed, size)

    def get(
        self, root: str | os.PathLike, paths: Iterable[str], ignore: str | None, size: tuple[int, int]
    ) -> np.ndarray:
        """As :func:`wsolkern.datasets.load_mask`, from what is kept or from the files, which are kept then."""
        key = _key(root, paths, ignore, size)
        mask = self.kept(*key)
        if mask is not None:
            return mask
        stamps = _stamps(key)
        mask = load_mask(*key)
        packed = np.packbits(np.stack([mask == 1, mask == 255]).reshape(2, -1), axis=1)
        with self._lock:
            self._drop(key)
            if stamps is not None and packed.nbytes <= self.max_bytes:
                self._kept[key] = stamps, packed
                self.bytes += packed.nbytes
            while self.bytes > self.max_bytes:
                self._drop(next(iter(self._kept)))
        return mask

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _drop(self, key: tuple) -> None:
        if key in self._kept:
            self.bytes -= self._kept.pop(key)[1].nbytes


def _key(root: str | os.PathLike, paths: Iterable[str], ignore: str | None, size: tuple[int, int]) -> tuple:
    return os.fspath(root), tuple(paths), ignore or None, tuple(size)


def _stamps(key: tuple) -> tuple | None:
    """What changes with the files; None if one is not there."""
    root, paths, ignore, _ = key
    try:
        stats = [os.stat(os.path.join(root, path)) for path in (*paths, ignore) if path]
    except OSError:
        return None
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in stats)


def _unpacked(packed: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    objects, ignored = np.unpackbits(packed, axis=1, count=size[0] * size[1])
    return (objects | -ignored).reshape(size)  # -1 is 255

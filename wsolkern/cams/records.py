"""Some maps of one size with all that a CAM store keeps about them, and which ids and values it takes.

In: ids, maps, classes, logits and files as an extractor has them. Out: arrays of fixed dtypes that own their memory.
Source: none.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from wsolkern.cams.stamps import FileStamp
from wsolkern.datasets.ids import check_distinct, check_image_ids
from wsolkern.ops.inputs import on_host, plain

NUM_TOP = 5  # logits kept of each image
_HALF = ("float16", "bfloat16")


class Records(NamedTuple):
    """N maps of one size."""

    image_ids: tuple[str, ...]
    """N of them."""
    cams: np.ndarray
    """float32 or float64 [N, h, w]."""
    nwc_cams: np.ndarray | None
    """The same for NWC; None in a store without."""
    classes: np.ndarray
    """Class that each map is of, int64 [N]; -1 is unknown."""
    top5_classes: np.ndarray
    """Classes of the largest logits, largest first, int64 [N, 5]; -1 where there are fewer."""
    top5_logits: np.ndarray
    """Those logits, float32 [N, 5]; NaN where there are fewer."""
    file_bytes: np.ndarray
    """Size of the file that each map was made from, in bytes, int64 [N]; -1 is unknown."""
    file_mtimes: np.ndarray
    """When that file was last modified, in nanoseconds since 1970, int64 [N]; 0 where it is unknown."""
    file_sha256: np.ndarray
    """Its SHA-256, uint8 [N, 32]; zeros where it is unknown."""

    def pick(self, rows: range | Sequence[int]) -> "Records":
        """Some of them: views if ``rows`` is a range, else copies."""
        place = slice(rows.start, rows.stop) if isinstance(rows, range) else list(rows)
        return Records(
            tuple(self.image_ids[row] for row in rows), *(None if each is None else each[place] for each in self[1:])
        )


def make_records(
    image_ids: Iterable[str],
    cams,
    nwc_cams=None,
    classes=None,
    logits=None,
    files: Sequence[FileStamp | None] | None = None,
) -> Records:
    """Checks what :meth:`CamWriter.add` is given, and copies it.

    Raises:
        ValueError: An id, shape, dtype or class is not as documented there.
    """
    if isinstance(image_ids, str | bytes):
        raise ValueError(f"image_ids: expected a sequence of ids, found the single string {image_ids!r}")
    image_ids = tuple(image_ids)
    check_image_ids(image_ids)
    cams = _copy_maps("cams", plain(cams, "cams"))
    num_maps = len(cams)
    if len(image_ids) != num_maps:
        raise ValueError(f"image_ids: expected {num_maps}, one for each map, found {len(image_ids)}")
    check_distinct(image_ids)
    if nwc_cams is not None:
        nwc_cams = _copy_maps("nwc_cams", plain(nwc_cams, "nwc_cams"))
        if (nwc_cams.shape, nwc_cams.dtype) != (cams.shape, cams.dtype):
            raise ValueError(
                f"nwc_cams: expected {cams.dtype} {list(cams.shape)} as the cams, "
                f"found {nwc_cams.dtype} {list(nwc_cams.shape)}"
            )
    classes = _copy_classes(classes, num_maps)
    return Records(image_ids, cams, nwc_cams, classes, *_top5(logits, num_maps), *_files(files, num_maps))


def unknown_files(num_maps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last three columns of :class:`Records` where nothing is known."""
    return np.full(num_maps, -1, np.int64), np.zeros(num_maps, np.int64), np.zeros((num_maps, 32), np.uint8)


def _on_host(name: str, values) -> np.ndarray:
    """A numpy array of a torch tensor or of anything else; what has 16 bits as float32, which holds all its values."""
    values = plain(values, name)
    if str(getattr(values, "dtype", "")).removeprefix("torch.") in _HALF:
        values = values.float() if hasattr(values, "detach") else values.astype(np.float32)
    return np.asarray(on_host(values, name))


def _copy_maps(name: str, maps) -> np.ndarray:
    dtype, shape = str(getattr(maps, "dtype", type(maps).__name__)), list(getattr(maps, "shape", ()))
    if dtype.removeprefix("torch.") not in (*_HALF, "float32", "float64") or len(shape) != 3 or 0 in shape[1:]:
        raise ValueError(f"{name}: expected floats of 16, 32 or 64 bits [N, h, w], found {dtype} {shape}")
    return np.array(_on_host(name, maps), order="C")


def _copy_classes(classes, num_maps: int) -> np.ndarray:
    if classes is None:
        return np.full(num_maps, -1, np.int64)
    found = _on_host("classes", classes)
    if found.shape != (num_maps,) or (num_maps and found.dtype.kind not in "iu"):
        raise ValueError(f"classes: expected {num_maps} integers, found {found.dtype} {list(found.shape)}")
    if num_maps and (found.min() < -1 or found.max() > np.iinfo(np.int64).max):
        wrong = found.min() if found.min() < -1 else found.max()
        raise ValueError(f"classes: expected indices from 0, or -1 for unknown, found {wrong}")
    return found.astype(np.int64)


def _top5(logits, num_maps: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes int64 [N, 5] and values float32 [N, 5] of the largest logits; equal ones in the order of their class."""
    classes, values = np.full((num_maps, NUM_TOP), -1, np.int64), np.full((num_maps, NUM_TOP), np.nan, np.float32)
    if logits is None:
        return classes, values
    found = _on_host("logits", logits)
    if found.ndim != 2 or len(found) != num_maps or found.shape[1] == 0 or found.dtype.kind != "f":
        raise ValueError(f"logits: expected float [{num_maps}, K], found {found.dtype} {list(found.shape)}")
    number = min(NUM_TOP, found.shape[1])
    best = np.sort(np.argpartition(-found, number - 1, axis=1)[:, :number], axis=1)
    # A partition takes any of the logits that equal the last one; where there are more of them, a sort tells which.
    least = np.take_along_axis(found, best, axis=1).min(axis=1, keepdims=True)
    tied = np.flatnonzero((found >= least).sum(axis=1) > number)
    best[tied] = np.sort(np.argsort(-found[tied], axis=1, kind="stable")[:, :number], axis=1)
    order = np.argsort(-np.take_along_axis(found, best, axis=1), axis=1, kind="stable")
    classes[:, :number] = np.take_along_axis(best, order, axis=1)
    values[:, :number] = np.take_along_axis(found, classes[:, :number], axis=1)
    return classes, values


def _files(files: Sequence[FileStamp | None] | None, num_maps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes int64 [N], times int64 [N] and SHA-256 uint8 [N, 32] of files."""
    sizes, mtimes, sha256 = unknown_files(num_maps)
    if files is None:
        return sizes, mtimes, sha256
    if len(files) != num_maps or not all(isinstance(each, FileStamp | None) for each in files):
        raise ValueError(f"files: expected {num_maps} of FileStamp or None, found {len(files)} items")
    for row, each in enumerate(files):
        if each is not None:
            sizes[row], mtimes[row] = each.bytes, each.mtime_ns
            if each.sha256 is not None:
                sha256[row] = np.frombuffer(each.sha256, np.uint8)
    return sizes, mtimes, sha256

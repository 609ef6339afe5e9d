"""The files of a CAM store: manifest.json, index.json and shards/000000.safetensors, 000001, ...

In: a manifest, the list of shards, records. Out: files that are whole or not there at all, and what they hold.
Source: the safetensors format; SHA-256 as in FIPS 180-4.

A shard holds, for n maps: ``maps``, all of them one after the other, float32 or float64; ``nwc_maps``, the same, if the
manifest says so; ``sizes`` int32 [n, 2], heights and widths; ``image_ids``, UTF-8 lines; ``classes`` int64 [n];
``top5_classes`` int64 [n, 5]; ``top5_logits`` float32 [n, 5]; ``file_bytes`` int64 [n], ``file_mtimes`` int64 [n] and
``file_sha256`` uint8 [n, 32] of the files that maps were made from, which shards of earlier versions lack. What else a
shard may hold is left alone. Maps of one size lie together. Its header names the manifest's hash. manifest.json and
index.json hold their own SHA-256; index.json also those of manifest and shards. What is not in the index is nothing.
"""

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from wsolkern.cams.manifest import Manifest
from wsolkern.cams.records import NUM_TOP, Records, unknown_files
from wsolkern.errors import DatasetError
from wsolkern.files import UNFINISHED, open_regular, write_whole

MANIFEST, INDEX, SHARDS = "manifest.json", "index.json", "shards"
_VERSION = 1  # of the layout
_HEADER = "wsolkern"  # the one key of a shard's metadata
_MAX_BYTES = 1 << 28  # of manifest and index: one of a million shards has 170 MB
_MAX_SIDE = 1 << 20  # of a map, in pixels

# Columns with a row a map: their dtype, and their shape behind n.
_COLUMNS = {
    "sizes": (np.int32, (2,)),
    "classes": (np.int64, ()),
    "top5_classes": (np.int64, (NUM_TOP,)),
    "top5_logits": (np.float32, (NUM_TOP,)),
    "file_bytes": (np.int64, ()),
    "file_mtimes": (np.int64, ()),
    "file_sha256": (np.uint8, (32,)),
}
_FILES = ("file_bytes", "file_mtimes", "file_sha256")  # all or none of them


@dataclass(frozen=True)
class Shard:
    """A file of maps, as the index lists it."""

    file: str
    """Its path in the store."""
    sha256: str
    """Of the whole file, 64 hexadecimal digits."""
    num_maps: int
    bytes: int
    """Of the whole file."""


class Entries(NamedTuple):
    """What a shard keeps beside n maps; see :class:`Records`."""

    image_ids: tuple[str, ...]
    classes: np.ndarray
    top5_classes: np.ndarray
    file_bytes: np.ndarray
    file_mtimes: np.ndarray
    file_sha256: np.ndarray


def read_manifest(store: Path) -> tuple[Manifest, str]:
    """The manifest and its hash.

    Raises:
        DatasetError: The file is missing, damaged, edited or another one; the message names it.
    """
    content = _read_sealed(store / MANIFEST, "manifest")
    try:
        manifest = Manifest(**content["manifest"])
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{store / MANIFEST}: {error}") from error
    sha256 = _sha256(content)
    if sha256 != manifest_sha256(manifest):  # so that a writer's index and shards would name another one
        expected, found = (", ".join(sorted(each)) for each in (vars(manifest), content["manifest"]))
        raise DatasetError(f"{store / MANIFEST}: expected a manifest of {expected}, found one of {found}")
    return manifest, sha256


def write_manifest(store: Path, manifest: Manifest) -> None:
    write_whole(store / MANIFEST, _seal(_manifest_content(manifest), indent=2))


def manifest_sha256(manifest: Manifest) -> str:
    """What an index and shards name their manifest by."""
    return _sha256(_manifest_content(manifest))


def read_index(store: Path, sha256: str) -> tuple[Shard, ...]:
    """The shards of the store whose manifest has that hash.

    Raises:
        DatasetError: The index is missing, damaged, edited or another file; or the manifest is not its own.
    """
    path = store / INDEX
    content = _read_sealed(path, "manifest_sha256", "shards")
    if content["manifest_sha256"] != sha256:
        raise DatasetError(
            f"{store / MANIFEST}: belongs to another store: expected sha256 {content['manifest_sha256']}, "
            f"as {INDEX} says, found {sha256}"
        )
    if not isinstance(content["shards"], list):
        raise DatasetError(f"{path}: expected a list of shards, found {type(content['shards']).__name__}")
    for number, each in enumerate(content["shards"]):
        if not _is_shard(each):
            expected = ", ".join(field.name for field in fields(Shard))
            raise DatasetError(f"{path}: shard {number}: expected {expected}, found {each!r:.200}")
    shards = tuple(Shard(**each) for each in content["shards"])
    if len({shard.file for shard in shards}) != len(shards):
        raise DatasetError(f"{path}: expected each shard once")
    return shards


def write_index(store: Path, sha256: str, shards: Sequence[Shard]) -> None:
    write_whole(store / INDEX, _seal(_index_content(sha256, shards)))


def index_sha256(sha256: str, shards: Sequence[Shard]) -> str:
    """What an index says its own hash is: of the manifest's, and of the names, sizes and hashes of all shards."""
    return _sha256(_index_content(sha256, shards))


def write_shard(store: Path, number: int, sha256: str, parts: Sequence[Records]) -> Shard:
    """Writes records, whose maps have one dtype, as a shard of the store whose manifest has that hash."""
    parts = sorted(parts, key=lambda part: part.cams.shape[1:])
    lines = "\n".join(image_id for part in parts for image_id in part.image_ids)
    columns = {
        "maps": [part.cams.ravel() for part in parts],
        "sizes": [np.tile(np.int32(part.cams.shape[1:]), (len(part.cams), 1)) for part in parts],
        "image_ids": [np.frombuffer(lines.encode(), np.uint8)],
        "classes": [part.classes for part in parts],
        "top5_classes": [part.top5_classes for part in parts],
        "top5_logits": [part.top5_logits for part in parts],
        **{name: [getattr(part, name) for part in parts] for name in _FILES},
    }
    if parts[0].nwc_cams is not None:
        columns["nwc_maps"] = [part.nwc_cams.ravel() for part in parts]
    # safetensors writes memory as it lies, whatever the strides.
    tensors = {name: np.ascontiguousarray(np.concatenate(values)) for name, values in columns.items()}
    header = json.dumps({**_kind("shard"), "manifest_sha256": sha256, "number": number}, sort_keys=True)
    content = safetensors.numpy.save(tensors, metadata={_HEADER: header})
    file = f"{SHARDS}/{number:06d}.safetensors"
    write_whole(store / file, content)
    return Shard(file, hashlib.sha256(content).hexdigest(), len(tensors["classes"]), len(content))


def read_shard(store: Path, shard: Shard, sha256: str, *, nwc: bool) -> list[Records]:
    """The records of a shard of the store whose manifest has that hash: those of one size are one item.

    Args:
        store: The store's folder.
        shard: The shard.
        sha256: The manifest's hash.
        nwc: Whether the manifest says that there are NWC maps.

    Raises:
        DatasetError: The file is missing, cut off, damaged or not of this store; the message says so without its name.
    """
    with _told():
        with open_regular(store / shard.file) as file:
            size = os.fstat(file.fileno()).st_size
            if size != shard.bytes:
                raise DatasetError(f"expected {shard.bytes:,} bytes, found {size:,}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = hashlib.sha256(content).hexdigest()
        if found != shard.sha256:
            raise DatasetError(f"damaged: expected sha256 {shard.sha256}, found {found}")
        with safetensors.safe_open(store / shard.file, framework="numpy") as file:
            owner = json.loads(file.metadata()[_HEADER])["manifest_sha256"]
            if owner != sha256:
                raise DatasetError(f"belongs to another store: expected manifest sha256 {sha256}, found {owner}")
            names = {"maps", "nwc_maps", "image_ids", *_COLUMNS}
            tensors = {name: file.get_tensor(name) for name in file.keys() if name in names}
        image_ids = _checked(tensors, shard.num_maps)
        return _split(image_ids, tensors, nwc)


def read_entries(store: Path, shard: Shard) -> Entries:
    """What a shard keeps beside its maps, in a small part of the time that :func:`read_shard` takes: not verified.

    Raises:
        DatasetError: It cannot be read, which :func:`read_shard` can say more of.
    """
    with _told():
        open_regular(store / shard.file).close()  # safe_open would wait for a FIFO's writer
        with safetensors.safe_open(store / shard.file, framework="numpy") as file:
            present = set(file.keys())
            names = ("image_ids", "classes", "top5_classes", *(_FILES if present.issuperset(_FILES) else ()))
            tensors = {name: file.get_tensor(name) for name in names}
        image_ids = _checked(tensors, shard.num_maps)
        found = [tensors[name] for name in _FILES] if _FILES[0] in tensors else unknown_files(len(image_ids))
        return Entries(image_ids, tensors["classes"], tensors["top5_classes"], *found)


def unlisted_files(store: Path, shards: Sequence[Shard]) -> list[Path]:
    """What a killed writer left: unfinished files, and shards that are not in the index."""
    listed = {store / shard.file for shard in shards}
    return [
        *store.glob(f"*{UNFINISHED}"),
        *(store / SHARDS).glob(f"*{UNFINISHED}"),
        *(path for path in (store / SHARDS).glob("*.safetensors") if path not in listed),
    ]


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with a shard as DatasetError."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError("no such file") from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error}") from error
    except Exception as error:  # whatever a file made by others makes its decoders raise
        raise DatasetError(f"not a shard: {error!r}") from error


def _checked(tensors: dict[str, np.ndarray], num_maps: int) -> tuple[str, ...]:
    """The ids; raises DatasetError unless all columns with a row a map have their dtype and shape."""
    image_ids = tuple(tensors["image_ids"].tobytes().decode().split("\n"))
    if len(image_ids) != num_maps:
        raise DatasetError(f"expected {num_maps:,} maps, found {len(image_ids):,}")
    if 0 < sum(name in tensors for name in _FILES) < len(_FILES):
        raise DatasetError(f"expected all of {', '.join(_FILES)} or none")
    for name, (dtype, shape) in _COLUMNS.items():
        found = tensors.get(name)
        if found is not None and (found.dtype != dtype or found.shape != (num_maps, *shape)):
            raise DatasetError(
                f"{name}: expected {np.dtype(dtype)} {[num_maps, *shape]}, found {found.dtype} {list(found.shape)}"
            )
    return image_ids


def _split(image_ids: tuple[str, ...], tensors: dict[str, np.ndarray], nwc: bool) -> list[Records]:
    """A shard's content, one item for each run of maps of one size; maps are views."""
    sizes = tensors["sizes"]
    if sizes.min() < 1 or sizes.max() > _MAX_SIDE:
        raise DatasetError(f"sizes: expected 1 to {_MAX_SIDE} pixels, found {sizes.min()} to {sizes.max()}")
    ends = np.cumsum(sizes.prod(axis=1, dtype=np.int64))
    names = ("maps", "nwc_maps") if nwc else ("maps",)
    for name in names:
        found = tensors[name]
        if found.dtype not in (np.float32, np.float64) or found.dtype != tensors["maps"].dtype:
            raise DatasetError(f"{name}: expected float32 or float64, found {found.dtype}")
        if found.shape != (ends[-1],):
            raise DatasetError(f"{name}: expected {ends[-1]:,} values, found {list(found.shape)}")
    if _FILES[0] not in tensors:
        tensors = tensors | dict(zip(_FILES, unknown_files(len(image_ids)), strict=True))
    changes = np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)) + 1
    records = []
    for start, stop in pairwise([0, *changes.tolist(), len(image_ids)]):
        place, shape = slice(start, stop), (stop - start, *sizes[start].tolist())
        values = slice(ends[start] - shape[1] * shape[2], ends[stop - 1])
        maps = [tensors[name][values].reshape(shape) for name in names] + [None] * (2 - len(names))
        others = (tensors[name][place] for name in ("classes", "top5_classes", "top5_logits", *_FILES))
        records.append(Records(image_ids[place], *maps, *others))
    return records


def _is_shard(entry: object) -> bool:
    """Whether an entry of the index is as :func:`write_shard` gives it: a file in the store, a hash, two counts."""
    if not isinstance(entry, dict) or entry.keys() != {each.name for each in fields(Shard)}:
        return False
    file, sha256, counts = entry["file"], entry["sha256"], (entry["num_maps"], entry["bytes"])
    return (
        isinstance(file, str)
        and re.fullmatch(rf"{SHARDS}/[0-9]{{6,18}}\.safetensors", file) is not None
        and isinstance(sha256, str)
        and all(type(each) is int and 0 < each < 1 << 63 for each in counts)
    )


def _kind(what: str) -> dict:
    """What a file of the store begins with."""
    return {"format": f"wsolkern CAM store {what}", "version": _VERSION}


def _manifest_content(manifest: Manifest) -> dict:
    return {**_kind(MANIFEST), "manifest": vars(manifest)}


def _index_content(sha256: str, shards: Sequence[Shard]) -> dict:
    return {**_kind(INDEX), "manifest_sha256": sha256, "shards": [vars(each) for each in shards]}


def _sha256(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _seal(content: dict, *, indent: int | None = None) -> bytes:
    """JSON with the hash of all else in it."""
    return (json.dumps({**content, "sha256": _sha256(content)}, indent=indent) + "\n").encode()


def _read_sealed(path: Path, *keys: str) -> dict:
    """What :func:`_seal` made, with those keys, without the hash."""
    expected = _kind(path.name)
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise DatasetError(f"{path}: expected at most {_MAX_BYTES:,} bytes, found more")
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != expected["format"]:
            raise DatasetError(f"{path}: expected a {expected['format']}, found another file")
        found = content.pop("sha256", None)
        sha256 = _sha256(content)
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file; a CAM store has one") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged: expected JSON ({error})") from error
    if found != sha256:
        raise DatasetError(f"{path}: damaged or edited: expected sha256 {sha256}, found {found!r:.100}")
    if content.get("version") != _VERSION:
        raise DatasetError(f"{path}: expected version {_VERSION} of the format, found {content.get('version')!r:.100}")
    if content.keys() != {*expected, *keys}:
        raise DatasetError(f"{path}: expected the keys {', '.join([*expected, *keys])}, found {', '.join(content)}")
    return content

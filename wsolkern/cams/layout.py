"""The files of a CAM store: manifest.json, index.json and shards/000000.safetensors, 000001, ...

In: a manifest, the list of shards, records. Out: files that are whole or not there at all, and what they hold.
Source: the safetensors format; SHA-256 as in FIPS 180-4.

A shard holds, for n maps: ``maps``, all of them one after the other, float32 or float64; ``nwc_maps``, the same, if the
manifest says so; ``sizes`` int32 [n, 2], heights and widths; ``image_ids``, UTF-8 lines; ``classes`` int64 [n];
``top5_classes`` int64 [n, 5]; ``top5_logits`` float32 [n, 5]. Maps of one size lie together. Its header names the
manifest's hash. manifest.json and index.json hold their own SHA-256; index.json also those of manifest and shards.
What is not in the index does not count.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from wsolkern.cams.manifest import Manifest
from wsolkern.cams.records import Records
from wsolkern.errors import DatasetError
from wsolkern.files import UNFINISHED, write_whole

MANIFEST, INDEX, SHARDS = "manifest.json", "index.json", "shards"
_VERSION = 1  # of the layout
_HEADER = "wsolkern"  # the one key of a shard's metadata


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


def read_manifest(store: Path) -> tuple[Manifest, str]:
    """The manifest and its hash.

    Raises:
        DatasetError: The file is missing, damaged, edited or another one; the message names it.
    """
    content = _read_sealed(store / MANIFEST)
    try:
        return Manifest(**content["manifest"]), _sha256(content)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{store / MANIFEST}: {error}") from error


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
    content = _read_sealed(store / INDEX)
    if content["manifest_sha256"] != sha256:
        raise DatasetError(
            f"{store / MANIFEST}: belongs to another store: expected sha256 {content['manifest_sha256']}, "
            f"as {INDEX} says, found {sha256}"
        )
    return tuple(Shard(**each) for each in content["shards"])


def write_index(store: Path, sha256: str, shards: Sequence[Shard]) -> None:
    content = {**_kind(INDEX), "manifest_sha256": sha256, "shards": [vars(each) for each in shards]}
    write_whole(store / INDEX, _seal(content))


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


def read_shard(store: Path, shard: Shard, sha256: str) -> list[Records]:
    """The records of a shard of the store whose manifest has that hash: those of one size are one item.

    Raises:
        DatasetError: The file is missing, cut off, damaged or not of this store; the message says so without its name.
    """
    try:
        with open(store / shard.file, "rb") as file:
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
            records = _split({name: file.get_tensor(name) for name in file.keys()})
    except FileNotFoundError:
        raise DatasetError("no such file") from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error}") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"not a shard: {error!r}") from error
    num_maps = sum(len(each.image_ids) for each in records)
    if num_maps != shard.num_maps:
        raise DatasetError(f"expected {shard.num_maps:,} maps, found {num_maps:,}")
    return records


def unlisted_files(store: Path, shards: Sequence[Shard]) -> list[Path]:
    """What a killed writer left: unfinished files, and shards that are not in the index."""
    listed = {store / shard.file for shard in shards}
    return [
        *store.glob(f"*{UNFINISHED}"),
        *(store / SHARDS).glob(f"*{UNFINISHED}"),
        *(path for path in (store / SHARDS).glob("*.safetensors") if path not in listed),
    ]


def _split(tensors: dict[str, np.ndarray]) -> list[Records]:
    """A shard's content, one item for each run of maps of one size; maps are views."""
    image_ids, sizes = tensors["image_ids"].tobytes().decode().split("\n"), tensors["sizes"]
    ends = np.cumsum(sizes.prod(axis=1, dtype=np.int64))
    changes = np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)) + 1
    records = []
    for start, stop in pairwise([0, *changes.tolist(), len(image_ids)]):
        place, shape = slice(start, stop), (stop - start, *sizes[start].tolist())
        values = slice(ends[start] - shape[1] * shape[2], ends[stop - 1])
        maps = [tensors[name][values].reshape(shape) if name in tensors else None for name in ("maps", "nwc_maps")]
        others = (tensors[name][place] for name in ("classes", "top5_classes", "top5_logits"))
        records.append(Records(tuple(image_ids[place]), *maps, *others))
    return records


def _kind(what: str) -> dict:
    """What a file of the store begins with."""
    return {"format": f"wsolkern CAM store {what}", "version": _VERSION}


def _manifest_content(manifest: Manifest) -> dict:
    return {**_kind(MANIFEST), "manifest": asdict(manifest)}


def _sha256(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _seal(content: dict, *, indent: int | None = None) -> bytes:
    """JSON with the hash of all else in it."""
    return (json.dumps({**content, "sha256": _sha256(content)}, indent=indent) + "\n").encode()


def _read_sealed(path: Path) -> dict:
    """What :func:`_seal` made, without the hash."""
    expected = _kind(path.name)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file; a CAM store has one") from error
    except ValueError as error:
        raise DatasetError(f"{path}: damaged: expected JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != expected["format"]:
        raise DatasetError(f"{path}: expected a {expected['format']}, found another file")
    found = content.pop("sha256", None)
    if found != _sha256(content):
        raise DatasetError(f"{path}: damaged or edited: expected sha256 {_sha256(content)}, found {found}")
    if content["version"] != _VERSION:
        raise DatasetError(f"{path}: expected version {_VERSION} of the format, found {content['version']}")
    return content

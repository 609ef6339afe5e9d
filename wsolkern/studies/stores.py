"""What is done with CAM stores: looked at, checked and repaired, merged, made from folders of maps and back.

In: CAM stores; folders of CAMs or score maps, one file an image. Out: the same, and a value about them.
Source: file names of the folders as in Choe et al.'s evaluation, ``<image id>.npy``.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsolkern import defaults
from wsolkern.cams import CamStore, Manifest, merge_stores, repair_store
from wsolkern.cams.transfer import export_maps, ids_of_files, import_maps
from wsolkern.datasets import load_metadata
from wsolkern.datasets.ids import check_image_ids
from wsolkern.datasets.scaling import UnitRange
from wsolkern.errors import PathError
from wsolkern.normalization import Normalization
from wsolkern.studies.passes import Progress

__all__ = ["StoreInfo", "Transfer", "Verification", "export", "import_folder", "info", "merge", "verify"]


@dataclass(frozen=True)
class StoreInfo:
    """Which run a store holds, and how much of it."""

    store: str
    """Its folder."""
    manifest: Manifest
    num_maps: int
    """Those in damaged shards included."""
    sizes: dict[str, int]
    """Height x width, as in "7x7" -> how many maps have it, the most frequent first."""
    scaled: bool
    """Whether each CAM was scaled to [0, 1] before it was stored."""
    num_shards: int
    bytes: int
    """What the shards take on the disk."""
    damaged: dict[str, str]
    """File of a shard -> what is wrong with it."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of figures of these maps should know."""
        return (f"{self.store}: {UnitRange.NOTE}",) if self.scaled else ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Verification:
    """What all shards of a store are, compared with their checksums."""

    store: str
    """Its folder."""
    num_maps: int
    """Before it was repaired."""
    num_shards: int
    damaged: dict[str, str]
    """File of a shard -> what is wrong with it."""
    num_lost: int
    """Maps in damaged shards."""
    repaired: bool
    """Whether these shards are taken out of the index, so that the next run makes exactly their maps again."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Transfer:
    """What was written from maps that were there."""

    path: str
    """The store, or the folder."""
    num_maps: int
    """What it has now; of a folder: what was written."""
    num_all: int
    """Maps that were asked for."""
    problems: dict[str, str]
    """Image id, or file of a shard -> why it was left out."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return asdict(self)


def info(store: str | os.PathLike[str], *, progress: Progress | None = None) -> StoreInfo:
    """Tells which run a store holds, how many maps of which sizes, and what it takes on the disk.

    Args:
        store: The store; all its shards are read, and so verified.
        progress: Called with "reading", the number of maps read and the number of maps.

    Raises:
        DatasetError: There is no store, or its manifest or index is damaged.
    """
    opened, sizes, spans, done = CamStore(store), Counter[str](), UnitRange(), 0
    tell = _telling(progress, "reading", opened.num_maps)
    for shard, records in opened.contents():
        for part in records:
            sizes["x".join(map(str, part.cams.shape[1:]))] += len(part.cams)
            spans.see(part.cams)
        done += shard.num_maps
        tell(done)
    scaled = opened.manifest.content == "cams" and bool(spans)
    num_bytes = sum(shard.bytes for shard in opened.shards)
    about = os.fspath(store), opened.manifest, opened.num_maps, dict(sizes.most_common())
    return StoreInfo(*about, scaled, len(opened.shards), num_bytes, dict(opened.problems))


def verify(store: str | os.PathLike[str], *, repair: bool = False, progress: Progress | None = None) -> Verification:
    """Reads all shards of a store and compares their checksums.

    Args:
        store: The store.
        repair: Take damaged shards out of the index, so that the next run makes exactly their maps again.
        progress: Called with "reading NAME", the number of maps read and the number of maps.

    Raises:
        DatasetError: There is no store, its manifest or index is damaged, or it has a writer and is to be repaired.
    """
    found = CamStore(store)
    tell = _telling(progress, f"reading {found.path.name}", found.num_maps)
    damaged = repair_store(store, progress=tell) if repair else found.verify(progress=tell)
    num_lost = sum(shard.num_maps for shard in found.shards if shard.file in damaged)
    return Verification(os.fspath(store), found.num_maps, len(found.shards), damaged, num_lost, repair)


def merge(
    out: str | os.PathLike[str], stores: Sequence[str | os.PathLike[str]], *, progress: Progress | None = None
) -> Transfer:
    """Puts the maps of several stores of one run into one; a merge that was interrupted goes on.

    Args:
        out: The store to write; one that is there goes on.
        stores: The stores to read; an image may be in several if its maps are the same to the bit.
        progress: Called with "merging", the number of maps done and the number of maps.

    Raises:
        DatasetError, ValueError: As :func:`wsolkern.cams.merge_stores`.
    """
    num_all = sum(CamStore(path).num_maps for path in stores)
    problems = merge_stores(out, stores, progress=_telling(progress, "merging", num_all))
    return Transfer(os.fspath(out), CamStore(out).num_maps, num_all, problems)


def import_folder(
    folder: str | os.PathLike[str],
    store: str | os.PathLike[str],
    metadata: str | os.PathLike[str] | None = None,
    *,
    score_maps: bool = False,
    dataset: str | None = None,
    split: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
    on_outdated: Callable[[dict[str, str]], object] = lambda old: None,
    progress: Progress | None = None,
) -> Transfer:
    """Makes a store from a folder with one map file an image, or goes on with what it does not have yet.

    Args:
        folder: Maps [h, w]: IMAGE_ID.npy, .npz or .safetensors, the id's own extension kept or left out.
        store: The store to write, outside of the folder.
        metadata: Folder of the split, for image ids and classes; None: the files' names are the ids.
        score_maps: The maps are score maps in [0, 1] of the evaluation size, not CAMs.
        dataset, split, method, backbone: For the manifest.
        on_outdated: Told image id -> why its map is imported again.
        progress: Called with "importing", the number of images done and the number of images.

    Raises:
        ArgumentError: ``metadata`` is needed.
        DatasetError: Folder, metadata and store do not belong together.
        ValueError: No map could be read.
    """
    folder, store = Path(folder), Path(store)
    if metadata is not None:
        truth = load_metadata(metadata, localization=False)
        image_ids, labels = truth.image_ids, truth.class_labels
    else:
        image_ids, labels = ids_of_files(folder), {}
    if CamStore.is_at(folder):
        raise PathError(folder, "is a CAM store already: wsolkern store merge copies it")
    if store.resolve().is_relative_to(folder.resolve()):
        raise PathError(store, f"expected a store outside of {folder}, whose files are taken for maps")
    manifest = Manifest("score maps" if score_maps else "cams", dataset, split, method, backbone)
    try:
        check_image_ids(image_ids)
    except ValueError as error:
        raise PathError(Path(metadata, "image_ids.txt") if metadata else folder, str(error)) from error
    tell, num_all = _telling(progress, "importing", len(image_ids)), len(image_ids)
    problems = import_maps(folder, store, manifest, image_ids, labels, on_outdated=on_outdated, progress=tell)
    num_maps = CamStore(store).num_maps
    if problems and not num_maps:
        first = next(iter(problems))
        raise PathError(folder, f"none of {num_all:,} maps could be read; {first}: {problems[first]}")
    return Transfer(os.fspath(store), num_maps, num_all, problems)


def export(
    store: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    normalization: str | Normalization | None = None,
    *,
    size: tuple[int, int] = defaults.SIZE,
    nwc: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Writes a store as one .npy file an image, over what is there; each file whole or not at all.

    Args:
        store: The store.
        folder: Where the files go, outside of the store.
        normalization: Write score maps, float64 of ``size``, under it: those of the published evaluation, to the bit.
            None: the raw maps as they are stored.
        size: Height and width of score maps, in pixels.
        nwc: Take the NWC maps of a store that has them.
        progress: Called with "exporting", the number of maps written and the number of maps.

    Raises:
        ArgumentError: The store has no NWC maps, or holds score maps, which are normalized already.
        DatasetError: There is no store, or the folder is in it.
        ValueError: There is no such normalization.
        OSError: A file cannot be written.
    """
    opened = CamStore(store)
    if Path(folder).resolve().is_relative_to(opened.path.resolve()):
        raise PathError(folder, f"expected a folder outside of the store {os.fspath(store)}")
    parsed = None if normalization is None else Normalization.parse(normalization)
    tell = _telling(progress, "exporting", opened.num_maps)
    num_maps = export_maps(opened, Path(folder), parsed, size, nwc=nwc, progress=tell)
    return Transfer(os.fspath(folder), num_maps, opened.num_maps, dict(opened.problems))


def _telling(progress: Progress | None, what: str, num_all: int) -> Callable[[int], None]:
    """A callback of the number of maps that are done."""

    def tell(done: int) -> None:
        if progress is not None:
            progress(what, done, num_all)

    return tell

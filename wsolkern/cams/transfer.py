"""Stores from folders of maps, and folders of maps from stores.

In: a folder with one map file an image, or a store. Out: a store, or one .npy file an image.
Source: none.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from wsolkern.cams.extraction import misfits
from wsolkern.cams.manifest import Manifest
from wsolkern.cams.stamps import FileStamp, stamp
from wsolkern.cams.store import CamStore
from wsolkern.cams.writer import CamWriter
from wsolkern.datasets import MapFolder
from wsolkern.datasets.ids import check_image_ids
from wsolkern.errors import ArgumentError
from wsolkern.files import MAP_SUFFIXES, write_whole
from wsolkern.normalization import Normalization
from wsolkern.ops import normalize


def import_maps(
    folder: Path,
    path: Path,
    manifest: Manifest,
    image_ids: Sequence[str],
    labels: Mapping[str, int],
    *,
    on_outdated: Callable[[dict[str, str]], object],
    progress: Callable[[int], object],
) -> dict[str, str]:
    """Makes a store of a folder of maps, or goes on with one.

    Args:
        folder: The maps, as :class:`wsolkern.datasets.MapFolder` reads them.
        path: The store; outside of the folder.
        manifest: What the maps are.
        image_ids: The images.
        labels: Image id -> class, of those that have one.
        on_outdated: Called with image id -> why its map is imported again.
        progress: Called with the number of images that are done.

    Returns:
        Image id -> why it was left out.

    Raises:
        DatasetError: There is no such folder, or the store is for other maps.
    """
    MapFolder(folder, ())  # before the store is made
    files = _map_files(folder, image_ids)
    stamps = {image_id: stamp(file) for image_id, file in files.items()}  # before the maps are read
    problems: dict[str, str] = {}
    with CamWriter(path, manifest) as writer:
        old = misfits(CamStore(path), files, labels)
        on_outdated(old)
        writer.drop(old)
        remaining = [image_id for image_id in image_ids if image_id not in writer.image_ids]
        num_done = len(image_ids) - len(remaining)
        progress(num_done)
        source = MapFolder(folder, remaining, siblings=image_ids)
        for batch, maps in source.batches():
            problems |= _add(writer, batch, maps, labels, stamps)
            num_done += len(batch)
            progress(num_done)
    return problems | source.problems


def export_maps(
    store: CamStore,
    folder: Path,
    normalization: str | Normalization | None = None,
    size: tuple[int, int] = (224, 224),
    *,
    nwc: bool = False,
    progress: Callable[[int], object],
) -> int:
    """Writes a store as one .npy file an image, over what is there; each file whole or not at all.

    Args:
        store: The store; what of it is damaged is left out, and in its ``problems`` afterwards.
        folder: Where the files go.
        normalization: Write score maps, float64 of ``size``, under it; None writes the raw maps as they are stored.
        size: Height and width of score maps, in pixels.
        nwc: Take the NWC maps.
        progress: Called with the number of maps that are written.

    Returns:
        How many maps were written.

    Raises:
        ArgumentError: The store has no NWC maps, or holds score maps, which are normalized already.
        OSError: A file cannot be written.
    """
    if nwc and not store.manifest.nwc:
        raise ArgumentError("nwc", f"{store.path} was made without NWC maps")
    if normalization is not None:
        if store.manifest.content == "score maps":
            raise ArgumentError("normalization", f"{store.path} holds score maps, which are normalized already")
        normalization = Normalization.parse(normalization)
    num_done = 0
    for records in store.records():
        check_image_ids(records.image_ids)
        maps = records.nwc_cams if nwc else records.cams
        if normalization is not None:
            maps = normalize(maps, normalization, size)
        for image_id, each in zip(records.image_ids, maps, strict=True):
            path = folder / f"{image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            file = io.BytesIO()
            np.save(file, each)
            write_whole(path, file.getvalue(), one_of_many=True)
        num_done += len(maps)
        progress(num_done)
    return num_done


def ids_of_files(folder: Path) -> tuple[str, ...]:
    """What the files below a folder are named, without the suffix that says that they are maps."""
    if folder.is_file():
        raise ArgumentError("metadata", f"needed for image ids, because {folder} is one file for all maps")
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix in MAP_SUFFIXES)
    image_ids = tuple(dict.fromkeys(path.with_suffix("").as_posix() for path in paths))
    if not image_ids:
        raise ValueError(f"{folder}: expected files that end in {', '.join(MAP_SUFFIXES)}, found none")
    return image_ids


def _add(
    writer: CamWriter,
    image_ids: tuple[str, ...],
    maps: np.ndarray,
    labels: Mapping[str, int],
    stamps: Mapping[str, FileStamp | None],
) -> dict[str, str]:
    """Adds a batch; if it is refused, one map after the other. Returns why images were left out."""
    classes = [labels.get(image_id, -1) for image_id in image_ids]
    try:
        writer.add(image_ids, maps, classes=classes, files=[stamps.get(image_id) for image_id in image_ids])
        return {}
    except ValueError as error:
        if len(image_ids) == 1:
            return {image_ids[0]: str(error)}
    failed = {}
    for row, image_id in enumerate(image_ids):
        failed |= _add(writer, (image_id,), maps[row : row + 1], labels, stamps)
    return failed


def _map_files(folder: Path, image_ids: Sequence[str]) -> dict[str, Path]:
    """The file that each image's map is in, for those that have one: see :class:`MapFolder`."""
    if folder.is_file():
        return dict.fromkeys(image_ids, folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in MAP_SUFFIXES}
    names = (
        (image_id, f"{name}{suffix}")
        for image_id in image_ids
        for name in dict.fromkeys((image_id, os.path.splitext(image_id)[0]))
        for suffix in MAP_SUFFIXES
    )
    return {image_id: folder / name for image_id, name in names if name in there}

"""Several CAM stores of one run into one, such as those that several processes wrote at the same time.

In: stores with the same manifest. Out: a store with all their maps, each image once.
Source: none.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from wsolkern.cams.store import CamStore
from wsolkern.cams.writer import CamWriter
from wsolkern.errors import DatasetError


def merge_stores(
    out: str | os.PathLike,
    stores: Sequence[str | os.PathLike],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Copies the maps of stores into a store, which is created or gone on with.

    An image may be in several of them if all its maps are the same to the bit and of one class; the first is kept. That
    is checked first: nothing is copied if there are two different maps of an image.

    Args:
        out: The store to write.
        stores: The stores to read, at least one, none of them ``out``; manifests may differ in their versions only.
        progress: Called with the number of maps that are done, now and then.

    Returns:
        Path of a damaged shard of ``stores`` -> what is wrong with it; its maps are left out.

    Raises:
        DatasetError: Manifests or maps of an image differ, or a store cannot be read or written.
    """
    if not stores:
        raise ValueError("stores: expected at least one, found none")
    sources = [CamStore(path) for path in stores]
    for source in sources:
        if source.path.resolve() == Path(out).resolve():
            raise DatasetError(f"{out}: expected another store to write than those to read")
        differs = sources[0].manifest.difference(source.manifest)
        if differs is not None:
            raise DatasetError(f"{source.path}: holds another run than {sources[0].path}: {differs}")
    with CamWriter(out, sources[0].manifest) as writer:
        _check_agreement([CamStore(out), *sources])
        num_done = 0
        for source in sources:
            for records in source.records():
                rows = [row for row, image_id in enumerate(records.image_ids) if image_id not in writer.image_ids]
                if rows:
                    writer.add_records(records.pick(rows))
                num_done += len(records.image_ids)
                if progress is not None:
                    progress(num_done)
    return {str(source.path / file): problem for source in sources for file, problem in source.problems.items()}


def _check_agreement(stores: Sequence[CamStore]) -> None:
    """Raises DatasetError if two stores have different maps of an image."""
    first_in: dict[str, CamStore] = {}
    for store in stores:
        for image_id in store.image_ids:
            first = first_in.setdefault(image_id, store)
            if first is not store and _bits(first, image_id) != _bits(store, image_id):
                raise DatasetError(f"image {image_id!r}: {first.path} and {store.path} hold different maps of it")


def _bits(store: CamStore, image_id: str) -> list:
    """What two stores must agree on: an image's maps, and the class that they are of."""
    record = store.record(image_id)
    maps = [each for each in (record.cams, record.nwc_cams) if each is not None]
    return [int(record.classes[0]), *((each.dtype, each.shape, each.tobytes()) for each in maps)]

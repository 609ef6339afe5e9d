"""From images to a CAM store, in one pass of any classifier.

In: a model, images, classes. Out: CAMs, NWC CAMs and logits in a store, made again where image or class are others
now; why images were left out.
Source: Zhou et al., arXiv 1512.04150 (CAM); Bae et al., ECCV 2020 (NWC).
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wsolkern.cams.activation import Look
from wsolkern.cams.heads import (
    expect_finite,
)
from wsolkern.cams.looks import OwnCams, PooledCams, num_classes_of
from wsolkern.cams.stamps import FileStamp, fits
from wsolkern.cams.store import CamStore
from wsolkern.cams.writer import CamWriter
from wsolkern.datasets.ids import check_distinct, check_image_ids
from wsolkern.datasets.images import ImageBatch, ImageFolder
from wsolkern.datasets.labels import check_labels
from wsolkern.interrupts import interrupts_wait
from wsolkern.ops import backends
from wsolkern.ops.inputs import plain
from wsolkern.stages import stage, timed

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")
_GPU_BATCH = 64  # images a forward pass
_FLUSH_SECONDS = 30  # what a kill may cost at most
_POLL_SECONDS = 0.05  # between two looks for an interrupt
_NUM_STAMPERS = 16  # threads: on a network's disk each image is asked for with a delay
_STAMPS = 32  # images a thread looks at in turn


def extract(
    model: Callable,
    images: ImageFolder,
    writer: CamWriter,
    labels: Mapping[str, int] | None = None,
    *,
    batch_size: int | None = None,
    device: "str | torch.device" = "cpu",
    precision: str = "float32",
    rank: int = 0,
    num_ranks: int = 1,
    skip: Collection[str] = (),
    predicted: CamWriter | None = None,
    skip_predicted: Collection[str] = (),
    with_hash: bool = False,
    label_place: Callable[[str], str] | None = None,
    on_outdated: Callable[[dict[str, str]], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Adds the CAMs of all images that a store does not have yet, or has of another class or an earlier file.

    An image always goes through the network with the same neighbours: the list is cut into batches before anything
    is left out. So a run that was killed and goes on, and several ranks, give the same bits as one run, on the same
    kind of device with the same batch size. On a CPU :class:`PooledCams` and :class:`OwnCams` take one batch a thread,
    so that bits do not depend on the number of cores either.

    Ids and labels are checked before the first forward pass; where only a pass can tell how many classes there are,
    after the first batch and before its CAMs are kept. What the store keeps of the images' files is their size, time of
    modification and, with ``with_hash``, SHA-256: see :func:`outdated`.

    Args:
        model: What :func:`cam_model` gives: PooledCams, OwnCams, or any callable ``model(images, classes)`` with images
            float32 [N, 3, H, W] on ``device`` and classes int64 [N] or None; it returns CAMs [N, h, w] or a Look.
        images: The images.
        writer: The store; what is pending is flushed every half a minute.
        labels: Image id -> class to make the CAM of; None lets the model choose.
        batch_size: Images a forward pass; default: 1 on a CPU (larger ones are no faster there), 64 on a GPU.
        device: Where the model is.
        precision: "float32", or "bfloat16" or "float16" for mixed precision; CAMs are stored as float32 in any case.
        rank: Which share of the batches to do, in [0, num_ranks): every num_ranks-th.
        num_ranks: How many processes share the images.
        skip: Ids that need no CAM, beside those in the store.
        predicted: A second store, for the CAMs of the classes of the largest logits, beside those of the labels, from
            the same forward pass; a function, and a method that needs a pass a class, is called a second time.
        skip_predicted: Ids that need none there.
        with_hash: Keep and compare the SHA-256 of images' files.
        label_place: What the label of an image is called in errors: see :func:`check_labels`.
        on_outdated: Called before the first pass with image id -> why its stored CAM is made again, if there are some.
        progress: Called with how many of this rank's images are done, those that were stored included.

    Returns:
        Image id -> why it was left out.

    Raises:
        ValueError: An id is no path below a folder or there twice, an image has no label or one that the model does not
            know, the model returns something else, or the store is for other maps.
        KeyboardInterrupt: SIGINT or SIGTERM came. It is raised between two batches; what was made is in the writer.
    """
    import torch

    device = torch.device(device)
    batch_size = (1 if device.type == "cpu" else _GPU_BATCH) if batch_size is None else batch_size
    if batch_size < 1 or not 0 <= rank < num_ranks:
        raise ValueError(
            f"batch_size, rank, num_ranks: expected at least 1 image and a rank below the number of ranks, "
            f"found {batch_size}, {rank}, {num_ranks}"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    ids = images.image_ids
    check_image_ids(ids)
    check_distinct(ids)
    if labels is not None:
        num_classes = num_classes_of(model, images.preprocessing.size, device)
        labels = check_labels(labels, ids, num_classes, place=label_place)
    is_checked = labels is None or num_classes is not None
    wanted = [(writer, labels, skip), *([] if predicted is None else [(predicted, None, skip_predicted)])]
    outs = []
    for store, classes_of, skipped in wanted:
        old = outdated(CamStore(store.path), images, classes_of, with_hash=with_hash)
        outs.append(_Out(store, classes_of, old, store.image_ids.union(skipped).difference(old)))
    if on_outdated is not None and (all_old := {name: why for each in outs for name, why in each.old.items()}):
        on_outdated(all_old)

    def drop_old() -> None:
        for each in outs:
            each.writer.drop(each.old)

    if is_checked:
        drop_old()
    mine = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)][rank::num_ranks]
    stored = frozenset.intersection(*(frozenset(each.stored) for each in outs))
    todo = [window for window in mine if not stored.issuperset(window)]
    num_done = sum(map(len, mine)) - sum(map(len, todo))

    def look(replica: Callable, batch: ImageBatch) -> tuple[ImageBatch, list[Look] | None]:
        if not batch.readable.any():
            return batch, None
        names = [each if ok else None for each, ok in zip(batch.image_ids, batch.readable, strict=True)]
        asked = [
            None if each is None else torch.tensor([each[name] for name in batch.image_ids], device=device)
            for each in (out.labels for out in outs)
        ]
        with stage("forward", device) as timer:
            timer.moved(0, len(batch.image_ids))
            with nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision)):
                pixels = torch.from_numpy(batch.images).to(device)
                is_ours = isinstance(replica, PooledCams | OwnCams)
                made = replica.looks(pixels, asked, names) if is_ours else [replica(pixels, each) for each in asked]
        found = [_on_host(each, len(batch.image_ids), classes) for each, classes in zip(made, asked, strict=True)]
        for each in found:
            if not is_ours and each.logits is not None:
                expect_finite(None, torch.from_numpy(each.logits), names)
        return batch, found

    def finish(future: Future) -> None:
        nonlocal num_done, flushed, is_checked
        while not future.done():
            wait([future], _POLL_SECONDS)
            stop_if_interrupted()
        batch, found = future.result()
        if not is_checked and found is not None:
            if found[0].logits is not None:
                check_labels(labels, ids, found[0].logits.shape[1], place=label_place)
            drop_old()
            is_checked = True
        for out, made in zip(outs, found or (), strict=False):
            rows = [row for row, each in enumerate(batch.image_ids) if batch.readable[row] and each not in out.stored]
            if not rows:
                continue
            names = [batch.image_ids[row] for row in rows]
            cams, classes, logits, nwc_cams = (None if each is None else each[rows] for each in made)
            if out.labels is not None:
                _check_classes(names, classes, out.labels)
            files = [FileStamp(*batch.files[row].tolist(), _sha256(batch.hashes[row])) for row in rows]
            out.writer.add(names, cams, nwc_cams=nwc_cams, classes=classes, logits=logits, files=files)
        if time.monotonic() - flushed > _FLUSH_SECONDS:
            for out in outs:
                out.writer.flush()
            flushed = time.monotonic()
        num_done += len(batch.image_ids)
        if progress is not None:
            progress(num_done)
        stop_if_interrupted()

    def stop_if_interrupted() -> None:
        if interrupted():
            raise KeyboardInterrupt

    flushed = time.monotonic()
    pending: deque[Future] = deque()
    with (
        interrupts_wait() as interrupted,
        _workers(model, device, look) as (submit, num_workers),
    ):
        read = images.windows(todo, with_hash=with_hash)
        for batch in timed("read", read, lambda each: (each.images.nbytes, len(each.image_ids))):
            pending.append(submit(batch))
            while len(pending) > (num_workers if is_checked else 0):
                finish(pending.popleft())
        while pending:
            finish(pending.popleft())
    if not is_checked:  # where no image could be read
        drop_old()
    return dict(images.problems)


class _Out(NamedTuple):
    """A store that an extraction writes."""

    writer: CamWriter
    labels: dict[str, int] | None
    """Image id -> class that its CAM is of; None: the class of the largest logit."""
    old: dict[str, str]
    """Image id -> why its stored CAM is made again."""
    stored: set[str]
    """Ids that need no CAM."""


def _sha256(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)


def outdated(
    store: CamStore, images: ImageFolder, labels: Mapping[str, int] | None = None, *, with_hash: bool = False
) -> dict[str, str]:
    """Which stored CAMs no longer fit the images that they were made from, or are of other classes than the labels.

    Args:
        store: The store, whole.
        images: The images that CAMs are wanted of.
        labels: Image id -> class of each of them; None compares no classes.
        with_hash: Compare files by SHA-256 where the store has it, not by size and time only.

    Returns:
        Image id -> why. A file whose time alone differs fits if its SHA-256 was kept and is the same. What the store
        does not know, and a file that is not there now, contradict nothing.
    """
    return misfits(store, {each: images.root / each for each in images.image_ids}, labels, with_hash=with_hash)


def misfits(
    store: CamStore, files: Mapping[str, Path], labels: Mapping[str, int] | None = None, *, with_hash: bool = False
) -> dict[str, str]:
    """As :func:`outdated`, for maps made from any files: image id -> the file that its map would be made from now."""
    found: dict[str, str] = {}

    def changed(kept: list[tuple[str, FileStamp]]) -> list[str]:
        return [image_id for image_id, was in kept if not fits(was, files[image_id], with_hash=with_hash)]

    with _stampers() as pool:
        for _, entries in store.entries():
            kept = []
            for row, image_id in enumerate(entries.image_ids):
                if image_id not in files:
                    continue
                label = -1 if labels is None else labels.get(image_id, -1)
                if min(label, entries.classes[row]) >= 0 and label != entries.classes[row]:
                    found[image_id] = f"is of class {entries.classes[row]}, the label is {label} now"
                elif entries.file_bytes[row] >= 0:
                    sha256 = entries.file_sha256[row].tobytes()
                    size, mtime = int(entries.file_bytes[row]), int(entries.file_mtimes[row])
                    kept.append((image_id, FileStamp(size, mtime, sha256 if any(sha256) else None)))
            parts = [kept[start : start + _STAMPS] for start in range(0, len(kept), _STAMPS)]
            for image_id in chain.from_iterable(pool.map(changed, parts)):
                found[image_id] = "was made from another file than is there now"
    return found


@contextmanager
def _workers(
    model: Callable, device: "torch.device", look: Callable
) -> Iterator[tuple[Callable[[ImageBatch], Future], int]]:
    """Threads that look at batches: one a core on a CPU if the model has replicas, else one in all."""
    import torch

    replicas: queue.SimpleQueue = queue.SimpleQueue()
    spread = device.type == "cpu" and hasattr(model, "replicate")
    num_workers = backends.num_threads() if spread else 1
    replicas.put(model)
    for _ in range(num_workers - 1):
        replicas.put(model.replicate())

    def work(batch: ImageBatch):
        replica = replicas.get()
        try:
            return look(replica, batch)
        finally:
            replicas.put(replica)

    num_threads = torch.get_num_threads()
    used = 1 if spread else num_threads
    torch.set_num_threads(used)
    pool = ThreadPoolExecutor(num_workers, "wsolkern-cams", torch.set_num_threads, (used,))
    try:
        yield lambda batch: pool.submit(work, batch), num_workers
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


def _stampers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_NUM_STAMPERS, "wsolkern-stamps")


def _check_classes(image_ids: list[str], classes: np.ndarray, labels: Mapping[str, int]) -> None:
    """Raises ValueError if CAMs that should be of the labels are of other classes."""
    for image_id, found in zip(image_ids, classes.tolist(), strict=True):
        if found not in (-1, labels[image_id]):
            raise ValueError(
                f"model: image {image_id!r}: expected the CAM of its label {labels[image_id]}, found one of class "
                f"{found}: a model that chooses classes itself takes labels=None (--classes predicted)"
            )


def _on_host(found, num_images: int, classes: "torch.Tensor | None") -> Look:
    """What a model returned, checked, as arrays' copies on the host; floats of less than 32 bits as float32.

    ``classes`` is what the model was asked for; CAMs that come without classes are of these.

    Raises:
        ValueError: It is neither CAMs nor a Look.
    """
    import torch

    found = Look(*(plain(each, "model") for each in (found if isinstance(found, Look) else [found])))
    try:
        found = Look(*(torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in found))
    except TypeError as error:
        raise ValueError(f"model: expected numbers: {error}") from error
    cams = found.cams
    if not torch.is_tensor(cams) or cams.ndim != 3 or len(cams) != num_images or not cams.is_floating_point():
        shape = f"{cams.dtype} {list(cams.shape)}" if torch.is_tensor(cams) else type(cams).__name__
        raise ValueError(f"model: expected CAMs, float [{num_images}, h, w], found {shape}")
    found = found._replace(classes=classes if found.classes is None else found.classes)
    for name, ndim in (("classes", 1), ("logits", 2), ("nwc_cams", 3)):
        value = getattr(found, name)
        if value is not None and not (torch.is_tensor(value) and value.ndim == ndim and len(value) == num_images):
            shape = f"{list(value.shape)}" if torch.is_tensor(value) else type(value).__name__
            raise ValueError(f"model: {name}: expected {ndim} axes, the first of {num_images} images, found {shape}")

    def copied(values):
        if values is None:
            return None
        values = values.detach().cpu()
        return (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).numpy()

    return Look(*map(copied, found))

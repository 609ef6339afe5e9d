"""From images to a CAM store, in one pass of any classifier.

In: a model, images, classes. Out: CAMs, NWC CAMs and logits in a store; why images were left out.
Source: Zhou et al., arXiv 1512.04150 (CAM); Kim et al., arXiv 2107.13221, table 2 (NWC).
"""

import copy
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from wsolkern.cams.activation import Look, class_activation_maps
from wsolkern.cams.heads import Place, find_head, head_weights, logits_of, pooled, record
from wsolkern.cams.writer import CamWriter
from wsolkern.datasets.images import ImageBatch, ImageFolder
from wsolkern.ops import backends
from wsolkern.ops.inputs import plain
from wsolkern.profiling import stage, timed

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")
_GPU_BATCH = 64  # images a forward pass
_FLUSH_SECONDS = 30  # what a kill may cost at most


class PooledCams:
    """CAMs of a classifier that ends in global average pooling and a linear layer, or a 1x1 convolution and pooling.

    Calling it with images float [N, 3, H, W] and classes int64 [N], or None for those of the largest logits, gives a
    :class:`Look`. A CAM's mean plus the class's bias is the class's logit.

    Args:
        model: Put into evaluation mode; see :func:`wsolkern.cams.heads.find_head` for which models will do.
        size: Height and width of the images it is tried on, in pixels.
        features: Path of the module whose output is pooled, such as "layer4"; None finds it.
        head: Path of the linear layer or 1x1 convolution, such as "fc"; None finds it.
        nwc: Make NWC CAMs as well.

    Raises:
        ValueError: The model has no such parts, or those named do not belong together.

    Source: Zhou et al., arXiv 1512.04150, equation 2.
    """

    def __init__(
        self,
        model: "torch.nn.Module",
        size: tuple[int, int] = (224, 224),
        *,
        features: str | None = None,
        head: str | None = None,
        nwc: bool = False,
    ):
        import torch

        self.model = model.eval()
        self.nwc = nwc
        parameter = next(chain(model.parameters(), model.buffers()), torch.empty(0))
        probe = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(0))
        self.features: Place
        """What is pooled."""
        self.head: str
        """The path of the head."""
        self.features, self.head = find_head(model, probe.to(parameter.device), features=features, head=head)

    def __call__(self, images: "torch.Tensor", classes: "torch.Tensor | None" = None) -> Look:
        import torch

        with torch.inference_mode():
            with record(self.model, [self.features, Place(self.head)]) as seen:
                self.model(images)
            weights, _ = head_weights(self.model.get_submodule(self.head))
            # Also where the network itself computes in mixed precision.
            with torch.autocast(images.device.type, enabled=False):
                features, logits = seen[self.features].to(weights.dtype), pooled(seen[Place(self.head)])
                classes = logits.argmax(1) if classes is None else classes
                cams = class_activation_maps(features, weights, classes)
                nwc_cams = class_activation_maps(features, weights, classes, nwc=True) if self.nwc else None
        return Look(cams, classes, logits, nwc_cams)

    def replicate(self) -> "PooledCams":
        """Another one for another thread, with the same weights in memory."""
        return _replicate(self)


class OwnCams:
    """CAMs of a model that makes them itself, by ``forward(images, labels, return_cam=True)``, as the field's do.

    It is called as :class:`PooledCams` is. A model with a method ``look(images, labels, nwc)`` that gives a
    :class:`Look`, as those of :mod:`wsolkern.models` have, needs one forward pass. Any other needs a second one without
    ``return_cam`` for the logits, and with ``nwc`` a third one with ``nwc=True``.

    Args:
        model: Put into evaluation mode.
        nwc: Make NWC CAMs as well.
    """

    def __init__(self, model: "torch.nn.Module", *, nwc: bool = False):
        self.model = model.eval()
        self.nwc = nwc

    def __call__(self, images: "torch.Tensor", classes: "torch.Tensor | None" = None) -> Look:
        import torch

        with torch.inference_mode():
            if hasattr(self.model, "look"):
                return self.model.look(images, classes, nwc=self.nwc)
            logits = logits_of(self.model(images))
            classes = logits.argmax(1) if classes is None else classes
            cams = self.model(images, classes, return_cam=True)
            nwc_cams = self.model(images, classes, return_cam=True, nwc=True) if self.nwc else None
            return Look(cams, classes, logits, nwc_cams)

    def replicate(self) -> "OwnCams":
        """Another one for another thread, with the same weights in memory."""
        return _replicate(self)


def cam_model(
    model: Callable,
    size: tuple[int, int] = (224, 224),
    *,
    features: str | None = None,
    head: str | None = None,
    nwc: bool = False,
) -> Callable:
    """What :func:`extract` takes, for a model of any kind.

    Args:
        model: A torch.nn.Module, or any other callable ``model(images, classes)`` that returns CAMs [N, h, w] or a
            :class:`Look`; that is returned as it is.
        size, features, head, nwc: As for :class:`PooledCams`. A Module that makes its CAMs itself becomes
            :class:`OwnCams` if neither features nor head are named.

    Raises:
        ValueError: The model has no CAMs that can be found, or none of NWC.
    """
    import torch

    named = features is not None or head is not None
    if not isinstance(model, torch.nn.Module):
        if not callable(model):
            raise ValueError(f"model: expected a torch.nn.Module or a function, found {type(model).__name__}")
        if named or nwc:
            raise ValueError("features, head, nwc: expected none of them for a function that makes CAMs itself")
        return model
    parameters = signature(model.forward).parameters
    if "return_cam" in parameters and not named:
        if nwc and "nwc" not in parameters:
            raise ValueError(
                f"nwc: {type(model).__name__} makes its CAMs itself: name features and head to make NWC CAMs from"
            )
        return OwnCams(model, nwc=nwc)
    return PooledCams(model, size, features=features, head=head, nwc=nwc)


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
    progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Adds the CAMs of all images that a store does not have yet.

    An image always goes through the network with the same neighbours: the list is cut into batches before anything
    is left out. So a run that was killed and goes on, and several ranks, give the same bits as one run, on the same
    kind of device with the same batch size. On a CPU :class:`PooledCams` and :class:`OwnCams` take one batch a thread,
    so that bits do not depend on the number of cores either.

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
        progress: Called with how many of this rank's images are done, those that were stored included.

    Returns:
        Image id -> why it was left out.

    Raises:
        ValueError: An image has no label, the model returns something else, or the store is for other maps.
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
    if labels is not None and (unlabelled := next((each for each in ids if each not in labels), None)) is not None:
        raise ValueError(f"labels: image {unlabelled!r} has none")
    mine = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)][rank::num_ranks]
    stored = writer.image_ids.union(skip)
    todo = [window for window in mine if not stored.issuperset(window)]
    num_done = sum(map(len, mine)) - sum(map(len, todo))

    def look(replica: Callable, batch: ImageBatch) -> tuple[ImageBatch, Look | None]:
        if not batch.readable.any():
            return batch, None
        classes = None if labels is None else torch.tensor([labels[each] for each in batch.image_ids], device=device)
        with stage("forward", device) as timer:
            timer.moved(0, len(batch.image_ids))
            with nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision)):
                found = replica(torch.from_numpy(batch.images).to(device), classes)
        return batch, _on_host(found, len(batch.image_ids))

    def finish(future: Future) -> None:
        nonlocal num_done, flushed
        batch, found = future.result()
        rows = [row for row, each in enumerate(batch.image_ids) if batch.readable[row] and each not in stored]
        if rows:
            cams, classes, logits, nwc_cams = (None if each is None else each[rows] for each in found)
            names = [batch.image_ids[row] for row in rows]
            writer.add(names, cams, nwc_cams=nwc_cams, classes=classes, logits=logits)
        if time.monotonic() - flushed > _FLUSH_SECONDS:
            writer.flush()
            flushed = time.monotonic()
        num_done += len(batch.image_ids)
        if progress is not None:
            progress(num_done)

    flushed = time.monotonic()
    pending: deque[Future] = deque()
    with _workers(model, device, look) as (submit, num_workers):
        for batch in timed("read", images.windows(todo), lambda each: (each.images.nbytes, len(each.image_ids))):
            pending.append(submit(batch))
            if len(pending) > num_workers:
                finish(pending.popleft())
        while pending:
            finish(pending.popleft())
    return dict(images.problems)


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


def _on_host(found, num_images: int) -> Look:
    """What a model returned, checked, as arrays' copies on the host; CAMs of less than 32 bits as float32.

    Raises:
        ValueError: It is neither CAMs nor a Look.
    """
    import torch

    found = Look(*(plain(each, "model") for each in (found if isinstance(found, Look) else [found])))
    cams = found.cams
    if isinstance(cams, np.ndarray):
        cams = torch.from_numpy(cams)
    if not torch.is_tensor(cams) or cams.ndim != 3 or len(cams) != num_images or not cams.is_floating_point():
        shape = f"{cams.dtype} {list(cams.shape)}" if torch.is_tensor(cams) else type(cams).__name__
        raise ValueError(f"model: expected CAMs, float [{num_images}, h, w], found {shape}")

    def copied(values):
        if values is None:
            return None
        values = values.detach().cpu()
        return (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).numpy()

    return Look(*map(copied, found._replace(cams=cams)))


def _replicate(cams):
    """A copy whose model shares all parameters and buffers with the original's.

    Raises:
        ValueError: The model cannot be copied.
    """
    tensors = chain(cams.model.parameters(), cams.model.buffers())
    try:
        return copy.deepcopy(cams, {id(each): each for each in tensors})
    except Exception as error:  # whatever a model's attributes make deepcopy raise
        raise ValueError(
            f"model: {type(cams.model).__name__} cannot be copied for a second thread ({error}): "
            "set WSOLKERN_NUM_THREADS=1 to use it in one"
        ) from error

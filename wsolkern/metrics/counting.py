"""Whole splits into an Evaluator: batch after batch, resumable, with a list of what had to be left out.

In: a source of maps (a folder or a CAM store), the split's ground truth. Out: counts, image id -> why it is missing.
Source: none; a source is anything with ``image_ids``, ``problems`` and ``batches(size)``, as
:class:`wsolkern.datasets.MapFolder` and :meth:`wsolkern.cams.CamStore.source` are.
"""

import base64
import hashlib
import io
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsolkern.datasets import Metadata, load_mask
from wsolkern.files import write_whole
from wsolkern.interrupts import interrupts_raise, unbroken
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.normalization import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.profiling import stage, timed

if TYPE_CHECKING:
    import torch

    from wsolkern.datasets import MapFolder

_STATE = {"content": "wsolkern counts of a split", "version": 2}


def evaluator_for(
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None",
    *,
    mask_root: str | os.PathLike | None = None,
    size: tuple[int, int] = (224, 224),
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = (0.3, 0.5, 0.7),
) -> Evaluator:
    """An empty evaluator for a split, with its boxes or its masks.

    Args:
        split: The split.
        normalizations: What to normalize with, ranges expanded; None to be fed score maps.
        mask_root: Folder that the split's mask paths start from; for masks only.
        size, thresholds, iou_thresholds: As for :class:`Evaluator`.

    Raises:
        ValueError: A mask root is missing, or given for boxes; else as :class:`Evaluator`.
    """
    how = {"thresholds": thresholds, "iou_thresholds": iou_thresholds, "size": size}
    if split.kind == "boxes":
        if mask_root is not None:
            raise ValueError(f"mask_root: {split.folder} localizes objects with boxes, it names no masks")
        return Evaluator(normalizations, boxes=split.resized_boxes(size), **how)
    if mask_root is None:
        raise ValueError(f"mask_root: needed, because {split.folder} localizes objects with masks")

    def mask(image_id: str) -> np.ndarray:
        return load_mask(mask_root, split.mask_paths[image_id], split.ignore_paths[image_id], size)

    return Evaluator(normalizations, masks=mask, **how)


def count_maps(
    evaluator: Evaluator,
    source: "MapFolder",
    *,
    batch_size: int = 64,
    device: "torch.device | None" = None,
    on_batch: Callable[[tuple[str, ...], np.ndarray], None] | None = None,
) -> dict[str, str]:
    """Feeds all maps of a source to an evaluator.

    A batch that the evaluator refuses is counted one map after the other, so that one bad map costs no other.

    Args:
        evaluator: What counts.
        source: What gives the maps.
        batch_size: Most maps of a batch.
        device: Where the maps are copied to before they are counted; None leaves them as they are read.
        on_batch: Called with the ids and maps [N, h, w] of what was just counted.

    Returns:
        Image id -> why it was left out: the source's problems and the evaluator's.
    """
    failed: dict[str, str] = {}

    def count(image_ids: tuple[str, ...], maps: np.ndarray) -> None:
        try:
            evaluator.update(maps, image_ids)
        except ValueError as error:
            if len(image_ids) == 1:
                failed[image_ids[0]] = re.sub(r"^image '.*?': ", "", str(error))
                return
            for index, image_id in enumerate(image_ids):
                count((image_id,), maps[index : index + 1])
        else:
            if on_batch is not None:
                on_batch(image_ids, maps)

    for image_ids, maps in timed("read", source.batches(batch_size), lambda batch: (batch[1].nbytes, len(batch[1]))):
        if device is not None:
            import torch

            with stage("read", device) as timer:
                timer.moved(maps.nbytes, len(maps))
                maps = torch.from_numpy(maps).to(device)
        with unbroken():
            count(image_ids, maps)
    return source.problems | failed


class SplitCount:
    """The counting of one split, which can stop at any moment and go on later from a file.

    A killed process loses what it counted since the last save; an interrupted one (SIGINT, SIGTERM) loses nothing:
    :meth:`run` finishes the batch that it is counting, if there is one, and raises KeyboardInterrupt, and :meth:`save`
    keeps the rest.

    Args:
        evaluator: What counts; empty, or with the counts of a state of its own.
        image_ids: The images of the split, distinct.
        job: What is counted, from :func:`fingerprint`; a state of another job is refused.
    """

    def __init__(self, evaluator: Evaluator, image_ids: Sequence[str], job: str):
        self.evaluator = evaluator
        self.job = job
        self._image_ids = tuple(image_ids)
        self._places = {image_id: place for place, image_id in enumerate(self._image_ids)}
        self._counted = np.zeros(len(self._image_ids), bool)

    @property
    def remaining(self) -> tuple[str, ...]:
        """The images that are not counted yet, in the split's order: what a source must give."""
        return tuple(self._image_ids[place] for place in np.flatnonzero(~self._counted))

    def run(
        self,
        source: "MapFolder",
        *,
        state: str | os.PathLike | None = None,
        save_seconds: float = 10.0,
        batch_size: int = 64,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, str]:
        """Counts what the source gives.

        Args:
            source: Gives maps of ``remaining``, all or some.
            state: File to save to every ``save_seconds`` seconds and at the end.
            save_seconds: See there.
            batch_size: Most maps of a batch.
            progress: Called with the number of images that are done, those left out included.

        Returns:
            Image id -> why it was left out.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; all that was counted until then is in ``evaluator``.
        """
        saved = time.monotonic()
        with interrupts_raise():

            def on_batch(image_ids: tuple[str, ...], maps: np.ndarray) -> None:
                nonlocal saved
                self._counted[[self._places[image_id] for image_id in image_ids]] = True
                if progress is not None:
                    progress(self.evaluator.num_images + len(source.problems))
                if state is not None and time.monotonic() - saved >= save_seconds:
                    self.save(state)
                    saved = time.monotonic()

            problems = count_maps(self.evaluator, source, batch_size=batch_size, on_batch=on_batch)
            if state is not None:
                self.save(state)
        return problems

    def save(self, path: str | os.PathLike) -> None:
        """Writes the counts, and of which images they are, as one file, whole or not at all."""
        counted = base64.b64encode(np.packbits(self._counted)).decode()
        progress = {**_STATE, "job": self.job, "counted": counted}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("progress.json", json.dumps(progress))
            archive.writestr("counts.safetensors", self.evaluator.to_bytes())
        write_whole(path, content.getvalue())

    def load(self, path: str | os.PathLike) -> None:
        """Takes over what :meth:`save` wrote.

        Raises:
            FileNotFoundError: No such file.
            ValueError: Not such a file, a damaged one, or one about other maps, ground truth or settings.
        """
        advice = "delete the file to start anew"
        try:
            with zipfile.ZipFile(path) as archive:
                progress = json.loads(archive.read("progress.json"))
                if {name: progress.get(name) for name in _STATE} != _STATE:
                    raise ValueError(f"expected {_STATE}")
                loaded = Evaluator.from_bytes(archive.read("counts.safetensors"))
                packed = np.frombuffer(base64.b64decode(progress["counted"]), np.uint8)
        except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: expected saved counts of a split, found another file ({error})") from error
        if progress["job"] != self.job:
            raise ValueError(f"{path}: it counts other maps, other metadata or other masks; {advice}")
        counted = np.unpackbits(packed, count=len(self._image_ids)).astype(bool)
        if counted.sum() != loaded.num_images:
            raise ValueError(f"{path}: expected counts of {counted.sum()} images, found {loaded.num_images}; {advice}")
        try:
            self.evaluator.merge(loaded)
        except ValueError as error:
            raise ValueError(f"{path}: {str(error).removeprefix('other: ')}; {advice}") from error
        self._counted = counted


def fingerprint(split: Metadata, mask_root: str | os.PathLike | None, maps: object) -> str:
    """What a saved state is about: these maps against this ground truth. Settings are in the counts themselves.

    Args:
        split: The ground truth.
        mask_root: Folder of its masks, or None.
        maps: What tells the maps from others, as JSON can hold it: their folder, a store's manifest.

    Returns:
        64 hexadecimal digits.
    """
    truth = {image_id: boxes.tolist() for image_id, boxes in split.boxes.items()} or [
        split.mask_paths,
        split.ignore_paths,
        str(Path(mask_root).resolve()) if mask_root else None,
    ]
    content = [maps, split.image_ids, split.image_sizes, truth]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

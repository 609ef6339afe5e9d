"""Whole splits into an Evaluator: batch after batch, resumable, with a list of what had to be left out.

In: a source of maps (a folder or a CAM store), the split's ground truth. Out: counts, image id -> why it is missing.
Source: none; a source is anything with ``image_ids``, ``problems`` and ``batches(size)``, as
:class:`wsolkern.datasets.MapFolder` and :meth:`wsolkern.cams.CamStore.source` are. Of one with ``stamps`` and
``changed``, as these have them, a saved state knows what it counted.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.cams import Ranks
from wsolkern.datasets import MaskFolder, Metadata
from wsolkern.errors import ArgumentError, ImageError, MapError
from wsolkern.files import read_regular, stamp, write_whole
from wsolkern.interrupts import interrupts_raise, unbroken
from wsolkern.metrics import sealed
from wsolkern.metrics.classification import stored_top_k
from wsolkern.metrics.evaluator import Evaluator
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.ops.backends import num_threads
from wsolkern.stages import stage, timed

if TYPE_CHECKING:
    import torch

MAX_COUNT_BYTES = 2 << 30
_STATE = {"content": "wsolkern counts of a split", "version": 3}
_ADVICE = "delete the file to start anew"
_NUM_LISTED = 3  # images that one message names


def evaluator_for(
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None",
    *,
    mask_root: str | os.PathLike[str] | None = None,
    size: tuple[int, int] = (224, 224),
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = (0.3, 0.5, 0.7),
    box_rule: str | BoxRule = "choe",
) -> Evaluator:
    """An empty evaluator for a split, with its boxes or its masks.

    Args:
        split: The split.
        normalizations: What to normalize with, ranges expanded; None to be fed score maps.
        mask_root: Folder that the split's mask paths start from; for masks only.
        size, thresholds, iou_thresholds, box_rule: As for :class:`Evaluator`.

    Raises:
        ArgumentError: A mask root is missing, or given for boxes; a box rule is unknown, or given for masks; the counts
            of so many settings need more than MAX_COUNT_BYTES of memory; else as :class:`Evaluator`.
    """
    if normalizations is not None:
        normalizations = parse_all(normalizations)
        num_bytes = 16 * len(normalizations) * len(thresholds) * len(iou_thresholds)
        if num_bytes > MAX_COUNT_BYTES:
            raise ArgumentError(
                ("normalizations", "thresholds", "iou_thresholds"),
                f"{len(normalizations):,} x {len(thresholds):,} x {len(iou_thresholds):,} counts need "
                f"{num_bytes / 2**30:,.1f} GiB of memory, expected at most {MAX_COUNT_BYTES / 2**30:g}: take fewer",
            )
    rule = BoxRule.parse(box_rule)
    if rule != CHOE and split.kind != "boxes":
        raise ArgumentError(
            "box_rule", f"{split.folder} localizes objects with masks, there are no boxes, found {rule}"
        )
    how: dict[str, Any] = {"thresholds": thresholds, "iou_thresholds": iou_thresholds, "size": size, "box_rule": rule}
    if split.kind == "boxes":
        if mask_root is not None:
            raise ArgumentError("mask_root", f"{split.folder} localizes objects with boxes, it names no masks")
        return Evaluator(normalizations, boxes=split.resized_boxes(size), **how)
    if mask_root is None:
        raise ArgumentError("mask_root", f"needed, because {split.folder} localizes objects with masks")
    return Evaluator(normalizations, masks=MaskFolder(mask_root, split.mask_paths, split.ignore_paths, size), **how)


def count_maps(
    evaluator: "Taker",
    source: "Source",
    *,
    batch_size: int = 64,
    device: "torch.device | None" = None,
    on_batch: "Callable[[tuple[str, ...], np.ndarray | torch.Tensor], None] | None" = None,
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

    Raises:
        ValueError: WSOLKERN_NUM_THREADS is not as :func:`wsolkern.ops.backends.num_threads` expects it.
    """
    num_threads()  # what is wrong for all maps is said once
    failed: dict[str, str] = {}

    def count(image_ids: tuple[str, ...], maps: "np.ndarray | torch.Tensor") -> None:
        try:
            evaluator.update(maps, image_ids)
        except ValueError as error:
            if len(image_ids) == 1:
                failed[image_ids[0]] = error.reason if isinstance(error, ImageError) else str(error)
                return
            for index, image_id in enumerate(image_ids):
                count((image_id,), maps[index : index + 1])
        else:
            if on_batch is not None:
                on_batch(image_ids, maps)

    for image_ids, maps in timed("read", source.batches(batch_size), lambda batch: (batch[1].nbytes, len(batch[1]))):
        there = maps if device is None else moved(maps, device)
        with unbroken():
            count(image_ids, there)
    return source.problems | failed


def moved(maps: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """The maps on a device."""
    import torch

    with stage("read", device) as timer:
        timer.moved(maps.nbytes, len(maps))
        return torch.from_numpy(maps).to(device)


class Source(Protocol):
    """What gives the maps of some images."""

    problems: dict[str, str]
    """Image id -> why it has no map; complete after the last batch."""

    def batches(self, size: int) -> "Iterable[tuple[tuple[str, ...], np.ndarray]]":
        """Ids and maps [N, h, w], at most ``size`` at a time."""


class Taker(Protocol):
    """What takes maps."""

    def update(self, cams: object, image_ids: Sequence[str]) -> None:
        """Counts a batch, or raises ValueError and counts nothing of it."""


class Counter(Taker, Protocol):
    """What counts maps, and can say what it has at one moment; as :class:`Evaluator`."""

    @property
    def num_images(self) -> int:
        """Images that were counted."""

    def moment(self) -> object:
        """What there is now; later updates do not change it."""

    def to_bytes(self, moment: Any = None) -> bytes:
        """What there was at a moment, or is now, as the content of a file."""

    def take_over(self, content: bytes, num_images: int) -> None:
        """Adds what :meth:`to_bytes` gave of so many images, or raises ValueError and adds nothing."""


class SharedCounter(Counter, Protocol):
    """A counter of a study that several processes may share, as :class:`Evaluator`."""

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """As there, from the state ``path`` of another process; None: from this one's own."""

    def merge_over(self, ranks: Ranks) -> None:
        """Gives the counter of the first process, at least, what those of all counted."""


class SplitCount:
    """The counting of one split, which can stop at any moment and go on later from a file.

    A killed process loses what it counted since the last save; an interrupted one (SIGINT, SIGTERM) loses nothing:
    :meth:`run` finishes the batch that it is counting, if there is one, and raises KeyboardInterrupt, and :meth:`save`
    keeps the rest.

    Args:
        evaluator: What counts; empty, or with the counts of a state of its own.
        image_ids: The images of the split, distinct.
        job: What is counted, from :func:`fingerprint`; a state of another job is refused.
        mask_files: The files that an image's mask is read from, by image id, from :func:`mask_files_of`; None: no masks
            are read.
        labels: The images' classes: each image is counted with whether its class is among the logits that the source
            keeps, of which :meth:`CamSource.top5` tells; None: without.
    """

    def __init__(
        self,
        evaluator: Counter,
        image_ids: Sequence[str],
        job: str,
        *,
        mask_files: Callable[[str], Iterable[Path]] | None = None,
        labels: Mapping[str, int] | None = None,
    ):
        self.evaluator = evaluator
        self.job = job
        self.labels = labels
        self.image_ids = tuple(image_ids)
        """The images of the split."""
        self._places = {image_id: place for place, image_id in enumerate(self.image_ids)}
        self._mask_files = mask_files
        self._source: Source | None = None
        self._path: str | os.PathLike[str] | None = None  # of the state that was taken over
        # What the maps and masks that were counted were read from, uint64 [N]; 0 where that is not known.
        self._stamps = {name: np.zeros(len(self.image_ids), np.uint64) for name in ("maps", "masks")}
        self._is_counted = np.zeros(len(self.image_ids), bool)
        self._order = np.empty(len(self.image_ids), np.int64)  # places of the images in the order they were counted in
        # Counts, and how many entries of the order are in them: one value, so that a save is always of one moment.
        self._done = evaluator.moment(), 0
        self._num_elsewhere = 0  # images that other processes counted, and that are not in the state of this one
        self._updating = threading.Lock()

    @property
    def remaining(self) -> tuple[str, ...]:
        """The images that are not counted yet, in the split's order: what a source must give."""
        return tuple(self.image_ids[place] for place in np.flatnonzero(~self._is_counted))

    @property
    def num_all(self) -> int:
        """How many images the split has."""
        return len(self.image_ids)

    @property
    def num_counted(self) -> int:
        """How many of them are counted, by all processes that were merged."""
        return self._done[1] + self._num_elsewhere

    def begin(self, source: Source) -> None:
        """Takes a source, whose maps :meth:`run` will count.

        Raises:
            ValueError: Maps or masks that the state of :meth:`load` counted have changed since.
        """
        self._source = source
        self._expect_unchanged()

    def run(
        self,
        source: Source,
        *,
        state: str | os.PathLike[str] | None = None,
        save_seconds: float = 10.0,
        batch_size: int = 64,
        device: "torch.device | None" = None,
        progress: Callable[[int], None] | None = None,
        on_save_error: Callable[[OSError], object] | None = None,
    ) -> dict[str, str]:
        """Counts what the source gives.

        Args:
            source: Gives maps of ``remaining``, all or some.
            state: File to save to every ``save_seconds`` seconds and at the end.
            save_seconds: See there.
            batch_size: Most maps of a batch.
            device: As for :func:`count_maps`.
            progress: Called with the number of images that are done, those left out included.
            on_save_error: Called with what keeps ``state`` from being written, and the counting goes on; without it
                that is raised.

        Returns:
            Image id -> why it was left out.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; all that was counted until then is in ``evaluator``.
            ValueError: Maps or masks that the state of :meth:`load` counted have changed since; nothing is counted.
        """
        if self._source is not source:
            self.begin(source)
        saved = time.monotonic()

        def save() -> None:
            if state is None:
                return
            try:
                self.save(state)
            except OSError as error:
                if on_save_error is None:
                    raise
                on_save_error(error)

        with interrupts_raise():

            def on_batch(image_ids: tuple[str, ...], maps: "np.ndarray | torch.Tensor") -> None:
                nonlocal saved
                if progress is not None:
                    progress(self.evaluator.num_images + len(source.problems))
                if state is not None and time.monotonic() - saved >= save_seconds:
                    save()
                    saved = time.monotonic()

            problems = count_maps(self, source, batch_size=batch_size, device=device, on_batch=on_batch)
            if state is not None:
                save()
        return problems

    def update(self, cams: object, image_ids: Sequence[str]) -> None:
        """Counts a batch, as :meth:`Evaluator.update` does; an image that is counted already is refused, too."""
        for image_id in image_ids:
            if image_id not in self._places:
                raise ImageError(image_id, f"expected one of {len(self._places)} images, found another one")
        places = [self._places[image_id] for image_id in image_ids]
        stamps = {}
        stamps_of = getattr(self._source, "stamps", None)
        if stamps_of is not None:
            stamps["maps"] = stamps_of(image_ids)
        if self._mask_files is not None:  # before the masks are read
            stamps["masks"] = [stamp(self._mask_files(image_id)) for image_id in image_ids]
        with self._updating:
            twice = np.flatnonzero(self._is_counted[places])
            if len(twice):
                raise ImageError(image_ids[twice[0]], "expected it once, found it a second time")
            self._count(cams, image_ids)
            for name, values in stamps.items():
                self._stamps[name][places] = values
            self._is_counted[places] = True
            start, stop = self._done[1], self._done[1] + len(places)
            self._order[start:stop] = places
            self._done = self.evaluator.moment(), stop

    def _count(self, cams: object, image_ids: Sequence[str]) -> None:
        if self.labels is None:
            return self.evaluator.update(cams, image_ids)
        source: Any = self._source
        try:
            classes, logits = source.top5(image_ids)
            correct = stored_top_k(classes, logits, [self.labels[each] for each in image_ids])
        except MapError as error:
            raise ImageError(image_ids[error.place], str(error)) from error
        update: Any = self.evaluator.update  # an Evaluator's
        update(cams, image_ids, correct=correct)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the counts, and of which images they are, as one file, whole or not at all."""
        self._write(path, self.to_bytes())

    def _write(self, path: str | os.PathLike[str], state: bytes) -> None:
        write_whole(path, state)

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        counts, num_counted = self._done
        counted = np.zeros(len(self.image_ids), bool)
        counted[self._order[:num_counted]] = True
        stamps = {name: values[counted] for name, values in self._stamps.items()}
        arrays: dict[str, np.ndarray] = {
            "counted": np.packbits(counted),
            "evaluator": np.frombuffer(self.evaluator.to_bytes(counts), np.uint8),
            **{name: values for name, values in stamps.items() if values.any()},
        }
        return sealed.seal({**_STATE, "job": self.job}, arrays)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes over what :meth:`save` wrote, before :meth:`run`, which compares what it counted.

        Raises:
            FileNotFoundError: No such file.
            OSError: It cannot be read, or is no regular file.
            ValueError: Not such a file, a damaged one, or one about other maps, ground truth or settings.
        """
        self.take_over(read_regular(path), path)

    def take_over(self, content: bytes, path: str | os.PathLike[str], *, is_others: bool = False) -> bool:
        """What :meth:`load` does with the content of a file; ``path`` is what messages call it.

        Args:
            content: The bytes.
            path: See there.
            is_others: Whether another process wrote it, which counted other images; they are added to those there are.

        Returns:
            Whether anything is new; not where all its images are counted here already.

        Raises:
            ValueError: As from there; or some of its images, but not all, are counted here already.
        """
        if content[:2] == b"PK":  # version 2 was an archive
            raise ValueError(
                f"{path}: if it holds saved counts, then of an older version, without what its maps were read from; "
                f"{_ADVICE}"
            )
        try:
            header, arrays = sealed.unseal(content, _STATE, ("job",))
            job, packed = header["job"], arrays["counted"]
            stamps = {name: arrays[name] for name in self._stamps if name in arrays}
            if packed.dtype != np.uint8 or packed.ndim != 1:
                raise ValueError(f"counted: expected bytes, found {packed.dtype} {packed.shape}")
            counts = arrays["evaluator"].tobytes()
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: expected saved counts of a split, found another file ({error})") from error
        if job != self.job:
            raise ValueError(f"{path}: it counts other maps, other metadata or other masks; {_ADVICE}")
        counted = np.unpackbits(packed, count=len(self.image_ids)).astype(bool)
        num_images = int(counted.sum())
        if any(values.dtype != np.uint64 or values.shape != (num_images,) for values in stamps.values()):
            raise ValueError(f"{path}: expected a stamp for each of {num_images} images, found others; {_ADVICE}")
        if is_others and not (counted & ~self._is_counted).any():
            return False
        if (counted & self._is_counted).any():
            raise ValueError(
                f"{path}: some of its images are counted in {self._path or 'another file'}, too; {_ADVICE}"
            )
        try:
            if is_others:
                cast(SharedCounter, self.evaluator).take_over(counts, num_images, path)
            else:
                self.evaluator.take_over(counts, num_images)
        except ValueError as error:
            reason = error.reason if isinstance(error, ArgumentError) else str(error)
            raise ValueError(f"{path}: {reason}; {_ADVICE}") from error
        for name, values in stamps.items():
            self._stamps[name][counted] = values
        self._path = self._path or path
        self._add(counted)
        return True

    def merge_over(self, ranks: Ranks) -> None:
        """Adds what the other processes counted, each of which was given other images; all of them call this.

        Afterwards the first process has all, and can save it; the others know how many images that are.

        Raises:
            OSError: One of them has ended.
        """
        if ranks.num_ranks == 1:
            return
        mine = self._is_counted.copy()
        stamps = {name: values[mine] for name, values in self._stamps.items()}
        num_all = sum(ranks.gather(int(mine.sum())))
        cast(SharedCounter, self.evaluator).merge_over(ranks)
        counted = np.zeros_like(mine)
        for packed, theirs in ranks.gather_first((np.packbits(mine), stamps))[1:]:
            part = np.unpackbits(packed, count=len(mine)).astype(bool)
            for name, values in theirs.items():
                self._stamps[name][part] = values
            counted |= part
        if ranks.rank == 0:
            self._add(counted)
        self._num_elsewhere = num_all - self._done[1]

    def _add(self, counted: np.ndarray) -> None:
        """Notes images that the evaluator has the counts of now, too."""
        self._is_counted |= counted
        start, places = self._done[1], np.flatnonzero(counted)
        self._order[start : start + len(places)] = places
        self._done = self.evaluator.moment(), start + len(places)

    def _expect_unchanged(self) -> None:
        """Maps and masks that were counted are still there and are those that were counted.

        Raises:
            ValueError: Some are not; the message names the first of them.
        """

        files = self._mask_files

        def masks_changed(image_ids: list[str], stamps: np.ndarray) -> list[str]:
            if files is None:
                return []
            return [each for each, was in zip(image_ids, stamps.tolist(), strict=True) if stamp(files(each)) != was]

        compare = {"maps": getattr(self._source, "changed", None), "masks": masks_changed}
        for name, changed in compare.items():
            known = np.flatnonzero(self._stamps[name])
            if changed is None or not len(known):
                continue
            found = changed([self.image_ids[place] for place in known], self._stamps[name][known])
            if found:
                named = ", ".join(found[:_NUM_LISTED]) + (", ..." if len(found) > _NUM_LISTED else "")
                raise ValueError(
                    f"{self._path or 'counts'}: the {name} of {len(found):,} images were changed, or removed, after "
                    f"they were counted: {named}; {_ADVICE}"
                )


def mask_files_of(split: Metadata, mask_root: str | os.PathLike[str] | None) -> Callable[[str], list[Path]] | None:
    """By image id, the files that a split's masks are read from; None if it has boxes."""
    if split.kind == "boxes" or mask_root is None:
        return None

    def files(image_id: str) -> list[Path]:
        ignored = split.ignore_paths[image_id]
        return [Path(mask_root, each) for each in (*split.mask_paths[image_id], *([ignored] if ignored else []))]

    return files


def fingerprint(split: Metadata, mask_root: str | os.PathLike[str] | None, maps: object) -> str:
    """What a saved state is about: these maps against this ground truth. Settings are in the counts themselves.

    Args:
        split: The ground truth.
        mask_root: Folder of its masks, or None.
        maps: What tells the maps from others, as JSON can hold it: their folder, a store's manifest.

    Returns:
        64 hexadecimal digits.
    """
    content = [maps, split.sha256(), str(Path(mask_root).resolve()) if mask_root and split.kind == "masks" else None]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

"""The Evaluator: fed with batches of CAMs, it keeps integer counts only.

In: CAMs or score maps [N, h, w] with their image ids, boxes or masks by image id. Out: counts, a Result at any time.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from wsolkern.files import write_whole
from wsolkern.metrics.result import SCORE_MAPS, NormalizationResult, Result
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS, count_box_hits, count_pixels, inputs
from wsolkern.profiling import stage

_HEADER = "wsolkern"  # the metadata key of a file that `Evaluator.save` wrote
_FORMAT = {"content": "Evaluator counts", "version": 1}


class Evaluator:
    """Counts, over any number of images, what MaxBoxAcc, MaxBoxAccV2 and PxAP are computed from.

    Memory does not depend on the number of images: there are ``num_images``, ``num_degenerate``, ``num_correct`` and
    ``hist``. Nothing remembers which images were counted, so an image that is fed in two updates counts twice.

    CAMs on a CUDA device are counted there: :meth:`update` queues the work on the current stream and returns, and the
    counts come to the host when somebody reads them.

    Args:
        normalizations: What to normalize with, M of them, strings such as "ivr:0.45"; None to be fed score maps, M = 1.
        boxes: Image id -> ground truth, int [n, 4], n >= 1, x0 y0 x1 y1 in pixels of the resized map, inclusive.
        masks: Image id -> ground truth, uint8 [H, W] (1 object, 0 background, 255 ignored), as a mapping or a function
            that loads it; asked for when an image is counted and not kept.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1); non-decreasing if there are masks.
        iou_thresholds: Fractions, D of them.
        size: Height and width, in pixels, that CAMs are resized to; score maps must have it.
        backend: "auto", "reference", "cpu" or "cuda".

    Raises:
        ValueError: An argument is not as above, or there are neither boxes nor masks.
    """

    def __init__(
        self,
        normalizations: "Iterable[str | Normalization] | str | None" = ("minmax", "max", "pas:0.9", "ivr:0.45"),
        *,
        boxes: Mapping | None = None,
        masks: Mapping | Callable | None = None,
        thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
        iou_thresholds: Sequence[float] | np.ndarray = (0.3, 0.5, 0.7),
        size: tuple[int, int] = (224, 224),
        backend: str = "auto",
    ):
        if boxes is None and masks is None:
            raise ValueError("boxes, masks: expected at least one of them, found None for both")
        self.normalizations = None if normalizations is None else parse_all(normalizations)
        self.thresholds = _frozen(inputs.check_thresholds(thresholds, sorted_=masks is not None))
        self.iou_thresholds = _frozen(inputs.check_iou_thresholds(iou_thresholds))
        self.size = inputs.check_size(size)
        self.backend = backend
        self._boxes, self._masks = boxes, masks

        num_rows, num_thresholds = len(self._names()), len(self.thresholds)
        self.num_images = 0
        self._added = {"num_degenerate": np.zeros(num_rows, np.int64)}
        if boxes is not None:
            self._added["num_correct"] = np.zeros((2, num_rows, len(self.iou_thresholds), num_thresholds), np.int64)
        if masks is not None:
            self._added["hist"] = np.zeros((num_rows, 2, num_thresholds + 2), np.int64)
        self._on_devices: dict = {}  # counts that a GPU has added up since somebody looked, by name and device

    @property
    def num_degenerate(self) -> np.ndarray:
        """int64 [M]: maps without a score map."""
        return self._counts()["num_degenerate"]

    @property
    def num_correct(self) -> np.ndarray | None:
        """int64 [2, M, D, T]: images that hit, with the largest contour and with all; None without boxes."""
        return self._counts().get("num_correct")

    @property
    def hist(self) -> np.ndarray | None:
        """int64 [M, 2, T + 2]: object pixels and background pixels by score; None without masks."""
        return self._counts().get("hist")

    def update(self, cams, image_ids: Sequence) -> None:
        """Counts a batch; maps of another size go into another call.

        Args:
            cams: CAMs, or score maps in [0, 1] of the evaluation size, float16, bfloat16, float32 or float64
                [N, h, w], numpy or torch. (Score maps on a GPU are waited for, as each value must be in [0, 1].)
            image_ids: N distinct ids.

        Raises:
            ValueError: Ids that are unknown, repeated or not N; a map, box or mask that is not as documented, named by
                its image id. Nothing of the batch is counted then.
        """
        cams = inputs.plain(cams, "cams")
        if getattr(cams, "ndim", None) != 3:
            raise ValueError(f"cams: expected an array [N, h, w], found {_describe(cams)}")
        image_ids = self._check_ids(image_ids, len(cams))
        if self.normalizations is None and tuple(cams.shape[1:]) != self.size:
            raise ValueError(f"cams: expected score maps of size {self.size}, found {tuple(cams.shape[1:])}")
        how = {"normalizations": self.normalizations, "size": self.size, "backend": self.backend}
        # Both counts exist before either is added: a batch that fails leaves everything as it was.
        num_correct = hist = None
        try:
            if "num_correct" in self._added:
                boxes = [self._boxes[each] for each in image_ids]
                num_correct, degenerate = count_box_hits(
                    cams, boxes, thresholds=self.thresholds, iou_thresholds=self.iou_thresholds, contours="both", **how
                )
            if "hist" in self._added:
                with stage("read") as timer:
                    masks = self._load_masks(image_ids)
                    timer.moved(masks.nbytes)
                hist, degenerate = count_pixels(cams, masks, thresholds=self.thresholds, **how)
        except ValueError as error:
            # Operations name a map by its place in the batch, as in "boxes[3]: ...".
            place = re.match(r"\w+\[(\d+)\]", str(error))
            if place is None:
                raise
            raise ValueError(f"image {image_ids[int(place[1])]!r}: {error}") from error
        with stage("reduce", getattr(cams, "device", None)) as timer:
            timer.moved(3 * sum(each.nbytes for each in (num_correct, hist) if each is not None), len(image_ids))
            self._add("num_correct", num_correct)
            self._add("hist", hist)
            self._add("num_degenerate", degenerate.sum(1))
            self.num_images += len(image_ids)

    def merge(self, other: "Evaluator") -> None:
        """Adds the counts of another evaluator, which saw other images under the same settings.

        Raises:
            ValueError: The other has different settings; the message names the first difference.
        """
        if not isinstance(other, Evaluator):
            raise TypeError(f"other: expected an Evaluator, found {type(other).__name__}")
        mine, theirs = self._settings(), other._settings()
        for name in mine:
            if mine[name] != theirs[name]:
                raise ValueError(
                    f"other: expected the same {name}, {_shorten(mine[name])}, found {_shorten(theirs[name])}"
                )
        self.num_images += other.num_images
        for name, counts in self._counts().items():
            counts += other._counts()[name]

    def compute(self) -> Result:
        """The metrics of what was counted so far.

        Raises:
            ValueError: No image was counted, or masks without any object pixel.
        """
        if self.num_images == 0:
            raise ValueError("no image was counted yet: call update first")
        rows = [
            NormalizationResult.from_counts(
                name,
                num_images=self.num_images,
                num_degenerate=int(self.num_degenerate[row]),
                thresholds=self.thresholds,
                iou_thresholds=self.iou_thresholds,
                num_correct=None if self.num_correct is None else self.num_correct[:, row],
                histogram=None if self.hist is None else self.hist[row],
            )
            for row, name in enumerate(self._names())
        ]
        return Result(self.num_images, self.thresholds, tuple(self.iou_thresholds.tolist()), tuple(rows))

    def save(self, path: str | os.PathLike) -> None:
        """Writes settings and counts as a safetensors file, whole or not at all; boxes and masks are not in it."""
        write_whole(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        header = {**_FORMAT, "num_images": self.num_images, "size": self.size, "normalizations": None}
        if self.normalizations is not None:
            header["normalizations"] = self._names()
        tensors = {"thresholds": self.thresholds, "iou_thresholds": self.iou_thresholds, **self._counts()}
        return safetensors.numpy.save(tensors, metadata={_HEADER: json.dumps(header)})

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        boxes: Mapping | None = None,
        masks: Mapping | Callable | None = None,
        backend: str = "auto",
    ) -> "Evaluator":
        """The evaluator that :meth:`save` wrote; boxes and masks are needed only to go on counting.

        Raises:
            FileNotFoundError: No such file.
            ValueError: Not a file of that kind, a damaged one, or one whose counts are not about what is passed.
        """
        return cls.from_bytes(
            Path(path).read_bytes(), boxes=boxes, masks=masks, backend=backend, source=os.fspath(path)
        )

    @classmethod
    def from_bytes(
        cls,
        content: bytes,
        *,
        boxes: Mapping | None = None,
        masks: Mapping | Callable | None = None,
        backend: str = "auto",
        source: str = "content",
    ) -> "Evaluator":
        """The evaluator that :meth:`to_bytes` gave; as :meth:`load`.

        Raises:
            ValueError: As from :meth:`load`; ``source`` is what the message calls the content.
        """
        try:
            tensors = {name: np.array(each) for name, each in safetensors.numpy.load(content).items()}
            length = int.from_bytes(content[:8], "little")  # of the format's own header
            about = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
            header = json.loads(about.get(_HEADER, "null"))
        except (safetensors.SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{source}: expected a file written by Evaluator.save, found a damaged one ({error})"
            ) from error
        if not isinstance(header, dict) or header.get("content") != _FORMAT["content"]:
            raise ValueError(f"{source}: expected a file written by Evaluator.save, found another safetensors file")
        if header.get("version") != _FORMAT["version"]:
            raise ValueError(f"{source}: expected format version {_FORMAT['version']}, found {header.get('version')!r}")
        for name, given, counts in (("boxes", boxes, "num_correct"), ("masks", masks, "hist")):
            if given is not None and counts not in tensors:
                raise ValueError(f"{name}: {source} was counted without {name}, so none can be added now")
        try:
            evaluator = cls(
                header["normalizations"],
                boxes={} if boxes is None and "num_correct" in tensors else boxes,
                masks={} if masks is None and "hist" in tensors else masks,
                thresholds=tensors["thresholds"],
                iou_thresholds=tensors["iou_thresholds"],
                size=header["size"],
                backend=backend,
            )
            evaluator._restore(header["num_images"], tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{source}: expected a file written by Evaluator.save, found a damaged one ({error})"
            ) from error
        return evaluator

    def __eq__(self, other) -> bool:
        """Same settings and same counts; where boxes and masks come from does not matter."""
        if not isinstance(other, Evaluator):
            return NotImplemented
        if self._settings() != other._settings() or self.num_images != other.num_images:
            return False
        return all(np.array_equal(counts, other._counts()[name]) for name, counts in self._counts().items())

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"Evaluator({', '.join(_shorten_list(self._names()))}; {' and '.join(self._truths())}; "
            f"{len(self.thresholds)} thresholds; "
            f"size {self.size[0]}x{self.size[1]}; {self.num_images} images)"
        )

    def _names(self) -> list[str]:
        """The rows' names: normalizations as strings."""
        return [SCORE_MAPS] if self.normalizations is None else [str(each) for each in self.normalizations]

    def _truths(self) -> list[str]:
        """Which ground truth is counted against."""
        return [name for name, counts in (("boxes", self.num_correct), ("masks", self.hist)) if counts is not None]

    def _settings(self) -> dict:
        """What two evaluators must share so that their counts add up, comparable with ``==``."""
        return {
            "normalizations": self._names(),
            "thresholds": self.thresholds.tolist(),
            "iou_thresholds": self.iou_thresholds.tolist(),
            "size": self.size,
            "kind of ground truth": self._truths(),
        }

    def _add(self, name: str, counts) -> None:
        """Adds counts to the others of their name, on the device where they are."""
        if counts is None:
            return
        if inputs.is_tensor(counts) and counts.device.type == "cuda":
            place = name, counts.device
            if place in self._on_devices:
                self._on_devices[place] += counts
            else:
                self._on_devices[place] = counts
        else:
            self._added[name] += inputs.on_host(counts)

    def _counts(self) -> dict[str, np.ndarray]:
        """The count arrays there are, by their names in a file; what is still on devices is fetched."""
        fetched, self._on_devices = self._on_devices, {}
        for (name, _), counts in fetched.items():
            self._added[name] += inputs.on_host(counts)
        return self._added

    def _restore(self, num_images: int, tensors: dict[str, np.ndarray]) -> None:
        """Takes the counts over from a file's content."""
        if type(num_images) is not int or num_images < 0:
            raise ValueError(f"num_images: expected a count, found {num_images!r}")
        for name, mine in self._counts().items():
            if tensors[name].dtype != mine.dtype or tensors[name].shape != mine.shape:
                raise ValueError(f"{name}: expected {_describe(mine)}, found {_describe(tensors[name])}")
            if tensors[name].min() < 0 or (name != "hist" and tensors[name].max() > num_images):
                raise ValueError(f"{name}: expected counts of {num_images} images, found other numbers")
            mine[...] = tensors[name]
        self.num_images = num_images

    def _check_ids(self, image_ids: Sequence, num_maps: int) -> list:
        """The ids as a list: as many as maps, distinct, each with its ground truth."""
        if isinstance(image_ids, (str, bytes)):
            raise ValueError(f"image_ids: expected a sequence of {num_maps} ids, found the single string {image_ids!r}")
        image_ids = list(image_ids)
        if len(image_ids) != num_maps:
            raise ValueError(f"image_ids: expected {num_maps}, one for each map, found {len(image_ids)}")
        if len(set(image_ids)) != num_maps:
            twice = next(each for index, each in enumerate(image_ids) if each in image_ids[:index])
            raise ValueError(f"image_ids: expected distinct ids, found {twice!r} more than once")
        for name, truth in (("boxes", self._boxes), ("masks", self._masks)):
            unknown = [each for each in image_ids if each not in truth] if isinstance(truth, Mapping) else []
            if unknown:
                raise ValueError(
                    f"image_ids: {len(unknown)} of {num_maps} are not in {name}, the first is {unknown[0]!r}; "
                    f"{name} holds {len(truth)} ids"
                )
        return image_ids

    def _load_masks(self, image_ids: list) -> np.ndarray:
        """The masks of a batch, uint8 [N, H, W]."""
        load = self._masks.__getitem__ if isinstance(self._masks, Mapping) else self._masks
        masks = np.empty((len(image_ids), *self.size), np.uint8)
        for image_id, out in zip(image_ids, masks, strict=True):
            mask = np.asarray(inputs.on_host(load(image_id), f"image {image_id!r}: mask"))
            if mask.dtype != np.uint8 or mask.shape != self.size:
                raise ValueError(f"image {image_id!r}: expected a mask uint8 {self.size}, found {_describe(mask)}")
            out[...] = mask
        return masks


def _frozen(values: np.ndarray) -> np.ndarray:
    """A copy that nobody changes."""
    values = values.copy()
    values.flags.writeable = False
    return values


def _describe(value) -> str:
    """An array's dtype and shape, or a value's type."""
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def _shorten(value) -> str:
    """A list's first entries, for a message."""
    return str(value) if not isinstance(value, list) else f"[{', '.join(_shorten_list([str(v) for v in value]))}]"


def _shorten_list(values: list[str]) -> list[str]:
    return values if len(values) <= 6 else [*values[:4], f"... {len(values)} in all"]

"""The bootstrap over images: how far a figure, and the difference of two of them, can be trusted.

In: CAMs with their image ids, batch after batch. Out: each normalization's figure and each pair's difference, with
percentile intervals; every resample is the same images for all normalizations, and the whole metric is computed on it.
Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

import hashlib
import math
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from wsolkern.box_rule import CHOE
from wsolkern.errors import ImageError
from wsolkern.files import open_regular, write_from
from wsolkern.metrics import sealed
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import GroundTruth, Protocol
from wsolkern.metrics.selection import DECIMALS
from wsolkern.normalization import Normalization
from wsolkern.ops import box_hits, inputs, pixel_histograms

if TYPE_CHECKING:
    from wsolkern.cams import Ranks

_FORMAT = {"content": "wsolkern images of a bootstrap", "version": 1}
_MAX_LEVEL = 255  # of every score map that a normalization makes, unless the map is all zeros
_IN_MEMORY_BYTES = 64 << 20  # what is remembered of the images beyond this goes to a temporary file
_RESAMPLES_BYTES = 32 << 20  # resamples are drawn so many at a time
_BLOCK_BYTES = 16 << 20  # images are summed so many at a time


@dataclass(frozen=True)
class Estimate:
    """A normalization's figure."""

    normalization: Normalization
    figure: float
    """The metric on the images themselves, in percent."""
    interval: tuple[float, float]
    """Its percentile interval, in percent."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return vars(self) | {"normalization": str(self.normalization)}


@dataclass(frozen=True)
class Difference:
    """How much better the first of two normalizations is, on the same images."""

    first: Normalization
    second: Normalization
    figure: float
    """First minus second, in percentage points."""
    interval: tuple[float, float]
    """Its percentile interval, in percentage points."""
    share_above: float
    """Share of the resamples in which the first is better, a fraction."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says that there is a difference."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        names = {"first": str(self.first), "second": str(self.second)}
        return vars(self) | names | {"excludes_zero": self.excludes_zero}


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Figures of some normalizations on some images, and the same on resamples of the images."""

    metric: Metric
    """What the figures are."""
    num_images: int
    """Images that were counted."""
    seed: int
    """What the resamples were drawn with."""
    confidence: float
    """How often an interval shall hold the true figure, a fraction."""
    normalizations: tuple[Normalization, ...]
    """M of them."""
    figures: np.ndarray
    """On the images themselves, float64 [M], in percent."""
    resampled: np.ndarray
    """On the resamples, float64 [B, M], in percent."""

    def __getitem__(self, normalization: str | Normalization) -> Estimate:
        """The figure of a normalization; any spelling that parses to it will do ("ivr:.45")."""
        column = self._column(normalization)
        interval = percentile_interval(self.resampled[:, column], self.confidence)
        return Estimate(self.normalizations[column], float(self.figures[column]), interval)

    def difference(
        self, first: str | Normalization, second: str | Normalization, of: "Bootstrap | None" = None
    ) -> Difference:
        """The first normalization's figure minus the second's, rounded to :data:`DECIMALS`.

        Args:
            first: A normalization.
            second: Another one, or the same one of another run.
            of: The second one's bootstrap: other maps of the same images, resampled in the same way; None: this one.

        Raises:
            ValueError: The other one is of another metric, number of images, seed, confidence or number of resamples.
        """
        of = of or self
        mine, theirs = ((str(o.metric), o.num_images, o.seed, o.confidence, len(o.resampled)) for o in (self, of))
        if mine != theirs:
            raise ValueError(f"of: expected metric, images, seed, confidence and resamples {mine}, found {theirs}")
        a, b = self._column(first), of._column(second)
        # Adding 0 makes 0 of -0.
        figure = round(float(self.figures[a] - of.figures[b]), DECIMALS) + 0.0
        resampled = np.round(self.resampled[:, a] - of.resampled[:, b], DECIMALS) + 0.0
        return Difference(
            self.normalizations[a],
            of.normalizations[b],
            figure=figure,
            interval=percentile_interval(resampled, self.confidence),
            share_above=float((resampled > 0).mean()),
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but the single resamples; the differences of all pairs."""
        return {
            "metric": self.metric,
            "num_images": self.num_images,
            "num_resamples": len(self.resampled),
            "seed": self.seed,
            "confidence": self.confidence,
            "normalizations": [self[each].to_dict() for each in self.normalizations],
            "differences": [self.difference(*pair).to_dict() for pair in combinations(self.normalizations, 2)],
        }

    def _column(self, normalization: str | Normalization) -> int:
        wanted = Normalization.parse(normalization)
        if wanted not in self.normalizations:
            raise KeyError(f"no normalization {str(wanted)!r}; there are {', '.join(map(str, self.normalizations))}")
        return self.normalizations.index(wanted)


class BootstrapEvaluator:
    """Evaluates one metric and remembers what every image contributes to it, so that images can be drawn again.

    It is fed as an :class:`wsolkern.metrics.Evaluator` is, by :func:`wsolkern.studies.counting.count_maps` for
    instance. Of an image it keeps a bit for each normalization, IoU threshold and distinct level, or its histograms for
    PxAP; beyond 64 MB they are in a temporary file, so that memory does not depend on the number of images but for the
    resamples' own draws.
    Threads may update and compute at once.

    Args:
        protocol: How maps are evaluated; it has normalizations.
        truth: What they are compared with.
        metric: "MaxBoxAccV2", "MaxBoxAcc" (at IoU 0.5, or the first IoU threshold if there is no 0.5) or "PxAP".
        image_ids: The split's images, distinct. Resamples depend on their order, not on the order they are fed in.
        thresholds: Fixed thresholds for each of the M normalizations, fractions of a map's maximum level by IoU
            threshold, as in :attr:`Choice.thresholds`: the figure is the box accuracy there, or the mean of the box
            accuracies. None for the maximum over all thresholds, found anew in every resample.
        rows: File that :meth:`to_bytes` keeps what is remembered of the images in, for :meth:`take_over` later.
        backend: "auto", "reference", "cpu" or "cuda".

    Raises:
        ValueError: Another metric, one without its ground truth, no normalizations, or thresholds that are not as
            above.
    """

    def __init__(
        self,
        protocol: Protocol,
        truth: GroundTruth,
        metric: str | Metric,
        image_ids: Sequence[str],
        *,
        thresholds: Sequence[Mapping[float, float]] | None = None,
        rows: str | os.PathLike[str] | None = None,
        backend: str = "auto",
    ):
        if protocol.normalizations is None:
            raise ValueError("protocol: expected one with normalizations, found one for score maps")
        metric = Metric.parse(metric)
        if metric.truth not in truth.kinds:
            raise ValueError(f"metric: {metric} needs {metric.truth}, there are none")
        if thresholds is not None and not metric.contours:
            raise ValueError(f"thresholds: {metric} is an area over all thresholds, none can be chosen")
        self.protocol, self.truth, self.metric = protocol, truth, metric
        self._rows: _Hits | _Histograms
        if metric.contours:
            self._rows = _Hits(protocol, truth, metric, thresholds, backend)
        else:
            self._rows = _Histograms(protocol, truth, backend)
        self._places = {image_id: place for place, image_id in enumerate(image_ids)}
        self._counted: dict[int, None] = {}  # the places of the images whose rows are in the file, in its order
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)
        self._path = None if rows is None else os.fspath(rows)
        self._num_kept, self._digest = 0, hashlib.sha256()  # rows in the file at that path, and their hash
        self._lock = threading.Lock()  # of the file, its position and what is in it

    @property
    def num_images(self) -> int:
        """Images that were counted."""
        return len(self._counted)

    def update(self, cams: Any, image_ids: Sequence[Any]) -> None:
        """Counts a batch; maps of another size go into another call.

        Args:
            cams: CAMs, float16, float32 or float64 [N, h, w], numpy or torch.
            image_ids: N ids, none of them counted before.

        Raises:
            ValueError: Ids that are unknown, repeated or not N; a map, box or mask that is not as documented.
                Nothing of the batch is counted then.
        """
        cams = inputs.plain(cams, "cams")
        image_ids = self.truth.check_ids(image_ids, len(cams))
        self._new_places(image_ids)
        self.add(self.pack(cams, image_ids), image_ids)

    def pack(self, cams: Any, image_ids: Sequence[Any]) -> np.ndarray:
        """What is remembered of a batch, without counting it: for :meth:`add`, now or later.

        Args:
            cams, image_ids: As for :meth:`update`.

        Returns:
            uint8 [N, row_bytes].

        Raises:
            ValueError: As from there.
        """
        cams = inputs.plain(cams, "cams")
        return self._rows.pack(cams, self.truth.check_ids(image_ids, len(cams)))

    def pack_known(self, known: np.ndarray) -> np.ndarray:
        """The same of a batch that was looked at already, so that no box is found and no pixel counted again.

        Args:
            known: IoUs of the metric's contours at the protocol's thresholds, float64 [M, N, T], as
                :func:`wsolkern.ops.box_ious` gives them; for PxAP histograms, int64 [M, N, 2, T + 2], as
                :func:`wsolkern.ops.pixel_histograms` does.

        Returns:
            uint8 [N, row_bytes].

        Raises:
            ValueError: Another shape; thresholds are fixed, or the box rule is not "choe".
        """
        ends = (len(self.protocol.thresholds),) if self.metric.contours else (2, len(self.protocol.thresholds) + 2)
        if known.shape != (len(self.protocol.names), *known.shape[1:2], *ends):
            wanted = ", ".join(map(str, (len(self.protocol.names), "N", *ends)))
            raise ValueError(f"known: expected [{wanted}], found {list(known.shape)}")
        return self._rows.pack_known(known)

    def add(self, rows: np.ndarray, image_ids: Sequence[Any]) -> None:
        """Counts images of which :meth:`pack` gave the rows.

        Args:
            rows: uint8 [N, row_bytes].
            image_ids: N ids, none of them counted before.

        Raises:
            ValueError: Rows of another size, or ids that are unknown, repeated or not N. Nothing is counted then.
        """
        if rows.dtype != np.uint8 or rows.shape != (len(image_ids), self._rows.row_bytes):
            expected = f"uint8 [{len(image_ids)}, {self._rows.row_bytes}]"
            raise ValueError(f"rows: expected {expected}, found {rows.dtype} {list(rows.shape)}")
        with self._lock:
            places = self._new_places(list(image_ids))
            self._append(places, [rows.tobytes()])

    def _append(self, places: Iterable[int], rows: Iterable[bytes]) -> None:
        """Adds images that are not counted yet; the caller holds the lock."""
        self._file.seek(self.num_images * self._rows.row_bytes)  # over what a write left that failed halfway
        self._file.writelines(rows)
        self._counted |= dict.fromkeys(places)

    def moment(self) -> int:
        """How many images there are now, for :meth:`to_bytes` later."""
        return self.num_images

    def to_bytes(self, moment: int | None = None) -> bytes:
        """Which images were counted until now, or until a :meth:`moment`; what is remembered of them goes to ``rows``.

        Raises:
            OSError: It cannot be written there.
        """
        num_images = self.num_images if moment is None else moment
        row_bytes = self._rows.row_bytes
        with self._lock:
            places = np.fromiter(islice(self._counted, num_images), np.int64, num_images)
            if self._path is not None and num_images > self._num_kept:
                start, digest = self._num_kept * row_bytes, self._digest.copy()
                self._file.seek(start)
                write_from(self._path, start, _blocks(self._file, num_images * row_bytes - start, digest))
                self._num_kept, self._digest = num_images, digest
            about = {"row_bytes": row_bytes, "num_rows": self._num_kept, "rows_sha256": self._digest.hexdigest()}
        return sealed.seal({**_FORMAT, **about}, {"places": places})

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """Goes on from what :meth:`to_bytes` gave and from the file that it wrote, and adds that to what is counted.

        Which images and settings these are about is for the caller to know.

        Args:
            content: The bytes.
            num_images: How many images they are about, none of them counted here.
            path: The state that they come from, whose rows are beside it (:func:`rows_beside`); None: this one's.

        Raises:
            OSError: There is no such file, or it cannot be read.
            ValueError: It is no such content, of another number of images, of some that are counted here, or not that
                of the file. Nothing is added then.
        """
        header, arrays = sealed.unseal(content, _FORMAT, ("row_bytes", "num_rows", "rows_sha256"))
        places, row_bytes = arrays["places"], self._rows.row_bytes
        rows = self._path if path is None else rows_beside(path)
        if rows is None or header["row_bytes"] != row_bytes or places.shape != (num_images,):
            raise ValueError(f"expected {num_images} images of {row_bytes} bytes, found {len(places)} others")
        if not num_images:  # then nobody wrote a file
            return
        digest, places = hashlib.sha256(), places.tolist()
        with self._lock, open_regular(rows) as kept:
            if not self._counted.keys().isdisjoint(places):
                raise ValueError(f"expected {num_images} other images, found some that are counted here")
            is_first = not self._counted and path is None
            self._append((), _blocks(kept, num_images * row_bytes, digest))
            if header["num_rows"] != num_images or digest.hexdigest() != header["rows_sha256"]:
                raise ValueError(f"{os.fspath(rows)} does not hold what was counted")
            self._counted |= dict.fromkeys(places)
            if is_first:  # and may stay there
                self._num_kept, self._digest = num_images, digest

    def merge_over(self, ranks: "Ranks") -> None:
        """Adds the images of the other processes' evaluators, which have the same settings and counted other images.

        All processes call this; afterwards the first one's has all images, the others have what they had.

        Args:
            ranks: The processes, from :meth:`wsolkern.cams.Ranks.joined`.

        Raises:
            ValueError: An image was counted by two of them.
            OSError: One of them has ended.
        """
        with self._lock:
            mine = list(self._counted)
        row_bytes = self._rows.row_bytes
        at_a_time = max(1, _BLOCK_BYTES // row_bytes)
        for start in range(0, max(ranks.gather(len(mine))), at_a_time):
            places = mine[start : start + at_a_time]
            with self._lock:
                self._file.seek(start * row_bytes)
                given = places, self._file.read(len(places) * row_bytes)
            for theirs, rows in ranks.gather_first(given)[1:]:
                with self._lock:
                    if not self._counted.keys().isdisjoint(theirs):
                        raise ValueError("ranks: expected each image in one process, found one in two of them")
                    self._append(theirs, [rows])

    def _new_places(self, image_ids: list[Any]) -> dict[int, None]:
        """The places of images in the split, none of them counted."""
        places: dict[int, None] = {}
        for image_id in image_ids:
            place = self._places.get(image_id)
            if place is None or place in self._counted:
                found = "one that is not among them" if place is None else "it a second time"
                raise ImageError(image_id, f"expected each of {len(self._places)} images once, found {found}")
            places[place] = None
        return places

    def compute(
        self,
        num_resamples: int = 1000,
        *,
        seed: int = 0,
        confidence: float = 0.95,
        among: Iterable[Any] | None = None,
    ) -> Bootstrap:
        """The figures of what was counted so far, and their spread over resamples of the images.

        A maximum over thresholds is found anew in every resample and adapts to it, so that resampled figures lie a
        little above those of the images themselves, the more the fewer images there are; with fixed thresholds they do
        not. Differences hardly suffer.

        Args:
            num_resamples: B; an interval's ends lie between two resamples, so at least 2 / (1 - confidence) - 1.
            seed: Same images, same seed (and same numpy): same resamples, whatever the batches were.
            confidence: How often an interval shall hold the true figure, a fraction.
            among: The images that count, such as those that two runs have in common; None: all that were counted.

        Raises:
            ValueError: No image was counted; an argument is not as above; the images, or a resample of them, have no
                object pixel.
        """
        interval_rank(num_resamples, confidence)
        with self._lock:
            counted = np.array(list(self._counted), np.int64)
        if among is not None:
            places = np.array([self._places.get(each, -1) for each in among], np.int64)
            if not np.isin(places, counted).all():
                raise ValueError("among: expected images that were counted, found another one")
        chosen = np.arange(len(counted)) if among is None else np.flatnonzero(np.isin(counted, places))
        num_images = len(chosen)
        if num_images == 0:
            raise ValueError("no image was counted yet: call update first")
        # Counts are exact in these numbers, and matrix products of them are fast.
        number = np.dtype(self._rows.number if num_images < 1 << 24 else np.float64)
        once = np.zeros((1, len(counted)), number)
        once[0, chosen] = 1
        figures = self._figures(once, num_images)[0]
        resampled = np.empty((num_resamples, len(figures)))
        # Images are numbered in the split's order; row chosen[r] of the file is image ranks[r].
        ranks = np.argsort(np.argsort(counted[chosen]))
        draws = resamples(num_images, num_resamples, seed)
        at_a_time = max(1, _RESAMPLES_BYTES // (number.itemsize * max(len(counted), self._rows.num_columns)))
        for start in range(0, num_resamples, at_a_time):
            weights = np.zeros((min(at_a_time, num_resamples - start), len(counted)), number)
            for row in weights:
                row[chosen] = next(draws)[ranks]
            resampled[start : start + len(weights)] = self._figures(weights, num_images)
        rows = tuple(self.protocol.normalizations or ())
        return Bootstrap(self.metric, num_images, seed, confidence, rows, figures, resampled)

    def _figures(self, weights: np.ndarray, num_drawn: int) -> np.ndarray:
        """The metric on images that are there ``weights`` times, ``num_drawn`` in all: float64 [R, M] from [R, N]."""
        num_images = weights.shape[1]
        sums = np.zeros((len(weights), self._rows.num_columns), weights.dtype)
        num_rows = max(1, _BLOCK_BYTES // (weights.itemsize * self._rows.num_columns))
        for start in range(0, num_images, num_rows):
            with self._lock:
                self._file.seek(start * self._rows.row_bytes)
                packed = self._file.read(min(num_rows, num_images - start) * self._rows.row_bytes)
            rows = self._rows.unpack(np.frombuffer(packed, np.uint8).reshape(-1, self._rows.row_bytes))
            sums += weights[:, start : start + num_rows] @ rows.astype(weights.dtype)
        return self._rows.figures(sums.astype(np.int64), num_drawn)


def rows_beside(state: str | os.PathLike[str]) -> str:
    """The file that a saved state's images are remembered in: what a :class:`BootstrapEvaluator` calls ``rows``."""
    return f"{os.fspath(state)}.rows"


def _blocks(file: IO[bytes], num_bytes: int, digest: "hashlib._Hash") -> Iterator[bytes]:
    """The next bytes of a file, some at a time; the digest is updated with them."""
    for start in range(0, num_bytes, _BLOCK_BYTES):
        block = file.read(min(_BLOCK_BYTES, num_bytes - start))
        digest.update(block)
        yield block


class _Hits:
    """An image as bits: for each normalization and IoU threshold, which thresholds hit.

    Args:
        protocol, truth, metric, thresholds, backend: As for :class:`BootstrapEvaluator`.
    """

    number = np.float32

    def __init__(
        self,
        protocol: Protocol,
        truth: GroundTruth,
        metric: Metric,
        thresholds: Sequence[Mapping[float, float]] | None,
        backend: str,
    ):
        self._protocol, self._truth, self._metric, self._backend = protocol, truth, metric, backend
        self._ious = ious = metric.ious(protocol.iou_thresholds.tolist())
        num = len(protocol.names)
        if thresholds is None:
            # Thresholds of one level have one foreground: the first of them stands for all.
            _, first = np.unique((protocol.thresholds * _MAX_LEVEL).astype(np.int64), return_index=True)
            self._first = first if protocol.box_rule == CHOE else np.arange(len(protocol.thresholds))
            self._thresholds, self._chosen = protocol.thresholds[self._first], None
        else:
            if len(thresholds) != num or any(set(ious) - set(each) for each in thresholds):
                raise ValueError(f"thresholds: expected {num} times one for each IoU of {ious}, found {thresholds!r}")
            fixed = np.array([[each[iou] for iou in ious] for each in thresholds])
            self._thresholds, self._chosen = np.unique(fixed), fixed[:, None, :, None]
        self._shape = num, len(ious), len(self._thresholds) if thresholds is None else 1
        self.num_columns = math.prod(self._shape)
        self.row_bytes = -(-self.num_columns // 8)

    def pack(self, cams: Any, image_ids: list[Any]) -> np.ndarray:
        """The images of a batch, uint8 [N, row_bytes]."""
        hits = box_hits(
            cams,
            self._truth.boxes_of(image_ids),
            self._protocol.normalizations,
            self._thresholds,
            self._ious,
            contours=self._metric.contours,
            size=self._protocol.size,
            rule=self._protocol.box_rule,
            backend=self._backend,
        )
        hits = inputs.on_host(hits)  # [M, N, D, K]
        if self._chosen is not None:
            hits = np.take_along_axis(hits, np.searchsorted(self._thresholds, self._chosen), axis=3)
        return self._packed(hits)

    def pack_known(self, ious: np.ndarray) -> np.ndarray:
        """The same from IoUs at the protocol's thresholds, float64 [M, N, T]."""
        if self._chosen is not None or self._protocol.box_rule != CHOE:
            raise ValueError("known: expected the box rule choe and all thresholds, found others")
        return self._packed(ious[:, :, None, self._first] >= np.array(self._ious)[:, None])

    def _packed(self, hits: np.ndarray) -> np.ndarray:
        """Hits [M, N, D, K] as bits, uint8 [N, row_bytes]."""
        return np.packbits(np.moveaxis(hits, 0, 1).reshape(hits.shape[1], self.num_columns), axis=1)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """What the images add to the counts, [n, num_columns]."""
        return np.unpackbits(packed, axis=1, count=self.num_columns)

    def figures(self, counts: np.ndarray, num_images: int) -> np.ndarray:
        """The metric in percent, float64 [R, M] from int64 [R, num_columns]."""
        return self._metric.figures(counts.reshape(-1, *self._shape), num_images)


class _Histograms:
    """An image as its histograms of object and background pixels, in as few bytes as will do."""

    number = np.float64

    def __init__(self, protocol: Protocol, truth: GroundTruth, backend: str):
        inputs.check_thresholds(protocol.thresholds, sorted_=True)
        self._protocol, self._truth, self._backend = protocol, truth, backend
        self._shape = len(protocol.names), 2, len(protocol.thresholds) + 2
        self._dtype = np.min_scalar_type(protocol.size[0] * protocol.size[1])
        self.num_columns = math.prod(self._shape)
        self.row_bytes = self.num_columns * self._dtype.itemsize

    def pack(self, cams: Any, image_ids: list[Any]) -> np.ndarray:
        """The images of a batch, uint8 [N, row_bytes]."""
        histograms = pixel_histograms(
            cams,
            self._truth.masks_of(image_ids, self._protocol.size),
            self._protocol.normalizations,
            self._protocol.thresholds,
            size=self._protocol.size,
            backend=self._backend,
        )
        each: Any = inputs.on_host(histograms)
        return self.pack_known(each)

    def pack_known(self, histograms: np.ndarray) -> np.ndarray:
        """The same from histograms, int64 [M, N, 2, T + 2]."""
        rows = np.moveaxis(histograms, 0, 1).reshape(histograms.shape[1], self.num_columns)
        return np.ascontiguousarray(rows, self._dtype).view(np.uint8)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """What the images add to the counts, [n, num_columns]."""
        return packed.view(self._dtype)

    def figures(self, counts: np.ndarray, num_images: int) -> np.ndarray:
        """The metric in percent, float64 [R, M] from int64 [R, num_columns]."""
        histograms = counts.reshape(-1, *self._shape)
        if not histograms[:, :, 0].any(axis=-1).all():
            raise ValueError(
                f"masks: expected object pixels in every resample of {num_images} images, found one without"
            )
        return Metric.PXAP.figures(histograms, num_images)


def resamples(num_images: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is in each resample, which is ``num_images`` draws with replacement.

    Yields:
        int64 [num_images], adding up to ``num_images``; the same for a seed, however many resamples are asked for.
    """
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)


def percentile_interval(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    """The interval that leaves equal shares of the resampled values out on either side.

    With B values its ends are the k-th smallest and the k-th largest, k = floor((B + 1) (1 - confidence) / 2): for 1000
    and 0.95 the 25th.

    Args:
        resampled: A figure on the resamples, float64 [B].
        confidence: A fraction.

    Raises:
        ValueError: The confidence is no fraction in (0, 1), or there are too few values for it.

    Source: Efron & Tibshirani, 1993, section 13.3; the rank k: section 12.5.
    """
    rank, ordered = interval_rank(len(resampled), confidence), np.sort(resampled)
    return float(ordered[rank - 1]), float(ordered[-rank])


def interval_rank(num_resamples: int, confidence: float) -> int:
    """Which value from either end is an interval's end, counted from 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a fraction in (0, 1), found {confidence}")
    least = math.ceil(round(2 / (1 - confidence), 9)) - 1
    if num_resamples < least:
        raise ValueError(
            f"num_resamples: expected at least {least} for a confidence of {confidence}, found {num_resamples}"
        )
    return int(round((num_resamples + 1) * (1 - confidence) / 2, 9))

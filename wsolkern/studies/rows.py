"""The rows of a split's images while they are counted: by one process or several, kept in a state, given in order.

In: ImageRows batch by batch, in any order. Out: the same rows in the order of the split; counts that a state can hold.
Source: none.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wsolkern.cams import Ranks
from wsolkern.metrics import sealed
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.metrics.per_image import ImageRows, PerImageEvaluator

_FORMAT = {"content": "wsolkern rows of images", "version": 1}
_IN_MEMORY_BYTES = 64 << 20  # what is beyond goes to a temporary file
_BATCH = 64  # images that are given at once


class RowFile:
    """Rows of fixed size, so that memory does not depend on their number.

    Args:
        image_ids: The images of the split, distinct.
        names: The normalizations, M of them; each image has a row for each.
    """

    def __init__(self, image_ids: Sequence[str], names: Sequence[str]):
        self._texts = {"image_id": [*image_ids], "normalization": [*names], "error": [*CATEGORIES]}
        self._numbers = {name: {each: n for n, each in enumerate(texts)} for name, texts in self._texts.items()}
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  (closed when nobody has it)
        self._slots = np.full(len(image_ids), -1, np.int64)  # by image: where in the file its rows are
        self.num_images = 0
        """Images that have rows here."""
        self.dtype: np.dtype[Any] | None = None
        """Of a row, as the first batch has it: texts are numbers."""

    def add(self, rows: ImageRows) -> None:
        """Keeps the rows of some images, all of each image."""
        numbered = {
            name: np.array([self._numbers[name][each] for each in column.tolist()], np.int64)
            if name in self._texts
            else column
            for name, column in rows.columns.items()
        }
        records = np.empty(len(rows), [(name, column.dtype.str) for name, column in numbered.items()])
        for name, column in numbered.items():
            records[name] = column
        self.append(records)

    def append(self, records: np.ndarray) -> None:
        """The same of rows whose texts are numbers."""
        if not len(records):
            return
        self.dtype = self.dtype or records.dtype
        if records.dtype != self.dtype:
            raise ValueError(f"expected rows of {self.dtype.names}, found others")
        places = records["image_id"][:: len(self._texts["normalization"])]
        self._file.seek(0, os.SEEK_END)
        self._file.write(records.tobytes())
        self._slots[places] = np.arange(self.num_images, self.num_images + len(places))
        self.num_images += len(places)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows of images, in the order in which they were added: a structured array."""
        if self.dtype is None:
            return np.empty(0, [("image_id", "<i8")])
        each = len(self._texts["normalization"]) * self.dtype.itemsize
        self._file.seek(start * each)
        return np.frombuffer(self._file.read((stop - start) * each), self.dtype)

    def in_order(self) -> Iterator[ImageRows]:
        """All rows in the order of the split, some images at a time."""
        slots = self._slots[self._slots >= 0]
        for start in range(0, len(slots), _BATCH):
            some = slots[start : start + _BATCH]
            if (np.diff(some) == 1).all():
                records = self.read(int(some[0]), int(some[-1]) + 1)
            else:
                records = np.concatenate([self.read(slot, slot + 1) for slot in some.tolist()])
            yield ImageRows(
                {
                    name: np.array(self._texts[name], object)[records[name]] if name in self._texts else records[name]
                    for name in records.dtype.names or ()
                }
            )


class RowCounter:
    """A PerImageEvaluator whose rows are kept, so that a state can hold them and several processes share the images.

    Args:
        evaluator: What counts; it hands its rows to ``rows``.
        rows: Where they are kept.
    """

    def __init__(self, evaluator: PerImageEvaluator, rows: RowFile):
        self.evaluator, self.rows = evaluator, rows

    @property
    def num_images(self) -> int:
        """Images that were counted, of all processes after :meth:`merge_over`."""
        return self.evaluator.num_images

    def update(self, cams: object, image_ids: Sequence[str]) -> None:
        """As :meth:`PerImageEvaluator.update`."""
        self.evaluator.update(cams, image_ids)

    def moment(self) -> tuple[dict[str, np.ndarray], int]:
        """What there is now; rows are only ever added."""
        return self.evaluator.sums(), self.rows.num_images

    def to_bytes(self, moment: Any = None) -> bytes:
        """What there was at a moment, or is now, as the content of a file."""
        sums, num_rows = moment or self.moment()
        records = self.rows.read(0, num_rows)
        header = {
            "about": self.evaluator.about(),
            "fields": [[name, each[0].str] for name, each in (records.dtype.fields or {}).items()],
        }
        return sealed.seal({**_FORMAT, **header}, {**sums, "rows": np.frombuffer(records.tobytes(), np.uint8)})

    def take_over(self, content: bytes, num_images: int, path: str | os.PathLike[str] | None = None) -> None:
        """Adds what :meth:`to_bytes` gave of other images; ``path`` does not matter.

        Raises:
            ValueError: It is no such content, or of other settings or numbers; nothing is added then.
        """
        header, arrays = sealed.unseal(content, _FORMAT, ("about", "fields"))
        for name, value in self.evaluator.about().items():
            if header["about"].get(name) != value:
                raise ValueError(f"expected rows of the same {name}, found others")
        packed, mine = arrays.pop("rows"), self.evaluator.sums()
        if arrays.keys() != mine.keys() or any(arrays[n].shape[1:] != each.shape[1:] for n, each in mine.items()):
            raise ValueError("expected the sums of these rows, found others")
        records = np.frombuffer(packed.tobytes(), [(str(name), str(kind)) for name, kind in header["fields"]])
        num_rows = len(self.evaluator.protocol.names) * num_images
        if int(arrays["num_images"][0]) != num_images or len(records) != num_rows:
            raise ValueError(f"expected rows of {num_images} images, found {len(records)} rows")
        self.rows.append(records)
        self.evaluator.add_sums(arrays)

    def merge_over(self, ranks: Ranks) -> None:
        """Gives all processes the sums of all, and the first one the rows; all of them call this."""
        every = ranks.gather(self.evaluator.sums())
        rows = ranks.gather_first(self.rows.read(0, self.rows.num_images))
        for rank, sums in enumerate(every):
            if rank != ranks.rank:
                self.evaluator.add_sums(sums)
        for theirs in rows[1:]:
            self.rows.append(theirs)

"""Folders of images as a network's input, read ahead in the background.

In: a data root, and image ids that are paths below it. Out: float32 [N, 3, H, W] with ids; what could not be read.
Source: the evaluation transform of Choe et al., arXiv 2007.04178: resized to a square whatever the shape, normalized.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsolkern.errors import DatasetError

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # Pillow's
_MAX_READERS = 16  # threads
_NUM_AHEAD = 2  # images a reader may be ahead of the batch that was asked for
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input; by default as the published evaluation does it for ImageNet's networks.

    The image is turned into RGB, resized (its aspect is not kept), and each channel v becomes
    (v * white / 255 - mean) / std in float32.

    Raises:
        ValueError: A field is not as below.
    """

    size: tuple[int, int] = (224, 224)
    """Height and width in pixels."""
    interpolation: str = "bilinear"
    """One of INTERPOLATIONS, as Pillow does it."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of red, green and blue, in units of ``white``."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """The same; not 0."""
    white: float = 1.0
    """What the value 255 of a pixel is before mean and std: 1, or 255 for a network that wants pixel values."""

    def __post_init__(self):
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size: expected a height and a width of at least 1 pixel, found {self.size}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, found {self.interpolation}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3 or not np.isfinite(value).all() or (name == "std" and 0 in value):
                zero = ", none of them 0" if name == "std" else ""
                raise ValueError(f"{name}: expected three finite numbers{zero}, found {value}")
        if not 0 < self.white < np.inf:
            raise ValueError(f"white: expected a positive number, found {self.white}")

    def __call__(self, image: Image.Image) -> np.ndarray:
        """The network's input, float32 [3, height, width]."""
        height, width = self.size
        rgb = image if image.mode == "RGB" else image.convert("RGB")  # which copies: 2% of reading a photograph
        resized = rgb.resize((width, height), Image.Resampling[self.interpolation.upper()])
        pixels = np.asarray(resized).transpose(2, 0, 1).astype(np.float32, order="C")
        if self.white != 255:
            pixels /= np.float32(255)
            pixels *= np.float32(self.white)
        pixels -= np.float32(self.mean)[:, None, None]
        pixels /= np.float32(self.std)[:, None, None]
        return pixels

    def to_dict(self) -> dict:
        """As a manifest keeps it."""
        return asdict(self)


class ImageBatch(NamedTuple):
    """N images as a network's input."""

    image_ids: tuple[str, ...]
    """N of them."""
    images: np.ndarray
    """float32 [N, 3, H, W]; zeros where an image could not be read."""
    readable: np.ndarray
    """bool [N]."""


class ImageFolder:
    """The images of a data set, in a folder.

    An image that is missing, cut off or damaged is in ``problems`` and stops nothing. Orientation tags are not
    followed, as the published evaluation does not.

    Args:
        root: The data root: image ``a/b.jpg`` is the file ``a/b.jpg`` below it.
        image_ids: The images to read, in this order.
        preprocessing: How they become a network's input.
        num_readers: Threads that read; default: the cores this process may run on, at most 16.

    Raises:
        DatasetError: There is no such folder.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        image_ids: Iterable[str],
        preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (it cannot be changed)
        *,
        num_readers: int | None = None,
    ):
        self.root = Path(root)
        self.image_ids = tuple(image_ids)
        self.preprocessing = preprocessing
        self.problems: dict[str, str] = {}
        """Image id -> why it could not be read, of the images read so far."""
        self._num_readers = min(len(os.sched_getaffinity(0)), _MAX_READERS) if num_readers is None else num_readers
        if self._num_readers < 1:
            raise ValueError(f"num_readers: expected at least 1, found {num_readers}")
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder of images")

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: str) -> np.ndarray:
        """One image as a network's input, float32 [3, H, W].

        Raises:
            DatasetError: It cannot be read; the message says why.
        """
        path = self.root / image_id
        try:
            with Image.open(path) as image:
                return self.preprocessing(image)
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file") from None
        except Exception as error:  # whatever a damaged file makes its decoder raise
            raise DatasetError(f"{path}: cannot be read as an image: {error or type(error).__name__}") from error

    def batches(self, size: int = 64) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """Reads all images, while the caller works on those it has. Memory does not depend on their number.

        Args:
            size: Most images a batch, at least 1.

        Yields:
            (image ids, images): images float32 [N, 3, H, W], N >= 1; those that cannot be read are left out.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, found {size}")
        ids = self.image_ids
        for batch in self.windows(ids[start : start + size] for start in range(0, len(ids), size)):
            if batch.readable.all():
                yield batch.image_ids, batch.images
            elif batch.readable.any():
                rows = np.flatnonzero(batch.readable)
                yield tuple(batch.image_ids[row] for row in rows), batch.images[rows]

    def windows(self, windows: Iterable[Sequence[str]]) -> Iterator[ImageBatch]:
        """Reads given batches of images ahead, each whole, so that an image keeps its place and its neighbours.

        Args:
            windows: The ids of each batch; they need not be among ``image_ids``.
        """
        pool = ThreadPoolExecutor(self._num_readers, thread_name_prefix="wsolkern-images")
        pending: deque[tuple[ImageBatch, list[Future]]] = deque()
        try:
            num_pending = 0
            for window in windows:
                pending.append(self._submit(pool, tuple(window)))
                num_pending += len(window)
                while num_pending - len(pending[0][0].image_ids) >= self._num_readers * _NUM_AHEAD:
                    num_pending -= len(pending[0][0].image_ids)
                    yield self._finish(*pending.popleft())
            while pending:
                yield self._finish(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, image_ids: tuple[str, ...]) -> tuple[ImageBatch, list[Future]]:
        num_images = len(image_ids)
        images = np.zeros((num_images, 3, *self.preprocessing.size), np.float32)
        batch = ImageBatch(image_ids, images, np.zeros(num_images, bool))
        return batch, [pool.submit(self._fill, batch, row) for row in range(num_images)]

    def _fill(self, batch: ImageBatch, row: int) -> str | None:
        """Reads one image into its place, or says why not."""
        try:
            batch.images[row] = self.read(batch.image_ids[row])
        except DatasetError as error:
            return str(error)
        batch.readable[row] = True
        return None

    def _finish(self, batch: ImageBatch, futures: list[Future]) -> ImageBatch:
        for image_id, future in zip(batch.image_ids, futures, strict=True):
            problem = future.result()
            self.problems.pop(image_id, None)
            if problem is not None:
                self.problems[image_id] = problem
        return batch


def class_folders(root: str | os.PathLike) -> dict[str, int]:
    """The images of a data set that has a folder a class, and no other metadata.

    Args:
        root: The data root; its folders by name are classes 0, 1, 2, ..., images lie anywhere below them.

    Returns:
        Image id, the path below the root -> class; classes in turn, ids of one in alphabetical order.

    Raises:
        DatasetError: There is no such folder, or no image below its folders.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of images")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    found = {
        path.relative_to(root).as_posix(): label
        for label, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    }
    if not found:
        raise DatasetError(f"{root}: expected folders, one a class, with images ({', '.join(_SUFFIXES)}), found none")
    return found

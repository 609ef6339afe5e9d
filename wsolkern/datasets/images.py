"""Folders of images as a network's input, read ahead in the background.

In: a data root, and image ids that are paths below it. Out: float32 [N, 3, H, W] with ids; what could not be read.
Source: the evaluation transform of Choe et al., arXiv 2007.04178: resized to a square whatever the shape, normalized.
"""

import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsolkern import machine
from wsolkern.datasets.folders import nearest_files, path_below
from wsolkern.datasets.pixels import read_rgb, to_rgb
from wsolkern.errors import DatasetError
from wsolkern.files import open_regular, readers

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # Pillow's
_MAX_READERS = 16  # threads
_NUM_AHEAD = 2  # images a reader may be ahead of the batch that was asked for
_NUM_NAMED = 5  # folders that a warning names
_NUM_LOOKED_FOR = 8  # images that tell whether a folder is the data root
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input; by default as the published evaluation does it for ImageNet's networks.

    The image is turned into RGB, resized (its aspect is not kept), and each channel v becomes
    (v * white / 255 - mean) / std in float32. What modes of images other than 8-bit RGB become, and which are refused,
    is in :func:`wsolkern.datasets.pixels.to_rgb`.

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
        """The network's input, float32 [3, height, width].

        Raises:
            ValueError: The image's values have no defined black and white.
        """
        height, width = self.size
        resized = to_rgb(image).resize((width, height), Image.Resampling[self.interpolation.upper()])
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
    files: np.ndarray
    """int64 [N, 2]: size in bytes and time of the last change in ns of the files that were read; zeros without one."""
    hashes: tuple[str | None, ...]
    """SHA-256 of the files that were read, N of them; None where it was not asked for or there is none."""


class _Input(NamedTuple):
    """What one image file gave."""

    pixels: np.ndarray | None
    problem: str | None
    file: tuple[int, int] = (0, 0)
    sha256: str | None = None
    is_missing: bool = False


class ImageFolder:
    """The images of a data set, in a folder.

    An image that is missing, cut off, damaged or of another size than listed is in ``problems`` and stops nothing.

    Photographs may have an orientation tag. Whether it counts is decided by ``image_sizes``, image by image: by which
    reading, as stored or as displayed, has the listed size. Where that cannot tell (no size is listed, square images,
    half turns, mirror images) the tag is not followed, as the published evaluation does not; at its end, reading
    warns about the number of such images. (TIFF files come turned in any case: so Pillow reads them.)

    Args:
        root: The data root: image ``a/b.jpg`` is the file ``a/b.jpg`` below it, never one outside; symbolic links are
            followed.
        image_ids: The images to read, in this order.
        preprocessing: How they become a network's input.
        num_readers: Threads that read; default: the cores this process may run on, at most 16.
        image_sizes: Image id -> width and height in pixels; None or without an id: any size will do.

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
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
    ):
        self.root = Path(root)
        self.image_ids = tuple(image_ids)
        self.preprocessing = preprocessing
        self.problems: dict[str, str] = {}
        """Image id -> why it could not be read, of the images read so far."""
        self.undecided: set[str] = set()
        """Images read so far whose orientation tag may count or not."""
        self._num_warned = 0
        self._image_sizes = image_sizes or {}
        self._num_readers = min(machine.num_cores(), _MAX_READERS) if num_readers is None else num_readers
        if self._num_readers < 1:
            raise ValueError(f"num_readers: expected at least 1, found {num_readers}")
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder of images")
        _expect_no_level_above(self.root, self.image_ids[:_NUM_LOOKED_FOR])

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: str) -> np.ndarray:
        """One image as a network's input, float32 [3, H, W].

        Raises:
            DatasetError: It cannot be read; the message says why.
        """
        found = self._read(image_id)
        if found.is_missing:
            raise DatasetError(found.problem + self._advice([image_id]).get(image_id, ""))
        if found.pixels is None:
            raise DatasetError(found.problem)
        return found.pixels

    def _read(self, image_id: str, with_hash: bool = False) -> _Input:
        path, file, sha256 = f"{self.root}/{image_id}", (0, 0), None
        try:
            with open_regular(path_below(self.root, image_id)) as opened:
                status = os.fstat(opened.fileno())  # of what is read, whatever takes its place meanwhile
                file = (status.st_size, status.st_mtime_ns)
                source = opened
                if with_hash:
                    content = opened.read()
                    sha256, source = hashlib.sha256(content).hexdigest(), io.BytesIO(content)
                image, undecided = read_rgb(source, self._image_sizes.get(image_id))
                pixels = self.preprocessing(image)
        except FileNotFoundError:
            return _Input(None, f"{path}: no such file", is_missing=True)
        except Exception as error:  # whatever a damaged file makes its decoder raise
            reason = str(error) or type(error).__name__
            if not isinstance(error, DatasetError):
                reason = f"{path}: cannot be read as an image: {reason}"
            return _Input(None, reason, file, sha256)
        if undecided:
            self.undecided.add(image_id)
        return _Input(pixels, None, file, sha256)

    def _advice(self, missing: list[str]) -> dict[str, str]:
        """Image id -> which file is there in its place, for those that have one."""
        return {image_id: f"; there is {name}" for image_id, name in nearest_files(self.root, missing).items()}

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

    def windows(self, windows: Iterable[Sequence[str]], *, with_hash: bool = False) -> Iterator[ImageBatch]:
        """Reads given batches of images ahead, each whole, so that an image keeps its place and its neighbours.

        Args:
            windows: The ids of each batch; they need not be among ``image_ids``.
            with_hash: Hash the files that are read.
        """
        pending: deque[tuple[tuple[str, ...], np.ndarray, list[Future]]] = deque()
        missing: list[str] = []
        try:
            with readers(self._num_readers, "wsolkern-images") as pool:
                num_pending = 0
                for window in windows:
                    pending.append(self._submit(pool, tuple(window), with_hash))
                    num_pending += len(window)
                    while num_pending - len(pending[0][0]) >= self._num_readers * _NUM_AHEAD:
                        num_pending -= len(pending[0][0])
                        yield self._finish(*pending.popleft(), missing)
                while pending:
                    yield self._finish(*pending.popleft(), missing)
        finally:
            for image_id, advice in self._advice([each for each in missing if each in self.problems]).items():
                self.problems[image_id] += advice
            self._warn()

    def _submit(
        self, pool: ThreadPoolExecutor, image_ids: tuple[str, ...], with_hash: bool
    ) -> tuple[tuple[str, ...], np.ndarray, list[Future]]:
        images = np.zeros((len(image_ids), 3, *self.preprocessing.size), np.float32)
        return (
            image_ids,
            images,
            [pool.submit(self._fill, image_id, images[row], with_hash) for row, image_id in enumerate(image_ids)],
        )

    def _fill(self, image_id: str, room: np.ndarray, with_hash: bool) -> _Input:
        """Reads one image into its place."""
        found = self._read(image_id, with_hash)
        if found.pixels is None:
            return found
        room[...] = found.pixels
        return found._replace(pixels=room)

    def _finish(
        self, image_ids: tuple[str, ...], images: np.ndarray, futures: list[Future], missing: list[str]
    ) -> ImageBatch:
        found = [future.result() for future in futures]
        for image_id, each in zip(image_ids, found, strict=True):
            self.problems.pop(image_id, None)
            if each.problem is not None:
                self.problems[image_id] = each.problem
            if each.is_missing:
                missing.append(image_id)
        readable = np.array([each.problem is None for each in found], bool)
        files = np.array([each.file for each in found], np.int64).reshape(-1, 2)
        return ImageBatch(image_ids, images, readable, files, tuple(each.sha256 for each in found))

    def _warn(self) -> None:
        """Says how many images may be meant turned, once for each of them."""
        if len(self.undecided) > self._num_warned:
            self._num_warned = len(self.undecided)
            warnings.warn(
                f"{self.root}: {self._num_warned:,} images have an orientation tag, and no size tells whether it "
                f"counts: they are read without it, such as {min(self.undecided)}",
                stacklevel=3,
            )


def class_folders(root: str | os.PathLike) -> dict[str, int]:
    """The images of a data set that has a folder a class, and no other metadata.

    What is hidden (its name begins with a dot) does not count, nor do folders without images: a warning names these,
    because a model may have been trained with more classes.

    Args:
        root: The data root; its folders with images, by name, are classes 0, 1, 2, ..., images lie anywhere below them.

    Returns:
        Image id, the path below the root -> class; classes in turn, ids of one in alphabetical order.

    Raises:
        DatasetError: There is no such folder, or no image below its folders.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of images")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = {folder: _images_below(folder) for folder in folders}
    classes = [folder for folder in folders if images[folder]]
    if not classes:
        raise DatasetError(f"{root}: expected folders, one a class, with images ({', '.join(_SUFFIXES)}), found none")
    if empty := [folder.name for folder in folders if not images[folder]]:
        named = ", ".join(empty[:_NUM_NAMED])
        more = f" and {len(empty) - _NUM_NAMED:,} more" if len(empty) > _NUM_NAMED else ""
        warnings.warn(f"{root}: folders without images count as no class: {named}{more}", stacklevel=2)
    return {path.relative_to(root).as_posix(): label for label, folder in enumerate(classes) for path in images[folder]}


def _images_below(folder: Path) -> list[Path]:
    """The image files in a folder and its folders, in alphabetical order."""
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(path, name) for name in names if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith(".")


def _expect_no_level_above(root: Path, image_ids: Sequence[str]) -> None:
    """Does nothing unless the first images are all in a folder below the root, and none in the root itself.

    Raises:
        DatasetError: They are; the message names the folder.
    """
    if not image_ids or any(os.path.lexists(root / each) for each in image_ids):
        return
    with os.scandir(root) as entries:
        below = [entry.name for entry in entries if entry.is_dir()]
    meant = [name for name in below if all(os.path.isfile(root / name / each) for each in image_ids)]
    if meant:
        shown = " or ".join(str(root / each) for each in sorted(meant))
        raise DatasetError(f"{root}: has no image {image_ids[0]!r}; the folder meant seems to be {shown}")

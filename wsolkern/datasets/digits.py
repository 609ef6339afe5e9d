"""A real, small data set that is made here: handwritten digits among pieces of others, on photographic textures.

In: scikit-learn's digits, scikit-image's photographs, a seed. Out: images, masks, metadata in the field's own layout.
Source: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak), as scikit-learn packs it; scikit-image.
"""

import io
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as label_components

from wsolkern.datasets.metadata import Metadata
from wsolkern.errors import DatasetError
from wsolkern.files import write_whole

SPLITS = ("train", "val", "test")
NUM_CLASSES = 10
_TEXTURES = ("brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "ihc.png", "rocket.jpg")
_SHARES = (0.6, 0.15)  # of the handwritten samples that train and val draw from; test has the rest
_GRID = 8  # cells a side of a handwritten sample
_SCALES = (0.35, 0.8)  # of a digit's 8x8 cells, as a fraction of the image's side
_NUM_PIECES = (6, 12)
_PIECE = 3  # cells across: too few for a digit
_MIN_INK = 0.3  # of a piece's cells, on average; paler ones are taken again
_MIN_CONTRAST, _MAX_CONTRAST = 70, 150  # grey values between a stroke and what is behind it
_TRIES = 20  # to find a digit in one piece, and a piece with ink in it


class DigitImage(NamedTuple):
    """One image of the data set."""

    pixels: np.ndarray
    """RGB, uint8 [S, S, 3]."""
    mask: np.ndarray
    """Where the digit is, bool [S, S]; one 8-connected component."""
    label: int
    """The digit."""


def make_digits(
    out: str | os.PathLike,
    counts: Mapping[str, int],
    *,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes the data set.

    ``out/images`` is the data root, ``out/masks`` the mask root; an image id is ``<split>/<number>.png``, below both.
    ``out/metadata/digits-boxes/<split>`` and ``out/metadata/digits-masks/<split>`` say the same with boxes and with
    masks. A box is x0 y0 x1 y1 with x1 and y1 one past the mask's last pixels, as those of evaluated contours are.

    The classes of a split differ by one image at most. A handwritten sample is in the images of one split only, also
    in pieces. An image depends on its split, its number, ``size`` and ``seed``, and on nothing else.

    Args:
        out: Folder to write: an empty one, or none yet.
        counts: Images of "train" (train-weaksup), "val" (train-fullsup) and "test"; a split with 0 is not written.
        size: Side of the images in pixels, at least 32.
        seed: Of all that is random.
        progress: Called with how many images are done.

    Raises:
        DatasetError: ``out`` is a file, or a folder that is not empty.
        ImportError: scikit-learn or scikit-image is not installed.
        ValueError: There is no such split, or a number is out of range.
    """
    if unknown := set(counts) - set(SPLITS):
        raise ValueError(f"counts: expected the splits {', '.join(SPLITS)}, found {min(unknown)!r}")
    if min(counts.values(), default=0) < 0 or max(counts.values(), default=0) == 0:
        raise ValueError(f"counts: expected numbers of images, not all 0, found {dict(counts)}")
    if size < 32 or seed < 0:
        raise ValueError(f"size, seed: expected at least 32 pixels and 0, found {size} and {seed}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: expected an empty folder or none, found something in its place")
    maker = DigitMaker(size, seed)
    done = 0
    for split in (each for each in SPLITS if counts.get(each)):
        for root in ("images", "masks"):
            (out / root / split).mkdir(parents=True)
        lines = []
        for number in range(counts[split]):
            lines.append(_write_image(out, maker, split, number))
            done += 1
            if progress is not None:
                progress(done)
        _write_metadata(out / "metadata", split, size, lines)


class DigitMaker:
    """Makes the images of the data set, each by its split and number, in any order.

    Args:
        size: Side of the images in pixels.
        seed: Of all that is random.

    Raises:
        ImportError: scikit-learn or scikit-image is not installed.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self._samples = _load_samples(seed)
        self._textures = _load_textures()

    def make(self, split: str, number: int) -> DigitImage:
        """One image; its digit goes by the number, so that any ten in a row are all digits in some order."""
        split_index, (round_, place) = SPLITS.index(split), divmod(number, NUM_CLASSES)
        order = np.random.default_rng((self.seed, split_index, 0, round_)).permutation(NUM_CLASSES)
        label = int(order[place])
        rng = np.random.default_rng((self.seed, split_index, 1, number))

        side = int(rng.integers(round(_SCALES[0] * self.size), round(_SCALES[1] * self.size), endpoint=True))
        samples = self._samples[split]
        for _ in range(_TRIES):
            ink = _enlarge(samples[label][rng.integers(len(samples[label]))], side)
            mask_part = ink >= 0.5
            if label_components(mask_part, np.ones((3, 3)))[1] == 1:
                break
        rows, columns = (np.flatnonzero(mask_part.any(axis)) for axis in (1, 0))
        # What is left of the ink outside the mask's box is cut off: the box is exactly what there is to see.
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask_part = mask_part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        y, x = (int(rng.integers(0, self.size - length, endpoint=True)) for length in ink.shape)
        mask = np.zeros((self.size, self.size), bool)
        mask[y : y + ink.shape[0], x : x + ink.shape[1]] = mask_part

        pixels = self._background(rng)
        self._draw_pieces(rng, pixels, samples, mask, side)
        _draw(rng, pixels, ink, y, x)
        return DigitImage(np.rint(pixels).astype(np.uint8), mask, label)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """A part of a photograph, turned, mirrored, tinted, of less contrast; float32 [S, S, 3]."""
        texture = self._textures[rng.integers(len(self._textures))]
        height, width = texture.shape[:2]
        side = int(rng.integers(min(self.size, height, width), min(height, width) // 2, endpoint=True))
        y, x = (int(rng.integers(0, length - side, endpoint=True)) for length in (height, width))
        part = Image.fromarray(texture[y : y + side, x : x + side]).resize((self.size, self.size), Image.Resampling.BOX)
        pixels = np.rot90(np.asarray(part, np.float32), int(rng.integers(4)))[:, :: int(rng.choice((-1, 1)))]
        mean = pixels.mean((0, 1), keepdims=True)
        contrast, tint = rng.uniform(0.4, 0.9), rng.uniform(-40, 40, 3).astype(np.float32)
        return np.clip((pixels - mean) * np.float32(contrast) + np.clip(mean + tint, 70, 185), 0, 255)

    def _draw_pieces(
        self, rng: np.random.Generator, pixels: np.ndarray, samples: list[np.ndarray], mask: np.ndarray, side: int
    ) -> None:
        """Pieces of digits' strokes, as large and as strong as those of the digit, beside it and each other."""
        length = side * _PIECE // _GRID
        # With a pixel between them, pieces do not make the digit another one.
        taken = binary_dilation(mask, np.ones((3, 3)))
        for _ in range(rng.integers(*_NUM_PIECES, endpoint=True)):
            ink = self._piece(rng, samples, side, length)
            free = np.flatnonzero(_window_sums(taken, length) == 0)
            if not len(free):
                return
            y, x = divmod(int(free[rng.integers(len(free))]), self.size - length + 1)
            _draw(rng, pixels, ink, y, x)
            taken[max(0, y - 1) : y + length + 1, max(0, x - 1) : x + length + 1] = True

    @staticmethod
    def _piece(rng: np.random.Generator, samples: list[np.ndarray], side: int, length: int) -> np.ndarray:
        """A round part of some digit with some ink in it, float32 [length, length]."""
        for _ in range(_TRIES):
            some = samples[rng.integers(NUM_CLASSES)]
            cells = some[rng.integers(len(some))]
            row, column = (int(each) for each in rng.integers(0, _GRID - _PIECE, 2, endpoint=True))
            if cells[row : row + _PIECE, column : column + _PIECE].mean() >= _MIN_INK:
                break
        y, x = row * side // _GRID, column * side // _GRID
        across = (np.arange(length, dtype=np.float32) + 0.5) * 2 / length - 1
        window = np.clip((1 - np.hypot(across[:, None], across)) * 4, 0, 1)
        return _enlarge(cells, side)[y : y + length, x : x + length] * window


def _draw(rng: np.random.Generator, pixels: np.ndarray, ink: np.ndarray, y: int, x: int) -> None:
    """Draws strokes, lighter or darker than what is behind them, in a colour of their own, over ``pixels``."""
    part = pixels[y : y + ink.shape[0], x : x + ink.shape[1]]
    behind = part.mean()
    contrast = rng.uniform(_MIN_CONTRAST, _MAX_CONTRAST)
    lighter = rng.random() < 0.5 if _MAX_CONTRAST < behind < 255 - _MAX_CONTRAST else behind < 128
    colour = np.clip(behind + (contrast if lighter else -contrast) + rng.uniform(-30, 30, 3), 0, 255)
    part += ink[..., None] * (colour.astype(np.float32) - part)


def _window_sums(pixels: np.ndarray, side: int) -> np.ndarray:
    """How many pixels are set in each square window, int64 [H - side + 1, W - side + 1]."""
    sums = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def _enlarge(cells: np.ndarray, side: int) -> np.ndarray:
    """Cells in [0, 1] as strokes with a soft edge, float32 [side, side]."""
    smooth = np.asarray(Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(smooth * 2 - 0.5, 0, 1)


def _load_samples(seed: int) -> dict[str, list[np.ndarray]]:
    """Split -> for each digit its handwritten samples, float32 [n, 8, 8] in [0, 1]; no sample is in two splits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            f"{error}; handwritten digits come with scikit-learn: pip install 'wsolkern[demo]'"
        ) from error
    content = load_digits()
    found: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in range(NUM_CLASSES):
        samples = (content.images[content.target == label] / 16).astype(np.float32)
        samples = samples[np.random.default_rng((seed, len(SPLITS), label)).permutation(len(samples))]
        ends = np.rint(np.cumsum(_SHARES) * len(samples)).astype(int)
        for split, part in zip(SPLITS, np.split(samples, ends), strict=True):
            found[split].append(part)
    return found


def _load_textures() -> list[np.ndarray]:
    """RGB, uint8 [h, w, 3] each."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("textures come with scikit-image, not installed here: pip install scikit-image")
    folder = Path(spec.origin).parent / "data"
    textures = []
    for name in _TEXTURES:
        with Image.open(folder / name) as image:
            textures.append(np.asarray(image.convert("RGB")))
    return textures


def _write_image(out: Path, maker: DigitMaker, split: str, number: int) -> tuple[str, int, tuple[int, int, int, int]]:
    """Writes an image and its mask; returns its id, class and box."""
    made, image_id = maker.make(split, number), f"{split}/{number:05d}.png"
    for root, pixels in (("images", made.pixels), ("masks", made.mask.astype(np.uint8) * 255)):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        write_whole(out / root / image_id, content.getvalue(), one_of_many=True)
    rows, columns = (np.flatnonzero(made.mask.any(axis)) for axis in (1, 0))
    return image_id, made.label, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _write_metadata(folder: Path, split: str, size: int, lines: list[tuple]) -> None:
    """One split, with boxes and with masks."""
    image_ids, labels, boxes = zip(*lines, strict=True)
    common = {
        "class_labels": dict(zip(image_ids, labels, strict=True)),
        "image_sizes": dict.fromkeys(image_ids, (size, size)),
    }
    located = {
        "digits-boxes": {"boxes": {each: np.array([box]) for each, box in zip(image_ids, boxes, strict=True)}},
        "digits-masks": {"mask_paths": {each: (each,) for each in image_ids}},
    }
    for name, localization in located.items():
        Metadata(image_ids, **common, **localization).write(folder / name / split)

"""Masks: which pixels of an image are object, background or ignored.

In: mask images, one an object instance, and an image of the region to ignore. Out: one uint8 map of 1, 0 and 255.
Source: Choe et al., arXiv 2007.04178, section 4.3; pixels equal cv2.imread(..., IMREAD_GRAYSCALE) and INTER_NEAREST.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from wsolkern.datasets.folders import nearest_files, path_below
from wsolkern.datasets.pixels import is_white_zero, load, open_image, unsigned_bits
from wsolkern.errors import DatasetError
from wsolkern.files import open_regular

if TYPE_CHECKING:
    from wsolkern.datasets.metadata import Metadata

# Weights of red, green and blue in a grey value, in 1/32768, and what is added before the shift: libpng truncates while
# it decodes a PNG, OpenCV rounds what the other decoders give it.
_LUMA_PNG = ((9797, 19234, 3737), 0)
_LUMA = ((9798, 19234, 3736), 1 << 14)
_SAVE = "save it as a black and white image of 8 bits"


class MaskFolder:
    """The masks of some images, in a folder; called with an image id it gives its ground truth, see :func:`load_mask`.

    Args:
        root: Folder that the paths start from.
        mask_paths: Image id -> mask images of its instances.
        ignore_paths: Image id -> image of the region to ignore, None or "" for none.
        size: Height and width of the ground truth in pixels.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        mask_paths: Mapping[str, Sequence[str]],
        ignore_paths: Mapping[str, str | None],
        size: tuple[int, int] = (224, 224),
    ):
        self.root = root
        self.mask_paths, self.ignore_paths = mask_paths, ignore_paths
        self.size = size
        self._nearest: dict[str, str] | None = None

    def __call__(self, image_id: str) -> np.ndarray:
        paths = self.mask_paths[image_id], self.ignore_paths.get(image_id)
        return _load(self.root, *paths, self.size, False, self._advise)

    def _advise(self, path: str) -> str | None:
        """The file that is there in place of one that is not; folders are listed once, for all that is missing."""
        if self._nearest is None:
            paths = {path for paths in self.mask_paths.values() for path in paths}
            paths |= {path for path in self.ignore_paths.values() if path}
            self._nearest = nearest_files(self.root, paths)
        return self._nearest.get(path)


def without_missing_ignore(split: "Metadata", mask_root: str | os.PathLike) -> "Metadata":
    """A split that names no region to ignore whose image is not there; a warning counts them.

    Args:
        split: A split with masks.
        mask_root: Folder that its paths start from.
    """
    return replace(split, ignore_paths=existing_ignore_paths(split.ignore_paths, mask_root))


def existing_ignore_paths(
    ignore_paths: Mapping[str, str | None], mask_root: str | os.PathLike
) -> dict[str, str | None]:
    """Image id -> image of the region to ignore, None where that is not there; a warning counts these images."""
    named = {image_id: path for image_id, path in ignore_paths.items() if path}
    missing = {image_id: path for image_id, path in named.items() if not os.path.exists(path_below(mask_root, path))}
    if missing:
        warnings.warn(
            f"{os.fspath(mask_root)}: {len(missing):,} of {len(named):,} ignore masks are not there, and nothing is "
            f"ignored in their images; the first: {next(iter(missing.values()))}",
            stacklevel=3,
        )
    return {image_id: None if image_id in missing else path for image_id, path in ignore_paths.items()}


def load_mask(
    mask_root: str | os.PathLike,
    mask_paths: Iterable[str],
    ignore_path: str | None = None,
    size: tuple[int, int] = (224, 224),
    *,
    allow_missing_ignore: bool = False,
) -> np.ndarray:
    """The ground truth of one image: the union of its instances, and what is ignored outside it.

    Args:
        mask_root: Folder that the paths start from, and stay in.
        mask_paths: Mask images of the instances, at least one; their pixels differ from 0 on the object.
        ignore_path: Image of the region to ignore; nothing is ignored if it is None or empty.
        size: Height and width to resize to (nearest neighbour), in pixels.
        allow_missing_ignore: Nothing is ignored either if there is no such file.

    Returns:
        uint8 [H, W]: 1 object, 0 background, 255 ignored.

    Raises:
        DatasetError: A mask is missing, a file is no image, or it holds values that would be lost: see
            :func:`load_grey`. Also if pixels that alpha makes invisible belong to the object. The message names it.
    """
    return _load(mask_root, mask_paths, ignore_path, size, allow_missing_ignore, None)


def _load(
    root: str | os.PathLike,
    mask_paths: Iterable[str],
    ignore_path: str | None,
    size: tuple[int, int],
    allow_missing_ignore: bool,
    advise: Callable[[str], str | None] | None,
) -> np.ndarray:
    def read(path: str, what: str) -> np.ndarray:
        file = path_below(root, path)
        try:
            grey, alpha = _read(file, size)
        except FileNotFoundError:
            there = nearest_files(root, [path]).get(path) if advise is None else advise(path)
            text = f"{file}: no such {what}" + (f"; there is {there}" if there else "")
            if what == "ignore mask":
                text += "; an empty path means that there is none, and allow_missing_ignore (--allow-missing-ignore) "
                text += "that nothing is ignored then"
            raise DatasetError(text) from None
        if alpha is not None and (grey[alpha == 0] > 0).any():
            raise DatasetError(f"{file}: its alpha channel hides pixels of the object; {_SAVE}")
        return grey > 0

    mask_paths = list(mask_paths)
    if not mask_paths:
        raise DatasetError(f"{os.fspath(root)}: expected at least one mask path, found none")
    mask = np.zeros(size, np.uint8)
    for path in mask_paths:
        mask[read(path, "mask file")] = 1
    if ignore_path and not (allow_missing_ignore and not os.path.exists(path_below(root, ignore_path))):
        mask[read(ignore_path, "ignore mask") & (mask == 0)] = 255
    return mask


def load_grey(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """An image file as uint8 [H, W] grey values at ``size`` (height, width), nearest neighbour.

    They are those of OpenCV. Images of whole numbers with 32 bits, which it does not read, give these, at most 255.

    Raises:
        DatasetError: No such file, or no image; it has several frames; or it holds values, but reads as empty: all
            its values are too small or its colours too dark for a grey value of 1, palette entries look alike, or only
            alpha tells the object from the background.
    """
    try:
        return _read(path, size)[0]
    except FileNotFoundError:
        raise DatasetError(f"{os.fspath(path)}: no such mask file") from None


def _read(path: str | os.PathLike, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values of an image file, and its alpha, uint8 [H, W] both; None if it has no alpha."""
    try:
        with open_regular(path) as file:
            return _decode(open_image(file), size)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes its decoder raise
        raise DatasetError(f"{os.fspath(path)}: cannot be read as an image: {error or type(error).__name__}") from error


def _decode(image: Image.Image, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    image.draft("L", image.size)  # a JPEG decodes to its own luma
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"expected one frame, found {image.n_frames}: list each as a mask file of its own")
    _, turn = load(image)
    shown = image if turn is None or image.format == "TIFF" else image.transpose(turn)
    picked = np.ix_(_nearest(size[0], shown.height), _nearest(size[1], shown.width))
    indices = alpha = None
    if shown.mode in ("1", "L", "RGB"):
        values = np.asarray(shown)
    elif shown.mode in ("LA", "La", "RGBA"):
        values = np.asarray(shown.convert("LA") if shown.mode == "La" else shown)
        values, alpha = (values[..., 0] if shown.mode != "RGBA" else values[..., :3]), values[..., -1][picked]
    elif shown.mode.startswith(("I", "F")):
        values = _numbers(image, np.asarray(shown))
    elif shown.mode in ("P", "PA"):
        transparency = shown.info.pop("transparency", None)
        indices, values = np.asarray(shown), np.asarray(shown.convert("RGB"))
        if shown.mode == "PA":
            indices, alpha = indices[..., 0], indices[..., 1][picked]
        elif transparency is not None:
            alpha = _palette_alpha(transparency)[indices[picked]]
    else:
        values = np.asarray(shown.convert("RGB"))

    grey = _grey(values[picked], image.format)
    if alpha is not None and grey.min() == grey.max() and alpha.min() < alpha.max():
        raise ValueError(f"only its alpha tells the object from the background; {_SAVE}")
    if indices is not None:
        _expect_one_black(indices[picked][grey == 0], values[picked][grey == 0])
    if not grey.any():
        held = values if indices is None else indices
        # An object may be so small that no pixel of it is picked. In bands: a small file can hold a large image.
        bands = np.array_split(values, 1 + values.size // 2**22)
        if held.any() and not any(_grey(band, image.format).any() for band in bands):
            raise ValueError(f"it holds values other than 0, but all are too dark for a grey value of 1; {_SAVE}")
    return grey, alpha


def _grey(values: np.ndarray, file_format: str | None) -> np.ndarray:
    """uint8 [H, W] of bits, grey values of 8 or 16 bits [H, W] or colours [H, W, 3]."""
    if values.ndim == 3:
        weights, rounding = _LUMA_PNG if file_format == "PNG" else _LUMA
        return ((values.astype(np.int32) @ np.array(weights, np.int32) + rounding) >> 15).astype(np.uint8)
    if values.dtype == np.uint16:  # the high byte
        return (values >> 8).astype(np.uint8)
    return values * np.uint8(255) if values.dtype == bool else values


def _numbers(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """The values of an image of integers or floats: uint16 of all 16 bits, or uint8 if they may have more."""
    bits = None if image.mode.startswith("F") else unsigned_bits(image)
    if bits is not None:
        values = values.astype(np.uint16) << (16 - bits)
        return ~values if is_white_zero(image) else values
    if is_white_zero(image):
        raise ValueError(f"0 is white in it; {_SAVE}")
    low, fractions = values.min(), values.dtype.kind == "f" and not (values == np.floor(values)).all()
    if fractions or not low >= 0:
        raise ValueError(f"expected whole numbers from 0, found {'fractions or NaN' if fractions else low}; {_SAVE}")
    return np.minimum(values, 255).astype(np.uint8)


def _palette_alpha(transparency: int | bytes) -> np.ndarray:
    """Alpha by palette index, uint8 [256]."""
    alpha = np.full(256, 255, np.uint8)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
    return alpha


def _expect_one_black(indices: np.ndarray, colours: np.ndarray) -> None:
    """Does nothing if the palette entries of pixels that read as background differ in their colour.

    Raises:
        ValueError: Two look alike, so that one of them may be an object.
    """
    used = np.flatnonzero(np.bincount(indices, minlength=256))
    if len(used) > 1:
        by_colour: dict[tuple, int] = {}
        for index in used.tolist():
            other = by_colour.setdefault(tuple(colours[np.argmax(indices == index)].tolist()), index)
            if other != index:
                raise ValueError(f"its palette entries {other} and {index} are the same black; {_SAVE}")


def _nearest(new: int, old: int) -> np.ndarray:
    """Which of ``old`` pixels each of ``new`` pixels takes: floor(i * scale), the scale a reciprocal as in OpenCV."""
    return np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1)

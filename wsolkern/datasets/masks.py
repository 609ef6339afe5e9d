"""Masks: which pixels of an image are object, background or ignored.

In: mask images, one an object instance, and an image of the region to ignore. Out: one uint8 map of 1, 0 and 255.
Source: Choe et al., arXiv 2007.04178, section 4.3; pixels equal cv2.imread(..., IMREAD_GRAYSCALE) and INTER_NEAREST.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wsolkern.errors import DatasetError

# Weights of red, green and blue in a grey value, in 1/32768, and what is added before the shift: libpng truncates while
# it decodes a PNG, OpenCV rounds what the other decoders give it.
_LUMA_PNG = ((9797, 19234, 3737), 0)
_LUMA = ((9798, 19234, 3736), 1 << 14)


def load_mask(
    mask_root: str | os.PathLike,
    mask_paths: Iterable[str],
    ignore_path: str | None = None,
    size: tuple[int, int] = (224, 224),
) -> np.ndarray:
    """The ground truth of one image: the union of its instances, and what is ignored outside it.

    Args:
        mask_root: Folder that the paths start from.
        mask_paths: Mask images of the instances, at least one; their pixels differ from 0 on the object.
        ignore_path: Image of the region to ignore; nothing is ignored if it is None, empty or there is no such file.
        size: Height and width to resize to (nearest neighbour), in pixels.

    Returns:
        uint8 [H, W]: 1 object, 0 background, 255 ignored.

    Raises:
        DatasetError: A mask is missing, or a file is no image; the message names it.
    """
    mask_paths = list(mask_paths)
    if not mask_paths:
        raise DatasetError(f"{os.fspath(mask_root)}: expected at least one mask path, found none")
    mask = np.zeros(size, np.uint8)
    for path in mask_paths:
        mask[load_grey(Path(mask_root, path), size) > 0] = 1
    if ignore_path and Path(mask_root, ignore_path).exists():
        mask[(load_grey(Path(mask_root, ignore_path), size) > 0) & (mask == 0)] = 255
    return mask


def load_grey(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """An image file as uint8 [H, W] grey values at ``size`` (height, width), nearest neighbour.

    Raises:
        DatasetError: No such file, or no image.
    """
    try:
        with Image.open(path) as image:
            image.draft("L", image.size)  # a JPEG decodes to its own luma
            oriented = ImageOps.exif_transpose(image)
            width, height = oriented.size
            picked = np.ix_(_nearest(size[0], height), _nearest(size[1], width))
            if oriented.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "RGB", "RGBA"):
                oriented = oriented.convert("RGB")
            pixels = np.asarray(oriented)[picked]
            if oriented.mode == "1":
                return pixels * np.uint8(255)
            if oriented.mode.startswith("I"):  # 16 bits: the high byte
                return (pixels >> 8).astype(np.uint8)
            if pixels.ndim == 2:
                return pixels
            if oriented.mode == "LA":
                return pixels[..., 0]
            weights, rounding = _LUMA_PNG if image.format == "PNG" else _LUMA
            return ((pixels[..., :3].astype(np.int32) @ np.array(weights, np.int32) + rounding) >> 15).astype(np.uint8)
    except FileNotFoundError:
        raise DatasetError(f"{os.fspath(path)}: no such mask file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{os.fspath(path)}: cannot be read as an image: {error}") from error


def _nearest(new: int, old: int) -> np.ndarray:
    """Which of ``old`` pixels each of ``new`` pixels takes: floor(i * scale), the scale a reciprocal as in OpenCV."""
    return np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1)

"""Image files: opened, brought to 8 bits a channel, and turned where that is meant.

In: open files that Pillow reads. Out: Pillow images in RGB; values that have no defined black and white are refused.
Source: TIFF 6.0, PNG (ISO/IEC 15948) and Exif 2.32, which say what values and orientations mean.
"""

from contextlib import suppress
from typing import BinaryIO

import numpy as np
from PIL import Image

_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_TURNS = {  # orientation -> what shows the stored pixels as they are meant
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_BACK = _TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def open_image(file: BinaryIO) -> Image.Image:
    """The image in an open file; its pixels are decoded when they are asked for.

    Raises:
        ValueError: It has more pixels than Pillow reads.
        Exception: Whatever a damaged file makes its decoder raise.
    """
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{str(error).partition(',')[0]}; save a smaller copy (it is resized in any case), or set "
            "PIL.Image.MAX_IMAGE_PIXELS in Python"
        ) from error


def read_rgb(file: BinaryIO, listed: tuple[int, int] | None = None) -> tuple[Image.Image, bool]:
    """An image in RGB, in the orientation whose size is the one listed.

    Args:
        file: The open file.
        listed: Width and height that the image should have, if they are known.

    Returns:
        (image, undecided): undecided if it has an orientation tag, but size or no size tells whether that counts. Then
        the image is as Pillow decodes it: TIFF files turned, all others not.

    Raises:
        ValueError: Neither as stored nor as displayed the image has the listed size, or see :func:`to_rgb`.
        Exception: Whatever a damaged file makes its decoder raise.
    """
    image = open_image(file)
    orientation, turn = load(image)
    size = image.size
    turned = size[::-1] if orientation >= 5 else size
    if listed is not None and tuple(listed) not in (size, turned):
        also = f" ({turned[0]} x {turned[1]} turned by its orientation tag)" if turned != size else ""
        raise ValueError(
            f"expected {listed[0]} x {listed[1]} pixels as image_sizes.txt says, found {size[0]} x {size[1]}{also}"
        )
    rgb = to_rgb(image)
    if turn is None:
        return rgb, False
    if listed is None or turned == size:
        return rgb, True
    return (rgb if tuple(listed) == size else rgb.transpose(turn)), False


def load(image: Image.Image) -> tuple[int, Image.Transpose | None]:
    """Decodes an image.

    Returns:
        (orientation, turn): orientation 1 to 8, and what turns the pixels as they are now to the other reading, as
        displayed if they are as stored. Pillow turns TIFF files itself: these are as displayed.
    """
    tiff = image.format == "TIFF"
    orientation = image.tag_v2.get(_ORIENTATION) if tiff else None  # loading takes it away
    image.load()
    if not tiff:
        with suppress(Exception):  # whatever damaged Exif data raise: then there is no tag
            orientation = image.getexif().get(_ORIENTATION)
    if orientation not in _TURNS:
        return 1, None
    return orientation, (_TURNS_BACK if tiff else _TURNS)[orientation]


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB.

    Images of 8 bits a channel or less are converted as Pillow does it, which leaves alpha out and takes the first of
    several frames. Unsigned values of 9 to 16 bits are scaled from their own range, floats from [0, 1].

    Raises:
        ValueError: The values have no defined black and white: signed or 32-bit integers, floats outside [0, 1].
    """
    if image.mode == "RGB":  # converting would copy: 2% of reading a photograph
        return image
    if image.format == "TIFF" and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()):
        raise ValueError("signed integers have no defined black and white; save it with 8 bits a channel")
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode not in _EIGHT_BITS:
        raise ValueError(f"its mode {image.mode} has no defined reading as RGB; save it as RGB or grey")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """The values of an image of more than 8 bits as uint8 [H, W], black 0 and white 255."""
    values = np.asarray(image)
    if image.mode.startswith("F"):
        low, high, white = values.min(), values.max(), 1
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"floats: expected values from 0 (black) to 1 (white), found {low:g} to {high:g}; "
                "scale them, or save it with 8 bits a channel"
            )
    else:
        bits = unsigned_bits(image)
        if bits is None:
            raise ValueError("32-bit integers have no defined white; save it with 8 or 16 bits")
        white = (1 << bits) - 1
    if is_white_zero(image):
        values = white - values
    return (values * (255 / white) + 0.5).astype(np.uint8)


def unsigned_bits(image: Image.Image) -> int | None:
    """How many bits the values of a grey image of integers have; None if they are signed or may have more than 16."""
    if image.format == "TIFF" and image.mode != "I":
        return image.tag_v2[_BITS][0]
    if image.mode != "I" or image.format in ("PNG", "PPM"):  # of which there are none with more
        return 16
    return None


def is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white, which Pillow takes care of up to 8 bits only."""
    return image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO

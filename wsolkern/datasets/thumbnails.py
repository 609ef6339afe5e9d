"""Small copies of images, to be drawn or to be put into a page.

In: a folder of images, their ids. Out: RGB images of Pillow; JPEG.
Source: none.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from wsolkern import machine
from wsolkern.datasets.folders import path_below
from wsolkern.datasets.pixels import read_rgb
from wsolkern.errors import DatasetError
from wsolkern.files import open_regular, readers

LONGEST = 224
"""Pixels of a thumbnail's longer side."""
_QUALITY = 80  # of JPEG
_NUM_AT_ONCE = 64


def small_image(
    root: str | os.PathLike[str], image_id: str, image_sizes: Mapping[str, tuple[int, int]], longest: int
) -> Image.Image:
    """An image in RGB, made small enough.

    Args:
        root: Folder that image ids are paths below.
        image_id: The image.
        image_sizes: Width and height of images in pixels, where that is known.
        longest: Pixels of the longer side, at most.

    Raises:
        DatasetError: It cannot be read.
    """
    if not Path(root).is_dir():
        raise DatasetError(f"{os.fspath(root)}: no such folder of images")
    try:
        with open_regular(path_below(Path(root), image_id)) as file:
            image, _ = read_rgb(file, image_sizes.get(image_id))
            scale = longest / max(image.size)
            if scale < 1:
                image = image.resize([max(1, round(side * scale)) for side in image.size])
            return image.convert("RGB")
    except Exception as error:  # a damaged file may raise anything
        raise DatasetError(
            f"{os.fspath(root)}/{image_id}: expected an image, found none that can be read ({error})"
        ) from error


def thumbnails(
    root: str | os.PathLike[str],
    image_ids: Sequence[str],
    image_sizes: Mapping[str, tuple[int, int]],
    *,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[bytes | None]:
    """A JPEG of each image, its longer side at most :data:`LONGEST`; None where it cannot be read.

    Args:
        root, image_ids, image_sizes: As for :func:`small_image`.
        progress: Called with "thumbnails", the number of images done and of all.
    """

    def one(image_id: str) -> bytes | None:
        try:
            image = small_image(root, image_id, image_sizes, LONGEST)
        except DatasetError:
            return None
        content = io.BytesIO()
        image.save(content, "JPEG", quality=_QUALITY)
        return content.getvalue()

    found: list[bytes | None] = []
    with readers(machine.num_cores(), "wsolkern-thumbnails") as pool:
        for start in range(0, len(image_ids), _NUM_AT_ONCE):
            found += pool.map(one, image_ids[start : start + _NUM_AT_ONCE])
            if progress is not None:
                progress("thumbnails", len(found), len(image_ids))
    return found

"""The demo's photographs: where they are, what is on them, and the crops that make a data set of them.

In: photographs that come inside installed packages, boxes in photographs.json. Out: crops with class and boxes.
Source: scikit-image, matplotlib and scikit-learn; classes are ImageNet's, boxes were measured by eye for this demo.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# A crop's sides as fractions of the photograph's, and where it lies in the room that leaves, across and down.
_SCALES = (1.0, 0.85, 0.7, 0.55)
_PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
_MAX_CROPS = 7  # of a photograph, largest first; twice that with the mirrored ones
_MIN_VISIBLE = 0.75  # of the area of an object's first box: a crop that shows less is left out
_MIN_VISIBLE_OTHER = 0.25  # of the area of another box: a crop that shows less does without it


@dataclass(frozen=True)
class Photograph:
    """A photograph and one kind of object on it."""

    name: str
    """What image ids begin with."""
    package: str
    """The installed package that it comes in, as it is imported."""
    file: str
    """Its path in that package."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    class_index: int
    """The object's ImageNet class, 0 to 999."""
    class_name: str
    """That class in words."""
    boxes: tuple[tuple[int, int, int, int], ...]
    """The objects of that class: x0 y0 x1 y1 in pixels, inclusive."""
    outline: str
    """What the boxes go around."""

    def path(self) -> Path:
        """Where the file is.

        Raises:
            ImportError: Its package is not installed.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"photograph {self.name!r} comes in package {self.package!r}, not installed here")
        return Path(spec.origin).parent / self.file

    def pixels(self) -> np.ndarray:
        """RGB, uint8 [height, width, 3].

        Raises:
            ImportError: Its package is not installed.
            ValueError: It has another size than the one its boxes were measured on.
        """
        return _pixels(self.path(), (self.width, self.height))


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a photograph, an image of the demo's data set."""

    image_id: str
    """name/WIDTHxHEIGHT+X+Y, and -mirrored."""
    photograph: Photograph
    """What it is cut from."""
    window: tuple[int, int, int, int]
    """x y width height in pixels of the photograph."""
    mirrored: bool
    """Left and right change places after cutting."""
    boxes: np.ndarray
    """int32 [n, 4], x0 y0 x1 y1 in pixels of the crop, inclusive."""

    def pixels(self, side: int | None = None) -> np.ndarray:
        """RGB, uint8 [height, width, 3], or squeezed into [side, side, 3] as a classifier wants it."""
        from PIL import Image

        x, y, width, height = self.window
        pixels = self.photograph.pixels()[y : y + height, x : x + width]
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if side is None:
            return np.ascontiguousarray(pixels)
        return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def load_photographs() -> tuple[Photograph, ...]:
    """All of them, as photographs.json lists them; no package is needed for that."""
    content = json.loads(files(__package__).joinpath("photographs.json").read_text(encoding="utf-8"))
    return tuple(
        Photograph(**{**each, "boxes": tuple(tuple(box) for box in each["boxes"])}) for each in content["photographs"]
    )


def load_crops() -> list[Crop]:
    """The demo's images, the same everywhere: each photograph whole and cropped, as it is and mirrored."""
    places = [(scale, *place) for scale in _SCALES for place in (_PLACES if scale < 1 else _PLACES[:1])]
    crops = []
    for photograph in load_photographs():
        pairs = [pair for place in places if (pair := _cut(photograph, *place))]
        crops += [crop for pair in pairs[:_MAX_CROPS] for crop in pair]
    return crops


def split_crops(crops: Iterable[Crop]) -> dict[str, list[Crop]]:
    """Two splits, "val" and "test", which share no photograph: the photographs' files by name, in turn."""
    names: dict[tuple[str, str], str] = {}
    for photograph in load_photographs():
        file = photograph.package, photograph.file
        names[file] = min(photograph.name, names.get(file, photograph.name))
    in_val = set(sorted(names, key=names.__getitem__)[::2])
    splits: dict[str, list[Crop]] = {"val": [], "test": []}
    for crop in crops:
        splits["val" if (crop.photograph.package, crop.photograph.file) in in_val else "test"].append(crop)
    return splits


def _cut(photograph: Photograph, scale: float, across: float, down: float) -> list[Crop]:
    """One crop and its mirror image, or none if it shows too little of the object."""
    width, height = round(photograph.width * scale), round(photograph.height * scale)
    x, y = round((photograph.width - width) * across), round((photograph.height - height) * down)
    boxes = np.array(photograph.boxes, np.int32)
    visible = np.clip(boxes - (x, y, x, y), 0, (width - 1, height - 1, width - 1, height - 1))
    inside = (boxes[:, 0] < x + width) & (boxes[:, 1] < y + height) & (boxes[:, 2] >= x) & (boxes[:, 3] >= y)
    fraction = np.where(inside, _area(visible) / _area(boxes), 0)
    if fraction[0] < _MIN_VISIBLE:
        return []
    visible = visible[fraction >= _MIN_VISIBLE_OTHER].astype(np.int32)
    mirror = visible.copy()
    mirror[:, [0, 2]] = width - 1 - visible[:, [2, 0]]
    image_id, window = f"{photograph.name}/{width}x{height}+{x}+{y}", (x, y, width, height)
    return [
        Crop(image_id, photograph, window, False, visible),
        Crop(f"{image_id}-mirrored", photograph, window, True, mirror),
    ]


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)


@cache
def _pixels(path: Path, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        if image.size != size:
            raise ValueError(f"{path}: expected {size[0]} x {size[1]} pixels, found {image.size[0]} x {image.size[1]}")
        pixels = np.asarray(image.convert("RGB"))
    pixels.setflags(write=False)
    return pixels

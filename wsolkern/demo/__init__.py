"""A small data set that needs no download: crops of photographs from installed packages, and their CAMs.

In: the packages of the ``demo`` extra. Out: images with classes and boxes, CAMs of EfficientNet-Lite0 for them.
Source: see photographs.json for photographs and boxes, :mod:`wsolkern.models` for the classifier.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from wsolkern.cams import class_activation_maps
from wsolkern.datasets.metadata import scale_boxes
from wsolkern.demo.photographs import Crop, Photograph, load_crops, load_photographs
from wsolkern.models import EfficientNetLite0
from wsolkern.ops import backends

__all__ = [
    "Crop",
    "Photograph",
    "crop_boxes",
    "crop_cams",
    "demo_cams",
    "load_crops",
    "load_photographs",
    "write_dataset",
]


def demo_cams(
    resolution: int = 448, size: tuple[int, int] = (224, 224)
) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    """CAMs of real photographs with ground-truth boxes.

    Args:
        resolution: Side that photographs are resized to for the classifier, in pixels, a multiple of 32; the CAMs'
            side is a 32nd of it: 14 for 448, 7 for 224.
        size: Height and width of the map that the boxes are for, in pixels.

    Returns:
        (cams, boxes, image ids): float32 [N, h, w], CAMs of each image's true class; N times int32 [n, 4],
        x0 y0 x1 y1 in pixels of the resized map, inclusive; N strings.

    Raises:
        ImportError: A package of the ``demo`` extra is not installed.
    """
    crops = load_crops()
    return crop_cams(crops, resolution), crop_boxes(crops, size), [crop.image_id for crop in crops]


def crop_cams(
    crops: Sequence[Crop], resolution: int = 448, *, progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """The CAM of each crop's true class, float32 [N, resolution / 32, resolution / 32].

    Args:
        crops: N images.
        resolution: As for :func:`demo_cams`.
        progress: Called after each crop with the number of those that are done.

    Raises:
        ImportError: A package of the ``demo`` extra is not installed.
    """
    import torch

    model = EfficientNetLite0()

    def cam(crop: Crop) -> np.ndarray:
        features = model.features(crop.pixels(resolution)[None])
        return class_activation_maps(features, model.class_weights, [crop.photograph.class_index]).numpy()

    # One image a thread: as fast as all threads on one image, and the same bits on any number of cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(backends.num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            cams = []
            for done, each in enumerate(pool.map(cam, crops), start=1):
                cams.append(each)
                if progress:
                    progress(done)
    finally:
        torch.set_num_threads(num_threads)
    return np.concatenate(cams)


def crop_boxes(crops: Sequence[Crop], size: tuple[int, int] = (224, 224)) -> list[np.ndarray]:
    """Ground truth per crop, int32 [n, 4], x0 y0 x1 y1 in pixels of a map of ``size`` (height, width)."""
    return [scale_boxes(crop.boxes, np.tile(crop.window[2:], (len(crop.boxes), 1)), size) for crop in crops]


def write_dataset(folder: str | os.PathLike, crops: Sequence[Crop], cams: np.ndarray) -> None:
    """Writes ``metadata/`` in the field's own layout and ``cams/`` with one .npy an image, over what is there.

    Args:
        folder: Where to.
        crops: N images.
        cams: Their CAMs, float [N, h, w].
    """
    records: dict[str, list[str]] = {
        "image_ids.txt": [crop.image_id for crop in crops],
        "class_labels.txt": [f"{crop.image_id},{crop.photograph.class_index}" for crop in crops],
        "image_sizes.txt": [f"{crop.image_id},{crop.window[2]},{crop.window[3]}" for crop in crops],
        "localization.txt": [
            f"{crop.image_id},{','.join(map(str, box))}" for crop in crops for box in crop.boxes.tolist()
        ],
    }
    metadata, maps = Path(folder, "metadata"), Path(folder, "cams")
    metadata.mkdir(parents=True, exist_ok=True)
    for name, lines in records.items():
        (metadata / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for crop, cam in zip(crops, cams, strict=True):
        path = maps / f"{crop.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, cam)

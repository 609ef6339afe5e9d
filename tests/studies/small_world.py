"""A small world of studies: splits with boxes and masks, and stores of their maps.

In: random maps and boxes. Out: a folder with metadata, stores, a folder of maps, and how each study reads them.
Source: none.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from shared import write_split

from wsolkern import studies
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata

SIZE, INTERVAL = 24, 0.05
HOW = {"size": (SIZE, SIZE), "thresholds": np.arange(0, 1, INTERVAL)}
NUM_IMAGES = 40


def furnish(root: Path) -> Path:
    """CUB val and test with boxes, OpenImages test with masks, a store of each, and CUB's test maps as a folder."""
    for place, (dataset, split) in enumerate((("CUB", "val"), ("CUB", "test"), ("OpenImages", "test"))):
        rng = np.random.default_rng(place)
        names = [f"{dataset}-{split}-{each}.jpg" for each in range(NUM_IMAGES)]
        corners = rng.integers(0, 24, (NUM_IMAGES, 2))
        boxes = np.concatenate([corners, corners + rng.integers(8, 24, (NUM_IMAGES, 2))], axis=1).tolist()
        truth = {"box": boxes.__getitem__} if dataset == "CUB" else {"mask": "mask.png"}
        folder = root / "metadata" / dataset / split
        write_split(folder, names, size=(60, 48), label=lambda number: number % 3, **truth)
        maps = rng.normal(size=(NUM_IMAGES, 7, 7)).astype(np.float32)
        run = Manifest(dataset=dataset, split=split, method="CAM", backbone="VGG16", nwc=True)
        with CamWriter(root / f"{dataset}-{split}", run, maps_per_shard=16) as writer:
            writer.add(names, maps, nwc_cams=-maps)
        if (dataset, split) == ("CUB", "test"):
            (root / "maps").mkdir()
            for name, each in zip(names, maps, strict=True):
                np.save(root / "maps" / f"{name}.npy", each)
    pixels = np.zeros((48, 60), np.uint8)
    pixels[10:30, 8:40] = 255
    Image.fromarray(pixels).save(root / "mask.png")
    return root


def split_of(world: Path, name: str):
    return load_metadata(world / "metadata" / name)


# How the library does each study.
STUDIES = {
    "evaluate": lambda world, **how: studies.evaluate(
        world / "CUB-test", split_of(world, "CUB/test"), "minmax ivr:0.3", **{**HOW, **how}
    ),
    "folder": lambda world, **how: studies.evaluate(
        world / "maps", split_of(world, "CUB/test"), "max", **{**HOW, **how}
    ),
    "masks": lambda world, **how: studies.evaluate(
        world / "OpenImages-test", split_of(world, "OpenImages/test"), "max", mask_root=world, **{**HOW, **how}
    ),
    "sweep": lambda world, **how: studies.sweep(
        world / "CUB-val", split_of(world, "CUB/val"), "max ivr:0.1..0.4/0.1", nwc=True, **{**HOW, **how}
    ),
    "select": lambda world, **how: studies.select(
        *(world / "CUB-val", split_of(world, "CUB/val"), world / "CUB-test", split_of(world, "CUB/test")),
        "max ivr:0.1..0.4/0.1",
        **{"num_resamples": 20, "num_val_per_class": 9, "seed": 3, "confidence": 0.9, **HOW, **how},
    ),
    "table": lambda world, **how: studies.table(
        [world / "CUB-val", world / "CUB-test", world / "OpenImages-test"],
        world / "metadata",
        **{"mask_roots": {"openimages": world}, "published": True, "nwc": True, **HOW, **how},
    ),
}

"""The data of the committed results, made anew: `python -m tests.studies.committed` writes the results again.

In: nothing but integers. Out: metadata and stores of 40 images with boxes and with masks, the same bytes everywhere.
Source: none.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FILES = {"boxes": "committed_result.json", "masks": "committed_masks.json"}
NORMALIZATIONS = "minmax max pas:0.9 ivr:0.0..0.9/0.15 ivr:0.45+pas:0.9"
NUM_IMAGES, SIDE = 40, 32


def furnish(root: Path) -> Path:
    """ROOT/boxes, ROOT/masks (metadata), ROOT/maps (a store), ROOT/mask.png; no random generator has a say."""
    from wsolkern.cams import CamWriter, Manifest
    from wsolkern.datasets import Metadata

    ids = tuple(f"{number}.jpg" for number in range(NUM_IMAGES))
    rows, columns = np.mgrid[:7, :7]
    maps = np.stack([((rows * a + columns * b + rows * columns * (a % 5)) % 67 - 9) / 64 for a, b in map(pair, ids)])
    boxes = {each: np.array([[a % 20, b % 18, a % 20 + 9 + b % 11, b % 18 + 7 + a % 13]]) for each, (a, b) in
             zip(ids, map(pair, ids), strict=True)}  # fmt: skip
    how = {"class_labels": {each: place % 3 for place, each in enumerate(ids)}}
    how |= {"image_sizes": dict.fromkeys(ids, (48, 40))}
    Metadata(ids, boxes=boxes, **how).write(root / "boxes")
    Metadata(ids, mask_paths=dict.fromkeys(ids, ("mask.png",)), ignore_paths=dict.fromkeys(ids), **how).write(
        root / "masks"
    )
    # Without versions, which differ from place to place, the store has the same hash everywhere.
    with CamWriter(root / "maps", Manifest(dataset="CUB", split="test", versions={}), maps_per_shard=16) as writer:
        writer.add(ids, maps.astype(np.float32))
    Image.fromarray(np.pad(np.full((17, 21), 255, np.uint8), ((9, 14), (8, 19)))).save(root / "mask.png")
    return root


def pair(image_id: str) -> tuple[int, int]:
    """Two integers of an image."""
    number = int(image_id.partition(".")[0])
    return 3 + number * 29 % 31, 5 + number * number % 37


def result(root: Path, name: str) -> dict:
    """What a study of them gives, as the files hold it: places are below "data", and nothing tells time or machine."""
    from wsolkern.datasets import load_metadata
    from wsolkern.studies import evaluate

    found = evaluate(
        root / "maps", load_metadata(root / name), NORMALIZATIONS, size=(SIDE, SIDE),
        thresholds=np.arange(0, 1, 0.05), mask_root=root if name == "masks" else None,
    ).to_dict(curves=True)  # fmt: skip
    return json.loads(json.dumps(found | {"seconds": 0}).replace(str(root), "data"))


def main() -> int:
    """Writes the files."""
    with tempfile.TemporaryDirectory() as folder:
        root = furnish(Path(folder))
        for name, file in FILES.items():
            text = json.dumps(result(root, name), sort_keys=True, indent=1)
            Path(__file__).with_name(file).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

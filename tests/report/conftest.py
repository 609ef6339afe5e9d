"""Reports of the small world, which tests of pages read.

In: nothing. Out: fixtures.
Source: none.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from small_world import HOW, furnish, split_of

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest

MORE = {"candidates": "max ivr:0.1..0.4/0.1", "num_resamples": 50, "confidence": 0.9, **HOW}


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """What :func:`furnish` makes, an image for each of CUB's test but the last, and another run of these, "other"."""
    root = furnish(tmp_path_factory.mktemp("reported"))
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for each in split_of(root, "CUB/test").image_ids[:-1]:
        Image.fromarray(rng.integers(0, 255, (48, 60, 3), np.uint8)).save(root / "images" / each)
    store = CamStore(root / "CUB-test")
    with CamWriter(root / "other", Manifest(dataset="CUB", split="test", method="HaS")) as writer:
        maps = np.stack([store.read(each) for each in store.image_ids])
        writer.add(store.image_ids, (maps + 0.5 * rng.normal(size=maps.shape)).astype(np.float32))
    return root


@pytest.fixture(scope="session")
def one(world):
    """Of one run with boxes."""
    return studies.report(world / "CUB-test", split_of(world, "CUB/test"), "minmax ivr:0.3", **MORE)


@pytest.fixture(scope="session")
def two(world):
    """Of two runs."""
    split = split_of(world, "CUB/test")
    return studies.compare(world / "CUB-test", world / "other", split, "minmax ivr:0.3", **MORE)


@pytest.fixture(scope="session")
def masks(world):
    """Of one run with masks."""
    split = split_of(world, "OpenImages/test")
    return studies.report(world / "OpenImages-test", split, "minmax ivr:0.3", mask_root=world, **MORE)

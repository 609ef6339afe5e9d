"""A reader's folder: what the documentation's examples find under the names that they use.

In: the digits data set, made in a fixture. Out: a folder with metadata, dataset, cams, scoremaps and runs.
Source: none.
"""

import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from wsolkern import normalize
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata
from wsolkern.ops.resizing import resize


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """Under the names of the field's data sets: 24, 12 and 16 images of digits, and random CAMs of them."""
    from wsolkern.datasets.digits import make_digits

    place = tmp_path_factory.mktemp("reader")
    make_digits(place / "dataset" / "CUB", {"train": 24, "val": 12, "test": 16}, size=64)
    (place / "metadata").mkdir()
    (place / "dataset/CUB/metadata/digits-boxes").rename(place / "metadata/CUB")
    (place / "dataset/CUB/metadata/digits-masks").rename(place / "metadata/OpenImages")
    (place / "dataset/CUB/masks").rename(place / "dataset/OpenImages")
    for part in (place / "dataset/CUB/images").iterdir():
        part.rename(place / "dataset/CUB" / part.name)
    rng = np.random.default_rng(0)
    for split in ("val", "test"):
        ids = load_metadata(place / "metadata/CUB" / split).image_ids
        cams = rng.normal(size=(2, len(ids), 7, 7)).astype(np.float32)
        run = Manifest(dataset="CUB", split=split, method="CAM", backbone="VGG16", nwc=True)
        with CamWriter(place / f"runs/cub-vgg16-cam-{split}", run) as writer:
            writer.add(ids, cams[0], nwc_cams=cams[1])
        if split == "test":
            with CamWriter(place / "runs/cub-vgg16-has-test", replace(run, method="HaS", nwc=False)) as writer:
                writer.add(ids, cams[1])
            for image_id, cam, scores in zip(
                ids, cams[0], normalize(resize(cams[0], (224, 224)), "minmax"), strict=True
            ):
                for folder, array in (("cams", cam), ("scoremaps", scores)):
                    (place / folder / image_id).parent.mkdir(parents=True, exist_ok=True)
                    np.save(place / folder / f"{image_id}.npy", array)
    return place


@pytest.fixture
def reader(furnished, tmp_path, monkeypatch):
    """A copy of it as the current folder; environment, modules and threads are put back afterwards."""
    import torch

    place = tmp_path / "reader"
    shutil.copytree(furnished, place)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    environment, modules, threads = dict(os.environ), set(sys.modules), torch.get_num_threads()
    yield place
    for name in set(sys.modules) - modules:  # modules of the page, and those that the drop-in gives another name
        found = sys.modules[name]
        if str(getattr(found, "__file__", None) or "").startswith(str(place)) or found.__name__ != name:
            del sys.modules[name]
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)

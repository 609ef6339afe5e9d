"""`--classes both`: one forward pass, and two stores that are those of two runs, to the byte.

In: our own networks of each method, networks of timm, named CAM methods; five images. Out: nothing.
Source: none.
"""

from pathlib import Path

import pytest
import torch
from PIL import Image
from shared import slow_but
from torch import nn

from wsolkern import models, studies
from wsolkern.cams import CamStore

SIZE = (64, 96)
passed: list[int] = []  # images that went through a first convolution


def counted(make) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    first = next(each for each in model.modules() if isinstance(each, nn.Conv2d))
    first.register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    return model.eval()


def own(method):
    return counted(lambda: models.build("tiny", method, num_classes=2))


def of_timm(name, **options):
    import timm

    return counted(lambda: timm.create_model(name, num_classes=2, **options))


VIT = {"name": "vit_tiny_patch16_224", "img_size": SIZE, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}
CASES = {
    "own cam": ("own", {"method": "cam"}, "cam", 1),
    "own acol": ("own", {"method": "acol"}, "cam", 1),
    "own spg": ("own", {"method": "spg"}, "cam", 1),
    "own adl": ("own", {"method": "adl"}, "cam", 1),
    "timm resnet": ("of_timm", {"name": "test_resnet"}, "cam", 1),
    "timm convnext": ("of_timm", {"name": "convnext_atto"}, "linear", 1),
    "timm vit similarity": ("of_timm", VIT, "similarity", 1),
    "timm vit rollout": ("of_timm", VIT, "rollout", 1),
    "timm vit pca": ("of_timm", VIT, "pca", 1),
    "timm vit gradcam": ("of_timm", VIT, "gradcam", 2),
}


def kept(path: Path) -> tuple[dict, list[bytes]]:
    """The manifest and the shards."""
    shards = [each.read_bytes() for each in sorted((path / "shards").iterdir())]
    return vars(CamStore(path).manifest), shards


@pytest.mark.parametrize(
    "case", slow_but(["own cam", "own acol", "timm resnet", "timm convnext", "timm vit similarity"], CASES)
)
def test_two_stores_from_one_pass(tmp_path, monkeypatch, case):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    make, arguments, cam, num_passes = CASES[case]
    if make == "of_timm":
        pytest.importorskip("timm", reason="timm or torchvision is not installed", exc_type=ImportError)
    if cam == "gradcam":
        pytest.importorskip("torchcam", reason="torch-cam is not installed")
    for number in range(5):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        colours = bytes(37 * number * each % 251 for each in range(48 * 32 * 3))
        Image.frombytes("RGB", (48, 32), colours).save(folder / f"{number}.png")
    how = {"arguments": arguments, "cam": cam, "preprocessing": {"size": SIZE}, "nwc": cam == "cam", "batch_size": 2}

    def passes(out: str, classes: str) -> int:
        passed.clear()
        studies.extract(f"{__name__}:{make}", tmp_path / "images", tmp_path / out, classes=classes, **how)
        return sum(passed)

    one = passes("labels", "labels")
    assert passes("predicted", "predicted") <= one
    assert passes("both", "both") == one + 5 * (num_passes - 1)
    first, second = kept(tmp_path / "both"), kept(tmp_path / "both.predicted")
    assert first == kept(tmp_path / "labels") and second == kept(tmp_path / "predicted")
    assert first[1] != second[1] and len(first[1]) > 0

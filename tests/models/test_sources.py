"""Models by the name that timm has for them, with timm's data config.

In: timm's smallest networks with random weights, three images. Out: stores.
Source: timm/data/config.py.
"""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from wsolkern.cams import CamStore
from wsolkern.cli import app
from wsolkern.errors import ArgumentError
from wsolkern.models.sources import ModelSource, model_source


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm or torchvision is not installed", exc_type=ImportError)


def test_other_names_are_taken_as_they_are():
    assert model_source("package.module:function") == ModelSource("package.module:function")


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"timm:resnet18: needs timm and the torchvision .*wsolkern\[models\]"):
        model_source("timm:resnet18")


def test_names_of_timm(timm):
    found = model_source("timm:vit_tiny_patch16_224.augreg_in21k")
    half = (0.5, 0.5, 0.5)
    assert found.preprocessing == {"size": (224, 224), "interpolation": "bicubic", "mean": half, "std": half}
    assert (found.model, found.arguments) == ("timm:create_model", {"model_name": "vit_tiny_patch16_224.augreg_in21k"})
    assert model_source("timm:vit_tiny_patch16_224", {"img_size": [64, 32]}).preprocessing["size"] == (64, 32)
    assert model_source("timm:create_model") == ModelSource("timm:create_model")
    with pytest.raises(ArgumentError, match="model timm:resnet19: expected a model of timm .*; near: resnet1"):
        model_source("timm:resnet19")
    with pytest.raises(ArgumentError, match="no_such_tag"):
        model_source("timm:resnet18.no_such_tag")


def test_a_name_of_timm_makes_the_store_of_the_long_command(timm, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "a" / f"{number}.png")
    weights = tmp_path / "weights.pth"
    model = timm.create_model("test_resnet", num_classes=4)
    torch.save(model.state_dict(), weights)
    common = ["-a", "num_classes=4", "--weights", weights, "--images", tmp_path / "images"]

    def stored(name: str, *arguments) -> tuple[dict, list[bytes]]:
        command = ["extract", *arguments, *common, "-o", tmp_path / name]
        done = CliRunner().invoke(app, [str(each) for each in command])
        assert done.exit_code == 0, (done.output, done.exception)
        shards = [each.read_bytes() for each in sorted((tmp_path / name / "shards").iterdir())]
        return vars(CamStore(tmp_path / name).manifest), shards

    config = timm.data.resolve_model_data_config(model)
    assert config["mean"] == (0.5, 0.5, 0.5) and config["input_size"] == (3, 160, 160)  # no defaults of ours
    mean, std = (" ".join(map(str, config[name])) for name in ("mean", "std"))
    long = ["--size", 160, "--interpolation", config["interpolation"], "--mean", mean, "--std", std]
    long += ["--backbone", "test_resnet", "-a", "model_name=test_resnet"]
    short = stored("short", "timm:test_resnet")
    assert short == stored("long", "timm:create_model", *long) and len(short[1]) > 0
    other = stored("other", "timm:test_resnet", "--size", 64, "--interpolation", "nearest")[0]["preprocessing"]
    assert (other["size"], other["interpolation"]) == ([64, 64], "nearest")
    assert other["mean"] == short[0]["preprocessing"]["mean"]

"""Networks of one's own, trained and extracted from: what is wrong is found before the first epoch.

In: 12 small images with boxes; the examples of the documentation; networks that will not do. Out: runs and stores.
Source: none.
"""

import re
from pathlib import Path

import numpy as np
import own_networks
import pytest
import torch
from PIL import Image
from shared import write_split
from torch import nn
from typer.testing import CliRunner

from wsolkern.cams import CamStore, cam_model
from wsolkern.cli import app
from wsolkern.methods.adl import ADL
from wsolkern.training import Recipe, TrainingData, train

NUM_CLASSES = 3
SMALL = {"epochs": 1, "batch_size": 4, "resize_size": 20, "crop_size": 16, "lr": 0.01}


@pytest.fixture
def place(tmp_path) -> Path:
    """Images and boxes of two splits."""
    random = np.random.default_rng(0)
    for split, number in (("train", 9), ("val", 3)):
        (tmp_path / "images" / split).mkdir(parents=True)
        ids = [f"{split}/{index}.png" for index in range(number)]
        for image_id in ids:
            Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "images" / image_id)
        how = {"size": (20, 20), "box": (2, 3, 15, 12), "label": lambda index: index % NUM_CLASSES}
        write_split(tmp_path / "boxes" / split, ids, **how)
    return tmp_path


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(Path(__file__).parent)


def command(place: Path, backbone: str, method: str = "cam", **settings) -> list[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | settings).items()]
    where = ["--dataset", place / "images", "--metadata", place / "boxes", "-o", place / "run"]
    return ["train", "--backbone", backbone, "--method", method, *where, *options]


def invoke(arguments: list, code: int = 0):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def extracted(place: Path, model: list) -> CamStore:
    where = ["--images", place / "images", "--metadata", place / "boxes/val", "--size", 16, "-o", place / "store"]
    invoke(["extract", *model, *where])
    return CamStore(place / "store")


# The examples.


@pytest.mark.parametrize("method", ["cam", "has", "cutmix"])
def test_any_network_that_gives_logits(place, method):
    """Trained, its checkpoint extracted from; the head that is found has the classifier's learning rate."""
    invoke(command(place, "own_networks:plain", method))
    content = torch.load(place / "run/last_checkpoint.pth.tar", weights_only=True)
    assert content["architecture"] == "Plain" and [
        len(each["params"]) for each in content["optimizer"]["param_groups"]
    ] == [6, 2]
    model = [
        "own_networks:plain",
        "-a",
        f"num_classes={NUM_CLASSES}",
        "--weights",
        place / "run/best_checkpoint.pth.tar",
    ]
    store = extracted(place, model)
    assert store.num_maps == 3 and store.manifest.preprocessing["head"] == "head"
    assert "was finished already" in invoke(command(place, "own_networks:plain", method)).stdout


@pytest.mark.parametrize("method", ["cam", "has", "acol", "spg", "adl", "cutmix"])
@pytest.mark.parametrize("backbone", ["own_networks:all_methods", "tiny"])
def test_all_methods(place, method, backbone):
    invoke(command(place, backbone, method))
    model = ["-a", f"method={method}", "-a", f"num_classes={NUM_CLASSES}"]
    if backbone == "tiny":
        model = ["wsolkern.models:build", "-a", "backbone=tiny", *model]
    else:
        model = [backbone, *model, "-a", "large_feature_map=false"]
        options = {"acol": ["acol_threshold=0.7"], "adl": ["adl_drop_rate=0.75", "adl_threshold=0.9"]}
        model += [part for each in options.get(method, []) for part in ("-a", each)]
    store = extracted(place, [*model, "--weights", place / "run/best_checkpoint.pth.tar"])
    assert store.num_maps == 3


def test_cams_by_a_function(place):
    store = extracted(place, ["own_networks:grad_cams"])
    assert store.num_maps == 3 and store.read("val/0.png").shape == (4, 4)


def test_a_gray_network(place):
    assert str(cam_model(own_networks.gray_network(), (16, 16)).features) == "1.1"
    assert extracted(place, ["own_networks:gray_network"]).num_maps == 3


def test_the_documentation_has_the_examples():
    path = Path(__file__).parents[2] / "docs" / "inputs.md"
    if not path.exists():
        pytest.skip("docs/inputs.md is not here")
    for example in Path(own_networks.__file__).read_text().split("# example: ")[1:]:
        title, code = example.split("\n", 1)
        assert title.split(",")[0] in path.read_text()
        assert code.replace("  # noqa: E402", "").strip() in path.read_text(), title


# What will not do is said before the first epoch.


def no_average(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 64, num_classes))


def too_few(num_classes):
    return own_networks.plain(num_classes - 1)


def fixed():
    return own_networks.plain(5)


def frozen(num_classes):
    return own_networks.plain(num_classes).requires_grad_(False)


def not_a_number(num_classes):
    network = own_networks.plain(num_classes)
    nn.init.constant_(network.head.bias, torch.nan)
    return network


def one_at_a_time(num_classes):
    """Batch normalization behind the pooling, which cannot learn from one image."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(network, nn.Sequential(nn.Linear(4, num_classes), nn.BatchNorm1d(num_classes)))


def without_adl(method, num_classes, large_feature_map, **options):
    return own_networks.Cam(num_classes)


def without_branches(method, num_classes, large_feature_map, **options):
    return own_networks.Cam(num_classes)


def a_function(num_classes):
    return lambda images: images


def wrapped(num_classes):
    return nn.DataParallel(own_networks.plain(num_classes))


WRONG = {
    "no_average": ("no_average", "cam", {}, "found no feature map .* Naming parts cannot help"),
    "too_few": ("too_few", "cam", {}, r"expected logits \[1, K\] of at least 3 classes, found \[1, 2\]"),
    "frozen": ("frozen", "cam", {}, "Plain has no parameter to train"),
    "not_a_number": ("not_a_number", "cam", {}, "noise are NaN, for the weights are: head.bias"),
    "one_at_a_time": ("one_at_a_time", "cam", {}, "fails in a step of cam with 1 images .* Expected more than 1 value"),
    "adl": ("without_adl", "adl", {}, "adl needs layers wsolkern.methods.adl.ADL, which Cam has not; see docs"),
    "acol": ("without_branches", "acol", {}, "acol needs 'logit_b' in what Cam returns; see docs/inputs.md"),
    "spg": ("without_branches", "spg", {}, "spg needs '.*' in what Cam returns; see docs/inputs.md"),
    "plain_spg": ("fixed", "spg", {}, "spg needs a function with an argument method, which .*fixed has not; see docs"),
    "plain_adl": ("too_few", "adl", {}, "adl needs a function with an argument method"),
    "tap": ("too_few", "cam", {"argument": "tap_threshold=0.1"}, "tap_threshold: only a function with an argument met"),
    "large": ("too_few", "has", {"large_feature_map": None}, "large_feature_map: only a function with an argument"),
    "function": ("a_function", "cam", {}, "to return a torch.nn.Module, found <function"),
    "pretrained": ("fixed", "cam", {"pretrained": "torchvision"}, r"pretrained: Plain has no torchvision_names\(\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_networks_that_will_not_do(place, name):
    function, method, settings, message = WRONG[name]
    arguments = command(place, f"test_networks:{function}", method, **settings)
    arguments = [each.removesuffix("=None") if isinstance(each, str) else each for each in arguments]
    done = invoke(arguments, code=2)
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr
    assert not (place / "run").exists()


def test_more_classes_than_there_are_and_wrappers_will_do(place):
    for function in ("fixed", "wrapped"):
        invoke(command(place, f"test_networks:{function}")[:-1] + ["--lr=0.01", "-o", place / function])
        state = torch.load(place / function / "last_checkpoint.pth.tar", weights_only=True)["state_dict"]
        assert len(state["head.weight"]) == (5 if function == "fixed" else 3)


def test_the_rehearsal_leaves_the_network_as_it_is(place, monkeypatch):
    """The weights after an epoch are those of a run without it."""
    from wsolkern.training.loop import _Trainer

    for method in ("cam", "adl"):
        recipe = Recipe("own_networks:all_methods", method, **SMALL)
        data = TrainingData.load(place / "images", place / "boxes")
        states = []
        for name in ("with", "without"):
            if name == "without":
                monkeypatch.setattr(_Trainer, "_rehearse", lambda *_: None)
            train(recipe, data, place / f"{method} {name}")
            states.append(torch.load(place / f"{method} {name}" / "last_checkpoint.pth.tar", weights_only=True))
        monkeypatch.undo()
        monkeypatch.syspath_prepend(Path(__file__).parent)
        for key, value in states[0]["state_dict"].items():
            assert torch.equal(value, states[1]["state_dict"][key]), key
        assert any(isinstance(each, ADL) for each in recipe.for_data(3, data.sha256()).build().modules()) == (
            method == "adl"
        )


# Data.


def rewrite(place: Path, split: str, name: str, change) -> None:
    path = place / "boxes" / split / f"{name}.txt"
    path.write_text("".join(f"{change(line)}\n" for line in path.read_text().splitlines()))


def shifted(line: str) -> str:
    image_id, label = line.split(",")
    return f"{image_id},{int(label) + 1}"


def test_labels_out_of_range_are_named_before_the_first_epoch(place):
    for split in ("train", "val"):
        rewrite(place, split, "class_labels", shifted)
    done = invoke(command(place, "tiny", num_classes=3), code=2)
    assert "boxes/train/class_labels.txt:3: image 'train/2.png': expected an integer in [0, 3)" in done.stderr
    assert "and 2 more such labels. The labels seem to start at 1" in done.stderr
    assert not (place / "run").exists()
    done = invoke(command(place, "tiny"))  # defined: class 0 has no image; said once
    assert "no image is of class 0: the labels seem to start at 1" in done.stderr
    rewrite(place, "val", "class_labels", lambda line: line.replace(",1", ",-1"))
    done = invoke(command(place, "tiny"), code=2)
    assert "class_labels.txt:1: expected a class from 0 to 2147483647, found -1" in done.stderr


def test_splits_that_count_classes_differently_are_refused(place):
    rewrite(place, "train", "class_labels", shifted)
    done = invoke(command(place, "tiny"), code=2)
    assert (
        "val/class_labels.txt: expected the classes of train, 1 to 3, found 0 to 2; the first class is 0" in done.stderr
    )


def test_classes_of_val_that_train_lacks_are_counted(place):
    rewrite(place, "val", "class_labels", lambda line: line.replace(",2", ",7"))
    done = invoke(command(place, "tiny"))
    assert "1 images of val are of classes that no image of train has: 7" in done.stderr


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_readable_image_stops_at_once(place, split):
    for path in (place / "images" / split).iterdir():
        path.write_bytes(b"no image")
    done = invoke(command(place, "tiny", epochs=50), code=2)
    message = "no image of train could be read" if split == "train" else "no image could be evaluated"
    assert message in done.stderr and f"{split}/0.png" in done.stderr and "epoch" not in done.stderr
    assert not (place / "run").exists()


def test_masks_that_are_not_there_stop_at_once(place):
    rewrite(place, "val", "localization", lambda line: f"{line.split(',')[0]},masks/{Path(line.split(',')[0]).name},")
    done = invoke([*command(place, "tiny", epochs=50), "--mask-root", place / "images"], code=2)
    assert "no image could be evaluated" in done.stderr and "masks/0.png" in done.stderr


def test_a_run_that_goes_on_is_rehearsed_too(place):
    invoke(command(place, "tiny"))
    for path in (place / "images/val").iterdir():
        path.unlink()
    assert "was finished already" in invoke(command(place, "tiny")).stdout
    (place / "run/last_checkpoint.pth.tar").unlink()
    assert "no image could be evaluated" in invoke(command(place, "tiny"), code=2).stderr

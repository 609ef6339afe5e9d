"""Training: the same bits however often a run was killed and by how many processes; recipes, rates, losses, files.

In: 26 small images, networks of a few thousand parameters with the published heads. Out: checkpoints and logs.
Source: learning rates, groups and the checkpoint's format are those of clovaai/wsolevaluation, main.py and config.py.
"""

import csv
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from shared import write_split
from torch import nn
from typer.testing import CliRunner

from wsolkern import models
from wsolkern.cams import CamStore, Ranks, open_maps
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.methods import acol, cutmix, has, spg
from wsolkern.methods.adl import ADL
from wsolkern.models.heads import AcolNetwork, CamNetwork, SpgNetwork, initialize
from wsolkern.studies.counting import count_maps, evaluator_for
from wsolkern.training import Recipe, TrainingData, augmentation, optimization, train, train_together
from wsolkern.training.recipe import default_options
from wsolkern.training.shards import ShardSum

NUM_TRAIN, NUM_VAL, NUM_CLASSES = 26, 9, 3
THIS = "test_training:tiny"
SMALL = {
    **{"backbone": THIS, "method": "cam", "epochs": 3, "batch_size": 8, "resize_size": 20, "crop_size": 16},
    **{"lr": 0.05, "lr_decay_frequency": 2},
}

# Networks with batch normalization and dropout.


def stem(channels: int, filters: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, filters, 3, stride, 1), nn.BatchNorm2d(filters), nn.ReLU()]


class TinyCam(CamNetwork):
    backbone, classifying_layer, classifier_layers, tap_threshold = "tiny", "fc", ("fc.",), None

    def __init__(self, num_classes: int, **adl):
        super().__init__(num_classes)
        drop = [ADL(adl["adl_drop_rate"], adl["adl_threshold"])] if adl else [nn.Dropout(0.2)]
        self.trunk = nn.Sequential(*stem(3, 8, 2), *drop, *stem(8, 12, 1))
        self.fc = nn.Linear(12, num_classes)
        initialize(self, "he")


class TinyAcol(AcolNetwork):
    backbone, classifier_layers = "tiny", ("classifier_",)

    def __init__(self, num_classes: int, acol_threshold: float):
        super().__init__(num_classes)
        self.acol_threshold = acol_threshold
        self.trunk = nn.Sequential(*stem(3, 8, 2))
        self.classifier_A, self.classifier_B = (
            nn.Sequential(*stem(8, 12, 1), nn.Conv2d(12, num_classes, 1)) for _ in range(2)
        )


class TinySpg(SpgNetwork):
    backbone, classifying_layer, classifier_layers = "tiny", "SPG_A4", ("SPG_",)

    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.features, self.SPG_A4 = nn.Sequential(*stem(3, 8, 4)), nn.Conv2d(8, num_classes, 1)
        self.SPG_B_1a, self.SPG_B_2a, self.SPG_B_shared, self.SPG_C = (nn.Conv2d(8, n, 1) for n in (8, 8, 1, 1))

    def stages(self, images):
        features = self.features(images)
        return features, features, features


def tiny(method: str, num_classes: int, large_feature_map: bool, **options) -> nn.Module:
    return {"acol": TinyAcol, "spg": TinySpg}.get(method, TinyCam)(num_classes, **options)


def plain(method: str, num_classes: int, large_feature_map: bool) -> nn.Module:
    """It does not say which parameters are the classifier's."""
    return nn.Linear(1, num_classes)


# Data.


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Images of three classes, each with a colour of its own in a box; boxes and masks of val."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, number in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        boxes = {}
        (folder / "images" / split).mkdir(parents=True)
        for index in range(number):
            pixels = rng.integers(60, 160, (24, 30, 3), np.uint8)
            x, y, label = int(rng.integers(14)), int(rng.integers(10)), index % NUM_CLASSES
            pixels[y : y + 12, x : x + 14, label] = 250
            image_id = f"{split}/{index:02d}.png"
            Image.fromarray(pixels).save(folder / "images" / image_id)
            mask = np.zeros((24, 30), np.uint8)
            mask[y : y + 12, x : x + 14] = 255
            Image.fromarray(mask).save(folder / "images" / f"{image_id}.mask.png")
            boxes[image_id] = x, y, x + 14, y + 12
        ids = list(boxes)
        for kind, located in (
            ("boxes", {"box": lambda number, boxes=boxes: [*boxes.values()][number]}),
            ("masks", {"mask": lambda number, ids=ids: f"{ids[number]}.mask.png"}),
        ):
            more = {"size": (30, 24), **located} if split == "val" else {}  # train needs no more
            write_split(folder / kind / split, ids, label=lambda number: number % NUM_CLASSES, **more)
    return folder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    monkeypatch.chdir(Path(__file__).parent)  # where the networks are found


def data_of(place: Path) -> TrainingData:
    return TrainingData.load(place / "images", place / "boxes")


def state_of(run: Path, name: str = "last_checkpoint.pth.tar") -> dict[str, torch.Tensor]:
    """The weights, and what the optimizer keeps, of a checkpoint."""
    content = torch.load(run / name, weights_only=True)
    momentum = {f"momentum {key}": each["momentum_buffer"] for key, each in content["optimizer"]["state"].items()}
    return content["state_dict"] | momentum


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def rows_of(run: Path) -> list[dict]:
    """log.csv without what differs from run to run."""
    with open(run / "log.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def arguments(place: Path, run: Path, **settings) -> list[str]:
    """The command line."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | settings).items()]
    return ["train", "--dataset", str(place / "images"), "--metadata", str(place / "boxes"), "-o", str(run), *options]


def invoke(command: list, code: int = 0):
    done = CliRunner().invoke(app, [str(each) for each in command])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory) -> Path:
    """A run of two shards a batch from beginning to end."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSOLKERN_NUM_THREADS", "1")
        patch.chdir(Path(__file__).parent)
        train(Recipe.read(None, SMALL | {"shards": 2}), data_of(place), run)
    return run


# Recipes.


def test_defaults_are_the_published_ones():
    recipe = Recipe("vgg16", "has")
    published = {
        **{"epochs": 40, "batch_size": 64, "lr": 0.01, "lr_decay_frequency": 30, "lr_classifier_ratio": 10.0},
        **{"momentum": 0.9, "weight_decay": 1e-4, "resize_size": 256, "crop_size": 224, "flip_rate": 0.5},
        **{"large_feature_map": False, "has_grid_size": 4, "has_drop_rate": 0.5},
    }
    assert published.items() <= recipe.to_dict().items()
    assert default_options("spg") == {
        **{"spg_threshold_1h": 0.7, "spg_threshold_1l": 0.01, "spg_threshold_2h": 0.5, "spg_threshold_2l": 0.05},
        **{"spg_threshold_3h": 0.7, "spg_threshold_3l": 0.1},
    }
    plain = {"tap_threshold": 0.0}
    assert default_options("acol") == {"acol_threshold": 0.7} and default_options("cam") == plain
    assert default_options("adl") == {"adl_drop_rate": 0.75, "adl_threshold": 0.9} | plain
    assert default_options("cutmix") == {"cutmix_beta": 1.0, "cutmix_prob": 1.0} | plain


def test_thresholded_average_pooling():
    assert Recipe("vgg16", "has").network_options == {}
    recipe = Recipe("vgg16", "has", num_classes=3, options={"tap_threshold": 0.1})
    assert recipe.network_options == {"tap_threshold": 0.1} and recipe.build().tap_threshold == 0.1
    assert Recipe("vgg16", "adl", options={"tap_threshold": 0.1}).network_options["tap_threshold"] == 0.1
    with pytest.raises(ValueError, match="tap_threshold: acol has no such option"):
        Recipe("vgg16", "acol", options={"tap_threshold": 0.1})


def test_a_recipe_is_a_file_that_the_command_line_overrides(tmp_path):
    path = tmp_path / "cub.toml"
    path.write_text('backbone = "resnet50"\nmethod = "spg"\nlr = 1  # an integer will do\nspg_threshold_1h = 0.8\n')
    recipe = Recipe.read(path, {"lr": 0.5, "epochs": None, "spg_threshold_3l": 0.2})
    assert (recipe.lr, recipe.epochs, recipe.options["spg_threshold_1h"]) == (0.5, 40, 0.8)
    assert recipe.options["spg_threshold_3l"] == 0.2 and recipe.options["spg_threshold_2l"] == 0.05
    path.write_text(recipe.to_toml())
    assert Recipe.read(path, {}) == recipe and Recipe.read(path, {}).first_difference(recipe) is None
    assert Recipe.read(path, {"seed": 3}).first_difference(recipe) == "seed: expected 3, found 0"


WRONG = {
    "toml": ("lr = ", {}, "recipe.toml: expected TOML"),
    "unknown": ("", {"learning_rate": 1}, "learning_rate: cam has no such option; it has tap_threshold"),
    "other_method": ("", {"method": "has", "adl_threshold": 0.5}, "it has has_grid_size, has_drop_rate"),
    "file": ("epochs = 2.5", {}, "recipe.toml: epochs: expected int, found 2.5"),
    "text": ("", {"lr": "fast"}, "lr: expected float, found 'fast'"),
    "bool": ("epochs = true", {}, "epochs: expected int, found True"),
    "least": ("", {"batch_size": 0}, "batch_size: expected an integer of at least 1, found 0"),
    "rate": ("", {"lr": 0.0}, "lr: expected a positive number, found 0.0"),
    "fraction": ("", {"method": "has", "has_drop_rate": 1.5}, r"has_drop_rate: expected a fraction in \[0, 1\]"),
    "nan": ("weight_decay = nan", {}, "weight_decay: expected a positive number, found nan"),
    "crop": ("", {"crop_size": 300}, "crop_size: expected at most resize_size 256, found 300"),
    "shards": ("", {"shards": 65}, "shards: expected at most batch_size 64, found 65"),
    "precision": ("", {"precision": "int8"}, "precision: expected one of float32, bfloat16, float16, found 'int8'"),
    "backbone": ("", {"backbone": "vgg19"}, "backbone: expected one of vgg16, .* found 'vgg19'"),
    "method": ("", {"method": "grad-cam"}, "method: expected one of cam, .* found 'grad-cam'"),
    "normalization": ("", {"normalizations": "median"}, "normalization 'median'"),
    "no_method": ("", {"method": None}, "method: expected a name, found None"),
}


@pytest.mark.parametrize(("text", "settings", "message"), WRONG.values(), ids=WRONG)
def test_recipes_say_what_is_wrong(tmp_path, text, settings, message):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Recipe.read(tmp_path / "recipe.toml", {"backbone": "vgg16", "method": "cam"} | settings)


# Augmentation.


def test_augmentation_depends_on_nothing_but_seed_epoch_and_image():
    images = np.random.default_rng(0).random((5, 3, 9, 12), np.float32)
    places, how = [3, 1, 4, 0, 2], {"size": 6, "flip_rate": 0.5}
    whole = augmentation.crop_and_flip(images, places, **how, seed=1, epoch=2)
    for row, place in enumerate(places):
        alone = augmentation.crop_and_flip(images[row : row + 1], [place], **how, seed=1, epoch=2)
        np.testing.assert_array_equal(alone[0], whole[row])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert (augmentation.crop_and_flip(images, places, **how, **other) != whole).any()
    orders = [augmentation.order(seed, epoch, 50).tolist() for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert all(sorted(order) == list(range(50)) for order in orders) and len(set(map(tuple, orders))) == 3
    seeds = {augmentation.method_seed(0, *each) for each in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))}
    assert len(seeds) == 4 and augmentation.method_seed(0, 1, 0, 1) in seeds


def test_crops_and_mirror_images_are_all_drawn():
    image = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    seen = {}
    for place in range(400):
        found = augmentation.crop_and_flip(image, [place], 2, 0.25, seed=0, epoch=1)[0, 0]
        flipped = bool(found[0, 0] > found[0, 1])
        corner = int(found.min())
        np.testing.assert_array_equal(found[:, ::-1] if flipped else found, corner + np.array([[0, 1], [4, 5]]))
        seen[corner, flipped] = seen.get((corner, flipped), 0) + 1
    assert {corner for corner, _ in seen} == {0, 1, 2, 4, 5, 6} and len(seen) == 12
    assert 70 <= sum(number for (_, flipped), number in seen.items() if flipped) <= 130  # 100 expected


# Steps.


@pytest.mark.parametrize("kind", ["cam", "acol", "spg", "adl"])
@pytest.mark.parametrize("backbone", models.BACKBONES[:3])  # the published ones
def test_parameter_groups_are_the_published_ones(backbone, kind):
    """The published rule, spelled out: which names belong to the features."""
    with torch.device("meta"):
        network = models.build(backbone, kind, NUM_CLASSES)
    expected = {
        "vgg16": lambda name: not name.startswith("features."),
        "inception_v3": lambda name: not name.startswith(("Mixed", "Conv2d_")),
        "resnet50": lambda name: name.startswith(("layer4.", "fc.")),
    }[backbone]
    names = [name for name, _ in network.named_parameters()]
    assert [optimization.is_classifier(network, name) for name in names] == list(map(expected, names))
    assert any(map(expected, names)) and not all(map(expected, names))


def test_step_decay_and_ratio():
    """Published: lr is multiplied by 0.1 in front of the epochs, counted from 1, that lr_decay_frequency divides."""
    recipe = Recipe.read(None, SMALL | {"lr": 0.3, "lr_classifier_ratio": 4.0, "lr_decay_frequency": 3})
    network = tiny("cam", 3, False)
    optimizer = optimization.optimizer_for(network, recipe)
    features, classifier = optimizer.param_groups
    assert [id(each) for each in classifier["params"]] == [id(network.fc.weight), id(network.fc.bias)]
    assert len(features["params"]) == len(list(network.parameters())) - 2
    assert all(
        (each["momentum"], each["nesterov"], each["weight_decay"]) == (0.9, True, 1e-4)
        for each in optimizer.param_groups
    )
    rates = []
    for epoch in range(1, 8):
        optimization.set_learning_rates(optimizer, recipe, epoch)
        rates.append((features["lr"], classifier["lr"]))
    expected = [0.3, 0.3, 0.03, 0.03, 0.03, 0.003, 0.003]
    np.testing.assert_allclose(rates, [(rate, 4 * rate) for rate in expected], rtol=1e-12)  # powers of 0.1


@pytest.mark.slow
def test_losses_are_those_of_the_methods():
    images, labels = torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 2, 1, 0])

    def found(method: str, **options):
        recipe = Recipe.read(None, SMALL | {"method": method, **options})
        torch.manual_seed(7)
        network = tiny(method, 3, False, **{k: v for k, v in recipe.options.items() if k.startswith(("adl", "acol"))})
        network.eval()
        torch.manual_seed(8)
        logits, loss = optimization.respond(network, images, labels, recipe)
        torch.manual_seed(8)
        return network, logits, loss

    for method in ("cam", "adl"):
        network, logits, loss = found(method)
        assert torch.equal(logits, network(images)["logits"]) and torch.equal(loss, F.cross_entropy(logits, labels))
    network, logits, loss = found("has", has_grid_size=5, has_drop_rate=0.3)
    assert torch.equal(logits, network(has.hide(images, 5, 0.3))["logits"])
    network, logits, loss = found("cutmix", cutmix_beta=0.5, cutmix_prob=0.9)
    mixed = cutmix.mix(images, labels, 0.5, 0.9)
    assert mixed.share < 1 and torch.equal(loss, cutmix.loss(network(mixed.images)["logits"], mixed))
    network, logits, loss = found("acol")
    assert torch.equal(loss, acol.loss(network(images, labels), labels))
    network, logits, loss = found("spg", spg_threshold_1h=0.6, spg_threshold_2l=0.2)
    assert torch.equal(loss, spg.loss(network(images, labels), labels, ((0.6, 0.01), (0.5, 0.2), (0.7, 0.1))))
    with pytest.raises(ValueError, match="classifier_layers, .*; found Linear"):
        optimization.optimizer_for(plain("cam", 3, False), Recipe.read(None, SMALL))


def test_a_step_by_hand(place, tmp_path):
    """Two shards: one step of SGD on the mean of all images' losses; buffers are the shards' means."""
    data, settings = data_of(place), {"epochs": 1, "batch_size": NUM_TRAIN, "shards": 2, "has_drop_rate": 0.4}
    recipe = Recipe.read(None, SMALL | settings | {"method": "has"})
    train(recipe, data, tmp_path / "run")
    network = recipe.for_data(NUM_CLASSES, data.sha256()).build().train()
    begun = {name: value.clone() for name, value in network.state_dict().items()}
    parameters, ends, gradients = dict(network.named_parameters()), [], []
    ids, order = list(data.labels), augmentation.order(0, 1, NUM_TRAIN)
    for shard, places in enumerate(np.array_split(order, 2)):
        pixels = []
        for at in places:
            image = Image.open(place / "images" / ids[at]).convert("RGB").resize((20, 20), Image.Resampling.BILINEAR)
            pixels.append(np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255))
        mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        images = (np.stack(pixels) - mean[:, None, None]) / std[:, None, None]
        images = augmentation.crop_and_flip(images, places, 16, 0.5, seed=0, epoch=1)
        network.load_state_dict(begun)
        torch.manual_seed(augmentation.method_seed(0, 1, 0, shard))
        labels = torch.tensor([data.labels[ids[at]] for at in places])
        loss = F.cross_entropy(network(has.hide(torch.from_numpy(images), 4, 0.4))["logits"], labels)
        gradients.append(torch.autograd.grad(loss, parameters.values()))
        ends.append({name: value.clone() for name, value in network.state_dict().items()})
    state = torch.load(tmp_path / "run" / "last_checkpoint.pth.tar", weights_only=True)["state_dict"]
    for name, *both in zip(parameters, *gradients, strict=True):
        step = sum(both) / 2 + 1e-4 * begun[name]
        rate = 0.05 * (10 if name.startswith("fc.") else 1)
        expected = begun[name] - rate * 1.9 * step  # the first of Nesterov's steps with momentum 0.9
        torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=1e-6)  # sums in another order
    for name in begun.keys() - parameters.keys():
        if name.endswith("num_batches_tracked"):
            assert state[name] == 1
        else:
            expected = (ends[0][name] + ends[1][name]) / 2  # 13 images each
            torch.testing.assert_close(state[name], expected, rtol=1e-6, atol=1e-7)
            assert not torch.equal(state[name], begun[name])


# Runs.


def test_a_checkpoint_that_is_no_runs_is_not_gone_on_from(place, tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    path = tmp_path / "run" / "last_checkpoint.pth.tar"
    content = torch.load(path, weights_only=True)
    del content["wsolkern"]
    torch.save(content, path)
    recipe = Recipe.read(tmp_path / "run" / "recipe.toml", {})
    with pytest.raises(ValueError, match="expected a checkpoint of wsolkern train, found one to begin another run"):
        train(recipe, data_of(place), tmp_path / "run")


def test_a_run_and_its_files(place, tmp_path, undisturbed):
    rows = rows_of(undisturbed)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    np.testing.assert_allclose([float(row["lr"]) for row in rows], [0.05, 0.005, 0.005])
    names = ["minmax", "max", "pas:0.9", "ivr:0.45"]
    assert list(rows[0]) == [
        *("epoch", "lr", "train_loss", "train_accuracy", "val_accuracy"),
        *(f"MaxBoxAccV2 {name}" for name in names),
    ]
    for name in ("last", "best"):
        content = torch.load(undisturbed / f"{name}_checkpoint.pth.tar", weights_only=True)
        assert {"architecture", "epoch", "state_dict", "optimizer"} < content.keys()
        assert content["architecture"] == "tiny"
    figures = [float(row["MaxBoxAccV2 minmax"]) for row in rows]
    assert content["epoch"] == 1 + figures.index(max(figures))
    network = tiny("cam", NUM_CLASSES, False)
    assert models.load_checkpoint(network, undisturbed / "last_checkpoint.pth.tar")["epoch"] == 3
    recipe = Recipe.read(undisturbed / "recipe.toml", {})
    assert recipe == Recipe.read(None, SMALL | {"shards": 2}).for_data(NUM_CLASSES, data_of(place).sha256())
    train(Recipe.read(undisturbed / "recipe.toml", {}), data_of(place), tmp_path / "again", num_readers=3)
    assert_same(state_of(tmp_path / "again"), state_of(undisturbed))
    assert rows_of(tmp_path / "again") == rows


@pytest.mark.parametrize("method", ["acol", "spg", "adl", "cutmix"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_methods_and_precisions(place, tmp_path, method, precision):
    settings = SMALL | {"method": method, "epochs": 1, "batch_size": 13, "precision": precision}
    outcome = train(Recipe.read(None, settings), data_of(place), tmp_path / "run")
    (row,) = outcome.log
    assert 0 < row["train_loss"] < 20 and not outcome.was_finished
    for name, value in state_of(tmp_path / "run").items():
        assert value.isfinite().all() and (value.dtype == torch.float32 or name.endswith("tracked"))


def test_masks_give_pxap(place, tmp_path):
    data = TrainingData.load(place / "images", place / "masks", place / "images")
    outcome = train(Recipe.read(None, SMALL | {"epochs": 1}), data, tmp_path / "run")
    assert outcome.column == "PxAP minmax" and 0 < outcome.best["PxAP ivr:0.45"] < 100


def kill_again_and_again(place: str, run: str, num_kills: str) -> None:
    """Starts a run in a process of its own, kills it some time after its first checkpoint, starts it again, ..."""
    checkpoint, chance = Path(run) / "last_checkpoint.pth.tar", random.Random(4)
    recipe, data = Recipe.read(None, SMALL | {"shards": 2}), data_of(Path(place))
    for _ in range(int(num_kills)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        child = os.fork()
        if child == 0:
            train(recipe, data, run, checkpoint_batches=1)
            os._exit(0)
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        content = torch.load(checkpoint, weights_only=True)
        print(os.WTERMSIG(status), content["epoch"], content["wsolkern"]["batch"])


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(place, tmp_path, undisturbed):
    """SIGKILL at random moments, checkpoints after every batch."""
    command = "import sys, test_training; test_training.kill_again_and_again(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", command, str(place), str(tmp_path / "run"), "4"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(kills) == 4 and all(number == signal.SIGKILL for number, *_ in kills)
    assert kills == sorted(kills) and kills[-1][1] < 3, kills
    invoke(arguments(place, tmp_path / "run", shards=2))
    assert_same(state_of(tmp_path / "run"), state_of(undisturbed))
    assert rows_of(tmp_path / "run") == rows_of(undisturbed)
    best = "best_checkpoint.pth.tar"
    assert_same(state_of(tmp_path / "run", best), state_of(undisturbed, best))
    assert {"recipe.toml", "log.csv", best} < {path.name for path in (tmp_path / "run").iterdir()}


def test_stopped_after_every_batch(place, tmp_path, undisturbed):
    """Ctrl-C: the batch is finished, a checkpoint is written; the run goes on from there."""
    recipe, stops = Recipe.read(None, SMALL | {"shards": 2}), []

    def interrupt(epoch: int, done: int, total: int) -> None:
        stops.append((epoch, done, total))
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(20):
        try:
            train(recipe, data_of(place), tmp_path / "run", on_batch=interrupt)
            break
        except KeyboardInterrupt:
            continue
    # The signal comes behind the batch's tally, so each run does two batches; that after an epoch's last is too late.
    assert len(stops) == 12 and stops[-1] == (3, 4, 4)
    assert_same(state_of(tmp_path / "run"), state_of(undisturbed))
    assert rows_of(tmp_path / "run") == rows_of(undisturbed)


def test_a_process_without_others_tells_what_it_does(place, tmp_path):
    """Without torchrun: remarks, an interrupt that says where the run goes on, and the outcome as JSON."""
    recipe, data = Recipe.read(None, SMALL | {"epochs": 1}), data_of(place)
    data = replace(data, labels={name: each for name, each in data.labels.items() if each})
    told: dict[str, list] = {"on_remark": [], "on_epoch": []}
    how = {"on_remark": told["on_remark"].append, "on_epoch": told["on_epoch"].append}

    def interrupt(epoch: int, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="^from the last checkpoint in .*run$"):
        train_together(recipe, data, tmp_path / "run", on_batch=interrupt, **how)
    outcome = train_together(recipe, data, tmp_path / "run", **how)
    assert told["on_remark"] == 2 * data.remarks and len(data.remarks) == 1
    assert told["on_epoch"] == outcome.log == json.loads(json.dumps(outcome.to_dict()))["log"]
    assert len(outcome.log) == 1 and not outcome.was_finished
    assert train_together(recipe, data, tmp_path / "run").was_finished
    with pytest.raises(ArgumentError, match="^device: expected cpu or cuda"):
        train_together(recipe, data, tmp_path / "run", device="tpu")


@pytest.mark.slow
def test_two_processes_equal_one(place, tmp_path, undisturbed):
    """torchrun, gloo: the same weights, momentum, log (counts included) as one process, to the bit."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wsolkern"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments(place, tmp_path / "run", shards=2)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished, 3 epochs") == 1
    assert_same(state_of(tmp_path / "run"), state_of(undisturbed))
    assert rows_of(tmp_path / "run") == rows_of(undisturbed)


def test_the_number_of_shards_must_fit():
    with pytest.raises(ValueError, match="shards: expected a multiple of the 2 processes, found 3"):
        ShardSum(tiny("cam", 3, False), Ranks(0, 2, 0, 2), 3)


def test_images_that_cannot_be_read(place, tmp_path):
    """The batch goes on without them, always in the same way; so does val."""
    data = tmp_path / "data"
    shutil.copytree(place, data)
    (data / "images/train/05.png").write_bytes(b"no image")
    (data / "images/train/11.png").unlink()
    (data / "images/val/03.png").unlink()
    states = []
    for number, readers in enumerate((1, 4)):
        command = [*arguments(data, tmp_path / str(number), epochs=2), "--workers", readers]
        done = invoke(command, code=1)
        assert "3 of 35 images were left out" in done.stderr and "train/11.png: " in done.stderr
        states.append(state_of(tmp_path / str(number)))
    assert_same(*states)
    done = invoke([*command, "--allow-missing"])
    assert "was finished already, 2 epochs" in done.stdout and "val/03.png: " in done.stderr
    for split, message in (("train", "no image of train could be read"), ("val", "no image could be evaluated")):
        shutil.copytree(place, tmp_path / f"no {split}")
        for path in (tmp_path / f"no {split}" / "images" / split).iterdir():
            path.unlink()
        assert message in invoke(arguments(tmp_path / f"no {split}", tmp_path / f"run {split}"), code=2).stderr


def test_the_folder_of_another_run_is_refused(place, tmp_path, undisturbed):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for settings, message in (
        ({"lr": 0.06}, "recipe.toml: the run there has other settings: lr: expected 0.05, found 0.06"),
        ({"shards": 1}, "shards: expected 2, found 1"),
        ({"method": "adl"}, "method: expected 'cam', found 'adl'"),
    ):
        assert message in invoke(arguments(place, run, **({"shards": 2} | settings)), code=2).stderr
    other = tmp_path / "other"
    shutil.copytree(place, other)
    (other / "boxes/train/class_labels.txt").write_text(
        (place / "boxes/train/class_labels.txt").read_text().replace("train/00.png,0", "train/00.png,1")
    )
    assert "data: expected " in invoke(arguments(other, run, shards=2), code=2).stderr
    recipe = ["--recipe", run / "recipe.toml"]
    done = invoke([*arguments(other, tmp_path / "new", shards=2), *recipe], code=2)
    assert "data: the recipe is for other images" in done.stderr
    (tmp_path / "something").mkdir()
    (tmp_path / "something/else.txt").write_text("")
    assert "expected a run's folder" in invoke(arguments(place, tmp_path / "something"), code=2).stderr
    checkpoint = run / "last_checkpoint.pth.tar"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "last_checkpoint.pth.tar: no checkpoint" in invoke(arguments(place, run, shards=2), code=2).stderr


def test_a_loss_that_is_no_number_stops_the_run(place, tmp_path):
    done = invoke(arguments(place, tmp_path / "run", lr=1e30), code=2)
    assert "epoch 1, batch " in done.stderr and "a smaller lr may help" in done.stderr


def test_command_to_store(place, tmp_path, undisturbed):
    """Trained by the command from a recipe's file, extracted by the command with the checkpoint."""
    done = invoke(arguments(place, tmp_path / "run", shards=2))
    assert "run: is finished, 3 epochs; best: epoch " in done.stdout and "epoch 3: loss " in done.stderr
    assert_same(state_of(tmp_path / "run"), state_of(undisturbed))
    command = ["extract", THIS, "-a", "method=cam", "-a", f"num_classes={NUM_CLASSES}", "-a", "large_feature_map=false"]
    command += ["--weights", tmp_path / "run/best_checkpoint.pth.tar", "--images", place / "images", "--size", 16]
    invoke([*command, "--metadata", place / "boxes/val", "-o", tmp_path / "store"])
    store = CamStore(tmp_path / "store")
    assert store.num_maps == NUM_VAL and store.manifest.backbone == "tiny"
    done = invoke(["evaluate", "--cams", tmp_path / "store", "--metadata", place / "boxes/val", "--size", "16"])
    best = max(float(row["MaxBoxAccV2 minmax"]) for row in rows_of(tmp_path / "run"))
    line, _ = [line for line in done.stdout.splitlines() if "minmax" in line.split()]  # the second table has Top-1
    assert f"{best:.2f}" in line.split()


def shards_of(store: Path) -> list[bytes]:
    return [each.read_bytes() for each in sorted((store / "shards").iterdir())]


def manifest_of(store: Path) -> dict:
    return vars(CamStore(store).manifest)


@pytest.mark.parametrize(
    ("settings", "model", "more"),
    [
        ({"backbone": "test_training:tiny", "method": "cam"}, THIS, ["large_feature_map=false", "method=cam"]),
        ({"backbone": "tiny", "method": "has"}, "wsolkern.models:build", ["backbone=tiny", "method=has"]),
    ],
    ids=["own", "built in"],
)
def test_a_run_is_a_model(place, tmp_path, settings, model, more):
    """A run's folder makes the store that the command with everything in it makes, and `train` prints that command."""
    run = tmp_path / "run"
    done = invoke(arguments(place, run, epochs=1, **settings))
    split = ["--images", place / "images", "--metadata", place / "boxes/val"]
    line = next(line for line in done.stderr.splitlines() if line.startswith("next: "))
    assert shlex.split(line) == [
        str(each) for each in ["next:", "wsolkern", "extract", run, *split, "-o", f"{run}-val"]
    ]
    invoke(shlex.split(line)[2:])
    long = ["extract", model, *split, "--size", 16, "--weights", run / "best_checkpoint.pth.tar"]
    long += [part for each in [*more, f"num_classes={NUM_CLASSES}"] for part in ("-a", each)]
    invoke([*long, "--method", {"cam": "CAM", "has": "HaS"}[settings["method"]], "-o", tmp_path / "long"])
    assert manifest_of(tmp_path / "run-val") == manifest_of(tmp_path / "long")
    assert shards_of(tmp_path / "run-val") == shards_of(tmp_path / "long") != []
    assert CamStore(tmp_path / "long").num_maps == NUM_VAL


def test_what_is_said_beside_a_run(place, tmp_path, undisturbed):
    """Options go before the recipe; arguments that would make another model are refused."""
    command = ["extract", undisturbed, "--images", place / "images", "--metadata", place / "boxes/val"]
    last = undisturbed / "last_checkpoint.pth.tar"
    options = ["--size", "24x16", "--mean", "0.5", "--weights", last, "--method", "mine", "-a", "num_classes=3"]
    invoke([*command, *options, "-o", tmp_path / "other"])
    found = CamStore(tmp_path / "other").manifest
    assert found.preprocessing["size"] == [24, 16] and found.preprocessing["mean"] == [0.5] * 3
    assert found.method == "mine" and found.checkpoint_sha256 == hashlib.sha256(last.read_bytes()).hexdigest()
    for given, message in (
        ("num_classes=4", "--argument num_classes: expected 3, as "),
        ("acol_threshold=0.5", "--argument acol_threshold: expected none, as "),
    ):
        assert message in invoke([*command, "-a", given, "-o", tmp_path / "none"], code=2).stderr
    command[1] = tmp_path / "begun"
    command[1].mkdir()
    for message in ("begun: expected the folder of a run of wsolkern train", "begun: expected best_checkpoint.pth.tar"):
        assert message in invoke([*command, "-o", tmp_path / "none"], code=2).stderr
        shutil.copy(undisturbed / "recipe.toml", command[1])
    assert not (tmp_path / "none").exists()


def test_command_says_what_is_wrong(place, tmp_path):
    for settings, message in (
        ({"backbone": "test_training:nothing"}, "backbone: test_training has no nothing"),
        ({"backbone": "no_such_package:f"}, "No module named 'no_such_package'"),
        ({"backbone": "test_training:plain"}, "Linear: fails on images of 16 x 16 pixels"),
        ({"num_classes": 2}, "class_labels.txt:3: image 'train/02.png': expected an integer in [0, 2)"),
        ({"device": "abacus"}, "--device: "),
        ({"argument": "acol_threshold=1"}, "acol_threshold: cam has no such option"),
        ({"recipe": tmp_path / "none.toml"}, "none.toml"),
        ({"metadata": tmp_path}, "image_ids.txt: no such file"),
    ):
        assert message in invoke(arguments(place, tmp_path / "run", **settings), code=2).stderr
        assert not (tmp_path / "run").exists()


def test_tensorboard(place, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (3, 3):
        invoke([*arguments(place, tmp_path / "run", epochs=epochs), "--tensorboard"])
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
        found = [(each.step, each.value) for each in events.Scalars("train_loss")]
        expected = [(int(row["epoch"]), float(row["train_loss"])) for row in rows_of(tmp_path / "run")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)  # events are float32


def history(file: Path) -> list[dict]:
    """What a .wandb file has logged: records of protobuf in LevelDB's log format, behind 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, rows, parts = file.read_bytes(), 7, [], b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # the rest of a block that has no room for a header
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record, parts = Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items})
    return rows


@pytest.mark.slow
def test_both_loggers_have_every_row(place, tmp_path, monkeypatch):
    """Each number of the log, and which normalization val chooses; a run that goes on is one run of W&B."""
    pytest.importorskip("wandb", reason="needs the extra wandb")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    for epochs in (1, 2):
        recipe = [*arguments(place, run, epochs=2), "--log", "wandb", "--log", "tensorboard"]
        with monkeypatch.context() as patch:
            if epochs == 1:  # killed behind the first epoch
                patch.setattr("wsolkern.training.loop._Trainer._train", stopping_at(2))
                done = CliRunner().invoke(app, list(map(str, recipe)))
                assert done.exit_code == 130
            else:
                invoke(recipe)
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    known = (run / "wandb/id.txt").read_text()
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    rows = rows_of(run)
    expected = [{name: float(value) for name, value in row.items()} for row in rows]
    first, both = map(history, files)
    figures = [name for name in rows[0] if name.startswith("MaxBoxAccV2 ")]
    assert len(figures) == 4
    best = [max(figures, key=row.__getitem__).removeprefix("MaxBoxAccV2 ") for row in expected]
    for found, wanted in ((first, expected[:1]), (both, expected)):
        assert [{name: each[name] for name in wanted[0]} for each in found] == wanted
        assert [each["chosen normalization"] for each in found] == best[: len(wanted)]
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {*rows[0], "seconds"}
    texts = events.Tensors("chosen normalization/text_summary")
    assert [each.tensor_proto.string_val[0].decode() for each in texts] == best


def stopping_at(epoch: int):
    """Training that is interrupted when that epoch begins."""
    from wsolkern.training.loop import _Trainer

    train_epoch = _Trainer._train

    def stop(self, number, on_batch):
        if number == epoch:
            raise KeyboardInterrupt
        train_epoch(self, number, on_batch)

    return stop


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("wandb", "wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard", "train")]
)
def test_a_logger_that_is_not_there_is_named_before_the_work(place, tmp_path, name, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    said = invoke([*arguments(place, tmp_path / "run"), "--log", name], code=2).stderr
    assert f"{name} needs it: pip install 'wsolkern[{extra}]'" in said and not (tmp_path / "run").exists()


def test_another_logger_is_refused(place, tmp_path):
    said = invoke([*arguments(place, tmp_path / "run"), "--log", "paper"], code=2).stderr
    assert "--log: expected tensorboard or wandb, found 'paper'" in said and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_wandb_without_a_key_says_so(place, tmp_path):
    """In a process of its own, since wandb reads its environment once."""
    pytest.importorskip("wandb", reason="needs the extra wandb")
    environment = {**os.environ, "WANDB_MODE": "online", "WANDB_API_KEY": "too-short"}
    command = [sys.executable, "-m", "wsolkern", *arguments(place, tmp_path / "run"), "--log", "wandb"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "error: --log wandb: Weights & Biases does not begin: " in done.stderr
    assert "API key" in done.stderr and "Traceback" not in done.stderr and not (tmp_path / "run/log.csv").exists()


@pytest.mark.slow
def test_small_table_1(tmp_path, monkeypatch, capfd):
    """All steps of the benchmark on a handful of images; a second run finds them done."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from benchmarks.experiments.table1_digits import main

    options = ["--out", str(tmp_path), "--minutes-per-method", "0.0001", "--train", "40", "--val", "20", "--test", "20"]
    num_threads = torch.get_num_threads()
    try:
        for _ in range(2):
            assert main(options) == 0
            printed = capfd.readouterr()
            lines = [line.split() for line in printed.out.splitlines()]
            rows = [line for line in lines if line[:1] in (["CAM"], ["CutMix"]) and len(line) > 8]
            assert len(rows) == 2 and "1 epochs of 40 images" in printed.out
        assert "extract" not in printed.err
        with pytest.raises(ValueError, match="table1.json: expected .*'test': 20.* found .*'test': 30"):
            main([*options, "--test", "30"])
    finally:
        torch.set_num_threads(num_threads)
    state = json.loads((tmp_path / "table1.json").read_text())
    assert len(state["seconds"]) == 1 + 6 * 3 and state["epochs"] == 1
    split = load_metadata(tmp_path / "digits/metadata/digits-boxes/test")
    evaluator = evaluator_for(split, "minmax max")
    assert count_maps(evaluator, open_maps(tmp_path / "cam/test", split.image_ids)) == {}
    assert rows[0][1:3] == [f"{row.max_box_acc_v2:.2f}" for row in evaluator.compute()]

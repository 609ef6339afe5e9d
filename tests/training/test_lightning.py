"""Lightning, the real library: metrics that a module logs, and the callback that finds the best checkpoint.

In: 20 small images with boxes or masks, a network of a few hundred parameters. Out: logged figures and checkpoints.
Source: what Lightning's documentation says of torchmetrics in ``self.log`` and of ModelCheckpoint.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision_operators
from PIL import Image
from shared import slow_but, write_split
from torch import nn

torchvision_operators.declare()  # for the processes that are started below
lightning = pytest.importorskip("lightning.pytorch", reason="needs the extra lightning")

from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402

from wsolkern.cams import cam_model  # noqa: E402
from wsolkern.datasets import ImageFolder, Preprocessing, load_metadata  # noqa: E402
from wsolkern.metrics import Evaluator  # noqa: E402
from wsolkern.metrics.torch import MaxBoxAccV2, UnpaddedSampler  # noqa: E402
from wsolkern.training.lightning import LocalizationCallback  # noqa: E402

SIZE, NUM_IMAGES, NUM_CLASSES = (24, 24), 20, 3
IDS = [f"{number:02d}.png" for number in range(NUM_IMAGES)]
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, loggers and the like


class Network(lightning.LightningModule):
    """A classifier with batch normalization, and a metric that its validation feeds."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, NUM_CLASSES)),
        )
        self.metric = MaxBoxAccV2("ivr:0.45", size=SIZE)

    def forward(self, images):
        return self.model(images)

    def training_step(self, batch, batch_idx):
        images, labels, *_ = batch
        return nn.functional.cross_entropy(self(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels, boxes, numbers = batch
        cams = cam_model(self.model, SIZE)(images, labels).cams
        self.metric.update(cams, [each[None] for each in boxes], numbers)
        self.log("MaxBoxAccV2", self.metric)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images with a bright rectangle each, and the folders of splits that have its box or its mask."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    corners = rng.integers(0, 10, (NUM_IMAGES, 2))
    boxes = np.concatenate([corners, corners + rng.integers(5, 13, (NUM_IMAGES, 2))], axis=1)
    for image_id, (x0, y0, x1, y1) in zip(IDS, boxes, strict=True):
        pixels, mask = rng.integers(0, 120, (24, 24, 3)).astype(np.uint8), np.zeros((24, 24), np.uint8)
        pixels[y0 : y1 + 1, x0 : x1 + 1] += 120
        mask[y0 : y1 + 1, x0 : x1 + 1] = 255
        Image.fromarray(pixels).save(folder / image_id)
        Image.fromarray(mask).save(folder / f"mask{image_id}")
    common = {"size": (24, 24), "label": lambda number: number % NUM_CLASSES}
    write_split(folder / "boxes", IDS, box=lambda number: boxes[number].tolist(), **common)
    write_split(folder / "masks", IDS, mask=lambda number: f"mask{IDS[number]}", **common)
    return folder


def loader(data, sampler=None):
    images = ImageFolder(data, IDS, Preprocessing(SIZE))
    pixels = torch.from_numpy(np.concatenate([batch.images for batch in images.windows([IDS])]))
    split = load_metadata(data / "boxes")
    labels = torch.tensor([split.class_labels[each] for each in IDS])
    boxes = torch.from_numpy(np.concatenate(list(split.resized_boxes(SIZE).values())))
    rows = torch.utils.data.TensorDataset(pixels, labels, boxes, torch.arange(NUM_IMAGES))
    return torch.utils.data.DataLoader(rows, batch_size=8, sampler=sampler)


def evaluated(model, data, kind="boxes", normalizations="minmax ivr:0.45", ids=IDS):
    """What the network is worth, from parts: a forward pass, the Evaluator."""
    split = load_metadata(data / kind)
    batch = next(iter(ImageFolder(data, IDS, Preprocessing(SIZE)).windows([ids])))
    classes = torch.tensor([split.class_labels[each] for each in ids])
    look = cam_model(model, SIZE)(torch.from_numpy(batch.images), classes)
    masks = {each: (np.asarray(Image.open(data / f"mask{each}")) > 0).astype(np.uint8) for each in ids}
    truth = {"boxes": split.resized_boxes(SIZE)} if kind == "boxes" else {"masks": masks}
    evaluator = Evaluator(normalizations, size=SIZE, **truth)
    evaluator.update(look.cams, ids)
    return evaluator.compute(), 100 * (look.logits.argmax(1) == classes).double().mean().item()


class Seen(Callback):
    """What Lightning has after each epoch, and the modes that the module's parts are in."""

    def __init__(self):
        self.rows, self.modes = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.modes.append({name for name, each in pl_module.named_modules() if not each.training})

    def on_train_epoch_end(self, trainer, pl_module):
        row = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append(row | {"weights": {name: each.clone() for name, each in pl_module.state_dict().items()}})


def fit(data, folder, *callbacks, epochs=4, val=None, **how):
    lightning.seed_everything(0, verbose=False)
    network = Network()
    trainer = lightning.Trainer(
        max_epochs=epochs, default_root_dir=folder, callbacks=list(callbacks), logger=False, **(QUIET | how)
    )
    if isinstance(val, lightning.LightningDataModule):
        trainer.fit(network, datamodule=val)
    else:
        trainer.fit(network, loader(data), val)
    return network, trainer


@pytest.mark.slow
def test_a_module_logs_a_metric(data, tmp_path):
    seen = Seen()
    network, _ = fit(data, tmp_path, seen, epochs=2, val=loader(data), enable_checkpointing=False)
    for row in seen.rows:
        network.load_state_dict(row["weights"])
        result, _ = evaluated(network.model, data)
        assert row["MaxBoxAccV2"] == pytest.approx(result["ivr:0.45"].max_box_acc_v2, abs=1e-5)  # Lightning's float32
    assert network.metric.num_images == 0  # it was reset


@pytest.mark.parametrize("kind", slow_but(["boxes"], ["boxes", "masks"]))
def test_the_callback_logs_and_lightning_keeps_the_best(kind, data, tmp_path):
    name = {"boxes": "MaxBoxAccV2 minmax", "masks": "PxAP minmax"}[kind]
    masks = {"mask_root": data} if kind == "masks" else {}
    localization = LocalizationCallback(
        data / kind, data, network="model", normalizations="minmax ivr:0.45", size=SIZE, **masks
    )
    best = ModelCheckpoint(tmp_path / "kept", monitor=name, mode="max", filename="{epoch}")
    seen = Seen()
    network, _ = fit(data, tmp_path, best, localization, seen)
    figures = [row[name] for row in seen.rows]
    assert len(set(figures)) > 1 and len(figures) == 4
    for row in seen.rows:
        network.load_state_dict(row["weights"])
        result, accuracy = evaluated(network, data, kind)  # the module itself is as good as its network
        expected = {f"{localization.metric} {each.name}": localization.metric.figure(each) for each in result}
        expected["fullsup_accuracy"] = accuracy
        assert {each: row[each] for each in expected} == pytest.approx(expected, abs=1e-5)
    first = figures.index(max(figures))
    assert best.best_model_path.endswith(f"epoch={first}.ckpt") and best.best_model_score.item() == figures[first]
    kept = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[each], value) for each, value in seen.rows[first]["weights"].items())
    assert localization.result.to_dict() == result.to_dict() and localization.problems == {}
    assert seen.modes == [set()] * 4  # the network is in training again


@pytest.mark.slow
def test_the_callback_evaluates_every_few_epochs_and_leaves_out_what_it_cannot_read(data, tmp_path):
    split = load_metadata(data / "boxes")
    for each in IDS[1:]:
        (tmp_path / each).symlink_to(data / each)
    localization = LocalizationCallback(split, tmp_path, normalizations=["max"], size=SIZE, every_n_epochs=2)
    seen, results = Seen(), []
    seen.on_train_epoch_start = lambda *_: results.append(localization.result)
    fit(data, tmp_path, localization, seen, epochs=3, enable_checkpointing=False)
    assert [each is None for each in results] == [True, True, False] and results[2] is localization.result
    assert localization.result.num_images == NUM_IMAGES - 1 and list(localization.problems) == IDS[:1]


@pytest.mark.slow
def test_two_processes(data, tmp_path):
    """An odd number of images: each is evaluated once, in the callback and in the module's own metric."""
    code = "import sys; from training.test_lightning import in_two_processes; in_two_processes(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(data), str(tmp_path)]
    folder = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found, weights = torch.load(tmp_path / "found", weights_only=True)
    network = Network()
    network.load_state_dict(weights)
    result, accuracy = evaluated(network, data)
    expected = {f"MaxBoxAccV2 {row.name}": row.max_box_acc_v2 for row in result} | {"fullsup_accuracy": accuracy}
    few, _ = evaluated(network, data, ids=IDS[:19])
    expected["MaxBoxAccV2"] = few["ivr:0.45"].max_box_acc_v2
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


class Saved(Callback):
    """Writes what the first process has after the last epoch."""

    def on_fit_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            found = {name: value.item() for name, value in trainer.callback_metrics.items()}
            torch.save((found, pl_module.state_dict()), trainer.default_root_dir + "/found")


def in_two_processes(data, folder):
    data = Path(data)
    torch.set_num_threads(1)
    localization = LocalizationCallback(data / "boxes", data, normalizations="minmax ivr:0.45", size=SIZE)
    how = {"strategy": "ddp_fork", "devices": 2, "use_distributed_sampler": False, "enable_checkpointing": False}
    fit(data, folder, localization, Saved(), epochs=1, val=Validation(data), **how)


class Validation(lightning.LightningDataModule):
    """19 images, of which one process has one more than the other."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def train_dataloader(self):
        return loader(self.data)

    def val_dataloader(self):
        return loader(self.data, UnpaddedSampler(range(19)))


def test_what_is_wrong_is_said_before_the_first_epoch(data, tmp_path):
    def begin(**how):
        seen = Seen()
        images = how.pop("images", data)
        with pytest.raises(ValueError) as raised:
            fit(data, tmp_path, LocalizationCallback(data / "boxes", images, **({"size": SIZE} | how)), seen)
        assert not seen.modes
        return str(raised.value)

    assert begin(network="backbone").startswith("network: expected a submodule of Network: ")
    assert "model.0" in begin(network="model.0") or "Conv2d" in begin(network="model.0")
    (tmp_path / "empty").mkdir()
    assert begin(images=tmp_path / "empty").startswith("images: expected images of ")
    assert begin(every_n_epochs=0) == "every_n_epochs: expected an integer, at least 1, found 0"
    assert begin(mask_root=data).startswith("mask_root: ")
    write_split(tmp_path / "unlabelled", IDS, size=(24, 24), box=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="split: expected a class for each image, found none for 00.png"):
        LocalizationCallback(tmp_path / "unlabelled", data)

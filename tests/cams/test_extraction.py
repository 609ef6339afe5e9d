"""Extraction: any classifier's CAMs, the same bits however a run was cut up, bad images cost only themselves.

In: small networks with fixed weights and small images; the demo's EfficientNet; torch-cam where it is installed.
Source: a CAM's mean plus the class's bias is the logit (Zhou et al., arXiv 1512.04150).
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared import slow_but, write_split
from torch import nn
from typer.testing import CliRunner

from wsolkern import models, studies
from wsolkern.cams import CamStore, CamWriter, Look, Manifest, OwnCams, PooledCams, cam_model, extract
from wsolkern.cli import app
from wsolkern.datasets import ImageFolder, Preprocessing, load_metadata

SIZE = (24, 32)
NUM_CLASSES = 7
RUN, NWC_RUN = Manifest(dataset="small", split="test"), Manifest(dataset="small", split="test", nwc=True)

# Networks. Their weights are the same in every process.


def seeded(make):
    def wrapped(**options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make(**options)

    return wrapped


def stem() -> list[nn.Module]:
    return [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(inplace=True)]


@seeded
def pooling_module() -> nn.Module:
    return nn.Sequential(*stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, NUM_CLASSES))


@seeded
def window_of_the_whole_map() -> nn.Module:
    return nn.Sequential(*stem(), nn.AvgPool2d((6, 8)), nn.Flatten(), nn.Linear(12, NUM_CLASSES, bias=False))


@seeded
def convolution_then_pooling() -> nn.Module:
    return nn.Sequential(*stem(), nn.Conv2d(12, NUM_CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@seeded
def pooling_then_convolution() -> nn.Module:
    return nn.Sequential(*stem(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, NUM_CLASSES, 1), nn.Flatten())


class Mean(nn.Module):
    """Pools by a mean; a function that is no module makes what is pooled, and other Linears are called last."""

    def __init__(self, function: bool = False):
        super().__init__()
        self.backbone, self.fc = nn.Sequential(*stem()), nn.Linear(12, NUM_CLASSES)
        self.relu, self.other = nn.ReLU(), nn.Linear(12, NUM_CLASSES)
        self.function = function

    def forward(self, images):
        features = self.relu(self.backbone(self.relu(images)) - 0.1)
        pooled = torch.tanh(features).mean([2, 3]) if self.function else features.mean([2, 3])
        return {"logits": self.fc(pooled), "other": self.other(pooled)}


@seeded
def mean() -> nn.Module:
    return Mean()


@seeded
def mean_of_a_function() -> nn.Module:
    return Mean(function=True)


@seeded
def no_pooling() -> nn.Module:
    return nn.Sequential(*stem(), nn.Flatten(), nn.Linear(12 * 6 * 8, NUM_CLASSES))


@seeded
def two_layers() -> nn.Module:
    return nn.Sequential(
        *stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, NUM_CLASSES)
    )


@seeded
def probabilities() -> nn.Module:
    return nn.Sequential(*pooling_module(), nn.Softmax(1))


class Own(nn.Module):
    """Makes its CAMs itself, as the field's networks do; keeps state on its way."""

    def __init__(self):
        super().__init__()
        self.net = pooling_module()

    def forward(self, images, labels=None, return_cam=False):
        self.features = self.net[:5](images)
        logits = self.net[5:](self.features)
        if return_cam:
            return torch.einsum("nc,nchw->nhw", self.net[8].weight[labels], self.features) * 2
        return {"logits": logits}


own = seeded(Own)


def slow(images: torch.Tensor, classes) -> torch.Tensor:
    """No module: a function with a CAM of its own."""
    time.sleep(0.02)
    return images.mean(1) * (classes[:, None, None] + 1)


def failing(number):
    return len(number)


def a_function():
    return slow


def not_a_model() -> int:
    return 3


POOLED = {
    # network: (features, head)
    pooling_module: ("4", "8"),
    window_of_the_whole_map: ("4", "7"),
    convolution_then_pooling: ("4", "5"),
    pooling_then_convolution: ("4", "6"),
    mean: ("relu", "fc"),
    mean_of_a_function: ("argument of mean", "fc"),
}
pooled_networks = pytest.mark.parametrize(
    "make", POOLED, ids=["module", "window", "conv", "pool-conv", "mean", "function"]
)

# Images.


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """13 images in three folders, and metadata of them."""
    root = tmp_path_factory.mktemp("images") / "data"
    rng = np.random.default_rng(0)
    image_ids = [f"{number % 3}/{number:02d}.png" for number in range(13)]
    for image_id in image_ids:
        (root / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(root / image_id)
    metadata = root.parent / "metadata" / "small" / "test"
    write_split(metadata, image_ids, size=(30, 20), box=(1, 2, 20, 15), label=lambda number: number % NUM_CLASSES)
    return root


def labels_of(root: Path) -> dict[str, int]:
    lines = (root.parent / "metadata/small/test/class_labels.txt").read_text().split()
    return {image_id: int(label) for image_id, label in (line.split(",") for line in lines)}


def folder_of(root: Path, size: tuple[int, int] = SIZE) -> ImageFolder:
    return ImageFolder(root, labels_of(root), Preprocessing(size))


def by_id(store) -> dict[str, tuple]:
    """Image id -> the bits of all that a store keeps of it."""
    found = {}
    for part in CamStore(store).records():
        for row, image_id in enumerate(part.image_ids):
            assert image_id not in found
            found[image_id] = tuple(each[row].tobytes() for each in part[1:] if each is not None)
    return found


def extracted(path: Path, root: Path, make=pooling_module, manifest: Manifest = RUN, **options) -> dict[str, tuple]:
    """All that a store keeps after an extraction."""
    model = cam_model(make(), SIZE, nwc=manifest.nwc)
    with CamWriter(path, manifest) as writer:
        assert extract(model, folder_of(root), writer, labels_of(root), **options) == {}
    return by_id(path)


# Finding the head.


@pooled_networks
def test_head_is_found(make):
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(0.1)  # so that training mode would show
    cams = PooledCams(model, SIZE, nwc=True)
    assert (str(cams.features), cams.head) == POOLED[make]
    images = torch.randn(5, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 6, 3, 3, 1])
    found = cams(images, classes)
    output = model(images)
    logits = output["logits"] if isinstance(output, dict) else output
    # Pooling before or after the head: the same sum, rounded differently.
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5)
    head = model.get_submodule(cams.head)
    bias = torch.zeros(NUM_CLASSES) if head.bias is None else head.bias
    expected = logits.gather(1, classes[:, None])[:, 0] - bias[classes]
    torch.testing.assert_close(found.cams.mean((1, 2)), expected, rtol=1e-5, atol=1e-5)
    assert found.cams.shape == found.nwc_cams.shape == (5, 6, 8) and (found.nwc_cams > found.cams).any()
    assert cams(images).classes.tolist() == logits.argmax(1).tolist()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("make", [no_pooling, two_layers, probabilities])
def test_no_head_is_an_error_that_helps(make):
    with pytest.raises(ValueError) as error:
        PooledCams(make(), SIZE)
    message = str(error.value)
    assert "Sequential: found no feature map" in message and "images of 24 x 32 pixels" in message
    assert "4 [12, 6, 8]" in message and f"[{NUM_CLASSES}, " in message
    helps = make is probabilities  # elsewhere naming parts would not
    assert ("Name them with --features and --head: --features 4 --head 8" in message) == helps
    assert ("Naming parts cannot help" in message and "function (images, classes) -> CAMs" in message) != helps


def test_parts_can_be_named():
    images = torch.randn(2, 3, *SIZE)
    found = PooledCams(probabilities(), SIZE, features="4", head="8")(images)
    expected = PooledCams(pooling_module(), SIZE)(images)
    torch.testing.assert_close(found.cams, expected.cams, rtol=0, atol=0)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    assert PooledCams(probabilities(), SIZE, head="8").features == expected_place("4")
    for wrong, message in (
        ({"features": "nothing"}, "features: expected the path of a module of Sequential, found 'nothing'"),
        ({"head": "4"}, "head: expected a Linear or a 1x1 Conv2d, found '4': ReLU"),
        ({"features": "6"}, r"features: expected an output \[N, C, h, w\] of '6'"),
        ({"features": "2", "head": "8"}, "found no feature map .* with features '2' and head '8'"),
    ):
        with pytest.raises(ValueError, match=message):
            PooledCams(probabilities(), SIZE, **wrong)


def expected_place(name: str):
    from wsolkern.cams.places import Place

    return Place(name)


def test_a_network_for_other_images():
    with pytest.raises(ValueError, match="Sequential: fails on images of 32 x 32 pixels: mat1 and mat2"):
        PooledCams(no_pooling(), (32, 32))


def test_replicas_share_weights():
    cams = PooledCams(mean(), SIZE)
    other = cams.replicate()
    assert other.model is not cams.model and other.model.fc.weight is cams.model.fc.weight
    assert other.model.backbone[1].running_mean is cams.model.backbone[1].running_mean
    cams.model.lock = __import__("threading").Lock()
    with pytest.raises(ValueError, match="Mean cannot be copied for a second thread.*WSOLKERN_NUM_THREADS=1"):
        cams.replicate()


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None, reason="efficientnet_lite_pytorch is not installed"
)
def test_the_demos_network_through_the_general_path(tmp_path):
    from wsolkern import demo
    from wsolkern.models.efficientnet_lite import efficientnet_lite0

    crops = demo.load_crops()[:32:8]
    expected = demo.crop_cams(crops, 64)
    for crop in crops:
        path = tmp_path / "images" / f"{crop.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop.pixels()).save(path)
    labels = {f"{crop.image_id}.png": crop.photograph.class_index for crop in crops}
    preprocessing = Preprocessing((64, 64), "bicubic", (127, 127, 127), (128, 128, 128), 255)
    with CamWriter(tmp_path / "store", NWC_RUN) as writer:
        model = cam_model(efficientnet_lite0(), preprocessing.size, nwc=True)
        assert not extract(model, ImageFolder(tmp_path / "images", labels, preprocessing), writer, labels)
    (records,) = CamStore(tmp_path / "store").records()
    assert list(records.image_ids) == list(labels) and records.classes.tolist() == list(labels.values())
    np.testing.assert_array_equal(records.top5_classes[:, 0], expected.logits.argmax(1))
    # The demo's pixels lie in memory channel by channel within each pixel, for which convolutions add up differently.
    np.testing.assert_allclose(records.cams, expected.cams, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(records.nwc_cams, expected.nwc_cams, rtol=1e-4, atol=1e-4)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for row, crop in enumerate(crops):
        pixels = torch.tensor(crop.pixels(64))[None].permute(0, 3, 1, 2).float()
        found = model((pixels - 127) / 128, torch.tensor([crop.photograph.class_index]))
        np.testing.assert_array_equal(found.cams.numpy(), expected.cams[row : row + 1], strict=True)
        np.testing.assert_array_equal(found.nwc_cams.numpy(), expected.nwc_cams[row : row + 1], strict=True)
    torch.set_num_threads(num_threads)


# Models that make their CAMs themselves.


def test_a_model_with_cams_of_its_own(tmp_path, root):
    assert isinstance(cam_model(own(), SIZE), OwnCams)
    extracted(tmp_path / "own", root, own)
    extracted(tmp_path / "pooled", root)
    mine, pooled = CamStore(tmp_path / "own"), CamStore(tmp_path / "pooled")
    for image_id in mine.image_ids:
        np.testing.assert_allclose(mine.read(image_id), 2 * pooled.read(image_id), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="nwc: Own makes its CAMs itself: name features and head"):
        cam_model(own(), SIZE, nwc=True)
    assert isinstance(cam_model(own(), SIZE, head="net.8", nwc=True), PooledCams)


def test_any_function(tmp_path, root):
    kept = extracted(tmp_path / "plain", root, a_function, batch_size=4)

    def with_all(images, classes):
        maps = slow(images, classes).numpy()  # arrays will do as well
        return Look(torch.from_numpy(maps), classes, torch.eye(NUM_CLASSES)[classes])

    with CamWriter(tmp_path / "all", RUN) as writer:
        extract(with_all, folder_of(root), writer, labels_of(root), batch_size=4)
    assert {image_id: each[0] for image_id, each in kept.items()} == {
        image_id: each[0] for image_id, each in by_id(tmp_path / "all").items()
    }
    for part in CamStore(tmp_path / "plain").records():
        # The classes that the function was asked for.
        assert part.classes.tolist() == [labels_of(root)[each] for each in part.image_ids]
        assert np.isnan(part.top5_logits).all()
    for part in CamStore(tmp_path / "all").records():
        assert part.classes.tolist() == part.top5_classes[:, 0].tolist() == [labels_of(root)[i] for i in part.image_ids]


@pytest.mark.parametrize(
    "wrong", [lambda *_: None, lambda *_: torch.zeros(1, 3), lambda *_: torch.zeros(1, 3, 3).int()]
)
def test_a_function_that_returns_something_else(tmp_path, root, wrong):
    with (
        CamWriter(tmp_path / "store", RUN) as writer,
        pytest.raises(ValueError, match=r"model: expected CAMs, float \[1, h"),
    ):
        extract(wrong, folder_of(root), writer)
    with pytest.raises(ValueError, match="model: expected a torch.nn.Module or a function, found int"):
        cam_model(3)
    with pytest.raises(ValueError, match="features, head, nwc: expected none"):
        cam_model(wrong, nwc=True)


def test_torch_cams_maps(tmp_path, root):
    """torch-cam's CAM is ours, and its Grad-CAM for such a network is the positive part of it over its area."""
    methods = pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
    found = {}
    for name in ("CAM", "GradCAM"):
        model = pooling_module().eval()
        options = {"fc_layer": "8"} if name == "CAM" else {}
        extractor = getattr(methods, name)(model, target_layer="3", **options)

        def maps(images, classes, model=model, extractor=extractor):
            return extractor(classes.tolist(), model(images.requires_grad_()), normalized=False)[0]

        with CamWriter(tmp_path / name, RUN) as writer:
            assert not extract(maps, folder_of(root), writer, labels_of(root), batch_size=4)
        extractor.remove_hooks()
        found[name] = CamStore(tmp_path / name)
    extracted(tmp_path / "ours", root)
    ours = CamStore(tmp_path / "ours")
    for image_id in ours.image_ids:
        cam = ours.read(image_id)
        # Sums in another order.
        np.testing.assert_allclose(found["CAM"].read(image_id), cam, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["GradCAM"].read(image_id), np.maximum(cam, 0) / cam.size, rtol=1e-4, atol=1e-7)


# What does not change the result.


def test_bits_do_not_depend_on_threads_ranks_or_order(tmp_path, root, monkeypatch):
    expected = extracted(tmp_path / "expected", root, manifest=NWC_RUN)
    assert list(expected) == list(labels_of(root))
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "3")
    assert extracted(tmp_path / "threads", root, manifest=NWC_RUN) == expected
    for batch_size in (None, 4):
        if batch_size:
            expected = extracted(tmp_path / "batches", root, manifest=NWC_RUN, batch_size=batch_size)
        both = {}
        for rank in (1, 0):
            both |= extracted(
                tmp_path / f"{batch_size}.{rank}", root, manifest=NWC_RUN, batch_size=batch_size, rank=rank, num_ranks=2
            )
        assert both == expected
    with CamWriter(tmp_path / "rest", NWC_RUN) as writer:
        skipped = list(expected)[2:7]
        model = cam_model(pooling_module(), SIZE, nwc=True)
        extract(model, folder_of(root), writer, labels_of(root), batch_size=4, skip=skipped)
    rest = by_id(tmp_path / "rest")
    assert rest == {image_id: each for image_id, each in expected.items() if image_id not in skipped}


def test_missing_images_cost_only_themselves(tmp_path, root):
    """Their neighbours in a batch keep their bits; the next run adds them."""
    expected = extracted(tmp_path / "expected", root, batch_size=4)
    data = tmp_path / "data"
    shutil.copytree(root, data)
    cut, gone = "1/04.png", "2/11.png"
    (data / cut).write_bytes((data / cut).read_bytes()[:500])
    (data / gone).unlink()
    model, images, done = cam_model(pooling_module(), SIZE), ImageFolder(data, labels_of(root), Preprocessing(SIZE)), []
    for _ in range(2):
        with CamWriter(tmp_path / "store", RUN) as writer:
            problems = extract(model, images, writer, labels_of(root), batch_size=4, progress=done.append)
    assert problems.keys() == {cut, gone} and "cannot be read" in problems[cut] and "no such file" in problems[gone]
    assert by_id(tmp_path / "store") == {
        image_id: each for image_id, each in expected.items() if image_id not in problems
    }
    assert done == [4, 8, 12, 13, 9, 13]
    shutil.copytree(root, data, dirs_exist_ok=True)
    with CamWriter(tmp_path / "store", RUN) as writer:
        assert extract(model, images, writer, labels_of(root), batch_size=4) == {}
    assert by_id(tmp_path / "store") == expected


def extract_slowly(root: Path, store: Path) -> None:
    """A run that a test kills; a few maps a file."""
    with CamWriter(store, RUN, maps_per_shard=2) as writer:
        extract(slow, folder_of(root), writer, labels_of(root))


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, root):
    command = "import sys, pathlib, test_extraction; test_extraction.extract_slowly(*map(pathlib.Path, sys.argv[1:]))"
    store = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", command, root, store], cwd=Path(__file__).parent)
    deadline = time.monotonic() + 60
    while not (CamStore.is_at(store) and CamStore(store).num_maps >= 4):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = by_id(store)
    assert 4 <= len(kept) < 13
    extract_slowly(root, store)
    extract_slowly(root, tmp_path / "undisturbed")
    assert by_id(store) == by_id(tmp_path / "undisturbed") and kept.items() <= by_id(store).items()


def test_a_larger_type_is_kept_and_smaller_ones_are_not(tmp_path, root):
    for dtype, expected in ((torch.float64, np.float64), (torch.float16, np.float32), (torch.bfloat16, np.float32)):
        with CamWriter(tmp_path / str(dtype), RUN) as writer:
            extract(lambda images, _, dtype=dtype: images[:, 0].to(dtype), folder_of(root), writer)
        assert CamStore(tmp_path / str(dtype)).read("0/00.png").dtype == expected


def test_mixed_precision(tmp_path, root):
    exact, mixed = (extracted(tmp_path / precision, root, precision=precision) for precision in ("float32", "bfloat16"))
    assert exact != mixed
    for image_id in exact:
        a, b = (CamStore(tmp_path / each).read(image_id) for each in ("float32", "bfloat16"))
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max())  # bfloat16 has 8 bits


def test_wrong_arguments(tmp_path, root):
    with CamWriter(tmp_path / "store", RUN) as writer:
        for options, message in (
            ({"labels": {"0/00.png": 1}}, "labels: image '1/01.png' has none"),
            ({"batch_size": 0}, "batch_size, rank, num_ranks: .* found 0, 0, 1"),
            ({"rank": 2, "num_ranks": 2}, "found 1, 2, 2"),
            ({"precision": "int8"}, "precision: expected one of float32, .* found 'int8'"),
        ):
            with pytest.raises(ValueError, match=message):
                extract(slow, folder_of(root), writer, **options)
        with pytest.raises(ValueError, match="nwc_cams: expected none"):
            extract(cam_model(mean(), SIZE, nwc=True), folder_of(root), writer)
    assert CamStore(tmp_path / "store").num_maps == 0


# The command line.

THIS = "test_extraction"


@pytest.fixture
def run(root, monkeypatch):
    """Invokes ``wsolkern extract`` in this process and checks its exit code."""
    monkeypatch.chdir(Path(__file__).parent)  # where MODEL is found

    def invoke(store, *arguments, model: str = f"{THIS}:pooling_module", images: Path = root, code: int = 0):
        command = ["extract", model, "--images", images, "--size", "24x32", "-o", store, *arguments]
        done = CliRunner().invoke(app, [str(each) for each in command])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def split_of(root: Path) -> Path:
    return root.parent / "metadata" / "small" / "test"


def test_command(tmp_path, root, run):
    store = tmp_path / "store"
    assert "store: 13 CAMs" in run(store, "--metadata", split_of(root), "--nwc").stdout
    assert by_id(store) == extracted(tmp_path / "expected", root, manifest=NWC_RUN)
    manifest = CamStore(store).manifest
    assert (manifest.dataset, manifest.split, manifest.method, manifest.backbone) == (
        "small",
        "test",
        "CAM",
        "Sequential",
    )
    assert manifest.nwc and len(manifest.checkpoint_sha256) == 64 and "torch" in manifest.versions
    assert manifest.preprocessing == {
        **{"size": [24, 32], "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        **{"white": 1.0, "classes": "labels", "precision": "float32", "features": "4", "head": "8"},
    }
    before = {path: path.stat().st_mtime_ns for path in (store / "shards").iterdir()}
    run(store, "--metadata", split_of(root), "--nwc")  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (store / "shards").iterdir()} == before
    for arguments, message in (
        ((), "expected nwc True, found False"),
        (("--nwc", "--classes", "predicted"), "expected preprocessing"),
        (("--nwc", "--split", "val"), "expected split 'test', found 'val'"),
        (("--nwc", "--size", "32"), "expected preprocessing"),
    ):
        assert message in run(store, "--metadata", split_of(root), *arguments, code=2).stderr
    assert (
        "expected checkpoint_sha256"
        in run(
            store, "--metadata", split_of(root), "--nwc", "--backbone", "Sequential", model=f"{THIS}:mean", code=2
        ).stderr
    )


def test_command_without_metadata(tmp_path, root, run):
    """A folder a class."""
    run(tmp_path / "store")
    store = CamStore(tmp_path / "store")
    assert store.manifest.dataset == "data" and store.manifest.split is None and store.num_maps == 13
    for part in store.records():
        assert part.classes.tolist() == [int(image_id[0]) for image_id in part.image_ids]


def test_command_with_predicted_classes(tmp_path, root, run):
    (tmp_path / "metadata").mkdir()
    for path in split_of(root).glob("*.txt"):
        if path.name != "class_labels.txt":
            shutil.copy(path, tmp_path / "metadata")
    arguments = "--metadata", tmp_path / "metadata", "--classes"
    assert "pass --classes predicted" in run(tmp_path / "store", *arguments, "labels", code=2).stderr
    run(tmp_path / "store", *arguments, "predicted")
    for part in CamStore(tmp_path / "store").records():
        np.testing.assert_array_equal(part.classes, part.top5_classes[:, 0])


class Counted(nn.Module):
    """Counts the images that go through it."""

    num_images = 0

    def __init__(self):
        super().__init__()
        self.net = pooling_module()

    def forward(self, images):
        type(self).num_images += len(images)
        return self.net(images)


counted = seeded(Counted)


@pytest.mark.parametrize("make", slow_but(["counted"], ["counted", "own"]))
def test_both_classes_at_once(tmp_path, root, run, make, monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    how = {"model": f"{THIS}:{make}"}
    arguments = "--metadata", split_of(root), *(["--nwc"] if make == "counted" else []), "--classes"

    def passes(store, classes) -> int:
        """How many images went through the network."""
        module = sys.modules.get(THIS)
        before = module.Counted.num_images if module else 0
        told.append(run(tmp_path / store, *arguments, classes, **how))
        return sys.modules[THIS].Counted.num_images - before

    told: list = []
    passes("labels", "labels")
    passes("predicted", "predicted")
    num_passes = passes("again", "labels")
    assert passes("store", "both") == num_passes and (make == "own" or num_passes >= 13)
    assert "store: 13 CAMs" in told[-1].stdout and "store.predicted: 13 CAMs" in told[-1].stdout
    beside = tmp_path / "store.predicted"
    for path, classes in ((tmp_path / "store", "labels"), (beside, "predicted")):
        assert by_id(path) == by_id(tmp_path / classes)
        assert CamStore(path).manifest == CamStore(tmp_path / classes).manifest
    assert by_id(tmp_path / "store") != by_id(beside)
    # What is there of one of them stays; what is not is made.
    shutil.rmtree(beside)
    with CamWriter(beside, CamStore(tmp_path / "predicted").manifest) as writer:
        for part in CamStore(tmp_path / "predicted").records():
            writer.add_records(part.pick([*range(0, len(part.image_ids), 2)]))
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "shards").iterdir()}
    passes("store", "both")
    assert by_id(beside) == by_id(tmp_path / "predicted")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "shards").iterdir()} == shards
    passes("store", "labels")
    # An image whose file is another one now is made again in both.
    data = tmp_path / "data"
    shutil.copytree(root, data)
    shutil.copy(data / "0/00.png", data / "1/04.png")
    done = run(tmp_path / "store", *arguments, "both", images=data, **how)
    assert "1 CAMs no longer fit" in done.stderr and "1/04.png: was made from another file" in done.stderr
    for path, classes in ((tmp_path / "store", "labels"), (beside, "predicted")):
        run(tmp_path / f"new {classes}", *arguments, classes, images=data, **how)
        assert by_id(path) == by_id(tmp_path / f"new {classes}") != by_id(tmp_path / classes)


@pytest.mark.slow
def test_both_classes_by_two_processes(tmp_path, root, run):
    options = [f"{THIS}:mean", "--images", root, "--metadata", split_of(root), "--size", "24x32", "--batch-size", "3"]
    options += ["--nwc", "--classes"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wsolkern"]
    done = subprocess.run(
        [str(each) for each in [*command, "extract", *options, "both", "-o", tmp_path / "store"]],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for name, classes in (("store", "labels"), ("store.predicted", "predicted")):
        assert done.stdout.count(f"{name}: 13 CAMs") == 1
        run(tmp_path / classes, *options[3:], classes, model=f"{THIS}:mean")
        assert by_id(tmp_path / name) == by_id(tmp_path / classes)
        assert CamStore(tmp_path / name).manifest == CamStore(tmp_path / classes).manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "predicted", "store", "store.predicted"]


def test_top_1_does_not_depend_on_the_class_that_cams_are_of(tmp_path, root, run):
    """Where the classifier is right both CAMs are of the label; elsewhere no image counts."""
    run(tmp_path / "store", "--metadata", split_of(root), "--classes", "both")
    split = load_metadata(split_of(root))
    found = [
        studies.evaluate(path, split, "minmax max", size=(24, 32), at=0.2)
        for path in (tmp_path / "store", tmp_path / "store.predicted")
    ]
    assert [each.cams_of for each in found] == ["labels", "predicted"]
    assert 0 < found[0].result.classification_accuracy[1] < 100
    for labels, predicted in zip(*(each.localization for each in found), strict=True):
        for place in (0, 3):
            assert labels[place] == predicted[place] and labels[place].name == "Top-1"


def test_command_lists_what_it_leaves_out(tmp_path, root, run):
    data = tmp_path / "data"
    shutil.copytree(root, data)
    (data / "1/04.png").write_bytes(b"no image")
    (data / "2/11.png").unlink()
    done = run(tmp_path / "store", "--metadata", split_of(root), images=data, code=1)
    assert "store: 11 CAMs" in done.stdout and "2 of 13 images were left out" in done.stderr
    assert "1/04.png: " in done.stderr and "11.png: no such file" in done.stderr
    run(tmp_path / "store", "--metadata", split_of(root), "--allow-missing", images=data)
    done = run(tmp_path / "none", "--metadata", split_of(root), images=tmp_path, code=2)
    assert f"has no image '0/00.png'; the folder meant seems to be {data}" in done.stderr
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "none", "--metadata", split_of(root), images=tmp_path / "empty", code=2)
    assert "none of 13 images could be read; 0/00.png: " in done.stderr


@pytest.mark.slow
def test_a_checkpoint_of_the_published_library(tmp_path, root, run):
    """Its file, NWC too, by the command; and the same from the network itself."""
    network = seeded(models.build)(backbone="resnet50", method="cam", num_classes=NUM_CLASSES).eval()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"architecture": "resnet50", "epoch": 3, "state_dict": state}, tmp_path / "last_checkpoint.pth.tar")
    arguments = ["backbone=resnet50", "method=cam", f"num_classes={NUM_CLASSES}"]
    options = [option for each in arguments for option in ("-a", each)]
    options += ["--weights", tmp_path / "last_checkpoint.pth.tar", "--size", 48, "--nwc", "--metadata", split_of(root)]
    run(tmp_path / "store", *options, model="wsolkern.models:build")
    store = CamStore(tmp_path / "store")
    assert (store.manifest.backbone, store.num_maps) == ("resnet50", 13)
    labels = labels_of(root)
    images = ImageFolder(root, list(labels), Preprocessing((48, 48)))
    for image_id in list(labels)[:3]:
        pixels, label = torch.from_numpy(images.read(image_id))[None], torch.tensor([labels[image_id]])
        for nwc in (False, True):
            expected = network(pixels, label, return_cam=True, nwc=nwc)[0].numpy()
            np.testing.assert_allclose(store.read(image_id, nwc=nwc), expected, rtol=1e-4, atol=1e-5)  # threads


@pytest.mark.parametrize("kind", ["plain", "checkpoint", "data parallel", "safetensors"])
def test_weights(tmp_path, root, run, kind):
    import hashlib

    from safetensors.torch import save_file

    torch.manual_seed(5)
    trained = nn.Sequential(*stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, NUM_CLASSES))
    state, path = trained.state_dict(), tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pth.tar'}"
    if kind == "data parallel":
        state = {f"module.{name}": value for name, value in state.items()}
    if kind == "safetensors":
        save_file(state, path)
    else:
        optimizer = torch.optim.SGD(trained.parameters(), 0.1, momentum=0.9).state_dict()
        whole = {"architecture": "small", "epoch": 3, "state_dict": state, "optimizer": optimizer}
        torch.save(state if kind == "plain" else whole, path)
    run(tmp_path / "store", "--metadata", split_of(root), "--weights", path)
    assert CamStore(tmp_path / "store").manifest.checkpoint_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert by_id(tmp_path / "store") == extracted(tmp_path / "expected", root, lambda: trained)


def test_weights_that_do_not_fit(tmp_path, root, run):
    torch.save(mean().state_dict(), tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"state_dict": [1]}, tmp_path / "list.pth")
    torch.save({"model": slow}, tmp_path / "code.pth")
    for name, message in (
        ("other.pth", "other.pth: expected a parameter 8.weight [7, 12], found none (and 1 more differences)"),
        ("text.pth", "text.pth: no checkpoint of tensors and plain containers"),
        (
            "list.pth",
            "list.pth: expected a state dict, or a dict with one as 'state_dict', found a dict of 'state_dict'",
        ),
        ("code.pth", "code.pth: no checkpoint of tensors and plain containers: it holds more than tensors (test_extr"),
        ("none.pth", "none.pth: no such file"),
    ):
        assert message in run(tmp_path / "store", "--weights", tmp_path / name, code=2).stderr
    done = run(tmp_path / "store", "--weights", tmp_path / "other.pth", model=f"{THIS}:a_function", code=2)
    assert "returns no torch.nn.Module" in done.stderr and not (tmp_path / "store").exists()


def test_command_says_what_is_wrong(tmp_path, run):
    for model, arguments, message in (
        ("nothing", (), "MODEL: expected package.module:function, found 'nothing'"),
        ("no_such_package:f", (), "No module named 'no_such_package'"),
        (f"{THIS}:nothing", (), f"MODEL: {THIS} has no nothing"),
        (f"{THIS}:not_a_model", (), "to return a torch.nn.Module or a function, found 3"),
        (f"{THIS}:Mean", ("-a", "function"), "--argument: expected NAME=VALUE, found 'function'"),
        (f"{THIS}:failing", ("-a", "width=3"), f"MODEL: {THIS}:failing(number): missing a required argument: 'number'"),
        ("wsolkern.models:build", ("-a", "backbone=x"), "missing a required argument: 'method'"),
        (
            f"{THIS}:failing",
            ("-a", "number=3"),
            f"MODEL: {THIS}:failing(number=3): TypeError: object of type",
        ),
        (f"{THIS}:mean", ("--mean", "1 2"), "--mean: expected three numbers or one, found '1 2'"),
        (f"{THIS}:mean", ("--classes", "all"), "--classes: expected labels, predicted or both"),
        (f"{THIS}:mean", ("--device", "abacus"), "--device: "),
        (f"{THIS}:probabilities", (), "Name them with --features and --head"),
        (f"{THIS}:no_pooling", (), "give a function (images, classes) -> CAMs as MODEL instead"),
    ):
        assert message in run(tmp_path / "store", *arguments, model=model, code=2).stderr
        assert not (tmp_path / "store").exists()
    run(tmp_path / "store", "-a", "function=true", "--std", "0.5", model=f"{THIS}:Mean")
    manifest = CamStore(tmp_path / "store").manifest
    assert manifest.preprocessing["features"] == "argument of mean" and manifest.preprocessing["std"] == [0.5] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu(tmp_path, run):
    assert "finds no GPU" in run(tmp_path / "store", "--device", "cuda", code=2).stderr


# Several processes.


def test_what_killed_ranks_left_is_taken_over(tmp_path, root, run):
    options = "--metadata", split_of(root), "--nwc"
    run(tmp_path / "expected", *options)
    manifest = CamStore(tmp_path / "expected").manifest
    for rank in (0, 2):
        extracted(tmp_path / f"store.rank{rank}", root, manifest=manifest, rank=rank, num_ranks=3)
    run(tmp_path / "store", *options)
    assert by_id(tmp_path / "store") == by_id(tmp_path / "expected")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "store"]
    extracted(tmp_path / "store.rank1", root)
    assert "holds another run" in run(tmp_path / "store", *options, code=2).stderr


@pytest.mark.slow
def test_two_processes(tmp_path, root, run):
    """torchrun with two processes and a damaged image: the same store as one process makes, to the bit."""
    data = tmp_path / "data"
    shutil.copytree(root, data)
    (data / "1/04.png").write_bytes(b"no image")
    options = [f"{THIS}:mean", "--images", data, "--metadata", split_of(root), "--size", "24x32", "--batch-size", "3"]
    options += ["--nwc", "-o"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "wsolkern", "extract", *options, tmp_path / "store", "--allow-missing"]
    done = subprocess.run(
        [str(each) for each in command],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("store: 12 CAMs") == 1 and done.stderr.count("1 of 13 images were left out") == 1
    done = CliRunner().invoke(app, ["extract", *map(str, options), str(tmp_path / "one")])
    assert done.exit_code == 1 and "1/04.png: " in done.stderr
    assert by_id(tmp_path / "store") == by_id(tmp_path / "one") and len(by_id(tmp_path / "one")) == 12
    assert CamStore(tmp_path / "store").manifest == CamStore(tmp_path / "one").manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "one", "store"]


def test_command_with_a_named_method(tmp_path, root, run):
    pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
    store = tmp_path / "store"
    run(store, "--cam", "gradcam")
    assert CamStore(store).manifest.preprocessing["cam"] == "gradcam"
    assert "expected preprocessing.cam 'gradcam'" in run(store, "--cam", "layercam", code=2).stderr
    assert "--nwc: it clamps" in run(tmp_path / "other", "--cam", "gradcam", "--nwc", code=2).stderr
    assert "--cam: expected one of" in run(tmp_path / "other", "--cam", "grad", code=2).stderr
    assert not (tmp_path / "other").exists()

"""What is accepted as the pooled map and the head is all that lies behind it, whatever the weights are.

In: small networks in which values agree for wrong layers; models of other types, channels and wrappings. Out: nothing.
Source: a CAM's mean plus the class's bias is the logit (Zhou et al., arXiv 1512.04150, section 2).
"""

import copy
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from wsolkern import models
from wsolkern.cams import CamStore, CamWriter, Look, Manifest, OwnCams, PooledCams, cam_model, extract
from wsolkern.datasets import ImageFolder, Preprocessing

SIZE, NUM_CLASSES = (24, 32), 7


class Net(nn.Module):
    """A layer, ``between`` it and the average, the average, a head."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.Conv2d(12, 12, 3, 2, 1))
        self.gain, self.shift = nn.Parameter(torch.ones(12, 1, 1)), nn.Parameter(torch.zeros(12, 1, 1))
        self.other = nn.Conv2d(12, 12, 3, 1, 1)
        self.fc = nn.Linear(12, NUM_CLASSES)

    def between(self, features):
        return features

    def average(self, features):
        return features.mean((2, 3))

    def forward(self, images):
        return self.fc(self.average(self.between(self.layer(images))))


def zero(*layers: nn.Module) -> None:
    for layer in layers:
        for each in layer.parameters():
            nn.init.zeros_(each)


class ZeroHead(Net):
    """At initialization all logits are 0, so that 0 <= tolerance * 0 for every layer."""

    def __init__(self):
        super().__init__()
        zero(self.fc)

    def between(self, features):
        return torch.tanh(features) ** 2


class DeadFeatures(Net):
    """All features are 0: each logit is its bias."""

    def between(self, features):
        return torch.sin(features)

    def __init__(self):
        super().__init__()
        zero(self.layer[2])


class ConstantFeatures(DeadFeatures):
    """All pixels are 1, and stay it."""

    def __init__(self):
        super().__init__()
        nn.init.ones_(self.layer[2].bias)

    def between(self, features):
        return features**3


class Affine(Net):
    """A gain of 1 and a shift of 0, as batch normalization begins."""

    def between(self, features):
        return features * self.gain + self.shift


class ZeroResidual(Net):
    """A branch that begins with a gain of 0 (LayerScale, the last batch normalization of a residual block)."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.gain)

    def between(self, features):
        return features + self.gain * self.other(features)


class Clamped(Net):
    """An activation that is the identity on images like the probe."""

    def between(self, features):
        return features.clamp(-40, 40)


class ZeroHeadHidden(ZeroHead):
    """What is pooled is seen nowhere."""

    def average(self, features):
        return features.flatten(2).mean(2)


class DeadFeaturesHidden(DeadFeatures):
    def average(self, features):
        return features.flatten(2).mean(2)


class ClampedHidden(Clamped):
    def average(self, features):
        return features.flatten(2).mean(2)


class SquashedHead(Net):
    """A head that is no plain linear layer, though it is a Linear."""

    class Cosine(nn.Linear):
        def forward(self, features):
            return F.linear(F.normalize(features), F.normalize(self.weight), self.bias)

    def __init__(self):
        super().__init__()
        self.fc = self.Cosine(12, NUM_CLASSES)
        zero(self.layer[2], self.fc)


class WeightedAverage(Net):
    """Attention that begins uniform, in an average that is no function of torch."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Conv2d(12, 1, 1)
        zero(self.attention)

    def average(self, features):
        weights = self.attention(features).flatten(2).softmax(2)
        return (features.flatten(2) * weights).sum(2)


class SidePath(Net):
    """Logits that the image makes by another way, too, once that is trained."""

    def __init__(self):
        super().__init__()
        self.side = nn.Linear(3, NUM_CLASSES)

    def forward(self, images):
        return super().forward(images) + self.side(images.mean((2, 3)))


FOUND = {  # network: where the pooled map is found
    ZeroHead: "argument of mean",
    DeadFeatures: "argument of mean",
    ConstantFeatures: "argument of mean",
    Affine: "argument of mean",
    ZeroResidual: "argument of mean",
    Clamped: "argument of mean",
}
REFUSED = ZeroHeadHidden, DeadFeaturesHidden, ClampedHidden, SquashedHead, SidePath


def seeded(make, **options) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(**options)


def noise(channels: int = 3, number: int = 4, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn((number, channels, *SIZE), generator=torch.Generator().manual_seed(5))


def train(model: nn.Module) -> None:
    """A few steps away from the weights it begins with."""
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.3 * torch.randn(each.shape, generator=random)


def expect_right(cams: PooledCams, images: torch.Tensor) -> None:
    """CAM, mean and bias by hand."""
    for label in range(NUM_CLASSES):
        found = cams(images, torch.full((len(images),), label))
        real = cams.model(images)[:, label]
        expected = found.cams.mean((1, 2)) + cams.model.fc.bias[label]
        torch.testing.assert_close(expected, real, rtol=1e-4, atol=1e-4)  # sums in another order


@pytest.mark.parametrize("make", FOUND, ids=lambda make: make.__name__)
def test_what_is_found_is_right_after_training_too(make):
    model = seeded(make)
    cams = PooledCams(model, SIZE)
    assert (str(cams.features), cams.head) == (FOUND[make], "fc")
    expect_right(cams, noise())
    train(model)
    expect_right(cams, noise())
    expect_right(PooledCams(model, SIZE), noise())


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_proved_is_refused(make):
    with pytest.raises(ValueError, match="found no feature map .* Naming parts cannot help.*give a function"):
        PooledCams(seeded(make), SIZE)
    for names in ({"features": "layer"}, {"features": "layer", "head": "fc"})[: 1 if make is SidePath else 2]:
        with pytest.raises(ValueError, match="found no feature map .* with features 'layer'"):
            PooledCams(seeded(make), SIZE, **names)


@pytest.mark.parametrize("make", FOUND, ids=lambda make: make.__name__)
def test_a_wrong_layer_is_not_accepted_by_name(make):
    """What begins as the identity is one until it is trained; then each batch says so."""
    model = seeded(make)
    if make in (Affine, ZeroResidual):
        cams = PooledCams(model, SIZE, features="layer")
        expect_right(cams, noise())
        train(model)
        with pytest.raises(ValueError, match="^image 0 of a batch: the mean of the CAM .* layer is not, or no longer"):
            cams(noise())
    with pytest.raises(ValueError, match="Without --features and --head they are found: argument of mean and fc"):
        PooledCams(model, SIZE, features="layer")


def test_what_is_added_later_is_seen():
    for make in (SidePath, WeightedAverage):
        model = seeded(make)
        zero(getattr(model, "side", nn.Identity()))
        cams = PooledCams(model, SIZE)  # true of this network, and no longer of the trained one
        expect_right(cams, noise())
        train(model)
        with pytest.raises(
            ValueError, match="the mean of the CAM of class 2 plus its bias is .*, but its logit .*make it"
        ):
            cams(noise(), torch.tensor([2, 2, 2, 2]))
        with pytest.raises(ValueError, match="found no feature map"):
            PooledCams(model, SIZE)


@pytest.mark.parametrize("names", [{"features": "features"}, {}])
def test_what_is_changed_in_place_is_what_is_pooled(names):
    """As in DenseNet: the module's tensor is the one that is pooled, after it was changed."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.fc = nn.Conv2d(3, 12, 3, 2, 1), nn.Linear(12, NUM_CLASSES)

        def forward(self, images):
            return self.fc(F.adaptive_avg_pool2d(F.relu_(self.features(images)), 1).flatten(1))

    cams = PooledCams(seeded(InPlace), SIZE, **names)
    assert str(cams.features) == "features"
    expect_right(cams, noise())


def test_modules_that_are_called_again_and_again():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 1, 1)
            self.relu, self.fc = nn.ReLU(), nn.Linear(12, NUM_CLASSES)

        def forward(self, images):
            features = self.relu(self.first(images))
            features = features * features.mean((2, 3), keepdim=True).sigmoid()  # squeeze and excitation
            return self.fc(self.relu(features + self.second(features)).mean((2, 3)))

    cams = PooledCams(seeded(Shared), SIZE)
    assert str(cams.features) == "relu"
    expect_right(cams, noise())


@pytest.mark.parametrize("normalize", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_heads_whose_weights_are_computed(normalize):
    model = seeded(Net)
    model.fc = normalize(model.fc)
    cams = PooledCams(model, SIZE)
    expect_right(cams, noise())
    train(model)
    expect_right(cams, noise())


# What is changed after the proof.


def folder_of(tmp_path: Path) -> ImageFolder:
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "images" / name)
    return ImageFolder(tmp_path / "images", ("a.png", "b.png", "c.png"), Preprocessing(SIZE))


LABELS = {"a.png": 0, "b.png": 1, "c.png": 2}


def test_every_batch_is_compared_with_the_logits(tmp_path):
    model = seeded(Net)
    cams = cam_model(model, SIZE)
    model.between = lambda features: features + 1.0  # a new shape of the network behind the layer
    with CamWriter(tmp_path / "store", Manifest()) as writer, pytest.raises(ValueError) as caught:
        extract(cams, folder_of(tmp_path), writer, LABELS)
    assert str(caught.value).startswith("a.png: the mean of the CAM of class 0 plus its bias is ")
    assert "layer is not, or no longer, all that fc makes logits of" in str(caught.value)
    assert CamStore(tmp_path / "store").num_maps == 0


def test_parts_in_training_mode_are_put_back():
    model = seeded(Net)
    cams = PooledCams(model, SIZE)
    expected = cams(noise())
    model.train()
    found = cams(noise())
    assert torch.equal(found.cams, expected.cams) and not model.layer[1].training


class NotANumber(Net):
    """NaN for images whose first pixel is dark."""

    def between(self, features):
        return features * self.pixel.where(self.pixel > -2, torch.nan)[:, None, None, None]

    def forward(self, images):
        self.pixel = images[:, 0, 0, 0]
        return super().forward(images)


class OwnNotANumber(NotANumber):
    def forward(self, images, labels=None, return_cam=False):
        logits = super().forward(images)
        return self.layer(images).mean(1) if return_cam else {"logits": logits}


def test_logits_that_are_no_numbers_name_the_image(tmp_path):
    images = folder_of(tmp_path)
    dark = np.full((20, 30, 3), 90, np.uint8)
    dark[:3, :3] = 0
    Image.fromarray(dark).save(tmp_path / "images/b.png")
    own, net = seeded(OwnNotANumber).eval(), seeded(NotANumber).eval()

    def function(pixels, classes):
        with torch.no_grad():
            return Look(pixels.mean(1), classes, net(pixels))

    for number, model in enumerate((net, own, function)):
        for batch_size in (1, 3):
            store = tmp_path / f"{number}{batch_size}"
            with (
                CamWriter(store, Manifest()) as writer,
                pytest.raises(ValueError, match="b.png: its logits are NaN, though all weights are numbers"),
            ):
                extract(cam_model(model, SIZE), images, writer, LABELS, batch_size=batch_size)
            assert CamStore(store).num_maps == (0 if batch_size == 3 else CamStore(store).num_maps)
            assert "b.png" not in CamStore(store).image_ids


def test_images_that_could_not_be_read_are_no_reason(tmp_path):
    """Zeros stand in their place, of which a network may make NaN."""

    class Standardized(Net):
        def forward(self, images):
            return super().forward(images / images.std((1, 2, 3), keepdim=True))

    images = folder_of(tmp_path)
    (tmp_path / "images/b.png").write_bytes(b"no image")
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        problems = extract(cam_model(seeded(Standardized), SIZE), images, writer, LABELS, batch_size=3)
    assert list(problems) == ["b.png"] and CamStore(tmp_path / "store").num_maps == 2


def test_weights_that_are_no_numbers_are_named():
    model = seeded(Net)
    model.layer[0].weight.data[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="noise are NaN, for the weights are: layer.0.weight has values"):
        PooledCams(model, SIZE)
    model = seeded(Net)
    cams = PooledCams(model, SIZE)
    model.fc.bias.data[2] = torch.inf
    with pytest.raises(ValueError, match="image 0 of a batch: its logits are infinite, .* fc.bias has values"):
        cams(noise())
    own = models.build("tiny", "cam", 3)
    own.fc.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="x.png: its logits are NaN, for the weights are: fc.weight"):
        OwnCams(own)(noise(number=1), torch.tensor([0]), ["x.png"])


# Models of other kinds.


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_types_take_float32_images(dtype):
    expected = PooledCams(seeded(Net), SIZE)(noise(), torch.tensor([0, 1, 2, 3]))
    cams = PooledCams(seeded(Net).to(dtype), SIZE)
    assert str(cams.features) == "layer"
    found = cams(noise(), torch.tensor([0, 1, 2, 3]))
    assert found.cams.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    error = 1e-5 if dtype == torch.float64 else 0.1  # bfloat16 has 8 bits
    torch.testing.assert_close(found.cams.float(), expected.cams, rtol=0, atol=error)


def test_mixed_precision_is_compared_as_coarsely_as_it_rounds():
    model = seeded(Net)
    cams = PooledCams(model, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        cams(noise(scale=30), torch.tensor([0, 1, 2, 3]))
    model.between = lambda features: features + 1.0
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="but its logit is"):
        cams(noise(), torch.tensor([0, 1, 2, 3]))


def test_logits_that_cancel_are_no_false_alarm():
    """Terms of thousands with a sum near 0: the tolerance is one of the terms."""
    model = seeded(Net)
    with torch.no_grad():
        model.fc.weight[1] = -model.fc.weight[0]
        model.layer[2].bias += 3000
        model.fc.weight -= model.fc.weight.mean(1, keepdim=True)
        model.fc.bias.zero_()
    cams = PooledCams(model, SIZE)
    for label in range(NUM_CLASSES):
        cams(noise(), torch.full((4,), label))


def test_one_channel():
    class Gray(Net):
        def __init__(self):
            super().__init__()
            self.layer[0] = nn.Conv2d(1, 12, 3, 2, 1)

    cams = PooledCams(seeded(Gray), SIZE)
    assert cams.channels == 1
    expect_right(cams, noise(1))
    with pytest.raises(ValueError, match="Gray takes images of 1 channels, and images are read with 3: put a layer"):
        cam_model(seeded(Gray), SIZE)
    wrapped = nn.Sequential(OrderedDict(gray=Mean(), net=seeded(Gray)))
    cams = cam_model(wrapped, SIZE)
    assert str(cams.features) == "net.layer"
    torch.testing.assert_close(cams(noise()).cams, PooledCams(seeded(Gray), SIZE)(noise().mean(1, True)).cams)


class Mean(nn.Module):
    def forward(self, images):
        return images.mean(1, keepdim=True)


def test_torchscript_has_an_answer(tmp_path):
    for make in (torch.jit.script, lambda model: torch.jit.trace(model, noise())):
        with torch.no_grad():
            scripted = make(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)))
        for door in (PooledCams, cam_model):
            with pytest.raises(ValueError, match="TorchScript model does not show .*state_dict.*or give a function"):
                door(scripted, SIZE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_which_parts_are_closed():
    """A part of TorchScript shows nothing, but what is behind it does."""
    plain = seeded(Net).eval()
    expected = PooledCams(plain, SIZE)(noise())
    part = nn.Sequential(torch.jit.script(plain.layer), nn.AdaptiveAvgPool2d(1), nn.Flatten(), plain.fc)
    cams = PooledCams(part, SIZE)
    assert str(cams.features) == "input of 1"
    torch.testing.assert_close(cams(noise()).cams, expected.cams)
    with pytest.raises(ValueError, match="an exported program does not show its feature maps"):
        PooledCams(torch.export.export(part[1:], (torch.randn(4, 12, 6, 8),)).module(), SIZE)
    with pytest.raises(ValueError, match="on the device meta, where they have no values"):
        PooledCams(seeded(Net).to("meta"), SIZE)

    class Dict(Net):
        def forward(self, images):
            return super().forward(images["image"])

    with pytest.raises(ValueError, match="Dict: fails on images of 24 x 32 pixels: .*other arguments than images"):
        PooledCams(seeded(Dict), SIZE)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrapped_models_are_what_is_in_them(wrap):
    expected = PooledCams(seeded(Net), SIZE)(noise())
    found = cam_model(wrap(seeded(Net)), SIZE)
    assert str(found.features) == "layer"
    torch.testing.assert_close(found(noise()).cams, expected.cams, rtol=0, atol=0)
    own = models.build("tiny", "acol", 3).eval()
    found = cam_model(wrap(own), SIZE)  # not taken for one without CAMs of its own
    assert isinstance(found, OwnCams)
    assert torch.equal(found(noise()).cams, own(noise(), return_cam=True))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"logits": logits, "loss": None},
        lambda logits: (logits, "more"),
        lambda logits: [logits],
        lambda logits: SimpleNamespace(loss=None, logits=logits),
    ],
    ids=["dict", "tuple", "list", "attribute"],
)
def test_what_logits_come_in(wrap):
    class Wrapped(Net):
        def forward(self, images):
            return wrap(super().forward(images))

    expected = PooledCams(seeded(Net), SIZE)(noise())
    assert torch.equal(PooledCams(seeded(Wrapped), SIZE)(noise()).cams, expected.cams)


def test_advice_is_true():
    class Out(Net):
        def forward(self, images):
            return {"out": super().forward(images)}

    with pytest.raises(ValueError) as caught:
        PooledCams(seeded(Out), SIZE)
    assert "Name them with --features and --head: --features layer --head fc, whose" in str(caught.value)
    assert "The model's output: a dict of out [2, 7]" in str(caught.value)
    assert str(PooledCams(seeded(Out), SIZE, head="fc").features) == "layer"

    class Hidden(Net):
        """A hidden layer is no head, whoever says so."""

        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(12, 12)

        def average(self, features):
            return self.hidden(super().average(features)).relu()

    with pytest.raises(ValueError, match="Naming parts cannot help"):
        PooledCams(seeded(Hidden), SIZE)
    with pytest.raises(
        ValueError, match="head: 'hidden' makes 12 numbers an image, and nothing that Hidden returns has"
    ):
        PooledCams(seeded(Hidden), SIZE, head="hidden")

    class More(Net):
        def forward(self, images, masks):
            return super().forward(images)

    with pytest.raises(
        ValueError, match="missing 1 required positional argument.*other arguments than images, give a function"
    ):
        PooledCams(seeded(More), SIZE)


def test_nothing_is_left_in_the_model():
    model = seeded(Net)
    before = copy.deepcopy(model.state_dict())
    PooledCams(model, SIZE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model.fc.weight, nn.Parameter) and model.fc.weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

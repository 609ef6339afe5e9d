"""CAMs linearised at the pooled feature, against a transcription of the formula; what is refused.

In: small networks with something between average and logits, some of timm and transformers. Out: nothing.
Source: wsolkern.cams.linear.
"""

import copy

import pytest
import torch
from PIL import Image
from torch import nn

from wsolkern.cams import CamStore, named_cams
from wsolkern.errors import ArgumentError
from wsolkern.studies import extract

SIZE, CLASSES = (24, 32), torch.tensor([1, 4, 0])
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # sums in another order


class Net(nn.Module):
    """A map, its average, a rest."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1))
        self.gain = nn.Parameter(torch.ones(1))
        self.rest = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 9), nn.Hardswish(inplace=True), nn.Linear(9, 5))

    def pool(self, maps, images):
        return maps.mean((2, 3))

    def forward(self, images):
        return self.rest(self.pool(self.trunk(images), images))


class Maximum(Net):
    def pool(self, maps, images):
        return maps.amax((2, 3))


class MeanAndMaximum(Net):
    def pool(self, maps, images):
        return maps.mean((2, 3)) + 0.01 * maps.amax((2, 3))


class MeanAndSpread(Net):
    def pool(self, maps, images):
        return maps.mean((2, 3)) + maps.std((2, 3))


class Bypassed(Net):
    """Something of the images goes past the map."""

    def pool(self, maps, images):
        return maps.mean((2, 3)) + images.mean((2, 3)).repeat(1, 4)


class Attended(Net):
    """The map weighs its own pixels."""

    def pool(self, maps, images):
        weights = maps[:, :1].flatten(2).softmax(2)
        return (maps.flatten(2) * weights).sum(2)


class Clamped(Net):
    """A nonlinearity that does nothing yet, between the map and an average that shows in no module or function."""

    def pool(self, maps, images):
        return maps.clamp(-40, 40).flatten(2).sum(2) / maps[0, 0].numel()


class NotYet(Net):
    """A layer over pixels whose gain is 0 yet, between all that shows and the average."""

    def pool(self, maps, images):
        return (maps + (self.gain - 1) * maps.roll(1, 2) ** 2).flatten(2).sum(2)


class ZeroHead(Net):
    """All gradients are 0 before training."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.rest[3].weight)


class ChannelsLast(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(12)

    def pool(self, maps, images):
        return self.norm(maps.permute(0, 2, 3, 1)).mean((1, 2))


def made(kind=Net) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def images(size=SIZE) -> torch.Tensor:
    return torch.randn((3, 3, *size), generator=torch.Generator().manual_seed(1))


def transcribed(maps: torch.Tensor, rest) -> torch.Tensor:
    """g · F + f(p) - g · p of maps [N, C, h, w] and a function from [1, C] to [1, K], an image at a time."""
    found = []
    for each, label in zip(maps.double(), CLASSES, strict=True):
        mean = each.mean((1, 2))
        slope = torch.autograd.functional.jacobian(lambda mean, label=label: rest(mean[None])[0, label], mean)
        offset = rest(mean[None])[0, label] - slope @ mean
        found.append(torch.einsum("c,chw->hw", slope, each) + offset)
    return torch.stack(found).detach().float()


@pytest.mark.parametrize("kind", [Net, ZeroHead, ChannelsLast])
def test_own(kind):
    model = made(kind)
    cams = named_cams("linear", model, SIZE)
    place, layout = ("norm", "NHWC") if kind is ChannelsLast else ("trunk", "NCHW")
    assert (str(cams.features), cams.layout.axes) == (place, layout)
    if kind is ZeroHead:
        nn.init.normal_(model.rest[3].weight)
    made_now = cams(images(), CLASSES)
    with torch.no_grad():
        maps = model.trunk(images())
        maps = model.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if kind is ChannelsLast else maps
        logits = model(images())
    torch.testing.assert_close(made_now.cams, transcribed(maps, copy.deepcopy(model.rest).double()), **CLOSE)
    torch.testing.assert_close(made_now.logits, logits, **CLOSE)
    torch.testing.assert_close(made_now.cams.mean((1, 2)), logits.gather(1, CLASSES[:, None])[:, 0], **CLOSE)
    asked, predicted = cams.looks(images(), [CLASSES, None])
    assert torch.equal(asked.cams, made_now.cams) and torch.equal(predicted.classes, logits.argmax(1))
    assert torch.equal(predicted.cams, cams(images(), logits.argmax(1)).cams)
    assert torch.equal(cams.replicate()(images(), CLASSES).cams, made_now.cams)
    assert all(each.grad is None for each in model.parameters())


def test_where_the_rest_is_linear_it_is_the_cam_and_the_bias():
    model = made()
    model.rest = nn.Linear(12, 5)
    plain, found = (named_cams(cam, model, SIZE)(images(), CLASSES) for cam in ("cam", "linear"))
    expected = plain.cams + model.rest.bias.detach()[CLASSES][:, None, None]
    torch.testing.assert_close(found.cams, expected, **CLOSE)


@pytest.mark.parametrize("kind", [Maximum, MeanAndMaximum, MeanAndSpread, Bypassed, Attended, Clamped, NotYet])
@pytest.mark.parametrize("features", [None, "trunk"])
def test_refused(kind, features):
    with pytest.raises(ValueError, match="whose mean over the pixels is all that its logits depend on"):
        named_cams("linear", made(kind), SIZE, features=features)


def test_refused_for_other_reasons():
    with pytest.raises(ArgumentError, match="features no: expected the path of a module of Net"):
        named_cams("linear", made(), SIZE, features="no")
    with pytest.raises(ArgumentError, match="whose output is a feature map"):
        named_cams("linear", made(), SIZE, features="rest.0")
    with pytest.raises(ArgumentError, match="nwc: it clamps the weights of a linear layer .* linear has not"):
        named_cams("linear", made(), SIZE, nwc=True)
    model = made()
    cams = named_cams("linear", model, SIZE)
    model.__class__ = Attended
    with pytest.raises(ValueError, match="not the same at all pixels of trunk.*if the model was changed, make this"):
        cams(images(), CLASSES)


NETWORKS = {
    "convnext_atto": ("norm_pre", lambda model: lambda mean: model.head(mean[:, :, None, None])),
    "mobilenetv3_small_050": ("blocks", lambda model: lambda mean: model.forward_head(mean[:, :, None, None])),
    "vit_small_patch16_18x2_224": ("norm", lambda model: lambda mean: model.head(model.fc_norm(mean))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_timm(name):
    timm = pytest.importorskip("timm", reason="timm or torchvision is not installed", exc_type=ImportError)
    torch.manual_seed(0)
    path, rest = NETWORKS[name]
    options, size = {}, (64, 96)
    if name.startswith("vit"):
        options = {"img_size": size, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}
        options["global_pool"], options["fc_norm"] = "avg", True
    model = timm.create_model(name, num_classes=5, **options).eval()
    cams = named_cams("linear", model, size)
    if name.startswith("vit"):
        assert isinstance(model.fc_norm, nn.LayerNorm)
    found = cams(images(size), CLASSES)
    with torch.no_grad():
        if name.startswith("vit"):
            maps = cams.layout.as_map(model.forward_features(images(size)))
        else:
            maps = (
                model.forward_features(images(size))
                if path == "blocks"
                else model.norm_pre(model.stages(model.stem(images(size))))
            )
    assert found.cams.shape == (3, *maps.shape[2:])
    torch.testing.assert_close(found.cams, transcribed(maps, rest(copy.deepcopy(model).double())), **CLOSE)
    torch.testing.assert_close(found.logits, model(images(size)).detach(), **CLOSE)


def convolutions_and_rest():
    return made()


def test_store(tmp_path):
    """The manifest says what the maps are."""
    for number in range(3):
        folder = tmp_path / "images" / "a"
        folder.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (8, 6), bytes(range(number, 144 + number))).save(folder / f"{number}.png")
    name = f"{__name__}:convolutions_and_rest"
    extract(name, tmp_path / "images", tmp_path / "store", cam="linear", preprocessing={"size": SIZE})
    store = CamStore(tmp_path / "store")
    about = store.manifest.preprocessing
    assert (about["cam"], about["features"], about["linearised"]) == ("linear", "trunk", "at the pooled feature")
    (part,) = store.records()
    assert part.cams.shape == (3, 6, 8)

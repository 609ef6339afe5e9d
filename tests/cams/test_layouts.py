"""Feature maps with channels last, and average-pooled tokens, are found, proved and put in their places.

In: small networks of torch, tiny random ones of timm and transformers. Out: nothing.
Source: a CAM's mean plus the class's bias is the logit (Zhou et al., arXiv 1512.04150, section 2).
"""

import importlib.util

import pytest
import torch
from torch import nn

from wsolkern.cams import PooledCams
from wsolkern.cams.layouts import Layout

SIZE, NUM_CLASSES = (32, 48), 7


class Net(nn.Module):
    """A convolution, its map in some layout, a norm of it that shows it, an average, a head."""

    def __init__(self, layout: str):
        super().__init__()
        self.layout = layout
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.norm = nn.LayerNorm(12)
        self.last = nn.Identity()
        self.fc = nn.Linear(12, NUM_CLASSES)

    def forward(self, images):
        features = self.norm(self.patches(images).permute(0, 2, 3, 1))
        if self.layout == "NHWC":
            return self.fc(self.last(features).mean((1, 2)))
        tokens = features.flatten(1, 2)
        if self.layout == "columns":
            return self.fc(self.last(features.transpose(1, 2).flatten(1, 2)).mean(1))
        if self.layout == "NCL":
            return self.fc(self.last(tokens.transpose(1, 2)).mean(2))
        front = tokens[:, :2] * 3
        tokens = self.last(torch.cat((front, tokens), 1))
        return self.fc(tokens[:, 0] if self.layout == "class token" else tokens[:, 2:].mean(1))


def seeded(layout: str) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(layout).eval()


def expect_right(cams: PooledCams, size: tuple[int, int]) -> torch.Tensor:
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(3))
    classes = torch.tensor([1, 6, 3])
    found, real = cams(images, classes), cams.model(images)
    real = getattr(real, "logits", real)
    expected = real[range(3), classes] - cams.model.get_submodule(cams.head).bias[classes]
    torch.testing.assert_close(found.cams.mean((1, 2)), expected, rtol=1e-4, atol=1e-5)  # sums in another order
    return images


@pytest.mark.parametrize(
    ("name", "layout"),
    [("NHWC", Layout("NHWC")), ("NLC", Layout("NLC", (4, 6), 2)), ("NCL", Layout("NCL", (4, 6)))],
)
def test_each_layout_has_the_same_cams(name, layout):
    cams = PooledCams(seeded(name), SIZE, features="last")
    assert (str(cams.features), cams.head, cams.layout) == ("last", "fc", layout)
    images = expect_right(cams, SIZE)
    with torch.no_grad():
        features = cams.model.norm(cams.model.patches(images).permute(0, 2, 3, 1))
        by_hand = features @ cams.model.fc.weight[2]
    found = cams(images, torch.tensor([2, 2, 2])).cams
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)  # sums in another order
    assert PooledCams(cams.model, SIZE).layout.axes in (name, "NHWC")


@pytest.mark.parametrize("name", ["columns", "class token"])
def test_tokens_that_are_no_pooled_rows_are_refused(name):
    with pytest.raises(ValueError, match="found no feature map"):
        PooledCams(seeded(name), SIZE, features="last")


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "axes"),
    [
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 2, "depths": (1, 1), "num_heads": (1, 2), "embed_dim": 16},
            "NHWC",
        ),
        ("mixer_s32_224", {"img_size": 64}, "NLC"),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2, "global_pool": "avg", "fc_norm": False}, "NLC"),
        ("resnet18", {}, "NCHW"),
    ],
)
def test_networks_of_timm(name, options, axes):
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=NUM_CLASSES, **options).eval()
    cams = PooledCams(model, (64, 64))
    assert cams.layout.axes == axes
    expect_right(cams, (64, 64))


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.slow
def test_swin_of_transformers():
    from transformers import SwinConfig, SwinForImageClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=2, num_labels=NUM_CLASSES
        )
        model = SwinForImageClassification(config).eval()
    cams = PooledCams(model, (64, 64))
    assert cams.layout == Layout("NCL", (8, 8)) and cams.head == "classifier"
    expect_right(cams, (64, 64))

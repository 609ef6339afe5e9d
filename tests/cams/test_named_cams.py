"""Each named CAM method against a plain transcription of its formula, on small networks of timm and transformers.

In: random networks, images of noise. Out: nothing.
Source: each method's own, in wsolkern.cams.named.
"""

import numpy as np
import pytest
import torch
from torch import nn
from typer.main import get_command

from wsolkern.cams import CAM_METHODS, check_cam, named_cams
from wsolkern.cams.attention import rollout
from wsolkern.cli import app
from wsolkern.errors import ArgumentError
from wsolkern.studies import extract

SIZE, CLASSES = (32, 48), torch.tensor([1, 4, 0])
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # sums in another order


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).eval()


def vit(**changed) -> nn.Module:
    timm = pytest.importorskip("timm.models.vision_transformer", reason="timm is not installed")
    torch.manual_seed(0)
    sides = {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}
    model = timm.VisionTransformer(**sides | changed).eval()
    for each in model.parameters():
        each.data += 0.2 * torch.randn(each.shape)
    return model


def images() -> torch.Tensor:
    return torch.randn((3, 3, *SIZE), generator=torch.Generator().manual_seed(1))


def blocks(model) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """A ViT by hand: weights [N, heads, L, L] of each layer, the last keys, the last block's input."""
    tokens = model.norm_pre(model._pos_embed(model.patch_embed(images())))
    weights = []
    for block in model.blocks:
        before, part = tokens, block.attn
        normed = block.norm1(tokens)
        query, key, value = (each.unflatten(-1, (3, -1)).transpose(1, 2) for each in part.qkv(normed).chunk(3, -1))
        weights.append((query @ key.transpose(-1, -2) / 8**0.5).softmax(-1))
        tokens = tokens + part.proj((weights[-1] @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return weights, key.transpose(1, 2).flatten(2), before


@pytest.mark.parametrize("cam", ["gradcam", "layercam"])
@pytest.mark.parametrize("kind", ["convolutions", "tokens"])
def test_gradient_weighted(cam, kind):
    pytest.importorskip("torchcam", reason="torch-cam is not installed")
    model, path = (network(), "2") if kind == "convolutions" else (vit(), "blocks.2.norm1")
    found = named_cams(cam, model, SIZE, features="2" if kind == "convolutions" else None)
    assert found.features == path
    kept = []
    hook = model.get_submodule(path).register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model(images().requires_grad_())
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, CLASSES[:, None]).sum(), kept[0])
    maps = kept[0].detach()
    if kind == "tokens":
        maps, gradient = (each[:, 1:].transpose(1, 2).reshape(3, -1, 4, 6) for each in (maps, gradient))
    weights = gradient.mean((2, 3), keepdim=True) if cam == "gradcam" else gradient.relu()
    made = found(images(), CLASSES)
    torch.testing.assert_close(made.cams, (weights * maps).sum(1).relu(), **CLOSE)
    torch.testing.assert_close(made.logits, logits.detach(), **CLOSE)


@pytest.mark.parametrize("fused", [True, False])
@torch.no_grad()
def test_attention(fused):
    model = vit(reg_tokens=2)
    weights, *_ = blocks(model)
    for block in model.blocks:
        block.attn.fused_attn = fused
    expected = torch.eye(27)
    for each in weights:
        expected = (0.5 * each.mean(1) + 0.5 * torch.eye(27)) @ expected
    found = named_cams("rollout", model, SIZE)
    made = found(images(), CLASSES)
    torch.testing.assert_close(made.cams, expected[:, 0, 3:].reshape(3, 4, 6), **CLOSE)
    torch.testing.assert_close(made.logits, model(images()), **CLOSE)
    mean = torch.stack(weights).mean((0, 2))[:, 0, 3:].reshape(3, 4, 6)
    torch.testing.assert_close(named_cams("attention", model, SIZE)(images()).cams, mean, **CLOSE)
    torch.testing.assert_close(rollout([each.mean(1) for each in weights]).sum(-1), torch.ones(3, 27), **CLOSE)


@torch.no_grad()
def test_similarity():
    """The last block by hand: values in the place of what patches attend to."""
    model = vit()
    *_, tokens = blocks(model)
    block = model.blocks[-1]
    tokens = tokens + block.attn.proj(block.attn.qkv(block.norm1(tokens)).chunk(3, -1)[2])
    tokens = model.norm(tokens + block.mlp(block.norm2(tokens)))[:, 1:]
    expected = torch.einsum("nlc,nc->nl", tokens, model.head.weight[CLASSES]).reshape(3, 4, 6)
    made = named_cams("similarity", model, SIZE)(images(), CLASSES)
    torch.testing.assert_close(made.cams, expected, **CLOSE)
    torch.testing.assert_close(made.logits, model(images()), **CLOSE)


@torch.no_grad()
def test_without_a_head():
    model = vit(num_classes=0)
    _, keys, _ = blocks(model)
    made = {cam: named_cams(cam, model, SIZE)(images()) for cam in ("pca", "ncut")}
    assert made["pca"].logits is None and made["pca"].classes is None
    for row in range(3):
        tokens = model.forward_features(images())[row, 1:].double().numpy()
        values, axes = np.linalg.eigh(np.cov(tokens.T))
        expected = (tokens - tokens.mean(0)) @ axes[:, values.argmax()]
        expected *= np.sign(expected[np.abs(expected).argmax()])
        np.testing.assert_allclose(made["pca"].cams[row].flatten(), expected, rtol=1e-3, atol=1e-4)
        units = nn.functional.normalize(keys[row, 1:].double(), dim=-1).numpy()
        edges = np.where(units @ units.T >= 0.2, 1, 1e-5)
        roots = 1 / np.sqrt(edges.sum(1))
        _, vectors = np.linalg.eigh(np.eye(24) - roots[:, None] * edges * roots)
        vector = roots * vectors[:, 1]
        vector *= np.sign((vector - vector.mean())[np.abs(vector).argmax()])
        np.testing.assert_allclose(made["ncut"].cams[row].flatten(), vector - vector.mean(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_ts_cam():
    class TsCam(type(vit())):
        def forward(self, images):
            tokens = self.forward_features(images)[:, 1:]
            return self.head(tokens.transpose(1, 2).reshape(len(tokens), -1, 4, 6)).mean((2, 3))

    model = vit()
    model.__class__, model.head = TsCam, nn.Conv2d(24, 5, 3, padding=1)
    weights, *_ = blocks(model)
    semantic = model.head(model.forward_features(images())[:, 1:].transpose(1, 2).reshape(3, 24, 4, 6))
    attention = torch.stack(weights).mean((0, 2))[:, 0, 1:].reshape(3, 4, 6)
    made = named_cams("ts-cam", model, SIZE)(images(), CLASSES)
    torch.testing.assert_close(made.cams, semantic[torch.arange(3), CLASSES] * attention, **CLOSE)


def test_refusals():
    for cam in ("ts-cam", "rollout", "similarity", "pca", "attention", "ncut"):
        with pytest.raises(ValueError, match="found no self-attention"):
            named_cams(cam, network(), SIZE)
    with pytest.raises(ValueError, match="TS-CAM needs its own head"):
        named_cams("ts-cam", vit(), SIZE)
    with pytest.raises(ValueError, match="expected a head that reads the class token alone"):
        named_cams("similarity", vit(global_pool="avg"), SIZE)
    with pytest.raises(ValueError, match="reads a class token"):
        named_cams("rollout", vit(global_pool="avg"), SIZE)
    with pytest.raises(ValueError, match="expected a classifier"):
        named_cams("similarity", vit(num_classes=0), SIZE)
    for arguments, name in (({"nwc": True}, "nwc"), ({"head": "fc"}, "head"), ({"features": "fc"}, "features")):
        with pytest.raises(ArgumentError, match=name):
            check_cam("rollout", **arguments)
    with pytest.raises(ArgumentError, match="expected one of cam, linear, gradcam"):
        check_cam("grad")
    assert list(CAM_METHODS)[0] == "cam"


@pytest.mark.parametrize(
    "make, refused, names",
    [
        (vit, "cam", "attention, rollout, similarity, pca, ncut"),
        (vit, "linear", "attention, rollout, similarity, pca, ncut"),
        (lambda: vit(num_classes=0), "similarity", "attention, rollout, pca, ncut"),
        (lambda: vit(global_pool="avg", fc_norm=False), "rollout", "cam, linear, pca, ncut"),
        (network, "cam", "linear"),
    ],
    ids=["class_token", "class_token_linear", "no_head", "averaged", "hidden_layer"],
)
def test_a_refusal_names_what_works(make, refused, names):
    """Each of the methods named does work; torch-cam's are named with their extra where it is not installed."""
    with pytest.raises(ValueError, match="--cam methods that work for it: ") as error:
        named_cams(refused, make(), SIZE)
    found = str(error.value).rpartition(": ")[2].split(", ")
    assert [each for each in found if not each.startswith(("gradcam", "layercam"))] == names.split(", ")
    for each in found:
        if "(" not in each:
            named_cams(each, make(), SIZE)(images())


def refused_vit():
    return vit()


def test_a_refusal_comes_before_images_are_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "none.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="--cam methods that work for it: .*rollout"):
        extract(f"{__name__}:refused_vit", tmp_path, tmp_path / "store", preprocessing={"size": SIZE})
    assert not (tmp_path / "store").exists()


def test_help_lists_all_methods():
    (option,) = (each for each in get_command(app).commands["extract"].params if each.name == "cam")
    assert option.metavar.split("|") == list(CAM_METHODS)

"""Which architectures `wsolkern extract` takes, and with which option: `python -m benchmarks.architectures [--write]`.

In: small random networks of timm and transformers, images of noise. Out: a Markdown table, printed or put into
docs/models.md. A row says which works first of: nothing to name, linear, similarity, rollout, gradcam; its maps are
compared with logits or with a plain transcription of the method before the row is made.
Source: the methods' own, in wsolkern.cams.named.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from wsolkern.cams import named_cams
from wsolkern.cams.heads import head_weights, logits_of
from wsolkern.cams.named import working
from wsolkern.cams.places import at

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import torchvision_operators  # noqa: E402

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN = "<!-- architectures: what python -m benchmarks.architectures --write puts here -->"
END = "<!-- end of architectures -->"
_HEADER = "| architecture | pooled or read | works | compared with | also |\n|---|---|---|---|---|"
_PREFERRED = ("cam", "linear", "similarity", "rollout", "gradcam")
_NUM_CLASSES = 5
_CLOSE = 1e-4  # of the largest value: sums in another order


@dataclass(frozen=True)
class Architecture:
    """A network to try."""

    make: Callable[[], nn.Module]
    kind: str
    """What its head reads."""
    size: tuple[int, int] = (64, 96)
    tower: str = ""
    """Path of what has a transformer's blocks, for transcriptions."""
    tail: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    """From the last block's tokens to what the head says of each."""
    num_prefix: int = 1
    """Tokens before the patches'."""
    option: str = ""
    """What else has to be said on the command line."""


def _timm(name: str, **options) -> nn.Module:
    torchvision_operators.declare()
    import timm

    return timm.create_model(name, pretrained=False, **{"num_classes": _NUM_CLASSES} | options)


def _transformers(name: str, config: str, **options) -> nn.Module:
    torchvision_operators.declare()
    import transformers

    made = getattr(transformers, config)(**{"num_labels": _NUM_CLASSES} | options)
    return getattr(transformers, name)(made)


_VIT = {"img_size": (64, 96), "embed_dim": 24, "depth": 2, "num_heads": 3}
_SWIN = {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 16}
_BERT = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "image_size": 64}


def _clip() -> nn.Module:
    """CLIP with texts for classes; the texts' vectors are random, so that no tokenizer is needed."""
    from wsolkern.cams.clip import PromptedClip

    tower = {name: value for name, value in _BERT.items() if name != "image_size"}
    clip = _transformers(
        "CLIPModel",
        "CLIPConfig",
        text_config=tower | {"vocab_size": 8, "bos_token_id": 6, "eos_token_id": 7, "max_position_embeddings": 8},
        vision_config=_BERT | {"patch_size": 8},
        projection_dim=12,
    )
    made = PromptedClip.__new__(PromptedClip)
    nn.Module.__init__(made)
    made.clip, made.tokens, made.num_classes = clip, nn.Identity(), _NUM_CLASSES
    made.register_buffer("texts", nn.functional.normalize(torch.randn(_NUM_CLASSES, 12), dim=-1))
    return made


def _timm_tail(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(model.norm(tokens), model.head.weight)


_CLASS_TOKEN = "class token"
_AVERAGE, _MORE = "average", "average, then more layers"

ARCHITECTURES: dict[str, Architecture] = {
    "timm resnet18": Architecture(partial(_timm, "resnet18"), _AVERAGE),
    "timm densenet121": Architecture(partial(_timm, "densenet121"), _AVERAGE),
    "timm efficientnet_b0": Architecture(partial(_timm, "efficientnet_b0"), _AVERAGE),
    "timm mobilenetv2_050": Architecture(partial(_timm, "mobilenetv2_050"), _AVERAGE),
    "timm regnetx_002": Architecture(partial(_timm, "regnetx_002"), _AVERAGE),
    "timm repvgg_a0": Architecture(partial(_timm, "repvgg_a0"), _AVERAGE),
    "timm xception41": Architecture(partial(_timm, "xception41"), _AVERAGE),
    "timm hrnet_w18_small": Architecture(partial(_timm, "hrnet_w18_small"), _AVERAGE),
    "timm mobilenetv3_small_050": Architecture(partial(_timm, "mobilenetv3_small_050"), _MORE),
    "timm mobilenetv4_conv_small_050": Architecture(partial(_timm, "mobilenetv4_conv_small_050"), _MORE),
    "timm ghostnet_050": Architecture(partial(_timm, "ghostnet_050"), _MORE),
    "timm convnext_atto": Architecture(partial(_timm, "convnext_atto"), _MORE),
    "timm convnextv2_atto": Architecture(partial(_timm, "convnextv2_atto"), _MORE),
    "timm poolformer_s12": Architecture(partial(_timm, "poolformer_s12"), _MORE),
    "timm swin_tiny": Architecture(
        partial(_timm, "swin_tiny_patch4_window7_224", img_size=(64, 96), window_size=2, **_SWIN), _AVERAGE
    ),
    "timm mixer_s32_224": Architecture(partial(_timm, "mixer_s32_224", img_size=64), _AVERAGE, (64, 64)),
    "timm resmlp_12_224": Architecture(partial(_timm, "resmlp_12_224", img_size=64), _AVERAGE, (64, 64)),
    "timm vit_tiny, average, no fc_norm": Architecture(
        partial(_timm, "vit_tiny_patch16_224", global_pool="avg", fc_norm=False, **_VIT), _AVERAGE
    ),
    "timm vit_tiny, average, fc_norm": Architecture(
        partial(_timm, "vit_tiny_patch16_224", global_pool="avg", **_VIT), _MORE
    ),
    "timm beit_base (average, fc_norm)": Architecture(partial(_timm, "beit_base_patch16_224", **_VIT), _MORE),
    "timm vit_tiny": Architecture(partial(_timm, "vit_tiny_patch16_224", **_VIT), _CLASS_TOKEN, tail=_timm_tail),
    "timm vit with 4 registers (DINOv2)": Architecture(
        partial(_timm, "vit_small_patch14_reg4_dinov2", **_VIT | {"img_size": (56, 84)}),
        _CLASS_TOKEN,
        (56, 84),
        tail=_timm_tail,
        num_prefix=5,
    ),
    "timm vit_small_patch16_224.dino, no head": Architecture(
        partial(_timm, "vit_small_patch16_224", num_classes=0, **_VIT), "nothing: features"
    ),
    "timm deit_tiny_distilled": Architecture(
        partial(_timm, "deit_tiny_distilled_patch16_224", **_VIT),
        "two tokens, two heads",
        num_prefix=2,
    ),
    "timm vit_base, attention pooling (SigLIP)": Architecture(
        partial(_timm, "vit_base_patch16_siglip_224", **_VIT), "attention pooling"
    ),
    "timm vgg11": Architecture(partial(_timm, "vgg11"), "pixels, by a layer of their own"),
    "timm pvt_v2_b0": Architecture(partial(_timm, "pvt_v2_b0"), _AVERAGE),
    "timm resnet18, no head": Architecture(partial(_timm, "resnet18", num_classes=0), "nothing: features"),
    "transformers ResNetForImageClassification": Architecture(
        partial(
            _transformers,
            "ResNetForImageClassification",
            "ResNetConfig",
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            layer_type="basic",
        ),
        _AVERAGE,
    ),
    "transformers ConvNextForImageClassification": Architecture(
        partial(
            _transformers,
            "ConvNextForImageClassification",
            "ConvNextConfig",
            num_stages=2,
            hidden_sizes=[8, 16],
            depths=[1, 1],
        ),
        _MORE,
    ),
    "transformers ConvNextV2ForImageClassification": Architecture(
        partial(
            _transformers,
            "ConvNextV2ForImageClassification",
            "ConvNextV2Config",
            num_stages=2,
            hidden_sizes=[8, 16],
            depths=[1, 1],
        ),
        _MORE,
    ),
    "transformers SwinForImageClassification": Architecture(
        partial(_transformers, "SwinForImageClassification", "SwinConfig", image_size=64, window_size=2, **_SWIN),
        _AVERAGE,
        (64, 64),
    ),
    "transformers MobileViTForImageClassification": Architecture(
        partial(_transformers, "MobileViTForImageClassification", "MobileViTConfig", image_size=64), _AVERAGE, (64, 64)
    ),
    "transformers SegformerForImageClassification": Architecture(
        partial(_transformers, "SegformerForImageClassification", "SegformerConfig", hidden_sizes=[8, 16, 20, 24]),
        _AVERAGE,
    ),
    "transformers CLIPForImageClassification": Architecture(
        partial(_transformers, "CLIPForImageClassification", "CLIPConfig", vision_config=_BERT | {"patch_size": 8}),
        _AVERAGE,
        (64, 64),
    ),
    "transformers CLIPModel": Architecture(
        _clip,
        "class token, by cosines with texts",
        (64, 64),
        tower="clip.vision_model",
        tail=lambda model, tokens: model.similarity(tokens),
        option="`--prompts FILE` and ",
    ),
    "transformers ViTForImageClassification": Architecture(
        partial(_transformers, "ViTForImageClassification", "ViTConfig", patch_size=8, **_BERT),
        _CLASS_TOKEN,
        (64, 64),
        tail=lambda model, tokens: nn.functional.linear(model.vit.layernorm(tokens), model.classifier.weight),
    ),
    "transformers BeitForImageClassification": Architecture(
        partial(_transformers, "BeitForImageClassification", "BeitConfig", patch_size=8, **_BERT), _MORE, (64, 64)
    ),
    "transformers Dinov2ForImageClassification": Architecture(
        partial(_transformers, "Dinov2ForImageClassification", "Dinov2Config", patch_size=8, **_BERT),
        "class token and average, side by side",
        (64, 64),
    ),
    "transformers Dinov2Model": Architecture(
        partial(_transformers, "Dinov2Model", "Dinov2Config", patch_size=8, **_BERT),
        "nothing: tokens",
        (64, 64),
    ),
}
QUICK = ("timm convnext_atto", "timm mobilenetv3_small_050", "timm vit_tiny", "timm deit_tiny_distilled")


class WrongMaps(AssertionError):
    """Maps are not what logits or a transcription say."""


def row(name: str) -> str:
    """The table's row of an architecture.

    Raises:
        WrongMaps: Its maps are not right.
    """
    about = ARCHITECTURES[name]
    model, images = _made(about), _noise(about)
    found = working(model, about.size)
    plain = [each.partition(" ")[0] for each in found]
    first = next((each for each in _PREFERRED if each in plain), None)
    if first is None:
        try:
            named_cams("linear", model, about.size)
        except ValueError as error:
            reason = str(error).partition(": ")[2]
            return f"| {name} | {about.kind} | refused: {reason} | | |"
        raise WrongMaps(f"{name}: taken, though no method works")
    compared = _COMPARE[first](about, model, images, named_cams(first, model, about.size))
    works = "at once" if first == "cam" else f"{about.option}`--cam {first}`"
    also = ", ".join(each for each in plain if each != first)
    return f"| {name} | {about.kind} | {works} | {compared} | {also} |"


def _made(about: Architecture) -> nn.Module:
    """The network, with random numbers added to its weights: what begins as 0, as heads do, says nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = about.make().eval()
        for each in model.parameters():
            spread = 0.1 if each.ndim < 2 else each[0].numel() ** -0.5
            each.data += spread * torch.randn(each.shape)
    return model


def _noise(about: Architecture) -> torch.Tensor:
    return torch.randn((2, 3, *about.size), generator=torch.Generator().manual_seed(5))


def _expect(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    if found.shape != expected.shape or not (found - expected).abs().max() <= _CLOSE * expected.abs().max():
        raise WrongMaps(f"{what}: expected {expected.flatten()[:3].tolist()}, found {found.flatten()[:3].tolist()}")


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return logits_of(model(images))


_CLASSES = torch.tensor([1, 4])


def _compare_cam(about, model, images, cams) -> str:
    """A map's mean, plus the bias, is the logit."""
    bias = head_weights(model.get_submodule(cams.head))[1]
    offset = 0 if bias is None else bias[_CLASSES]
    means = cams(images, _CLASSES).cams.mean((1, 2)) + offset
    _expect(means, _logits(model, images).gather(1, _CLASSES[:, None])[:, 0], "means")
    return "the logit"


def _compare_linear(about, model, images, cams) -> str:
    """The formula, with the mean in the place of all of the map's pixels."""
    kept: dict[str, torch.Tensor] = {}

    def flatten(_, value: torch.Tensor) -> torch.Tensor:
        kept["map"] = cams.layout.as_map(value).detach()
        kept["mean"] = kept["map"].mean((2, 3)).requires_grad_()
        flat = value.detach().clone()
        cams.layout.as_map(flat).copy_(kept["mean"][:, :, None, None].expand_as(kept["map"]))
        return flat

    with at(model, [cams.features], flatten):
        logits = logits_of(model(images)).gather(1, _CLASSES[:, None])[:, 0]
    (slope,) = torch.autograd.grad(logits.sum(), kept["mean"])
    expected = torch.einsum("nc,nchw->nhw", slope, kept["map"] - kept["mean"].detach()[:, :, None, None])
    _expect(cams(images, _CLASSES).cams, expected + logits.detach()[:, None, None], "maps")
    return "the formula, the logit"


def _blocks(about, model) -> "nn.ModuleList | nn.Sequential":
    """A transformer's blocks, whatever they are called: the first list of two or more of one class."""
    for each in model.get_submodule(about.tower).modules():
        if isinstance(each, nn.ModuleList | nn.Sequential) and len(each) > 1 and len({type(one) for one in each}) == 1:
            return each
    raise WrongMaps(f"{type(model).__name__}: found no blocks")


def _compare_similarity(about, model, images, cams) -> str:
    """Each patch alone through the last block, as an image of one token, which attends to itself alone."""
    last, kept = _blocks(about, model)[-1], []
    hook = last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        model(images)
        hook.remove()
        patches = kept[0][:, about.num_prefix :]
        alone = last(patches.reshape(-1, 1, patches.shape[2]), *([None] if about.option else []))
        alone = (alone if torch.is_tensor(alone) else alone[0]).reshape(patches.shape)
        scores = about.tail(model, alone)
    expected = scores.gather(2, _CLASSES[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
    found = cams(images, _CLASSES)
    _expect(found.cams.flatten(1), expected, "maps")
    _expect(found.logits, _logits(model, images), "logits")
    return "the formula, the logit"


def _compare_rollout(about, model, images, cams) -> str:
    """The product of each layer's mean attention and the identity, half of each; attention by the library's word."""
    if hasattr(model, "config"):
        model.config._attn_implementation = "eager"
        with torch.no_grad():
            weights = model(images, output_attentions=True).attentions
    else:
        weights, hooks = [], []
        for block in _blocks(about, model):
            block.attn.fused_attn = False
            hooks.append(block.attn.attn_drop.register_forward_hook(lambda _, inputs, __: weights.append(inputs[0])))
        with torch.no_grad():
            model(images)
        for hook in hooks:
            hook.remove()
    product = torch.eye(weights[0].shape[-1])
    for each in weights:
        product = (each.mean(1) + torch.eye(each.shape[-1])) / 2 @ product
    _expect(cams(images, _CLASSES).cams.flatten(1), product[:, 0, about.num_prefix :], "maps")
    return "the formula"


def _compare_gradcam(about, model, images, cams) -> str:
    """Channels weighted with the mean of their gradients, what is above 0 of their sum."""
    kept: list[torch.Tensor] = []
    hook = model.get_submodule(cams.features).register_forward_hook(lambda _, __, output: kept.append(output))
    logits = logits_of(model(images.clone().requires_grad_()))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, _CLASSES[:, None]).sum(), kept[0])
    as_map = cams._layout
    maps, gradient = as_map(kept[0].detach()), as_map(gradient)
    _expect(cams(images, _CLASSES).cams, (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu(), "maps")
    return "the formula"


_COMPARE: dict[str, Callable[..., str]] = {
    "cam": _compare_cam,
    "linear": _compare_linear,
    "similarity": _compare_similarity,
    "rollout": _compare_rollout,
    "gradcam": _compare_gradcam,
}


def table(names: "list[str] | None" = None) -> str:
    """The rows of some architectures, or all."""
    return "\n".join([_HEADER, *(row(name) for name in names or ARCHITECTURES)])


def written() -> str:
    """The table that is in the documentation."""
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; default: all")
    parser.add_argument("--write", action="store_true", help="put the whole table into docs/models.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more only wait for one another, of networks as small as these
    if not arguments.write:
        print(_HEADER)
        for name in arguments.names or ARCHITECTURES:
            print(row(name), flush=True)
        return
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{DOCUMENT}: expected the lines {BEGIN} and {END}")
    torchvision_operators.declare()
    import timm
    import transformers

    versions = f"(timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__})"
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n\n{versions}\n{END}{after}")


if __name__ == "__main__":
    main()

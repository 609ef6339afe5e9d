"""What a step is made of: parameter groups, learning rates, each method's loss.

In: a network, a recipe, images and classes. Out: an SGD optimizer; logits and the loss of a batch.
Source: clovaai/wsolevaluation (MIT), main.py: groups, decay, losses; the methods' papers are named in their modules.
"""

from collections.abc import Mapping
from inspect import signature

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.cams.heads import logits_of
from wsolkern.methods import acol, cutmix, has, spg
from wsolkern.training.recipe import Recipe

_DECAY = 0.1
# Parameters whose name has one of these in it are the features (of ResNet50: the classifier), all others are not.
_FEATURES = {
    "vgg16": ("features.",),
    "inception_v3": ("Mixed", "Conv2d_1", "Conv2d_2", "Conv2d_3", "Conv2d_4"),
}
_CLASSIFIER = {"resnet50": ("layer4.", "fc.")}


def is_classifier(network: nn.Module, name: str, head: str | None = None) -> bool:
    """Whether a parameter has the classifier's learning rate, by its name.

    Args:
        network: A published one, or one that says it in ``classifier_layers``.
        name: The parameter's.
        head: The path of the layer that makes the logits, which is the classifier of any other network.

    Raises:
        ValueError: It is another one, and no layer is known.

    Source: clovaai/wsolevaluation, main.py. Layers that ACoL and SPG add to ResNet50 are no part of it there.
    """
    backbone = getattr(network, "backbone", None)
    backbone = backbone if isinstance(backbone, str) else None
    if backbone in _FEATURES:
        return not any(part in name for part in _FEATURES[backbone])
    if backbone in _CLASSIFIER:
        return any(part in name for part in _CLASSIFIER[backbone])
    if not hasattr(network, "classifier_layers"):
        if head is not None:
            return name.startswith(f"{head}.")
        raise ValueError(
            "backbone: expected a network with the attribute classifier_layers, what its classifier's parameters begin "
            f"with; found {type(network).__name__}"
        )
    return name.startswith(tuple(network.classifier_layers))


def optimizer_for(network: nn.Module, recipe: Recipe, head: str | None = None) -> torch.optim.SGD:
    """SGD with momentum, Nesterov's; the first group are the features, the second the classifier.

    Args:
        network, head: As for :func:`is_classifier`.
    """
    groups: tuple[list, list] = ([], [])
    for name, parameter in network.named_parameters():
        groups[is_classifier(network, name, head)].append(parameter)
    return torch.optim.SGD(
        [{"params": group} for group in groups],
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )


def set_learning_rates(optimizer: torch.optim.SGD, recipe: Recipe, epoch: int) -> None:
    """The learning rates of an epoch, counted from 1: times 0.1 for each multiple of lr_decay_frequency up to it."""
    rate = recipe.lr * _DECAY ** (epoch // recipe.lr_decay_frequency)
    for group, ratio in zip(optimizer.param_groups, (1.0, recipe.lr_classifier_ratio), strict=True):
        group["lr"] = rate * ratio


def respond(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and loss of a batch, drawn from torch's own generator where a method draws.

    Args:
        network: In training mode.
        images: float32 [N, 3, H, W].
        labels: Class index per image, int64 [N].
        recipe: The method and its options.

    Returns:
        Logits, float [N, K], and the loss, a float scalar: the mean over the batch.
    """
    options = recipe.options
    if recipe.method == "cutmix":
        mixed = cutmix.mix(images, labels, options["cutmix_beta"], options["cutmix_prob"])
        logits = _answer(network, mixed.images, labels)["logits"]
        return logits, cutmix.loss(logits, mixed)
    if recipe.method == "has":
        images = has.hide(images, options["has_grid_size"], options["has_drop_rate"])
    outputs = _answer(network, images, labels)
    if recipe.method == "acol":
        return outputs["logits"], acol.loss(outputs, labels)
    if recipe.method == "spg":
        pairs = [(options[f"spg_threshold_{number}h"], options[f"spg_threshold_{number}l"]) for number in (1, 2, 3)]
        return outputs["logits"], spg.loss(outputs, labels, pairs)
    return outputs["logits"], F.cross_entropy(outputs["logits"], labels)


def _answer(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """What a network gives for training: logits alone, unless it is one of the field's, which make CAMs themselves."""
    if "return_cam" in signature(network.forward).parameters:
        return network(images, labels)
    return {"logits": logits_of(network(images))}

"""What a step is made of: parameter groups, learning rates, each method's loss.

In: a network, a recipe, images and classes. Out: an SGD optimizer; logits and the loss of a batch.
Source: clovaai/wsolevaluation (MIT), main.py: groups, decay, losses; the methods' papers are named in their modules.
"""

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.methods import acol, cutmix, has, spg
from wsolkern.training.recipe import Recipe

_DECAY = 0.1
# Parameters whose name has one of these in it are the features (of ResNet50: the classifier), all others are not.
_FEATURES = {
    "vgg16": ("features.",),
    "inception_v3": ("Mixed", "Conv2d_1", "Conv2d_2", "Conv2d_3", "Conv2d_4"),
}
_CLASSIFIER = {"resnet50": ("layer4.", "fc.")}


def is_classifier(network: nn.Module, name: str) -> bool:
    """Whether a parameter has the classifier's learning rate, by its name.

    Raises:
        ValueError: The network is none of the published ones and does not say it, or has no name.

    Source: clovaai/wsolevaluation, main.py. Layers that ACoL and SPG add to ResNet50 are no part of it there.
    """
    backbone = getattr(network, "backbone", None)
    if backbone in _FEATURES:
        return not any(part in name for part in _FEATURES[backbone])
    if backbone in _CLASSIFIER:
        return any(part in name for part in _CLASSIFIER[backbone])
    if not isinstance(backbone, str) or not hasattr(network, "classifier_layers"):
        raise ValueError(
            f"backbone: expected a network with the attributes backbone, its name, and classifier_layers, what its "
            f"classifier's parameters begin with; found {type(network).__name__}"
        )
    return name.startswith(tuple(network.classifier_layers))


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum, Nesterov's; the first group are the features, the second the classifier."""
    groups: tuple[list, list] = ([], [])
    for name, parameter in network.named_parameters():
        groups[is_classifier(network, name)].append(parameter)
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
        logits = network(mixed.images, labels)["logits"]
        return logits, cutmix.loss(logits, mixed)
    if recipe.method == "has":
        images = has.hide(images, options["has_grid_size"], options["has_drop_rate"])
    outputs = network(images, labels)
    if recipe.method == "acol":
        return outputs["logits"], acol.loss(outputs, labels)
    if recipe.method == "spg":
        pairs = [(options[f"spg_threshold_{number}h"], options[f"spg_threshold_{number}l"]) for number in (1, 2, 3)]
        return outputs["logits"], spg.loss(outputs, labels, pairs)
    return outputs["logits"], F.cross_entropy(outputs["logits"], labels)

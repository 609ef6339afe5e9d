"""What follows the backbone, method by method: class scores, CAMs and the maps a method's loss needs.

In: images [N, 3, H, W], labels [N]. Out: a dict with logits [N, K] and the method's maps, or CAMs [N, h, w].
Source: Zhou et al., arXiv 1512.04150 (CAM); Zhang et al., 1804.06962 (ACoL) and 1807.08902 (SPG).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from wsolkern.cams.activation import Look
from wsolkern.methods import acol, spg, tap
from wsolkern.methods.attention import class_maps, min_max


class Evidence(NamedTuple):
    """What a CAM is made of."""

    features: torch.Tensor  # what the classifying layer sees, float [N, C, h, w]
    layer: nn.Module  # the classifying layer: linear behind the pooling, or a 1x1 convolution before it
    maps: torch.Tensor | None  # the convolution's output, float [N, K, h, w]; None for a linear layer


class Network(nn.Module):
    """A classifier of a backbone and a method; subclasses say how features become scores.

    ``backbone`` names the backbone; ``torchvision_names()`` maps parameter names to those of torchvision's network.
    """

    backbone: str

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor | None = None, return_cam: bool = False, nwc: bool = False
    ) -> dict[str, torch.Tensor] | torch.Tensor:
        """Scores for training, or CAMs.

        Args:
            images: Normalized images, float [N, 3, H, W].
            labels: Class index per image, integers [N]; None: the class of the highest score. CAMs are of these
                classes, and the attention of ACoL and SPG is too.
            return_cam: Give CAMs.
            nwc: Clamp negative class weights to 0 before CAMs are formed (NWC); only with ``return_cam``.

        Returns:
            A dict with ``logits`` float [N, K]; ACoL adds ``logit_b`` [N, K], ``feat_map_a`` and ``feat_map_b``
            [N, K, h, w], SPG ``attention`` and ``fused_attention`` [N, 1, 224, 224], ``logits_b1``, ``logits_b2`` and
            ``logits_c`` [N, 1, h, w].
            With ``return_cam`` raw CAMs, float [N, h, w] without gradient, as the published library gives them: behind
            a linear layer the mean (not the sum) over channels of weight times feature; of a 1x1 convolution its
            output, bias included; for ACoL the larger of both branches' maps, each scaled to [0, 1].

        Raises:
            ValueError: ``labels`` are not N integers in [0, K), or ``nwc`` without ``return_cam``.

        Source: Zhou et al., arXiv 1512.04150, equation 2; NWC: Bae et al., ECCV 2020.
        """
        if nwc and not return_cam:
            raise ValueError("nwc: only CAMs can have negative weights clamped; expected return_cam=True")
        if not return_cam:
            labels = None if labels is None else self._checked(labels, images)
            return self._respond(self._seen(images), labels)[0]
        found = self.look(images, labels, nwc)
        return found.nwc_cams if nwc else found.cams

    def look(self, images: torch.Tensor, labels: torch.Tensor | None = None, nwc: bool = False) -> Look:
        """Logits, CAMs and with ``nwc`` also NWC CAMs, without gradients, from one pass; see :meth:`forward`."""
        return self.looks(images, [labels], nwc)[0]

    def looks(self, images: torch.Tensor, labels: Sequence[torch.Tensor | None], nwc: bool = False) -> list[Look]:
        """Several looks, of the same images and other labels each; what does not depend on labels is computed once."""
        labels = [None if each is None else self._checked(each, images) for each in labels]
        found = []
        with torch.no_grad():
            seen = self._seen(images)
            for some in labels:
                outputs, evidence = self._respond(seen, some)
                classes = outputs["logits"].argmax(1) if some is None else some
                nwc_cams = _cams(evidence, classes, nwc=True) if nwc else None
                found.append(Look(_cams(evidence, classes, nwc=False), classes, outputs["logits"], nwc_cams))
        return found

    def _seen(self, images: torch.Tensor) -> Any:
        """What is made of images whatever their labels are."""
        raise NotImplementedError

    def _respond(self, seen: Any, labels: torch.Tensor | None) -> tuple[dict[str, torch.Tensor], list[Evidence]]:
        """What is made of that for labels."""
        raise NotImplementedError

    def _checked(self, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        labels = torch.as_tensor(labels)
        if labels.dtype.is_floating_point or labels.dtype == torch.bool or labels.shape != images.shape[:1]:
            found = f"{labels.dtype} {list(labels.shape)}"
            raise ValueError(f"labels: expected {len(images)} integers, found {found}")
        # Labels on a GPU are left to torch: asking for their range would wait for it.
        if labels.device.type == "cpu" and not ((labels >= 0) & (labels < self.num_classes)).all():
            raise ValueError(f"labels: expected indices in [0, {self.num_classes}), found {labels.tolist()}")
        return labels.to(images.device, torch.int64)


def _cams(evidence: list[Evidence], labels: torch.Tensor, nwc: bool) -> torch.Tensor:
    cams = [_class_cams(each, labels, nwc) for each in evidence]
    return cams[0] if len(cams) == 1 else torch.maximum(*map(min_max, cams))


def _class_cams(evidence: Evidence, labels: torch.Tensor, nwc: bool) -> torch.Tensor:
    features, layer, maps = evidence
    if maps is not None and not nwc:
        return class_maps(maps, labels)
    weights = layer.weight[labels].flatten(1)[:, :, None, None]
    products = (weights.clamp(min=0) if nwc else weights) * features
    # The published CAMs of linear layers are means, those of convolutions have their bias.
    return products.mean(1) if maps is None else products.sum(1) + layer.bias[labels][:, None, None]


class CamNetwork(Network):
    """CAM, HaS, CutMix and ADL: one classifying layer, with average pooling before or after it.

    Subclasses name the layer in ``classifying_layer`` and give the features in front of it by ``trunk(images)``.
    """

    classifying_layer: str

    def _seen(self, images):
        return self.trunk(images)

    def _respond(self, seen, labels):
        features, layer = seen, getattr(self, self.classifying_layer)
        maps = layer(features) if isinstance(layer, nn.Conv2d) else None
        if self.tap_threshold is not None:
            logits = F.linear(tap.pool(features, self.tap_threshold), layer.weight.flatten(1), layer.bias)
        elif maps is None:
            logits = layer(_average(features))
        else:
            logits = _average(maps)
        return {"logits": logits}, [Evidence(features, layer, maps)]


class AcolNetwork(Network):
    """ACoL: two classifiers, the second behind erased features.

    Subclasses give the features in front of both by ``trunk(images)``.
    """

    def _make_branches(self, channels: int, num_classes: int):
        for name in ("classifier_A", "classifier_B"):
            layers = *convolution(channels, 1024), *convolution(1024, 1024), nn.Conv2d(1024, num_classes, 1)
            setattr(self, name, nn.Sequential(*layers))

    def _seen(self, images):
        features = self.trunk(images)
        return features, self._branch(self.classifier_A, features)

    def _respond(self, seen, labels):
        features, first = seen
        logits = _average(first.maps)
        chosen = class_maps(first.maps.detach(), logits.argmax(1) if labels is None else labels)
        erased = acol.erase(features, min_max(chosen), self.acol_threshold)
        second = self._branch(self.classifier_B, erased)
        outputs = {
            "logits": logits,
            "logit_b": _average(second.maps),
            "feat_map_a": first.maps,
            "feat_map_b": second.maps,
        }
        return outputs, [first, second]

    @staticmethod
    def _branch(classifier: nn.Sequential, features: torch.Tensor) -> Evidence:
        features = classifier[:-1](features)
        return Evidence(features, classifier[-1], classifier[-1](features))


class SpgNetwork(Network):
    """SPG: masks made from attention guide the branches B1, B2 and C.

    Subclasses name the classifying convolution in ``classifying_layer`` and give the features in front of B1, B2 and
    the last ones by ``stages(images)``.
    """

    classifying_layer: str

    def _make_guided(self, first: int, second: int, hidden: int, last: int):
        self.SPG_B_1a = nn.Sequential(*convolution(first, hidden))
        self.SPG_B_2a = nn.Sequential(*convolution(second, hidden))
        self.SPG_B_shared = nn.Sequential(*convolution(hidden, hidden), nn.Conv2d(hidden, 1, 1))
        self.SPG_C = nn.Sequential(*convolution(last, 512), nn.Conv2d(512, 1, 1))

    def _seen(self, images):
        return self.stages(images)

    def _respond(self, seen, labels):
        first, second, features = seen
        layer = getattr(self, self.classifying_layer)
        maps = layer(features)
        logits = _average(maps)
        logits_b1 = self.SPG_B_shared(self.SPG_B_1a(first))
        logits_b2 = self.SPG_B_shared(self.SPG_B_2a(second))
        chosen = logits.argmax(1) if labels is None else labels
        attention, fused = spg.attention_maps(maps, chosen, logits_b1, logits_b2)
        outputs = {
            "logits": logits,
            "attention": attention,
            "fused_attention": fused,
            "logits_b1": logits_b1,
            "logits_b2": logits_b2,
            "logits_c": self.SPG_C(features),
        }
        return outputs, [Evidence(features, layer, maps)]


def convolution(channels: int, filters: int) -> tuple[nn.Module, nn.Module]:
    """A 3x3 convolution that keeps the size, and a ReLU."""
    return nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)


def initialize(network: nn.Module, scheme: str):
    """Random weights as the published library draws them.

    Args:
        network: Convolutions and linear layers in it are drawn anew.
        scheme: For convolutions "he" (normal, fan out, He et al., arXiv 1502.01852) or "xavier" (uniform). Linear
            layers are normal with a standard deviation of 0.01, biases 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and scheme == "he":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _average(maps: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(maps, 1).flatten(1)

"""Maps of what a transformer's class token attends to: rollout, the mean of the layers, and TS-CAM.

In: a transformer with a class token, images. Out: maps [N, h, w] of the patches, raw.
Source: Abnar & Zuidema, arXiv 2005.00928, section 3, equation 1 (rollout); Gao et al., arXiv 2103.14862, section 3
(TS-CAM).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.cams.activation import Look
from wsolkern.cams.heads import logits_of
from wsolkern.cams.looks import NamedCams, looks_of_any_class
from wsolkern.cams.places import Place, record
from wsolkern.cams.tokens import attentions, classifier_logits, find_tokens

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-4  # of the largest logit


def rollout(weights: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """How much of each input token is in each token of the last layer, if residual connections carry half of each.

    Args:
        weights: Attention weights of each layer, the first first, means over heads, float [N, L, L].

    Returns:
        float [N, L, L]; rows sum to 1.

    Source: Abnar & Zuidema, arXiv 2005.00928, section 3: A = 0.5 W + 0.5 I; equation 1: their product over the layers.
    """
    import torch

    found = None
    for each in weights:
        mixed = (each + torch.eye(each.shape[-1], dtype=each.dtype, device=each.device)) / 2
        found = mixed if found is None else mixed @ found
    return found


def mean_attention(weights: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """The mean of all layers' attention weights.

    Args:
        weights: As for :func:`rollout`.

    Returns:
        float [N, L, L]; rows sum to 1.

    Source: Gao et al., arXiv 2103.14862, section 3 (the semantic-agnostic attention map).
    """
    return sum(weights[1:], weights[0]) / len(weights)


class AttentionCams(NamedCams):
    """What the class token attends to, whatever the class: attention rollout, or the mean over layers.

    Values are fractions in [0, 1]: with those of class and register tokens a map sums to 1.

    Args:
        model: A vision transformer with a class token, with or without a head.
        size: Height and width of the images it is tried on, in pixels.
        mean: The mean over layers instead of rollout.

    Raises:
        ValueError: The model has no such tokens, or does not read a class token.
    """

    def __init__(self, model: "torch.nn.Module", size: tuple[int, int] = (224, 224), *, mean: bool = False):
        super().__init__(model)
        self._combine = mean_attention if mean else rollout
        self.layout = find_tokens(self.model, self._probe(size))
        _expect_class_token(self.model, self.layout.num_prefix > 0 and self.layout.reads_class is not False)

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        with attentions(self.model) as layers:
            logits = classifier_logits(self.model, self.model(images))
        found = self._combine([each.weights for each in layers])[:, 0, self.layout.num_prefix :]
        return looks_of_any_class(self.layout.as_map(found), classes, logits)


class TsCams(NamedCams):
    """TS-CAM: the class's semantic map of the patches, times the class token's mean attention to them.

    Values are logits times attention, of any sign.

    Args:
        model: A vision transformer with a class token whose logits are the mean over the pixels of what a convolution
            makes of its patches: the network that TS-CAM trains.
        size: Height and width of the images it is tried on, in pixels.

    Raises:
        ValueError: The model has no class token, or no such head.

    Source: Gao et al., arXiv 2103.14862, section 3: the product of the semantic-aware map and the attention map.
    """

    def __init__(self, model: "torch.nn.Module", size: tuple[int, int] = (224, 224)):
        super().__init__(model)
        images = self._probe(size)
        self.layout = find_tokens(self.model, images)
        _expect_class_token(self.model, self.layout.num_prefix > 0)
        self.head: str = self._find_head(images)
        """Path of the convolution."""

    def _find_head(self, images: "torch.Tensor") -> str:
        import torch

        paths = [path for path, each in self.model.named_modules() if isinstance(each, torch.nn.Conv2d)]
        with torch.inference_mode(), record(self.model, [Place(path) for path in paths]) as seen:
            logits = logits_of(self.model(images))
        for place, maps in reversed(seen.items()):
            if maps.shape[2:] == self.layout.grid and _is_mean(maps, logits):
                return place.name
        raise ValueError(
            f"{type(self.model).__name__}: TS-CAM needs its own head, a convolution of the patches whose mean over the "
            "pixels is the logits, and there is none"
        )

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        import torch

        place = Place(self.head)
        with record(self.model, [place]) as seen, attentions(self.model) as layers:
            logits = logits_of(self.model(images))
        if not _is_mean(seen[place], logits):
            raise ValueError(
                f"{type(self.model).__name__}: its logits are no longer the mean of what {self.head} makes"
            )
        attention = mean_attention([each.weights for each in layers])[:, 0, self.layout.num_prefix :]
        found = []
        for some in classes:
            some = logits.argmax(1) if some is None else torch.as_tensor(some, device=logits.device)
            maps = seen[place][torch.arange(len(images), device=logits.device), some.long()]
            found.append(Look(maps.to(attention.dtype) * self.layout.as_map(attention), some, logits))
        return found


def _expect_class_token(model, has_one: bool) -> None:
    if not has_one:
        raise ValueError(
            f"{type(model).__name__}: expected a model that reads a class token, the first of its tokens, and this one "
            "does not: it has no class token's attention to show"
        )


def _is_mean(maps: "torch.Tensor", logits) -> bool:
    """Whether logits [N, K] are the mean of maps [N, K, h, w], up to rounding."""
    import torch

    if not torch.is_tensor(logits) or logits.shape != maps.shape[:2]:
        return False
    eps = max(torch.finfo(each.dtype).eps for each in (maps, logits))
    size = maps.float().abs().mean((2, 3)).max()
    return bool(((maps.float().mean((2, 3)) - logits.float()).abs() <= max(_TOLERANCE, 4 * eps) * size).all())

"""ADL: a layer that hides the most discriminative place or emphasizes it, at random, while training.

In: features [N, C, h, w]. Out: the same shape, multiplied by a drop mask or by an importance map.
Source: Choe and Shim, arXiv 1908.10028, section 3.
"""

import torch
from torch import nn

DROP_RATE = 0.75  # clovaai/wsolevaluation, config.py: adl_drop_rate
THRESHOLD = 0.9  # clovaai/wsolevaluation, config.py: adl_threshold


def importance_map(features: torch.Tensor) -> torch.Tensor:
    """Sigmoid of the self-attention, which is the mean over channels: float [N, C, h, w] to float [N, 1, h, w]."""
    return features.mean(1, keepdim=True).sigmoid()


def drop_mask(features: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """Where the self-attention is below a fraction of its own maximum.

    Args:
        features: float [N, C, h, w].
        threshold: Fraction of the maximum of the mean over channels.

    Returns:
        1 where features stay and 0 where they are dropped, dtype of ``features``, [N, 1, h, w].
    """
    attention = features.mean(1, keepdim=True)
    return (attention < attention.amax((2, 3), keepdim=True) * threshold).to(features.dtype)


def attention_drop(
    features: torch.Tensor,
    drop_rate: float = DROP_RATE,
    threshold: float = THRESHOLD,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """One of the two maps, drawn once for the batch, times the features.

    Args:
        features: float [N, C, h, w].
        drop_rate: Probability of the drop mask; otherwise it is the importance map.
        threshold: Fraction of the maximum from which on features are dropped.
        generator: CPU generator to draw from; torch's own by default.

    Returns:
        float [N, C, h, w].

    Source: Choe and Shim, arXiv 1908.10028, section 3.
    """
    dropped = torch.rand((), generator=generator, device="cpu") >= 1 - drop_rate
    return features * (drop_mask(features, threshold) if dropped else importance_map(features))


class ADL(nn.Module):
    """The layer: :func:`attention_drop` while training, nothing otherwise; it has no parameters.

    Raises:
        ValueError: A rate or threshold outside [0, 1].
    """

    def __init__(self, drop_rate: float = DROP_RATE, threshold: float = THRESHOLD):
        super().__init__()
        for name, value in (("drop_rate", drop_rate), ("threshold", threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"ADL: expected {name} in [0, 1], found {value}")
        self.drop_rate, self.threshold = drop_rate, threshold

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float [N, C, h, w] to the same."""
        return attention_drop(features, self.drop_rate, self.threshold) if self.training else features

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"drop_rate={self.drop_rate}, threshold={self.threshold}"

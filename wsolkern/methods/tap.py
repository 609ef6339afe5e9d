"""TAP: average pooling over the places where a channel is active, so that small and large activations weigh alike.

In: features [N, C, h, w], a threshold. Out: pooled features [N, C].
Source: Bae et al., ECCV 2020, "Rethinking Class Activation Mapping for WSOL", section 3, thresholded average pooling.
"""

import torch

THRESHOLD = 0.1  # fraction of a channel's maximum


def pool(features: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """The mean of each channel's values above a fraction of its maximum.

    Args:
        features: Not negative (behind a ReLU), float [N, C, h, w].
        threshold: Fraction of each channel's maximum, in [0, 1).

    Returns:
        float [N, C]; 0 for a channel that is 0 everywhere.

    Raises:
        ValueError: ``threshold`` outside [0, 1).

    Source: Bae et al., ECCV 2020, section 3, thresholded average pooling.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"TAP: expected a threshold in [0, 1), found {threshold}")
    active = features > features.amax((2, 3), keepdim=True) * threshold
    return (features * active).sum((2, 3)) / active.sum((2, 3)).clamp(min=1)

"""Attention of one class: what ACoL erases by and SPG makes its masks from.

In: maps of all classes [N, K, h, w], a class per image. Out: maps [N, h, w], and the same scaled to [0, 1].
Source: Zhang et al., arXiv 1804.06962 (ACoL), section 3.
"""

import torch


def class_maps(maps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The map of one class per image.

    Args:
        maps: float [N, K, h, w].
        labels: Class index per image, integers [N].

    Returns:
        float [N, h, w].
    """
    return maps[torch.arange(len(maps), device=maps.device), labels]


def min_max(maps: torch.Tensor) -> torch.Tensor:
    """Every map scaled to [0, 1] by its own minimum and maximum.

    Args:
        maps: float [..., h, w].

    Returns:
        float [..., h, w]; NaN throughout a constant map, as in the published code.
    """
    minimum = maps.amin((-2, -1), keepdim=True)
    return (maps - minimum) / (maps.amax((-2, -1), keepdim=True) - minimum)

"""CAM: where in an image a classifier with average pooling sees a class.

In: features [N, C, h, w] of the last convolution, weights [K, C] of the linear layer, a class per image. Out: CAMs.
Source: Zhou et al., arXiv 1512.04150, equation 2: F(y, x) = sum over c of weight[class, c] * feature[c, y, x].
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Look(NamedTuple):
    """What a model makes of N images."""

    cams: "torch.Tensor"
    """float [N, h, w]."""
    classes: "torch.Tensor | None" = None
    """Class that each CAM is of, integers [N]; None is unknown."""
    logits: "torch.Tensor | None" = None
    """float [N, K]."""
    nwc_cams: "torch.Tensor | None" = None
    """The CAMs with negative class weights clamped to 0."""


def class_activation_maps(
    features: "torch.Tensor", weights: "torch.Tensor", classes, *, nwc: bool = False
) -> "torch.Tensor":
    """The CAM of one class per image; its mean plus the class's bias is that class's logit.

    Args:
        features: What the average pooling sees, float [N, C, h, w].
        weights: Weights of the linear layer behind it, float [K, C].
        classes: Class index per image, integers [N] in [0, K).
        nwc: Clamp negative weights to 0 before the CAM is formed (NWC).

    Returns:
        float [N, h, w] of the dtype and on the device of ``features``.

    Raises:
        ValueError: A shape or a class index is not as above.

    Source: Zhou et al., arXiv 1512.04150, equation 2; NWC: Bae et al., ECCV 2020.
    """
    import torch

    if features.ndim != 4 or weights.ndim != 2 or features.shape[1] != weights.shape[1]:
        raise ValueError(
            f"features, weights: expected [N, C, h, w] and [K, C], found {list(features.shape)}, {list(weights.shape)}"
        )
    classes = torch.as_tensor(classes, device=weights.device)
    if classes.is_floating_point() or classes.shape != features.shape[:1]:
        raise ValueError(
            f"classes: expected {len(features)} integers, found {classes.dtype} of shape {list(classes.shape)}"
        )
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(weights):
        raise ValueError(f"classes: expected indices in [0, {len(weights)}), found {classes.tolist()}")
    chosen = weights[classes.long()]
    return torch.einsum("nc,nchw->nhw", chosen.clamp(min=0) if nwc else chosen, features)

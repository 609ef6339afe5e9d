"""SPG: attention makes masks of surely object and surely background pixels, which guide earlier layers.

In: class maps and the guided branches' logits. Out: attention [N, 1, 224, 224], masks of 0, 1 and 255; the loss.
Source: Zhang et al., arXiv 1807.08902, section 3.
"""

import torch
import torch.nn.functional as F

from wsolkern.methods.attention import class_maps, min_max

SIZE = (224, 224)  # height and width of attention and masks, in pixels
THRESHOLDS = ((0.7, 0.01), (0.5, 0.05), (0.7, 0.1))  # high, low; clovaai/wsolevaluation, config.py: spg_threshold_*
UNKNOWN = 255.0  # of a mask: neither object nor background
MIN_OBJECT_PIXELS = 30  # with fewer than this above the high threshold, pixels above 0.7 of the maximum are object
FALLBACK = 0.7


def resize(maps: torch.Tensor) -> torch.Tensor:
    """Bilinear, half-pixel centers: float [N, C, h, w] to float [N, C, 224, 224]."""
    return F.interpolate(maps, size=SIZE, mode="bilinear", align_corners=False)


def attention_maps(
    maps: torch.Tensor, labels: torch.Tensor, logits_b1: torch.Tensor, logits_b2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention of the classifier and of the two guided branches together; no gradient flows into them.

    Args:
        maps: Class maps of the classifier, float [N, K, h, w].
        labels: Class index per image, integers [N].
        logits_b1, logits_b2: What the branches take for object, float [N, 1, h, w] each.

    Returns:
        Attention of the labels scaled to [0, 1] and the mean of the branches' sigmoids, float [N, 1, 224, 224] each.

    Source: Zhang et al., arXiv 1807.08902, section 3.
    """
    with torch.no_grad():
        attention = min_max(resize(class_maps(maps, labels)[:, None]))
        fused = (resize(logits_b1).sigmoid() + resize(logits_b2).sigmoid()) / 2
    return attention, fused


def guidance_mask(attention: torch.Tensor, high: float, low: float) -> torch.Tensor:
    """Which pixels are surely object or background.

    Args:
        attention: float [N, 1, h, w] in [0, 1].
        high: Pixels above this are object; where they are fewer than 30, those above 0.7 of the map's maximum.
        low: Pixels below this are background, whatever ``high`` says.

    Returns:
        1 for object, 0 for background, 255 for neither; dtype of ``attention``, [N, 1, h, w].

    Source: Zhang et al., arXiv 1807.08902, section 3; the 30 pixels: clovaai/wsolevaluation, wsol/method/spg.py.
    """
    few = (attention > high).sum((1, 2, 3), keepdim=True) < MIN_OBJECT_PIXELS
    threshold = torch.where(few, attention.amax((1, 2, 3), keepdim=True) * FALLBACK, high)
    mask = torch.full_like(attention, UNKNOWN).masked_fill_(attention > threshold, 1)
    return mask.masked_fill_(attention < low, 0)


def guidance_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of a branch over the pixels that a mask knows.

    Args:
        logits: float [N, 1, h, w] of any size, resized to 224 x 224.
        mask: What :func:`guidance_mask` returned, float [N, 1, 224, 224].

    Returns:
        A float scalar, the mean over known pixels of the batch; 0 if there is none.

    Source: Zhang et al., arXiv 1807.08902, section 3.
    """
    known = mask < UNKNOWN
    entropy = F.binary_cross_entropy_with_logits(
        resize(logits), mask.clamp(max=1), weight=known.to(logits), reduction="sum"
    )
    return entropy / known.sum().clamp(min=1)


def loss(outputs: dict[str, torch.Tensor], labels: torch.Tensor, thresholds=THRESHOLDS) -> torch.Tensor:
    """Cross entropy of the classes and the three guidance losses, added.

    Args:
        outputs: What an SPG network returns.
        labels: Class index per image, int64 [N].
        thresholds: High and low for the mask from the classifier's attention (guides B2), from B2 (guides B1) and
            from both branches (guides C).

    Returns:
        A float scalar.

    Source: Zhang et al., arXiv 1807.08902, section 3.
    """
    from_b2 = resize(outputs["logits_b2"].detach()).sigmoid()
    guided = ("logits_b2", outputs["attention"]), ("logits_b1", from_b2), ("logits_c", outputs["fused_attention"])
    total = F.cross_entropy(outputs["logits"], labels)
    for (branch, attention), (high, low) in zip(guided, thresholds, strict=True):
        total = total + guidance_loss(outputs[branch], guidance_mask(attention, high, low))
    return total

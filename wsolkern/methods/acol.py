"""ACoL: a second classifier learns from what the first one did not look at.

In: features [N, C, h, w], the first branch's attention [N, h, w]. Out: erased features; the loss of both branches.
Source: Zhang et al., arXiv 1804.06962, section 3 and algorithm 1.
"""

import torch
import torch.nn.functional as F

THRESHOLD = 0.7  # clovaai/wsolevaluation, config.py: acol_threshold


def erase(features: torch.Tensor, attention: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """Features with the places of high attention set to 0, in all channels.

    Args:
        features: float [N, C, h, w].
        attention: Attention of the first branch scaled to [0, 1], float [N, h, w]; no gradient flows into it.
        threshold: Places with at least this attention are erased.

    Returns:
        float [N, C, h, w]; where the attention is NaN (a constant map), nothing is erased.

    Source: Zhang et al., arXiv 1804.06962, section 3.
    """
    return features * ~(attention >= threshold)[:, None]


def loss(outputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of both branches, added.

    Args:
        outputs: What an ACoL network returns: ``logits`` and ``logit_b``, float [N, K] each.
        labels: Class index per image, int64 [N].

    Returns:
        A float scalar, the mean over the batch.

    Source: Zhang et al., arXiv 1804.06962, algorithm 1.
    """
    return F.cross_entropy(outputs["logits"], labels) + F.cross_entropy(outputs["logit_b"], labels)

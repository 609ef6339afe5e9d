"""CutMix: a rectangle of every training image comes from another one, and so does that share of its label.

In: images [N, C, H, W], labels [N]. Out: mixed images, both labels, the share of the first; the mixed loss.
Source: Yun et al., arXiv 1905.04899, equations 1 and 2.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

BETA = 1.0  # clovaai/wsolevaluation, config.py: cutmix_beta
PROBABILITY = 1.0  # clovaai/wsolevaluation, config.py: cutmix_prob


class Mixed(NamedTuple):
    """A mixed batch."""

    images: torch.Tensor  # float [N, C, H, W]
    labels_a: torch.Tensor  # class outside the rectangle, int64 [N]
    labels_b: torch.Tensor  # class inside the rectangle, int64 [N]
    share: float  # of labels_a: pixels outside the rectangle over all pixels


def box(height: int, width: int, share: float, center: tuple[int, int]) -> tuple[int, int, int, int]:
    """The rectangle that leaves a share of the image outside, cut off at the image's border.

    Args:
        height, width: Size of the image, in pixels.
        share: Share of the image outside an uncut rectangle, in [0, 1].
        center: Column and row of the rectangle's center.

    Returns:
        x0, y0, x1, y1 in pixels; x1 and y1 are one past the rectangle.

    Source: Yun et al., arXiv 1905.04899, equation 2.
    """
    side = np.sqrt(1 - share)
    x, y = center
    half_width, half_height = int(width * side) // 2, int(height * side) // 2
    return max(x - half_width, 0), max(y - half_height, 0), min(x + half_width, width), min(y + half_height, height)


def mix(
    images: torch.Tensor,
    labels: torch.Tensor,
    beta: float = BETA,
    probability: float = PROBABILITY,
    *,
    generator: torch.Generator | None = None,
) -> Mixed:
    """A batch mixed with a permutation of itself, with one rectangle for all of it.

    Args:
        images: float [N, C, H, W]; left as they are.
        labels: Class index per image, int64 [N].
        beta: Both parameters of the Beta distribution that the share is drawn from.
        probability: Of mixing at all; otherwise the batch comes back with ``share`` 1.
        generator: CPU generator to draw from; torch's own by default.

    Returns:
        The batch as a :class:`Mixed`.

    Raises:
        ValueError: ``beta`` is not above 0 or ``probability`` is outside [0, 1].

    Source: Yun et al., arXiv 1905.04899, equations 1 and 2.
    """
    if not beta > 0 or not 0 <= probability <= 1:
        raise ValueError(f"CutMix: expected beta > 0, probability in [0, 1], found {beta}, {probability}")
    # Torch has no Beta distribution that takes a generator.
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")))
    if random.random() >= probability:
        return Mixed(images, labels, labels, 1.0)
    height, width = images.shape[2:]
    center = int(random.integers(width)), int(random.integers(height))
    x0, y0, x1, y1 = box(height, width, random.beta(beta, beta), center)
    others = torch.from_numpy(random.permutation(len(images))).to(images.device)
    mixed = images.clone()
    mixed[:, :, y0:y1, x0:x1] = images[others, :, y0:y1, x0:x1]
    return Mixed(mixed, labels, labels[others], 1 - (x1 - x0) * (y1 - y0) / (height * width))


def loss(logits: torch.Tensor, mixed: Mixed) -> torch.Tensor:
    """Cross entropy with both labels, each with its share.

    Args:
        logits: float [N, K], of ``mixed.images``.
        mixed: What :func:`mix` returned.

    Returns:
        A float scalar, the mean over the batch.

    Source: Yun et al., arXiv 1905.04899, equation 1.
    """
    inside = F.cross_entropy(logits, mixed.labels_b)
    return mixed.share * F.cross_entropy(logits, mixed.labels_a) + (1 - mixed.share) * inside

"""Maps of a transformer without a head: the first principal component of its patches, and their normalized cut.

In: a vision transformer, images. Out: raw maps [N, h, w], whatever the class.
Source: Oquab et al., DINOv2, arXiv 2304.07193, section 7.5 (first component as foreground); Shi & Malik, IEEE TPAMI 22
(2000), section 2 (normalized cut); Wang et al., TokenCut, arXiv 2202.11539, section 3 (of tokens; which side is which).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsolkern.cams.activation import Look
from wsolkern.cams.looks import NamedCams, looks_of_any_class
from wsolkern.cams.tokens import attentions, classifier_logits, find_tokens, with_last_tokens

if TYPE_CHECKING:
    import torch

SIMILAR = 0.2  # cosine from which on two patches are joined (TokenCut's tau)
APART = 1e-5  # weight of an edge between others, so that the graph is connected


def first_component(tokens: np.ndarray) -> np.ndarray:
    """Each patch on the first principal component of all patches of its image.

    Args:
        tokens: float [L, C].

    Returns:
        float64 [L] with a mean of 0. A component has no sign by itself: the largest absolute value is made positive.

    Source: Oquab et al., arXiv 2304.07193, section 7.5; the sign: Wang et al., arXiv 2202.11539, section 3.
    """
    centred = tokens.astype(np.float64) - tokens.astype(np.float64).mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return _positive(centred @ axes[0])


def normalized_cut(keys: np.ndarray, *, similar: float = SIMILAR, apart: float = APART) -> np.ndarray:
    """The second smallest generalized eigenvector of (D - E) y = lambda D y, about its mean.

    Args:
        keys: float [L, C]; E is 1 between patches whose keys have a cosine of at least ``similar``, else ``apart``, and
            D its rows' sums.
        similar: Cosine.
        apart: Weight.

    Returns:
        float64 [L]: above 0 on TokenCut's foreground, the side with the largest absolute value of the eigenvector.

    Source: Shi & Malik, IEEE TPAMI 22 (2000), equation 6; Wang et al., arXiv 2202.11539, section 3.
    """
    import scipy.linalg

    keys = keys.astype(np.float64)
    units = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    edges = np.where(units @ units.T >= similar, 1.0, apart)
    degrees = np.diag(edges.sum(1))
    _, vectors = scipy.linalg.eigh(degrees - edges, degrees, subset_by_index=[1, 1])
    found = vectors[:, 0]
    centred = found - found.mean()
    return centred if centred[np.abs(found).argmax()] >= 0 else -centred


class ComponentCams(NamedCams):
    """A map of what stands out among an image's patches, whatever the class.

    ``pca``: the first principal component of the last tokens; values are of the tokens' unit, with a mean of 0.
    ``ncut``: the normalized cut by the last layer's keys; values have no unit, and a mean of 0.

    Args:
        model: A vision transformer, with or without a head.
        size: Height and width of the images it is tried on, in pixels.
        cut: The normalized cut instead of the first component.

    Raises:
        ValueError: The model has no such tokens, or an image has too few of them.
    """

    def __init__(self, model: "torch.nn.Module", size: tuple[int, int] = (224, 224), *, cut: bool = False):
        super().__init__(model)
        self._cut = cut
        self.layout = find_tokens(self.model, self._probe(size))
        if self.layout.grid[0] * self.layout.grid[1] < 3:
            raise ValueError(f"{type(self.model).__name__}: expected at least 3 patches an image, found fewer")

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        import torch

        with attentions(self.model, weights=False) as layers:
            output, tokens = with_last_tokens(self.model, images, self.layout)
        logits = classifier_logits(self.model, output)
        used = layers[-1].keys if self._cut else tokens
        patches = used[:, self.layout.num_prefix :].double().cpu()
        if not patches.isfinite().all():
            raise ValueError(f"{type(self.model).__name__}: its tokens are no numbers")
        made = [normalized_cut(each) if self._cut else first_component(each) for each in patches.numpy()]
        cams = torch.from_numpy(np.stack(made).astype(np.float32)).to(images.device)
        return looks_of_any_class(self.layout.as_map(cams), classes, logits)


def _positive(values: np.ndarray) -> np.ndarray:
    return values if values[np.abs(values).argmax()] >= 0 else -values

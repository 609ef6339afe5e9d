"""Whether maps were scaled one by one before they got here, so that normalizations by their extremes say nothing.

In: batches of maps. Out: whether all of them span exactly [0, 1].
Source: pytorch-grad-cam scales each map as (v - min) / (max - min + 1e-7); Kim et al., arXiv 2107.13221, section 3.
"""

import numpy as np

_BELOW_1 = 1e-6  # what an epsilon in the divisor leaves of a maximum of 1


class UnitRange:
    """True once it has seen maps that span exactly [0, 1], and no others but maps of zeros alone."""

    NOTE = (
        "all maps span exactly [0, 1]: each was scaled before it was stored, as pytorch-grad-cam does. Min-max and max "
        "change nothing and are the same here, pas and ivr are those of scaled maps: raw maps are needed to compare"
    )

    def __init__(self) -> None:
        self._all, self._any = True, False

    def see(self, maps: np.ndarray) -> None:
        """Looks at a batch, float [N, h, w]; costs nothing after the first map of another kind."""
        if not self._all or not len(maps):
            return
        lowest, highest = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
        spans = (lowest == 0) & (highest <= 1) & (highest >= 1 - _BELOW_1)
        self._all = bool((spans | ((lowest == 0) & (highest == 0))).all())
        self._any |= bool(spans.any())

    def merge(self, other: "UnitRange") -> None:
        """Sees what another one saw."""
        self._all &= other._all
        self._any |= other._any

    def __bool__(self) -> bool:
        return self._all and self._any

"""From the boxes of levels to those of thresholds, of which many come to the same level.

In: boxes by map and level. Out: boxes by map and threshold.
Source: Choe et al., arXiv 2007.04178, section 4.2: a threshold is a fraction of a map's maximum level.
"""

from typing import Any

import numpy as np


def per_threshold(
    boxes: Any,  # int32 [B, 4], of all maps and levels
    counts: np.ndarray,  # int64 [N, 255]: how many each level has
    max_levels: np.ndarray,  # [N]
    thresholds: np.ndarray,  # float64 [T]
) -> list[list[Any]]:  # per map and threshold
    """Boxes of levels as boxes of thresholds; those that come to the same level share one array."""
    ends = np.cumsum(counts).reshape(counts.shape)
    result = []
    for begins, end, max_level in zip(ends - counts, ends, max_levels, strict=True):
        levels = (thresholds * max_level).astype(np.int64).tolist()
        per_level = {level: boxes[begins[level] : end[level]] for level in set(levels)}
        result.append([per_level[level] for level in levels])
    return result

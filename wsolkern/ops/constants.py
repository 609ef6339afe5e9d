"""The numbers that the operations of all backends agree on; a test compares them with the native core's.

In: nothing. Out: grids of thresholds and levels, limits, the contours that can be asked for.
Source: the published evaluation, Choe et al., arXiv 2007.04178: 1000 thresholds, maps of 8 bits.
"""

import numpy as np


class _Named(np.ndarray):
    """An array that ``help`` prints by its name where it is a default, not as a thousand numbers."""

    def __repr__(self) -> str:
        return "DEFAULT_THRESHOLDS" if self is DEFAULT_THRESHOLDS else repr(np.asarray(self))


DEFAULT_THRESHOLDS: np.ndarray = np.arange(0, 1, 0.001).view(_Named)
"""The 1,000 thresholds of the published evaluation: 0, 0.001, 0.002, ..., 0.999, float64; it prints as its name."""
DEFAULT_THRESHOLDS.setflags(write=False)
MAX_THRESHOLDS = 100_000  # of a grid; there are 256 levels
MAX_IOU_THRESHOLDS = 32  # what one native call takes; the operations cut more than that into several calls
MAX_SIDE = 4096  # pixels; what the native core is built and tested for
MAX_COORDINATE = 1 << 20  # pixels; the area of a box and the sum of two stay far from overflow
MAX_CUTS = 32766  # of a map: bins are int16, and one more than all cut points must be too
NUM_LEVELS = 255  # foregrounds "8-bit level > t", t = 0 ... 254
CONTOURS = {"largest": 1, "all": 2, "both": 3}  # bit 0: MaxBoxAcc, bit 1: MaxBoxAccV2


def _level_scores() -> np.ndarray:
    """The smallest float64 score of every level 1 to 255, where level is floor(255 * score)."""
    levels = np.arange(1, NUM_LEVELS + 1)
    scores = levels / NUM_LEVELS
    while (short := scores * NUM_LEVELS < levels).any():
        scores[short] = np.nextafter(scores[short], 1)
    while (more := np.nextafter(scores, 0) * NUM_LEVELS >= levels).any():
        scores[more] = np.nextafter(scores[more], 0)
    scores.setflags(write=False)
    return scores


LEVEL_SCORES: np.ndarray = _level_scores()
"""The smallest score of every level 1 to 255, float64 [255]: 8-bit levels are at least l where scores are this."""

"""Sums of fractions that no order changes: the same bits for any batches, processes and threads.

In: float64 in [0, 1]. Out: their mean over images, rounded once.
Source: none; a fraction is three digits of 27 bits, and digits are added as integers.
"""

from typing import Any

import numpy as np

_BITS, _NUM_DIGITS = 27, 3


class ExactSums:
    """Sums of many fractions, exact where these are multiples of 2**-81.

    All float64 from 2**-28 to 1 are, and so is every IoU other than 0 (two boxes have fewer than 2**28 pixels). What a
    smaller fraction has beyond that is cut off, for every image by itself.

    Args:
        shape: What there is a sum for.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.digits = np.zeros((_NUM_DIGITS, *shape), np.int64)  # never changed: another array takes its place

    def add(self, values: np.ndarray, axis: int) -> None:
        """Adds values, float64 in [0, 1], summed over one more axis than the sums have."""
        rest, digits = values, []
        for digit in self.digits:
            rest = rest * float(1 << _BITS)
            whole = np.floor(rest)
            digits.append(digit + whole.astype(np.int64).sum(axis=axis))
            rest = rest - whole
        self.digits = np.stack(digits)

    def means(self, num: int) -> np.ndarray:
        """The sums divided by a number, float64 of the sums' shape, each the float64 nearest to the exact quotient."""
        divisor = num << _BITS * _NUM_DIGITS
        flat = self.digits.reshape(_NUM_DIGITS, -1).T.tolist()
        means: list[Any] = [((high << 2 * _BITS) + (middle << _BITS) + low) / divisor for high, middle, low in flat]
        return np.array(means).reshape(self.digits.shape[1:])

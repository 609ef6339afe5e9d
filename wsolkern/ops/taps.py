"""The four pixels that a pixel of a resized map is made of, along one axis; or the two, if it is linear.

In: a number of pixels before and after. Out: which ones, and their weights.
Formula: bicubic convolution (Keys, IEEE TASSP 1981) with A = -0.75, half-pixel centres and repeated border pixels; in
float32, as ``cv2.resize(..., INTER_CUBIC)`` computes it, and INTER_LINEAR the linear ones.
"""

from typing import Any

import numpy as np


def taps(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The source pixels, int [4, num_out], and their float32 weights as float64 [4, num_out]."""
    scale = 1 / (num_out / num_in)  # not num_in / num_out: they differ by an ulp for sizes like 3165 to 4096
    at = ((np.arange(num_out) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(at)
    t, one, a = at - base, np.float32(1), np.float32(-0.75)

    def near(x: Any) -> Any:  # the kernel for a distance x in [0, 1]
        return ((a + 2) * x - (a + 3)) * x * x + one

    def far(x: Any) -> Any:  # for a distance x in [1, 2]
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    weights = [far(t + one), near(t), near(one - t)]
    weights.append(one - weights[0] - weights[1] - weights[2])
    index = base.astype(np.int64) + np.arange(-1, 3)[:, None]
    return np.clip(index, 0, num_in - 1), np.stack(weights).astype(np.float64)


def linear_taps(num_in: int, num_out: int, *, weights_repeat: bool) -> tuple[np.ndarray, np.ndarray]:
    """The two source pixels of linear interpolation, int [2, num_out], and their float32 weights [2, num_out].

    Beyond the first and last pixel's centre both are that pixel; ``weights_repeat``: with the weights that they would
    have without an end (as OpenCV's rows), else with 1 and 0 (as its columns).
    """
    scale = 1 / (num_out / num_in)
    at = ((np.arange(num_out) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(at)
    index, t = base.astype(np.int64), at - base
    if not weights_repeat:
        t = np.where((index < 0) | (index >= num_in - 1), np.float32(0), t)
    return np.clip([index, index + 1], 0, num_in - 1), np.stack([np.float32(1) - t, t])

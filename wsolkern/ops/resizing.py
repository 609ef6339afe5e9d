"""Resize class activation maps to the evaluation size.

In: CAMs [N, h, w]. Out: float64 [N, H, W], to the bit what ``cv2.resize(..., INTER_CUBIC)`` makes of float64.
Formula: bicubic convolution (Keys, IEEE TASSP 1981) with A = -0.75, half-pixel centres and repeated border pixels.
"""

import numpy as np

from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.inputs import Array
from wsolkern.ops.operation import Operation
from wsolkern.ops.taps import linear_taps, taps


def resize(cams: Array, size: tuple[int, int], *, backend: str = "auto") -> Array:
    """Bicubic resize, up or down, without antialiasing.

    Args:
        cams: Maps, float16, bfloat16, float32 or float64 [N, h, w] or [h, w]; cast to float64 first.
        size: Height and width of the result, in pixels.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        float64 [N, H, W], or [H, W] for a single map, on the device of ``cams``.

    Raises:
        ValueError: A shape, dtype or size is not as above.
        BackendUnavailable: A backend asked for by name cannot run here.
    """
    backend, run = _RESIZE.choose(backend, cams)
    maps, size = inputs.check_maps(cams, "cams", (2, 3), backend), inputs.check_size(size)
    out = run(maps, size)
    return inputs.same_kind(cams)(out if cams.ndim == 3 else out[0])


def resize_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    size: tuple[int, int],  # H, W
) -> np.ndarray:  # float64 [N, H, W]
    """Columns first, then rows; four products each, summed from left to right in float64."""
    if maps.shape[1:] == tuple(size):
        same: np.ndarray = maps.copy()
        return same
    height, width = size
    with np.errstate(all="ignore"):  # infinite and huge values
        index, weight = taps(maps.shape[2], width)
        wide: np.ndarray = maps[:, :, index[0]] * weight[0]
        for tap in (1, 2, 3):
            wide = wide + maps[:, :, index[tap]] * weight[tap]
        index, weight = taps(maps.shape[1], height)
        out: np.ndarray = wide[:, index[0]] * weight[0][:, None]
        for tap in (1, 2, 3):
            out = out + wide[:, index[tap]] * weight[tap][:, None]
    return out


def resize_cpu(
    maps: np.ndarray,  # float64 [N, h, w]
    size: tuple[int, int],  # H, W
) -> np.ndarray:  # float64 [N, H, W]
    """By the native core."""
    out = np.empty((len(maps), *size))
    native().resize(maps, out, num_threads())
    return out


def resize_linear(
    maps: np.ndarray,  # float32 or float64 [N, h, w]
    size: tuple[int, int],  # H, W
) -> np.ndarray:  # of the same dtype, [N, H, W]
    """To the bit what ``cv2.resize(..., INTER_LINEAR)`` makes of a map without Intel's IPP: columns first, then rows.

    Half of both sides is the mean of four pixels there, which OpenCV adds up in pairs where it takes four at a time.
    """
    if maps.shape[1:] == tuple(size):
        same: np.ndarray = maps.copy()
        return same
    height, width = size
    number = maps.dtype.type
    with np.errstate(all="ignore"):  # infinite and huge values
        if maps.shape[1:] == (2 * height, 2 * width):
            a, b, c, d = (maps[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
            in_pairs = width - width % 4 if number is np.float32 else 0
            sums = np.where(np.arange(width) < in_pairs, (a + b) + (c + d), a + b + c + d)
            mean: np.ndarray = sums * number(0.25)
            return mean
        index, weight = linear_taps(maps.shape[2], width, weights_repeat=False)
        weight = weight.astype(number)
        wide = maps[:, :, index[0]] * weight[0] + maps[:, :, index[1]] * weight[1]
        index, weight = linear_taps(maps.shape[1], height, weights_repeat=True)
        weight = weight.astype(number)[..., None]
        out: np.ndarray = wide[:, index[0]] * weight[0] + wide[:, index[1]] * weight[1]
    return out


_RESIZE = Operation(resize_reference, resize_cpu, "resize")

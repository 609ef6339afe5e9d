"""Resize class activation maps to the evaluation size.

In: CAMs [N, h, w]. Out: float64 [N, H, W], to the bit what ``cv2.resize(..., INTER_CUBIC)`` makes of float64.
Formula: bicubic convolution (Keys, IEEE TASSP 1981) with A = -0.75, half-pixel centres and repeated border pixels.
"""

import numpy as np

from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.inputs import Array
from wsolkern.ops.operation import Operation
from wsolkern.ops.taps import taps


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


_RESIZE = Operation(resize_reference, resize_cpu, "resize")

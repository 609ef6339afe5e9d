"""Resize class activation maps to the evaluation size.

In: CAMs [N, h, w]. Out: float64 [N, H, W], to the bit what ``cv2.resize(..., INTER_CUBIC)`` makes of float64.
Formula: bicubic convolution (Keys, IEEE TASSP 1981) with A = -0.75, half-pixel centres and repeated border pixels.
"""

import numpy as np

from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads, resolve


def resize(cams, size: tuple[int, int], *, backend: str = "auto"):
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
    backend = resolve(backend, cams)
    maps, size = inputs.check_maps(cams, "cams", (2, 3), backend), inputs.check_size(size)
    if backend == "reference":
        out = resize_reference(maps, size)
    elif backend == "cuda":
        from wsolkern.ops.gpu import resizing

        out = resizing.resize(maps, size)
    else:
        out = np.empty((len(maps), *size))
        native().resize(maps, out, num_threads())
    return inputs.same_kind(cams)(out if cams.ndim == 3 else out[0])


def resize_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    size: tuple[int, int],  # H, W
) -> np.ndarray:  # float64 [N, H, W]
    """Columns first, then rows; four products each, summed from left to right in float64."""
    if maps.shape[1:] == tuple(size):
        return maps.copy()
    height, width = size
    with np.errstate(all="ignore"):  # infinite and huge values
        index, weight = _taps_reference(maps.shape[2], width)
        wide = maps[:, :, index[0]] * weight[0]
        for tap in (1, 2, 3):
            wide = wide + maps[:, :, index[tap]] * weight[tap]
        index, weight = _taps_reference(maps.shape[1], height)
        out = wide[:, index[0]] * weight[0][:, None]
        for tap in (1, 2, 3):
            out = out + wide[:, index[tap]] * weight[tap][:, None]
    return out


def _taps_reference(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The four source pixels, int [4, num_out], and their float32 weights as float64 [4, num_out]."""
    scale = 1 / (num_out / num_in)  # not num_in / num_out: they differ by an ulp for sizes like 3165 to 4096
    at = ((np.arange(num_out) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(at)
    t, one, a = at - base, np.float32(1), np.float32(-0.75)

    def near(x):  # the kernel for a distance x in [0, 1]
        return ((a + 2) * x - (a + 3)) * x * x + one

    def far(x):  # for a distance x in [1, 2]
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    weights = [far(t + one), near(t), near(one - t)]
    weights.append(one - weights[0] - weights[1] - weights[2])
    index = base.astype(np.int64) + np.arange(-1, 3)[:, None]
    return np.clip(index, 0, num_in - 1), np.stack(weights).astype(np.float64)

"""Score maps on the device.

In: resized maps; offset and divisor of each, as ``affine`` gives them. Out: score maps, float64 [N, H, W] in [0, 1].
Formula: S = clip((F - offset) / divisor, 0, 1), see wsolkern/normalization.py.
"""

import torch
import triton
import triton.language as tl

from wsolkern.ops.gpu.launching import launch
from wsolkern.ops.gpu.resizing import Resized, map_of, pixels


def normalize(
    resized: Resized,
    affine: torch.Tensor,  # float64 [N, 2]: offset, divisor
) -> torch.Tensor:  # float64 [N, H, W]
    """The score maps of one normalization; zeros where there is none."""
    num, affine = len(resized), affine.contiguous()
    out = torch.empty(num, *resized.size, dtype=torch.float64, device=affine.device)
    launch(_normalize, (num, resized.num_tiles), *resized.arguments, affine, out, **resized.constants)
    return out


@triton.jit
def score(f, offset, divisor):
    """The score of a value; 0 for NaN. The divisor must not be 0."""
    quotient = (f - offset) / divisor
    return tl.where(quotient > 0, tl.where(quotient < 1, quotient, 1.0), 0.0)


@triton.jit
def _normalize(
    source, tiles, weights, height_in, height, width, affine, out,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    offset, divisor = tl.load(affine + 2 * n), tl.load(affine + 2 * n + 1)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    out += n * height * width
    if divisor > 0:
        tl.store(out + at, score(f, offset, divisor), mask=exists)
    else:
        tl.store(out + at, tl.zeros_like(f), mask=exists)

"""How the scores of object pixels and of background pixels are distributed, counted on the device.

In: resized maps with offsets and divisors, or score maps; masks; bin edges. Out: int64 counts per bin.
Source: PxAP, Choe et al., arXiv 2007.04178, section 4.3; bins follow the rules of ``numpy.histogram``.

A score's bin is found in a grid of CELLS cells over [0, 1], which tells for each cell the edges before it and in it.
The many pixels with a score of exactly 0 or 1 are added up per tile: as single atomic additions they would queue.
"""

import torch
import triton
import triton.language as tl

from wsolkern.ops.gpu.launching import launch
from wsolkern.ops.gpu.normalizing import score
from wsolkern.ops.gpu.resizing import Resized, map_of, pixels, together

CELLS = 1024
COPIES = 32  # of the summed histograms, so that maps do not wait for each other; their sum is the result


def pixel_histograms(
    resized: Resized,
    affine: torch.Tensor | None,  # float64 [N, M, 2]; None for score maps, and then M is 1
    masks: torch.Tensor,  # uint8 [N, H, W]: 1 object, 0 background, 255 ignore
    edges: torch.Tensor,  # float64 [T + 1]: thresholds, not decreasing, and 1
    *,
    summed: bool,
) -> torch.Tensor:  # int64 [M, N, 2, T + 2], or summed over the maps [M, 2, T + 2]
    """Counts of object and of background pixels per bin [t0, t1), ..., [t_last, 1), [1, 2), [2, 3]."""
    num, num_edges, device = len(resized), len(edges), edges.device
    num_normalizations = 1 if affine is None else affine.shape[1]
    copies = min(num, COPIES) if summed else num
    out = torch.zeros(num_normalizations, copies, 2, num_edges + 1, dtype=torch.int64, device=device)
    edges, masks = edges.contiguous(), masks.contiguous()
    cells = torch.arange(CELLS + 1, dtype=torch.int32, device=device)
    begins = torch.searchsorted((edges * CELLS).to(torch.int32), cells, out_int32=True)
    begins = torch.cat([begins, begins.new_full((1,), num_edges)])  # of the cells, and the end of the last
    about = torch.stack([begins.diff().amax(), (edges <= 0).sum() - 1])  # most edges in a cell, the bin of score 0
    launch(
        _count_scores, (num, resized.num_tiles), *resized.arguments,
        edges if affine is None else affine.contiguous(), masks, edges, begins, about, out,
        num_normalizations, copies, num_edges, **resized.constants, ARE_SCORES=affine is None, CELLS=CELLS,
    )  # fmt: skip
    return out.sum(dim=1) if summed else out


@triton.jit
def _bin_of(s, edges, begins, most_in_a_cell, CELLS: tl.constexpr):
    """The number of edges <= s, less 1, for scores in [0, 1]."""
    cell = begins + (s * CELLS).to(tl.int32)
    low, high = tl.load(cell), tl.load(cell + 1)
    while most_in_a_cell > 0:
        middle = (low + high) >> 1
        reached = (low < high) & (tl.load(edges + middle, mask=low < high, other=0) <= s)
        low, high = tl.where(reached, middle + 1, low), tl.where(reached, high, middle)
        most_in_a_cell = most_in_a_cell >> 1
    return low - 1


@triton.jit
def _count_scores(
    source, tiles, weights, height_in, height, width, affine, masks, edges, begins, about, out,
    num_normalizations, copies, num_edges,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ARE_SCORES: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS, TOGETHER=1)
    mask = tl.load(together(masks + n * height * width, at, COLUMNS, 1), mask=exists, other=255)
    most_in_a_cell, bin_of_zero = tl.load(about), tl.load(about + 1)
    kind = tl.arange(0, 2)
    m = 0
    while m < num_normalizations:
        s = f
        if not ARE_SCORES:
            offset = tl.load(affine + (n * num_normalizations + m) * 2)
            divisor = tl.load(affine + (n * num_normalizations + m) * 2 + 1)
            s = tl.zeros_like(f)
            if divisor > 0:
                s = score(f, offset, divisor)
        counts = out + (m * copies + n % copies) * 2 * (num_edges + 1)

        # Object and background pixels with score 0, then with score 1: four counts of 16 bits in one sum.
        field = (mask == 0).to(tl.int64) * 16 + (s >= 1).to(tl.int64) * 32
        is_extreme = (mask < 2) & ((s <= 0) | (s >= 1))
        sums = tl.sum(tl.sum(tl.where(is_extreme, (field * 0 + 1) << field, 0), axis=1), axis=0)
        zeros, ones = (sums >> (kind * 16)) & 0xFFFF, (sums >> (kind * 16 + 32)) & 0xFFFF
        to = counts + kind * (num_edges + 1)
        tl.atomic_add(to + bin_of_zero, zeros, mask=tl.where(bin_of_zero >= 0, zeros, 0) > 0, sem="relaxed")
        tl.atomic_add(to + num_edges - 1, ones, mask=ones > 0, sem="relaxed")

        # The others one by one: the sign tells background from object, and -1 is neither.
        bits = s.to(tl.int64, bitcast=True) | ((mask == 0).to(tl.int64) << 63)
        bits = tl.where((mask < 2) & (s > 0) & (s < 1), bits, -1)
        s = (bits & 0x7FFFFFFFFFFFFFFF).to(tl.float64, bitcast=True)
        counted = bits != -1
        which = _bin_of(tl.where(counted, s, 0.0), edges, begins, most_in_a_cell, CELLS)
        to = counts + (bits < 0).to(tl.int32) * (num_edges + 1) + which
        tl.atomic_add(to, tl.zeros_like(bits) + 1, mask=counted & (which >= 0), sem="relaxed")
        m += 1

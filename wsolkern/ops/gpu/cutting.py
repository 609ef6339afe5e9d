"""Cut points, and the small integer image that decides every level of every normalization, on the device.

In: resized maps; offsets and divisors. Out: cut points float64 [R, K]; bins [N, H, W] of 8 or 16 bits, ranks of cuts.
Source: as wsolkern/ops/cutting.py: "S(F) reaches a score" is "F >= c" for one float64 number c.

The level image needs no cut points to be sorted: every level floor(255 * S(F)) is a non-decreasing function of F, so
their sum over the normalizations is one too, and it rises wherever one of them does. At a normalization's own cut
points it tells from which bin on that normalization has the next level.
"""

from functools import cache

import torch
import triton
import triton.language as tl

from wsolkern.ops.constants import LEVEL_SCORES, MAX_CUTS, NUM_LEVELS
from wsolkern.ops.gpu.launching import constant, launch
from wsolkern.ops.gpu.normalizing import score
from wsolkern.ops.gpu.resizing import Resized, map_of, pixels
from wsolkern.ops.gpu.statistics import from_key, to_key

MOST_NORMALIZATIONS = MAX_CUTS // NUM_LEVELS  # of a level image: their levels must add up to an int16


def cut_points(
    affine: torch.Tensor,  # float64 [R, 2]: offset, divisor
    scores: torch.Tensor,  # float64 [K]
) -> torch.Tensor:  # float64 [R, K]
    """The smallest F that reaches each score; -inf for a score of 0, else +inf where the divisor is 0."""
    affine, scores = affine.contiguous(), scores.contiguous()
    out = torch.empty(len(affine), len(scores), dtype=torch.float64, device=affine.device)
    block = min(256, triton.next_power_of_2(len(scores)))
    launch(
        _cut_points, (len(affine), triton.cdiv(len(scores), block)), affine, scores, out, len(scores), BLOCK=block
    )  # fmt: skip
    return out


def digitize(
    resized: Resized,
    cuts: torch.Tensor,  # float64 [N, C], no NaN
) -> tuple[torch.Tensor, torch.Tensor]:  # int16 [N, H, W], int16 [N, C]
    """How many cuts each pixel reaches, and how many cuts each cut reaches; NaN reaches none."""
    num, (_, num_cuts) = len(resized), cuts.shape
    in_order = torch.sort(cuts, dim=1).values.contiguous()
    bins = torch.empty(num, *resized.size, dtype=torch.int16, device=cuts.device)
    launch(
        _digitize, (num, resized.num_tiles), *resized.arguments, in_order, bins, num_cuts, **resized.constants,
        STEPS=num_cuts.bit_length(),
    )  # fmt: skip
    return bins, torch.searchsorted(in_order, cuts.contiguous(), right=True).to(torch.int16)


def level_image(
    resized: Resized,
    affine: torch.Tensor,  # float64 [N, M, 2], M at most MOST_NORMALIZATIONS
) -> tuple[torch.Tensor, torch.Tensor]:  # uint8 (for M = 1) or int16 [N, H, W], int16 [N, M, 255]
    """The sum of the 8-bit levels of all normalizations, and where in it each of their levels begins.

    Pixels above level t of normalization m, ``floor(255 * S) > t``, are those with ``bins >= ranks[n, m, t]``. A
    normalization without a score map adds nothing to the sum, and no bin is as large as its ranks.

    Raises:
        ValueError: More than MOST_NORMALIZATIONS.
    """
    affine = affine.contiguous()
    num, num_normalizations, _ = affine.shape
    if num_normalizations > MOST_NORMALIZATIONS:
        raise ValueError(
            f"affine: expected at most {MOST_NORMALIZATIONS} normalizations a level image, found {num_normalizations}"
        )
    dtype = torch.uint8 if num_normalizations == 1 else torch.int16
    bins = torch.empty(num, *resized.size, dtype=dtype, device=affine.device)
    launch(
        _level_image, (num, resized.num_tiles), *resized.arguments, affine, bins, num_normalizations,
        **resized.constants,
    )  # fmt: skip
    if num_normalizations == 1:
        ranks = torch.arange(1, NUM_LEVELS + 1, dtype=torch.int16, device=affine.device)
        return bins, ranks.expand(num, 1, NUM_LEVELS).contiguous()
    ranks = torch.empty(num, num_normalizations, NUM_LEVELS, dtype=torch.int16, device=affine.device)
    launch(
        _level_ranks, (num * num_normalizations,), affine, _level_scores(affine.device), ranks, num_normalizations,
        NUM_LEVELS, BLOCK=triton.next_power_of_2(NUM_LEVELS),
    )  # fmt: skip
    return bins, ranks


@cache
def _level_scores(device: torch.device) -> torch.Tensor:
    return constant(LEVEL_SCORES.copy(), device)


@triton.jit
def _reached(value, minuend_or_divisor, bound, DIVIDE: tl.constexpr):
    if DIVIDE:
        return value / minuend_or_divisor >= bound
    else:
        return value - minuend_or_divisor >= bound


@triton.jit
def _neighbour(value, step):
    """The value whose bits as an integer are ``step`` more."""
    return (value.to(tl.int64, bitcast=True) + step).to(tl.float64, bitcast=True)


@triton.jit
def _smallest(estimate, operand, bound, DIVIDE: tl.constexpr):
    """The smallest value for which ``_reached`` holds, if it is the estimate or next to it; and where it may not be."""
    up = tl.where(estimate < 0, -1, 1)
    below, above = _neighbour(estimate, -up), _neighbour(estimate, up)
    value = tl.where(_reached(below, operand, bound, DIVIDE), below, estimate)
    value = tl.where(_reached(estimate, operand, bound, DIVIDE), value, above)
    is_smallest = _reached(value, operand, bound, DIVIDE)
    is_smallest &= ~_reached(_neighbour(value, -up), operand, bound, DIVIDE)
    # Around zero the bits of neighbours are not next to each other: 0x03C0... is 1e-290.
    far_from_zero = (value.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF) > 0x03C0000000000000
    return value, ~(is_smallest & far_from_zero)


@triton.jit
def cut_of(offset, divisor, wanted):
    """The cut points of one normalization: from an estimate, or by bisection where that is not next to it.

    The division is inverted first, then the subtraction. Near F = 0 many values F have the same F - offset, so the
    estimate aims at the middle between two results, where rounding turns up.
    """
    divisor += tl.zeros_like(wanted)
    in_doubt = (wanted > 0) & (wanted <= 1) & (divisor > 0)
    shifted, doubtful = _smallest(wanted * divisor, divisor, wanted, True)
    half_gap = (shifted - _neighbour(shifted, -1)) * 0.5
    cut, doubtful_too = _smallest(offset + shifted - half_gap, offset, shifted, False)
    in_doubt &= doubtful | doubtful_too
    if tl.max(in_doubt.to(tl.int32), axis=0) > 0:
        below = to_key(tl.full(wanted.shape, float("-inf"), tl.float64))
        reaching = to_key(tl.full(wanted.shape, float("inf"), tl.float64))
        for _ in range(64):
            middle = below + ((reaching - below) >> 1)
            enough = (from_key(middle) - offset) / divisor >= wanted
            below, reaching = tl.where(enough, below, middle), tl.where(enough, middle, reaching)
        cut = tl.where(in_doubt, from_key(reaching), cut)
    cut = tl.where((divisor > 0) & (wanted <= 1), cut, float("inf"))
    return tl.where(wanted <= 0, float("-inf"), cut)


@triton.jit
def _cut_points(affine, scores, out, num_scores, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = at < num_scores
    wanted = tl.load(scores + at, mask=exists, other=0)
    cut = cut_of(tl.load(affine + 2 * row), tl.load(affine + 2 * row + 1), wanted)
    tl.store(out + row * num_scores + at, cut, mask=exists)


@triton.jit
def _digitize(
    source, tiles, weights, height_in, height, width, in_order, bins, num_cuts,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    in_order += n * num_cuts
    low, high = tl.zeros_like(at), tl.zeros_like(at) + num_cuts  # the number of cuts <= f lies between them
    for _ in range(STEPS):
        middle = (low + high) >> 1
        reached = (low < high) & (tl.load(in_order + middle, mask=low < high, other=0) <= f)
        low, high = tl.where(reached, middle + 1, low), tl.where(reached, high, middle)
    tl.store(bins + n * height * width + at, low.to(tl.int16), mask=exists)


@triton.jit
def _levels(f, affine, num_normalizations):
    """floor(255 * S(f)), summed over the normalizations."""
    sums = tl.zeros(f.shape, tl.int32)
    m = 0
    while m < num_normalizations:
        offset, divisor = tl.load(affine + 2 * m), tl.load(affine + 2 * m + 1)
        if divisor > 0:
            sums += (score(f, offset, divisor) * 255).to(tl.int32)
        m += 1
    return sums


@triton.jit
def _level_image(
    source, tiles, weights, height_in, height, width, affine, bins, num_normalizations,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    levels = _levels(f, affine + n * num_normalizations * 2, num_normalizations)
    tl.store(bins + n * height * width + at, levels.to(bins.dtype.element_ty), mask=exists)


@triton.jit
def _level_ranks(affine, scores, ranks, num_normalizations, num_levels, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    level = tl.arange(0, BLOCK)
    exists = level < num_levels
    offset, divisor = tl.load(affine + 2 * row), tl.load(affine + 2 * row + 1)
    rank = tl.full([BLOCK], 32767, tl.int32)
    if divisor > 0:
        cut = cut_of(offset, divisor, tl.load(scores + level, mask=exists, other=0))
        rank = _levels(cut, affine + row // num_normalizations * num_normalizations * 2, num_normalizations)
    tl.store(ranks + row * num_levels + level, rank.to(tl.int16), mask=exists)

"""Cut points, and the small integer image that decides every level of every normalization, on the device.

In: resized maps; offsets and divisors. Out: cut points float64 [R, K]; bins [N, H, W] of 8 or 16 bits, ranks of cuts.
Source: as wsolkern/ops/cutting.py: "S(F) reaches a score" is "F >= c" for one float64 number c.

The level image of one normalization is made of products with 255 / divisor, each compared with one cut point. Of more,
their cut points are put in order first, and a pixel's sum of levels is how many of them it reaches: a search costs the
same for any number of normalizations. A cut point's place in that order is a sum too, of how many each normalization
has before it, which is again one product and one comparison.
"""

from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

from wsolkern.ops.constants import LEVEL_SCORES, MAX_CUTS, NUM_LEVELS
from wsolkern.ops.gpu.launching import constant, launch
from wsolkern.ops.gpu.resizing import Resized, map_of, pixels, together
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
    return _counted(resized, cuts.contiguous(), torch.sort(cuts, dim=1).values.contiguous())


def _counted(
    resized: Resized,
    cuts: torch.Tensor,  # float64 [N, K]; NaN is a cut that nothing reaches
    in_order: torch.Tensor,  # float64 [N, C], NaN last
) -> tuple[torch.Tensor, torch.Tensor]:  # int16 [N, H, W], int16 [N, K]
    """How many of the cuts in order each pixel and each cut reaches; the rank of NaN is larger than every bin."""
    num, num_cuts = in_order.shape
    bins = torch.empty(num, *resized.size, dtype=torch.int16, device=cuts.device)
    ranks = torch.empty(cuts.shape, dtype=torch.int16, device=cuts.device)
    first = (1 << num_cuts.bit_length()) >> 1
    launch(
        _digitize, (num, resized.num_tiles), *resized.arguments, in_order, bins, num_cuts, **resized.constants,
        FIRST=first,
    )  # fmt: skip
    grid = num, triton.cdiv(cuts.shape[1], 512)
    launch(_ranks, grid, cuts, in_order, ranks, cuts.shape[1], num_cuts, FIRST=first, BLOCK=512)
    return bins, ranks


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
    cuts = cut_points(affine.view(-1, 2), _level_scores(affine.device))
    if num_normalizations == 1:
        bins = torch.empty(num, *resized.size, dtype=torch.uint8, device=affine.device)
        launch(_level_image, (num, resized.num_tiles), *resized.arguments, affine, cuts, bins, **resized.constants)
        ranks = torch.arange(1, NUM_LEVELS + 1, dtype=torch.int16, device=affine.device)
        return bins, ranks.expand(num, 1, NUM_LEVELS).contiguous()
    in_order = torch.empty(num, num_normalizations * NUM_LEVELS, dtype=torch.float64, device=affine.device)
    launch(
        _order_cuts, (num, triton.cdiv(num_normalizations, 4)), affine, cuts, in_order, num_normalizations, BLOCK=1024
    )  # fmt: skip
    bins, ranks = _counted(resized, cuts.view(num, num_normalizations * (NUM_LEVELS + 1)), in_order)
    return bins, ranks.view(num, num_normalizations, NUM_LEVELS + 1)[..., 1:].contiguous()


@cache
def _level_scores(device: torch.device) -> torch.Tensor:
    """float64 [256]: 0, which every pixel reaches, and the lowest score of each level above it."""
    return constant(np.append(0.0, LEVEL_SCORES), device)


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
def _num_reached(f, in_order, num_cuts, FIRST: tl.constexpr):
    """How many of the cuts in order are <= f. FIRST is the largest power of two up to their number, or 0.

    The first step leaves FIRST numbers, the upper or the lower ones, which overlap; each other step halves them.
    """
    found = tl.zeros(f.shape, tl.int32)
    if FIRST > 0:
        found = tl.where(tl.load(in_order + (FIRST - 1)) <= f, num_cuts - (FIRST - 1), 0)
        for power in tl.static_range(1, 32):
            if (FIRST >> power) > 0:
                reached = tl.load(in_order + ((FIRST >> power) - 1) + found) <= f
                found += tl.where(reached, FIRST >> power, 0)
    return found


@triton.jit
def _digitize(
    source, tiles, weights, height_in, height, width, in_order, bins, num_cuts,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FIRST: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    found = _num_reached(f, in_order + n * num_cuts, num_cuts, FIRST)
    tl.store(together(bins + n * height * width, at, COLUMNS, 2), found.to(tl.int16), mask=exists)


@triton.jit
def _ranks(cuts, in_order, ranks, num, num_cuts, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    n, at = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    cut = tl.load(cuts + n * num + at, mask=at < num, other=0)
    found = _num_reached(cut, in_order + n * num_cuts, num_cuts, FIRST)
    tl.store(ranks + n * num + at, tl.where(cut == cut, found, 32767).to(tl.int16), mask=at < num)


# floor(255 * S(f)) from a product instead of two roundings after a division
#
# Let x = f - offset, t = x * fl(255 / divisor) rounded, v = fl(255 * fl(x / divisor)). Both t and v are two roundings
# away from 255 * x / divisor, so while that is below 256 and nothing overflows or underflows they differ by less than
# 256 * 2**-51 * (1 + 2**-50) < 2**-42. _AT_ZERO + t is a multiple of 2**-32 (its exponent is 20) and the nearest one to
# t, so a t that is less than 2**-33 below a whole number becomes that number: the floor is that of v or one more, never
# less, and what it claims is checked at the one cut point in question. Large t end as 255 (or infinity, whose bits are
# larger still), negative ones as 0; a t that underflows is 0, and then v is below 1. 255 / divisor must be finite.
_AT_ZERO = tl.constexpr(1.5 * 2.0**20)
_BITS_AT_ZERO = tl.constexpr(0x41380000)  # the upper half
_LEAST_DIVISOR = tl.constexpr(2.0**-1000)


@triton.jit
def _level(f, offset, divisor, cuts):
    """floor(255 * S(f)), the number of cut points <= f without the first, -inf; f is not NaN."""
    level = tl.zeros(f.shape, tl.int32)
    if divisor > _LEAST_DIVISOR:
        bits = ((f - offset) * (255 / divisor) + _AT_ZERO).to(tl.int64, bitcast=True)
        level = tl.minimum(tl.maximum((bits >> 32).to(tl.int32), _BITS_AT_ZERO) - _BITS_AT_ZERO, 255)
        level -= (tl.load(cuts + level) > f).to(tl.int32)
    elif divisor > 0:
        step = 128
        while step > 0:
            level += tl.where(tl.load(cuts + step + level) <= f, step, 0)
            step = step >> 1
    return level


@triton.jit
def _level_image(
    source, tiles, weights, height_in, height, width, affine, cuts, bins,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    level = _level(f, tl.load(affine + 2 * n), tl.load(affine + 2 * n + 1), cuts + n * 256)
    tl.store(together(bins + n * height * width, at, COLUMNS, 2), level.to(tl.uint8), mask=exists)


@triton.jit
def _order_cuts(affine, cuts, in_order, num_normalizations, BLOCK: tl.constexpr):
    """Puts cut points, 256 a normalization, where they belong among those of all; the first ones, -inf, nowhere.

    Equal ones lie in the order of normalizations, so each comes after those <= it of the normalizations before its own,
    and after those < it of the ones behind. Those of a normalization without a score map become NaN, and come last.
    """
    n, at = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    affine += 2 * n * num_normalizations
    cuts += n * num_normalizations * 256
    m, level = at >> 8, at & 255
    exists = m < num_normalizations
    cut = tl.load(cuts + at, mask=exists & (level > 0), other=0)
    before = from_key(to_key(cut) - 1 - (cut == 0).to(tl.uint64))  # the next smaller number; after 0 comes -0
    place, place_if_unusable, is_usable, num_usable, k = level - 1, level - 1, at < 0, 0, 0
    while k < num_normalizations:
        offset, divisor = tl.load(affine + 2 * k), tl.load(affine + 2 * k + 1)
        smaller = _level(tl.where(m < k, before, cut), offset, divisor, cuts + k * 256)
        place += tl.where(m == k, 0, smaller)
        if divisor > 0:
            num_usable += 1
            is_usable |= m == k
        else:
            place_if_unusable += tl.where(m > k, 255, 0)
        k += 1
    place = tl.where(is_usable, place, num_usable * 255 + place_if_unusable)
    cut = tl.where(is_usable, cut, float("nan"))
    tl.store(cuts + at, cut, mask=exists & ~is_usable)
    tl.store(in_order + n * num_normalizations * 255 + place, cut, mask=exists & (level > 0))

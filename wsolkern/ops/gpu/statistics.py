"""Minimum, maximum and exact order statistics of every map, and the two numbers per normalization made of them.

In: resized maps; which order statistics each normalization needs. Out: offset and divisor, float64 [N, M, 2].
Formula: the table in wsolkern/normalization.py (Kim et al., arXiv 2107.13221, equations 3-6).

One launch, one program a map. The pixels are counted in CELLS cells between the smallest and the largest value, linear
in the value: rounding keeps the order, so the cell in which the count passes a rank holds the order statistic. Most
often that cell has a few dozen pixels; a second pass gathers those of all ranks at once, and each of them counts which
others of its cell come before it. A cell with more than GROUP pixels (a plateau, an outlier that spoils the grid) is
cut further by radix on the order-preserving bits of float64, down to GROUP pixels or to one value. -0.0 counts as 0.0.
"""

from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

from wsolkern.normalization import RANK_EXTREME, RANK_ZERO
from wsolkern.ops.gpu.launching import constant, launch
from wsolkern.ops.gpu.resizing import ROW_AXIS, Resized, map_of, pixels

CELLS = 16384
GROUP = 256  # most pixels of a cell that are compared with each other
GATHERED = 4096  # most pixels of all cells together


def affine(
    resized: Resized,
    ranks: np.ndarray,  # int64 [M, 2]: of offset and divisor, as Normalization.ranks gives them
) -> torch.Tensor:  # float64 [N, M, 2]
    """Offset and divisor of each normalization; both are 0 where there is no score map."""
    num, device = len(resized), resized.source.device
    ranks = np.ascontiguousarray(ranks, dtype=np.int64)
    wanted, slots, num_ranks = _tables(ranks.tobytes(), device)
    padded = triton.next_power_of_2(max(num_ranks, 1))
    out = torch.empty(num, len(ranks), 2, dtype=torch.float64, device=device)
    counts = torch.empty(num, CELLS, dtype=torch.int32, device=device)
    groups = torch.empty(num, 5, padded, dtype=torch.int32, device=device)
    gathered = torch.empty(num, 2 * GATHERED, dtype=torch.float64, device=device)
    values = torch.empty(num, num_ranks + 3, dtype=torch.float64, device=device)
    launch(
        _affine, (num,), *resized.arguments, wanted, slots, counts, groups, gathered, values, out,
        resized.num_tiles, num_ranks, len(ranks), **resized.constants,
        HAS_RANKS=num_ranks > 0, RANKS=padded, NORMALIZATIONS=triton.next_power_of_2(len(ranks)),
        CELLS=CELLS, GROUP=GROUP, GATHERED=GATHERED,
    )  # fmt: skip
    return out


@cache
def _tables(ranks: bytes, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The distinct ranks in order, int32 [R] (one 0 if there is none), and int32 [M, 2]: which value is which.

    The values are the R order statistics, then 0, the minimum and the maximum.
    """
    table = np.frombuffer(ranks, np.int64).reshape(-1, 2)
    wanted = np.unique(table[table >= 0])
    slots = np.searchsorted(wanted, table)
    slots[table == RANK_ZERO] = len(wanted)
    slots[:, 0][table[:, 0] == RANK_EXTREME] = len(wanted) + 1
    slots[:, 1][table[:, 1] == RANK_EXTREME] = len(wanted) + 2
    padded = wanted if len(wanted) else np.zeros(1)
    return constant(padded.astype(np.int32), device), constant(slots.astype(np.int32), device), len(wanted)


@triton.jit
def _affine(
    source, tiles, weights, height_in, height, width, ranks, slots, counts, groups, gathered, values, out,
    num_tiles, num_ranks, num_normalizations,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, HAS_RANKS: tl.constexpr, RANKS: tl.constexpr,
    NORMALIZATIONS: tl.constexpr, CELLS: tl.constexpr, GROUP: tl.constexpr, GATHERED: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    counts += n * CELLS
    values += n * (num_ranks + 3)
    gathered += n * 2 * GATHERED
    low, scale = 0.0, 1.0
    if HAS_RANKS:
        low, scale = _grid(image, height_in * width, IDENTITY, ROWS * COLUMNS, CELLS)
        _fill(counts, 0, CELLS)
    least, most, is_nan = _count(image, counts, low, scale, num_tiles, IDENTITY, ROWS, COLUMNS, HAS_RANKS, CELLS)
    valid = (is_nan == 0) & (least < most)
    tl.store(values + num_ranks, 0.0)
    tl.store(values + num_ranks + 1, least)
    tl.store(values + num_ranks + 2, most)
    if HAS_RANKS:
        if valid:
            groups += n * 5 * RANKS
            tl.debug_barrier()
            some, is_all = _find_groups(counts, groups, ranks, num_ranks, RANKS, CELLS, GROUP, GATHERED)
            if some > 0:
                cursors, in_order = groups + 4 * RANKS, gathered + GATHERED
                _gather(image, counts, cursors, gathered, low, scale, num_tiles, IDENTITY, ROWS, COLUMNS, CELLS)
                _put_in_order(counts, groups, gathered, in_order, some, low, scale, RANKS, CELLS)
                r = tl.arange(0, RANKS)
                begin = tl.load(groups + 3 * RANKS + r)
                at = begin + tl.load(ranks + r, mask=r < num_ranks, other=0) - tl.load(groups + RANKS + r)
                found = (r < num_ranks) & (begin >= 0)
                tl.store(values + r, tl.load(in_order + at, mask=found) + 0.0, mask=found)
            if not is_all:
                r, known, known_to = 0, least, 0
                while r < num_ranks:
                    if tl.load(groups + 3 * RANKS + r) < 0:
                        rank = tl.load(ranks + r)
                        cell, before = tl.load(groups + r), tl.load(groups + RANKS + r)
                        count = tl.load(groups + 2 * RANKS + r)
                        if rank >= known_to:  # else it is the value of the rank before, of which there are many
                            known, known_to = _search(
                                image, counts, gathered, cell, before, count, rank, low, scale, num_tiles,
                                IDENTITY, ROWS, COLUMNS, CELLS, GROUP,
                            )  # fmt: skip
                        tl.store(values + r, known)
                    r += 1
    tl.debug_barrier()
    m = tl.arange(0, NORMALIZATIONS)
    exists = m < num_normalizations
    offset = tl.load(values + tl.load(slots + 2 * m, mask=exists, other=0), mask=exists & valid, other=0)
    high = tl.load(values + tl.load(slots + 2 * m + 1, mask=exists, other=0), mask=exists & valid, other=0)
    divisor = high - offset
    usable = (tl.abs(offset) < float("inf")) & (tl.abs(divisor) < float("inf")) & (divisor > 0)
    out += (n * num_normalizations + m) * 2
    tl.store(out, tl.where(usable, offset, 0.0), mask=exists)
    tl.store(out + 1, tl.where(usable, divisor, 0.0), mask=exists)


@triton.jit
def _grid(image, num_sources, IDENTITY: tl.constexpr, BLOCK: tl.constexpr, CELLS: tl.constexpr):
    """Smallest value and cells per unit; any finite numbers with a positive scale are right, good ones are fast."""
    source, tiles, weights, height, width = image
    least = tl.full([BLOCK], float("inf"), tl.float64)
    most = tl.full([BLOCK], float("-inf"), tl.float64)
    begin = 0
    while begin < num_sources:
        at = begin + tl.arange(0, BLOCK)
        f = tl.load(source + at, mask=at < num_sources, other=float("inf")).to(tl.float64)
        finite = tl.abs(f) < float("inf")
        least = tl.where(finite & (f < least), f, least)
        most = tl.where(finite & (f > most), f, most)
        begin += BLOCK
    low = tl.min(least, axis=0)
    extent = tl.max(most, axis=0) - low
    if not IDENTITY:  # the vertical pass overshoots
        low -= extent / 8
        extent += extent / 4
    scale = CELLS / extent
    usable = (tl.abs(low) < float("inf")) & (extent < float("inf")) & (extent > 0) & (scale < float("inf"))
    return tl.where(usable, low, 0.0), tl.where(usable, scale, 1.0)


@triton.jit
def _cell(f, low, scale, CELLS: tl.constexpr):
    """Which cell; it never falls as f rises."""
    at = (f - low) * scale
    return tl.where(at > 0, tl.where(at < CELLS - 1, at, CELLS - 1), 0).to(tl.int32)


@triton.jit
def to_key(f):
    """uint64 numbers in the order of the float64 ones, -0.0 taken as 0.0."""
    bits = (f + 0.0).to(tl.int64, bitcast=True)
    return (bits ^ ((bits >> 63) | (-1 << 63))).to(tl.uint64, bitcast=True)


@triton.jit
def from_key(key):
    """What ``to_key`` was made of."""
    bits = key.to(tl.int64, bitcast=True)
    return (bits ^ ((~bits >> 63) | (-1 << 63))).to(tl.float64, bitcast=True)


@triton.jit
def _fill(counts, value, CELLS: tl.constexpr):
    """Set every cell; all threads have read what was there before, and will read what is there now."""
    PART: tl.constexpr = min(CELLS, 1024)
    begin = 0
    tl.debug_barrier()
    while begin < CELLS:
        tl.store(counts + begin + tl.arange(0, PART), tl.zeros([PART], tl.int32) + value)
        begin += PART
    tl.debug_barrier()


@triton.jit
def _accumulate(counts, CELLS: tl.constexpr):
    """Prefix sums in place: how many pixels there are up to the end of each cell."""
    PART: tl.constexpr = min(CELLS, 1024)
    before, begin = 0, 0
    tl.debug_barrier()
    while begin < CELLS:
        at = counts + begin + tl.arange(0, PART)
        sums = tl.cumsum(tl.load(at), axis=0) + before
        tl.debug_barrier()  # where there are more threads than sums, several read one, and one of them writes it
        tl.store(at, sums)
        before = tl.max(sums, axis=0)
        begin += PART
    tl.debug_barrier()


@triton.jit
def _count(
    image, counts, low, scale, num_tiles, IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    HAS_RANKS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """The first pass: minimum, maximum, whether there is a NaN, and how many pixels each cell has."""
    least = tl.full([COLUMNS], float("inf"), tl.float64)
    most = tl.full([COLUMNS], float("-inf"), tl.float64)
    nans = tl.zeros([COLUMNS], tl.int32)
    tile = 0
    while tile < num_tiles:
        f, exists, _ = pixels(image, tile, IDENTITY, ROWS, COLUMNS, TOGETHER=1)
        nans |= tl.max((exists & (f != f)).to(tl.int32), axis=ROW_AXIS)
        exists = exists & (f == f)
        least = tl.minimum(least, tl.min(tl.where(exists, f, float("inf")), axis=ROW_AXIS))
        most = tl.maximum(most, tl.max(tl.where(exists, f, float("-inf")), axis=ROW_AXIS))
        if HAS_RANKS:
            tl.atomic_add(counts + _cell(f, low, scale, CELLS), 1, mask=exists, sem="relaxed", scope="cta")
        tile += 1
    return tl.min(least, axis=0) + 0.0, tl.max(most, axis=0) + 0.0, tl.max(nans, axis=0)


@triton.jit
def _find_groups(
    counts, groups, ranks, num_ranks, RANKS: tl.constexpr, CELLS: tl.constexpr, GROUP: tl.constexpr,
    GATHERED: tl.constexpr,
):  # fmt: skip
    """Where each rank's pixels will be gathered: groups [cell, pixels before it, its pixels, begin or -1, cursor].

    ``counts`` becomes the group of each cell, -1 for those that are not gathered. Returns how many pixels are, and
    whether these are all ranks' pixels.
    """
    _accumulate(counts, CELLS)
    r = tl.arange(0, RANKS)
    exists = r < num_ranks
    cell, before, count = _cell_of_rank(counts, tl.load(ranks + r, mask=exists, other=0), CELLS)
    cell_before, _, _ = _cell_of_rank(counts, tl.load(ranks + r - 1, mask=exists & (r > 0), other=0), CELLS)
    is_first = exists & ((r == 0) | (cell != cell_before)) & (count <= GROUP)
    end = tl.cumsum(tl.where(is_first, count, 0), axis=0)
    begin = tl.where((count <= GROUP) & (end <= GATHERED), end - count, -1)
    tl.store(groups + r, cell)
    tl.store(groups + RANKS + r, before)
    tl.store(groups + 2 * RANKS + r, count)
    tl.store(groups + 3 * RANKS + r, begin)
    tl.store(groups + 4 * RANKS + r, begin)
    _fill(counts, -1, CELLS)
    tl.store(counts + cell, r, mask=is_first & (begin >= 0))
    tl.debug_barrier()
    is_gathered = begin >= 0
    return tl.max(tl.where(is_gathered, end, 0), axis=0), tl.min((is_gathered | ~exists).to(tl.int32), axis=0) > 0


@triton.jit
def _cell_of_rank(sums, rank, CELLS: tl.constexpr):
    """The first cell up to whose end there are more than ``rank`` pixels, the pixels before it and in it."""
    cell = rank * 0
    step: tl.constexpr = CELLS // 2
    for power in tl.static_range(0, 32):
        if (step >> power) > 0:
            short = tl.load(sums + cell + ((step >> power) - 1)) <= rank
            cell += tl.where(short, step >> power, 0)
    before = tl.load(sums + cell - 1, mask=cell > 0, other=0)
    return cell, before, tl.load(sums + cell) - before


@triton.jit
def _gather(
    image, group_of, cursors, gathered, low, scale, num_tiles,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """The second pass: the pixels of every cell that has a group, cell by cell."""
    tile = 0
    while tile < num_tiles:
        f, exists, _ = pixels(image, tile, IDENTITY, ROWS, COLUMNS, TOGETHER=1)
        group = tl.load(group_of + _cell(f, low, scale, CELLS), mask=exists, other=-1)
        wanted = group >= 0
        to = tl.atomic_add(cursors + group, 1, mask=wanted, sem="relaxed", scope="cta")
        tl.store(gathered + to, f, mask=wanted)
        tile += 1
    tl.debug_barrier()


@triton.jit
def _num_before(values, begin, count, at, f):
    """How many of the values [begin, begin + count) come before ``f``, the one at ``at``: each has its own place."""
    num, i, most = at * 0, 0, tl.max(count, axis=0)
    while i < most:
        other = tl.load(values + begin + i, mask=i < count, other=float("nan"))
        num += ((other < f) | ((other == f) & (begin + i < at))).to(tl.int32)
        i += 1
    return num


@triton.jit
def _put_in_order(
    group_of, groups, gathered, in_order, num, low, scale, RANKS: tl.constexpr, CELLS: tl.constexpr
):  # fmt: skip
    """The gathered pixels, in order within each group."""
    PART: tl.constexpr = 256
    part = 0
    while part < num:
        at = part + tl.arange(0, PART)
        f = tl.load(gathered + at, mask=at < num, other=0)
        group = tl.load(group_of + _cell(f, low, scale, CELLS), mask=at < num, other=0)
        begin = tl.load(groups + 3 * RANKS + group)
        count = tl.where(at < num, tl.load(groups + 2 * RANKS + group), 0)
        tl.store(in_order + begin + _num_before(gathered, begin, count, at, f), f, mask=at < num)
        part += PART
    tl.debug_barrier()


@triton.jit
def _select(values, before, count, rank, GROUP: tl.constexpr):
    """sorted(map)[rank] of the values that come after ``before`` others, and the first rank with another value."""
    at = tl.arange(0, GROUP)
    f = tl.load(values + at, mask=at < count, other=float("nan"))
    is_found = (at < count) & (_num_before(values, at * 0, at * 0 + count, at, f) == rank - before)
    value = tl.max(tl.where(is_found, f, float("-inf")), axis=0) + 0.0
    return value, before + tl.sum((f <= value).to(tl.int32), axis=0)


@triton.jit
def _search(
    image, counts, gathered, cell, before, count, rank, low, scale, num_tiles,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CELLS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """sorted(map)[rank] by radix from a cell with many pixels, and the first rank that may have another value."""
    first, last = to_key(tl.full([], float("-inf"), tl.float64)), to_key(tl.full([], float("inf"), tl.float64))
    first, last = _key_range(image, cell, first, last, low, scale, num_tiles, IDENTITY, ROWS, COLUMNS, CELLS)
    while (first < last) & (count > GROUP):
        shift = tl.zeros_like(first)
        while ((last - first) >> shift) >= CELLS:
            shift += 1
        _fill(counts, 0, CELLS)
        tile = 0
        while tile < num_tiles:
            f, exists, _ = pixels(image, tile, IDENTITY, ROWS, COLUMNS, TOGETHER=1)
            key = to_key(f)
            wanted = exists & (key >= first) & (key <= last)
            digit = tl.where(wanted, (key - first) >> shift, 0).to(tl.int32)
            tl.atomic_add(counts + digit, 1, mask=wanted, sem="relaxed", scope="cta")
            tile += 1
        _accumulate(counts, CELLS)
        digit, skipped, count = _cell_of_rank(counts, rank - before, CELLS)
        before += skipped
        first += digit.to(tl.uint64) << shift
        last = first + tl.minimum(last - first, ((tl.zeros_like(first) + 1) << shift) - 1)  # no overflow
        if count > GROUP:  # on a plateau the smallest and the largest key are one
            first, last = _key_range(image, cell, first, last, low, scale, num_tiles, IDENTITY, ROWS, COLUMNS, CELLS)
    value = from_key(first)
    known_to = before + count
    if first < last:
        tl.debug_barrier()
        tl.store(counts, 0)
        tl.debug_barrier()
        tile = 0
        while tile < num_tiles:
            f, exists, _ = pixels(image, tile, IDENTITY, ROWS, COLUMNS, TOGETHER=1)
            key = to_key(f)
            wanted = exists & (key >= first) & (key <= last)
            to = tl.atomic_add(counts + wanted.to(tl.int32) * 0, 1, mask=wanted, sem="relaxed", scope="cta")
            tl.store(gathered + to, f, mask=wanted)
            tile += 1
        tl.debug_barrier()
        value, known_to = _select(gathered, before, count, rank, GROUP)
    return value, known_to


@triton.jit
def _key_range(
    image, cell, first, last, low, scale, num_tiles,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """The smallest and the largest key of a cell's pixels, among those between two keys."""
    least, most = tl.zeros([COLUMNS], tl.uint64) + last, tl.zeros([COLUMNS], tl.uint64) + first
    tile = 0
    while tile < num_tiles:
        f, exists, _ = pixels(image, tile, IDENTITY, ROWS, COLUMNS, TOGETHER=1)
        key = to_key(f)
        exists = exists & (_cell(f, low, scale, CELLS) == cell) & (key >= first) & (key <= last)
        least = tl.minimum(least, tl.min(tl.where(exists, key, last), axis=ROW_AXIS))
        most = tl.maximum(most, tl.max(tl.where(exists, key, first), axis=ROW_AXIS))
        tile += 1
    return tl.min(least, axis=0), tl.max(most, axis=0)

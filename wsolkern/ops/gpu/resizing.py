"""Bicubic resize on the device, and the resized pixels as every other kernel here reads them.

In: maps [N, h, w] of any float dtype. Out: float64 [N, H, W], or what is needed to compute its pixels again.
Formula: as wsolkern/ops/resizing.py, bicubic convolution (Keys, IEEE TASSP 1981) with A = -0.75.

A resized map is 400 KB at 224 x 224 and is read several times. Only the horizontal pass is kept, the h wide rows of a
map (25 KB for a 14 x 14 CAM), and each kernel does the vertical pass again: four products and three sums a pixel.
Pixels are processed in tiles whose rows lie between the same four wide rows, so that these are loaded once a tile.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

from wsolkern.ops.gpu.launching import TRITON, constant, launch
from wsolkern.ops.taps import taps

TILE = 2048  # pixels of a tile at most: 16 a thread (of 128), so that float64 values stay in registers
WIDE_TILE = 256  # columns of a tile; more only where there are not rows enough
# The axes of a tile. Neighbours in a thread lie along the first axis in scattered accesses as Triton 3.6 compiles them,
# along the last one with 3.7; columns are that axis.
COLUMN_AXIS = tl.constexpr(int(TRITON >= (3, 7)))
ROW_AXIS = tl.constexpr(1 - COLUMN_AXIS.value)


@dataclass(frozen=True)
class Resized:
    """Maps at their evaluation size, as the arguments with which a kernel reads their pixels."""

    source: torch.Tensor
    """float64 [N, h, W], resized in width only; with ``identity`` the maps themselves, any float dtype [N, H, W]."""
    size: tuple[int, int]
    """H, W."""
    identity: bool
    """The maps have the evaluation size already."""
    tiles: torch.Tensor
    """int32 [tiles, 7]: first row, number of rows, the four rows of ``source`` they lie between, first column."""
    weights: torch.Tensor
    """float64 [H + rows, 4]: what these four rows count, and zeros that a last tile may read."""
    rows: int
    """Rows of a tile, a power of two."""
    columns: int
    """Columns of a tile, a power of two."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_tiles(self) -> int:
        """Tiles of one map."""
        return len(self.tiles)

    @property
    def arguments(self) -> tuple:
        """The first arguments of every kernel that reads pixels."""
        return self.source, self.tiles, self.weights, self.source.shape[1], *self.size

    @property
    def constants(self) -> dict:
        """The constants of every kernel that reads pixels."""
        return {"IDENTITY": self.identity, "ROWS": self.rows, "COLUMNS": self.columns}


def prepare(
    maps: torch.Tensor,  # any float dtype [N, h, w]
    size: tuple[int, int],  # H, W
) -> Resized:
    """The maps resized in width, ready for the kernels that read their pixels."""
    maps, (height, width) = maps.contiguous(), size
    identity = tuple(maps.shape[1:]) == tuple(size)
    rows = triton.next_power_of_2(height if identity else triton.cdiv(height, maps.shape[1]))
    columns = min(triton.next_power_of_2(width), max(WIDE_TILE, TILE // rows))
    rows = min(rows, TILE // columns)
    tiles, weights = _tiles(maps.shape[1], height, width, rows, columns, identity, maps.device)
    if not identity:
        maps = _widen(maps, width)
    return Resized(maps, (height, width), identity, tiles, weights, rows, columns)


def resize(
    maps: torch.Tensor,  # any float dtype [N, h, w]
    size: tuple[int, int],  # H, W
) -> torch.Tensor:  # float64 [N, H, W]
    """Bicubic resize, as ``wsolkern.ops.resize``."""
    resized = prepare(maps, size)
    out = torch.empty(len(maps), *size, dtype=torch.float64, device=maps.device)
    launch(_resize, (len(maps), resized.num_tiles), *resized.arguments, out, **resized.constants)
    return out


def _widen(
    maps: torch.Tensor,  # any float dtype [N, h, w]
    width: int,
) -> torch.Tensor:  # float64 [N, h, W]
    num, height, width_in = maps.shape
    wide = torch.empty(num, height, width, dtype=torch.float64, device=maps.device)
    index, weight = _column_taps(width_in, width, maps.device)
    block = min(1024, triton.next_power_of_2(height * width))
    grid = num, triton.cdiv(height * width, block)
    launch(_widen_rows, grid, maps, index, weight, wide, height, width_in, width, BLOCK=block)
    return wide


@cache
def _column_taps(num_in: int, num_out: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """int32 [4, num_out] and float64 [4, num_out]: the four source columns and what they count."""
    index, weight = taps(num_in, num_out)
    return constant(index.astype(np.int32), device), constant(weight, device)


@cache
def _tiles(
    num_in: int, height: int, width: int, rows: int, columns: int, identity: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """``Resized.tiles`` and ``Resized.weights``; those of an identity are not read but for where a tile begins."""
    index, weight = taps(num_in, height)
    edges = [0, *(np.flatnonzero((index[:, 1:] != index[:, :-1]).any(axis=0)) + 1).tolist(), height]
    if identity:
        edges = [0, height]
    tiles = [
        (row, min(rows, end - row), *index[:, row], column)
        for begin, end in zip(edges[:-1], edges[1:], strict=True)
        for row in range(begin, end, rows)
        for column in range(0, width, columns)
    ]
    weight = np.pad(weight.T, [(0, rows), (0, 0)])
    return constant(np.array(tiles, np.int32), device), constant(weight, device)


@triton.jit
def pixels(
    image, tile, IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TOGETHER: tl.constexpr = 2
):  # fmt: skip
    """One tile of a resized map: float64 values, which of them exist, and their index in the map.

    Its axes are those of COLUMN_AXIS and ROW_AXIS. A thread has TOGETHER neighbouring columns of each row. Scattered
    accesses of a tile, for which Triton chooses the order of axes and one column a thread, then find it in that layout
    already; before atomic updates TOGETHER must be 1 for that. Otherwise the tile goes through shared memory each time
    (`_affine` at 24 normalizations: 895 barriers a map, and 110 without).
    """
    source, tiles, weights, height, width = image
    about = tiles + tile * 7
    first, num_rows = tl.load(about), tl.load(about + 1)
    x = tl.multiple_of(tl.load(about + 6), COLUMNS) + tl.expand_dims(tl.arange(0, COLUMNS), ROW_AXIS)
    row = tl.expand_dims(tl.arange(0, ROWS), COLUMN_AXIS)
    y = first + row
    exists = (row < num_rows) & (x < width)
    at = y * width + x
    if IDENTITY:
        f = tl.load(together(source, at, COLUMNS, TOGETHER), mask=exists, other=0).to(tl.float64)
    else:
        weights += (first + tl.arange(0, ROWS)) * 4
        weight = tl.expand_dims(tl.load(weights), COLUMN_AXIS)
        f = _part_of_row(source, tl.load(about + 2), x, width, COLUMNS, TOGETHER) * weight
        for tap in tl.static_range(1, 4):
            value = _part_of_row(source, tl.load(about + 2 + tap), x, width, COLUMNS, TOGETHER)
            f += value * tl.expand_dims(tl.load(weights + tap), COLUMN_AXIS)
    return f, exists, at


@triton.jit
def together(base, at, COLUMNS: tl.constexpr, TOGETHER: tl.constexpr):
    """Pointers of a tile, said to be to TOGETHER neighbours each; of one column Triton takes no such hint.

    They are made here: a hint on pointers that were passed would be on a parameter, and lost with it.
    """
    pointers = base + at
    if COLUMNS > 1:
        if COLUMN_AXIS == 0:
            pointers = tl.max_contiguous(pointers, [TOGETHER, 1])
        else:
            pointers = tl.max_contiguous(pointers, [1, TOGETHER])
    return pointers


@triton.jit
def _part_of_row(source, row, x, width, COLUMNS: tl.constexpr, TOGETHER: tl.constexpr):
    return tl.load(together(source + row * width, x, COLUMNS, TOGETHER), mask=x < width, other=0)


@triton.jit
def map_of(source, tiles, weights, height_in, height, width, n):
    """Map n of a batch, as ``pixels`` takes it."""
    return source + n.to(tl.int64) * height_in * width, tiles, weights, height, width


@triton.jit
def _resize(
    source, tiles, weights, height_in, height, width, out,
    IDENTITY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image = map_of(source, tiles, weights, height_in, height, width, n)
    f, exists, at = pixels(image, tl.program_id(1), IDENTITY, ROWS, COLUMNS)
    tl.store(out + n * height * width + at, f, mask=exists)


@triton.jit
def _widen_rows(maps, index, weight, wide, height, width_in, width, BLOCK: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = at < height * width
    x = at % width
    row = maps + n * height * width_in + at // width * width_in
    f = tl.load(row + tl.load(index + x), mask=exists, other=0).to(tl.float64) * tl.load(weight + x)
    for tap in tl.static_range(1, 4):
        value = tl.load(row + tl.load(index + tap * width + x), mask=exists, other=0).to(tl.float64)
        f += value * tl.load(weight + tap * width + x)
    tl.store(wide + n * height * width + at, f, mask=exists)

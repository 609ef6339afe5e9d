"""Where a normalization's scores cut a map's own value axis, and the small integer image that all cuts share.

In: maps F at the evaluation size, float64 [N, H, W]. Out: cut points [N, M, K]; bins int16 [N, H, W].
Source: every normalization of arXiv 2107.13221 is a non-decreasing function S of F, rounding included, so
"S(F) reaches score s" is "F >= c" for one float64 number c.
"""

from typing import Any

import numpy as np

from wsolkern.errors import MapError
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.constants import LEVEL_SCORES, MAX_CUTS
from wsolkern.ops.inputs import Array, Normalizations
from wsolkern.ops.normalizing import affine_cpu, affine_reference
from wsolkern.ops.operation import Operation


def cut_points(
    maps: Array,
    normalizations: Normalizations,
    scores: Any = LEVEL_SCORES,
    *,
    backend: str = "auto",
) -> Array:
    """The smallest float64 F whose score S(F) is at least as large as each of ``scores``.

    Args:
        maps: Maps F at the evaluation size, float16, bfloat16, float32 or float64 [N, H, W].
        normalizations: What to normalize with, M of them; strings such as "ivr:0.45" are parsed.
        scores: Values in [0, 1], float64 [K]; by default the 255 at which an 8-bit score map changes.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        float64 [N, M, K] on the device of ``maps``; -inf for a score of 0, else +inf where there is no score map.

    Raises:
        ValueError: A shape, dtype, score or normalization is not as above.
        BackendUnavailable: A backend asked for by name cannot run here.
    """
    backend, run = _CUT_POINTS.choose(backend, maps)
    parsed = parse_all(normalizations)
    f = inputs.check_maps(maps, "maps", backend=backend)
    s = inputs.real_numbers(scores, "scores", "one axis of values in [0, 1]")
    if s.ndim != 1 or not ((s >= 0) & (s <= 1)).all():
        raise ValueError(f"scores: expected one axis of values in [0, 1], found {scores!r}")
    return inputs.same_kind(maps)(run(f, parsed, s))


def digitize(maps: Array, cuts: Any, *, backend: str = "auto") -> tuple[Array, Array]:
    """One integer image per map that decides ``F >= c`` for every cut c of that map.

    Args:
        maps: Maps F, float16, bfloat16, float32 or float64 [N, H, W].
        cuts: Values on the axis of F, float64 [N, ...], at most MAX_CUTS a map, in any order; infinite ones too.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        (bins, ranks), int16 [N, H, W] and int16 of the shape of ``cuts``, on the device of ``maps``:
        ``F >= c`` exactly where ``bins >= rank of c``. A bin is the number of cuts that the pixel reaches; NaN
        reaches none.

    Raises:
        ValueError: A shape or dtype is not as above, a cut is NaN, or there are too many.
        BackendUnavailable: A backend asked for by name cannot run here.
    """
    backend, run = _DIGITIZE.choose(backend, maps)
    f = inputs.check_maps(maps, "maps", backend=backend)
    c = inputs.real_numbers(cuts, "cuts", "numbers")
    if c.ndim < 2 or len(c) != len(f):
        raise ValueError(f"cuts: expected shape ({len(f)}, ...), one row a map, found {c.shape}")
    flat = c.reshape(len(c), int(np.prod(c.shape[1:])))
    if flat.shape[1] > MAX_CUTS:
        raise ValueError(f"cuts: expected at most {MAX_CUTS} a map, found {flat.shape[1]}")
    if np.isnan(flat).any():
        raise MapError("cuts", np.argwhere(np.isnan(flat))[0][0], "expected numbers, found NaN")
    bins, ranks = run(f, flat)
    kind = inputs.same_kind(maps)
    return kind(bins), kind(ranks.reshape(c.shape))


def cut_points_reference(
    affine: np.ndarray,  # float64 [R, 2]: offset, divisor
    scores: np.ndarray,  # float64 [K]
) -> np.ndarray:  # float64 [R, K]
    """Bisection over all float64 numbers, in the order of their bit patterns, with the affine formula itself."""
    offset, divisor = affine[:, :1], affine[:, 1:]

    def reaches(pattern: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return np.clip((_float(pattern) - offset) / divisor, 0, 1) >= scores

    infinity = np.float64(np.inf).view(np.int64)
    low = np.full((len(affine), len(scores)), -infinity)  # does not reach
    high = np.full_like(low, infinity)  # reaches
    for _ in range(64):
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        enough = reaches(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.select([scores <= 0, divisor > 0], [-np.inf, _float(high)], np.inf)


def digitize_reference(
    maps: np.ndarray,  # float64 [N, H, W]
    cuts: np.ndarray,  # float64 [N, C]
) -> tuple[np.ndarray, np.ndarray]:  # int16 [N, H, W], int16 [N, C]
    """A binary search in each map's sorted cuts."""
    bins, ranks = np.empty(maps.shape, np.int16), np.empty(cuts.shape, np.int16)
    for index, (f, c) in enumerate(zip(maps, cuts, strict=True)):
        in_order = np.sort(c)
        bins[index] = np.where(np.isnan(f), 0, np.searchsorted(in_order, f, side="right"))
        ranks[index] = np.searchsorted(in_order, c, side="right")
    return bins, ranks


def _float(pattern: np.ndarray) -> Any:
    """The float64 number of an int64, in the same order; negative ones are minus the bits of the absolute value."""
    return np.sign(pattern) * np.abs(pattern).view(np.float64)


def _map_cut_points_reference(
    maps: np.ndarray, normalizations: tuple[Normalization, ...], scores: np.ndarray
) -> np.ndarray:
    affine = affine_reference(maps, normalizations)
    return cut_points_reference(affine.reshape(-1, 2), scores).reshape(*affine.shape[:2], len(scores))


def _map_cut_points_cpu(maps: np.ndarray, normalizations: tuple[Normalization, ...], scores: np.ndarray) -> np.ndarray:
    affine = affine_cpu(maps, normalizations)
    out = np.empty((*affine.shape[:2], len(scores)))
    native().cut_points(affine.reshape(-1, 2), scores, out.reshape(-1, len(scores)), num_threads())
    return out


def _digitize_cpu(maps: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bins, ranks = np.empty(maps.shape, np.int16), np.empty(cuts.shape, np.int16)
    native().digitize(maps, cuts, bins, ranks, num_threads())
    return bins, ranks


_CUT_POINTS = Operation(_map_cut_points_reference, _map_cut_points_cpu, "cut_points")
_DIGITIZE = Operation(digitize_reference, _digitize_cpu, "digitize")

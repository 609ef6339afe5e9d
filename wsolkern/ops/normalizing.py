"""Turn class activation maps into score maps.

In: CAMs [N, h, w], any sign. Out: score maps, float64 [N, H, W] in [0, 1]; or the two numbers per map that define them.
Formula: Kim et al., arXiv 2107.13221, equations 3 (min-max), 4 (max), 5 (PaS) and 6 (IVR).
"""

from typing import Any

import numpy as np

from wsolkern.normalization import RANK_EXTREME, RANK_ZERO, Normalization, parse_all
from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.inputs import Array, Normalizations
from wsolkern.ops.operation import Operation
from wsolkern.ops.resizing import resize_cpu, resize_reference


def normalize(
    cams: Array, normalization: str | Normalization, size: tuple[int, int] | None = None, *, backend: str = "auto"
) -> Array:
    """Score maps of raw class activation maps, under one normalization.

    Args:
        cams: Class activation maps, float16, bfloat16, float32 or float64 [N, h, w] or [h, w].
        normalization: Such as "minmax", "max", "pas:0.9", "ivr:0.45" or "ivr:0.45+pas:0.9".
        size: Height and width of the score maps, in pixels; None keeps those of ``cams``.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        float64 [N, H, W], or [H, W] for a single map, on the device of ``cams``. A map that has no score map (NaN,
        constant, or 0/0 in the formula) becomes zeros; ``affine`` tells which ones did.

    Raises:
        ValueError: A shape, dtype, size or normalization is not as above.
        BackendUnavailable: A backend asked for by name cannot run here.

    Source: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    backend, run = _NORMALIZE.choose(backend, cams)
    parsed = Normalization.parse(normalization)
    maps = inputs.check_maps(cams, "cams", (2, 3), backend)
    size = tuple(maps.shape[1:]) if size is None else inputs.check_size(size)
    scores = run(maps, parsed, size)
    return inputs.same_kind(cams)(scores if cams.ndim == 3 else scores[0])


def affine(maps: Array, normalizations: Normalizations, *, backend: str = "auto") -> Array:
    """The two numbers per map and normalization in ``S = clip((F - offset) / divisor, 0, 1)``.

    Args:
        maps: Maps F at the evaluation size, float16, bfloat16, float32 or float64 [N, H, W].
        normalizations: What to normalize with, M of them; strings such as "ivr:0.45" are parsed.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        float64 [N, M, 2] on the device of ``maps``: offset, divisor. Both are 0 where there is no score map.

    Raises:
        ValueError: A shape, dtype or normalization is not as above.
        BackendUnavailable: A backend asked for by name cannot run here.
    """
    backend, run = _AFFINE.choose(backend, maps)
    parsed = parse_all(normalizations)
    return inputs.same_kind(maps)(run(inputs.check_maps(maps, "maps", backend=backend), parsed))


def normalize_reference(
    maps: np.ndarray,  # float64 [N, H, W]
    normalization: Normalization,
) -> tuple[np.ndarray, np.ndarray]:  # float64 [N, H, W], bool [N]: score maps, and which of them are degenerate
    """The published order of operations, map by map."""
    scores, degenerate = np.zeros_like(maps), np.zeros(len(maps), bool)
    for index, f in enumerate(maps):
        degenerate[index] = np.isnan(f).any() or f.min() == f.max()
        if not degenerate[index]:
            s = _published_formula(f, normalization)
            degenerate[index] = np.isnan(s).any()
            scores[index] = 0 if degenerate[index] else s
    return scores, degenerate


def affine_reference(
    maps: np.ndarray,  # float64 [N, H, W]
    normalizations: tuple[Normalization, ...],
) -> np.ndarray:  # float64 [N, M, 2]
    """The table in wsolkern/normalization.py, map by map."""
    out = np.zeros((len(maps), len(normalizations), 2))
    for index, f in enumerate(maps):
        in_order = np.sort(f, axis=None)
        if np.isnan(in_order[-1]) or in_order[0] == in_order[-1]:
            continue
        for m, normalization in enumerate(normalizations):
            offset_rank, divisor_rank = normalization.ranks(f.size)
            offset = {RANK_ZERO: 0.0, RANK_EXTREME: in_order[0]}.get(offset_rank, in_order[offset_rank])
            with np.errstate(all="ignore"):
                divisor = in_order[-1 if divisor_rank == RANK_EXTREME else divisor_rank] - offset
            if np.isfinite(offset) and np.isfinite(divisor) and divisor > 0:
                out[index, m] = offset, divisor
    return out


def affine_cpu(
    maps: np.ndarray,  # float64 [N, H, W]
    normalizations: tuple[Normalization, ...],
) -> np.ndarray:  # float64 [N, M, 2]
    """By the native core."""
    out = np.empty((len(maps), len(normalizations), 2))
    native().affine(maps, inputs.ranks(normalizations, maps.shape[1] * maps.shape[2]), out, num_threads())
    return out


def _normalized_reference(maps: np.ndarray, normalization: Normalization, size: tuple[int, int]) -> np.ndarray:
    return normalize_reference(resize_reference(maps, size), normalization)[0]


def _normalized_cpu(maps: np.ndarray, normalization: Normalization, size: tuple[int, int]) -> np.ndarray:
    resized = maps if maps.shape[1:] == tuple(size) else resize_cpu(maps, size)
    scores = np.empty_like(resized)
    native().normalize(resized, affine_cpu(resized, (normalization,))[:, 0], scores, num_threads())
    return scores


def _published_formula(f: Any, normalization: Normalization) -> Any:
    """The score map of a map that is neither NaN nor constant; NaN where the formula comes to 0/0 or inf/inf."""
    n = f.size
    with np.errstate(all="ignore"):
        if normalization.name == "minmax":
            f = f - np.min(f)
            return f / np.max(f)
        if normalization.name == "max":
            f = np.maximum(0, f)
            return f / np.max(f)
        if normalization.name == "pas":
            f = f - np.min(f)
            return np.minimum(1, f / np.sort(f, axis=None)[int(n * (normalization.pas or 0))])
        f = np.maximum(0, f - np.sort(f, axis=None)[int(n * (normalization.ivr or 0))])
        if normalization.name == "ivr":
            return f / np.max(f)
        return np.minimum(1, f / np.sort(f, axis=None)[int(n * (normalization.pas or 0))])


_NORMALIZE = Operation(_normalized_reference, _normalized_cpu, "normalize")
_AFFINE = Operation(affine_reference, affine_cpu, "affine")

"""How much of each score map's sum lies on the object: the energy pointing game.

In: maps at the evaluation size, what makes score maps of them, which pixels are the object's. Out: fractions.
Source: Wang et al., Score-CAM, arXiv 1910.01279. A score counts as ``int(score * 2**36)``, so that sums are integers:
the same for any order and number of threads.
"""

import numpy as np

from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.inputs import Array
from wsolkern.ops.operation import Operation

NOT_COUNTED, BESIDE, ON_OBJECT = 0, 1, 2
"""What a pixel is."""
_SCALE = float(1 << 36)  # of a score in the integers whose sums are energies


def energies(maps: Array, affine: Array, parts: np.ndarray, *, backend: str = "auto") -> np.ndarray:
    """The part of each score map's sum that lies on the object, for every normalization.

    Args:
        maps: float64 [N, H, W].
        affine: What makes scores of them, ``clip((map - offset) / divisor, 0, 1)``: float64 [N, M, 2], offset and
            divisor, both 0 where there is no score map; as from :func:`wsolkern.ops.affine`.
        parts: What each pixel is, uint8 [N, H, W]: NOT_COUNTED, BESIDE or ON_OBJECT.
        backend: "auto", "reference" or "cpu". There is no kernel for a device.

    Returns:
        float64 [M, N], fractions; 0 for a score map whose counted scores are all zero.

    Raises:
        ValueError: A shape or dtype is not as above.
        BackendUnavailable: A backend asked for by name cannot run here; always for "cuda".
    """
    _, run = _ENERGIES.choose(backend, maps)
    found, how = inputs.check_maps(maps, "maps"), np.ascontiguousarray(inputs.on_host(affine, "affine"), np.float64)
    if how.shape != (len(found), how.shape[1] if how.ndim > 1 else 0, 2):
        raise ValueError(f"affine: expected float64 [{len(found)}, M, 2], found {how.shape}")
    if parts.dtype != np.uint8 or parts.shape != found.shape:
        raise ValueError(f"parts: expected uint8 {found.shape}, found {parts.dtype} {parts.shape}")
    on_object, total = np.moveaxis(run(found, how, np.ascontiguousarray(parts)), 2, 0)
    return np.where(total > 0, on_object / np.maximum(total, 1), 0.0)


def energies_reference(
    maps: np.ndarray,  # float64 [N, H, W]
    affine: np.ndarray,  # float64 [N, M, 2]
    parts: np.ndarray,  # uint8 [N, H, W]
) -> np.ndarray:  # int64 [M, N, 2]: the sums on the object, and of all pixels that count
    """Map by map and normalization by normalization."""
    sums = np.zeros((affine.shape[1], len(maps), 2), np.int64)
    for n, (each, kind) in enumerate(zip(maps, parts, strict=True)):
        for m, (offset, divisor) in enumerate(affine[n].tolist()):
            if divisor != 0:
                whole = (np.clip((each - offset) / divisor, 0, 1) * _SCALE).astype(np.int64)
                sums[m, n] = whole[kind == ON_OBJECT].sum(), whole[kind != NOT_COUNTED].sum()
    return sums


def energies_cpu(maps: np.ndarray, affine: np.ndarray, parts: np.ndarray) -> np.ndarray:  # int64 [M, N, 2]
    """By the native core."""
    sums = np.empty((affine.shape[1], len(maps), 2), np.int64)
    native().energies(maps, affine, parts, sums, num_threads())
    return sums


_ENERGIES = Operation(energies_reference, energies_cpu, None)

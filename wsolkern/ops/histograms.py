"""How the scores of object pixels and of background pixels are distributed: the counts that PxAP is made of.

In: CAMs [N, h, w] with normalizations, or score maps, and masks. Out: histograms int64 [M, N, 2, T + 2].
Source: PxAP, Choe et al., arXiv 2007.04178, section 4.3; bins follow the rules of ``numpy.histogram``.
"""

from typing import Any

import numpy as np

from wsolkern.normalization import Normalization
from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.constants import DEFAULT_THRESHOLDS
from wsolkern.ops.inputs import Array, Normalizations
from wsolkern.ops.normalizing import normalize_reference
from wsolkern.ops.operation import Operation
from wsolkern.ops.resizing import resize_reference
from wsolkern.ops.sharing import in_groups


def pixel_histograms(
    cams: Array,
    masks: Array,
    normalizations: Normalizations | None,
    thresholds: Any = DEFAULT_THRESHOLDS,
    *,
    size: tuple[int, int] = (224, 224),
    backend: str = "auto",
) -> Array:
    """Histograms of the scores under a mask and outside it, for every normalization at once.

    Args:
        cams: Raw class activation maps, float16, bfloat16, float32 or float64 [N, h, w].
        masks: uint8 [N, H, W]: 1 object, 0 background, 255 ignore.
        normalizations: What to normalize with, M of them; strings such as "ivr:0.45" are parsed. None: ``cams`` are
            score maps in [0, 1] already, ``size`` is theirs and M is 1.
        thresholds: Lower edges of the bins, float64 [T], in [0, 1), not decreasing.
        size: Height and width, in pixels, that CAMs are resized to.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        int64 [M, N, 2, T + 2] on the device of ``cams``: object pixels, background pixels, per bin. The bins are
        [t0, t1), [t1, t2), ..., [t_last, 1), [1, 2), [2, 3]; scores below t0 are in none.

    Raises:
        ValueError: A shape, dtype, mask value or threshold is not as above; the message names the map and the value.
        BackendUnavailable: A backend asked for by name cannot run here; the message says what is missing.

    Source: Choe et al., arXiv 2007.04178, section 4.3.
    """
    return _evaluate(cams, masks, normalizations, thresholds, size, backend, summed=False)[0]


def count_pixels(
    cams: Array,
    masks: Array,
    normalizations: Normalizations | None,
    thresholds: Any = DEFAULT_THRESHOLDS,
    *,
    size: tuple[int, int] = (224, 224),
    backend: str = "auto",
    groups: Array | None = None,
    num_groups: int = 1,
) -> tuple[Array, Array]:
    """``pixel_histograms`` summed over the maps, and which maps have no score map.

    Args:
        As for ``pixel_histograms``, and
        groups, num_groups: As for :func:`wsolkern.ops.count_box_hits`.

    Returns:
        (counts, degenerate), int64 [M, 2, T + 2] and bool [M, N] on the device of ``cams``; with groups the counts have
        an axis G before all others. Score maps given as such are never degenerate.

    Raises:
        As ``pixel_histograms``, and for groups that are not N integers.
    """
    grouped = None if groups is None else (groups, num_groups)
    return _evaluate(cams, masks, normalizations, thresholds, size, backend, summed=True, grouped=grouped)


def pixel_histograms_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    masks: np.ndarray,  # uint8 [N, H, W]
    normalizations: tuple[Normalization, ...] | None,
    thresholds: np.ndarray,  # float64 [T]
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # int64 [M, N, 2, T + 2], bool [M, N]: histograms, and which maps are degenerate
    """``numpy.histogram`` of every score map."""
    if normalizations:
        score_maps = [normalize_reference(resize_reference(maps, size), each) for each in normalizations]
    else:
        score_maps = [(maps, np.zeros(len(maps), bool))]
    edges = np.append(thresholds, [1, 2, 3])
    out = np.zeros((len(score_maps), len(maps), 2, len(edges) - 1), np.int64)
    for m, (scores, _) in enumerate(score_maps):
        for n, (score_map, mask) in enumerate(zip(scores, masks, strict=True)):
            out[m, n, 0] = np.histogram(score_map[mask == 1], edges)[0]
            out[m, n, 1] = np.histogram(score_map[mask == 0], edges)[0]
    return out, np.stack([degenerate for _, degenerate in score_maps])


def _evaluate(
    cams: Array,
    masks: Array,
    normalizations: Normalizations | None,
    thresholds: Any,
    size: Any,
    backend: str,
    *,
    summed: bool,
    grouped: tuple[Array, int] | None = None,
) -> tuple[Array, Array]:
    """Checks, and runs a backend; returns histograms, summed or not, and which maps are degenerate."""
    backend, run = _PIXEL_HISTOGRAMS.choose(backend, cams)
    maps, parsed, size = inputs.check_evaluation(cams, normalizations, size, backend)
    masks = inputs.check_masks(masks, len(maps), size)
    edges = inputs.check_thresholds(thresholds, sorted_=True)
    if backend != "cpu" and not parsed:
        inputs.check_scores(maps, "cams")
    if grouped is None:
        counts, degenerate = run(maps, masks, parsed, edges, size, summed)
    else:

        def run_some(members: np.ndarray | None, is_summed: bool) -> Any:
            some = (maps, masks) if members is None else (maps[members], masks[members])
            return run(*some, parsed, edges, size, is_summed)

        counts, degenerate = in_groups(run_some, backend, maps, *grouped, are_scores=not parsed, axis=1)
    kind = inputs.same_kind(cams)
    return kind(counts), kind(degenerate)


def _counted_reference(
    maps: Any,
    masks: Any,
    normalizations: tuple[Normalization, ...],
    thresholds: Any,
    size: tuple[int, int],
    summed: bool,
) -> tuple[Any, Any]:
    counts, degenerate = pixel_histograms_reference(maps, masks, normalizations, thresholds, size)
    return counts.sum(axis=1) if summed else counts, degenerate


def _counted_cpu(
    maps: Any,
    masks: Any,
    normalizations: tuple[Normalization, ...],
    thresholds: Any,
    size: tuple[int, int],
    summed: bool,
) -> tuple[Any, Any]:
    ranks = inputs.ranks(normalizations, size[0] * size[1])
    num, num_bins = max(len(ranks), 1), len(thresholds) + 2
    degenerate = np.zeros((num, len(maps)), np.uint8)
    each = None if summed else np.empty((num, len(maps), 2, num_bins), np.int64)
    total = np.zeros((num, 2, num_bins), np.int64) if summed else None
    with inputs.naming_scores(maps, "cams", are_scores=not normalizations):
        native().pixel_histograms(maps, size, ranks, thresholds, masks, each, total, degenerate, num_threads())
    return total if summed else each, degenerate.view(bool)


_PIXEL_HISTOGRAMS = Operation(_counted_reference, _counted_cpu, "pixel_histograms")

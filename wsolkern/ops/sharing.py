"""What several have in common: boxes of levels as those of thresholds, and the counts of several groups of maps.

In: boxes by map and level, the group of each map. Out: boxes by map and threshold, counts by group.
Source: Choe et al., arXiv 2007.04178, section 4.2: a threshold is a fraction of a map's maximum level, so that many
come to the same level.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from wsolkern.errors import ArgumentError
from wsolkern.ops import inputs
from wsolkern.ops.inputs import Array


def per_threshold(
    boxes: Any,  # int32 [B, 4], of all maps and levels
    counts: np.ndarray,  # int64 [N, 255]: how many each level has
    max_levels: np.ndarray,  # [N]
    thresholds: np.ndarray,  # float64 [T]
) -> list[list[Any]]:  # per map and threshold
    """Boxes of levels as boxes of thresholds; those that come to the same level share one array."""
    ends = np.cumsum(counts).reshape(counts.shape)
    result = []
    for begins, end, max_level in zip(ends - counts, ends, max_levels, strict=True):
        levels = (thresholds * max_level).astype(np.int64).tolist()
        per_level = {level: boxes[begins[level] : end[level]] for level in set(levels)}
        result.append([per_level[level] for level in levels])
    return result


def in_groups(
    run: Callable[[np.ndarray | None, bool], tuple[Any, Any]],
    backend: str,
    maps: Any,  # [N, h, w]
    groups: Array,  # [N]
    num_groups: int,
    *,
    are_scores: bool,
    axis: int,
) -> tuple[Any, Any]:  # counts with an axis G before all others, bool [M, N]
    """The counts of each group: of few groups on a host the maps of one after the other; else what is found of all.

    Args:
        run: Given which maps, bool [N] or None for all, and whether to sum over them: counts, and which are degenerate.
        backend, maps, groups, num_groups: As the operation has them.
        are_scores: Whether the maps are score maps.
        axis: The maps' axis of counts that are not summed.
    """
    if backend == "cuda":  # which is not waited for
        on_device = inputs.to_device(inputs.check_integers("groups", groups, len(maps)), maps.device)
        each, degenerate = run(None, False)
        shape = [1] * each.ndim
        shape[axis] = len(maps)
        sums = [(each * (on_device == g).view(shape)).sum(axis) for g in range(num_groups)]
        return sys.modules["torch"].stack(sums), degenerate
    groups = checked_groups(groups, len(maps), num_groups)
    # 64 maps of 14x14, 24 normalizations, us a map: 3 groups in turn 389, at once 486; 64 groups 1,575 and 608.
    if len(maps) < 8 * num_groups:
        each, degenerate = run(None, False)
        return sums_in_groups(each, groups, num_groups, axis), degenerate
    counts, degenerate = [], None
    for g in range(num_groups):
        members = groups == g
        with inputs.naming_scores(maps, "cams", are_scores=are_scores):  # by their place among all maps
            counted, found = run(None if members.all() else members, True)
        counts.append(counted)
        if degenerate is None:
            degenerate = np.zeros((len(found), len(maps)), bool)
        degenerate[:, members] = found
    return np.stack(counts), degenerate


def checked_groups(groups: Array, num_maps: int, num_groups: int) -> np.ndarray:
    """Groups of maps on the host, int64 [N].

    Raises:
        ArgumentError: They are not N integers in [0, G).
    """
    found = np.asarray(inputs.on_host(inputs.check_integers("groups", groups, num_maps), "groups"), np.int64)
    if wrong := [each for each in found.tolist() if not 0 <= each < num_groups]:
        raise ArgumentError("groups", f"expected integers in [0, {num_groups}), found {wrong[0]}")
    return found


def sums_in_groups(each: np.ndarray, groups: np.ndarray, num_groups: int, axis: int) -> np.ndarray:
    """The sums over the maps of each group, int64 with an axis G before all others.

    Args:
        each: What each map adds, bool or int64, the maps along ``axis``.
        groups: Numbers of their groups, integers [N] in [0, G).
        num_groups, axis: See there.
    """
    sums = np.zeros((num_groups, *each.shape[:axis], *each.shape[axis + 1 :]), np.int64)
    for group in np.unique(groups).tolist():
        places = np.flatnonzero(groups == group)
        # Hits are added as bytes, as many as these can hold: 20 times as fast as in 64 bits.
        most, dtype = (255, np.uint8) if each.dtype == np.bool_ else (len(places), np.int64)
        for start in range(0, len(places), most):
            some = each.take(places[start : start + most], axis=axis)
            sums[group] += some.view(dtype).sum(axis=axis, dtype=dtype)
    return sums

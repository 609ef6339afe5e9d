"""Which thresholds localize the object, how well they do, and the boxes themselves.

In: CAMs [N, h, w] with normalizations, or score maps; ground-truth boxes. Out: hits [M, N, D, T], IoUs [M, N, T],
boxes.
Source: MaxBoxAcc and MaxBoxAccV2, Choe et al., arXiv 2007.04178, section 4.2; contours as OpenCV's findContours.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.normalization import Normalization
from wsolkern.ops import inputs
from wsolkern.ops.backends import native, num_threads
from wsolkern.ops.constants import CONTOURS, DEFAULT_THRESHOLDS, MAX_IOU_THRESHOLDS
from wsolkern.ops.inputs import Array, Normalizations
from wsolkern.ops.normalizing import normalize_reference
from wsolkern.ops.operation import Operation
from wsolkern.ops.resizing import resize_reference
from wsolkern.ops.rules import backend_for, check_num_thresholds, rule_hits, rule_ious, rule_localize
from wsolkern.ops.sharing import in_groups, per_threshold


def box_hits(
    cams: Array,
    boxes: Sequence[Any],
    normalizations: Normalizations | None,
    thresholds: Any = DEFAULT_THRESHOLDS,
    iou_thresholds: Any = defaults.IOU_THRESHOLDS,
    *,
    contours: str = "all",
    size: tuple[int, int] = (224, 224),
    rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Array:
    """Which thresholds localize the object, for every normalization at once.

    Args:
        cams: Raw class activation maps, float16, bfloat16, float32 or float64 [N, h, w].
        boxes: Ground truth per map, integers [N_i, 4] each, x0 y0 x1 y1 in pixels of the resized map, inclusive.
        normalizations: What to normalize with, M of them; strings such as "ivr:0.45" are parsed. None: ``cams`` are
            score maps in [0, 1] already, ``size`` is theirs and M is 1.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1), in any order.
        iou_thresholds: Fractions in (0, 1], D of them.
        contours: "largest" (MaxBoxAcc), "all" (MaxBoxAccV2) or "both" (one pass, a leading axis of 2 in that order).
        size: Height and width, in pixels, that CAMs are resized to.
        rule: The box rule, or the name of a published one such as "ts-cam"; "choe" is the field's.
        backend: "auto", "reference", "cpu" or "cuda"; box rules other than "choe" run on the CPU.

    Returns:
        bool [M, N, D, T] on the device of ``cams``; bool [2, M, N, D, T] for both.

    Raises:
        ValueError: A shape, dtype, box or threshold is not as above; the message names the map and the value.
        BackendUnavailable: A backend asked for by name cannot run here; the message says what is missing.

    Source: Choe et al., arXiv 2007.04178, section 4.2; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    hits, _ = _evaluate(
        cams, boxes, normalizations, thresholds, iou_thresholds, contours, size, rule, backend, summed=False
    )
    return hits


def count_box_hits(
    cams: Array,
    boxes: Sequence[Any],
    normalizations: Normalizations | None,
    thresholds: Any = DEFAULT_THRESHOLDS,
    iou_thresholds: Any = defaults.IOU_THRESHOLDS,
    *,
    contours: str = "all",
    size: tuple[int, int] = (224, 224),
    rule: str | BoxRule = "choe",
    backend: str = "auto",
    groups: Array | None = None,
    num_groups: int = 1,
) -> tuple[Array, Array]:
    """``box_hits`` summed over the maps, and which maps have no score map.

    Args:
        As for ``box_hits``, and
        groups: The group that each map is summed in, integers [N] in [0, G); None: all maps are summed. Numbers on a
            device are not read by the host: a map of another one is summed in no group.
        num_groups: How many groups there are, G.

    Returns:
        (counts, degenerate), int64 [M, D, T] and bool [M, N] on the device of ``cams``; for both contours the counts
        are int64 [2, M, D, T], and with groups they have an axis G before all others. Score maps given as such are
        never degenerate.

    Raises:
        As ``box_hits``, and for groups that are not N integers.
    """
    how = thresholds, iou_thresholds, contours, size, rule, backend
    if groups is None:
        return _evaluate(cams, boxes, normalizations, *how, summed=True)
    return _evaluate(cams, boxes, normalizations, *how, summed=True, grouped=(groups, num_groups))


def box_ious(
    cams: Array,
    boxes: Sequence[Any],
    normalizations: Normalizations | None,
    thresholds: Any = DEFAULT_THRESHOLDS,
    *,
    contours: str = "all",
    size: tuple[int, int] = (224, 224),
    rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Array:
    """How well each threshold localizes the object, for every normalization at once.

    The best IoU of any contour's box with any ground-truth box: where that reaches delta is ``box_hits`` for delta.

    Args:
        cams, boxes, normalizations, thresholds, contours, size, rule: As for ``box_hits``.
        backend: "auto", "reference" or "cpu". There is no kernel for a device: what is there is computed on the host.

    Returns:
        float64 [M, N, T] on the device of ``cams``, fractions; [2, M, N, T] for both contours. Where nothing is above a
        threshold it is the IoU of the rule's empty box, 0 0 0 0 for "choe".

    Raises:
        ValueError: As ``box_hits``.
        BackendUnavailable: As ``box_hits``; always for "cuda".

    Source: Choe et al., arXiv 2007.04178, section 4.2; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    rule = BoxRule.parse(rule)
    backend, run = _chosen(_BOX_IOUS, rule_ious, rule, backend, cams)
    maps, parsed, size = inputs.check_evaluation(cams, normalizations, size, backend)
    rows, offsets = inputs.check_boxes(boxes, len(maps))
    fractions = inputs.check_thresholds(thresholds)
    inputs.check_contours(contours)
    check_num_thresholds(rule, fractions)
    if (backend != "cpu" or rule != CHOE) and not parsed:
        inputs.check_scores(maps, "cams")
    ious, _ = run(maps, rows, offsets, parsed, fractions, contours, size)
    return inputs.same_kind(cams)(ious if contours == "both" else ious[0])


class Localization(NamedTuple):
    """Where the object is, for each normalization, map and threshold; arrays of the kind of the CAMs."""

    boxes: Array
    """int32 [M, N, T, 4]: x0 y0 x1 y1 of the largest contour (MaxBoxAcc's), in pixels of the resized map. By rule
    "choe" x1 and y1 are one past the last pixel unless the frame clips them, and it is 0 0 0 0 where nothing is above
    the threshold; other rules say it in ``far_edge`` and ``empty``."""
    num_contours: Array
    """int32 [M, N, T]: contours at the threshold, outer borders and, if the rule counts them, those of holes; 0 where
    nothing is above it."""
    degenerate: Array
    """bool [M, N]: maps that have no score map, as ``count_box_hits`` says."""


def localize(
    cams: Array,
    normalizations: Normalizations | None,
    thresholds: Any,
    *,
    size: tuple[int, int] = (224, 224),
    rule: str | BoxRule = "choe",
    backend: str = "auto",
) -> Localization:
    """The box of the largest contour at each threshold, for every normalization at once.

    Args:
        cams: Raw class activation maps, float16, bfloat16, float32 or float64 [N, h, w].
        normalizations: What to normalize with, M of them; strings such as "ivr:0.45" are parsed. None: ``cams`` are
            score maps in [0, 1] already, ``size`` is theirs and M is 1.
        thresholds: Fractions of a map's maximum level, in [0, 1), in any order; float64 [T], or [M, T]: each
            normalization its own.
        size: Height and width, in pixels, that CAMs are resized to.
        rule: The box rule, or the name of a published one such as "ts-cam"; "choe" is the field's.
        backend: "auto", "reference" or "cpu". There is no kernel for a device: what is there is computed on the host.

    Returns:
        A :class:`Localization`, on the device of ``cams``.

    Raises:
        ValueError: A shape, dtype or threshold is not as above; the message names the map and the value.
        BackendUnavailable: A backend asked for by name cannot run here; always for "cuda".

    Source: Choe et al., arXiv 2007.04178, section 4.2; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    rule = BoxRule.parse(rule)
    backend, run = _chosen(_LOCALIZE, rule_localize, rule, backend, cams)
    maps, parsed, size = inputs.check_evaluation(cams, normalizations, size, backend)
    fractions = inputs.check_thresholds_of_each(thresholds, max(len(parsed), 1))
    check_num_thresholds(rule, fractions[0])
    if (backend != "cpu" or rule != CHOE) and not parsed:
        inputs.check_scores(maps, "cams")
    return Localization(*map(inputs.same_kind(cams), run(maps, parsed, fractions, size)))


def threshold_boxes(
    score_maps: Array,
    thresholds: Any = DEFAULT_THRESHOLDS,
    *,
    contours: str = "all",
    backend: str = "auto",
) -> list[list[Array]]:
    """The boxes that each threshold finds in each score map.

    Args:
        score_maps: float16, bfloat16, float32 or float64 [N, H, W], in [0, 1].
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1), in any order.
        contours: "largest" (the one box of MaxBoxAcc) or "all" (MaxBoxAccV2, hole borders included).
        backend: "auto", "reference", "cpu" or "cuda"; the host waits for the number of boxes on a GPU.

    Returns:
        Per map and threshold int32 [B, 4], x0 y0 x1 y1 in pixels, rows in lexicographic order, on the device of
        ``score_maps``; the one row 0 0 0 0 where nothing is above the threshold. x1 and y1 are one past the last
        pixel unless the frame clips them. Thresholds that come to the same level share one array.

    Raises:
        ValueError: A shape, dtype, score or threshold is not as above; the message names the map and the value.
        BackendUnavailable: A backend asked for by name cannot run here; the message says what is missing.

    Source: Choe et al., arXiv 2007.04178, section 4.2.
    """
    backend, run = _THRESHOLD_BOXES.choose(backend, score_maps)
    scores, fractions = (
        inputs.check_maps(score_maps, "score_maps", backend=backend),
        inputs.check_thresholds(thresholds),
    )
    largest = inputs.check_contours(contours, ("largest", "all")) == "largest"
    kind = inputs.same_kind(score_maps)
    if backend != "cpu":
        inputs.check_scores(scores, "score_maps")
    return [[kind(boxes) for boxes in each] for each in run(scores, fractions, largest)]


def threshold_boxes_reference(
    score_maps: np.ndarray,  # float64 [N, H, W], in [0, 1]
    thresholds: np.ndarray,  # float64 [T]
    largest: bool,
) -> list[list[np.ndarray]]:  # int32 [B, 4] per map and threshold
    """Label the foreground of every level."""
    find = _largest_box_reference if largest else _all_boxes_reference
    result = []
    for levels in (score_maps * 255).astype(np.uint8):
        found, per_threshold = {}, []
        for threshold in thresholds:
            foreground = levels > int(threshold * levels.max())
            num_pixels = np.count_nonzero(foreground)  # foregrounds of one map are nested: this tells them apart
            if num_pixels not in found:
                found[num_pixels] = find(foreground) if num_pixels else np.zeros((1, 4), np.int32)
            per_threshold.append(found[num_pixels])
        result.append(per_threshold)
    return result


def box_ious_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    boxes: list[np.ndarray],  # int [N_i, 4] per map
    normalizations: tuple[Normalization, ...] | None,
    thresholds: np.ndarray,  # float64 [T]
    contours: str,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # float64 [C, M, N, T], bool [M, N]: best IoUs, and which maps are degenerate
    """One normalization, one map and one threshold after the other."""
    score_maps = _score_maps_reference(maps, normalizations, size)
    ways = [largest for largest, name in ((True, "largest"), (False, "all")) if contours in (name, "both")]
    ious = np.zeros((len(ways), len(score_maps), len(maps), len(thresholds)))
    for c, largest in enumerate(ways):
        for m, (scores, _) in enumerate(score_maps):
            for n, boxes_of_map in enumerate(threshold_boxes_reference(scores, thresholds, largest)):
                best = {}  # many thresholds share one array of boxes
                for t, found in enumerate(boxes_of_map):
                    if id(found) not in best:
                        best[id(found)] = ious_reference(found, boxes[n]).max()
                    ious[c, m, n, t] = best[id(found)]
    return ious, np.stack([degenerate for _, degenerate in score_maps])


def box_hits_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    boxes: list[np.ndarray],  # int [N_i, 4] per map
    normalizations: tuple[Normalization, ...] | None,
    thresholds: np.ndarray,  # float64 [T]
    iou_thresholds: np.ndarray,  # float64 [D]
    contours: str,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # bool [C, M, N, D, T], bool [M, N]: hits, and which maps are degenerate
    """Which IoU thresholds the best IoU reaches."""
    ious, degenerate = box_ious_reference(maps, boxes, normalizations, thresholds, contours, size)
    return ious[..., None, :] >= iou_thresholds[:, None], degenerate


def localize_reference(
    maps: np.ndarray,  # float64 [N, h, w]
    normalizations: tuple[Normalization, ...] | None,
    thresholds: np.ndarray,  # float64 [M, T]
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # int32 [M, N, T, 4], int32 [M, N, T], bool [M, N]: see Localization
    """The largest contour's box, and the number of all, at one threshold after the other."""
    score_maps = _score_maps_reference(maps, normalizations, size)
    shape = len(score_maps), len(maps), thresholds.shape[1]
    boxes, num_contours = np.zeros((*shape, 4), np.int32), np.zeros(shape, np.int32)
    for m, (scores, _) in enumerate(score_maps):
        largest, every = (threshold_boxes_reference(scores, thresholds[m], only) for only in (True, False))
        for n in range(len(maps)):
            is_empty = int(scores[n].max() * 255) == 0
            for t in range(shape[2]):
                boxes[m, n, t] = largest[n][t][0]
                num_contours[m, n, t] = 0 if is_empty else len(every[n][t])
    return boxes, num_contours, np.stack([degenerate for _, degenerate in score_maps])


def ious_reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [A, 4] and [B, 4] with inclusive corners, float64 [A, B]."""
    a, b = a[:, None].astype(np.int64), b[None].astype(np.int64)

    def area(x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
        return np.maximum(0, x1 - x0 + 1) * np.maximum(0, y1 - y0 + 1)

    corners = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    intersection = area(*np.moveaxis(np.concatenate(corners, axis=-1), -1, 0))
    union = area(*np.moveaxis(a, -1, 0)) + area(*np.moveaxis(b, -1, 0)) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 0.0)


def _score_maps_reference(
    maps: np.ndarray, normalizations: tuple[Normalization, ...] | None, size: tuple[int, int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per normalization float64 [N, H, W] and bool [N]: score maps, and which of them are degenerate."""
    if not normalizations:
        return [(maps, np.zeros(len(maps), bool))]
    return [normalize_reference(resize_reference(maps, size), each) for each in normalizations]


def _evaluate(
    cams: Array,
    boxes: Sequence[Any],
    normalizations: Normalizations | None,
    thresholds: Any,
    iou_thresholds: Any,
    contours: str,
    size: Any,
    rule: str | BoxRule,
    backend: str,
    *,
    summed: bool,
    grouped: tuple[Array, int] | None = None,
) -> tuple[Array, Array]:
    """Checks, and runs a backend; returns hits, or counts over the maps, and which maps are degenerate."""
    rule = BoxRule.parse(rule)
    backend, run = _chosen(_BOX_HITS, rule_hits, rule, backend, cams)
    maps, parsed, size = inputs.check_evaluation(cams, normalizations, size, backend)
    rows, offsets = inputs.check_boxes(boxes, len(maps))
    fractions, deltas = inputs.check_thresholds(thresholds), inputs.check_iou_thresholds(iou_thresholds)
    inputs.check_contours(contours)
    check_num_thresholds(rule, fractions)
    if (backend != "cpu" or rule != CHOE) and not parsed:
        inputs.check_scores(maps, "cams")
    how, kind = (parsed, fractions, deltas, contours, size), inputs.same_kind(cams)
    if grouped is None:
        result, degenerate = run(maps, rows, offsets, *how, summed)
        return kind(result if contours == "both" else result[0]), kind(degenerate)

    def run_some(members: np.ndarray | None, is_summed: bool) -> Any:
        if members is None:
            return run(maps, rows, offsets, *how, is_summed)
        num_boxes = np.diff(offsets)
        begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(num_boxes[members])])
        return run(maps[members], rows[np.repeat(members, num_boxes)], begins, *how, is_summed)

    result, degenerate = in_groups(run_some, backend, maps, *grouped, are_scores=not parsed, axis=2)  # [G, C, M, D, T]
    return kind(result if contours == "both" else result[:, 0]), kind(degenerate)


def _chosen(
    operation: Operation, by_rule: Callable[..., Any], rule: BoxRule, backend: str, cams: Array
) -> tuple[str, Callable[..., Any]]:
    """The backend that runs, and what it runs: an operation, or what does the same by another rule than "choe"."""
    if rule == CHOE:
        return operation.choose(backend, cams)
    backend = backend_for(rule, backend)
    return backend, partial(by_rule, rule=rule, backend=backend)


def _hits_reference(
    maps: Any,
    rows: np.ndarray,
    offsets: np.ndarray,
    normalizations: tuple[Normalization, ...],
    thresholds: np.ndarray,
    deltas: np.ndarray,
    contours: str,
    size: tuple[int, int],
    summed: bool,
) -> tuple[Any, Any]:
    per_map = _per_map(rows, offsets)
    hits, degenerate = box_hits_reference(maps, per_map, normalizations, thresholds, deltas, contours, size)
    return hits.sum(axis=2, dtype=np.int64) if summed else hits, degenerate


def _ious_reference(
    maps: Any,
    rows: np.ndarray,
    offsets: np.ndarray,
    normalizations: tuple[Normalization, ...],
    thresholds: np.ndarray,
    contours: str,
    size: tuple[int, int],
) -> tuple[Any, Any]:
    return box_ious_reference(maps, _per_map(rows, offsets), normalizations, thresholds, contours, size)


def _per_map(rows: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Boxes of all maps as boxes of each."""
    return np.split(rows, offsets[1:-1]) if len(offsets) > 1 else []


def _hits_cpu(
    maps: Any,
    rows: np.ndarray,
    offsets: np.ndarray,
    normalizations: tuple[Normalization, ...],
    thresholds: np.ndarray,
    deltas: np.ndarray,
    contours: str,
    size: tuple[int, int],
    summed: bool,
) -> tuple[Any, Any]:
    ranks, num_maps = inputs.ranks(normalizations, size[0] * size[1]), len(maps)
    axes = (2 if contours == "both" else 1), max(len(ranks), 1)
    degenerate = np.zeros((axes[1], num_maps), np.uint8)
    per_delta: list[Any] = []
    for d in range(0, len(deltas), MAX_IOU_THRESHOLDS):
        some_deltas = deltas[d : d + MAX_IOU_THRESHOLDS]
        last = len(some_deltas), len(thresholds)
        hits: Any = None if summed else np.empty((*axes, num_maps, *last), np.uint8)
        counts: Any = np.zeros((*axes, *last), np.int64) if summed else None
        with inputs.naming_scores(maps, "cams", are_scores=not normalizations):
            native().box_hits(
                maps, size, ranks, rows, offsets, some_deltas, thresholds, CONTOURS[contours],
                hits, counts, degenerate, num_threads(),
            )  # fmt: skip
        per_delta.append(counts if summed else hits.view(bool))
    return per_delta[0] if len(per_delta) == 1 else np.concatenate(per_delta, axis=-2), degenerate.view(bool)


def _ious_cpu(
    maps: Any,
    rows: np.ndarray,
    offsets: np.ndarray,
    normalizations: tuple[Normalization, ...],
    thresholds: np.ndarray,
    contours: str,
    size: tuple[int, int],
) -> tuple[Any, Any]:
    ranks = inputs.ranks(normalizations, size[0] * size[1])
    shape = max(len(ranks), 1), len(maps)
    ious, degenerate = np.empty((2 if contours == "both" else 1, *shape, len(thresholds))), np.zeros(shape, np.uint8)
    with inputs.naming_scores(maps, "cams", are_scores=not normalizations):
        native().box_ious(
            maps, size, ranks, rows, offsets, thresholds, CONTOURS[contours], ious, degenerate, num_threads()
        )
    return ious, degenerate.view(bool)


def _localize_cpu(
    maps: Any, normalizations: tuple[Normalization, ...], thresholds: np.ndarray, size: tuple[int, int]
) -> tuple[Any, Any, Any]:
    ranks, shape = inputs.ranks(normalizations, size[0] * size[1]), (len(thresholds), len(maps), thresholds.shape[1])
    boxes, num_contours = np.empty((*shape, 4), np.int32), np.empty(shape, np.int32)
    degenerate = np.zeros(shape[:2], np.uint8)
    with inputs.naming_scores(maps, "cams", are_scores=not normalizations):
        native().localize(maps, size, ranks, thresholds, boxes, num_contours, degenerate, num_threads())
    return boxes, num_contours, degenerate.view(bool)


def _threshold_boxes_cpu(score_maps: np.ndarray, thresholds: np.ndarray, largest: bool) -> list[list[Array]]:
    with inputs.naming_scores(score_maps, "score_maps"):
        boxes, counts, max_levels = native().threshold_boxes(score_maps, thresholds, largest, num_threads())
    return per_threshold(boxes, counts, max_levels, thresholds)


def _all_boxes_reference(foreground: np.ndarray) -> np.ndarray:
    """Outer borders: 8-connected components. Hole borders: 4-connected background that does not touch the frame."""
    from scipy import ndimage  # only the reference needs it

    height, width = foreground.shape
    components, _ = ndimage.label(foreground, structure=np.ones((3, 3)))
    background, _ = ndimage.label(~foreground)
    boxes = []
    for ys, xs in ndimage.find_objects(components):
        boxes.append((xs.start, ys.start, xs.stop, ys.stop))
    for ys, xs in ndimage.find_objects(background):
        if ys.start > 0 and xs.start > 0 and ys.stop < height and xs.stop < width:
            boxes.append((xs.start - 1, ys.start - 1, xs.stop + 1, ys.stop + 1))
    return _clipped(boxes, foreground.shape)


def _largest_box_reference(foreground: np.ndarray) -> np.ndarray:
    """The component of largest area inside its outer border, the last in raster order of those that tie."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(foreground)
    labels, num_components = ndimage.label(filled, structure=np.ones((3, 3)))
    # A border runs through the centres of its pixels: a 2 x 2 square lies inside it with four pixels, half with three.
    squares = np.stack([labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]])
    inside = np.count_nonzero(squares, axis=0)
    weights = np.select([inside == 4, inside == 3], [1.0, 0.5], 0.0)
    areas = np.bincount(squares.max(axis=0).ravel(), weights.ravel(), minlength=num_components + 1)
    raster = np.arange(labels.size).reshape(labels.shape)
    first_pixels = ndimage.minimum(raster, labels, np.arange(num_components + 1))
    best = max(range(1, num_components + 1), key=lambda label: (areas[label], first_pixels[label]))
    ys, xs = ndimage.find_objects(labels)[best - 1]
    return _clipped([(xs.start, ys.start, xs.stop, ys.stop)], foreground.shape)


def _clipped(boxes: list[tuple[int, int, int, int]], shape: tuple[int, int]) -> np.ndarray:
    """int32 [B, 4] in lexicographic order; x1 and y1 stay one past the last pixel unless the frame clips them."""
    height, width = shape
    return np.array(sorted((x0, y0, min(x1, width - 1), min(y1, height - 1)) for x0, y0, x1, y1 in boxes), np.int32)


_BOX_HITS = Operation(_hits_reference, _hits_cpu, "box_hits")
_BOX_IOUS = Operation(_ious_reference, _ious_cpu, None)
_LOCALIZE = Operation(localize_reference, _localize_cpu, None)
_THRESHOLD_BOXES = Operation(threshold_boxes_reference, _threshold_boxes_cpu, "threshold_boxes")

"""Which thresholds localize the object by another rule than the published evaluation's, how well, and where it is.

In: CAMs [N, h, w] with normalizations, or score maps; ground-truth boxes; a BoxRule. Out: hits [C, M, N, D, T], IoUs
[C, M, N, T], boxes [M, N, T, 4].
Source: of each rule its own, see :mod:`wsolkern.box_rule`.

The native core takes any rule: levels become integers, thresholds ranks among them, and one component tree a
normalization gives the boxes of all thresholds. The resize and the normalization before it are numpy's.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wsolkern.box_rule import BoxRule
from wsolkern.errors import ArgumentError, BackendUnavailable
from wsolkern.normalization import Normalization
from wsolkern.ops.backends import native, num_threads, resolve
from wsolkern.ops.constants import CONTOURS, MAX_CUTS, NUM_LEVELS
from wsolkern.ops.normalizing import normalize_reference
from wsolkern.ops.resizing import resize_cpu, resize_linear

_MAPS_AT_ONCE = 64  # so that what is made of them on the way stays small
_LARGEST = ("contour area", "pixel count", "box area")  # as the native core counts them
_FAR_EDGES = ("clipped", "past", "last")


def rule_hits(
    maps: np.ndarray,  # float64 [N, h, w]
    rows: np.ndarray,  # int32 [B, 4], the boxes of all maps
    offsets: np.ndarray,  # int64 [N + 1], where each map's rows begin
    normalizations: tuple[Normalization, ...],  # M of them; none: the maps are score maps
    thresholds: np.ndarray,  # float64 [T]
    deltas: np.ndarray,  # float64 [D]
    contours: str,
    size: tuple[int, int],
    summed: bool,
    *,
    rule: BoxRule,
    backend: str,
) -> tuple[np.ndarray, np.ndarray]:  # bool [C, M, N, D, T], or int64 [C, M, D, T]; bool [M, N]: degenerate maps
    """As :func:`wsolkern.ops.box_hits`, whose arguments these are once they are checked."""
    num_ways, num_rows = (2 if contours == "both" else 1), max(len(normalizations), 1)
    shape = len(deltas), len(thresholds)
    if summed:
        out = np.zeros((num_ways, num_rows, *shape), np.int64)
    else:
        out = np.empty((num_ways, num_rows, len(maps), *shape), bool)
    degenerate = np.zeros((num_rows, len(maps)), bool)
    for m, some, ious, flat in _ious(maps, rows, offsets, normalizations, thresholds, contours, size, rule, backend):
        hits = rule.reaches(ious[:, :, None], deltas[:, None])
        degenerate[m, some] = flat
        if summed:
            out[:, m] += hits.sum(axis=1)
        else:
            out[:, m, some] = hits
    return out, degenerate


def rule_ious(
    maps: np.ndarray,  # float64 [N, h, w]
    rows: np.ndarray,  # int32 [B, 4]
    offsets: np.ndarray,  # int64 [N + 1]
    normalizations: tuple[Normalization, ...],  # M of them
    thresholds: np.ndarray,  # float64 [T]
    contours: str,
    size: tuple[int, int],
    *,
    rule: BoxRule,
    backend: str,
) -> tuple[np.ndarray, np.ndarray]:  # float64 [C, M, N, T]; bool [M, N]: degenerate maps
    """As :func:`wsolkern.ops.box_ious`, whose arguments these are once they are checked."""
    shape = max(len(normalizations), 1), len(maps)
    out, degenerate = np.empty((2 if contours == "both" else 1, *shape, len(thresholds))), np.zeros(shape, bool)
    for m, some, ious, flat in _ious(maps, rows, offsets, normalizations, thresholds, contours, size, rule, backend):
        out[:, m, some], degenerate[m, some] = ious, flat
    return out, degenerate


def rule_localize(
    maps: np.ndarray,  # float64 [N, h, w]
    normalizations: tuple[Normalization, ...],  # M of them
    thresholds: np.ndarray,  # float64 [M, T]
    size: tuple[int, int],
    *,
    rule: BoxRule,
    backend: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # int32 [M, N, T, 4], int32 [M, N, T], bool [M, N]: see Localization
    """As :func:`wsolkern.ops.localize`, whose arguments these are once they are checked."""
    shape = len(thresholds), len(maps), thresholds.shape[1]
    boxes, num_contours = np.empty((*shape, 4), np.int32), np.empty(shape, np.int32)
    degenerate = np.zeros(shape[:2], bool)
    find = _localize_reference if backend == "reference" else _localize_cpu
    for m, some, scores, flat in _score_maps(maps, normalizations, size, rule):
        boxes[m, some], num_contours[m, some] = find(*_levels_and_cuts(scores, thresholds[m], rule), rule)
        degenerate[m, some] = flat
    return boxes, num_contours, degenerate


def rule_resize(maps: np.ndarray, size: tuple[int, int], rule: BoxRule) -> np.ndarray:
    """As the rule resizes: float64 [N, H, W], from float64 [N, h, w]; of maps of that size the rule makes the same."""
    return np.asarray(_resized(maps, size, rule), np.float64)


def inclusive_corners(boxes: np.ndarray, size: tuple[int, int], rule: BoxRule) -> np.ndarray:
    """Boxes of a rule, int [..., 4], as the first and the last of their pixels: x1 and y1 of half-open ones less 1.

    What is beyond the map is cut off. Widths of the IoU say what x1 is: a box of "ts-cam" holds the pixels at x1.
    """
    ends = np.minimum(boxes[..., 2:] - (not rule.inclusive), (size[1] - 1, size[0] - 1))
    return np.concatenate([boxes[..., :2], np.maximum(ends, boxes[..., :2])], axis=-1)


def _score_maps(
    maps: np.ndarray, normalizations: tuple[Normalization, ...], size: tuple[int, int], rule: BoxRule
) -> Iterator[tuple[int, slice, np.ndarray, Any]]:
    """Of some maps after the other, and of each normalization: its place, theirs, score maps, which are degenerate."""
    for start in range(0, len(maps), _MAPS_AT_ONCE):
        some = slice(start, min(start + _MAPS_AT_ONCE, len(maps)))
        resized = _resized(maps[some], size, rule)
        if not normalizations:
            yield 0, some, resized, False
        for m, normalization in enumerate(normalizations):
            yield m, some, *normalize_reference(resized, normalization)


def _ious(
    maps: np.ndarray,
    rows: np.ndarray,
    offsets: np.ndarray,
    normalizations: tuple[Normalization, ...],
    thresholds: np.ndarray,
    contours: str,
    size: tuple[int, int],
    rule: BoxRule,
    backend: str,
) -> Iterator[tuple[int, slice, np.ndarray, Any]]:
    """As :func:`_score_maps`, with IoUs, float64 [C, n, T], in place of score maps."""
    ious_of = _ious_reference if backend == "reference" else _ious_cpu
    for m, some, scores, flat in _score_maps(maps, normalizations, size, rule):
        begin = offsets[some.start : some.stop + 1]
        boxes, begin = rows[begin[0] : begin[-1]], begin - begin[0]
        yield m, some, ious_of(*_levels_and_cuts(scores, thresholds, rule), boxes, begin, contours, rule), flat


def backend_for(rule: BoxRule, backend: str) -> str:
    """The backend that a rule runs on: "reference" or "cpu"; "auto" never takes a GPU.

    Raises:
        ValueError: No such backend.
        BackendUnavailable: It does not run here, or is "cuda".
    """
    if backend == "cuda":
        raise BackendUnavailable(
            f'backend "cuda": expected box rule choe, found {rule}, which runs on the CPU: take backend "auto" or "cpu"'
        )
    return resolve(backend)


def check_num_thresholds(rule: BoxRule, thresholds: np.ndarray) -> None:
    """Raises ArgumentError if a rule of scores as they are has more thresholds than one tree can have levels."""
    if rule.levels == "float" and len(thresholds) > MAX_CUTS:
        expected = f"expected at most {MAX_CUTS:,} for box rule {rule}, whose levels are float"
        raise ArgumentError("thresholds", f"{expected}, found {len(thresholds):,}")


def _resized(maps: np.ndarray, size: tuple[int, int], rule: BoxRule) -> np.ndarray:
    """In the rule's precision, [N, H, W]."""
    if rule.interpolation == "cubic":
        return maps if maps.shape[1:] == size else resize_cpu(maps, size)
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite
        return np.ascontiguousarray(resize_linear(maps.astype(rule.precision), size))


def _levels_and_cuts(
    scores: np.ndarray,  # [N, H, W], in the rule's precision
    thresholds: np.ndarray,  # float64 [T]
    rule: BoxRule,
) -> tuple[np.ndarray, np.ndarray]:  # [N, H, W] and float64 [N, T]: what is compared with what
    """Levels, uint8 or scores, and each map's thresholds on their axis."""
    if rule.levels == "8-bit":
        levels, most, number = (scores * scores.dtype.type(NUM_LEVELS)).astype(np.uint8), NUM_LEVELS, np.float64
    else:
        levels, most, number = scores, 1, scores.dtype.type
    if rule.relative_to is None:
        reference: Any = np.full(len(levels), most)
    elif rule.relative_to == 1:
        reference = levels.max(axis=(1, 2))
    else:
        reference = np.percentile(levels, 100 * rule.relative_to, axis=(1, 2))
    return levels, (thresholds.astype(number) * reference.astype(number)[:, None]).astype(np.float64)


def _bins_and_ranks(levels: np.ndarray, cuts: np.ndarray, rule: BoxRule) -> tuple[np.ndarray, np.ndarray]:
    """int16 [N, H, W] and [N, T], for the native core: the foreground is where a bin is at least the rank."""
    if rule.levels == "8-bit":
        bins = levels.astype(np.int16) + np.int16(1)
        ranks = (np.floor(cuts) + 2 if rule.comparison == ">" else np.ceil(cuts) + 1).astype(np.int16)
    else:
        at_least = np.nextafter(cuts, np.inf) if rule.comparison == ">" else cuts
        bins, ranks = np.empty(levels.shape, np.int16), np.empty(cuts.shape, np.int16)
        native().digitize(np.ascontiguousarray(levels, np.float64), at_least, bins, ranks, num_threads())
    return bins, ranks


def _fields(rule: BoxRule) -> tuple[object, ...]:
    """The rule as the native core takes it."""
    return (
        *(_LARGEST.index(rule.largest), rule.ties == "first", rule.connectivity, rule.hole_borders),
        *(_FAR_EDGES.index(rule.far_edge), rule.inclusive, rule.empty),
    )


def _ious_cpu(
    levels: np.ndarray, cuts: np.ndarray, boxes: np.ndarray, offsets: np.ndarray, contours: str, rule: BoxRule
) -> np.ndarray:  # float64 [C, N, T]
    ious = np.empty((2 if contours == "both" else 1, *cuts.shape))
    about = *_bins_and_ranks(levels, cuts, rule), boxes, offsets, _fields(rule)
    native().rule_ious(*about, CONTOURS[contours], ious, num_threads())
    return ious


def _localize_cpu(
    levels: np.ndarray, cuts: np.ndarray, rule: BoxRule
) -> tuple[np.ndarray, np.ndarray]:  # int32 [N, T, 4] and [N, T]
    boxes, num_contours = np.empty((*cuts.shape, 4), np.int32), np.empty(cuts.shape, np.int32)
    about = *_bins_and_ranks(levels, cuts, rule), _fields(rule)
    native().rule_localize(*about, boxes, num_contours, num_threads())
    return boxes, num_contours


def _localize_reference(
    levels: np.ndarray, cuts: np.ndarray, rule: BoxRule
) -> tuple[np.ndarray, np.ndarray]:  # int32 [N, T, 4] and [N, T]
    """One map and one threshold after the other."""
    boxes, num_contours = np.empty((*cuts.shape, 4), np.int32), np.empty(cuts.shape, np.int32)
    for n, (values, cuts_of_map) in enumerate(zip(levels.astype(np.float64), cuts, strict=True)):
        for t, cut in enumerate(cuts_of_map):
            found = _boxes_reference(_foreground(values, cut, rule), rule)
            boxes[n, t] = found["largest"][0] if len(found["largest"]) else rule.empty
            num_contours[n, t] = len(found["all"])
    return boxes, num_contours


def _foreground(values: np.ndarray, cut: float, rule: BoxRule) -> np.ndarray:
    return np.asarray(values > cut if rule.comparison == ">" else values >= cut)


def _ious_reference(
    levels: np.ndarray, cuts: np.ndarray, boxes: np.ndarray, offsets: np.ndarray, contours: str, rule: BoxRule
) -> np.ndarray:  # float64 [C, N, T]
    """One map and one threshold after the other."""
    ways = [way for way in ("largest", "all") if contours in (way, "both")]
    ious = np.empty((len(ways), *cuts.shape))
    for n, (values, cuts_of_map) in enumerate(zip(levels.astype(np.float64), cuts, strict=True)):
        truth = boxes[offsets[n] : offsets[n + 1]]
        known: dict[int, list[float]] = {}  # foregrounds of one map are nested: their number of pixels tells them apart
        for t, cut in enumerate(cuts_of_map):
            foreground = _foreground(values, cut, rule)
            num_pixels = int(np.count_nonzero(foreground))
            if num_pixels not in known:
                found = _boxes_reference(foreground, rule)
                known[num_pixels] = [
                    float(_of_boxes(found[way], truth, rule.inclusive).max()) if num_pixels else _of_empty(truth, rule)
                    for way in ways
                ]
            ious[:, n, t] = known[num_pixels]
    return ious


def _of_empty(truth: np.ndarray, rule: BoxRule) -> float:
    return float(_of_boxes(np.array([rule.empty]), truth, rule.inclusive).max())


def _boxes_reference(foreground: np.ndarray, rule: BoxRule) -> dict[str, np.ndarray]:
    """The boxes of a foreground, int [B, 4]: of its largest component, one, and of all contours."""
    from scipy import ndimage  # only the reference needs it

    if not foreground.any():
        return {"largest": np.empty((0, 4), int), "all": np.empty((0, 4), int)}
    eight = np.ones((3, 3)) if rule.connectivity == 8 else None
    labels, num_components = ndimage.label(foreground, structure=eight)
    found = ndimage.find_objects(labels)
    if rule.largest == "pixel count":
        sizes = np.bincount(labels.ravel(), minlength=num_components + 1)[1:]
    elif rule.largest == "box area":
        sizes = np.array([(ys.stop - ys.start) * (xs.stop - xs.start) for ys, xs in found])
    else:
        sizes = np.array([_contour_area(labels[box] == index) for index, box in enumerate(found, 1)])
    raster = np.arange(labels.size).reshape(labels.shape)
    first_pixels = ndimage.minimum(raster, labels, np.arange(1, num_components + 1))
    as_large = np.flatnonzero(sizes == sizes.max())
    place = np.argmin(first_pixels[as_large]) if rule.ties == "first" else np.argmax(first_pixels[as_large])
    spans = [(xs.start, ys.start, xs.stop, ys.stop) for ys, xs in found]
    largest = spans[as_large[place]]
    if rule.hole_borders:
        height, width = foreground.shape
        background, _ = ndimage.label(~foreground)
        for ys, xs in ndimage.find_objects(background):
            if ys.start > 0 and xs.start > 0 and ys.stop < height and xs.stop < width:
                spans.append((xs.start - 1, ys.start - 1, xs.stop + 1, ys.stop + 1))
    return {"largest": _edges([largest], foreground, rule), "all": _edges(spans, foreground, rule)}


def _contour_area(component: np.ndarray) -> float:
    """What the outer border of a component encloses: it runs through the centres of its pixels."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(component).astype(int)
    inside = filled[:-1, :-1] + filled[:-1, 1:] + filled[1:, :-1] + filled[1:, 1:]  # of every 2 x 2 square
    return float(np.count_nonzero(inside == 4) + np.count_nonzero(inside == 3) / 2)


def _edges(spans: list[tuple[int, int, int, int]], foreground: np.ndarray, rule: BoxRule) -> np.ndarray:
    """Boxes of half-open spans, with the rule's x1 and y1."""
    height, width = foreground.shape
    boxes = np.array(spans)
    if rule.far_edge == "clipped":
        boxes[:, 2:] = np.minimum(boxes[:, 2:], (width - 1, height - 1))
    elif rule.far_edge == "last":
        boxes[:, 2:] -= 1
    return boxes


def _of_boxes(a: np.ndarray, b: np.ndarray, inclusive: bool) -> np.ndarray:
    """IoUs, float64 [A, B]; 0 where both boxes are empty."""
    a, b = a[:, None].astype(np.int64), b[None].astype(np.int64)

    def area(low: Any, high: Any) -> Any:
        return np.maximum(0, high - low + inclusive).prod(axis=-1)

    common = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    joint = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - common
    result: np.ndarray = np.where(joint > 0, common / np.maximum(joint, 1), 0.0)
    return result

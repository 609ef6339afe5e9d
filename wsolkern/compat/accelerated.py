"""The published evaluator's functions in a project's module, faster: values, types, shapes, order and dtypes are equal.

In: a project's function that is as published, and the names of its module. Out: the function to put in its place, which
gives odd inputs to the one that was there.
Source: the modules ``evaluation``, ``inference`` and ``util`` of Choe et al.'s evaluator.

A project's own code goes on with what these return, so that they copy what ours (``wsolkern.compat.evaluation``) leave
out: boxes come in OpenCV's order of contours, ``normalize_scoremap`` works in place. What they call themselves
(``check_scoremap_validity``, ...) they look up in the project's module.
"""

import functools
import inspect
from collections.abc import Callable

import numpy as np

from wsolkern import ops
from wsolkern.compat import data_loaders, evaluation, inference, util
from wsolkern.compat.published import all_published, equal_to_published, has_published_method
from wsolkern.ops.constants import LEVEL_SCORES

_LEVELS = np.append(0.0, LEVEL_SCORES)  # a score of every 8-bit level


def accelerate(original: Callable, home: dict) -> Callable | None:
    """What takes the place of a published function; None where nothing is faster than that."""
    name = original.__name__
    if name in _SAME:
        return _SAME[name]
    if name in _MAKERS:
        return equal_to_published(functools.wraps(original)(_MAKERS[name](original, home)))
    return None


def _compute_bboxes_from_scoremaps(original: Callable, home: dict) -> Callable:
    """Each level is looked at once; OpenCV, which knows the order of contours, only where there are several."""
    as_lists = "multi_contour_eval" not in inspect.signature(original).parameters  # the version of January 2020

    def compute_bboxes_from_scoremaps(scoremap, scoremap_threshold_list, multi_contour_eval=False):
        home["check_scoremap_validity"](scoremap)
        thresholds = list(scoremap_threshold_list)
        image = (scoremap * 255).astype(np.uint8)
        top = int(image.max())
        height, width = scoremap.shape
        levels = _levels(thresholds, image.max())
        inside = sorted({level for level in levels if 0 <= level < top})
        contours = "all" if multi_contour_eval else "largest"
        found = (
            ops.threshold_boxes(_LEVELS[image][None], (np.array(inside) + 0.5) / top, contours=contours)[0]
            if inside
            else []
        )
        boxes = {level: each.astype(int) for level, each in zip(inside, found, strict=True)}
        several = [level for level, each in boxes.items() if len(each) > 1]
        if several:
            first = {level: threshold for level, threshold in zip(reversed(levels), reversed(thresholds), strict=True)}
            in_order, _ = original(scoremap, [first[level] for level in several], True)
            boxes.update(zip(several, in_order, strict=True))
        for level in set(levels) - boxes.keys():  # below 0 everything is foreground, from the top on nothing
            boxes[level] = np.array([[0, 0, width - 1, height - 1] if level < min(0, top) else [0, 0, 0, 0]])
        if as_lists:
            return [boxes[level][0].tolist() for level in levels]
        return [boxes[level].copy() for level in levels], [len(boxes[level]) for level in levels]

    return compute_bboxes_from_scoremaps


def _levels(thresholds: list, top: np.uint8) -> list[int]:
    """``int(threshold * top)`` of each."""
    if all(isinstance(each, float) for each in thresholds):  # np.float64 is one
        levels = np.array(thresholds) * top
        if np.isfinite(levels).all():
            return levels.astype(np.int64).tolist()
    return [int(each * top) for each in thresholds]


def _calculate_multiple_iou(original: Callable, home: dict) -> Callable:
    def calculate_multiple_iou(box_a, box_b):
        arrays = all(type(each) is np.ndarray and each.ndim == 2 and each.size for each in (box_a, box_b))
        if not arrays or not all(each.dtype in (np.int64, np.float64) for each in (box_a, box_b)):
            return original(box_a, box_b)
        for boxes in (box_a, box_b):
            home["check_box_convention"](boxes, "x0y0x1y1")
        # A column after the other: arrays of [A, B, 4] would be read four times.
        a, b = (np.ascontiguousarray(each.T) for each in (box_a, box_b))
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a[:, :, None], b[:, None, :]
        widths = np.minimum(ax1, bx1) - np.maximum(ax0, bx0) + 1
        heights = np.minimum(ay1, by1) - np.maximum(ay0, by0) + 1
        intersection = np.maximum(0, widths) * np.maximum(0, heights)
        union = (ax1 - ax0 + 1) * (ay1 - ay0 + 1) + (bx1 - bx0 + 1) * (by1 - by0 + 1) - intersection
        nothing = union <= 0
        if not nothing.any():
            return intersection / union
        union[nothing] = 1
        ious = intersection / union
        ious[nothing] = 0
        return ious

    return calculate_multiple_iou


def _resize_bbox(original: Callable, home: dict) -> Callable:
    def resize_bbox(box, image_size, resize_size):
        x0, y0, x1, y1 = map(float, box)
        if not (all_published(home, "check_box_convention") and 0 <= x0 <= x1 and 0 <= y0 <= y1):
            return original(box, image_size, resize_size)
        width, height = map(float, image_size)
        new_width, new_height = map(float, resize_size)
        return (
            int(x0 * new_width / width),
            int(y0 * new_height / height),
            int(x1 * new_width / width),
            int(y1 * new_height / height),
        )

    return resize_bbox


def _normalize_scoremap(original: Callable, home: dict) -> Callable:
    def normalize_scoremap(cam):
        if not isinstance(cam, np.ndarray) or cam.dtype.kind != "f" or not cam.size:
            return original(cam)
        low, high = cam.min(), cam.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            return original(cam)
        if low == high:
            return np.zeros_like(cam)
        cam -= low
        cam /= high - low  # rounding keeps the order: the maximum of the differences
        return cam

    return normalize_scoremap


def _get_mask(original: Callable, home: dict) -> Callable:
    def get_mask(mask_root, mask_paths, ignore_path):
        if not all_published(home, "load_mask_image"):
            return original(mask_root, mask_paths, ignore_path)
        length = home["_RESIZE_LENGTH"]
        return evaluation.MASKS.get(mask_root, mask_paths, ignore_path, (length, length))

    return get_mask


def _evaluate_wsol(original: Callable, home: dict) -> Callable:
    def evaluate_wsol(*args, **kwargs):
        if all_published(home, "CamDataset", "_get_cam_loader", "t2n", "configure_metadata", "get_image_ids"):
            return evaluation.evaluate_folder(*args, **kwargs, home=home)
        return original(*args, **kwargs)

    return evaluate_wsol


def _accumulate_boxes(original: Callable, home: dict) -> Callable:
    """One map at a time, into the counts that the class has."""

    def accumulate(self, scoremap, image_id):
        thresholds = _fractions(self.cam_threshold_list)
        names = ("check_scoremap_validity", *evaluation.BoxEvaluator._COUNTED_WITH)
        if thresholds is None or not all_published(home, *names):
            return original(self, scoremap, image_id)
        home["check_scoremap_validity"](scoremap)
        truth = np.array(self.gt_bboxes[image_id])
        home["check_box_convention"](truth, "x0y0x1y1")
        contours = "all" if self.multi_contour_eval else "largest"
        deltas = [each / 100 for each in self.iou_threshold_list]
        hits = ops.box_hits(scoremap[None], [truth], None, thresholds, deltas, contours=contours)[0, 0]
        for iou, hit in zip(self.iou_threshold_list, hits, strict=True):
            self.num_correct[iou][np.flatnonzero(hit)] += 1
        self.cnt += 1

    return accumulate


def _accumulate_pixels(original: Callable, home: dict) -> Callable:
    def accumulate(self, scoremap, image_id):
        thresholds = _fractions(self.cam_threshold_list)
        edges = np.append(self.cam_threshold_list, [1.0, 2.0, 3.0])
        as_set = thresholds is not None and np.array_equal(edges, self.threshold_list_right_edge)
        if not as_set or (np.diff(thresholds) < 0).any() or not all_published(home, "check_scoremap_validity"):
            return original(self, scoremap, image_id)
        home["check_scoremap_validity"](scoremap)
        mask = home["get_mask"](self.mask_root, self.mask_paths[image_id], self.ignore_paths[image_id])
        if mask.dtype != np.uint8 or mask.shape != scoremap.shape or np.isin(mask, (0, 1, 255), invert=True).any():
            return original(self, scoremap, image_id)
        counts, _ = ops.count_pixels(scoremap[None], mask[None], None, thresholds)
        objects, background = counts[0]
        self.gt_true_score_hist += objects
        self.gt_false_score_hist += background

    return accumulate


def _fractions(thresholds: object) -> np.ndarray | None:
    """Thresholds as float64 [T] if all are fractions below 1."""
    found = np.asarray(thresholds)
    good = found.dtype == np.float64 and found.ndim == 1 and found.size and found.min() >= 0 and found.max() < 1
    return found if good else None


_METHODS = {"BoxEvaluator": _accumulate_boxes, "MaskEvaluator": _accumulate_pixels}


def accelerate_method(definition: type) -> bool:
    """Replaces ``accumulate`` of an evaluator that is not as published, if that method is; the class stays."""
    maker = _METHODS.get(definition.__name__)
    if maker is None or not has_published_method(definition, "accumulate"):
        return False
    original = vars(definition)["accumulate"]
    definition.accumulate = equal_to_published(functools.wraps(original)(maker(original, original.__globals__)))
    return True


_MAKERS = {
    "calculate_multiple_iou": _calculate_multiple_iou,
    "compute_bboxes_from_scoremaps": _compute_bboxes_from_scoremaps,
    "evaluate_wsol": _evaluate_wsol,
    "get_mask": _get_mask,
    "normalize_scoremap": _normalize_scoremap,
    "resize_bbox": _resize_bbox,
}
_SAME = {  # of ours
    "check_box_convention": util.check_box_convention,
    "check_scoremap_validity": util.check_scoremap_validity,
    "get_bounding_boxes": data_loaders.get_bounding_boxes,
    "get_class_labels": data_loaders.get_class_labels,
    "get_image_ids": data_loaders.get_image_ids,
    "get_image_sizes": data_loaders.get_image_sizes,
    "get_mask_paths": data_loaders.get_mask_paths,
    "t2n": util.t2n,
}
_CLASSES = {each.__name__: each for each in (evaluation.BoxEvaluator, evaluation.MaskEvaluator, inference.CAMComputer)}


def serve(original: type, home: dict) -> type | None:
    """The class that takes the place of a published one, and is derived from it; None where there is none."""
    ours = _CLASSES.get(original.__name__)
    if ours is None:
        return None
    names = {
        "_home": home,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": ours.__doc__,
    }
    return equal_to_published(type(original.__name__, (ours, original), names))

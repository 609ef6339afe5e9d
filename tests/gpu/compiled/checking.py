"""What is asked of the compiled code: the integers and bits of the reference, on a map of the table of cases.

In: a case's name. Out: nothing; a difference or a complaint of the machine is an error. Within ``running.machine``.
Source: the reference and the CPU engine, as tests/gpu/test_gpu_kernels.py and tests/gpu/test_gpu_trees.py ask them.
"""

import warnings
from functools import cache

import numpy as np
import torch

from tests.cases import CASES, cams_of_one_size, evaluation_size, mask, truth_boxes
from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops import inputs
from wsolkern.ops.cutting import cut_points_reference, digitize_reference
from wsolkern.ops.gpu import cutting, histograms, normalizing, resizing, statistics, trees
from wsolkern.ops.histograms import pixel_histograms_reference
from wsolkern.ops.normalizing import affine_reference, normalize_reference
from wsolkern.ops.resizing import resize_reference

NORMALIZATIONS = parse_all("minmax max pas:0.9 ivr:0.45 ivr:0.3+pas:0.8")
EXTREMES = NORMALIZATIONS[:2]  # which need no order statistics
THRESHOLDS = np.arange(100) / 100
IOU_THRESHOLDS = (0.5, 0.05, 0.3, 0.7, 1.0)
FULL = "cam_224"  # a CAM of 14 x 14 at the size of an evaluation
SMALL = [name for name in CASES if max(evaluation_size(name)) <= 64]


def size_of(name: str) -> tuple[int, int]:
    """Height and width at which a case is evaluated."""
    return (224, 224) if name == FULL else evaluation_size(name)


def map_of(name: str) -> np.ndarray:
    """float64 [h, w]."""
    return cams_of_one_size(1, (14, 14), seed=1)[0] if name == FULL else CASES[name]


def equal(found: torch.Tensor, wanted: np.ndarray, what: str) -> None:
    found = found.numpy()
    assert found.dtype == wanted.dtype, what
    np.testing.assert_array_equal(found, wanted, err_msg=what)


@cache
def _wanted(name: str) -> dict:
    """What the reference makes of a case, by what it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NaN and infinity
        size, cams = size_of(name), map_of(name)[None]
        f = resize_reference(cams, size)
        affines = affine_reference(f, NORMALIZATIONS)
        scores = np.stack([normalize_reference(f, each)[0] for each in NORMALIZATIONS], axis=1)
        masks = mask(name)[None] if name != FULL else np.random.default_rng(0).integers(0, 2, (1, *size), np.uint8)
        some = f[~np.isnan(f)] if not np.isnan(f).all() else np.zeros(1)
        cuts = np.random.default_rng(0).choice(some, (1, 20))
        grid = THRESHOLDS if len(name) % 2 else np.array([0.1, 0.25, 0.25, 0.5])
        return {
            "resize": f,
            "affine": affines,
            "normalize": scores,
            "cut_points": cut_points_reference(affines[0], ops.LEVEL_SCORES[::5]),
            "cuts": cuts,
            "digitize": digitize_reference(f, cuts),
            "masks": masks,
            "thresholds": grid,
            "histograms": pixel_histograms_reference(cams, masks, NORMALIZATIONS[1:4], grid, size)[0],
            "of scores": pixel_histograms_reference(scores[:, 0], masks, None, grid, size)[0],
        }


def check_kernels(name: str, only: str = "") -> None:
    """Every Triton kernel on one map; or those of one operation."""
    wanted, size = _wanted(name), size_of(name)
    maps = torch.from_numpy(np.array(map_of(name)[None]))
    resized = resizing.prepare(maps, size)
    affines = torch.from_numpy(wanted["affine"])
    levels = (wanted["normalize"] * 255).astype(np.uint8)
    masks, edges = torch.from_numpy(wanted["masks"]), torch.from_numpy(np.append(wanted["thresholds"], 1.0))

    def of_extremes():
        found = statistics.affine(resized, inputs.ranks(EXTREMES, size[0] * size[1]))
        equal(found, wanted["affine"][:, : len(EXTREMES)], "minimum and maximum")

    def level_images():
        for some in (slice(0, 1), slice(2, 3), slice(None)):
            bins, ranks = cutting.level_image(resized, affines[:, some].contiguous())
            kind = np.uint8 if ranks.shape[1] == 1 else np.int16
            equal(bins, levels[:, some].sum(axis=1, dtype=kind), "level image")
            for m in range(ranks.shape[1]):
                found = np.searchsorted(ranks[0, m].numpy(), bins[0].numpy(), side="right")
                np.testing.assert_array_equal(found, levels[:, some][0, m], err_msg="ranks")

    def pixel_histograms():
        found = histograms.pixel_histograms(resized, affines[:, 1:4], masks, edges, summed=False)
        equal(found, wanted["histograms"], "histograms")
        scores = resizing.prepare(torch.from_numpy(np.ascontiguousarray(wanted["normalize"][:, 0])), size)
        equal(histograms.pixel_histograms(scores, None, masks, edges, summed=True), wanted["of scores"][:, 0], "scores")

    def digitized():
        for found, each in zip(
            cutting.digitize(resized, torch.from_numpy(wanted["cuts"])), wanted["digitize"], strict=True
        ):
            equal(found, each, "digitize")

    operations = {
        "resize": lambda: equal(resizing.resize(maps, size), wanted["resize"], "resize"),
        "affine": lambda: equal(
            statistics.affine(resized, inputs.ranks(NORMALIZATIONS, size[0] * size[1])), wanted["affine"], "affine"
        ),
        "extremes": of_extremes,
        "normalize": lambda: equal(
            normalizing.normalize(resized, affines[:, 2]), wanted["normalize"][:, 2], "normalize"
        ),
        "cut_points": lambda: equal(
            cutting.cut_points(affines[0], torch.from_numpy(ops.LEVEL_SCORES[::5].copy())), wanted["cut_points"], "cuts"
        ),
        "level_image": level_images,
        "pixel_histograms": pixel_histograms,
        "digitize": digitized,
    }
    for operation, check in operations.items():
        if only in ("", operation):
            check()


@cache
def _trees_wanted(name: str) -> dict:
    f = ops.resize(map_of(name)[None], size_of(name), backend="reference")
    scores = f if f.min() >= 0 and f.max() <= 1 else ops.normalize(f, "minmax", backend="reference")
    scores = np.concatenate([scores, scores * 0.0371, scores[:, ::-1]])
    boxes = [truth_boxes(name) if name != FULL else np.array([[40, 30, 180, 200], [0, 0, 9, 9]])] * len(scores)
    by = {"backend": "cpu"}  # which answers to the reference on every case
    how = {"thresholds": THRESHOLDS, "iou_thresholds": IOU_THRESHOLDS, "contours": "both"}
    parsed = NORMALIZATIONS[:4]
    affines = ops.affine(f, parsed, **by)
    bins, ranks = ops.digitize(f, ops.cut_points(f, parsed, **by), **by)
    return {
        "scores": scores,
        "boxes": boxes,
        "hits": ops.box_hits(scores, boxes, None, **how, **by),
        "image": (bins, ranks, affines),
        "of the image": ops.box_hits(map_of(name)[None], boxes[:1], parsed, **how, size=size_of(name), **by),
        "listed": {
            contours: ops.threshold_boxes(scores, THRESHOLDS, contours=contours, **by)
            for contours in ("all", "largest")
        },
    }


def check_trees(name: str, only: str = "") -> None:
    """The kernels of the component trees on three score maps and on a level image; or those of one operation."""
    wanted = _trees_wanted(name)
    scores, boxes, hits = wanted["scores"], wanted["boxes"], wanted["hits"]
    how = {"thresholds": THRESHOLDS, "iou_thresholds": IOU_THRESHOLDS, "backend": "cuda"}

    def box_hits():
        for contours, which in (("both", slice(None)), ("largest", 0), ("all", 1)):
            found = ops.box_hits(scores, boxes, None, contours=contours, **how)
            np.testing.assert_array_equal(found, hits[which], err_msg=contours)

    def count_box_hits():
        found, _ = ops.count_box_hits(scores, boxes, None, contours="both", **how)
        np.testing.assert_array_equal(found, hits.sum(axis=2))

    def level_image():
        bins, ranks, affines = (torch.from_numpy(np.ascontiguousarray(each)) for each in wanted["image"])
        rows, offsets = (torch.from_numpy(each) for each in inputs.check_boxes(boxes[:1], 1))
        axes = torch.from_numpy(THRESHOLDS), torch.tensor(IOU_THRESHOLDS, dtype=torch.float64)
        found = trees.box_hits(bins, 4 * 255, rows, offsets, *axes, "both", ranks=ranks, affines=affines)
        np.testing.assert_array_equal(found.numpy(), wanted["of the image"])

    def threshold_boxes():
        for contours, listed in wanted["listed"].items():
            found = ops.threshold_boxes(scores, THRESHOLDS, contours=contours, backend="cuda")
            for of_map, wanted_of_map in zip(found, listed, strict=True):
                for each, wanted_of_each in zip(of_map, wanted_of_map, strict=True):
                    np.testing.assert_array_equal(each, wanted_of_each, err_msg=contours)

    for check in (box_hits, count_box_hits, level_image, threshold_boxes):
        if only in ("", check.__name__):
            check()

"""The reference twins answer to OpenCV and numpy."""

from functools import cache

import numpy as np
import oracle
import pytest
from cases import CASES, evaluation_size, mask, truth_boxes

from wsolkern import Normalization
from wsolkern.ops import DEFAULT_THRESHOLDS, LEVEL_SCORES
from wsolkern.ops.boxes import box_hits_reference, ious_reference
from wsolkern.ops.cutting import cut_points_reference, digitize_reference
from wsolkern.ops.histograms import pixel_histograms_reference
from wsolkern.ops.normalizing import affine_reference, normalize_reference
from wsolkern.ops.resizing import resize_reference

NORMALIZATIONS = ("minmax", "max", "pas:0.9", "pas:0.0", "ivr:0.45", "ivr:0.0", "ivr:0.97", "ivr:0.3+pas:0.8")
IOU_THRESHOLDS = (0.05, 0.3, 0.5, 0.7, 1.0)


@cache
def resized(name):
    return resize_reference(CASES[name][None], evaluation_size(name))


def published(f, normalization):
    """Score map and whether it is degenerate, by the oracle; degenerate maps are zeros."""
    scores = oracle.score_map(f, normalization)
    return (np.zeros_like(f), True) if scores is None else (scores, False)


@pytest.mark.parametrize("name", CASES)
def test_resize_reference_equals_opencv(name):
    f = CASES[name]
    for size in (evaluation_size(name), (1, 1), (5, 64), (33, 20), (2 * f.shape[0], 2 * f.shape[1])):
        np.testing.assert_array_equal(resize_reference(f[None], size)[0], oracle.resize(f, size))


def test_resize_reference_equals_opencv_between_any_sizes(rng):
    for _ in range(300):
        source, size = rng.integers(1, 80, 2), tuple(rng.integers(1, 260, 2).tolist())
        f = rng.standard_normal(source)
        np.testing.assert_array_equal(resize_reference(f[None], size)[0], oracle.resize(f, size))


def test_resize_reference_equals_opencv_where_the_scale_rounds():
    f = np.random.default_rng(0).standard_normal((1, 3165))
    np.testing.assert_array_equal(resize_reference(f[None], (1, 4096))[0], oracle.resize(f, (1, 4096)))


@pytest.mark.parametrize("name", CASES)
def test_normalize_reference_equals_the_published_formulas(name):
    f = resized(name)
    for normalization in NORMALIZATIONS:
        scores, degenerate = normalize_reference(f, Normalization.parse(normalization))
        expected, is_degenerate = published(f[0], normalization)
        np.testing.assert_array_equal(scores[0], expected, err_msg=normalization)
        assert degenerate.tolist() == [is_degenerate]


@pytest.mark.parametrize("name", CASES)
def test_affine_reference_equals_the_published_formulas(name):
    f = resized(name)
    numbers = affine_reference(f, tuple(map(Normalization.parse, NORMALIZATIONS)))[0]
    for normalization, (offset, divisor) in zip(NORMALIZATIONS, numbers, strict=True):
        expected, is_degenerate = published(f[0], normalization)
        assert (divisor == 0) == is_degenerate
        if not is_degenerate:
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(np.clip((f[0] - offset) / divisor, 0, 1), expected, err_msg=normalization)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("cam", "rings", "equal", "nan", "noise"))])
def test_box_hits_reference_equals_opencv(name):
    f, size, truth = CASES[name], evaluation_size(name), truth_boxes(name)
    thresholds = DEFAULT_THRESHOLDS[::8]
    names = ("minmax", "ivr:0.45")
    hits, degenerate = box_hits_reference(
        f[None], [truth], tuple(map(Normalization.parse, names)), thresholds, np.array(IOU_THRESHOLDS), "both", size
    )
    for m, normalization in enumerate(names):
        scores, is_degenerate = published(oracle.resize(f, size), normalization)
        assert degenerate[m, 0] == is_degenerate
        for c, largest in enumerate((True, False)):
            expected = oracle.hits(scores, truth, thresholds, IOU_THRESHOLDS, largest)
            np.testing.assert_array_equal(hits[c, m, 0], expected, err_msg=f"{normalization}, largest {largest}")


def test_ious_reference_equals_the_definition(rng):
    a, b = (np.sort(rng.integers(-5, 40, (60, 2, 2)), axis=1).reshape(60, 4) for _ in range(2))
    expected = [[oracle.iou(each, other) for other in b.tolist()] for each in a.tolist()]
    np.testing.assert_array_equal(ious_reference(a, b), expected)
    assert ious_reference(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 0]])) == 1


@pytest.mark.parametrize("name", CASES)
def test_pixel_histograms_reference_equals_numpy(name):
    thresholds = DEFAULT_THRESHOLDS if "thousandths" in name else np.array([0, 0.1, 0.25, 0.25, 0.5, 0.999])
    names = ("minmax", "pas:0.9")
    found, _ = pixel_histograms_reference(
        CASES[name][None], mask(name)[None], tuple(map(Normalization.parse, names)), thresholds, evaluation_size(name)
    )
    for m, normalization in enumerate(names):
        scores, _ = published(resized(name)[0], normalization)
        np.testing.assert_array_equal(found[m, 0], oracle.histograms(scores, mask(name), thresholds))


def test_level_scores_are_the_smallest_of_their_level():
    levels = np.arange(1, 256)
    np.testing.assert_array_equal((LEVEL_SCORES * 255).astype(np.uint8), levels)
    np.testing.assert_array_equal((np.nextafter(LEVEL_SCORES, 0) * 255).astype(np.uint8), levels - 1)


@pytest.mark.parametrize("name", CASES)
def test_cut_points_reference_are_the_smallest_that_reach(name):
    scores = np.concatenate([LEVEL_SCORES[::7], DEFAULT_THRESHOLDS[1::50], [2**-1074, 1e-300, 1]])
    numbers = affine_reference(resized(name), tuple(map(Normalization.parse, NORMALIZATIONS)))[0]
    cuts = cut_points_reference(numbers, scores)
    degenerate = numbers[:, 1] == 0
    assert np.isposinf(cuts[degenerate]).all() and np.isfinite(cuts[~degenerate]).all()
    offset, divisor = numbers[~degenerate, :1], numbers[~degenerate, 1:]
    with np.errstate(over="ignore"):
        at, below = (
            np.clip((f - offset) / divisor, 0, 1) for f in (cuts[~degenerate], np.nextafter(cuts[~degenerate], -np.inf))
        )
    assert (at >= scores).all() and (below < scores).all()


def test_cut_points_reference_at_the_ends():
    numbers = np.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(
        cut_points_reference(numbers, np.array([0.0, 0.5])), [[-np.inf, 0.5], [-np.inf, np.inf]]
    )


def test_digitize_reference_counts_the_cuts_below():
    f = np.array([[[-1.0, -0.0, 0.0, 0.5], [np.nan, 1.0, np.inf, -np.inf]]])
    cuts = np.array([[0.5, 0.0, np.inf, 0.0, 1.0, -np.inf]])
    bins, ranks = digitize_reference(f, cuts)
    assert bins.tolist() == [[[1, 3, 3, 4], [0, 5, 6, 1]]]
    assert ranks.tolist() == [[4, 3, 6, 3, 5, 1]]

"""Every backend gives the bits of the reference."""

from functools import cache

import numpy as np
import oracle
import pytest
import torch
from cases import CASES, batch, cams_of_one_size, evaluation_size, mask, smooth, truth_boxes
from shared import slow_but

from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops import backends
from wsolkern.ops.cutting import MAX_CUTS

NORMALIZATIONS = ("max", "pas:0.9", "ivr:0.3+pas:0.8")  # for boxes, where the reference is slow; score maps are min-max
MORE_NORMALIZATIONS = (*NORMALIZATIONS, "minmax", "ivr:0.45", "pas:0.0", "ivr:0.0", "ivr:0.97", "pas:0.999")
IOU_THRESHOLDS = (0.5, 0.05, 0.3, 0.7, 1.0)
# Every other of 255 levels, in no order, some of them twice.
THRESHOLDS = np.random.default_rng(0).permutation(np.concatenate([np.arange(130) / 130, [0.5, 0.5, 0, 1 - 2**-53]]))
SOME_THRESHOLDS = THRESHOLDS[::4]
SCORES = np.concatenate([ops.LEVEL_SCORES[::5], ops.DEFAULT_THRESHOLDS[::37], [1e-300, 2**-1074, 1]])


def cam_of(name):
    return CASES[name][None]


@cache
def resized(name):
    return ops.resize(cam_of(name), evaluation_size(name), backend="reference")


@cache
def scores_of(name):
    """Score maps float64 [2, H, W]: the case itself where it is in [0, 1], else its min-max; and a darker one."""
    f = resized(name)
    scores = f if f.min() >= 0 and f.max() <= 1 else ops.normalize(f, "minmax", backend="reference")
    return np.concatenate([scores, scores * 0.0371])


@cache
def expected_boxes(name, contours):
    """The reference's boxes, found once for all backends."""
    return ops.threshold_boxes(scores_of(name), THRESHOLDS, contours=contours, backend="reference")


@cache
def expected_hits(name):
    """The reference's hits under NORMALIZATIONS and of score maps, for both contours."""
    truth, how = truth_boxes(name), {"contours": "both", "backend": "reference"}
    return (
        ops.box_hits(
            cam_of(name), [truth], NORMALIZATIONS, SOME_THRESHOLDS, IOU_THRESHOLDS, size=evaluation_size(name), **how
        ),
        ops.box_hits(scores_of(name), [truth] * 2, None, SOME_THRESHOLDS, IOU_THRESHOLDS, **how),
    )


@pytest.mark.parametrize("isa", backends.ISAS)
def test_this_machine_tests(isa, monkeypatch):
    """Passes if the other tests run on this instruction set, skips if the machine has none such."""
    monkeypatch.delenv("WSOLKERN_ISA", raising=False)
    if isa != "generic" and isa not in backends.load("generic").cpu_supports():
        pytest.skip(f"this machine's CPU has no {isa}: nothing here tests wsolkern._native_{isa}")
    assert isa in backends.runnable_isas()
    assert backends.load(isa).__name__ == f"wsolkern._native_{isa}"


# On every case


@pytest.mark.parametrize("name", CASES)
def test_resize(native, name):
    f = cam_of(name)
    for size in (evaluation_size(name), (1, 1), (5, 64), (33, 20), (2 * f.shape[1], 2 * f.shape[2])):
        wanted = ops.resize(f, size, backend="reference")
        np.testing.assert_array_equal(ops.resize(f, size), wanted, err_msg=str(size))


def test_resize_where_the_scale_rounds(native):
    f = np.random.default_rng(0).standard_normal((1, 1, 3165))
    np.testing.assert_array_equal(ops.resize(f, (1, 4096))[0], oracle.resize(f[0], (1, 4096)))
    f = f.reshape(1, 3165, 1)
    np.testing.assert_array_equal(ops.resize(f, (4096, 1))[0], oracle.resize(f[0], (4096, 1)))


@pytest.mark.parametrize("name", CASES)
def test_normalize_and_affine(native, name):
    for normalization in MORE_NORMALIZATIONS:
        wanted = ops.normalize(resized(name), normalization, backend="reference")
        found = ops.normalize(cam_of(name), normalization, evaluation_size(name))
        np.testing.assert_array_equal(found, wanted, err_msg=normalization)
    wanted = ops.affine(resized(name), MORE_NORMALIZATIONS, backend="reference")
    np.testing.assert_array_equal(ops.affine(resized(name), MORE_NORMALIZATIONS), wanted)
    for m, alone in enumerate(MORE_NORMALIZATIONS):  # whose few order statistics are found another way
        np.testing.assert_array_equal(ops.affine(resized(name), alone), wanted[:, m : m + 1])


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 500, 512, 513, 50_000])
def test_order_statistics_of_values_that_lie_unevenly(native, size):
    rng = np.random.default_rng(size)
    kinds = {
        "uniform": rng.random(size),
        "steep": np.exp(rng.normal(0, 6, size)),
        "heavy": rng.standard_cauchy(size) ** 3,
        "three values": rng.choice([-1.0, 0.25, 3.0], size, p=[0.01, 0.98, 0.01]),
        "one far away": np.append(rng.random(size - 1), 1e12),
        "sorted": np.sort(rng.normal(0, 1, size)),
        "mostly zero": np.where(rng.random(size) < 0.9, 0.0, rng.normal(0, 1, size)),
        "neighbours": np.append(rng.choice([0.5, np.nextafter(0.5, 1)], size - 1), 0.0),
        "a crowd": np.append(rng.random(size - 1) * 1e-9, 1.0),
        "zeros of both signs": rng.choice([-1.0, -0.0, 0.0, 1.0], size, p=[0.1, 0.4, 0.4, 0.1]),
    }
    many = [f"ivr:{percent / 100}" for percent in range(0, 100, 3)]  # found another way than a few
    for kind, values in kinds.items():
        f = values.reshape(1, 1, -1) if size <= 500 else np.resize(values, (1, -(-size // 250), 250))
        for alone in ("ivr:0.45", "pas:0.5", "ivr:0.0", "pas:0.999", "ivr:0.1+pas:0.9"):
            wanted = ops.affine(f, alone, backend="reference")
            np.testing.assert_array_equal(ops.affine(f, alone), wanted, err_msg=f"{kind}, {alone}")
        wanted = ops.affine(f, many, backend="reference")
        np.testing.assert_array_equal(ops.affine(f, many), wanted, err_msg=f"{kind}, many")


@pytest.mark.parametrize("name", CASES)
def test_cut_points(native, name):
    for f in (resized(name), scores_of(name) - 0.2):
        wanted = ops.cut_points(f, MORE_NORMALIZATIONS, SCORES, backend="reference")
        np.testing.assert_array_equal(ops.cut_points(f, MORE_NORMALIZATIONS, SCORES), wanted)


@pytest.mark.parametrize("name", CASES)
def test_bins_decide_as_quantizing_each_normalization_does(backend, name):
    f = resized(name)
    cuts = ops.cut_points(f, MORE_NORMALIZATIONS, backend=backend)
    bins, ranks = ops.digitize(f, cuts, backend=backend)
    assert bins.dtype == ranks.dtype == np.int16 and ranks.shape == cuts.shape
    for m, normalization in enumerate(MORE_NORMALIZATIONS):
        levels = (ops.normalize(f, normalization, backend="reference") * 255).astype(np.uint8)
        found = np.searchsorted(ranks[0, m], bins, side="right")
        if np.isposinf(cuts[0, m]).all():  # no score map: only an infinite pixel reaches such a cut
            found[np.isposinf(f)] = 0
        np.testing.assert_array_equal(found, levels, err_msg=normalization)


@pytest.mark.parametrize("name", CASES)
def test_digitize(native, name):
    f = resized(name)
    numbers = f[~np.isnan(f)] if not np.isnan(f).all() else np.zeros(1)
    some = np.random.default_rng(0).choice(numbers, (1, 40))
    cuts = np.concatenate([some, np.nextafter(some, np.inf), [[np.inf, -np.inf, 0.0, -0.0, 1e308, 2**-1074]]], axis=1)
    for found, wanted in zip(ops.digitize(f, cuts), ops.digitize(f, cuts, backend="reference"), strict=True):
        np.testing.assert_array_equal(found, wanted)


def assert_same_boxes(found, wanted):
    for threshold, boxes, wanted_boxes in zip(THRESHOLDS, found, wanted, strict=True):
        assert np.array_equal(boxes, wanted_boxes), f"threshold {threshold}: {boxes.tolist()}, not {wanted_boxes}"
        assert boxes.dtype == np.int32


def test_digitize_with_as_many_cuts_as_bins_can_tell_apart(native):
    f = np.random.default_rng(0).random((2, 40, 41))
    cuts = np.random.default_rng(1).random((2, MAX_CUTS))
    f[0, 0, :2], cuts[1, :300] = (0, 1), 0.25
    for found, wanted in zip(ops.digitize(f, cuts), ops.digitize(f, cuts, backend="reference"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert found.max() == MAX_CUTS


@pytest.mark.parametrize("contours", ["largest", "all"])
@pytest.mark.parametrize("name", slow_but([*CASES][::3], CASES))
def test_threshold_boxes_of_the_reference_equal_opencv(name, contours):
    for score_map, found in zip(scores_of(name), expected_boxes(name, contours), strict=True):
        wanted = [oracle.boxes(score_map, threshold, contours == "largest") for threshold in THRESHOLDS]
        assert_same_boxes(found, [sorted(boxes.tolist()) for boxes in wanted])


@pytest.mark.parametrize("contours", ["largest", "all"])
@pytest.mark.parametrize("name", CASES)
def test_threshold_boxes(native, name, contours):
    found = ops.threshold_boxes(scores_of(name), THRESHOLDS, contours=contours)
    for per_threshold, wanted in zip(found, expected_boxes(name, contours), strict=True):
        assert_same_boxes(per_threshold, wanted)


@pytest.mark.parametrize("name", CASES)
def test_box_hits(native, name):
    of_cams, of_scores = expected_hits(name)
    truth, size = [truth_boxes(name)], evaluation_size(name)
    for contours, which in (("both", slice(None)), ("largest", 0), ("all", 1)):
        how = {"thresholds": SOME_THRESHOLDS, "iou_thresholds": IOU_THRESHOLDS, "contours": contours}
        found = ops.box_hits(cam_of(name), truth, NORMALIZATIONS, size=size, **how)
        np.testing.assert_array_equal(found, of_cams[which], err_msg=contours)
        assert found.dtype == bool
        found = ops.box_hits(scores_of(name), truth * 2, None, **how)
        np.testing.assert_array_equal(found, of_scores[which], err_msg=contours)
        for m, alone in enumerate(NORMALIZATIONS):  # whose levels are found another way
            found = ops.box_hits(cam_of(name), truth, alone, size=size, **how)
            np.testing.assert_array_equal(found[..., 0, :, :, :], of_cams[which][..., m, :, :, :], err_msg=contours)


@pytest.mark.parametrize("name", CASES)
def test_pixel_histograms(native, name):
    masks, scores = np.stack([mask(name)] * 2), scores_of(name)
    for thresholds in (ops.DEFAULT_THRESHOLDS, [0.1, 0.25, 0.25, 0.5]):
        how = {"thresholds": thresholds, "size": evaluation_size(name)}
        wanted = ops.pixel_histograms(cam_of(name), masks[:1], MORE_NORMALIZATIONS, **how, backend="reference")
        found = ops.pixel_histograms(cam_of(name), masks[:1], MORE_NORMALIZATIONS, **how)
        np.testing.assert_array_equal(found, wanted)
        wanted = ops.pixel_histograms(scores, masks, None, **how, backend="reference")
        np.testing.assert_array_equal(ops.pixel_histograms(scores, masks, None, **how), wanted)


# Many maps, many normalizations


@cache
def cams_and_opencv_hits(shape, size, normalizations, kind):
    """Three CAMs, their ground truth, and OpenCV's hits bool [2, M, 3, D, T] of each normalization on its own."""
    rng = np.random.default_rng(shape)
    cams = cams_of_one_size(3, shape, seed=shape[0])
    if kind == "cam_with_texture":
        cams = np.stack([smooth(rng, *shape) + 0.02 * rng.standard_normal(shape) for _ in range(3)])
    elif kind == "plateaus":
        cams = np.stack([np.round(3 * smooth(rng, *shape)) for _ in range(3)])
    boxes = np.array([[3, 4, 20, 19], [0, 0, 32, 28], [9, 9, 12, 22], [15, 2, 28, 28]]) * size[0] // 28
    truth = [boxes[:1], boxes[1:3], boxes[3:]]
    thresholds = ops.DEFAULT_THRESHOLDS[::5]
    hits = np.zeros((2, len(normalizations), 3, 3, len(thresholds)), bool)
    for m, normalization in enumerate(normalizations):
        for n in range(3):
            scores = oracle.score_map(oracle.resize(cams[n], size), normalization)
            scores = np.zeros(size) if scores is None else scores
            for c, largest in enumerate((True, False)):
                hits[c, m, n] = oracle.hits(scores, truth[n], thresholds, (0.3, 0.5, 0.7), largest)
    return cams, truth, thresholds, hits


@pytest.mark.parametrize("shape", [(14, 14), (7, 9)])
def test_24_normalizations_at_once_equal_24_evaluations(native, shape):
    normalizations = (
        *(f"ivr:{p}" for p in np.arange(0, 1, 0.08).round(2).tolist()),
        *(f"pas:{p}" for p in (0.5, 0.8, 0.9, 0.95, 0.99)),
        *("minmax", "max", "ivr:0.45+pas:0.9", "ivr:0.2+pas:0.95", "ivr:0.1+pas:0.3", "ivr:0.999"),
    )
    assert len(normalizations) == 24
    cams, truth, thresholds, wanted = cams_and_opencv_hits(shape, (28, 30), normalizations, "cam")
    found = ops.box_hits(cams, truth, normalizations, thresholds, contours="both", size=(28, 30))
    np.testing.assert_array_equal(found, wanted)
    assert wanted.any() and not wanted.all()


@pytest.mark.parametrize(("kind", "side"), [("cam", 14), ("cam_with_texture", 224), ("plateaus", 224)])
def test_an_evaluation_at_224_equals_opencv(native, kind, side):
    cams, truth, thresholds, wanted = cams_and_opencv_hits((side, side), (224, 224), ("ivr:0.45",), kind)
    np.testing.assert_array_equal(ops.box_hits(cams, truth, "ivr:0.45", thresholds, contours="both"), wanted)
    assert wanted.any() and not wanted.all()


@pytest.fixture(scope="module")
def batch_counts():
    """What the reference gives for a batch: hits, histograms and which maps are degenerate."""
    cams, boxes, masks = batch()
    how = {
        "normalizations": NORMALIZATIONS,
        "size": (21, 20),
        "thresholds": SOME_THRESHOLDS[:30],
        "backend": "reference",
    }
    degenerate = (
        ops.affine(ops.resize(cams, (21, 20), backend="reference"), NORMALIZATIONS, backend="reference")[..., 1] == 0
    )
    assert degenerate.any() and not degenerate.all()
    hits = ops.box_hits(cams, boxes, contours="both", **how)
    return hits, degenerate.T


def test_counts_are_sums_over_the_maps(backend, batch_counts):
    cams, boxes, masks = batch()
    hits, is_degenerate = batch_counts
    how = {"normalizations": NORMALIZATIONS, "size": (21, 20), "backend": backend}
    thresholds, edges = SOME_THRESHOLDS[:30], np.sort(SOME_THRESHOLDS)

    counts, degenerate = ops.count_box_hits(cams, boxes, thresholds=thresholds, contours="both", **how)
    np.testing.assert_array_equal(counts, hits.sum(axis=2))
    np.testing.assert_array_equal(degenerate, is_degenerate)
    assert counts.dtype == np.int64 and degenerate.dtype == bool
    for contours, some in (("largest", hits[0]), ("all", hits[1])):
        counts, _ = ops.count_box_hits(cams, boxes, thresholds=thresholds, contours=contours, **how)
        np.testing.assert_array_equal(counts, some.sum(axis=1))

    histograms = ops.pixel_histograms(cams, masks, thresholds=edges, **{**how, "backend": "reference"})
    pixels, degenerate = ops.count_pixels(cams, masks, thresholds=edges, **how)
    np.testing.assert_array_equal(pixels, histograms.sum(axis=1))
    np.testing.assert_array_equal(degenerate, is_degenerate)
    assert pixels.dtype == np.int64 and degenerate.dtype == bool


@pytest.mark.parametrize("contours", ["both", "all"])
def test_counts_in_groups_are_sums_over_the_maps_of_each(backend, batch_counts, contours):
    cams, boxes, _ = batch()
    hits, is_degenerate = batch_counts
    how = {"thresholds": SOME_THRESHOLDS[:30], "contours": contours, "size": (21, 20), "backend": backend}
    groups = np.arange(len(cams)) % 3  # the last one is empty
    for values in (groups, torch.from_numpy(groups).to(torch.int16), [2] * len(cams)):
        counts, degenerate = ops.count_box_hits(cams, boxes, NORMALIZATIONS, groups=values, num_groups=4, **how)
        wanted = np.stack([hits[:, :, np.asarray(values) == g].sum(axis=2) for g in range(4)])
        np.testing.assert_array_equal(counts, wanted if contours == "both" else wanted[:, 1])
        assert counts.dtype == np.int64 and counts.any()
        np.testing.assert_array_equal(degenerate, is_degenerate)
    for wrong, message in (
        (groups[1:], f"expected {len(cams)} integers, found int64"),
        (groups + 0.0, f"expected {len(cams)} integers, found float64"),
        (groups[None], f"expected {len(cams)} integers, found int64"),
        (groups + 2, r"expected integers in \[0, 4\), found 4"),
        (groups - 1, r"expected integers in \[0, 4\), found -1"),
    ):
        with pytest.raises(ValueError, match=f"groups: {message}"):
            ops.count_box_hits(cams, boxes, NORMALIZATIONS, groups=wrong, num_groups=4, **how)


def test_pixels_in_groups_are_sums_over_the_maps_of_each(backend):
    cams, _, masks = batch()
    how = {"thresholds": SOME_THRESHOLDS[:30], "size": (21, 20), "backend": backend}
    edges = how["thresholds"] = np.sort(how["thresholds"])
    each = ops.pixel_histograms(cams, masks, NORMALIZATIONS, **how)
    groups = np.arange(len(cams)) % 3  # the last one is empty
    for values in (groups, [2] * len(cams)):
        counts, degenerate = ops.count_pixels(cams, masks, NORMALIZATIONS, groups=values, num_groups=4, **how)
        wanted = np.stack([each[:, np.asarray(values) == g].sum(axis=1) for g in range(4)])
        np.testing.assert_array_equal(counts, wanted)
        assert counts.dtype == np.int64 and counts.any() and counts.shape[-1] == len(edges) + 2
        np.testing.assert_array_equal(degenerate, ops.count_pixels(cams, masks, NORMALIZATIONS, **how)[1])
    with pytest.raises(ValueError, match=r"groups: expected integers in \[0, 2\), found 2"):
        ops.count_pixels(cams, masks, NORMALIZATIONS, groups=groups, num_groups=2, **how)


def test_what_is_no_score_map_is_named_by_its_place_among_all_groups(backend):
    scores = np.full((3, 4, 5), 0.5)
    scores[1, 2, 3] = 1.5
    with pytest.raises(ValueError, match=r"cams\[1\]: expected a score map .*, found 1.5 at row 2, column 3"):
        ops.count_box_hits(
            scores, [np.array([[0, 0, 1, 1]])] * 3, None, groups=[1, 0, 1], num_groups=2, backend=backend
        )


def test_results_do_not_depend_on_the_number_of_threads(native, monkeypatch):
    cams, boxes, masks = batch()
    scores = ops.normalize(cams, "minmax", (21, 20), backend="reference")
    how = {"normalizations": MORE_NORMALIZATIONS, "thresholds": ops.DEFAULT_THRESHOLDS[::7], "size": (21, 20)}

    def everything():
        yield ops.resize(cams, (21, 20))
        yield ops.normalize(cams, "ivr:0.45", (21, 20))
        yield ops.cut_points(cams, MORE_NORMALIZATIONS)
        yield from ops.digitize(cams, ops.cut_points(cams, MORE_NORMALIZATIONS))
        yield ops.box_hits(cams, boxes, contours="both", **how)
        yield from ops.count_box_hits(cams, boxes, contours="both", **how)
        yield ops.pixel_histograms(cams, masks, **how)
        yield from ops.count_pixels(cams, masks, **how)
        yield np.concatenate([boxes for per_map in ops.threshold_boxes(scores) for boxes in per_map])

    results = {}
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("WSOLKERN_NUM_THREADS", threads)
        assert backends.num_threads() == int(threads)
        results[threads] = list(everything())
    for threads in ("2", "3"):
        for found, wanted in zip(results[threads], results["1"], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_more_normalizations_and_iou_thresholds_than_one_native_call_takes(native):
    cams, boxes, masks = (each[:2] for each in batch())
    how = {
        "normalizations": [f"ivr:{p}" for p in (np.arange(131) / 140).tolist()],
        "thresholds": [0.2, 0.5],
        "size": (21, 20),
    }
    deltas = (1 + np.arange(67)) / 67
    wanted = ops.box_hits(cams, boxes, iou_thresholds=deltas, contours="both", **how, backend="reference")
    found = ops.box_hits(cams, boxes, iou_thresholds=deltas, contours="both", **how)
    np.testing.assert_array_equal(found, wanted)
    counts, degenerate = ops.count_box_hits(cams, boxes, iou_thresholds=deltas, **how)
    np.testing.assert_array_equal(counts, wanted[1].sum(axis=1))
    assert degenerate.shape == (131, 2)
    scores = ops.normalize(cams, "ivr:0.0", (21, 20))
    found = ops.box_hits(scores, boxes, None, [0.2, 0.5], deltas, contours="both")
    np.testing.assert_array_equal(found, wanted[:, :1])

    wanted = ops.pixel_histograms(cams, masks, **how, backend="reference")
    np.testing.assert_array_equal(ops.pixel_histograms(cams, masks, **how), wanted)
    np.testing.assert_array_equal(ops.count_pixels(cams, masks, **how)[0], wanted.sum(axis=1))


def test_an_empty_batch(backend):
    none, no_masks = np.empty((0, 7, 7)), np.empty((0, 21, 20), np.uint8)
    how = {"size": (21, 20), "backend": backend}
    assert ops.normalize(none, "max", **how).shape == (0, 21, 20)
    assert ops.box_hits(none, [], NORMALIZATIONS, **how).shape == (3, 0, 3, 1000)
    counts, degenerate = ops.count_box_hits(none, [], NORMALIZATIONS, contours="both", **how)
    assert counts.shape == (2, 3, 3, 1000) and not counts.any() and degenerate.shape == (3, 0)
    assert ops.pixel_histograms(none, no_masks, NORMALIZATIONS, **how).shape == (3, 0, 2, 1002)
    assert not ops.count_pixels(none, no_masks, NORMALIZATIONS, **how)[0].any()
    assert ops.threshold_boxes(none, backend=backend) == []


# By hand


def test_boxes_of_scores_below_the_first_level(backend):
    for scores in (np.zeros((1, 4, 5)), np.full((1, 4, 5), 1 / 256), np.zeros((1, 1, 1))):
        for contours in ("largest", "all"):
            ((boxes,),) = ops.threshold_boxes(scores, [0.3], contours=contours, backend=backend)
            assert boxes.tolist() == [[0, 0, 0, 0]]


def test_boxes_keep_the_published_corners(backend):
    scores = np.zeros((1, 6, 8))
    scores[0, 1:4, 2:7] = 1
    scores[0, 2, 4] = 0
    scores[0, 5, 7] = 0.5
    found = ops.threshold_boxes(scores, [0.2, 0.6], backend=backend)
    assert found[0][0].tolist() == [[2, 1, 7, 4], [3, 1, 6, 4], [7, 5, 7, 5]]
    assert found[0][1].tolist() == [[2, 1, 7, 4], [3, 1, 6, 4]]
    found = ops.threshold_boxes(scores, [0.2, 0.2], contours="largest", backend=backend)
    assert found[0][0] is found[0][1] and found[0][0].tolist() == [[2, 1, 7, 4]]


def test_score_maps_are_never_degenerate(backend):
    scores, boxes = np.stack([np.zeros((6, 5)), np.full((6, 5), 0.5)]), [np.array([[0, 0, 0, 0]])] * 2
    counts, degenerate = ops.count_box_hits(scores, boxes, None, [0.0, 0.5], backend=backend)
    assert degenerate.tolist() == [[False, False]]
    assert counts.tolist() == [[[1, 1]] * 3]  # nothing is above level 0 of 0, and then the box is 0 0 0 0
    _, degenerate = ops.count_pixels(scores, np.ones((2, 6, 5), np.uint8), None, backend=backend)
    assert degenerate.tolist() == [[False, False]]


# The native functions themselves, on poisoned buffers


def poisoned(shape, dtype):
    return np.full(shape, 0x5A, np.uint8).repeat(np.dtype(dtype).itemsize, axis=-1).view(dtype)


def test_native_functions_write_all_of_their_output(native):
    cams, boxes, masks = batch()
    size, normalizations = (21, 20), parse_all(NORMALIZATIONS)
    m, n, t = len(normalizations), len(cams), 50
    thresholds, deltas = np.arange(t) / t, np.array([0.3, 0.5])
    ranks = np.array([each.ranks(21 * 20) for each in normalizations])
    rows = np.concatenate(boxes).astype(np.int32)
    offsets = np.cumsum([0, *map(len, boxes)])
    reference = {"backend": "reference"}

    f = poisoned((n, *size), np.float64)
    native.resize(cams, f, 2)
    np.testing.assert_array_equal(f, ops.resize(cams, size, **reference))
    numbers = poisoned((n, m, 2), np.float64)
    native.affine(f, ranks, numbers, 2)
    np.testing.assert_array_equal(numbers, ops.affine(f, normalizations, **reference))
    for k, normalization in enumerate(normalizations):
        scores = poisoned(f.shape, np.float64)
        native.normalize(f, np.ascontiguousarray(numbers[:, k]), scores, 2)
        np.testing.assert_array_equal(scores, ops.normalize(f, normalization, **reference))
    cuts = poisoned((n * m, 255), np.float64)
    native.cut_points(numbers.reshape(-1, 2), ops.LEVEL_SCORES, cuts, 2)
    cuts = cuts.reshape(n, m * 255)
    np.testing.assert_array_equal(cuts.reshape(n, m, 255), ops.cut_points(f, normalizations, **reference))
    bins, bin_ranks = poisoned(f.shape, np.int16), poisoned(cuts.shape, np.int16)
    native.digitize(f, cuts, bins, bin_ranks, 2)
    for found, wanted in zip((bins, bin_ranks), ops.digitize(f, cuts, **reference), strict=True):
        np.testing.assert_array_equal(found, wanted)

    how = {"thresholds": thresholds, "size": size, **reference}
    wanted = ops.box_hits(cams, boxes, normalizations, iou_thresholds=deltas, contours="both", **how)
    is_degenerate = ops.count_pixels(cams, masks, normalizations, **how)[1]
    for contours, some in ((1, wanted[:1]), (2, wanted[1:]), (3, wanted)):
        hits, degenerate = poisoned(some.shape, np.uint8), poisoned((m, n), np.uint8)
        counts = np.full((*some.shape[:2], *some.shape[3:]), 1000)
        native.box_hits(
            cams, size, ranks, rows, offsets, deltas, thresholds, contours, hits, counts, degenerate, 2
        )  # fmt: skip
        np.testing.assert_array_equal(hits, some)
        np.testing.assert_array_equal(counts, some.sum(axis=2) + 1000)
        np.testing.assert_array_equal(degenerate, is_degenerate)

    wanted = ops.pixel_histograms(cams, masks, normalizations, **how)
    out, degenerate = poisoned(wanted.shape, np.int64), poisoned((m, n), np.uint8)
    total = np.full((m, 2, t + 2), 1000)
    native.pixel_histograms(cams, size, ranks, thresholds, masks, out, total, degenerate, 2)
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(total, wanted.sum(axis=1) + 1000)
    np.testing.assert_array_equal(degenerate, is_degenerate)

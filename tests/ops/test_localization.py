"""IoUs and localizations: every backend gives the reference's, which are what hits, boxes and OpenCV say.

In: the table of named maps, batches, random maps. Out: the best IoU per threshold, the largest contour's box, how many
contours there are.
Source: none.
"""

from functools import cache

import numpy as np
import oracle
import pytest
from cases import CASES, FEW_CASES, batch, cams_of_one_size, evaluation_size, truth_boxes
from shared import slow_but

from wsolkern import BackendUnavailable, ops
from wsolkern.ops.boxes import ious_reference

NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.3+pas:0.8")
IOU_THRESHOLDS = np.array([0.05, 0.3, 0.5, 0.7, 1.0])
THRESHOLDS = np.random.default_rng(0).permutation(np.append(np.arange(18) / 18, [0.5, 1 - 2**-53]))
OWN_THRESHOLDS = np.stack([np.roll(THRESHOLDS, m)[:4] for m in range(len(NORMALIZATIONS))])


@cache
def scores_of(name):
    """Score maps float64 [M, H, W], one a normalization; zeros where there is none."""
    resized = ops.resize(CASES[name][None], evaluation_size(name), backend="reference")
    return np.concatenate([ops.normalize(resized, each, backend="reference") for each in NORMALIZATIONS])


@cache
def expected_ious(name):
    """Of the case under NORMALIZATIONS and of its score maps, for both contours, by the reference."""
    how = {"contours": "both", "backend": "reference"}
    truth, scores = truth_boxes(name), scores_of(name)
    of_cam = ops.box_ious(CASES[name][None], [truth], NORMALIZATIONS, THRESHOLDS, size=evaluation_size(name), **how)
    return of_cam, ops.box_ious(scores / 9, [truth] * len(scores), None, THRESHOLDS, **how)


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_ious_of_the_reference_equal_opencv(name):
    of_cam, _ = expected_ious(name)
    for m, scores in enumerate(scores_of(name)):
        for c, largest in enumerate((True, False)):
            for t, threshold in enumerate(THRESHOLDS[:6]):
                boxes = oracle.boxes(scores, threshold, largest)
                wanted = max(oracle.iou(a, b) for a in boxes.tolist() for b in truth_boxes(name).tolist())
                assert of_cam[c, m, 0, t] == wanted


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_box_ious(native, name):
    truth, scores = truth_boxes(name), scores_of(name)
    of_cam, of_scores = expected_ious(name)
    for contours, which in (("both", slice(None)), ("largest", 0), ("all", 1)):
        how = {"thresholds": THRESHOLDS, "contours": contours}
        found = ops.box_ious(CASES[name][None], [truth], NORMALIZATIONS, size=evaluation_size(name), **how)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, of_cam[which])
        found = ops.box_ious(scores / 9, [truth] * len(scores), None, **how)
        np.testing.assert_array_equal(found, of_scores[which])


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_hits_are_ious_that_reach_a_threshold(native, name):
    of_cam, _ = expected_ious(name)
    hits = ops.box_hits(
        CASES[name][None], [truth_boxes(name)], NORMALIZATIONS, THRESHOLDS, IOU_THRESHOLDS, contours="both",
        size=evaluation_size(name),
    )  # fmt: skip
    np.testing.assert_array_equal(of_cam[..., None, :] >= IOU_THRESHOLDS[:, None], hits)


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_localize(backend, name):
    how = {"size": evaluation_size(name), "backend": backend}
    found = ops.localize(CASES[name][None], NORMALIZATIONS, OWN_THRESHOLDS, **how)
    of_scores = ops.localize(scores_of(name), None, OWN_THRESHOLDS[1], backend=backend)
    for each in (found, of_scores):
        assert [part.dtype for part in each] == [np.int32, np.int32, bool]
    affine = ops.affine(ops.resize(CASES[name][None], evaluation_size(name)), NORMALIZATIONS)
    np.testing.assert_array_equal(found.degenerate, (affine[..., 1] == 0).T)
    for m, scores in enumerate(scores_of(name)):
        for boxes, num_contours, thresholds in (
            (found.boxes[m, 0], found.num_contours[m, 0], OWN_THRESHOLDS[m]),
            (of_scores.boxes[0, m], of_scores.num_contours[0, m], OWN_THRESHOLDS[1]),
        ):
            for t, threshold in enumerate(thresholds):
                every = oracle.boxes(scores, threshold, False)
                wanted = 0 if int(scores.max() * 255) == 0 else len(every)
                assert num_contours[t] == wanted
                np.testing.assert_array_equal(boxes[t][None], oracle.boxes(scores, threshold, True))
    for m, normalization in enumerate(NORMALIZATIONS):  # few thresholds, without a tree
        alone = ops.localize(CASES[name][None], normalization, OWN_THRESHOLDS[m], **how)
        for part, whole in zip(alone, found, strict=True):
            np.testing.assert_array_equal(part[0], whole[m])
    many = ops.localize(scores_of(name), None, np.append(OWN_THRESHOLDS[1], THRESHOLDS), backend=backend)  # with one
    for part, few in zip(many[:2], of_scores[:2], strict=True):
        np.testing.assert_array_equal(part[:, :, : OWN_THRESHOLDS.shape[1]], few)


def test_a_batch_gives_what_its_maps_give(backend, monkeypatch):
    cams, boxes, _ = batch()
    how = {"size": (21, 20), "backend": backend}
    for threads in ("1", "3"):
        monkeypatch.setenv("WSOLKERN_NUM_THREADS", threads)
        ious = ops.box_ious(cams, boxes, NORMALIZATIONS, THRESHOLDS[:5], contours="both", **how)
        places = ops.localize(cams, NORMALIZATIONS, OWN_THRESHOLDS, **how)
        for n in range(len(cams)):
            one = slice(n, n + 1)
            alone = ops.box_ious(cams[one], boxes[one], NORMALIZATIONS, THRESHOLDS[:5], contours="both", **how)
            np.testing.assert_array_equal(ious[:, :, one], alone)
            for found, wanted in zip(
                places, ops.localize(cams[one], NORMALIZATIONS, OWN_THRESHOLDS, **how), strict=True
            ):
                np.testing.assert_array_equal(found[:, one], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_maps(native, rng):
    """300 maps each, of all kinds and odd sizes; localize answers to threshold_boxes, IoUs to these and to hits."""
    deltas = np.array([0.1, 0.5, 0.9])
    for _ in range(12):
        shape, size = rng.integers(1, 12, 2), tuple(rng.integers(1, 40, 2).tolist())
        cams = cams_of_one_size(25, tuple(shape), int(rng.integers(1 << 30)))
        corners = np.sort(rng.integers(0, size[::-1], (25, 2, 2, 2)), axis=2).reshape(25, 2, 4)
        names = (f"ivr:{rng.integers(0, 99) / 100}", "minmax", f"pas:{rng.integers(1, 99) / 100}", "max")
        thresholds = rng.random((4, rng.integers(1, 7)))
        places = ops.localize(cams, names, thresholds, size=size)
        for m, name in enumerate(names):
            how = {"size": size, "contours": "both"}
            ious = ops.box_ious(cams, list(corners), name, thresholds[m], **how)
            hits = ops.box_hits(cams, list(corners), name, thresholds[m], deltas, **how)
            np.testing.assert_array_equal(ious[..., None, :] >= deltas[:, None], hits)
            scores = ops.normalize(cams, name, size)
            largest, every = (ops.threshold_boxes(scores, thresholds[m], contours=each) for each in ("largest", "all"))
            is_empty = (scores.max(axis=(1, 2)) * 255).astype(int) == 0
            for n in range(25):
                for t in range(thresholds.shape[1]):
                    np.testing.assert_array_equal(places.boxes[m, n, t][None], largest[n][t])
                    assert places.num_contours[m, n, t] == (0 if is_empty[n] else len(every[n][t]))
                    for c, boxes in enumerate((largest[n][t], every[n][t])):
                        assert ious[c, 0, n, t] == ious_reference(boxes, corners[n]).max()


def test_thresholds_of_all_normalizations_or_of_each(backend):
    cams, _, _ = batch()
    how = {"size": (21, 20), "backend": backend}
    shared = ops.localize(cams, "max minmax", [0.1, 0.4], **how)
    for m, name in enumerate(("max", "minmax")):
        for found, wanted in zip(shared, ops.localize(cams, name, [0.1, 0.4], **how), strict=True):
            np.testing.assert_array_equal(found[m : m + 1], wanted)
    own = ops.localize(cams, "max minmax", [[0.1], [0.4]], **how)
    np.testing.assert_array_equal(own.boxes[0], shared.boxes[0, :, :1])
    np.testing.assert_array_equal(own.boxes[1], shared.boxes[1, :, 1:])


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([[0.1], [0.2], [0.3]], "with a row for each of 2 normalizations, found shape (3, 1)"),
        (0.1, "found shape ()"),
        ([], "found shape (0,)"),
        ([[0.1], [1.0]], "expected fractions in [0, 1), found 1.0"),
        ([["a"], ["b"]], "expected fractions"),
    ],
)
def test_thresholds_that_localize_refuses(thresholds, message):
    with pytest.raises(ValueError) as raised:
        ops.localize(np.zeros((1, 5, 5)), "max minmax", thresholds)
    assert "thresholds" in str(raised.value) and message in str(raised.value)


def test_an_empty_batch(backend):
    none, how = np.empty((0, 7, 7)), {"size": (21, 20), "backend": backend}
    assert ops.box_ious(none, [], "max minmax", contours="both", **how).shape == (2, 2, 0, 1000)
    assert [part.shape for part in ops.localize(none, "max minmax", [0.1], **how)] == [(2, 0, 1, 4), (2, 0, 1), (2, 0)]


def test_score_maps_outside_their_range_are_refused(backend):
    scores = np.full((2, 6, 5), 0.5)
    scores[1, 2, 3] = 1.5
    for call in (
        lambda: ops.box_ious(scores, [np.array([[0, 0, 1, 1]])] * 2, None, backend=backend),
        lambda: ops.localize(scores, None, [0.1], backend=backend),
    ):
        with pytest.raises(ValueError, match=r"cams\[1\]: expected a score map with values in \[0, 1\], found 1.5"):
            call()


def test_there_is_no_kernel_for_a_device():
    cams, boxes, _ = batch()
    for call in (
        lambda: ops.box_ious(cams, boxes, "max", backend="cuda"),
        lambda: ops.localize(cams, "max", [0.1], backend="cuda"),
    ):
        with pytest.raises(BackendUnavailable, match="no kernel does this"):
            call()


@pytest.mark.gpu
def test_maps_on_a_device_are_answered_there():
    import torch

    cams, boxes, _ = batch()
    on_device = torch.from_numpy(cams).cuda()
    ious = ops.box_ious(on_device, boxes, "max", size=(21, 20))
    assert ious.device == on_device.device
    np.testing.assert_array_equal(ious.cpu(), ops.box_ious(cams, boxes, "max", size=(21, 20)))
    places = ops.localize(on_device, "max", [0.1], size=(21, 20))
    for found, wanted in zip(places, ops.localize(cams, "max", [0.1], size=(21, 20)), strict=True):
        assert found.device == on_device.device
        np.testing.assert_array_equal(found.cpu(), wanted)


@pytest.mark.parametrize(
    ("num_levels", "density"),
    slow_but([(3, 0.35)], [(3, 0.35), (2, 0.2), (6, 1), (9, 0.5), (40, 1), (256, 1), (5, 0.1)]),
)
def test_the_largest_of_thousands_of_components(native, rng, num_levels, density):
    """Holes, equal areas and winners that join others, where the native core follows all components."""
    shape = 2, 80, 100
    scores = rng.integers(1, num_levels, shape, endpoint=True) / num_levels * (rng.random(shape) < density)
    scores[:1] += rng.random(shape[1:]) / 1000 * (scores[:1] > 0)  # several 8-bit levels next to each other
    scores = np.minimum(scores, 1)
    thresholds = np.unique(np.append(np.arange(4) / 4, np.arange(num_levels)[:8] / num_levels))
    truth = [np.array([[20, 10, 90, 70], [3, 4, 9, 9]])] * len(scores)
    found, wanted = (
        ops.localize(scores, None, thresholds, size=shape[1:], backend=each) for each in ("cpu", "reference")
    )
    for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    found, wanted = (
        ops.box_ious(scores, truth, None, thresholds, contours="both", backend=each) for each in ("cpu", "reference")
    )
    np.testing.assert_array_equal(found, wanted)

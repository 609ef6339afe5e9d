"""The component trees of the CUDA extension against the reference and the CPU engine.

Without a GPU the same source runs in blocks of host threads, in an order that changes with every launch.
"""

from functools import cache

import numpy as np
import pytest
import torch
from cases import CASES, FEW_CASES, cams_of_one_size, evaluation_size, smooth, truth_boxes
from shared import slow_but

from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops import inputs
from wsolkern.ops.backends import device_module, device_of, missing_for_cuda
from wsolkern.ops.constants import CONTOURS
from wsolkern.ops.gpu import trees

NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.3+pas:0.8")
IOU_THRESHOLDS = (0.5, 0.05, 0.3, 0.7, 1.0)
THRESHOLDS = np.random.default_rng(0).permutation(np.arange(100) / 100)[::3]
# What fits in shared memory, and all of it in scratch memory.
BOTH_PATHS = pytest.mark.parametrize("shared", ["227000", "0"], ids=["in_shared_memory", "in_global_memory"])


@pytest.mark.gpu
def test_this_machine_tests_a_gpu():
    """Passes if the other tests run on a device; where it is skipped, they run on its stand-in on the host."""
    assert not missing_for_cuda()


@pytest.fixture
def path(cuda, shared, monkeypatch):
    """One of both paths; a real device chooses by itself."""
    if cuda == "gpu" and shared == "0":
        pytest.skip("a device chooses by the size of the maps")
    monkeypatch.setenv("WSOLKERN_EMULATED_SHARED", shared)


@cache
def expected(name):
    """Score maps [2, H, W] of a case and the reference's hits, bool [2, 1, 2, D, T]."""
    f = ops.resize(CASES[name][None], evaluation_size(name), backend="reference")
    scores = f if f.min() >= 0 and f.max() <= 1 else ops.normalize(f, "minmax", backend="reference")
    scores = np.concatenate([scores, scores * 0.0371])
    how = {"thresholds": THRESHOLDS, "iou_thresholds": IOU_THRESHOLDS, "contours": "both"}
    return scores, ops.box_hits(scores, [truth_boxes(name)] * 2, None, **how, backend="reference")


@BOTH_PATHS
@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_hits_of_score_maps(path, name):
    scores, hits = expected(name)
    for contours, which in (("both", slice(None)), ("largest", 0), ("all", 1)):
        found = ops.box_hits(
            scores, [truth_boxes(name)] * 2, None, THRESHOLDS, IOU_THRESHOLDS, contours=contours, backend="cuda"
        )
        np.testing.assert_array_equal(found, hits[which], err_msg=contours)
    counts, _ = ops.count_box_hits(
        scores, [truth_boxes(name)] * 2, None, THRESHOLDS, IOU_THRESHOLDS, contours="both", backend="cuda"
    )
    np.testing.assert_array_equal(counts, hits.sum(axis=2))


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_hits_of_all_normalizations_of_a_level_image(cuda, name):
    """Level images made on the CPU; tests/gpu/test_gpu_kernels.py has the kernels that make them on the device."""
    size, parsed = evaluation_size(name), parse_all(NORMALIZATIONS)
    f = ops.resize(CASES[name][None], size)
    affines = ops.affine(f, parsed)
    bins, ranks = ops.digitize(f, ops.cut_points(f, parsed))
    rows, offsets = inputs.check_boxes([truth_boxes(name)], 1)
    device = device_of(None)
    images, boxes, starts, thresholds, deltas, ranks, affines = (
        torch.from_numpy(np.ascontiguousarray(each)).to(device)
        for each in (bins, rows, offsets, THRESHOLDS, np.array(IOU_THRESHOLDS), ranks, affines)
    )
    most = len(parsed) * 255
    found = trees.box_hits(images, most, boxes, starts, thresholds, deltas, "both", ranks=ranks, affines=affines)
    how = {"thresholds": THRESHOLDS, "iou_thresholds": IOU_THRESHOLDS, "contours": "both", "size": size}
    np.testing.assert_array_equal(
        found.cpu().numpy(), ops.box_hits(CASES[name][None], [truth_boxes(name)], NORMALIZATIONS, **how)
    )


@pytest.mark.parametrize("contours", ["largest", "all"])
@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_boxes_of_thresholds(cuda, name, contours):
    scores, _ = expected(name)
    wanted = ops.threshold_boxes(scores, THRESHOLDS, contours=contours, backend="reference")
    on_device = torch.from_numpy(scores).to(device_of(None))
    assert_same_boxes(ops.threshold_boxes(on_device, THRESHOLDS, contours=contours, backend="cuda"), wanted)


def assert_same_boxes(found, wanted):
    """Per map and threshold, boxes int32 [B, 4] in the same order."""
    assert [len(each) for each in found] == [len(each) for each in wanted]
    for map_found, map_wanted in zip(found, wanted, strict=True):
        for boxes, expected_boxes in zip(map_found, map_wanted, strict=True):
            boxes = boxes.cpu().numpy() if torch.is_tensor(boxes) else boxes
            assert boxes.dtype == np.int32
            np.testing.assert_array_equal(boxes, expected_boxes)


def random_maps(rng, shape):
    """Score maps [50, H, W]: noise of few and of many levels, smooth ones, rings and checkerboards with bumps."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inward = np.minimum(np.minimum(y, shape[0] - 1 - y), np.minimum(x, shape[1] - 1 - x))
    kinds = (
        lambda: rng.integers(0, 4, shape).astype(float),
        lambda: rng.random(shape),
        lambda: smooth(rng, *shape),
        lambda: (inward % 2) * rng.integers(1, 3, shape) + (rng.random(shape) < 0.05),
        lambda: ((x + y) % 2) * rng.choice([1, 3], shape) + x / 4,
    )
    maps = np.stack([kinds[index % len(kinds)]() for index in range(50)])
    return ops.normalize(maps, "minmax")


@pytest.mark.slow
@BOTH_PATHS
@pytest.mark.parametrize("seed", range(50))
def test_five_thousand_maps(path, seed, monkeypatch):
    """50 of them with each seed, on both paths."""
    monkeypatch.setenv("WSOLKERN_EMULATED_THREADS", str(2 + seed % 3))
    monkeypatch.setenv("WSOLKERN_EMULATED_SEED", str(seed))
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 20, 2).tolist())
    maps, thresholds = random_maps(rng, shape), rng.random(4)
    corners = np.sort(rng.integers(-1, 20, (len(maps), 2, 2, 2)), axis=2).reshape(len(maps), 2, 4)
    how = {"thresholds": thresholds, "iou_thresholds": (0.1, 0.3, 0.6), "contours": "both"}
    wanted = ops.box_hits(maps, corners, None, **how, backend="reference")
    np.testing.assert_array_equal(ops.box_hits(maps, corners, None, **how, backend="cuda"), wanted, str(shape))


@pytest.mark.parametrize("size", [(224, 224), pytest.param((256, 257), marks=pytest.mark.slow), (1, 4096), (4096, 1)])
def test_full_size_equals_the_cpu(cuda, size, rng):
    cams = cams_of_one_size(3, (14, 14), seed=2)
    cams[2] = np.round(cams[0] * 3)
    noise = rng.random((1, *size))
    scores = np.concatenate([ops.normalize(cams, "minmax", size), noise])
    boxes = np.sort(rng.integers(0, min(size) + 60, (4, 2, 2)), axis=1).reshape(4, 1, 4)
    how = {"thresholds": THRESHOLDS, "contours": "both"}
    wanted = ops.box_hits(scores, boxes, None, **how, backend="cpu")
    np.testing.assert_array_equal(ops.box_hits(scores, boxes, None, **how, backend="cuda"), wanted)
    counts, _ = ops.count_box_hits(
        scores, boxes, None, **how, backend="cuda"
    )  # of maps that fit, and of one that does not
    np.testing.assert_array_equal(counts, wanted.sum(axis=2))


def test_every_silhouette_when_they_do_not_fit_at_once(cuda):
    """A ground truth of one pixel is within reach of every component that goes around it."""
    rings = np.zeros((60, 64))
    for inward in range(29):
        rings[inward : 60 - inward, inward : 64 - inward] = (inward % 2) * (0.5 + inward / 60)
    scores = np.stack([rings, np.random.default_rng(0).random(rings.shape)])
    boxes = [np.array([[31, 29, 31, 29], [0, 0, 63, 59]])] * 2
    how = {"thresholds": THRESHOLDS, "iou_thresholds": (0.001, 0.5), "contours": "both"}
    wanted = ops.box_hits(scores, boxes, None, **how, backend="cpu")
    np.testing.assert_array_equal(ops.box_hits(scores, boxes, None, **how, backend="cuda"), wanted)
    for contours in ("largest", "all"):
        wanted = ops.threshold_boxes(scores, THRESHOLDS, contours=contours, backend="cpu")
        assert_same_boxes(ops.threshold_boxes(scores, THRESHOLDS, contours=contours, backend="cuda"), wanted)


def test_no_maps(cuda):
    assert ops.threshold_boxes(np.zeros((0, 7, 9)), backend="cuda") == []
    hits = ops.box_hits(np.zeros((0, 7, 9)), [], None, (0.1, 0.2), backend="cuda")
    assert hits.shape == (1, 0, 3, 2)
    counts, degenerate = ops.count_box_hits(np.zeros((0, 7, 9)), [], None, (0.1, 0.2), backend="cuda")
    assert counts.shape == (1, 3, 2) and not counts.any() and degenerate.shape == (1, 0)


def test_a_plan_grows_with_the_batch_up_to_the_device(cuda, monkeypatch):
    monkeypatch.setenv("WSOLKERN_EMULATED_PROCESSORS", "7")

    def plan(num_maps: int, height: int, is_summed: bool) -> tuple[int, int]:
        problem = device_module().BatchProblem()
        problem.num_maps, problem.height, problem.width, problem.most_level = num_maps, height, 224, 255
        problem.num_normalizations, problem.num_iou_thresholds, problem.num_thresholds = 1, 3, 10
        problem.contours = CONTOURS["both"]
        return device_module().plan(problem, is_summed=is_summed, device=0)

    def without_list(num_maps: int, planned: int) -> int:  # which of the maps do not fit shared memory, and how many
        return planned - 4 * (num_maps + 1)

    one, sums = plan(1, 224, True)
    one = without_list(1, one)
    assert sums == 2 * 3 * 10 * 4 and one > 224 * 224 * 40
    two = plan(2, 224, True)
    assert (without_list(2, two[0]), two[1]) == (2 * one, 2 * sums)
    most = plan(10**6, 224, False)
    assert most[1] == 0 and without_list(10**6, most[0]) % one == 0
    if cuda == "emulated":
        assert without_list(10**6, most[0]) == 7 * one
    # However large the maps, memory for one block is planned, and not much more than two GiB for all.
    tall, _ = plan(1, 4096, False)
    assert plan(10**6, 4096, False)[0] <= max(tall, 2 << 30)

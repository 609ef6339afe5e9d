"""Single operations on one core, with pytest-benchmark: `pytest benchmarks/bench_ops.py`.

In: 32 distinct maps of 224x224 of each kind. Out: the time of an operation on all 32, after its result was compared
with the reference's on two of them.
Source: the operations of wsolkern.ops; the comparison with other programs is `python -m benchmarks.cpu`.
"""

import os

import numpy as np
import pytest

from benchmarks import inputs
from benchmarks.cpu_rows import MANY, ONE
from wsolkern import Evaluator, box_hits, normalize, pixel_histograms, threshold_boxes
from wsolkern.metrics import GroundTruth, Protocol
from wsolkern.ops import cut_points, digitize, resize

NUM_MAPS = 32
KINDS = {kind.name: kind for kind in inputs.synthetic(np.random.default_rng(0), NUM_MAPS)}
COARSE = [name for name, kind in KINDS.items() if kind.cams.shape[1] < inputs.SIZE[0]]
SETS = {"1": ONE, "24": MANY}


@pytest.fixture(autouse=True, scope="module")
def one_core():
    """One core and one thread, and the previous state afterwards."""
    cores, threads = os.sched_getaffinity(0), os.environ.get("WSOLKERN_NUM_THREADS")
    os.sched_setaffinity(0, {max(cores)})
    os.environ["WSOLKERN_NUM_THREADS"] = "1"
    yield
    os.sched_setaffinity(0, cores)
    if threads is None:
        del os.environ["WSOLKERN_NUM_THREADS"]
    else:
        os.environ["WSOLKERN_NUM_THREADS"] = threads


@pytest.fixture
def measure(benchmark):
    """Times ``operation(maps, ...)``; each argument after it has an entry a map or is shared if named in ``shared``."""

    def run(operation, *per_map, **shared):
        few = [each[:2] for each in per_map]
        ours, expected = (operation(*few, **shared, backend=backend) for backend in ("cpu", "reference"))
        assert_same(ours, expected)
        benchmark.extra_info["maps"] = NUM_MAPS
        benchmark(operation, *per_map, **shared)

    return run


def assert_same(ours, expected):
    """Equal to the bit, in lists and tuples too."""
    if isinstance(ours, (list, tuple)):
        for one, other in zip(ours, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(ours, expected)


def score_maps(kind):
    return normalize(KINDS[kind].cams, "minmax", inputs.SIZE)


@pytest.mark.parametrize("kind", COARSE)
def test_resize(measure, kind):
    measure(resize, KINDS[kind].cams, size=inputs.SIZE)


@pytest.mark.parametrize("normalization", ["minmax", "max", "pas:0.9", "ivr:0.45"])
def test_normalize(measure, normalization):
    measure(normalize, KINDS["CAM-like 14x14"].cams, normalization=normalization, size=inputs.SIZE)


@pytest.mark.parametrize("normalizations", SETS.values(), ids=SETS)
def test_cut_points(measure, normalizations):
    maps = resize(KINDS["CAM-like 14x14"].cams, inputs.SIZE)
    measure(cut_points, maps, normalizations=normalizations)


@pytest.mark.parametrize("normalizations", SETS.values(), ids=SETS)
def test_digitize(measure, normalizations):
    maps = resize(KINDS["CAM-like 14x14"].cams, inputs.SIZE)
    measure(digitize, maps, cut_points(maps, normalizations))


@pytest.mark.parametrize("contours", ["largest", "all", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_box_hits_of_score_maps(measure, kind, contours):
    thresholds = np.arange(0, 1, 0.05) if "noise" in kind else np.arange(0, 1, 0.001)
    measure(
        box_hits,
        score_maps(kind),
        KINDS[kind].boxes,
        normalizations=None,
        thresholds=thresholds,
        contours=contours,
    )


@pytest.mark.parametrize("normalizations", SETS.values(), ids=SETS)
@pytest.mark.parametrize("kind", COARSE)
def test_box_hits_of_cams(measure, kind, normalizations):
    measure(
        box_hits,
        KINDS[kind].cams,
        KINDS[kind].boxes,
        normalizations=normalizations,
        thresholds=np.arange(0, 1, 0.1),  # the reference takes its time for each of them
        contours="both",
        size=inputs.SIZE,
    )


@pytest.mark.parametrize("contours", ["largest", "all"])
@pytest.mark.parametrize("kind", COARSE)
def test_threshold_boxes(measure, kind, contours):
    measure(threshold_boxes, score_maps(kind), contours=contours)


@pytest.mark.parametrize("normalizations", SETS.values(), ids=SETS)
def test_pixel_histograms(measure, normalizations):
    kind = KINDS["CAM-like 14x14"]
    measure(pixel_histograms, kind.cams, kind.masks(), normalizations=normalizations, size=inputs.SIZE)


def test_evaluator_update(benchmark):
    kind = KINDS["CAM-like 14x14"]
    ids = [str(number) for number in range(NUM_MAPS)]
    truth = GroundTruth(dict(zip(ids, kind.boxes, strict=True)), dict(zip(ids, kind.masks(), strict=True)))

    def counted(num_maps, backend):
        evaluator = Evaluator.of(Protocol(ONE), truth, backend=backend)
        evaluator.update(kind.cams[:num_maps], ids[:num_maps])
        return evaluator

    assert counted(2, "cpu") == counted(2, "reference")
    benchmark(counted, NUM_MAPS, "cpu")

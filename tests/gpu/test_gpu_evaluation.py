"""From CAMs to counts on a device, through the public functions; what needs a real one is marked so."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import CASES, batch, evaluation_size, mask, truth_boxes
from shared import slow_but

pytest.importorskip("triton")

from wsolkern import BackendUnavailable, Evaluator, ops  # noqa: E402
from wsolkern.errors import ImageError  # noqa: E402
from wsolkern.metrics.evaluator import _Counts  # noqa: E402
from wsolkern.ops import backends, inputs  # noqa: E402
from wsolkern.ops.gpu import cutting, evaluation, resizing, statistics  # noqa: E402
from wsolkern.studies import installation  # noqa: E402

NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.3+pas:0.8")


@pytest.mark.parametrize("name", slow_but(["nan"], ["cam_13x17", "nan", "on_level_edges"]))
def test_every_operation(cuda, name):
    """All of them on some cases; tests/gpu/test_gpu_kernels.py and tests/gpu/test_gpu_trees.py have all cases."""
    f, size, truth, masks = CASES[name][None], evaluation_size(name), [truth_boxes(name)], mask(name)[None]
    resized = ops.resize(f, size)
    calls = {
        "resize": lambda how: ops.resize(f, size, **how),
        "normalize": lambda how: ops.normalize(f, "ivr:0.45", size, **how),
        "affine": lambda how: ops.affine(resized, NORMALIZATIONS, **how),
        "cut_points": lambda how: ops.cut_points(resized, NORMALIZATIONS, **how),
        "box_hits": lambda how: ops.box_hits(f, truth, NORMALIZATIONS, size=size, contours="both", **how),
        "pixel_histograms": lambda how: ops.pixel_histograms(f, masks, NORMALIZATIONS, size=size, **how),
        "of score maps": lambda how: ops.pixel_histograms(
            ops.normalize(f, "minmax", size), masks, None, size=size, **how
        ),
    }
    for what, call in calls.items():
        np.testing.assert_array_equal(call({"backend": "cuda"}), call({"backend": "cpu"}), err_msg=what)
    cuts = ops.cut_points(resized, "minmax")
    for found, wanted in zip(
        ops.digitize(resized, cuts, backend="cuda"), ops.digitize(resized, cuts, backend="cpu"), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "normalizations",
    [
        pytest.param(("minmax", "max", "ivr:0.45"), marks=pytest.mark.slow, id="cams"),
        pytest.param(None, id="score_maps"),
    ],
)
def test_an_evaluator_counts_the_same(cuda, normalizations):
    cams, boxes, masks = (each[:5] for each in batch())
    if normalizations is None:
        cams = ops.normalize(cams, "minmax", (21, 20))
    ids = [f"{index}.jpg" for index in range(len(cams))]
    truth = {"boxes": dict(zip(ids, boxes, strict=True)), "masks": dict(zip(ids, masks, strict=True)), "size": (21, 20)}
    evaluators = {name: Evaluator(normalizations, **truth, backend=name) for name in ("cpu", "cuda")}
    for evaluator in evaluators.values():
        evaluator.update(torch.from_numpy(cams[:2]), ids[:2])
        evaluator.update(cams[2:], ids[2:])
    assert evaluators["cpu"] == evaluators["cuda"] and evaluators["cpu"].num_correct.any()
    assert evaluators["cpu"].num_images == len(cams)


@pytest.mark.slow
def test_more_iou_thresholds_than_bits_and_more_normalizations_than_one_image_holds(cuda, monkeypatch):
    monkeypatch.setattr(cutting, "MOST_NORMALIZATIONS", 2)  # of 128
    cams, boxes, _ = (each[:2] for each in batch())
    names = ("max", "ivr:0.3", "pas:0.8", "minmax", "ivr:0.9")
    how = {"iou_thresholds": np.arange(1, 41) / 40, "thresholds": (0.1, 0.5), "size": (8, 9), "contours": "both"}
    wanted = ops.box_hits(cams, boxes, names, **how, backend="cpu")
    np.testing.assert_array_equal(ops.box_hits(cams, boxes, names, **how, backend="cuda"), wanted)
    counts, degenerate = ops.count_box_hits(cams, boxes, names, **how, backend="cuda")
    np.testing.assert_array_equal(counts, wanted.sum(axis=2))
    assert degenerate.shape == (5, 2)


def test_bad_score_maps_are_named(cuda):
    scores = np.zeros((3, 5, 6))
    scores[1, 2, 3] = 1.5
    message = r"cams\[1\]: expected a score map .* found 1.5 at row 2, column 3"
    with pytest.raises(ValueError, match=message):
        ops.box_hits(scores, [np.array([[0, 0, 1, 1]])] * 3, None, backend="cuda")
    with pytest.raises(ValueError, match=message):
        ops.pixel_histograms(scores, np.zeros((3, 5, 6), np.uint8), None, size=(5, 6), backend="cuda")


def test_a_tensor_gives_a_tensor_and_an_array_an_array(cuda):
    cams, boxes, _ = (each[:2] for each in batch())
    how = {"size": (21, 20), "backend": "cuda"}
    assert isinstance(ops.box_hits(cams, boxes, "max", **how), np.ndarray)
    found = ops.box_hits(torch.from_numpy(cams), boxes, "max", **how)
    assert found.dtype == torch.bool and found.device.type == "cpu"
    assert isinstance(ops.resize(cams[0], (9, 9), backend="cuda"), np.ndarray)


def test_an_older_triton_is_named(cuda, monkeypatch):
    monkeypatch.setattr("triton.__version__", "3.5.1")
    backends.missing_for_cuda.cache_clear()
    with pytest.raises(
        BackendUnavailable, match=r'Triton 3.5.1 does not compile the kernels: pip install "triton>=3.6"'
    ):
        ops.box_hits(np.zeros((1, 5, 6)), [np.array([[0, 0, 1, 1]])], None, backend="cuda")


def test_a_device_that_cannot_run_the_kernels_is_named_once(cuda, monkeypatch):
    """An old driver, or an architecture that the extension was not built for."""
    module = SimpleNamespace(fault=lambda device: "no kernel image is available", works_on="cpu")
    backends.missing_for_cuda.cache_clear()
    backends._say_once.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(backends, "device_module", lambda: module)
        on_gpu = SimpleNamespace(device=torch.device("cuda", 0))
        with pytest.warns(
            RuntimeWarning, match="evaluated on the CPU: this device does not run .* no kernel image"
        ) as all_:
            assert [backends.resolve("auto", on_gpu) for _ in range(3)] == ["cpu"] * 3
        assert len(all_) == 1
        found = installation._cuda()
        assert found.state == "missing" and "no kernel image is available" in found.detail and "driver" in found.fix


def test_constants_stay_where_a_captured_graph_reads_them(cuda):
    """However many others came since; and the copy is not one that another stream has to wait for."""
    device = backends.device_of(None)
    kept = {
        "thresholds": lambda i: evaluation._constant(np.arange(i + 1) / 1000, device),
        "ranks": lambda i: statistics._tables(np.array([[i, -1]]).tobytes(), device)[0],
        "columns": lambda i: resizing._column_taps(7, i + 1, device)[0],
    }
    for name, make in kept.items():
        first = make(0)
        for other in range(1, 300):
            make(other)
        assert make(0) is first, name


def test_a_constant_is_copied_before_anyone_reads_it(monkeypatch):
    how = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: how.append(kwargs) or self)
    evaluation._constant(np.random.default_rng(0).random(3), torch.device("cpu"))
    assert how == [{}]  # "non_blocking" would leave it to the stream


class OnDevice(torch.Tensor):
    """A tensor that says it is on a device."""

    device = property(lambda self: torch.device("cuda", 0))


def test_counts_are_waited_for_one_by_one(monkeypatch):
    """Each stream's event, rather than all that a device has to do: a capture on another stream would end with that."""
    waited = []

    def stream_now(number):
        event = SimpleNamespace(synchronize=lambda: waited.append(number))
        return lambda device: SimpleNamespace(cuda_stream=number, record_event=lambda: event)

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("waits for the whole device"))
    counts = _Counts(0, {"hist": np.zeros(3, np.int64)})
    for number in (5, 6, 5):
        monkeypatch.setattr(torch.cuda, "current_stream", stream_now(number))
        counts = counts.plus(2, {"hist": torch.arange(3).as_subclass(OnDevice)})
    assert waited == [] and counts.num_images == 6
    assert counts.arrays()["hist"].tolist() == [0, 3, 6]
    assert waited == [5, 6]


@pytest.mark.parametrize("is_done", [True, False])
def test_score_maps_on_a_device_are_not_waited_for(monkeypatch, is_done):
    """What is wrong with them is raised by who reads counts, and nothing of their batch is in these."""
    waited = []
    event = SimpleNamespace(synchronize=lambda: waited.append(1), query=lambda: is_done)
    stream = SimpleNamespace(cuda_stream=1, record_event=lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(inputs, "to_host_later", lambda tensor: tensor.clone().as_subclass(torch.Tensor))

    def count(maps, boxes, **how):
        inputs.check_scores(maps, "cams")
        return torch.ones(2, 1, 1, 1, dtype=torch.int64).as_subclass(OnDevice), torch.zeros(1, 2).as_subclass(OnDevice)

    monkeypatch.setattr("wsolkern.metrics.evaluator.count_box_hits", count)
    truth = {name: [[0, 0, 3, 3]] for name in "abcdef"}
    found = Evaluator(None, boxes=truth, thresholds=[0.5], iou_thresholds=[0.5], size=(5, 6))
    maps = np.full((2, 5, 6), 0.5)
    found.update(torch.from_numpy(maps.copy()).as_subclass(OnDevice), ["a", "b"])
    assert found.num_correct.ravel().tolist() == [1, 1]
    maps[1, 2, 3:] = np.nan, 7, 8
    waited.clear()
    found.update(torch.from_numpy(maps).as_subclass(OnDevice), ["c", "d"])
    found.update(torch.zeros(2, 5, 6).as_subclass(OnDevice), ["e", "f"])
    assert waited == []
    assert len(found.moment().checks) == (2 if is_done else 3)  # the one that is bad, and the last
    for read in (found.compute, found.to_bytes, lambda: found.num_correct):
        with pytest.raises(
            ImageError, match=r"image 'd': cams\[1\]: expected a score map .* found nan at row 2, column 3"
        ):
            read()
    assert [int(counts.sum()) for counts, _ in found.moment().on_devices.values()] == [4, 0]


def test_logits_on_a_device_are_not_waited_for(monkeypatch):
    waited, groups = [], []
    event = SimpleNamespace(synchronize=lambda: waited.append(1), query=lambda: False)
    stream = SimpleNamespace(cuda_stream=1, record_event=lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(inputs, "to_host_later", lambda tensor: tensor.clone().as_subclass(torch.Tensor))
    monkeypatch.setattr(inputs, "to_device", lambda value, device: torch.as_tensor(value).as_subclass(OnDevice))

    def count(maps, boxes, **how):
        assert isinstance(how["groups"], OnDevice) and how["num_groups"] == 3
        groups.append(how["groups"].as_subclass(torch.Tensor).tolist())
        counts = torch.ones(3, 2, 1, 1, 1, dtype=torch.int64)
        return counts.as_subclass(OnDevice), torch.zeros(1, 2).as_subclass(OnDevice)

    monkeypatch.setattr("wsolkern.metrics.evaluator.count_box_hits", count)
    truth, cams = {name: [[0, 0, 3, 3]] for name in "abcd"}, torch.zeros(2, 5, 6).as_subclass(OnDevice)
    found = Evaluator("max", boxes=truth, thresholds=[0.5], iou_thresholds=[0.5], size=(5, 6))
    logits = torch.arange(12.0).reshape(2, 6).as_subclass(OnDevice)
    found.update(cams, ["a", "b"], logits=logits, labels=torch.tensor([5, 0]).as_subclass(OnDevice))
    assert groups == [[0, 2]]
    assert found.num_classified.tolist() == [1, 1] and found.num_localized.ravel().tolist() == [1, 1, 2, 2]
    waited.clear()
    found.update(cams, ["c", "d"], logits=logits, labels=[4, 6])
    assert waited == [] and len(groups) == 2
    with pytest.raises(ImageError, match=r"image 'd': labels\[1\]: expected a class in \[0, 6\), .* found 6"):
        found.compute()


# Only on a device


def on_gpu(cams):
    return torch.from_numpy(cams).cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_auto_evaluates_cams_where_they_are(dtype):
    cams, boxes, masks = batch()
    cams = on_gpu(cams).to(dtype)
    assert backends.resolve("auto", cams) == "cuda"
    found = ops.box_hits(cams, boxes, NORMALIZATIONS, size=(21, 20))
    assert found.device == cams.device
    wanted = ops.box_hits(cams.cpu(), boxes, NORMALIZATIONS, size=(21, 20))
    assert torch.equal(found.cpu(), wanted)
    assert torch.equal(
        ops.pixel_histograms(cams, masks, NORMALIZATIONS, size=(21, 20)).cpu(),
        ops.pixel_histograms(cams.cpu(), masks, NORMALIZATIONS, size=(21, 20)),
    )


@pytest.mark.gpu
def test_updates_do_not_wait_for_the_device():
    cams, boxes, masks = batch()
    ids = [f"{index}.jpg" for index in range(len(cams))]
    truth = {"boxes": dict(zip(ids, boxes, strict=True)), "masks": dict(zip(ids, masks, strict=True)), "size": (21, 20)}
    evaluator, wanted, cams = Evaluator(**truth), Evaluator(**truth), on_gpu(cams)
    evaluator.update(cams, ids)  # compiles the kernels and keeps the constants
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            evaluator.update(cams, ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for _ in range(4):
        wanted.update(cams.cpu(), ids)
    assert evaluator == wanted


@pytest.mark.gpu
def test_updates_on_one_stream_and_results_on_another():
    cams, boxes, masks = batch()
    ids = [f"{index}.jpg" for index in range(len(cams))]
    truth = {"boxes": dict(zip(ids, boxes, strict=True)), "masks": dict(zip(ids, masks, strict=True)), "size": (21, 20)}
    evaluator, wanted, cams = Evaluator(**truth), Evaluator(**truth), on_gpu(cams)
    wanted.update(cams.cpu(), ids)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)
        evaluator.update(cams, ids)
    assert evaluator == wanted


@pytest.mark.gpu
def test_the_callers_stream_and_a_cuda_graph():
    from wsolkern.normalization import parse_all
    from wsolkern.ops.gpu import resizing, statistics, trees

    cams, boxes, _ = batch()
    size, parsed = (21, 20), parse_all(NORMALIZATIONS)
    rows, offsets = inputs.check_boxes(boxes, len(cams))
    thresholds, deltas = np.arange(0, 1, 0.01), np.array([0.3, 0.5, 0.7])
    constants = [on_gpu(np.ascontiguousarray(each)) for each in (rows, offsets, thresholds, deltas)]
    source, stream = on_gpu(cams), torch.cuda.Stream()

    def evaluate():
        resized = resizing.prepare(source, size)
        affines = statistics.affine(resized, inputs.ranks(parsed, size[0] * size[1]))
        images, ranks = cutting.level_image(resized, affines)
        return trees.box_hits(images, 255 * len(parsed), *constants, "both", ranks=ranks, affines=affines, summed=True)

    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        evaluate()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        counts = evaluate()
    other = np.ascontiguousarray(cams[::-1])
    for each in (cams, other):
        source.copy_(on_gpu(each))
        graph.replay()
        torch.cuda.synchronize()
        wanted, _ = ops.count_box_hits(each, boxes, NORMALIZATIONS, thresholds, size=size, contours="both")
        np.testing.assert_array_equal(counts.cpu().numpy(), wanted)


@pytest.mark.gpu
def test_large_batches_of_large_maps(rng):
    cams = rng.standard_normal((300, 9, 9))
    boxes = np.sort(rng.integers(0, 300, (300, 2, 2)), axis=1).reshape(300, 1, 4)
    for size in ((224, 224), (300, 310)):
        found, _ = ops.count_box_hits(on_gpu(cams), boxes, NORMALIZATIONS, size=size, contours="both")
        wanted, _ = ops.count_box_hits(cams, boxes, NORMALIZATIONS, size=size, contours="both")
        np.testing.assert_array_equal(found.cpu().numpy(), wanted)

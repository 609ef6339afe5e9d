"""What the public functions take, what they give back, what they refuse, and which machine code they run."""

import pickle
import sys

import numpy as np
import pytest
from cases import CASES, batch

import wsolkern
from wsolkern import BackendUnavailable, Normalization, building, ops
from wsolkern.errors import MapError
from wsolkern.ops import backends
from wsolkern.ops.cutting import MAX_CUTS

# What comes in and what goes out


FLOATS = ["float16", "float32", "float64", ">f4", ">f8"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_any_float_dtype_is_cast_to_float64_first(backend, dtype):
    cams, boxes, masks = batch()
    cams = cams.astype(dtype)
    how = {"size": (21, 20), "thresholds": [0.1, 0.4], "backend": backend}
    wide = cams.astype(np.float64)
    for found, wanted in (
        (ops.normalize(cams, "max", how["size"], backend=backend), ops.normalize(wide, "max", how["size"])),
        (ops.box_hits(cams, boxes, "max", **how), ops.box_hits(wide, boxes, "max", **how)),
        (ops.pixel_histograms(cams, masks, "max", **how), ops.pixel_histograms(wide, masks, "max", **how)),
    ):
        np.testing.assert_array_equal(found, wanted)


def views(cams):
    yield "transposed", np.ascontiguousarray(cams.transpose(2, 0, 1)).transpose(1, 2, 0)
    yield "strided", np.repeat(np.repeat(cams, 2, axis=0), 3, axis=2)[::2, :, ::3]
    yield "reversed", np.ascontiguousarray(cams[::-1, ::-1])[::-1, ::-1]
    read_only = cams.copy()
    read_only.setflags(write=False)
    yield "read-only", read_only


def test_any_memory_layout(backend):
    cams, boxes, masks = batch()
    how = {"size": (21, 20), "thresholds": [0.1, 0.4], "backend": backend}
    wanted = ops.box_hits(cams, boxes, "ivr:0.45", **how), ops.pixel_histograms(cams, masks, "ivr:0.45", **how)
    odd_masks = np.repeat(masks, 2, axis=2)[:, :, ::2]
    odd_boxes = [np.asfortranarray(each)[::-1] for each in boxes]
    for name, view in views(cams):
        before = view.copy()
        np.testing.assert_array_equal(ops.box_hits(view, odd_boxes, "ivr:0.45", **how), wanted[0], err_msg=name)
        np.testing.assert_array_equal(ops.pixel_histograms(view, odd_masks, "ivr:0.45", **how), wanted[1], err_msg=name)
        np.testing.assert_array_equal(view, before, err_msg="the input was written to")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_torch_in_torch_out(backend, dtype):
    torch = pytest.importorskip("torch")
    cams, boxes, masks = batch()
    tensor = torch.from_numpy(cams).to(getattr(torch, dtype)).transpose(1, 2).contiguous().transpose(1, 2)
    tensor.requires_grad_()
    array = tensor.detach().double().numpy()
    truth, mask_tensor = [torch.from_numpy(each) for each in boxes], torch.from_numpy(masks)
    how = {"size": (21, 20), "thresholds": [0.1, 0.4], "backend": backend}
    names = ["max", "ivr:0.45"]
    calls = (
        (lambda f, *_: ops.normalize(f, "max", (21, 20), backend=backend)),
        (lambda f, *_: ops.normalize(f[0], "max", (21, 20), backend=backend)),
        (lambda f, *_: ops.resize(f, (21, 20), backend=backend)),
        (lambda f, *_: ops.cut_points(f, names, backend=backend)),
        (lambda f, *_: ops.digitize(f, ops.cut_points(f, names, backend=backend), backend=backend)[1]),
        (lambda f, b, _: ops.box_hits(f, b, names, contours="both", **how)),
        (lambda f, b, _: ops.box_ious(f, b, names, contours="both", **how)),
        (lambda f, *_: ops.localize(f, names, [0.1, 0.4], size=(21, 20), backend=backend).num_contours),
        (lambda f, b, _: ops.count_box_hits(f, b, names, **how)[0]),
        (lambda f, b, _: ops.count_box_hits(f, b, names, **how)[1]),
        (lambda f, _, m: ops.pixel_histograms(f, m, names, **how)),
        (lambda f, _, m: ops.count_pixels(f, m, names, **how)[0]),
        (lambda f, _, m: ops.threshold_boxes(ops.normalize(f, "max", backend=backend), [0.3], backend=backend)[0][0]),
    )
    for call in calls:
        found, wanted = call(tensor, truth, mask_tensor), call(array, boxes, masks)
        assert isinstance(found, torch.Tensor) and isinstance(wanted, np.ndarray)
        assert found.device == tensor.device and not found.requires_grad
        assert str(found.dtype) == f"torch.{wanted.dtype}"
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_one_map_in_one_map_out(backend):
    cam = CASES["cam_7x7"]
    many = ops.normalize(cam[None], "ivr:0.45", (20, 30), backend=backend)
    np.testing.assert_array_equal(
        ops.normalize(cam, Normalization("ivr", ivr=0.45), (20, 30), backend=backend), many[0]
    )
    np.testing.assert_array_equal(ops.resize(cam, (9, 9), backend=backend), ops.resize(cam[None], (9, 9))[0])
    assert ops.normalize(cam, "max", backend=backend).shape == (7, 7)


def test_the_top_level_names_are_the_operations():
    assert wsolkern.box_hits is ops.box_hits and wsolkern.normalize is ops.normalize
    assert wsolkern.pixel_histograms is ops.pixel_histograms and wsolkern.threshold_boxes is ops.threshold_boxes


# What is refused


CAMS, BOXES, MASKS = batch()
SCORE_MAPS = np.full((2, 6, 5), 0.5)


def replaced(array, index, value):
    changed = np.array(array)
    changed[index] = value
    return changed


def hits_of(cams=CAMS, boxes=BOXES, normalizations="max", **how):
    return ops.box_hits(cams, boxes, normalizations, **how)


def pixels_of(cams=CAMS, masks=MASKS, normalizations="max", size=(21, 20), **how):
    return ops.pixel_histograms(cams, masks, normalizations, size=size, **how)


PLACES = {
    "shape": (lambda how: hits_of(boxes=[*BOXES[:4], np.zeros((0, 4), int), *BOXES[5:]], **how), "boxes", 4, None),
    "masked": (
        lambda how: hits_of(boxes=[*BOXES[:2], np.ma.array(BOXES[2], mask=True), *BOXES[3:]], **how),
        "boxes",
        2,
        None,
    ),
    "second_box": (
        lambda how: hits_of(boxes=[*BOXES[:3], np.array([[0, 0, 3, 3], [5, 0, 3, 3]]), *BOXES[4:]], **how),
        "boxes",
        3,
        1,
    ),
    "mask": (lambda how: pixels_of(masks=replaced(MASKS, (5, 0, 0), 2), **how), "masks", 5, None),
    "score": (lambda how: hits_of(replaced(SCORE_MAPS, (1, 2, 3), 2.0), BOXES[:2], None, **how), "cams", 1, None),
    "score_under_a_mask": (
        lambda how: pixels_of(replaced(SCORE_MAPS, (1, 2, 3), 2.0), np.zeros((2, 6, 5), np.uint8), None, **how),
        "cams",
        1,
        None,
    ),
    "score_of_boxes": (
        lambda how: ops.threshold_boxes(replaced(SCORE_MAPS, (1, 2, 3), 2.0), **how),
        "score_maps",
        1,
        None,
    ),
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", PLACES)
def test_an_error_of_one_map_carries_its_place(name, backend):
    call, argument, place, row = PLACES[name]
    with pytest.raises(MapError) as raised:
        call({"backend": backend})
    error = raised.value
    assert (error.argument, error.place, error.row) == (argument, place, row)
    assert str(error) == f"{argument}[{place}]{'' if row is None else f'[{row}]'}: {error.reason}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: hits_of(np.zeros((9, 8, 9), int)),
            "cams: expected float16, bfloat16, float32 or float64, found int64",
        ),
        (lambda: hits_of(CAMS.astype(complex)), "cams: expected float16, .* found complex128"),
        (lambda: hits_of(CAMS[0]), r"cams: expected \[N, h, w\], found shape \(8, 9\)"),
        (lambda: hits_of(CAMS[None]), r"cams: expected \[N, h, w\], found shape \(1, 9, 8, 9\)"),
        (lambda: ops.normalize(CAMS[None], "max"), r"cams: expected \[h, w\] or \[N, h, w\], found shape"),
        (lambda: hits_of(CAMS[:, :0]), r"cams: expected maps of 1 to 4096 pixels a side, found shape \(9, 0, 9\)"),
        (lambda: hits_of(np.zeros((1, 1, 4097))), "cams: expected maps of 1 to 4096 pixels a side"),
        (lambda: hits_of(size=224), r"size: expected \(height, width\), integers from 1 to 4096, found 224"),
        (lambda: hits_of(size=(224, 0)), r"size: .* found \(224, 0\)"),
        (lambda: hits_of(size=(224.0, 224)), r"size: .* found \(224.0, 224\)"),
        (lambda: hits_of(size=(5000, 224)), r"size: .* found \(5000, 224\)"),
        (lambda: hits_of(normalizations="ivr:45"), "normalization 'ivr': percentile 45.0 is not a fraction"),
        (lambda: hits_of(normalizations=[]), "normalizations: expected at least one, found none"),
        (lambda: hits_of(boxes=BOXES[:4]), "boxes: expected one array a map, 9 of them, found 4"),
        (
            lambda: hits_of(boxes=[*BOXES[:8], np.empty((0, 4), int)]),
            r"boxes\[8\]: expected \[n, 4\] with n >= 1, found shape \(0, 4\)",
        ),
        (
            lambda: hits_of(boxes=np.zeros((9, 4), int)),
            r"boxes\[0\]: expected \[n, 4\] with n >= 1, found shape \(4,\)",
        ),
        (lambda: hits_of(boxes=[*BOXES[:8], BOXES[8] * 1.0]), r"boxes\[8\]: expected integers, found float64"),
        (
            lambda: hits_of(boxes=[BOXES[0], np.array([[1, 2, 3, 4], [9, 2, 3, 4]]), *BOXES[2:]]),
            r"boxes\[1\]\[1\]: expected x0 <= x1 and y0 <= y1.* found x0 y0 x1 y1 = \[9, 2, 3, 4\]",
        ),
        (
            lambda: hits_of(boxes=[*BOXES[:8], np.array([[1, 2, 3, 1 << 21]])]),
            r"boxes\[8\]\[0\]: .* within 1048576 pixels of the origin, found .*2097152",
        ),
        (
            lambda: hits_of(thresholds=[]),
            r"thresholds: expected one axis with at least one .* found shape \(0,\)",
        ),
        (
            lambda: hits_of(thresholds=0.5),
            r"thresholds: expected one axis with at least one .* found shape \(\)",
        ),
        (lambda: hits_of(thresholds=[0.5, 1.0]), r"thresholds: expected fractions in \[0, 1\), found 1.0"),
        (lambda: hits_of(thresholds=[-0.1]), r"thresholds: expected fractions in \[0, 1\), found -0.1"),
        (lambda: hits_of(thresholds=[0.5, np.nan]), r"thresholds: expected fractions in \[0, 1\), found nan"),
        (lambda: hits_of(thresholds="half"), "thresholds: expected fractions, found 'half'"),
        (lambda: hits_of(iou_thresholds=[0.5, 0]), r"iou_thresholds: expected fractions in \(0, 1\], found 0.0"),
        (lambda: hits_of(iou_thresholds=[30]), r"iou_thresholds: expected fractions in \(0, 1\], found 30.0"),
        (lambda: hits_of(iou_thresholds=()), "iou_thresholds: expected one axis with at least one fraction"),
        (lambda: hits_of(contours="most"), 'contours: expected "largest" or "all" or "both", found \'most\''),
        (
            lambda: ops.threshold_boxes(SCORE_MAPS, contours="both"),
            'contours: expected "largest" or "all", found \'both\'',
        ),
        (
            lambda: hits_of(replaced(SCORE_MAPS, (1, 2, 3), 1.5), BOXES[:2], None),
            r"cams\[1\]: expected a score map .* \[0, 1\], found 1.5 at row 2, column 3; name a normalization",
        ),
        (
            lambda: pixels_of(replaced(SCORE_MAPS, (0, 5, 4), np.nan), np.zeros((2, 6, 5), np.uint8), None),
            r"cams\[0\]: expected a score map with values in \[0, 1\], found nan at row 5, column 4",
        ),
        (
            lambda: ops.threshold_boxes(replaced(SCORE_MAPS, (1, 0, 0), -1e-9)),
            r"score_maps\[1\]: expected a score map .* found -1e-09 at row 0, column 0",
        ),
        (lambda: pixels_of(masks=MASKS.astype(int)), "masks: expected uint8, found int64"),
        (lambda: pixels_of(size=(20, 21)), r"masks: expected shape \(9, 20, 21\), found \(9, 21, 20\)"),
        (
            lambda: pixels_of(masks=replaced(MASKS, (3, 4, 5), 128)),
            r"masks\[3\]: expected 1 \(object\), 0 \(background\) or 255 \(ignore\), found 128 at row 4, column 5",
        ),
        (lambda: pixels_of(masks=replaced(MASKS, (0, 0, 0), 2)), r"masks\[0\]: .* found 2 at row 0"),
        (lambda: pixels_of(masks=replaced(MASKS, (0, 0, 0), 254)), r"masks\[0\]: .* found 254 at row 0"),
        (
            lambda: pixels_of(thresholds=[0.1, 0.5, 0.4]),
            "thresholds: expected them in increasing order, found 0.5 before 0.4",
        ),
        (lambda: ops.cut_points(CAMS, "max", [0.5, 1.5]), r"scores: expected one axis of values in \[0, 1\]"),
        (
            lambda: ops.digitize(CAMS, np.zeros((2, 5))),
            r"cuts: expected shape \(9, ...\), one row a map, found \(2, 5\)",
        ),
        (
            lambda: ops.digitize(CAMS, replaced(np.zeros((9, 5)), (4, 1), np.nan)),
            r"cuts\[4\]: expected .* found NaN",
        ),
        (lambda: ops.digitize(CAMS, np.zeros((9, 40000))), f"cuts: expected at most {MAX_CUTS} a map, found 40000"),
        (lambda: hits_of(backend="gpu"), 'backend: expected "auto", "reference", "cpu" or "cuda", found \'gpu\''),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hits_of(CAMS.tolist()), "cams: expected a numpy array or a torch tensor, found list"),
        (lambda: hits_of(boxes=None), "boxes: expected a sequence of arrays, found NoneType"),
        (lambda: pixels_of(masks=None), "masks: expected a numpy array or a torch tensor, found NoneType"),
    ],
)
def test_what_is_no_array_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_bad_tensors_are_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="cams: expected float16, .* found torch.int32"):
        hits_of(torch.zeros((9, 8, 9), dtype=torch.int32))
    with pytest.raises(ValueError, match="masks: expected uint8, found bool"):
        pixels_of(masks=torch.zeros((9, 21, 20), dtype=torch.bool))


# Which machine code runs


@pytest.mark.skipif(not backends.missing_for_cuda(), reason="there is a GPU here")
def test_cuda_says_what_is_missing():
    with pytest.raises(BackendUnavailable, match='backend "cuda": PyTorch finds no CUDA device'):
        hits_of(backend="cuda")


@pytest.mark.parametrize("thresholds", [[[0.1], [0.1, 0.2]], "most", {0.1: 0.2}, [None]])
def test_thresholds_that_are_no_row_of_numbers_are_named(thresholds):
    with pytest.raises(ValueError, match="thresholds: expected"):
        hits_of(thresholds=thresholds)


def test_a_device_module_of_another_version_is_to_be_built_again(monkeypatch, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    old = tmp_path / "old.so"
    old.write_bytes(b"wsolkern-cuda-of-other-sources")
    monkeypatch.setattr(building, "_places", lambda: (old, tmp_path / "no-cache"))
    monkeypatch.delitem(sys.modules, building.CUDA, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for found in (backends.device_module, backends.missing_for_cuda):
        monkeypatch.setattr(backends, found.__name__, found.__wrapped__)
    message = "old.so was built from the sources of another wsolkern"
    with pytest.raises(BackendUnavailable, match=f"{message}: wsolkern doctor --build-cuda"):
        hits_of(backend="cuda")
    with pytest.raises(ImportError, match=message):
        backends.device_of(None)


def test_the_best_instruction_set_is_chosen(monkeypatch):
    monkeypatch.delenv("WSOLKERN_ISA", raising=False)
    assert backends.native().__name__ == f"wsolkern._native_{backends.runnable_isas()[0]}"
    assert "generic" in backends.runnable_isas()


def test_an_instruction_set_can_be_forced(monkeypatch):
    monkeypatch.setenv("WSOLKERN_ISA", "generic")
    assert backends.native().__name__ == "wsolkern._native_generic"
    monkeypatch.setenv("WSOLKERN_ISA", "sse9")
    with pytest.raises(BackendUnavailable, match="WSOLKERN_ISA: expected one of avx512, avx2, generic, found 'sse9'"):
        hits_of()


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_number_of_threads_is_a_positive_integer(monkeypatch, value):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", value)
    with pytest.raises(ValueError, match=f"WSOLKERN_NUM_THREADS: expected an integer from 1 to 1024, found '{value}'"):
        hits_of()


@pytest.mark.parametrize("size", [(3, 4), (5, 6)])
def test_a_resized_map_is_another_array(backend, size):
    maps = np.random.default_rng(0).standard_normal((2, 3, 4))
    assert not np.shares_memory(ops.resize(maps, size, backend=backend), maps)

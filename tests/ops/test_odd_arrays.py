"""Arrays and tensors that are not plain: at every door they count as what they hold, or are refused by name.

In: one batch in many guises. Out: the numbers of the plain batch, to the bit, or one error that says what was found.
Source: none.
"""

import numpy as np
import pytest
import torch
from cases import batch

from wsolkern import Evaluator, ops
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cams.activation import Look
from wsolkern.cams.extraction import _on_host
from wsolkern.compat import evaluation, inference, util
from wsolkern.metrics import GroundTruth, Protocol, diagnostics
from wsolkern.metrics.bootstrap import BootstrapEvaluator

CAMS, BOXES, MASKS = batch()
SIZE = MASKS.shape[1:]
IDS = [f"{row}.jpg" for row in range(len(CAMS))]
HOW = {"size": SIZE, "thresholds": [0.1, 0.4]}
SCORES = ops.normalize(CAMS, "max", SIZE)


def counts_of(cams=CAMS, boxes=BOXES, masks=MASKS, thresholds=(0.1, 0.4), iou_thresholds=(0.3, 0.5)):
    truths = {"boxes": dict(zip(IDS, boxes, strict=True)), "masks": dict(zip(IDS, masks, strict=True))}
    evaluator = Evaluator("max", **truths, size=SIZE, thresholds=thresholds, iou_thresholds=iou_thresholds)
    evaluator.update(cams, IDS)
    return np.concatenate([evaluator.num_correct.ravel(), evaluator.hist.ravel()])


def bootstrap_of(cams, metric="MaxBoxAccV2"):
    truths = {"boxes": dict(zip(IDS, BOXES, strict=True)), "masks": dict(zip(IDS, MASKS, strict=True))}
    evaluator = BootstrapEvaluator(Protocol("max", **HOW), GroundTruth(**truths), metric, IDS)
    evaluator.update(cams, IDS)
    return evaluator.compute(50, confidence=0.9).resampled


CAM_DOORS = {
    "normalize": lambda cams: ops.normalize(cams, "max", SIZE),
    "normalize one": lambda cams: ops.normalize(cams[0], "ivr:0.45"),
    "resize": lambda cams: ops.resize(cams, SIZE),
    "affine": lambda cams: ops.normalizing.affine(cams, "max"),
    "cut_points": lambda cams: ops.cut_points(cams, "max"),
    "digitize": lambda cams: ops.digitize(cams, np.zeros((len(CAMS), 3)))[0],
    "box_hits": lambda cams: ops.box_hits(cams, BOXES, "max", **HOW),
    "box_ious": lambda cams: ops.box_ious(cams, BOXES, "max", [0.1, 0.4], size=SIZE),
    "localize": lambda cams: ops.localize(cams, "max", [0.1, 0.4], size=SIZE).boxes,
    "count_box_hits": lambda cams: ops.count_box_hits(cams, BOXES, "max", **HOW)[0],
    "pixel_histograms": lambda cams: ops.pixel_histograms(cams, MASKS, "max", **HOW),
    "count_pixels": lambda cams: ops.count_pixels(cams, MASKS, "max", **HOW)[0],
    "Evaluator": counts_of,
    "BootstrapEvaluator": bootstrap_of,
    "BootstrapEvaluator of masks": lambda cams: bootstrap_of(cams, "PxAP"),
    "extremes": lambda cams: np.stack(diagnostics.extremes(cams, SIZE)),
}
SCORE_DOORS = {
    "threshold_boxes": lambda maps: np.concatenate(ops.threshold_boxes(maps, [0.1, 0.4])[1]),
    "Evaluator of score maps": lambda maps: ops.count_box_hits(maps, BOXES, None, [0.1, 0.4])[0],
}


def guises(maps):
    """The same values held otherwise."""
    tensor = torch.from_numpy(maps)
    negative = torch._neg_view(-tensor)
    assert negative.is_neg()
    padded = np.zeros((len(maps), maps.shape[1] + 2, maps.shape[2] + 3))
    padded[:, 1:-1, 2:-1] = maps
    read_only = maps.copy()
    read_only.setflags(write=False)
    return {
        "byte-swapped": maps.astype(">f8"),
        "Fortran": np.asfortranarray(maps),
        "window": padded[:, 1:-1, 2:-1],
        "reversed": maps[::-1].copy()[::-1],
        "read-only": read_only,
        "subclass": maps.view(type("Named", (np.ndarray,), {})),
        "memmap-like": np.frombuffer(maps.tobytes()).reshape(maps.shape),
        "negative bit": negative,
        "negative bit of an imaginary part": torch.complex(torch.zeros_like(tensor), -tensor).conj().imag,
        "real part": torch.complex(tensor, tensor).conj().real,
        "requires grad": tensor.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(tensor.clone()),
        "channels last": tensor[:, None].contiguous(memory_format=torch.channels_last)[:, 0],
    }


@pytest.mark.parametrize("guise", guises(CAMS))
@pytest.mark.parametrize("door", CAM_DOORS)
def test_values_count_however_they_are_held(door, guise):
    expected = CAM_DOORS[door](CAMS)
    np.testing.assert_array_equal(np.asarray(CAM_DOORS[door](guises(CAMS)[guise])), expected)


@pytest.mark.parametrize("guise", guises(SCORES))
@pytest.mark.parametrize("door", SCORE_DOORS)
def test_score_maps_count_however_they_are_held(door, guise):
    expected = SCORE_DOORS[door](SCORES)
    np.testing.assert_array_equal(np.asarray(SCORE_DOORS[door](guises(SCORES)[guise])), expected)


def test_a_map_that_is_repeated_without_a_copy():
    repeated = np.broadcast_to(CAMS[0], CAMS.shape)
    for name, door in CAM_DOORS.items():
        for each in (repeated, torch.from_numpy(CAMS)[0].expand(CAMS.shape)):
            np.testing.assert_array_equal(np.asarray(door(each)), door(repeated.copy()), err_msg=name)


REFUSED = {  # what holds no such maps, made of some, and what the message calls it
    "masked array": (lambda maps: np.ma.masked_invalid(maps), "a masked one"),
    "masked array of float32": (lambda maps: np.ma.array(maps, np.float32, mask=maps > 1), "a masked one"),
    "sparse": (lambda maps: torch.from_numpy(maps).to_sparse(), "a sparse one"),
    "nested": (lambda maps: torch.nested.nested_tensor(list(torch.from_numpy(maps))), "a nested one"),
    "jagged": (
        lambda maps: torch.nested.nested_tensor(list(torch.from_numpy(maps)), layout=torch.jagged),
        "a nested one",
    ),
    "meta": (lambda maps: torch.from_numpy(maps).to("meta"), "a meta one"),
    "quantized": (
        lambda maps: torch.quantize_per_tensor(torch.from_numpy(maps).float(), 0.1, 0, torch.qint8),
        "a quantized one",
    ),
    "masked tensor": (
        lambda maps: torch.masked.masked_tensor(torch.from_numpy(maps), torch.ones(maps.shape) > 0),
        "a masked one",
    ),
    "float8": (lambda maps: torch.from_numpy(maps).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
    "float8 with another range": (lambda maps: torch.from_numpy(maps).to(torch.float8_e5m2), "torch.float8_e5m2"),
    "complex tensor": (lambda maps: torch.from_numpy(maps * 1j), "torch.complex128"),
    "conjugated tensor": (lambda maps: torch.from_numpy(maps * 1j).conj(), "torch.complex128"),
    "integers": (lambda maps: torch.from_numpy(maps).long(), "torch.int64"),
    "complex": (lambda maps: maps * 1j, "complex128"),
    "objects": (lambda maps: maps.astype(object), "object"),
    "texts": (lambda maps: maps.astype(str), "<U32"),
    "dates": (lambda maps: (maps * 9).astype(int).astype("datetime64[s]"), "datetime64"),
    "records": (lambda maps: maps.astype([("x", float)]), "x"),
    "long double": (lambda maps: maps.astype(np.longdouble), np.dtype(np.longdouble).name),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls some of them beta or deprecated
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("door", [name for name in CAM_DOORS if name != "normalize one"])
def test_what_is_no_dense_array_of_floats_is_refused(door, kind):
    make, found = REFUSED[kind]
    value = make(CAMS)
    with pytest.raises((TypeError, ValueError), match=r"(cams|maps): expected .*found ") as raised:
        CAM_DOORS[door](value)
    assert found in str(raised.value)


class ArrayLike:
    """As a data frame's column: no array, but numpy can make one of it."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __iter__(self):
        return iter(self.values)


class TestBoxes:
    def test_they_count_however_they_are_held(self):
        expected = counts_of()
        for held in (
            [each.tolist() for each in BOXES],
            [ArrayLike(each) for each in BOXES],
            [np.asfortranarray(each.astype(">i2"))[::-1] for each in BOXES],
            [torch.from_numpy(each) for each in BOXES],
            [each.astype(np.uint8).view(np.matrix) for each in BOXES],
            [np.repeat(np.repeat(each, 2, axis=0), 2, axis=1)[::2, ::2].astype(np.uint64) for each in BOXES],
        ):
            np.testing.assert_array_equal(counts_of(boxes=held), expected)

    @pytest.mark.parametrize(
        ("box", "message"),
        [
            (np.ma.array(BOXES[2], mask=False), "boxes[2]: expected an array without a mask, found a masked one"),
            (
                torch.from_numpy(BOXES[2]).to_sparse(),
                "boxes[2]: expected a dense tensor of numbers, found a sparse one",
            ),
            (torch.from_numpy(BOXES[2]).to("meta"), "boxes[2]: expected a dense tensor of numbers, found a meta one"),
            (BOXES[2].astype(object), "boxes[2]: expected integers, found object"),
            (BOXES[2].astype(bool), "boxes[2]: expected integers, found bool"),
            (BOXES[2].astype(float), "boxes[2]: expected integers, found float64"),
            (torch.from_numpy(BOXES[2]).bfloat16(), "boxes[2]: expected numbers that numpy can hold, found torch.bf"),
            ([[1, 2, 3, 4], [1, 2]], "boxes[2]: expected an array, found list"),
            (np.array([[0, 0, 5, 2**64 - 1]], np.uint64), "boxes[2]: expected coordinates within 1048576 pixels of"),
            (np.array([[2**64 - 1, 0, 5, 5]], np.uint64), "boxes[2]: expected coordinates within 1048576 pixels of"),
        ],
    )
    def test_what_is_refused(self, box, message):
        held = [*BOXES[:2], box, *BOXES[3:]]
        with pytest.raises(ValueError) as raised:
            ops.box_hits(CAMS, held, "max", **HOW)
        assert message in str(raised.value)
        with pytest.raises(ValueError) as raised:
            counts_of(boxes=held)
        assert f"image '2.jpg': {message}" in str(raised.value)

    def test_all_together_in_a_masked_array(self):
        together = np.ma.array(np.stack([each[:1] for each in BOXES]))
        with pytest.raises(ValueError, match="^boxes: expected an array without a mask, found a masked one"):
            ops.count_box_hits(CAMS, together, "max", **HOW)


class TestMasks:
    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.ma.array(MASKS, mask=MASKS == 255), "expected an array without a mask, found a masked one"),
            (torch.from_numpy(MASKS).to_sparse(), "expected a dense tensor of numbers, found a sparse one"),
            (torch.from_numpy(MASKS).to("meta"), "expected a dense tensor of numbers, found a meta one"),
            (MASKS.astype(object), "found object"),
        ],
    )
    def test_what_is_refused(self, mask, message):
        with pytest.raises(ValueError, match=f"^masks: .*{message}"):
            ops.count_pixels(CAMS, mask, "max", **HOW)
        with pytest.raises(ValueError, match=f"image '0.jpg': .*{message}"):
            counts_of(masks=list(mask))

    def test_they_count_however_they_are_held(self):
        expected = counts_of()
        repeated = np.broadcast_to(MASKS[0], MASKS.shape)
        for held in (np.asfortranarray(MASKS), torch.from_numpy(MASKS), MASKS.view(type("Named", (np.ndarray,), {}))):
            np.testing.assert_array_equal(counts_of(masks=list(held)), expected)
            np.testing.assert_array_equal(ops.count_pixels(CAMS, held, "max", **HOW)[0], expected[-8:].reshape(1, 2, 4))
        np.testing.assert_array_equal(
            ops.count_pixels(CAMS, repeated, "max", **HOW)[0], ops.count_pixels(CAMS, repeated.copy(), "max", **HOW)[0]
        )


NUMBERS = {
    "thresholds": lambda value: ops.box_hits(CAMS, BOXES, "max", value, size=SIZE),
    "iou_thresholds": lambda value: ops.box_hits(CAMS, BOXES, "max", [0.1], value, size=SIZE),
    "Evaluator thresholds": lambda value: counts_of(thresholds=value),
    "Evaluator iou_thresholds": lambda value: counts_of(iou_thresholds=value),
    "pixel_histograms thresholds": lambda value: ops.pixel_histograms(CAMS, MASKS, "max", value, size=SIZE),
    "threshold_boxes thresholds": lambda value: np.concatenate(ops.threshold_boxes(SCORES, value)[1]),
    "scores": lambda value: ops.cut_points(CAMS, "max", value),
    "cuts": lambda value: ops.digitize(CAMS[:1], value[None] if hasattr(value, "ndim") else [value])[0],
}


@pytest.mark.parametrize("door", NUMBERS)
def test_fractions(door):
    numbers = np.array([0.25, 0.5])
    expected = NUMBERS[door](numbers)
    for held in (
        [0.25, 0.5],
        numbers.astype(">f4"),
        torch.from_numpy(numbers),
        torch._neg_view(-torch.tensor(numbers)),
    ):
        np.testing.assert_array_equal(NUMBERS[door](held), expected)
    np.testing.assert_array_equal(NUMBERS[door](numbers.astype(object)), expected)
    for held in (
        np.ma.array(numbers, mask=[False, True]),
        torch.from_numpy(numbers).to_sparse(),
        torch.from_numpy(numbers).to("meta"),
        torch.from_numpy(numbers).bfloat16(),
        numbers.astype(complex),
        numbers.astype(str),
        numbers > 0.3,
    ):
        with pytest.raises(ValueError, match=rf"^{door.split()[-1]}: expected .*found "):
            NUMBERS[door](held)


def test_a_size_is_of_integers():
    for size in ((True, True), (np.ma.masked, 5), (224.0, 224)):
        with pytest.raises(ValueError, match=r"^size: expected \(height, width\), integers"):
            ops.resize(CAMS, size)


class TestStores:
    @pytest.mark.parametrize("guise", [each for each in guises(CAMS) if each != "byte-swapped"])
    def test_values_are_kept_however_they_are_held(self, tmp_path, guise):
        with CamWriter(tmp_path / "store", Manifest()) as writer:
            writer.add(IDS, guises(CAMS)[guise])
        (records,) = CamStore(tmp_path / "store").records()
        np.testing.assert_array_equal(records.cams, CAMS)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("name", ["cams", "nwc_cams", "classes", "logits"])
    @pytest.mark.parametrize("kind", ["masked array", "sparse", "nested", "meta", "quantized", "float8", "complex"])
    def test_what_is_refused(self, tmp_path, name, kind):
        logits = np.random.default_rng(0).standard_normal((len(CAMS), 7))
        good = {"cams": CAMS, "nwc_cams": CAMS, "classes": np.arange(len(CAMS)), "logits": logits}
        value = REFUSED[kind][0](logits if name == "logits" else CAMS)
        if (name, kind) == ("classes", "masked array"):
            value = np.ma.array(good["classes"], mask=False)
        with CamWriter(tmp_path / "store", Manifest(nwc=True)) as writer:
            with pytest.raises(ValueError, match=rf"^{name}: expected .*found "):
                writer.add(IDS, **{**good, name: value})
            writer.add(IDS, **good)
        (records,) = CamStore(tmp_path / "store").records()
        np.testing.assert_array_equal(records.classes, good["classes"])

    def test_what_a_model_returns(self):
        for value in (np.ma.array(CAMS), torch.from_numpy(CAMS).to_sparse(), torch.from_numpy(CAMS).to("meta")):
            for found in (value, Look(value)):
                with pytest.raises(ValueError, match="^model: expected .*found a (masked|sparse|meta) one"):
                    _on_host(found, len(CAMS), None)
        flipped = _on_host(torch._neg_view(-torch.from_numpy(CAMS)), len(CAMS), None).cams
        np.testing.assert_array_equal(flipped, CAMS)


class TestDropIn:
    def test_masked_maps_and_boxes(self):
        scores = np.ma.array(SCORES[0], mask=SCORES[0] > 0.5)
        for call in (
            lambda: util.check_scoremap_validity(scores),
            lambda: evaluation.compute_bboxes_from_scoremaps(scores, [0.2]),
            lambda: inference.normalize_scoremap(np.ma.array(CAMS[0], mask=False)),
            lambda: util.check_box_convention(np.ma.array(BOXES[0], mask=False), "x0y0x1y1"),
            lambda: evaluation.calculate_multiple_iou(BOXES[0], np.ma.array(BOXES[1], mask=False)),
        ):
            with pytest.raises(ValueError, match="expected an array without a mask, found a masked one"):
                call()

    def test_tensors(self):
        tensor = torch.from_numpy(CAMS)
        np.testing.assert_array_equal(util.t2n(torch._neg_view(-tensor)), CAMS)
        for each in (tensor.to_sparse(), tensor.to("meta")):
            with pytest.raises(ValueError, match="^t: expected a dense tensor of numbers"):
                util.t2n(each)


def test_extremes_that_are_masked():
    low, high = CAMS.min(axis=(1, 2)), CAMS.max(axis=(1, 2))
    with pytest.raises(ValueError, match="^maxima: expected an array without a mask"):
        diagnostics.diagnose(low, np.ma.masked_invalid(high))


def test_tensors_of_a_transformation():
    with pytest.raises(ValueError, match="cams: expected "):
        torch.vmap(lambda each: ops.normalize(each, "max"))(torch.from_numpy(CAMS))

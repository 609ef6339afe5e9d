"""The Evaluator: what it counts, how counts add up, and how it refuses what it cannot count.

In: small CAMs and score maps. Out: counts and results.
Source: Choe et al., arXiv 2007.04178, section 4.
"""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.errors import ImageError
from wsolkern.metrics import Evaluator, GroundTruth, Protocol, sealed
from wsolkern.metrics.identity import key_of, named
from wsolkern.ops import box_hits, pixel_histograms

SIZE = (9, 12)
THRESHOLDS = np.linspace(0, 1, 16, endpoint=False)
NORMALIZATIONS = ("minmax", "ivr:0.45", "ivr:0.45+pas:0.9")
IDS = [f"folder/{number}.jpg" for number in range(8)]


def make_cams(side=5):
    return np.random.default_rng(1).normal(0, 1, (len(IDS), side, side))


def make_boxes():
    rng = np.random.default_rng(2)
    corners = rng.integers(0, 6, (len(IDS), 2, 2))
    boxes = np.concatenate([corners, corners + rng.integers(2, 5, corners.shape)], axis=-1)
    return {each: some[: 1 + index % 2] for index, (each, some) in enumerate(zip(IDS, boxes, strict=True))}


def make_masks():
    masks = np.random.default_rng(3).choice(np.array([0, 0, 1, 255], np.uint8), (len(IDS), *SIZE))
    return dict(zip(IDS, masks, strict=True))


def make(normalizations=NORMALIZATIONS, *, backend="reference", **arguments):
    truth = {} if "boxes" in arguments or "masks" in arguments else {"boxes": make_boxes(), "masks": make_masks()}
    settings = {"thresholds": THRESHOLDS, "iou_thresholds": (0.3, 0.5), "size": SIZE, **truth, **arguments}
    return Evaluator(normalizations, backend=backend, **settings)


def fed(evaluator, *batches):
    """Fed with CAMs by their index, a batch an index array."""
    for batch in batches or [range(len(IDS))]:
        evaluator.update(make_cams()[list(batch)], [IDS[index] for index in batch])
    return evaluator


def counts(evaluator):
    return evaluator.num_images, *(
        None if each is None else each.copy()
        for each in (evaluator.num_degenerate, evaluator.num_correct, evaluator.hist)
    )


def test_score_maps_by_hand(backend):
    # Two images of 4x4: an object of 2x2 pixels, found exactly at threshold 0.5 and lost in the whole image at 0.
    exact = np.full((4, 4), 0.2)
    exact[:2, :2] = 1.0
    empty = np.zeros((4, 4))
    boxes = {"exact": np.array([[0, 0, 2, 2]]), "empty": np.array([[0, 0, 0, 0]])}  # x1 is one past the last column
    mask = np.zeros((4, 4), np.uint8)
    mask[:2, :3], mask[3] = 1, 255
    evaluator = Evaluator(
        None,
        boxes=boxes,
        masks=lambda image_id: mask,
        thresholds=[0.0, 0.5],
        iou_thresholds=[0.6, 1.0],
        size=(4, 4),
        backend=backend,
    )
    evaluator.update(np.stack([exact, empty]), ["exact", "empty"])
    assert evaluator.num_images == 2
    # Without foreground the box is 0 0 0 0, which is exactly the second image's object.
    np.testing.assert_array_equal(evaluator.num_correct, [[[[1, 2], [1, 2]]]] * 2)
    # Bins [0, .5) [.5, 1) [1, 2) [2, 3]: of 6 object pixels 4 are 1.0 in one image and none in the other.
    np.testing.assert_array_equal(evaluator.hist, [[[2 + 6, 0, 4, 0], [6 + 6, 0, 0, 0]]])
    result = evaluator.compute()["score maps"]
    assert result.max_box_acc == {0.6: 100.0, 1.0: 100.0}
    assert result.best_threshold == {0.6: 0.5, 1.0: 0.5}
    assert result.pxap == 100 * (1.0 * (4 / 12) + 0.5 * (1 - 4 / 12))
    assert result.num_degenerate == 0


def test_counts_are_the_sums_of_the_operations(backend):
    cams, boxes, masks = make_cams(), make_boxes(), make_masks()
    cams[3] = 1.0
    cams[5, 2, 2] = np.nan
    evaluator = make(backend=backend)
    evaluator.update(cams[:5], IDS[:5])
    evaluator.update(cams[5:].astype(np.float64), tuple(IDS[5:]))
    hits = box_hits(
        cams,
        list(boxes.values()),
        NORMALIZATIONS,
        THRESHOLDS,
        (0.3, 0.5),
        contours="both",
        size=SIZE,
        backend="reference",
    )
    pixels = pixel_histograms(
        cams, np.stack(list(masks.values())), NORMALIZATIONS, THRESHOLDS, size=SIZE, backend="reference"
    )
    np.testing.assert_array_equal(evaluator.num_correct, hits.sum(axis=2))
    np.testing.assert_array_equal(evaluator.hist, pixels.sum(axis=1))
    np.testing.assert_array_equal(evaluator.num_degenerate, [2, 2, 2])
    assert [row.num_degenerate for row in evaluator.compute()] == [2, 2, 2]


def test_torch_cams_count_like_numpy_ones():
    torch = pytest.importorskip("torch")
    cams = make_cams().astype(np.float32)
    ours, theirs = make(), make()
    ours.update(torch.from_numpy(cams), IDS)
    theirs.update(cams, IDS)
    assert ours == theirs
    assert isinstance(ours.num_correct, np.ndarray)


@pytest.mark.parametrize("truth", ["boxes", "masks"])
def test_only_what_there_is_truth_for_is_measured(truth):
    evaluator = fed(make(**{truth: {"boxes": make_boxes, "masks": make_masks}[truth]()}))
    both = fed(make())
    assert (evaluator.num_correct is None) == (truth == "masks")
    assert (evaluator.hist is None) == (truth == "boxes")
    row, expected = evaluator.compute()["ivr:0.45"], both.compute()["ivr:0.45"]
    if truth == "boxes":
        assert (row.max_box_acc_v2, row.pxap) == (expected.max_box_acc_v2, None)
    else:
        assert (row.max_box_acc_v2, row.pxap) == (None, expected.pxap)


def test_order_and_batches_do_not_matter():
    whole = fed(make())
    order = np.random.default_rng(0).permutation(len(IDS))
    assert fed(make(), *np.split(order, [1, 3, 3, 6])) == whole
    assert fed(make(), *([index] for index in range(len(IDS)))) == whole


def test_an_empty_batch_counts_nothing():
    evaluator = make()
    evaluator.update(np.empty((0, 5, 5)), [])
    assert evaluator == make()


def test_merge_is_the_union():
    whole, left, right = fed(make()), fed(make(), range(5)), fed(make(), range(5, 8))
    assert left != whole
    left.merge(right)
    assert left == whole
    assert right == fed(make(), range(5, 8))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"normalizations": ("minmax",)},
            r"same normalizations, \[minmax, ivr:0.45, ivr:0.45\+pas:0.9\], found \[minmax\]",
        ),
        ({"thresholds": [0.5]}, r"same thresholds, \[0.0, 0.0625, 0.125, 0.1875, ... 16 in all\], found \[0.5\]"),
        ({"iou_thresholds": [0.7]}, r"same iou_thresholds, \[0.3, 0.5\], found \[0.7\]"),
        ({"size": (4, 4)}, r"same size, \(9, 12\), found \(4, 4\)"),
        ({"boxes": {}}, r"same kind of ground truth, \[boxes, masks\], found \[boxes\]"),
    ],
)
def test_merge_refuses_other_settings(other, message):
    evaluator = make()
    with pytest.raises(ValueError, match=message):
        evaluator.merge(make(**other))
    with pytest.raises(TypeError, match="other: expected an Evaluator, found int"):
        evaluator.merge(3)


def test_an_image_counts_once():
    evaluator, before = fed(make(), range(5)), fed(make(), range(5))
    with pytest.raises(ImageError, match=f"image '{IDS[4]}': expected it once, found it a second time") as raised:
        evaluator.update(make_cams()[[6, 4]], [IDS[6], IDS[4]])
    assert raised.value.image_id == IDS[4] and evaluator == before
    fed(evaluator, [6])  # nothing of the batch was counted


def test_merge_refuses_images_that_are_counted_already():
    left, right = fed(make(), range(5)), fed(make(), range(4, 8))
    with pytest.raises(ValueError, match=f"other: .*found 1 of 4 that are, one is '{IDS[4]}'; a sampler .*Unpadded"):
        left.merge(right)
    assert left == fed(make(), range(5))
    with pytest.raises(ValueError, match="found 5 of 5 that are"):
        left.merge(left)
    with pytest.raises(ValueError, match=f"one is '{IDS[4]}'"):  # without ground truth: the other one has it
        Evaluator.from_bytes(left.to_bytes()).merge(right)
    with pytest.raises(ValueError, match=r"one is the one with key [0-9a-f]{32};"):
        Evaluator.from_bytes(left.to_bytes()).merge(Evaluator.from_bytes(right.to_bytes()))


def test_copies_count_by_themselves():
    original = fed(make(), range(3))
    shallow, deep, pickled = copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))
    fed(original, range(3, 6))
    for each in (shallow, deep, pickled):
        assert each == fed(make(), range(3))
        assert fed(each, [4, 7]) == fed(make(), range(3), [4, 7])
    assert fed(original, [7]) == fed(make(), range(6), [7])


def test_a_moment_knows_its_images():
    evaluator = fed(make(), range(3))
    moment = evaluator.moment()
    fed(evaluator, range(3, 6))
    loaded = Evaluator.from_bytes(evaluator.to_bytes(moment), boxes=make_boxes(), masks=make_masks())
    assert loaded == fed(make(), range(3)) and fed(loaded, range(3, 6)) == evaluator
    assert evaluator.to_bytes() == fed(make(), [5, 4], [3], range(3)).to_bytes()


def test_counts_of_a_file_without_images_are_added_unseen():
    """As files were before evaluators knew which images they had counted."""
    content = fed(make(), range(5)).to_bytes()
    start = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["wsolkern"]
    header = {name: value for name, value in json.loads(start).items() if name != "sha256"}
    arrays = without(safetensors.numpy.load(content), "image_keys")
    older = Evaluator.from_bytes(sealed.seal(header, arrays), boxes=make_boxes(), masks=make_masks())
    assert older == fed(make(), range(5))
    older.merge(fed(make(), range(5)))
    assert older.num_images == 10
    with pytest.raises(ImageError, match="a second time"):  # what came from the other one is known
        fed(older, [4])


KEYS_OF_ONE = {
    "text": ["folder/1.jpg", np.str_("folder/1.jpg")],
    "bytes": [b"1", np.bytes_(b"1")],
    "integer": [1, np.int32(1), np.uint8(1), True],
    "negative": [-1, np.int64(-1)],
    "large": [1 << 70],
    "tuple": [("a", 1), ("a", np.int64(1))],
    "another_tuple": [("a", "1")],
    "nested": [(("a",), 1)],
    "digit": ["1"],
    "path": [Path("1")],
    "surrogate": ["\udcff"],
}


def test_a_key_stands_for_one_id():
    keys = {name: {key_of(each) for each in ids} for name, ids in KEYS_OF_ONE.items()}
    assert all(len(each) == 1 and len(*each) == 16 for each in keys.values()), keys
    assert len(set.union(*keys.values())) == len(keys)
    assert key_of("folder/1.jpg").hex() == "3231cfac9adcb1d900275e3a25b42dc3"  # files and other processes hold it
    assert named(key_of(-3)) == "-3" and named(key_of("b"), {"a": 0}, None, {"b": 0}) == "'b'"


@pytest.mark.parametrize("normalizations", [NORMALIZATIONS, None], ids=["cams", "score_maps"])
@pytest.mark.parametrize("truth", ["both", "boxes", "masks"])
def test_save_and_load(tmp_path, normalizations, truth):
    truths = {"boxes": make_boxes(), "masks": make_masks()}
    truths = truths if truth == "both" else {truth: truths[truth]}
    maps = np.random.default_rng(5).random((len(IDS), *SIZE))
    evaluator = make(normalizations, **truths)
    evaluator.update(maps[:6], IDS[:6])
    path = tmp_path / "counts.safetensors"
    path.write_bytes(b"an older file is replaced")
    evaluator.save(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]

    loaded = Evaluator.load(path, backend="reference")
    assert loaded == evaluator
    assert loaded.compute().to_dict(curves=True) == evaluator.compute().to_dict(curves=True)
    with pytest.raises(ValueError, match="2 of 2 are not in .*; .* holds 0 ids"):
        loaded.update(maps[6:], IDS[6:])

    resumed = Evaluator.load(str(path), **truths, backend="reference")
    for each in (resumed, evaluator):
        each.update(maps[6:], IDS[6:])
    assert resumed == evaluator


def test_load_refuses_truth_that_was_not_counted(tmp_path):
    make(boxes=make_boxes()).save(tmp_path / "counts")
    with pytest.raises(ValueError, match="masks: .*counts was counted without masks"):
        Evaluator.load(tmp_path / "counts", masks=make_masks())


def damaged_files(path):
    """Contents that are not what `save` writes, by name."""
    fed(make(), range(3)).save(path)
    whole = path.read_bytes()
    tensors = safetensors.numpy.load(whole)

    def changed(header=None, **other):
        start = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]["wsolkern"]
        metadata = {"wsolkern": json.dumps({**json.loads(start), **(header or {})})}
        remaining = {name: each for name, each in {**tensors, **other}.items() if each is not None}
        return safetensors.numpy.save(remaining, metadata=metadata)

    too_many = tensors["num_correct"].copy()
    too_many[0, 0, 0, 0] = 4
    return {
        "empty": b"",
        "text": b"minmax,61.2\n" * 9,
        "half_the_header": whole[:100],
        "half_the_counts": whole[: -len(whole) // 2],
        "one_byte_short": whole[:-1],
        "foreign": safetensors.numpy.save({"weight": np.zeros(3)}),
        "foreign_metadata": safetensors.numpy.save({"weight": np.zeros(3)}, metadata={"wsolkern": "no json"}),
        "another_version": changed({"version": 2}),
        "negative_number_of_images": changed({"num_images": -1}),
        "no_normalizations": changed({"normalizations": []}),
        "unknown_normalization": changed({"normalizations": ["minmax", "max", "median"]}),
        "fewer_normalizations": changed({"normalizations": ["minmax"]}),
        "no_size": changed({"size": None}),
        "no_thresholds": changed(thresholds=None),
        "other_thresholds": changed(thresholds=THRESHOLDS[:-1]),
        "no_degenerate_counts": changed(num_degenerate=None),
        "float_counts": changed(hist=tensors["hist"].astype(np.float64)),
        "negative_counts": changed(hist=tensors["hist"] - 1000),
        "more_hits_than_images": changed(num_correct=too_many),
        "more_keys_than_images": changed(image_keys=np.arange(64, dtype=np.uint8).reshape(4, 16)),
        "a_key_twice": changed(image_keys=np.zeros((3, 16), np.uint8)),
        "keys_of_another_length": changed(image_keys=np.zeros((3, 8), np.uint8)),
    }


@pytest.mark.parametrize(
    "name",
    """empty text half_the_header half_the_counts one_byte_short foreign foreign_metadata another_version
    negative_number_of_images no_normalizations unknown_normalization fewer_normalizations no_size no_thresholds
    other_thresholds no_degenerate_counts float_counts negative_counts more_hits_than_images
    more_keys_than_images a_key_twice keys_of_another_length""".split(),
)
def test_load_refuses_other_and_damaged_files(tmp_path, name):
    path = tmp_path / "counts.safetensors"
    path.write_bytes(damaged_files(path)[name])
    expected = "format version 1, found 2" if name == "another_version" else "a file written by Evaluator.save"
    with pytest.raises(ValueError, match=f"counts.safetensors: expected {expected}"):
        Evaluator.load(path)


def test_load_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        Evaluator.load(tmp_path / "nothing.safetensors")


def test_a_save_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "counts"
    make().save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fed(make()).save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["counts"]


def replaced(values, index, value):
    values = dict(values) if isinstance(values, dict) else values.copy()
    values[index] = value
    return values


def without(values, key):
    return {each: value for each, value in values.items() if each != key}


BAD_BATCHES = {
    "one_id_too_few": ({}, make_cams(), IDS[:-1], "image_ids: expected 8, one for each map, found 7"),
    "single_string": ({}, make_cams(), "a" * 8, "image_ids: expected a sequence of 8 ids, found the single string"),
    "repeated_id": ({}, make_cams(), [*IDS[:-1], IDS[2]], "image_ids: .*'folder/2.jpg' more than once"),
    "unknown_id": ({}, make_cams(), [*IDS[:-1], "x"], "1 of 8 are not in boxes, the first is 'x'; boxes holds 8 ids"),
    "no_mask": (
        {"boxes": make_boxes(), "masks": without(make_masks(), IDS[4])},
        make_cams(),
        IDS,
        "1 of 8 are not in masks, the first is 'folder/4.jpg'; masks holds 7 ids",
    ),
    "one_map": ({}, make_cams()[0], IDS, r"cams: expected an array \[N, h, w\], found float64 \(5, 5\)"),
    "list": ({}, make_cams().tolist(), IDS, r"cams: expected an array \[N, h, w\], found list"),
    "integers": ({}, make_cams().astype(int), IDS, "cams: expected float16, .*, found int64"),
    "no_boxes": (
        {"boxes": replaced(make_boxes(), IDS[7], np.empty((0, 4), int))},
        make_cams(),
        IDS,
        r"image 'folder/7.jpg': .*\[n, 4\] with n >= 1",
    ),
    "box_ends_before_it_begins": (
        {"boxes": replaced(make_boxes(), IDS[7], np.array([[5, 0, 4, 9]]))},
        make_cams(),
        IDS,
        r"image 'folder/7.jpg': .*x0 <= x1",
    ),
    "mask_of_another_size": (
        {"boxes": make_boxes(), "masks": replaced(make_masks(), IDS[5], np.zeros((12, 9), np.uint8))},
        make_cams(),
        IDS,
        r"image 'folder/5.jpg': expected a mask uint8 \(9, 12\), found uint8 \(12, 9\)",
    ),
    "mask_of_another_value": (
        {"boxes": make_boxes(), "masks": replaced(make_masks(), IDS[5], np.full(SIZE, 7, np.uint8))},
        make_cams(),
        IDS,
        "image 'folder/5.jpg': .*found 7",
    ),
    "score_above_one": (
        {"normalizations": None},
        replaced(np.full((8, *SIZE), 0.5), 6, np.full(SIZE, 1.5)),
        IDS,
        "image 'folder/6.jpg': .*found 1.5",
    ),
    "score_is_nan": (
        {"normalizations": None},
        replaced(np.full((8, *SIZE), 0.5), 6, np.full(SIZE, np.nan)),
        IDS,
        "image 'folder/6.jpg': .*found nan",
    ),
    "score_maps_of_another_size": (
        {"normalizations": None},
        np.full((8, 5, 5), 0.5),
        IDS,
        r"cams: expected score maps of size \(9, 12\), found \(5, 5\)",
    ),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_is_named_and_counts_nothing(name):
    settings, cams, ids, message = BAD_BATCHES[name]
    evaluator = make(**settings)
    if evaluator.normalizations is not None:
        earlier = [f"earlier {index}" for index in range(3)]
        makers = {"boxes": make_boxes, "masks": make_masks}
        truth = {kind: dict(zip(earlier, makers[kind]().values(), strict=False)) for kind in evaluator.truth.kinds}
        others = make(**truth)
        others.update(make_cams()[:3], earlier)
        evaluator.merge(others)
    before = counts(evaluator)
    with pytest.raises(ValueError, match=message):
        evaluator.update(cams, ids)
    for ours, earlier in zip(counts(evaluator), before, strict=True):
        np.testing.assert_array_equal(ours, earlier)


def test_an_error_of_one_image_carries_its_id():
    evaluator = make(boxes=make_boxes() | {IDS[5]: np.array([[4, 0, 3, 3]])}, masks=None)
    with pytest.raises(ImageError) as raised:
        fed(evaluator)
    assert (raised.value.image_id, raised.value.reason[:12]) == (IDS[5], "boxes[5][0]:")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_what_a_loader_says_is_left_as_it_is():
    def load(image_id):
        raise ValueError(f"masks[3]: {image_id} is no file")

    with pytest.raises(ValueError, match=f"^masks.3.: {IDS[0]} is no file$"):
        fed(make(boxes=None, masks=load))


def test_a_mask_that_does_not_load_counts_nothing():
    def load(image_id):
        raise FileNotFoundError(f"masks/{image_id}.png")

    evaluator = make(boxes=make_boxes(), masks=load)
    with pytest.raises(FileNotFoundError, match="masks/folder/0.jpg.png"):
        fed(evaluator)
    assert evaluator == make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": None, "masks": None}, "boxes, masks: expected at least one"),
        ({"normalizations": ()}, "normalizations: expected at least one"),
        ({"normalizations": ("median",)}, "normalization 'median'"),
        ({"thresholds": [0.5, 1.0]}, "thresholds: .*found 1.0"),
        ({"thresholds": []}, "thresholds: "),
        ({"thresholds": [0.5, 0.4]}, "thresholds: .*0.5 before 0.4"),
        ({"iou_thresholds": [30]}, "iou_thresholds: .*found 30"),
        ({"size": 224}, "size: expected .*found 224"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_thresholds_may_be_in_any_order_without_masks():
    shuffled = make(boxes=make_boxes(), thresholds=THRESHOLDS[::-1])
    np.testing.assert_array_equal(fed(shuffled).num_correct[..., ::-1], fed(make()).num_correct)


def test_compute_needs_images_and_object_pixels():
    with pytest.raises(ValueError, match="no image was counted"):
        make().compute()
    evaluator = fed(make(masks={each: np.zeros(SIZE, np.uint8) for each in IDS}))
    with pytest.raises(ValueError, match="at least one object pixel"):
        evaluator.compute()


def test_settings_are_a_copy_and_results_do_not_follow_the_counts():
    thresholds = THRESHOLDS.copy()
    evaluator = fed(make(thresholds=thresholds), range(5))
    thresholds[:] = 0.5
    result = evaluator.compute().to_dict(curves=True)
    kept = evaluator.compute()
    fed(evaluator, range(5, 8))
    assert kept.to_dict(curves=True) == result
    assert kept.thresholds.tolist() == THRESHOLDS.tolist()


def test_repr_tells_settings_and_progress():
    assert repr(fed(make(boxes=make_boxes()), range(5))) == (
        "Evaluator(minmax, ivr:0.45, ivr:0.45+pas:0.9; boxes; 16 thresholds; size 9x12; 5 images)"
    )
    assert repr(make(None)) == "Evaluator(score maps; boxes and masks; 16 thresholds; size 9x12; 0 images)"


# The two values behind it.


def test_a_protocol_is_checked_and_compared():
    protocol = Protocol("ivr:.45 max", thresholds=[0, 0.5], iou_thresholds=(0.3,), size=SIZE)
    assert protocol.names == ["ivr:0.45", "max"] and protocol.size == SIZE
    same = Protocol(["ivr:0.45", "max"], thresholds=np.array([0, 0.5]), iou_thresholds=[0.3], size=list(SIZE))
    assert protocol == same and hash(protocol) == hash(same) and len({protocol, same}) == 1
    others = [
        Protocol(["ivr:0.45"], thresholds=[0, 0.5], iou_thresholds=(0.3,), size=SIZE),
        Protocol("ivr:.45 max", thresholds=[0, 0.25], iou_thresholds=(0.3,), size=SIZE),
        Protocol("ivr:.45 max", thresholds=[0, 0.5], iou_thresholds=(0.3, 0.5), size=SIZE),
        Protocol("ivr:.45 max", thresholds=[0, 0.5], iou_thresholds=(0.3,), size=SIZE[::-1]),
        Protocol(None, thresholds=[0, 0.5], iou_thresholds=(0.3,), size=SIZE),
        Protocol("ivr:.45 max", thresholds=[0, 0.5], iou_thresholds=(0.3,), size=SIZE, box_rule="ts-cam"),
    ]
    assert len({protocol, *others}) == 7 and protocol != "ivr:0.45 max"
    content = json.loads(json.dumps(protocol.to_dict()))
    assert content == {
        "normalizations": ["ivr:0.45", "max"],
        "thresholds": [0.0, 0.5],
        "iou_thresholds": [0.3],
        "size": list(SIZE),
        "box_rule": CHOE.to_dict(),
    }
    assert repr(others[-1]) == "Protocol(ivr:0.45, max; 2 thresholds; IoU 0.3; size 9x12; box rule ts-cam)"
    content = {name: content[name] for name in ("normalizations", "thresholds", "iou_thresholds", "size")}
    assert Protocol(content.pop("normalizations"), **content) == protocol
    assert repr(protocol) == "Protocol(ivr:0.45, max; 2 thresholds; IoU 0.3; size 9x12)"
    assert len(repr(Protocol([f"ivr:{k / 1000}" for k in range(900)], iou_thresholds=np.arange(1, 99) / 100))) < 160
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.size = (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        protocol.thresholds[0] = 0.1
    for wrong in (
        {"thresholds": [2]},
        {"iou_thresholds": []},
        {"size": 5},
        {"normalizations": "mean"},
        {"box_rule": "x"},
    ):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong)).rstrip('s')}"):
            Protocol(**wrong)


def test_an_evaluator_of_values_is_the_one_of_arguments():
    protocol = Protocol(NORMALIZATIONS, thresholds=THRESHOLDS, iou_thresholds=(0.3, 0.5), size=SIZE)
    truth = GroundTruth(make_boxes(), make_masks())
    assert truth.kinds == ("boxes", "masks") and repr(truth) == "GroundTruth(boxes of 8 images, masks of 8 images)"
    evaluator = Evaluator.of(protocol, truth, backend="reference")
    assert (evaluator.protocol, evaluator.truth, evaluator.backend) == (protocol, truth, "reference")
    assert make().protocol == protocol and fed(evaluator) == fed(make())
    unordered = Protocol(NORMALIZATIONS, thresholds=[0.5, 0.1], size=SIZE)
    Evaluator.of(unordered, GroundTruth(make_boxes()))
    with pytest.raises(ValueError, match="thresholds: expected them in increasing order, found 0.5 before 0.1"):
        Evaluator.of(unordered, truth)
    with pytest.raises(ValueError, match="boxes, masks: expected at least one of them, found None for both"):
        GroundTruth()
    assert repr(GroundTruth(masks=lambda image_id: None)) == "GroundTruth(masks from a function)"


def test_counts_of_a_box_rule_are_its_hits_and_add_up_with_no_other_rules(tmp_path):
    own = dataclasses.replace(BoxRule.parse("sat"), name="own", relative_to=0.9, hit=">")
    for rule in ("ts-cam", own):
        evaluator = fed(make(box_rule=rule, backend="cpu"), range(5), range(5, 8))
        boxes = [make_boxes()[each] for each in IDS]
        how = {"contours": "both", "size": SIZE, "rule": rule}
        hits = box_hits(make_cams(), boxes, NORMALIZATIONS, THRESHOLDS, (0.3, 0.5), **how)
        np.testing.assert_array_equal(evaluator.num_correct, hits.sum(axis=2))
        np.testing.assert_array_equal(evaluator.hist, fed(make()).hist)  # masks have nothing to do with it
        evaluator.save(tmp_path / "counts")
        loaded = Evaluator.load(tmp_path / "counts", boxes=make_boxes())
        assert loaded == evaluator and loaded.protocol.box_rule == BoxRule.parse(rule)
        assert f"; box rule {rule}; 8 images)" in repr(evaluator)
        with pytest.raises(ValueError, match=f"other: expected the same box_rule, choe, found {rule}"):
            make().merge(evaluator)


def test_counts_from_before_there_were_box_rules_are_of_the_default():
    content = fed(make()).to_bytes()
    assert b"box_rule" not in content
    assert Evaluator.from_bytes(content).protocol.box_rule == CHOE
    bad = make(box_rule="psol").to_bytes()
    length = int.from_bytes(bad[:8], "little")
    header = bad[8 : 8 + length].replace(b"pixel count", b"pixel C0unt")
    with pytest.raises(ValueError, match="SHA-256"):
        Evaluator.from_bytes(bad[:8] + header + bad[8 + length :])

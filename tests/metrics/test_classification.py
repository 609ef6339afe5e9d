"""Localization with classification: which images are classified, what the Evaluator counts of them, and the figures.

In: maps of random numbers and real CAMs, logits. Out: counts and figures, against plain loops over images.
Source: Russakovsky et al., arXiv 1409.0575, section 4.2; Choe et al., arXiv 2007.04178, section 4.
"""

import json

import numpy as np
import pytest
import torch
from cases import smooth
from shared import slow_but

from wsolkern import ops
from wsolkern.errors import ArgumentError, ImageError
from wsolkern.metrics import Evaluator, Metric, SelectedThresholds, top_k
from wsolkern.metrics.localization import name_of
from wsolkern.metrics.selection import select
from wsolkern.ops.boxes import ious_reference

SIZE = (24, 20)
THRESHOLDS = np.linspace(0, 1, 12, endpoint=False)
IOUS = (0.3, 0.5, 0.7)
NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45")


def data(num, num_classes=9, seed=0):
    """CAMs, boxes by image id, image ids, logits with ties, labels: 40 % among the first, 70 % in the first five."""
    rng = np.random.default_rng(seed)
    cams = np.stack([smooth(rng, 7, 7) for _ in range(num)])
    corners = rng.integers(0, 12, (num, 2, 2))
    boxes = np.concatenate([corners, corners + rng.integers(2, 8, corners.shape)], axis=-1)
    ids = [f"{number}.jpg" for number in range(num)]
    logits = rng.integers(-3, 4, (num, num_classes)).astype(np.float32)
    order, draw = np.argsort(-logits, axis=1, kind="stable"), rng.random(num)
    labels = np.where(draw < 0.4, order[:, 0], np.where(draw < 0.7, order[:, 3], order[:, -1]))
    return (
        cams,
        {each: some[: 1 + n % 2] for n, (each, some) in enumerate(zip(ids, boxes, strict=True))},
        ids,
        logits,
        labels,
    )


def make(boxes, normalizations=NORMALIZATIONS, **how):
    how = {"size": SIZE, "thresholds": THRESHOLDS, "iou_thresholds": IOUS} | how
    return Evaluator(normalizations, boxes=boxes, **how)


def loop(cams, boxes, ids, logits, labels, top, normalizations=NORMALIZATIONS, size=SIZE, thresholds=THRESHOLDS):
    """The counts as one would write them: image by image, threshold by threshold."""
    localized = np.zeros((len(top), 2, len(normalizations), len(IOUS), len(thresholds)), np.int64)
    classified = np.zeros(len(top), np.int64)
    for n, image_id in enumerate(ids):
        order = sorted(range(logits.shape[1]), key=lambda c: (-float(logits[n, c]), c))
        for k, first in enumerate(top):
            classified[k] += labels[n] in order[:first]
        for m, normalization in enumerate(normalizations):
            score_map = ops.normalize(cams[n : n + 1], normalization, size)
            for c, contours in enumerate(("largest", "all")):
                (found,) = ops.threshold_boxes(score_map, thresholds, contours=contours)
                for t, at in enumerate(found):
                    iou = ious_reference(at, boxes[image_id]).max()
                    for d, delta in enumerate(IOUS):
                        for k, first in enumerate(top):
                            localized[k, c, m, d, t] += iou >= delta and labels[n] in order[:first]
    return classified, localized


@pytest.mark.parametrize("num, num_classes", slow_but([(40, 9)], [(40, 9), (1200, 9), (300, 4), (200, 1000)]))
def test_counts_equal_a_plain_loop(num, num_classes):
    cams, boxes, ids, logits, labels = data(num, num_classes)
    classified, localized = loop(cams, boxes, ids, logits, labels, (1, 5))
    for size in (num, 7):
        evaluator = make(boxes)
        for start in range(0, num, size):
            part = slice(start, start + size)
            evaluator.update(cams[part], ids[part], logits=logits[part], labels=labels[part])
        assert evaluator.top == (1, 5)
        np.testing.assert_array_equal(evaluator.num_classified, classified)
        np.testing.assert_array_equal(evaluator.num_localized, localized)
        plain = make(boxes)
        plain.update(cams, ids)
        np.testing.assert_array_equal(evaluator.num_correct, plain.num_correct)
        np.testing.assert_array_equal(evaluator.num_degenerate, plain.num_degenerate)
        assert plain.num_classified is None and plain.num_localized is None and plain.top == ()
    assert 0 < classified[0] < classified[1] <= num and (localized[0] < localized[1]).any()
    assert (num_classes <= 5) == (classified[1] == num)  # top-5 of four classes is always right


@pytest.mark.slow
def test_counts_of_real_cams_equal_a_plain_loop():
    demo = pytest.importorskip("wsolkern.demo", reason="needs the demo extra")
    crops = demo.load_crops()[::3]
    found, boxes = demo.crop_cams(crops, 224), demo.crop_boxes(crops)
    ids, labels = [each.image_id for each in crops], [each.photograph.class_index for each in crops]
    truth, thresholds = dict(zip(ids, boxes, strict=True)), ops.DEFAULT_THRESHOLDS[::25]
    classified, localized = loop(
        found.cams, truth, ids, found.logits, labels, (1, 5), size=(224, 224), thresholds=thresholds
    )
    evaluator = make(truth, size=(224, 224), thresholds=thresholds)
    evaluator.update(found.cams, ids, logits=found.logits, labels=labels)
    np.testing.assert_array_equal(evaluator.num_classified, classified)
    np.testing.assert_array_equal(evaluator.num_localized, localized)
    assert localized[0].any() and (localized[0] < evaluator.num_correct).any()


def test_ways_to_say_what_is_right_are_one(backend):
    cams, boxes, ids, logits, labels = data(5)
    first = top_k(logits, labels, [1])[1]
    told = {
        "logits": {"logits": logits, "labels": labels},
        "torch": {"logits": torch.from_numpy(logits), "labels": torch.from_numpy(labels)},
        "halves": {"logits": torch.from_numpy(logits).bfloat16(), "labels": labels.tolist()},
        "correct": {"correct": top_k(logits, labels)},
        "another order": {"correct": dict(reversed(top_k(torch.from_numpy(logits), labels).items()))},
        "lists": {"correct": {k: each.tolist() for k, each in top_k(logits, labels).items()}},
    }
    wanted = make(boxes, ["ivr:0.45"])
    wanted.update(cams, ids, **told["logits"])
    for name, how in told.items():
        evaluator = make(boxes, ["ivr:0.45"], backend=backend)
        evaluator.update(cams, ids, **how)
        assert evaluator == wanted, name
    alone = make(boxes, ["ivr:0.45"], backend=backend)
    alone.update(cams, ids, correct=first)
    assert alone.top == (1,) and alone.num_classified.tolist() == [first.sum()]
    np.testing.assert_array_equal(alone.num_localized[0], wanted.num_localized[0])


def test_the_first_of_equal_logits_is_that_of_the_smaller_class():
    logits = np.array([[2.0, 2, 2, 1], [2, 2, 2, 1], [2, 2, 2, 1], [np.inf, -np.inf, np.inf, 0], [0, 0, 0, 0]])
    labels = [0, 1, 3, 2, 0]
    for values in (logits, torch.from_numpy(logits), torch.from_numpy(logits).half()):
        found = top_k(values, labels, (3, 1, 2, 4))
        assert list(found) == [1, 2, 3, 4]
        assert {k: np.asarray(each).tolist() for k, each in found.items()} == {
            1: [True, False, False, False, True],
            2: [True, True, False, True, True],
            3: [True, True, False, True, True],
            4: [True] * 5,
        }
    stable = np.argsort(-logits, axis=1, kind="stable")
    assert all(
        (stable[:, :k] == np.array(labels)[:, None]).any(1).tolist() == each.tolist()
        for k, each in top_k(logits, labels).items()
    )


NAN = np.array([[0.0, 1], [np.nan, 2]])
BAD = {
    "NaN": ({"logits": NAN, "labels": [0, 0]}, "image '1.jpg': logits[1]: expected numbers, found NaN for class 0"),
    "a large label": (
        {"logits": NAN * 0 + 1, "labels": [2, 0]},
        "image '0.jpg': labels[0]: expected a class in [0, 2), as there are logits of 2, found 2",
    ),
    "a label of -1": ({"logits": np.eye(2), "labels": [0, -1]}, "image '1.jpg': labels[1]: expected a class in [0, 2)"),
    "no labels": ({"logits": np.eye(2)}, "logits, labels: expected both or none of them, found one"),
    "no logits": ({"labels": [0, 1]}, "logits, labels: expected both or none"),
    "both": ({"logits": np.eye(2), "labels": [0, 1], "correct": [True, True]}, "correct, logits, labels: expected"),
    "other labels": ({"logits": np.eye(2), "labels": [0]}, "labels: expected 2 integers, found int64 (1,)"),
    "float labels": ({"logits": np.eye(2), "labels": [0.0, 1]}, "labels: expected 2 integers, found float64"),
    "one axis": ({"logits": [0.0, 1], "labels": [0, 1]}, "logits: expected numbers [N, C], a row an image"),
    "three images": ({"logits": np.eye(3), "labels": [0, 1, 2]}, "logits: expected 2 rows, one for each map, found 3"),
    "no classes": ({"logits": np.ones((2, 0)), "labels": [0, 1]}, "logits: expected numbers [N, C]"),
    "text": ({"logits": [["a"], ["b"]], "labels": [0, 0]}, "logits: expected numbers, found <U1"),
    "ints": ({"correct": [1, 0]}, "correct: expected 2 truth values, found int64 (2,)"),
    "too few": ({"correct": [True]}, "correct: expected 2 truth values, found bool (1,)"),
    "k of 0": ({"correct": {0: [True, True]}}, "top: expected different integers of at least 1, found [0]"),
    "no k": ({"correct": {}}, "top: expected different integers of at least 1, found []"),
    "lost": (
        {"correct": {1: [False, True], 5: [True, False]}},
        "image '1.jpg': correct[1]: expected True for 5 where it is for 1, found False",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_classification_is_named_and_counts_nothing(name):
    cams, boxes, ids, *_ = data(2)
    how, message = BAD[name]
    evaluator = make(boxes)
    with pytest.raises(ValueError) as caught:
        evaluator.update(cams, ids, **how)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, ImageError) == message.startswith("image")
    assert evaluator == make(boxes) and evaluator.num_images == 0


def test_batches_are_all_classified_or_none():
    cams, boxes, ids, logits, labels = data(6)
    classified = {"logits": logits[:3], "labels": labels[:3]}
    for first, second, message in (
        ({}, classified, "3 images before were counted without a classification, expected the same, found with a "),
        (classified, {}, "with a classification for k = 1, 5, expected the same, found without a classification"),
        (classified, {"correct": [True] * 3}, "for k = 1, 5, expected the same, found with a classification for k = 1"),
    ):
        evaluator, other = make(boxes), make(boxes)
        evaluator.update(cams[:0], [], correct=[])  # of no images there is nothing to mix
        evaluator.update(cams[:3], ids[:3], **first)
        with pytest.raises(ArgumentError, match=message):
            evaluator.update(cams[3:], ids[3:], **second)
        other.update(cams[3:], ids[3:], **second)
        with pytest.raises(ArgumentError, match=f"other: .*{message}"):
            evaluator.merge(other)
        assert evaluator.num_images == 3
        evaluator.merge(make(boxes))
        empty = make(boxes)
        empty.merge(evaluator)
        assert empty == evaluator and empty.top == evaluator.top


def test_states_carry_the_classification(tmp_path):
    cams, boxes, ids, logits, labels = data(8)
    whole, first, second = make(boxes), make(boxes), make(boxes)
    whole.update(cams, ids, logits=logits, labels=labels)
    first.update(cams[:3], ids[:3], logits=logits[:3], labels=labels[:3])
    second.update(cams[3:], ids[3:], logits=logits[3:], labels=labels[3:])
    first.merge(second)
    assert first == whole
    whole.save(tmp_path / "counts")
    loaded = Evaluator.load(tmp_path / "counts", boxes=boxes)
    assert loaded == whole and loaded.top == (1, 5) and not loaded.num_localized.flags.writeable
    taken = make(boxes)
    taken.take_over(whole.to_bytes(), 8)
    assert taken == whole
    assert taken.compute().to_dict(curves=True) == whole.compute().to_dict(curves=True)


@pytest.mark.parametrize("name", ["num_localized", "num_classified", "top"])
def test_a_damaged_classification_is_refused(name):
    import safetensors.numpy

    cams, boxes, ids, logits, labels = data(20)
    evaluator = make(boxes)
    evaluator.update(cams, ids, logits=logits, labels=labels)
    content = evaluator.to_bytes()
    header = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["wsolkern"])
    header.pop("sha256")
    arrays = safetensors.numpy.load(content)

    def with_array(array):
        changed = {key: each for key, each in arrays.items() if key != name} | ({} if array is None else {name: array})
        return safetensors.numpy.save(changed, metadata={"wsolkern": json.dumps(header)})

    assert Evaluator.from_bytes(with_array(arrays[name])) == evaluator
    wrong = [None, arrays[name][:1].copy(), arrays[name] - 9, arrays[name] * 1.0, arrays[name][::-1].copy()]
    if name != "top":  # which may be any
        wrong.append(arrays[name] + 9)
    if name == "num_localized":
        wrong.append(np.full_like(arrays[name], 20))  # more than are classified
    for each in wrong:
        with pytest.raises(ValueError, match="damaged one"):
            Evaluator.from_bytes(with_array(each))


def test_masks_have_the_classification_only():
    cams, _, ids, logits, labels = data(6)
    masks = {each: np.eye(24, 20, dtype=np.uint8) for each in ids}
    evaluator = Evaluator(NORMALIZATIONS, masks=masks, size=SIZE, thresholds=THRESHOLDS)
    evaluator.update(cams, ids, logits=logits, labels=labels)
    assert evaluator.num_localized is None and evaluator.num_correct is None
    result = evaluator.compute()
    assert result.classification_accuracy == {k: each.sum() * 100 / 6 for k, each in top_k(logits, labels).items()}
    with pytest.raises(ValueError, match="localization: expected images with boxes that were counted with logits"):
        result.localization()
    assert Evaluator.from_bytes(evaluator.to_bytes()) == evaluator


@pytest.mark.slow
def test_counts_on_a_device(cuda):
    cams, boxes, ids, logits, labels = data(10)
    wanted = make(boxes)
    wanted.update(cams, ids, logits=logits, labels=labels)
    device = torch.device("cuda" if cuda == "gpu" else "cpu")
    on_device = [torch.from_numpy(each).to(device) for each in (cams, logits, labels)]
    for maps, some, classes in ([cams, *on_device[1:]], [on_device[0], logits, labels], on_device):
        evaluator = make(boxes, backend="cuda")
        evaluator.update(maps, ids, logits=some, labels=classes)
        assert evaluator == wanted
        broken = torch.as_tensor(some).clone()
        broken[4, 2] = np.nan
        with pytest.raises(ImageError, match="image '4.jpg': logits.4.: expected numbers, found NaN for class 2"):
            evaluator = make(boxes, backend="cuda")
            evaluator.update(maps, ids, logits=broken, labels=classes)
            assert evaluator.num_correct is not None  # on a device it is told when counts are read
    scores = np.stack([ops.normalize(each[None], "minmax", SIZE)[0] for each in cams])
    wanted, evaluator = make(boxes, None), make(boxes, None, backend="cuda")
    wanted.update(scores, ids, logits=logits, labels=labels)
    evaluator.update(torch.from_numpy(scores).to(device), ids, logits=on_device[1], labels=on_device[2])
    assert evaluator == wanted


# The figures


def result_of(num=30, normalizations=NORMALIZATIONS, **how):
    cams, boxes, ids, logits, labels = data(num)
    evaluator = make(boxes, normalizations, **how)
    evaluator.update(cams, ids, logits=logits, labels=labels)
    return evaluator, evaluator.compute()


def accuracy_of(evaluator, row, contours, top):
    counts = evaluator.num_correct if top is None else evaluator.num_localized[evaluator.top.index(top)]
    return counts[contours, row] * 100 / evaluator.num_images  # [D, T]


@pytest.mark.parametrize("at", ["best", "gt-known", THRESHOLDS[3]])
def test_figures_are_taken_where_the_policy_says(at):
    evaluator, result = result_of()
    found = result.localization(at)
    assert len(found) == len(NORMALIZATIONS)
    differ = 0
    for row, figures in enumerate(found):
        assert [(each.metric, each.name) for each in figures] == [
            (metric, name) for metric in ("MaxBoxAcc", "MaxBoxAccV2") for name in ("Top-1", "Top-5", "GT-known")
        ]
        for each in figures:
            contours = 0 if each.metric == "MaxBoxAcc" else 1
            accuracy = accuracy_of(evaluator, row, contours, each.top)
            known = accuracy_of(evaluator, row, contours, None)
            for d, iou in enumerate(IOUS):
                where = {"best": accuracy[d].argmax(), "gt-known": known[d].argmax()}.get(at, 3)
                assert each.per_iou[iou] == accuracy[d, where] and each.thresholds[iou] == THRESHOLDS[where]
                differ += at == "gt-known" and accuracy[d, where] < accuracy[d].max()
            wanted = each.per_iou[0.5] if contours == 0 else np.average(list(each.per_iou.values()))
            assert each.figure == wanted
        if at != THRESHOLDS[3]:  # GT-known is what there is without logits
            assert figures[2].per_iou == result.rows[row].max_box_acc
            assert figures[2].thresholds == result.rows[row].best_threshold
            assert figures[5].per_iou == result.rows[row].max_box_acc_v2_per_iou
            assert figures[5].figure == result.rows[row].max_box_acc_v2
    assert differ or at != "gt-known"  # the two policies are two


def test_thresholds_that_were_selected_on_other_images():
    candidates = ("minmax", "ivr:0.20", "ivr:0.60")
    _, val = result_of(25, candidates)
    evaluator, test = result_of(30, ("ivr:0.2", "ivr:0.6", "minmax"))
    choices = select(val, "MaxBoxAccV2")
    assert [each.family for each in choices] == ["minmax", "ivr"]
    at = SelectedThresholds.of("MaxBoxAccV2", choices)
    with pytest.raises(
        ArgumentError, match="at: no threshold was selected for ivr:0.[26]; there are minmax, ivr:0.[26]"
    ):
        test.localization(at)
    evaluator, test = result_of(30, [each.normalization for each in choices])
    for row, figures in enumerate(test.localization(at)):
        assert [(each.metric, each.top) for each in figures] == [("MaxBoxAccV2", top) for top in (1, 5, None)]
        for each in figures:
            accuracy = accuracy_of(evaluator, row, 1, each.top)
            assert each.thresholds == choices[row].thresholds
            for d, iou in enumerate(IOUS):
                assert each.per_iou[iou] == accuracy[d, THRESHOLDS.tolist().index(choices[row].thresholds[iou])]
    for figures in test.localization(SelectedThresholds.of("MaxBoxAcc", select(val, "MaxBoxAcc"))):
        assert [each.metric for each in figures] == ["MaxBoxAcc"] * 3
        assert all(list(each.per_iou) == [0.5] and each.figure == each.per_iou[0.5] for each in figures)


@pytest.mark.parametrize(
    "at, message",
    [
        ("Best", "at: expected one of best, gt-known, a fraction in \\[0, 1\\) or SelectedThresholds, found 'Best'"),
        (1.0, "at: expected one of"),
        (True, "at: expected one of"),
        (float("nan"), "at: expected one of"),
        (0.4, "at: expected one of the 12 thresholds, found 0.4; next to it is 0.416667"),
        (SelectedThresholds(Metric.MAX_BOX_ACC_V2, {}), "at: no threshold was selected for minmax; there are $"),
    ],
)
def test_where_there_is_nothing_to_take(at, message):
    _, result = result_of(4)
    with pytest.raises(ArgumentError, match=message):
        result.localization(at)


def test_a_result_is_json_with_its_classification_and_as_before_without():
    evaluator, result = result_of(9)
    content = json.loads(json.dumps(result.to_dict(curves=True)))
    assert content["classification_accuracy"] == {str(k): v for k, v in result.classification_accuracy.items()}
    localized = content["normalizations"][2]["localized"]["5"]
    np.testing.assert_array_equal(localized, evaluator.num_localized[1, :, 2] * 100 / 9)
    assert "localized" not in result.to_dict()["normalizations"][0]
    plain = make(data(9)[1])
    plain.update(*data(9)[::2][:2])
    assert "classification" not in json.dumps(plain.compute().to_dict(curves=True))
    assert "localized" not in json.dumps(plain.compute().to_dict(curves=True))
    assert json.loads(json.dumps([each.to_dict() for each in result.localization()[0]]))[1]["name"] == "Top-5"
    assert [name_of(each) for each in (1, 5, 12, None)] == ["Top-1", "Top-5", "Top-12", "GT-known"]

"""Box rules: each equals its transcription with OpenCV and scikit-image, and native and reference are equal for any."""

import dataclasses
import pickle
from functools import cache

import box_rule_oracle
import cv2
import numpy as np
import pytest
from cases import CASES, evaluation_size, smooth, truth_boxes
from oracle import skip_where_opencv_fuses

from wsolkern import BackendUnavailable
from wsolkern.box_rule import BOX_RULES, CHOE, BoxRule
from wsolkern.demo import demo_cams
from wsolkern.ops import DEFAULT_THRESHOLDS, box_hits, box_ious, count_box_hits, localize, threshold_boxes
from wsolkern.ops.resizing import resize_linear

IOU_THRESHOLDS = np.arange(1, 20) / 20
OTHERS = [name for name in BOX_RULES if name != "choe"]


real_cams = cache(demo_cams)


def random_cam(rng):
    height, width = rng.choice([(7, 7), (14, 14), (28, 28), (13, 17), (5, 40), (36, 40), (72, 80)])
    cam = smooth(rng, height, width) + rng.choice([0, 0.1, 1]) * rng.standard_normal((height, width))
    cam = np.round(cam * rng.integers(1, 6)) if rng.random() < 0.3 else cam  # plateaus, and ties between components
    return (cam - rng.choice([0, 0.5, -3])) * rng.choice([1, 40, 1e-3])


def random_boxes(rng, size):
    ends = np.sort(rng.integers(0, np.array(size)[::-1], (rng.integers(1, 4), 2, 2)), axis=1)
    return ends.reshape(-1, 4).astype(np.int32)


def random_rule(rng):
    while True:
        fields = {
            "levels": ["8-bit", "float"],
            "relative_to": [None, 1.0, 0.8],
            "comparison": [">", ">="],
            "connectivity": [4, 8],
            "largest": ["contour area", "pixel count", "box area"],
            "ties": ["first", "last"],
            "hole_borders": [True, False],
            "far_edge": ["clipped", "past", "last"],
            "empty": [(0, 0, 0, 0), (2, 1, 9, 7)],
            "inclusive": [True, False],
            "hit": [">", ">="],
        }
        try:
            return BoxRule("own", **{name: values[rng.integers(len(values))] for name, values in fields.items()})
        except ValueError:
            continue


@pytest.mark.parametrize("num_maps", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OTHERS)
def test_a_published_rule_equals_its_transcription(name, num_maps):
    rng, size = np.random.default_rng(num_maps), (36, 40)
    for _ in range(num_maps):
        cam, truth = random_cam(rng), random_boxes(rng, size)
        thresholds = np.sort(np.append(rng.choice(DEFAULT_THRESHOLDS, 4), 0.0))
        rule = BoxRule.parse(name)
        found = box_hits(
            cam[None], [truth], rule.normalization, thresholds, IOU_THRESHOLDS, contours="largest", size=size, rule=name
        )
        expected = box_rule_oracle.hits(name, cam, size, truth, thresholds, IOU_THRESHOLDS)
        np.testing.assert_array_equal(found[0, 0], expected)
        boxes = localize(cam[None], rule.normalization, thresholds, size=size, rule=name).boxes[0, 0].tolist()
        assert boxes == [list(box_rule_oracle.BOXES[name](cam, size, tau)) for tau in thresholds.tolist()]
        ious = box_ious(cam[None], [truth], rule.normalization, thresholds, contours="largest", size=size, rule=name)
        one = int(rule.inclusive)
        assert ious[0, 0].tolist() == [max(box_rule_oracle.iou(a, b, one) for b in truth.tolist()) for a in boxes]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_published_rule_equals_its_transcription_on_real_cams(name):
    cams, boxes, _ = real_cams()
    thresholds, rule = np.array([0, 0.1, 0.2, 0.45]), BoxRule.parse(name)
    found = box_hits(cams, boxes, rule.normalization, thresholds, IOU_THRESHOLDS, contours="largest", rule=rule)
    for index, (cam, truth) in enumerate(zip(cams, boxes, strict=True)):
        expected = box_rule_oracle.hits(name, cam, (224, 224), truth, thresholds, IOU_THRESHOLDS)
        np.testing.assert_array_equal(found[0, index], expected)


@pytest.mark.parametrize("name", CASES)
def test_native_equals_reference_on_named_maps(name):
    thresholds = DEFAULT_THRESHOLDS[::100]
    for rule in ("rethinking", "psol"):
        found = [
            box_hits(
                CASES[name][None],
                [truth_boxes(name)],
                ["minmax", "max"],
                thresholds,
                (0.1, 0.3, 0.5),
                contours="both",
                size=evaluation_size(name),
                rule=rule,
                backend=backend,
            )
            for backend in ("reference", "cpu")
        ]
        np.testing.assert_array_equal(found[1], found[0], err_msg=rule)


@pytest.mark.parametrize("num_rules", [15, pytest.param(150, marks=pytest.mark.slow)])
def test_native_equals_reference_for_any_rule(num_rules, native):
    rng, size = np.random.default_rng(num_rules), (18, 21)
    for _ in range(num_rules):
        rule, normalizations = random_rule(rng), ["minmax", "max"]
        cams = np.stack([smooth(rng, 18, 21) + rng.standard_normal((18, 21)) * rng.choice([0, 0.2, 1])] * 2)
        cams[1] = np.round(2 * cams[1])
        boxes, thresholds = [random_boxes(rng, size) for _ in cams], np.append(DEFAULT_THRESHOLDS[::90], 0.5)
        how = {"thresholds": thresholds, "iou_thresholds": IOU_THRESHOLDS, "contours": "both", "size": size}
        found = [
            box_hits(cams, boxes, normalizations, **how, rule=rule, backend=backend) for backend in ("reference", "cpu")
        ]
        np.testing.assert_array_equal(found[1], found[0], err_msg=repr(rule))
        counts, degenerate = count_box_hits(cams, boxes, normalizations, **how, rule=rule)
        np.testing.assert_array_equal(counts, found[0].sum(axis=2))
        assert degenerate.shape == (2, 2)
        about = {"size": size, "rule": rule}
        ious = [
            box_ious(cams, boxes, normalizations, thresholds, contours="both", **about, backend=backend)
            for backend in ("reference", "cpu")
        ]
        np.testing.assert_array_equal(ious[1], ious[0], err_msg=repr(rule))
        np.testing.assert_array_equal(rule.reaches(ious[0][..., None, :], IOU_THRESHOLDS[:, None]), found[0])
        of_each = np.stack([thresholds, thresholds[::-1]])
        for found_here, expected in zip(
            *(localize(cams, normalizations, of_each, **about, backend=backend) for backend in ("cpu", "reference")),
            strict=True,
        ):
            np.testing.assert_array_equal(found_here, expected, err_msg=repr(rule))


def test_the_fields_of_the_default_rule_say_what_the_default_does(rng):
    size, same = (30, 33), dataclasses.replace(CHOE, name="by-its-fields")
    for kind in ("cams", "score maps"):
        cams = np.stack([smooth(rng, *((30, 33) if kind == "score maps" else (9, 11))) for _ in range(3)])
        cams[1::2] = np.round(3 * cams[1::2])
        cams = cams - cams.min() if kind == "score maps" else cams
        cams = cams / cams.max() if kind == "score maps" else cams
        how = {
            "contours": "both",
            "size": size,
            "thresholds": DEFAULT_THRESHOLDS[::15],
            "iou_thresholds": IOU_THRESHOLDS,
        }
        about = cams, [random_boxes(rng, size) for _ in cams], ["minmax", "ivr:0.4"] if kind == "cams" else None
        expected = box_hits(*about, **how)
        for backend in ("cpu", "reference"):
            np.testing.assert_array_equal(box_hits(*about, **how, rule=same, backend=backend), expected)
            thresholds = how["thresholds"]
            ious = {"thresholds": thresholds, "contours": "both", "size": size}
            np.testing.assert_array_equal(
                box_ious(*about, **ious, rule=same, backend=backend), box_ious(*about, **ious)
            )
            places = [
                localize(about[0], about[2], thresholds, size=size, rule=rule, backend=backend)
                for rule in (same, "choe")
            ]
            for one, other in zip(*places, strict=True):
                np.testing.assert_array_equal(one, other)


def test_linear_resize_equals_opencv():
    skip_where_opencv_fuses()
    rng = np.random.default_rng(0)
    for index in range(400):
        (height, width), size = rng.integers(1, 60, 2), tuple(rng.integers(1, 80, 2).tolist())
        if index % 4 == 0:
            height, width = 2 * size[0], 2 * size[1]
        f = rng.standard_normal((height, width)).astype(("f4", "f8")[index % 3 == 0])
        expected = cv2.resize(f, size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(resize_linear(f[None], size)[0], expected)


def test_every_field_changes_a_figure():
    """No field is without effect: each differs from some other rule's hits on noise."""
    rng, size = np.random.default_rng(5), (20, 22)
    cams = np.stack([smooth(rng, 20, 22) + rng.standard_normal((20, 22)) * 0.7 for _ in range(40)])
    cams[::2] = np.round(2 * cams[::2])
    boxes = [random_boxes(rng, size) for _ in cams]
    base = BoxRule("base", largest="pixel count", levels="8-bit")

    def hits(rule):
        how = {"contours": "both", "size": size, "thresholds": DEFAULT_THRESHOLDS[::10]}
        return box_hits(cams, boxes, "ivr:0.3+pas:0.8", iou_thresholds=IOU_THRESHOLDS, rule=rule, **how)

    other = {
        "levels": "float",
        "relative_to": 0.5,
        "comparison": ">=",
        "largest": "box area",
        "ties": "first",
        "hole_borders": False,
        "far_edge": "last",
        "inclusive": False,
    }
    for field, value in other.items():
        assert (hits(dataclasses.replace(base, **{field: value})) != hits(base)).any(), field
    without_holes = dataclasses.replace(base, hole_borders=False)
    assert (hits(dataclasses.replace(without_holes, connectivity=4)) != hits(without_holes)).any()
    exact = box_hits(np.eye(4)[None], [np.array([[0, 0, 4, 4]])], "minmax", [0.5], [1.0], size=(4, 4), rule=base)
    above = dataclasses.replace(base, hit=">")
    assert exact.all()
    assert not box_hits(
        np.eye(4)[None], [np.array([[0, 0, 4, 4]])], "minmax", [0.5], [1.0], size=(4, 4), rule=above
    ).any()


def test_levels_of_8_bits_are_not_relative_to_pas(rng):
    """What ``rethinking`` does is not what PaS normalization does in the published evaluation."""
    cams, size = np.stack([smooth(rng, 14, 14) for _ in range(20)]), (56, 56)
    boxes = [random_boxes(rng, size) for _ in cams]
    how = {"contours": "largest", "size": size, "iou_thresholds": IOU_THRESHOLDS}
    assert (box_hits(cams, boxes, "minmax", rule="rethinking", **how) != box_hits(cams, boxes, "pas:0.9", **how)).any()


def test_rules_are_values():
    for name, rule in BOX_RULES.items():
        assert BoxRule.parse(name) is rule and str(rule) == name and BoxRule.parse(rule) is rule
        assert BoxRule.from_dict(rule.to_dict()) == rule == pickle.loads(pickle.dumps(rule))
    mine = dataclasses.replace(BoxRule.parse("ts-cam"), name="mine", hit=">")
    assert mine != BoxRule.parse("ts-cam") and hash(mine) != hash(CHOE)
    assert dataclasses.replace(BOX_RULES["sat"], name="x") == dataclasses.replace(BOX_RULES["bas"], name="x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BoxRule.parse("tscam"),
            "box_rule: expected one of choe, ts-cam, rethinking, sat, bas, psol, found 'tscam'",
        ),
        (lambda: BoxRule("Mine"), "expected a name such as ts-cam, found 'Mine'"),
        (lambda: BoxRule("ts-cam", hit=">"), "expected the published fields, found others"),
        (lambda: BoxRule("x", hit=">>"), "box rule x: hit: expected '>' or '>=', found '>>'"),
        (lambda: BoxRule("x", connectivity=6), "connectivity: expected 4 or 8, found 6"),
        (lambda: BoxRule("x", connectivity=4), "contours and hole borders need connectivity 8, found 4"),
        (lambda: BoxRule("x", ties="first"), "of contours OpenCV lists the last first"),
        (lambda: BoxRule("x", interpolation="cubic"), "cubic interpolation needs float64, found float32"),
        (lambda: BoxRule("x", relative_to=90), "relative_to: expected None or a float in"),
        (lambda: BoxRule("x", inclusive=1), "inclusive: expected a bool, found 1"),
        (lambda: BoxRule("x", empty=(0, 0)), "empty: expected four integers"),
        (lambda: BoxRule("x", normalization="mean"), "normalization 'mean'"),
        (lambda: BoxRule.from_dict({"name": "x"}), "box rule: expected comparison"),
    ],
)
def test_a_bad_rule_is_named(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_what_a_rule_cannot_do_is_said():
    cams, boxes = np.eye(5)[None], [np.array([[0, 0, 2, 2]])]
    with pytest.raises(BackendUnavailable, match="expected box rule choe, found sat, which runs on the CPU"):
        box_hits(cams, boxes, "minmax", rule="sat", backend="cuda")
    with pytest.raises(BackendUnavailable, match="expected box rule choe, found psol, which runs on the CPU"):
        localize(cams, "minmax", [0.5], rule="psol", backend="cuda")
    with pytest.raises(ValueError, match="thresholds: expected at most 32,766 for box rule bas"):
        localize(cams, "minmax", np.arange(0, 1, 1e-5), rule="bas")
    with pytest.raises(ValueError, match="expected a score map with values in"):
        box_ious(cams * 2, boxes, None, rule="ts-cam")
    with pytest.raises(ValueError, match="thresholds: expected at most 32,766 for box rule sat"):
        box_hits(cams, boxes, "minmax", np.arange(0, 1, 1e-5), rule="sat")
    with pytest.raises(ValueError, match="expected a score map with values in"):
        box_hits(cams * 2, boxes, None, rule="ts-cam")


def test_score_maps_keep_their_own_maximum():
    """Absolute thresholds and those relative to the maximum differ where the maximum is not 1."""
    scores, truth = np.zeros((1, 8, 8)), [np.array([[2, 2, 5, 5]])]
    scores[0, 2:5, 2:5] = 0.5
    absolute = box_hits(scores, truth, None, [0.4, 0.6], [0.9], contours="largest", rule="sat")
    relative = box_hits(scores, truth, None, [0.4, 0.6], [0.9], contours="largest", rule="ts-cam")
    assert absolute.ravel().tolist() == [True, False] and relative.ravel().tolist() == [True, True]
    assert threshold_boxes(scores, [0.6])[0][0].tolist() == [[2, 2, 5, 5]]

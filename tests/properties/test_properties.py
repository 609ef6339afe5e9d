"""What must hold for any map: the oracle's answers, and what follows from the formulas without one.

In: what :mod:`drawn` draws. Out: equality, to the bit.
Source: Choe et al., arXiv 2007.04178, section 4.2; Kim et al., arXiv 2107.13221, equations 3-6.
"""

import json

import drawn
import numpy as np
import oracle
import pytest
from drawn import often
from hypothesis import assume
from hypothesis import strategies as st

from wsolkern import Evaluator, Normalization, ops
from wsolkern.box_rule import BoxRule
from wsolkern.metrics import Protocol
from wsolkern.normalization import parse_all

SYMMETRIC = BoxRule("symmetric", interpolation="cubic", precision="float64", far_edge="last")
"""The default rule but for the far edge: it ends a box at its last pixel, so that a mirrored map has mirrored boxes."""


def same(*arrays) -> None:
    for each in arrays[1:]:
        np.testing.assert_array_equal(each, arrays[0])


@st.composite
def scenes(draw, square: bool = False):
    """A map, the size it is evaluated at, boxes and a mask of that size, thresholds and IoU thresholds."""
    cam, size = draw(drawn.maps(square=square)), draw(drawn.sizes)
    boxes, mask = draw(drawn.boxes(size)), draw(drawn.masks(size))
    return cam, size, boxes, mask, draw(drawn.thresholds), draw(drawn.iou_thresholds)


@often(scenes(), drawn.normalizations)
def test_figures_are_those_of_the_oracle(scene, normalization):
    cam, size, boxes, mask, thresholds, ious = scene
    scores = oracle.score_map(oracle.resize(cam, size), str(normalization))
    assume(scores is not None)
    same(scores, *(ops.normalize(cam, normalization, size, backend=each) for each in ("cpu", "reference")))
    hits = np.stack([oracle.hits(scores, boxes, thresholds, ious, largest) for largest in (True, False)])
    pixels = oracle.histograms(scores, mask, thresholds)
    for backend in ("cpu", "reference"):
        how = {"size": size, "backend": backend}
        found = ops.box_hits(cam[None], [boxes], [normalization], thresholds, ious, contours="both", **how)
        same(hits, found[:, 0, 0])
        same(pixels, ops.pixel_histograms(cam[None], mask[None], [normalization], thresholds, **how)[0, 0])


@often(scenes(), drawn.box_rules(), drawn.normalizations)
def test_any_rule_is_the_reference_s(scene, rule, normalization):
    cam, size, boxes, _, thresholds, ious = scene
    how = {"size": size, "rule": rule, "contours": "both"}
    found = [
        ops.box_hits(cam[None], [boxes], [normalization], thresholds, ious, backend=each, **how)
        for each in ("reference", "cpu")
    ]
    same(*found)


@often(drawn.maps(20), drawn.thresholds)
def test_what_is_above_a_higher_threshold_is_above_a_lower_one(cam, thresholds):
    """Each box of a threshold lies in one of every lower threshold; and pixels above it are fewer."""
    scores = ops.normalize(cam, "minmax")
    assume(scores.any())
    found = ops.threshold_boxes(scores[None], thresholds, contours="all")[0]
    for lower, higher in zip(found, found[1:], strict=False):
        inside = (lower[None, :, :2] <= higher[:, None, :2]) & (lower[None, :, 2:] >= higher[:, None, 2:])
        assert inside.all(axis=2).any(axis=1).all()
    above = ops.pixel_histograms(scores[None], np.ones((1, *cam.shape), np.uint8), None, thresholds)[0, 0, 0]
    levels = [int((scores >= each).sum()) for each in thresholds]
    same(levels, above[::-1].cumsum()[::-1][: len(thresholds)])
    assert levels == sorted(levels, reverse=True)


@often(
    st.lists(drawn.maps(4, least=4, square=True), min_size=3, max_size=6), st.integers(1, 2), st.randoms(), st.data()
)
def test_batches_merge_in_any_order(cams, first, random, data):
    """Counts of parts: (a + b) + c = a + (b + c) = c + (b + a), and one batch of all in another order."""
    size, ids = (9, 7), [str(each) for each in range(len(cams))]
    boxes, masks = ({each: data.draw(make(size)) for each in ids} for make in (drawn.boxes, drawn.masks))
    how = {"boxes": boxes, "masks": masks, "size": size, "thresholds": np.arange(0, 1, 0.1)}

    def counted(*some: int) -> Evaluator:
        made = Evaluator("minmax ivr:0.45", **how)
        if some:
            made.update(np.stack([cams[each] for each in some]), [ids[each] for each in some])
        return made

    def merged(*parts: Evaluator) -> Evaluator:
        made = counted()
        for each in parts:
            made.merge(each)
        return made

    a, b, c = (counted(*some) for some in (range(first), range(first, len(ids) - 1), [len(ids) - 1]))
    order = random.sample(range(len(ids)), len(ids))
    left, right = merged(merged(a, b), c), merged(a, merged(b, c))
    assert left == right == merged(c, b, a) == counted(*order) == merged(left, counted())


def mirrored(boxes: np.ndarray, size: tuple[int, int], turn: str) -> np.ndarray:
    """Boxes [n, 4] of a map that is turned."""
    height, width = size
    x0, y0, x1, y1 = boxes.T
    turned = {
        "left_right": (width - 1 - x1, y0, width - 1 - x0, y1),
        "up_down": (x0, height - 1 - y1, x1, height - 1 - y0),
        "transposed": (y0, x0, y1, x1),
    }
    return np.stack(turned[turn], axis=1)


TURNS = {"left_right": np.fliplr, "up_down": np.flipud, "transposed": np.transpose}


def rows(boxes: np.ndarray) -> list:
    return sorted(map(tuple, boxes.tolist()))


@often(drawn.maps(16), st.sampled_from(sorted(TURNS)), drawn.normalizations, st.data())
def test_turned_maps_have_turned_boxes(cam, turn, normalization, data):
    """Hits of all contours and pixels, where something is foreground. The tests below have what is not turned."""
    assume((ops.normalize(cam, normalization) * 255).astype(np.uint8).any())
    boxes, mask = data.draw(drawn.boxes(cam.shape)), data.draw(drawn.masks(cam.shape))
    turned, turned_mask = (np.ascontiguousarray(TURNS[turn](each)) for each in (cam, mask))
    turned_boxes = mirrored(boxes, cam.shape, turn).astype(np.int32)
    ious, thresholds = np.array([0.05, 0.3, 0.5, 0.7, 1.0]), np.arange(0, 1, 0.07)
    how = {"contours": "all", "rule": SYMMETRIC}
    same(
        ops.box_hits(cam[None], [boxes], [normalization], thresholds, ious, size=cam.shape, **how),
        ops.box_hits(turned[None], [turned_boxes], [normalization], thresholds, ious, size=turned.shape, **how),
    )
    same(
        ops.pixel_histograms(cam[None], mask[None], [normalization], size=cam.shape),
        ops.pixel_histograms(turned[None], turned_mask[None], [normalization], size=turned.shape),
    )


@often(drawn.maps(16), drawn.thresholds)
def test_transposed_maps_have_transposed_boxes(cam, thresholds):
    """Of the default rule, whose far edges are one past the last pixel: it can be transposed, not mirrored."""
    scores = ops.normalize(cam, "minmax")
    for one, other in zip(
        ops.threshold_boxes(scores[None], thresholds)[0],
        ops.threshold_boxes(np.ascontiguousarray(scores.T)[None], thresholds)[0],
        strict=True,
    ):
        assert rows(one) == rows(mirrored(other, scores.T.shape, "transposed"))


TIES = {  # what is the largest is one of two: OpenCV's list begins with what begins last
    "two_squares": ["110000", "110000", "000011", "000011"],
    "two_lines": ["1110", "0000", "0111"],
    "two_pixels": ["100", "000", "001"],
}


@pytest.mark.parametrize("name", TIES)
def test_ties_of_the_largest_contour_are_not_mirrored(name):
    """The last of those that are as large, by its first pixel in raster order: upside down that is the other one."""
    scores = np.array([[float(each) for each in row] for row in TIES[name]])
    largest, upside_down = (
        ops.threshold_boxes(each[None], [0.0], contours="largest")[0][0] for each in (scores, np.flipud(scores).copy())
    )
    assert largest[0, 3] == upside_down[0, 3] == len(scores) - 1  # both times the lower one
    same(largest, oracle.boxes(scores, 0.0, True))


def test_the_box_of_an_empty_map_is_not_mirrored():
    """Where nothing is foreground the box is 0 0 0 0, the pixel in the corner, however the map is turned."""
    constant, box = np.zeros((1, 2, 3)), np.array([[0, 0, 0, 0]], np.int32)
    opposite = mirrored(box, (2, 3), "left_right").astype(np.int32)
    how = {"thresholds": [0.0], "iou_thresholds": [0.5], "size": (2, 3), "rule": SYMMETRIC}
    found = [ops.box_hits(constant, [each], ["minmax"], **how).item() for each in (box, opposite)]
    assert found == [True, False] and opposite.tolist() == [[2, 0, 2, 0]]


def test_far_edges_of_the_default_rule_are_not_mirrored():
    """x1 = x + w, one past the last pixel, but within the map: what touches the right frame is a pixel narrower."""
    scores = np.zeros((1, 3, 5))
    scores[0, :, :2] = 1
    boxes = [ops.threshold_boxes(np.ascontiguousarray(each), [0.0])[0][0] for each in (scores, scores[:, :, ::-1])]
    assert [each.tolist() for each in boxes] == [[[0, 0, 2, 2]], [[3, 0, 4, 2]]]
    assert mirrored(boxes[1], (3, 5), "left_right").tolist() == [[0, 0, 1, 2]]


@often(scenes(), drawn.normalizations, st.integers(-60, 60))
def test_powers_of_two_change_nothing(scene, normalization, exponent):
    """All formulas divide by what is as much larger; float64 scales by 2^k without rounding."""
    cam, size, boxes, mask, thresholds, ious = scene
    scaled = cam * 2.0**exponent
    same(*(ops.normalize(each, normalization, size) for each in (cam, scaled)))
    how = {"size": size}
    same(*(ops.box_hits(each[None], [boxes], [normalization], thresholds, ious, **how) for each in (cam, scaled)))
    same(*(ops.pixel_histograms(each[None], mask[None], [normalization], **how) for each in (cam, scaled)))


@often(drawn.maps(), drawn.sizes, st.integers(-(2**20), 2**20))
def test_minmax_of_what_is_moved_is_the_same(cam, size, offset):
    """Of maps that are not resized, whose values and the moved ones float64 holds exactly."""
    same(*(ops.normalize(each, "minmax") for each in (cam, cam + offset / 1024)))
    same(*(ops.normalize(each, "ivr:0.45") for each in (cam, cam + offset / 1024)))


@often(drawn.maps(), drawn.sizes)
def test_ivr_of_the_smallest_value_is_minmax(cam, size):
    """sorted(F)[0] is min F, and PaS of the largest value divides by max F - min F."""
    f = ops.resize(cam[None], size)
    last = Normalization("pas", pas=(f[0].size - 0.5) / f[0].size)
    assert last.ranks(f[0].size)[1] == f[0].size - 1
    for each in ("cpu", "reference"):
        cuts = ops.cut_points(f, ["minmax", "ivr:0", last], backend=each)[0]
        same(cuts[0], cuts[1], cuts[2])
        numbers = ops.affine(f, ["minmax", "ivr:0", last], backend=each)[0]
        same(numbers[0], numbers[1], numbers[2])


@often(st.lists(drawn.normalizations, min_size=1, max_size=5))
def test_normalizations_are_read_as_they_are_printed(some):
    printed = " ".join(map(str, some))
    assert parse_all(printed) == tuple(some)
    assert " ".join(map(str, parse_all(printed))) == printed


@often(st.text("minaxpsvr:+.,/0123456789e-_ \t\n\u0660", max_size=24))
def test_what_is_read_is_read_again(text):
    """Any text: either it is refused, or what it says is said by what it prints as."""
    try:
        found = parse_all(text)
    except ValueError as error:
        assert "normalization" in str(error)
        return
    assert parse_all(", ".join(map(str, found))) == found


@often(drawn.box_rules())
def test_box_rules_are_read_as_they_are_written(rule):
    assert BoxRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False))) == rule


@often(drawn.protocols)
def test_protocols_are_read_as_they_are_written(protocol):
    again = Protocol.from_dict(json.loads(json.dumps(protocol.to_dict(), allow_nan=False)))
    assert again == protocol and hash(again) == hash(protocol)
    assert again.to_dict() == protocol.to_dict()

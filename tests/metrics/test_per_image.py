"""Per image and per group, against plain loops over images, normalizations and thresholds.

In: random maps, plateaus, constant maps and maps with a NaN; boxes and masks. Out: rows, summaries, groups.
Source: the definitions in docs/per-image.md, written a second time, without arrays.
"""

import math
from fractions import Fraction

import box_rule_oracle as published
import numpy as np
import pytest
from cases import cams_of_one_size

from wsolkern.box_rule import BoxRule
from wsolkern.errors import ArgumentError, ImageError
from wsolkern.metrics import Evaluator, GroundTruth, Protocol
from wsolkern.metrics.breakdown import CATEGORIES, ErrorRule
from wsolkern.metrics.exact import ExactSums
from wsolkern.metrics.grouping import GroupEvaluator, object_pixels, size_bounds
from wsolkern.metrics.per_image import Chosen, ImageRows, PerImageEvaluator
from wsolkern.ops import normalize, resize, threshold_boxes

SIZE = (24, 30)
THRESHOLDS = np.linspace(0, 1, 12, endpoint=False)
DELTAS = (0.3, 0.5, 0.7)
NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45")
NUM = 28
IDS = [f"folder/{number}.jpg" for number in range(NUM)]
LABELS = {each: number % 4 for number, each in enumerate(IDS)}
PREDICTED = {each: number % 4 if number % 3 else 1 for number, each in enumerate(IDS) if number % 7}
SIZES = {each: (60 + number, 48) for number, each in enumerate(IDS)}


def make_cams(seed=3):
    return cams_of_one_size(NUM, (6, 7), seed)


def make_boxes(seed=2):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 20, (NUM, 3, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, corners.shape)], axis=-1)
    return {each: some[: 1 + n % 3].astype(np.int32) for n, (each, some) in enumerate(zip(IDS, boxes, strict=True))}


def make_masks(seed=4):
    rng = np.random.default_rng(seed)
    masks = rng.choice(np.array([0, 1, 255], np.uint8), (NUM, *SIZE), p=[0.6, 0.3, 0.1])
    masks[5] = 0  # no object
    return dict(zip(IDS, masks, strict=True))


def protocol(normalizations=NORMALIZATIONS, **how):
    return Protocol(normalizations, **{"thresholds": THRESHOLDS, "iou_thresholds": DELTAS, "size": SIZE, **how})


def truth_of(kind):
    return GroundTruth(**{kind: make_boxes() if kind == "boxes" else make_masks()})


def best(kind, of=None):
    """The evaluator of all maps, and the best thresholds of its rows."""
    evaluator = Evaluator.of(of or protocol(), truth_of(kind))
    evaluator.update(maps_for(of), IDS)
    return evaluator, [Chosen.best(row) for row in evaluator.compute()]


def maps_for(of=None):
    cams = make_cams()
    return cams if of is None or of.normalizations is not None else np.array(normalize(cams, "minmax", SIZE))


def fed(kind, chosen, *, of=None, batch=NUM, order=None, **how):
    parts: list[ImageRows] = []
    how = {"class_labels": LABELS, "predicted": PREDICTED, "image_sizes": SIZES, **how}
    evaluator = PerImageEvaluator(of or protocol(), truth_of(kind), chosen, parts.append, **how)
    order = list(order if order is not None else range(NUM))
    for start in range(0, NUM, batch):
        some = order[start : start + batch]
        evaluator.update(maps_for(of)[some], [IDS[each] for each in some])
    return evaluator, ImageRows.joined(parts)


# The plain definitions.


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(width, 0) * max(height, 0)


def area(a):
    return max(a[2] - a[0] + 1, 0) * max(a[3] - a[1] + 1, 0)


def iou(a, b):
    union = area(a) + area(b) - overlap(a, b)
    return overlap(a, b) / union if union > 0 else 0.0


def best_iou(found, truth):
    return max(iou(box, other) for box in found for other in truth)


def category(box, has_contour, truth, wrong_class):
    if wrong_class:
        return "classification"
    if max(iou(box, other) for other in truth) >= 0.5:
        return "right"
    if not has_contour:
        return "other"
    shared = [(overlap(box, other), area(other)) for other in truth]
    if sum(both / whole > 0.3 for both, whole in shared) >= 2:
        return "several"
    if any(both == area(box) for both, _ in shared):
        return "whole_part"
    if any(both / area(box) > 0.5 for both, _ in shared):
        return "part"
    return "more" if any(both / whole > 0.7 for both, whole in shared) else "other"


def point(resized):
    """x, y of the first largest pixel, or -1, -1."""
    values = resized.ravel().tolist()
    if any(math.isnan(each) for each in values) or len(set(values)) == 1:
        return -1, -1
    place = values.index(max(values))
    return place % resized.shape[1], place // resized.shape[1]


def energy(scores, pixels, counted):
    inside = total = 0
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            whole = int(scores[y, x] * 2**36) if counted[y, x] else 0
            total += whole
            inside += whole if pixels[y, x] else 0
    return inside / total if total else 0.0


def mean(values):
    """The float64 nearest to the exact mean."""
    return float(sum(map(Fraction, values)) / len(values))


def expected_common(n, normalization, pixels, counted, tolerance, score_maps):
    resized = maps_for(protocol(None))[n] if normalization is None else resize(make_cams()[n], SIZE)
    x, y = point(resized)
    near = [(x - px) ** 2 + (y - py) ** 2 for py, px in np.argwhere(pixels).tolist()]
    return {
        "image_id": IDS[n],
        "label": LABELS[IDS[n]],
        "predicted": PREDICTED.get(IDS[n], -1),
        "object_area": int(pixels.sum()) / (SIZE[0] * SIZE[1]),
        "point_x": x,
        "point_y": y,
        "pointing": x >= 0 and bool(near) and min(near) <= tolerance**2,
        "energy": energy(score_maps[n], pixels, counted),
    }


def in_image(n, box, is_empty):
    """The first and the last pixel of each side that come to the box when the image is resized."""
    if is_empty:
        return 0, 0, 0, 0
    corners = []
    for low, high, side, to in (
        (box[0], box[2], SIZES[IDS[n]][0], SIZE[1]),
        (box[1], box[3], SIZES[IDS[n]][1], SIZE[0]),
    ):
        pixels = [pixel for pixel in range(side) if low <= int(pixel * to / side) <= high]
        corners.append((pixels[0], pixels[-1]))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def expected_box_row(n, normalization, chosen, tolerance, found):
    scores, largest, every = found
    truth = make_boxes()[IDS[n]].tolist()
    pixels = np.zeros(SIZE, bool)
    for x0, y0, x1, y1 in truth:
        pixels[y0 : y1 + 1, x0 : x1 + 1] = True
    ious = [[best_iou(boxes[n][threshold], truth) for threshold in THRESHOLDS] for boxes in (largest, every)]
    box = largest[n][chosen.threshold][0]
    is_empty = int((scores[n] * 255).astype(np.uint8).max()) == 0
    at = [best_iou([box], truth), *([*map(max, ious)])]
    wrong = -1 not in (PREDICTED.get(IDS[n], -1), LABELS[IDS[n]]) and PREDICTED[IDS[n]] != LABELS[IDS[n]]
    row = expected_common(n, normalization, pixels, np.ones(SIZE, bool), tolerance, scores) | {
        "num_boxes": len(truth),
        "normalization": str(normalization or "score maps"),
        "threshold": chosen.threshold,
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        **dict(zip(("image_x0", "image_y0", "image_x1", "image_y1"), in_image(n, box, is_empty), strict=True)),
        "iou": at[0],
        "best_iou": at[1],
        "best_iou_threshold": THRESHOLDS[ious[0].index(at[1])],
        "best_iou_v2": at[2],
        "best_iou_v2_threshold": THRESHOLDS[ious[1].index(at[2])],
        "num_contours": 0 if is_empty else len(every[n][chosen.threshold]),
        "error": category(box, not is_empty, truth, wrong),
        "degenerate": normalization is not None and not scores[n].any(),
    }
    for delta in DELTAS:
        row[f"hit@{delta:g}"] = at[0] >= delta
        row[f"max_box_acc@{delta:g}"] = best_iou(largest[n][chosen.largest[delta]], truth) >= delta
        row[f"max_box_acc_v2@{delta:g}"] = best_iou(every[n][chosen.every[delta]], truth) >= delta
    return row, ious


def boxes_of(scores, chosen):
    """Per map: threshold -> boxes of the largest contour, and of all."""
    wanted = sorted({*THRESHOLDS.tolist(), chosen.threshold, *chosen.largest.values(), *chosen.every.values()})
    return (
        [
            {t: boxes.tolist() for t, boxes in zip(wanted, per_map, strict=True)}
            for per_map in threshold_boxes(scores, wanted, contours=contours, backend="reference")
        ]
        for contours in ("largest", "all")
    )


def score_maps_of(normalization):
    if normalization is None:
        return maps_for(protocol(None))
    return np.array(normalize(make_cams(), normalization, SIZE, backend="reference"))


def assert_same_row(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == value, (name, found[name], value, expected["image_id"])


@pytest.mark.parametrize(
    "normalizations, policy",
    [(NORMALIZATIONS, "best"), (None, "best"), (("minmax",), 0.37)],
    ids=["cams", "score_maps", "a_threshold_between"],
)
def test_box_rows_and_their_sums_equal_plain_loops(normalizations, policy):
    of = protocol(normalizations)
    evaluator, chosen = best("boxes", of)
    if policy != "best":
        chosen = [Chosen.elsewhere(policy, DELTAS)]
    fed_one, rows = fed("boxes", chosen, of=of, tolerance=2)
    found, names = list(rows), normalizations or [None]
    assert len(found) == NUM * len(names)
    for m, normalization in enumerate(names):
        scores = score_maps_of(normalization)
        maps_found = (scores, *boxes_of(scores, chosen[m]))
        pairs = [expected_box_row(n, normalization, chosen[m], 2, maps_found) for n in range(NUM)]
        for n, (row, _) in enumerate(pairs):
            assert_same_row(found[n * len(names) + m], row)
        summary = fed_one.compute()[m]
        own = [row for row, _ in pairs]
        assert summary.mean_iou == mean([row["iou"] for row in own])
        assert summary.energy == mean([row["energy"] for row in own])
        for way, (contours, column) in enumerate((("largest", "best_iou"), ("all", "best_iou_v2"))):
            assert summary.mean_best_iou[contours] == mean([row[column] for row in own])
            curve = [mean([ious[way][t] for _, ious in pairs]) for t in range(len(THRESHOLDS))]
            assert summary.mean_iou_curve[contours].tolist() == curve
            assert summary.peak_mean_iou[contours] == max(curve)
            assert summary.peak_mean_iou_threshold[contours] == THRESHOLDS[curve.index(max(curve))]
        assert summary.errors == {name: sum(row["error"] == name for row in own) for name in CATEGORIES}
        assert sum(summary.errors.values()) == NUM == summary.num_images
    game = fed_one.pointing_game()
    hits = [row["pointing"] for row in list(rows)[:: len(names)]]
    assert (game.num_hits, game.accuracy) == (sum(hits), sum(hits) / NUM) and 0 < game.num_hits
    by_class = [[hit for n, hit in enumerate(hits) if LABELS[IDS[n]] == label] for label in range(4)]
    assert game.mean_over_classes == mean([sum(some) / len(some) for some in by_class])


@pytest.mark.slow
def test_rows_of_the_demo_cams(monkeypatch):
    """The same loops on CAMs of photographs at the size that the field evaluates at."""
    from wsolkern.demo import demo_cams

    cams, boxes, ids = (each[::3] for each in demo_cams(resolution=224))
    here = {"SIZE": (224, 224), "THRESHOLDS": np.arange(0, 1, 0.05), "NUM": len(ids), "IDS": ids}
    here |= {"LABELS": {each: n % 4 for n, each in enumerate(ids)}, "SIZES": {each: (500, 375) for each in ids}}
    here |= {"PREDICTED": {each: n % 3 for n, each in enumerate(ids)}, "make_cams": lambda: cams}
    here["make_boxes"] = lambda: dict(zip(ids, boxes, strict=True))
    for name, value in here.items():
        monkeypatch.setitem(globals(), name, value)
    test_box_rows_and_their_sums_equal_plain_loops(("minmax", "ivr:0.45"), "best")


def test_hits_of_all_rows_are_the_evaluators_counts():
    evaluator, chosen = best("boxes")
    _, rows = fed("boxes", chosen, batch=5)
    names = np.array(rows.columns["normalization"])
    result = evaluator.compute()
    for m, row in enumerate(result):
        mine = names == row.name
        for d, delta in enumerate(DELTAS):
            hits = {
                each: int(rows.columns[f"{each}@{delta}"][mine].sum()) for each in ("max_box_acc", "max_box_acc_v2")
            }
            assert hits["max_box_acc"] == evaluator.num_correct[0, m, d].max()
            assert hits["max_box_acc_v2"] == evaluator.num_correct[1, m, d].max()
            place = THRESHOLDS.tolist().index(chosen[m].threshold)
            assert rows.columns[f"hit@{delta}"][mine].sum() == evaluator.num_correct[0, m, d, place]
        assert rows.columns["degenerate"][mine].sum() == row.num_degenerate > 0


@pytest.mark.parametrize("normalizations", [NORMALIZATIONS, None], ids=["cams", "score_maps"])
@pytest.mark.parametrize("policy", ["best", 0.37])
def test_mask_rows_and_their_sums_equal_plain_loops(normalizations, policy):
    of = protocol(normalizations)
    evaluator, chosen = best("masks", of)
    if policy != "best":
        chosen = [Chosen.elsewhere(policy, DELTAS)] * len(chosen)
    fed_one, rows = fed("masks", chosen, of=of, tolerance=1, batch=20)
    found, names = list(rows), normalizations or [None]
    for m, normalization in enumerate(names):
        scores, masks, own, curves = score_maps_of(normalization), make_masks(), [], []
        together = [[0, 0] for _ in THRESHOLDS]
        for n in range(NUM):
            mask = masks[IDS[n]]
            shares = []
            for threshold in (*THRESHOLDS, chosen[m].threshold):
                predicted = (scores[n] >= threshold) & (mask != 255)
                both, either = int((predicted & (mask == 1)).sum()), int((predicted | (mask == 1)).sum())
                shares.append((both, either, int(predicted.sum()), both / either if either else 0.0))
            for t, (both, either, *_) in enumerate(shares[:-1]):
                together[t] = [together[t][0] + both, together[t][1] + either]
            ious = [share[3] for share in shares[:-1]]
            row = expected_common(n, normalization, mask == 1, mask != 255, 1, scores) | {
                "normalization": str(normalization or "score maps"),
                "threshold": chosen[m].threshold,
                "object_pixels": int((mask == 1).sum()),
                "predicted_pixels": shares[-1][2],
                "intersection": shares[-1][0],
                "union": shares[-1][1],
                "iou": shares[-1][3],
                "best_iou": max(ious),
                "best_iou_threshold": THRESHOLDS[ious.index(max(ious))],
                "degenerate": normalization is not None and not scores[n].any(),
            }
            assert_same_row(found[n * len(names) + m], row)
            own.append(row)
            curves.append(ious)
        summary = fed_one.compute()[m]
        assert summary.mean_iou == mean([row["iou"] for row in own])
        assert summary.energy == mean([row["energy"] for row in own])
        assert summary.mean_best_iou == {"mask": mean([row["best_iou"] for row in own])}
        assert summary.mean_iou_curve["mask"].tolist() == [mean(some) for some in zip(*curves, strict=True)]
        curve = [both / either for both, either in together]
        assert summary.iou_curve.tolist() == curve and summary.errors is None
        assert (summary.peak_iou, summary.peak_iou_threshold) == (max(curve), THRESHOLDS[curve.index(max(curve))])
        row = evaluator.compute().rows[m]
        assert row.peak_iou == 100 * summary.peak_iou and row.peak_iou_threshold == summary.peak_iou_threshold


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_batches_and_order_change_no_bit(kind):
    _, chosen = best(kind)
    whole, rows = fed(kind, chosen)
    order = np.random.default_rng(0).permutation(NUM)
    other, shuffled = fed(kind, chosen, batch=4, order=order)
    assert whole.pointing_game() == other.pointing_game()
    for one, two in zip(whole.compute(), other.compute(), strict=True):
        assert one.to_dict(curves=True) == two.to_dict(curves=True)
    by_place = {(row["image_id"], row["normalization"]): row for row in shuffled}
    assert [by_place[row["image_id"], row["normalization"]] for row in rows] == list(rows)


def test_a_bad_batch_adds_nothing():
    _, chosen = best("boxes")
    handed = []
    evaluator = PerImageEvaluator(
        protocol(), GroundTruth(boxes={"a": [[0, 0, 3, 3]], "b": [[9, 0, 3, 3]]}), chosen, handed.append
    )
    with pytest.raises(ImageError, match="image 'b'"):
        evaluator.update(make_cams()[:2], ["a", "b"])
    assert evaluator.num_images == 0 and not handed
    with pytest.raises(ValueError, match="no image was counted yet"):
        evaluator.compute()


def test_arguments_are_checked():
    boxes, one = GroundTruth(boxes=make_boxes()), [Chosen.elsewhere(0.5, DELTAS)] * 4
    with pytest.raises(ArgumentError, match="boxes or masks, found both"):
        PerImageEvaluator(protocol(), GroundTruth(make_boxes(), make_masks()), one, list)
    with pytest.raises(ArgumentError, match="expected one for each of 4 rows, found 1"):
        PerImageEvaluator(protocol(), boxes, one[:1], list)
    with pytest.raises(ArgumentError, match="tolerance: expected pixels, 0 or more, found -1"):
        PerImageEvaluator(protocol(), boxes, one, list, tolerance=-1)
    with pytest.raises(ArgumentError, match="thresholds: expected 0 as the first for masks, found 0.5"):
        PerImageEvaluator(protocol(thresholds=[0.5, 0.6]), truth_of("masks"), one, list)
    with pytest.raises(ArgumentError, match="expected each once"):
        PerImageEvaluator(protocol(thresholds=[0.5, 0.5]), boxes, one, list)
    with pytest.raises(ArgumentError, match=r"found none for \[0.7\]"):
        Chosen.elsewhere({0.3: 0.1, 0.5: 0.2}, DELTAS)
    assert Chosen.elsewhere({0.5: 0.2}, DELTAS) == Chosen.elsewhere(0.2, DELTAS)
    assert Chosen.elsewhere({0.3: 0.1, 0.5: 0.2, 0.7: 0.4}, DELTAS).threshold == 0.2
    with pytest.raises(ValueError, match="part: expected a fraction in"):
        ErrorRule(part=0)


# One box against known ground truth, [x0, y0, x1, y1] of inclusive corners.
ERRORS = {
    "right": ([10, 10, 19, 19], [[10, 10, 19, 22]]),
    "whole_part": ([10, 10, 13, 13], [[8, 8, 19, 19]]),
    "part": ([10, 10, 13, 13], [[11, 8, 30, 30]]),
    "more": ([0, 0, 29, 29], [[5, 5, 14, 14]]),
    "several": ([0, 0, 29, 29], [[1, 1, 9, 9], [12, 12, 20, 20]]),
    "other": ([0, 0, 3, 3], [[10, 10, 20, 20]]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_by_hand(name):
    box, truth = ERRORS[name]
    boxes = np.array(box).reshape(1, 1, 4)
    nearest = np.array([[max(iou(box, other) for other in truth)]])
    how = boxes, np.array([[True]]), nearest, [np.array(truth)]
    assert CATEGORIES[ErrorRule().categories(*how, np.array([False]))[0, 0]] == name
    assert CATEGORIES[ErrorRule().categories(*how, np.array([True]))[0, 0]] == "classification"
    nothing = ErrorRule().categories(boxes, np.array([[False]]), 0 * nearest, how[3], np.array([False]))
    assert CATEGORIES[nothing[0, 0]] == "other"


def test_exact_sums_are_those_of_fractions(rng):
    values = rng.random((1000, 3)) ** 4
    values[::7] = 1.0
    values[::5, 1] = 0.0
    one, other = ExactSums((3,)), ExactSums((3,))
    one.add(values, axis=0)
    for part in np.array_split(values[rng.permutation(1000)], 13):
        other.add(part, axis=0)
    kept = np.maximum(values, 0)
    kept = np.where(kept >= 2.0**-28, kept, np.floor(kept * 2.0**81) / 2.0**81)
    assert one.means(1000).tolist() == other.means(1000).tolist() == [mean(column) for column in kept.T.tolist()]


def groups_of(kind, number):
    return {each: int(n % number) for n, each in enumerate(IDS)}


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("normalizations", [NORMALIZATIONS, None], ids=["cams", "score_maps"])
def test_groups_are_evaluators_of_their_images(kind, normalizations):
    of = protocol(normalizations)
    counted = GroupEvaluator(of, truth_of(kind), groups_of(kind, 3), ["a", "b", "c", "nobody"])
    whole, _ = best(kind, of)
    moments = []
    for start in range(0, NUM, 8):
        counted.update(maps_for(of)[start : start + 8], IDS[start : start + 8])
        moments.append(counted.to_bytes())
    overall, groups = counted.compute()
    assert overall.to_dict(curves=True) == whole.compute().to_dict(curves=True)
    assert [group.name for group in groups] == ["a", "b", "c"]
    for number, group in enumerate(groups):
        own = Evaluator.of(of, truth_of(kind))
        own.update(maps_for(of)[number::3], IDS[number::3])
        assert group.num_images == own.num_images
        for m, (row, alone) in enumerate(zip(group.rows, own.compute(), strict=True)):
            assert row.own.to_dict(curves=True) == alone.to_dict(curves=True)
            every = overall.rows[m]
            if kind == "boxes":
                places = [THRESHOLDS.tolist().index(every.best_threshold_v2[iou]) for iou in DELTAS]
                expected = [100 * own.num_correct[1, m, d, t] / own.num_images for d, t in enumerate(places)]
                assert [*row.max_box_acc_v2_per_iou.values()] == expected
                assert row.max_box_acc_v2 == np.average(expected)
                place = THRESHOLDS.tolist().index(every.best_threshold[0.5])
                assert row.max_box_acc[0.5] == 100 * own.num_correct[0, m, 1, place] / own.num_images
            else:
                place = THRESHOLDS.tolist().index(every.peak_iou_threshold)
                objects, background = own.hist[m, :, ::-1].cumsum(axis=1)[:, ::-1]
                assert row.pixel_iou == 100 * (objects[place] / (objects[0] + background[place]))
    again = GroupEvaluator(of, truth_of(kind), groups_of(kind, 3), ["a", "b", "c", "nobody"])
    again.take_over(moments[1], 16)
    again.update(maps_for(of)[16:], IDS[16:])
    assert again.to_bytes() == counted.to_bytes()
    with pytest.raises(ValueError, match="same groups"):
        GroupEvaluator(of, truth_of(kind), {}, ["a", "b"]).take_over(moments[1], 16)
    with pytest.raises(ValueError, match="counts of 15 images, found 16"):
        again.take_over(moments[1], 15)


@pytest.mark.parametrize("name", ["ts-cam", "rethinking", "sat", "psol"])
def test_rows_by_a_published_rule(name):
    """Boxes, IoUs, hits and best IoUs are those of the rule's transcription, image by image."""
    of, truth = protocol((BoxRule.parse(name).normalization,), box_rule=name), make_boxes()
    found = [[published.BOXES[name](cam, SIZE, at) for at in THRESHOLDS.tolist()] for cam in make_cams()]
    ious = np.array([
        [max(published.iou(box, each, name != "psol") for each in truth[image_id].tolist()) for box in boxes]
        for image_id, boxes in zip(IDS, found, strict=True)
    ])  # fmt: skip
    threshold = float(THRESHOLDS[4])
    evaluator, rows = fed("boxes", [Chosen.elsewhere(threshold, DELTAS)], of=of, batch=5)
    assert len(rows) == NUM
    for n, row in enumerate(rows):
        assert tuple(row[each] for each in ("x0", "y0", "x1", "y1")) == found[n][4], n
        assert row["iou"] == ious[n, 4] and row["best_iou"] == ious[n].max()
        assert row["best_iou_threshold"] == THRESHOLDS[ious[n].argmax()]
        assert [row[f"max_box_acc@{delta}"] for delta in DELTAS] == [ious[n, 4] >= delta for delta in DELTAS]
    (summary,) = evaluator.compute()
    assert summary.mean_iou == mean(ious[:, 4].tolist())
    for t in range(len(THRESHOLDS)):
        assert summary.mean_iou_curve["largest"][t] == mean(ious[:, t].tolist())


@pytest.mark.parametrize("name", ["choe", "ts-cam", "sat"])
def test_groups_of_classified_images_by_any_rule(name):
    of, right = protocol(box_rule=name), np.arange(NUM) % 3 < 2
    counted = GroupEvaluator(of, truth_of("boxes"), groups_of("boxes", 20), [*map(str, range(20))])
    whole = Evaluator.of(of, truth_of("boxes"))
    for start in range(0, NUM, 8):
        some = slice(start, start + 8)
        correct = {1: right[some], 5: right[some] | (start == 8)}
        for each in (counted, whole):
            each.update(make_cams()[some], IDS[some], correct=correct)
    result, groups = counted.compute()
    assert counted.evaluator == whole and result.to_dict(curves=True) == whole.compute().to_dict(curves=True)
    assert sum(group.num_images for group in groups) == NUM and len(groups) == 20
    for number, group in enumerate(groups):
        own = Evaluator.of(of, truth_of("boxes"))
        own.update(make_cams()[number::20], IDS[number::20])
        alone = [row.to_dict(curves=True) for row in own.compute()]
        assert [row.own.to_dict(curves=True) for row in group.rows] == alone


def test_groups_that_are_none_are_refused():
    evaluator = Evaluator.of(protocol(), truth_of("boxes"))
    for groups, message in (([0], "expected 2 integers"), ([0, 3], r"expected integers in \[0, 3\), found 3")):
        with pytest.raises(ArgumentError, match=f"groups: {message}"):
            evaluator.update_in_groups(make_cams()[:2], IDS[:2], groups, 3)
    assert evaluator.num_images == 0


def test_sizes_are_terciles_of_the_union_of_boxes():
    truth = GroundTruth(boxes=make_boxes())
    pixels = object_pixels(truth, IDS, SIZE)
    for image_id, found in zip(IDS, pixels.tolist(), strict=True):
        covered = {
            (x, y)
            for x0, y0, x1, y1 in truth.boxes[image_id].tolist()
            for x in range(x0, min(x1, SIZE[1] - 1) + 1)
            for y in range(y0, min(y1, SIZE[0] - 1) + 1)
        }
        assert found == len(covered)
    lower, upper = size_bounds(pixels)
    assert lower == sorted(pixels.tolist())[9] and upper == sorted(pixels.tolist())[18]
    assert size_bounds(np.array([7])) == (7, 7) and size_bounds(np.array([1, 2])) == (1, 2)
    assert object_pixels(GroundTruth(masks=make_masks()), IDS[:2], SIZE).tolist() == [
        int((make_masks()[each] == 1).sum()) for each in IDS[:2]
    ]


def test_counts_that_need_too_much_memory_are_refused():
    with pytest.raises(ArgumentError, match="counts of 20,000 groups need .* GiB"):
        GroupEvaluator(protocol(thresholds=np.arange(0, 1, 0.001)), truth_of("boxes"), {}, ["x"] * 20_000)

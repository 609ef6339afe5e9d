"""The bootstrap: every resample equals an Evaluator that is fed with the images drawn, one after the other.

In: small CAMs with boxes and masks. Out: weights, figures of resamples, intervals.
Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993; the plain resampling here is the reference.
"""

import json
import math
from collections import Counter

import numpy as np
import pytest
from cases import CASES, evaluation_size, truth_boxes

from wsolkern.metrics import Evaluator, GroundTruth, Protocol, bootstrap
from wsolkern.metrics.bootstrap import Bootstrap, BootstrapEvaluator, percentile_interval, resamples
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS, box_hits, box_ious, pixel_histograms

SIZE = (40, 48)
NUM_IMAGES, NUM_RESAMPLES = 21, 40
IDS = [f"part/{number}.jpg" for number in range(NUM_IMAGES)]
NORMALIZATIONS = ("minmax", "max", "ivr:0.45", "ivr:0.3+pas:0.9")
CENTRES = np.random.default_rng(4).uniform(0.3, 0.7, (NUM_IMAGES, 2))  # of the objects: y and x, fractions
METRICS = ("MaxBoxAccV2", "MaxBoxAcc", "PxAP")
IOUS = (0.3, 0.5, 0.7)
FIXED = [{0.3: 0.1 * row, 0.5: 0.257, 0.7: 0.9 - 0.1 * row} for row in range(len(NORMALIZATIONS))]


def make_cams() -> np.ndarray:
    """Noise with a bump at :data:`CENTRES`, every third time with a wider one in a corner; two are degenerate."""
    y, x = np.mgrid[:7, :8]
    cams = 0.3 * np.random.default_rng(0).standard_normal((NUM_IMAGES, 7, 8))
    for cam, (cy, cx) in zip(cams, CENTRES, strict=True):
        cam += np.exp(-((y + 0.5 - 7 * cy) ** 2 + (x + 0.5 - 8 * cx) ** 2) / 3)
    cams[::3] += 0.9 * np.exp(-(y**2 + x**2) / 6)
    cams[3], cams[8, 2, 2] = 1.0, np.nan
    return cams


def make_boxes() -> dict[str, np.ndarray]:
    """A box around each bump, and for every other image one more."""
    half = np.random.default_rng(1).integers(5, 14, (NUM_IMAGES, 2, 2))
    middle = (CENTRES[:, None, ::-1] * SIZE[::-1]).astype(int)
    boxes = np.concatenate([middle - half, middle + half], axis=-1)
    return {each: some[: 1 + index % 2] for index, (each, some) in enumerate(zip(IDS, boxes, strict=True))}


def make_masks() -> dict[str, np.ndarray]:
    masks = np.zeros((NUM_IMAGES, *SIZE), np.uint8)
    for pixels, boxes in zip(masks, make_boxes().values(), strict=True):
        x0, y0, x1, y1 = boxes[0]
        pixels[y0:y1, x0:x1], pixels[y1 : y1 + 2] = 1, 255
    return dict(zip(IDS, masks, strict=True))


CAMS = make_cams()


def truth(metric: str) -> dict:
    return {"masks": make_masks()} if metric == "PxAP" else {"boxes": make_boxes()}


def make(metric: str, *, thresholds=None, image_ids=IDS, normalizations=NORMALIZATIONS, **settings):
    held = truth(metric)
    held |= {name: settings.pop(name) for name in ("boxes", "masks") if name in settings}
    protocol = Protocol(normalizations, size=SIZE, **settings)
    return BootstrapEvaluator(protocol, GroundTruth(**held), metric, image_ids, thresholds=thresholds)


def feed(evaluator, *batches):
    """Images by their number, a batch an index array; all of them by default."""
    for batch in batches or [range(NUM_IMAGES)]:
        evaluator.update(CAMS[list(batch)], [IDS[index] for index in batch])
    return evaluator


def computed(metric: str, num_resamples: int = NUM_RESAMPLES, *batches, **settings) -> Bootstrap:
    return feed(make(metric, **settings), *batches).compute(num_resamples, seed=5)


def figure(row, metric: str) -> float:
    """A row of a Result in one number."""
    if metric == "MaxBoxAcc":
        return row.max_box_acc[0.5]
    return row.pxap if metric == "PxAP" else row.max_box_acc_v2


def plain_figures(metric: str, indices, thresholds) -> list[float]:
    """What an Evaluator says about images, some of them there several times, under names of their own."""
    copies = [f"{IDS[index]} {copy}" for copy, index in enumerate(indices)]
    ((kind, by_id),) = truth(metric).items()
    repeated = {copy: by_id[IDS[index]] for copy, index in zip(copies, indices, strict=True)}
    evaluator = Evaluator(NORMALIZATIONS, size=SIZE, **{kind: repeated})
    evaluator.update(CAMS[list(indices)], copies)
    result = evaluator.compute()
    figures = []
    for row, fixed in zip(result, thresholds or [None] * len(result), strict=True):
        if fixed is not None:
            curves, ious = (row.box_accuracy, [0.5]) if metric == "MaxBoxAcc" else (row.box_accuracy_v2, IOUS)
            places = [np.flatnonzero(np.isclose(result.thresholds, fixed[iou], rtol=0, atol=1e-9)) for iou in ious]
            figures.append(
                np.mean([curves[IOUS.index(i), place.item()] for i, place in zip(ious, places, strict=True)])
            )
        else:
            figures.append(figure(row, metric))
    return figures


@pytest.mark.parametrize(
    ("metric", "thresholds"),
    [*((metric, None) for metric in METRICS), ("MaxBoxAccV2", FIXED), ("MaxBoxAcc", FIXED)],
    ids=lambda value: value if isinstance(value, str) else "fixed" if value else "maximum",
)
def test_every_resample_equals_an_evaluator_fed_with_its_images(metric, thresholds):
    found = computed(metric, thresholds=thresholds)
    assert found.figures.tolist() == plain_figures(metric, range(NUM_IMAGES), thresholds)
    rng = np.random.default_rng(5)  # as the bootstrap draws
    for resampled in found.resampled:
        drawn = rng.integers(NUM_IMAGES, size=NUM_IMAGES)
        assert resampled.tolist() == plain_figures(metric, drawn, thresholds)
    assert len(np.unique(found.resampled)) > 10


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_thresholds_of_one_level_of_255_hit_alike(contours):
    """What the images are remembered by: one bit a level instead of one a threshold, on the hardest maps there are."""
    _, first, level = np.unique((DEFAULT_THRESHOLDS * 255).astype(int), return_index=True, return_inverse=True)
    assert len(first) == 255
    hit = 0
    for name, cam in CASES.items():
        how = {"contours": contours, "size": evaluation_size(name)}
        hits = box_hits(cam[None], [truth_boxes(name)], NORMALIZATIONS, **how)
        few = box_hits(cam[None], [truth_boxes(name)], NORMALIZATIONS, DEFAULT_THRESHOLDS[first], **how)
        np.testing.assert_array_equal(few[..., level], hits, err_msg=name)
        hit += hits.any()
    assert hit > len(CASES) / 2


def test_resamples_are_multinomial():
    """Every composition of 3 draws from 3 images, as often as the multinomial distribution says."""
    num = 27_000
    counts = Counter(tuple(weights.tolist()) for weights in resamples(3, num, seed=0))
    assert len(counts) == 10
    for weights, count in counts.items():
        assert sum(weights) == 3
        probability = math.factorial(3) / math.prod(map(math.factorial, weights)) / 27
        # Five standard deviations of a binomial count.
        assert abs(count - num * probability) < 5 * math.sqrt(num * probability * (1 - probability))


def test_resamples_of_one_image():
    assert [weights.tolist() for weights in resamples(1, 3, seed=0)] == [[1]] * 3


@pytest.mark.parametrize("metric", METRICS)
def test_neither_batches_nor_memory_nor_threads_change_a_bit(metric, monkeypatch):
    expected = computed(metric)
    order = np.random.default_rng(2).permutation(NUM_IMAGES)
    monkeypatch.setattr(bootstrap, "_IN_MEMORY_BYTES", 100)
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    for num_bytes in (1, 30_000):
        monkeypatch.setattr(bootstrap, "_RESAMPLES_BYTES", num_bytes)
        monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", num_bytes)
        found = computed(metric, NUM_RESAMPLES, order[:1], order[1:8], order[8:])
        np.testing.assert_array_equal(found.resampled, expected.resampled)
        np.testing.assert_array_equal(found.figures, expected.figures)


@pytest.mark.parametrize("metric", ["MaxBoxAccV2", "PxAP"])
def test_rows_that_were_packed_before_count_alike(metric):
    one, other = feed(make(metric)), make(metric)
    rows = other.pack(CAMS, IDS)
    assert other.num_images == 0
    for wrong in (rows[:-1], rows.astype(np.uint16), rows[:, 1:]):
        with pytest.raises(ValueError, match="rows: expected uint8"):
            other.add(wrong, IDS)
    other.add(rows[5:], IDS[5:])
    other.add(rows[:5], IDS[:5])
    np.testing.assert_array_equal(one.compute(NUM_RESAMPLES).resampled, other.compute(NUM_RESAMPLES).resampled)
    with pytest.raises(ValueError, match="a second time"):
        other.add(rows[:1], IDS[:1])


@pytest.mark.parametrize("metric", METRICS)
def test_images_that_are_left_out_are_never_drawn(metric):
    kept = [index for index in range(NUM_IMAGES) if index % 4]
    found = computed(metric, NUM_RESAMPLES, kept[::-1])
    expected = computed(metric, NUM_RESAMPLES, kept, image_ids=[IDS[index] for index in kept])
    assert found.num_images == len(kept)
    np.testing.assert_array_equal(found.resampled, expected.resampled)


def test_a_seed_gives_the_same_resamples_however_many():
    many, few = computed("MaxBoxAccV2", 90), computed("MaxBoxAccV2", 45)
    np.testing.assert_array_equal(many.resampled[:45], few.resampled)
    other = feed(make("MaxBoxAccV2")).compute(45, seed=6)
    assert (other.resampled != few.resampled).any() and other.figures.tolist() == few.figures.tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_equal_normalizations_differ_by_exactly_nothing(metric):
    found = computed(metric, normalizations=("minmax", "ivr:0.0"))
    difference = found.difference("minmax", "ivr:0")
    assert (difference.figure, difference.interval, difference.share_above) == (0.0, (0.0, 0.0), 0.0)
    assert not difference.excludes_zero and found["minmax"].interval[0] < found["minmax"].interval[1]


def test_json_names_normalizations_by_their_strings():
    resampled = np.array([[50.0, 52.0], [51.0, 50.0], [52.0, 53.0]])
    found = Bootstrap(Metric.PXAP, 7, 5, 0.5, parse_all("max ivr:0.450+pas:.9"), resampled[1], resampled)
    assert json.dumps(found.to_dict()) == (
        '{"metric": "PxAP", "num_images": 7, "num_resamples": 3, "seed": 5, "confidence": 0.5, "normalizations": '
        '[{"normalization": "max", "figure": 51.0, "interval": [50.0, 52.0]}, '
        '{"normalization": "ivr:0.45+pas:0.9", "figure": 50.0, "interval": [50.0, 53.0]}], "differences": '
        '[{"first": "max", "second": "ivr:0.45+pas:0.9", "figure": 1.0, "interval": [-2.0, 1.0], '
        '"share_above": 0.3333333333333333, "excludes_zero": false}]}'
    )
    with pytest.raises(KeyError, match=r"no normalization 'pas:0.5'; there are max, ivr:0.45\+pas:0.9"):
        found["pas:.5"]


def test_differences_are_paired_and_change_their_sign():
    found = computed("MaxBoxAccV2", 200)
    forth, back = found.difference("max", "ivr:.450"), found.difference("ivr:0.45", "max")
    assert (forth.first, forth.second) == (back.second, back.first) == parse_all("max ivr:0.45")
    assert (forth.figure, forth.interval) == (-back.figure, (-back.interval[1], -back.interval[0]))
    paired = found.resampled[:, 1] - found.resampled[:, 2]
    assert forth.share_above == (paired > 1e-6).mean() and back.share_above == (paired < -1e-6).mean()
    np.testing.assert_allclose(forth.interval, percentile_interval(paired, 0.95), atol=1e-9)  # rounded to 9 decimals


def test_differences_in_the_last_bits_are_none():
    resampled = np.array([[0.1 + 0.2, 0.3]] * 50)
    found = Bootstrap("MaxBoxAccV2", 10, 0, 0.95, parse_all("minmax max"), resampled[0], resampled)
    difference = found.difference("minmax", "max")
    assert resampled[0, 0] > resampled[0, 1]
    assert (difference.figure, difference.interval, difference.share_above) == (0.0, (0.0, 0.0), 0.0)
    assert not difference.excludes_zero


def test_clear_differences_exclude_zero():
    rng = np.random.default_rng(0)
    resampled = np.stack([rng.uniform(60, 61, 100), rng.uniform(50, 51, 100)], axis=1)
    found = Bootstrap("MaxBoxAccV2", 10, 0, 0.95, parse_all("minmax max"), resampled.mean(axis=0), resampled)
    better, worse = found.difference("minmax", "max"), found.difference("max", "minmax")
    assert better.excludes_zero and better.share_above == 1.0 and better.interval[0] > 9
    assert worse.excludes_zero and worse.share_above == 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_the_figure_and_grow_with_the_confidence(metric):
    evaluator = feed(make(metric, normalizations="max"))
    intervals = [evaluator.compute(300, confidence=confidence)["max"].interval for confidence in (0.5, 0.95, 0.99)]
    figure = evaluator.compute(300)["max"].figure
    (a, b), (c, d), (e, f) = intervals
    assert e <= c <= a <= b <= d <= f and c < figure < d and (c, d) != (a, b)


@pytest.mark.parametrize(
    ("num", "confidence", "ends"),
    [(1000, 0.95, (25, 976)), (999, 0.95, (25, 975)), (39, 0.95, (1, 39)), (99, 0.9, (5, 95)), (9, 0.8, (1, 9))],
)
def test_percentile_interval_by_hand(num, confidence, ends):
    values = np.random.default_rng(0).permutation(np.arange(1.0, num + 1))
    assert percentile_interval(values, confidence) == ends


@pytest.mark.parametrize(
    ("num", "confidence", "message"),
    [
        (38, 0.95, "num_resamples: expected at least 39 for a confidence of 0.95, found 38"),
        (0, 0.5, "num_resamples: expected at least 3 .*found 0"),
        (1000, 1.0, r"confidence: expected a fraction in \(0, 1\), found 1.0"),
        (1000, 95, "confidence: .*found 95"),
    ],
)
def test_too_few_resamples_and_no_confidence(num, confidence, message):
    with pytest.raises(ValueError, match=message):
        percentile_interval(np.zeros(num), confidence)
    with pytest.raises(ValueError, match=message):
        feed(make("MaxBoxAccV2")).compute(num, confidence=confidence)


@pytest.mark.parametrize("metric", METRICS)
def test_a_bad_batch_counts_nothing_and_counting_goes_on(metric):
    evaluator = feed(make(metric), range(5))
    for cams, ids, message in (
        (CAMS[4:6], IDS[4:6], f"image '{IDS[4]}': expected each of 21 images once, found it a second time"),
        (CAMS[5:7], [IDS[5]] * 2, "expected distinct ids"),
        (CAMS[5:7], [IDS[5], "other.jpg"], "'other.jpg'"),
        (CAMS[5:6, 0], IDS[5:6], r"expected \[N, h, w\]"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluator.update(cams, ids)
    assert evaluator.num_images == 5
    evaluator.compute(NUM_RESAMPLES)
    feed(evaluator, range(5, NUM_IMAGES))
    np.testing.assert_array_equal(evaluator.compute(NUM_RESAMPLES, seed=5).resampled, computed(metric).resampled)


def test_ids_that_are_no_images_of_the_split():
    evaluator = make("MaxBoxAccV2", image_ids=IDS[:4])
    with pytest.raises(ValueError, match=f"image '{IDS[4]}': .*found one that is not among them"):
        feed(evaluator, range(5))


def test_torch_cams_count_like_numpy_ones():
    torch = pytest.importorskip("torch")
    evaluator = make("MaxBoxAccV2")
    evaluator.update(torch.from_numpy(CAMS), IDS)
    np.testing.assert_array_equal(evaluator.compute(40, seed=5).resampled, computed("MaxBoxAccV2").resampled)


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("IoU", {}, "metric: expected one of MaxBoxAccV2, MaxBoxAcc, PxAP, found 'IoU'"),
        ("PxAP", {"masks": None, "boxes": make_boxes()}, "metric: PxAP needs masks"),
        ("MaxBoxAcc", {"boxes": None, "masks": make_masks()}, "metric: MaxBoxAcc needs boxes"),
        ("MaxBoxAcc", {"normalizations": None}, "expected one with normalizations"),
        ("PxAP", {"thresholds": FIXED}, "thresholds: PxAP"),
        ("MaxBoxAccV2", {"thresholds": FIXED[:2]}, "thresholds: expected 4"),
        ("MaxBoxAccV2", {"thresholds": [{0.5: 0.1}] * 4}, r"thresholds: expected .*\(0.3, 0.5, 0.7\)"),
    ],
)
def test_bad_settings(metric, settings, message):
    with pytest.raises(ValueError, match=message):
        make(metric, **settings)


def test_images_and_object_pixels_are_needed():
    with pytest.raises(ValueError, match="no image was counted"):
        make("MaxBoxAccV2").compute()
    masks = {each: np.zeros(SIZE, np.uint8) for each in IDS} | {IDS[0]: make_masks()[IDS[0]]}
    with pytest.raises(ValueError, match="object pixels in every resample of 21 images"):
        feed(make("PxAP", masks=masks)).compute(100)


def test_max_box_acc_without_the_usual_iou_threshold():
    evaluator = Evaluator(("max",), boxes=make_boxes(), size=SIZE, iou_thresholds=(0.25, 0.75))
    found = feed(BootstrapEvaluator(evaluator.protocol, evaluator.truth, "MaxBoxAcc", IDS)).compute(40)
    assert found["max"].figure == feed(evaluator).compute()["max"].max_box_acc[0.25]


def test_result_turns_into_json_with_all_pairs():
    content = json.loads(json.dumps(computed("MaxBoxAccV2").to_dict(), allow_nan=False))
    assert (content["num_images"], content["num_resamples"], content["seed"]) == (NUM_IMAGES, NUM_RESAMPLES, 5)
    assert [each["normalization"] for each in content["normalizations"]] == list(NORMALIZATIONS)
    pairs = {(each["first"], each["second"]) for each in content["differences"]}
    assert len(pairs) == len(content["differences"]) == 6 and ("minmax", "max") in pairs
    with pytest.raises(KeyError, match="no normalization 'pas:0.9'; there are minmax, max"):
        computed("MaxBoxAccV2")["pas:0.9"]


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_known_already_packs_into_the_same_rows(metric):
    truth = GroundTruth(make_boxes(), make_masks())
    protocol = Protocol(NORMALIZATIONS, size=SIZE)
    judge = BootstrapEvaluator(protocol, truth, metric, IDS)
    contours = Metric.parse(metric).contours
    if contours:
        known = box_ious(CAMS, [*make_boxes().values()], NORMALIZATIONS, contours=contours, size=SIZE)
    else:
        known = pixel_histograms(CAMS, np.stack([*make_masks().values()]), NORMALIZATIONS, size=SIZE)
    np.testing.assert_array_equal(judge.pack_known(known), judge.pack(CAMS, IDS))
    with pytest.raises(ValueError, match=r"known: expected \[4, N, .*found \[3, 21, "):
        judge.pack_known(known[:3])
    if contours:
        fixed = BootstrapEvaluator(protocol, truth, metric, IDS, thresholds=FIXED)
        with pytest.raises(ValueError, match="known: expected the box rule choe and all thresholds"):
            fixed.pack_known(known)


@pytest.mark.parametrize("metric", METRICS)
def test_some_of_the_images_are_resampled_as_if_there_were_no_others(metric):
    truth, some = GroundTruth(make_boxes(), make_masks()), [0, 2, 3, 5, 8, 13, 20]
    protocol, names = Protocol(NORMALIZATIONS, size=SIZE), [IDS[place] for place in some]
    every, alone = (BootstrapEvaluator(protocol, truth, metric, each) for each in (IDS, names))
    order = np.random.default_rng(0).permutation(NUM_IMAGES)
    every.update(CAMS[order], [IDS[place] for place in order])
    alone.update(CAMS[some], names)
    found = every.compute(NUM_RESAMPLES, among=reversed(names))
    wanted = alone.compute(NUM_RESAMPLES)
    assert found.to_dict() == wanted.to_dict()
    np.testing.assert_array_equal(found.resampled, wanted.resampled)
    with pytest.raises(ValueError, match="among: expected images that were counted"):
        every.compute(NUM_RESAMPLES, among=["another.jpg"])


def test_a_difference_of_two_runs_is_of_the_same_resamples():
    truth, protocol = GroundTruth(make_boxes()), Protocol(NORMALIZATIONS, size=SIZE)
    found = []
    for cams in (CAMS, CAMS[::-1].copy()):
        judge = BootstrapEvaluator(protocol, truth, "MaxBoxAccV2", IDS)
        judge.update(cams, IDS)
        found.append(judge.compute(NUM_RESAMPLES))
    first, second = found
    difference = first.difference("max", "ivr:0.45", second)
    assert difference.figure == round(first["max"].figure - second["ivr:0.45"].figure, 9)
    resampled = np.round(first.resampled[:, 1] - second.resampled[:, 2], 9)
    assert difference.interval == percentile_interval(resampled, 0.95)
    assert difference.share_above == (resampled > 0).mean()
    with pytest.raises(ValueError, match="of: expected metric, images, seed"):
        first.difference("max", "max", judge.compute(NUM_RESAMPLES, seed=1))

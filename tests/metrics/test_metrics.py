"""The metric formulas: examples worked out by hand, and the published order of operations, to the bit.

In: counts. Out: percentages and curves.
Source: Choe et al., arXiv 2007.04178, section 4.
"""

import json
import pickle
import pydoc

import numpy as np
import pytest

from wsolkern import Evaluator, Normalization, box_hits, pixel_histograms, threshold_boxes
from wsolkern.metrics import Metric, NormalizationResult, Result, formulas

THRESHOLDS = np.array([0.0, 0.25, 0.5])
IOUS = np.array([0.3, 0.5])


def published_box_metrics(num_correct, num_images):  # [D, T] -> the maximum for each IoU threshold, and their mean
    """The published computation: float counters, one IoU threshold after the other."""
    maxima = []
    for counter in num_correct.astype(np.float64):
        accuracies = counter * 100.0 / num_images
        maxima.append(accuracies.max())
    return maxima, np.average(maxima)


def published_pxap(object_histogram, background_histogram):
    """The published computation: float histograms, cumulative from the top."""
    positives = object_histogram.astype(np.float64)
    negatives = background_histogram.astype(np.float64)
    tp, fp = positives[::-1].cumsum(), negatives[::-1].cumsum()
    fn = positives.sum() - tp
    used = (tp + fp) != 0
    with np.errstate(invalid="ignore"):
        precision = tp / (tp + fp)
    recall = tp / (tp + fn)
    area = (precision[1:] * np.diff(recall))[used[1:]].sum()
    area *= 100
    return area


def row(num_correct=None, histogram=None, num_images=4):
    return NormalizationResult.from_counts(
        Normalization.parse("ivr:0.45"),
        num_images=num_images,
        num_degenerate=1,
        thresholds=THRESHOLDS,
        iou_thresholds=IOUS,
        num_correct=num_correct,
        histogram=histogram,
    )


def test_box_metrics_by_hand():
    largest, every = [[1, 3, 3], [0, 1, 2]], [[4, 4, 1], [1, 0, 1]]
    result = row(np.array([largest, every]))
    np.testing.assert_array_equal(result.box_accuracy, [[25, 75, 75], [0, 25, 50]])
    np.testing.assert_array_equal(result.box_accuracy_v2, [[100, 100, 25], [25, 0, 25]])
    assert result.max_box_acc == {0.3: 75.0, 0.5: 50.0}
    assert result.best_threshold == {0.3: 0.25, 0.5: 0.5}  # the first one that reaches the maximum
    assert result.max_box_acc_v2_per_iou == {0.3: 100.0, 0.5: 25.0}
    assert result.best_threshold_v2 == {0.3: 0.0, 0.5: 0.0}
    assert result.max_box_acc_v2 == 62.5
    assert result.pxap is result.precision is result.recall is None


def test_pixel_metrics_by_hand():
    # Bins [0, .25) [.25, .5) [.5, 1) [1, 2) [2, 3]; from the top: 1 object pixel, 1 + 1, 0 + 0, 2 + 2.
    result = row(histogram=np.array([[2, 0, 1, 1, 0], [2, 0, 1, 0, 0]]))
    np.testing.assert_array_equal(result.recall, [0, 0.25, 0.5, 0.5, 1])
    np.testing.assert_array_equal(result.precision, [1, 1, 2 / 3, 2 / 3, 4 / 7])
    assert result.pxap == 100 * (1 * 0.25 + 2 / 3 * 0.25 + 4 / 7 * 0.5)
    assert result.max_box_acc is result.max_box_acc_v2 is result.best_threshold is result.box_accuracy is None


@pytest.mark.parametrize("seed", range(20))
def test_box_metrics_equal_the_published_computation(seed):
    rng = np.random.default_rng(seed)
    num_images = int(rng.integers(1, 50000))
    num_correct = rng.integers(0, num_images + 1, (rng.integers(1, 6), 1000))
    maxima, mean = published_box_metrics(num_correct, num_images)
    accuracy = formulas.box_accuracy(num_correct, num_images)
    np.testing.assert_array_equal(formulas.max_box_acc(accuracy), maxima)
    assert formulas.max_box_acc_v2(formulas.max_box_acc(accuracy)) == mean


@pytest.mark.parametrize("empty_above", [None, 1, 2, 500, 1001], ids=lambda top: f"empty_above_{top}")
@pytest.mark.parametrize("seed", range(5))
def test_pxap_equals_the_published_computation(seed, empty_above):
    rng = np.random.default_rng(seed)
    histogram = rng.integers(0, 10**9, (2, 1002)) * (rng.random((2, 1002)) < 0.9)
    histogram[:, empty_above:] = 0
    histogram[0, 0] += 1
    assert formulas.pxap(histogram) == published_pxap(*histogram)


def test_no_object_pixel_is_an_error():
    with pytest.raises(ValueError, match="masks: expected at least one object pixel"):
        formulas.pxap(np.array([[0, 0, 0], [5, 0, 1]]))


def test_result_finds_rows_by_any_spelling_and_turns_into_json():
    counts = np.array([[[1, 3, 3], [0, 1, 2]], [[4, 4, 1], [1, 0, 1]]])
    result = Result(4, THRESHOLDS, (0.3, 0.5), (row(counts, np.array([[2, 0, 1, 1, 0], [2, 0, 1, 0, 0]])),))
    assert result["ivr:.450"] is result["ivr:0.45"] is next(iter(result))
    assert len(result) == 1
    with pytest.raises(KeyError, match="no row 'max'; there are ivr:0.45"):
        result["max"]
    short, full = (json.loads(json.dumps(result.to_dict(curves=curves), allow_nan=False)) for curves in (False, True))
    assert short["num_images"] == 4
    assert short["normalizations"][0]["max_box_acc"] == {"0.3": 75.0, "0.5": 50.0}
    assert short["normalizations"][0]["num_degenerate"] == 1
    assert "box_accuracy" not in short["normalizations"][0]
    assert full["thresholds"] == THRESHOLDS.tolist()
    assert full["normalizations"][0]["box_accuracy"] == [[25, 75, 75], [0, 25, 50]]
    assert full["normalizations"][0]["recall"] == [0, 0.25, 0.5, 0.5, 1]
    assert row().to_dict()["max_box_acc"] is None


# What a metric is, beside its formula.


def row_of(num_correct=None, histogram=None, ious=(0.3, 0.5)):
    return NormalizationResult.from_counts(
        Normalization.parse("ivr:0.45"),
        num_images=8,
        num_degenerate=1,
        thresholds=np.array([0.0, 0.5]),
        iou_thresholds=np.array(ious),
        num_correct=None if num_correct is None else np.array(num_correct),
        histogram=None if histogram is None else np.array(histogram),
    )


CORRECT = [[[4, 2], [1, 2]], [[8, 0], [3, 6]]]  # [contours, IoU, threshold]: largest, all
HISTOGRAM = [[0, 1, 0, 3], [2, 2, 0, 0]]


def test_a_metric_is_the_string_that_papers_call_it_by():
    assert [*Metric] == ["MaxBoxAccV2", "MaxBoxAcc", "PxAP"] == [str(each) for each in Metric]
    assert json.dumps(Metric.PXAP) == '"PxAP"' and f"{Metric.MAX_BOX_ACC}" == "MaxBoxAcc"
    assert all(Metric.parse(str(each)) is Metric.parse(each) is each for each in Metric)
    assert all(pickle.loads(pickle.dumps(each)) is each for each in Metric)
    with pytest.raises(ValueError, match="^metric: expected one of MaxBoxAccV2, MaxBoxAcc, PxAP, found 'pxap'$"):
        Metric.parse("pxap")
    assert (Metric.of("boxes"), Metric.of("masks")) == (Metric.MAX_BOX_ACC_V2, Metric.PXAP)


def test_a_metric_reads_its_figure_off_a_row():
    row = row_of(CORRECT, HISTOGRAM)
    assert (Metric.MAX_BOX_ACC_V2.figure(row), Metric.MAX_BOX_ACC.figure(row)) == (87.5, 25.0)
    assert Metric.PXAP.figure(row) == row.pxap
    assert Metric.MAX_BOX_ACC_V2.thresholds(row) == {0.3: 0.0, 0.5: 0.5}
    assert Metric.MAX_BOX_ACC.thresholds(row) == {0.5: 0.5} and Metric.PXAP.thresholds(row) == {}
    with pytest.raises(ValueError, match="metric: PxAP needs masks, the result has none"):
        Metric.PXAP.figure(row_of(CORRECT))
    for metric in (Metric.MAX_BOX_ACC, Metric.MAX_BOX_ACC_V2):
        with pytest.raises(ValueError, match=f"metric: {metric} needs boxes, the result has none"):
            metric.figure(row_of(histogram=HISTOGRAM))


def test_a_metric_of_counts_is_that_of_the_row():
    row = row_of(CORRECT, HISTOGRAM)
    largest, every = np.array(CORRECT)
    assert Metric.MAX_BOX_ACC_V2.figures(every[None, None], 8).tolist() == [[87.5]]
    assert Metric.MAX_BOX_ACC.figures(largest[None, None, 1:], 8).tolist() == [[25.0]]
    assert Metric.PXAP.figures(np.array(HISTOGRAM)[None, None], 8).tolist() == [[row.pxap]]


def test_results_print_on_a_screen():
    row = row_of(CORRECT, HISTOGRAM)
    line = f"ivr:0.45, MaxBoxAccV2 87.50, MaxBoxAcc 25.00, PxAP {row.pxap:.2f}, 1 degenerate"
    assert repr(row) == f"NormalizationResult({line})"
    result = Result(8, np.arange(0, 1, 0.001), (0.3, 0.5), (row,) * 3)
    head = "Result of 8 images, 1000 thresholds, IoU 0.3, 0.5, in percent:"
    assert repr(result) == "\n  ".join([head, *[line] * 3])
    many = repr(Result(8, np.arange(0, 1, 0.001), tuple(np.arange(1, 100) / 100), (row,) * 500)).splitlines()
    assert len(many) == 22 and max(map(len, many)) <= 100 and many[-1] == "  ... 500 rows in all"


@pytest.mark.parametrize("of", [Evaluator, box_hits, threshold_boxes, pixel_histograms])
def test_help_prints_no_thousand_thresholds(of):
    shown = pydoc.plain(pydoc.render_doc(of))
    assert "=DEFAULT_THRESHOLDS" in shown.replace(" = ", "=") and "0.001" not in shown
    assert max(map(len, shown.splitlines())) < 500

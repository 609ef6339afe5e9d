"""Tables and pictures of a small result.

In: counts of a few generated CAMs. Out: columns, Markdown, a PNG file.
Source: none; numbers are those of the Result.
"""

import numpy as np
import pytest

from wsolkern import Evaluator, normalize
from wsolkern.report import tables

NAMES = ("max", "ivr:0.45")


@pytest.fixture(scope="module")
def cams() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 7, 7))


@pytest.fixture(scope="module")
def boxes() -> dict:
    return {index: np.array([[20, 30, 150 + index, 180]]) for index in range(6)}


def evaluate(cams, boxes, **how):
    evaluator = Evaluator(NAMES, boxes=boxes, **how)
    evaluator.update(cams, range(len(cams)))
    return evaluator.compute()


def test_columns_are_the_result_in_percent(cams, boxes):
    result = evaluate(cams, boxes)
    shown = {(group, heading): cells for group, heading, cells in tables.columns(result)}
    assert shown["", "normalization"] == list(NAMES)
    assert shown["MaxBoxAcc", "IoU 0.5"] == [f"{row.max_box_acc[0.5]:.2f}" for row in result]
    assert shown["MaxBoxAccV2", "mean"] == [f"{row.max_box_acc_v2:.2f}" for row in result]
    assert shown["threshold", "IoU 0.7"] == [f"{row.best_threshold_v2[0.7]:.6g}" for row in result]
    assert ("", "PxAP") not in shown


def test_columns_without_the_usual_iou_threshold(cams, boxes):
    result = evaluate(cams, boxes, iou_thresholds=(0.25, 0.75))
    assert ("MaxBoxAcc", "IoU 0.25") in [(group, heading) for group, heading, _ in tables.columns(result)]


def test_pxap_has_its_column_and_boxes_have_none(cams):
    evaluator = Evaluator(NAMES, masks={index: np.eye(224, dtype=np.uint8) for index in range(6)})
    evaluator.update(cams, range(6))
    shown = [heading for _, heading, _ in tables.columns(evaluator.compute())]
    assert shown == ["normalization", "PxAP", "degenerate"]


def test_a_narrow_terminal_gets_thresholds_in_a_table_of_their_own(cams, boxes):
    result = evaluate(cams, boxes)
    (whole,) = tables.rich_tables(result, "title", 200)
    metrics, thresholds = tables.rich_tables(result, "title", 80)
    assert len(whole.columns) == len(metrics.columns) + len(thresholds.columns) - 1
    assert whole.row_count == metrics.row_count == thresholds.row_count == len(NAMES)


def test_markdown_is_a_table(cams, boxes):
    lines = tables.markdown_table(evaluate(cams, boxes)).splitlines()
    assert len(lines) == 2 + len(NAMES) and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| max |")


def test_the_box_that_counts_reaches_what_the_evaluator_counted(cams, boxes):
    from wsolkern.studies.showing import boxes_that_count

    result = evaluate(cams, boxes)
    for row in result:
        found = [
            boxes_that_count(normalize(cam, row.normalization, (224, 224)), boxes[index], row.best_threshold_v2)
            for index, cam in enumerate(cams)
        ]
        for place, iou_threshold in enumerate(result.iou_thresholds):
            hits = sum(each[place].iou >= iou_threshold for each in found)
            assert 100 * hits / len(cams) == row.max_box_acc_v2_per_iou[iou_threshold]

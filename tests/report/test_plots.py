"""Plots over the percentile and of extremes: what their artists hold is what the values say.

In: results of generated maps. Out: lines, bands, bars, points.
Source: none.
"""

import numpy as np
import pytest

from wsolkern.metrics import Evaluator, GroundTruth, Protocol
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.curves import levels, percentile_curves
from wsolkern.metrics.diagnostics import RunExtremes, diagnose
from wsolkern.normalization import Normalization

pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
from wsolkern.report import curves, diagnostics, style

NAMES = "minmax max pas:0.9 ivr:0.1..0.4/0.1"
NUM = 24


@pytest.fixture
def kept(monkeypatch):
    """The figures that are saved."""
    figures = []
    monkeypatch.setattr(style, "save", lambda path, figure: figures.append(figure))
    return figures


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(0)
    cams, corners = rng.normal(size=(NUM, 5, 5)), rng.integers(0, 30, (NUM, 2))
    boxes = dict(enumerate(np.concatenate([corners, corners + rng.integers(8, 30, (NUM, 2))], axis=1)[:, None]))
    evaluator = Evaluator(NAMES, boxes=boxes, size=(64, 64))
    evaluator.update(cams, range(NUM))
    judge = BootstrapEvaluator(Protocol(NAMES, size=(64, 64)), GroundTruth(boxes=boxes), "MaxBoxAccV2", range(NUM))
    judge.update(cams, range(NUM))
    return evaluator.compute(), judge.compute(100, seed=1)


def test_lines_that_are_on_no_curve(measured):
    result, _ = measured
    found = {(str(each.normalization), each.metric): each.value for each in levels(result)}
    assert found == {
        (name, metric): getattr(result[name], attribute)
        if metric == "MaxBoxAccV2"
        else getattr(result[name], attribute)[0.5]
        for name in ("minmax", "max", "pas:0.9")
        for metric, attribute in (("MaxBoxAccV2", "max_box_acc_v2"), ("MaxBoxAcc", "max_box_acc"))
    }


@pytest.mark.parametrize("with_bands", [False, True])
def test_curves_lines_and_bands(measured, kept, with_bands):
    result, bootstrap = measured
    drawn = [each for each in percentile_curves(result) if each.metric == "MaxBoxAccV2"]
    beside = [each for each in levels(result) if each.metric == "MaxBoxAccV2"]
    curves.draw_percentile_curves("a.png", drawn, "title", beside, bootstrap if with_bands else None)
    (axis,) = kept[0].axes
    lines = {each.get_label(): each for each in axis.lines if not each.get_label().startswith("_")}
    np.testing.assert_array_equal(
        lines["ivr:P"].get_ydata(), [result[f"ivr:0.{k}"].max_box_acc_v2 for k in (1, 2, 3, 4)]
    )
    for name in ("minmax", "max", "pas:0.9"):
        assert set(lines[name].get_ydata()) == {result[name].max_box_acc_v2}
    assert len({(each.get_color(), str(each.get_linestyle())) for each in lines.values()}) == 4
    texts = [each.get_text() for each in axis.texts]
    assert f"max {result['max'].max_box_acc_v2:.2f}" in texts, "each figure can be read"
    assert any(f"{drawn[0].values.max():.2f} at" in each for each in texts)
    bands = [each for each in axis.collections if type(each).__name__.startswith(("Fill", "Poly"))]
    assert len(bands) == with_bands and len(axis.containers) == 3 * with_bands
    if with_bands:
        corners = bands[0].get_paths()[0].vertices
        for k in (1, 2, 3, 4):
            here = corners[np.isclose(corners[:, 0], k / 10)][:, 1]
            assert (here.min(), here.max()) == bootstrap[f"ivr:0.{k}"].interval
        for bar, name in zip(axis.containers, ("minmax", "max", "pas:0.9"), strict=True):
            ends = bar.lines[2][0].get_segments()[0][:, 1]
            np.testing.assert_allclose(ends, bootstrap[name].interval, atol=1e-9)  # value minus, then plus a difference


def test_names_lie_beside_each_other(measured, kept):
    """However near the figures are: 60.27 does not hide 60.20."""
    result, _ = measured
    drawn = [each for each in percentile_curves(result) if each.metric == "MaxBoxAccV2"]
    near = [each for each in levels(result) if each.metric == "MaxBoxAccV2"] * 2
    near = [
        type(each)(each.normalization, each.metric, drawn[0].values.max() - 0.01 * k) for k, each in enumerate(near)
    ]
    curves.draw_percentile_curves("a.png", drawn, "title", near)
    figure = kept[0]
    figure.canvas.draw()
    boxes = [each.get_window_extent() for each in figure.axes[0].texts]
    assert len(boxes) == 7 and not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize("by_box", [False, True])
def test_extremes(kept, by_box):
    rng = np.random.default_rng(2)
    minima, maxima = rng.normal(-3, 1, 50), rng.normal(9, 2, 50)
    minima[0], maxima[1] = -30, np.nan
    right = {Normalization("max"): rng.random(50) < 0.5, Normalization("minmax"): rng.random(50) < 0.3}
    run = RunExtremes("a/b", diagnose(minima, maxima), minima, maxima, localized=right if by_box else {})
    diagnostics.draw_extremes("a.png", [run])
    used = np.isfinite(maxima)
    marked = [~each for each in right.values()] if by_box else [minima < run.diagnosis.outlier_below]
    for axis, these in zip(kept[0].axes, marked, strict=True):
        for points, which in zip(axis.collections, (used & ~these, used & these), strict=True):
            np.testing.assert_array_equal(points.get_offsets(), np.stack([minima, maxima], axis=1)[which])

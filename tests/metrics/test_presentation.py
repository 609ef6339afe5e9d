"""A Result as a frame, as HTML and as curves: the figures of the printed table and of the Result, no others.

In: counts of a few generated CAMs. Out: pandas.DataFrame, HTML, matplotlib figures.
Source: none; numbers are those of the Result.
"""

import csv
import itertools
import math
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from wsolkern import Evaluator
from wsolkern.metrics import Metric, Result
from wsolkern.metrics.presentation import columns
from wsolkern.report import tables

NAMES = ("max", "ivr:0.45", "ivr:0.45+pas:0.9")
IOUS = (0.3, 0.5, 0.7)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    """Of boxes and masks, so that all metrics are measured."""
    rng = np.random.default_rng(1)
    masks = {index: (rng.random((24, 24)) < 0.3).astype(np.uint8) for index in range(6)}
    boxes = {index: np.array([[2, 3, 15 + index, 18]]) for index in range(6)}
    found = Evaluator(NAMES, boxes=boxes, masks=masks, size=(24, 24), thresholds=np.arange(0, 1, 0.05))
    found.update(rng.normal(size=(6, 7, 7)), range(6))
    return found


@pytest.fixture(scope="module")
def result(evaluator) -> Result:
    return evaluator.compute()


def without(result: Result, *names: str) -> Result:
    """The same where something was not measured."""
    return replace(result, rows=tuple(replace(row, **dict.fromkeys(names)) for row in result))


ONLY = {
    "all": (),
    "boxes": ("pxap",),
    "masks": ("max_box_acc", "max_box_acc_v2", "max_box_acc_v2_per_iou", "best_threshold", "best_threshold_v2"),
}


@pytest.mark.parametrize("missing", ONLY.values(), ids=ONLY)
def test_a_frame_holds_every_figure_once(result, missing):
    pytest.importorskip("pandas", reason="the frame needs the extra frame (pandas)")
    result = without(result, *missing)
    frame = result.to_frame()
    expected = {}
    for row in result:
        for iou in IOUS if row.max_box_acc else ():
            expected[row.name, "MaxBoxAcc", iou] = row.max_box_acc[iou], row.best_threshold[iou]
            expected[row.name, "MaxBoxAccV2", iou] = row.max_box_acc_v2_per_iou[iou], row.best_threshold_v2[iou]
        for metric, value in (("MaxBoxAccV2", row.max_box_acc_v2), ("PxAP", row.pxap)):
            if value is not None:
                expected[row.name, metric, None] = value, None

    def or_none(value: float) -> float | None:
        return None if math.isnan(value) else value

    found = {
        (each.normalization, each.metric, or_none(each.iou)): (each.value, or_none(each.threshold))
        for each in frame.itertuples()
    }
    assert found == expected and len(frame) == len(expected)
    assert set(frame.num_images) == {6} and list(frame.num_degenerate.unique()) == [0]
    assert {name: str(kind) for name, kind in frame.dtypes.items() if str(kind) == "float64"} == dict.fromkeys(
        ["ivr", "pas", "iou", "value", "threshold"], "float64"
    )
    last = frame[frame.normalization == NAMES[2]]
    assert set(last.ivr) == {0.45} and set(last.pas) == {0.9} and frame.ivr[frame.normalization == "max"].isna().all()


def test_a_frame_becomes_wide_as_its_docstring_says(result):
    pytest.importorskip("pandas", reason="the frame needs the extra frame (pandas)")
    wide = result.to_frame().pivot(index="normalization", columns=["metric", "iou"], values="value")
    assert wide.loc["max", ("MaxBoxAcc", 0.5)] == result["max"].max_box_acc[0.5]


class Cells(HTMLParser):
    """The texts of a table, line by line, and all tags that there are."""

    def __init__(self, html: str):
        super().__init__()
        self.lines, self.tags, self.caption = [], set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.add(tag)
        self.last = tag
        if tag == "tr":
            self.lines.append([])
        elif tag in ("td", "th"):
            self.lines[-1].append("")

    def handle_data(self, data):
        if self.last == "caption":
            self.caption += data
        else:
            self.lines[-1][-1] += data


TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("missing", ONLY.values(), ids=ONLY)
def test_html_has_the_cells_of_the_printed_table(result, missing):
    result = without(result, *missing)
    found = Cells(result._repr_html_())
    printed = [line.strip("| ").split(" | ") for line in tables.markdown_table(result).splitlines()]
    assert found.lines == [printed[0], *printed[2:]]
    assert found.tags == TAGS and found.caption == "6 images, 20 thresholds, metrics in percent"


def test_no_name_is_html(result):
    class Named:
        def __str__(self) -> str:
            return "<script>alert(1)</script>&"

    html = replace(result, rows=(replace(result.rows[0], normalization=Named()),))._repr_html_()
    assert Cells(html).tags == TAGS and Cells(html).lines[1][0] == "<script>alert(1)</script>&"


def test_a_file_of_columns_has_every_figure(result, tmp_path):
    tables.write_csv(tmp_path / "a.csv", result)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["normalization"] for row in rows] == list(NAMES)
    for row, of in zip(rows, result, strict=True):
        assert {each.column: float(row[each.column]) for each in of.measured()} == {
            each.column: each.value for each in of.measured()
        }
        assert float(row["threshold_v2@0.7"]) == of.best_threshold_v2[0.7]
        assert float(row["threshold@0.3"]) == of.best_threshold[0.3]


def test_columns_are_those_of_report(result):
    assert tables.columns is columns
    assert [heading for group, heading, _ in columns(result) if group == "threshold"] == [f"IoU {iou}" for iou in IOUS]


@pytest.mark.parametrize("metric", Metric)
def test_a_picture_draws_the_curves_of_the_result(result, metric):
    pytest.importorskip("matplotlib", reason="the picture needs the extra report (matplotlib)")
    from matplotlib.figure import Figure

    panels = Figure().subplots(1, 1 if metric is Metric.PXAP else 3)
    figure = result.plot(str(metric), axes=panels)
    assert figure is result.plot(metric, axes=np.ravel(panels).tolist())  # a list will do as well
    for place, panel in enumerate(figure.axes):
        lines = [each for each in panel.get_lines() if not each.get_label().startswith("_")][: len(NAMES)]
        for row, line in zip(result, lines, strict=True):
            if metric is Metric.PXAP:
                expected, label = [row.recall, row.precision], row.pxap
            else:
                curves, best = {
                    Metric.MAX_BOX_ACC: (row.box_accuracy, row.max_box_acc),
                    Metric.MAX_BOX_ACC_V2: (row.box_accuracy_v2, row.max_box_acc_v2_per_iou),
                }[metric]
                expected, label = [result.thresholds, curves[place]], best[IOUS[place]]
            np.testing.assert_array_equal(line.get_data(), expected)
            assert line.get_label() == f"{row.name} {label:.2f}"


def test_a_picture_is_one_call(result, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the picture needs the extra report (matplotlib)")
    pyplot.switch_backend("agg")
    figure = result.plot()
    try:
        assert [each.get_title() for each in figure.axes] == [f"MaxBoxAccV2, IoU {iou}" for iou in IOUS]
        figure.savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    finally:
        pyplot.close(figure)


def test_what_cannot_be_drawn(result):
    pytest.importorskip("matplotlib", reason="the picture needs the extra report (matplotlib)")
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="axes: expected 3, one for each IoU threshold or one for PxAP, found 1"):
        result.plot(axes=Figure().subplots())
    with pytest.raises(ValueError, match="metric: PxAP needs masks, the result has none"):
        without(result, "pxap").plot("PxAP")
    with pytest.raises(ValueError, match="metric: expected one of MaxBoxAccV2"):
        result.plot("accuracy")


@pytest.mark.parametrize(
    ("package", "method", "extra"), [("pandas", "to_frame", "frame"), ("matplotlib", "plot", "report")]
)
def test_a_package_that_is_not_there_is_named(result, package, method, extra, monkeypatch):
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{method} needs {package} .*pip install 'wsolkern\[{extra}\]'"):
        getattr(result, method)()


def test_nobody_needs_them_for_a_result():
    code = (
        "import sys, numpy, wsolkern;"
        "e = wsolkern.Evaluator('max', boxes={0: numpy.array([[1, 1, 9, 9]])}, size=(16, 16));"
        "e.update(numpy.eye(7)[None], [0]); print(e.compute()._repr_html_() != '');"
        "print([name for name in ('pandas', 'matplotlib', 'torch', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["True", "[]"]


def test_reset_forgets_counts_and_nothing_else(evaluator, result):
    again = Evaluator.of(evaluator.protocol, evaluator.truth)
    maps = np.random.default_rng(1).normal(size=(6, 7, 7))
    again.update(maps, range(6))
    before = again.moment()
    kept = again.to_bytes()
    again.reset()
    assert again == Evaluator.of(evaluator.protocol, evaluator.truth) and again.num_images == 0
    with pytest.raises(ValueError, match="no image was counted yet"):
        again.compute()
    assert again.to_bytes(before) == kept  # what somebody holds of before stays
    again.update(maps, range(6))
    assert again.to_bytes() == kept


class SameBox(Mapping):
    """Any image has this box."""

    def __contains__(self, image_id):
        return True

    def __getitem__(self, image_id):
        return np.array([[2, 3, 18, 18]])

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


def test_threads_may_reset():
    """Whatever comes between, counts are of whole batches: hits and images fit each other."""
    shared, one = (Evaluator("max ivr:0.4", boxes=SameBox(), size=(24, 24), thresholds=[0, 0.3]) for _ in range(2))
    maps = np.random.default_rng(2).normal(size=(6, 7, 7))
    one.update(maps, range(6))
    stop, seen, numbers, failed = threading.Event(), [], itertools.count(), []

    def count() -> None:
        try:
            while not stop.is_set():
                shared.update(maps, [next(numbers) for _ in range(6)])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for each in threads:
        each.start()
    for _ in range(200):
        moment = shared.moment()
        seen.append((moment.num_images, moment.arrays()["num_correct"]))
        shared.reset()
    stop.set()
    for each in threads:
        each.join()
    assert failed == []
    for num_images, num_correct in seen:
        np.testing.assert_array_equal(num_correct, one.num_correct * (num_images // 6))

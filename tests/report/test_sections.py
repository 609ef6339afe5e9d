"""The parts of a report's page: their numbers are the report's, and no text in them is taken for HTML.

In: reports of a small world. Out: HTML, read again by Python's own parser.
Source: none.
"""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from wsolkern import studies
from wsolkern.metrics.metric import Metric
from wsolkern.report import style
from wsolkern.report.inline import inline_svg
from wsolkern.report.sections import sections_of
from wsolkern.studies.reporting import pairs

HOSTILE = "<script>alert('x')</script>\"&' \u202e\x07é漢"
VOID = {"meta", "link", "br", "img", "input"}


class Read(HTMLParser):
    """All elements in order, cells of tables, scripts; fails if elements do not close in their order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.rows, self.scripts, self.texts, self._open = [], [], {}, [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self._open and self._open[-1] == "script":
            self.scripts[self.elements[-1][1].get("id")] = data


def read(sections) -> dict[str, Read]:
    return {each.title: Read(each.html) for each in sections}


@pytest.fixture(scope="module")
def sections(one, two, masks) -> dict:
    return {"one": sections_of(one), "two": sections_of(two), "masks": sections_of(masks)}


def figure_of(row, metric):
    return f"{metric.figure(row):.2f}"


@pytest.mark.parametrize("name", ["one", "two", "masks"])
def test_figures_stand_with_their_intervals(name, request, sections):
    lines, report = read(sections[name])["Figures"].rows, request.getfixturevalue(name)
    for number, run in enumerate(report.runs):
        for row in run.result:
            of_name = [each for each in lines if each[0] == row.name]
            num = len(of_name) // len(report.runs)
            line = [cell for each in of_name[number * num : (number + 1) * num] for cell in each]
            for metric, bootstrap in run.bootstraps.items():
                low, high = bootstrap[row.name].interval
                assert f"{figure_of(row, metric)} [{low:.2f}, {high:.2f}]" in line
            if row.best_threshold_v2 is not None:
                places = [line.index(f"{each:.2f}", 5) for each in row.max_box_acc_v2_per_iou.values()]
                assert [line[place + 1] for place in places] == [
                    f"{each:.6g}" for each in row.best_threshold_v2.values()
                ]


def test_sections_are_those_that_the_ground_truth_has(sections):
    titles = [each.title for each in sections["one"]]
    assert titles == [
        "Figures",
        "Differences between normalizations",
        "Accuracy over the threshold",
        "Accuracy over the percentile",
        "Minimum and maximum of the maps",
        "Errors",
        "By size and class of the object",
        "Record",
    ]
    assert [each.title for each in sections["two"]] == [*titles[:1], "Comparison", *titles[2:]]
    of_masks = [each.title for each in sections["masks"]]
    assert of_masks == [*titles[:2], "Precision and recall", *titles[3:5], *titles[6:]]
    assert "so this page has none" in "".join(read(sections["masks"])["Figures"].texts)
    assert "so this page has none" not in "".join(read(sections["one"])["Figures"].texts)


def test_differences_errors_and_groups_are_the_reports(one, sections):
    found, (run,) = read(sections["one"]), one.runs
    for metric in (Metric.MAX_BOX_ACC, Metric.MAX_BOX_ACC_V2):
        for each in pairs(run, metric):
            ends = [f"{end:+.2f}" for end in each.interval]
            assert any(
                line[:5] == [str(each.first), str(each.second), f"{each.figure:+.2f}", *ends]
                for line in found["Differences between normalizations"].rows
            )
    for name, counts in zip(one.protocol.names, run.looked.num_errors(), strict=True):
        assert [name, *map(str, counts.values())] in found["Errors"].rows
    rows = found["By size and class of the object"].rows
    for grouping in run.groupings:
        for group in grouping.groups:
            assert any(line[0] == group.name and line[2] == str(group.num_images) for line in rows)


def test_a_comparison_counts_images_of_both(two, sections):
    rows = read(sections["two"])["Comparison"].rows
    a, b = (two.ious(run) >= two.iou_threshold for run in two.runs)
    for m, name in enumerate(two.protocol.names):
        both, neither = int((a[m] & b[m]).sum()), int((~a[m] & ~b[m]).sum())
        assert [name, str(both), str(int((a[m] & ~b[m]).sum())), str(int((~a[m] & b[m]).sum())), str(neither)] in rows


def test_images_where_runs_differ_are_named(two, sections):
    a, b = (two.ious(run)[0] for run in two.runs)
    ids = two.image_ids
    rows = [each for each in read(sections["two"])["Comparison"].rows if each[0] in ids]
    assert rows
    for image_id, first, second, difference in rows:
        place = ids.index(image_id)
        assert (first, second) == (f"{a[place]:.3f}", f"{b[place]:.3f}") and float(difference) == pytest.approx(
            a[place] - b[place],
            abs=6e-4,  # three digits are printed
        )
    most = ids[int((a - b).argmax())]
    assert rows[0][0] == most


def test_the_record_holds_the_result(two, sections):
    found = read(sections["two"])["Record"]
    for run, name in zip(two.runs, ("result", "result-2"), strict=True):
        content = json.loads(found.scripts[name])
        wanted = json.loads(json.dumps(run.evaluation.to_dict()))
        wanted.pop("seconds")
        assert content == wanted
    texts = "".join(found.texts)
    assert two.split.sha256() in texts and "VGG16" in texts
    assert two.runs[0].evaluation.provenance.data[0].index_sha256 in texts


def test_hostile_names_stay_text(two, sections):
    run = replace(two.runs[0], name=HOSTILE)
    problems = {HOSTILE: "no </script><script>"}
    counted = replace(run.evaluation.counted, problems=problems, root=HOSTILE, warnings=(HOSTILE,))
    run = replace(run, evaluation=replace(run.evaluation, counted=counted))
    names = tuple(f"{HOSTILE}{number}" for number in range(3))
    hostile = replace(
        two,
        runs=(run, two.runs[1]),
        split=replace(two.split, folder=HOSTILE),
        class_names=names,
    )
    plain, there = read(sections["two"]), read(sections_of(hostile))
    for title, found in there.items():
        kinds = [tag for tag, _ in found.elements if tag in ("script", "table", "svg", "section", "style", "a", "img")]
        mine = [
            tag for tag, _ in plain[title].elements if tag in ("script", "table", "svg", "section", "style", "a", "img")
        ]
        assert kinds == mine, title
        assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    shown = "<script>alert('x')</script>\"&' \\u202e\\x07é漢"
    assert shown in "".join(there["Figures"].texts)
    assert any(f"{shown}1" in row for row in there["By size and class of the object"].rows)
    assert json.loads(there["Record"].scripts["result"])["missing"] == problems


@pytest.mark.parametrize("name", ["one", "two", "masks"])
def test_nothing_is_loaded_and_ids_are_there_once(name, sections):
    html = "".join(each.html for each in sections[name])
    seen = []
    for tag, attributes in Read(html).elements:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "data", "action"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value)
            assert key.startswith("xmlns") or "://" not in (value or "")
        seen += [attributes["id"]] if "id" in attributes else []
    assert len(set(seen)) == len(seen)
    assert "<style" not in html and "@import" not in html
    for used in re.findall(r"url\(#([^)]*)\)", html):
        assert used in seen


@pytest.mark.parametrize("name", ["one", "masks"])
def test_figures_have_words(name, request, sections):
    report = request.getfixturevalue(name)
    html = "".join(each.html for each in sections[name])
    figures = [attributes for tag, attributes in Read(html).elements if tag == "svg"]
    assert len(figures) == 3
    for each in figures:
        assert each["role"] == "img" and report.runs[0].name in each["aria-label"]
    (run,) = report.runs
    metric = Metric.PXAP if name == "masks" else Metric.MAX_BOX_ACC_V2
    assert all(f"{row.name} {figure_of(row, metric)} percent" in figures[0]["aria-label"] for row in run.result)


def test_two_times_the_same_bytes(masks, sections):
    assert sections_of(masks) == sections["masks"]


def test_a_figure_is_well_formed_and_its_style_is_its_own():
    figure = style.new_figure(3, 2)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1])
    axis.scatter([0, 1], [0, 1], rasterized=True)
    axis.set_title("a < b & c")
    found = inline_svg(figure, 'said "so"', "key")
    root = ElementTree.fromstring(found)
    assert root.get("aria-label") == 'said "so"' and root.get("role") == "img"
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert ids and all(each.startswith("key-") for each in ids)
    assert not [each for each in root.iter() if each.tag.endswith(("style", "metadata"))]
    assert "a < b & c" in "".join(root.itertext())


@pytest.fixture
def page(sections, tmp_path):
    """A file of the sections of two runs."""
    path = tmp_path / "compare.html"
    path.write_text("<!DOCTYPE html>\n" + "".join(each.html for each in sections["two"]))
    return path


@pytest.mark.parametrize("number", [1, 2])
def test_verify_makes_the_figures_of_a_page_again(page, two, number):
    found = studies.verify(page, run=number)
    assert found.holds and found.study == "sweep"
    assert any(check.what.endswith(two.runs[number - 1].name) and check.state == "agrees" for check in found.checks)


def test_verify_sees_what_was_changed_in_a_page(page):
    content = page.read_text()
    best = re.findall(r'"max_box_acc_v2": ([0-9.]+)', content)[0]
    page.write_text(content.replace(f'"max_box_acc_v2": {best}', '"max_box_acc_v2": 99.5', 1))
    assert not studies.verify(page).holds
    assert studies.verify(page, run=2).holds


def test_verify_refuses_other_pages_and_other_runs(page, tmp_path):
    with pytest.raises(ValueError, match="run: expected 1 to 2, .* found 3"):
        studies.verify(page, run=3)
    other = tmp_path / "other.html"
    other.write_text("<!doctype html><script>1</script>")
    with pytest.raises(ValueError, match="expected a page of wsolkern report or compare"):
        studies.verify(other)
    other.write_text('<!doctype html><script type="application/json" id="result">{</script>')
    with pytest.raises(ValueError, match="expected the JSON of a result"):
        studies.verify(other)
    other.write_text('<!doctype html><![octypet"><script type="application/json" id="result">{}</script>')
    with pytest.raises(ValueError, match=r"other\.html: expected"):  # newer versions of Python read over it
        studies.verify(other)

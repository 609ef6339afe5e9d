"""The page of a report: what it says, what it is made of, and its engine in node against the operations.

In: pages made from maps. Out: verdicts. Source: none.
"""

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pages import NORMALIZATIONS, SIZE, cams_of, page_of, truths_of
from shared import slow_but

from wsolkern.ops import DEFAULT_THRESHOLDS, box_ious, normalize, resize, threshold_boxes
from wsolkern.report.page import Section, encoding, render

pytest.importorskip("jinja2")
KINDS = ("peaks", "noise", "plateaus", "negative", "fine", "odd values")
ODD = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.0", "ivr:0.4321", "ivr:0.95", "pas:0.3333", "ivr:0.3+pas:0.87")


@pytest.fixture
def node(tmp_path):
    """Runs a program beside the engine, which it finds as ``wsolkern``, on JSON from standard input."""
    if shutil.which("node") is None:
        pytest.skip("there is no node to run the page's engine in")
    engine = resources.files("wsolkern.report.page") / "engine.js"

    def run(program: str, question: object) -> object:
        file = tmp_path / "program.js"
        inputs = 'const question = JSON.parse(require("fs").readFileSync(0).toString().replaceAll("NaN", \'"NaN"\')'
        inputs += '.replaceAll("Infinity", \'"Infinity"\'));\n'
        file.write_text(f"const wsolkern = require({json.dumps(str(engine))});\n{inputs}{program}")
        done = subprocess.run(["node", file], input=json.dumps(question), capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


CURVES = """
const answers = question.maps.map((map, i) => {
  const values = Float64Array.from(map.flat().map(Number));
  const prepared = wsolkern.prepare(values, map.length, map[0].length, ...question.size);
  return question.normalizations.map((name) => {
    const score = wsolkern.normalized(prepared, name);
    return ["largest", "all"].map((which) =>
      Array.from(wsolkern.curve(score, question.thresholds, question.truths[i].flat(), which)));
  });
});
console.log(JSON.stringify(answers));
"""
BOXES = """
console.log(JSON.stringify(question.maps.map((map) => {
  const values = map.flat().map(Number);
  const prepared = wsolkern.prepare(values, map.length, map[0].length, ...question.size);
  const score = wsolkern.normalized(prepared, question.normalization);
  const boxesAt = (threshold) => wsolkern.contourBoxes(score, wsolkern.levelOf(score, threshold), question.contours);
  const boxes = question.thresholds.map((threshold) => Array.from(boxesAt(threshold)));
  return { map: Array.from(score.map), levels: Array.from(score.levels), boxes };
})));
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", slow_but([1], [1, 20]), ids=lambda num: f"{num}_maps")
def test_the_engine_of_the_page_has_the_ious_of_the_operations(node, kind, num):
    rng = np.random.default_rng(num)
    num = max(num, 5) if kind == "odd values" else num
    cams, truths = cams_of(kind, num, rng), truths_of(num, rng)
    names = ODD if num > 5 else ODD[:1] + ODD[3:6]
    thresholds = DEFAULT_THRESHOLDS[::13]
    question = {"maps": cams.astype(np.float64).tolist(), "truths": [each.tolist() for each in truths]}
    question |= {"size": SIZE, "normalizations": names, "thresholds": thresholds.tolist()}
    found = np.array(node(CURVES, question)).transpose(2, 1, 0, 3)
    expected = np.asarray(box_ious(cams, truths, names, thresholds, contours="both", size=SIZE))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("contours", ["all", "largest"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", slow_but(["ivr:0.4321"], ODD))
def test_the_engine_of_the_page_has_the_boxes_of_the_operations(node, kind, contours, name):
    cams = cams_of(kind, 5 if kind == "odd values" else 2, np.random.default_rng(5))
    thresholds = np.linspace(0, 0.99, 12)
    question = {"maps": cams.astype(np.float64).tolist(), "size": SIZE, "normalization": name, "contours": contours}
    answers = node(BOXES, {**question, "thresholds": thresholds.tolist()})
    scores = normalize(cams, name, SIZE)
    expected = threshold_boxes(scores, thresholds, contours=contours)
    for cam, score, found, lists in zip(cams, scores, answers, expected, strict=True):
        np.testing.assert_array_equal(found["levels"], (score.ravel() * 255).astype(np.uint8))
        if np.isfinite(cam).all():
            np.testing.assert_array_equal(found["map"], resize(cam, SIZE).ravel())
        for boxes, some in zip(found["boxes"], lists, strict=True):
            assert sorted(map(tuple, np.reshape(boxes, (-1, 4)).tolist())) == sorted(map(tuple, some.tolist()))


def test_curves_come_back_from_their_runs(seed):
    curves = np.random.default_rng(seed).integers(0, 3, (7, 50)).astype(np.float32)
    num, begin, value = encoding.change_points(curves)
    lengths = np.diff(np.append(begin, 0))
    lengths[lengths <= 0] += 50
    np.testing.assert_array_equal(np.repeat(value, lengths).reshape(7, 50), curves)
    assert num.sum() == len(begin)


def small_page(**how):
    rng = np.random.default_rng(1)
    return page_of({"CAM": cams_of("peaks", 6, rng)}, truths_of(6, rng), **how)


def test_a_page_loads_nothing():
    html = render(small_page(with_thumbnails=True))
    assert "default-src 'none'" in html
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert re.findall(r"""(?:src|href)=["']?([^"'> ]*)""", markup) == ["#viewer"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)


def test_texts_of_a_data_set_stay_texts():
    evil = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\"'`&amp;",
        "\u2028é",
        "a/b.jpg",
        "-->",
    ]
    html = render(small_page(ids=evil))
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert data["ids"] == evil


def test_the_same_page_is_the_same_bytes():
    assert render(small_page()) == render(small_page())


def test_a_page_without_images_has_sections_and_no_viewer():
    page = small_page(sections=[Section("Figures & more", "<p>text</p>")])
    html = render(page)
    assert '<h2 id="heading-1">Figures &amp; more</h2>\n<p>text</p>' in html
    empty = type(page)(
        **{**vars(page), "ids": (), "truths": (), "runs": (), "classes": None, "image_sizes": np.empty((0, 2))}
    )
    html = render(empty)
    assert "<p>text</p>" in html
    assert 'id="grid"' not in html
    assert "<script" not in html


@pytest.mark.parametrize("part", ["truths", "classes", "image_sizes"])
def test_parts_of_other_images_are_refused(part):
    page = small_page()
    with pytest.raises(ValueError, match=f"{part}: expected 6 images, found 5"):
        render(type(page)(**{**vars(page), part: getattr(page, part)[:5]}))


def test_views_of_other_normalizations_are_refused():
    page = small_page()
    with pytest.raises(ValueError, match=r"CAM: expected 5 views, found 4"):
        render(type(page)(**{**vars(page), "normalizations": [*NORMALIZATIONS, "ivr:0.9"]}))


def test_the_parts_of_the_page_are_installed():
    for name in ("engine.js", "viewer.js", "style.css", "page.html.jinja"):
        assert (resources.files("wsolkern.report.page") / name).is_file()
    patterns = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    for ending in ("css", "jinja", "js"):
        assert f'"report/page/*.{ending}"' in patterns

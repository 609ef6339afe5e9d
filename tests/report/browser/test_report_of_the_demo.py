"""A report of the demo, made by its commands, in a real browser: its tables and its viewer say what the engine counts.

In: the demo's CAMs, `wsolkern report`. Out: verdicts, and pictures of what was seen. Source: none.
"""

import json

import numpy as np
import pytest
from pages import slide
from typer.testing import CliRunner

from wsolkern import demo
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.metrics import Evaluator
from wsolkern.ops import box_ious

pytest.importorskip("jinja2")
pytest.importorskip("efficientnet_lite_pytorch", reason="the demo extra is not installed")
NAMES = ("minmax", "max", "pas:0.9", "ivr:0.45")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of the demo's CAMs at 7 x 7, with its photographs; the store's maps by id; the split."""
    folder = tmp_path_factory.mktemp("demo")
    run = CliRunner().invoke(app, ["demo", "--out", str(folder / "demo"), "--resolution", "224", "--no-picture"])
    assert run.exit_code == 0, run.output
    cams, metadata = folder / "demo" / "cams", folder / "demo" / "metadata"
    page = folder / "report.html"
    command = ["report", str(cams), "--metadata", str(metadata), "-o", str(page), "-n", " ".join(NAMES)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    split = load_metadata(metadata)
    maps, boxes, _ = demo.demo_cams(resolution=224)
    return page.read_text(encoding="utf-8"), maps, boxes, split


def test_tables_say_what_the_engine_counts(opened, made, keep_picture):
    html, maps, _, split = made
    page = opened(html)
    keep_picture(page, "demo-top")
    evaluator = Evaluator(NAMES, boxes=split.resized_boxes((224, 224)))
    evaluator.update(maps, split.image_ids)
    result = evaluator.compute()
    rows = page.locator("#section-1 tbody").first.locator("tr").all()
    assert len(rows) == len(NAMES)
    for row, expected in zip(rows, result, strict=True):
        cells = [each.inner_text() for each in row.locator("th, td").all()]
        assert cells[0] == expected.name
        found = {each.split(" ")[0] for each in cells[1:]}
        assert f"{expected.max_box_acc_v2:.2f}" in found
        assert f"{expected.max_box_acc[0.5]:.2f}" in found


def test_the_viewer_of_the_demo_says_what_the_engine_counts(opened, made, keep_picture):
    html, maps, boxes, split = made
    page = opened(html)
    page.evaluate("document.getElementById('viewer').scrollIntoView()")
    page.locator("#grid button").first.wait_for()
    keep_picture(page, "demo-grid")
    page.locator("#text").fill(split.image_ids[3])
    page.locator('#grid .cell[data-image="3"] button').click()
    ious = box_ious(maps[3:4], boxes[3:4], NAMES, size=(224, 224))[:, 0]
    for m, name in enumerate(NAMES):
        page.locator("#marks").get_by_role("button", name=name, exact=True).click()
        for place in (0, 100, 250, 600):
            slide(page, "threshold", place)
            panel = page.locator("#panels .panel").first
            assert float(panel.get_attribute("data-iou")) == ious[m, place]
            assert len(json.loads(panel.get_attribute("data-boxes"))) % 4 == 0
    keep_picture(page, "demo-large")
    assert np.isfinite(ious).all()

"""The paper's figures from one's own stores: their values against the studies they come from, artists against values.

In: the small world of studies. Out: checks.
Source: Kim et al., arXiv 2107.13221, figures 1 to 6.
"""

import json

import numpy as np
import pytest
from small_world import SIZE, split_of
from typer.testing import CliRunner

from wsolkern import normalize, studies
from wsolkern.cams import CamStore
from wsolkern.cli import app
from wsolkern.errors import ArgumentError

HOW = {"size": (SIZE, SIZE)}


@pytest.fixture
def kept(monkeypatch):
    """The figures that are saved."""
    pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
    from wsolkern.report import style

    figures = []
    monkeypatch.setattr(style, "save", lambda path, figure: figures.append(figure))
    return figures


def draw(found):
    from wsolkern.report.figures import draw_figure

    draw_figure("a.svg", found)


def test_figure_1_is_the_mean_of_the_table(world, kept):
    stores = [world / "CUB-test", world / "OpenImages-test"]
    how = {"mask_roots": {"OpenImages": world}, **HOW}
    found = studies.figure(1, stores, world / "metadata", **how)
    cells = studies.table(stores, world / "metadata", **how).tables[0].figures.values()
    expected = {(each.dataset, each.normalization): each.value for each in cells if each.backbone == "VGG16"}
    bars = {
        (dataset, family): value
        for (dataset, _), methods in found.bars.items()
        for family, value in methods["CAM"].items()
    }
    assert bars == expected and len(bars) == 8
    draw(found)
    drawn = [bar.get_height() for axis in kept[0].axes for bar in axis.patches]
    assert drawn == list(bars.values())


def test_figure_2_is_one_map(world, kept):
    found = studies.figure(2, [world / "CUB-test"], image_ids=["CUB-test-5.jpg"], **HOW)
    cam = CamStore(world / "CUB-test").read("CUB-test-5.jpg")
    for normalization, scores in found.alignment.scores.items():
        np.testing.assert_array_equal(np.sort(normalize(cam, normalization, (SIZE, SIZE)).ravel()), scores)
    draw(found)
    for line, scores in zip(kept[0].axes[0].lines, found.alignment.scores.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([found.alignment.values, scores], axis=1))


def test_figure_3_is_what_show_shows(world, kept):
    found = studies.figure(3, [world / "CUB-test"], world / "metadata", **HOW)
    expected = studies.show(world / "CUB-test", split_of(world, "CUB/test"), **HOW)
    assert found.to_dict()["shown"]["images"] == expected.to_dict()["images"]
    draw(found)
    assert len(kept[0].axes) == 8 * 5


@pytest.mark.parametrize("number", [4, 6])
def test_figures_4_and_6_are_what_diagnose_finds(world, kept, number):
    split = split_of(world, "CUB/test") if number == 4 else None
    (expected,) = studies.diagnose([world / "CUB-test"], split, **HOW).stores
    found = studies.figure(number, [world / "CUB-test"], world / "metadata", **HOW)
    (run,) = found.runs
    np.testing.assert_array_equal(run.minima, expected.extremes.minima)
    assert found.to_dict()["extremes"][0]["num_localized"] == expected.to_dict()["num_localized"]
    draw(found)
    assert len(kept[0].axes) == (4 if number == 4 else 1)
    assert sum(len(each.get_offsets()) for each in kept[0].axes[0].collections) == 40


def test_figure_5_is_what_sweep_finds(world, kept):
    stores = [world / "CUB-val", world / "CUB-test"]
    found = studies.figure(5, stores, world / "metadata", num_resamples=50, **HOW)
    draw(found)
    for axis, store, split in zip(kept[0].axes, stores, ("CUB/val", "CUB/test"), strict=True):
        result = studies.evaluate(store, split_of(world, split), "max ivr:0.00..0.95/0.05", **HOW).result
        lines = {each.get_label(): each.get_ydata() for each in axis.lines}
        np.testing.assert_array_equal(lines["ivr:P"], [row.max_box_acc_v2 for row in result][1:])
        assert set(lines["max"]) == {result["max"].max_box_acc_v2}
        assert len(axis.containers) == 3


@pytest.mark.parametrize(
    ("number", "stores", "how", "message"),
    [
        (7, ["CUB-test"], {}, "number: expected a figure from 1 to 6, found 7"),
        (3, ["CUB-test", "CUB-val"], {}, "stores: expected one, found 2"),
        (5, [], {}, "stores: expected some, found 0"),
        (5, ["CUB-test"], {"metadata_root": None}, "metadata_root: needed for figure 5"),
        (5, ["CUB-test"], {"image_ids": ["a"]}, "image_ids: is for figure 2 and 3, found figure 5"),
        (4, ["CUB-test", "OpenImages-test"], {}, "stores: figure 4 is about boxes, found .*OpenImages-test with masks"),
        (
            2,
            ["CUB-test"],
            {"image_ids": ["a"]},
            "image_ids: expected an image of .*, such as CUB-test-0.jpg, found 'a'",
        ),
    ],
)
def test_what_is_refused(world, number, stores, how, message):
    with pytest.raises(ArgumentError, match=message):
        studies.figure(number, [world / each for each in stores], **{"metadata_root": world / "metadata", **HOW, **how})


def test_the_command(world, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
    numbers, out = tmp_path / "a.json", tmp_path / "a.pdf"
    run = ["figure", 6, world / "CUB-test", "-o", out, "--size", SIZE, "--json", numbers]
    done = CliRunner().invoke(app, [*map(str, run)])
    assert done.exit_code == 0, done.output
    assert out.read_bytes().startswith(b"%PDF") and "figure 6 in" in done.output
    expected = studies.figure(6, [world / "CUB-test"], **HOW).to_dict()
    assert json.loads(numbers.read_text()) == json.loads(json.dumps(expected))

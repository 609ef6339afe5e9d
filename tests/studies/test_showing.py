"""What `wsolkern show` draws: its values against the evaluation's, and the artists of its pictures against its values.

In: the small world of studies. Out: checks.
Source: none.
"""

import json

import numpy as np
import pytest
from PIL import Image
from small_world import HOW, SIZE, split_of
from typer.testing import CliRunner

from wsolkern import studies
from wsolkern.cams import CamStore
from wsolkern.cli import app
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.localization import SelectedThresholds
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.protocol import Protocol
from wsolkern.normalization import Normalization
from wsolkern.studies.counting import evaluator_for
from wsolkern.studies.showing import NUM_SHOWN

NAMES = "minmax ivr:0.3"


def shown(world, names=NAMES, split="CUB/test", **how):
    store = world / split.replace("/", "-")
    return studies.show(store, split_of(world, split), names, **{**HOW, **how})


def test_all_images_have_as_many_hits_as_the_evaluation(world):
    split = split_of(world, "CUB/test")
    found = shown(world, image_ids=split.image_ids)
    result = studies.evaluate(world / "CUB-test", split, NAMES, **HOW).result
    assert [each.title for each in found.images] == list(split.image_ids)
    for place, row in enumerate(result):
        for delta, iou_threshold in enumerate(result.iou_thresholds):
            each = [image.views[place].found[delta] for image in found.images]
            assert {one.threshold for one in each} == {row.best_threshold_v2[iou_threshold]}
            assert 100 * sum(one.is_hit for one in each) / 40 == row.max_box_acc_v2_per_iou[iou_threshold]


def test_worst_and_best_are_the_ends_of_one_order(world):
    split = split_of(world, "CUB/test")
    everything = shown(world, image_ids=split.image_ids)
    mean = {each.title: np.mean([one.iou for one in each.views[0].found]) for each in everything.images}
    ranked = sorted(split.image_ids, key=lambda each: mean[each])  # stable, as the split is
    found = shown(world, worst=3, best=2)
    groups = [each.group for each in found.images]
    assert [each.title for each in found.images[:3]] == ranked[:3] and len(set(groups)) == 2
    assert [mean[each.title] for each in found.images[3:]] == [mean[ranked[-1]], mean[ranked[-2]]]


def test_between_shows_what_one_localizes_and_the_other_does_not(world):
    split = split_of(world, "CUB/test")
    everything = shown(world, "ivr:0.3 minmax", image_ids=split.image_ids)
    hits = [{each.title: each.views[place].found[1].is_hit for each in everything.images} for place in (0, 1)]
    only = [{name for name in split.image_ids if hits[a][name] > hits[1 - a][name]} for a in (0, 1)]
    found = shown(world, None, between=("ivr:.3", "minmax"), num=40)
    about = found.agreement
    assert (about.first, about.second, about.iou_threshold) == ("ivr:0.3", "minmax", 0.5)
    assert (about.only_first, about.only_second) == (len(only[0]), len(only[1])) and only[0] and only[1]
    assert about.both + about.only_first + about.only_second + about.neither == found.num_images == 40
    names = [each.title for each in found.images]
    assert set(names[: len(only[0])]) == only[0] and set(names[len(only[0]) :]) == only[1]
    differences = [each.views[0].found[1].iou - each.views[1].found[1].iou for each in found.images]
    first = differences[: len(only[0])]
    assert first == sorted(first, reverse=True) and differences[len(only[0]) :] == sorted(differences[len(only[0]) :])
    assert len(shown(world, None, between=("ivr:.3", "minmax"), num=1).images) == 2


def test_without_a_choice_images_are_spread_over_the_split(world):
    split = split_of(world, "CUB/test")
    found = shown(world)
    places = [split.image_ids.index(each.title) for each in found.images]
    assert len(places) == NUM_SHOWN and places[0] == 0 and places[-1] == 39 and set(np.diff(places)) <= {5, 6}
    assert [each.title for each in shown(world, num=100).images] == list(split.image_ids)


def test_a_mask_has_the_iou_of_its_row(world):
    split = split_of(world, "OpenImages/test")
    how = {"mask_root": world, **HOW}
    found = shown(world, split="OpenImages/test", mask_root=world, image_ids=split.image_ids)
    rows = studies.per_image(world / "OpenImages-test", split, NAMES, **how).rows
    expected = {(row["image_id"], row["normalization"]): (row["threshold"], row["iou"]) for row in rows}
    ious = {(each.title, view.name): (view.threshold, view.iou) for each in found.images for view in each.views}
    assert ious == expected and len(set(ious.values())) > 20


@pytest.mark.parametrize("at", [0.25, "selected"])
def test_thresholds_from_elsewhere(world, at):
    by_iou = {0.3: 0.1, 0.5: 0.2, 0.7: 0.35}
    if at == "selected":
        at = SelectedThresholds(Metric.MAX_BOX_ACC_V2, {Normalization.parse("max"): by_iou})
    found = shown(world, "max", at=at)
    expected = by_iou if not isinstance(at, float) else dict.fromkeys(by_iou, at)
    assert {one.iou_threshold: one.threshold for one in found.images[0].views[0].found} == expected


def test_a_folder_of_maps_gives_what_the_store_gives(world):
    split = split_of(world, "CUB/test")
    one, other = (studies.show(world / each, split, NAMES, **HOW).to_dict() for each in ("CUB-test", "maps"))
    assert one["images"] == other["images"]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"image_ids": ["no.jpg"]}, ArgumentError, "image_ids: expected images of .*, found 'no.jpg'"),
        ({"worst": -1}, ArgumentError, "worst: expected a number of images"),
        ({"num": 0}, ArgumentError, "num: expected a number of images"),
        ({"worst": 1, "between": ("max", "minmax")}, ArgumentError, "worst, between: expected one of them"),
        ({"between": ("max", "max")}, ArgumentError, "between: expected two different"),
        ({"iou_thresholds": (0.1, 0.2, 0.3, 0.4)}, ArgumentError, "at most 3 to draw, found 4"),
        ({"images": "nowhere"}, DatasetError, "nowhere: no such folder of images"),
        ({"images": "."}, DatasetError, "CUB-test-0.jpg: expected an image"),
    ],
)
def test_what_is_refused_before_any_map_is_read(world, how, error, message, monkeypatch):
    monkeypatch.setattr("wsolkern.studies.showing.evaluate", lambda *_, **__: pytest.fail("the work began"))
    with pytest.raises(error, match=message):
        shown(world, **how)


def patches(axis):
    """(x0, y0, x1, y1, colour) of the boxes that an axis has."""
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    boxes = [each for each in axis.patches if isinstance(each, Rectangle)]
    return [(*each.get_bbox().extents, to_hex(each.get_edgecolor())) for each in boxes]


def test_the_picture_has_the_values(world, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
    from wsolkern.report import pictures, style

    for name in split_of(world, "CUB/test").image_ids:
        Image.fromarray(np.full((48, 60, 3), 128, np.uint8)).save(tmp_path / name, "PNG")
    found = shown(world, worst=2, images=tmp_path)
    kept = []
    monkeypatch.setattr(style, "save", lambda path, figure: kept.append(figure))
    pictures.draw_localizations(tmp_path / "a.svg", found.images, found.caption)
    axes = kept[0].axes
    assert len(axes) == 2 * 3
    for image, (truth, *others) in zip(found.images, (axes[:3], axes[3:]), strict=True):
        assert [each[4] for each in patches(truth)] == ["#ffffff"]
        for axis, view in zip(others, image.views, strict=True):
            drawn = patches(axis)[1:]  # behind the ground truth
            for (*corners, colour), one, look in zip(drawn, view.found, style.BOXES, strict=True):
                assert colour == look.colour.lower()
                scale = np.array([60, 48, 60, 48]) / SIZE
                np.testing.assert_allclose(corners, (np.array(one.box) + (0, 0, 1, 1)) * scale - 0.5, atol=1e-9)
            texts = [each.get_text().rstrip("×") for each in axis.texts]
            assert texts == [f"{one.iou:.2f}" for one in view.found]
            assert [each.get_text().endswith("×") for each in axis.texts] == [not one.is_hit for one in view.found]
    with pytest.raises(ValueError, match="images: expected at least one"):
        pictures.draw_localizations(tmp_path / "a.svg", [])


def test_the_command(world, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
    out, numbers = tmp_path / "a.svg", tmp_path / "a.json"
    common = ["--metadata", world / "metadata/CUB/test", "--size", SIZE, "--interval", 0.05, "-o", out]
    run = [*map(str, ["show", world / "CUB-test", *common, "--json", numbers])]
    done = CliRunner().invoke(app, [*run, "--between", "ivr:0.3", "minmax", "--num", "2"])
    assert done.exit_code == 0, done.output
    assert "of 40 images at IoU 0.5" in done.output
    found = json.loads(numbers.read_text())
    assert found["images"] == shown(world, None, between=("ivr:0.3", "minmax"), num=2).to_dict()["images"]
    picture = out.read_text()
    assert "minmax localizes, ivr:0.3 does not" in picture, "letters are letters"
    done = CliRunner().invoke(app, [*run, "--ids", "CUB-test-3.jpg CUB-test-1.jpg", "--ids", "CUB-test-0.jpg"])
    assert done.exit_code == 0, done.output
    assert [each["image_id"][9] for each in json.loads(numbers.read_text())["images"]] == ["3", "1", "0"]
    done = CliRunner().invoke(app, [*run[:-3], str(tmp_path / "a.xyz")])
    assert done.exit_code == 2 and "--out: " in done.output


@pytest.mark.parametrize("split", ["CUB/test", "OpenImages/test"])
def test_a_sweeps_intervals_are_those_of_select(world, split):
    test, names = split_of(world, split), "max ivr:0.2..0.3/0.1"
    how = HOW | ({} if split == "CUB/test" else {"mask_root": world})
    store = world / split.replace("/", "-")
    found = studies.sweep(store, test, names, num_resamples=50, seed=4, confidence=0.9, **how)
    assert studies.sweep(store, test, names, **how).bootstrap is None
    evaluator = BootstrapEvaluator(
        Protocol(names, **HOW),
        evaluator_for(test, names, **how).truth,
        Metric.of(test.kind),
        test.image_ids,
    )
    cams = CamStore(store)
    for name in reversed(test.image_ids):
        evaluator.update(cams.read(name)[None], [name])
    expected = evaluator.compute(50, seed=4, confidence=0.9)
    np.testing.assert_array_equal(found.bootstrap.resampled, expected.resampled)
    content = found.to_dict()["bootstrap"]["normalizations"]
    assert content == [expected[each].to_dict() for each in expected.normalizations] and len(content) == 3


@pytest.mark.parametrize("command", ["show", "figure"])
def test_files_that_cannot_be_written_are_said_before_the_work(world, tmp_path, command, monkeypatch):
    pytest.importorskip("matplotlib", reason="pictures need the report extra (matplotlib)")
    monkeypatch.setattr(studies, command, lambda *_, **__: pytest.fail("the work began"), raising=False)
    start = ["show", world / "CUB-test", "--metadata", world / "metadata/CUB/test"]
    if command == "figure":
        start = ["figure", 6, world / "CUB-test"]
    for out, json_file, option in (
        (tmp_path / "none" / "a.png", tmp_path / "a.json", "--out"),
        (tmp_path / "a.png", tmp_path / "none" / "a.json", "--json"),
        (tmp_path / "a.png", tmp_path / "a.png", "--json"),
    ):
        done = CliRunner().invoke(app, [*map(str, [*start, "-o", out, "--json", json_file])])
        assert done.exit_code == 2 and option in done.output and not list(tmp_path.iterdir()), done.output

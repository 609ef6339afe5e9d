"""Report and compare: what they gather equals what each study gives by itself.

In: the small world. Out: figures, intervals, groups, and what each image gives.
Source: Evaluator, evaluate, per_image, show and sweep, each of which is tested where it is.
"""

import shutil
import tracemalloc

import numpy as np
import pytest
from shared import write_split
from small_world import HOW, NUM_IMAGES, split_of

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics import GroundTruth, Protocol
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.metrics.metric import Metric
from wsolkern.metrics.per_image import Chosen
from wsolkern.ops import box_ious
from wsolkern.studies import looking, reporting
from wsolkern.studies.showing import views_of

NAMES = "minmax ivr:0.3"
MORE = {"candidates": "max ivr:0.1..0.4/0.1", "num_resamples": 50, "confidence": 0.9, **HOW}


def report_of(world, name="CUB-test", split="CUB/test", normalizations=NAMES, **how):
    return studies.report(world / name, split_of(world, split), normalizations, **{**MORE, **how})


def without_seconds(content: dict) -> dict:
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.fixture(scope="module")
def found(world):
    return report_of(world)


@pytest.fixture(scope="module")
def masks(world):
    return report_of(world, "OpenImages-test", "OpenImages/test", mask_root=world)


def test_the_figures_are_those_of_a_sweep(world, found):
    every = "minmax ivr:0.3 max ivr:0.1 ivr:0.2 ivr:0.4"
    alone = studies.sweep(world / "CUB-test", split_of(world, "CUB/test"), every, **HOW)
    (run,) = found.runs
    assert without_seconds(run.evaluation.to_dict(curves=True)) == without_seconds(alone.to_dict(curves=True))
    listed = studies.evaluate(world / "CUB-test", split_of(world, "CUB/test"), NAMES, **HOW)
    assert run.result.to_dict(curves=True) == listed.result.to_dict(curves=True)
    assert [row.name for row in run.result] == NAMES.split()


@pytest.mark.parametrize("name", ["found", "masks"])
def test_intervals_are_those_of_a_sweep(world, name, request):
    found = request.getfixturevalue(name)
    masks = {"mask_root": world} if name == "masks" else {}
    place = ("OpenImages-test", "OpenImages/test") if masks else ("CUB-test", "CUB/test")
    how = {**HOW, **masks, "num_resamples": 50, "confidence": 0.9}
    alone = studies.sweep(world / place[0], split_of(world, place[1]), NAMES, **how).bootstrap
    mine = found.runs[0].bootstraps[alone.metric]
    assert mine.to_dict() == alone.to_dict()
    np.testing.assert_array_equal(mine.resampled, alone.resampled)


def test_intervals_of_max_box_acc_are_about_its_figure(found):
    (run,) = found.runs
    bootstrap = run.bootstraps[Metric.MAX_BOX_ACC]
    for row in run.result:
        assert bootstrap[row.name].figure == row.max_box_acc[0.5]
    assert len(reporting.pairs(run, Metric.MAX_BOX_ACC)) == 1


@pytest.mark.parametrize("name", ["found", "masks"])
def test_groups_are_those_of_evaluate(world, name, request):
    found = request.getfixturevalue(name)
    masks = {"mask_root": world} if name == "masks" else {}
    place = ("OpenImages-test", "OpenImages/test") if masks else ("CUB-test", "CUB/test")
    assert [each.by for each in found.runs[0].groupings] == ["size", "class"]
    for each in found.runs[0].groupings:
        alone = studies.evaluate(world / place[0], split_of(world, place[1]), NAMES, by=each.by, **HOW, **masks)
        assert each.to_dict() == alone.grouping.to_dict()


def test_boxes_of_all_contours_are_those_that_show_draws(world, found):
    (run,), split = found.runs, split_of(world, "CUB/test")
    looked, boxes = run.looked, split.resized_boxes(HOW["size"])
    chosen = [Chosen.best(row) for row in run.result]
    assert looked.image_ids == split.image_ids
    grid = found.protocol.thresholds
    for m, row in enumerate(run.result):
        assert grid[looked.chosen[m]].tolist() == [*row.best_threshold_v2.values()]
    for n, image_id in enumerate(looked.image_ids):
        views = views_of(looked.maps[n], boxes[image_id], None, found.protocol, chosen)
        for m, view in enumerate(views):
            assert [each.box for each in view.found] == [tuple(each) for each in looked.boxes[m, n].tolist()]
            assert [each.iou for each in view.found] == looked.ious[m, n].tolist()


@pytest.mark.parametrize("contours", ["all", "largest"])
def test_curves_and_best_ious_are_those_of_box_ious(world, contours):
    found = report_of(world, contours=contours)
    looked, boxes = found.runs[0].looked, split_of(world, "CUB/test").resized_boxes(HOW["size"])
    truth = [boxes[each] for each in looked.image_ids]
    ious = box_ious(np.stack(looked.maps), truth, NAMES, HOW["thresholds"], contours=contours, size=HOW["size"])
    np.testing.assert_array_equal(looked.curves, ious.astype(np.float32))
    np.testing.assert_array_equal(looked.best_ious, ious.max(axis=2))
    np.testing.assert_array_equal(looked.ious, np.take_along_axis(ious, looked.chosen[:, None], axis=2))


def test_boxes_of_the_largest_contour_are_those_of_the_rows(world):
    found = report_of(world, contours="largest")
    (run,), split = found.runs, split_of(world, "CUB/test")
    rows = studies.per_image(world / "CUB-test", split, NAMES, at=run.result, **HOW).rows
    looked = run.looked
    for m, name in enumerate(NAMES.split()):
        mine = {key: each[rows.columns["normalization"] == name] for key, each in rows.columns.items()}
        assert mine["image_id"].tolist() == list(looked.image_ids)
        boxes = np.stack([mine[each] for each in ("x0", "y0", "x1", "y1")], axis=1)
        np.testing.assert_array_equal(boxes, looked.boxes[m, :, found.middle])
        np.testing.assert_array_equal(mine["iou"], looked.ious[m, :, found.middle])
        np.testing.assert_array_equal(mine["num_contours"], looked.num_contours[m])
        np.testing.assert_array_equal(mine["degenerate"], looked.degenerate[m])
        np.testing.assert_array_equal(mine["best_iou"], looked.best_ious[m])
        assert mine["error"].tolist() == [CATEGORIES[each] for each in looked.errors[m]]
    summed = [sum(each.values()) for each in looked.num_errors()]
    assert summed == [NUM_IMAGES, NUM_IMAGES]


def test_masks_have_the_ious_of_the_rows(world, masks):
    (run,), split = masks.runs, split_of(world, "OpenImages/test")
    rows = studies.per_image(world / "OpenImages-test", split, NAMES, at=run.result, mask_root=world, **HOW).rows
    for m, name in enumerate(NAMES.split()):
        mine = rows.columns["normalization"] == name
        np.testing.assert_array_equal(rows.columns["iou"][mine], run.looked.ious[m, :, 0])
        np.testing.assert_array_equal(rows.columns["best_iou"][mine], run.looked.best_ious[m])
        np.testing.assert_array_equal(rows.columns["degenerate"][mine], run.looked.degenerate[m])
    assert run.looked.boxes is None and not run.looked.maps


def test_maps_and_extremes_are_as_stored(world, found):
    store = CamStore(world / "CUB-test")
    for image_id, each in zip(found.runs[0].looked.image_ids, found.runs[0].looked.maps, strict=True):
        stored = store.read(image_id)
        assert each.dtype == stored.dtype
        np.testing.assert_array_equal(each, stored)
    from wsolkern.metrics.diagnostics import extremes

    np.testing.assert_array_equal(
        found.runs[0].looked.extremes, extremes(np.stack(found.runs[0].looked.maps), HOW["size"])
    )


def test_large_curves_are_in_a_file(world, found, monkeypatch):
    monkeypatch.setattr(looking, "_IN_MEMORY_BYTES", 0)
    curves = report_of(world).runs[0].looked.curves
    assert isinstance(curves, np.memmap)
    np.testing.assert_array_equal(curves, found.runs[0].looked.curves)


@pytest.fixture
def other(world, tmp_path):
    """A run of the same images but three, with other maps; and how many each run has."""
    source = CamStore(world / "CUB-test")
    rng = np.random.default_rng(5)
    with CamWriter(tmp_path / "other", Manifest(dataset="CUB", split="test", method="HaS")) as writer:
        names = list(source.image_ids)[3:]
        maps = np.stack([source.read(each) for each in names])
        writer.add(names, (maps + 0.5 * rng.normal(size=maps.shape)).astype(np.float32))
    return tmp_path / "other"


@pytest.mark.parametrize("swapped", [False, True])
def test_the_paired_difference_is_that_of_runs_with_these_images_alone(world, other, swapped):
    split = split_of(world, "CUB/test")
    order = (other, world / "CUB-test") if swapped else (world / "CUB-test", other)
    found = studies.compare(*order, split, NAMES, **MORE)
    common = split.image_ids[3:]
    assert found.image_ids == common
    assert [len(run.looked.image_ids) for run in found.runs] == ([37, 40] if swapped else [40, 37])
    judged = []
    for run in found.runs:
        from wsolkern.metrics.bootstrap import BootstrapEvaluator

        boxes = split.resized_boxes(HOW["size"])
        judge = BootstrapEvaluator(found.protocol, GroundTruth(boxes), "MaxBoxAccV2", common)
        places = found.places(run)
        judge.update(np.stack([run.looked.maps[place] for place in places]), common)
        judged.append(judge.compute(50, confidence=0.9))
    for each in found.differences[Metric.MAX_BOX_ACC_V2]:
        assert each == judged[0].difference(each.first, each.first, judged[1])
        assert each.first == each.second
    assert any(each.figure for each in found.differences[Metric.MAX_BOX_ACC_V2])
    assert found.to_dict()["differences"]["MaxBoxAccV2"][0]["first"] == "minmax"


def test_a_run_that_lacks_images_has_the_rest_of_each_array(world, other):
    split = split_of(world, "CUB/test")
    found = studies.report(other, split, NAMES, **MORE)
    looked, boxes = found.runs[0].looked, split.resized_boxes(HOW["size"])
    assert looked.image_ids == split.image_ids[3:] and len(found.runs[0].evaluation.counted.problems) == 3
    ious = box_ious(
        np.stack([CamStore(other).read(each) for each in looked.image_ids]),
        [boxes[each] for each in looked.image_ids],
        NAMES,
        HOW["thresholds"],
        size=HOW["size"],
    )
    np.testing.assert_array_equal(looked.curves, ious.astype(np.float32))


def test_score_maps_have_no_intervals(world, tmp_path):
    from wsolkern.ops import normalize

    store, split = CamStore(world / "CUB-test"), split_of(world, "CUB/test")
    for each in split.image_ids:
        np.save(tmp_path / f"{each}.npy", normalize(store.read(each), "minmax", HOW["size"]))
    found = report_of(tmp_path, tmp_path, split=world / "metadata/CUB/test", normalizations=None)
    (run,), protocol = found.runs, Protocol(None, **HOW)
    assert run.bootstraps == {} and found.protocol == protocol
    raw = report_of(world, normalizations="minmax")
    np.testing.assert_array_equal(run.looked.ious, raw.runs[0].looked.ious)
    np.testing.assert_array_equal(run.looked.boxes, raw.runs[0].looked.boxes)


@pytest.mark.parametrize(
    "how, text",
    [
        ({"contours": "both"}, "contours: expected all or largest, found 'both'"),
        ({"num_resamples": 3}, "num_resamples: expected at least"),
        ({"class_names": ["a"]}, "class_names: expected a name for each class up to 2, found 1"),
        ({"normalizations": "softmax"}, "softmax"),
        ({"thresholds": [0.1, 0.1]}, "thresholds: expected each once"),
        ({"mask_root": "."}, "mask_root: .* localizes objects with boxes"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(world, how, text, monkeypatch):
    monkeypatch.setattr(reporting, "sweep", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(ValueError, match=text):
        report_of(world, **how)


def test_a_wrong_second_run_is_said_before_the_first_is_counted(world, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "sweep", lambda *_, **__: pytest.fail("it began"))
    split = split_of(world, "CUB/test")
    for second, text in ((tmp_path / "none", "none"), (world / "CUB-val", "has none of the 40 images")):
        with pytest.raises(DatasetError, match=text):
            studies.compare(world / "CUB-test", second, split, NAMES, **MORE)
    with pytest.raises(ArgumentError, match="expected two runs"):
        studies.compare(world / "CUB-test", world / "CUB-test", split, NAMES, **MORE)
    broken = tmp_path / "broken"
    shutil.copytree(world / "CUB-test", broken)
    (broken / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match="manifest.json"):
        studies.compare(world / "CUB-test", broken, split, NAMES, **MORE)


def test_maps_that_go_between_the_passes_are_noticed(world, tmp_path, monkeypatch):
    maps, split = tmp_path / "maps", split_of(world, "CUB/test")
    shutil.copytree(world / "maps", maps)

    def counted(*arguments, **how):
        found = studies.sweep(*arguments, **how)
        (maps / f"{split.image_ids[3]}.npy").unlink()
        return found

    monkeypatch.setattr(reporting, "sweep", counted)
    with pytest.raises(DatasetError, match="40 images were read the first time and 39 the second"):
        studies.report(maps, split, NAMES, **MORE)


@pytest.mark.slow
def test_memory_does_not_hold_the_ious_of_all_images_and_thresholds(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "_IN_MEMORY_BYTES", 0)
    num, names = 3000, "minmax max pas:0.9 ivr:0.45"
    ids = [f"{number}.jpg" for number in range(num)]
    folder = write_split(tmp_path / "metadata", ids, size=(60, 48), box=(10, 10, 40, 40))
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        writer.add(ids, np.random.default_rng(0).normal(size=(num, 4, 4)).astype(np.float32))
    how = {"size": (24, 24), "candidates": None, "num_resamples": 50, "confidence": 0.9}

    def counted(*arguments, **how):
        found = studies.sweep(*arguments, **how)
        tracemalloc.reset_peak()  # what the engine takes does not depend on the number of images
        return found

    monkeypatch.setattr(reporting, "sweep", counted)
    tracemalloc.start()
    found = studies.report(tmp_path / "store", load_metadata(folder), names, **how)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    curves = found.runs[0].looked.curves
    assert curves.shape == (4, num, 1000) and peak < 4 * num * 1000 * 4  # not even as float32

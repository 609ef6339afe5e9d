"""``wsolkern sweep``: figures, curves, CSV, picture; interrupted, and killed at random moments.

In: a generated store with metadata. Out: files of the command, compared with single evaluations.
Source: the Evaluator, one normalization at a time, is what a sweep must equal.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from shared import slow_but, write_split
from typer.testing import CliRunner

from wsolkern import Evaluator
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_mask, load_metadata
from wsolkern.metrics.bootstrap import BootstrapEvaluator
from wsolkern.metrics.curves import PercentileCurve
from wsolkern.normalization import parse_all
from wsolkern.report import curves

NUM_IMAGES = 40
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
NAMES = "minmax max pas:0.9 ivr:0.00..0.95/0.05"


@pytest.fixture
def metadata(tmp_path):
    """40 images of 200 x 150 pixels with a box each."""
    return write_split(tmp_path / "metadata", IDS, size=(200, 150), box=lambda i: (2 * i, 20, 100 + 2 * i, 120))


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    with CamWriter(tmp_path / "store", Manifest(nwc=True), maps_per_shard=16) as writer:
        for start in range(0, NUM_IMAGES, 8):
            cams, nwc_cams = rng.normal(size=(2, 8, 5, 6)).astype(np.float32)
            writer.add(IDS[start : start + 8], cams, nwc_cams=nwc_cams)
    return tmp_path / "store"


def run(*arguments, code: int = 0):
    result = CliRunner().invoke(app, ["sweep", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def results(*arguments, code: int = 0) -> dict:
    """The JSON of the command, without what differs from run to run."""
    found = json.loads(run(*arguments, "--json", "-", code=code).stdout)
    del found["seconds"]
    return found


@pytest.mark.parametrize("nwc", [False, True])
def test_a_sweep_equals_single_evaluations(metadata, store, nwc):
    found = results(store, "--metadata", metadata, "--curves", *(["--nwc"] if nwc else []))
    boxes, read = load_metadata(metadata).resized_boxes(), CamStore(store)
    names = parse_all(NAMES)
    assert [row["normalization"] for row in found["normalizations"]] == list(map(str, names))
    for row, name in zip(found["normalizations"], names, strict=True):
        single = Evaluator([name], boxes=boxes)
        for image_id in IDS:
            single.update(read.read(image_id, nwc=nwc)[None], [image_id])
        assert row == single.compute().to_dict(curves=True)["normalizations"][0]


def test_curves_have_their_peaks(metadata, store):
    found = results(store, "--metadata", metadata, "-n", "max ivr:0..0.9/0.1 pas:0.8 pas:0.9 ivr:0.1..0.2/0.1+pas:0.9")
    by_name = {row["normalization"]: row for row in found["normalizations"]}
    assert [(each["name"], each["metric"]) for each in found["percentile_curves"]] == [
        (name, metric) for name in ("ivr:P", "pas:P", "ivr:P+pas:0.9") for metric in ("MaxBoxAccV2", "MaxBoxAcc")
    ]
    for curve in found["percentile_curves"]:
        for percentile, value in zip(curve["percentiles"], curve["values"], strict=True):
            row = by_name[curve["name"].replace("P", str(percentile))]
            assert value == (row["max_box_acc_v2"] if curve["metric"] == "MaxBoxAccV2" else row["max_box_acc"]["0.5"])
        first = curve["values"].index(max(curve["values"]))
        assert curve["peak"] == {"percentile": curve["percentiles"][first], "value": max(curve["values"])}


def test_what_is_printed(metadata, store):
    printed = run(store, "--metadata", metadata).stdout
    assert "MaxBoxAccV2 over P, ivr:P" in printed and " peak" in printed and "pas:P" not in printed
    markdown = run(store, "--metadata", metadata, "--markdown").stdout
    assert markdown.count("\n") == 2 + 23 and "peak" not in markdown
    once = run(store, "--metadata", metadata, "-n", "max max", "--markdown").stdout
    assert once.count("\n") == 3  # the same normalization twice is one row


def test_csv_and_picture(metadata, store, tmp_path):
    run(store, "--metadata", metadata, "--csv", tmp_path / "sweep.csv", "--plot", tmp_path / "sweep.png")
    found = results(store, "--metadata", metadata)
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for cells, row in zip(rows, found["normalizations"], strict=True):
        assert cells["normalization"] == row["normalization"] and cells["num_images"] == str(NUM_IMAGES)
        assert float(cells["max_box_acc_v2"]) == row["max_box_acc_v2"]
        assert float(cells["max_box_acc@0.5"]) == row["max_box_acc"]["0.5"]
        assert float(cells["threshold_v2@0.7"]) == row["best_threshold_v2"]["0.7"]
    assert [cells["ivr"] for cells in rows[2:5]] == ["", "0.0", "0.05"] and rows[2]["pas"] == "0.9"
    assert Image.open(tmp_path / "sweep.png").size[0] > 500


def test_masks_give_pxap_curves(tmp_path, store):
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(np.pad(np.full((50, 60), 255, np.uint8), 40)).save(folder / "a.png")
    write_split(folder, IDS[:6], mask="a.png")
    arguments = store, "--metadata", folder, "--mask-root", folder, "-n", "ivr:0.1..0.5/0.2"
    (curve,) = results(*arguments)["percentile_curves"]
    evaluator = Evaluator("ivr:0.1..0.5/0.2", masks=dict.fromkeys(IDS, load_mask(folder, ["a.png"])))
    for image_id in IDS[:6]:
        evaluator.update(CamStore(store).read(image_id)[None], [image_id])
    assert curve["values"] == [row.pxap for row in evaluator.compute()] and curve["metric"] == "PxAP"
    run(*arguments, "--csv", tmp_path / "sweep.csv")
    assert "pxap" in (tmp_path / "sweep.csv").read_text().splitlines()[0]


def test_a_damaged_shard_costs_its_own_maps_only(metadata, store):
    shard = store / "shards" / "000001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    found = results(store, "--metadata", metadata, code=terminal.PROBLEMS)
    assert found["num_images"] == NUM_IMAGES - 16 and list(found["missing"]) == IDS[16:32]
    assert all("000001.safetensors" in reason for reason in found["missing"].values())


def test_wrong_arguments_are_one_line(metadata, store, tmp_path):
    assert "no such folder" in run(tmp_path / "nowhere", "--metadata", metadata, code=2).stderr
    assert "range" in run(store, "--metadata", metadata, "-n", "ivr:0.9..0/0.1", code=2).stderr
    one = run(store, "--metadata", metadata, "-n", "max", "--plot", tmp_path / "one.png", code=2).stderr
    assert "--plot: expected two percentiles of one normalization" in one
    with CamWriter(tmp_path / "scores", Manifest(content="score maps")) as writer:
        writer.add(IDS[:1], np.zeros((1, 224, 224)))
    assert "--score-maps" in run(tmp_path / "scores", "--metadata", metadata, code=2).stderr
    evaluated = CliRunner().invoke(app, ["evaluate", "--score-maps", str(store), "--metadata", str(metadata)])
    assert evaluated.exit_code == 2 and "holds raw CAMs, expected score maps" in evaluated.stderr


# The command in a process of its own that works through the store one map at a time, slowly, and saves after each.
SLOW = """
import sys, time
from wsolkern.studies import counting
run = counting.SplitCount.run
def slowly(self, source, progress, **options):
    def waiting(done):
        progress(done)
        print(done, flush=True)
        time.sleep(0.03)
    return run(self, source, **{**options, "save_seconds": 0, "batch_size": 1}, progress=waiting)
counting.SplitCount.run = slowly
from wsolkern.cli import app
app(sys.argv[1:])
"""


def start(num_maps: int, *arguments) -> subprocess.Popen:
    """The process, when it has counted so many maps."""
    command = [sys.executable, "-c", SLOW, "sweep", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for done in range(num_maps):
        assert process.stdout.readline() != "", f"ended after {done} maps: {process.stderr.read()}"
    return process


@pytest.mark.parametrize("named", slow_but([False], [True, False]))
def test_ctrl_c_keeps_what_is_done(metadata, store, tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    arguments = store, "--metadata", metadata
    process = start(5, *arguments, *(["--resume", "mine.state"] if named else []))
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    (state,) = tmp_path.glob("*.state")
    assert f"go on with --resume {state.name}" in printed and (state.name == "mine.state") == named
    whole = results(*arguments)
    assert results(*arguments, "--resume", state) == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_going_on_after_sigkill(metadata, store, tmp_path, draws):
    state = tmp_path / "state"
    arguments = store, "--metadata", metadata, "--resume", state
    for _ in range(3):  # tests/metrics/test_counting.py kills sixty times, below the command line
        process = start(draws.randint(1, 9), *arguments)
        time.sleep(draws.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert results(*arguments) == results(store, "--metadata", metadata)
    assert {each.name for each in tmp_path.iterdir()} <= {"state", "state.unfinished", "store", "metadata"}


@pytest.mark.parametrize("resumed", [False, True])
def test_ctrl_c_among_the_resamples_promises_nothing(metadata, store, tmp_path, monkeypatch, resumed):
    """No state is left that nothing can go on from; one that was asked for has the first pass."""
    monkeypatch.chdir(tmp_path)
    arguments = [store, "--metadata", metadata, "-n", "max ivr:0.3", "--size", 32, "--num-bootstrap", 39]
    expected, state = results(*arguments), ["--resume", "state"] if resumed else []
    with monkeypatch.context() as patch:
        update = BootstrapEvaluator.update

        def stopped(self, cams, image_ids):
            update(self, cams, image_ids)
            os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(BootstrapEvaluator, "update", stopped)
        said = " ".join(run(*arguments, *state, code=130).stderr.split())
    assert "interrupted: resampling: 16 of 40 images are counted and are lost" in said
    assert {each.name for each in tmp_path.iterdir()} == {"metadata", "store", *state[1:]}
    assert results(*arguments, *state) == expected


def test_a_flat_curve_has_a_table():
    curve = PercentileCurve("ivr:P", "PxAP", np.array([0.1, 0.2]), np.array([50.0, 50.0]))
    assert curve.peak == 0 and curves.curve_table(curve).row_count == 2

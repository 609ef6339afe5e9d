"""The GPU benchmark end to end, in sizes that the stand-in on the host manages; no speed is looked at."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

from benchmarks import gpu, gpu_first, gpu_peers, inputs
from benchmarks.harness import WrongResult

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


@pytest.mark.slow
def test_a_dry_run(cuda, tmp_path, capsys):
    steps = tmp_path / "steps.tsv"
    steps.write_text("build\t0\t12\tSuccessfully installed wsolkern\ntests\t1\t3\t1 failed, 9 passed\n")
    assert gpu.main(["--dry-run", "--save", str(tmp_path), "--steps", str(steps)]) == 0
    printed = capsys.readouterr().out
    assert "DRY RUN" in printed and "tests: exit code 1, 3 s; 1 failed, 9 passed" in printed
    assert printed.rstrip().splitlines()[-1].startswith("| evaluation added to ResNet-50")

    (file,) = tmp_path.glob("*-gpu-*.json")
    results = json.loads(file.read_text())
    assert results["wrong_results"] == results["errors"] == results["left_out"] == []
    assert results["options"]["dry_run"] and results["machine"]["device"]["name"]
    assert results["copy_bytes_per_second"] > 0
    assert [step["name"] for step in results["steps"]] == ["build", "tests"]

    works = {(row["work"], row["kind"]) for row in results["rows"]}
    assert len(works) == len(results["rows"])
    for kind in ("CAM-like 14x14", "white noise"):
        for work in ("V2 counts, 1 norm.", "V1, V2, PxAP counts, 1 norm.", "V2 counts, 2 norm."):
            assert (work, kind) in works
    for row in results["rows"]:
        assert row["num_checked"] >= row["num_maps"] > 0
        assert row["maps_per_second"] == row["num_maps"] / row["times"]["median"]
    (row,) = (row for row in results["rows"] if row["work"].startswith("V1") and row["kind"] == "CAM-like 14x14")
    assert [*row["stages"]] == ["resize", "statistics", "digitize", "tree", "gather"]
    (row,) = (row for row in results["rows"] if row["kind"] == "resized CAM-like, float64" and row["num_bytes"] == 576)
    assert row["work"] == "normalize and digitize alone" and row["copy_fraction"] > 0  # 64 pixels of 8 bytes and 1

    assert {"OpenCV's loop, 1 core", "wsolkern on the CPU, 1 core"} <= {peer["name"] for peer in results["peers"]}
    assert all(peer["maps_per_second"] > 0 for peer in results["peers"])
    assert len(results["targets"]) == 6
    assert all(each["measured"] is not None and each["outcome"] in ("met", "NOT MET") for each in results["targets"])
    assert results["forward"]["cams"] == [2, 2, 2]


def test_a_run_without_time_says_what_it_left_out(cuda, tmp_path, capsys):
    assert gpu.main(["--dry-run", "--seconds", "-1", "--save", str(tmp_path)]) == 1
    (file,) = tmp_path.glob("*-gpu-*.json")
    results = json.loads(file.read_text())
    assert "ResNet-50" in results["left_out"] and results["rows"] == []
    assert {each["outcome"] for each in results["targets"]} == {"not measured"}
    assert "LEFT OUT: ResNet-50" in capsys.readouterr().out


@pytest.fixture
def device(cuda):
    """benchmarks.gpu_device, which imports Triton."""
    from benchmarks import gpu_device

    return gpu_device


def test_a_wrong_result_is_not_timed(device):
    called = []

    def call():
        called.append(1)
        return [torch.tensor([1, 2])]

    with pytest.raises(WrongResult, match="a work, a kind: batch 0 differs"):
        device.checked_row("a work", "a kind", [call], [[np.array([1, 3])]], device.TINY, 1)
    assert len(called) == 1  # to compare it, not to time it
    row = device.checked_row("a work", "a kind", [call], [[np.array([1, 2])]], device.TINY, 1)
    assert len(called) > 1 and row.maps_per_second > 0


def test_counts_that_are_one_off_are_wrong(device):
    boxes = inputs.synthetic_boxes(np.random.default_rng(0), 1)
    kind = inputs.Inputs("a kind", np.random.default_rng(0).random((1, 8, 8)).astype(np.float32), boxes)

    def one_more(*how):
        counts, *others = device.expected(*how)
        counts[0, 0, -1, -1] += 1
        return [counts, *others]

    sets = device.batches(kind, device.TINY)
    with pytest.raises(WrongResult, match="V2 counts, 1 norm., a kind"):
        device.count_row(device.V2, "a kind", sets, device.TINY, expect=one_more)


def test_mirror_images_keep_their_truth(device):
    boxes = inputs.synthetic_boxes(np.random.default_rng(1), 3)
    inside = np.zeros((3, 224, 224), np.uint8)
    for mask, ((x0, y0, x1, y1),) in zip(inside, boxes, strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    cams = inside.astype(np.float32)
    sets = device.batches(inputs.Inputs("boxes", cams, boxes), device.Sizes(), inside)
    assert len({each.cams.tobytes() for each in sets}) == len(sets) == 4
    for each in sets:
        np.testing.assert_array_equal(each.cams, each.masks)
        for mask, ((x0, y0, x1, y1),) in zip(each.masks, each.boxes, strict=True):
            assert mask[y0 : y1 + 1, x0 : x1 + 1].all() and mask.sum() == (y1 - y0 + 1) * (x1 - x0 + 1)


def test_what_the_profiler_wrote(device):
    text = (
        "==PROF== Connected to process 7\n"
        '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        '"0","evaluate_bytes_kernel","gpu__time_duration.sum","ns","1,234,567"\n'
        '"0","evaluate_bytes_kernel","sm__throughput.avg.pct_of_peak_sustained_elapsed","%","41.5"\n'
    )
    found = {"gpu__time_duration.sum": 1234567.0, "sm__throughput.avg.pct_of_peak_sustained_elapsed": 41.5}
    assert device.parse_ncu(text) == found
    assert device.parse_ncu("==ERROR== no permission\n") == {}


def test_boxes_of_labels_are_those_of_contours(rng):
    """With SciPy in place of CuPy, whose functions have the same names."""
    cams = np.stack([rng.random((24, 24)), rng.integers(0, 3, (24, 24))]).astype(np.float32)
    peer = gpu_peers.labels(cams, "minmax", (24, 24), 60, np, scipy.ndimage)
    assert peer.num_maps == 2 and peer.maps_per_second > 0


def test_labels_that_miss_boxes_are_noticed():
    class WithoutDiagonals:
        @staticmethod
        def label(mask, structure):
            return scipy.ndimage.label(mask, structure & scipy.ndimage.generate_binary_structure(3, 1))

    cams = np.eye(9, dtype=np.float32)[None]
    with pytest.raises(WrongResult, match="other boxes"):
        gpu_peers.labels(cams, "minmax", (9, 9), 60, np, WithoutDiagonals)


def test_a_target():
    at_least, at_most = gpu.Target("speed", "maps/s", 10, True), gpu.Target("cost", "of its time", 0.02, False)
    assert at_least.outcome == "not measured"
    for target, measured, outcome in (
        (at_least, 10, "met"), (at_least, 9.9, "NOT MET"), (at_most, 0.02, "met"), (at_most, 0.021, "NOT MET"),
    ):  # fmt: skip
        target.measured = measured
        assert target.outcome == outcome


def test_the_script_is_valid_and_executable():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    assert os.access(SCRIPT, os.X_OK)


def run_plan(folder: Path, plan: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """The script with other steps: what it printed, and the lines it wrote of them."""
    (folder / "plan").write_text(plan)
    environment = {**os.environ, "OUT": str(folder / "out"), "WSOLKERN_GPU_PLAN": str(folder / "plan")}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True)
    return done, (folder / "out" / "steps.tsv").read_text().splitlines()


def test_a_step_that_fails_loses_no_other(tmp_path):
    plan = """
    step build 9 - echo built
    step fault 9 build bash -c 'echo before; kill -SEGV $$'
    step slow 1 build sleep 9
    step after 9 build grep -c . "$steps"
    step upon 9 build,fault echo never
    step tool 9 build,a-program-that-is-nowhere echo never
    """
    done, lines = run_plan(tmp_path, plan)
    assert done.returncode == 1
    rows = [line.split("\t") for line in lines]
    assert [row[:2] for row in rows] == [
        ["build", "0"], ["fault", "139"], ["slow", "124"], ["after", "0"], ["upon", "-"], ["tool", "-"],
    ]  # fmt: skip
    assert rows[3][3] == "3"  # each step is written before the next begins
    assert (tmp_path / "out" / "fault.log").read_text().startswith("before")
    summary = done.stdout.partition("s in all")[2]
    for line in (
        "build .*ok: built",
        "fault .*failed: exit code 139",
        "slow .*failed: ran longer than 1 s",
        "after .*ok: 3",
        "upon .*skipped: fault is not ok",
        "tool .*skipped: a-program-that-is-nowhere is not on PATH",
    ):
        assert re.search(line, summary), line


def test_skipped_steps_are_no_failure(tmp_path):
    done, lines = run_plan(tmp_path, "step one 9 - true\nstep two 9 a-program-that-is-nowhere true\n")
    assert done.returncode == 0 and len(lines) == 2


@pytest.mark.parametrize("what", list(gpu_first.CHECKS))
def test_the_first_steps_compare_with_the_cpu_engine(cuda, what, capsys):
    gpu_first.main([what])
    assert "equal to the CPU engine" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device; the script takes minutes")
def test_the_script_says_that_there_is_no_device():
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "no PyTorch with a CUDA device" in done.stderr

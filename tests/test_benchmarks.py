"""The harness of the benchmarks; no speed is looked at. What needs a device is in tests/gpu/test_gpu_benchmark.py.

In: made-up runs, one small map. Out: names of files, calls in turns, no time for what is wrong.
Source: none.
"""

import json
import pickle
import shutil

import pytest
from shared import write_split

from benchmarks import boxes, cpu_against, cpu_rows, folder, harness, inputs, interrupts, ious, memory, scale
from wsolkern.datasets import load_metadata


def test_a_result_says_when_on_which_machine_and_which_commit(tmp_path):
    about = {"date": "2026-01-02T03:04:05+00:00", "cpu": "AMD EPYC (TM) 9", "commit": "0123456789abcdef"}
    path = harness.save({"machine": about, "rows": [1]}, "cpu-avx2", tmp_path / "results")
    assert path.name == "2026-01-02T030405Z-cpu-avx2-AMD-EPYC-TM-9-0123456.json"
    assert json.loads(path.read_text()) == {"subject": "cpu-avx2", "machine": about, "rows": [1]}
    path = harness.save({"machine": about | {"device": {"name": "H 100"}, "commit": None}}, "gpu", tmp_path)
    assert path.name == "2026-01-02T030405Z-gpu-H-100-unknown.json"
    assert {"date", "cpu", "commit", "uncommitted_changes"} <= harness.describe().keys()


def test_calls_take_turns_and_the_first_round_warms_up():
    called = []
    found = harness.rounds([lambda: called.append("a"), lambda: called.append("b")], 3)
    assert called == ["a", "b"] * 4 and found.shape == (3, 2) and (found >= 0).all()


def test_a_count_that_is_one_off_has_no_speed(monkeypatch, rng):
    boxes = inputs.synthetic_boxes(rng, 1)
    kind = inputs.Inputs("a kind", inputs.cam_like(rng, boxes, 7), boxes)
    row = cpu_rows.pixel_row("a work", kind, ["max"])
    assert (row.num_maps, row.num_checked, row.num_levels, row.levels_ms) == (1, 1, 0, None) and row.ms > 0
    count = cpu_rows.count_pixels

    def one_more(*arguments, **how):
        pixels, degenerate = count(*arguments, **how)
        pixels[0, 1, 3] += 1
        return pixels, degenerate

    monkeypatch.setattr(cpu_rows, "count_pixels", one_more)
    with pytest.raises(harness.WrongResult, match="a work, a kind: 1 of .* counts of map 0 differ"):
        cpu_rows.pixel_row("a work", kind, ["max"])


def test_ious_that_are_not_those_of_the_hits_have_no_speed(monkeypatch, rng):
    boxes = inputs.synthetic_boxes(rng, 2)
    kind = inputs.Inputs("a kind", inputs.cam_like(rng, boxes, 7), boxes)
    assert ious.compare(kind, "max", "all", 1).shape == (1, 2)
    right = ious.box_ious
    monkeypatch.setattr(ious, "box_ious", lambda *arguments, **how: 1 - right(*arguments, **how))
    with pytest.raises(harness.WrongResult, match="a kind, max, all: IoUs and hits differ"):
        ious.compare(kind, "max", "all", 1)


def test_two_checkouts_are_timed_in_turns_where_they_agree(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(cpu_against, "TURNS", 1)
    monkeypatch.setattr(cpu_against, "SECONDS", 0)
    truth = inputs.synthetic_boxes(rng, 2)
    cams, cases = inputs.cam_like(rng, truth, 7), tmp_path / "cases"
    made = {"hits": (cams, truth, ("max",), None, True), "boxes": (cams, truth, ("max",), 0.2, False)}
    cases.write_bytes(pickle.dumps(made))
    rows = list(cpu_against.measured("generic", made, cases, (harness.ROOT, harness.ROOT)))
    assert [(row["case"], row["num_maps"]) for row in rows] == [("hits", 2), ("boxes", 2)]
    assert all(row["ratio"] > 0 for row in rows)

    other = tmp_path / "other"
    shutil.copytree(
        harness.ROOT / "wsolkern", other / "wsolkern", ignore=shutil.ignore_patterns("__pycache__", "_cuda*")
    )
    with (other / "wsolkern/ops/__init__.py").open("a") as file:
        file.write(
            "\n_right = count_box_hits\n\n\ndef count_box_hits(*arguments, **how):\n"
            "    counts, degenerate = _right(*arguments, **how)\n    return counts + 1, degenerate\n"
        )
    with pytest.raises(harness.WrongResult, match="generic, hits: the two revisions differ"):
        next(cpu_against.measured("generic", made, cases, (other, harness.ROOT)))


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_instructions_are_those_of_one_pass_over_the_maps(tmp_path, rng):
    truth = inputs.synthetic_boxes(rng, 3)
    cams = inputs.cam_like(rng, truth, 7)
    made = {
        "one map": (cams[:1], truth[:1], ("max",), None, False),
        "the same, thrice": (cams[[0, 0, 0]], [truth[0]] * 3, ("max",), None, False),
        "with more normalizations": (cams[:1], truth[:1], ("max", "minmax", "ivr:0.5"), None, False),
    }
    one, thrice, more = cpu_against.instructions("generic", made, tmp_path, harness.ROOT).values()
    assert 224 * 224 < thrice < one < more  # a map's share of what each call takes is a third
    assert thrice > 0.3 * one


def test_boxes_of_a_store_are_timed_where_they_are_right(tmp_path):
    store, metadata = boxes.make_store(tmp_path, 30, no_demo=True)
    out = tmp_path / "boxes.json"
    assert boxes.rate(store, metadata, out) > 0
    detections = json.loads(out.read_text())
    detections[5]["bbox"][2] += 1
    with pytest.raises(harness.WrongResult, match="a box differs"):
        boxes.check(store, detections)


@pytest.mark.slow
def test_a_folder_is_evaluated_right():
    found = folder.measure(5, seed=0)
    assert found["num_maps"] == found["num_checked"] == 5


@pytest.mark.slow
def test_a_metric_that_is_off_has_no_ratio(monkeypatch):
    pytest.importorskip("torchmetrics", reason="needs the extra metrics")
    from benchmarks import torch_metrics

    monkeypatch.setattr(torch_metrics, "NUM_MAPS", 3)
    monkeypatch.setattr(torch_metrics, "MANY", ["max", "ivr:0.45"])
    rows = torch_metrics.measure(1, 0)
    assert len(rows) == 4 and all(row.metric_over_evaluator > 0 for row in rows)
    monkeypatch.setattr(torch_metrics.metrics, "PxAP", torch_metrics.metrics.PixelIoU)
    with pytest.raises(harness.WrongResult, match="masks, 1 norm.: the metric's figures differ"):
        torch_metrics.measure(1, 0)


@pytest.mark.slow
def test_a_killed_evaluation_of_repeated_images_is_gone_on_with(tmp_path, monkeypatch):
    ids = [f"a/{number}.jpg" for number in range(900)]
    folder = write_split(tmp_path / "split", ids, size=(300, 200), box=lambda number: (9, 9, 99 + number % 99, 120))
    monkeypatch.setattr(scale, "CHILD", f"import benchmarks.scale; benchmarks.scale.SAVE_SECONDS = 0.01; {scale.CHILD}")
    (tmp_path / "run").mkdir()
    found = scale.measure_run(load_metadata(folder), 4000, "max", 0, tmp_path / "run")
    assert 0 < found["num_before"] < found["num_maps"] == 4000 and found["num_counts_compared"] == 6000
    assert found["peak_bytes"] > 10 << 20 and found["store_bytes"] > 4000 * 14 * 14 * 4


def test_estimates_name_the_committed_results_that_they_are_made_of():
    rows, files = scale.estimates()
    assert all((harness.RESULTS / each).is_file() for each in files) and "estimate" in files[1]
    assert [row["on"] for row in rows[:5]] == ["1 CPU core", "16 CPU cores", "128 CPU cores", "1 A100", "8 A100"]
    assert all(scale.IMAGENET_TRAIN / row["rate"] <= row["seconds"] for row in rows)


@pytest.mark.slow
def test_a_call_in_a_process_of_its_own_is_interrupted(rng):
    row = interrupts.measure("localizations", 2, 2, 3, 0.3, 20, rng)
    assert len(row["interrupt_ms"]) == 6 and len(row["end_ms"]) == 2
    assert all(0 < each < 5000 for each in row["interrupt_ms"] + row["end_ms"])
    assert all(end > last for end, last in zip(row["end_ms"], row["interrupt_ms"][2::3], strict=True))
    assert "threads: 2  to KeyboardInterrupt:" in interrupts.described(row)


@pytest.mark.slow
def test_memory_that_grows_is_noticed(monkeypatch):
    flat = memory.measure("operations", 12_800)
    assert [num for num, _ in flat["points"]][::5] == [0, 6400, 12_800] and abs(flat["bytes_per_map"]) < 100
    leak = "import benchmarks.memory as m; m.ops.count_box_hits = lambda cams, *_: kept.append(cams.copy()); kept = [];"
    monkeypatch.setattr(memory, "CHILD", f"{leak} {memory.CHILD}")
    leaking = memory.measure("operations", 12_800)
    assert 700 < leaking["bytes_per_map"] < 900, "14 x 14 floats of 4 bytes"
    with pytest.raises(harness.WrongResult, match="operations: exit code 1"):
        monkeypatch.setattr(memory, "CHILD", "raise SystemExit(1)")
        memory.measure("operations", 64)

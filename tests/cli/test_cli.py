"""The command line on small folders: numbers, missing and damaged maps, going on after a kill, messages.

In: generated metadata and maps. Out: exit codes, JSON and state files.
Source: the Evaluator, fed directly, is what the commands must equal.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern import Evaluator, normalize
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_mask
from wsolkern.ops import backends
from wsolkern.studies import installation

NUM_IMAGES = 13
IDS = [f"part/{index}.jpg" for index in range(NUM_IMAGES)]
NAMES = ("minmax", "max", "pas:0.9", "ivr:0.45")


def box(index: int) -> list[int]:
    return [20 + index, 10, 160 + index, 120 - index]


@pytest.fixture
def metadata(tmp_path) -> Path:
    """13 images of 200 x 150 pixels with a box each."""
    return write_split(tmp_path / "metadata", IDS, size=(200, 150), box=box, label=0)


@pytest.fixture
def maps(tmp_path) -> Path:
    """Their CAMs: every third one is 5 x 9, the others are 7 x 7."""
    rng, root = np.random.default_rng(0), tmp_path / "cams"
    (root / "part").mkdir(parents=True)
    for index, image_id in enumerate(IDS):
        cam = rng.normal(size=(5, 9) if index % 3 == 0 else (7, 7)).astype(np.float32)
        np.save(root / f"{image_id}.npy", cam)
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """--threads sets this variable for the whole process."""
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def run(*arguments, code: int = 0):
    """Invokes a command in this process and checks its exit code; standard output and error are apart."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def results(*arguments, code: int = 0) -> dict:
    """The JSON of ``wsolkern evaluate``, all curves included, without what differs from run to run."""
    content = json.loads(run("evaluate", *arguments, "--json", "-", "--curves", code=code).stdout)
    return {name: value for name, value in content.items() if name not in ("seconds", "maps", "metadata")}


def expected(maps: Path, image_ids=IDS, names=NAMES, **how) -> dict:
    """What the Evaluator makes of the same maps, one at a time."""
    boxes = {each: (np.array([box(i)]) * ([224 / 200, 224 / 150] * 2)).astype(int) for i, each in enumerate(IDS)}
    evaluator = Evaluator(names, boxes=boxes, **how)
    for image_id in image_ids:
        evaluator.update(np.load(maps / f"{image_id}.npy")[None], [image_id])
    return evaluator.compute().to_dict(curves=True)


def test_evaluate_equals_the_evaluator(metadata, maps):
    found = results("--cams", maps, "--metadata", metadata)
    assert {name: found[name] for name in expected(maps)} == expected(maps)
    assert (found["num_missing"], found["missing"]) == (0, {})


@pytest.mark.parametrize("options", [["-n", "max,ivr:.3"], ["-n", "max", "-n", "ivr:0.3"], ["-n", " max  ivr:0.3 "]])
def test_normalizations_can_be_spelled_in_several_ways(metadata, maps, options):
    found = results("--cams", maps, "--metadata", metadata, *options, "--interval", "0.1", "--iou-thresholds", ".4 .6")
    how = {"thresholds": np.arange(0, 1, 0.1), "iou_thresholds": (0.4, 0.6)}
    assert found["normalizations"] == expected(maps, names=("max", "ivr:0.3"), **how)["normalizations"]


def test_table_and_markdown_show_every_normalization(metadata, maps, tmp_path):
    table = run("evaluate", "--cams", maps, "--metadata", metadata, "--json", tmp_path / "all.json").stdout
    markdown = run("evaluate", "--cams", maps, "--metadata", metadata, "--markdown", "--threads", 1).stdout
    rows = json.loads((tmp_path / "all.json").read_text())["normalizations"]
    for row in rows:
        for text in (table, markdown):
            (line,) = (line for line in text.splitlines() if row["normalization"] in line.split())
            assert f"{row['max_box_acc_v2']:.2f}" in line and f"{row['max_box_acc']['0.5']:.2f}" in line
    assert "13 images" in table and markdown.count("\n") == 2 + len(rows)


def test_score_maps_equal_the_cams_they_come_from(metadata, maps, tmp_path):
    for image_id in IDS:
        path = tmp_path / "scores" / f"{image_id.removesuffix('.jpg')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, normalize(np.load(maps / f"{image_id}.npy"), "ivr:0.45", (224, 224)))
    (row,) = results("--score-maps", tmp_path / "scores", "--metadata", metadata)["normalizations"]
    (same,) = results("--cams", maps, "--metadata", metadata, "-n", "ivr:0.45")["normalizations"]
    assert row == same | {"normalization": "score maps"}


def test_masks_give_pxap(metadata, maps, tmp_path):
    write_split(metadata, IDS, mask="mask.png")
    pixels = np.zeros((150, 200), np.uint8)
    pixels[30:90, 40:120] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    evaluator = Evaluator(("max",), masks=lambda image_id: load_mask(tmp_path, ["mask.png"], None, (224, 224)))
    for image_id in IDS:
        evaluator.update(np.load(maps / f"{image_id}.npy")[None], [image_id])
    arguments = "--cams", maps, "--metadata", metadata, "-n", "max"
    found = results(*arguments, "--mask-root", tmp_path)
    assert found["normalizations"] == evaluator.compute().to_dict(curves=True)["normalizations"]
    assert "PxAP" in run("evaluate", *arguments, "--mask-root", tmp_path).stdout
    assert "error: --mask-root: needed" in run("evaluate", *arguments, code=terminal.FAILED).stderr


def test_missing_and_damaged_maps_are_listed(metadata, maps):
    (maps / f"{IDS[2]}.npy").unlink()
    (maps / f"{IDS[5]}.npy").write_bytes(b"\x93NUMPY, but then no array")
    np.save(maps / f"{IDS[7]}.npy", np.array([{"a": "pickle"}]), allow_pickle=True)
    arguments = "--cams", maps, "--metadata", metadata
    printed = run("evaluate", *arguments, code=terminal.PROBLEMS)
    left_out = [IDS[2], IDS[5], IDS[7]]
    assert "3 of 13 maps were left out" in printed.stderr and all(each in printed.stderr for each in left_out)
    found = results(*arguments, "--allow-missing")
    assert sorted(found["missing"]) == left_out and found["num_images"] == 10
    counted = [each for each in IDS if each not in left_out]
    assert found["normalizations"] == expected(maps, counted)["normalizations"]


def test_a_map_that_is_no_score_map_is_left_out_alone(metadata, tmp_path):
    for index, image_id in enumerate(IDS):
        path = tmp_path / "scores" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((224, 224), 1.5 if index == 4 else 0.5))
    found = results("--score-maps", tmp_path / "scores", "--metadata", metadata, code=terminal.PROBLEMS)
    assert list(found["missing"]) == [IDS[4]] and "[0, 1]" in found["missing"][IDS[4]]
    assert found["num_images"] == 12


def test_nothing_readable_is_an_error(metadata, tmp_path):
    (tmp_path / "empty").mkdir()
    printed = run("evaluate", "--cams", tmp_path / "empty", "--metadata", metadata, code=terminal.FAILED)
    assert "no map could be read" in printed.stderr and "and 0 more" not in printed.stderr


WRONG = {
    "no_maps": ([], "--cams, --score-maps: expected exactly one of them"),
    "both": (["--cams", "{maps}", "--score-maps", "{maps}"], "expected exactly one of them"),
    "normalized_twice": (["--score-maps", "{maps}", "-n", "max"], "normalized already"),
    "normalization": (["--cams", "{maps}", "-n", "maximum"], "normalization 'maximum'"),
    "folder": (["--cams", "{maps}/nowhere"], "no such folder of maps"),
    "size": (
        ["--cams", "{maps}", "--size", "big"],
        "--size: expected SIDE or HEIGHTxWIDTH in pixels, integers from 1 to 4096, found 'big'",
    ),
    "interval": (["--cams", "{maps}", "--interval", "0"], "--interval: expected a fraction in (0, 1]"),
    "iou": (["--cams", "{maps}", "--iou-thresholds", "half"], "--iou-thresholds: expected fractions"),
    "mask_root": (["--cams", "{maps}", "--mask-root", "{maps}"], "localizes objects with boxes"),
    "metadata": (["--cams", "{maps}", "--metadata", "{maps}"], "image_ids.txt: no such file"),
    "state": (["--cams", "{maps}", "--resume", "{metadata}/notes"], "expected saved counts of a split"),
    "state_is_a_map": (["--cams", "{maps}", "--resume", "{maps}/part/0.jpg.npy"], "a file that the command reads"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_one_line(metadata, maps, options, message):
    (metadata / "notes").write_text("no state")
    options = [each.format(maps=maps, metadata=metadata) for each in options]
    where = [] if "--metadata" in options else ["--metadata", metadata]
    assert message in run("evaluate", *where, *options, code=terminal.FAILED).stderr


def test_resume_tries_missing_maps_again(metadata, maps, tmp_path):
    arguments = "--cams", maps, "--metadata", metadata, "--resume", tmp_path / "state"
    hidden = maps / f"{IDS[3]}.npy"
    hidden.rename(tmp_path / "hidden.npy")
    assert results(*arguments, code=terminal.PROBLEMS)["num_images"] == NUM_IMAGES - 1
    (tmp_path / "hidden.npy").rename(hidden)
    found = results(*arguments)
    assert found["num_images"] == NUM_IMAGES and found["normalizations"] == expected(maps)["normalizations"]


def test_a_state_of_another_job_is_refused(metadata, maps, tmp_path):
    state = tmp_path / "state"
    run("evaluate", "--cams", maps, "--metadata", metadata, "--resume", state)
    other = run("evaluate", "--cams", maps, "--metadata", metadata, "--resume", state, "-n", "max", code=2)
    assert "same normalizations" in other.stderr and "delete the file" in other.stderr
    (tmp_path / "elsewhere").mkdir()
    other = run("evaluate", "--cams", tmp_path / "elsewhere", "--metadata", metadata, "--resume", state, code=2)
    assert "counts other maps" in other.stderr


def test_help_is_quick_and_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from wsolkern.cli import app; app(['--help'], standalone_mode=False);"
        "print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in ("evaluate", "demo", "doctor"))


def test_version():
    import wsolkern

    assert run("--version").stdout == f"wsolkern {wsolkern.__version__}\n"


def test_doctor_finds_this_installation_sound():
    findings = json.loads(run("doctor", "--json", "-").stdout)["findings"]
    states = {each["part"]: each["state"] for each in findings}
    assert states["core generic"] == states["self-test"] == states["threads"] == "ok"
    assert "broken" not in states.values()
    assert "self-test" in run("doctor").stdout


def findings_of(*parts: str) -> list[tuple[str, str, str]]:
    """What doctor says of some parts: its state, what it found, the advice."""
    everything = json.loads(CliRunner().invoke(app, ["doctor", "--json", "-"]).stdout)["findings"]
    return [(each["state"], each["detail"], each["fix"]) for each in everything if each["part"] in parts]


def test_doctor_names_what_the_environment_has_wrong(monkeypatch):
    monkeypatch.setenv("WSOLKERN_ISA", "avx9")
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "many")
    core, threads = findings_of("core", "threads")
    assert core[0] == "broken" and "found 'avx9'" in core[1] and core[2] == "unset WSOLKERN_ISA"
    assert threads[0] == "broken" and "found 'many'" in threads[1] and threads[2] == "unset WSOLKERN_NUM_THREADS"


def test_doctor_compares_a_device_with_the_reference(monkeypatch):
    """A card whose core is missing after all, and one that gives the reference's bits."""
    monkeypatch.setattr(backends, "missing_for_cuda", lambda: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: f"card {index}")
    monkeypatch.setitem(sys.modules, "wsolkern._cuda", None)
    ((state, detail, fix),) = findings_of("CUDA")
    assert state == "broken" and detail.startswith("card 0: ") and "wsolkern doctor --build-cuda" in fix
    monkeypatch.setattr(installation, "_compare_with_reference", lambda backend: 1)
    assert findings_of("CUDA") == [("ok", "card 0: CAMs on a GPU are evaluated there, equal to the reference", "")]


def test_doctor_builds_nothing_for_a_pytorch_without_cuda(monkeypatch):
    monkeypatch.setattr(pytest.importorskip("torch").version, "cuda", None)
    done = CliRunner().invoke(app, ["doctor", "--build-cuda", "--arch", "90"])
    assert done.exit_code == terminal.FAILED and "is not built for CUDA" in done.stderr and not done.stdout
    done = CliRunner().invoke(app, ["doctor", "--arch", "90"])
    assert done.exit_code == terminal.FAILED and "--arch: expected with --build-cuda alone" in done.stderr


def test_doctor_says_how_to_mend_a_damaged_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    ((state, detail, fix),) = findings_of("safetensors")
    assert state == "broken" and "ModuleNotFoundError" in detail and fix.endswith("--force-reinstall safetensors")


@pytest.mark.parametrize(
    ("environment", "prelude", "message"),
    [
        pytest.param(
            {},
            "sys.modules['wsolkern._native_generic'] = None;",
            "pip install --force-reinstall --no-deps .",
            id="not_built",
            marks=pytest.mark.slow,
        ),
        pytest.param({"WSOLKERN_ISA": "avx9"}, "", "unset WSOLKERN_ISA", id="unknown_isa", marks=pytest.mark.slow),
        pytest.param(
            {"WSOLKERN_NUM_THREADS": "many"}, "", "unset WSOLKERN_NUM_THREADS", id="threads", marks=pytest.mark.slow
        ),
    ],
)
def test_doctor_tells_how_to_mend_a_broken_core(environment, prelude, message):
    code = f"import sys; {prelude} from wsolkern.cli import app; app(['doctor'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == terminal.FAILED, done.stderr
    assert "broken" in done.stdout and f"fix: {message}" in done.stdout

"""Studies as functions of the library: the numbers of their commands, their progress, and going on after an interrupt.

In: generated splits and CAM stores. Out: values whose dictionaries equal the commands' JSON.
Source: the commands, and the same study done in one go.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsolkern import BackendUnavailable, studies
from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.files import only_one_at
from wsolkern.ops.inputs import threshold_grid
from wsolkern.studies import counting

NUM_IMAGES = 150  # more than two batches
HOW = {"size": (24, 24), "thresholds": threshold_grid(0.05, "step")}
OPTIONS = ["--size", "24", "--interval", "0.05"]
VARIES = ("seconds", "seconds_profiled", "stages", "copy_bandwidth", "limit", "overhead", "num_threads")


def ids(split: str) -> list[str]:
    return [f"{split}/{index}.jpg" for index in range(NUM_IMAGES)]


def write_split(folder: Path, split: str, lines) -> None:
    folder.mkdir(parents=True)
    for name, rows in {
        "image_ids": ids(split),
        "class_labels": (f"{each},{n % 3}" for n, each in enumerate(ids(split))),
        "image_sizes": (f"{each},60,48" for each in ids(split)),
        "localization": lines,
    }.items():
        (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """CUB val and test with boxes, OpenImages test with masks, and a store of each, whose last two maps are missing."""
    root = tmp_path_factory.mktemp("made")
    for place, (dataset, split) in enumerate((("CUB", "val"), ("CUB", "test"), ("OpenImages", "test"))):
        rng = np.random.default_rng(place)
        names = ids(f"{dataset}-{split}")
        corners = rng.integers(0, 24, (NUM_IMAGES, 2))
        boxes = np.concatenate([corners, corners + rng.integers(8, 24, (NUM_IMAGES, 2))], axis=1)
        boxed = [f"{each},{','.join(map(str, box))}" for each, box in zip(names, boxes, strict=True)]
        masked = [f"{each},mask.png," for each in names]
        write_split(root / "metadata" / dataset / split, f"{dataset}-{split}", boxed if dataset == "CUB" else masked)
        manifest = Manifest(dataset=dataset, split=split, method="CAM", backbone="VGG16")
        with CamWriter(root / f"{dataset}-{split}", manifest, maps_per_shard=40) as writer:
            maps = rng.normal(size=(NUM_IMAGES, 7, 7)).astype(np.float32)
            writer.add(names[:-2], maps[:-2])
    pixels = np.zeros((48, 60), np.uint8)
    pixels[10:30, 8:40] = 255
    Image.fromarray(pixels).save(root / "mask.png")
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def split_of(made: Path, name: str):
    return load_metadata(made / "metadata" / name)


def metadata(made: Path, name: str) -> list[str]:
    return ["--metadata", str(made / "metadata" / name)]


# Each study: how the library calls it and how the command line does.
STUDIES = {
    "evaluate": (
        lambda made, **how: studies.evaluate(made / "CUB-test", split_of(made, "CUB/test"), **HOW, **how),
        lambda made: ["evaluate", "--cams", made / "CUB-test", *metadata(made, "CUB/test"), *OPTIONS],
    ),
    "evaluate_masks": (
        lambda made, **how: studies.evaluate(
            made / "OpenImages-test", split_of(made, "OpenImages/test"), "max ivr:0.4", mask_root=made, **HOW, **how
        ),
        lambda made: [
            *("evaluate", "--cams", made / "OpenImages-test", *metadata(made, "OpenImages/test"), *OPTIONS),
            *("--mask-root", made, "-n", "max ivr:0.4"),
        ],
    ),
    "sweep": (
        lambda made, **how: studies.sweep(
            made / "CUB-val", split_of(made, "CUB/val"), "max ivr:0.1..0.5/0.1", **HOW, **how
        ),
        lambda made: ["sweep", made / "CUB-val", *metadata(made, "CUB/val"), *OPTIONS, "-n", "max ivr:0.1..0.5/0.1"],
    ),
    "select": (
        lambda made, **how: studies.select(
            *(made / "CUB-val", split_of(made, "CUB/val"), made / "CUB-test", split_of(made, "CUB/test")),
            *("max ivr:0.1..0.5/0.1",),
            **{"num_resamples": 40, "num_val_per_class": 30, **HOW, **how},
        ),
        lambda made: [
            *("select", "--val", made / "CUB-val", "--val-metadata", made / "metadata/CUB/val"),
            *("--test", made / "CUB-test", "--test-metadata", made / "metadata/CUB/test", *OPTIONS),
            *("-n", "max ivr:0.1..0.5/0.1", "--num-bootstrap", 40, "--num-val-per-class", 30),
        ],
    ),
    "table": (
        lambda made, **how: studies.table(
            [made / "CUB-val", made / "CUB-test", made / "OpenImages-test"],
            made / "metadata",
            **{"mask_roots": {"openimages": made}, "published": True, **HOW, **how},
        ),
        lambda made: [
            *("table", made / "CUB-val", made / "CUB-test", made / "OpenImages-test", "--published", *OPTIONS),
            *("--metadata-root", made / "metadata", "--mask-root", f"OpenImages={made}"),
        ],
    ),
    "diagnose": (
        lambda made, **how: studies.diagnose([made / "CUB-val", made / "CUB-test"], size=(24, 24), **how),
        lambda made: ["diagnose", made / "CUB-val", made / "CUB-test", "--size", "24"],
    ),
    "diagnose_measured": (
        lambda made, **how: studies.diagnose([made / "CUB-test"], split_of(made, "CUB/test"), size=(24, 24), **how),
        lambda made: ["diagnose", made / "CUB-test", *metadata(made, "CUB/test"), "--size", "24"],
    ),
    "profile": (
        lambda made, **how: studies.profile(made / "CUB-test", split_of(made, "CUB/test"), "max", **HOW, **how),
        lambda made: ["profile", made / "CUB-test", *metadata(made, "CUB/test"), *OPTIONS, "-n", "max"],
    ),
}
RESUMABLE = [each for each in STUDIES if each != "profile"]


def without_times(content: dict) -> dict:
    """What is the same each time, as JSON holds it."""
    return {name: value for name, value in json.loads(json.dumps(content)).items() if name not in VARIES}


def call(name: str, made: Path, **how):
    return STUDIES[name][0](made, **how)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_gives_the_numbers_of_its_command(made, name):
    arguments = [*map(str, STUDIES[name][1](made)), "--json", "-", "--allow-missing"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert without_times(json.loads(done.stdout)) == without_times(call(name, made).to_dict())


@pytest.mark.parametrize("name", STUDIES)
def test_progress_ends_at_the_whole(made, name):
    told: dict[str, list] = {}
    call(name, made, progress=lambda what, done, total: told.setdefault(what, []).append((done, total)))
    assert len(told) == {"select": 2, "table": 3, "diagnose": 2, "diagnose_measured": 2}.get(name, 1)
    for steps in told.values():
        assert len({total for _, total in steps}) == 1 and steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert len(steps) > 3 or name == "profile"


def interrupt_at(monkeypatch, batch: int) -> None:
    """Ctrl-C while that batch, counted from 0 over all passes, is counted."""
    count, seen = counting.SplitCount.update, []

    def update(self, cams, image_ids):
        seen.append(image_ids)
        if len(seen) == batch + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return count(self, cams, image_ids)

    monkeypatch.setattr(counting.SplitCount, "update", update)


@pytest.mark.parametrize("batch", [0, 2, 5])
@pytest.mark.parametrize("name", RESUMABLE)
def test_what_was_interrupted_goes_on(made, name, batch, tmp_path, monkeypatch):
    """Whichever pass it was, no image is counted twice and the figures are those of one go."""
    expected = without_times(call(name, made).to_dict())
    state = tmp_path / "state"
    with monkeypatch.context() as patched:
        interrupt_at(patched, batch)
        try:
            call(name, made, resume=state)
        except studies.Interrupted as error:
            assert error.kept == state and f"of {error.counting.num_all:,} images are counted" in str(error)
            assert 0 < error.counting.evaluator.num_images <= error.counting.num_all
        else:
            assert batch == 5 and name in ("evaluate", "evaluate_masks", "sweep"), "it has fewer batches than that"
    counted: list[str] = []
    count = counting.SplitCount.update

    def update(self, cams, image_ids):
        counted.extend((id(self), each) for each in image_ids)
        return count(self, cams, image_ids)

    monkeypatch.setattr(counting.SplitCount, "update", update)
    assert without_times(call(name, made, resume=state).to_dict()) == expected
    num_before = len(counted)
    assert len(set(counted)) == num_before
    assert without_times(call(name, made, resume=state).to_dict()) == expected
    assert len(counted) == num_before, "nothing is counted again"


@pytest.mark.parametrize("name", ["select", "table", "diagnose", "diagnose_measured"])
def test_a_state_of_something_else_is_refused(made, name, tmp_path):
    state = tmp_path / "state"
    call(name, made, resume=state)
    other = {"size": (20, 20)} if name != "select" else {"confidence": 0.9, "num_val_per_class": 20}
    if name.startswith("diagnose"):
        split = split_of(made, "CUB/test") if name == "diagnose_measured" else None
        with pytest.raises(ValueError, match="state: .*; delete the file to start anew"):
            studies.diagnose([made / "CUB-test"], split, resume=state, **other)
    else:
        with pytest.raises(ValueError, match="state: .*; delete the file to start anew"):
            call(name, made, resume=state, **other)
    state.write_bytes(b"something else")
    with pytest.raises(ValueError, match="state: expected the saved passes of a study, found another file"):
        call(name, made, resume=state)


def test_rows_that_do_not_belong_to_a_state_are_refused(made, tmp_path):
    state = tmp_path / "state"
    call("select", made, resume=state)
    rows = tmp_path / "state.rows"
    content = rows.read_bytes()
    rows.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="state: .*state.rows does not hold what was counted; delete the file"):
        call("select", made, resume=state)
    rows.write_bytes(content + b"of a save that came to no end")
    assert without_times(call("select", made, resume=state).to_dict()) == without_times(call("select", made).to_dict())


@pytest.mark.parametrize("name", RESUMABLE)
def test_one_process_at_a_state_which_is_no_input(made, name, tmp_path):
    with only_one_at(tmp_path / "state", "a test"), pytest.raises(ValueError, match="another process is counting into"):
        call(name, made, resume=tmp_path / "state")
    read = made / ("OpenImages-test" if name == "evaluate_masks" else "CUB-test") / "index.json"
    if name == "sweep":
        read = made / "CUB-val" / "index.json"
    with pytest.raises(ValueError, match="resume: .*index.json is a file that the command reads"):
        call(name, made, resume=read)


@pytest.mark.parametrize("name", STUDIES)
def test_devices(made, name):
    with pytest.raises(ArgumentError, match="^device: expected cpu or cuda, found 'tpu'") as wrong:
        call(name, made, device="tpu")
    assert wrong.value.spelled({"device": "--device"}).startswith("--device: expected")
    import torch

    if torch.cuda.is_available():
        assert without_times(call(name, made, device="cuda").to_dict()) == without_times(call(name, made).to_dict())
        return
    with pytest.raises(BackendUnavailable, match="^device cuda: torch .* finds no GPU here"):
        call(name, made, device="cuda")
    done = CliRunner().invoke(app, [*map(str, STUDIES[name][1](made)), "--device", "cuda"])
    assert done.exit_code == 2 and done.stderr.startswith("error: --device cuda: torch"), done.output


def test_nothing_counted_says_why(made, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(studies.NothingCounted, match="empty: no map could be read") as found:
        studies.evaluate(tmp_path / "empty", split_of(made, "CUB/test"), "max", **HOW)
    assert len(found.value.problems) == found.value.num_all == NUM_IMAGES


def test_errors_name_the_argument_and_the_option(made):
    with pytest.raises(ArgumentError, match="^mask_root: needed, because ") as error:
        studies.evaluate(made / "OpenImages-test", split_of(made, "OpenImages/test"), "max", **HOW)
    assert error.value.arguments == ("mask_root",)
    with pytest.raises(ArgumentError, match="^mask_roots OpenImages=DIR: needed, because "):
        call("table", made, mask_roots={})
    with pytest.raises(ArgumentError, match="^val, test: expected different images, found 150 that are in "):
        val = made / "CUB-val", split_of(made, "CUB/val")
        studies.select(*val, *val)


def test_importing_studies_loads_no_command_line():
    code = (
        "import sys; from wsolkern.studies import diagnose, doctor, evaluate, profile, select, stores, sweep, table;"
        "print([name for name in ('typer', 'rich', 'torch', 'matplotlib', 'wsolkern.cli') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys, wsolkern; wsolkern.studies; print([n for n in ('numpy', 'torch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_studies_know_no_report():
    """What is computed stands below what shows it: report imports studies, never the other way."""
    found: set[str] = set()
    for room, above in (("metrics", ("studies", "report", "cli")), ("studies", ("report", "training", "cli"))):
        for file in (Path(studies.__file__).parents[1] / room).glob("*.py"):
            imported = re.findall(r"(?m)^\s*(?:from|import) wsolkern[. ](?:import )?(\w+)", file.read_text())
            assert not set(imported) & set(above), file
            found |= set(imported)
    assert {"metrics", "ops", "cams", "normalization"} <= found

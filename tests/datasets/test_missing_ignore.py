"""Ignore masks that localization.txt names but that are not there: an error, unless that is allowed."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsolkern.cli import app
from wsolkern.compat import evaluation
from wsolkern.datasets import load_metadata, without_missing_ignore
from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint


@pytest.fixture
def made(tmp_path):
    """Two images: the left half is the object, the ignore mask of the second one is not there."""
    split, masks, cams = tmp_path / "metadata", tmp_path / "masks", tmp_path / "cams"
    for folder in (split, masks, cams):
        folder.mkdir()
    half = np.zeros((16, 16), np.uint8)
    half[:, :8] = 255
    Image.fromarray(half).save(masks / "m.png")
    Image.fromarray(255 - half).save(masks / "i.png")
    (split / "image_ids.txt").write_text("a.jpg\nb.jpg\n")
    (split / "localization.txt").write_text("a.jpg,m.png,i.png\nb.jpg,m.png,gone.png\n")
    for name in ("a", "b"):
        np.save(cams / f"{name}.npy", np.random.default_rng(0).random((4, 4)))
    return ["evaluate", "--cams", cams, "--metadata", split, "--mask-root", masks, "--size", 16, "-n", "minmax"]


def run(arguments, *more):
    return CliRunner().invoke(app, [str(each) for each in (*arguments, *more)])


def test_a_named_ignore_mask_that_is_not_there(made, tmp_path):
    done = run(made)
    assert done.exit_code != 0 and "gone.png" in done.stderr and "--allow-missing-ignore" in done.stderr
    done = run(made, "--allow-missing-ignore", "--json", tmp_path / "out.json")
    assert done.exit_code == 0 and "1 of 2 ignore masks are not there" in done.stderr
    allowed = json.loads((tmp_path / "out.json").read_text())["normalizations"][0]["pxap"]
    (tmp_path / "metadata" / "localization.txt").write_text("a.jpg,m.png,i.png\nb.jpg,m.png,\n")
    done = run(made, "--json", tmp_path / "out.json")
    assert done.exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["normalizations"][0]["pxap"] == allowed


def test_a_state_knows_what_was_ignored(made, tmp_path):
    split = load_metadata(tmp_path / "metadata")
    with pytest.warns(UserWarning, match=r"1 of 2 ignore masks are not there.*gone\.png"):
        allowed = without_missing_ignore(split, tmp_path / "masks")
    assert allowed.ignore_paths == {"a.jpg": "i.png", "b.jpg": None}
    jobs = [fingerprint(each, tmp_path / "masks", None) for each in (split, allowed)]
    assert jobs[0] != jobs[1]
    counting = SplitCount(evaluator_for(allowed, "max", mask_root=tmp_path / "masks"), allowed.image_ids, jobs[1])
    counting.save(tmp_path / "state")
    other = SplitCount(evaluator_for(split, "max", mask_root=tmp_path / "masks"), split.image_ids, jobs[0])
    with pytest.raises(ValueError, match="other masks"):
        other.load(tmp_path / "state")


def test_the_drop_in(made, tmp_path, capsys):
    (tmp_path / "metadata").rename(tmp_path / "test")
    for root, folder in (("metadata", "test"), ("dataset", "masks")):
        (tmp_path / root / "mine").mkdir(parents=True)
        target = tmp_path / root / "mine"
        (tmp_path / folder).rename(target / folder if root == "metadata" else target / "m")
    for path in (tmp_path / "dataset" / "mine" / "m").iterdir():
        path.rename(tmp_path / "dataset" / "mine" / path.name)
    ramp = np.linspace(0, 1, 16)[None].repeat(16, axis=0)
    for name in ("a", "b"):
        np.save(tmp_path / "cams" / f"{name}.npy", ramp)
    flags = ["--dataset_name", "mine", "--split", "test", "--scoremap_root", tmp_path / "cams"]
    flags += ["--metadata_root", tmp_path / "metadata", "--mask_root", tmp_path / "dataset"]
    flags = [str(each) for each in flags]
    with pytest.raises(SystemExit):
        evaluation.main(flags)
    assert "gone.png: no such ignore mask" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="1 of 2 ignore masks are not there"):
        evaluation.main([*flags, "--allow_missing_ignore"])
    allowed = capsys.readouterr().out
    (tmp_path / "metadata" / "mine" / "test" / "localization.txt").write_text("a.jpg,m.png,i.png\nb.jpg,m.png,\n")
    evaluation.main(flags)
    assert capsys.readouterr().out == allowed


@pytest.mark.parametrize("command", ["evaluate", "sweep", "select", "table", "diagnose", "profile", "train"])
def test_every_command_that_reads_masks_has_the_option(command):
    assert "--allow-missing" in run([command, "--help"]).stdout
    assert "No such option" not in run([command, "--allow-missing-ignore"]).stderr

"""What commands say comes next can be typed: each line is run as it stands, with words in capitals replaced.

In: a small store, class folders, a tiny network. Out: nothing.
Source: none.
"""

import shlex

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from torch import nn
from typer.testing import CliRunner

from wsolkern.cams import CamWriter, Manifest
from wsolkern.cli import app

IDS = [f"{label}/{number}.png" for label in "ab" for number in range(3)]


def network(num_classes=2):
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, num_classes))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """images, split (boxes), labels (no ground truth), store, maps (a folder of .npy)."""
    monkeypatch.chdir(tmp_path)
    maps = np.random.default_rng(0).random((6, 5, 5)).astype(np.float32)
    for image_id, cam in zip(IDS, maps, strict=True):
        for folder in ("images", "maps"):
            (tmp_path / folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), (int(255 * cam[0, 0]), 9, 9)).save(tmp_path / "images" / image_id)
        np.save(tmp_path / "maps" / f"{image_id}.npy", cam)
    for folder in ("split", "labels"):
        write_split(tmp_path / folder, IDS, size=(24, 16), box=lambda n: (2, 3, 15, 12), label=lambda n: n // 3)
    (tmp_path / "labels" / "localization.txt").unlink()
    with CamWriter(tmp_path / "store", Manifest(dataset="D", split="test")) as writer:
        writer.add(IDS, maps, classes=[0] * 3 + [1] * 3)
    return tmp_path


def run(*words) -> list[str]:
    """What is said to come next, without "wsolkern"."""
    done = CliRunner().invoke(app, [str(each) for each in words], prog_name="wsolkern")
    assert done.exit_code == 0, (done.output, done.exception)
    lines = [shlex.split(line) for line in done.stderr.splitlines() if line.startswith("next: ")]
    assert all(line[:2] == ["next:", "wsolkern"] for line in lines) and len(lines) <= 1
    return lines[0][2:] if lines else []


EXTRACT = ["extract", f"{__name__}:network", "--size", 16, "--images", "images", "-o", "made"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([*EXTRACT, "--metadata", "split"], "evaluate --cams made --metadata split"),
        (
            [*EXTRACT, "--metadata", "labels"],
            "boxes made --metadata labels -n ivr:0.45 --threshold 0.2 -o made-boxes.json",
        ),
        (EXTRACT, "evaluate --cams made --metadata SPLIT_FOLDER"),
        (["store", "import", "maps", "made", "--metadata", "split"], "evaluate --cams made --metadata split"),
        (
            ["store", "import", "maps", "made", "--score-maps"],
            "evaluate --score-maps made --metadata SPLIT_FOLDER",
        ),
        (["store", "merge", "made", "store"], "evaluate --cams made --metadata SPLIT_FOLDER"),
        (["store", "export", "store", "made"], "evaluate --cams made --metadata SPLIT_FOLDER"),
        (["store", "export", "store", "made", "-n", "max"], "evaluate --score-maps made --metadata SPLIT_FOLDER"),
        (
            ["boxes", "store", "--metadata", "split", "-n", "max", "--threshold", 0.25, "-o", "b.csv"],
            "show store --metadata split -n max --at 0.25 -o b.png",
        ),
        (
            ["boxes", "store", "--metadata", "labels", "-n", "max", "--threshold", 0.25, "-o", "pseudo"],
            "show store --metadata pseudo -n max -o pseudo.png",
        ),
        (["boxes", "store", "--metadata", "labels", "-n", "max", "--threshold", 0.25, "-o", "b.csv"], ""),
    ],
    ids=lambda each: None if isinstance(each, str) else f"{each[0]}-{each[-1]}",
)
def test_what_comes_next_is_right(place, command, expected):
    following = run(*command)
    assert shlex.join(following) == expected
    following = ["split" if each == "SPLIT_FOLDER" else each for each in following]
    if following[:1] == ["evaluate"] and "--score-maps" in following and "import" in command:
        return  # maps of 5 x 5 are no score maps of 224 x 224
    if following[:1] == ["show"]:
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    if following:
        run(*following)

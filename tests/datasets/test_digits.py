"""The digits: files hold together, boxes are tight, splits share no handwriting, the same seed gives the same bytes.

In: scikit-learn's handwritten digits and scikit-image's photographs. Out: small data sets in temporary folders.
Source: what a box and a mask of one object have to do with each other.
"""

import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsolkern.cli import app
from wsolkern.datasets import ImageFolder, load_mask, load_metadata
from wsolkern.datasets.digits import DigitMaker, make_digits
from wsolkern.errors import DatasetError

COUNTS = {"train": 43, "val": 10, "test": 20}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    out = tmp_path_factory.mktemp("digits") / "out"
    done = []
    make_digits(out, COUNTS, size=48, seed=3, progress=done.append)
    assert done == list(range(1, 74))
    return out


def files(out) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", COUNTS)
def test_metadata_holds_together(out, split):
    boxes, masks = (load_metadata(out / "metadata" / f"digits-{kind}" / split) for kind in ("boxes", "masks"))
    assert boxes.kind == "boxes" and masks.kind == "masks" and len(boxes.image_ids) == COUNTS[split]
    assert boxes.image_ids == masks.image_ids and boxes.class_labels == masks.class_labels
    counts = np.bincount(list(boxes.class_labels.values()), minlength=10)
    assert len(counts) == 10 and counts.max() - counts.min() <= 1
    images = ImageFolder(out / "images", boxes.image_ids)
    assert sum(len(ids) for ids, _ in images.batches()) == COUNTS[split] and not images.problems
    for image_id in boxes.image_ids:
        assert boxes.image_sizes[image_id] == (48, 48) == Image.open(out / "images" / image_id).size
        mask = load_mask(out / "masks", masks.mask_paths[image_id], masks.ignore_paths[image_id], (48, 48))
        assert set(np.unique(mask)) == {0, 1}
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_array_equal(boxes.boxes[image_id], [expected])


def test_a_mask_evaluates_as_its_box(out):
    """The best score map there can be, the mask itself, localizes every digit."""
    from wsolkern import Evaluator

    boxes, masks = (load_metadata(out / "metadata" / f"digits-{kind}" / "test") for kind in ("boxes", "masks"))
    evaluator = Evaluator(None, boxes=boxes.resized_boxes())
    for image_id, paths in masks.mask_paths.items():
        evaluator.update(load_mask(out / "masks", paths)[None].astype(np.float64), [image_id])
    assert evaluator.compute()["score maps"].max_box_acc_v2 == 100


def test_every_digit_stands_out(out):
    metadata = load_metadata(out / "metadata" / "digits-masks" / "test")
    for image_id in metadata.image_ids:
        pixels = np.asarray(Image.open(out / "images" / image_id)).astype(float)
        mask = load_mask(out / "masks", metadata.mask_paths[image_id], size=(48, 48)) > 0
        around = np.zeros_like(mask)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                around |= np.roll(mask, (dy, dx), (0, 1))
        difference = pixels[mask].mean(0) - pixels[around & ~mask].mean(0)
        assert np.abs(difference).max() > 12, image_id
        assert 0.01 < mask.mean() < 0.5


def test_splits_share_no_handwriting():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    samples = DigitMaker(32, 0)._samples
    seen = [np.concatenate(parts).reshape(-1, 64) for parts in samples.values()]
    assert sum(map(len, seen)) == 1797 and all(len(part) >= 15 for parts in samples.values() for part in parts)
    hashes = [{row.tobytes() for row in part} for part in seen]
    assert not (hashes[0] & hashes[1] or hashes[0] & hashes[2] or hashes[1] & hashes[2])


def test_the_same_seed_gives_the_same_bytes(tmp_path, out):
    make_digits(tmp_path / "again", COUNTS, size=48, seed=3)
    assert files(tmp_path / "again") == files(out)
    make_digits(tmp_path / "fewer", {"test": 5}, size=48, seed=3)
    fewer, all_ = files(tmp_path / "fewer"), files(out)
    assert sum(name.startswith("images/test/") for name in fewer) == 5
    assert all(content == all_[name] for name, content in fewer.items() if name.endswith(".png"))
    make_digits(tmp_path / "other", {"test": 5}, size=48, seed=4)
    assert files(tmp_path / "other")["images/test/00000.png"] != fewer["images/test/00000.png"]


def test_wrong_arguments(tmp_path, out):
    before = files(out)
    with pytest.raises(DatasetError, match="expected an empty folder or none"):
        make_digits(out, COUNTS)
    assert files(out) == before
    for counts, message in (({"dev": 1}, "found 'dev'"), ({"train": -1}, "expected numbers"), ({}, "expected numbers")):
        with pytest.raises(ValueError, match=f"counts: .*{message}"):
            make_digits(tmp_path / "no", counts)
    with pytest.raises(ValueError, match="size, seed: .*found 16 and 0"):
        make_digits(tmp_path / "no", COUNTS, size=16)
    assert not (tmp_path / "no").exists()


def test_command(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    arguments = ["make-dataset", "digits", str(tmp_path / "d"), "--train", "12", "--val", "0", "--test", "3"]
    done = CliRunner().invoke(app, [*arguments, "--size", "32"])
    assert done.exit_code == 0, done.output
    assert "12 train" in done.stdout and not (tmp_path / "d" / "metadata" / "digits-boxes" / "val").exists()
    assert len(load_metadata(tmp_path / "d" / "metadata" / "digits-boxes" / "train").image_ids) == 12
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    done = CliRunner().invoke(app, ["make-dataset", "digits", str(tmp_path / "d")])
    assert done.exit_code == 2 and "pip install 'wsolkern[demo]'" in done.stderr and not (tmp_path / "d").exists()

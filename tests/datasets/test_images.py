"""Image folders: pixels are those of the published transform, order and places hold, bad files cost only themselves.

In: small images written to temporary folders. Out: a network's input.
Source: Pillow's resizing; torch's arithmetic for (pixel / 255 - mean) / std.
"""

import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image

from wsolkern.datasets import ImageFolder, Preprocessing, class_folders
from wsolkern.errors import DatasetError


def picture(number: int, mode: str = "RGB") -> Image.Image:
    """Noise of a size that goes by the number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (20 + number % 7, 30 + number % 5, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def root(tmp_path):
    """13 images in two folders."""
    for number in range(13):
        path = tmp_path / "data" / f"class {number % 2}" / f"{number}.{'png' if number % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "data"


def ids_of(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))


def damage(root) -> dict[str, str]:
    """Adds what cannot be read; id -> what its problem says."""
    png = (root / "class 0" / "2.png").read_bytes()
    (root / "cut off.png").write_bytes(png[: len(png) // 2])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("no image")
    (root / "folder.jpg").mkdir()
    return {
        "cut off.png": "cannot be read as an image",
        "empty.jpg": "cannot be read as an image",
        "text.jpg": "cannot be read as an image",
        "folder.jpg": "cannot be read as an image",
        "missing.jpg": "no such file",
    }


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_pixels_are_those_of_the_published_transform(mode):
    image = picture(3, mode)
    found = Preprocessing((16, 24))(image)
    resized = torch.tensor(np.asarray(image.convert("RGB").resize((24, 16), Image.Resampling.BILINEAR)))
    tensor = resized.permute(2, 0, 1).contiguous().float().div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = tensor.sub(mean[:, None, None]).div(std[:, None, None])
    np.testing.assert_array_equal(found, expected.numpy(), strict=True)
    assert found.flags.c_contiguous


def test_pixel_values_stay_as_they_are():
    image = picture(5)
    found = Preprocessing((8, 8), "nearest", (0, 0, 0), (1, 1, 1), 255)(image)
    expected = np.asarray(image.resize((8, 8), Image.Resampling.NEAREST)).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (0, 4)}, "size: "),
        ({"interpolation": "cubic"}, "interpolation: .*bicubic.*found cubic"),
        ({"mean": (0, 0)}, "mean: expected three"),
        ({"std": (1, 0, 1)}, "std: .*none of them 0"),
        ({"mean": (0, 0, float("nan"))}, "mean: "),
        ({"white": 0}, "white: "),
    ],
)
def test_preprocessing_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**wrong)


@pytest.mark.parametrize("num_readers", [1, 3])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_batches_are_in_order(root, size, num_readers):
    ids = ids_of(root)[::-1]
    folder = ImageFolder(root, ids, Preprocessing((8, 9)), num_readers=num_readers)
    seen = []
    for image_ids, images in folder.batches(size):
        assert images.shape == (len(image_ids), 3, 8, 9) and images.dtype == np.float32
        assert len(image_ids) == min(size, len(ids) - len(seen))
        for image_id, image in zip(image_ids, images, strict=True):
            np.testing.assert_array_equal(image, folder.read(image_id))
        seen += image_ids
    assert seen == ids and folder.problems == {} and len(folder) == 13


def test_what_cannot_be_read_is_listed(root):
    good, bad = ids_of(root), damage(root)
    ids = [image_id for pair in zip(good, [*bad] * 3, strict=False) for image_id in pair]
    folder = ImageFolder(root, ids, Preprocessing((8, 8)))
    found = {image_id: image for batch in folder.batches(4) for image_id, image in zip(*batch, strict=True)}
    assert sorted(found) == good and folder.problems.keys() == bad.keys()
    for image_id, reason in bad.items():
        assert reason in folder.problems[image_id] and str(root / image_id) in folder.problems[image_id]
        with pytest.raises(DatasetError, match=reason):
            folder.read(image_id)
    picture(0).save(root / "missing.jpg")  # it is there the next time
    assert list(folder.windows([["missing.jpg"]]))[0].readable.all() and "missing.jpg" not in folder.problems


def test_images_keep_their_places(root):
    good, _ = ids_of(root), damage(root)
    (batch,) = ImageFolder(root, good, Preprocessing((8, 8))).windows([[good[0], "text.jpg", good[1]]])
    assert batch.readable.tolist() == [True, False, True] and not batch.images[1].any() and batch.images[2].any()


def test_batches_tell_which_files_were_read(root):
    ids = [*ids_of(root)[:3], "missing.jpg", "text.jpg"]
    (root / "text.jpg").write_text("no image")
    os.utime(root / ids[1], ns=(5, 1_234_567_890_123_456_789))
    for hashed in (False, True):
        (batch,) = ImageFolder(root, ids, Preprocessing((8, 8))).windows([ids], with_hash=hashed)
        assert (
            batch.files.dtype == np.int64 and batch.files.shape == (5, 2) and batch.files[1, 1] == 1234567890123456789
        )
        for row, image_id in enumerate(ids):
            there = image_id != "missing.jpg"
            status = os.stat(root / image_id) if there else None
            assert batch.files[row].tolist() == ([status.st_size, status.st_mtime_ns] if there else [0, 0])
            sha256 = hashlib.sha256((root / image_id).read_bytes()).hexdigest() if there else None
            assert batch.hashes[row] == (sha256 if hashed else None)
        assert batch.readable.tolist() == [True] * 3 + [False] * 2
        assert list(ImageFolder(root, []).windows([], with_hash=hashed)) == []


def test_only_a_few_images_are_read_ahead(root):
    folder, taken = ImageFolder(root, ids_of(root), Preprocessing((8, 8)), num_readers=2), []

    def windows():
        for number in range(1000):
            taken.append(number)
            yield [folder.image_ids[number % 13]]

    batches = folder.windows(windows())
    for number in range(20):
        next(batches)
        assert len(taken) <= number + 6
    batches.close()


def test_a_folder_a_class(root):
    (root / "class 1" / "deeper").mkdir()
    picture(1).save(root / "class 1" / "deeper" / "x.JPEG")
    (root / "class 1" / "notes.txt").write_text("no image")
    (root / "a class without images").mkdir()
    with pytest.warns(UserWarning, match="without images count as no class: a class without images"):
        found = class_folders(root)
    assert len(found) == 14 and found["class 1/deeper/x.JPEG"] == 1 and found["class 0/2.png"] == 0
    assert list(found) == sorted(found)
    with pytest.raises(DatasetError, match="expected folders, one a class"):
        class_folders(root / "class 0")
    with pytest.raises(DatasetError, match="no such folder"):
        class_folders(root / "nothing")


def test_wrong_arguments(root):
    with pytest.raises(DatasetError, match="nothing: no such folder of images"):
        ImageFolder(root / "nothing", [])
    with pytest.raises(ValueError, match="size: expected at least 1, found 0"):
        next(ImageFolder(root, ids_of(root)).batches(0))
    with pytest.raises(ValueError, match="num_readers: "):
        ImageFolder(root, [], num_readers=0)


def test_a_data_root_one_folder_too_high_names_the_one_meant(tmp_path):
    for name in ("a/1.png", "a/2.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    ids = ["a/1.png", "a/2.png"]
    with pytest.raises(DatasetError, match=r"has no image 'a/1.png'; the folder meant seems to be .*images$"):
        ImageFolder(tmp_path, ids)
    assert len(ImageFolder(tmp_path / "images", ids)) == 2
    assert len(ImageFolder(tmp_path, ["images/a/1.png", "a/2.png"])) == 2  # one is there
    assert len(ImageFolder(tmp_path, ["b/1.png"])) == 1  # nowhere

"""What image, mask and map files become: at their own range, as they are meant, or refused by name; never empty.

In: files of every mode, written here. Out: values, errors that name the file and the way on, within a bounded time.
Source: Pillow's conversions for 8 bits; cv2.imread(..., IMREAD_GRAYSCALE) for masks; TIFF 6.0 and Exif for the rest.
"""

import os
import re
import socket
import struct
import unicodedata
import warnings

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

from wsolkern.cli import app
from wsolkern.datasets import ImageFolder, MapFolder, MaskFolder, Preprocessing, class_folders, load_mask, pixels
from wsolkern.datasets.folders import nearest_files, path_below
from wsolkern.datasets.masks import load_grey
from wsolkern.errors import DatasetError

RAMP = np.linspace(0, 1, 256)[None].repeat(4, axis=0)  # [4, 256], mean 0.5
PLAIN = {"interpolation": "nearest", "mean": (0, 0, 0), "std": (1, 1, 1)}
RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def tiff(path, values, *, photometric=1, sample_format=1, bits=None, orientation=1):
    """A TIFF file of one channel [h, w], with tags that Pillow does not write."""
    data = values if isinstance(values, bytes) else values.tobytes()
    height, width, itemsize = (1, 4, None) if isinstance(values, bytes) else (*values.shape, values.itemsize)
    tags = {256: width, 257: height, 258: bits or 8 * itemsize, 259: 1, 262: photometric, 274: orientation}
    tags |= {277: 1, 278: height, 339: sample_format}
    entries = [(tag, 3, value) for tag, value in tags.items()] + [(273, 4, 8), (279, 4, len(data))]
    data += b"\0" * (len(data) % 2)
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    start = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(start + data + struct.pack("<H", len(entries)) + directory + bytes(4))


def saved(image, path, **how) -> None:
    """Writes an image; the test is skipped where Pillow cannot do that, or read again what it wrote."""
    try:
        image.save(path, **how)
        with Image.open(path) as again:
            again.load()
    except (KeyError, OSError, ValueError) as error:
        pytest.skip(f"this Pillow writes no {path.suffix} of {image.mode} that it reads: {error}")


def read(path, size=(4, 256), **how) -> np.ndarray:
    """An image as [3, H, W] in [0, 1]."""
    return ImageFolder(path.parent, [], Preprocessing(size, **PLAIN), **how).read(path.name)


class TestImages:
    @pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "jp2"])
    def test_16_bits_are_read_at_their_own_range(self, tmp_path, suffix):
        path = tmp_path / f"ramp.{suffix}"
        values = np.round(RAMP * 65535).astype(np.uint16)
        Image.fromarray(values.astype(np.int32) if suffix == "ppm" else values).save(path)
        found = read(path)
        assert abs(found.mean() - 0.5) < 1e-6
        np.testing.assert_array_equal(found, np.round(RAMP * 255).astype(np.float32)[None].repeat(3, 0) / 255)

    def test_big_endian_12_bits_and_white_zero(self, tmp_path):
        values = np.array([[0, 257, 65535, 32896]], np.uint16)
        Image.fromarray(values.astype(">u2")).save(tmp_path / "big.tiff")
        np.testing.assert_array_equal(read(tmp_path / "big.tiff", (1, 4))[0] * 255, [[0, 1, 255, 128]])
        tiff(tmp_path / "white.tiff", values, photometric=0)
        np.testing.assert_array_equal(read(tmp_path / "white.tiff", (1, 4))[0] * 255, [[255, 254, 0, 127]])
        tiff(tmp_path / "12.tiff", bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00]), bits=12)
        np.testing.assert_array_equal(read(tmp_path / "12.tiff", (1, 4))[0] * 255, [[0, 255, 128, 0]])

    def test_floats_are_fractions(self, tmp_path):
        Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "ramp.tiff")
        assert abs(read(tmp_path / "ramp.tiff").mean() - 0.5) < 1e-6
        tiff(tmp_path / "white.tiff", RAMP.astype(np.float32), photometric=0, sample_format=3)
        np.testing.assert_array_equal(read(tmp_path / "white.tiff"), read(tmp_path / "ramp.tiff")[..., ::-1])

    @pytest.mark.parametrize("value", [-0.1, 1.5, 255, np.nan, np.inf])
    def test_other_floats_are_refused(self, tmp_path, value):
        values = RAMP.astype(np.float32)
        values[2, 3] = value
        Image.fromarray(values).save(tmp_path / "x.tiff")
        with pytest.raises(DatasetError, match=r"x.tiff: .*expected values from 0 \(black\) to 1 \(white\), found "):
            read(tmp_path / "x.tiff")

    def test_integers_without_a_white_are_refused(self, tmp_path):
        Image.fromarray(np.array([[0, 255]], np.int32)).save(tmp_path / "32.tiff")
        for name, dtype in (("s8", np.int8), ("s16", np.int16), ("s32", np.int32)):
            tiff(tmp_path / f"{name}.tiff", np.array([[0, 1]], dtype), sample_format=2)
        for name in ("32", "s8", "s16", "s32"):
            with pytest.raises(DatasetError, match=rf"{name}.tiff: .*integers have no defined.*; save it with 8"):
                read(tmp_path / f"{name}.tiff")

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *(("1", each) for each in ("png", "tiff", "bmp", "gif")),
            *(("L", each) for each in ("png", "tiff", "bmp", "jpg", "gif", "webp")),
            *(("LA", each) for each in ("png", "tiff")),
            *(("P", each) for each in ("png", "tiff", "gif", "bmp")),
            ("PA", "tiff"),
            *(("RGB", each) for each in ("png", "tiff", "bmp", "jpg", "gif", "webp", "ppm")),
            *(("RGBA", each) for each in ("png", "tiff", "webp")),
            *(("CMYK", each) for each in ("tiff", "jpg")),
            *(("YCbCr", each) for each in ("tiff", "jpg")),
        ],
    )
    def test_8_bits_stay_as_published(self, tmp_path, mode, suffix):
        path = tmp_path / f"x.{suffix}"
        saved(Image.fromarray(RGB).convert(mode), path)
        with Image.open(path) as image:
            published = np.asarray(image.convert("RGB"))
        found = read(path, (20, 30), image_sizes={path.name: (30, 20)})
        np.testing.assert_array_equal(found, np.float32(published.transpose(2, 0, 1)) / np.float32(255))

    def test_palettes_and_frames_stay_as_published(self, tmp_path):
        palette = Image.fromarray(RGB).quantize(7)
        palette.save(tmp_path / "x.png", transparency=bytes([0, 255, 128]))
        other = Image.fromarray(255 - RGB).quantize(9)
        palette.save(tmp_path / "x.gif", save_all=True, append_images=[other])
        for name in ("x.png", "x.gif"):
            np.testing.assert_array_equal(
                np.uint8(np.round(read(tmp_path / name, (20, 30)) * 255)),
                np.asarray(palette.convert("RGB")).transpose(2, 0, 1),
            )

    def test_modes_of_images_in_memory(self):
        image = Image.fromarray(RGB)
        for mode, through in (("La", "LA"), ("RGBa", "RGBA"), ("HSV", "HSV"), ("RGBX", "RGBX")):
            found = pixels.to_rgb(image.convert(through).convert(mode))
            expected = image.convert(through).convert("RGB")
            assert np.abs(np.int16(np.asarray(found)) - np.asarray(expected)).max() == 0, mode
        for mode in ("I", "F"):
            with pytest.raises(ValueError, match="no defined white|floats: expected"):
                Preprocessing()(image.convert("L").convert(mode))
        image = Image.new("LAB", (4, 4), (128, 10, 20))
        np.testing.assert_array_equal(np.asarray(pixels.to_rgb(image)), np.asarray(image.convert("RGB")))

    def test_too_many_pixels(self, tmp_path, monkeypatch):
        Image.new("1", (200, 100)).save(tmp_path / "x.png")
        Image.new("L", (200, 100)).save(tmp_path / "x.tiff")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
        for name in ("x.png", "x.tiff"):
            for reading in (lambda path: read(path), lambda path: load_mask(path.parent, [path.name])):
                with pytest.raises(DatasetError, match=rf"{name}: .*20000 pixels.*10000.*save a smaller copy"):
                    reading(tmp_path / name)


def photograph(path, orientation=6, size=(30, 20), **options):
    """One with a bright half, stored on the left; displayed under 6 on top, under 8 at the bottom. Width x height."""
    values = np.zeros((size[1], size[0], 3), np.uint8)
    values[:, : size[0] // 2] = 200
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(values).save(path, exif=exif, **options)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
    def test_the_listed_size_decides(self, tmp_path, orientation, suffix):
        path = tmp_path / f"x.{suffix}"
        photograph(path, orientation, **({"lossless": True} if suffix == "webp" else {}))
        with Image.open(path) as image:
            turns_itself = suffix == "tiff"
            image.load()
            as_pillow = np.asarray(image)
        stored = np.asarray(Image.fromarray(np.uint8([[[200] * 3] * 15 + [[0] * 3] * 15] * 20)))
        steps = {1: "", 2: "m", 3: "rr", 4: "mrr", 5: "mr", 6: "rrr", 7: "mrrr", 8: "r"}[orientation]
        shown = stored
        for step in steps:
            shown = shown[:, ::-1] if step == "m" else np.rot90(shown)
        readings = {stored.shape[1::-1]: stored, shown.shape[1::-1]: shown}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for size, expected in readings.items() if orientation in (1, 5, 6, 7, 8) else ():
                found = read(path, size[::-1], image_sizes={path.name: size})
                assert np.abs(found * 255 - expected.transpose(2, 0, 1)).max() < 30, (size, "JPEG's loss is small")
        for size in (None, (30, 20)) if orientation in (2, 3, 4) else (None,):
            folder = ImageFolder(tmp_path, [path.name], Preprocessing(as_pillow.shape[:2], **PLAIN),
                                 image_sizes=size and {path.name: size})  # fmt: skip
            if orientation == 1:
                ((_, found),) = folder.batches()
            else:
                with pytest.warns(UserWarning, match=r"1 images have an orientation tag.* such as x\."):
                    ((_, found),) = folder.batches()
            assert folder.undecided == ({path.name} if orientation > 1 else set())
            np.testing.assert_array_equal(np.uint8(np.round(found[0] * 255)), as_pillow.transpose(2, 0, 1))
            if not turns_itself:
                assert as_pillow.shape == (20, 30, 3)
        with pytest.raises(DatasetError, match=r"x\..*expected 31 x 20 pixels as image_sizes.txt says, found "):
            read(path, image_sizes={path.name: (31, 20)})

    def test_other_sizes_are_problems_by_name(self, tmp_path):
        photograph(tmp_path / "a.jpg")
        photograph(tmp_path / "b.jpg", 1)
        sizes = {"a.jpg": (10, 10), "b.jpg": (20, 30)}
        folder = ImageFolder(tmp_path, sizes, image_sizes=sizes)
        assert list(folder.batches()) == []
        assert re.search(r"a.jpg: .*expected 10 x 10 .*found 30 x 20 \(20 x 30 turned", folder.problems["a.jpg"])
        assert folder.problems["b.jpg"].endswith("expected 20 x 30 pixels as image_sizes.txt says, found 30 x 20")

    def test_squares_are_counted_once(self, tmp_path):
        for number in range(3):
            photograph(tmp_path / f"{number}.jpg", 6, (20, 20))
        names = [f"{number}.jpg" for number in range(3)]
        folder = ImageFolder(tmp_path, names, Preprocessing((4, 4)), image_sizes=dict.fromkeys(names, (20, 20)))
        with pytest.warns(UserWarning, match=r"3 images have an orientation tag") as told:
            list(folder.batches(1))
            list(folder.batches(1))
        assert len(told) == 1

    def test_damaged_exif_data_are_no_tag(self, tmp_path):
        for name, exif in (("a.jpg", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"), ("b.jpg", b"Exif\0\0junk")):
            Image.fromarray(RGB).save(tmp_path / name, exif=exif)
            folder = ImageFolder(tmp_path, [name], Preprocessing((20, 30)))
            assert len(list(folder.batches())) == 1 and not folder.undecided and not folder.problems


class TestMasksAreNeverEmpty:
    @pytest.fixture
    def half(self):
        mask = np.zeros((40, 60), np.uint8)
        mask[:, :30] = 1
        return mask

    def expect(self, folder, name, mask):
        """A mask reads as what it should be, as instance and as region to ignore."""
        expected = cv2.resize(mask, (224, 224), interpolation=cv2.INTER_NEAREST) > 0
        np.testing.assert_array_equal(load_mask(folder, [name]), expected)
        Image.new("L", (60, 40)).save(folder / "nothing.png")
        np.testing.assert_array_equal(load_mask(folder, ["nothing.png"], name), expected * 255)

    def refused(self, folder, name, message):
        for doors in (
            lambda: load_mask(folder, [name]),
            lambda: load_mask(folder, ["nothing.png"], name),
            lambda: MaskFolder(folder, {"a": [name]}, {})("a"),
            lambda: load_grey(folder / name, (224, 224)),
        ):
            Image.new("L", (60, 40)).save(folder / "nothing.png")
            with pytest.raises(DatasetError, match=f"{re.escape(name)}: .*{message}"):
                doors()

    @pytest.mark.parametrize("value", [1, 2, 127, 255])
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif"])
    def test_grey_values(self, tmp_path, half, value, suffix):
        Image.fromarray(half * np.uint8(value)).save(tmp_path / f"x.{suffix}")
        self.expect(tmp_path, f"x.{suffix}", half)

    def test_bits(self, tmp_path, half):
        for suffix in ("png", "bmp", "tiff", "pbm"):
            Image.fromarray(half > 0).save(tmp_path / f"x.{suffix}")
            self.expect(tmp_path, f"x.{suffix}", half)

    def test_palettes(self, tmp_path, half):
        def save(name, values, colours, **options):
            image = Image.fromarray(values).convert("L")
            image = Image.frombytes("P", image.size, values.tobytes())
            image.putpalette(np.uint8(colours).ravel().tolist())
            image.save(tmp_path / name, **options)

        for suffix in ("png", "tiff", "bmp", "gif"):
            save(f"good.{suffix}", half, [[0, 0, 0], [128, 0, 0]])
            self.expect(tmp_path, f"good.{suffix}", half)
            save(f"other.{suffix}", half * np.uint8(2), [[0, 0, 0], [9, 9, 9], [128, 0, 0]])
            self.expect(tmp_path, f"other.{suffix}", half)
        save("reversed.png", 1 - half, [[0, 0, 128], [0, 0, 0]])  # 0 is no background by itself: colours count
        self.expect(tmp_path, "reversed.png", half)
        save("black.png", half, [[0, 0, 0]] * 2)
        self.refused(tmp_path, "black.png", "its palette entries 0 and 1 are the same black")
        save("dark.png", half, [[0, 0, 0], [1, 0, 0]])
        self.refused(tmp_path, "dark.png", "holds values other than 0, but all are too dark")
        save("all.png", half * 0 + np.uint8(1), [[0, 0, 0]] * 2)
        self.refused(tmp_path, "all.png", "holds values other than 0, but all are too dark")
        several = half.copy()
        several[:20] *= 2  # one instance is seen, the other is black
        save("several.png", several, [[0, 0, 0], [0, 0, 0], [255, 0, 0]])
        self.refused(tmp_path, "several.png", "its palette entries 0 and 1 are the same black")
        save("alpha.png", half, [[0, 0, 0]] * 2, transparency=bytes([0, 255]))
        self.refused(tmp_path, "alpha.png", "only its alpha tells the object")
        save("white.png", half, [[255, 255, 255]] * 2, transparency=bytes([0, 255]))
        self.refused(tmp_path, "white.png", "only its alpha tells the object")
        save("empty.png", half * 0, [[0, 0, 0], [255, 0, 0]])
        self.expect(tmp_path, "empty.png", half * 0)

    @pytest.mark.parametrize("value", [0, 255])
    def test_alpha_alone(self, tmp_path, half, value):
        grey = np.full_like(half, value)
        images = {"la.png": [grey, half * 255], "rgba.png": [grey] * 3 + [half * 255], "la.tiff": [grey, half * 255]}
        for name, channels in images.items():
            Image.fromarray(np.dstack(channels)).save(tmp_path / name)
            self.refused(tmp_path, name, "only its alpha tells the object from the background; save it as a black and")
        Image.fromarray(np.dstack([grey] * 3 + [half * 255])).save(tmp_path / "x.webp", lossless=True, exact=True)
        self.refused(tmp_path, "x.webp", "only its alpha")

    def test_alpha_and_colours(self, tmp_path, half):
        Image.fromarray(np.dstack([half * 255] * 3 + [half * 255])).save(tmp_path / "both.png")
        self.expect(tmp_path, "both.png", half)
        Image.fromarray(np.dstack([half * 255, np.full_like(half, 255)])).save(tmp_path / "opaque.png")
        self.expect(tmp_path, "opaque.png", half)
        Image.fromarray(np.dstack([half * 0, np.full_like(half, 255)])).save(tmp_path / "empty.png")
        self.expect(tmp_path, "empty.png", half * 0)
        photo = np.random.default_rng(0).integers(1, 256, (40, 60, 3), np.uint8)
        Image.fromarray(np.dstack([photo, half * 255])).save(tmp_path / "cut.png")  # a photograph cut out
        with pytest.raises(DatasetError, match="cut.png: its alpha channel hides pixels of the object"):
            load_mask(tmp_path, ["cut.png"])
        np.testing.assert_array_equal(
            load_grey(tmp_path / "cut.png", (40, 60)), cv2.imread(str(tmp_path / "cut.png"), cv2.IMREAD_GRAYSCALE)
        )
        tiff_of = Image.merge("LA", [Image.fromarray(half * np.uint8(255))] * 2)
        tiff_of.save(tmp_path / "premultiplied.tiff", tiffinfo={338: 1})
        self.expect(tmp_path, "premultiplied.tiff", half)

    @pytest.mark.parametrize("suffix", ["png", "tiff", "jp2", "ppm"])
    def test_16_bits(self, tmp_path, half, suffix):
        def save(name, values):
            Image.fromarray(values.astype(np.int32 if suffix == "ppm" else np.uint16)).save(tmp_path / name)

        for value in (256, 65535):
            save(f"{value}.{suffix}", half.astype(np.int32) * value)
            self.expect(tmp_path, f"{value}.{suffix}", half)
            grey = load_grey(tmp_path / f"{value}.{suffix}", (40, 60))
            np.testing.assert_array_equal(grey, cv2.imread(str(tmp_path / f"{value}.{suffix}"), cv2.IMREAD_GRAYSCALE))
        for value in (1, 255):
            save(f"{value}.{suffix}", half.astype(np.int32) * value)
            self.refused(tmp_path, f"{value}.{suffix}", "holds values other than 0, but all are too dark")

    def test_white_zero_equals_opencv(self, tmp_path, half):
        values = np.uint16(65535) - half.astype(np.uint16) * np.uint16(65535)
        tiff(tmp_path / "x.tiff", values, photometric=0)
        grey = load_grey(tmp_path / "x.tiff", (40, 60))
        np.testing.assert_array_equal(grey, cv2.imread(str(tmp_path / "x.tiff"), cv2.IMREAD_GRAYSCALE))
        self.expect(tmp_path, "x.tiff", half)
        tiff(tmp_path / "f.tiff", half.astype(np.float32), photometric=0, sample_format=3)
        self.refused(tmp_path, "f.tiff", "0 is white in it")

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_whole_numbers_of_32_bits(self, tmp_path, half, dtype):
        for value in (1, 300, 70000):
            Image.fromarray(half.astype(dtype) * dtype(value)).save(tmp_path / "x.tiff")
            self.expect(tmp_path, "x.tiff", half)
        for value in (-1, 0.5, np.nan) if dtype == np.float32 else (-1,):
            Image.fromarray(np.where(half, dtype(value), dtype(0))).save(tmp_path / "x.tiff")
            self.refused(tmp_path, "x.tiff", "expected whole numbers from 0, found ")

    def test_signed_integers(self, tmp_path, half):
        for dtype in (np.int8, np.int16, np.int32):
            tiff(tmp_path / "x.tiff", half.astype(dtype), sample_format=2)
            self.expect(tmp_path, "x.tiff", half)

    def test_dark_colours(self, tmp_path, half):
        for name in ("x.png", "x.bmp", "x.tiff"):
            Image.fromarray(half[..., None] * np.uint8([1, 0, 0])).save(tmp_path / name)
            self.refused(tmp_path, name, "holds values other than 0, but all are too dark")
        Image.fromarray(half[..., None] * np.uint8([4, 0, 0])).save(tmp_path / "x.png")
        self.expect(tmp_path, "x.png", half)

    def test_an_object_that_no_pixel_is_picked_of_is_none(self, tmp_path):
        mask = np.zeros((1000, 1000), np.uint8)
        mask[1, 1] = 255
        for name in ("x.png", "rgb.png"):
            Image.fromarray(mask).convert("RGB" if name == "rgb.png" else "L").save(tmp_path / name)
            assert not load_mask(tmp_path, [name]).any()  # as the published evaluation has it

    def test_a_large_mask_is_searched_to_its_end(self, tmp_path):
        """It is looked through in bands: a GIF of 35 bytes with 147 million dark pixels took 3 GB and 10 seconds."""
        mask = np.zeros((2100, 2100, 3), np.uint8)
        mask[-1, -1] = 1, 0, 0
        Image.fromarray(mask).save(tmp_path / "x.png")
        self.refused(tmp_path, "x.png", "holds values other than 0, but all are too dark")
        mask[-1, -1] = 255, 0, 0
        Image.fromarray(mask).save(tmp_path / "x.png")
        assert not load_mask(tmp_path, ["x.png"]).any()

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [("CMYK", "tiff"), ("CMYK", "jpg"), ("YCbCr", "tiff"), ("PA", "tiff"), ("RGB", "webp"), ("RGB", "jp2"),
         ("RGB", "avif"), ("P", "gif"), ("RGBA", "tiff"), ("LA", "tiff")],
    )  # fmt: skip
    def test_other_modes_have_the_pixels_of_opencv(self, tmp_path, half, mode, suffix):
        path = tmp_path / f"x.{suffix}"
        saved(Image.fromarray(half[..., None] * np.uint8([255, 128, 0])).convert(mode), path, lossless=True)
        grey, expected = load_grey(path, (40, 60)), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        least = 16 if suffix in ("jpg", "avif") else 1  # these blur
        np.testing.assert_array_equal(grey >= least, half > 0)
        if expected is not None:
            assert np.abs(np.int16(grey) - expected).max() <= 1  # decoders round colours otherwise

    @pytest.mark.parametrize("suffix", ["tiff", "gif", "png", "webp"])
    def test_several_frames(self, tmp_path, half, suffix):
        frames = [Image.fromarray(half * np.uint8(255)), Image.fromarray(255 - half * np.uint8(255))]
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
        self.refused(tmp_path, f"x.{suffix}", "expected one frame, found 2: list each as a mask file of its own")

    def test_masks_are_turned_as_opencv_turns_them(self, tmp_path):
        for orientation in range(1, 9):
            for suffix in ("jpg", "png"):
                photograph(tmp_path / f"x.{suffix}", orientation)
                expected = cv2.imread(str(tmp_path / f"x.{suffix}"), cv2.IMREAD_GRAYSCALE)
                np.testing.assert_array_equal(load_grey(tmp_path / f"x.{suffix}", expected.shape), expected)

    def test_a_missing_ignore_mask(self, tmp_path, half):
        Image.fromarray(half).save(tmp_path / "x.png")
        with pytest.raises(DatasetError, match=r"i.png: no such ignore mask; an empty path.*--allow-missing-ignore"):
            load_mask(tmp_path, ["x.png"], "i.png")
        with pytest.raises(DatasetError, match=r"I.png: no such ignore mask; there is i.png"):
            Image.fromarray(half).save(tmp_path / "i.png")
            load_mask(tmp_path, ["x.png"], "I.png")
        assert load_mask(tmp_path, ["x.png"], "none.png", allow_missing_ignore=True).max() == 1
        with pytest.raises(DatasetError, match="y.png: no such mask file"):
            load_mask(tmp_path, ["y.png"], allow_missing_ignore=True)


def special(path, kind):
    """What is no regular file, in place of one."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        here = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
        server.close()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


class TestFolders:
    @pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
    def test_only_regular_files_are_opened(self, tmp_path, kind):
        for suffix in ("png", "npy", "npz", "safetensors"):
            special(tmp_path / f"x.{suffix}", kind)
        found = "No such device" if kind == "socket" else f"found a {kind}"
        with pytest.raises(DatasetError, match=f"x.png: cannot be read as an image: .*{found}"):
            ImageFolder(tmp_path, []).read("x.png")
        for paths in ((["x.png"], None), (["good.png"], "x.png")):
            Image.new("L", (9, 9)).save(tmp_path / "good.png")
            with pytest.raises(DatasetError, match=f"x.png: cannot be read as an image: .*{found}"):
                load_mask(tmp_path, *paths)
        for suffix in ("npy", "npz", "safetensors"):
            folder = tmp_path / suffix
            folder.mkdir()
            special(folder / f"x.{suffix}", kind)
            maps = MapFolder(folder, ["x"])
            assert list(maps.batches()) == [] and found in maps.problems["x"]
            if kind != "folder":
                with pytest.raises(DatasetError, match=found):
                    MapFolder(tmp_path / f"x.{suffix}", ["x"])

    @pytest.mark.parametrize("name", ["../out", "a/../../out", "{out}", "..", "a/../../data/../out"])
    def test_nothing_outside_the_folder_is_read(self, tmp_path, name):
        data = tmp_path / "data"
        (data / "a").mkdir(parents=True)
        np.save(tmp_path / "out.npy", np.ones((4, 4)))
        Image.new("RGB", (9, 9)).save(tmp_path / "out.png")
        name = name.format(out=tmp_path / "out")
        for reading in (
            lambda: ImageFolder(data, []).read(f"{name}.png"),
            lambda: load_mask(data, [f"{name}.png"]),
            lambda: load_mask(data, ["in.png"], f"{name}.png"),
            lambda: MapFolder(data, [f"{name}.jpg"]).read(f"{name}.jpg"),
            lambda: MapFolder(data, [f"{name}.jpg"] * 9).read(f"{name}.jpg"),
        ):
            Image.new("RGB", (9, 9)).save(data / "in.png")
            with pytest.raises(
                DatasetError, match="expected (a path inside this folder|relative paths)|no such|no map"
            ):
                reading()
        maps = MapFolder(data, [f"{name}{n}.jpg" for n in range(9)] + [f"{name}.jpg"])
        assert list(maps.batches()) == [] and len(maps.problems) == 10

    def test_links_inside_are_followed(self, tmp_path):
        elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
        elsewhere.mkdir()
        data.mkdir()
        Image.new("RGB", (9, 9), (255, 0, 0)).save(elsewhere / "x.png")
        Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
        np.save(elsewhere / "x.npy", np.ones((4, 4)))
        (data / "link").symlink_to(elsewhere)
        assert ImageFolder(data, []).read("link/x.png").shape == (3, 224, 224)
        assert load_mask(data, ["link/x.png"]).all() and MapFolder(data, []).read("link/x.jpg").all()
        assert path_below(data, "link/../x.png") == f"{data}/x.png"  # not beside what the link leads to
        with pytest.raises(DatasetError, match="no such file"):
            ImageFolder(data, []).read("link/../secret.png")

    @pytest.mark.parametrize(
        ("there", "wanted"),
        [
            ("a/x.JPG", "a/x.jpg"),
            ("A/x.jpg", "a/x.jpg"),
            ("a/x.jpeg", "a/x.jpg"),
            ("a/x", "a/x.jpg"),
            ("a/x.jpg", "a/x"),
            ("a/x.jpg", "a\\x.jpg"),
            (unicodedata.normalize("NFD", "ä/é.jpg"), unicodedata.normalize("NFC", "ä/é.jpg")),
            (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")),
        ],
    )
    def test_the_spelling_that_is_there_is_shown(self, tmp_path, there, wanted):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / there, "png")
        hint = f"; there is {there}"
        folder = ImageFolder(tmp_path, [wanted])
        assert list(folder.batches()) == [] and folder.problems[wanted].endswith("no such file" + hint)
        with pytest.raises(DatasetError, match=re.escape(hint)):
            folder.read(wanted)
        with pytest.raises(DatasetError, match=re.escape(f"no such mask file{hint}")):
            load_mask(tmp_path, [wanted])
        with pytest.raises(DatasetError, match=re.escape(f"no such mask file{hint}")):
            MaskFolder(tmp_path, {"a": [wanted], "b": ["other.png"]}, {"a": None})("a")

    @pytest.mark.parametrize("others", [0, 9])  # looked for one by one, or in a list of the folder
    @pytest.mark.parametrize(
        ("there", "wanted"),
        [
            ("a/x.JPG", "a/x.jpg"),
            ("A/x", "a/x.jpg"),
            ("a/X.png", "a/x.jpg"),
            ("a/x.jpg", "a/x"),
            ("a/x.jpg", "a\\x.jpg"),
            (unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é.jpg")),
        ],
    )
    def test_maps_under_another_spelling(self, tmp_path, there, wanted, others):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        np.save(f"{tmp_path / there}.npy", np.ones((4, 4)))
        others = [f"{wanted}{n}.jpg" for n in range(others)]
        folder = MapFolder(tmp_path, [wanted, *others])
        assert list(folder.batches()) == [] and folder.problems[wanted].endswith(f"; there is {there}.npy")
        assert all(folder.problems[each].startswith(f"no map {each} or ") for each in others)
        for suffix in (".npz", ".safetensors"):
            if suffix == ".npz":
                np.savez(tmp_path / "all.npz", **{there: np.ones((4, 4))})
            else:
                safetensors.torch.save_file({there: torch.ones(4, 4)}, tmp_path / "all.safetensors")
            folder = MapFolder(tmp_path / f"all{suffix}", [wanted])
            assert list(folder.batches()) == [] and folder.problems[wanted].endswith(f"; there is {there}")

    def test_folders_on_the_way_are_listed_once(self, tmp_path, monkeypatch):
        for folder in ("One", "Two"):
            (tmp_path / folder).mkdir()
            for number in range(50):
                (tmp_path / folder / f"{number}.JPG.npy").touch()
        listed, scandir = [], os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
        names = [f"{folder}/{number}.jpg" for folder in ("one", "two", "three") for number in range(50)]
        found = nearest_files(tmp_path, names, (".npy",))
        assert len(found) == 100 and found["two/7.jpg"] == "Two/7.JPG.npy" and len(listed) == 3

    def test_maps_are_found_the_same_in_a_list_of_the_folder(self, tmp_path):
        kinds = {"a.jpg.npy": 1, "b.npy": 1, "c.npz": 1, "d.jpg.safetensors": 1, "e.txt": 0, "f.npy.bak": 0}
        for name in kinds:
            if name.endswith(".npz"):
                np.savez(tmp_path / name, np.ones((2, 2)))
            elif name.endswith(".safetensors"):
                safetensors.torch.save_file({"x": torch.ones(2, 2)}, tmp_path / name)
            elif name.endswith(".npy"):
                np.save(tmp_path / name, np.ones((2, 2)))
            else:
                (tmp_path / name).touch()
        (tmp_path / "g.npy").symlink_to(tmp_path / "b.npy")
        ids = [f"{each}.jpg" for each in "abcdefgh"]
        whole = MapFolder(tmp_path, ids)
        found = {each for names, _ in whole.batches() for each in names}
        assert found == {"a.jpg", "b.jpg", "c.jpg", "d.jpg", "g.jpg"} and whole.problems.keys() == {
            "e.jpg",
            "f.jpg",
            "h.jpg",
        }
        for image_id in ids:  # one by one
            if image_id in found:
                assert MapFolder(tmp_path, ids).read(image_id).shape == (2, 2)
            else:
                with pytest.raises(DatasetError) as error:
                    MapFolder(tmp_path, ids).read(image_id)
                assert str(error.value).endswith(whole.problems[image_id])

    @pytest.mark.slow
    def test_200_000_maps_that_are_missing(self, tmp_path):
        (tmp_path / "0").mkdir()
        np.save(tmp_path / "0" / "x.npy", np.ones((2, 2)))
        ids = [f"{number % 200}/{number}.jpg" for number in range(200_000)]
        checked, exists = [0], os.path.exists

        def counted(path):
            checked[0] += 1
            return exists(path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os.path, "exists", counted)
            folder = MapFolder(tmp_path, ids)
            assert list(folder.batches()) == [] and len(folder.problems) == 200_000
        assert checked[0] == 0


class TestHalves:
    def test_bfloat16_and_float16(self, tmp_path):
        values = torch.tensor([[1.5, -2.25, 3.0e38], [float("nan"), float("inf"), 1e-40]])
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            tensor = values.to(dtype)
            safetensors.torch.save_file({"any": tensor}, tmp_path / "x.safetensors")
            safetensors.torch.save_file({"x.jpg": tensor}, tmp_path / "all.safetensors")
            for root in (tmp_path, tmp_path / "all.safetensors"):
                found = MapFolder(root, ["x.jpg"]).read("x.jpg")
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, tensor.float().numpy())

    @pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "complex64"])
    def test_what_is_no_number_of_ours(self, tmp_path, dtype):
        tensor = torch.ones(3, 4).to(getattr(torch, dtype))
        safetensors.torch.save_file({"x.jpg": tensor}, tmp_path / "x.safetensors")
        for root in (tmp_path, tmp_path / "x.safetensors"):
            with pytest.raises(DatasetError, match="expected integers, bool or floats of 16 to 64 bits, found [FC]"):
                MapFolder(root, ["x.jpg"]).read("x.jpg")

    @pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
    def test_other_numbers(self, tmp_path, dtype):
        tensor = torch.tensor([[0, 1], [2, 3]]).to(getattr(torch, dtype))
        safetensors.torch.save_file({"x.jpg": tensor}, tmp_path / "x.safetensors")
        for root in (tmp_path, tmp_path / "x.safetensors"):
            found = MapFolder(root, ["x.jpg"]).read("x.jpg")
            np.testing.assert_array_equal(found, tensor.double().numpy(), strict=True)


class TestClassFolders:
    def test_hidden_ones_and_those_without_images_are_no_classes(self, tmp_path):
        files = ["b/1.jpg", "c/2.jpg", "b/.ipynb_checkpoints/1-checkpoint.jpg", ".ipynb_checkpoints/0.jpg", "b/._1.jpg"]
        for name in (*files, "__MACOSX/._x.jpg", "a/notes.txt", ".git/x.png", "c/deep/3.PNG"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        with pytest.warns(UserWarning, match=r"without images count as no class: __MACOSX, a$"):
            assert class_folders(tmp_path) == {"b/1.jpg": 0, "c/2.jpg": 1, "c/deep/3.PNG": 1}
        with pytest.raises(DatasetError, match="expected folders, one a class"):
            class_folders(tmp_path / "a")


class TestCommands:
    """A photograph that is stored turned, sizes and boxes as displayed, from the image to the figure."""

    @pytest.fixture
    def data(self, tmp_path, monkeypatch):
        (tmp_path / "images").mkdir()
        (tmp_path / "split").mkdir()
        for number in range(3):  # bright on the left as stored, on top as displayed
            photograph(tmp_path / "images" / f"{number}.jpg", 6, (60, 40))
        self.write(tmp_path, "image_ids.txt", "{0}.jpg")
        self.write(tmp_path, "class_labels.txt", "{0}.jpg,0")
        self.write(tmp_path, "image_sizes.txt", "{0}.jpg,40,60")
        self.write(tmp_path, "localization.txt", "{0}.jpg,0,0,39,29")
        (tmp_path / "bright.py").write_text(
            "def cams():\n    return lambda images, classes: images.mean(1)[:, ::4, ::4]\n"
        )
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def write(self, root, name, line):
        (root / "split" / name).write_text("\n".join(line.format(number) for number in range(3)))

    def run(self, *arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    def accuracy(self, store, data):
        done = self.run("evaluate", "--cams", data / store, "--metadata", data / "split", "-n", "minmax", "--json", "-")
        assert done.exit_code == 0, done.stderr
        return re.search(r'"max_box_acc_v2": ([\d.]+)', done.stdout)[1]

    def test_extract_turns_what_is_meant_turned(self, data):
        extract = ["extract", "bright:cams", "--images", "images", "--metadata", "split", "--size", 64]
        done = self.run(*extract, "-o", "turned")
        assert done.exit_code == 0, done.stderr
        assert float(self.accuracy("turned", data)) == 100
        with pytest.warns(UserWarning, match="3 images have an orientation tag"):
            done = self.run(*extract, "-o", "stored", "--any-image-size")
        assert done.exit_code == 0 and float(self.accuracy("stored", data)) < 50

    def test_other_sizes_are_named(self, data):
        self.write(data, "image_sizes.txt", "{0}.jpg,41,60")
        done = self.run("extract", "bright:cams", "--images", "images", "--metadata", "split", "-o", "store")
        assert done.exit_code == 2 and "0.jpg: cannot be read as an image: expected 41 x 60 pixels" in done.stderr
        assert "found 60 x 40 (40 x 60 turned by its orientation tag)" in done.stderr

    def test_training_compares_sizes_of_both_splits(self, data):
        """Of each split the second image has another size than listed, or is taken with --any-image-size."""
        for split in ("train", "val"):
            os.makedirs(data / "all" / split)
            for name in ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt"):
                text = (data / "split" / name).read_text().replace("1.jpg,40,60", "1.jpg,44,60")
                text = text.replace("2.jpg,0\n", "2.jpg,1\n") if name == "class_labels.txt" else text
                for number in range(3):
                    text = text.replace(f"{number}.jpg", f"{split}{number}.jpg")
                (data / "all" / split / name).write_text(text)
            for number in range(3):
                os.link(data / "images" / f"{number}.jpg", data / "images" / f"{split}{number}.jpg")
        train = [
            "train",
            "--dataset",
            "images",
            "--metadata",
            "all",
            "--backbone",
            "tiny",
            "--method",
            "cam",
            "--epochs",
            1,
        ]
        train += [
            "--batch-size",
            2,
            "--resize-size",
            32,
            "--crop-size",
            32,
            "--threads",
            1,
            "--normalizations",
            "minmax",
        ]
        done = self.run(*train, "-o", "run")
        assert done.exit_code == 1 and "2 of 6 images were left out" in done.stderr, done.stderr
        for name in ("train1.jpg", "val1.jpg"):
            assert re.search(f"{name}: .*expected 44 x 60 pixels as image_sizes.txt says", done.stderr)
        with pytest.warns(UserWarning, match="3 images have an orientation tag"):
            done = self.run(*train, "-o", "any", "--any-image-size")
        assert done.exit_code == 0, done.stderr

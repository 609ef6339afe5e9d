"""Metadata files as people write them: each one is read right, or refused with file, line and the way on.

In: generated splits. Out: what load_metadata and the commands make of them.
Source: a line-by-line reading is what reading in blocks must equal.
"""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from wsolkern import DatasetError
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.compat import data_loaders
from wsolkern.datasets import load_metadata, tables
from wsolkern.datasets.ids import check_image_ids
from wsolkern.studies.counting import fingerprint
from wsolkern.training import TrainingData

FILES = {
    "image_ids.txt": "a.jpg\nb.jpg\nc.jpg\n",
    "class_labels.txt": "a.jpg,0\nb.jpg,5\nc.jpg,2\n",
    "image_sizes.txt": "a.jpg,500,375\nb.jpg,300,200\nc.jpg,640,480\n",
    "localization.txt": "a.jpg,60,27,385,331\nb.jpg,14,12,300,198\nc.jpg,1,2,640,4\nb.jpg,5,6,7,8\n",
}
MASKS = {
    "image_ids.txt": "a.jpg\nb.jpg\n",
    "localization.txt": "a.jpg,a_1.png,a_ignore.png\na.jpg,a_2.png,\nb.jpg,b_1.png,\n",
}


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def boxes_of(folder: Path, **how) -> list[list[int]]:
    return [box for each in load_metadata(folder, **how).boxes.values() for box in each.tolist()]


def error_of(folder: Path, **how) -> str:
    with pytest.raises(DatasetError) as raised:
        load_metadata(folder, **how)
    return str(raised.value)


class TestIntegers:
    @pytest.mark.parametrize(("text", "value"), [("+1", 1), (" 1", 1), ("1 ", 1), ("\t1", 1), ("007", 7), ("-0", 0)])
    def test_what_published_readers_take(self, tmp_path, text, value):
        write(tmp_path, {**FILES, "class_labels.txt": f"a.jpg,{text}\nb.jpg,5\nc.jpg,2\n"})
        assert load_metadata(tmp_path).class_labels["a.jpg"] == value
        write(tmp_path, {**FILES, "localization.txt": FILES["localization.txt"].replace("a.jpg,60", f"a.jpg,{text}")})
        assert load_metadata(tmp_path).boxes["a.jpg"].tolist() == [[value, 27, 385, 331]]
        assert data_loaders.get_bounding_boxes(data_loaders.configure_metadata(str(tmp_path)))["a.jpg"][0][0] == value

    @pytest.mark.parametrize(
        "text",
        ["1_0", "٣", "１", "²", "1.0", "3.0", "1e2", "0x1", "", " ", "--1", "1 0", "nan", "inf", "9" * 19, "9" * 5000],
    )
    def test_what_is_refused(self, tmp_path, text):
        for name, line in (
            ("class_labels.txt", "b.jpg,{}"),
            ("image_sizes.txt", "b.jpg,{},200"),
            ("localization.txt", "b.jpg,1,2,{},9"),
        ):
            lines = FILES[name].splitlines()
            lines[1] = line.format(text)
            error = error_of(write(tmp_path, {**FILES, name: "\n".join(lines)}))
            assert f"{name}:2: expected integers, found '" in error and "1 problem" in error and "header" not in error
            is_decimal = name == "localization.txt" and text in ("1.0", "3.0", "1e2")
            assert ("with a decimal point" in error) == is_decimal
            read = {
                "class_labels.txt": data_loaders.get_class_labels,
                "image_sizes.txt": data_loaders.get_image_sizes,
                "localization.txt": data_loaders.get_bounding_boxes,
            }[name]
            with pytest.raises(DatasetError, match=f"{name}:2: expected integers, found '"):
                read(data_loaders.configure_metadata(str(tmp_path)))

    @pytest.mark.parametrize("label", ["-1", "-7", str(1 << 31), str(1 << 53)])
    def test_labels_are_classes(self, tmp_path, label):
        error = error_of(write(tmp_path, {**FILES, "class_labels.txt": f"a.jpg,0\nb.jpg,{label}\nc.jpg,2"}))
        assert f"class_labels.txt:2: expected a class from 0 to 2147483647, found {label}" in error

    def test_labels_from_one_are_no_error_here(self, tmp_path):
        split = load_metadata(write(tmp_path, {**FILES, "class_labels.txt": "\nc.jpg,3\nb.jpg,1\n\na.jpg,2\n"}))
        assert dict(split.class_labels) == {"a.jpg": 2, "b.jpg": 1, "c.jpg": 3}
        assert [split.line_of("class_labels.txt", each) for each in split.image_ids] == [5, 3, 2]
        assert split.line_of("class_labels.txt", "d.jpg") is None and split.line_of("none.txt", "a.jpg") is None


class TestBoxFormats:
    def test_width_and_height(self, tmp_path):
        split = write(
            tmp_path, {**FILES, "localization.txt": "a.jpg,60,27,325,304\nb.jpg,0,0,300,200\nc.jpg,1,2,3,0\n"}
        )
        assert boxes_of(split, box_format="xywh") == [[60, 27, 385, 331], [0, 0, 300, 200], [1, 2, 4, 2]]

    @pytest.mark.parametrize(
        ("rounding", "expected"),
        [
            ("nearest", [[60, 28, 386, 331], [0, 0, 300, 200], [1, 2, 3, 4]]),
            ("floor", [[60, 27, 385, 330], [0, 0, 299, 200], [1, 2, 3, 4]]),
            ("outward", [[60, 27, 386, 331], [0, 0, 300, 200], [1, 2, 3, 4]]),
        ],
    )
    def test_rounding(self, tmp_path, rounding, expected):
        lines = "a.jpg,60.0,27.5,385.50,330.999\nb.jpg,0.25,-0.4,299.6,2.004e2\nc.jpg,1,2,3.,4.0\n"
        assert boxes_of(write(tmp_path, {**FILES, "localization.txt": lines}), box_rounding=rounding) == expected
        # Corners are rounded, not sides: x + width in float64 first.
        lines = "a.jpg,60.0,27.5,325.50,303.499\nb.jpg,0.25,-0.4,299.35,200.8\nc.jpg,1,2,2,2.0\n"
        split = write(tmp_path, {**FILES, "localization.txt": lines})
        assert boxes_of(split, box_rounding=rounding, box_format="xywh") == expected

    def test_integers_stay_whatever_the_rounding(self, tmp_path):
        expected = boxes_of(write(tmp_path, FILES))
        for rounding in ("nearest", "floor", "outward"):
            assert boxes_of(tmp_path, box_rounding=rounding) == expected

    def test_at_most_one_pixel_outside(self, tmp_path):
        lines = "a.jpg,-1,-1,501,376\nb.jpg,299,199,301,201\nc.jpg,0,0,5,5\n"
        error = error_of(write(tmp_path, {**FILES, "localization.txt": lines}))
        assert (
            "localization.txt:1: 'a.jpg': expected a box inside its image of 500 x 375 pixels, found -1,-1,5" in error
        )
        assert "\n  2 of 3 lines are at most one pixel outside: --box-rounding nearest, floor or outward moves" in error
        expected = [[0, 0, 500, 375], [299, 199, 300, 200], [0, 0, 5, 5]]
        for rounding in ("nearest", "floor", "outward"):
            assert boxes_of(tmp_path, box_rounding=rounding) == expected
        for outside in ("-2,0,5,5", "0,0,502,5", "500.2,0,500.9,5", "0,-1.6,9,9"):
            write(tmp_path, {**FILES, "localization.txt": FILES["localization.txt"].replace("60,27,385,331", outside)})
            assert "localization.txt:1: 'a.jpg': expected a box inside its image" in error_of(
                tmp_path, box_rounding="floor"
            )

    @pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1_0.5", "0x1p3", "٣.5", "1,5", "one", "", "1e999"])
    def test_what_is_no_number(self, tmp_path, text):
        write(tmp_path, {**FILES, "localization.txt": FILES["localization.txt"].replace("60,", f"{text},", 1)})
        error = error_of(tmp_path, box_rounding="nearest")
        assert "localization.txt:1: expected numbers, found" in error or "found 6 columns" in error

    def test_names(self, tmp_path):
        with pytest.raises(ValueError, match="box_format: expected xyxy, xywh or cxcywh, found 'xyhw'"):
            load_metadata(tmp_path, box_format="xyhw")
        with pytest.raises(ValueError, match="box_rounding: expected none, nearest, floor or outward, found 'up'"):
            load_metadata(tmp_path, box_rounding="up")

    def test_a_negative_width(self, tmp_path):
        write(tmp_path, {**FILES, "localization.txt": FILES["localization.txt"].replace("60,27,385", "60,27,-5")})
        error = error_of(tmp_path, box_format="xywh")
        assert "expected a box with a width and a height that are not negative, found 60,27,-5,331" in error


def many(convert, num: int = 200) -> dict[str, str]:
    """A split of images of 500 x 375 and 300 x 400 pixels, whose boxes x0 y0 x1 y1 are converted."""
    rng = np.random.default_rng(0)
    lines, sizes = [], []
    for row in range(num):
        width, height = ((500, 375), (300, 400))[row % 2]
        x0, x1 = sorted(rng.integers(0, width, 2).tolist())
        y0, y1 = sorted(rng.integers(0, height, 2).tolist())
        if row < 2:  # the whole image
            x0, y0, x1, y1 = 0, 0, width, height
        lines.append(f"{row}.jpg," + ",".join(map(str, convert(x0, y0, x1, y1, width, height))))
        sizes.append(f"{row}.jpg,{width},{height}")
    ids = "\n".join(f"{row}.jpg" for row in range(num))
    return {"image_ids.txt": ids, "image_sizes.txt": "\n".join(sizes), "localization.txt": "\n".join(lines)}


_WOULD = "{n} of 200 lines would be valid so and are not as read, 0 the other way round: "


class TestGuesses:
    @pytest.mark.parametrize(
        ("convert", "how", "expected"),
        [
            (
                lambda x0, y0, x1, y1, w, h: (x0, y0, x1 - x0, y1 - y0),
                {},
                "looks like x,y,w,h: " + _WOULD + "--box-format xywh",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (x0 + 0.5, y0, x1 - x0 - 0.5, y1 - y0),
                {"box_rounding": "floor"},
                "looks like x,y,w,h: " + _WOULD + "--box-format xywh",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (x0, y0, x1, y1),
                {"box_format": "xywh"},
                "looks like x0,y0,x1,y1: " + _WOULD + "--box-format xyxy",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (x0, x1, y0, y1),
                {},
                "looks like x0,x1,y0,y1: " + _WOULD + "order the columns",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (y0, x0, y1, x1),
                {},
                "looks like y0,x0,y1,x1, or sizes that are height,width: " + _WOULD + "order the columns",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (x1, y1, x0, y0),
                {},
                "looks like x1,y1,x0,y0: " + _WOULD + "order the columns",
            ),
            (
                lambda x0, y0, x1, y1, w, h: (x0 + 0.25, y0, x1, y1),
                {},
                "numbers with a decimal point, 200 of 200 lines with a fraction: --box-rounding nearest, ",
            ),
            (
                lambda x0, y0, x1, y1, w, h: map(float, (x0, y0, x1, y1)),
                {},
                "numbers with a decimal point, 0 of 200 lines with a fraction: --box-rounding nearest, ",
            ),
        ],
    )
    def test_what_the_numbers_look_like(self, tmp_path, convert, how, expected):
        error = error_of(write(tmp_path, many(convert)), **how)
        first, *_, guess = error.split("\n")
        number = first.removeprefix(f"{tmp_path}: ").removesuffix(" problems")
        assert guess.strip().startswith(expected.replace("{n}", number))
        assert f"and {int(number) - 10} more" in error

    def test_both_at_once(self, tmp_path):
        files = many(lambda x0, y0, x1, y1, w, h: map(float, (x0, y0, x1 - x0, y1 - y0)))
        *_, rounding, form = error_of(write(tmp_path, files)).split("\n")
        assert "--box-rounding" in rounding and form.endswith("--box-format xywh")
        expected = boxes_of(write(tmp_path / "corners", many(lambda *box: box[:4])))
        assert boxes_of(tmp_path, box_format="xywh", box_rounding="nearest") == expected

    def test_fractions_of_the_image_are_never_rounded(self, tmp_path):
        write(tmp_path, many(lambda x0, y0, x1, y1, w, h: (x0 / w, y0 / h, x1 / w, y1 / h)))
        for how in ({}, *({"box_rounding": each} for each in ("nearest", "floor", "outward"))):
            assert error_of(tmp_path, **how).endswith(
                "\n  looks like fractions of the image: multiply x by its width and y by its height"
            )

    def test_pixels_of_resized_images(self, tmp_path):
        def resized(x0, y0, x1, y1, w, h):
            return x0 * 224 // w, y0 * 224 // h, x1 * 224 // w, y1 * 224 // h

        with pytest.warns(UserWarning, match="no box reaches beyond 224 pixels, though most images are larger"):
            load_metadata(write(tmp_path, many(resized)))
        small = many(resized)
        small["image_sizes.txt"] = small["image_sizes.txt"].replace("500,375", "100,90")
        guess = error_of(write(tmp_path, small)).split("\n")[-1]
        assert guess.startswith("  looks like pixels of an image resized to 224 x 224: ")

    def test_good_boxes_are_not_suspected(self, tmp_path, recwarn):
        load_metadata(write(tmp_path, many(lambda *box: box[:4])))
        load_metadata(write(tmp_path / "few", FILES))
        assert not recwarn.list


class TestQuotes:
    def test_ids_with_commas(self, tmp_path):
        ids = ['"Paris, France.jpg"', "b.jpg", '"say ""a"", c.jpg"', 'a"b.jpg']
        split = load_metadata(
            write(
                tmp_path,
                {
                    "image_ids.txt": "\n".join(ids),
                    "class_labels.txt": "".join(f"{each},{row}\n" for row, each in enumerate(ids)),
                    "image_sizes.txt": "".join(f'{each},"90",80\n' for each in ids),
                    "localization.txt": "".join(f"{each},1,2,{row + 3},4\n" for row, each in enumerate(ids)),
                },
            )
        )
        names = ["Paris, France.jpg", "b.jpg", 'say "a", c.jpg', 'a"b.jpg']
        assert list(split.image_ids) == list(split.boxes) == names
        assert dict(split.class_labels) == {name: row for row, name in enumerate(names)}
        assert [split.line_of("localization.txt", name) for name in names] == [1, 2, 3, 4]
        assert split.boxes[names[2]].tolist() == [[1, 2, 5, 4]] and split.image_sizes[names[0]] == (90, 80)
        assert data_loaders.get_image_ids(data_loaders.configure_metadata(str(tmp_path))) == names

    @pytest.mark.parametrize("lines", ["other.jpg,m.png,\n", "a.jpg,m.png,\nother.jpg,n.png,i.png\n"])
    def test_masks_of_other_images_only(self, tmp_path, lines):
        """Found by fuzzing: a file without a line for any of the images was read, and led to a KeyError."""
        error = error_of(write(tmp_path, {**FILES, "localization.txt": lines}))
        assert "'b.jpg' has no line in localization.txt" in error

    def test_masks_with_commas(self, tmp_path):
        lines = '"a, b.jpg","m, 1.png",\n"a, b.jpg",m2.png,"i,.png"\n'
        split = load_metadata(write(tmp_path, {"image_ids.txt": '"a, b.jpg"', "localization.txt": lines}))
        assert split.mask_paths == {"a, b.jpg": ("m, 1.png", "m2.png")} and split.ignore_paths == {"a, b.jpg": "i,.png"}

    def test_without_quotes_the_error_says_so(self, tmp_path):
        error = error_of(write(tmp_path, {**FILES, "image_ids.txt": "a.jpg\nParis, France.jpg\n"}))
        assert (
            "image_ids.txt:2: expected id, found 2 columns in 'Paris, France.jpg'; an id with commas is put in" in error
        )

    def test_a_quotation_mark_that_encloses_nothing_is_a_character(self, tmp_path):
        ids = ['"a.jpg', '"b".jpg']
        files = {"image_ids.txt": "\n".join(ids), "class_labels.txt": "".join(f"{each},3\n" for each in ids)}
        assert dict(load_metadata(write(tmp_path, files), localization=False).class_labels) == dict.fromkeys(ids, 3)

    def test_a_command(self, tmp_path):
        ids = ["Paris, France.jpg", "b.jpg"]
        quoted = ['"Paris, France.jpg"', "b.jpg"]
        split = write(
            tmp_path / "split",
            {
                "image_ids.txt": "\n".join(quoted),
                "image_sizes.txt": "".join(f"{each},200,150\n" for each in quoted),
                "localization.txt": "".join(f"{each},20,10,160,120\n" for each in quoted),
            },
        )
        (tmp_path / "maps").mkdir()
        for row, each in enumerate(ids):
            np.save(tmp_path / "maps" / f"{each}.npy", np.random.default_rng(row).random((7, 7)))
        for maps in (tmp_path / "maps", tmp_path / "store"):
            done = run("evaluate", "--cams", maps, "--metadata", split, "--json", "-")
            assert json.loads(done.stdout)["num_images"] == 2
            if maps.name == "maps":
                run("store", "import", maps, tmp_path / "store", "--metadata", split)


def run(*arguments, code: int = 0):
    """Invokes a command in this process and checks its exit code."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


class TestLocalizationWhereItIsNeeded:
    @pytest.mark.parametrize("content", [None, "", "\n\n", "no such thing", "a.jpg,1.5,2,3,4"])
    @pytest.mark.parametrize("sizes", [None, "", FILES["image_sizes.txt"]])
    def test_images_and_classes_alone(self, tmp_path, content, sizes):
        files = {**FILES, "localization.txt": content, "image_sizes.txt": sizes}
        write(tmp_path, {name: each for name, each in files.items() if each is not None})
        split = load_metadata(tmp_path, localization=False)
        assert (
            split.kind is None and split.boxes == split.mask_paths == split.ignore_paths == split.resized_boxes() == {}
        )
        assert dict(split.class_labels) == {"a.jpg": 0, "b.jpg": 5, "c.jpg": 2}
        assert len(split.image_sizes) == (3 if sizes else 0)
        assert "localization.txt" in error_of(tmp_path)

    def test_import_and_extract_of_such_a_split(self, tmp_path):
        from PIL import Image

        split = write(tmp_path / "split", {name: FILES[name] for name in ("image_ids.txt", "class_labels.txt")})
        write(split, {"localization.txt": ""})
        for folder in ("maps", "images"):
            (tmp_path / folder).mkdir()
        for row, each in enumerate("abc"):
            np.save(tmp_path / "maps" / f"{each}.npy", np.full((7, 7), float(row)))
            Image.new("RGB", (30, 20), (row * 50, 9, 9)).save(tmp_path / "images" / f"{each}.jpg")
        run("store", "import", tmp_path / "maps", tmp_path / "imported", "--metadata", split)
        model = [
            "extract",
            "wsolkern.models:build",
            "-a",
            "backbone=resnet50",
            "-a",
            "method=cam",
            "-a",
            "num_classes=6",
        ]
        run(*model, "--images", tmp_path / "images", "--metadata", split, "--size", "32", "-o", tmp_path / "extracted")
        for store in ("imported", "extracted"):
            found = {
                image_id: int(label)
                for part in CamStore(tmp_path / store).records()
                for image_id, label in zip(part.image_ids, part.classes, strict=True)
            }
            assert found == {"a.jpg": 0, "b.jpg": 5, "c.jpg": 2}

    def test_training(self, tmp_path):
        write(tmp_path / "val", FILES)
        train = write(tmp_path / "train", {"image_ids.txt": "x.jpg\ny.jpg", "class_labels.txt": "y.jpg,1\nx.jpg,3"})
        for content in (None, "", "x.jpg,1.5,2,3,4"):
            if content is not None:
                write(train, {"localization.txt": content})
            data = TrainingData.load(tmp_path, tmp_path)
            assert data.labels == {"x.jpg": 3, "y.jpg": 1} and data.num_classes == 6

    def test_training_reads_val_as_it_is_told(self, tmp_path):
        write(tmp_path / "train", FILES)
        write(tmp_path / "val", {**FILES, "localization.txt": "a.jpg,60.0,27,325.5,304\nb.jpg,1,2,3,4\nc.jpg,0,0,5,5"})
        with pytest.raises(DatasetError, match="localization.txt:1: expected integers"):
            TrainingData.load(tmp_path, tmp_path)
        data = TrainingData.load(tmp_path, tmp_path, box_format="xywh", box_rounding="floor")
        assert data.val.boxes["a.jpg"].tolist() == [[60, 27, 385, 331]]
        other = TrainingData.load(tmp_path, tmp_path, box_format="xywh", box_rounding="outward")
        assert other.val.boxes["a.jpg"].tolist() == [[60, 27, 386, 331]] and other.sha256() != data.sha256()


class TestFiles:
    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize(("kind", "found"), [("FIFO", "a FIFO"), ("device", "a device"), ("folder", "a folder")])
    def test_only_regular_files_are_opened(self, tmp_path, name, kind, found):
        (write(tmp_path, FILES) / name).unlink()
        if kind == "FIFO":
            os.mkfifo(tmp_path / name)
        elif kind == "device":
            (tmp_path / name).symlink_to("/dev/zero")
        else:
            (tmp_path / name).mkdir()
        assert f"{name}: cannot be read: " in (error := error_of(tmp_path)) and f"found {found}" in error
        paths = data_loaders.configure_metadata(str(tmp_path))
        read = {
            "image_ids.txt": data_loaders.get_image_ids,
            "class_labels.txt": data_loaders.get_class_labels,
            "image_sizes.txt": data_loaders.get_image_sizes,
            "localization.txt": data_loaders.get_bounding_boxes,
        }[name]
        with pytest.raises(DatasetError, match=f"found {found}"):
            read(paths)

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_utf_16(self, tmp_path, name, encoding):
        error = error_of(write(tmp_path, {**FILES, name: FILES[name].encode(encoding)}))
        assert f"{name}: expected UTF-8, found UTF-16" in error or f"{name}:1: expected" in error

    def test_bytes_that_are_no_text(self, tmp_path):
        names = FILES["class_labels.txt"].replace("b.jpg", "b\0.jpg")
        assert "class_labels.txt:2: expected text in UTF-8, found a NUL byte" in error_of(
            write(tmp_path, {**FILES, "class_labels.txt": names})
        )
        latin = {**FILES, "class_labels.txt": FILES["class_labels.txt"].encode() + "müll.jpg,3\n".encode("latin-1")}
        assert "class_labels.txt:4: expected UTF-8, found the byte 0xfc" in error_of(write(tmp_path, latin))

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_line_endings(self, tmp_path, end, mark):
        expected = load_metadata(write(tmp_path / "plain", FILES))
        files = {name: mark + content.replace("\n", end) for name, content in FILES.items()}
        for name, cut in (("whole", None), ("no_last_end", -len(end))):
            found = load_metadata(write(tmp_path / name, {each: text[:cut] for each, text in files.items()}))
            assert found.image_ids == expected.image_ids and found.image_sizes == expected.image_sizes
            assert found.class_labels == expected.class_labels
            assert [each.tolist() for each in found.boxes.values()] == [
                each.tolist() for each in expected.boxes.values()
            ]

    @pytest.mark.parametrize(
        ("name", "header"),
        [
            ("class_labels.txt", "image_id,class"),
            ("image_sizes.txt", "image_id,width,height"),
            ("localization.txt", "image_id,x_min,y_min,x_max,y_max"),
        ],
    )
    def test_a_header_line(self, tmp_path, name, header):
        error = error_of(write(tmp_path, {**FILES, name: f"{header}\n{FILES[name]}"}))
        assert f"{name}:1: expected integers, found '{header.partition(',')[2]}' (a header line? take it out)" in error

    @pytest.mark.parametrize("name", ["class_labels.txt", "image_sizes.txt", "localization.txt"])
    def test_trailing_commas(self, tmp_path, name):
        error = error_of(write(tmp_path, {**FILES, name: FILES[name].replace("\n", ",\n")}))
        assert f"{name}:1: expected id," in error and "'a.jpg," in error

    @pytest.mark.parametrize("name", ["image_ids.txt", "class_labels.txt", "image_sizes.txt"])
    @pytest.mark.parametrize("line", ["b.jpg,300", "b.jpg,400"])
    def test_an_id_comes_once(self, tmp_path, name, line):
        line = {"image_ids.txt": "b.jpg", "image_sizes.txt": f"{line},200"}.get(name, line)
        error = error_of(write(tmp_path, {**FILES, name: f"{FILES[name]}\n{line}\n"}))
        assert f": 1 problem\n  {name}:5: 'b.jpg' is on line 2 already" in error


class TestIds:
    @pytest.mark.parametrize("image_id", ["../b.jpg", "x/../../b.jpg", "x/..", "..", "/b.jpg"])
    def test_they_never_lead_outside(self, tmp_path, image_id):
        with pytest.raises(ValueError, match=r"image_ids: expected relative paths without '\.\.', found '"):
            check_image_ids([image_id])
        for name, content in FILES.items():
            error = error_of(write(tmp_path, {**FILES, name: content.replace("b.jpg", image_id)}))
            assert f"{name}:2: id: expected relative paths without '..', found '{image_id}'" in error

    def test_dots_elsewhere_are_fine(self, tmp_path):
        files = {name: content.replace("b.jpg", "x..y/...b..jpg") for name, content in FILES.items()}
        assert load_metadata(write(tmp_path, files)).image_ids == ("a.jpg", "x..y/...b..jpg", "c.jpg")

    def test_an_empty_one(self, tmp_path):
        error = error_of(write(tmp_path, {**FILES, "class_labels.txt": FILES["class_labels.txt"].replace("b.jpg", "")}))
        assert "class_labels.txt:2: id: expected non-empty strings of one line, found ''" in error


def random_split(rng: random.Random) -> dict[str, bytes]:
    """A split with some oddities in any place; about half of them are refused."""
    ids = [
        rng.choice(["a/{}.jpg", "{}.jpg", "ü{}.png", '"q, {}.jpg"', "..{}"]).format(row)
        for row in range(rng.randint(1, 30))
    ]
    sizes = {each: (rng.randint(1, 90), rng.randint(1, 90)) for each in ids}
    labels = [
        f"{each},{rng.choice(['0', '7', ' 12', '+3', '1_0', '-1'] if rng.random() < 0.02 else ['0', '7'])}"
        for each in ids
    ]
    boxes = []
    for each in ids + rng.choices(ids, k=3):
        x0, x1 = sorted(rng.randint(0, sizes[each][0] - 1) for _ in range(2))
        y0, y1 = sorted(rng.randint(0, sizes[each][1] - 1) for _ in range(2))
        boxes.append(f"{each},{x0},{y0},{x1 + 1},{y1 + (1 if rng.random() < 0.99 else 100)}")
    lines = {
        "image_ids.txt": list(ids),
        "class_labels.txt": labels + [f"other{row},1" for row in range(rng.choice([0, 0, 3]))],
        "image_sizes.txt": [f"{each},{w},{h}" for each, (w, h) in sizes.items()],
        "localization.txt": boxes,
    }
    for name, each in lines.items():
        if rng.random() < 0.3 and name != "image_ids.txt":
            rng.shuffle(each)
        if rng.random() < 0.1:
            each.insert(
                rng.randrange(len(each) + 1), rng.choice(["", "x", "x,1", "x,1,2", "x,1,2,3,4", ids[0] + ",1,2", "\0"])
            )
    end = rng.choice(["\n", "\n", "\r\n", "\n\n"])
    return {name: (end.join(each) + rng.choice(["", end])).encode() for name, each in lines.items()}


@pytest.mark.parametrize("seed", range(40))
def test_blocks_are_read_as_lines_are(tmp_path, monkeypatch, seed):
    """Whatever the blocks are, and whether they are read at once or line by line: the same split, or the same error."""

    def outcome():
        try:
            split = load_metadata(tmp_path)
        except DatasetError as error:
            return str(error)
        boxes = {image_id: each.tolist() for image_id, each in split.boxes.items()}
        return split.image_ids, dict(split.class_labels), dict(split.image_sizes), boxes

    rng = random.Random(seed)
    for _ in range(5):
        write(tmp_path, random_split(rng))
        monkeypatch.undo()
        expected = outcome()
        monkeypatch.setattr(tables, "_plain_block", lambda *_: None)
        assert outcome() == expected
        for size in (1, 7, 64):
            monkeypatch.undo()
            monkeypatch.setattr(tables, "_BLOCK_BYTES", size)
            assert outcome() == expected


class TestViews:
    def test_they_are_mappings(self, tmp_path):
        split = load_metadata(write(tmp_path, FILES))
        for table in (split.class_labels, split.image_sizes, split.boxes, split.resized_boxes()):
            assert list(table) == list(table.keys()) == ["a.jpg", "b.jpg", "c.jpg"] and len(table) == 3
            assert "b.jpg" in table and "d.jpg" not in table and None not in table and table.get("d.jpg") is None
            with pytest.raises(KeyError, match="d.jpg"):
                table["d.jpg"]
        assert split.class_labels == {"c.jpg": 2, "b.jpg": 5, "a.jpg": 0} == split.class_labels
        assert split.class_labels != {"a.jpg": 0} and type(split.class_labels["b.jpg"]) is int
        assert split.image_sizes["c.jpg"] == (640, 480) and type(split.image_sizes["c.jpg"][0]) is int
        assert {"x": 1, **split.class_labels} == {"x": 1, "a.jpg": 0, "b.jpg": 5, "c.jpg": 2}
        again = pickle.loads(pickle.dumps(split))
        assert (
            again.class_labels == split.class_labels and again.boxes["b.jpg"].tolist() == split.boxes["b.jpg"].tolist()
        )

    def test_lines_of_other_images_leave_nothing_behind(self, tmp_path):
        files = {name: content + content.replace("jpg", "png") for name, content in FILES.items()}
        files["image_ids.txt"] = "c.jpg\na.png\n"
        split = load_metadata(write(tmp_path, files))
        for table in (split.class_labels, split.image_sizes, split.boxes):
            assert tuple(table) == split.image_ids == ("c.jpg", "a.png") and len(table) == 2 and "b.jpg" not in table
        assert split.class_labels == {"c.jpg": 2, "a.png": 0} and split.boxes["a.png"].tolist() == [[60, 27, 385, 331]]


class TestStates:
    def test_a_state_is_about_the_boxes_that_were_read(self, tmp_path):
        files = {**FILES, "localization.txt": "a.jpg,60,27,100,100\nb.jpg,1,2,3,4\nc.jpg,0,0,5,5"}
        split = write(tmp_path, files)
        jobs = {form: fingerprint(load_metadata(split, box_format=form), None, "maps") for form in ("xyxy", "xywh")}
        assert jobs["xyxy"] != jobs["xywh"]
        assert fingerprint(load_metadata(split, box_rounding="floor"), None, "maps") == jobs["xyxy"]

    def test_a_state_of_other_boxes_is_refused(self, tmp_path):
        split = write(
            tmp_path / "split", {**FILES, "localization.txt": "a.jpg,60,27,100,100\nb.jpg,1,2,30,40\nc.jpg,0,0,50,50"}
        )
        (tmp_path / "maps").mkdir()
        for each in "abc":
            np.save(tmp_path / "maps" / f"{each}.npy", np.random.default_rng(0).random((7, 7)))
        command = "evaluate", "--cams", tmp_path / "maps", "--metadata", split, "--resume", tmp_path / "state"
        run(*command)
        assert "other metadata" in run(*command, "--box-format", "xywh", code=2).stderr


class TestCommands:
    @pytest.fixture
    def place(self, tmp_path) -> Path:
        """CUB/test in corners, in x,y,w,h with fractions, and a store of its CAMs."""
        convert = {
            "corners": lambda *box: box[:4],
            "sides": lambda x0, y0, x1, y1, w, h: (x0 + 0.2, y0 + 0.3, x1 - x0 - 0.1, y1 - y0 - 0.1),
        }
        for name, each in convert.items():
            for split in ("test", "val"):
                write(tmp_path / name / "CUB" / split, many(each, 12))
        ids = [f"{row}.jpg" for row in range(12)]
        for split in ("test", "val"):
            with CamWriter(tmp_path / split, Manifest("cams", "CUB", split, "CAM", "VGG16")) as writer:
                writer.add(ids, np.random.default_rng(1).standard_normal((12, 7, 7)))
        return tmp_path

    @pytest.mark.parametrize("command", ["evaluate", "sweep", "select", "table", "diagnose", "profile"])
    def test_every_command_takes_the_options(self, place, command):
        def results(kind: str, *options, code: int = 0):
            split, names = place / kind / "CUB" / "test", ("-n", "minmax ivr:0.4")
            val = "--val", place / "val", "--val-metadata", place / kind / "CUB" / "val"
            arguments = {
                "evaluate": ("--cams", place / "test", "--metadata", split, *names),
                "sweep": (place / "test", "--metadata", split, *names),
                "select": (*val, "--test", place / "test", "--test-metadata", split, "--num-bootstrap", 50, *names),
                "table": (place / "test", "--metadata-root", place / kind),
                "diagnose": (place / "test", "--metadata", split),
                "profile": (place / "test", "--metadata", split, *names),
            }[command]
            return run(command, *arguments, *options, "--json", "-", code=code)

        def figures(content) -> list[float]:
            """All numbers of the JSON but times and what is named after folders."""
            if isinstance(content, dict):
                skipped = "second", "stage", "bandwidth", "limit", "overhead", "bytes"
                kept = (value for name, value in content.items() if not any(each in name for each in skipped))
                return [number for value in kept for number in figures(value)]
            if isinstance(content, list):
                return [number for value in content for number in figures(value)]
            return [content] if isinstance(content, int | float) else []

        wrong = results("sides", code=terminal.FAILED).stderr
        assert "localization.txt:1: expected integers" in wrong and "--box-rounding nearest" in wrong
        right = figures(json.loads(results("corners").stdout))
        found = json.loads(results("sides", "--box-format", "xywh", "--box-rounding", "floor").stdout)
        assert figures(found) == right and len(right) >= 5
        if command in ("evaluate", "sweep", "profile"):
            assert (found["box_format"], found["box_rounding"]) == ("xywh", "floor")
        assert (
            "box_format: expected xyxy, xywh or cxcywh"
            in results("corners", "--box-format", "x", code=terminal.FAILED).stderr
        )

    def test_thousands_of_problems_print_their_first_ten(self, capsys):
        terminal.list_problems("maps were left out", {f"{row}.jpg": "no map" for row in range(200_000)})
        printed = capsys.readouterr().err.splitlines()
        assert printed[0] == "200,000 maps were left out:" and len(printed) == 12
        assert printed[10] == "  9.jpg: no map" and printed[11].startswith("  and 199,990 more")


MEASURE = """
import resource, sys, time
import numpy
from wsolkern.datasets import load_metadata
from wsolkern.errors import DatasetError
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    load_metadata(sys.argv[1])
except DatasetError as error:
    print(str(error).count(chr(10)), str(error).split(": ")[1].split()[0])
print(time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
class TestLargeSplits:
    """Bounds are several times what it takes, so that only another order of growth fails."""

    NUM = 200_000

    def measure(self, folder: Path) -> list[float]:
        done = subprocess.run([sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True)
        return list(map(float, done.stdout.replace(",", "").split()))

    def files(self) -> dict[str, str]:
        ids = [f"train/n{row // 1300:08}/n{row // 1300:08}_{row}.JPEG" for row in range(self.NUM)]
        return {
            "image_ids.txt": "\n".join(ids),
            "class_labels.txt": "\n".join(f"{each},{row // 1300}" for row, each in enumerate(ids)),
            "image_sizes.txt": "\n".join(f"{each},500,375" for each in ids),
            "localization.txt": "\n".join(f"{each},10,20,300,350" for each in ids),
        }

    def test_time_and_memory(self, tmp_path):
        seconds, megabytes = self.measure(write(tmp_path, self.files()))
        assert seconds < 5 and megabytes < 120

    def test_all_lines_are_wrong(self, tmp_path):
        files = self.files()
        files["localization.txt"] = files["localization.txt"].replace(",300,350", ",300,400")
        files["class_labels.txt"] = files["class_labels.txt"].replace(",", ",x")
        files["image_sizes.txt"] = files["image_sizes.txt"].replace("train", "test")
        num_lines, num_problems, seconds, megabytes = self.measure(write(tmp_path, files))
        assert num_problems == 2 * self.NUM and num_lines == 11
        assert seconds < 15 and megabytes < 250

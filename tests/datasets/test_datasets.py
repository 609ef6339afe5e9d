"""Metadata folders, masks and map folders: what is read, and what is said about files that do not hold together."""

import io
import json

import cv2
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from wsolkern import DatasetError
from wsolkern.datasets import MapFolder, load_mask, load_metadata, maps, masks

BOXES = {
    "image_ids.txt": "a/1.jpg\nb/2.JPEG\nc 3.png",
    "class_labels.txt": "a/1.jpg,0\nb/2.JPEG,7\nc 3.png,7\nd.jpg,1",
    "image_sizes.txt": "b/2.JPEG,500,375\na/1.jpg,301,200\nc 3.png,1,1\nd.jpg,5,5",
    "localization.txt": "b/2.JPEG,45,49,499,162\na/1.jpg,0,0,301,200\nb/2.JPEG,2,69,437,207\nc 3.png,0,0,0,0\n"
    "d.jpg,9,9,1,1",
}
MASKS = {
    "image_ids.txt": "a.jpg\nb.jpg",
    "image_sizes.txt": "",
    "localization.txt": "a.jpg,a_1.png,a_ignore.png\na.jpg,a_2.png,\nb.jpg,b_1.png,",
}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


class TestMetadata:
    def test_boxes(self, tmp_path):
        split = load_metadata(write(tmp_path, BOXES))
        assert split.kind == "boxes" and split.folder == str(tmp_path)
        assert split.image_ids == tuple(split.boxes) == ("a/1.jpg", "b/2.JPEG", "c 3.png")
        assert split.class_labels == {"a/1.jpg": 0, "b/2.JPEG": 7, "c 3.png": 7}
        assert split.image_sizes == {"a/1.jpg": (301, 200), "b/2.JPEG": (500, 375), "c 3.png": (1, 1)}
        expected = {"a/1.jpg": [[0, 0, 301, 200]], "b/2.JPEG": [[45, 49, 499, 162], [2, 69, 437, 207]]}
        for image_id, boxes in {**expected, "c 3.png": [[0, 0, 0, 0]]}.items():
            assert split.boxes[image_id].dtype == np.int32
            np.testing.assert_array_equal(split.boxes[image_id], boxes)
        assert split.mask_paths == split.ignore_paths == {}

    @pytest.mark.parametrize("size", [(224, 224), (37, 530)])
    def test_boxes_are_scaled_in_float64_and_truncated(self, tmp_path, size):
        split = load_metadata(write(tmp_path, BOXES))
        resized = split.resized_boxes(size)
        assert list(resized) == list(split.boxes)
        for image_id, boxes in split.boxes.items():
            width, height = split.image_sizes[image_id]
            expected = [
                [
                    int(float(c) * new / old)
                    for c, new, old in zip(box, size[::-1] * 2, (width, height) * 2, strict=True)
                ]
                for box in boxes.tolist()
            ]
            assert resized[image_id].dtype == np.int32
            np.testing.assert_array_equal(resized[image_id], expected)

    def test_masks(self, tmp_path):
        split = load_metadata(write(tmp_path, MASKS))
        assert (split.kind, split.image_ids) == ("masks", ("a.jpg", "b.jpg"))
        assert split.mask_paths == {"a.jpg": ("a_1.png", "a_2.png"), "b.jpg": ("b_1.png",)}
        assert split.ignore_paths == {"a.jpg": "a_ignore.png", "b.jpg": None}
        assert split.boxes == split.resized_boxes() == split.class_labels == split.image_sizes == {}

    def test_line_endings_and_a_byte_order_mark_do_not_matter(self, tmp_path):
        expected = load_metadata(write(tmp_path / "plain", BOXES))
        odd = write(tmp_path / "odd", {})
        for name, text in BOXES.items():
            (odd / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode() + b"\r\n")
        split = load_metadata(odd)
        assert split.image_ids == expected.image_ids and split.image_sizes == expected.image_sizes
        assert json.dumps({k: v.tolist() for k, v in split.boxes.items()}) == json.dumps(
            {k: v.tolist() for k, v in expected.boxes.items()}
        )

    @pytest.mark.parametrize(
        ("base", "name", "text", "expected"),
        [
            (BOXES, "image_ids.txt", None, "image_ids.txt: no such file"),
            (BOXES, "image_ids.txt", "\n\n", "image_ids.txt: is empty"),
            (BOXES, "image_ids.txt", "a/1.jpg\nx\n\na/1.jpg", "image_ids.txt:4: 'a/1.jpg' is on line 1 already"),
            (BOXES, "image_ids.txt", "a/1.jpg\nx", "image_ids.txt:2: 'x' has no line in image_sizes.txt"),
            (BOXES, "image_ids.txt", "a/1.jpg\nx", "image_ids.txt:2: 'x' has no line in localization.txt"),
            (BOXES, "image_ids.txt", "a,1.jpg", "image_ids.txt:1: expected id, found 2 columns in 'a,1.jpg'"),
            (BOXES, "class_labels.txt", "a/1.jpg,0", "image_ids.txt:2: 'b/2.JPEG' has no line in class_labels.txt"),
            (BOXES, "class_labels.txt", "a/1.jpg,cat", "class_labels.txt:1: expected integers, found 'cat'"),
            (BOXES, "image_sizes.txt", None, "image_sizes.txt: no such file"),
            (BOXES, "image_sizes.txt", "a/1.jpg,10", "image_sizes.txt:1: expected id,width,height, found 2 columns"),
            (BOXES, "image_sizes.txt", "a/1.jpg,5.5,5", "image_sizes.txt:1: expected integers, found '5.5,5'"),
            (BOXES, "image_sizes.txt", "\na/1.jpg,0,5", "image_sizes.txt:2: expected sides of 1 to 1048576 pixels, fo"),
            (BOXES, "image_sizes.txt", f"a/1.jpg,{10**30},5", "image_sizes.txt:1: expected integers, found '1000000"),
            (BOXES, "image_sizes.txt", "d,5,5\nd,5,5", "image_sizes.txt:2: 'd' is on line 1 already"),
            (BOXES, "localization.txt", None, "localization.txt: no such file"),
            (
                BOXES,
                "localization.txt",
                "a/1.jpg,1,2,3",
                "localization.txt:1: expected id,x0,y0,x1,y1 or id,mask_path,",
            ),
            (
                BOXES,
                "localization.txt",
                "a/1.jpg,1,2,3,4\na/1.jpg,1,2",
                "localization.txt:2: expected id,x0,y0,x1,y1, ",
            ),
            (BOXES, "localization.txt", "a/1.jpg,1,2,,4", "localization.txt:1: expected integers, found '1,2,,4'"),
            (BOXES, "localization.txt", "a/1.jpg,5,2,4,4", "'a/1.jpg': expected a box with x0 <= x1 and y0 <= y1, fou"),
            (BOXES, "localization.txt", "a/1.jpg,0,2,4,1", "localization.txt:1: 'a/1.jpg': expected a box with x0 <="),
            (BOXES, "localization.txt", "a/1.jpg,0,0,302,9", "expected a box inside its image of 301 x 200 pixels, "),
            (BOXES, "localization.txt", "a/1.jpg,0,0,9,201", "inside its image of 301 x 200 pixels, found 0,0,9,201"),
            (BOXES, "localization.txt", "a/1.jpg,-1,0,9,9", "inside its image of 301 x 200 pixels, found -1,0,9,9"),
            (BOXES, "localization.txt", "a/1.jpg,301,0,301,9", "inside its image of 301 x 200 pixels, found 301,0,3"),
            (MASKS, "localization.txt", "a.jpg,,", "localization.txt:1: 'a.jpg' has an empty mask path"),
            (MASKS, "localization.txt", "a.jpg,a.png,i.png\na.jpg,b.png,j.png", "localization.txt:2: 'a.jpg' has the"),
            (MASKS, "localization.txt", "a.jpg,a.png,", "image_ids.txt:2: 'b.jpg' has no line in localization.txt"),
            (MASKS, "image_sizes.txt", "a.jpg,5,5", "image_ids.txt:2: 'b.jpg' has no line in image_sizes.txt"),
        ],
    )
    def test_a_problem_names_file_and_line(self, tmp_path, base, name, text, expected):
        write(tmp_path, {**base, name: text or ""})
        if text is None:
            (tmp_path / name).unlink()
        with pytest.raises(DatasetError) as raised:
            load_metadata(tmp_path)
        assert expected in str(raised.value) and str(raised.value).startswith(f"{tmp_path}: ")

    def test_one_error_lists_the_first_problems_and_counts_the_others(self, tmp_path):
        lines = "\n".join(f"a/1.jpg,0,0,{x},10" for x in range(290, 320))
        write(
            tmp_path, {**BOXES, "localization.txt": BOXES["localization.txt"] + "\n" + lines, "class_labels.txt": "x"}
        )
        with pytest.raises(DatasetError) as raised:
            load_metadata(tmp_path)
        first, *listed, last = str(raised.value).split("\n")
        assert first == f"{tmp_path}: 19 problems" and last == "  and 9 more" and len(listed) == 10
        assert listed[0].startswith("  class_labels.txt:1: ") and listed[1].startswith("  localization.txt:18: ")

    def test_bad_numbers_are_not_reported_twice(self, tmp_path):
        write(tmp_path, {**BOXES, "image_sizes.txt": "b/2.JPEG,500,375\na/1.jpg,?,200\nc 3.png,1,1"})
        with pytest.raises(DatasetError, match=r": 1 problem\n  image_sizes.txt:2: expected integers, found '\?,200'$"):
            load_metadata(tmp_path)

    def test_the_line_of_an_image(self, tmp_path):
        split = load_metadata(write(tmp_path, {**BOXES, "class_labels.txt": "\n" + BOXES["class_labels.txt"]}))
        assert [split.line_of("class_labels.txt", each) for each in split.image_ids] == [2, 3, 4]
        assert split.line_of("localization.txt", "b/2.JPEG") == 1 and split.line_of("image_ids.txt", "c 3.png") == 3
        assert split.line_of("class_labels.txt", "none.jpg") is None and split.line_of("none.txt", "a/1.jpg") is None

    def test_a_file_that_is_no_text(self, tmp_path):
        write(tmp_path, BOXES)
        (tmp_path / "image_sizes.txt").write_bytes(b"a\xff,1,1")
        with pytest.raises(DatasetError, match="image_sizes.txt:1: expected UTF-8, found the byte 0xff"):
            load_metadata(tmp_path)


def opencv_grey(path, size=(224, 224)):
    image = np.float32(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST)


def image_files(folder):
    """One image of each kind that Pillow can write, 50 x 61, dark colours among them: name -> path."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (61, 50), np.uint8)
    colour = np.concatenate([rng.integers(0, 4, (30, 50, 3)), rng.integers(0, 256, (31, 50, 3))]).astype(np.uint8)
    palette = Image.fromarray(grey).convert("P")
    palette.putpalette(rng.integers(0, 256, 768, np.uint8).tolist())
    rotated = Image.Exif()
    rotated[0x0112] = 6
    images = {
        "bits.png": (Image.fromarray(grey > 128), {}),
        "grey.png": (Image.fromarray(grey), {}),
        "grey_alpha.png": (Image.fromarray(np.dstack([grey, grey[::-1]])), {}),
        "grey_16_bits.png": (Image.fromarray(grey.astype(np.uint16) * 257 + 3), {}),
        "palette.png": (palette, {}),
        "transparent_palette.png": (palette, {"transparency": 3}),
        "colour.png": (Image.fromarray(colour), {}),
        "colour_alpha.png": (Image.fromarray(np.dstack([colour, grey])), {}),
        "rotated.png": (Image.fromarray(colour), {"exif": rotated}),
        "grey.jpg": (Image.fromarray(grey), {}),
        "colour.jpg": (Image.fromarray(colour), {}),
        "rotated.jpg": (Image.fromarray(colour), {"exif": rotated}),
        "colour.bmp": (Image.fromarray(colour), {}),
        "colour.tiff": (Image.fromarray(colour), {}),
    }
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
    return {name: folder / name for name in images}


class TestMasks:
    @pytest.mark.parametrize("size", [(224, 224), (37, 45)])
    def test_grey_values_equal_opencv(self, tmp_path, size):
        for name, path in image_files(tmp_path).items():
            np.testing.assert_array_equal(masks.load_grey(path, size), opencv_grey(path, size), err_msg=name)

    def test_nearest_pixels_equal_opencv(self):
        for old in range(1, 700):
            row = np.arange(old, dtype=np.float32)[None]
            for new in (224, 53):
                expected = cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
                np.testing.assert_array_equal(masks._nearest(new, old), expected, err_msg=f"{old} to {new}")

    def test_instances_are_united_and_the_ignored_region_is_outside_them(self, tmp_path):
        pictures = {}
        for name, (y, x) in {"one": (0, 0), "two": (20, 30), "ignore": (10, 10)}.items():
            pictures[name] = np.zeros((80, 100), np.uint8)
            pictures[name][y : y + 40, x : x + 40] = 255
            Image.fromarray(pictures[name]).save(tmp_path / f"{name}.png")
        grey = {name: opencv_grey(tmp_path / f"{name}.png") > 0.5 for name in pictures}
        objects = grey["one"] | grey["two"]
        expected = np.where(objects, 1, np.where(grey["ignore"], 255, 0))
        mask = load_mask(tmp_path, ["one.png", "two.png"], "ignore.png")
        assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1, 255}
        np.testing.assert_array_equal(mask, expected)
        for nothing in (None, ""):
            np.testing.assert_array_equal(load_mask(tmp_path, ["one.png", "two.png"], nothing), objects)
        assert load_mask(tmp_path, ["one.png"], size=(7, 9)).shape == (7, 9)

    def test_errors_name_the_file(self, tmp_path):
        (tmp_path / "text.png").write_text("no image")
        Image.new("L", (90, 90), 3).save(tmp_path / "whole.png")
        (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-40])
        for name, expected in (
            ("none.png", "none.png: no such mask file"),
            ("text.png", "text.png: cannot be read as an image"),
            ("cut.png", "cut.png: cannot be read as an image"),
        ):
            with pytest.raises(DatasetError, match=expected):
                load_mask(tmp_path, ["whole.png", name], None)
        with pytest.raises(DatasetError, match="at least one mask path"):
            load_mask(tmp_path, [], None)


def random_map(seed, shape=(5, 7), dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def collect(folder, *args, **kwargs):
    """All maps of a folder by id."""
    return {i: m for ids, maps in folder.batches(*args, **kwargs) for i, m in zip(ids, maps, strict=True)}


class TestMapFolder:
    def test_every_spelling_and_format(self, tmp_path):
        (tmp_path / "a").mkdir()
        ids, expected = [], {}
        for number, (suffix, kept) in enumerate(
            (s, k) for s in (".npy", ".npz", ".safetensors") for k in (True, False)
        ):
            image_id = f"a/{number}.JPEG"
            expected[image_id] = random_map(number)
            name = str(tmp_path / (image_id if kept else f"a/{number}")) + suffix
            if suffix == ".npy":
                np.save(name, expected[image_id])
            elif suffix == ".npz":
                np.savez(name, any_name=expected[image_id])
            else:
                safetensors.numpy.save_file({"any name": expected[image_id]}, name)
            ids.append(image_id)
        folder = MapFolder(tmp_path, ids)
        ((image_ids, maps),) = folder.batches(10)
        assert list(image_ids) == ids and maps.shape == (6, 5, 7) and maps.dtype == np.float64
        np.testing.assert_array_equal(maps, list(expected.values()))
        assert folder.problems == {} and len(folder) == 6
        np.testing.assert_array_equal(folder.read(ids[3]), expected[ids[3]])

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    def test_one_file_for_all_images(self, tmp_path, suffix):
        expected = {f"a/{number}.jpg": random_map(number) for number in range(40)}
        by_key = {key if n % 2 else key[:-4]: value for n, (key, value) in enumerate(expected.items())}
        path = tmp_path / f"maps{suffix}"
        if suffix == ".npz":
            np.savez(path, **by_key)
        else:
            safetensors.numpy.save_file(by_key, path)
        folder = MapFolder(path, [*expected, "none.jpg"])
        found = collect(folder, 8)
        assert list(found) == list(expected)
        for image_id, value in expected.items():
            np.testing.assert_array_equal(found[image_id], value)
        assert folder.problems == {"none.jpg": "no map none.jpg or none"}

    @pytest.mark.parametrize(
        ("dtype", "read_as"),
        [
            ("<f8", "f8"),
            (">f8", "f8"),
            ("<f4", "f4"),
            (">f4", "f4"),
            ("f2", "f4"),
            ("u1", "f8"),
            ("i8", "f8"),
            ("?", "f8"),
        ],
    )
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_dtypes_and_memory_orders(self, tmp_path, dtype, read_as, order):
        values = np.asarray(random_map(0) * 50, order=order).astype(dtype)
        np.save(tmp_path / "x.npy", values)
        ((_, maps),) = MapFolder(tmp_path, ["x.png"]).batches()
        assert maps.dtype == read_as and maps.flags.c_contiguous
        np.testing.assert_array_equal(maps[0], values)

    def test_a_header_of_another_length_or_version(self, tmp_path):
        values = random_map(0)
        with open(tmp_path / "x.npy", "wb") as file:
            np.lib.format.write_array(file, values, version=(2, 0))
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (5, 7)}".ljust(245) + b"\n"
        (tmp_path / "y.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values.tobytes()
        )
        for found in collect(MapFolder(tmp_path, ["x.png", "y.png"])).values():
            np.testing.assert_array_equal(found, values)

    def test_values_that_are_no_numbers_are_read(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([[np.nan, np.inf], [-np.inf, -0.0]]))
        np.testing.assert_array_equal(MapFolder(tmp_path, ["x"]).read("x"), [[np.nan, np.inf], [-np.inf, -0.0]])

    def test_bad_files_are_skipped_and_the_reason_kept(self, tmp_path):
        good, ids = random_map(0), []

        def add(name, expected, content=None, array=None):
            if content is not None:
                (tmp_path / name).write_bytes(content)
            elif array is not None:
                np.save(tmp_path / name, array, allow_pickle=True)
            ids.append((name.split(".")[0] + ".jpg", expected))

        np.save(tmp_path / "whole.npy", good)
        whole = (tmp_path / "whole.npy").read_bytes()
        huge = whole.replace(b"(5, 7), }" + b" " * 20, b"(999999999, 999999999), }    ")
        assert len(huge) == len(whole) and huge != whole
        add("whole.npy", None)
        add("missing.npy", "no map missing.jpg or missing with .npy, .npz or .safetensors")
        add("cut.npy", "cut.npy: cut off: expected 280 bytes of data, found 270", whole[:-10])
        add("no_data.npy", "no_data.npy: cut off: expected 280 bytes of data, found 0", whole[:128])
        add("empty.npy", "empty.npy: ", b"")
        add("text.npy", "text.npy: ", b"0.1 0.2\n" * 40)
        add("huge.npy", "huge.npy: ", huge)
        for version in (1, 2, 3):
            written = io.BytesIO()
            np.lib.format.write_array(written, good, version=(version, 0))
            arrays = written.getvalue().replace(b"'<f8', ", b"'7f8', ")
            expected = f"arrays{version}.npy: EOF: reading array data, expected 1960 bytes got 280"
            add(f"arrays{version}.npy", expected, arrays)
        add("pickled.npy", "pickled.npy: Object arrays cannot be loaded", array=np.array([{}, {}], object))
        add("volume.npy", "volume.npy: expected a map [h, w], found shape (1, 5, 7)", array=good[None])
        add("nothing.npy", "nothing.npy: expected a map [h, w], found shape (0, 7)", array=good[:0])
        add("complex.npy", "complex.npy: expected numbers of at most 64 bits, found complex128", array=good * 1j)
        add("words.npy", "words.npy: expected numbers of at most 64 bits, found <U1", array=np.array([["a"]]))
        add("bad.npz", "bad.npz: ", b"PK\x03\x04" + bytes(80))
        add("bad2.safetensors", "bad2.safetensors: ", b"\xff" * 80)
        np.savez(tmp_path / "pair.npz", a=good, b=good)
        add("pair.npz", "pair.npz: expected one array in the file, found 2")
        np.save(tmp_path / "twice.npy", good)
        np.save(tmp_path / "twice.jpg.npy", good)
        add("twice.npy", "expected one map, found twice.jpg.npy and twice.npy")
        (tmp_path / "folder.npy").mkdir()
        add("folder.npy", "folder.npy: ")

        folder = MapFolder(tmp_path, [image_id for image_id, _ in ids])
        assert list(collect(folder, 4)) == ["whole.jpg"]
        assert list(folder.problems) == [image_id for image_id, expected in ids if expected]
        for image_id, expected in ids[1:]:
            assert folder.problems[image_id].startswith(expected), folder.problems[image_id]
        with pytest.raises(DatasetError, match=r"map of 'cut.jpg': cut.npy: cut off"):
            folder.read("cut.jpg")

        np.save(tmp_path / "cut.npy", good)  # what is repaired is no problem any more
        assert "cut.jpg" in collect(folder, 4) and "cut.jpg" not in folder.problems

    def test_ids_that_differ_in_their_extension_only_need_their_full_names(self, tmp_path):
        np.save(tmp_path / "a.npy", random_map(0))
        np.save(tmp_path / "a.png.npy", random_map(1))
        folder = MapFolder(tmp_path, ["a.jpg", "a.png"])
        assert list(collect(folder)) == ["a.png"]
        assert folder.problems == {"a.jpg": "no map a.jpg with .npy, .npz or .safetensors; there is a.npy"}

    def test_maps_of_one_shape_and_dtype_are_one_batch(self, tmp_path):
        shapes = [(5, 7), (7, 5), (5, 7), (5, 7), (7, 5), (5, 7)]
        for number, shape in enumerate(shapes):
            np.save(tmp_path / f"{number}.npy", random_map(number, shape, np.float32 if number == 3 else np.float64))
        folder, seen = MapFolder(tmp_path, [f"{number}.jpg" for number in range(6)]), []
        for ids, batch in folder.batches(5):
            seen.append(("".join(each[0] for each in ids), batch.shape, batch.dtype.name))
        assert seen == [
            ("02", (2, 5, 7), "float64"),
            ("14", (2, 7, 5), "float64"),
            ("3", (1, 5, 7), "float32"),
            ("5", (1, 5, 7), "float64"),
        ]

    def test_batches_of_large_maps_are_cut(self, tmp_path, monkeypatch):
        monkeypatch.setattr(maps, "_MAX_BATCH_BYTES", 3 * 800)
        sizes = [10] * 8 + [20] * 3 + [2] * 5  # a side: 800, 3200 and 32 bytes
        for number, side in enumerate(sizes):
            np.save(tmp_path / f"{number}.npy", np.full((side, side), float(number)))
        folder = MapFolder(tmp_path, [str(number) for number in range(len(sizes))])
        found = list(folder.batches(100))
        assert sorted(int(each) for ids, _ in found for each in ids) == list(range(len(sizes)))
        assert all(batch.nbytes <= 3 * 800 or len(batch) == 1 for _, batch in found)

    def test_reading_ahead_is_bounded(self, tmp_path, monkeypatch):
        for number in range(60):
            np.save(tmp_path / f"{number}.npy", random_map(number))
        read, read_file = [], maps._read_file
        monkeypatch.setattr(maps, "_read_file", lambda path, room: (read.append(path), read_file(path, room)))
        batches = MapFolder(tmp_path, [str(number) for number in range(60)]).batches(5)
        for number, (ids, _) in enumerate(batches):
            assert ids[0] == str(number * 5)
            assert len(read) <= 1 + 5 * (number + 1 + maps._NUM_READERS)
            if number == 3:
                batches.close()
        assert len(read) < 60

    def test_wrong_arguments(self, tmp_path):
        with pytest.raises(DatasetError, match="nowhere: no such folder of maps"):
            MapFolder(tmp_path / "nowhere", ["a"])
        (tmp_path / "maps.zip").write_bytes(b"")
        with pytest.raises(DatasetError, match="maps.zip: expected a folder of maps, an .npz or a .safetensors file"):
            MapFolder(tmp_path / "maps.zip", ["a"])
        (tmp_path / "maps.npz").write_bytes(b"PK\x03\x04")
        with pytest.raises(DatasetError, match="maps.npz: cannot be read"):
            MapFolder(tmp_path / "maps.npz", ["a"])
        with pytest.raises(ValueError, match="size: expected at least 1, found 0"):
            MapFolder(tmp_path, ["a"]).batches(0)
        assert list(MapFolder(tmp_path, []).batches()) == []

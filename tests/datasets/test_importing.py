"""Imports of COCO, CSV, VOC, class folders, CUB, ILSVRC and OpenImages, from small files in their formats.

In: files made here, by hand or by pycocotools. Out: metadata that load_metadata reads, masks, what was dropped.
Source: the formats that the modules of wsolkern.datasets.importing name.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsolkern.cli import app
from wsolkern.datasets import MaskFolder, importing, load_metadata
from wsolkern.datasets.importing import Choices, run_lengths
from wsolkern.errors import ArgumentError, DatasetError


def image(path, size=(20, 10), mode="RGB", pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.new(mode, size) if pixels is None else Image.fromarray(pixels)
    if mode == "P":  # without one it is saved with as few bits as it has colours
        made.putpalette([each for each in range(256) for _ in range(3)])
    made.save(path)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def boxes_of(split):
    return {each: split.boxes[each].tolist() for each in split.image_ids}


def labels_of(split):
    return {each: split.class_labels[each] for each in split.image_ids}


def coco_file(tmp_path, annotations, images=None, categories=None):
    images = images or [
        {"id": 7, "file_name": "a.jpg", "width": 20, "height": 10},
        {"id": 8, "file_name": "deep/b.jpg", "width": 20, "height": 10},
    ]
    categories = categories or [{"id": 1, "name": "cat"}, {"id": 90, "name": "ant"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    return text(tmp_path / "c.json", json.dumps(content))


def annotation(image_id, category, box, **more):
    return {"id": 1, "image_id": image_id, "category_id": category, "bbox": box, "iscrowd": 0, **more}


class TestCoco:
    def test_boxes_are_rounded_corners_of_the_class_with_the_largest_area(self, tmp_path):
        file = coco_file(
            tmp_path,
            [
                annotation(7, 1, [1.5, 2.4, 10.0, 3.2]),  # to 11.5 and 5.6
                annotation(7, 1, [0, 0, 20.6, 10.2]),  # less than a pixel outside
                annotation(7, 90, [0, 0, 2, 2]),
                annotation(8, 90, [3, 3, 4, 4]),
                annotation(8, 90, [3, 3, 400, 4]),
                annotation(8, 90, [3, 3, 0, 4]),
                annotation(8, 90, ["x", 3, 1, 4]),
                annotation(8, 1, [0, 0, 20, 10], iscrowd=1),
                annotation(9, 1, [0, 0, 1, 1]),
                annotation(8, 5, [0, 0, 1, 1]),
            ],
        )
        found = importing.import_coco(file, tmp_path / "m/coco")
        split = load_metadata(tmp_path / "m/coco/test")
        assert boxes_of(split) == {"a.jpg": [[2, 2, 12, 6], [0, 0, 19, 9]], "deep/b.jpg": [[3, 3, 7, 7]]}
        assert labels_of(split) == {"a.jpg": 0, "deep/b.jpg": 1} and found.class_names == ("cat", "ant")
        assert split.image_sizes["a.jpg"] == (20, 10)
        assert found.dropped.counts == {
            "annotations of no image": 1,
            "annotations of no category": 1,
            "objects of another class than their image's": 1,
            "boxes outside their image": 1,
            "boxes without width or height": 1,
            "boxes that are not four finite numbers": 1,
            "regions to ignore (boxes have none: they are kept with masks)": 1,
        }
        assert "annotations[2]: ant" in found.dropped.examples["objects of another class than their image's"]

    def test_masks_and_crowds(self, tmp_path):
        mask = np.zeros((10, 20), bool)
        mask[2:5, 3:9] = True
        runs = pytest.importorskip("pycocotools.mask").encode(np.asfortranarray(mask.astype(np.uint8)))
        compressed = {"size": [10, 20], "counts": runs["counts"].decode()}
        plain = {"size": [10, 20], "counts": [150, 50]}
        polygon = [[12, 6, 16, 6, 16, 9, 12, 9]]
        file = coco_file(
            tmp_path,
            [
                annotation(7, 1, [3, 2, 6, 3], segmentation=compressed),
                annotation(7, 1, [12, 6, 4, 3], segmentation=polygon),
                annotation(7, 1, [15, 0, 5, 10], segmentation=plain, iscrowd=1),
                annotation(8, 1, [3, 2, 6, 3], segmentation=[[0, 0, 1e8, 0, 0, 1e8]]),
            ],
        )
        found = importing.import_coco(file, tmp_path / "m", Choices(masks=tmp_path / "masks"))
        split = load_metadata(tmp_path / "m/test")
        assert split.mask_paths == {"a.jpg": ("a_0.png", "a_1.png")} and split.ignore_paths == {"a.jpg": "a_ignore.png"}
        assert list(found.dropped.counts) == ["masks that cannot be drawn", "images without an object"]
        expected = np.zeros((10, 20), np.uint8)
        expected[:, 15:] = 255
        expected[mask] = 1
        expected[6:9, 12:16] = 1
        read = MaskFolder(tmp_path / "masks", split.mask_paths, split.ignore_paths, (10, 20))
        np.testing.assert_array_equal(read("a.jpg"), expected)

    def test_run_lengths_equal_pycocotools(self, rng):
        mask = pytest.importorskip("pycocotools.mask")
        for _ in range(50):
            height, width = (int(each) for each in rng.integers(1, 90, 2))
            pixels = rng.random((height, width)) < rng.random() ** 3
            runs = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
            compressed = {"size": [height, width], "counts": runs["counts"].decode()}
            np.testing.assert_array_equal(run_lengths.decode(compressed, (width, height)), pixels)
            counts = {"size": [height, width], "counts": run_lengths.uncompress(compressed["counts"])}
            assert mask.frPyObjects(counts, height, width) == runs
            np.testing.assert_array_equal(run_lengths.decode(counts, (width, height)), pixels)

    @pytest.mark.parametrize(
        "segmentation",
        [
            {"size": [10, 20], "counts": [1, 2]},
            {"size": [10, 20], "counts": [-1, 201]},
            {"size": [10, 20], "counts": [10**30]},
            {"size": [10, 20], "counts": "\x7f"},
            {"size": [10, 20], "counts": "o" * 40},
            {"size": [20, 10], "counts": [200]},
            [[1, 2, 3]],
            [[0, 0, float("inf"), 0, 1, 1]],
            "x",
        ],
    )
    def test_damaged_masks_are_refused(self, segmentation):
        with pytest.raises(ValueError, match="expected"):
            run_lengths.decode(segmentation, (20, 10))

    @pytest.mark.parametrize(
        "change, said",
        [
            ({"file_name": "../a.jpg"}, r"images\[0\]: image: expected relative paths"),
            ({"file_name": "/etc/passwd"}, r"images\[0\]: image: expected relative paths"),
            ({"width": 10**400}, r"images\[0\]: expected a width and a height"),
            ({"width": 0}, r"images\[0\]: expected a width and a height"),
        ],
    )
    def test_what_images_must_be(self, tmp_path, change, said):
        images = [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10, **change}]
        file = coco_file(tmp_path, [annotation(7, 1, [0, 0, 5, 5])], images)
        with pytest.raises(DatasetError, match=said):
            importing.import_coco(file, tmp_path / "m")
        assert not (tmp_path / "m").exists()

    @pytest.mark.parametrize(
        "content, said",
        [
            ('{"images": [NaN]}', "found NaN"),
            ('{"images":\n [}', "line 2: expected JSON"),
            ("[" * 100_000, "expected JSON"),
            ("[]", "expected a list of records in 'images'"),
        ],
    )
    def test_what_is_no_coco_file(self, tmp_path, content, said):
        with pytest.raises(DatasetError, match=said):
            importing.import_coco(text(tmp_path / "c.json", content), tmp_path / "m")


class TestChoices:
    ROWS = "image,class,x0,y0,x1,y1,width,height\n"

    def table(self, tmp_path, num=20):
        rows = [f"{place}.jpg,{'ab'[place % 2]},1,1,5,5,20,10\n" for place in range(num)]
        return text(tmp_path / "t.csv", self.ROWS + "".join(rows))

    def test_shares_are_of_each_class_and_go_by_seed_and_id_alone(self, tmp_path):
        shares = {"train": 0.5, "val": 0.2, "test": 0.3}
        first = importing.import_csv(self.table(tmp_path), tmp_path / "m", Choices(splits=shares))
        assert {name: len(each.image_ids) for name, each in first.splits.items()} == {"train": 10, "val": 4, "test": 6}
        for name, each in first.splits.items():
            labels = list(labels_of(each).values())
            assert labels.count(0) == labels.count(1), name
        lines = self.table(tmp_path).read_text().splitlines(keepends=True)
        text(tmp_path / "t.csv", "".join([lines[0], *reversed(lines[1:])]))
        again = importing.import_csv(tmp_path / "t.csv", tmp_path / "n", Choices(splits=shares))
        other = importing.import_csv(tmp_path / "t.csv", tmp_path / "o", Choices(splits=shares, seed=1))
        assert {n: set(each.image_ids) for n, each in again.splits.items()} == {
            n: set(each.image_ids) for n, each in first.splits.items()
        }
        assert set(other.splits["val"].image_ids) != set(first.splits["val"].image_ids)

    def test_strict_writes_nothing(self, tmp_path):
        file = text(tmp_path / "t.csv", self.ROWS + "a.jpg,a,1,1,5,5,20,10\nb.jpg,a,1,1,50,5,20,10\n")
        with pytest.raises(DatasetError, match="1 boxes outside their image: t.csv:3"):
            importing.import_csv(file, tmp_path / "m/n", Choices(strict=True))
        assert sorted(each.name for each in tmp_path.rglob("*")) == ["m", "t.csv"]

    def test_what_is_there_is_replaced_only_if_asked_for(self, tmp_path):
        importing.import_csv(self.table(tmp_path), tmp_path / "m")
        before = (tmp_path / "m/test/image_ids.txt").read_bytes()
        with pytest.raises(DatasetError, match="m/test: is there already"):
            importing.import_csv(self.table(tmp_path, 4), tmp_path / "m")
        assert (tmp_path / "m/test/image_ids.txt").read_bytes() == before
        importing.import_csv(self.table(tmp_path, 4), tmp_path / "m", Choices(overwrite=True))
        assert len(load_metadata(tmp_path / "m/test").image_ids) == 4
        assert {each.name for each in tmp_path.iterdir()} == {"m", "t.csv"}

    def test_another_split_has_the_same_classes(self, tmp_path):
        importing.import_csv(self.table(tmp_path), tmp_path / "m")
        file = text(tmp_path / "u.csv", self.ROWS + "v.jpg,b,1,1,5,5,20,10\nw.jpg,c,1,1,5,5,20,10\n")
        found = importing.import_csv(file, tmp_path / "m", Choices(split="val"))
        assert labels_of(found.splits["val"]) == {"v.jpg": 1}
        assert found.dropped.counts == {"objects of no known class": 1, "images without an object": 1}

    def test_a_split_that_stays_keeps_the_numbers_of_its_classes(self, tmp_path):
        importing.import_csv(self.table(tmp_path), tmp_path / "m")
        file = text(tmp_path / "u.csv", self.ROWS + "v.jpg,c,1,1,5,5,20,10\n")
        with pytest.raises(DatasetError, match="m/test: would have other numbers"):
            importing.import_csv(file, tmp_path / "m", Choices(split="val", overwrite=True))
        assert not (tmp_path / "m/val").exists()
        found = importing.import_csv(file, tmp_path / "m", Choices(overwrite=True))
        assert found.class_names == ("c",) == tuple((tmp_path / "m/class_names.txt").read_text().split())

    def test_images_of_another_size_than_listed(self, tmp_path):
        image(tmp_path / "i/a.png", (10, 20)), image(tmp_path / "i/b.png", (40, 20)), text(tmp_path / "i/c.png", "x")
        rows = "".join(f"{each}.png,x,1,1,9,9,20,10\n" for each in "abc")
        found = importing.import_csv(text(tmp_path / "t.csv", self.ROWS + rows), tmp_path / "m",
                                     Choices(images=tmp_path / "i"))  # fmt: skip
        assert found.splits["test"].image_sizes == {"a.png": (20, 10)}
        reasons = {"images of another size than listed": 1, "images whose file cannot be read": 1}
        assert found.dropped.counts == reasons

    def test_names_of_classes_have_one_line(self, tmp_path):
        file = text(tmp_path / "t.csv", self.ROWS + 'a.jpg,"x\ny",1,1,5,5,20,10\n')
        with pytest.raises(DatasetError, match="names of classes of one line"):
            importing.import_csv(file, tmp_path / "m")

    def test_classes_ids_and_class_of(self, tmp_path):
        rows = "a.jpg,x,1,1,9,9,20,10\na.jpg,y,1,1,2,2,20,10\nb.jpg,x,0,0,1,1,20,10\nc.jpg,y,0,0,1,1,20,10\n"
        file = text(tmp_path / "t.csv", self.ROWS + rows)
        choices = Choices(
            classes=text(tmp_path / "names.txt", "y\nx\n"),
            ids=text(tmp_path / "ids.txt", "b.jpg\na.jpg\n"),
            class_of=text(tmp_path / "of.csv", "image,class\na.jpg,y\n"),
        )
        split = importing.import_csv(file, tmp_path / "m", choices).splits["test"]
        assert labels_of(split) == {"b.jpg": 1, "a.jpg": 0} and boxes_of(split)["a.jpg"] == [[1, 1, 2, 2]]
        found = importing.import_csv(file, tmp_path / "n", Choices(several="drop"))
        assert found.dropped.counts == {"images with objects of several classes": 1}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"box_rounding": "none"},
            {"box_format": "yolo"},
            {"several": "all"},
            {"split": "../x"},
            {"splits": {"a": 0.5}},
            {"splits": {"a": 1.5, "b": -0.5}},
        ],
    )
    def test_what_choices_must_be(self, wrong):
        with pytest.raises(ArgumentError, match=f"^{next(iter(wrong))}: expected"):
            Choices(**wrong)


class TestCsv:
    @pytest.mark.parametrize(
        "header, row, choices, box",
        [
            ("filename,label,xmin,ymin,xmax,ymax", "1,2,5,6", {}, [1, 2, 5, 6]),
            ("path,category,x,y,w,h", "1,2,5,6", {"box_format": "xywh"}, [1, 2, 6, 8]),
            ("path,category,x,y,width,height", "1,2,5,6", {"box_format": "xywh"}, [1, 2, 6, 8]),
            ("path,category,cx,cy,w,h", "6,5,5,6", {"box_format": "cxcywh"}, [4, 2, 9, 8]),
            (
                "path,category,cx,cy,w,h", "0.5,0.5,0.5,0.2", {"box_format": "cxcywh", "fractions": True},
                [5, 4, 15, 6],
            ),
            ("image,class,x0,y0,x1,y1", "1.5,2.5,5.49,6", {}, [2, 3, 5, 6]),
            ("image,class,x0,y0,x1,y1", "1.5,2.5,5.49,6", {"box_rounding": "outward"}, [1, 2, 6, 6]),
            ("image,class,x0,y0,x1,y1", "1.5,2.5,5.49,6", {"box_rounding": "floor"}, [1, 2, 5, 6]),
        ],
    )  # fmt: skip
    def test_formats_of_boxes(self, tmp_path, header, row, choices, box):
        image(tmp_path / "images/a b.png")
        file = text(tmp_path / "t.csv", f"{header}\na b.png,cat,{row}\n")
        found = importing.import_csv(file, tmp_path / "m", Choices(images=tmp_path / "images", **choices))
        assert boxes_of(found.splits["test"]) == {"a b.png": [box]}

    def test_splits_missing_images_and_images_without_a_box(self, tmp_path):
        image(tmp_path / "i/a.png"), image(tmp_path / "i/b.png")
        file = text(
            tmp_path / "t.csv",
            "image,class,x0,y0,x1,y1,split\na.png,c,0,0,1,1,val\nb.png,c,,,,,test\nc.png,c,0,0,1,1,test\n",
        )
        found = importing.import_csv(file, tmp_path / "m", Choices(images=tmp_path / "i"))
        assert list(found.splits) == ["val"]
        assert found.dropped.counts == {"images without an object": 1, "images whose file is not there": 1}

    @pytest.mark.parametrize(
        "content, said",
        [
            ("a.jpg,c,1,1,2,2\n", "line 1: expected names of columns"),
            ("", "line 1: expected names"),
            ("image,class,x0,y0,x1,y1\n../a,c,1,1,2,2\n", "line 2: image: expected relative"),
            ("image,class,x0,y0,x1,y1\na,c,1,1,2\n", "line 2: expected 6 columns, found 5"),
            ("image,class,x0,y0,x1,y1\na,,1,1,2,2\n", "line 2: expected a class"),
            ("image,class,x0,y0,x1,y1,split\na,c,1,1,2,2,../x\n", "line 2: expected the name of a split"),
            ("image,class,x0,y0,x1,y1,split\na,c,1,1,2,2,t\na,c,1,1,2,2,v\n", "line 3: 'a' has the split t on line 2"),
            ("image,class,x0,y0,x1,y1,width,height\na,c,nan,1,2,2,9,9\n", "not four finite numbers: t.csv:2"),
            ("image,class,x0,y0,x1,y1,width,height\na,c,1_0,1,22,2,99,99\n", "not four finite numbers: t.csv:2"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, tmp_path, content, said):
        with pytest.raises(DatasetError, match=said):
            importing.import_csv(text(tmp_path / "t.csv", content), tmp_path / "m")
        assert not (tmp_path / "m").exists()


class TestClassFolders:
    def test_with_and_without_boxes(self, tmp_path):
        for name in ("train/cat/1.png", "test/cat/2.png", "test/ant/3.png"):
            image(tmp_path / "d" / name)
        found = importing.import_imagefolder(tmp_path / "d", tmp_path / "m")
        assert found.class_names == ("ant", "cat") and found.splits["test"].kind is None
        assert labels_of(found.splits["test"]) == {"test/ant/3.png": 0, "test/cat/2.png": 1}
        assert load_metadata(tmp_path / "m/train", localization=False).image_ids == ("train/cat/1.png",)
        file = text(tmp_path / "b.csv", "image,x0,y0,x1,y1\ntest/cat/2.png,1,2,3,4\nother.png,1,2,3,4\n")
        found = importing.import_imagefolder(tmp_path / "d", tmp_path / "n", boxes=file)
        assert boxes_of(found.splits["test"]) == {"test/cat/2.png": [[1, 2, 3, 4]]}
        assert found.splits["train"].image_ids == ("train/cat/1.png",)
        assert found.dropped.counts == {"boxes of no image": 1, "images without an object": 1}


VOC = """<annotation><filename>{stem}.jpg</filename><size><width>20</width><height>10</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax>
</bndbox></object>
<object><name>dog</name><difficult>1</difficult><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>4</xmax><ymax>3</ymax></bndbox>
</object></annotation>"""


class TestVoc:
    def folder(self, tmp_path):
        for stem in ("a", "b"):
            text(tmp_path / f"v/Annotations/{stem}.xml", VOC.format(stem=stem))
            image(tmp_path / f"v/JPEGImages/{stem}.jpg")
        return tmp_path / "v"

    def test_the_first_pixel_is_one(self, tmp_path):
        root = self.folder(tmp_path)
        text(root / "ImageSets/Main/val.txt", "b\n"), text(root / "ImageSets/Main/train.txt", "a\n")
        found = importing.import_voc(root, tmp_path / "m")
        assert boxes_of(found.splits["val"]) == {"b.jpg": [[0, 1, 19, 9]]}
        assert found.dropped.counts == {"objects marked difficult": 2}
        found = importing.import_voc(root, tmp_path / "n", first_pixel=0, difficult=True)
        assert boxes_of(found.splits["val"]) == {"b.jpg": [[1, 2, 19, 9]]}
        assert found.dropped.counts == {"objects of another class than their image's": 2}

    def test_masks(self, tmp_path):
        root = self.folder(tmp_path)
        pixels = np.zeros((10, 20), np.uint8)
        pixels[1:4, 2:5], pixels[0], pixels[9, 9] = 1, 255, 2
        image(root / "SegmentationObject/a.png", mode="P", pixels=pixels)
        found = importing.import_voc(root, tmp_path / "m", Choices(masks=tmp_path / "k"))
        split = found.splits["test"]
        read = MaskFolder(tmp_path / "k", split.mask_paths, split.ignore_paths, (10, 20))("a.jpg")
        np.testing.assert_array_equal(read, np.where(pixels == 2, 0, pixels))
        assert found.dropped.counts["masks that cannot be drawn"] == 2  # b has no file
        image(root / "SegmentationObject/b.png", mode="P", pixels=pixels.T)
        found = importing.import_voc(root, tmp_path / "n", Choices(masks=tmp_path / "l"))
        assert found.dropped.counts["masks of another size than their image"] == 2

    @pytest.mark.parametrize(
        "content, said",
        [
            (
                '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
                "line 1: expected no document type",
            ),
            ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "line 1: expected no document type"),
            ("<annotation>\n<a></annotation>", "line 2: expected XML"),
            ("<a>" * 100, "nested elements"),
            ("<annotation><filename>../a.jpg</filename></annotation>", "line 1: image: expected relative"),
            ("<annotation></annotation>", "line 1: image: expected non-empty"),
        ],
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_hostile_files(self, tmp_path, content, said, encoding):
        path = text(tmp_path / "v/Annotations/a.xml", "")
        path.write_bytes(content.encode(encoding))
        with pytest.raises(DatasetError, match=said):
            importing.import_voc(tmp_path / "v", tmp_path / "m")


def cub(tmp_path):
    root = tmp_path / "CUB_200_2011"
    names = ("001.A/A_1.jpg", "001.A/A_2.jpg", "002.B/B_1.jpg")
    for name in names:
        image(root / "images" / name, (500, 336))
    text(root / "classes.txt", "1 001.A\n2 002.B\n")
    text(root / "images.txt", "".join(f"{place} {name}\n" for place, name in enumerate(names, 1)))
    text(root / "image_class_labels.txt", "1 1\n2 1\n3 2\n")
    text(root / "train_test_split.txt", "1 0\n2 1\n3 0\n")
    text(root / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n3 14.0 112.0 388.0 186.0\n")
    return root


class TestPublished:
    def test_cub(self, tmp_path):
        found = importing.import_cub(cub(tmp_path), tmp_path / "m")
        assert not found.dropped.counts
        # Facts of the published metadata: the first three boxes of CUB-200-2011.
        assert boxes_of(found.splits["test"]) == {
            "001.A/A_1.jpg": [[60, 27, 385, 331]],
            "002.B/B_1.jpg": [[14, 112, 402, 298]],
        }
        assert boxes_of(found.splits["train"]) == {"001.A/A_2.jpg": [[139, 30, 292, 294]]}
        assert labels_of(found.splits["test"]) == {"001.A/A_1.jpg": 0, "002.B/B_1.jpg": 1}
        assert found.splits["test"].image_sizes["001.A/A_1.jpg"] == (500, 336)

    @pytest.mark.parametrize(
        "name, content, said",
        [
            ("images.txt", "1 ../x.jpg\n", "images.txt:1: image: expected relative"),
            ("images.txt", "1 a.jpg\n1 b.jpg\n", "line 2: '1' is on line 1 already"),
            ("image_class_labels.txt", "1 1\n2 1\n", "none for '3'"),
            ("image_class_labels.txt", "1 1\n2 1\n3 9\n", "line 3: classes.txt has no '9'"),
            ("train_test_split.txt", "1 0\n2 x\n3 0\n", "line 2: expected 0 or 1"),
            ("bounding_boxes.txt", "1 1 2 3\n", "line 1: expected image x y width height"),
        ],
    )
    def test_damaged_cub(self, tmp_path, name, content, said):
        root = cub(tmp_path)
        text(root / name, content)
        if name == "images.txt":
            for other in ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt"):
                kept = (root / other).read_text().splitlines()[0]
                text(root / other, kept + "\n")
        with pytest.raises(DatasetError, match=said):
            importing.import_cub(root, tmp_path / "m")

    SYNSETS = "n02105855 dog, hound\nn01440764 tench\nn01751748 sea snake\n"

    def test_ilsvrc(self, tmp_path):
        root = tmp_path / "k"
        text(root / "LOC_synset_mapping.txt", self.SYNSETS)
        # A line of the archive under another name: its box the published metadata has as it is.
        rows = [
            "ImageId,PredictionString",
            "ILSVRC2012_val_00000002,n02105855 85 1 499 272 ",
            "ILSVRC2012_val_00000001,n01751748 1 2 3 4 n01751748 0 0 500 360",
        ]
        text(root / "LOC_val_solution.csv", "\n".join(rows) + "\n")
        data = root / "ILSVRC/Data/CLS-LOC"
        for number in (1, 2):
            image(data / f"val/ILSVRC2012_val_0000000{number}.JPEG", (500, 360))
        image(data / "train/n01440764/n01440764_1.JPEG")
        for name in ("0/0", "0/10", "0/2", "2/0"):
            image(data / f"val2/{name}.jpeg", (500, 375))
        v2 = text(tmp_path / "v2.txt", "image_id,x0,y0,x1,y1\n0/0.jpeg,156,163,318,230\n2/0.jpeg,0,0,1,1\n"
                  "0/10.jpeg,0,0,1,1\n0/2.jpeg,2,2,3,3\n0/2.jpeg,0,0,1,1\n")  # fmt: skip
        found = importing.import_ilsvrc(root, tmp_path / "m", v2_boxes=v2)
        assert boxes_of(found.splits["test"]) == {
            "val/ILSVRC2012_val_00000001.JPEG": [[1, 2, 3, 4], [0, 0, 499, 359]],
            "val/ILSVRC2012_val_00000002.JPEG": [[85, 1, 499, 272]],
        }
        assert list(labels_of(found.splits["test"]).values()) == [1, 2]
        assert found.splits["val"].image_ids == tuple(f"val2/{each}.jpeg" for each in ("0/0", "0/10", "0/2", "2/0"))
        assert list(labels_of(found.splits["val"]).values()) == [0, 0, 0, 2]
        assert labels_of(found.splits["train"]) == {"train/n01440764/n01440764_1.JPEG": 0}
        assert found.class_names == ("n01440764", "n01751748", "n02105855") and not found.dropped.counts

    def test_ilsvrc_from_xml_is_the_same_as_from_csv(self, tmp_path):
        name = "ILSVRC2012_val_00000002"
        box = "<bndbox><xmin>85</xmin><ymin>1</ymin><xmax>499</xmax><ymax>272</ymax></bndbox>"
        size = "<size><width>500</width><height>360</height></size>"
        content = f"<annotation>{size}<object><name>n02105855</name>{box}</object></annotation>"
        text(tmp_path / f"x/Annotations/CLS-LOC/val/{name}.xml", content)
        text(tmp_path / "c/LOC_val_solution.csv", f"ImageId,PredictionString\n{name},n02105855 85 1 499 272\n")
        image(tmp_path / f"c/val/{name}.JPEG", (500, 360))
        found = [importing.import_ilsvrc(tmp_path / each, tmp_path / f"{each}.m").splits["test"] for each in "xc"]
        assert found[0].sha256() == found[1].sha256()

    @pytest.mark.parametrize(
        "row", ["../x,n02105855 1 2 3 4", "ILSVRC2012_val_00000001,n1 1 2 3 4", "ILSVRC2012_val_00000001,n02105855 1"]
    )
    def test_damaged_ilsvrc(self, tmp_path, row):
        text(tmp_path / "k/LOC_val_solution.csv", f"ImageId,PredictionString\n{row}\n")
        with pytest.raises(DatasetError, match="line 2: expected"):
            importing.import_ilsvrc(tmp_path / "k", tmp_path / "m")

    def open_images(self, tmp_path):
        root, one, two = tmp_path / "oi", "0" * 15 + "1", "0" * 15 + "2"
        for name in (one, two):
            image(root / f"validation/{name}.jpg")
        pixels = np.zeros((10, 20), np.uint8)
        pixels[2:5, 4:10] = 255
        rows = []
        for name, label, box in ((one, "02b", "aa"), (two, "02b", "bb"), (two, "01a", "cc")):
            file = f"{name}_m{label}_{box}.png"
            image(root / "masks" / file, mode="L", pixels=pixels)
            rows.append(f"{file},{name},/m/{label},{box},0.2,0.5,0.2,0.5,0.9,\n")
        header = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
        text(root / "validation-annotations-object-segmentation.csv", header + "".join(rows))
        header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
        header += "IsDepiction,IsInside\n"
        boxes = [
            "/m/02b,1,0.2,0.5,0.2,0.5,0,0,0,0,0",
            "/m/02b,1,0.72,0.9,0.1,0.5,0,0,1,0,0",
            "/m/09z,1,0,1,0,1,0,0,1,0,0",
        ]
        text(root / "validation-annotations-bbox.csv", header + "".join(f"{one},xclick,{each}\n" for each in boxes))
        return root, one, pixels

    def test_openimages(self, tmp_path):
        root, one, pixels = self.open_images(tmp_path)
        found = importing.import_openimages(root, tmp_path / "m", Choices(masks=tmp_path / "d"))
        split = found.splits["val"]
        assert split.image_ids == (f"val/02b/{one}.jpg",)
        assert split.mask_paths[split.image_ids[0]] == (f"val/02b/{one}_m02b_aa.png",)
        assert split.ignore_paths[split.image_ids[0]] == f"val/02b/{one}_ignore.png"
        assert (tmp_path / "d" / split.image_ids[0]).read_bytes() == (root / f"validation/{one}.jpg").read_bytes()
        expected = (pixels > 0).astype(np.uint8)
        expected[1:5, 14:18] = 255  # the group: 0.72 to 0.9 of 20, outward
        read = MaskFolder(tmp_path / "d", split.mask_paths, split.ignore_paths, (10, 20))
        np.testing.assert_array_equal(read(split.image_ids[0]), expected)
        assert found.dropped.counts == {"images with objects of several classes": 1}

    def test_damaged_openimages(self, tmp_path):
        root, one, _ = self.open_images(tmp_path)
        path = root / "validation-annotations-object-segmentation.csv"
        for old, new in ((f"{one}_m02b_aa.png", "../a.png"), (one, "../x"), ("/m/02b", "02b/..")):
            kept = path.read_text()
            text(path, kept.replace(old, new, 1))
            with pytest.raises(DatasetError, match="line 2: expected"):
                importing.import_openimages(root, tmp_path / "m", Choices(masks=tmp_path / "d"))
            text(path, kept)
        with pytest.raises(ArgumentError, match="masks: expected a folder"):
            importing.import_openimages(root, tmp_path / "m")


class TestCommand:
    def test_it_says_what_was_dropped_and_what_comes_next(self, tmp_path):
        file = coco_file(tmp_path, [annotation(7, 1, [1, 2, 3, 4])])
        out = tmp_path / "metadata/pets"
        done = CliRunner().invoke(app, ["import-dataset", "coco", str(file), "-o", str(out)], prog_name="wsolkern")
        assert done.exit_code == 0, done.output
        assert "1 images, 2 classes, boxes" in done.stdout and "images without an object: deep/b.jpg" in done.stderr
        joined = " ".join(done.stderr.split())
        assert f"-a num_classes=2 --images DATA_ROOT --metadata {out}/test -o runs/pets-test" in joined.replace(
            "\n", ""
        )

    def test_errors_name_options(self, tmp_path):
        file = coco_file(tmp_path, [annotation(7, 1, [1, 2, 3, 4])])
        base = ["import-dataset", "coco", str(file), "-o", str(tmp_path / "m")]
        for more, said in (
            (["--splits", "a=2"], "--splits: expected NAME=SHARE"),
            (["--splits", "a=0.2"], "--splits: expected shares above 0 with the sum 1"),
            (["--several-classes", "x"], "--several-classes: expected largest or drop"),
            (["--images", str(tmp_path / "no")], "--images: expected a folder of images"),
            (["--strict"], "nothing may be dropped"),
        ):
            done = CliRunner().invoke(app, base + more, prog_name="wsolkern")
            assert done.exit_code == 2 and said in " ".join(done.stderr.split()), done.output
        assert not Path(tmp_path / "m").exists()

"""The drop-in: the published evaluator's names give the numbers that OpenCV gives, threshold by threshold."""

import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
import torch
from cases import smooth
from PIL import Image

from wsolkern import DatasetError
from wsolkern.compat import data_loaders, evaluation, inference, masks, util
from wsolkern.datasets import load_mask

IOUS = [30, 50, 70]
SIZES = [(500, 375), (224, 224), (97, 460)]  # width, height


def write_split(folder, kind):
    """A split of 9 images; returns the ids."""
    rng = np.random.default_rng(1)
    ids = [f"{'abc'[n % 3]}/{n}.JPEG" for n in range(9)]
    sizes = {image_id: SIZES[n % 3] for n, image_id in enumerate(ids)}
    lines = []
    for n, (image_id, score_map) in enumerate(score_maps(ids).items()):
        if kind == "boxes":
            width, height = sizes[image_id]
            for _ in range(1 + n % 2):  # what some threshold finds, a little off
                x0, y0, x1, y1 = oracle.boxes(score_map, rng.random(), True)[0]
                x = np.sort(np.clip([x0, x1] + rng.integers(-20, 20, 2), 0, 223)) * width // 224
                y = np.sort(np.clip([y0, y1] + rng.integers(-20, 20, 2), 0, 223)) * height // 224
                lines.append(f"{image_id},{x[0]},{y[0]},{x[1]},{y[1]}")
        else:
            lines.append(f"{image_id},{n}.png,{f'{n}_ignore.png' if n % 3 else ''}")
            lines += [f"{image_id},again_{n}.png,"] * (n % 2)
    folder.mkdir(parents=True)
    (folder / "image_ids.txt").write_text("\n".join(ids))
    (folder / "image_ids_proxy.txt").write_text("\n".join(ids[:2]))
    (folder / "class_labels.txt").write_text("\n".join(f"{image_id},{n}" for n, image_id in enumerate(ids)))
    (folder / "image_sizes.txt").write_text(
        "\n".join(f"{image_id},{w},{h}" for image_id, (w, h) in sizes.items()) if kind == "boxes" else ""
    )
    (folder / "localization.txt").write_text("\n".join(lines))
    return ids


def write_masks(folder):
    """The masks of ``write_split``."""
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True)
    for n in range(9):
        for name in (f"{n}", f"again_{n}", *([f"{n}_ignore"] if n % 3 else [])):
            mask = np.kron(rng.random((6, 7)) < 0.3, np.ones((40, 50))).astype(bool)
            Image.fromarray(mask).save(folder / f"{name}.png")


def score_maps(ids, size=(224, 224)):
    """Image id -> score map: CAM-like ones, plateaus, one of zeros, one of a single pixel."""
    rng = np.random.default_rng(3)
    maps = {}
    for n, image_id in enumerate(ids):
        cam = rng.random((5, 6)).round(1) if n % 4 == 3 else smooth(rng, 7 + 7 * (n % 2), 7)
        maps[image_id] = oracle.score_map(oracle.resize(cam, size), ("minmax", "max", "ivr:0.35", "pas:0.9")[n % 4])
    maps[ids[-1]] = np.zeros(size)
    maps[ids[-2]] = np.zeros(size)
    maps[ids[-2]][40, 60] = 1
    return maps


def save(maps, root):
    """As the published code saves them, every third as its README says."""
    for n, (image_id, score_map) in enumerate(maps.items()):
        path = root / ((image_id if n % 3 else image_id[:-5]) + ".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, score_map)


def truth(folder, size=(224, 224)):
    """Boxes of a split at ``size`` (height, width), read and scaled here."""
    lines = [line.split(",") for line in (folder / "image_sizes.txt").read_text().splitlines()]
    sizes = {image_id: (float(w), float(h)) for image_id, w, h in lines}
    boxes = {}
    for line in (folder / "localization.txt").read_text().splitlines():
        image_id, *box = line.split(",")
        scales = (size[1], size[0]) * 2
        scaled = [int(float(c) * s / old) for c, s, old in zip(box, scales, sizes[image_id] * 2, strict=True)]
        boxes.setdefault(image_id, []).append(scaled)
    return {image_id: np.array(each) for image_id, each in boxes.items()}


def expected_hits(maps, boxes, thresholds, multi_contour):
    """float64 [3, T]: images that hit, by IoU threshold."""
    deltas = np.array(IOUS) / 100
    return sum(
        oracle.hits(maps[each], boxes[each], thresholds, deltas, not multi_contour).astype(float) for each in maps
    )


def expected_mask(root, n):
    """uint8 [224, 224]: the n-th image's mask, by OpenCV."""
    import cv2

    def read(name):
        image = np.float32(cv2.imread(str(root / name), cv2.IMREAD_GRAYSCALE))
        return cv2.resize(image, (224, 224), interpolation=cv2.INTER_NEAREST) > 0.5

    objects = read(f"{n}.png") | (read(f"again_{n}.png") if n % 2 else False)
    ignored = read(f"{n}_ignore.png") if n % 3 else np.zeros_like(objects)
    return np.where(objects, 1, np.where(ignored, 255, 0)).astype(np.uint8)


def expected_pxap(true_hist, false_hist):
    """The published formula, step by step."""
    tp, fp = true_hist[::-1].cumsum(), false_hist[::-1].cumsum()
    fn = true_hist.sum() - tp
    some = (tp + fp) != 0
    with np.errstate(invalid="ignore"):
        precision, recall = tp / (tp + fp), tp / (tp + fn)
    return (precision[1:] * np.diff(recall))[some[1:]].sum() * 100


def make(evaluator, folder, interval=0.001, multi_contour_eval=False, dataset_name="CUB", mask_root=None, **more):
    settings = dict(
        metadata=data_loaders.configure_metadata(str(folder)),
        dataset_name=dataset_name,
        split="test",
        cam_threshold_list=list(np.arange(0, 1, interval)),
        iou_threshold_list=IOUS,
        mask_root=mask_root,
        multi_contour_eval=multi_contour_eval,
    )
    return evaluator(**{**settings, **more})


@pytest.fixture
def box_split(tmp_path):
    ids = write_split(tmp_path / "metadata" / "CUB" / "test", "boxes")
    return tmp_path / "metadata" / "CUB" / "test", score_maps(ids)


@pytest.fixture
def mask_split(tmp_path):
    ids = write_split(tmp_path / "metadata" / "OpenImages" / "val", "masks")
    write_masks(tmp_path / "dataset" / "OpenImages")
    return tmp_path / "metadata" / "OpenImages" / "val", score_maps(ids), tmp_path / "dataset" / "OpenImages"


class TestBoxEvaluator:
    @pytest.mark.parametrize("multi_contour", [False, True])
    def test_counts_and_maxima_equal_opencv(self, box_split, multi_contour):
        folder, maps = box_split
        evaluator = make(evaluation.BoxEvaluator, folder, multi_contour_eval=multi_contour)
        boxes = truth(folder)
        assert {k: [tuple(b) for b in v.tolist()] for k, v in boxes.items()} == evaluator.gt_bboxes
        for image_id, score_map in maps.items():
            evaluator.accumulate(score_map, image_id)
        expected = expected_hits(maps, boxes, np.arange(0, 1, 0.001), multi_contour)
        assert expected[:, 0].max() < expected.max() > 4 and evaluator.cnt == 9 and list(evaluator.num_correct) == IOUS
        for iou, counts in zip(IOUS, expected, strict=True):
            assert evaluator.num_correct[iou].dtype == np.float64
            np.testing.assert_array_equal(evaluator.num_correct[iou], counts)
        assert evaluator.compute() == [(counts * 100.0 / 9).max() for counts in expected]

    def test_counts_are_up_to_date_whenever_they_are_read(self, box_split):
        folder, maps = box_split
        evaluator, boxes = make(evaluation.BoxEvaluator, folder, interval=0.1), truth(folder)
        reused = np.empty((224, 224))
        for count in range(1, 4):
            image_id = list(maps)[count - 1]
            reused[:] = maps[image_id]
            evaluator.accumulate(reused, image_id)
            reused[:] = np.nan
            some = dict(list(maps.items())[:count])
            expected = expected_hits(some, boxes, np.arange(0, 1, 0.1), False)
            np.testing.assert_array_equal(list(evaluator.num_correct.values()), expected)
            assert evaluator.cnt == count
        evaluator.accumulate(maps[image_id], image_id)
        evaluator.num_correct = {iou: np.zeros(10) for iou in IOUS}
        assert not np.any(list(evaluator.num_correct.values()))

    def test_more_images_than_are_counted_together(self, box_split):
        folder, maps = box_split
        evaluator = make(evaluation.BoxEvaluator, folder, interval=0.1)
        for _ in range(15):
            for image_id, score_map in maps.items():
                evaluator.accumulate(score_map, image_id)
        expected = expected_hits(maps, truth(folder), np.arange(0, 1, 0.1), False) * 15
        np.testing.assert_array_equal(list(evaluator.num_correct.values()), expected)

    def test_maps_of_another_size_meet_boxes_at_their_size(self, box_split):
        folder, maps = box_split
        maps = score_maps(list(maps), size=(60, 91))
        evaluator = make(evaluation.BoxEvaluator, folder, interval=0.02, multi_contour_eval=True)
        for image_id, score_map in maps.items():
            evaluator.accumulate(score_map, image_id)
        with pytest.warns(UserWarning, match=r"60 x 91 pixels \(H x W\)"):
            counts = evaluator.num_correct
        expected = expected_hits(maps, truth(folder, (60, 91)), np.arange(0, 1, 0.02), True)
        np.testing.assert_array_equal(list(counts.values()), expected)

    @pytest.mark.parametrize(
        ("score_map", "error", "message"),
        [
            ([[0.0]], TypeError, "numpy array, found list"),
            (np.zeros((9, 9), np.float32), TypeError, "float64, found float32"),
            (np.zeros((1, 9, 9)), ValueError, r"\[H, W\], found \(1, 9, 9\)"),
            (np.full((9, 9), np.nan), ValueError, "NaN"),
            (np.eye(9) * 2, ValueError, "0.0 to 2.0"),
            (-np.eye(9), ValueError, "-1.0 to -?0.0"),
        ],
    )
    def test_an_invalid_map_is_an_error_at_once(self, box_split, score_map, error, message):
        evaluator = make(evaluation.BoxEvaluator, box_split[0])
        with pytest.raises(error, match=message):
            evaluator.accumulate(score_map, "a/0.JPEG")
        with pytest.raises(KeyError, match="not/there.jpg"):
            evaluator.accumulate(np.zeros((224, 224)), "not/there.jpg")
        with pytest.raises(RuntimeError, match="no score map was accumulated"):
            evaluator.compute()

    def test_metadata_that_do_not_hold_together(self, box_split):
        folder, _ = box_split
        (folder / "image_ids.txt").write_text("a/0.JPEG\nz.jpg")
        with pytest.raises(DatasetError, match="'z.jpg' has no box or no image size"):
            make(evaluation.BoxEvaluator, folder)
        (folder / "image_ids.txt").write_text("a/0.JPEG")
        (folder / "localization.txt").write_text("a/0.JPEG,5,5,4,9")
        with pytest.raises(RuntimeError, match=r"found x0 y0 x1 y1 = \[5, 5, 4, 9\]"):
            make(evaluation.BoxEvaluator, folder)
        (folder / "localization.txt").write_text("a/0.JPEG,5,5,4")
        with pytest.raises(DatasetError, match="localization.txt:1: expected id,x0,y0,x1,y1"):
            make(evaluation.BoxEvaluator, folder)


class TestMaskEvaluator:
    def test_histograms_and_pxap_equal_numpy(self, mask_split, capsys):
        folder, maps, root = mask_split
        evaluator = make(evaluation.MaskEvaluator, folder, dataset_name="OpenImages", mask_root=str(root))
        expected = np.zeros((2, 1002))
        for n, (image_id, score_map) in enumerate(maps.items()):
            mask = expected_mask(root, n)
            paths = evaluator.mask_paths[image_id], evaluator.ignore_paths[image_id]
            np.testing.assert_array_equal(evaluation.get_mask(str(root), *paths), mask)
            evaluator.accumulate(score_map, image_id)
            expected += oracle.histograms(score_map, mask, np.arange(0, 1, 0.001))
        assert evaluator.gt_true_score_hist.dtype == np.float64
        np.testing.assert_array_equal(evaluator.gt_true_score_hist, expected[0])
        np.testing.assert_array_equal(evaluator.gt_false_score_hist, expected[1])
        auc = expected_pxap(*expected)
        assert evaluator.compute() == auc and capsys.readouterr().out == f"Mask AUC on split test: {auc}\n"
        np.testing.assert_array_equal(
            evaluator.threshold_list_right_edge, np.append(np.arange(0, 1, 0.001), [1.0, 2.0, 3.0])
        )

    def test_errors(self, mask_split, box_split):
        folder, maps, root = mask_split
        with pytest.raises(ValueError, match="a data set with masks, found 'CUB'"):
            make(evaluation.MaskEvaluator, folder)
        with pytest.raises(DatasetError, match="expected id,mask_path,ignore_path, found 5 columns"):
            make(evaluation.MaskEvaluator, box_split[0], dataset_name="OpenImages")
        evaluator = make(evaluation.MaskEvaluator, folder, dataset_name="mine", mask_root=str(root))
        with pytest.raises(KeyError, match="none.jpg"):
            evaluator.accumulate(maps["a/0.JPEG"], "none.jpg")
        with pytest.raises(RuntimeError, match="at least one object pixel"):
            evaluator.compute()
        (root / "0.png").unlink()
        evaluator.accumulate(maps["a/0.JPEG"], "a/0.JPEG")
        with pytest.raises(DatasetError, match="0.png: no such mask file"):
            evaluator.compute()


class TestFunctions:
    def test_iou_equals_the_oracle(self, rng):
        a, b = (np.sort(rng.integers(0, 12, (n, 2, 2)), axis=1).reshape(n, 4) for n in (40, 30))
        expected = [[oracle.iou(x, y) for y in b.tolist()] for x in a.tolist()]
        np.testing.assert_array_equal(evaluation.calculate_multiple_iou(a, b), expected)
        for wrong in (np.array([[1, 1, 0, 0]]), np.array([[-1, 0, 2, 2]]), np.zeros((2, 3))):
            with pytest.raises(RuntimeError, match="boxes: expected"):
                evaluation.calculate_multiple_iou(wrong, b)

    def test_resize_bbox(self):
        assert evaluation.resize_bbox((1, 2, 4, 3), (10, 20), (35, 10)) == (3, 1, 14, 1)
        assert evaluation.resize_bbox([1, 2, 1, 2], (3, 3), (3, 3)) == (1, 2, 1, 2)
        assert all(type(c) is int for c in evaluation.resize_bbox(np.array([1, 2, 4, 3]), (10, 20), (35, 10)))

    @pytest.mark.parametrize("multi_contour", [False, True])
    def test_boxes_equal_opencv(self, multi_contour):
        thresholds = np.arange(0, 1, 0.01)
        for score_map in score_maps([f"{n}.JPEG" for n in range(9)], (60, 80)).values():
            boxes, counts = evaluation.compute_bboxes_from_scoremaps(score_map, thresholds, multi_contour)
            assert counts == [len(each) for each in boxes] and len(boxes) == 100
            for threshold, found in zip(thresholds, boxes, strict=True):
                expected = oracle.boxes(score_map, threshold, not multi_contour)
                assert found.dtype.kind == "i" and sorted(found.tolist()) == sorted(expected.tolist())
        with pytest.raises(ValueError, match="NaN"):
            evaluation.compute_bboxes_from_scoremaps(np.full((3, 3), np.nan), thresholds)

    def test_metadata(self, box_split, mask_split):
        metadata = data_loaders.configure_metadata(str(box_split[0]))
        assert metadata.image_ids == metadata["image_ids"] == os.path.join(str(box_split[0]), "image_ids.txt")
        metadata.image_sizes = metadata.image_sizes
        assert data_loaders.get_image_ids(metadata) == list(box_split[1])
        assert data_loaders.get_image_ids(metadata, proxy=True) == list(box_split[1])[:2]
        assert data_loaders.get_class_labels(metadata)["b/7.JPEG"] == 7
        assert data_loaders.get_image_sizes(metadata)["c/2.JPEG"] == (97, 460)
        assert all(type(c) is int for box in data_loaders.get_bounding_boxes(metadata)["b/1.JPEG"] for c in box)
        assert len(data_loaders.get_bounding_boxes(metadata)["b/1.JPEG"]) == 2
        masks, ignored = data_loaders.get_mask_paths(data_loaders.configure_metadata(str(mask_split[0])))
        assert masks["b/1.JPEG"] == ["1.png", "again_1.png"]
        assert (ignored["b/1.JPEG"], ignored["a/0.JPEG"]) == ("1_ignore.png", "")
        with pytest.raises(AttributeError, match="other"):
            _ = metadata.other
        with pytest.raises(DatasetError, match="nowhere: 1 problem\n  image_ids.txt: no such file"):
            data_loaders.get_image_ids(data_loaders.configure_metadata("nowhere"))

    def test_mask_image(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
        Image.fromarray(picture).save(tmp_path / "x.png")
        found = evaluation.load_mask_image(str(tmp_path / "x.png"), (20, 15))  # width, height
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, picture[::2, ::2])

    def test_cam_dataset(self, tmp_path, box_split):
        save(box_split[1], tmp_path / "maps")
        dataset = evaluation.CamDataset(str(tmp_path / "maps"), list(box_split[1]))
        loader = torch.utils.data.DataLoader(dataset, batch_size=4)
        seen = {i: util.t2n(cam) for cams, ids in loader for cam, i in zip(cams, ids, strict=True)}
        assert len(dataset) == 9 and list(seen) == list(box_split[1])
        for image_id, score_map in box_split[1].items():
            np.testing.assert_array_equal(seen[image_id], score_map)

    def test_util(self):
        tensor = torch.ones(2, 3, dtype=torch.float16, requires_grad=True)
        assert util.t2n(tensor).dtype == np.float64 and util.t2n(tensor).shape == (2, 3)
        util.check_box_convention(np.array([1, 2, 1, 2]), "x0y0x1y1")
        util.check_box_convention(np.array([[5, 5, 1, 2]]), "xywh")
        with pytest.raises(ValueError, match="found \"?'?corners"):
            util.check_box_convention(np.array([1, 2, 1, 2]), "corners")

    def test_normalize_scoremap(self):
        cam = smooth(np.random.default_rng(0), 20, 30)
        before = cam.copy()
        np.testing.assert_array_equal(inference.normalize_scoremap(cam), oracle.score_map(cam, "minmax"))
        np.testing.assert_array_equal(cam, before)
        for nothing in (np.ones((3, 3)), np.full((3, 3), np.nan)):
            np.testing.assert_array_equal(inference.normalize_scoremap(nothing), np.zeros((3, 3)))


class TestEvaluateWsol:
    @pytest.mark.parametrize(("multi_contour", "multi_iou"), [(False, False), (True, True), (True, False)])
    def test_boxes(self, tmp_path, box_split, capsys, multi_contour, multi_iou):
        folder, maps = box_split
        save(
            {image_id: m.astype(np.float32) if n == 4 else m for n, (image_id, m) in enumerate(maps.items())}, tmp_path
        )
        maps["b/4.JPEG"] = maps["b/4.JPEG"].astype(np.float32).astype(np.float64)
        performance = evaluation.evaluate_wsol(
            str(tmp_path), str(tmp_path / "metadata"), "none", "CUB", "test", multi_contour, multi_iou, IOUS, 0.01
        )
        counts = expected_hits(maps, truth(folder), np.arange(0, 1, 0.01), multi_contour)
        maxima = [(each * 100.0 / 9).max() for each in counts]
        assert performance == (np.average(maxima) if multi_iou else maxima[1]) > 0
        assert capsys.readouterr().out.splitlines()[-1] == f"localization: {performance}"

    @pytest.mark.parametrize("name", ["OpenImages", "mine"])
    def test_masks(self, tmp_path, mask_split, capsys, name):
        folder, maps, root = mask_split
        folder.parent.rename(tmp_path / "metadata" / name)
        root.rename(tmp_path / "dataset" / name)
        save(maps, tmp_path / "maps")
        performance = evaluation.evaluate_wsol(
            scoremap_root=str(tmp_path / "maps"),
            metadata_root=str(tmp_path / "metadata"),
            mask_root=str(tmp_path / "dataset"),
            dataset_name=name,
            split="val",
            multi_contour_eval=False,
            multi_iou_eval=False,
            iou_threshold_list=IOUS,
        )
        thresholds = np.arange(0, 1, 0.001)
        masks = [expected_mask(tmp_path / "dataset" / name, n) for n in range(9)]
        histograms = sum(oracle.histograms(m, k, thresholds) for m, k in zip(maps.values(), masks, strict=True))
        assert performance == expected_pxap(*histograms.astype(float))
        assert capsys.readouterr().out.splitlines()[-1] == f"localization: {performance}"

    def test_errors_name_the_map(self, tmp_path, box_split):
        folder, maps = box_split
        roots = str(tmp_path / "maps"), str(tmp_path / "metadata"), "none", "CUB", "test"
        save(maps, tmp_path / "maps")
        np.save(tmp_path / "maps" / "a" / "3.npy", maps["a/3.JPEG"] * 1.5)
        with pytest.raises(
            ValueError, match=r"^image 'a/3.JPEG': scoremap: expected values in \[0, 1\], found 0.0 to 1.5"
        ):
            evaluation.evaluate_wsol(*roots, False, False, IOUS)
        (tmp_path / "maps" / "a" / "3.npy").unlink()
        (tmp_path / "maps" / "b" / "4.JPEG.npy").write_bytes(b"")
        with pytest.raises(
            DatasetError, match="2 problems\n  'a/3.JPEG': no map a/3.JPEG or a/3.*\n  'b/4.JPEG': b/4.JPEG"
        ):
            evaluation.evaluate_wsol(*roots, False, False, IOUS)
        with pytest.raises(ValueError, match="expected 50 in it"):
            evaluation.evaluate_wsol(*roots, False, False, [30, 70])
        with pytest.raises(DatasetError, match="image_ids.txt: no such file"):
            evaluation.evaluate_wsol(*roots[:4], "train", False, False, IOUS)

    def test_command_line(self, tmp_path, box_split):
        folder, maps = box_split
        save(maps, tmp_path / "train_log" / "scoremaps")
        counts = expected_hits(maps, truth(folder), np.arange(0, 1, 0.01), True)
        maxima = [(each * 100.0 / 9).max() for each in counts]

        def run(*flags):
            command = [sys.executable, "-m", "wsolkern.compat.evaluation", "--dataset_name", "CUB", *flags]
            return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

        done = run(
            "--split", "test", "--multi_contour_eval", "--multi_iou_eval", "True", "--iou_threshold_list", "70", "30"
        )
        assert done.stdout.splitlines()[-1] == f"localization: {np.average([maxima[2], maxima[0]])}", done.stderr
        failed = run("--multi_contour_eval", "perhaps")
        assert (
            failed.returncode == 2 and "--multi_contour_eval: expected True or False, found 'perhaps'" in failed.stderr
        )
        failed = run("--split", "val")
        assert failed.returncode == 1 and "image_ids.txt: no such file" in failed.stderr
        assert "Traceback" not in failed.stderr and failed.stdout == ""


class Model(torch.nn.Module):
    """CAMs that are a fixed function of the images: their mean over channels, every 16th pixel, less a number."""

    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, images, labels=None, return_cam=False):
        assert return_cam and not self.training and len(labels) == len(images)
        return images.mean(1)[:, ::16, ::16] - self.offset


class TestCAMComputer:
    @pytest.mark.parametrize(
        ("method", "normalization"),
        [("minmax", "minmax"), ("max", "max"), ("pas", "pas:0.9"), ("ivr", "ivr:0.35")],
    )
    @pytest.mark.parametrize("size", [(224, 224), (96, 144)])
    @pytest.mark.filterwarnings("ignore:score maps of 96 x 144")
    def test_equals_resizing_normalizing_and_tracing_with_opencv(
        self, tmp_path, box_split, size, method, normalization
    ):
        folder, maps = box_split
        ids, rng = list(maps), np.random.default_rng(4)
        images = torch.tensor(np.stack([[smooth(rng, *size)] * 3 for _ in ids]), dtype=torch.float32)
        loader = [(images[i : i + 4], torch.zeros(len(images[i : i + 4])), tuple(ids[i : i + 4])) for i in (0, 4, 8)]
        computer = inference.CAMComputer(
            model=Model(),
            loader=loader,
            metadata_root=str(folder),
            mask_root="none",
            iou_threshold_list=IOUS,
            dataset_name="CUB",
            split="test",
            multi_contour_eval=True,
            cam_curve_interval=0.01,
            log_folder=str(tmp_path / "log"),
            norm_method=method,
            percentile=0.35,
        )
        result = computer.compute_and_evaluate_cams()
        cams = images.mean(1)[:, ::16, ::16].sub(torch.tensor(0.1)).numpy().astype(np.float64)
        expected = {}
        for image_id, cam in zip(ids, cams, strict=True):
            expected[image_id] = oracle.score_map(oracle.resize(cam, size), normalization)
            saved = np.load(tmp_path / "log" / "scoremaps" / f"{image_id}.npy")
            np.testing.assert_array_equal(saved, expected[image_id])
        counts = expected_hits(expected, truth(folder, size), np.arange(0, 1, 0.01), True)
        np.testing.assert_array_equal(list(computer.evaluator.num_correct.values()), counts)
        assert result == [(each * 100.0 / 9).max() for each in counts]

    @pytest.mark.filterwarnings("ignore:8 of 9 images were not accumulated")
    def test_masks_and_nothing_saved(self, tmp_path, mask_split):
        folder, maps, root = mask_split
        computer = inference.CAMComputer(
            Model(),
            [(torch.rand(1, 3, 224, 224), [0], ["a/0.JPEG"])],
            str(folder),
            str(root),
            IOUS,
            "OpenImages",
            "val",
            False,
        )
        before = set(tmp_path.rglob("*"))
        assert 0 < computer.compute_and_evaluate_cams() < 100 and set(tmp_path.rglob("*")) == before

    def test_wrong_arguments(self, box_split):
        arguments = Model(), [], str(box_split[0]), "none", IOUS, "CUB", "test", False
        with pytest.raises(ValueError, match="norm_method: expected one of minmax, max, pas, ivr, found 'relu'"):
            inference.CAMComputer(*arguments, norm_method="relu")
        with pytest.raises(ValueError, match="percentile"):
            inference.CAMComputer(*arguments, norm_method="ivr", percentile=35)


class TestInstall:
    PROJECT = {
        "util.py": "import not_there\nclass Logger: pass\n",
        "main.py": """
import wsolkern.compat; wsolkern.compat.install()
import numpy as np
import evaluation, data_loaders
from data_loaders import configure_metadata, get_image_ids
from evaluation import BoxEvaluator, MaskEvaluator, evaluate_wsol
from inference import CAMComputer, normalize_scoremap
import wsolkern.compat.util, wsolkern.compat.evaluation
assert evaluation is wsolkern.compat.evaluation
try:
    from data_loaders import get_data_loader
except ImportError as error:
    assert "get_data_loader" in str(error)
metadata = configure_metadata("metadata/CUB/test")
evaluator = BoxEvaluator(metadata=metadata, dataset_name="CUB", split="test",
                         cam_threshold_list=list(np.arange(0, 1, .1)), iou_threshold_list=[50], mask_root="",
                         multi_contour_eval=False)
evaluator.accumulate(np.eye(224), get_image_ids(metadata)[0])
wsolkern.compat.install()
print(evaluator.cnt, evaluator.num_correct[50].shape)
""",
    }

    def test_names_that_a_project_lacks_are_provided(self, tmp_path, box_split):
        for name, text in self.PROJECT.items():
            (tmp_path / name).write_text(text)
        command = [sys.executable, "main.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "1 (10,)\n"), done.stderr
        assert done.stderr == (
            "wsolkern.compat: provided data_loaders, evaluation, inference, which the project does not have or cannot "
            "import; nothing to serve in util\n"
        )

    def test_neither_opencv_nor_torch_is_imported(self):
        code = (
            "import sys, wsolkern.compat; wsolkern.compat.install(); import evaluation, inference, data_loaders, util\n"
            "print([name for name in ('cv2', 'torch', 'torchvision', 'munch') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "[]\n", done.stderr


class TestWhatWouldBeWrongInSilence:
    """Where the published code raises, so do we; where it would print a wrong figure, we say so."""

    @pytest.mark.parametrize("percents", [[0.3, 0.5, 0.7], [50, 50], [], [0], [101], [float("nan")]])
    def test_iou_thresholds_that_are_no_percents(self, box_split, percents):
        """Fractions would be reached by every box (100 %), one given twice would count twice (200 %)."""
        with pytest.raises(ValueError, match="iou_threshold_list: expected different percents from 1 to 100"):
            evaluation.BoxEvaluator(
                data_loaders.configure_metadata(str(box_split[0])), "CUB", "test", [0.0, 0.5], percents, None, False
            )

    @pytest.mark.parametrize("interval", [1e-12, 0, -1, 2, float("nan")])
    def test_intervals(self, tmp_path, box_split, interval):
        with pytest.raises(ValueError, match=r"cam_curve_interval: expected a fraction in \(0, 1\]"):
            evaluation.evaluate_wsol("no", str(tmp_path / "metadata"), "", "CUB", "test", True, True, IOUS, interval)
        with pytest.raises(ValueError, match="cam_curve_interval"):
            inference.CAMComputer(
                Model(), [], str(box_split[0]), "", IOUS, "CUB", "test", True, cam_curve_interval=interval
            )

    @pytest.mark.parametrize("thresholds", [[0.5, float("nan")], [float("inf")], [-0.1], []])
    def test_thresholds_are_checked_first(self, box_split, thresholds):
        with pytest.raises(ValueError, match="thresholds: expected"):
            evaluation.BoxEvaluator(
                data_loaders.configure_metadata(str(box_split[0])), "CUB", "test", thresholds, IOUS, None, False
            )

    def test_images_that_count_twice_or_not_at_all(self, box_split):
        """The counts are the published ones; a warning says that they are not those of the split."""
        folder, maps = box_split
        evaluator = make(evaluation.BoxEvaluator, folder, interval=0.1)
        ids = list(maps)
        for image_id in [*ids[:5], ids[2], ids[2]]:
            evaluator.accumulate(maps[image_id], image_id)
        with pytest.warns(UserWarning) as warned:
            performance = evaluator.compute()
        some = {each: maps[each] for each in ids[:5]}
        expected = expected_hits(some, truth(folder), np.arange(0, 1, 0.1), False)
        expected += 2 * expected_hits({ids[2]: maps[ids[2]]}, truth(folder), np.arange(0, 1, 0.1), False)
        assert performance == [(counts * 100.0 / 7).max() for counts in expected] and evaluator.cnt == 7
        assert [str(each.message).partition(":")[0] for each in warned] == [
            f"1 images were accumulated more than once and count as often, the first is {ids[2]!r} (3 times)",
            f"4 of 9 images were not accumulated, the first is {ids[5]!r}",
        ]

    @pytest.mark.filterwarnings("error")
    def test_all_images_once_is_no_warning(self, box_split):
        folder, maps = box_split
        evaluator = make(evaluation.BoxEvaluator, folder, interval=0.1)
        for epoch in range(2):
            evaluator.cnt = 0
            evaluator.num_correct = {iou: np.zeros(10) for iou in IOUS}
            for image_id, score_map in maps.items():
                evaluator.accumulate(score_map, image_id)
            assert max(evaluator.compute()) > 40 and evaluator.cnt == 9, epoch

    def test_a_mask_that_cannot_be_read_costs_no_other_image(self, mask_split):
        folder, maps, root = mask_split
        wanted = {name: np.zeros(1002) for name in ("gt_true_score_hist", "gt_false_score_hist")}
        for n, image_id in enumerate(maps):
            if n != 4:
                whole = make(evaluation.MaskEvaluator, folder, dataset_name="OpenImages", mask_root=str(root))
                whole.accumulate(maps[image_id], image_id)
                for name in wanted:
                    wanted[name] += getattr(whole, name)
        (root / "4.png").write_bytes(b"no image")
        evaluator = make(evaluation.MaskEvaluator, folder, dataset_name="OpenImages", mask_root=str(root))
        for image_id, score_map in maps.items():
            evaluator.accumulate(score_map, image_id)
        with pytest.raises(DatasetError, match="^image 'b/4.JPEG': .*4.png"):
            evaluator.compute()
        for name, histogram in wanted.items():
            np.testing.assert_array_equal(getattr(evaluator, name), histogram)
        with pytest.warns(UserWarning, match="1 of 9 images were not accumulated, the first is 'b/4.JPEG'"):
            evaluator.compute()

    def test_batches(self, box_split, mask_split):
        folder, maps = box_split
        evaluator = make(evaluation.BoxEvaluator, folder, interval=0.1)
        batch, ids = np.stack(list(maps.values())[:3]), list(maps)[:3]
        for wrong in (ids[:2], [*ids, ids[0]]):
            with pytest.raises(ValueError, match=f"image_ids: expected 3, one a score map, found {len(wrong)}"):
                evaluator.accumulate_batch(batch, wrong)
        with pytest.raises(KeyError, match="another"):
            evaluator.accumulate_batch(batch, [*ids[:2], "another.jpg"])
        with pytest.raises(KeyError, match="another"):
            evaluator.accumulate(batch[0], "another.jpg")
        batch[1, 5, 5] = np.nan
        with pytest.raises(ValueError, match=f"^image {ids[1]!r}: scoremap: expected numbers, found NaN"):
            evaluator.accumulate_batch(batch, ids)
        assert evaluator.cnt == 0 and not np.any(list(evaluator.num_correct.values()))
        for each in (evaluator, make(evaluation.MaskEvaluator, mask_split[0], dataset_name="mine", mask_root="")):
            each.accumulate_batch(np.empty((0, 224, 224)), [])

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
    def test_narrow_score_maps(self, tmp_path, box_split, dtype):
        """From files they are what they hold; one by one they must be float64, as published."""
        folder, maps = box_split
        narrow = {image_id: each.astype(dtype) for image_id, each in maps.items()}
        save(narrow, tmp_path / "maps")
        roots = str(tmp_path / "maps"), str(tmp_path / "metadata"), "none", "CUB", "test"
        found = evaluation.evaluate_wsol(*roots, True, True, IOUS, 0.01)
        wide = {image_id: each.astype(np.float64) for image_id, each in narrow.items()}
        counts = expected_hits(wide, truth(folder), np.arange(0, 1, 0.01), True)
        assert found == np.average([(each * 100.0 / 9).max() for each in counts])
        if dtype != np.float64:
            with pytest.raises(TypeError, match="expected float64"):
                make(evaluation.BoxEvaluator, folder).accumulate(narrow["b/1.JPEG"], "b/1.JPEG")

    def test_thresholds_of_one_and_more(self, box_split, mask_split):
        """No pixel is above them, and the box of no pixel is 0 0 0 0."""
        folder, maps = box_split
        boxes, thresholds = truth(folder), [0.2, 1.0, 0.5, 1.5]
        corner = (folder / "localization.txt").read_text().replace("\na/3.JPEG,", "\na/3.JPEG,0,0,1,1\na/3.JPEG,")
        (folder / "localization.txt").write_text(corner)
        for multi_contour, known in ((False, thresholds), (True, [1.0, 2.0])):
            evaluator = evaluation.BoxEvaluator(
                data_loaders.configure_metadata(str(folder)), "CUB", "test", known, IOUS, None, multi_contour
            )
            for image_id, score_map in maps.items():
                evaluator.accumulate(score_map, image_id, correct=image_id == "a/3.JPEG")
            counts = expected_hits(maps, truth(folder), np.array(known), multi_contour)
            np.testing.assert_array_equal(list(evaluator.num_correct.values()), counts)
            one = expected_hits({"a/3.JPEG": maps["a/3.JPEG"]}, truth(folder), np.array(known), multi_contour)
            np.testing.assert_array_equal(list(evaluator.num_correct_top1.values()), one)
        assert boxes["a/3.JPEG"].shape != truth(folder)["a/3.JPEG"].shape
        with pytest.raises(ValueError, match=r"thresholds: expected fractions in \[0, 1\), found 1.5"):
            make(evaluation.MaskEvaluator, mask_split[0], dataset_name="mine", cam_threshold_list=[0.5, 1.5])

    def test_top_1(self, box_split):
        folder, maps = box_split
        for batches in (False, True):
            evaluator = make(evaluation.BoxEvaluator, folder, interval=0.1, multi_contour_eval=True)
            correct = {image_id: n % 3 > 0 for n, image_id in enumerate(maps)}
            if batches:
                evaluator.accumulate_batch(np.stack(list(maps.values())), list(maps), list(correct.values()))
            else:
                for image_id, score_map in maps.items():
                    evaluator.accumulate(score_map, image_id, correct=np.bool_(correct[image_id]))
            every = expected_hits(maps, truth(folder), np.arange(0, 1, 0.1), True)
            right = {image_id: m for image_id, m in maps.items() if correct[image_id]}
            counts = expected_hits(right, truth(folder), np.arange(0, 1, 0.1), True)
            np.testing.assert_array_equal(list(evaluator.num_correct.values()), every)
            np.testing.assert_array_equal(list(evaluator.num_correct_top1.values()), counts)
            assert evaluator.compute() == [(each * 100.0 / 9).max() for each in every]
            assert evaluator.compute_top1() == [(each * 100.0 / 9).max() for each in counts] != evaluator.compute()
        evaluator.accumulate(score_map, image_id)
        with pytest.raises(
            RuntimeError, match="correct: expected it for all 10 images that were accumulated, found it"
        ):
            evaluator.compute_top1()

    def test_ids_and_boxes_that_count_for_nothing_are_a_warning(self, tmp_path, box_split):
        folder, maps = box_split
        save(maps, tmp_path / "maps")
        roots = str(tmp_path / "maps"), str(tmp_path / "metadata"), "none", "CUB", "test", True, False, IOUS, 0.1
        path = folder / "localization.txt"
        text = path.read_text()
        path.write_text(f"{text}\nunused.jpg,9,9,5,5")
        with pytest.warns(UserWarning, match="'unused.jpg', which is not in image_ids.txt: boxes: expected x0 <= x1"):
            whole = evaluation.evaluate_wsol(*roots)
        path.write_text(f"{text}\nunused.jpg,1.5,1,5,5")
        with pytest.warns(UserWarning, match="localization.txt:.*expected integers, found '1.5,1,5,5'"):
            assert evaluation.evaluate_wsol(*roots) == whole
        path.write_text(f"{text}\na/0.JPEG,1.5,1,5,5")
        with pytest.raises(DatasetError, match="expected integers"):
            evaluation.evaluate_wsol(*roots)
        path.write_text(text)
        for name, line in (("image_sizes", "a/0.JPEG,500,375"), ("class_labels", "a/0.JPEG,4")):
            (folder / f"{name}.txt").write_text((folder / f"{name}.txt").read_text() + "\n" + line)
            with pytest.warns(
                UserWarning, match=f"{name}.txt:10: 'a/0.JPEG' is on line 1 already\n  the last line counts"
            ):
                found = getattr(data_loaders, f"get_{name}")(data_loaders.configure_metadata(str(folder)))
            assert len(found) == 9 and found["a/0.JPEG"] == ((500, 375) if name == "image_sizes" else 4)
        (folder / "image_ids.txt").write_text("\n".join([*maps, "b/1.JPEG"]))
        with pytest.warns(UserWarning) as warned:
            performance = evaluation.evaluate_wsol(*roots)
        assert any("1 ids are listed more than once, the first is 'b/1.JPEG'" in str(each.message) for each in warned)
        assert any("accumulated more than once" in str(each.message) for each in warned)
        counts = expected_hits(maps, truth(folder), np.arange(0, 1, 0.1), True)
        counts += expected_hits({"b/1.JPEG": maps["b/1.JPEG"]}, truth(folder), np.arange(0, 1, 0.1), True)
        assert performance == (counts[1] * 100.0 / 10).max()

    def test_masks_are_read_once_while_they_are_the_same(self, mask_split, monkeypatch):
        folder, _, root = mask_split
        cache, read = masks.MaskCache(max_bytes=3 * 12544), []
        monkeypatch.setattr(masks, "load_mask", lambda *key: read.append(key[1]) or load_mask(*key))
        size = (224, 224)
        for n in (1, 4, 1, 7, 1):
            found = cache.get(root, [f"{n}.png"], f"{n}_ignore.png", size)
            np.testing.assert_array_equal(found, load_mask(root, [f"{n}.png"], f"{n}_ignore.png", size))
            found[:] = 9
        assert [each for (each,) in read] == ["1.png", "4.png", "7.png"] and cache.bytes == 3 * 12544
        cache.get(root, ["5.png"], None, size)  # takes the place of the one that was asked for longest ago
        assert cache.bytes == 3 * 12544 and cache.kept(root, ["4.png"], "4_ignore.png", size) is None
        assert cache.kept(root, ["1.png"], "1_ignore.png", size) is not None
        Image.fromarray(np.ones((5, 5), bool)).save(root / "1.png")
        assert (cache.get(root, ["1.png"], "1_ignore.png", size) == 1).all()
        (root / "1.png").unlink()
        with pytest.raises(DatasetError, match="1.png: no such mask file"):
            cache.get(root, ["1.png"], "1_ignore.png", size)
        odd = cache.get(root, ["5.png"], None, (13, 7))
        np.testing.assert_array_equal(cache.kept(root, ["5.png"], None, (13, 7)), odd)

    def test_boxes(self):
        some, other = np.array([[10, 10, 20, 20]], np.uint8), np.array([[30, 30, 200, 250]], np.uint8)
        assert evaluation.calculate_multiple_iou(some, other).item() == 0  # 20 - 30 + 1 is no 247
        assert evaluation.calculate_multiple_iou(other, other).item() == 1
        wide = np.array([[0, 0, 60000, 60000]], np.int32)
        assert evaluation.calculate_multiple_iou(wide, wide).item() == 1
        with pytest.raises(RuntimeError, match="num_boxes, 4"):
            evaluation.calculate_multiple_iou(some[0], some)
        with pytest.raises(RuntimeError, match="finite"):
            evaluation.resize_bbox([float("nan"), 0, 1, 1], (10, 10), (224, 224))

    @pytest.mark.parametrize("image_id", ["../out.JPEG", "/tmp/out.JPEG", "a/../../out.JPEG"])
    def test_score_maps_stay_in_their_folder(self, tmp_path, box_split, image_id):
        loader = [(torch.rand(1, 3, 224, 224), [0], [image_id])]
        how = {"log_folder": str(tmp_path / "log"), "cam_curve_interval": 0.1}
        computer = inference.CAMComputer(Model(), loader, str(box_split[0]), "", IOUS, "CUB", "test", True, **how)
        before = set(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="image_ids: expected relative paths without"):
            computer.compute_and_evaluate_cams()
        assert set(tmp_path.rglob("*")) == before

    def test_a_fifo_in_place_of_a_score_map(self, tmp_path, box_split):
        """Neither written into, which would wait for ever, nor replaced."""
        path = tmp_path / "log" / "scoremaps" / "a" / "0.JPEG.npy"
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        loader = [(torch.rand(1, 3, 224, 224), [0], ["a/0.JPEG"])]
        how = {"log_folder": str(tmp_path / "log"), "cam_curve_interval": 0.1}
        computer = inference.CAMComputer(Model(), loader, str(box_split[0]), "", IOUS, "CUB", "test", True, **how)
        with pytest.raises(OSError, match="expected a regular file, found a FIFO"):
            computer.compute_and_evaluate_cams()
        assert os.listdir(path.parent) == ["0.JPEG.npy"]

    def test_the_command_says_what_is_wrong_in_a_line(self, tmp_path, box_split):
        (tmp_path / "train_log").mkdir()
        (tmp_path / "train_log" / "scoremaps").write_text("no folder")
        for flags in (["--split", "test"], ["--split", "test", "--cam_curve_interval", "1e-12"]):
            command = [sys.executable, "-m", "wsolkern.compat.evaluation", "--dataset_name", "CUB", *flags]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 1 and "Traceback" not in done.stderr and done.stdout == ""
            assert done.stderr.count("\n") == 1

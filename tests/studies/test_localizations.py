"""The boxes of a data set: what ops.localize finds, in pixels of the original images, and back again.

In: small stores and folders with metadata of odd image sizes. Out: values of the study.
Source: scale_boxes is how the evaluation brings boxes to its own size.
"""

import json

import numpy as np
import pytest
from cases import cams_of_one_size
from shared import write_split

from wsolkern import ops, studies
from wsolkern.box_rule import CHOE
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata
from wsolkern.datasets.metadata import scale_boxes
from wsolkern.errors import ArgumentError, DatasetError, PathError
from wsolkern.studies.localization import original_boxes, read_selection

NUM = 20
IDS = [f"part/{index}.jpg" for index in range(NUM)]
CAMS = cams_of_one_size(NUM, (7, 6), seed=3).astype(np.float32)  # a constant and a NaN map among every seven
SIZE = (48, 40)
WIDTH, HEIGHT = 97, 131


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "metadata"
    write_split(
        folder, IDS, size=lambda n: (WIDTH + n, HEIGHT + 2 * n), box=lambda n: (1, 2, 30, 40), label=lambda n: n
    )
    return load_metadata(folder)


@pytest.fixture
def store(tmp_path):
    with CamWriter(tmp_path / "store", Manifest(), maps_per_shard=8) as writer:
        writer.add(IDS[::-1], CAMS[::-1])
    return tmp_path / "store"


def test_boxes_are_those_of_the_operation(store, split):
    seen = []
    found = studies.localizations(store, split, "ivr:0.45", 0.3, size=SIZE, progress=lambda *all_: seen.append(all_))
    places = ops.localize(CAMS, "ivr:0.45", [0.3], size=SIZE)
    assert found.image_ids == tuple(IDS) and not found.problems
    np.testing.assert_array_equal(found.resized_boxes, places.boxes[0, :, 0])
    np.testing.assert_array_equal(found.num_contours, places.num_contours[0, :, 0])
    np.testing.assert_array_equal(found.degenerate, places.degenerate[0])
    np.testing.assert_array_equal(found.scores, CAMS.max(axis=(1, 2)).astype(float))
    assert found.degenerate.any() and (found.num_contours[found.degenerate] == 0).all()
    assert not found.boxes[found.degenerate].any()
    assert seen[0] == ("localizing", 0, NUM) and seen[-1] == ("localizing", NUM, NUM)
    about = found.to_dict()
    assert about["num_found"] == np.count_nonzero(found.num_contours) < about["num_images"] == NUM
    json.dumps(about)


def test_as_ground_truth_boxes_come_back_exactly(store, split, tmp_path):
    found = studies.localizations(store, split, "max", 0.2, size=SIZE)
    found.metadata().write(tmp_path / "pseudo")
    pseudo = load_metadata(tmp_path / "pseudo")
    is_found = found.num_contours > 0
    assert pseudo.image_ids == tuple(np.array(IDS)[is_found])
    assert dict(pseudo.class_labels) == {each: split.class_labels[each] for each in pseudo.image_ids}
    assert dict(pseudo.image_sizes) == {each: split.image_sizes[each] for each in pseudo.image_ids}
    boxes = pseudo.resized_boxes(SIZE)
    np.testing.assert_array_equal(np.concatenate([*boxes.values()]), found.resized_boxes[is_found])
    # So the same maps localize every one of their own boxes with an IoU of 1.
    result = studies.evaluate(store, pseudo, "max", size=SIZE, thresholds=[0.2], iou_thresholds=[1.0]).result
    assert result["max"].max_box_acc_v2 == 100


def test_detections_are_what_coco_has(store, split):
    found = studies.localizations(store, split, "max", 0.2, size=SIZE)
    detections = found.detections()
    is_found = np.flatnonzero(found.num_contours)
    assert [each["image_id"] for each in detections] == [IDS[place] for place in is_found]
    for each, place in zip(detections, is_found, strict=True):
        x0, y0, x1, y1 = found.boxes[place].tolist()
        assert each["bbox"] == [x0, y0, x1 - x0 + 1, y1 - y0 + 1] and each["category_id"] == place
        assert each["bbox"][0] + each["bbox"][2] <= WIDTH + place and each["score"] == found.scores[place]


@pytest.mark.parametrize("size", [(224, 224), (48, 40), (7, 300)])
def test_original_boxes_are_undone_by_the_scaling_of_the_evaluation(rng, size):
    num, sides = 4000, np.array(size[::-1])
    corners = np.sort(rng.integers(0, sides, (num, 2, 2)), axis=1).reshape(num, 4)
    image_sizes = np.stack([rng.integers(side, 4 * side, num) for side in sides], axis=1)
    found = original_boxes(corners, image_sizes, size)
    np.testing.assert_array_equal(scale_boxes(found, image_sizes, size), corners)
    # They hold all pixels of the image that come to a pixel of the box, and no others.
    for step, sign in ((-1, slice(0, 2)), (1, slice(2, 4))):
        beyond = found.copy()
        beyond[:, sign] += step
        scaled = np.floor(beyond * np.tile(sides, 2) / np.tile(image_sizes, 2))[:, sign]
        assert (scaled < corners[:, sign] if step < 0 else scaled > corners[:, sign]).all()


def test_original_boxes_of_images_smaller_than_the_maps(rng):
    num, size = 3000, (224, 224)
    corners = np.sort(rng.integers(0, 224, (num, 2, 2)), axis=1).reshape(num, 4)
    image_sizes = rng.integers(1, 224, (num, 2))
    found = original_boxes(corners, image_sizes, size)
    assert (found >= 0).all() and (found < np.tile(image_sizes, 2)).all() and (found[:, :2] <= found[:, 2:]).all()
    off = np.abs(scale_boxes(found, image_sizes, size) - corners)
    assert (off <= np.tile(np.ceil(224 / image_sizes), 2)).all()


def test_maps_that_cannot_be_read_are_left_out(split, tmp_path):
    (tmp_path / "cams/part").mkdir(parents=True)
    for image_id, cam in list(zip(IDS, CAMS, strict=True))[:6]:
        np.save(tmp_path / "cams" / f"{image_id}.npy", cam)
    (tmp_path / "cams/part/3.jpg.npy").write_bytes(b"no map")
    found = studies.localizations(tmp_path / "cams", split, "max", 0.2, size=SIZE)
    assert found.image_ids == tuple(IDS[place] for place in (0, 1, 2, 4, 5))
    assert sorted(found.problems) == sorted({*IDS} - {*found.image_ids})
    assert found.to_dict()["num_missing"] == NUM - 5


def test_score_maps(split, tmp_path):
    scores = ops.normalize(CAMS, "max", SIZE).astype(np.float32)
    with CamWriter(tmp_path / "scores", Manifest(content="score maps")) as writer:
        writer.add(IDS, scores)
    found = studies.localizations(tmp_path / "scores", split, None, 0.2, size=SIZE)
    wanted = ops.localize(scores, None, [0.2])
    np.testing.assert_array_equal(found.resized_boxes, wanted.boxes[0, :, 0])
    with pytest.raises(studies.NothingCounted) as raised:
        studies.localizations(tmp_path / "scores", split, None, 0.2)
    assert set(raised.value.problems.values()) == {"expected a score map of 224x224 pixels, found 48x40"}
    with pytest.raises(DatasetError, match="normalized already"):
        studies.localizations(tmp_path / "scores", split, "max", 0.2, size=SIZE)


def test_what_is_refused(store, split, tmp_path):
    with pytest.raises(ArgumentError, match=r"threshold: expected a fraction in \[0, 1\), found 1"):
        studies.localizations(store, split, "max", 1.0)
    (tmp_path / "metadata/image_sizes.txt").unlink()
    with pytest.raises(DatasetError, match=r"image_sizes.txt: needed for boxes in pixels of the images"):
        studies.localizations(store, load_metadata(tmp_path / "metadata", localization=False), "max", 0.2)
    flat = studies.localizations(store, split, "max", 0.2, size=SIZE)
    flat.num_contours[:] = 0
    assert flat.detections() == []
    with pytest.raises(DatasetError, match="nothing is above the threshold 0.2 in any image"):
        flat.metadata()


CHOICES = [
    {"normalization": "max", "figure": 50.0, "thresholds": {"0.3": 0.1, "0.5": 0.2}},
    {"normalization": "ivr:0.45", "figure": 60.0, "thresholds": {"0.3": 0.15, "0.5": 0.25}},
    {"normalization": "pas:0.9", "figure": 60.0, "thresholds": {"0.7": 0.35}},
]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, ("ivr:0.45", 0.25)),
        ({"iou_threshold": 0.3}, ("ivr:0.45", 0.15)),
        ({"family": "max"}, ("max", 0.2)),
        ({"family": "pas"}, ("pas:0.9", 0.35)),
        ({"family": "max", "threshold": 0.9}, ("max", 0.9)),
    ],
)
def test_what_select_chose(tmp_path, how, wanted):
    path = tmp_path / "selection.json"
    path.write_text(json.dumps({"choices": CHOICES}))
    normalization, threshold, rule = read_selection(path, **how)
    assert rule == CHOE
    assert (str(normalization), threshold) == wanted


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        ("no JSON", {}, "expected the JSON of wsolkern select"),
        ("[1]", {}, "expected the JSON of wsolkern select"),
        ('{"choices": [{"normalization": "other"}]}', {}, "expected the JSON of wsolkern select"),
        (json.dumps({"choices": []}), {}, "found none"),
        (json.dumps({"choices": CHOICES}), {"family": "minmax"}, "expected a choice of minmax, found max, ivr:0.45"),
        (json.dumps({"choices": CHOICES}), {"iou_threshold": 0.7}, "for IoU 0.7, found those for 0.3, 0.5"),
        (json.dumps({"choices": [CHOICES[0] | {"thresholds": {}}]}), {}, "none (it was chosen by PxAP)"),
    ],
)
def test_a_selection_that_says_nothing(tmp_path, content, how, message):
    path = tmp_path / "selection.json"
    path.write_text(content)
    with pytest.raises(PathError) as raised:
        read_selection(path, **how)
    assert message in str(raised.value) and str(path) in str(raised.value)

"""A report's page: what its viewer is given equals the report, images included.

In: reports of a small world, a folder of images. Out: Pages.
Source: none.
"""

import io
import os
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from small_world import HOW, split_of

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets import thumbnails as small
from wsolkern.metrics import Evaluator
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.report import pages
from wsolkern.report.page import Section
from wsolkern.report.sections import sections_of


def page_of(report, **how):
    """Without the figures, which take a second."""
    return pages.page_of(report, sections=(), **how)


@pytest.fixture(scope="module")
def page(one):
    return page_of(one)


def test_what_a_page_says_of_all_images_is_the_protocols(page, one):
    assert page.size == HOW["size"] and page.contours == "all" and page.iou_thresholds == [0.3, 0.5, 0.7]
    np.testing.assert_array_equal(page.thresholds, HOW["thresholds"])
    assert page.normalizations == ["minmax", "ivr:0.3"]
    assert page.title == "CUB-test on test" and page_of(one, title="<b>").title == "<b>"


def test_sections_are_those_of_the_report_or_others(masks):
    assert pages.page_of(masks).sections == sections_of(masks)
    assert pages.page_of(masks, sections=[Section("mine", "<p>")]).sections == [Section("mine", "<p>")]


def test_images_are_those_of_the_split(page, one):
    split = one.split
    assert page.ids == list(split.image_ids)
    boxes = split.resized_boxes(HOW["size"])
    for image_id, truth in zip(page.ids, page.truths, strict=True):
        assert truth.dtype == np.int32
        np.testing.assert_array_equal(truth, boxes[image_id])
    assert page.image_sizes.tolist() == [[48, 60]] * len(page.ids)
    assert page.classes == [str(split.class_labels[each]) for each in page.ids]
    assert page.thumbnails is None and page.links is None
    named = page_of(replace(one, class_names=("a", "<b>", "c\x07")))
    assert set(named.classes) == {"a", "<b>", "c\\x07"}


def test_views_are_what_was_looked_at(page, one):
    (run,), (mine,) = one.runs, page.runs
    looked = run.looked
    assert mine.name == "CUB-test" and not mine.are_score_maps and mine.predicted is None
    assert all(a is b for a, b in zip(mine.maps, looked.maps, strict=True))
    for m, view in enumerate(mine.views):
        for name in ("chosen", "boxes", "ious", "best_ious", "curves", "num_contours", "degenerate"):
            np.testing.assert_array_equal(getattr(view, name), getattr(looked, name)[m])
        assert view.errors == [CATEGORIES[each].replace("_", " ") for each in looked.errors[m]]
        assert np.shares_memory(view.curves, looked.curves)


@pytest.mark.parametrize("contours", ["all", "largest"])
def test_hits_of_a_page_come_to_the_evaluators_accuracy(world, contours):
    split = split_of(world, "CUB/test")
    how = {**HOW, "num_resamples": 50, "confidence": 0.9, "candidates": None}
    page = page_of(studies.report(world / "CUB-test", split, "minmax max ivr:0.3", contours=contours, **how))
    evaluator = Evaluator("minmax max ivr:0.3", boxes=split.resized_boxes(HOW["size"]), **HOW)
    evaluator.update(np.stack(page.runs[0].maps), page.ids)
    for view, row in zip(page.runs[0].views, evaluator.compute(), strict=True):
        accuracies = row.max_box_acc_v2_per_iou if contours == "all" else row.max_box_acc
        thresholds = row.best_threshold_v2 if contours == "all" else row.best_threshold
        for d, (delta, accuracy) in enumerate(accuracies.items()):
            assert 100 * (view.ious[:, d] >= delta).mean() == pytest.approx(accuracy, abs=1e-12)  # a sum of floats
            assert page.thresholds[view.chosen[d]] == thresholds[delta]
        np.testing.assert_array_equal(view.curves.max(axis=1), view.best_ious.astype(np.float32))


def test_a_page_of_two_runs_has_the_images_of_both(world, tmp_path):
    split, store = split_of(world, "CUB/test"), CamStore(world / "CUB-test")
    names = list(store.image_ids)[5:]
    with CamWriter(tmp_path / "fewer", Manifest()) as writer:
        writer.add(names, np.stack([-store.read(each) for each in names]))
    how = {**HOW, "num_resamples": 50, "confidence": 0.9, "candidates": None}
    found = studies.compare(world / "CUB-test", tmp_path / "fewer", split, "minmax ivr:0.3", **how)
    page = page_of(found)
    assert page.ids == [each for each in split.image_ids if each in names] and len(page.runs) == 2
    for run, of in zip(page.runs, found.runs, strict=True):
        places = [of.looked.image_ids.index(each) for each in page.ids]
        assert len(run.maps) == len(page.ids)
        for m, view in enumerate(run.views):
            np.testing.assert_array_equal(view.curves, of.looked.curves[m][places])
            np.testing.assert_array_equal(view.boxes, of.looked.boxes[m][places])
            assert len(view.errors) == len(page.ids)
        for place, each in zip(places, run.maps, strict=True):
            np.testing.assert_array_equal(each, of.looked.maps[place])


def test_predicted_classes_are_those_of_the_largest_logit(world, tmp_path):
    split, store = split_of(world, "CUB/test"), CamStore(world / "CUB-test")
    names = list(store.image_ids)
    logits = np.random.default_rng(1).normal(size=(len(names), 5)).astype(np.float32)
    with CamWriter(tmp_path / "classified", Manifest()) as writer:
        writer.add(names, np.stack([store.read(each) for each in names]), logits=logits)
    how = {**HOW, "num_resamples": 50, "confidence": 0.9, "candidates": None}
    found = studies.report(tmp_path / "classified", split, "minmax", class_names=["a", "b", "c"], **how)
    page = page_of(found)
    wanted = [["a", "b", "c", "3", "4"][k] for k in logits.argmax(axis=1)]
    assert page.runs[0].predicted == [wanted[names.index(each)] for each in page.ids]
    wrong = [a != b for a, b in zip(page.classes, page.runs[0].predicted, strict=True)]
    assert [each == "classification" for each in page.runs[0].views[0].errors] == wrong


def test_masks_have_no_viewer(masks):
    page = page_of(masks)
    assert (list(page.ids), list(page.truths), list(page.runs), page.classes) == ([], [], [], None)
    assert page.image_sizes.shape == (0, 2)


def test_thumbnails_are_small_copies(one, world, monkeypatch):
    told = []
    monkeypatch.setattr(small, "LONGEST", 30)
    found = page_of(one, images=world / "images", progress=lambda *each: told.append(each))
    assert found.links is None and len(found.thumbnails) == 40
    assert found.thumbnails[-1] is None  # there is no such file
    for each in found.thumbnails[:-1]:
        with Image.open(io.BytesIO(each)) as image:
            assert (image.format, image.size) == ("JPEG", (30, 24))
    assert told[-1] == ("thumbnails", 40, 40)
    assert page_of(one, images=world / "images").thumbnails == found.thumbnails


@pytest.mark.parametrize("how", [{"with_thumbnails": False}, {"too_many": True}])
def test_links_start_from_the_pages_folder(one, world, tmp_path, how, monkeypatch):
    if how.pop("too_many", False):
        monkeypatch.setattr(pages, "MOST_THUMBNAILS", 39)
    found = page_of(one, images=world / "images", beside=tmp_path / "out", **how)
    assert found.thumbnails is None
    for image_id, link in zip(found.ids, found.links, strict=True):
        assert not os.path.isabs(link)
        assert os.path.normpath(tmp_path / "out" / unquote(link)) == str(world / "images" / image_id)


@pytest.mark.parametrize("name", ['a b#?"<&>%.jpg', "é/漢.jpg", "javascript:alert(1).jpg", "//host/x.jpg"])
def test_a_link_is_an_address_within_the_folder(tmp_path, name):
    link = pages._link(tmp_path / "images", name.lstrip("/"), tmp_path)
    assert link.startswith("images/") and not set(link) & set(' "<>#?:')
    assert unquote(link) == f"images/{name.lstrip('/')}"


def test_what_is_no_image_is_left_out_of_the_thumbnails(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (300, 10)).save(tmp_path / "long.png")
    broken, wide, absent = small.thumbnails(tmp_path, ["broken.jpg", "long.png", "../long.png"], {})
    assert broken is None and absent is None
    with Image.open(io.BytesIO(wide)) as image:
        assert image.size == (224, 7)

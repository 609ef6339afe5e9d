"""Ids under another spelling are found, in one pass over what is there."""

import time
import unicodedata

import pytest

from wsolkern.datasets.spelling import nearest_spellings

COMPOSED, APART = (unicodedata.normalize(form, "Zürich/é.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        ("a/b.jpg", "a/b"),
        ("a/b", "a/b.jpg"),
        ("a/b.jpg", "a/B.JPG"),
        ("a/b.jpg", "a\\b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("a/b.jpg", "./a//b.jpg"),
        ("a/b.jpg", "/a/b.jpg"),
        ("a/b.jpg", "a/b.jpg "),
        ("a/b.jpg", "a/b.jpeg"),
        ("a/b.jpg", "a/b.png"),
        (COMPOSED, APART),
        (APART, COMPOSED),
        ("STRASSE.jpg", "straße.jpg"),
        (COMPOSED, APART.upper().removesuffix(".JPG")),
    ],
)
def test_one_that_is_written_otherwise_is_found(wanted, present):
    assert nearest_spellings([wanted], ["x.jpg", present]) == {wanted: present}


@pytest.mark.parametrize(
    ("wanted", "present"),
    [("a/b.jpg", "b.jpg"), ("a/b.jpg", "a/bb.jpg"), ("a.1", "a.2"), ("a/b.jpg", "a/b.npy"), ("", "a")],
)
def test_another_image_is_none(wanted, present):
    assert nearest_spellings([wanted], [present]) == {}


def test_what_is_there_as_it_is_needs_no_other():
    assert nearest_spellings(["a.jpg", "b.jpg"], ["A.jpg", "a.jpg", "b"]) == {"b.jpg": "b"}


def test_the_same_extension_comes_first_then_none_and_then_the_order_of_what_is_there():
    assert nearest_spellings(["a.jpg"], ["a", "A.jpg", "a.JPG"]) == {"a.jpg": "A.jpg"}
    assert nearest_spellings(["a.jpg"], ["a.png", "a", "A"]) == {"a.jpg": "a"}


def test_each_of_several_wanted_gets_one():
    assert nearest_spellings(["a.jpg", "A.jpg"], ["A"]) == {"a.jpg": "A", "A.jpg": "A"}
    assert nearest_spellings([], ["a"]) == {}


def test_what_is_there_is_gone_through_once():
    assert nearest_spellings(["a.jpg"], iter(["a"])) == {"a.jpg": "a"}


@pytest.mark.slow
def test_time_is_linear():
    ids = [f"train/n{i % 1000:08}/n{i:08}_{i}.JPEG" for i in range(200_000)]
    started = time.process_time()
    assert nearest_spellings(ids, [each.lower() for each in ids]) == {each: each.lower() for each in ids}
    assert nearest_spellings([f"a.{i}" for i in range(200_000)], ["a"] * 200_000)["a.7"] == "a"
    assert time.process_time() - started < 6

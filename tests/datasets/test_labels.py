"""Labels that a model cannot take are one error before anything is computed; it names the first, and where it is."""

import re
from decimal import Decimal

import numpy as np
import pytest
import torch

from wsolkern.datasets.labels import check_labels, line_of
from wsolkern.errors import DatasetError


def test_integers_of_any_kind_are_plain_ones():
    labels = {"a": 0, "b": np.int64(2), "c": np.uint8(1), "d": torch.tensor(2), "not asked for": 9.5}
    found = check_labels(labels, "abcd", 3)
    assert found == {"a": 0, "b": 2, "c": 1, "d": 2} and {type(each) for each in found.values()} == {int}
    assert check_labels({"a": 5}, ["a"]) == {"a": 5} and check_labels({}, []) == {}


@pytest.mark.parametrize(
    "wrong", [1.0, 0.5, True, np.True_, np.float32(1), torch.tensor(True), "1", None, Decimal(1), float("nan")]
)
def test_what_is_no_integer_is_refused(wrong):
    with pytest.raises(
        DatasetError, match="^labels: image 'b': expected an integer in .*, found " + re.escape(repr(wrong))
    ):
        check_labels({"a": 0, "b": wrong}, "ab", 3)
    with pytest.raises(DatasetError, match="image 'b': expected an integer of at least 0, found"):
        check_labels({"a": 0, "b": wrong}, "ab")


def test_labels_that_start_at_1_are_guessed():
    with pytest.raises(DatasetError) as error:
        check_labels({"a": 1, "b": 3, "c": 2, "d": 3}, "abcd", 3)
    assert str(error.value) == (
        "labels: image 'b': expected an integer in [0, 3), as the model tells 3 classes apart, found 3, "
        "and 1 more such labels. The labels seem to start at 1: of 3 classes the first is 0"
    )


@pytest.mark.parametrize("labels", [{"a": 0, "b": 3}, {"a": 1, "b": 4}, {"a": 1, "b": -1}, {"a": 3, "b": -3}])
def test_other_labels_are_not(labels):
    with pytest.raises(DatasetError) as error:
        check_labels(labels, labels, 3)
    assert "expected an integer in [0, 3)" in str(error.value) and "start at 1" not in str(error.value)


def test_negative_labels_are_wrong_even_if_the_number_of_classes_is_unknown():
    with pytest.raises(DatasetError, match="'b': expected an integer of at least 0, found -1"):
        check_labels({"a": 10**9, "b": -1}, "ab")


def test_no_label_is_an_error():
    with pytest.raises(DatasetError, match="labels: image 'b' has none"):
        check_labels({"a": 0}, "ab")


def test_file_and_line_are_named(tmp_path):
    file = tmp_path / "class_labels.txt"
    file.write_bytes('\ufeffa.jpg,0\r\n\r\n"b,c.jpg",3\nxa.jpg,1\n"d""e",2\n'.encode())
    assert line_of(file, "a.jpg") == f"{file}:1"
    assert line_of(file, "b,c.jpg") == f"{file}:3" and line_of(file, 'd"e') == f"{file}:5"
    assert line_of(file, "jpg") == str(file) and line_of(tmp_path / "none", "a.jpg") == str(tmp_path / "none")
    labels = {"a.jpg": 0, "b,c.jpg": 3}
    with pytest.raises(DatasetError) as error:
        check_labels(labels, labels, 3, place=lambda image_id: line_of(file, image_id))
    assert str(error.value).startswith(f"{file}:3: image 'b,c.jpg': expected an integer in [0, 3)")

"""A split that is written is read back as the same value, or refused before anything is written.

In: generated splits with boxes and with masks, and splits that no file can hold. Out: equal splits; messages.
Source: the file layout of Choe et al., arXiv 2007.04178; quotation marks as in RFC 4180.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsolkern.datasets import Metadata, load_metadata
from wsolkern.datasets.ids import id_problem

TEXTS = st.text(st.one_of(st.sampled_from('a.jpg/,",é\ufeff '), st.characters(codec="utf-8")), min_size=1, max_size=8)
NAMES = TEXTS.filter(lambda text: not set(text) & set("\r\n\0"))
IDS = st.lists(NAMES.filter(lambda text: id_problem(text) is None), min_size=1, max_size=6, unique=True)


@st.composite
def splits(draw) -> Metadata:
    ids = tuple(draw(IDS))
    each = {"class_labels": st.integers(0, 2**31 - 1), "image_sizes": st.tuples(*[st.integers(1, 1 << 20)] * 2)}
    fields = {name: {image_id: draw(values) for image_id in ids} for name, values in each.items()}
    if draw(st.booleans()):
        del fields["class_labels"]
    kind = draw(st.sampled_from(["boxes", "masks", "neither"]))
    if kind == "boxes":
        fields["boxes"] = {image_id: draw(boxes_in(*fields["image_sizes"][image_id])) for image_id in ids}
    elif kind == "masks":
        fields["mask_paths"] = {each: tuple(draw(st.lists(NAMES, min_size=1, max_size=3))) for each in ids}
        if draw(st.booleans()):
            fields["ignore_paths"] = {each: draw(st.none() | NAMES) for each in ids}
    return Metadata(ids, **fields)


@st.composite
def boxes_in(draw, width, height) -> np.ndarray:
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        rows.append((x0, y0, draw(st.integers(x0, width)), draw(st.integers(y0, height))))
    return np.array(rows, draw(st.sampled_from([np.int32, np.int64])))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(splits())
def test_what_is_written_is_read_back(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("split") / "a" / "b"
    for _ in range(2):  # the second time over what is there
        split.write(folder)
        found = load_metadata(folder, localization=split.kind is not None)
    assert (found.kind, found.image_ids) == (split.kind, split.image_ids)
    assert dict(found.class_labels) == split.class_labels and dict(found.image_sizes) == split.image_sizes
    assert found.mask_paths == split.mask_paths
    assert found.ignore_paths == (split.ignore_paths or dict.fromkeys(split.mask_paths))
    assert list(found.boxes) == list(split.boxes)
    for image_id, rows in split.boxes.items():
        np.testing.assert_array_equal(found.boxes[image_id], rows)
    again = folder.parent / "again"
    found.write(again)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }


def test_boxes_of_another_format_are_written_as_corners(tmp_path):
    Metadata(("a.jpg",), image_sizes={"a.jpg": (9, 8)}, boxes={"a.jpg": np.array([[1, 2, 3, 4]])}).write(tmp_path / "a")
    load_metadata(tmp_path / "a", box_format="xywh").write(tmp_path / "b")
    assert load_metadata(tmp_path / "b").boxes["a.jpg"].tolist() == [[1, 2, 4, 6]]


SIZES = {"a": (9, 8), "b": (9, 8)}
BOX = np.array([[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Metadata(()), "image_ids: expected one or more, found none"),
        (Metadata(("a", "a")), "image_ids: expected distinct ids, found 'a' more than once"),
        (Metadata(("../a",)), r"image_ids: expected relative paths without '..', found '../a'"),
        (Metadata(("a\rb",)), r"expected text of one line that UTF-8 can hold, found 'a\\rb'"),
        (Metadata(("a\ud800",)), "image_ids: expected text that UTF-8 can hold"),
        (Metadata(("a", "b"), class_labels={"a": 1}), "class_labels: expected the 2 ids .*: 'b' is in one only"),
        (Metadata(("a",), class_labels={"a": 1, "c": 2}), "class_labels: expected the 1 ids .*: 'c' is in one only"),
        (Metadata(("a",), class_labels={"a": 1.0}), "class_labels: 'a': expected an integer from 0 to .*, found 1.0"),
        (Metadata(("a",), class_labels={"a": -1}), "class_labels: 'a': expected an integer from 0 to .*, found -1"),
        (Metadata(("a",), image_sizes={"a": (0, 8)}), "image_sizes: 'a': expected an integer from 1 to .*, found 0"),
        (Metadata(("a", "b"), image_sizes=SIZES, boxes={"a": BOX, "b": BOX * 1.0}), "boxes: 'b': expected integers"),
        (Metadata(("a", "b"), image_sizes=SIZES, boxes={"a": BOX, "b": BOX[:0]}), "boxes: 'b': expected integers"),
        (Metadata(("a", "b"), image_sizes=SIZES, boxes={"a": BOX, "b": BOX[0]}), "boxes: 'b': expected integers"),
        (Metadata(("a", "b"), image_sizes=SIZES, boxes={"a": BOX, "b": BOX + 5}), "boxes: 'b': .* inside its image"),
        (Metadata(("a", "b"), image_sizes=SIZES, boxes={"a": BOX, "b": BOX[:, ::-1]}), "'b': .* inside its image"),
        (Metadata(("a",), boxes={"a": BOX}), "boxes: expected the sizes of their images, and no masks"),
        (Metadata(("a",), mask_paths={"a": ()}), "mask_paths: 'a': expected names of files, found"),
        (Metadata(("a",), mask_paths={"a": ("",)}), "mask_paths: 'a': expected names of files, found"),
        (Metadata(("a",), mask_paths={"a": ("m",)}, ignore_paths={"a": ""}), "mask_paths: 'a': expected names of"),
        (Metadata(("a",), mask_paths={"a": ("m\n",)}), "expected text of one line that UTF-8 can hold, found 'm"),
    ],
)
def test_what_cannot_be_read_back_is_refused(tmp_path, split, message):
    with pytest.raises(ValueError, match=message):
        split.write(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()

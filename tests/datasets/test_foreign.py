"""Files from elsewhere: whatever is in them, what reads them says which file it is and what was expected.

In: files of counts, saved states and recipes, damaged in thousands of ways. Out: ValueError, OSError or the values.
Source: none.
"""

import io
import json
import os
import pickle
import re
import string
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import write_split

from wsolkern import BackendUnavailable, Evaluator, Normalization
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cams.extraction import PRECISIONS
from wsolkern.metrics import GroundTruth, sealed
from wsolkern.metrics.metric import usual_iou_threshold
from wsolkern.ops import backends
from wsolkern.studies.counting import SplitCount
from wsolkern.training.recipe import Recipe, default_options

SIZE = (6, 7)
IDS = [f"{number}.jpg" for number in range(10)]
CAMS = np.random.default_rng(0).normal(size=(len(IDS), 3, 3)).astype(np.float32)
BOXES = {each: np.array([[1, 1, 4, 3]]) for each in IDS}
MASKS = {each: (np.random.default_rng(1).random(SIZE) < 0.4).astype(np.uint8) for each in IDS}
HOW = {"size": SIZE, "thresholds": np.arange(0, 1, 0.25), "boxes": BOXES, "masks": MASKS}
STEP = dict(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def make(*, num: int = 7) -> Evaluator:
    evaluator = Evaluator(["minmax", "ivr:0.45+pas:0.9"], **HOW)
    evaluator.update(CAMS[:num], IDS[:num])
    return evaluator


class Stamped:
    """A source whose maps have stamps."""

    problems: dict = {}

    def batches(self, size):
        yield tuple(IDS[:7]), CAMS[:7]

    def stamps(self, image_ids):
        return np.arange(1, len(image_ids) + 1, dtype=np.uint64)

    def changed(self, image_ids, stamps):
        return []


def state(path) -> bytes:
    counting = SplitCount(Evaluator(["minmax", "ivr:0.45+pas:0.9"], **HOW), IDS, "job")
    counting.run(Stamped(), state=path)
    return path.read_bytes()


def read_counts(path) -> None:
    Evaluator.load(path).compute()


def read_state(path) -> None:
    counting = SplitCount(Evaluator(["minmax", "ivr:0.45+pas:0.9"], **HOW), IDS, "job")
    counting.load(path)
    counting.evaluator.compute()


def read_recipe(path) -> None:
    Recipe.read(path, {}).to_toml()


READERS = {"counts": read_counts, "state": read_state, "recipe": read_recipe}


@pytest.fixture
def whole(tmp_path):
    """A whole file of each kind."""
    found = {"counts": make().to_bytes(), "state": state(tmp_path / "whole")}
    return found | {"recipe": Recipe("resnet50", "cutmix", lr=1e-5).to_toml().encode()}


def refused(kind: str, path, content: bytes, must: bool = True) -> bool:
    """Whether what reads such files refuses a content, naming the file; any other exception goes on."""
    path.write_bytes(content)
    try:
        READERS[kind](path)
    except (ValueError, OSError) as error:
        assert path.name in str(error) or "no image was counted" in str(error), error
        assert len(str(error)) < 2000
        return True
    assert not must, "a damaged file was read"
    return False


def foreign() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("progress.json", "{}")
    deep = "[" * 100_000
    header = {"content": "Evaluator counts", "version": 1, "num_images": 0, "size": [6, 7], "normalizations": None}
    arrays = {"thresholds": np.array([0.5]), "iou_thresholds": np.array([0.5]), "num_degenerate": np.zeros(1, np.int64)}

    def counts(about: str | None = None, **other) -> bytes:
        about = json.dumps(header) if about is None else about
        return safetensors.numpy.save({**arrays, **other}, metadata={"wsolkern": about})

    def raw(about: dict | str, data: bytes = b"") -> bytes:
        text = (about if isinstance(about, str) else json.dumps(about)).encode()
        return len(text).to_bytes(8, "little") + text + data

    def tensor(dtype: str, shape: list, size: int) -> dict:
        return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}

    return {
        "empty": b"",
        "text": b"counts\n",
        "pickle": pickle.dumps({"a": 1}),
        "zip": archive.getvalue(),
        "half_a_zip": archive.getvalue()[:50],
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "huge_header": (1 << 62).to_bytes(8, "little") + b"{}",
        "no_metadata": raw(tensor("F32", [1], 4), bytes(4)),
        "metadata_is_null": raw({"__metadata__": None}),
        "bfloat16": raw(tensor("BF16", [2], 4), bytes(4)),
        "float8": raw(tensor("F8_E4M3", [4], 4), bytes(4)),
        "unknown_dtype": raw(tensor("F128", [1], 16), bytes(16)),
        "huge_shape": raw(tensor("F32", [1 << 62, 0], 0)),
        "shape_overflows": raw(tensor("F32", [1 << 40, 1 << 40], 4), bytes(4)),
        "negative_shape": raw(tensor("F32", [-1], 4), bytes(4)),
        "deep_header": raw('{"a":' * 5000 + "1" + "}" * 5000),
        "deep": counts(deep),
        "deep_and_closed": counts("[" * 900 + "]" * 900),
        "deep_size": counts('{"content": "Evaluator counts", "version": 1, "size": ' + "[" * 900 + "]" * 900 + "}"),
        "huge_integer": counts("1" * 10_000),
        "no_json": counts("{"),
        "a_list": counts("[]"),
        "a_number": counts("3"),
        "nothing_else": counts('{"content": "Evaluator counts", "version": 1}'),
        "version_is_true": counts(json.dumps({**header, "version": True})),
        "version_is_long": counts(json.dumps({**header, "version": "x" * 100_000})),
        "many_images": counts(json.dumps({**header, "num_images": 10**30})),
        "infinitely_many_images": counts(json.dumps({**header, "num_images": float("inf")})),
        "size_of_strings": counts(json.dumps({**header, "size": ["6", "7"]})),
        "size_of_floats": counts(json.dumps({**header, "size": [6.0, 7.0]})),
        "negative_size": counts(json.dumps({**header, "size": [-6, 7]})),
        "normalizations_are_text": counts(json.dumps({**header, "normalizations": "minmax"})),
        "normalizations_are_numbers": counts(json.dumps({**header, "normalizations": [1]})),
        "normalizations_are_objects": counts(json.dumps({**header, "normalizations": {"minmax": 1}})),
        "surrogates": counts(json.dumps({**header, "normalizations": ["\ud800"]})),
        "thresholds_of_two_axes": counts(thresholds=np.zeros((2, 2))),
        "complex_thresholds": counts(thresholds=np.array([0.5], np.float32)),
        "nan_thresholds": counts(thresholds=np.array([np.nan])),
        "no_thresholds": counts(thresholds=np.zeros(0)),
        "thresholds_that_need_terabytes": counts(
            thresholds=np.zeros(100_000), iou_thresholds=np.full(100_000, 0.5), num_correct=np.zeros(1, np.int64)
        ),
        "other_arrays": counts(more=np.zeros(3)),
        "float_counts": counts(num_degenerate=np.zeros(1)),
    }


@pytest.mark.parametrize("kind", ["counts", "state"])
@pytest.mark.parametrize("name", foreign())
def test_other_content_is_refused_by_name(tmp_path, kind, name):
    assert refused(kind, tmp_path / "some-file", foreign()[name])


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_refused_by_name(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, message in (("folder", "folder"), ("fifo", "expected a regular file, found a FIFO"), ("none", "none")):
        with pytest.raises(OSError, match=message):
            READERS[kind](tmp_path / name)
    with pytest.raises(OSError, match="found a device"):
        READERS[kind]("/dev/zero")


@pytest.mark.parametrize("kind", READERS)
def test_what_does_not_fit_in_memory_is_refused(tmp_path, kind):
    with open(tmp_path / "sparse", "wb") as file:
        try:
            os.truncate(file.fileno(), 1 << 43)
        except OSError:
            pytest.skip("this file system has no files of 8 TiB")
    with open("/proc/sys/vm/overcommit_memory") as file:
        if file.read().strip() == "1":
            pytest.skip("this system gives any amount of memory")
    with pytest.raises(OSError, match="Cannot allocate memory: .*sparse"):
        READERS[kind](tmp_path / "sparse")


@pytest.mark.parametrize("kind", ["counts", "state"])
def test_no_changed_byte_is_believed(tmp_path, whole, kind, draws):
    """Every bit of a file counts: flipped, cut, doubled, overwritten."""
    content = whole[kind]
    believed = []
    for place in draws.sample(range(len(content)), 300):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draws.randrange(8)
        if not refused(kind, tmp_path / "some-file", bytes(flipped), must=False):
            believed.append(flipped)
    for _ in range(200):
        start, length = draws.randrange(len(content)), draws.randrange(1, 60)
        middle = draws.choice([b"", draws.randbytes(length), content[:length], b"\0" * length, b"9" * length])
        changed = content[:start] + middle + content[start + draws.choice([0, length]) :]
        if changed != content and not refused(kind, tmp_path / "some-file", changed, must=False):
            believed.append(changed)
    for length in range(0, len(content), 17):
        assert refused(kind, tmp_path / "some-file", content[:length])
    header, arrays = unsealed(content)
    for changed in believed:  # what may differ is layout, never a value
        assert unsealed(changed)[0] == header
        for name, values in unsealed(changed)[1].items():
            np.testing.assert_array_equal(values, arrays[name])


def unsealed(content: bytes) -> tuple[dict, dict]:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["wsolkern"])
    del header["sha256"]
    return header, safetensors.numpy.load(bytes(content))


ODD = [None, True, -1, 0, 3, 10**25, 0.5, float("nan"), float("inf"), "", "minmax", "x" * 5000, [], {}, [[]], [None]]
ODD += [{"a": 1}, [6, 7, 8], ["minmax"] * 300, "\ud800", "٣", json.loads("[" * 400 + "]" * 400)]


@pytest.mark.parametrize("kind", ["counts", "state"])
def test_other_content_with_its_right_hash_is_refused(tmp_path, whole, kind, draws):
    """Headers and arrays are changed and sealed again, so that all that is behind the hash is reached."""
    header, arrays = unsealed(whole[kind])
    num_read = 0
    for _ in range(1200):
        about, changed = dict(header), dict(arrays)
        for _ in range(draws.choice([1, 1, 2])):
            what = draws.choice(["replace", "drop", "add", "array", "array", "array", "drop_array"])
            name, field = draws.choice(list(arrays)), draws.choice(list(header))
            if what == "replace":
                about[field] = draws.choice(ODD)
            elif what == "drop":
                about.pop(field, None)
            elif what == "add":
                about["more"] = draws.choice(ODD)
            elif what == "drop_array":
                changed.pop(name, None)
            else:
                values = arrays[name]
                changed[name] = np.ascontiguousarray(
                    draws.choice(
                        [
                            lambda v: v.astype(draws.choice(["f4", "f2", "i4", "u1", "u8", "?", "f8"])),
                            lambda v: v[..., : v.shape[-1] // 2],
                            lambda v: v[None],
                            lambda v: v.reshape(-1),
                            lambda v: np.zeros((0, *v.shape), v.dtype),
                            lambda v: np.full_like(v, np.iinfo(v.dtype).max if v.dtype.kind in "iu" else np.nan),
                            lambda v: v + np.ones_like(v),
                            lambda v: np.concatenate([v, v]),
                        ]
                    )(values)
                )
        try:
            content = sealed.seal(about, changed)
        except (UnicodeEncodeError, ValueError, safetensors.SafetensorError):
            continue
        num_read += not refused(kind, tmp_path / "some-file", content, must=False)
    assert num_read < 500  # such as with another key in the header, or a conversion that changes nothing


def test_counts_from_before_there_was_a_hash_are_read(tmp_path):
    header, arrays = unsealed(make().to_bytes())
    content = safetensors.numpy.save(arrays, metadata={"wsolkern": json.dumps(header)})
    assert Evaluator.from_bytes(content) == make()

    def named(name: str, size: tuple[int, int]) -> bytes:
        evaluator = Evaluator(["ivr:0.29", "max"], boxes={}, size=size, thresholds=[0.5])
        about, counts = unsealed(evaluator.to_bytes())
        about["normalizations"][0] = name
        return safetensors.numpy.save(counts, metadata={"wsolkern": json.dumps(about)})

    found = Evaluator.from_bytes(named("ivr:0.29000000000000004", (224, 224)))
    assert str(found.normalizations[0]) == "ivr:0.29"
    with pytest.raises(ValueError, match="ivr:0.29000000000000004 was counted with other pixels than ivr:0.29 stands"):
        Evaluator.from_bytes(named("ivr:0.29000000000000004", (10, 10)))


fractions = st.floats(0, 1, exclude_max=True)
percentiles = st.one_of(fractions, st.integers(0, 99).map(lambda k: np.float64(k * 0.01)), fractions.map(np.float64))
normalizations = st.one_of(
    st.sampled_from(["minmax", "max"]).map(Normalization),
    percentiles.map(lambda p: Normalization("ivr", ivr=p)),
    percentiles.map(lambda p: Normalization("pas", pas=p)),
    st.tuples(percentiles, percentiles).map(lambda p: Normalization("ivr+pas", ivr=p[0], pas=p[1])),
)
sides = st.one_of(st.integers(1, 40), st.integers(1, 40).map(np.int64), st.just(4096), st.just(np.uint16(4096)))


@pytest.mark.slow
@settings(**STEP, max_examples=150)
@given(
    names=st.one_of(st.none(), st.lists(normalizations, min_size=1, max_size=5)),
    thresholds=st.lists(fractions, min_size=1, max_size=6).map(sorted),
    ious=st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=4),
    size=st.tuples(sides, sides),
    truth=st.sampled_from([{"boxes": BOXES}, {"masks": MASKS}, {"boxes": BOXES, "masks": MASKS}]),
    kind=st.sampled_from([list, tuple, np.array]),
)
def test_every_evaluator_is_read_back(names, thresholds, ious, size, truth, kind):
    evaluator = Evaluator(names, thresholds=kind(thresholds), iou_thresholds=kind(ious), size=size, **truth)
    if max(size) <= 40:
        if "masks" in truth:
            held = GroundTruth(truth.get("boxes"), lambda _: np.ones(evaluator.size, np.uint8))
            evaluator = Evaluator.of(evaluator.protocol, held)
        maps = np.random.default_rng(0).random((2, *evaluator.size) if names is None else (2, 3, 3))
        evaluator.update(maps, IDS[:2])
    again = Evaluator.from_bytes(evaluator.to_bytes())
    assert again == evaluator and again.to_bytes() == evaluator.to_bytes()
    assert again.normalizations == evaluator.normalizations and again.size == evaluator.size
    if evaluator.num_images and (evaluator.hist is None or evaluator.hist[:, 0].any(axis=1).all()):
        result = evaluator.compute()
        for name in map(str, evaluator.normalizations or ["score maps"]):
            assert result[name].to_dict() == again.compute()[name].to_dict()


def test_percentiles_of_arange_are_found_by_name():
    names = [Normalization("ivr", ivr=p) for p in np.arange(0, 1, 0.05)]
    evaluator = Evaluator(names, boxes=BOXES, size=SIZE, iou_thresholds=np.arange(0.2, 0.9, 0.1))
    evaluator.update(CAMS, IDS)
    result = Evaluator.from_bytes(evaluator.to_bytes()).compute()
    assert result["ivr:0.45"].name == "ivr:0.45" and result["ivr:0.15"].name == "ivr:0.15"
    assert usual_iou_threshold(result.iou_thresholds) == result.iou_thresholds[3] == 0.5000000000000001
    text = Evaluator([f"ivr:0.{percent:02d}" for percent in range(0, 100, 5)], boxes=BOXES, size=SIZE)
    text.update(CAMS, IDS)
    np.testing.assert_array_equal(text.num_correct[:, :, 2], evaluator.num_correct[:, :, 5])  # IoU 0.7
    assert text.num_degenerate.tolist() == evaluator.num_degenerate.tolist()


def test_a_file_of_counts_may_have_a_long_name_and_replaces_files_only(tmp_path):
    path = tmp_path / ("n" * 250)
    for num in (3, 7):
        make(num=num).save(path)
        assert Evaluator.load(path) == make(num=num)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "fifo", tmp_path / "folder", "/dev/null"):
        with pytest.raises(OSError, match="expected a regular file, found a"):
            make().save(place)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        make().save(tmp_path / "missing" / "counts")
    (tmp_path / "link").symlink_to(path)
    make(num=5).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and Evaluator.load(path) == make(num=5)
    assert os.stat("/dev/null").st_rdev


# Recipes

texts = st.text(max_size=40).filter(lambda text: not re.search("[\ud800-\udfff]", text))
positive = st.floats(0, exclude_min=True, allow_infinity=False)


def of_type(name: str, default) -> st.SearchStrategy:
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(1, (1 << 63) - 1)
    return positive if name == "cutmix_beta" else st.floats(0, 1)


@st.composite
def recipes(draw) -> Recipe:
    method = draw(st.sampled_from(["cam", "has", "acol", "spg", "adl", "cutmix"]))
    crop, batch = draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6))
    return Recipe(
        backbone=draw(st.one_of(st.sampled_from(["vgg16", "resnet50"]), texts.map(lambda text: f"a:{text}"))),
        method=method,
        num_classes=draw(st.integers(0, (1 << 63) - 1)),
        large_feature_map=draw(st.booleans()),
        pretrained=draw(texts),
        batch_size=batch,
        shards=draw(st.integers(1, batch)),
        lr=draw(positive),
        lr_classifier_ratio=draw(st.floats(0, 1e300)),
        momentum=draw(st.floats(0, 1)),
        weight_decay=draw(st.floats(0, 1e300)),
        crop_size=crop,
        resize_size=draw(st.integers(crop, 1 << 40)),
        flip_rate=draw(st.floats(0, 1)),
        precision=draw(st.sampled_from(PRECISIONS)),
        seed=draw(st.integers(0, (1 << 63) - 1)),
        normalizations=draw(st.lists(normalizations.map(str), min_size=1, max_size=3).map(", ".join)),
        data=draw(texts),
        options={name: draw(of_type(name, value)) for name, value in default_options(method).items()},
    )


@pytest.mark.slow
@settings(**STEP, max_examples=150)
@given(recipe=recipes())
def test_every_recipe_is_read_back(recipe, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_bytes(recipe.to_toml().encode())
    again = Recipe.read(path, {})
    assert again == recipe and again.to_toml() == recipe.to_toml()


@pytest.mark.parametrize(
    "text", ['"quoted" \\ back\\slash', "a\tb\nc\rd\x00e\x1ff\x7fg\x85", "é😀\u2028日本", "'''", '"""']
)
def test_texts_of_recipes_are_read_back(tmp_path, text):
    recipe = Recipe("resnet50", "cam", pretrained=text)
    (tmp_path / "recipe.toml").write_bytes(recipe.to_toml().encode())
    assert Recipe.read(tmp_path / "recipe.toml", {}).pretrained == text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretrained": "\udcff.pth"}, "pretrained: expected text that UTF-8 can hold"),
        ({"seed": 1 << 63}, "seed: expected a number of 64 bits"),
        ({"lr": 10**400}, "lr: expected a number of 64 bits, found a larger one"),
        ({"lr": float("inf")}, "lr: expected a positive number, found inf"),
        ({"lr": float("nan")}, "lr: expected a positive number, found nan"),
        ({"momentum": float("nan")}, r"momentum: expected a fraction in \[0, 1\], found nan"),
        ({"lr": True}, "lr: expected float, found True"),
        ({"lr": [[[]]]}, "lr: expected float, found list"),
        ({"backbone": 3}, "backbone: expected str, found 3"),
        ({"method": ["cam"]}, "method: expected str, found list"),
    ],
)
def test_recipes_take_only_what_can_be_written(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"backbone": "resnet50", "method": "cam"} | settings)


@pytest.mark.parametrize(
    "content",
    [
        b"lr = 0.1",
        b"\xff\xfe",
        b"backbone = 3\nmethod = 'cam'",
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = " + b"1" * 6000,
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = " + b"1" * 400,
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = inf",
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = 2020-01-01",
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = 1\nlr = 2",
        b"backbone = 'resnet50'\nmethod = 'cam'\n[lr]\na = 1",
        b"backbone = 'resnet50'\nmethod = 'cam'\noptions = {}",
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = " + b"[" * 50_000,
        b"backbone = 'resnet50'\nmethod = 'cam'\nlr = " + b"[" * 200 + b"]" * 200,
        b"a = {" * 20_000,
        b"a." * 3_000 + b"b = 1",
    ],
)
def test_other_recipes_are_refused_by_name(tmp_path, content):
    assert refused("recipe", tmp_path / "some-file", content)


def test_recipes_changed_at_random_are_read_or_refused(tmp_path, whole, draws):
    content, num_refused = whole["recipe"], 0
    pool = (string.printable + "\x00\x7fé٣").encode()
    for _ in range(600):
        start, length = draws.randrange(len(content)), draws.randrange(1, 5)
        middle = bytes(draws.choices(pool, k=draws.randrange(4)))
        changed = content[:start] + middle + content[start + length :]
        num_refused += refused("recipe", tmp_path / "some-file", changed, must=False)
    assert num_refused > 300


# What the environment says


@pytest.mark.parametrize(
    "value", ["0", "-1", "+2", " 2", "2 ", "1e3", "2.0", "٣", "1_0", "0x2", "many", "1025", "99999999999", "9" * 6000]
)
def test_numbers_of_threads_that_are_none(monkeypatch, value):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", value)
    expected = "WSOLKERN_NUM_THREADS: expected an integer from 1 to 1024, found '"
    with pytest.raises(ValueError, match=re.escape(expected + value[:80])) as error:
        Evaluator(boxes=BOXES, size=SIZE).update(CAMS, IDS)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("0003", 3), ("1024", 1024)])
def test_numbers_of_threads(monkeypatch, value, expected):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", value)
    assert backends.num_threads() == expected
    evaluator = Evaluator(boxes=BOXES, size=SIZE)
    evaluator.update(CAMS, IDS)
    assert evaluator.num_images == len(IDS)


@pytest.mark.parametrize("value", ["avx9", "AVX2", " generic", "../generic", "generic\n", "٣", "x" * 6000])
def test_instruction_sets_that_are_none(monkeypatch, value):
    monkeypatch.setenv("WSOLKERN_ISA", value)
    with pytest.raises(BackendUnavailable, match="WSOLKERN_ISA: expected one of avx512, avx2, generic, found"):
        Evaluator(boxes=BOXES, size=SIZE).update(CAMS, IDS)


@pytest.mark.parametrize("name", ["WSOLKERN_NUM_THREADS", "WSOLKERN_ISA"])
def test_commands_name_the_variable(tmp_path, name):
    write_split(tmp_path, ["a"], size=(9, 9), box=(1, 1, 4, 4))
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    command = [sys.executable, "-m", "wsolkern", "evaluate", "--cams", str(tmp_path), "--metadata", str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, name: "99999999999"}
    )
    assert found.returncode == 2 and f"{name}: expected" in found.stderr and found.stdout == ""
    assert len(found.stderr.splitlines()) <= 2


# Stores

words = st.one_of(st.none(), st.text(max_size=20))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@settings(**STEP, max_examples=8)
@given(
    fields=st.fixed_dictionaries({name: words for name in ("dataset", "split", "method", "backbone")}),
    content=st.sampled_from(["cams", "score maps"]),
    checkpoint=st.one_of(st.none(), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    preprocessing=st.dictionaries(st.text(), json_values, max_size=3),
    nwc=st.booleans(),
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_every_manifest_is_read_back(tmp_path_factory, fields, content, checkpoint, preprocessing, nwc, versions):
    manifest = Manifest(
        content=content,
        checkpoint_sha256=checkpoint,
        preprocessing=preprocessing,
        nwc=nwc,
        versions=versions,
        **fields,
    )
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        with CamWriter(Path(folder, "store"), manifest) as writer:
            maps = np.full((1, 2, 2), 0.5)
            writer.add(["a"], maps, **({"nwc_cams": maps} if nwc else {}))
        assert CamStore(Path(folder, "store")).manifest == manifest

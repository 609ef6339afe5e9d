"""CAM stores: bits come back, damage is named and costs nothing else, a killed writer goes on, folders round-trip.

In: small maps of several sizes. Out: stores in temporary folders.
Source: what was put in is what must come out.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from shared import write_split

from wsolkern.cams import CamStore, CamWriter, Manifest, layout, merge_stores, open_maps, repair_store
from wsolkern.errors import DatasetError

SIZES = ((7, 7), (14, 14), (5, 9), (1, 1), (28, 28))
RUN = Manifest(dataset="CUB", split="test", method="CAM", backbone="VGG-16", nwc=True)
PLAIN = Manifest(dataset="CUB", split="test", method="CAM", backbone="VGG-16")


def batch(number: int, count: int = 5, dtype=np.float32) -> dict:
    """What ``CamWriter.add`` takes: maps of one size, which goes by the batch's number."""
    rng = np.random.default_rng(number)
    cams, nwc_cams = rng.normal(size=(2, count, *SIZES[number % len(SIZES)])).astype(dtype)
    cams[0, 0, 0], cams[-1, -1, -1] = np.nan, -np.inf
    return {
        "image_ids": [f"class {number % 3}/{number:03d}-{row}.jpg" for row in range(count)],
        "cams": cams,
        "nwc_cams": nwc_cams,
        "classes": rng.integers(0, 20, count),
        "logits": rng.normal(size=(count, 20)).astype(np.float32),
    }


def by_id(parts) -> dict[str, tuple]:
    """Image id -> the bits of all that is kept of it. ``parts`` are records of a store."""
    found = {}
    for part in parts:
        for row, image_id in enumerate(part.image_ids):
            assert image_id not in found
            values = [each[row] for each in part[1:] if each is not None]
            found[image_id] = tuple((value.dtype, value.shape, value.tobytes()) for value in values)
    return found


def write(path: Path, numbers, *, manifest: Manifest = RUN, maps_per_shard: int = 16, dtype=np.float32) -> CamStore:
    """A store of some batches; those of an existing store's images are not added again."""
    with CamWriter(path, manifest, maps_per_shard=maps_per_shard) as writer:
        for number in numbers:
            content = batch(number, dtype=dtype)
            if not manifest.nwc:
                del content["nwc_cams"]
            rows = [row for row, each in enumerate(content["image_ids"]) if each not in writer.image_ids]
            content["image_ids"] = np.array(content["image_ids"], object)
            if rows:
                writer.add(**{name: values[rows] for name, values in content.items()})
    return CamStore(path)


@pytest.fixture
def store(tmp_path) -> CamStore:
    """60 maps of five sizes in four shards."""
    return write(tmp_path / "store", range(12))


def collect(source, size: int = 64) -> dict[str, np.ndarray]:
    """Image id -> map, as a source gives them, in that order."""
    found = {}
    for image_ids, maps in source.batches(size):
        assert len(image_ids) == len(maps) <= size and not found.keys() & set(image_ids)
        found |= zip(image_ids, maps, strict=True)
    assert found.keys() | source.problems.keys() == set(source.image_ids)
    assert not found.keys() & source.problems.keys()
    return found


# What was put in comes out.


@pytest.mark.parametrize("maps_per_shard", [1, 7, 16, 1000])
def test_everything_comes_back(tmp_path, maps_per_shard):
    store = write(tmp_path / "store", range(12), maps_per_shard=maps_per_shard)
    found = {}
    for part in store.records(size=3):
        assert len(part.image_ids) <= 3
        for row, image_id in enumerate(part.image_ids):
            found[image_id] = [each[row] for each in part[1:]]
    assert tuple(found) == store.image_ids and len(found) == store.num_maps == 60
    assert all(shard.num_maps <= maps_per_shard for shard in store.shards)
    for number in range(12):
        content = batch(number)
        for row, image_id in enumerate(content["image_ids"]):
            cam, nwc_cam, label, top5_classes, top5_logits, *file = found[image_id]
            np.testing.assert_array_equal(cam, content["cams"][row], strict=True)
            np.testing.assert_array_equal(nwc_cam, content["nwc_cams"][row], strict=True)
            assert label == content["classes"][row] and file[:2] == [-1, 0] and not file[2].any()
            assert top5_classes.tolist() == np.argsort(-content["logits"][row])[:5].tolist()
            np.testing.assert_array_equal(top5_logits, content["logits"][row][top5_classes], strict=True)
            np.testing.assert_array_equal(store.read(image_id), cam, strict=True)
            np.testing.assert_array_equal(store.read(image_id, nwc=True), nwc_cam, strict=True)
    assert store.verify() == store.problems == {}


def test_dtypes_are_kept_side_by_side(tmp_path):
    with CamWriter(tmp_path / "store", RUN) as writer:
        for number in range(6):
            writer.add(**batch(number, dtype=(np.float32, np.float64)[number % 2]))
    store = CamStore(tmp_path / "store")
    for number in range(6):
        content = batch(number, dtype=(np.float32, np.float64)[number % 2])
        for image_id, cam in zip(content["image_ids"], content["cams"], strict=True):
            np.testing.assert_array_equal(store.read(image_id), cam, strict=True)


def test_what_is_unknown_stays_unknown(tmp_path):
    with CamWriter(tmp_path / "store", PLAIN) as writer:
        writer.add(["a", "b"], np.zeros((2, 3, 3), np.float32))
        writer.add(["c"], np.zeros((1, 3, 3), np.float32), classes=[1], logits=np.float64([[0.5, 2.0, 2.0]]))
        writer.add([], np.zeros((0, 3, 3), np.float32))
    (records,) = CamStore(tmp_path / "store").records()
    assert records.nwc_cams is None and records.classes.tolist() == [-1, -1, 1]
    assert records.top5_classes.tolist() == [[-1] * 5, [-1] * 5, [1, 2, 0, -1, -1]]
    np.testing.assert_array_equal(records.top5_logits[2], [2, 2, 0.5, np.nan, np.nan])


def test_torch_tensors_are_stored_as_arrays_are(tmp_path):
    import torch

    content = batch(1)
    write(tmp_path / "numpy", [1])
    tensors = {name: torch.tensor(values) for name, values in content.items() if name != "image_ids"}
    tensors["cams"].requires_grad_()
    with CamWriter(tmp_path / "torch", RUN) as writer:
        writer.add(content["image_ids"], **tensors)
        with torch.no_grad():
            tensors["cams"].zero_()  # the caller's again
    assert by_id(CamStore(tmp_path / "torch").records()) == by_id(CamStore(tmp_path / "numpy").records())


def test_large_maps_make_small_shards(tmp_path):
    cams = np.random.default_rng(0).random((48, 300, 400))
    with CamWriter(tmp_path / "store", PLAIN) as writer:
        writer.add([str(row) for row in range(48)], cams)
    store = CamStore(tmp_path / "store")
    assert len(store.shards) > 1 and all(shard.bytes < 34 << 20 for shard in store.shards)
    np.testing.assert_array_equal(np.concatenate([part.cams for part in store.records()]), cams)


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("nwc", [False, True])
def test_source_gives_what_is_wanted(store, size, nwc):
    wanted = [*store.image_ids[50:2:-3], "no such image", store.image_ids[0]]
    source = open_maps(store.path, wanted, nwc=nwc)
    assert source.image_ids == tuple(wanted) and len(source) == len(wanted)
    for _ in range(2):
        found = collect(source, size)
        assert list(found) == [each for each in store.image_ids if each in wanted]
        assert source.problems == {"no such image": f"not in the store {store.path}"}
        for image_id, cam in found.items():
            np.testing.assert_array_equal(cam, store.read(image_id, nwc=nwc), strict=True)


def test_source_fills_its_batches(tmp_path):
    store = write(tmp_path / "store", [0, 1, 5, 6, 10, 11], maps_per_shard=100)  # two sizes in turn
    assert [maps.shape for _, maps in store.source(store.image_ids).batches()] == [(15, 7, 7), (15, 14, 14)]
    assert [len(ids) for ids, _ in store.source(store.image_ids).batches(8)] == [8, 7, 8, 7]
    with pytest.raises(ValueError, match="size: expected at least 1, found 0"):
        store.source(store.image_ids).batches(0)


def test_source_reads_the_shards_that_have_what_is_wanted(tmp_path, monkeypatch):
    """All others, too, only where an image is missing: one of them may be damaged and have it."""
    store = write(tmp_path / "store", range(6), maps_per_shard=5)
    files, read, plain = [shard.file for shard in store.shards], [], layout.read_shard
    monkeypatch.setattr(
        layout,
        "read_shard",
        lambda path, shard, *how, **more: read.append(shard.file) or plain(path, shard, *how, **more),
    )
    wanted = batch(2)["image_ids"] + batch(4)["image_ids"][:1]
    source = store.source(wanted)
    assert {each for ids, _ in source.batches() for each in ids} == set(wanted) and not source.problems
    assert read == [files[2], files[4]]
    (store.path / files[5]).unlink()
    source = store.source([*wanted, "nowhere.jpg"])
    assert {each for ids, _ in source.batches() for each in ids} == set(wanted)
    assert (
        sorted(read[2:]) == sorted(files) and f"or in its damaged shard {files[5]}: " in source.problems["nowhere.jpg"]
    )


def test_source_can_be_left_early(store):
    assert next(store.source(store.image_ids).batches(4))[0][0] == store.image_ids[0]
    assert list(store.source(()).batches()) == []


def test_open_maps_takes_folders_too(tmp_path, store):
    cam = store.read(store.image_ids[0])
    np.save(tmp_path / "a.npy", cam)
    np.testing.assert_array_equal(collect(open_maps(tmp_path, ["a", "b"]))["a"], cam)
    with pytest.raises(ValueError, match="nwc: .* is no CAM store"):
        open_maps(tmp_path, ["a"], nwc=True)
    plain = write(tmp_path / "plain", [0], manifest=PLAIN)
    for read in (lambda: plain.source(["a"], nwc=True), lambda: plain.read("a", nwc=True)):
        with pytest.raises(ValueError, match="nwc: .*plain was made without NWC maps"):
            read()


def test_no_store_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DatasetError, match=f"{path}: no CAM store: expected a folder with manifest.json"):
            CamStore(path)


# Manifests.


def test_manifest_comes_back(tmp_path):
    manifest = Manifest(preprocessing={"size": (448, 448), "flip": False, "mean": [0.5, None]}, versions={"torch": "2"})
    assert write(tmp_path / "store", [], manifest=manifest).manifest == manifest
    assert manifest.preprocessing["size"] == [448, 448] and {"wsolkern", "numpy", "python"} <= RUN.versions.keys()


@pytest.mark.parametrize(
    "wrong", [{"content": "CAMs"}, {"dataset": 3}, {"nwc": 1}, {"preprocessing": []}, {"preprocessing": {"x": {1}}}]
)
def test_wrong_manifests_are_refused(wrong):
    with pytest.raises(ValueError, match=f"manifest: {next(iter(wrong))}: expected"):
        Manifest(**wrong)


def test_resuming_another_run_is_an_error(tmp_path):
    store = write(tmp_path / "store", [0])
    with pytest.raises(DatasetError, match="store: holds another run: expected method 'CAM', found 'ACoL'"):
        write(tmp_path / "store", [1], manifest=Manifest("cams", "CUB", "test", "ACoL", "ResNet-50"))
    other = Manifest(dataset="CUB", split="test", method="CAM", backbone="VGG-16", nwc=True, versions={"torch": "0"})
    assert write(tmp_path / "store", [1], manifest=other).manifest == store.manifest


# What a store does not take.

WRONG = {
    "too_few_ids": ({"image_ids": ["a"]}, "image_ids: expected 2, one for each map, found 1"),
    "one_string": ({"image_ids": "ab"}, "image_ids: expected a sequence of ids, found the single string 'ab'"),
    "twice": ({"image_ids": ["a", "a"]}, "image_ids: expected distinct ids, found 'a' more than once"),
    "stored": ({"image_ids": ["a", "old"]}, "image_ids: expected ids that are not in .*, found 'old'"),
    "number": ({"image_ids": ["a", 3]}, "image_ids: expected non-empty strings of one line, found 3"),
    "empty": ({"image_ids": ["a", ""]}, "image_ids: expected non-empty strings of one line, found ''"),
    "line": ({"image_ids": ["a", "b\nc"]}, r"image_ids: expected non-empty strings of one line, found 'b\\nc'"),
    "absolute": ({"image_ids": ["a", "/b"]}, "image_ids: expected relative paths without '..', found '/b'"),
    "upwards": ({"image_ids": ["a", "b/../c"]}, "image_ids: expected relative paths without '..', found 'b/../c'"),
    "surrogate": ({"image_ids": ["a", "\ud800"]}, "image_ids: expected text that UTF-8 can hold"),
    "integers": ({"cams": np.zeros((2, 3, 4), np.int16)}, "cams: expected floats of 16, 32 or 64 bits .*found int16"),
    "list": ({"cams": [[[1.0]], [[1.0]]]}, "cams: expected floats of 16, 32 or 64 bits .*found list"),
    "masked": ({"cams": np.ma.zeros((2, 3, 4), np.float32)}, "cams: expected an array without a mask, found a masked"),
    "one_map": ({"cams": np.zeros((3, 4), np.float32)}, r"cams: expected .* \[N, h, w\], found float32 \[3, 4\]"),
    "flat": ({"cams": np.zeros((2, 0, 4), np.float32)}, r"cams: expected .* found float32 \[2, 0, 4\]"),
    "no_nwc": ({"nwc_cams": None}, "nwc_cams: expected maps, as the manifest of .* says, found none"),
    "other_nwc": ({"nwc_cams": np.zeros((2, 3, 3), np.float32)}, r"nwc_cams: expected float32 \[2, 3, 4\] as the cams"),
    "float_classes": ({"classes": [0.0, 1.0]}, "classes: expected 2 integers, found float64"),
    "negative_class": ({"classes": [0, -2]}, "classes: expected indices from 0, or -1 for unknown, found -2"),
    "huge_class": ({"classes": np.array([0, 2**63], np.uint64)}, "classes: expected .*, found 9223372036854775808"),
    "masked_classes": ({"classes": np.ma.zeros(2, int)}, "classes: expected an array without a mask, found a masked"),
    "few_files": ({"files": [None]}, "files: expected 2 of FileStamp or None, found 1"),
    "other_files": ({"files": [None, "a.jpg"]}, "files: expected 2 of FileStamp or None"),
    "flat_logits": ({"logits": np.zeros(2, np.float32)}, r"logits: expected float \[2, K\], found float32 \[2\]"),
    "int_logits": ({"logits": np.zeros((2, 3), int)}, r"logits: expected float \[2, K\], found int64"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named_and_nothing_is_added(tmp_path, name):
    changed, message = WRONG[name]
    right = {
        "image_ids": ["a", "b"],
        "cams": np.zeros((2, 3, 4), np.float32),
        "nwc_cams": np.ones((2, 3, 4), np.float32),
    }
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(["old"], right["cams"][:1], nwc_cams=right["nwc_cams"][:1])
        with pytest.raises(ValueError, match=message):
            writer.add(**right | changed)
        assert writer.image_ids == {"old"}
        writer.add(**right)
    assert CamStore(tmp_path / "store").image_ids == ("old", "a", "b")
    with pytest.raises(ValueError, match="store: this writer is closed"):
        writer.add(["c"], right["cams"][:1], nwc_cams=right["nwc_cams"][:1])
    with pytest.raises(ValueError, match="maps_per_shard: expected at least 1, found 0"):
        CamWriter(tmp_path / "store", RUN, maps_per_shard=0)


def test_nwc_maps_need_a_manifest_that_says_so(tmp_path):
    with CamWriter(tmp_path / "store", PLAIN) as writer, pytest.raises(ValueError, match="nwc_cams: expected none"):
        writer.add(**batch(0))


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan])
def test_score_maps_are_checked(tmp_path, value):
    with CamWriter(tmp_path / "store", Manifest("score maps")) as writer:
        scores = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
        writer.add(["a", "b", "c"], scores)
        scores[1, 2, 3] = value
        with pytest.raises(ValueError, match=r"cams\[1\]: image 'e': expected a score map with values in \[0, 1\]"):
            writer.add(["d", "e", "f"], scores)
    (records,) = CamStore(tmp_path / "store").records()
    assert records.cams.dtype == np.float64 and records.image_ids == ("a", "b", "c")


# One writer at a time, and what it leaves.


def test_second_writer_is_an_error(tmp_path):
    with CamWriter(tmp_path / "store", RUN) as writer:
        for other in (lambda: CamWriter(tmp_path / "store", RUN), lambda: repair_store(tmp_path / "store")):
            with pytest.raises(DatasetError, match="store: another process is writing this CAM store"):
                other()
        writer.add(**batch(0))
    writer.close()
    assert write(tmp_path / "store", [0, 1]).num_maps == 10


def test_an_exception_keeps_what_was_added(tmp_path):
    with pytest.raises(KeyboardInterrupt), CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(**batch(0))
        raise KeyboardInterrupt
    assert CamStore(tmp_path / "store").num_maps == 5


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="expected a CAM store or an empty folder, found 'notes.txt' in it"):
        CamWriter(tmp_path, RUN)
    with pytest.raises(DatasetError, match="notes.txt: expected a folder, found a file"):
        CamWriter(tmp_path / "notes.txt", RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_disk_loses_nothing(tmp_path):
    """A folder in the way of the next shard stands for any error of the system."""
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(**batch(0))
        obstacle = tmp_path / "store" / "shards" / "000000.safetensors"
        obstacle.mkdir()
        with pytest.raises(OSError):
            writer.flush()
        obstacle.rmdir()
        writer.add(**batch(1))
    assert by_id(CamStore(writer.path).records()) == by_id(write(tmp_path / "other", [0, 1]).records())


# Damage: the shard is named, all others count.


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped_byte": (flip, "damaged: expected sha256"),
    "flipped_header": (flip_header, "damaged: expected sha256"),
    "truncated": (lambda path: os.truncate(path, 1000), "bytes, found 1,000"),
    "empty": (lambda path: os.truncate(path, 0), "bytes, found 0"),
    "missing": (Path.unlink, "no such file"),
    "a_folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "swapped": (lambda path: path.write_bytes((path.parent / "000000.safetensors").read_bytes()), "expected"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_shard_costs_only_its_maps(store, name):
    damage, problem = DAMAGE[name]
    everything, shard = by_id(store.records()), store.shards[2]
    damage(store.path / shard.file)
    store = CamStore(store.path)
    assert store.num_maps == 60

    ((file, found),) = store.verify().items()
    assert file == shard.file == "shards/000002.safetensors" and problem in found

    source = CamStore(store.path).source(everything)
    maps = collect(source)
    assert len(maps) == 60 - shard.num_maps and len(source.problems) == shard.num_maps
    assert {each.tobytes() for each in maps.values()} <= {values[0][2] for values in everything.values()}
    for reason in source.problems.values():
        assert reason.startswith(f"not in the store {store.path}, or in its damaged shard {file}: ")

    rest = CamStore(store.path)
    kept = by_id(rest.records())
    assert kept == {image_id: everything[image_id] for image_id in rest.image_ids} and kept.keys() == maps.keys()
    assert list(rest.problems) == [file]
    lost = next(image_id for image_id in everything if image_id not in kept)
    with pytest.raises(DatasetError, match=f"image '{lost}': not in the store .* damaged shard {file}"):
        rest.read(lost)

    with pytest.raises(DatasetError, match=f"wsolkern store verify --repair(.|\n)*{file}: "):
        CamWriter(store.path, RUN)
    assert list(repair_store(store.path)) == [file] and repair_store(store.path) == {}
    if name == "a_folder":
        (store.path / file).rmdir()
    again = write(store.path, range(12))
    assert by_id(again.records()) == everything and again.verify() == {}


def test_damage_after_the_first_look_is_noticed(store):
    image_id = store.image_ids[-1]
    flip(store.path / store.shards[-1].file)
    with pytest.raises(DatasetError, match=f"image '{image_id}': .*{store.shards[-1].file}: damaged"):
        store.read(image_id)


def test_many_damaged_shards_are_counted(tmp_path):
    store = write(tmp_path / "store", range(12), maps_per_shard=5)
    for shard in store.shards:
        (store.path / shard.file).unlink()
    source = store.source(["a"])
    assert collect(source) == {} and "shards/000003.safetensors: no such file; 8 more" in source.problems["a"]


def test_a_foreign_manifest_is_named(tmp_path, store):
    other = write(tmp_path / "other", [0], manifest=Manifest(method="ACoL"))
    manifest = store.path / "manifest.json"
    own = manifest.read_bytes()
    everything = by_id(store.records())
    manifest.write_bytes((other.path / "manifest.json").read_bytes())
    for use in (lambda: CamStore(store.path), lambda: open_maps(store.path, []), lambda: repair_store(store.path)):
        with pytest.raises(DatasetError, match=f"^{manifest}: belongs to another store: expected sha256"):
            use()
    with pytest.raises(DatasetError, match=f"^{manifest}: belongs to another store"):
        CamWriter(store.path, Manifest(method="ACoL"))
    manifest.write_bytes(own)
    assert by_id(CamStore(store.path).records()) == everything


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("1", "2", 1).replace("CUB", "CAB"))


@pytest.mark.parametrize("file", ["manifest.json", "index.json"])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (edit, "damaged or edited: expected sha256"),
        (lambda path: os.truncate(path, 100), "damaged: expected JSON"),
        (lambda path: path.write_bytes(b"\xff"), "damaged: expected JSON"),
        (lambda path: path.write_text("[]"), "expected a wsolkern CAM store .*, found another file"),
        (Path.unlink, "no such file; a CAM store has one"),
    ],
    ids=["edited", "truncated", "binary", "other", "missing"],
)
def test_a_damaged_manifest_or_index_is_named(store, file, damage, problem):
    before = {path: path.read_bytes() for path in (store.path / "shards").iterdir()}
    damage(store.path / file)
    for use in (lambda: CamStore(store.path), lambda: CamWriter(store.path, RUN)):
        with pytest.raises(DatasetError, match=f"^{store.path / file}: {problem}"):
            use()
    assert {path: path.read_bytes() for path in (store.path / "shards").iterdir()} == before


def test_a_shard_of_another_store_is_named(tmp_path, store):
    """Also if the index was made to fit it."""
    from wsolkern.cams import layout

    other = write(tmp_path / "other", range(12), manifest=PLAIN)
    shards = [*store.shards[:3], other.shards[3]]
    (store.path / shards[3].file).write_bytes((other.path / shards[3].file).read_bytes())
    layout.write_index(store.path, layout.manifest_sha256(RUN), shards)
    assert (
        CamStore(store.path).verify()[shards[3].file].startswith("belongs to another store: expected manifest sha256")
    )


def test_an_image_counts_once(tmp_path):
    """No writer puts it in twice, but a store may come from elsewhere."""
    from wsolkern.cams import layout

    store = write(tmp_path / "store", [0])
    first = next(store.records())
    sha256 = layout.manifest_sha256(RUN)
    other = first._replace(cams=first.cams + 1)
    shards = [*store.shards, layout.write_shard(store.path, 1, sha256, [other, other.pick([4])])]
    layout.write_index(store.path, sha256, shards)
    store = CamStore(store.path)
    found = collect(store.source(first.image_ids))
    np.testing.assert_array_equal([found[image_id] for image_id in first.image_ids], first.cams)
    assert store.image_ids == first.image_ids and store.num_maps == 11
    assert list(collect(store.source(first.image_ids[4:]))) == [first.image_ids[4]]
    problem = {shards[1].file: f"holds a second map of {first.image_ids[0]!r}"}
    assert store.verify() == problem
    with pytest.raises(DatasetError, match="damaged shards: (.|\n)*holds a second map"):
        CamWriter(store.path, RUN)
    assert repair_store(store.path) == problem
    assert by_id(write(store.path, [0]).records()) == by_id([first])


# SIGKILL at any moment.

NUM_KILLS, NUM_BATCHES = 55, 60


def work(path: Path, acknowledge: int) -> None:
    """What is killed: writes 300 maps in shards of 8, and tells a pipe which batches are safe after each flush."""
    with CamWriter(path, RUN, maps_per_shard=8) as writer:
        done = []
        for number in range(NUM_BATCHES):
            content = batch(number)
            rows = [row for row, each in enumerate(content["image_ids"]) if each not in writer.image_ids]
            if rows:
                content["image_ids"] = np.array(content["image_ids"], object)
                writer.add(**{name: values[rows] for name, values in content.items()})
            done.append(number)
            if number % 3 == 0:
                writer.flush()
                os.write(acknowledge, bytes(done))


def kill_again_and_again(folder: Path) -> None:
    """Starts a worker, kills it after a random time, starts it again; checks what is left each time."""
    rng, kills, stores = random.Random(0), 0, 0
    while kills < NUM_KILLS or stores == 0:
        path, safe = folder / str(stores), set()
        finished = False
        while not finished:
            ready, child_says = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(ready)
                work(path, child_says)
                os._exit(0)
            os.close(child_says)
            if kills < NUM_KILLS:
                time.sleep(rng.uniform(0, 0.1))  # seconds; undisturbed, all takes about 0.15
                os.kill(child, signal.SIGKILL)
            finished = os.waitpid(child, 0)[1] == 0
            kills += not finished
            with open(ready, "rb") as pipe:
                safe.update(pipe.read())
            if CamStore.is_at(path):
                store = CamStore(path)
                assert set(chain(*(batch(number)["image_ids"] for number in safe))) <= set(store.image_ids)
                assert len(store.image_ids) == store.num_maps and store.problems == {}
            else:
                assert not safe
        stores += 1
    print(kills, stores)


@pytest.mark.slow
def test_killed_writers_go_on(tmp_path):
    (tmp_path / "killed").mkdir()
    # In a process of its own: a light one that forks in a millisecond.
    command = "import sys, pathlib, test_store; test_store.kill_again_and_again(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", command, tmp_path / "killed"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kills, num_stores = map(int, done.stdout.split())
    assert kills >= 50 and num_stores >= 1
    undisturbed = by_id(write(tmp_path / "undisturbed", range(NUM_BATCHES)).records())
    for path in (tmp_path / "killed").iterdir():
        store = CamStore(path)
        assert by_id(store.records()) == undisturbed and store.verify() == {}
        files = {each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()}
        assert files == {"manifest.json", "index.json", *(shard.file for shard in store.shards)}


def test_what_a_killed_writer_left_is_removed(store):
    left = [store.path / name for name in ("index.json.unfinished", "shards/000004.safetensors.unfinished")]
    for path in (*left, store.path / "shards" / "000009.safetensors"):
        path.write_bytes(b"half")
    again = write(store.path, range(13))
    assert again.verify() == {} and again.num_maps == 65
    found = {path.relative_to(store.path).as_posix() for path in (store.path / "shards").iterdir()}
    assert found == {shard.file for shard in again.shards} and not left[0].exists()


def test_a_store_without_manifest_was_never_begun(tmp_path):
    store = write(tmp_path / "store", [])
    (store.path / "manifest.json").unlink()  # written last
    assert not CamStore.is_at(store.path)
    assert write(store.path, [0], manifest=PLAIN).manifest == PLAIN


# Several stores into one.


def test_merging_equals_writing_at_once(tmp_path, store):
    parts = [write(tmp_path / f"rank{rank}", range(rank, 12, 3)) for rank in range(3)]
    write(parts[0].path, [1])  # an image may be in two, if its maps are the same
    done = []
    assert merge_stores(tmp_path / "merged", [part.path for part in parts], progress=done.append) == {}
    merged = CamStore(tmp_path / "merged")
    assert by_id(merged.records()) == by_id(store.records()) and merged.verify() == {} and done[-1] == 65
    files = {path: path.read_bytes() for path in merged.path.rglob("*") if path.is_file()}
    assert merge_stores(merged.path, [part.path for part in parts]) == {}  # nothing is left to do
    assert {path: path.read_bytes() for path in merged.path.rglob("*") if path.is_file()} == files


def test_a_merge_goes_on(tmp_path, store):
    parts = [write(tmp_path / f"rank{rank}", range(rank, 12, 2)).path for rank in range(2)]
    merge_stores(tmp_path / "merged", parts[:1])
    merge_stores(tmp_path / "merged", parts)
    assert by_id(CamStore(tmp_path / "merged").records()) == by_id(store.records())


def test_merging_refuses_what_does_not_belong_together(tmp_path, store):
    out, other = tmp_path / "merged", write(tmp_path / "other", [20], manifest=PLAIN)
    with pytest.raises(DatasetError, match="other: holds another run than .*: expected nwc True, found False"):
        merge_stores(out, [store.path, other.path])
    with CamWriter(tmp_path / "changed", RUN) as writer:
        content = batch(3)
        writer.add(**batch(21))
        writer.add(**content | {"nwc_cams": content["nwc_cams"] + 1})
    with pytest.raises(DatasetError, match=f"image '{content['image_ids'][0]}': .*store and .*changed hold different"):
        merge_stores(out, [store.path, tmp_path / "changed"])
    assert CamStore(out).num_maps == 0
    with pytest.raises(DatasetError, match="store: expected another store to write than those to read"):
        merge_stores(store.path, [store.path])
    with pytest.raises(ValueError, match="stores: expected at least one, found none"):
        merge_stores(out, [])


def test_merging_leaves_damaged_shards_out(tmp_path, store):
    shard = store.shards[1]
    flip(store.path / shard.file)
    other = write(tmp_path / "other", [20])
    ((file, problem),) = merge_stores(tmp_path / "merged", [store.path, other.path]).items()
    assert file == str(store.path / shard.file) and problem.startswith("damaged")
    assert CamStore(tmp_path / "merged").num_maps == 60 - shard.num_maps + 5


# The command line.


def run(*arguments, code: int = 0):
    """Invokes a command in this process and checks its exit code."""
    from typer.testing import CliRunner

    from wsolkern.cli.store import app

    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    return done


def test_info(store):
    printed = run("info", store.path).stdout
    assert "VGG-16" in printed and "60: " in printed and "15 of 7x7" in printed
    found = json.loads(run("info", store.path, "--json", "-").stdout)
    assert found["manifest"]["method"] == "CAM" and found["num_maps"] == 60 and found["num_shards"] == 4
    assert found["sizes"] == {"7x7": 15, "14x14": 15, "5x9": 10, "1x1": 10, "28x28": 10} and found["damaged"] == {}
    assert found["bytes"] == sum((store.path / shard.file).stat().st_size for shard in store.shards)
    assert "no CAM store" in run("info", store.path / "shards", code=2).stderr


def test_verify_and_repair(tmp_path, store):
    other = write(tmp_path / "other", [0])
    assert run("verify", store.path, other.path).stdout.count("all is well") == 2
    shard = store.shards[1]
    flip(store.path / shard.file)
    edit(other.path / "manifest.json")
    assert f"{shard.file}: damaged" in run("info", store.path, code=1).stderr
    for options, expected in (
        ((), "1 damaged, which held 16 maps"),
        (("--repair",), "1 damaged, which held 16 maps and"),
    ):
        done = run("verify", other.path, store.path, *options, code=1)
        assert expected in done.stdout
        assert f"{store.path / shard.file}: damaged" in done.stderr
        assert f"{other.path / 'manifest.json'}: damaged or edited" in done.stderr
    assert "44 maps in 3 shards, all is well" in run("verify", store.path).stdout


def test_merge_command(tmp_path, store):
    parts = [write(tmp_path / f"rank{rank}", range(rank, 12, 2)) for rank in range(2)]
    assert "merged: 60 maps" in run("merge", tmp_path / "merged", *(part.path for part in parts)).stdout
    assert by_id(CamStore(tmp_path / "merged").records()) == by_id(store.records())
    flip(parts[0].path / parts[0].shards[0].file)
    run("merge", tmp_path / "rest", *(part.path for part in parts), code=1)
    assert "expected another store" in run("merge", parts[1].path, parts[1].path, code=2).stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_export_and_import_are_each_others_inverse(tmp_path, dtype):
    store = write(tmp_path / "store", range(6), manifest=PLAIN, dtype=dtype)
    run("export", store.path, tmp_path / "maps")
    np.testing.assert_array_equal(
        np.load(tmp_path / "maps" / f"{store.image_ids[0]}.npy"), store.read(store.image_ids[0]), strict=True
    )
    names = ("--dataset", "CUB", "--split", "test", "--method", "CAM", "--backbone", "VGG-16")
    assert "again: 30 maps" in run("import", tmp_path / "maps", tmp_path / "again", *names).stdout
    again = CamStore(tmp_path / "again")
    assert again.manifest.difference(PLAIN) is None and sorted(again.image_ids) == sorted(store.image_ids)
    for image_id in store.image_ids:
        cam = store.read(image_id)
        assert again.read(image_id).tobytes() == cam.tobytes() and again.read(image_id).dtype == cam.dtype == dtype


def test_nwc_maps_are_exported_when_asked_for(tmp_path, store):
    run("export", store.path, tmp_path / "nwc", "--nwc")
    image_id = store.image_ids[7]
    np.testing.assert_array_equal(np.load(tmp_path / "nwc" / f"{image_id}.npy"), store.read(image_id, nwc=True))
    plain = write(tmp_path / "plain", [0], manifest=PLAIN)
    assert "--nwc: " in run("export", plain.path, tmp_path / "no", "--nwc", code=2).stderr


def test_score_maps_count_as_their_cams_do(tmp_path):
    from wsolkern import Evaluator

    image_ids = [f"a/{row}.jpg" for row in range(20)]
    cams = np.random.default_rng(0).normal(size=(20, 7, 7)).astype(np.float32)
    with CamWriter(tmp_path / "cams", PLAIN) as writer:
        writer.add(image_ids, cams)
    run("export", tmp_path / "cams", tmp_path / "maps", "-n", "ivr:0.45")
    score_map = np.load(tmp_path / "maps" / "a" / "3.jpg.npy")
    assert score_map.dtype == np.float64 and score_map.shape == (224, 224) and score_map.max() == 1
    run("import", tmp_path / "maps", tmp_path / "scores", "--score-maps")
    assert CamStore(tmp_path / "scores").manifest.content == "score maps"
    boxes = {image_id: np.int32([[30, 40, 150, 170]]) for image_id in image_ids}
    from_cams, from_scores = Evaluator("ivr:0.45", boxes=boxes), Evaluator(None, boxes=boxes)
    from_cams.update(cams, image_ids)
    for batch_ids, maps in CamStore(tmp_path / "scores").source(image_ids).batches(8):
        from_scores.update(maps, batch_ids)
    assert from_scores.num_images == 20
    np.testing.assert_array_equal(from_scores.num_correct, from_cams.num_correct)
    assert "normalized already" in run("export", tmp_path / "scores", tmp_path / "no", "-n", "max", code=2).stderr
    run("export", tmp_path / "cams", tmp_path / "small", "-n", "max", "--size", "20x30")
    assert np.load(tmp_path / "small" / "a" / "3.jpg.npy").shape == (20, 30)


def test_import_lists_what_it_leaves_out_and_goes_on(tmp_path):
    folder, metadata = tmp_path / "maps", tmp_path / "metadata"
    (folder / "a").mkdir(parents=True)
    image_ids = [f"a/{row}.jpg" for row in range(6)]
    write_split(metadata, image_ids, size=(50, 40), box=(1, 2, 30, 35), label=lambda row: row + 10)
    for row in range(5):
        np.save(folder / "a" / f"{row}.npy", np.full((224, 224), 0.5 + 0.3 * (row == 2) * row))
    (folder / "a" / "3.npy").write_bytes(b"no map")
    command = "import", folder, tmp_path / "store", "--metadata", metadata, "--score-maps"
    done = run(*command, code=1)
    assert "store: 3 maps" in done.stdout and "3 of 6 maps were left out" in done.stderr
    for row, reason in ((2, "values in [0, 1]"), (3, "a/3.npy"), (5, "no map")):
        assert any(line.strip().startswith(f"a/{row}.jpg: ") and reason in line for line in done.stderr.splitlines())
    for row in (2, 3, 5):
        np.save(folder / "a" / f"{row}.npy", np.full((224, 224), 0.25))
    for row in (0, 1, 4):
        (folder / "a" / f"{row}.npy").unlink()  # they are in the store
    assert "store: 6 maps" in run(*command).stdout
    store = CamStore(tmp_path / "store")
    assert sorted(store.image_ids) == image_ids and store.read("a/4.jpg").min() == 0.5
    for part in store.records():
        assert part.classes.tolist() == [image_ids.index(image_id) + 10 for image_id in part.image_ids]
    assert "expected method None, found 'CAM'" in run(*command, "--method", "CAM", code=2).stderr


def test_import_of_nothing_is_an_error(tmp_path):
    (tmp_path / "maps").mkdir()
    assert "expected files that end in .npy" in run("import", tmp_path / "maps", tmp_path / "store", code=2).stderr
    assert not (tmp_path / "store").exists()
    (tmp_path / "maps" / "a.npy").write_bytes(b"no map")
    assert "none of 1 maps could be read; a: " in run("import", tmp_path / "maps", tmp_path / "store", code=2).stderr
    np.savez(tmp_path / "all.npz", a=np.zeros((2, 2)))
    assert "--metadata: needed" in run("import", tmp_path / "all.npz", tmp_path / "store", code=2).stderr


def test_export_writes_nothing_outside(tmp_path):
    """A store from elsewhere may hold any id."""
    from wsolkern.cams import layout

    store = write(tmp_path / "store", [0])
    sha256 = layout.manifest_sha256(RUN)
    part = next(store.records()).pick([0])._replace(image_ids=("../outside",))
    layout.write_index(store.path, sha256, [layout.write_shard(store.path, 0, sha256, [part])])
    assert "found '../outside'" in run("export", store.path, tmp_path / "maps", code=2).stderr
    assert not (tmp_path / "outside.npy").exists()


def test_export_leaves_damaged_shards_out(tmp_path, store):
    flip(store.path / store.shards[0].file)
    done = run("export", store.path, tmp_path / "maps", code=1)
    assert f"{store.shards[0].file}: damaged" in done.stderr
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 60 - store.shards[0].num_maps

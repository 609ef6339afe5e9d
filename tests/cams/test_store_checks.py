"""What stores are checked against: labels, ids under another spelling, files that others made; and how maps leave them.

In: small stores, whole and mended by hand. Out: figures, messages, exit codes.
Source: a store and the folder that it was imported from hold the same maps, and must give the same figures.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import shared
import torch
from test_store import PLAIN, RUN, batch, by_id, write
from typer.testing import CliRunner

from wsolkern.cams import CamStore, CamWriter, FileStamp, Manifest, layout, merge_stores, open_maps
from wsolkern.cli import app
from wsolkern.datasets import MapFolder, load_metadata
from wsolkern.errors import DatasetError

IDS = tuple(f"{'ab'[number % 2]}/{number}.jpg" for number in range(12))
LABELS = {image_id: number % 4 for number, image_id in enumerate(IDS)}
OF_LABELS = Manifest("cams", "CUB", "test", "CAM", "VGG16", preprocessing={"classes": "labels"})
CAMS = np.random.default_rng(0).normal(size=(12, 7, 7)).astype(np.float32)


def write_split(folder: Path, ids=IDS, labels=LABELS) -> Path:
    return shared.write_split(folder, ids, size=(28, 28), box=(2, 3, 20, 25), label=lambda row: labels[ids[row]])


@pytest.fixture
def split(tmp_path) -> Path:
    return write_split(tmp_path / "metadata" / "CUB" / "test")


def write_store(path: Path, ids=IDS, classes=None, manifest=OF_LABELS, cams=CAMS) -> Path:
    with CamWriter(path, manifest, maps_per_shard=5) as writer:
        writer.add(
            ids, cams[: len(ids)], classes=[LABELS[each] for each in IDS[: len(ids)]] if classes is None else classes
        )
    return path


def run(*arguments, code: int = 0):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def evaluate(maps: Path, split: Path, *options, code: int = 0):
    return run("evaluate", "--cams", maps, "--metadata", split, "--size", "28", "-n", "minmax", *options, code=code)


def figure(maps: Path, split: Path, *options, code: int = 0) -> dict:
    """All of the JSON that tells figures and what is missing."""
    content = json.loads(evaluate(maps, split, "--json", "-", *options, code=code).stdout)
    return {name: value for name, value in content.items() if name not in ("seconds", "maps", "provenance")}


# Stored classes against labels.

COMMANDS = {
    "evaluate": lambda store, root: ("evaluate", "--cams", store, "--metadata", root / "CUB/test"),
    "sweep": lambda store, root: ("sweep", store, "--metadata", root / "CUB/test"),
    "table": lambda store, root: ("table", store, "--metadata-root", root, "--ivr", "0.45"),
    "diagnose": lambda store, root: ("diagnose", store, "--metadata", root / "CUB/test"),
    "profile": lambda store, root: ("profile", store, "--metadata", root / "CUB/test", "-n", "max"),
    "select": lambda store, root: (
        *("select", "--val", store, "--val-metadata", root / "CUB/val"),
        *("--test", store, "--test-metadata", root / "CUB/test", "--num-bootstrap", "40"),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_cams_of_other_classes(tmp_path, split, name):
    ids = (*IDS, "val.jpg")
    classes = [LABELS[each] for each in IDS] + [0]
    write_split(tmp_path / "metadata/CUB/val", ("val.jpg",), {"val.jpg": 0})
    cams = np.concatenate([CAMS, CAMS[:1]])
    right = write_store(tmp_path / "right", ids, classes, cams=cams)
    size = () if name == "profile" else ("--size", "28")
    run(*COMMANDS[name](right, split.parent.parent), *size)
    wrong = write_store(tmp_path / "wrong", ids, [0, 1, 2, 3] * 2 + [3, 2, 1, 0, 0], cams=cams)
    done = run(*COMMANDS[name](wrong, split.parent.parent), *size, code=2)
    assert (
        done.stdout == ""
        and (
            f"error: {wrong}: the CAMs of 4 of 12 images are of other classes than {split / 'class_labels.txt'} says: "
            "'a/8.jpg': stored 3, label 0; 'b/9.jpg': stored 2, label 1; 'a/10.jpg': stored 1, label 2; "
            "'b/11.jpg': stored 0, label 3. The same wsolkern extract command makes just these again; or correct "
            "class_labels.txt\n"
        )
        in done.stderr
    )


def test_only_the_images_that_are_evaluated_are_compared(tmp_path, split):
    store = write_store(tmp_path / "store", classes=[3, *list(LABELS.values())[1:]])
    with pytest.raises(DatasetError, match=r"1 of 12 images .*: 'a/0.jpg': stored 3, label 0. The"):
        CamStore(store).check_split(load_metadata(split))
    evaluate(store, split, code=2)
    split.joinpath("image_ids.txt").write_text("".join(f"{each}\n" for each in IDS[1:]))
    evaluate(store, split)
    CamStore(store).check_split(load_metadata(split))


@pytest.mark.parametrize("preprocessing", [{}, {"classes": "predicted"}, {"size": [7, 7]}])
def test_cams_that_are_not_of_the_labels_are_not_compared(tmp_path, split, preprocessing):
    manifest = Manifest("cams", "CUB", "test", "CAM", "VGG16", preprocessing=preprocessing)
    evaluate(write_store(tmp_path / "store", classes=[3] * 12, manifest=manifest), split)


def test_unknown_classes_and_unknown_labels_are_not_compared(tmp_path, split):
    evaluate(write_store(tmp_path / "store", classes=[-1] * 12), split)
    wrong = write_store(tmp_path / "other", classes=[3] * 12)
    evaluate(wrong, split, code=2)
    split.joinpath("class_labels.txt").unlink()
    evaluate(wrong, split)


def test_a_resumed_evaluation_compares_what_it_has_counted_too(tmp_path, split):
    store, state = write_store(tmp_path / "store"), tmp_path / "state"
    evaluate(store, split, "--resume", state)
    evaluate(store, split, "--resume", state)
    split.joinpath("class_labels.txt").write_text("".join(f"{each},3\n" for each in IDS))
    evaluate(store, split, "--resume", state, code=2)


def test_damaged_shards_are_named_and_not_compared(tmp_path, split):
    """Not the class that damage made."""
    store = CamStore(write_store(tmp_path / "store"))
    path = store.path / store.shards[0].file
    content = bytearray(path.read_bytes())
    with safetensors.safe_open(path, framework="numpy") as file:
        place = content.index(file.get_tensor("classes").tobytes())
    content[place] ^= 2
    path.write_bytes(content)
    done = evaluate(store.path, split, code=1)
    assert "5 of 12 maps were left out" in done.stderr and "damaged: expected sha256" in done.stderr


def test_select_wants_val_and_test_apart(tmp_path, split):
    val = write_split(tmp_path / "metadata/CUB/val", IDS[:6])
    test = write_split(tmp_path / "metadata/CUB/rest", IDS[6:])
    both = write_store(tmp_path / "both")
    first, rest = (
        write_store(tmp_path / "first", IDS[:6]),
        write_store(tmp_path / "rest", IDS[6:], [LABELS[i] for i in IDS[6:]]),
    )

    def select(val, val_metadata, test, test_metadata, code):
        arguments = "--val", val, "--val-metadata", val_metadata, "--test", test, "--test-metadata", test_metadata
        return run("select", *arguments, "--size", "28", "-n", "minmax", "--num-bootstrap", "40", code=code).stderr

    select(first, val, rest, test, 0)
    select(both, val, both, test, 0)  # one store, other images
    message = select(rest, val, first, test, 2)
    assert (
        f"{rest}: has none of the 6 images of {val}, such as 'a/0.jpg'; it has 6 others, such as 'a/6.jpg', of "
        in message
    )
    assert "of dataset CUB, split test" in message
    for arguments in ((both, split, both, split), (both, split, first, split), (both, split, both, test)):
        assert "proves nothing" in select(*arguments, 2)
    assert "found 6 that are in" in select(both, split, both, test, 2)


def test_a_store_of_other_images_is_refused_at_once(tmp_path, split):
    store = write_store(tmp_path / "store", [f"other/{number}.jpg" for number in range(12)])
    message = evaluate(store, split, code=2).stderr
    assert message == (
        f"error: {store}: has none of the 12 images of {split}, such as 'a/0.jpg'; it has 12 others, such as "
        "'other/0.jpg', of dataset CUB, split test\n"
    )
    store = write_store(tmp_path / "spelled", [each.upper() for each in IDS])
    message = evaluate(store, split, code=2).stderr
    assert "'a/0.jpg' is 'A/0.JPG' there, and 11 more are spelled otherwise" in message
    assert "it is empty" in evaluate(write_store(tmp_path / "empty", []), split, code=2).stderr


# Ids: a store and its folder are alike.


@pytest.mark.parametrize("name", ["A/0.JPG", "a\\0.jpg", "a/0.jpeg", "a/0.jpg ", "./a/0.jpg"])
def test_an_id_under_another_spelling_is_shown(tmp_path, split, name):
    store = write_store(tmp_path / "store", [name, *IDS[1:]])
    message = evaluate(store, split, code=1).stderr
    assert f"a/0.jpg: not in the store {store}, but {name!r} is" in message
    with pytest.raises(DatasetError, match="but .* is"):
        CamStore(store).read("a/0.jpg")


def test_composed_and_decomposed_ids_are_shown(tmp_path):
    composed, apart = "Z\u00fcrich.jpg", "Zu\u0308rich.jpg"
    for number, (stored, wanted) in enumerate([(composed, apart), (apart, composed)]):
        split = write_split(tmp_path / f"split{number}", [wanted, "b.jpg"], {wanted: 0, "b.jpg": 0})
        store = write_store(tmp_path / f"store{number}", [stored, "b.jpg"], [0, 0])
        assert f"{wanted}: not in the store {store}, but {stored!r} is" in evaluate(store, split, code=1).stderr


def write_folder(folder: Path, names) -> Path:
    """Image ``names[i]`` has CAM i."""
    for number, name in enumerate(names):
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, CAMS[number])
    return folder


MIXED = [each if number % 3 else each.removesuffix(".jpg") for number, each in enumerate(IDS)]


@pytest.mark.parametrize("with_metadata", [False, True])
def test_a_folder_and_the_store_imported_from_it_give_the_same(tmp_path, split, with_metadata):
    """Names with and without the id's extension side by side."""
    maps = write_folder(tmp_path / "maps", MIXED)
    run("store", "import", maps, tmp_path / "store", *(("--metadata", split) if with_metadata else ()))
    expected = figure(maps, split)
    assert expected["num_images"] == 12 and figure(tmp_path / "store", split) == expected
    store = CamStore(tmp_path / "store")
    for number, image_id in enumerate(IDS):
        np.testing.assert_array_equal(store.read(image_id), CAMS[number], strict=True)
    found = {each: cam for ids, cams in store.source(IDS).batches(5) for each, cam in zip(ids, cams, strict=True)}
    assert set(found) == set(IDS) and all(np.array_equal(found[each], store.read(each)) for each in IDS)


def test_classes_are_compared_where_a_store_lacks_the_extension(tmp_path, split):
    evaluate(write_store(tmp_path / "right", MIXED), split)
    wrong = write_store(tmp_path / "wrong", MIXED, [3] * 12)
    assert "'a/0.jpg': stored 3, label 0" in evaluate(wrong, split, code=2).stderr


@pytest.mark.parametrize(
    ("names", "wanted", "siblings", "expected"),
    [
        (["a.jpg", "b"], ["a.jpg", "b.jpg"], (), {"a.jpg", "b.jpg"}),
        (["a.jpg", "a"], ["a.jpg"], (), set()),  # there twice
        (["a.jpg", "a"], ["a.jpg", "a"], (), {"a.jpg", "a"}),
        (["a"], ["a.jpg", "a.png"], (), set()),  # which one is it?
        (["a"], ["a.jpg"], ("a.png",), set()),
        (["a.jpg"], ["a"], (), set()),
        (["a.png"], ["a.jpg"], (), set()),
        (["a.b"], ["a.b.jpg"], (), {"a.b.jpg"}),
        (["a"], ["a.b.jpg"], (), set()),
        ([".a"], [".a"], (), {".a"}),
    ],
)
def test_stores_find_what_folders_find(tmp_path, names, wanted, siblings, expected):
    folder = MapFolder(write_folder(tmp_path / "maps", names), wanted, siblings=siblings)
    store = open_maps(write_store(tmp_path / "store", names, [0] * len(names)), wanted, siblings=siblings)
    for source in (folder, store):
        found = {each: cam for ids, cams in source.batches() for each, cam in zip(ids, cams, strict=True)}
        assert set(found) == expected and set(source.problems) == set(wanted) - expected
        for image_id, cam in found.items():
            number = names.index(image_id) if image_id in names else names.index(os.path.splitext(image_id)[0])
            np.testing.assert_array_equal(cam, CAMS[number])


def test_a_map_that_is_there_twice_is_said_to_be(tmp_path):
    store = CamStore(write_store(tmp_path / "store", ["a.jpg", "a"], [0, 0]))
    source = store.source(["a.jpg"])
    assert list(source.batches()) == [] and source.problems == {"a.jpg": "expected one map, found 'a.jpg' and 'a'"}
    with pytest.raises(DatasetError, match="image 'a.jpg': expected one map, found 'a.jpg' and 'a'"):
        store.read("a.jpg")


@pytest.mark.parametrize("wrong", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg"])
def test_import_reads_nothing_outside_its_folder(tmp_path, wrong):
    write_folder(tmp_path, ["x"])
    maps = write_folder(tmp_path / "maps", ["a/0"])
    split = write_split(tmp_path / "split", ["a/0.jpg", "wrong"], {"a/0.jpg": 0, "wrong": 0})
    for file in split.iterdir():
        file.write_text(file.read_text().replace("wrong", wrong))
    message = run("store", "import", maps, tmp_path / "store", "--metadata", split, code=2).stderr
    assert "image_ids.txt" in message and f"expected relative paths without '..', found {wrong!r}" in message
    assert not (tmp_path / "store").exists()


def test_import_notices_maps_and_labels_that_have_changed(tmp_path, split):
    maps = write_folder(tmp_path / "maps", MIXED)
    arguments = "store", "import", maps, tmp_path / "store", "--metadata", split
    run(*arguments)
    assert run(*arguments).stderr.count("again") == 0
    np.save(maps / f"{MIXED[2]}.npy", np.full((7, 7), 0.25, np.float32))
    os.utime(maps / f"{MIXED[2]}.npy", ns=(1, 1))
    labels = LABELS | {IDS[5]: 3}
    split.joinpath("class_labels.txt").write_text("".join(f"{each},{labels[each]}\n" for each in IDS))
    done = run(*arguments)
    assert "2 maps no longer fit and are imported again" in done.stderr and "store: 12 maps" in done.stdout
    assert (
        f"{IDS[2]}: was made from another file" in done.stderr
        and f"{IDS[5]}: is of class 1, the label is 3" in done.stderr
    )
    store = CamStore(tmp_path / "store")
    assert (store.read(IDS[2]) == 0.25).all() and store.record(IDS[5]).classes.tolist() == [3]
    np.testing.assert_array_equal(store.read(IDS[5]), CAMS[5])
    assert store.verify() == {} and run(*arguments).stderr.count("again") == 0
    np.savez(tmp_path / "one.npz", **dict(zip(IDS, CAMS, strict=True)))
    arguments = "store", "import", tmp_path / "one.npz", tmp_path / "archive", "--metadata", split
    run(*arguments)
    np.savez(tmp_path / "one.npz", **dict(zip(IDS, CAMS + 1, strict=True)))
    os.utime(tmp_path / "one.npz", ns=(1, 1))
    assert "12 maps no longer fit" in run(*arguments).stderr
    np.testing.assert_array_equal(CamStore(tmp_path / "archive").read(IDS[0]), CAMS[0] + 1)


# Maps that are scaled already.


def scaled(cams: np.ndarray, epsilon: float) -> np.ndarray:
    lowest = cams.min((1, 2), keepdims=True)
    return (cams - lowest) / np.float32(epsilon + (cams - lowest).max((1, 2), keepdims=True))


@pytest.mark.parametrize("kind", ["exact", "grad-cam", "with zeros"])
def test_maps_that_are_scaled_are_said_to_be(tmp_path, split, kind):
    cams = scaled(scaled(CAMS, 1e-7), 1e-7) if kind == "grad-cam" else scaled(CAMS, 0)
    if kind == "with zeros":
        cams[3] = 0
    store = write_store(tmp_path / "store", cams=cams)
    folder = tmp_path / "maps"
    run("store", "export", store, folder)
    note = "all maps span exactly [0, 1]: each was scaled before"
    assert f"{store}: {note}" in run("store", "info", store).stderr
    assert f"{store}: {note}" in evaluate(store, split).stderr and f"{folder}: {note}" in evaluate(folder, split).stderr
    assert evaluate(store, split).stderr.count(note) == 1
    for command in (
        ("sweep", store, "--metadata", split),
        ("diagnose", store),
        ("diagnose", store, "--metadata", split),
    ):
        assert run(*command, "--size", "28").stderr.count(note) == 1, command
    assert json.loads(run("store", "info", store, "--json", "-").stdout)["scaled"] is True


@pytest.mark.parametrize("kind", ["raw", "one is not", "below", "zeros", "nan"])
def test_other_maps_are_not(tmp_path, split, kind):
    cams = CAMS.copy() if kind == "raw" else np.zeros_like(CAMS) if kind == "zeros" else scaled(CAMS, 0)
    if kind in ("one is not", "below", "nan"):
        cams[7] *= {"one is not": 1.01, "below": 0.9999, "nan": np.nan}[kind]
    store = write_store(tmp_path / "store", cams=cams)
    assert "span exactly" not in run("store", "info", store).stderr + evaluate(store, split).stderr


def test_score_maps_need_no_note(tmp_path, split):
    manifest = Manifest("score maps", "CUB", "test")
    store = write_store(tmp_path / "store", manifest=manifest, cams=scaled(CAMS.astype(float), 0).clip(0, 1))
    assert "span exactly" not in run("store", "info", store).stderr
    done = run("evaluate", "--score-maps", store, "--metadata", split, "--size", "7")
    assert "span exactly" not in done.stderr


# 16 bits.


@pytest.mark.parametrize("dtype", ["numpy float16", "float16", "bfloat16"])
def test_16_bits_are_kept_to_the_bit_as_32(tmp_path, dtype):
    values = torch.from_numpy(CAMS)
    given = CAMS.astype(np.float16) if dtype == "numpy float16" else values.to(getattr(torch, dtype))
    expected = given.astype(np.float32) if dtype == "numpy float16" else given.float().numpy()
    logits = given[:, 0]
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.add(IDS, given, nwc_cams=given, logits=logits)
        writer.add(["mixed"], given[:1], nwc_cams=CAMS[:1])
    store = CamStore(tmp_path / "store")
    for row, image_id in enumerate(IDS):
        np.testing.assert_array_equal(store.read(image_id), expected[row], strict=True)
        np.testing.assert_array_equal(store.read(image_id, nwc=True), expected[row], strict=True)
        np.testing.assert_array_equal(
            store.record(image_id).top5_logits[0], np.sort(expected[row, 0])[::-1][:5], strict=True
        )


def test_import_takes_16_bits(tmp_path):
    write_folder(tmp_path / "maps", [])
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "a.npy", CAMS[0].astype(np.float16))
    np.savez(tmp_path / "maps" / "b.npz", CAMS[1].astype(np.float16))
    safetensors.numpy.save_file({"x": CAMS[2].astype(np.float16)}, tmp_path / "maps" / "c.safetensors")
    run("store", "import", tmp_path / "maps", tmp_path / "store")
    for row, name in enumerate("abc"):
        found = CamStore(tmp_path / "store").read(name)
        np.testing.assert_array_equal(found, CAMS[row].astype(np.float16).astype(np.float32), strict=True)


# Maps that leave.


def test_dropping_leaves_all_others(tmp_path):
    write(tmp_path / "store", range(6), maps_per_shard=7)
    before = by_id(CamStore(tmp_path / "store").records())
    ids = list(before)
    gone = {ids[0], ids[6], *ids[7:14], ids[29]}
    with CamWriter(tmp_path / "store", RUN, maps_per_shard=7) as writer:
        writer.drop(["not there"])
        assert len(list((tmp_path / "store/shards").iterdir())) == len(CamStore(tmp_path / "store").shards)
        content = batch(9)
        writer.add(**content)
        writer.drop([*gone, "not there", content["image_ids"][2]])
        assert gone.isdisjoint(writer.image_ids) and content["image_ids"][2] not in writer.image_ids
        for number in range(6):  # what is out may come in again
            content = batch(number)
            rows = [row for row, each in enumerate(content["image_ids"]) if each == ids[0]]
            if rows:
                writer.add(
                    **{
                        name: [value[row] for row in rows] if name == "image_ids" else value[rows]
                        for name, value in content.items()
                    }
                )
    store = CamStore(tmp_path / "store")
    after = by_id(store.records())
    assert {each: bits for each, bits in after.items() if each in before} == {
        each: bits for each, bits in before.items() if each not in gone - {ids[0]}
    }
    assert len(after) == 30 - len(gone) + 1 + 4 and store.verify() == {}
    files = {f"shards/{path.name}" for path in (tmp_path / "store/shards").iterdir()}
    assert files == {shard.file for shard in store.shards}
    with CamWriter(tmp_path / "store", RUN) as writer:
        writer.drop(list(after))
    assert CamStore(tmp_path / "store").num_maps == 0 and not list((tmp_path / "store/shards").iterdir())


def drop_and_add(path: Path) -> None:
    """Replaces all maps of every second image by zeros, a few at a time."""
    with CamWriter(path, PLAIN, maps_per_shard=3) as writer:
        for start in range(0, 12, 4):
            ids = IDS[start : start + 4 : 2]
            writer.drop(ids)
            writer.add(ids, np.zeros((2, 7, 7), np.float32))
            writer.flush()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_kills_while_maps_are_replaced_leave_a_whole_store(tmp_path, draws):
    store = write_store(tmp_path / "store", manifest=PLAIN)
    seen = set()
    for _ in range(40):
        process = multiprocessing.get_context("fork").Process(target=drop_and_add, args=(store,))
        process.start()
        time.sleep(draws.random() * 0.02)
        process.kill()
        process.join()
        found = CamStore(store)
        assert found.verify() == {}
        maps = {each: found.read(each) for each in found.image_ids}
        assert set(IDS[1::2]) <= set(maps)
        for number, image_id in enumerate(IDS):
            if image_id in maps:
                allowed = [CAMS[number]] if number % 2 else [CAMS[number], np.zeros((7, 7))]
                assert any(np.array_equal(maps[image_id], each) for each in allowed)
        seen.add(len(maps))
        with CamWriter(store, PLAIN) as writer:  # what was out when the kill came
            absent = [each for each in IDS if each not in writer.image_ids]
            if absent:
                writer.add(absent, np.zeros((len(absent), 7, 7), np.float32))
    drop_and_add(store)
    assert sum(not found.any() for found in map(CamStore(store).read, IDS)) == 6
    assert CamStore(store).verify() == {}


def test_a_drop_on_a_full_disk_drops_nothing(tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", manifest=PLAIN)
    before = by_id(CamStore(store).records())
    with CamWriter(store, PLAIN) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(layout, "write_whole", full_disk)
            with pytest.raises(OSError, match="No space left"):
                writer.drop(IDS[:1])
        assert by_id(CamStore(store).records()) == before and IDS[0] in writer.image_ids
        writer.drop(IDS[:1])
    assert set(CamStore(store).image_ids) == set(IDS[1:])


def full_disk(path, content):
    raise OSError(28, "No space left on device", str(path))


def test_merging_carries_files_and_classes(tmp_path):
    files = [
        FileStamp(number, number * 10**17, bytes([number]) * 32 if number % 2 else None) for number in range(1, 13)
    ]
    for name, rows in (("a", slice(0, 5)), ("b", slice(3, 12))):
        with CamWriter(tmp_path / name, OF_LABELS) as writer:
            writer.add(IDS[rows], CAMS[rows], classes=list(LABELS.values())[rows], files=files[rows])
    merge_stores(tmp_path / "out", [tmp_path / "a", tmp_path / "b"])
    store = CamStore(tmp_path / "out")
    for each, label, file in zip(IDS, LABELS.values(), files, strict=True):
        found = store.record(each)
        assert (found.classes[0], found.file_bytes[0], found.file_mtimes[0]) == (label, file.bytes, file.mtime_ns)
        assert found.file_sha256.tobytes() == (file.sha256 or bytes(32))


def test_merging_refuses_one_map_of_two_classes(tmp_path):
    for name, label in (("a", 1), ("b", 2)):
        write_store(tmp_path / name, IDS[:1], [label])
    with pytest.raises(DatasetError, match="image 'a/0.jpg': .* hold different maps of it"):
        merge_stores(tmp_path / "out", [tmp_path / "a", tmp_path / "b"])
    write_store(tmp_path / "c", IDS[:1], [1])
    merge_stores(tmp_path / "both", [tmp_path / "a", tmp_path / "c"])


def test_differences_of_runs_are_named_one_by_one():
    first = Manifest(dataset="CUB", preprocessing={"size": [224, 224], "mean": {"red": 1}, "nwc": 3})
    second = Manifest(dataset="CUB", preprocessing={"size": [448, 448], "mean": {"red": 2}, "flip": True}, versions={})
    assert first.difference(first) is None
    assert first.difference(second) == (
        "expected preprocessing.size [224, 224], found [448, 448]; expected preprocessing.mean.red 1, found 2; "
        "expected preprocessing.nwc 3, found none; expected no preprocessing.flip, found True"
    )


# Files that others made, with right checksums.


def reseal(path: Path, change) -> None:
    """Changes a manifest or an index, and makes its checksum right again."""
    content = json.loads(path.read_text())
    del content["sha256"]
    content = change(content) or content
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))


def deep(levels: int) -> list:
    found = []
    for _ in range(levels):
        found = [found]
    return found


def without(name: str, *path: str):
    def change(content):
        for each in path:
            content = content[each]
        del content[name]

    return change


MADE = {
    "no manifest": (layout.MANIFEST, without("manifest")),
    "no version": (layout.MANIFEST, without("version")),
    "other version": (layout.MANIFEST, lambda content: content.update(version=deep(50))),
    "extra key": (layout.MANIFEST, lambda content: content.update(more=1)),
    "manifest is a list": (layout.MANIFEST, lambda content: content.update(manifest=[1])),
    "manifest is null": (layout.MANIFEST, lambda content: content.update(manifest=None)),
    "missing field": (layout.MANIFEST, without("versions", "manifest")),
    "missing fields": (layout.MANIFEST, lambda content: content.update(manifest={})),
    "extra field": (layout.MANIFEST, lambda content: content["manifest"].update(more=1)),
    "field of another type": (layout.MANIFEST, lambda content: content["manifest"].update(nwc=1)),
    "list as content": (layout.MANIFEST, lambda content: content["manifest"].update(content=["cams"])),
    "deep": (layout.MANIFEST, lambda content: content["manifest"].update(preprocessing={"x": deep(200)})),
    "NaN": (layout.MANIFEST, lambda content: content["manifest"].update(preprocessing={"x": float("nan")})),
    "no shards": (layout.INDEX, without("shards")),
    "no manifest's hash": (layout.INDEX, without("manifest_sha256")),
    "extra index key": (layout.INDEX, lambda content: content.update(more=1)),
    "shards is a number": (layout.INDEX, lambda content: content.update(shards=3)),
    "shards is a dict": (layout.INDEX, lambda content: content.update(shards={"a": 1})),
    "shard is a string": (layout.INDEX, lambda content: content.update(shards=["x"])),
    "shard lacks a key": (layout.INDEX, lambda content: content["shards"][0].pop("bytes") and None),
    "shard has more": (layout.INDEX, lambda content: content["shards"][0].update(more=1)),
    "shard elsewhere": (layout.INDEX, lambda content: content["shards"][0].update(file="shards/../../x.safetensors")),
    "absolute shard": (layout.INDEX, lambda content: content["shards"][0].update(file="/etc/passwd")),
    "file is a number": (layout.INDEX, lambda content: content["shards"][0].update(file=3)),
    "sha256 is null": (layout.INDEX, lambda content: content["shards"][0].update(sha256=None)),
    "num_maps is a string": (layout.INDEX, lambda content: content["shards"][0].update(num_maps="5")),
    "num_maps is true": (layout.INDEX, lambda content: content["shards"][0].update(num_maps=True)),
    "num_maps is 0": (layout.INDEX, lambda content: content["shards"][0].update(num_maps=0)),
    "num_maps is huge": (layout.INDEX, lambda content: content["shards"][0].update(num_maps=10**30)),
    "bytes is a fraction": (layout.INDEX, lambda content: content["shards"][0].update(bytes=0.5)),
    "bytes is infinite": (layout.INDEX, lambda content: content["shards"][0].update(bytes=float("inf"))),
    "shard twice": (layout.INDEX, lambda content: content["shards"].append(content["shards"][0])),
}


@pytest.mark.parametrize("name", MADE)
def test_made_manifests_and_indexes_are_our_errors(tmp_path, name):
    file, change = MADE[name]
    store = write_store(tmp_path / "store")
    reseal(store / file, change)
    if file == layout.MANIFEST:  # and an index that names it
        content = json.loads((store / file).read_text())
        del content["sha256"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        reseal(store / layout.INDEX, lambda index: index.update(manifest_sha256=digest))
    with pytest.raises(DatasetError, match=f"{file}: "):
        CamStore(store)
    with pytest.raises(DatasetError, match=f"{file}: "):
        CamWriter(store, OF_LABELS)
    for command in ("info", "verify"):
        assert file in run("store", command, store, code=2 if command == "info" else 1).stderr


TEXTS = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep dict": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "huge number": b"1" * 10_000,
    "no UTF-8": b"\xff\xfe{}",
    "empty": b"",
    "a list": b"[]",
    "a string": b'"wsolkern"',
    "null": b"null",
    "zeros": bytes(100),
}


@pytest.mark.parametrize("file", [layout.MANIFEST, layout.INDEX])
@pytest.mark.parametrize("name", TEXTS)
def test_other_files_in_their_place_are_our_errors(tmp_path, name, file):
    store = write_store(tmp_path / "store")
    (store / file).write_bytes(TEXTS[name])
    with pytest.raises(DatasetError, match=f"{file}: (damaged: )?expected"):
        CamStore(store)


def test_a_huge_index_is_refused(tmp_path):
    store = write_store(tmp_path / "store")
    with open(store / layout.INDEX, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatasetError, match="index.json: expected at most 268,435,456 bytes, found more"):
        CamStore(store)


def test_a_deep_manifest_is_refused_when_it_is_made():
    for levels in (40, 100_000):
        with pytest.raises(ValueError, match="preprocessing: expected a dict with at most 32 levels in it"):
            Manifest(preprocessing={"x": deep(levels)})


def remake(store: Path, change) -> CamStore:
    """A store whose first shard holds other columns; its checksums are right."""
    _, sha256 = layout.read_manifest(store)
    first, *others = layout.read_index(store, sha256)
    path = store / first.file
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    metadata = change(tensors) or metadata
    content = safetensors.numpy.save(tensors, metadata=None if metadata == "none" else metadata)
    if isinstance(tensors.get("classes"), str):
        raise AssertionError
    path.write_bytes(content)
    shard = layout.Shard(first.file, hashlib.sha256(content).hexdigest(), first.num_maps, len(content))
    layout.write_index(store, sha256, [shard, *others])
    return CamStore(store)


def put(name: str, value):
    def change(tensors):
        tensors[name] = value(tensors) if callable(value) else value

    return change


SHARDS = {
    **{
        f"no {name}": (lambda tensors, name=name: tensors.pop(name) is None or None)
        for name in (
            "maps",
            "sizes",
            "image_ids",
            "classes",
            "top5_classes",
            "top5_logits",
            "file_bytes",
            "file_mtimes",
            "file_sha256",
        )
    },
    "classes of floats": put("classes", np.zeros(5)),
    "classes of 32 bits": put("classes", np.zeros(5, np.int32)),
    "too few classes": put("classes", np.zeros(4, np.int64)),
    "classes of two axes": put("classes", np.zeros((5, 1), np.int64)),
    "three top classes": put("top5_classes", np.zeros((5, 3), np.int64)),
    "times of floats": put("file_mtimes", np.zeros(5)),
    "short hashes": put("file_sha256", np.zeros((5, 16), np.uint8)),
    "maps of integers": put("maps", np.zeros(5 * 49, np.int32)),
    "maps of 16 bits": put("maps", np.zeros(5 * 49, np.float16)),
    "too few values": put("maps", np.zeros(5 * 49 - 1, np.float32)),
    "too many values": put("maps", np.zeros(5 * 49 + 1, np.float32)),
    "maps of two axes": put("maps", np.zeros((5, 49), np.float32)),
    "sizes of 0": put("sizes", np.zeros((5, 2), np.int32)),
    "negative sizes": put("sizes", np.full((5, 2), -7, np.int32)),
    "huge sizes": put("sizes", np.full((5, 2), 2**31 - 1, np.int32)),
    "sizes of one axis": put("sizes", np.full(10, 7, np.int32)),
    "sizes of floats": put("sizes", np.full((5, 2), 7.0, np.float32)),
    "six ids": put("image_ids", np.frombuffer(b"a\nb\nc\nd\ne\nf", np.uint8)),
    "no text": put("image_ids", np.frombuffer(b"a\nb\nc\nd\n\xff", np.uint8)),
    "no header": lambda tensors: "none",
    "header of no JSON": lambda tensors: {"wsolkern": "{"},
    "deep header": lambda tensors: {"wsolkern": "[" * 100_000 + "]" * 100_000},
    "header without hash": lambda tensors: {"wsolkern": "{}"},
    "header is a list": lambda tensors: {"wsolkern": "[]"},
}


@pytest.mark.parametrize("name", SHARDS)
def test_made_shards_cost_their_maps_only(tmp_path, split, name):
    store = remake(write_store(tmp_path / "store"), SHARDS[name])
    assert list(store.verify()) == ["shards/000000.safetensors"]
    done = evaluate(store.path, split, code=1)
    assert "5 of 12 maps were left out" in done.stderr
    with pytest.raises(DatasetError, match="damaged shards"):
        CamWriter(store.path, OF_LABELS)
    assert run("store", "verify", "--repair", store.path, code=1) and CamStore(store.path).num_maps == 7


def test_columns_of_later_versions_are_left_alone(tmp_path, split):
    store = write_store(tmp_path / "store")
    expected = figure(store, split)
    remade = remake(store, put("weather", np.zeros(3)))
    assert remade.verify() == {} and figure(store, split) == expected


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "U16", "BOOL", "F16", "C64", "X7"])
def test_dtypes_that_nobody_wrote_are_our_errors(tmp_path, split, dtype):
    store = write_store(tmp_path / "store")
    _, sha256 = layout.read_manifest(store)
    first, *others = layout.read_index(store, sha256)
    for column in ("maps", "classes", "file_bytes"):
        path = store / first.file
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header[column]["dtype"] = dtype
        text = json.dumps(header).encode()
        made = len(text).to_bytes(8, "little") + text + content[8 + length :]
        path.write_bytes(made)
        shard = layout.Shard(first.file, hashlib.sha256(made).hexdigest(), first.num_maps, len(made))
        layout.write_index(store, sha256, [shard, *others])
        assert list(CamStore(store).verify()) == [first.file]
        assert "5 of 12 maps were left out" in evaluate(store, split, code=1).stderr
        path.write_bytes(content)


def test_nwc_maps_that_the_manifest_promises_must_be_there(tmp_path):
    write(tmp_path / "store", [0, 1], maps_per_shard=5)
    store = remake(tmp_path / "store", lambda tensors: tensors.pop("nwc_maps") is None or None)
    assert "nwc_maps" in store.verify()["shards/000000.safetensors"]
    source = store.source(store.image_ids, nwc=True)
    assert sum(len(ids) for ids, _ in source.batches()) == 5


FILES = (layout.MANIFEST, layout.INDEX, "shards/000000.safetensors", ".lock")


@pytest.mark.slow
def test_other_things_in_a_files_place_hang_nobody(tmp_path):
    """In a process of its own, because a hang would not end with an exception."""
    stores = []
    for kind in ("fifo", "folder", "device"):
        for file in FILES:
            store = write_store(tmp_path / f"{kind}-{Path(file).name}")
            (store / file).unlink(missing_ok=True)
            if kind == "fifo":
                os.mkfifo(store / file)
            elif kind == "folder":
                (store / file).mkdir()
            else:
                (store / file).symlink_to("/dev/zero")
            stores.append(store)
    program = """
    import sys
    from wsolkern.cams import CamStore, CamWriter, repair_store
    from test_store_checks import OF_LABELS
    verify = lambda path: CamStore(path).verify()
    for path in sys.argv[1:]:
        print(end=path)
        for work in (verify, lambda path: CamWriter(path, OF_LABELS), repair_store):
            try:
                print(end=f" {work(path)}".replace(chr(10), " "))
            except (ValueError, OSError) as error:
                print(end=f" {error}".replace(chr(10), " "))
        print()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), *stores]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    for store, line in zip(stores, done.stdout.splitlines(), strict=True):
        name = store.name.partition("-")[2]
        assert line.startswith(f"{store} ") and line.removeprefix(str(store)).count(name) >= 2, line


# One writer at a time, also where workers live on.


def test_the_writer_of_the_readme_runs_twice_in_one_process_with_lasting_workers(tmp_path):
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, number):
            return f"{number}.jpg", torch.full((3, 8, 8), float(number))

    run = Manifest(dataset="CUB", split="test", method="CAM", backbone="VGG16")
    loaders = []
    for part in (range(3), range(6)):
        loader = DataLoader(
            Images(), batch_size=1, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
        )
        with CamWriter(tmp_path / "store", run) as writer:
            for names, images in loader:
                if names[0] not in writer.image_ids and int(names[0][0]) in part:
                    writer.add(list(names), images[:, 0])
        loaders.append(loader)  # whose workers live on
    assert set(CamStore(tmp_path / "store").image_ids) == {f"{number}.jpg" for number in range(6)}


def test_a_killed_writers_lock_ends_with_it_though_its_workers_live(tmp_path):
    program = """
    import os, sys, time
    import numpy as np
    from wsolkern.cams import CamWriter, Manifest
    writer = CamWriter(sys.argv[1], Manifest())
    writer.add(["a"], np.zeros((1, 2, 2), np.float32))
    writer.flush()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "store"], stdout=subprocess.PIPE
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)  # it lives
        with CamWriter(tmp_path / "store", Manifest()) as writer:
            assert writer.image_ids == {"a"}
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path):
    with (
        CamWriter(tmp_path / "store", PLAIN),
        pytest.raises(DatasetError, match=f"is writing this CAM store: process {os.getpid()} on"),
    ):
        CamWriter(tmp_path / "store", PLAIN)

"""A saved state knows what it counted: maps, masks and shards that changed since are refused, by name.

In: splits counted from folders, archives and stores, which change afterwards. Out: refusals, or the right counts.
Source: the Evaluator, fed with what is there at the end, is what a resumed count must equal.
"""

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern.cams import CamStore, CamWriter, Manifest, open_maps
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.files import stamp
from wsolkern.studies.counting import SplitCount, count_maps, evaluator_for, fingerprint, mask_files_of

IDS = [f"part/{index}.jpg" for index in range(12)]
NAMES = ("minmax", "ivr:0.3")
HOW = {"size": (16, 16), "thresholds": np.arange(0, 1, 0.05)}


def cam(index: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([index, seed]).normal(size=(4, 5)).astype(np.float32)


def grey(value: np.ndarray) -> Image.Image:
    return Image.fromarray(value.astype(np.uint8) * 255)


@pytest.fixture(params=["boxes", "masks"])
def there(request, tmp_path):
    """A folder with metadata/, masks/ and maps/; the last map is missing."""
    if request.param == "boxes":
        located = {"box": lambda i: (1, 2, 8 + i // 2, 9)}
    else:
        located = {"mask": "{}.png".format, "ignore": "{}_ignore.png".format}
        (tmp_path / "masks").mkdir()
        for index in range(len(IDS)):
            mask = np.random.default_rng(index).random((16, 16)) < 0.3
            grey(mask).save(tmp_path / "masks" / f"{index}.png")
            grey(~mask & (np.arange(16) < 3)).save(tmp_path / "masks" / f"{index}_ignore.png")
    write_split(tmp_path / "metadata", IDS, size=(16, 16), **located)
    (tmp_path / "maps" / "part").mkdir(parents=True)
    for index, image_id in enumerate(IDS[:-1]):
        np.save(tmp_path / "maps" / f"{image_id}.npy", cam(index))
    return tmp_path


def begin(there) -> SplitCount:
    split = load_metadata(there / "metadata")
    mask_root = there / "masks" if split.kind == "masks" else None
    evaluator = evaluator_for(split, NAMES, mask_root=mask_root, **HOW)
    job = fingerprint(split, mask_root, "maps")
    return SplitCount(evaluator, split.image_ids, job, mask_files=mask_files_of(split, mask_root))


def opened(there, counting: SplitCount, maps: str = "maps"):
    return open_maps(there / maps, counting.remaining, siblings=IDS)


def counted(there, maps: str = "maps") -> None:
    """Counts what is there into the file "state"."""
    counting = begin(there)
    counting.run(opened(there, counting, maps), state=there / "state")


def resumed(there, maps: str = "maps") -> SplitCount:
    counting = begin(there)
    counting.load(there / "state")
    counting.run(opened(there, counting, maps), state=there / "state")
    return counting


def whole(there, maps: str = "maps"):
    """The counts of all that is there now."""
    counting = begin(there)
    count_maps(counting.evaluator, opened(there, counting, maps))
    return counting.evaluator


def older(path, seconds: float = 10.0) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))


def test_what_did_not_change_goes_on(there):
    counted(there)
    again = resumed(there)
    assert again.remaining == (IDS[-1],) and again.evaluator == whole(there)
    np.save(there / "maps" / "part" / "11.npy", cam(11))  # a map that is new is no change
    last = resumed(there)
    assert last.remaining == () and last.evaluator == whole(there) and last.evaluator.num_images == 12
    assert resumed(there).evaluator == whole(there)


CHANGES = {
    "another_map_of_one_size": lambda path: np.save(path, cam(3, seed=1)),
    "a_larger_map": lambda path: np.save(path, np.zeros((9, 9), np.float32)),
    "an_older_file": older,
    "no_map": lambda path: path.unlink(),
    "two_maps": lambda path: shutil.copy2(path, path.with_name("3.npy")),
    "a_damaged_map": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_map_that_changed_is_refused(there, name):
    counted(there)
    older(there / "state")
    CHANGES[name](there / "maps" / f"{IDS[3]}.npy")
    with pytest.raises(ValueError, match="state: the maps of 1 images were changed, or removed, .*part/3.jpg; delete"):
        resumed(there)


def test_the_first_of_many_are_named(there):
    counted(there)
    for image_id in IDS[:-1]:
        older(there / "maps" / f"{image_id}.npy")
    with pytest.raises(ValueError, match="maps of 11 images .*: part/0.jpg, part/1.jpg, part/2.jpg, ...; delete the"):
        resumed(there)


@pytest.mark.parametrize("there", ["masks"], indirect=True)
@pytest.mark.parametrize("name", ["5.png", "5_ignore.png"])
@pytest.mark.parametrize("change", ["other", "gone"])
def test_a_mask_that_changed_is_refused(there, name, change):
    counted(there)
    if change == "other":
        grey(np.ones((16, 16), bool)).save(there / "masks" / name)
        older(there / "masks" / name)
    else:
        (there / "masks" / name).unlink()
    with pytest.raises(ValueError, match="state: the masks of 1 images were changed, or removed, .*: part/5.jpg; "):
        resumed(there)


def make_store(path, seed: int = 0, num: int = 11) -> None:
    with CamWriter(path, Manifest(dataset="d"), maps_per_shard=4) as writer:
        for index in range(num):
            writer.add([IDS[index]], cam(index, seed)[None])


def test_a_store_that_was_made_anew_is_refused(there):
    make_store(there / "store")
    counted(there, "store")
    assert resumed(there, "store").evaluator == whole(there, "store")
    shutil.rmtree(there / "store")
    make_store(there / "store")  # of the same maps
    assert resumed(there, "store").evaluator == whole(there, "store")
    shutil.rmtree(there / "store")
    make_store(there / "store", seed=1)
    with pytest.raises(ValueError, match="state: the maps of 11 images were changed"):
        resumed(there, "store")


def test_maps_that_a_store_gets_later_are_counted(there):
    make_store(there / "store", num=8)
    counted(there, "store")
    with CamWriter(there / "store", Manifest(dataset="d"), maps_per_shard=4) as writer:
        writer.add(IDS[8:], np.stack([cam(index) for index in range(8, 12)]))
    again = resumed(there, "store")
    assert again.remaining == () and again.evaluator == whole(there, "store")
    assert CamStore(there / "store").num_maps == 12


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_archive_that_changed_is_refused(there, suffix):
    import safetensors.numpy

    save = np.savez if suffix == ".npz" else lambda path, **maps: safetensors.numpy.save_file(maps, path)
    maps = f"all{suffix}"
    save(there / maps, **{each: cam(index) for index, each in enumerate(IDS[:-1])})
    counted(there, maps)
    assert resumed(there, maps).evaluator == whole(there, maps)
    older(there / maps)
    with pytest.raises(ValueError, match="state: the maps of 11 images were changed"):
        resumed(there, maps)


def test_a_source_of_ones_own_is_not_compared(there):
    class Source:
        problems: dict = {}

        def __init__(self, image_ids):
            self.image_ids = image_ids

        def batches(self, size):
            yield tuple(self.image_ids), np.stack([cam(IDS.index(each)) for each in self.image_ids])

    counting = begin(there)
    counting.run(Source(IDS[:6]), state=there / "state")
    again = begin(there)
    again.load(there / "state")
    again.run(Source(again.remaining))
    alone = begin(there)
    alone.run(Source(IDS))
    assert again.evaluator == alone.evaluator and again.remaining == ()


def test_states_of_the_version_before_are_refused(there):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("progress.json", json.dumps({"content": "wsolkern counts of a split", "version": 2}))
    (there / "state").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="state: .*of an older version.*; delete the file to start anew"):
        begin(there).load(there / "state")


@pytest.mark.slow
def test_a_state_stays_small(tmp_path):
    ids = [str(number) for number in range(100_000)]
    split = write_split(tmp_path, ids, size=(16, 16), box=(1, 2, 8, 9))
    evaluator = evaluator_for(load_metadata(split), NAMES, **HOW)

    class Source:
        problems: dict = {}

        def batches(self, size):
            for start in range(0, len(ids), 50_000):
                yield ids[start : start + 50_000], np.broadcast_to(np.float32(1), (50_000, 1, 1))

        def stamps(self, image_ids):
            return np.arange(1, len(image_ids) + 1, dtype=np.uint64)

        def changed(self, image_ids, stamps):
            return []

    counting = SplitCount(evaluator, ids, "job")
    counting.run(Source(), state=tmp_path / "state")
    assert (tmp_path / "state").stat().st_size < 100_000 * (8 + 16 + 1 / 8) + 20_000


def test_stamps_tell_times_and_sizes_apart(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    seen = {stamp([path]), stamp([]), stamp([path, path])}
    path.write_bytes(b"")
    other.write_bytes(b"123")
    for time_ns in range(1_700_000_000_000_000_000, 1_700_000_000_000_000_200):
        for content in (b"1", b"12", b"123"):
            path.write_bytes(content)
            os.utime(path, ns=(0, time_ns))
            seen |= {stamp([path]), stamp([path, other]), stamp([other, path])}
    assert len(seen) == 3 + 200 * 3 * 3 and 0 not in seen


def wsolkern(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_commands_refuse_what_changed(there, command):
    maps = ["--cams", there / "maps"] if command == "evaluate" else [there / "maps"]
    masks = ["--mask-root", there / "masks"] if (there / "masks").exists() else []
    how = ["--metadata", there / "metadata", "--size", 16, "-n", "minmax", "--allow-missing", *masks]
    first = wsolkern(command, *maps, *how, "--resume", there / "state")
    assert first.exit_code == 0
    assert wsolkern(command, *maps, *how, "--resume", there / "state").stdout == first.stdout
    np.save(there / "maps" / f"{IDS[0]}.npy", cam(0, seed=5))
    older(there / "maps" / f"{IDS[0]}.npy")
    found = wsolkern(command, *maps, *how, "--resume", there / "state")
    assert found.exit_code == 2 and found.stdout == ""
    assert "the maps of 1 images were changed" in found.stderr and "part/0.jpg" in found.stderr

"""What is done with CAM stores as functions of the library: values about what was read, written and left out.

In: generated CAM stores and folders of maps. Out: values whose dictionaries are those of the commands.
Source: the commands; the stores as :mod:`wsolkern.cams` reads them.
"""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cli import app
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.ops import normalize
from wsolkern.studies import stores

NAMES = [f"a/{each}.jpg" for each in range(5)]
MAPS = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)


def write(path, names=NAMES, maps=MAPS) -> None:
    with CamWriter(path, Manifest(method="CAM"), maps_per_shard=2) as writer:
        writer.add(names, maps)


def damage(path) -> str:
    """Turns a bit of the second shard; gives its file."""
    file = CamStore(path).shards[1].file
    content = bytearray((path / file).read_bytes())
    content[-1] ^= 1
    (path / file).write_bytes(content)
    return file


class Told(list):
    """A progress callback."""

    def __call__(self, what: str, done: int, total: int) -> None:
        self.append((what, done, total))


def test_info_is_what_the_command_writes(tmp_path):
    write(tmp_path / "store")
    told = Told()
    found = stores.info(tmp_path / "store", progress=told)
    assert (found.num_maps, found.num_shards, found.sizes, found.damaged) == (5, 3, {"3x4": 5}, {})
    assert told == [("reading", done, 5) for done in (2, 4, 5)] and not found.warnings
    printed = CliRunner().invoke(app, ["store", "info", str(tmp_path / "store"), "--json", "-"]).stdout
    assert json.loads(printed) == json.loads(json.dumps(found.to_dict()))
    assert stores.info(tmp_path / "store").damaged == {}
    file = damage(tmp_path / "store")
    assert list(stores.info(tmp_path / "store").damaged) == [file]


def test_info_warns_of_maps_that_were_scaled(tmp_path):
    maps = (MAPS - MAPS.min(axis=(1, 2), keepdims=True)) / np.ptp(MAPS, axis=(1, 2), keepdims=True)
    write(tmp_path / "store", maps=maps.astype(np.float32))
    assert "all maps span exactly [0, 1]" in stores.info(tmp_path / "store").warnings[0]


def test_verify_counts_what_is_lost_and_repair_takes_it_out(tmp_path):
    write(tmp_path / "store")
    assert stores.verify(tmp_path / "store").to_dict()["damaged"] == {}
    file, told = damage(tmp_path / "store"), Told()
    found = stores.verify(tmp_path / "store", progress=told)
    assert (list(found.damaged), found.num_lost, found.num_maps, found.repaired) == ([file], 2, 5, False)
    assert told[-1] == ("reading store", 3, 5)
    assert stores.verify(tmp_path / "store", repair=True).num_lost == 2
    assert stores.verify(tmp_path / "store").num_maps == CamStore(tmp_path / "store").num_maps == 3


def test_merge(tmp_path):
    write(tmp_path / "one", NAMES[:3], MAPS[:3])
    write(tmp_path / "two", NAMES[2:], MAPS[2:])
    told = Told()
    found = stores.merge(tmp_path / "both", [tmp_path / "one", tmp_path / "two"], progress=told)
    assert found.to_dict() == {"path": str(tmp_path / "both"), "num_maps": 5, "num_all": 6, "problems": {}}
    assert told[-1] == ("merging", 6, 6)
    np.testing.assert_array_equal(CamStore(tmp_path / "both").read(NAMES[4]), MAPS[4])


def test_export_and_import(tmp_path):
    write(tmp_path / "store")
    told = Told()
    found = stores.export(tmp_path / "store", tmp_path / "maps", progress=told)
    assert (found.num_maps, found.num_all, found.problems) == (5, 5, {}) and told[-1] == ("exporting", 5, 5)
    np.save(tmp_path / "maps" / "b.npy", np.zeros((2, 2), "U1"))
    told = Told()
    found = stores.import_folder(tmp_path / "maps", tmp_path / "again", method="CAM", progress=told)
    assert (found.num_maps, found.num_all, list(found.problems)) == (5, 6, ["b"])
    assert told[0] == ("importing", 0, 6) and told[-1][2] == 6
    assert CamStore(tmp_path / "again").manifest.method == "CAM"
    np.testing.assert_array_equal(CamStore(tmp_path / "again").read(NAMES[1]), MAPS[1])
    damage(tmp_path / "store")
    found = stores.export(tmp_path / "store", tmp_path / "scores", "max", size=(8, 9))
    assert (found.num_maps, found.num_all, len(found.problems)) == (3, 5, 1)
    np.testing.assert_array_equal(
        np.load(tmp_path / "scores" / f"{NAMES[0]}.npy"), normalize(MAPS[:1], "max", (8, 9))[0]
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda at: stores.export(at / "store", at / "store" / "maps"), DatasetError, "folder outside of the store"),
        (lambda at: stores.import_folder(at / "store", at / "x"), DatasetError, "is a CAM store already"),
        (lambda at: stores.import_folder(at / "maps", at / "maps" / "x"), DatasetError, "a store outside of"),
        (lambda at: stores.import_folder(at / "maps" / "a.npy", at / "x"), ArgumentError, "metadata: needed for image"),
        (lambda at: stores.import_folder(at / "maps", at / "x"), DatasetError, "none of 1 maps could be read; a: "),
        (lambda at: stores.info(at / "maps"), DatasetError, "no CAM store"),
    ],
    ids=["export_into_itself", "import_of_a_store", "import_into_itself", "one_file", "nothing_readable", "no_store"],
)
def test_what_is_refused(tmp_path, call, error, message):
    write(tmp_path / "store")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.npy").write_bytes(b"no map")
    with pytest.raises(error, match=message):
        call(tmp_path)

"""What a result says it was made of and with.

In: studies of a small world. Out: hashes that are those of the files, the same bytes each time, refused damages.
Source: the hashes that the files hold themselves.
"""

import inspect
import json
import shutil

import numpy as np
import pytest
from small_world import STUDIES, split_of

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter
from wsolkern.metrics import Protocol
from wsolkern.studies.provenance import Data, Provenance, protocol_dict, protocol_of


def as_json(content: dict) -> dict:
    return json.loads(json.dumps(content))


def test_a_result_is_the_same_each_time_but_for_seconds(world, study):
    first, second = (STUDIES[study](world).to_dict() for _ in range(2))
    for each in (first, second):
        each.pop("seconds", None)
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_hashes_are_those_of_the_files(world, study):
    made = STUDIES[study](world).to_dict()["provenance"]
    assert made["study"] == {"folder": "evaluate", "masks": "evaluate"}.get(study, study)
    assert made["backend"].startswith("cpu-") and set(made["versions"]) == {"wsolkern", "python", "numpy"}
    names = {"select": ["CUB/val", "CUB/test"], "table": ["CUB/test", "OpenImages/test", "CUB/val"]}
    for entry, name in zip(
        made["data"],
        names.get(study, {"sweep": ["CUB/val"], "masks": ["OpenImages/test"]}.get(study, ["CUB/test"])),
        strict=True,
    ):
        store = world / name.replace("/", "-")
        assert entry["metadata_sha256"] == split_of(world, name).sha256()
        assert entry["metadata"] == str(world / "metadata" / name)
        if study == "folder":
            assert entry["maps"] == str(world / "maps") and entry["manifest_sha256"] is entry["index_sha256"] is None
            continue
        assert entry["maps"] == str(store)
        for file in ("manifest", "index"):
            assert entry[f"{file}_sha256"] == json.loads((store / f"{file}.json").read_text())["sha256"]
        assert entry["nwc"] == (study == "sweep" or (study == "table" and name != "CUB/val"))
        assert entry["mask_root"] == (str(world) if name == "OpenImages/test" else None)


# What of a study's arguments changes no figure, or is in its data or its protocol.
ELSEWHERE = {
    *("maps", "split", "val", "val_split", "test", "test_split", "mask_root", "load", "device", "resume", "progress"),
    *("normalizations", "size", "thresholds", "iou_thresholds", "box_rule", "ranks", "by"),
}


@pytest.mark.parametrize("name", ["evaluate", "select", "table"])
def test_every_argument_is_recorded(world, name):
    """A new argument of a study that changes figures goes into its provenance."""
    made = STUDIES[name](world).to_dict()["provenance"]
    known = {*made["arguments"], *made["data"][0], *ELSEWHERE}
    assert set(inspect.signature(getattr(studies, name)).parameters) <= known


def test_what_was_read_back_is_what_was_written(world, study):
    made = STUDIES[study](world).provenance
    assert Provenance.from_dict(as_json(made.to_dict())).to_dict() == as_json(made.to_dict())


GRIDS = {
    "0.001": (np.arange(0, 1, 0.001), {"interval": 0.001}),
    "one": (np.array([0.0]), {"interval": 1.0}),
    "0.3": (np.arange(0, 1, 0.3), {"interval": 0.3}),
    "tiny_first_step": (np.array([0, 1e-300, 0.5]), [0, 1e-300, 0.5]),
    "two": (np.array([0.2, 0.4]), [0.2, 0.4]),
    "nearly": (np.array([0, 0.25, 0.5, np.nextafter(0.75, 1)]), [0, 0.25, 0.5, np.nextafter(0.75, 1)]),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_thresholds_come_back_to_the_bit(grid):
    thresholds, kept = GRIDS[grid]
    for protocol in (Protocol("max ivr:0.1", thresholds=thresholds, size=(24, 32)), Protocol(None)):
        content = as_json(protocol_dict(protocol))
        assert protocol_of(content) == protocol
    assert as_json(protocol_dict(Protocol(thresholds=thresholds)))["thresholds"] == kept


def test_other_maps_have_another_index(world, tmp_path):
    shutil.copytree(world / "CUB-test", tmp_path / "store")
    before = CamStore(tmp_path / "store")
    with CamWriter(tmp_path / "store", before.manifest) as writer:
        writer.add(["another.jpg"], np.zeros((1, 7, 7), np.float32), nwc_cams=np.zeros((1, 7, 7), np.float32))
    after = CamStore(tmp_path / "store")
    assert (before.manifest_sha256, before.index_sha256) != (after.manifest_sha256, after.index_sha256)
    assert before.manifest_sha256 == after.manifest_sha256


@pytest.fixture(scope="module")
def made(world) -> dict:
    """The provenance of an evaluation."""
    return as_json(STUDIES["evaluate"](world).provenance.to_dict())


@pytest.mark.parametrize("name", ["study", "data", "protocol", "arguments", "backend", "versions"])
@pytest.mark.parametrize("value", [None, 3, [1], ["a"]], ids=str)
def test_a_damaged_field_is_named(made, name, value):
    content = made
    for change in ({**content, name: value}, {key: each for key, each in content.items() if key != name}):
        with pytest.raises(ValueError, match=f"provenance: {name}"):
            Provenance.from_dict(change)


@pytest.mark.parametrize("name", Data.__annotations__)
def test_a_damaged_entry_is_named(made, name):
    content = as_json(made)
    content["data"][0][name] = 0.5
    with pytest.raises(ValueError, match=rf"provenance: data\[0\]: {name}: expected .*, found 0.5"):
        Provenance.from_dict(content)
    del content["data"][0][name]
    with pytest.raises(ValueError, match=rf"provenance: data\[0\]: {name}"):
        Provenance.from_dict(content)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 3},
        {"size": None},
        {"thresholds": {"interval": "a"}},
        {"thresholds": {}},
        {"other": 1},
        {"size": [0, 1]},
    ],
    ids=str,
)
def test_a_damaged_protocol_is_refused(change):
    with pytest.raises(ValueError, match="protocol|size"):
        protocol_of({**protocol_dict(Protocol()), **change})

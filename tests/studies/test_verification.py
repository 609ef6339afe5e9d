"""Whether a result holds: one that was made here or elsewhere does, one that was edited or whose data changed does not.

In: results of studies of a small world, as files. Out: what differs, by name; refused files.
Source: the studies themselves.
"""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import slow_but
from small_world import HOW, NUM_IMAGES, STUDIES, split_of
from typer.testing import CliRunner

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter
from wsolkern.cli import app
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics import Protocol
from wsolkern.studies.sampling import Sample
from wsolkern.studies.verification import verify

MADE_AGAIN = ["folder", "select", "table"]


def written(path: Path, content: dict) -> Path:
    path.write_text(json.dumps(content, sort_keys=True))
    return path


@pytest.fixture(scope="module")
def contents(world) -> dict[str, dict]:
    """What each study writes."""
    found = {name: json.loads(json.dumps(study(world).to_dict())) for name, study in STUDIES.items()}
    curves = STUDIES["evaluate"](world).to_dict(curves=True)
    return found | {"curves": json.loads(json.dumps(curves))}


def states(found) -> dict[str, str]:
    return {each.what: each.state for each in found.checks}


def differing(found) -> dict[str, str]:
    return {each.what: each.detail for each in found.checks if each.state == "differs"}


@pytest.mark.parametrize("name", [*STUDIES, "curves"])
def test_what_was_made_here_holds(contents, name, tmp_path):
    found = verify(written(tmp_path / "a.json", contents[name]))
    assert found.holds and differing(found) == {}
    noted = {each.what.partition(" ")[0] for each in found.checks if each.state == "noted"}
    assert noted == {"folder": {"maps"}, "masks": {"masks"}, "table": {"masks"}}.get(name, set())
    assert found.to_dict()["holds"] is True and found.to_dict()["checks"][0]["state"] == "agrees"


@pytest.mark.parametrize("study", slow_but(["evaluate", "masks", "select"], STUDIES))
def test_what_was_made_elsewhere_holds(world, study, tmp_path):
    """The data moved: that is said, and with the new places all agrees."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(world, old)
    result = written(tmp_path / "a.json", STUDIES[study](old).to_dict())
    old.rename(new)
    with pytest.raises(ArgumentError, match="the result was made of .*old.*, found nothing at"):
        verify(result)
    moved = {"maps": {str(old): new}, "metadata": {str(old): new}}
    if study in ("masks", "table"):
        moved["mask_root"] = new
    assert differing(verify(result, **moved)) == {}
    if study not in ("select", "table"):
        entry = json.loads(result.read_text())["provenance"]["data"][0]
        places = {name: new / Path(entry[name]).relative_to(old) for name in ("maps", "metadata")}
        assert verify(result, **moved | places).holds


def leaves(value, path=()):
    """The places of all values but of what names places, times and versions."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            if name not in ("provenance", "wsolkern", "seconds", "maps", "metadata", "store", "thresholds"):
                yield from leaves(each, (*path, name))
    else:
        yield path


def edited(content: dict, path: tuple) -> dict:
    """The same with one value changed, a float by its last bit."""
    content = copy.deepcopy(content)
    place = content
    for name in path[:-1]:
        place = place[name]
    value = place[path[-1]]
    if isinstance(value, bool):
        place[path[-1]] = not value
    elif isinstance(value, float):
        place[path[-1]] = float(np.nextafter(value, 1e9))
    elif isinstance(value, int):
        place[path[-1]] = value + 1
    else:
        place[path[-1]] = f"{value}x"
    return content


@pytest.mark.parametrize("name", slow_but(["evaluate", "select"], [*STUDIES, "curves"]))
def test_a_number_that_was_edited_is_found(contents, name, tmp_path, draws):
    """Any of the values, some at each run."""
    for path in draws.sample(list(leaves(contents[name])), 6):
        found = verify(written(tmp_path / "a.json", edited(contents[name], path)))
        assert not found.holds, path
        assert any(str(path[-1]) in each or str(path[0]) in each for each in [str(differing(found))]), path


def test_what_was_left_out_or_added_is_found(contents, tmp_path):
    content = copy.deepcopy(contents["evaluate"])
    del content["normalizations"][1]
    assert "ivr:0.3" in differing(verify(written(tmp_path / "a.json", content)))
    content = copy.deepcopy(contents["evaluate"])
    content["normalizations"][0]["max_box_acc_v3"] = 99.0
    detail = differing(verify(written(tmp_path / "a.json", content)))["minmax"]
    assert detail == "max_box_acc_v3: recorded 99.0, made again there is none"
    del content["normalizations"][0]["max_box_acc_v3"], content["normalizations"][0]["num_degenerate"]
    found = differing(verify(written(tmp_path / "a.json", content)))
    assert found == {"minmax": "1 of 20 values are not in the file, such as num_degenerate"}


def test_other_versions_decide_nothing(contents, tmp_path):
    """A later version may know more figures; those that are recorded must be the same."""
    content = copy.deepcopy(contents["evaluate"])
    content["provenance"]["versions"] = {"wsolkern": "0.0.1", "numpy": "1.26.4"}
    content["provenance"]["backend"] = "cuda"
    del content["normalizations"][0]["num_degenerate"]
    found = verify(written(tmp_path / "a.json", content))
    assert found.holds and states(found)["versions"] == states(found)["minmax"] == "noted"
    detail = {each.what: each.detail for each in found.checks}
    assert detail["versions"].startswith("made with wsolkern 0.0.1, python unknown, numpy 1.26.4; here wsolkern ")


def change_a_box(world: Path) -> None:
    path = world / "metadata/CUB/test/localization.txt"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first.rpartition(",")[0] + ",47", *others]) + "\n")


def add_a_map(world: Path) -> None:
    store = CamStore(world / "CUB-test")
    with CamWriter(store.path, store.manifest) as writer:
        writer.add(["another.jpg"], np.zeros((1, 7, 7), np.float32), nwc_cams=np.zeros((1, 7, 7), np.float32))


def take_another_run(world: Path) -> None:
    maps = CamStore(world / "CUB-test")
    records = [maps.read(each) for each in maps.image_ids]
    shutil.rmtree(world / "CUB-test")
    with CamWriter(world / "CUB-test", CamStore(world / "CUB-val").manifest) as writer:
        writer.add(list(maps.image_ids), np.stack(records), nwc_cams=np.stack(records))


def change_a_map(world: Path) -> None:
    for each in list((world / "maps").iterdir())[:5]:
        np.save(each, -np.load(each))


def change_the_mask(world: Path) -> None:
    Image.fromarray(np.full((48, 60), 255, np.uint8)).save(world / "mask.png")


CHANGES = {  # study, what is done, the checks that must differ, what one of them says
    "a_box": ("evaluate", change_a_box, {"metadata"}, "changed: sha256"),
    "a_map_more": ("evaluate", add_a_map, {"maps"}, "changed: sha256"),
    "another_run": ("evaluate", take_another_run, {"maps"}, "the store of another run"),
    "maps_of_a_folder": ("folder", change_a_map, {"max"}, "recorded"),
    "a_mask": ("masks", change_the_mask, {"max"}, "peak_iou: recorded"),
    "a_box_of_select": ("select", change_a_box, {"metadata"}, "changed"),
    "a_store_of_a_table": ("table", take_another_run, {"maps"}, "another run"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_data_that_changed_is_named(world, case, tmp_path):
    study, change, expected, text = CHANGES[case]
    shutil.copytree(world, tmp_path / "world")
    result = written(tmp_path / "a.json", STUDIES[study](tmp_path / "world").to_dict())
    assert verify(result).holds
    change(tmp_path / "world")
    try:
        found = differing(verify(result))
    except ValueError as error:  # a table notices by itself that a store is of another split
        assert case == "a_store_of_a_table" and "split" in str(error)
        return
    assert expected <= {each.partition(" ")[0] for each in found} and text in str(found)


def before_hashes(content: dict) -> dict:
    return {name: value for name, value in content.items() if name != "provenance"}


@pytest.mark.parametrize("name", ["evaluate", "folder", "masks", "curves"])
def test_a_result_of_an_older_version_says_what_cannot_be_checked(world, contents, name, tmp_path):
    how = {"thresholds": np.arange(0, 1, 0.001)}
    content = json.loads(json.dumps(STUDIES[name](world, **how).to_dict())) if name != "curves" else contents[name]
    del content["box_format"]
    roots = {"mask_root": world} if name == "masks" else {}
    result = written(tmp_path / "a.json", before_hashes(content))
    found = verify(result, **roots)
    assert found.holds
    noted = {each.what.partition(" ")[0]: each.detail for each in found.checks if each.state == "noted"}
    assert {"metadata", "maps", "protocol"} <= set(noted) and "no hash was recorded" in noted["maps"]
    assert ("thresholds in steps of 0.001" in noted["protocol"]) == (name != "curves")
    wrong = edited(before_hashes(content), ("normalizations", 0, "num_degenerate"))
    assert not verify(written(tmp_path / "b.json", wrong), **roots).holds
    if roots:
        with pytest.raises(ArgumentError, match="mask_root"):
            verify(result)


def with_data(content: dict, **fields) -> dict:
    """A result with other fields of the data that it was made of."""
    content = copy.deepcopy(content)
    content["provenance"]["data"][0] |= fields
    return content


def with_arguments(content: dict, **arguments) -> dict:
    content = copy.deepcopy(content)
    content["provenance"]["arguments"] |= arguments
    return content


REFUSED = {
    "no_json": (lambda contents: "{", "expected the JSON of a result, found other content"),
    "no_text": (lambda contents: "\x00\xff", "expected the JSON of a result"),
    "deep": (lambda contents: "[" * 200_000, "expected the JSON of a result"),
    "a_list": (lambda contents: "[]", "expected the JSON of a result, found a list"),
    "nothing": (lambda contents: {}, "expected the JSON of evaluate, sweep, select or table, found other content"),
    "doctor": (lambda contents: {"findings": []}, "found other content"),
    "another_study": (
        lambda contents: {"provenance": contents["evaluate"]["provenance"] | {"study": "diagnose"}},
        "found that of 'diagnose'",
    ),
    "no_data": (lambda contents: {"provenance": contents["evaluate"]["provenance"] | {"data": []}}, "found 0 entries"),
    "provenance": (
        lambda contents: contents["evaluate"] | {"provenance": 3},
        "provenance: expected an object, found 3",
    ),
    "one_more_argument": (
        lambda contents: with_arguments(contents["evaluate"], resume="state"),
        "provenance: arguments: expected with_logits, at, found with_logits, at, resume",
    ),
    "an_argument": (lambda contents: with_arguments(contents["select"], seed="x"), "arguments: seed: found 'x'"),
    "layouts": (lambda contents: with_arguments(contents["table"], layouts=["three"]), "layouts: expected some of"),
    "runs": (lambda contents: with_arguments(contents["table"], runs=[3]), "runs: expected texts"),
    "ivr": (lambda contents: with_arguments(contents["table"], ivr=[["CUB", 0.4]]), "ivr: expected data set"),
    "a_box_format": (
        lambda contents: with_data(contents["evaluate"], box_format="yxyx"),
        r"provenance: data\[0\]: box_format: expected xyxy",
    ),
    "a_box_rounding_before_hashes": (
        lambda contents: before_hashes(contents["evaluate"]) | {"box_rounding": "n(ne"},
        "damaged.*box_rounding: expected none",
    ),
    "thresholds_of_logits_that_are_not_there": (
        lambda contents: with_arguments(contents["folder"], at="gt-known"),
        "cannot be made again: at: needs boxes and a CAM store",
    ),
    "select_before_hashes": (lambda contents: before_hashes(contents["select"]), "older version .* run the study anew"),
    "table_before_hashes": (lambda contents: before_hashes(contents["table"]), "older version .* run the study anew"),
    "rows_before_hashes": (
        lambda contents: before_hashes(contents["evaluate"]) | {"normalizations": 3},
        "damaged, or no result of a study",
    ),
    "size_before_hashes": (lambda contents: before_hashes(contents["evaluate"]) | {"size": 3}, "damaged"),
    "names_before_hashes": (
        lambda contents: before_hashes(contents["evaluate"]) | {"normalizations": [{"normalization": "maximum"}]},
        "damaged.*maximum",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_result_is_refused(contents, case, tmp_path, monkeypatch):
    make, message = REFUSED[case]
    content = make(contents)
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DatasetError, match=f"a.json: .*{message}"):
        verify("a.json")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_damages_at_random_are_refused_or_found(contents, tmp_path, draws):
    """Whatever value of a file becomes another: an error in words or a result that does not hold, never a traceback."""

    def every(value, path=()):
        yield path
        if isinstance(value, dict | list):
            for name, each in value.items() if isinstance(value, dict) else enumerate(value):
                yield from every(each, (*path, name))

    content = contents["evaluate"]
    for path in draws.sample([each for each in every(content) if each], 10):
        damaged = copy.deepcopy(content)
        place = damaged
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = draws.choice([None, -1, "", [], {}, 0.5, "x", [None], {"a": 1}, float("inf"), float("nan")])
        for how in ({}, {"sample": 2}):
            try:
                verify(written(tmp_path / "a.json", damaged), **how)
            except ValueError:
                pass


class TestSample:
    """What a sample can tell and what it cannot."""

    @pytest.mark.parametrize("name", slow_but(["folder", "masks"], ["evaluate", "folder", "masks", "sweep", "curves"]))
    def test_a_result_that_holds_is_not_refuted(self, contents, name, tmp_path):
        for sample in (1, 9) if name == "folder" else (3,):  # the reference takes its time
            found = verify(written(tmp_path / "a.json", contents[name]), sample=sample, seed=sample)
            assert found.holds and found.sample == sample and states(found)["engine and reference"] == "agrees"
            assert ("PxAP is not checked" in str(found.checks)) == (name == "masks")
            assert ("curves over thresholds" in states(found)) == (name == "curves")

    def one_image_more(self, content: dict) -> dict:
        """A figure that one more image would have given, with its mean."""
        content = copy.deepcopy(content)
        row = content["normalizations"][0]
        by_iou = row["max_box_acc_v2_per_iou"]
        by_iou["0.5"] = (round(by_iou["0.5"] * NUM_IMAGES / 100) + 1) * 100.0 / NUM_IMAGES
        row["max_box_acc_v2"] = float(np.average(list(by_iou.values())))
        return content

    def test_it_tells_little_of_a_small_lie_and_says_so(self, contents, tmp_path):
        result = written(tmp_path / "a.json", self.one_image_more(contents["folder"]))
        found = verify(result, sample=5)
        assert found.holds and "not refuted by 5 of 40 images, which tell nothing below" in str(found.checks)
        found = verify(result, sample=NUM_IMAGES)  # all of them: now it is sure
        assert "max_box_acc_v2_per_iou.0.5" in differing(found)["max"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"max_box_acc_v2": 99.0}, "max_box_acc_v2: 99.0 is not the mean"),
            ({"max_box_acc": {"0.3": 50.01, "0.5": 25.0, "0.7": 10.0}}, "max_box_acc.0.3: 50.01 percent is no share"),
            ({"best_threshold_v2": {"0.3": 0.123, "0.5": 0.5, "0.7": 0.5}}, "0.123 is none of the protocol's"),
            ({"max_box_acc": {"0.3": 50.0}}, "max_box_acc: expected IoU"),
            ({"max_box_acc": {"0.3": 500.0, "0.5": 25.0, "0.7": 10.0}}, "500.0 percent is no share"),
            ({"normalization": "max:2"}, "the rows are not those of the protocol"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_figures_that_do_not_fit_each_other(self, contents, change, message, tmp_path):
        content = copy.deepcopy(contents["folder"])
        content["normalizations"][0] |= change
        assert message in str(differing(verify(written(tmp_path / "a.json", content), sample=2)))

    def test_a_large_lie_is_refuted(self, contents, tmp_path):
        content = copy.deepcopy(contents["folder"])
        row = content["normalizations"][0]
        row["max_box_acc"] = dict.fromkeys(row["max_box_acc"], 100.0)
        found = differing(verify(written(tmp_path / "a.json", content), sample=20))
        assert "max_box_acc.0.3: 100.00 was recorded, the sample has" in found["max"]

    def test_other_counts_of_the_engine_are_found(self, world):
        entry = STUDIES["folder"](world).provenance.data[0]
        sample = Sample(entry, Protocol("max", **HOW), split_of(world, "CUB/test"), (), 3, 0, "cpu", None)
        assert [each.state for each in sample.checks()] == ["agrees"]
        another = next(each for each in split_of(world, "CUB/test").image_ids if each not in sample.image_ids)
        sample.engine.update(np.zeros((1, 7, 7)), [another])
        assert [each.state for each in sample.checks()] == ["differs"]

    def test_a_map_that_is_gone_is_named(self, world, tmp_path):
        shutil.copytree(world, tmp_path / "world")
        result = written(tmp_path / "a.json", STUDIES["folder"](tmp_path / "world").to_dict())
        for number in range(20):
            (tmp_path / f"world/maps/CUB-test-{number}.jpg.npy").unlink()
        found = differing(verify(result, sample=6))
        assert "that were counted cannot be read now, such as CUB-test-" in found["images"]
        assert "num_images: recorded 40, made again 20" in differing(verify(result))["all else"]

    def test_whom_it_is_not_for(self, contents, tmp_path):
        for name in ("select", "table"):
            with pytest.raises(ArgumentError, match=f"sample: a result of {name} is checked whole"):
                verify(written(tmp_path / "a.json", contents[name]), sample=3)
        with pytest.raises(ArgumentError, match="sample: expected a number of images from 1, found 0"):
            verify(written(tmp_path / "a.json", contents["evaluate"]), sample=0)


def test_places_that_say_nothing(contents, world, tmp_path):
    selected, evaluated = (written(tmp_path / f"{each}.json", contents[each]) for each in ("select", "evaluate"))
    with pytest.raises(ArgumentError, match="maps: expected OLD=DIR for some of .*CUB-val, .*CUB-test, found"):
        verify(selected, maps=world)
    with pytest.raises(ArgumentError, match="metadata: expected a path of the result .*, found somewhere"):
        verify(evaluated, metadata={"somewhere": world})
    with pytest.raises(ArgumentError, match="mask_root: the result was made of boxes"):
        verify(evaluated, mask_root=world)
    with pytest.raises(ArgumentError, match="maps: the result was made of .* found nothing at nowhere"):
        verify(evaluated, maps="nowhere")
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "none.json")


def run(*arguments, code: int):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def test_the_command(world, tmp_path, monkeypatch):
    """From the file that evaluate writes, whose keys are sorted, to exit codes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world, "here")
    arguments = ["--metadata", "here/metadata/CUB/test", "--size", 24, "--interval", 0.05, "-n", "max"]
    run("evaluate", "--cams", "here/CUB-test", *arguments, "--json", "a.json", code=0)
    text = Path("a.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    done = run("verify", "a.json", code=0)
    assert done.stdout.splitlines()[-1] == "a.json: holds"
    assert any(line.startswith("agrees") and "maps here/CUB-test" in line for line in done.stdout.splitlines())
    done = run("verify", "a.json", "--sample", 3, "--seed", 1, code=0)
    assert done.stdout.endswith("a.json: holds, as far as a sample can tell\n")
    Path("b.json").write_text(text.replace('"num_degenerate": 0', '"num_degenerate": 1'))
    done = run("verify", "b.json", code=1)
    assert "num_degenerate: recorded 1, made again 0" in done.stdout and done.stdout.endswith("b.json: does not hold\n")
    content = json.loads(run("verify", "b.json", "--json", "-", code=1).stdout)
    assert content["holds"] is False and content["study"] == "evaluate"
    Path("here").rename("there")
    done = run("verify", "a.json", code=2)
    assert "--maps: the result was made of here/CUB-test, found nothing at here/CUB-test" in done.stderr
    moved = ["--maps", "here=there", "--metadata", "there/metadata/CUB/test"]
    run("verify", "a.json", *moved, code=0)
    assert "--maps =there: expected DIR once, or OLD=DIR" in run("verify", "a.json", "--maps", "=there", code=2).stderr
    assert "is a file that the command reads" in run("verify", "a.json", *moved, "--json", "a.json", code=2).stderr
    assert Path("a.json").read_text() == text
    assert "b.txt" in run("verify", "b.txt", code=2).stderr


def test_masks_whose_ignore_masks_are_missing(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world, "here")
    path = Path("here/metadata/OpenImages/test/localization.txt")
    path.write_text("".join(f"{line}ignore.png\n" for line in path.read_text().splitlines()))
    arguments = ["--mask-root", "here", "--size", 24, "--interval", 0.05, "-n", "max", "--allow-missing-ignore"]
    command = ["evaluate", "--cams", "here/OpenImages-test", "--metadata", "here/metadata/OpenImages/test"]
    run(*command, *arguments, "--json", "a.json", code=0)
    assert run("verify", "a.json", "--allow-missing-ignore", code=0).stdout.endswith("holds\n")
    assert "no such ignore mask" in run("verify", "a.json", code=2).stderr


def test_it_is_a_study():
    assert studies.verify is verify and "verify" in studies.__all__


@pytest.mark.parametrize(("at", "by"), [("best", "size"), ("0.25", "class"), ("selected.json", "size")])
def test_rows_and_groups_are_made_again(world, tmp_path, monkeypatch, at, by):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world, "here")
    maps, metadata, how = "here/CUB-test", "here/metadata/CUB/test", ["--size", 24, "--interval", 0.05]
    names = ["-n", "minmax ivr:0.4"]
    if at.endswith(".json"):
        val = [
            "--val",
            "here/CUB-val",
            "--val-metadata",
            "here/metadata/CUB/val",
            "--test",
            maps,
            "--test-metadata",
            metadata,
        ]
        run("select", *val, *how, *names, "--select-threshold", "--num-bootstrap", 40, "--json", at, code=0)
    more = ["--by", by, "--per-image", "rows.csv", "--tolerance", 2, "--at", at, "--json", "a.json"]
    run("evaluate", "--cams", maps, "--metadata", metadata, *how, *names, *more, code=0)
    content = json.loads(Path("a.json").read_text())
    found = verify("a.json")
    assert found.holds and {"groups", "per_image"} <= {each.what for each in found.checks if each.state == "agrees"}
    for change in (
        lambda new: new["groups"][0].update(num_images=new["groups"][0]["num_images"] + 1),
        lambda new: new["per_image"]["normalizations"][1].update(num_images=0),
        lambda new: new["per_image"].update(at=0.5),
    ):
        other = json.loads(json.dumps(content))
        change(other)
        assert not verify(written(tmp_path / "b.json", other)).holds
    other = content | {"per_image": content["per_image"] | {"pointing_game": {}}}
    with pytest.raises(DatasetError, match="damaged: per_image: KeyError"):
        verify(written(tmp_path / "b.json", other))


def test_rows_that_do_not_say_where_they_were_taken_are_not_made_again(contents, tmp_path):
    found = verify(written(tmp_path / "a.json", contents["evaluate"] | {"per_image": {}}))
    noted = [each.what for each in found.checks if each.detail.startswith("is not made again")]
    assert found.holds and noted == ["per_image"]

"""Rows and groups of whole splits: files, policies, the command, and that their sums are the Evaluator's.

In: generated splits with boxes or masks, CAM stores with logits, a folder. Out: CSV, Parquet, JSON, tables.
Source: ``studies.evaluate`` of the same maps.
"""

import csv
import json
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.cli import app, terminal
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError, DatasetError
from wsolkern.metrics import Metric, SelectedThresholds
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.normalization import Normalization
from wsolkern.ops import normalize
from wsolkern.ops.inputs import threshold_grid
from wsolkern.report import per_image as report
from wsolkern.studies import counting

NUM, MISSING = 70, 2  # more than a batch
DELTAS = (0.3, 0.5, 0.7)
HOW = {"size": (20, 20), "thresholds": threshold_grid(0.125, "step")}
OPTIONS = ["--size", "20", "--interval", "0.125", "--allow-missing"]
WANTED = "minmax max ivr:0.4"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Splits "boxes" and "masks" of the same images, a store of their CAMs with logits, and a folder of them."""
    root = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    ids = [f"test/{number}.jpg" for number in range(NUM)]
    for name in ("boxes", "masks"):
        folder = root / "metadata" / name
        folder.mkdir(parents=True)
        corners = rng.integers(0, 24, (NUM, 2))
        boxes = np.concatenate([corners, corners + rng.integers(8, 24, (NUM, 2))], axis=1).tolist()
        boxed = [f"{each},{','.join(map(str, box))}" for each, box in zip(ids, boxes, strict=True)]
        masked = [f"{each},mask{number % 3}.png," for number, each in enumerate(ids)]
        for file, rows in {
            "image_ids": ids,
            "class_labels": [f"{each},{number % 3}" for number, each in enumerate(ids)],
            "image_sizes": [f"{each},60,48" for each in ids],
            "localization": boxed if name == "boxes" else masked,
        }.items():
            (folder / f"{file}.txt").write_text("".join(f"{row}\n" for row in rows))
    for number in range(3):
        pixels = np.zeros((48, 60), np.uint8)
        pixels[10 : 20 + 9 * number, 8:40] = 255
        Image.fromarray(pixels).save(root / f"mask{number}.png")
    maps = rng.normal(size=(NUM, 7, 7)).astype(np.float32)
    maps[3] = 1.0  # has no score map
    with CamWriter(root / "store", Manifest(), maps_per_shard=40) as writer:
        writer.add(ids[:-MISSING], maps[:-MISSING], logits=rng.normal(size=(NUM - MISSING, 3)).astype(np.float32))
    for image_id, cam in zip(ids[:-MISSING], maps[:-MISSING], strict=True):
        (root / "folder" / image_id).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / "folder" / f"{image_id}.npy", cam)
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "2")


def split_of(made, name="boxes"):
    return load_metadata(made / "metadata" / name)


def about(made, name):
    """What a study and the command are told of a split."""
    where = {"mask_root": made} if name == "masks" else {}
    options = ["--cams", made / "store", "--metadata", made / "metadata" / name, *OPTIONS, "-n", WANTED]
    return where, options + (["--mask-root", made] if where else [])


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def typed(row):
    """A row of a CSV as the study has it."""
    texts = ("image_id", "normalization", "error")
    return {name: value if name in texts else float(value) if value else None for name, value in row.items()}


def as_numbers(rows):
    columns = rows.to_dict()
    plain = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{k: float(v) if isinstance(v, (bool, int)) else v for k, v in row.items()} for row in plain]


@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_files_hold_the_rows_of_the_study_and_their_sums_are_the_metrics(made, name, tmp_path):
    where, options = about(made, name)
    expected = studies.per_image(made / "store", split_of(made, name), WANTED, **where, **HOW)
    printed = run(*options, "--per-image", tmp_path / "rows.csv", "--json", tmp_path / "all.json")
    assert "pointing game" in printed.stdout and "energy" in printed.stdout
    rows = read_csv(tmp_path / "rows.csv")
    assert [typed(row) for row in rows] == as_numbers(expected.rows)
    content = json.loads((tmp_path / "all.json").read_text())
    varies = {"rows", "seconds"}
    ours = {k: v for k, v in json.loads(json.dumps(expected.to_dict())).items() if k not in varies}
    assert {k: v for k, v in content["per_image"].items() if k not in varies} == ours | {"at": "best"}
    assert content["num_missing"] == MISSING and len(rows) == 3 * (NUM - MISSING)
    whole = studies.evaluate(made / "store", split_of(made, name), WANTED, **where, **HOW).result
    assert content["normalizations"] == json.loads(json.dumps(whole.to_dict()))["normalizations"]
    for summary, row in zip(expected.summaries, whole, strict=True):
        own = [each for each in rows if each["normalization"] == row.name]
        assert sum(int(each["degenerate"]) for each in own) == row.num_degenerate >= 1
        if name == "boxes":
            assert sum(summary.errors.values()) == NUM - MISSING
            assert {k: sum(each["error"] == k for each in own) for k in CATEGORIES} == summary.errors
            for metric, reached in (("max_box_acc", row.max_box_acc), ("max_box_acc_v2", row.max_box_acc_v2_per_iou)):
                hits = {delta: sum(int(each[f"{metric}@{delta}"]) for each in own) for delta in DELTAS}
                assert {delta: each * 100.0 / len(own) for delta, each in hits.items()} == reached
        else:
            sums = [sum(int(each[column]) for each in own) for column in ("intersection", "union")]
            assert 100 * (sums[0] / sums[1]) == row.peak_iou == 100 * summary.peak_iou


def test_parquet_has_the_same_rows_with_types(made, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    _, options = about(made, "boxes")
    run(*options, "--per-image", tmp_path / "rows.parquet")
    expected = studies.per_image(made / "store", split_of(made), WANTED, **HOW).rows
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.to_pydict() == expected.to_dict()
    types = {name: str(table.schema.field(name).type) for name in ("image_id", "label", "x0", "iou", "hit@0.5")}
    assert types == {"image_id": "string", "label": "int64", "x0": "int32", "iou": "double", "hit@0.5": "bool"}


def test_without_pyarrow_that_is_said_before_the_work(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr(counting.SplitCount, "run", lambda *_, **__: pytest.fail("maps are read"))
    _, options = about(made, "boxes")
    done = run(*options, "--per-image", tmp_path / "rows.parquet", code=terminal.FAILED)
    assert "rows.parquet: needs pyarrow: pip install wsolkern[parquet]" in done.stderr


def test_a_folder_has_no_predictions_and_other_rows_are_the_same(made):
    store, folder = (studies.per_image(made / each, split_of(made), WANTED, **HOW).rows for each in ("store", "folder"))
    assert set(folder.columns["predicted"]) == {-1} and set(store.columns["predicted"]) == {0, 1, 2}
    mine = {(row["image_id"], row["normalization"]): row for row in folder}
    for row in store:
        other = mine[row["image_id"], row["normalization"]]
        same = {"predicted", "error"}
        assert {k: v for k, v in row.items() if k not in same} == {k: v for k, v in other.items() if k not in same}
        assert row["error"] == (other["error"] if row["predicted"] == row["label"] else "classification")


def test_rows_can_be_taken_batch_by_batch(made):
    kept = studies.per_image(made / "store", split_of(made), WANTED, **HOW)
    taken = []
    found = studies.per_image(made / "store", split_of(made), WANTED, on_rows=taken.append, **HOW)
    assert found.rows is None and len(taken) > 1
    assert [row for part in taken for row in part] == list(kept.rows)
    assert found["ivr:.4"].to_dict(curves=True) == kept["ivr:0.4"].to_dict(curves=True)
    with pytest.raises(KeyError, match="no summary 'pas:0.9'; there are minmax, max, ivr:0.4"):
        found["pas:0.9"]


def test_thresholds_may_be_fixed_or_come_from_elsewhere(made, tmp_path):
    _, options = about(made, "boxes")
    maps = made / "store", split_of(made), WANTED
    result = studies.evaluate(*maps, **HOW).result
    best = studies.per_image(*maps, **HOW).to_dict()
    given = studies.per_image(*maps, at=result, **HOW).to_dict()
    assert {**best, "seconds": 0} == {**given, "seconds": 0}
    fixed = studies.per_image(*maps, at=0.25, **HOW)
    assert set(fixed.rows.columns["threshold"]) == {0.25}
    run(*options, "--per-image", tmp_path / "fixed.csv", "--at", 0.25)
    assert [typed(row) for row in read_csv(tmp_path / "fixed.csv")] == as_numbers(fixed.rows)
    chosen = [
        {"normalization": row.name, "thresholds": {str(iou): each for iou, each in row.best_threshold_v2.items()}}
        for row in result
    ]
    (tmp_path / "select.json").write_text(json.dumps({"bootstrap": {"metric": "MaxBoxAccV2"}, "choices": chosen}))
    where = ["--per-image", tmp_path / "rows.csv", "--at", tmp_path / "select.json"]
    run(*options[:-2], *where)  # the normalizations, too
    rows = read_csv(tmp_path / "rows.csv")
    assert len(rows) == 3 * (NUM - MISSING)
    for row in result:
        own = [each for each in rows if each["normalization"] == row.name]
        assert {float(each["threshold"]) for each in own} == {row.best_threshold_v2[0.5]}
        hits = {iou: sum(int(each[f"max_box_acc_v2@{iou}"]) for each in own) for iou in DELTAS}
        assert {iou: each * 100.0 / len(own) for iou, each in hits.items()} == row.max_box_acc_v2_per_iou


REFUSED = {
    "tolerance_alone": (["--tolerance", 3], "--tolerance: expected --per-image with it"),
    "threshold_of_one": (["--per-image", "rows.csv", "--at", 1.0], "--at: expected thresholds in [0, 1), found 1.0"),
    "name": (["--per-image", "rows.txt"], "--per-image: expected a name that ends in .csv or .parquet"),
    "by": (["--by", "colour"], "--by: expected class or size, found 'colour'"),
    "no_select": (["--per-image", "rows.csv", "--at", "other.json"], "expected what wsolkern select --json writes"),
    "pxap": (["--per-image", "rows.csv", "--at", "pxap.json"], "expected thresholds that were selected, found none"),
    "not_all": (
        ["--per-image", "rows.csv", "--at", "max.json"],
        "--at: expected thresholds of minmax, found those of max",
    ),
    "no_delta": (
        ["--per-image", "rows.csv", "--at", "few.json"],
        "--at: expected a threshold for each IoU threshold, or one for all, found none for [0.7]",
    ),
    "same_file": (["--per-image", "rows.csv", "--json", "rows.csv"], "--json, --per-image: expected two files"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_before_the_work(made, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, choices in {
        "other": [{"family": "max"}],
        "pxap": [{"normalization": "max", "thresholds": {}}],
        "max": [{"normalization": "max", "thresholds": {"0.5": 0.1}}],
        "few": [{"normalization": each, "thresholds": {"0.3": 0.1, "0.5": 0.1}} for each in WANTED.split()],
    }.items():
        (tmp_path / f"{file}.json").write_text(
            json.dumps({"bootstrap": {"metric": "PxAP" if file == "pxap" else "MaxBoxAccV2"}, "choices": choices})
        )
    monkeypatch.setattr(counting.SplitCount, "run", lambda *_, **__: pytest.fail("maps are read"))
    where, message = REFUSED[name]
    assert message in run(*about(made, "boxes")[1], *where, code=terminal.FAILED).stderr
    assert not (tmp_path / "rows.csv").exists()


def test_score_maps_have_rows_and_groups_too(made, tmp_path):
    split = split_of(made)
    maps = {each: CamStore(made / "store").read(each) for each in split.image_ids[:-MISSING]}
    for image_id, cam in maps.items():
        path = tmp_path / "scores" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, normalize(cam, "minmax", (20, 20)))
    where = ["--score-maps", tmp_path / "scores", "--metadata", made / "metadata/boxes", *OPTIONS, "--by", "class"]
    content = json.loads(run(*where, "--per-image", tmp_path / "rows.csv", "--json", "-").stdout)
    of_cams = studies.per_image(made / "folder", split, "minmax", **HOW)
    rows = {row["image_id"]: row for row in read_csv(tmp_path / "rows.csv")}
    for row in as_numbers(of_cams.rows):
        found = typed(rows[row["image_id"]])
        assert found["normalization"] == "score maps"
        differ = ("normalization", "degenerate")  # score maps given as such are never degenerate
        assert {k: v for k, v in found.items() if k not in differ} == {k: v for k, v in row.items() if k not in differ}
    assert [each["name"] for each in content["groups"]] == ["0", "1", "2"]
    assert content["per_image"]["normalizations"][0]["errors"] == of_cams.summaries[0].errors


def test_arguments_of_the_studies_are_checked_before_the_work(made, monkeypatch):
    result = studies.evaluate(made / "store", split_of(made), "max", **HOW).result
    monkeypatch.setattr(counting.SplitCount, "run", lambda *_, **__: pytest.fail("maps are read"))
    maps = made / "store", split_of(made), WANTED
    with pytest.raises(ArgumentError, match="tolerance: expected pixels"):
        studies.per_image(*maps, tolerance=-1, **HOW)
    selected = SelectedThresholds(Metric.MAX_BOX_ACC, {Normalization("minmax"): {0.5: 0.5}})
    with pytest.raises(ArgumentError, match="at: expected thresholds of max, found those of minmax"):
        studies.per_image(*maps, at=selected, **HOW)
    with pytest.raises(ArgumentError, match="at: expected thresholds for masks, found those that MaxBoxAcc selected"):
        studies.per_image(made / "store", split_of(made, "masks"), "minmax", at=selected, mask_root=made, **HOW)
    with pytest.raises(ArgumentError, match="at: expected one of best, gt-known"):
        studies.per_image(*maps, at="worst", **HOW)
    with pytest.raises(ArgumentError, match="at: expected thresholds of minmax, found those of max"):
        studies.per_image(*maps, at=result, **HOW)
    with pytest.raises(ArgumentError, match="by: expected class or size, found 'colour'"):
        studies.evaluate(*maps, by="colour", **HOW)
    without = load_metadata(made / "metadata/boxes")
    object.__setattr__(without, "class_labels", {})
    with pytest.raises(DatasetError, match="class_labels.txt: needed for metrics by class"):
        studies.evaluate(made / "store", without, WANTED, by="class", **HOW)


@pytest.mark.parametrize("by", ["class", "size"])
@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_groups_of_a_split(made, name, by, tmp_path):
    where, options = about(made, name)
    split = split_of(made, name)
    found = studies.evaluate(made / "store", split, WANTED, by=by, with_logits=False, **where, **HOW)
    groups = found.grouping.groups
    whole = studies.evaluate(made / "store", split, WANTED, with_logits=False, **where, **HOW)
    assert found.result.to_dict(curves=True) == whole.result.to_dict(curves=True)
    assert found.counted.problems == whole.counted.problems
    assert sum(group.num_images for group in groups) == NUM - MISSING
    if by == "class":
        assert [group.name for group in groups] == ["0", "1", "2"]
    else:
        rows = studies.per_image(made / "store", split, "max", at=0.5, **where, **HOW).rows
        sizes = np.searchsorted(found.grouping.size_bounds, (rows.columns["object_area"] * 400).round().astype(int))
        assert [group.num_images for group in groups] == [n for n in np.bincount(sizes).tolist() if n]
    done = run(*options, "--by", by, "--without-logits", "--json", tmp_path / "all.json")
    assert f"by {by}, in percent" in done.stdout
    ours, theirs = json.loads(json.dumps(found.to_dict())), json.loads((tmp_path / "all.json").read_text())
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    markdown = run(*options, "--by", by, "--markdown").stdout
    assert f"| {by} | images | normalization |" in markdown


def test_groups_go_on_from_a_state(made, tmp_path, monkeypatch):
    arguments = made / "store", split_of(made), WANTED
    expected = studies.evaluate(*arguments, by="class", **HOW).to_dict(curves=True)
    count, seen = counting.SplitCount.update, []

    def update(self, cams, image_ids):
        seen.append(image_ids)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return count(self, cams, image_ids)

    monkeypatch.setattr(counting.SplitCount, "update", update)
    with pytest.raises(studies.Interrupted):
        studies.evaluate(*arguments, by="class", resume=tmp_path / "state", **HOW)
    found = studies.evaluate(*arguments, by="class", resume=tmp_path / "state", **HOW).to_dict(curves=True)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert len({each for some in seen for each in some}) == sum(map(len, seen))
    with pytest.raises(ValueError, match="counts other maps, other metadata"):
        studies.evaluate(*arguments, by="size", resume=tmp_path / "state", **HOW)


def test_an_interrupt_among_the_rows_leaves_no_file_and_the_metrics_stay(made, tmp_path, monkeypatch):
    _, options = about(made, "boxes")
    (tmp_path / "rows.csv").write_text("as it was")
    from wsolkern.metrics.per_image import PerImageEvaluator

    update = PerImageEvaluator.update

    def interrupted(self, cams, image_ids):
        os.kill(os.getpid(), signal.SIGINT)
        return update(self, cams, image_ids)

    monkeypatch.setattr(PerImageEvaluator, "update", interrupted)
    done = run(*options, "--per-image", tmp_path / "rows.csv", code=terminal.INTERRUPTED)
    assert "images are counted and are lost" in done.stderr and "--resume" not in done.stderr
    assert "MaxBoxAccV2" in done.stdout
    assert (tmp_path / "rows.csv").read_text() == "as it was" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file_and_the_metrics_stay(made, tmp_path, monkeypatch):
    _, options = about(made, "boxes")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "known", no_room)
    done = run(*options, "--per-image", tmp_path / "rows.csv", code=terminal.FAILED)
    assert f"error: {tmp_path}/rows.csv: No space left on device" in done.stderr.replace("\n", "")
    assert "MaxBoxAccV2" in done.stdout and not list(tmp_path.iterdir())

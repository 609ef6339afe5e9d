"""Localization with classification from a store's own logits: the study, the command, resuming, what is left out.

In: generated stores with and without logits. Out: figures, against an Evaluator that is told what is right.
Source: the Evaluator, whose counts equal a plain loop (tests/metrics/test_classification.py).
"""

import json
from collections import Counter

import numpy as np
import pytest
from ranks import forked
from shared import slow_but, write_split
from typer.testing import CliRunner

from wsolkern import studies
from wsolkern.cams import CamStore, CamWriter, Manifest, Ranks
from wsolkern.cli import app
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.metrics import Evaluator, SelectedThresholds, top_k

IDS = [f"part/{number}.jpg" for number in range(80)]  # more than a batch
ALL = range(len(IDS))
NAMES = ("minmax", "ivr:0.3")
HOW = {"size": (16, 16), "thresholds": np.arange(0, 1, 0.05)}
OPTIONS = ["-n", " ".join(NAMES), "--size", "16", "--interval", "0.05"]
NUM_CLASSES = 7


def cams():
    return np.random.default_rng(0).normal(size=(len(IDS), 4, 5)).astype(np.float32)


def logits(num_classes=NUM_CLASSES):
    return np.random.default_rng(1).integers(0, 5, (len(IDS), num_classes)).astype(np.float32)  # many are equal


def labels():
    return np.array([number % 3 for number in range(len(IDS))])


def write_store(path, *, of="labels", some=logits, rows=ALL, names=IDS, **manifest):
    stated = {} if of is None else {"preprocessing": {"classes": of}}
    order = np.random.default_rng(2).permutation(len(rows))  # a store has its own order
    rows = [rows[place] for place in order]
    classes = labels() if of == "labels" else logits().argmax(1)
    with CamWriter(path, Manifest(**stated, **manifest), maps_per_shard=30) as writer:
        kept = None if some is None else some()[rows]
        writer.add([names[row] for row in rows], cams()[rows], classes=classes[rows], logits=kept)
    return path


@pytest.fixture
def split(tmp_path):
    write_split(
        tmp_path / "metadata", IDS, size=(16, 16), box=lambda i: (1, 2, 8 + i % 7, 9), label=lambda i: int(labels()[i])
    )
    return load_metadata(tmp_path / "metadata")


def wanted(split, rows=ALL, correct=None):
    evaluator = Evaluator(NAMES, boxes=split.resized_boxes((16, 16)), **HOW)
    rows = list(rows)
    how = {"logits": logits()[rows], "labels": labels()[rows]} if correct is None else {"correct": correct}
    evaluator.update(cams()[rows], [IDS[row] for row in rows], **how)
    return evaluator


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.parametrize("names", [IDS, [each.removesuffix(".jpg") for each in IDS]], ids=["full names", "stems"])
def test_a_store_with_logits_says_what_is_classified(split, tmp_path, names):
    found = studies.evaluate(write_store(tmp_path / "store", names=names), split, NAMES, **HOW)
    expected = wanted(split).compute()
    assert found.result.to_dict(curves=True) == expected.to_dict(curves=True)
    assert found.localization == expected.localization() and found.cams_of == "labels" and not found.counted.warnings
    content = json.loads(json.dumps(found.to_dict()))["localization"]
    assert (content["cams_of"], content["at"]) == ("labels", "best")
    assert [each["normalization"] for each in content["normalizations"]] == list(NAMES)
    assert content["normalizations"][1]["figures"][3] == found.localization[1][3].to_dict() | {
        "metric": "MaxBoxAccV2",
        "name": "Top-1",
    }
    swept = studies.sweep(tmp_path / "store", split, NAMES, **HOW)
    assert swept.localization == found.localization and swept.percentile_curves == ()
    assert "localization" in swept.to_dict() and "percentile_curves" in swept.to_dict()


def test_without_logits_all_is_as_before(split, tmp_path):
    plain = write_store(tmp_path / "plain", some=None)
    before = studies.evaluate(plain, split, NAMES, **HOW)
    assert before.localization is None and "localization" not in before.to_dict()
    left = studies.evaluate(write_store(tmp_path / "store"), split, NAMES, with_logits=False, **HOW)
    assert left.result.to_dict(curves=True) == before.result.to_dict(curves=True)
    command = "evaluate", "--metadata", tmp_path / "metadata", *OPTIONS, "--cams"
    printed = [run(*command, *how).stdout for how in ((plain,), (tmp_path / "store", "--without-logits"))]
    assert printed[0] == printed[1] and "Top-1" not in printed[0]
    shown = run(*command, tmp_path / "store").stdout
    assert shown.startswith(printed[0]) and all(name in shown for name in ("Top-1", "Top-5", "GT-known"))
    unlabelled = write_split(tmp_path / "unlabelled", IDS, size=(16, 16), box=lambda i: (1, 2, 8 + i % 7, 9))
    assert studies.evaluate(tmp_path / "store", load_metadata(unlabelled), NAMES, **HOW).localization is None


def test_the_command_prints_the_figures(split, tmp_path):
    store = write_store(tmp_path / "store")
    command = "evaluate", "--metadata", tmp_path / "metadata", *OPTIONS, "--cams", store
    result = wanted(split).compute()
    for at, policy in (("best", "best"), ("gt-known", "gt-known"), ("0.2", 0.2)):
        done = run(*command, "--at", at, "--markdown", "--json", tmp_path / "out.json")
        assert done.exit_code == 0, done.output
        content = json.loads((tmp_path / "out.json").read_text())["localization"]
        expected = result.localization(policy)
        assert content["at"] == policy
        for row, figures in zip(content["normalizations"], expected, strict=True):
            assert row["figures"] == [each.to_dict() for each in figures]
            cells = " | ".join(f"{each.figure:.2f}" for each in figures)
            assert f"| {row['normalization']} | {cells} |" in done.stdout
    accuracy = {k: each.mean() * 100 for k, each in top_k(logits(), labels()).items()}
    assert f"classification accuracy Top-1 {accuracy[1]:.2f}, Top-5 {accuracy[5]:.2f}" in done.stdout
    assert "CAMs of the image's own class" in done.stdout and "at threshold 0.2" in done.stdout


def test_thresholds_of_a_selection(split, tmp_path):
    store = write_store(tmp_path / "store")
    for name, rows in (("val", range(40)), ("test", range(40, 80))):
        write_split(
            tmp_path / name,
            [IDS[row] for row in rows],
            size=(16, 16),
            box=lambda i, start=rows[0]: (1, 2, 8 + (i + start) % 7, 9),
            label=lambda i, start=rows[0]: int(labels()[i + start]),
        )
    places = [each for name in ("val", "test") for each in (f"--{name}", store, f"--{name}-metadata", tmp_path / name)]
    how = ["-n", "minmax ivr:0.1 ivr:0.3", *OPTIONS[2:], "--num-bootstrap", 39, "--json", tmp_path / "select.json"]
    chosen = run("select", *places, *how)
    assert chosen.exit_code == 0, chosen.output
    at = SelectedThresholds.from_json((tmp_path / "select.json").read_bytes())
    command = (
        "evaluate",
        "--cams",
        store,
        "--metadata",
        tmp_path / "test",
        *OPTIONS[2:],
        "--at",
        tmp_path / "select.json",
    )
    done = run(*command, "--json", "-")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["localization"]["at"] == at.to_dict()
    assert [row["normalization"] for row in found["normalizations"]] == [str(each) for each in at.thresholds]
    chosen = json.loads((tmp_path / "select.json").read_text())["choices"]
    for row, choice in zip(found["localization"]["normalizations"], chosen, strict=True):
        assert [each["metric"] for each in row["figures"]] == ["MaxBoxAccV2"] * 3
        assert all(each["thresholds"] == choice["thresholds"] for each in row["figures"])
    refused = run(*command, "-n", "pas:0.9")
    assert refused.exit_code == 2 and "--at: no threshold was selected for pas:0.9" in refused.stderr
    (tmp_path / "other.json").write_text('{"choices": []}')
    refused = run(*command[:-1], tmp_path / "other.json")
    assert refused.exit_code == 2 and "expected what wsolkern select --json writes" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    "stated, of, expected",
    [
        ("labels", "labels", "labels"),
        ("predicted", "predicted", "predicted"),
        (None, "labels", "labels"),
        (None, "predicted", "predicted"),
        (None, "other", None),
    ],
)
def test_results_say_which_class_cams_are_of(split, tmp_path, stated, of, expected):
    manifest = Manifest(**({} if stated is None else {"preprocessing": {"classes": stated}}))
    classes = {"labels": labels(), "predicted": logits().argmax(1), "other": np.full(len(IDS), 6)}[of]
    with CamWriter(tmp_path / "store", manifest) as writer:
        writer.add(IDS, cams(), classes=classes, logits=logits())
    found = studies.evaluate(tmp_path / "store", split, NAMES, **HOW)
    assert found.cams_of == found.to_dict()["localization"]["cams_of"] == expected
    shown = run("evaluate", "--cams", tmp_path / "store", "--metadata", tmp_path / "metadata", *OPTIONS).stdout
    named = {"labels": "the image's own class", "predicted": "the predicted class", None: "an unknown class"}
    assert f"CAMs of {named[expected]}" in shown
    assert ("any class" in shown, "GT-known" in shown) == (expected == "predicted", expected != "predicted")


@pytest.mark.parametrize("at", ["gt-known", 0.5])
def test_where_to_take_figures_is_refused_where_there_are_none(split, tmp_path, at):
    store = write_store(tmp_path / "store", some=None)
    with pytest.raises(ArgumentError, match="at: needs boxes and a CAM store with the logits of all images"):
        studies.evaluate(store, split, NAMES, at=at, **HOW)
    refused = run("evaluate", "--cams", store, "--metadata", tmp_path / "metadata", "--at", "Best")
    assert refused.exit_code == 2 and "--at 'Best': expected best, gt-known" in " ".join(refused.stderr.split())
    with pytest.raises(ArgumentError, match="at: expected one of the 20 thresholds, found 0.51"):
        studies.evaluate(write_store(tmp_path / "with"), split, NAMES, at=0.51, **HOW)


def test_logits_of_some_images_are_not_counted(split, tmp_path):
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        writer.add(IDS[:50], cams()[:50], logits=logits()[:50])
        writer.add(IDS[50:], cams()[50:])
    found = studies.evaluate(tmp_path / "store", split, NAMES, **HOW)
    assert found.localization is None and found.counted.num_images == len(IDS)
    assert found.counted.warnings == (
        f"{tmp_path / 'store'}: 50 of 80 images have logits and a label: no image is counted with its logits",
    )


def test_one_bad_image_costs_no_other(split, tmp_path):
    broken = logits(3)
    broken[4] = np.nan
    found = studies.evaluate(write_store(tmp_path / "store", some=lambda: broken), split, NAMES, **HOW)
    assert found.counted.problems == {IDS[4]: "logits[0]: expected numbers, found NaN"}
    rows = [row for row in range(len(IDS)) if row != 4]
    assert found.result.classification_accuracy[5] == 100  # of three classes all are among the first five
    correct = top_k(broken[rows], labels()[rows])
    assert found.localization == wanted(split, rows, correct).compute().localization()
    two = studies.evaluate(write_store(tmp_path / "two", some=lambda: logits(2)), split, NAMES, **HOW)
    assert two.counted.problems == {
        image_id: "labels[0]: expected a class in [0, 2), as there are logits of 2, found 2"
        for image_id, label in zip(IDS, labels(), strict=True)
        if label == 2
    }


def test_a_state_goes_on_as_it_began(split, tmp_path, monkeypatch):
    store, state = write_store(tmp_path / "store", rows=range(50)), tmp_path / "state"
    first = studies.evaluate(store, split, NAMES, resume=state, **HOW)
    assert first.counted.num_images == 50
    again = studies.evaluate(store, split, NAMES, resume=state, at="gt-known", **HOW)
    assert again.localization == wanted(split, range(50)).compute().localization("gt-known")
    with pytest.raises(ValueError, match="state: its images were counted with their logits, .* left out"):
        studies.evaluate(store, split, NAMES, resume=state, with_logits=False, **HOW)
    old = tmp_path / "old"  # as one that was written before there were any such counts
    studies.evaluate(store, split, NAMES, resume=old, with_logits=False, **HOW)
    found = studies.evaluate(store, split, NAMES, resume=old, **HOW)
    assert found.localization is None and found.counted.num_images == 50
    assert found.counted.warnings == (f"{old}: its images were counted without their logits, so others are, too",)


def test_a_store_reads_logits_with_its_batches(tmp_path):
    source = CamStore(write_store(tmp_path / "store")).source(IDS[::3])
    rows = {image_id: row for row, image_id in enumerate(IDS)}
    for image_ids, _ in source.batches(7):
        backwards = image_ids[::-1]
        classes, values = source.top5(backwards)
        for image_id, best, largest in zip(backwards, classes, values, strict=True):
            own = logits()[rows[image_id]]
            assert best.tolist() == np.argsort(-own, kind="stable")[:5].tolist()
            assert largest.tolist() == own[best].tolist()


def test_select_localizes_test_at_what_val_chose(split, tmp_path):
    val_ids = [f"val/{each}" for each in IDS]
    metadata = write_split(
        tmp_path / "val_metadata", val_ids, size=(16, 16), box=lambda i: (2, 1, 9, 6 + i % 8), label=lambda i: i % 3
    )
    val, test = write_store(tmp_path / "val", names=val_ids), write_store(tmp_path / "test")
    how = {"num_resamples": 39, "metric": "MaxBoxAcc", "select_threshold": True, **HOW}
    splits = load_metadata(metadata), split
    found = studies.select(val, splits[0], test, splits[1], NAMES, localization=True, **how)
    first = np.argsort(-logits(), axis=1, kind="stable")
    for choice, figures in zip(found.choices, found.localized.localization, strict=True):
        at = choice.thresholds[0.5]
        hits = hits_one_by_one(choice.normalization, split, at)
        for each in figures:
            known = [each.top is None or labels()[i] in first[i, : each.top] for i in ALL]
            count = sum(hit and right for hit, right in zip(hits, known, strict=True))
            assert each.per_iou == {0.5: count * 100.0 / len(IDS)} and each.thresholds == {0.5: at}
        assert [each.name for each in figures] == ["Top-1", "Top-5", "GT-known"]
    assert "localization" not in studies.select(val, splits[0], test, splits[1], NAMES, **how).to_dict()
    plain = write_store(tmp_path / "plain", some=None)
    with pytest.raises(ArgumentError, match="localization: needs boxes, labels"):
        studies.select(val, splits[0], plain, splits[1], NAMES, localization=True, **how)
    command = "select", "--val", val, "--val-metadata", metadata, "--test", test, "--test-metadata"
    options = *OPTIONS, "--metric", "MaxBoxAcc", "--num-bootstrap", 39, "--localization", "--markdown"
    done = run(*command, tmp_path / "metadata", *options, "--json", tmp_path / "out.json")
    assert done.exit_code == 0 and "at thresholds selected on other images" in done.stdout
    content = json.loads((tmp_path / "out.json").read_text())["localization"]["normalizations"]
    assert [[each["figure"] for each in row["figures"]] for row in content] == [
        [each.figure for each in row] for row in found.localized.localization
    ]
    verified = studies.verify(tmp_path / "out.json")
    assert all(check.state != "differs" for check in verified.checks)


@pytest.mark.parametrize("select_threshold", [False, True])
def test_select_reads_test_once_and_localizes_as_evaluate_does(split, tmp_path, monkeypatch, select_threshold):
    """Strange logits leave an image out of the localization, not of the figures; a state has both."""
    val_ids = [f"val/{each}" for each in IDS]
    metadata = write_split(
        tmp_path / "val_metadata", val_ids, size=(16, 16), box=lambda i: (2, 1, 9, 6 + i % 8), label=lambda i: i % 3
    )
    broken = logits()
    broken[[4, 41]] = np.nan
    val, test = write_store(tmp_path / "val", names=val_ids), write_store(tmp_path / "test", some=lambda: broken)
    how = {"num_resamples": 39, "select_threshold": select_threshold, **HOW}
    args = val, load_metadata(metadata), test, split, NAMES
    plain = studies.select(*args, **how)
    num_read = Counter()
    read = CamStore._read

    def counted(store, shard):
        num_read[store.path / shard.file] += 1
        return read(store, shard)

    monkeypatch.setattr(CamStore, "_read", counted)
    state = tmp_path / "state"
    found = studies.select(*args, localization=True, resume=state, **how)
    shards = [store.path / shard.file for store in (CamStore(val), CamStore(test)) for shard in store.shards]
    assert len(shards) == 6 and num_read == dict.fromkeys(shards, 1)
    num_read.clear()
    again = studies.select(*args, localization=True, resume=state, **how)
    assert not num_read
    at = SelectedThresholds.of("MaxBoxAccV2", found.choices)
    expected = studies.evaluate(test, split, [each.normalization for each in found.choices], at=at, **HOW)
    assert expected.counted.problems == {IDS[place]: "logits[0]: expected numbers, found NaN" for place in (4, 41)}
    for each in (found, again):
        assert each.figures.to_dict() == plain.figures.to_dict() and each.test.num_images == len(IDS)
        assert not each.test.problems and each.choices == plain.choices
        one = each.localized.to_dict(curves=True)
        assert one | {"seconds": 0} == expected.to_dict(curves=True) | {"seconds": 0}
    with pytest.raises(ValueError, match="state: it counts other maps"):
        studies.select(*args, resume=state, **how)


@pytest.mark.parametrize("num", slow_but([2], [2, 5]))
def test_processes_select_and_localize_as_one_does(split, tmp_path, num):
    """What one process counted and kept before it was stopped is taken over by all of them."""
    val_ids = [f"val/{each}" for each in IDS]
    metadata = write_split(
        tmp_path / "val_metadata", val_ids, size=(16, 16), box=lambda i: (2, 1, 9, 6 + i % 8), label=lambda i: i % 3
    )
    broken = logits()
    broken[[4, 41, 79]] = np.nan
    val, test = write_store(tmp_path / "val", names=val_ids), write_store(tmp_path / "test", some=lambda: broken)
    args, how = (val, load_metadata(metadata), test, split, NAMES), {"num_resamples": 39, "localization": True, **HOW}
    one, state = studies.select(*args, **how), tmp_path / "state"

    def stop(what, done, total):
        if what == "test" and done:
            raise KeyboardInterrupt

    with pytest.raises(studies.Interrupted):
        studies.select(*args, resume=state, progress=stop, **how)

    def work(rank):
        with Ranks.joined() as ranks:
            found = studies.select(*args, resume=state, ranks=ranks, **how)
        return found.to_dict(), found.localized.to_dict(curves=True), found.localized.counted.problems

    times = {"seconds": 0}
    for found, localized, problems in (*forked(num, work), work(0)):
        assert found | times == one.to_dict() | times
        assert localized | times == one.localized.to_dict(curves=True) | times
        assert list(problems) == [IDS[4], IDS[41], IDS[79]]


def test_select_of_a_store_without_a_readable_logit(split, tmp_path):
    val_ids = [f"val/{each}" for each in IDS]
    metadata = write_split(
        tmp_path / "val_metadata", val_ids, size=(16, 16), box=lambda i: (2, 1, 9, 9), label=lambda i: i % 3
    )
    val = write_store(tmp_path / "val", names=val_ids)
    test = write_store(tmp_path / "test", some=lambda: logits() * np.nan)
    args = val, load_metadata(metadata), test, split, NAMES
    with pytest.raises(studies.NothingCounted) as raised:
        studies.select(*args, localization=True, num_resamples=39, **HOW)
    assert raised.value.problems == dict.fromkeys(IDS, "logits[0]: expected numbers, found NaN")


def hits_one_by_one(normalization, split, threshold):
    """Whether each image is localized at IoU 0.5: counted alone, an image at a time."""
    hits = []
    for i in ALL:
        alone = Evaluator([normalization], boxes=split.resized_boxes((16, 16)), **HOW | {"thresholds": [threshold]})
        alone.update(cams()[i : i + 1], [IDS[i]])
        (row,) = alone.compute()
        hits.append(row.max_box_acc[0.5] == 100)
    return hits

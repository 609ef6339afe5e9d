"""Rows and groups by several processes: the file and the JSON of one process, from a state, too.

In: a store in another order than the split, forked processes. Out: the same bytes.
Source: one process.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image
from ranks import command, forked
from shared import slow_but, write_split

from wsolkern.cams import CamWriter, Manifest, meeting
from wsolkern.cli import terminal
from wsolkern.metrics.per_image import PerImageEvaluator

NUM = 23


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    ids = [f"test/{number}.jpg" for number in range(NUM)]
    for kind, located in {
        "boxes": {"box": lambda i: (1, 2, 14 + i % 9, 10 + i % 13)},
        "masks": {"mask": lambda i: f"{i % 3}.png"},
    }.items():
        write_split(root / kind, ids, size=(32, 32), label=lambda i: i % 3, **located)
    maps = rng.normal(size=(NUM, 5, 5)).astype(np.float32)
    logits = rng.normal(size=(NUM, 3)).astype(np.float32)
    with CamWriter(root / "store", Manifest()) as writer:
        for start, stop in ((15, 22), (3, 4), (4, 15), (0, 3)):
            writer.add(ids[start:stop], maps[start:stop], logits=logits[start:stop])
            writer.flush()
    for index in range(3):
        Image.fromarray(255 * np.pad(np.ones((10, 8 + index), np.uint8), 11)).save(root / f"{index}.png")
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    monkeypatch.setattr(meeting, "_LINGER", 1.0)


def arguments(made, kind, by, rows, *more):
    where = ["--mask-root", made] if kind == "masks" else []
    about = ["evaluate", "--cams", made / "store", "--metadata", made / kind, *where, "--size", 16, "--interval", 0.05]
    return [*about, "-n", "max ivr:0.4", "--allow-missing", "--json", "-", "--per-image", rows, "--by", by, *more]


def without_times(text):
    content = json.loads(text)
    for each in (content, content["per_image"]):
        del each["seconds"]
    return content


FAST = [("boxes", "class", 2)]
ALL = [
    (kind, by, num) for kind, by in (("boxes", "class"), ("masks", "size"), ("boxes", "size")) for num in (1, 2, 3, 5)
]


@pytest.mark.parametrize(("kind", "by", "num"), slow_but(FAST, ALL))
def test_several_processes_equal_one(made, kind, by, num, tmp_path):
    code, output, messages = command(*arguments(made, kind, by, "one.csv"))(0)
    assert code == 0, messages
    lines = (tmp_path / "one.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1::2]] == [f"test/{number}.jpg" for number in range(NUM - 1)]
    (code, found, messages), *others = forked(num, command(*arguments(made, kind, by, "all.csv", "--resume", "state")))
    assert code == 0 and without_times(found) == without_times(output), messages
    assert others == [(0, "", "")] * (num - 1)
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert {each.name for each in tmp_path.glob("state*")} == {"state", "state.rows"}
    code, found, messages = command(*arguments(made, kind, by, "again.csv", "--resume", "state"))(0)
    assert code == 0 and without_times(found) == without_times(output), messages
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


@pytest.mark.slow
def test_stopped_among_the_rows_they_go_on(made, tmp_path):
    code, output, messages = command(*arguments(made, "boxes", "class", "one.csv"))(0)
    assert code == 0, messages
    work = command(*arguments(made, "boxes", "class", "rows.csv", "--resume", "state"))

    def stopped(rank):
        plain = PerImageEvaluator.update

        def update(self, cams, image_ids):
            plain(self, cams, image_ids)
            if rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        PerImageEvaluator.update = update
        return work(rank)

    first, _ = forked(2, stopped)
    assert first[0] == 130 and "go on with --resume state" in " ".join(first[2].split()), first
    assert not (tmp_path / "rows.csv").exists() and (tmp_path / "state.rows.rank1").exists()
    code, found, messages = work(0)
    assert code == 0 and without_times(found) == without_times(output), messages
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not (tmp_path / "state.rows.rank1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1, 2])
def test_one_that_dies_ends_all_and_they_go_on(made, killed, tmp_path):
    """Nobody watches them, as torchrun does: the others notice it themselves, soon, and keep what they have."""
    code, output, messages = command(*arguments(made, "boxes", "class", "one.csv"))(0)
    assert code == 0, messages
    work, began = command(*arguments(made, "boxes", "class", "rows.csv", "--resume", "state")), time.monotonic()

    def dying(rank):
        plain = PerImageEvaluator.update

        def update(self, cams, image_ids):
            plain(self, cams, image_ids)
            if rank == killed:
                os.kill(os.getpid(), signal.SIGKILL)

        PerImageEvaluator.update = update
        return work(rank)

    ends = forked(3, dying, wait=3)
    assert time.monotonic() - began < 30 and not (tmp_path / "rows.csv").exists()
    assert ends.pop(killed) == -signal.SIGKILL and [end[0] for end in ends] == [terminal.FAILED] * 2, ends
    said = [" ".join(end[2].split()) for end in ends]
    who = f"error: process {killed} of 3"
    for text in said[: 1 if killed else 2]:  # where the first one is gone, each of the others says so
        assert who in text and "what was counted is in state; go on with --resume state" in text, said
    assert not killed or not said[1], said
    (code, found, messages), *_ = forked(2, work)
    assert code == 0 and without_times(found) == without_times(output), messages
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not [*tmp_path.glob("state*.rank*")]

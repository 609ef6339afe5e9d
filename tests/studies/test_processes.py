"""Studies that several processes share: the numbers of one process, whoever counted what, stopped, died or came later.

In: generated splits, stores and folders; forked processes that find each other as torchrun's do. Out: the same JSON.
Source: the same command in one process.
"""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ranks import command, forked
from shared import slow_but, write_split

from wsolkern import Evaluator, studies
from wsolkern.cams import ALONE, CamStore, CamWriter, Manifest, Ranks, meeting
from wsolkern.datasets import load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.files import only_one_at
from wsolkern.metrics import sealed
from wsolkern.ops.inputs import threshold_grid
from wsolkern.studies import counting
from wsolkern.studies.counting import SplitCount

NUM_IMAGES = 37  # odd shares
OPTIONS = ["--size", 16, "--interval", 0.05, "--allow-missing", "--json", "-"]


def ids(name: str) -> list[str]:
    return [f"{name}/{index}.jpg" for index in range(NUM_IMAGES)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Val and test with boxes or masks; stores whose last maps are missing, a store with a damaged shard, a folder."""
    root = tmp_path_factory.mktemp("made")
    for place, (dataset, split) in enumerate(
        [("CUB", "val"), ("CUB", "test"), ("OpenImages", "val"), ("OpenImages", "test")]
    ):
        names, rng = ids(f"{dataset}-{split}"), np.random.default_rng(place)
        has_boxes = dataset == "CUB"
        located = {"box": lambda i: (1, 2, 20 + i % 8, 22)} if has_boxes else {"mask": lambda i: f"{i % 3}.png"}
        write_split(root / "metadata" / dataset / split, names, size=(32, 32), label=lambda i: i % 3, **located)
        run = Manifest(dataset=dataset, split=split, method="CAM", backbone="VGG16")
        maps = rng.normal(size=(NUM_IMAGES, 5, 5)).astype(np.float32)
        with CamWriter(root / f"{dataset}-{split}", run, maps_per_shard=9) as writer:
            writer.add(names[:-2], maps[:-2])
        if (dataset, split) == ("CUB", "test"):
            with CamWriter(root / "uneven", run) as writer:  # not in the order of the split either
                for start, stop in ((30, 35), (3, 4), (4, 21), (0, 3), (21, 29)):
                    writer.add(names[start:stop], maps[start:stop])
                    writer.flush()
            store = CamStore(root / "uneven")
            (store.path / store.shards[3].file).write_bytes(b"damaged")
            for index, name in enumerate(names):
                path = root / "maps" / f"{name}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                if index not in (0, 5, 36):
                    np.save(path, np.full((5, 5, 5), 1.0) if index in (7, 30) else maps[index])
    for index in range(3):
        Image.fromarray(255 * np.pad(np.ones((10, 8 + index), np.uint8), 11)).save(root / f"{index}.png")
    return root


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """Batches of few maps, and a state after each; what is kept unasked is in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "1")
    monkeypatch.setattr(meeting, "_LOOK", 0.1)
    monkeypatch.setattr(meeting, "_LINGER", 1.0)
    monkeypatch.setattr(meeting, "_BEAT", 0.1)
    monkeypatch.setattr(SplitCount, "run", functools.partialmethod(SplitCount.run, save_seconds=0, batch_size=4))


def about(made: Path, name: str, maps: str | None = None) -> list:
    dataset, split = name.split("-")
    return [made / (maps or name), "--metadata", made / "metadata" / dataset / split, *OPTIONS]


COMMANDS = {
    "evaluate_store": lambda made: ["evaluate", "--cams", *about(made, "CUB-test")],
    "evaluate_uneven_damaged": lambda made: ["evaluate", "--cams", *about(made, "CUB-test", "uneven")],
    "evaluate_folder": lambda made: ["evaluate", "--cams", *about(made, "CUB-test", "maps")],
    "evaluate_masks": lambda made: ["evaluate", "--cams", *about(made, "OpenImages-test"), "--mask-root", made],
    "sweep": lambda made: ["sweep", *about(made, "CUB-val"), "-n", "max ivr:0.1..0.5/0.1", "--curves"],
    "sweep_resampled": lambda made: ["sweep", *about(made, "CUB-val"), "-n", "max ivr:0.1", "--num-bootstrap", 40],
    "select": lambda made: [
        *("select", "--val", made / "CUB-val", "--val-metadata", made / "metadata/CUB/val", "--test"),
        *(made / "CUB-test", "--test-metadata", made / "metadata/CUB/test", *OPTIONS, "--num-bootstrap", 40),
        *("--num-val-per-class", 7, "-n", "max ivr:0.1..0.5/0.1"),
    ],
    "select_masks": lambda made: [
        *("select", "--val", made / "OpenImages-val", "--val-metadata", made / "metadata/OpenImages/val", "--test"),
        *(made / "OpenImages-test", "--test-metadata", made / "metadata/OpenImages/test", *OPTIONS),
        *("--num-bootstrap", 40, "--mask-root", made, "-n", "max ivr:0.1..0.5/0.1"),
    ],
    "table": lambda made: [
        *("table", made / "CUB-val", made / "CUB-test", made / "OpenImages-test", "--published", *OPTIONS),
        *("--metadata-root", made / "metadata", "--mask-root", f"OpenImages={made}"),
    ],
}


def without_times(text: str) -> str:
    """The JSON, in the order that it was printed in."""
    return json.dumps({name: value for name, value in json.loads(text).items() if name != "seconds"})


@functools.cache
def _one(name: str, made: Path) -> str:
    code, output, messages = command(*COMMANDS[name](made))(0)
    assert code == 0, messages
    return without_times(output)


@pytest.fixture
def one(made):
    """What one process prints."""
    return lambda name: _one(name, made)


@pytest.fixture
def both(tmp_path_factory) -> Path:
    """Where two processes wait for each other."""
    return tmp_path_factory.mktemp("both")


FAST = [("evaluate_uneven_damaged", 3), ("evaluate_folder", 2), ("select", 2), ("sweep_resampled", 2)]


@pytest.mark.parametrize(("name", "num"), slow_but(FAST, [(name, num) for name in COMMANDS for num in (1, 2, 3, 5)]))
def test_several_processes_equal_one(made, one, name, num, tmp_path):
    state = tmp_path / "state"
    first, *others = forked(num, command(*COMMANDS[name](made), "--resume", state))
    assert first[0] == 0 and without_times(first[1]) == one(name), first[2]
    assert others == [(0, "", "")] * (num - 1)
    assert all(each.name in ("state", "state.rows") for each in tmp_path.iterdir())
    # The state is that of one process, which has nothing left to count.
    code, output, messages = command(*COMMANDS[name](made), "--resume", state)(0)
    assert code == 0 and without_times(output) == one(name), messages


@pytest.mark.slow
def test_more_processes_than_images(made, one, tmp_path):
    """Once all is counted, most have nothing to do."""
    arguments = [*COMMANDS["evaluate_store"](made), "--resume", tmp_path / "state"]
    for _ in range(2):
        (code, output, messages), *others = forked(3, command(*arguments))
        assert code == 0 and without_times(output) == one("evaluate_store") and others == [(0, "", "")] * 2, messages


def doing(deed, at: int, of: tuple[int, ...], work):
    """``work`` in a process, of which those of ``of`` do something at a batch, counted from 0 over all passes."""

    def worked(rank: int):
        plain, seen = SplitCount.update, []

        def update(self, cams, image_ids):
            seen.append(image_ids)
            if len(seen) == at + 1 and rank in of:
                deed()
            return plain(self, cams, image_ids)

        def look(self, done):
            self.wait = 1.0  # not before all have met, which may take longer on a busy machine
            return plain_look(self, done)

        plain_look = meeting.Meeting.at_work
        SplitCount.update, meeting.Meeting.at_work = update, look
        return work(rank)

    return worked


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_together(folder: Path) -> None:
    """SIGTERM in each of two processes, once both are here."""
    (folder / os.environ["RANK"]).touch()
    while not all((folder / rank).exists() for rank in "01"):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def resumed(name: str, made: Path, state: Path, num: int) -> tuple[str, int]:
    """The JSON of the command that goes on, and how many images it counted."""
    work = command(*COMMANDS[name](made), "--resume", state)

    def observed(rank: int):
        plain, seen = SplitCount.update, []
        SplitCount.update = lambda self, cams, names: (plain(self, cams, names), seen.extend(names))[0]
        return work(rank), len(seen)

    found = forked(num, observed)
    (code, output, messages), _ = found[0]
    assert code == 0, messages
    return without_times(output), sum(number for _, number in found)


def num_in(state: Path) -> int:
    """How many images are counted in a state."""
    _, arrays = sealed.unseal(state.read_bytes(), counting._STATE, ("job",))
    return int(np.unpackbits(arrays["counted"]).sum())


KILLED = [("evaluate_store", 1, 3, 2), ("select", 1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "killed", "num", "then"),
    slow_but([], [*KILLED, ("evaluate_store", 1, 2, 1), ("table", 2, 3, 5), ("select_masks", 1, 3, 1)]),
)
def test_a_process_that_dies_costs_nothing_but_its_last_batch(made, one, name, killed, num, then, tmp_path):
    """The others end in time and name it; any number of processes goes on with what all counted."""
    state, at = tmp_path / "state", 2
    work = command(*COMMANDS[name](made), "--resume", state)
    found = forked(num, doing(kill, at, (killed,), work))
    assert found.pop(killed) == -signal.SIGKILL
    first, *others = found
    expected = f"error: process {killed} of {num} has given no sign of life for 1 s (WSOLKERN_WAIT_SECONDS); what was "
    assert first[0] == 2 and f"{expected}counted is in {state}; go on with --resume {state}\n" in first[2]
    assert others == [(2, "", "")] * (num - 2)
    assert (tmp_path / f"state.rank{killed}").exists()
    num_kept = sum(num_in(each) for each in tmp_path.iterdir()) if name == "evaluate_store" else None
    output, num_counted = resumed(name, made, state, then)
    assert output == one(name)
    if name == "evaluate_store":
        assert num_counted == NUM_IMAGES - 2 - num_kept > 0
    assert all(each.name in ("state", "state.rows") for each in tmp_path.iterdir())
    assert resumed(name, made, state, 1) == (one(name), 0)


@pytest.mark.slow
def test_the_first_process_dies(made, one, tmp_path):
    state = tmp_path / "state"
    work = command(*COMMANDS["evaluate_store"](made), "--resume", state)
    found = forked(3, doing(kill, 1, (0,), work))
    assert found[0] == -signal.SIGKILL
    for code, output, messages in found[1:]:
        assert (code, output) == (2, "") and "error: process 0 of 3" in messages
        assert f"what was counted is in {state}; go on with --resume {state}\n" in messages
    assert resumed("evaluate_store", made, state, 2)[0] == one("evaluate_store")


@pytest.mark.parametrize(("name", "then"), slow_but([("evaluate_store", 3)], [("evaluate_store", 3), ("select", 1)]))
def test_stopped_processes_go_on(made, one, name, then, tmp_path, both):
    """SIGTERM comes to all, as from torchrun: one says how far they are."""
    state = tmp_path / "state"
    work = command(*COMMANDS[name](made), "--resume", state)
    first, *others = forked(2, doing(lambda: stop_together(both), 1, (0, 1), work))
    num_all = 21 if name == "select" else NUM_IMAGES
    assert first[0] == 130 and f"16 of {num_all} images are counted in {state}; go on with --resume {state}" in first[2]
    assert others == [(130, "", "")] and (tmp_path / "state.rank1").exists()
    assert resumed(name, made, state, then)[0] == one(name)
    assert all(each.name in ("state", "state.rows") for each in tmp_path.iterdir())


def test_stopped_processes_keep_what_nobody_asked_them_to(made, one, both):
    work = command(*COMMANDS["evaluate_store"](made))
    first, _ = forked(2, doing(lambda: stop_together(both), 1, (0, 1), work))
    state = first[2].split("--resume ")[1].strip()
    assert first[0] == 130 and sorted(os.listdir()) == [state, f"{state}.rank1"]
    assert resumed("evaluate_store", made, Path(state), 1) == (one("evaluate_store"), NUM_IMAGES - 2 - 16)
    assert os.listdir() == [state]


@pytest.mark.slow
def test_one_process_is_stopped(made, one, tmp_path):
    """So are the others, which hear it."""
    state = tmp_path / "state"
    work = command(*COMMANDS["evaluate_store"](made), "--resume", state)
    first, second = forked(2, doing(lambda: os.kill(os.getpid(), signal.SIGTERM), 1, (1,), work))
    assert first[0] == 130 and f"counted in {state}; go on with --resume {state}" in first[2]
    assert second == (130, "", "")
    assert resumed("evaluate_store", made, state, 2)[0] == one("evaluate_store")


@pytest.mark.slow
def test_states_that_are_in_another_one_count_once(made, one, tmp_path, both):
    """As after a kill between the writing of the state and the removal of what it was made from."""
    state = tmp_path / "state"
    work = command(*COMMANDS["evaluate_store"](made), "--resume", state)
    forked(2, doing(lambda: stop_together(both), 1, (0, 1), work))
    left = (tmp_path / "state.rank1").read_bytes()
    assert resumed("evaluate_store", made, state, 1)[0] == one("evaluate_store")
    (tmp_path / "state.rank4").write_bytes(left)
    assert resumed("evaluate_store", made, state, 1) == (one("evaluate_store"), 0)
    assert not (tmp_path / "state.rank4").exists()
    (tmp_path / "state.rank4").write_bytes(b"no state")
    code, _, messages = command(*COMMANDS["evaluate_store"](made), "--resume", state)(0)
    assert code == 2 and "state.rank4: expected saved counts of a split, found another file" in messages


def test_states_that_overlap_are_refused(made):
    split = load_metadata(made / "metadata/CUB/test")
    how = {"boxes": split.resized_boxes((16, 16)), "size": (16, 16), "thresholds": threshold_grid(0.05, "step")}

    def counted(*places: int) -> SplitCount:
        count = SplitCount(Evaluator("max", **how), split.image_ids, "job")
        count.update(np.zeros((len(places), 3, 3)), [split.image_ids[place] for place in places])
        return count

    mine = counted(0, 1, 2)
    assert not mine.take_over(counted(1).to_bytes(), "inner", is_others=True)
    assert mine.take_over(counted(5, 7).to_bytes(), "outer", is_others=True)
    assert mine.num_counted == mine.evaluator.num_images == 5
    before = mine.to_bytes()
    with pytest.raises(ValueError, match="half: some of its images are counted in outer, too; delete the file"):
        mine.take_over(counted(7, 8).to_bytes(), "half", is_others=True)
    assert mine.to_bytes() == before


WRONG = {
    "metadata": (lambda made: ["--metadata", made / "nowhere"], "error: .*nowhere"),
    "normalizations": (lambda made: ["-n", "ivr:2"], "error: normalization .ivr.: percentile 2.0 is not a fraction"),
    "size": (lambda made: ["--size", "0"], "error: --size: expected SIDE or HEIGHTxWIDTH"),
    "nwc": (lambda made: ["--nwc"], "error: nwc: .* was made without NWC maps"),
    "device": (lambda made: ["--device", "tpu"], "error: --device: expected cpu or cuda, found 'tpu'"),
    "state": (lambda made: ["--resume", made / "metadata" / "CUB" / "test" / "image_ids.txt"], "is a file that the"),
    "locked": (lambda made: ["--resume", made / "locked"], "locked: another process is counting into it: process "),
}


@pytest.mark.parametrize("name", slow_but(["metadata", "locked"], WRONG))
def test_what_is_wrong_is_said_once(made, name, tmp_path):
    options, message = WRONG[name]
    work = command(*COMMANDS["evaluate_store"](made), *options(made))
    with only_one_at(made / "locked", "a test"):
        found = forked(3, work)
    assert [code for code, _, _ in found] == [2] * 3 and not any(output for _, output, _ in found)
    assert re.search(message, found[0][2]) and found[0][2].count("error:") == 1
    assert [messages for _, _, messages in found[1:]] == ["", ""] and not list(tmp_path.iterdir())


def test_what_is_wrong_in_one_process_ends_all(made):
    """As where a machine does not have the files; the first one says so."""
    right, wrong = (command(*COMMANDS["evaluate_store"](made), *more) for more in ((), ("--metadata", made / "none")))
    first, second = forked(2, lambda rank: (wrong if rank else right)(rank))
    assert first[:2] == second[:2] == (2, "") and second[2] == ""
    assert first[2].startswith("error: process 1 of 2 has ended: ") and "none" in first[2]


def test_processes_that_count_different_things_end(made):
    names = ("max", "minmax")
    works = [command(*COMMANDS["evaluate_store"](made), "-n", name) for name in names]
    first, second = forked(2, lambda rank: works[rank](rank))
    assert first[:2] == second[:2] == (2, "") and second[2] == ""
    assert first[2].startswith("error: process 1 of 2 is about to count other maps or ground truth, or with other sett")


def evaluate(made: Path, **how):
    split = load_metadata(made / "metadata/CUB/test")
    thresholds = threshold_grid(0.05, "step")
    return studies.evaluate(made / "CUB-test", split, "max ivr:0.3", size=(16, 16), thresholds=thresholds, **how)


def test_the_library_in_a_group_that_is_there(made):
    """Each process of somebody's training gets the whole result; the first one tells the progress."""
    expected = evaluate(made).to_dict() | {"seconds": 0}

    def work(rank: int):
        import torch.distributed as dist

        dist.init_process_group("gloo")
        told, found = [], []
        for _ in range(2):  # as after each epoch
            with Ranks.joined() as ranks:
                assert (ranks.rank, ranks.num_ranks, ranks.gpu) == (rank, 2, None)
                done = evaluate(made, ranks=ranks, progress=lambda what, done, total: told.append((done, total)))
                found.append(done.to_dict() | {"seconds": 0})
        alone = evaluate(made).to_dict() | {"seconds": 0} if rank == 0 else None  # no other one is needed
        dist.barrier()
        dist.destroy_process_group()
        return found, told, alone

    first, second = forked(2, work)
    assert first[0] == second[0] == [expected] * 2 and first[2] == expected
    assert second[1] == [] and first[1][0] == (0, NUM_IMAGES) and first[1][-1] == (NUM_IMAGES, NUM_IMAGES)
    half = first[1][: len(first[1]) // 2]
    assert [done for done, _ in half] == sorted(done for done, _ in half)


def test_what_processes_exchange():
    def work(rank: int):
        with Ranks.joined() as ranks:
            counts = {"b": np.full((2, 3), rank, np.int64), "a": np.array(2**62 // 3 + rank)}
            sums = ranks.sum(counts)
            shares = [range(10)[ranks.share(10)], range(2)[ranks.share(2)], ranks.gpu]
            evaluator = Evaluator("max" if rank < 2 else "minmax", boxes={}, size=(4, 4))
            try:
                evaluator.merge_over(ranks)
            except ArgumentError as error:
                refused = str(error)
            return sums, ranks.gather_first(rank), shares, refused

    found = forked(3, work)
    for rank, (sums, gathered, _, refused) in enumerate(found):
        assert (sums["b"] == 3).all() and sums["b"].shape == (2, 3) and sums["a"] == 3 * (2**62 // 3) + 3
        assert gathered == ([0, 1, 2] if rank == 0 else [])
        assert f"process {0 if rank == 2 else 2}: expected the same normalizations, " in refused
    assert [list(shares[0]) for _, _, shares, _ in found] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert sorted(each for _, _, shares, _ in found for each in shares[1]) == [0, 1]
    assert [shares[2] for _, _, shares, _ in found] == [0, 1, 2]
    assert ALONE.sum({"a": np.array(3)}) == {"a": 3} and ALONE.gather_first(5) == [5] and ALONE.at_work(7) == 7


@pytest.mark.slow
@pytest.mark.parametrize("case", ["right", "usage", "wrong", "killed"])
def test_torchrun(made, one, case, tmp_path):
    """The real one: output once, what is wrong once, and a process that is killed ends all at once."""
    state = tmp_path / "state"
    (tmp_path / "mine.py").write_text(
        "import os, signal\n"
        "from wsolkern.cli import main\n"
        "from wsolkern.studies.counting import SplitCount\n"
        "update = SplitCount.update\n"
        "def dying(self, cams, image_ids):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    import time\n"
        "    time.sleep(0.5)\n"
        "    return update(self, cams, image_ids)\n"
        "SplitCount.update = dying\n"
        "main()\n"
    )
    more = {"usage": ["--no-such-option"], "wrong": ["-n", "ivr:2"]}.get(case, [])
    run = [tmp_path / "mine.py"] if case == "killed" else ["-m", "wsolkern"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *run]
    done = subprocess.run(
        [*map(str, [*torchrun, *COMMANDS["evaluate_store"](made), "--resume", state, *more])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    if case == "right":
        assert done.returncode == 0 and without_times(done.stdout) == one("evaluate_store"), done.stderr
    else:
        message = {"usage": "No such option", "wrong": "error: ", "killed": "interrupted: "}[case]
        assert done.returncode == 1 and done.stderr.count(message) == 1 and not done.stdout, done.stderr
    if case == "killed":
        assert "Signal 9 (SIGKILL)" in done.stderr and f"go on with --resume {state}" in done.stderr
        assert resumed("evaluate_store", made, state, 2)[0] == one("evaluate_store")


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_files_of_torchrun_are_those_of_one_process(made, num, tmp_path):
    """The real one: rows of images and groups; the JSON of a sweep with intervals."""
    sweep = ["sweep", *about(made, "CUB-val"), "-n", "max ivr:0.1", "--num-bootstrap", 40, "--json", "sweep.json"]
    rows = ["evaluate", "--cams", *about(made, "CUB-test", "uneven"), "--per-image", "rows.csv", "--by", "class"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", num]
    written = []
    for several in (False, True):
        for arguments in ([*rows, "--json", "found.json"], sweep):
            if several:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                run = list(map(str, [*torchrun, "-m", "wsolkern", *arguments]))
                done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=100)
                assert done.returncode == 0, done.stderr
            else:
                code, _, messages = command(*arguments)(0)
                assert code == 0, messages
        written.append([(tmp_path / "rows.csv").read_bytes()])
        for file in ("found.json", "sweep.json"):
            content = json.loads((tmp_path / file).read_text())
            for each in (content, content.get("per_image", {})):
                each.pop("seconds", None)
            written[-1].append(json.dumps(content))
            (tmp_path / file).unlink()
        (tmp_path / "rows.csv").unlink()
    assert written[0] == written[1]

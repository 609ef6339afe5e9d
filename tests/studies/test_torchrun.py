"""Commands that torchrun starts in several processes: every file and every printed line is that of one process.

In: small stores of few and of uneven shards, torchrun itself; forked processes for splits of an image or two. Out: the
same bytes but for how long it took.
Source: the same command in one process.
"""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from ranks import command, forked
from shared import slow_but, write_split

from wsolkern.cams import CamWriter, Manifest, meeting

NUM = 23
SHARDS = ((15, 22), (3, 4), (4, 15), (0, 3))  # not in the order of the split; the last image has no map
COMMANDS = {
    "rows_by_class": ["evaluate", "--cams", "STORE", "--per-image", "rows.csv", "--by", "class"],
    "by_size": ["evaluate", "--cams", "STORE", "--by", "size", "--curves"],
    "sweep": ["sweep", "STORE", "--num-bootstrap", 39, "--csv", "all.csv", "--curves"],
}


def world(root, num, shards):
    """A split of so many images, and their maps."""
    rng, ids = np.random.default_rng(num), [f"test/{number}.jpg" for number in range(num)]
    write_split(
        root / "metadata", ids, size=(32, 32), label=lambda i: i % 3, box=lambda i: (1, 2, 14 + i % 9, 10 + i % 13)
    )
    maps, logits = (rng.normal(size=(num, *shape)).astype(np.float32) for shape in ((5, 5), (7,)))
    with CamWriter(root / "store", Manifest()) as writer:
        for start, stop in shards:
            writer.add(ids[start:stop], maps[start:stop], logits=logits[start:stop])
            writer.flush()
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return world(tmp_path_factory.mktemp("made"), NUM, SHARDS)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WSOLKERN_NUM_THREADS": 1, "OMP_NUM_THREADS": 1, "COLUMNS": 150}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(meeting, "_LINGER", 1.0)
    for each in ("one", "all"):
        (tmp_path / each).mkdir()


def arguments(made, name, *more):
    options = ["--metadata", made / "metadata", "--size", 16, "--interval", 0.05, "-n", "max ivr:0.2..0.4/0.1"]
    named = [made / "store" if each == "STORE" else each for each in COMMANDS[name]]
    return [str(each) for each in (*named, *options, "--allow-missing", "--json", "found.json", *more)]


def torchrun(num, *run, timeout=100, cwd=None):
    """What torchrun leaves of so many processes: exit code, output, messages."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", num, *run]
    return subprocess.run([*map(str, start)], capture_output=True, text=True, timeout=timeout, cwd=cwd)


def written(folder):
    """Name -> content of all files in a folder; how long something took is made 0."""
    return {path.name: re.sub(rb'"seconds": [0-9.]+', b'"seconds": 0', path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def one(made, tmp_path, monkeypatch):
    """Name of a command -> what one process prints and writes."""

    def run(name, made=made):
        monkeypatch.chdir(tmp_path / "one")
        code, output, messages = command(*arguments(made, name))(0)
        assert code == 0, messages
        files = written(tmp_path / "one")
        more = {"rows_by_class": "rows.csv", "sweep": "all.csv"}
        assert files.keys() == {"found.json", more[name]} if name in more else {"found.json"}
        return output, files

    return run


@pytest.mark.parametrize(
    ("name", "num"), slow_but([("rows_by_class", 2)], [(name, num) for name in COMMANDS for num in (1, 2, 3, 5)])
)
def test_torchrun_writes_what_one_process_does(made, one, name, num, tmp_path):
    output, files = one(name)
    done = torchrun(num, "-m", "wsolkern", *arguments(made, name), cwd=tmp_path / "all")
    assert done.returncode == 0, done.stderr
    assert written(tmp_path / "all") == files and done.stdout == output
    if name == "rows_by_class":
        assert files["rows.csv"].count(b"\n") == 1 + (NUM - 1) * 4


WORLDS = {
    "an_image": (1, [(0, 1)]),
    "two_images_of_a_shard": (2, [(0, 2)]),
    "two_shards": (8, [(6, 8), (0, 6)]),
    "a_shard_an_image": (4, [(3, 4), (1, 2), (2, 3), (0, 1)]),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("case", "num"),
    slow_but([("an_image", 3), ("two_shards", 3)], [(case, num) for case in WORLDS for num in (2, 3, 5)]),
)
def test_more_processes_than_shards_or_images(one, case, num, name, tmp_path, monkeypatch):
    made = world(tmp_path, *WORLDS[case])
    output, files = one(name, made)
    monkeypatch.chdir(tmp_path / "all")
    (code, found, messages), *others = forked(num, command(*arguments(made, name)))
    assert code == 0 and written(tmp_path / "all") == files and found == output, messages
    assert others == [(0, "", "")] * (num - 1)


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("killed", [0, 1])
def test_what_a_killed_process_leaves_is_gone_on_with(made, one, killed, num, tmp_path):
    """torchrun ends soon, with an error; any number of processes then write what one does."""
    output, files = one("rows_by_class")
    (tmp_path / "mine.py").write_text(
        "import functools, os, signal, time\n"
        "from wsolkern.cli import main\n"
        "from wsolkern.metrics.per_image import PerImageEvaluator\n"
        "from wsolkern.studies.counting import SplitCount\n"
        "SplitCount.run = functools.partialmethod(SplitCount.run, save_seconds=0, batch_size=2)\n"
        "update = PerImageEvaluator.update\n"
        "def dying(self, cams, image_ids):\n"
        f"    if os.environ['RANK'] == '{killed}' and self.num_images >= 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    time.sleep(0.1)\n"
        "    return update(self, cams, image_ids)\n"
        "PerImageEvaluator.update = dying\n"
        "main()\n"
    )
    began, folder = time.monotonic(), tmp_path / "all"
    state = tmp_path / "state"
    stopped = torchrun(2, tmp_path / "mine.py", *arguments(made, "rows_by_class", "--resume", state), cwd=folder)
    assert stopped.returncode == 1 and time.monotonic() - began < 60, stopped.stderr
    assert "Signal 9 (SIGKILL)" in stopped.stderr and "rows.csv" not in written(folder), stopped.stderr
    assert (tmp_path / "state.rows").exists() and (tmp_path / "state.rows.rank1").exists()
    done = torchrun(num, "-m", "wsolkern", *arguments(made, "rows_by_class", "--resume", state), cwd=folder)
    assert done.returncode == 0 and written(folder) == files and done.stdout == output, done.stderr
    assert not [*tmp_path.glob("state*.rank*")]

"""Several processes: who is waited for, how long, and what the others hear; one process at a state and at a run.

In: real processes that meet, fail, stop and die. Out: a message that names them within seconds, and no hang.
Source: none.
"""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from shared import write_split
from typer.testing import CliRunner

from wsolkern.cams import CamStore, CamWriter, Manifest, Ranks, meeting
from wsolkern.cli import app
from wsolkern.errors import DatasetError
from wsolkern.files import only_one_at
from wsolkern.training import Recipe, checkpoints

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", meeting.WAIT)

# Gathers a few times, does what it is told, and gathers once more.
PROGRAM = """
import os, signal, sys, time
from wsolkern.cams import Ranks, meeting
meeting._FIRST_NOTICE, meeting._LOOK = 1.0, 0.2
try:
    with Ranks.joined() as ranks:
        for turn in range(20):
            assert ranks.gather((ranks.rank, turn)) == [(each, turn) for each in range(ranks.num_ranks)]
        exec(sys.argv[1])
        print(ranks.gather(ranks.rank), flush=True)
except (OSError, ValueError) as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    sys.exit(2)
"""


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("localhost", 0))
        return each.getsockname()[1]


def start(rank: int, port: int, deed: str, wait: float = 2) -> subprocess.Popen:
    settings = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port, meeting.WAIT: wait}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, deed],
        env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two(*deeds: str) -> list[tuple[int, str, str]]:
    """Exit code, output and messages of each."""
    port = free_port()
    several = [start(rank, port, deed) for rank, deed in enumerate(deeds)]
    try:
        outputs = [each.communicate(timeout=40) for each in several]
    finally:
        for each in several:
            each.kill()
    return [(each.returncode, *output) for each, output in zip(several, outputs, strict=True)]


@pytest.mark.slow
def test_processes_gather():
    assert two("", "") == [(0, "[0, 1]\n", "")] * 2


@pytest.mark.slow
def test_a_slow_process_is_waited_for_and_named():
    slow, fast = two("time.sleep(4)", "")  # longer than a process without a sign of life would be
    assert slow[:2] == fast[:2] == (0, "[0, 1]\n")
    assert "waiting for process 0 (it is at work) of 2" in fast[2]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_others_hear_why_a_process_ended(rank):
    deeds = ["", ""]
    deeds[rank] = "raise ValueError('no such file')"
    done = two(*deeds)
    assert done[rank][:2] == (2, "ValueError: no such file\n")
    assert done[1 - rank][:2] == (2, f"ConnectionError: process {rank} of 2 has ended: no such file\n")


@pytest.mark.slow
def test_a_process_that_died_is_named():
    code, output, _ = two("", "os._exit(1)")[0]
    expected = f"TimeoutError: process 1 of 2 has given no sign of life for 2 s ({meeting.WAIT})\n"
    assert (code, output) == (2, expected)


@pytest.mark.slow
def test_where_all_meet_has_died():
    code, output, _ = two("os._exit(1)", "")[1]
    assert code == 2 and output.startswith("ConnectionError: process 0 of 2, where all meet, has ended: ")


@pytest.mark.slow
def test_a_process_that_is_stopped_is_named():
    port = free_port()
    waiting, stopped = start(0, port, ""), start(1, port, "os.kill(os.getpid(), signal.SIGSTOP)")
    try:
        output, messages = waiting.communicate(timeout=40)
    finally:
        stopped.kill()
        waiting.kill()
        stopped.communicate()
    assert output == f"TimeoutError: process 1 of 2 has given no sign of life for 2 s ({meeting.WAIT})\n"
    assert "waiting for process 1 (" in messages and waiting.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_never_begins(rank):
    """As with a stray WORLD_SIZE and RANK."""
    began = time.monotonic()
    alone = start(rank, free_port(), "", wait=1.5)
    output, messages = alone.communicate(timeout=40)
    assert alone.returncode == 2 and time.monotonic() - began < 20
    assert output.startswith(f"TimeoutError: process {1 - rank} of 2 has not begun for 1.5 s ({meeting.WAIT})")
    assert output.endswith("; unset WORLD_SIZE and RANK to run in one process\n")
    assert "waiting for process" in messages


@pytest.mark.slow
def test_an_interrupt_ends_the_waiting():
    alone = start(0, free_port(), "", wait=60)
    assert "waiting for process 1 (it has not begun) of 2" in alone.stderr.readline()
    sent = time.monotonic()
    alone.send_signal(signal.SIGINT)
    alone.communicate(timeout=20)
    assert alone.returncode == -signal.SIGINT and time.monotonic() - sent < 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE: expected an integer, at least 1, found ''"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected an integer, at least 1, found 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: expected an integer, at least 1, found '0'"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE: expected an integer, at least 1, found '²'"),
        ({"RANK": ""}, "RANK: expected an integer, at least 0, found ''"),
        ({"RANK": "-1"}, "RANK: expected an integer, at least 0, found '-1'"),
        ({"RANK": "1"}, "RANK: expected less than WORLD_SIZE, 1, found 1"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK: expected less than WORLD_SIZE, 2, found 2"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK: expected an integer, at least 0, found 'x'"),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK: expected less than LOCAL_WORLD_SIZE, 2, found 3"),
        ({"WORLD_SIZE": "2"}, "MASTER_ADDR: expected where 2 processes meet, found none; unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, "MASTER_PORT: expected a port, found ''; unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "99999"}, "MASTER_PORT: expected a port"),
        ({"WORLD_SIZE": "2", meeting.WAIT: "soon"}, f"{meeting.WAIT}: expected seconds, .* found 'soon'"),
        ({"WORLD_SIZE": "2", meeting.WAIT: "0"}, f"{meeting.WAIT}: expected seconds, more than 0"),
        ({"WORLD_SIZE": "2", meeting.WAIT: "nan"}, f"{meeting.WAIT}: expected seconds, more than 0"),
        ({"WORLD_SIZE": "2", meeting.WAIT: "inf"}, f"{meeting.WAIT}: expected seconds, more than 0"),
    ],
)
def test_variables_are_named(settings, message, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        with Ranks.joined():
            pass


def test_one_process_meets_nobody(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Ranks.joined() as ranks:
        assert ranks == Ranks() and ranks.gather("alone") == ["alone"]


@pytest.fixture
def split(tmp_path):
    """A store of three maps, and its metadata."""
    ids = ["a.jpg", "b.jpg", "c.jpg"]
    write_split(tmp_path / "metadata", ids, size=(224, 224), box=(1, 1, 150, 150))
    with CamWriter(tmp_path / "store", Manifest()) as writer:
        writer.add(ids, np.random.default_rng(0).random((3, 4, 4), np.float32))
    return tmp_path


@pytest.mark.slow
def test_torchrun_of_a_command_for_one_process(split):
    """The first process does it; what comes out is there once."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "wsolkern", "diagnose", "store", "--resume", "state"],
        cwd=split,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ratio of 8.19") == 1 and (split / "state").exists()
    assert "process 1 of 2: wsolkern diagnose is done by one process alone, that of RANK=0" in done.stderr
    assert sorted(path.name for path in split.iterdir()) == ["metadata", "state", "store"]


def test_a_stray_rank(split, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, code in (("1", 2), ("0", 0)):
        monkeypatch.setenv("RANK", rank)
        done = CliRunner().invoke(app, ["diagnose", str(split / "store")])
        assert done.exit_code == code, done.output
        assert ("unset RANK and WORLD_SIZE to run it here" in done.stderr) == (code == 2)
        assert bool(done.stdout) == (code == 0)
        shared = ["sweep", str(split / "store"), "--metadata", str(split / "metadata"), "-n", "minmax"]
        done = CliRunner().invoke(app, shared)
        assert done.exit_code == 2 and "MASTER_ADDR: expected where 2 processes meet, found none" in done.stderr


@pytest.mark.parametrize("command", ["sweep", "evaluate"])
def test_two_processes_at_one_state(split, command):
    store = ["--cams", str(split / "store")] if command == "evaluate" else [str(split / "store")]
    arguments = [command, *store, "--metadata", str(split / "metadata"), "-n", "minmax", "--resume"]
    (split / "link").symlink_to(split / "state")
    with only_one_at(split / "state", "a test"):
        for name in ("state", "link"):
            done = CliRunner().invoke(app, [*arguments, str(split / name)])
            assert done.exit_code == 2 and not done.stdout
            assert f"{name}: another process is counting into it: process {os.getpid()} on " in done.stderr
    assert CliRunner().invoke(app, [*arguments, str(split / "state")]).exit_code == 0
    assert sorted(path.name for path in split.iterdir()) == ["link", "metadata", "state", "store"]


def test_two_trainings_in_one_folder(tmp_path):
    recipe = Recipe.read(None, {"backbone": "vgg16", "method": "cam"})
    with checkpoints.claimed(tmp_path / "run", recipe, Ranks()):
        with pytest.raises(DatasetError, match=f"run: another process is training there: process {os.getpid()} on "):
            with checkpoints.claimed(tmp_path / "run", recipe, Ranks()):
                pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [checkpoints.RECIPE]
    with checkpoints.claimed(tmp_path / "run", recipe, Ranks()):
        pass
    other = Recipe.read(None, {"backbone": "vgg16", "method": "cam", "seed": 5})
    with pytest.raises(ValueError, match="the run there has other settings"):
        with checkpoints.claimed(tmp_path / "run", other, Ranks()):
            pass


@pytest.mark.slow
def test_a_rank_that_dies_costs_only_its_own_pending_maps(tmp_path):
    """The others end in time, with a message, and the same command goes on with what they made."""
    (tmp_path / "images" / "0").mkdir(parents=True)
    for index in range(12):
        Image.new("RGB", (8, 8), (20 * index, 0, 0)).save(tmp_path / "images" / "0" / f"{index:02}.png")
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "calls = []\n"
        "def model():\n"
        "    return look\n"
        "def look(images, classes):\n"
        "    calls.append(1)\n"
        "    if os.environ.get('RANK') == '1' and len(calls) == 3:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return images.mean(1)\n"
    )
    command = [sys.executable, "-m", "wsolkern", "extract", "mine:model", "--images", "images", "-o", "store"]
    command += ["--size", "8", "--batch-size", "1"]
    address = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), meeting.WAIT: "2"}
    how = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, env={**os.environ, **address, "RANK": rank}, **how) for rank in "01"]
    messages = [each.communicate(timeout=60)[1] for each in several]
    assert [each.returncode for each in several] == [2, -signal.SIGKILL], messages
    assert f"error: process 1 of 2 has given no sign of life for 2 s ({meeting.WAIT})" in messages[0]
    assert CamStore(tmp_path / "store.rank0").num_maps == 6
    done = subprocess.run(command, **how)
    assert done.returncode == 0 and "store: 12 CAMs" in done.stdout, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "images",
        "mine.py",
        "store",
    ]

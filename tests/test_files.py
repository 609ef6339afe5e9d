"""Opening, replacing and locking files: only regular files, whole or not at all, one holder at a time."""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from wsolkern import files
from wsolkern.errors import DatasetError

LONG = "x" * 250 + ".json"


@pytest.fixture
def special(tmp_path):
    """Things that are no regular files: kind in messages -> path."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(os.fspath(tmp_path / "socket"))
        yield {"a FIFO": tmp_path / "fifo", "a folder": tmp_path / "folder", "a device": "/dev/null"}


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device"])
@pytest.mark.parametrize("door", [files.read_regular, lambda path: files.write_whole(path, b"new"), files.check_target])
def test_only_regular_files(special, kind, door):
    with pytest.raises(OSError, match=re.escape(f"{special[kind]}: expected a regular file, found {kind}")):
        door(special[kind])


def test_a_socket_is_no_file(special, tmp_path):
    with pytest.raises(OSError, match="socket"):
        files.read_regular(tmp_path / "socket")


@pytest.mark.parametrize("name", ["plain.json", LONG, "ä" * 120 + ".json"])
def test_write_whole(tmp_path, name):
    path = tmp_path / name
    for content in (b"first", b"second, longer"):
        files.write_whole(path, content)
        assert path.read_bytes() == content == files.read_regular(path)
    assert os.listdir(tmp_path) == [name]


def test_write_whole_keeps_mode_and_link(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    files.write_whole(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("write", [files.check_target, lambda path: files.write_whole(path, b"new")])
def test_targets_that_cannot_be_written(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="missing/x.json: no such folder"):
        write(tmp_path / "missing" / "x.json")
    with pytest.raises(OSError, match="File name too long"):
        write(tmp_path / ("x" * 300))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/x.json"):
        write(tmp_path / "file" / "x.json")


def test_a_full_disk_is_named_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "old.json"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys; from wsolkern import files; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); files.write_whole(sys.argv[1], bytes(5000))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "File too large" in done.stderr and os.fspath(path) in done.stderr
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["old.json"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "x"
    code = (
        "import os, sys; from wsolkern import files; files.sync_folder = None;"
        "os.replace = lambda *_: os.kill(os.getpid(), 9); files.write_whole(sys.argv[1], b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    assert [each.endswith(files.UNFINISHED) for each in os.listdir(tmp_path)] == [True]
    files.write_whole(path, b"whole")
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_process_left_takes_no_room(tmp_path):
    """It is gone before the next one writes, also if that one fails."""
    path = tmp_path / "x"
    kill = "import os, sys; from wsolkern import files; os.replace = lambda *_: os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", f"{kill}; files.write_whole(sys.argv[1], b'half')", path])
    assert len(os.listdir(tmp_path)) == 1
    code = (
        "import resource, signal, sys; from wsolkern import files; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); files.write_whole(sys.argv[1], bytes(5000))"
    )
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True).returncode == 1
    assert os.listdir(tmp_path) == []


def test_two_processes_write_one_file(tmp_path):
    path = tmp_path / "x"
    code = """
import sys
from wsolkern import files
for _ in range(50):
    files.write_whole(sys.argv[1], sys.argv[2].encode())
"""
    several = [subprocess.Popen([sys.executable, "-c", code, path, each]) for each in ("a", "b", "c")]
    assert [each.wait() for each in several] == [0, 0, 0]
    assert path.read_text() in "abc" and os.listdir(tmp_path) == ["x"]


def test_only_one_says_who_holds_it(tmp_path):
    lock = tmp_path / ".lock"
    with files.only_one(lock, "the run: somebody is at it"):
        with pytest.raises(DatasetError, match=f"the run: somebody is at it: process {os.getpid()} on .* since 20"):
            with files.only_one(lock, "the run: somebody is at it"):
                pass
    assert not lock.exists()
    with files.only_one(lock, "again"):
        assert lock.exists()


@pytest.mark.parametrize("name", ["state", LONG])
def test_only_one_at_a_file(tmp_path, name):
    path, link = tmp_path / name, tmp_path / "link"
    link.symlink_to(path)
    with files.only_one_at(path, "the state is taken"):
        with pytest.raises(DatasetError, match=f"the state is taken: process {os.getpid()} on "):
            with files.only_one_at(link, "the state is taken"):
                pass
        with files.only_one_at(tmp_path / f"{name}2"[-250:], "another one"):
            pass
    assert os.listdir(tmp_path) == ["link"]
    with pytest.raises(FileNotFoundError, match="missing/x: no such folder"):
        with files.only_one_at(tmp_path / "missing" / "x", "nowhere"):
            pass


def _sleep():
    time.sleep(60)


@pytest.mark.parametrize("died", [False, True])
def test_a_forked_child_holds_no_lock(tmp_path, died):
    """Neither when the holder leaves while the child lives, nor when the holder is killed."""
    lock = tmp_path / ".lock"
    if died:
        code = (
            "import os, sys, time; from wsolkern import files\n"
            "with files.only_one(sys.argv[1], 'held'):\n"
            "    if os.fork() == 0: print(os.getpid(), flush=True)\n"
            "    time.sleep(60)\n"
        )
        done = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True)
        child = int(done.stdout.readline())
        done.kill()
        done.wait()
        stop = lambda: os.kill(child, signal.SIGKILL)  # noqa: E731
    else:
        process = multiprocessing.get_context("fork").Process(target=_sleep)
        with files.only_one(lock, "held"):
            process.start()
            time.sleep(0.2)  # its hooks have run
        stop = process.kill
    try:
        with files.only_one(lock, "held still"):
            pass
    finally:
        stop()


def test_threads_take_turns(tmp_path):
    lock, holders, most = tmp_path / ".lock", [], []

    def work():
        for _ in range(50):
            try:
                with files.only_one(lock, "held"):
                    holders.append(1)
                    most.append(len(holders))
                    holders.pop()
            except DatasetError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most and max(most) == 1


def test_a_lock_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(OSError, match="expected a regular file, found a FIFO"):
        with files.only_one(tmp_path / ".lock", "held"):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"\.lock: this file system has no locks \(No locks available\).*another one"):
        with files.only_one(tmp_path / ".lock", "held"):
            pass

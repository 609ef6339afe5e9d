"""Several processes in a test, forked from this one, so that none has to load anything.

In: what each of them does. Out: what it gives, or the signal that killed it.
Source: none.
"""

import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wsolkern.cams import meeting

PATIENCE = 60  # seconds that processes have


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def forked(num: int, work: Callable[[int], object], wait: float = 20.0) -> list:
    """What ``work(rank)`` gives in each of so many forked processes, which find each other as torchrun's do.

    Of a process that was killed it is the signal, negative.
    """
    port, began = free_port(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        children = [_fork(rank, num, port, wait, work, Path(folder, str(rank))) for rank in range(num)]
        codes = []
        try:
            for child in children:
                while not (found := os.waitpid(child, os.WNOHANG))[0]:
                    assert time.monotonic() - began < PATIENCE, "a process hangs"
                    time.sleep(0.005)
                codes.append(os.waitstatus_to_exitcode(found[1]))
        finally:
            for child in children[len(codes) :]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return [
            pickle.loads(Path(folder, str(rank)).read_bytes()) if code == 0 else code for rank, code in enumerate(codes)
        ]


def _fork(rank: int, num: int, port: int, wait: float, work: Callable[[int], object], result: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        local = {"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": num}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}  # no name to look up
        settings = {"RANK": rank, "WORLD_SIZE": num, **local, **address}
        os.environ.update({name: str(value) for name, value in {**settings, meeting.WAIT: wait}.items()})
        result.write_bytes(pickle.dumps(work(rank)))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def command(*arguments: object) -> Callable[[int], tuple[int, str, str]]:
    """For :func:`forked`: wsolkern's command line; gives exit code, output and messages."""
    from typer.testing import CliRunner

    from wsolkern.cli import app

    def work(rank: int) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [str(each) for each in arguments])
        return done.exit_code, done.stdout, done.stderr

    return work

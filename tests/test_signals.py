"""Signals, forks and the end of the process, while native calls and long loops are at work.

In: real signals to real processes. Out: one exception at the right moment, counts that are whole, no abort, no hang.
Source: none.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from shared import slow_but, write_split

from wsolkern import Evaluator, ops
from wsolkern.interrupts import interrupts_raise, interrupts_wait, unbroken
from wsolkern.studies.counting import count_maps

PATIENCE = 1.5  # seconds; 0.1 on a machine that does nothing else, and more than 0.7 were seen on a busy one
BOX = np.array([[40, 30, 180, 200]])


def run_python(code: str, *arguments, timeout: float = 60, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )


@contextmanager
def signal_after(seconds: float, number: int = signal.SIGINT):
    """Sends this process a signal; yields a list that gets the moment."""
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    timer = threading.Timer(seconds, send)
    timer.start()
    try:
        yield sent
    finally:
        timer.cancel()
        timer.join()


def cams(num_maps: int, side: int = 14) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_maps, side, side))


# Each takes seconds when nobody interrupts it.
LONG = {
    "20,000 maps": lambda: ops.count_box_hits(cams(20_000), [BOX] * 20_000, ["minmax"]),
    "24 normalizations": lambda: ops.count_box_hits(
        cams(20_000), [BOX] * 20_000, [f"ivr:{percent / 100}" for percent in range(24)]
    ),
    "hits": lambda: ops.box_hits(cams(20_000, 7), [BOX] * 20_000, ["max"], [0.1, 0.5]),
    "IoUs": lambda: ops.box_ious(cams(20_000, 7), [BOX] * 20_000, ["max"], [0.1, 0.5]),
    "IoUs of one map": lambda: ops.box_ious(
        np.random.default_rng(0).random((1, 2048, 2048)), [BOX], None, [0.1], contours="largest"
    ),
    "localizations": lambda: ops.localize(cams(40_000, 7), ["ivr:0.4"], [0.1, 0.5]),
    "masks": lambda: ops.count_pixels(cams(20_000), np.ones((20_000, 48, 48), np.uint8), ["minmax"], size=(48, 48)),
    "score maps": lambda: ops.threshold_boxes(np.random.default_rng(0).random((200, 224, 224))),
    "one map": lambda: ops.threshold_boxes(np.random.default_rng(0).random((1, 2048, 2048)), contours="largest"),
}


FEW = [("hits", "3"), ("masks", "3"), ("score maps", "3")]


@pytest.mark.parametrize(("work", "threads"), slow_but(FEW, product(LONG, ["3", "1"])))
def test_ctrl_c_in_a_native_call(work, threads, monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", threads)
    with signal_after(0.6) as sent, pytest.raises(KeyboardInterrupt):
        LONG[work]()
        time.sleep(10)
    assert time.monotonic() - sent[0] < PATIENCE


@pytest.mark.slow
def test_what_a_handler_raises_leaves_the_call_and_nothing_is_counted(native):
    def handler(*_):
        raise LookupError("from the handler")

    ids = list(range(20_000))
    evaluator = Evaluator(["minmax"], boxes=dict.fromkeys(ids, BOX))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with signal_after(0.3, signal.SIGUSR1), pytest.raises(LookupError, match="from the handler"):
            evaluator.update(cams(20_000), ids)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert evaluator.num_images == 0 and not evaluator.num_correct.any()
    evaluator.update(cams(3), ids[:3])  # after what interrupted threads left
    expected, _ = ops.count_box_hits(cams(3), [BOX] * 3, ["minmax"], contours="both", backend="reference")
    np.testing.assert_array_equal(evaluator.num_correct, expected)


def test_a_handler_that_raises_nothing_may_evaluate_itself(native):
    few, at = cams(40), []
    expected = ops.count_box_hits(few, [BOX] * 40, ["minmax"])[0]

    def handler(*_):
        at.append(time.monotonic())
        np.testing.assert_array_equal(ops.count_box_hits(few, [BOX] * 40, ["minmax"])[0], expected)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with signal_after(0.2, signal.SIGUSR1) as sent:
            counts = ops.count_box_hits(np.tile(few, (100, 1, 1)), [BOX] * 4000, ["minmax"])[0]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert at[0] - sent[0] < PATIENCE
    np.testing.assert_array_equal(counts, 100 * expected)


def test_a_signal_stops_no_other_thread():
    few = cams(40)
    expected, found = ops.count_box_hits(few, [BOX] * 40, ["minmax"])[0], []

    def work():
        found.append(ops.count_box_hits(np.tile(few, (100, 1, 1)), [BOX] * 4000, ["minmax"])[0])

    thread = threading.Thread(target=work)
    with signal_after(0.2), pytest.raises(KeyboardInterrupt):
        thread.start()
        time.sleep(10)
    thread.join()
    np.testing.assert_array_equal(found[0], 100 * expected)


ENDS = {"exit": ("sys.exit(3)", 3), "error": ("raise RuntimeError('on purpose')", 1), "end": ("pass", 0)}


@pytest.mark.parametrize(
    ("how", "code"),
    [pytest.param(*each, id=name, marks=() if name == "exit" else pytest.mark.slow) for name, each in ENDS.items()],
)
def test_a_process_ends_while_daemon_threads_evaluate(how, code):
    program = f"""
        import sys, threading, time
        import numpy as np
        from wsolkern import ops
        cams, boxes = np.random.default_rng(0).random((16, 14, 14)), [np.array([[40, 30, 180, 200]])] * 16

        def work():
            while True:
                ops.count_box_hits(cams, boxes, ['minmax', 'ivr:0.3'])

        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
        {how}
    """
    for _ in range(3):
        done = run_python(program, WSOLKERN_NUM_THREADS="2")
        assert done.returncode == code, done.stderr
        assert "terminate" not in done.stderr and "Fatal" not in done.stderr


def test_a_process_does_not_wait_for_the_native_call_of_a_daemon_thread():
    done = run_python(
        """
        import sys, threading, time
        import numpy as np
        from wsolkern import ops

        def work():
            cams, box = np.random.default_rng(0).random((20_000, 14, 14)), np.array([[40, 30, 180, 200]])
            ops.count_box_hits(cams, [box] * len(cams), ["minmax"])
            print("counted", flush=True)

        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.7)
        sys.exit(3)
        """,
        WSOLKERN_NUM_THREADS="2",
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.slow
def test_forked_children_wait_for_no_lock_of_their_parents_threads():
    done = run_python(
        """
        import os, signal, threading, time
        import numpy as np
        from wsolkern.ops.backends import native
        maps, affines = np.random.default_rng(0).random((16, 2, 2)), np.ones((16, 2))

        def work():
            while True:
                native().normalize(maps, affines, np.empty_like(maps), 16)

        native().start_stages(True)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(600):
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # ends it if it hangs
                native().normalize(maps, affines, np.empty_like(maps), 2)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, "a child hangs"
        print("none hangs", flush=True)
        os._exit(0)
        """
    )
    assert done.stdout == "none hangs\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_raise_one_interrupt(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupts_raise():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(5)
        os.kill(os.getpid(), number)  # what is done about the first one is not disturbed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_interrupts_wait_for_the_end_of_a_block():
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait() as came:
        assert not came()
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append(came())
        steps.append("the end")
    assert steps == [True, "the end"]
    with pytest.raises(KeyboardInterrupt), interrupts_raise():
        with unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("unbroken")
        steps.append("never")
    assert steps[2:] == ["unbroken"]
    with pytest.raises(KeyboardInterrupt), unbroken():  # nobody asked for this to be held back
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


def test_an_error_in_a_block_is_not_hidden_by_an_interrupt():
    with pytest.raises(LookupError), interrupts_raise(), interrupts_wait():
        os.kill(os.getpid(), signal.SIGINT)
        raise LookupError


def test_a_signal_that_is_ignored_stays_ignored():
    """As in a shell's background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_raise():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_after_a_while_ends_the_process(number):
    done = run_python(
        """
        import os, sys, time
        from wsolkern import interrupts
        interrupts._AGAIN = 0.2
        with interrupts.interrupts_wait():
            for _ in range(2):  # the second one comes at once
                os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(0.3)
            print("goes on", flush=True)
            os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(5)
            print("never")
        """,
        int(number),
    )
    assert (done.returncode, done.stdout, done.stderr) == (-number, "goes on\n", "")


def test_other_threads_have_no_interrupts():
    found = []

    def work():
        with interrupts_raise(), interrupts_wait() as came, unbroken():
            found.append(came())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


class Searching:
    """A source that looks for maps and finds none."""

    image_ids, problems = (), {}

    def batches(self, size):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            time.sleep(0.01)
        yield from ()


def test_a_search_is_interrupted():
    with signal_after(0.2, signal.SIGTERM) as sent, pytest.raises(KeyboardInterrupt), interrupts_raise():
        count_maps(Evaluator(boxes={}), Searching())
    assert time.monotonic() - sent[0] < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_search_for_missing_maps_is_interrupted(tmp_path, number):
    metadata, ids = tmp_path / "metadata", [f"folder/{index}.jpg" for index in range(100_000)]
    (tmp_path / "maps").mkdir()
    write_split(metadata, ids, size=(9, 9), box=(1, 1, 5, 5))
    # Folders that are slow to look into.
    program = """
        import os, sys, time
        from wsolkern.cli import main
        from wsolkern.datasets import MapFolder
        plain = MapFolder._read_window

        def slowly(*arguments):
            print("searching", flush=True)
            time.sleep(0.05)
            return plain(*arguments)

        MapFolder._read_window = slowly
        sys.argv = ["wsolkern", "evaluate", "--cams", "maps", "--metadata", "metadata"]
        main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(number)
    sent = time.monotonic()
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted: 0 of 100,000 images are counted" in messages
    assert time.monotonic() - sent < 3  # with the end of the process

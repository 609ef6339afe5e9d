"""How long Ctrl-C takes in the longest native calls: `python -m benchmarks.interrupts`.

In: 1,000 maps of 224 x 224 of white noise, which have the most components, and 24 normalizations. Out: for each call
the distribution of the time from SIGINT, sent to a process of its own at a random moment of the call, to
KeyboardInterrupt, and of the time to the process's end; 1 as exit code if a KeyboardInterrupt took more than 100 ms.
Source: none.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

import numpy as np
from rich.console import Console

from benchmarks import harness, inputs
from benchmarks.harness import RESULTS, WrongResult
from wsolkern import ops
from wsolkern.defaults import SIZE

LIMIT_MS = 100.0  # what native calls promise; see csrc/cpu/stop.h
MANY = [f"ivr:{percent / 100}" for percent in range(0, 96, 4)]
NUM_MAPS = 1000
CALLS = {
    "counts, 24 normalizations": lambda maps, boxes: ops.count_box_hits(maps, boxes, MANY, contours="both"),
    "IoUs, 24 normalizations": lambda maps, boxes: ops.box_ious(maps, boxes, MANY, contours="all"),
    "pixels, 24 normalizations": lambda maps, boxes: ops.count_pixels(maps, np.ones(maps.shape, np.uint8), MANY),
    "boxes of score maps": lambda maps, boxes: ops.threshold_boxes(maps, contours="all"),
    "localizations": lambda maps, boxes: ops.localize(maps, MANY, [0.1, 0.3, 0.5]),
}

# What is interrupted is a process of its own; its moments are CLOCK_MONOTONIC's, which all processes share.
CHILD = "import sys; from benchmarks.interrupts import be_interrupted; be_interrupted(*sys.argv[1:])"


def main() -> int:
    """Runs the command line; 1 if a KeyboardInterrupt took too long, or none came."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interrupts", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=list(CALLS), help="which (default: all)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of a call (default: 1 2)")
    parser.add_argument("--processes", type=int, default=4, help="for each call (default: %(default)s)")
    parser.add_argument("--signals", type=int, default=10, help="to each process (default: %(default)s)")
    parser.add_argument(
        "--within", type=float, default=2.0, help="seconds after the call's begin that they come (default: %(default)s)"
    )
    parser.add_argument("--maps", type=int, default=NUM_MAPS, help="in a call (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which moments and maps (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    rng, rows, load = np.random.default_rng(arguments.seed), [], [os.getloadavg()[0]]
    console.print("milliseconds, each the least, the median, the 95th percentile and the most")
    try:
        for name in arguments.calls:
            for threads in arguments.threads:
                how = arguments.processes, arguments.signals, arguments.within, arguments.maps
                rows.append(measure(name, threads, *how, rng))
                console.print(described(rows[-1]))
    except WrongResult as error:
        console.print(f"WRONG RESULT: {error}", style="red")
        return 1
    load.append(os.getloadavg()[0])
    if arguments.save:
        about = {"machine": harness.describe(), "options": vars(arguments), "load": load}
        print(f"written: {harness.save({**about, 'rows': rows}, 'interrupts')}")
    return int(any(max(row["interrupt_ms"]) > LIMIT_MS for row in rows))


def measure(
    name: str,
    threads: int,
    num_processes: int,
    num_signals: int,
    within: float,
    num_maps: int,
    rng: np.random.Generator,
) -> dict:
    """Interrupts a call in real processes.

    Args:
        name: One of CALLS.
        threads: How many it uses.
        num_processes: Processes, one after the other.
        num_signals: To each; the last one ends it.
        within: Seconds after a call's begin that a signal comes, at a random moment of them.
        num_maps: In a call.
        rng: Of the moments.

    Returns:
        JSON-able: milliseconds to each KeyboardInterrupt, and to each process's end.

    Raises:
        WrongResult: The process ended without a signal, or did not end by the last one.
    """
    interrupts, ends = [], []
    for number in range(num_processes):
        command = [sys.executable, "-c", CHILD, name, str(num_signals), str(num_maps), str(number)]
        environment = os.environ | {"WSOLKERN_NUM_THREADS": str(threads)}
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": harness.ROOT}
        with subprocess.Popen(command, env=environment, **how) as child:
            for moment in rng.uniform(0, within, num_signals):
                _expect(name, child, "begins")
                time.sleep(moment)
                sent = time.monotonic()
                child.send_signal(signal.SIGINT)
                interrupts.append((float(_expect(name, child, "interrupted").split()[1]) - sent) * 1e3)
            child.communicate()
            ends.append((time.monotonic() - sent) * 1e3)
        if child.returncode != -signal.SIGINT:
            raise WrongResult(f"{name}: exit code {child.returncode}, expected that of SIGINT")
    return {"call": name, "threads": threads, "num_maps": num_maps, "interrupt_ms": interrupts, "end_ms": ends}


def _expect(name: str, child: subprocess.Popen, word: str) -> str:
    line = child.stdout.readline()
    if not line.startswith(word):
        child.kill()
        raise WrongResult(f"{name}: expected {word!r}, found {line.strip()!r} {child.stderr.read().strip()[-500:]}")
    return line


def be_interrupted(name: str, num_signals: str, num_maps: str, seed: str) -> None:
    """Makes a call again and again, and says when it begins and when it was interrupted; the last signal ends it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    rng = np.random.default_rng(int(seed))
    maps, boxes = rng.random((int(num_maps), *SIZE)), inputs.synthetic_boxes(rng, int(num_maps))
    CALLS[name](maps[:2], boxes[:2])  # what is imported at first use is
    for number in range(int(num_signals)):
        try:
            print("begins", flush=True)
            while True:
                CALLS[name](maps, boxes)
        except KeyboardInterrupt:
            print(f"interrupted {time.monotonic()}", flush=True)
            if number == int(num_signals) - 1:
                raise


def described(row: dict) -> str:
    """A row as one line."""
    texts = []
    for what in ("interrupt_ms", "end_ms"):
        figures = " ".join(f"{each:5.1f}" for each in np.percentile(row[what], (0, 50, 95, 100)))
        texts.append(f"{figures} of {len(row[what])}")
    return f"{row['call']:<26} threads: {row['threads']}  to KeyboardInterrupt: {texts[0]}  to the end: {texts[1]}"


if __name__ == "__main__":
    sys.exit(main())

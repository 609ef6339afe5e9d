"""What all benchmarks share: no time without equality, medians and pairs, cores, and one JSON a run.

In: calls to time, and the running machine. Out: seconds; a result file that says where, on which commit and on what.
Source: /proc/cpuinfo and git.
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BATCH_SECONDS, BATCH_REPEATS = 1.0, 5
_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "asimd", "sve")


class WrongResult(Exception):
    """A result differs from what it must be, so there is nothing to time."""


def use_cores(cores: Sequence[int]) -> None:
    """Keeps this process on ``cores``, with as many threads; OpenCV always uses one."""
    os.sched_setaffinity(0, cores)
    os.environ["WSOLKERN_NUM_THREADS"] = str(len(cores))
    cv2.setNumThreads(1)


def batch_seconds(call: Callable[[], object]) -> float:
    """Seconds a call, the median of at least BATCH_REPEATS after one to warm up."""
    call()
    times = []
    while len(times) < BATCH_REPEATS or sum(times) < BATCH_SECONDS:
        times.append(seconds(call))
    return float(np.median(times))


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rounds(calls: Sequence[Callable[[], object]], number: int) -> np.ndarray:
    """Seconds [number, calls], the calls right after each other in each round: the machine's speed may drift."""
    return np.array([[seconds(call) for call in calls] for _ in range(number + 1)][1:])  # the first warms up


def save(results: dict, subject: str, folder: Path = RESULTS) -> Path:
    """Writes a run as one JSON, whose name says when, on which machine, on which commit and what was measured.

    Args:
        results: JSON-able; ``results["machine"]`` is that of :func:`describe`, more may be in it.
        subject: Such as "cpu-avx2".
        folder: Where to write; made if it is not there.
    """
    about = results["machine"]
    stamp = about["date"].replace(":", "").replace("+0000", "Z")
    device = about.get("device", {}).get("name") or about["cpu"]
    names = (stamp, subject, re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-"), (about["commit"] or "unknown")[:7])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'-'.join(names)}.json"
    path.write_text(json.dumps({"subject": subject, **results}, indent=1) + "\n")
    return path


def memory_bytes() -> dict[str, int]:
    """What this process has in memory (VmRSS) and the most that it had (VmHWM), in bytes; Linux only."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def describe() -> dict:
    """Date, processor, versions and commit, JSON-able."""
    import wsolkern
    from wsolkern import machine

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_info("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in _FLAGS if flag in (_cpu_info("flags") or _cpu_info("Features") or "").split()],
        "num_cores": machine.num_cores(),
        "isa": os.environ.get("WSOLKERN_ISA", "auto"),
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "wsolkern": wsolkern.__version__,
        },
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
    }


def _cpu_info(key: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), None)


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def copy_bandwidth() -> float:
    """Bytes a second that one core reads and writes when copying 128 MiB, the median of 9 copies."""
    source = np.ones(2**24)
    target = np.empty_like(source)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return 2 * source.nbytes / float(np.median(times[1:]))

"""Where a benchmark ran: processor, vector instructions, versions, commit; and how to keep it on given cores.

In: the running machine. Out: a dictionary for the result file.
Source: /proc/cpuinfo and git.
"""

import os
import platform
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "asimd", "sve")


def describe() -> dict:
    """Date, processor, versions and commit, JSON-able."""
    import wsolkern

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_info("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in _FLAGS if flag in (_cpu_info("flags") or _cpu_info("Features") or "").split()],
        "num_cores": len(os.sched_getaffinity(0)),
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

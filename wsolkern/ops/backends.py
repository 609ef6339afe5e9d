"""Which machine code runs an operation on this computer.

In: a backend's name, WSOLKERN_ISA and WSOLKERN_NUM_THREADS. Out: the native module, a number of threads.
Source: none; every backend returns the same bits, so this choice changes the speed and nothing else.
"""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from wsolkern.errors import BackendUnavailable

ISAS = ("avx512", "avx2", "generic")  # best first; each is a module wsolkern._native_<isa>
MAX_IOU_THRESHOLDS = 32  # what one native call takes; the operations cut more than that into several calls


def native() -> ModuleType:
    """The native module for this CPU, or the one that WSOLKERN_ISA names.

    Raises:
        BackendUnavailable: It is not built, or this CPU cannot run it.
    """
    return load(os.environ.get("WSOLKERN_ISA") or runnable_isas()[0])


@cache
def runnable_isas() -> tuple[str, ...]:
    """The instruction sets that this CPU has and this installation was built for, best first.

    Raises:
        BackendUnavailable: Not even the portable module is built.
    """
    supported = {"generic", *_import("generic").cpu_supports()}
    return tuple(isa for isa in ISAS if isa in supported and find_spec(f"wsolkern._native_{isa}"))


@cache
def load(isa: str) -> ModuleType:
    """The native module for one instruction set.

    Raises:
        BackendUnavailable: It is not built, or this CPU cannot run it.
    """
    if isa not in ISAS:
        raise BackendUnavailable(f"WSOLKERN_ISA: expected one of {', '.join(ISAS)}, found {isa!r}")
    supported = {"generic", *_import("generic").cpu_supports()}
    if isa not in supported:
        raise BackendUnavailable(f"WSOLKERN_ISA={isa}: this CPU has only {', '.join(sorted(supported))}")
    return _import(isa)


def num_threads() -> int:
    """How many threads an operation may use: WSOLKERN_NUM_THREADS, else the cores this process may run on.

    Raises:
        ValueError: WSOLKERN_NUM_THREADS is not a positive integer.
    """
    wanted = os.environ.get("WSOLKERN_NUM_THREADS", "")
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (wanted.isascii() and wanted.isdigit() and int(wanted) >= 1):
        raise ValueError(f"WSOLKERN_NUM_THREADS: expected a positive integer, found {wanted!r}")
    return int(wanted)


def resolve(backend: str) -> str:
    """The backend that runs: "reference" or "cpu".

    Args:
        backend: "auto" (the fastest that can run here), "reference" (plain numpy and scipy), "cpu" or "cuda".

    Raises:
        ValueError: No such backend.
        BackendUnavailable: It cannot run here; the message says what is missing. "auto" never means "reference".
    """
    if backend == "reference":
        return backend
    if backend == "cuda":
        raise BackendUnavailable('backend "cuda" is not in this version of wsolkern: use "auto" or "cpu"')
    if backend not in ("auto", "cpu"):
        raise ValueError(f'backend: expected "auto", "reference", "cpu" or "cuda", found {backend!r}')
    native()
    return "cpu"


def _import(isa: str) -> ModuleType:
    try:
        return import_module(f"wsolkern._native_{isa}")
    except ImportError as error:
        raise BackendUnavailable(
            f"wsolkern._native_{isa} does not load ({error}): build it with `pip install -e .` in a checkout"
        ) from error

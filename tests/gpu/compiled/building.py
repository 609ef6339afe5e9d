"""The compiled device code as libraries of the host: built once for each content and architecture, and kept.

In: csrc/cuda.cu, or a launch of a Triton kernel. Out: a shared library in which machine.h runs and checks the kernels.
Source: ptx.py translates; the folder is WSOLKERN_COMPILED_CACHE, or "compiled" in pytest's cache.
"""

import ctypes
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from . import ptx

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
CUDA_SOURCE, MODULE_SOURCE = CSRC / "cuda.cu", CSRC / "device_module.cpp"
ROOMS = ROOT / "wsolkern" / "ops" / "gpu"
ARCHITECTURES = (80, 90)
GXX = [
    os.environ.get("CXX", "g++"), "-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fno-gnu-unique", "-fvisibility=hidden", "-pthread", "-w",
]  # fmt: skip


def missing() -> str:
    """What keeps the compiled code from being run here; empty if nothing does."""
    if sysconfig.get_platform() != "linux-x86_64":
        return "runs compiled device code on x86-64 Linux only"
    if shutil.which("nvcc") is None:
        return "needs nvcc"
    try:
        import triton.backends.nvidia  # noqa: F401
    except ImportError:
        return "needs Triton with its backend for NVIDIA"
    return ""


def _folder() -> Path:
    folder = Path(os.environ.get("WSOLKERN_COMPILED_CACHE") or ROOT / ".pytest_cache" / "compiled")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _key(*parts: bytes | str) -> str:
    return hashlib.sha256(b"\0".join(p.encode() if isinstance(p, str) else p for p in parts)).hexdigest()[:24]


def _kept(name: str, make) -> Path:
    """A file of the cache; ``make`` writes it first if it is not there."""
    path = _folder() / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as folder:
            new = Path(folder) / name
            make(new)
            new.replace(path)
    return path


def _run(command: list, **how) -> None:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, **how)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _library(name: str, translated: str, stand_in: str, *more) -> Path:
    """Compiles translated kernels together with the file that launches them."""
    code = "\n".join([(HERE / "machine.h").read_text(), translated, (HERE / stand_in).read_text()])
    sources = [Path(each).read_bytes() for each in more if Path(each).is_file()]

    def make(path: Path) -> None:
        source = path.with_suffix(".cpp")
        source.write_text(code)
        _run([*GXX, source, *more, "-o", path])

    return _kept(f"{name}-{_key(code, *GXX, *map(str, more), *sources)}.so", make)


@cache
def trees(architecture: int) -> Path:
    """The Python module of the device code, with the kernels of csrc/cuda.cu as nvcc compiles them."""
    import pybind11

    content = b"".join(each.read_bytes() for each in sorted(CSRC.rglob("*")) if each.is_file())
    command = ["nvcc", "-std=c++20", "-O3", "-fmad=false", f"-arch=sm_{architecture}", f"-I{CSRC}", "-ptx", CUDA_SOURCE]
    made = _kept(f"cuda-{_key(content, *map(str, command))}.ptx", lambda path: _run([*command, "-o", path]))
    includes = [f"-I{each}" for each in (pybind11.get_include(), sysconfig.get_path("include"), CSRC)]
    flags = ["-DWSOLKERN_MODULE=_emulated", f"-DWSOLKERN_CONTENT=0x{_key(content)[:8]}", *includes]
    return _library("trees", ptx.translate(made.read_text()), "trees.cpp", MODULE_SOURCE, *flags)


_BY_TRITON = """
import json, pickle, sys
import triton
from triton.backends.compiler import GPUTarget
from benchmarks.compile_table import source_of
from wsolkern.ops.gpu import launching
launch, architecture, path = pickle.load(sys.stdin.buffer)
made = triton.compile(source_of(launch), target=GPUTarget("cuda", architecture, 32), options=launching.OPTIONS)
open(path, "w").write(json.dumps({"ptx": made.asm["ptx"], "shared": made.metadata.shared}))
"""


@cache
def triton_kernel(launch, architecture: int) -> tuple[ctypes.CDLL, int]:
    """The library of one launch of a Triton kernel, and the bytes of shared memory that a block takes."""
    import triton

    sources = b"".join(each.read_bytes() for each in sorted(ROOMS.glob("*.py")))

    def compile_it(path: Path) -> None:  # in a process of its own, as this one may have Triton interpret
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        command = [sys.executable, "-c", _BY_TRITON]
        done = subprocess.run(
            command,
            input=pickle.dumps((launch, architecture, str(path))),
            capture_output=True,
            env=environment,
            cwd=ROOT,
        )
        if done.returncode:
            raise RuntimeError(f"Triton does not compile {launch.kernel}:\n{done.stderr.decode()[-4000:]}")

    name = f"{launch.kernel}-{_key(sources, repr(launch), str(architecture), triton.__version__)}.json"
    made = json.loads(_kept(name, compile_it).read_text())
    library = ctypes.CDLL(str(_library(launch.kernel, ptx.translate(made["ptx"]), "triton.cpp")))
    library.run.restype = ctypes.c_char_p
    return library, made["shared"]

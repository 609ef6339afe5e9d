"""The compiled device code as libraries of the host: built once for each content and architecture, and kept.

In: csrc/gpu/cuda.cu, or a launch of a Triton kernel. Out: a shared library in which machine.h runs and checks it.
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
CUDA_SOURCE, MODULE_SOURCE = CSRC / "gpu" / "cuda.cu", CSRC / "gpu" / "module.cpp"
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


def opened(path: Path) -> ctypes.CDLL:
    """A library with the types of what it exports."""
    library = ctypes.CDLL(str(path))
    library.configure.argtypes = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, ctypes.c_uint64
    library.site_text.restype = library.site_kernel.restype = ctypes.c_char_p
    library.times_reached.restype = ctypes.c_uint64
    if hasattr(library, "run"):
        library.run.restype = ctypes.c_char_p
    return library


@cache
def trees(architecture: int) -> Path:
    """The Python module of the device code, with the kernels of csrc/gpu/cuda.cu as nvcc compiles them."""
    import pybind11

    content = b"".join(each.read_bytes() for each in sorted(CSRC.rglob("*")) if each.is_file())
    command = [
        "nvcc",
        "-std=c++20",
        "-O3",
        "-fmad=false",
        "-lineinfo",
        f"-arch=sm_{architecture}",
        f"-I{CSRC}",
        "-ptx",
        CUDA_SOURCE,
    ]
    made = _kept(f"cuda-{_key(content, *map(str, command))}.ptx", lambda path: _run([*command, "-o", path]))
    includes = [f"-I{each}" for each in (pybind11.get_include(), sysconfig.get_path("include"), CSRC)]
    flags = ["-DWSOLKERN_MODULE=_emulated", f"-DWSOLKERN_CONTENT=0x{_key(content)[:8]}", *includes]
    return _library("trees", ptx.translate(made.read_text()), "trees.cpp", MODULE_SOURCE, *flags)


@cache
def launching() -> Path:
    """The Python module of the device code, on a CUDA runtime that only writes down what it is asked."""
    import pybind11

    content = b"".join(each.read_bytes() for each in [*sorted(CSRC.rglob("*.*")), HERE / "runtime.cpp"])
    includes = [f"-I{each}" for each in (pybind11.get_include(), sysconfig.get_path("include"), CSRC)]
    sources = [CUDA_SOURCE, MODULE_SOURCE, HERE / "runtime.cpp"]
    command = ["nvcc", "-std=c++20", "-O1", "-gencode=arch=compute_90,code=compute_90", "--cudart=none", "-shared"]
    command += ["-Xcompiler=-fPIC", "-DWSOLKERN_MODULE=_launching", *includes, *sources]
    made = f"launching-{_key(content, *map(str, command))}"
    return _kept(f"{made}.so", lambda path: _run([*command, "-o", path]))


_BY_TRITON = """
import pickle, sys
import triton
from triton.backends.compiler import GPUTarget
from benchmarks.compile_table import source_of
from wsolkern.ops.gpu import launching
while True:
    try:
        launch, architecture = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        target = GPUTarget("cuda", architecture, 32)
        made = triton.compile(source_of(launch), target=target, options=launching.options(launch.kernel))
        answer = {"ptx": made.asm["ptx"], "shared": made.metadata.shared}
    except Exception as error:
        answer = {"error": repr(error)}
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@cache
def _compiler() -> subprocess.Popen:
    """A process that compiles what it is sent: this one may have Triton interpret. It ends when its input does."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", _BY_TRITON], cwd=ROOT, env=environment, **pipes)


@cache
def triton_kernel(launch, architecture: int) -> tuple[ctypes.CDLL, int]:
    """The library of one launch of a Triton kernel, and the bytes of shared memory that a block takes."""
    import triton

    sources = b"".join(each.read_bytes() for each in sorted(ROOMS.glob("*.py")))

    def compile_it(path: Path) -> None:
        pickle.dump((launch, architecture), _compiler().stdin)
        _compiler().stdin.flush()
        answer = pickle.load(_compiler().stdout)
        if "error" in answer:
            raise RuntimeError(f"Triton does not compile {launch.kernel}: {answer['error']}")
        path.write_text(json.dumps(answer))

    name = f"{launch.kernel}-{_key(sources, repr(launch), str(architecture), triton.__version__)}.json"
    made = json.loads(_kept(name, compile_it).read_text())
    return opened(_library(launch.kernel, ptx.translate(made["ptx"]), "triton.cpp")), made["shared"]

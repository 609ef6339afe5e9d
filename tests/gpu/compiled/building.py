"""The compiled device code as libraries of the host: built once for each content and architecture, and kept.

In: csrc/gpu/cuda.cu, or a launch of a Triton kernel. Out: a shared library in which machine.h runs and checks it.
Source: ptx.py translates, tests/kept.py keeps.
"""

import ctypes
import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from tests.kept import CSRC, CXX, ROOT, bindings, content, folder, kept, key, run

from . import ptx

HERE = Path(__file__).parent
CUDA_SOURCE = CSRC / "gpu" / "cuda.cu"
ROOMS = ROOT / "wsolkern" / "ops" / "gpu"
ARCHITECTURES = (80, 90)
GXX = [
    CXX, "-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
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


def _library(name: str, translated: str, stand_in: str, *more) -> Path:
    """Compiles translated kernels together with the file that launches them."""
    code = "\n".join([(HERE / "machine.h").read_text(), translated, (HERE / stand_in).read_text()])
    sources = [Path(each).read_bytes() for each in more if Path(each).is_file()]

    def make(path: Path) -> None:
        source = path.with_suffix(".cpp")
        source.write_text(code)
        run([*GXX, source, *more, "-o", path])

    return kept(f"{name}-{key(code, *GXX, *map(str, more), *sources)}.so", make)


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
def device_code(architecture: int) -> tuple[Path, Path]:
    """What nvcc makes of csrc/gpu/cuda.cu: its PTX, and the object that holds it and the host's side."""
    target = f"-gencode=arch=compute_{architecture},code=compute_{architecture}"
    command = ["nvcc", "-std=c++20", "-O3", "-fmad=false", "-lineinfo", target, "-Xcompiler=-fPIC", f"-I{CSRC}"]
    name = f"cuda-{key(content(), *command)}"

    def compile_it(path: Path) -> None:
        run([*command, "--keep", f"--keep-dir={path.parent}", "-c", CUDA_SOURCE, "-o", path])
        (path.parent / "cuda.ptx").replace(folder() / f"{name}.ptx")

    return folder() / f"{name}.ptx", kept(f"{name}.o", compile_it)


@cache
def trees(architecture: int) -> Path:
    """The Python module of the device code, with the kernels of csrc/gpu/cuda.cu as nvcc compiles them."""
    made, _ = device_code(architecture)
    return _library("trees", ptx.translate(made.read_text()), "trees.cpp", bindings(), f"-I{CSRC}")


@cache
def launching() -> Path:
    """The Python module of the device code, on a CUDA runtime that only writes down what it is asked."""
    _, made = device_code(90)
    command = ["nvcc", "-std=c++20", "-O1", "--cudart=none", "-shared", "-Xcompiler=-fPIC", HERE / "runtime.cpp"]
    command += [made, bindings()]
    name = f"launching-{key((HERE / 'runtime.cpp').read_bytes(), *map(str, command))}.so"
    return kept(name, lambda path: run([*command, "-o", path]))


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
        made = triton.compile(source_of(launch), target=target, options=launching.OPTIONS)
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

    name = f"{launch.kernel}-{key(sources, repr(launch), str(architecture), triton.__version__)}.json"
    made = json.loads(kept(name, compile_it).read_text())
    return opened(_library(launch.kernel, ptx.translate(made["ptx"]), "triton.cpp")), made["shared"]


def forget() -> None:
    """What was opened is to be built with other flags."""
    trees.cache_clear()
    triton_kernel.cache_clear()

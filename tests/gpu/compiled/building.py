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
COUNTING = HERE / "counting.h"
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


def _library(name: str, ptx_code: str, stand_in: str, *more, counts: bool = False, only: str = "") -> Path:
    """Compiles translated kernels together with the file that launches them."""
    machine = (HERE / "machine.h").read_text()
    if counts:
        machine = "#define WSOLKERN_COUNTS\n" + machine.replace('#include "counting.h"', COUNTING.read_text())
    translated = ptx.translate(ptx_code, counts=counts, only=only)
    code = "\n".join([machine, translated, (HERE / stand_in).read_text()])
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
    library.site_text.restype = library.site_kernel.restype = library.met.restype = ctypes.c_char_p
    library.times_reached.restype = ctypes.c_uint64
    if hasattr(library, "take_counts"):
        library.take_counts.restype = ctypes.c_char_p
    if hasattr(library, "run"):
        library.run.restype = ctypes.c_char_p
    return library


def _nvcc(architecture: int, csrc: Path) -> tuple[str, list]:
    """A name for what nvcc makes of csrc/gpu/cuda.cu, and the command for PTX."""
    target = f"-gencode=arch=compute_{architecture},code=compute_{architecture}"
    command = ["nvcc", "-std=c++20", "-O3", "-fmad=false", "-lineinfo", target, "-Xcompiler=-fPIC", f"-I{csrc}"]
    return f"cuda-{key(content(csrc), *command)}", command


def _object(architecture: int, csrc: Path = CSRC) -> Path:
    """The object that holds the PTX and the host's side; the PTX lies beside it."""
    name, command = _nvcc(architecture, csrc)

    def compile_it(path: Path) -> None:
        run([*command, "--keep", f"--keep-dir={path.parent}", "-c", csrc / "gpu" / "cuda.cu", "-o", path])
        (path.parent / "cuda.ptx").replace(folder() / f"{name}.ptx")

    return kept(f"{name}.o", compile_it)


def cuda_ptx(architecture: int, csrc: Path = CSRC) -> Path:
    """What nvcc makes of csrc/gpu/cuda.cu."""
    return _object(architecture, csrc).with_suffix(".ptx")


def cubin(architecture: int, csrc: Path = CSRC) -> Path:
    """The machine code of it."""
    name, command = _nvcc(architecture, csrc)
    command = [f"-arch=sm_{architecture}" if each.startswith("-gencode") else each for each in command]
    source = csrc / "gpu" / "cuda.cu"
    return kept(f"{name}.cubin", lambda path: run([*command, "-cubin", source, "-o", path]))


@cache
def trees(architecture: int, counts: bool = False, csrc: Path = CSRC) -> Path:
    """The Python module of the device code, with the kernels of csrc/gpu/cuda.cu as nvcc compiles them.

    With ``counts`` those of maps that fit shared memory, counted instead of checked.
    """
    how = {"counts": True, "only": "^(?!list_boxes_kernel)"} if counts else {}
    made = cuda_ptx(architecture, csrc).read_text()
    return _library("trees", made, "trees.cpp", bindings(csrc=csrc), f"-I{csrc}", **how)


@cache
def launching() -> Path:
    """The Python module of the device code, on a CUDA runtime that only writes down what it is asked.

    It keeps to that one where torch, built for CUDA, has loaded the other for all libraries of the process.
    """
    command = ["nvcc", "-std=c++20", "-O1", "--cudart=none", "-shared", "-Xcompiler=-fPIC", "-Xlinker=-Bsymbolic"]
    command += [HERE / "runtime.cpp", _object(90), bindings()]
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
def triton_kernel(launch, architecture: int, counts: bool = False) -> tuple[ctypes.CDLL, int]:
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
    return opened(_library(launch.kernel, made["ptx"], "triton.cpp", counts=counts)), made["shared"]

"""What is compiled, with what, and where the CUDA extension lies.

In: csrc, the compilers and the cards of this machine. Out: a compiler; wsolkern._cuda as a file, and as a module.
Source: none.

setup.py compiles the extension with the package, and `wsolkern doctor --build-cuda` afterwards: a wheel has its
sources alone. setup.py imports this where nothing is installed but Python.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from wsolkern.errors import ArgumentError, BackendUnavailable
from wsolkern.files import write_whole

CUDA = "wsolkern._cuda"
ALL_CUDA_ARCHS = ("75", "80", "86", "89", "90", "100", "120")
LEAST_NVCC = 12, 8  # older ones do not know 10.0 and 12.0
HOST_FLAGS = "-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra"
NVCC_FLAGS = ("-std=c++20", "-O3", "-fmad=false", f"-Xcompiler={HOST_FLAGS}", "--cudart=static", "--threads=0")
NEEDS_NVCC = "the CUDA toolkit 12.8 or newer, with nvcc on PATH or below CUDA_HOME"
NEEDS_COMPILER = """wsolkern is compiled here, and found no C++ compiler ({looked_for}). Install one:
  Debian, Ubuntu:      apt-get install g++ python3-dev
  Fedora, Rocky Linux: dnf install gcc-c++ python3-devel
  Alpine:              apk add g++ python3-dev
  conda:               conda install -c conda-forge cxx-compiler
  macOS:               xcode-select --install"""


def compiler() -> str:
    """The C++ compiler: the one that CXX names, else Python's own, else another that is there.

    Raises:
        BackendUnavailable: There is none.
    """
    named = os.environ.get("CXX", "").split()[:1]
    own = (sysconfig.get_config_var("CXX") or "").split()[:1]
    candidates = named or list(dict.fromkeys([*own, "c++", "g++", "clang++"]))
    found = next(filter(shutil.which, candidates), None)
    if found is None:
        looked_for = f"CXX={named[0]}" if named else f"no CXX is set, and none of {', '.join(candidates)} is there"
        raise BackendUnavailable(NEEDS_COMPILER.format(looked_for=looked_for))
    return found


def nvcc() -> str | None:
    """Path of the CUDA compiler."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=os.path.join(home, "bin")) if home else shutil.which("nvcc")


def cards() -> list[str]:
    """The architectures of this machine's cards, such as "90"; none without a driver."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return sorted({card.strip().replace(".", "") for card in answer.splitlines()}, key=int)


@dataclass(frozen=True)
class CudaTargets:
    """What the CUDA extension is compiled for."""

    machine_code: tuple[str, ...]
    """Architectures that need nothing of the driver, such as "90"."""
    ptx: str
    """The architecture of the PTX, which a driver compiles for any later card when it first runs there."""

    def __str__(self) -> str:
        return (
            f"{', '.join(f'sm_{arch}' for arch in self.machine_code) or 'no machine code'}, PTX of compute_{self.ptx}"
        )


def cuda_targets(wanted: str | None = None) -> CudaTargets:
    """What the CUDA extension is to be compiled for.

    Args:
        wanted: "80 90" is machine code for these, and PTX of the last for what comes after it; "all" is every
            architecture, as CI has it. None: what WSOLKERN_CUDA_ARCHS says, and without it the cards of this machine,
            and PTX of the oldest architecture.

    Raises:
        ArgumentError: It is no architecture that nvcc knows.
    """
    argument = "WSOLKERN_CUDA_ARCHS" if wanted is None else "arch"
    words = (os.environ.get("WSOLKERN_CUDA_ARCHS", "") if wanted is None else wanted).split()
    known = _known_to_nvcc()
    if not words and wanted is None:
        return CudaTargets(tuple(card for card in cards() if card in known), ALL_CUDA_ARCHS[0])
    named = ALL_CUDA_ARCHS if words == ["all"] else tuple(each.replace(".", "").removeprefix("sm_") for each in words)
    if not named or not set(named) <= set(known):
        found = f"{' '.join(words)[:80]!r}, and nvcc knows {', '.join(known) or 'none'}"
        raise ArgumentError(argument, f'expected "all" or architectures such as "90" or "80 90", found {found}')
    return CudaTargets(named, named[-1])


def _known_to_nvcc() -> list[str]:
    try:
        answer = subprocess.run(
            [nvcc() or "nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return sorted(set(re.findall(r"compute_(\d+)\b", answer)), key=int)


def sources() -> Path:
    """The folder csrc: in an installed package, or beside the package in a checkout.

    Raises:
        BackendUnavailable: It is in neither.
    """
    package = Path(__file__).parent
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / "gpu" / "cuda.cu").is_file():
            return folder
    raise BackendUnavailable(f"{package / 'csrc'}: expected the sources of {CUDA}, found none; install wsolkern again")


def cuda_sources(csrc: Path) -> list[Path]:
    """The files in csrc that the CUDA extension is made of, relative to it."""
    found = (path for part in ("gpu", "shared") for path in (csrc / part).rglob("*"))
    return sorted(path.relative_to(csrc) for path in found if path.suffix in (".h", ".cu") or path.name == "module.cpp")


@cache
def fingerprint() -> str:
    """What a build of these sources has in it, and one of others does not."""
    csrc, digest = sources(), hashlib.sha256(" ".join(NVCC_FLAGS).encode())
    for path in cuda_sources(csrc):
        content = (csrc / path).read_bytes()
        digest.update(f"\n{path.as_posix()} {len(content)}\n".encode() + content)
    return f"wsolkern-cuda-{digest.hexdigest()}"


def compile_cuda(out: Path, targets: CudaTargets) -> None:
    """One call of nvcc.

    Args:
        out: The file to write.
        targets: What for.

    Raises:
        BackendUnavailable: Something is missing, which is found before nvcc begins, or nvcc fails.
    """
    csrc = sources()
    command = [*_checked_nvcc(), *NVCC_FLAGS, "-DWSOLKERN_MODULE=_cuda", f'-DWSOLKERN_FINGERPRINT="{fingerprint()}"']
    command += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in targets.machine_code]
    command += [f"-gencode=arch=compute_{targets.ptx},code=compute_{targets.ptx}"]
    command += [f"-I{folder}" for folder in (*_headers(), "csrc")]
    command += ["-shared", "csrc/gpu/cuda.cu", "csrc/gpu/module.cpp", "-o", os.path.abspath(out)]
    # Names of files are relative, so that no folder of this computer is in the module.
    done = subprocess.run(command, cwd=csrc.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        out.unlink(missing_ok=True)
        raise BackendUnavailable(f"nvcc fails:\n{shlex.join(command)}\n{done.stdout}")


def _checked_nvcc() -> list[str]:
    """The CUDA compiler's command, with a compiler for the host if nvcc would not find its own."""
    path = nvcc()
    if path is None:
        raise BackendUnavailable(f"nvcc is not found: install {NEEDS_NVCC}")
    try:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendUnavailable(f"{path} does not run ({error}): install {NEEDS_NVCC}") from error
    release = re.search(r"release (\d+)\.(\d+)", version)
    if release is None or tuple(map(int, release.groups())) < LEAST_NVCC:
        found = release[0] if release else "another program"
        raise BackendUnavailable(f"{path} is {found}: install {NEEDS_NVCC}")
    host = compiler()
    return [path] if os.environ.get("NVCC_CCBIN") or shutil.which("g++") else [path, f"-ccbin={shutil.which(host)}"]


def _headers() -> list[str]:
    """The folders of pybind11's and Python's headers."""
    try:
        from pybind11 import get_include
    except ImportError as error:
        raise BackendUnavailable(f"pybind11, which {CUDA} is compiled with, does not load ({error}): "
                                 f"{sys.executable} -m pip install pybind11") from error  # fmt: skip
    python = sysconfig.get_path("include")
    if not Path(python, "Python.h").is_file():
        raise BackendUnavailable(
            f"{python}/Python.h is not there: install Python's headers (python3-dev, python3-devel)"
        )
    return [get_include(), python]


def build_cuda(wanted: str | None = None) -> Path:
    """Compiles the CUDA extension into the package's folder or, where that cannot be written to, the user's cache.

    Args:
        wanted: As for :func:`cuda_targets`.

    Returns:
        The file.

    Raises:
        ArgumentError: ``wanted`` is no architecture, or not given where there is no card.
        BackendUnavailable: Something is missing, which is found before nvcc begins, or nvcc fails.
        OSError: The file cannot be written.
    """
    _checked_nvcc()
    targets = cuda_targets(wanted)
    if not targets.machine_code:
        present = cards()
        if not present:
            raise ArgumentError("arch", "expected what to compile for, such as 90: nvidia-smi finds no GPU here")
        if int(present[-1]) < int(targets.ptx):
            raise BackendUnavailable(f"{CUDA} is for compute capability 7.5 or newer, found {present[-1]} at most")
    in_package, in_cache = _places()
    out = in_package if os.access(in_package.parent, os.W_OK) else in_cache
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wsolkern-") as scratch:
        made = Path(scratch, out.name)
        compile_cuda(made, targets)
        write_whole(out, made.read_bytes())
    if out == in_package:
        in_cache.unlink(missing_ok=True)  # it would come first
    return out


def _places() -> tuple[Path, Path]:
    """Where the CUDA extension may lie: in the package, and in this user's cache."""
    name = f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(__file__).parent / name, Path(caches, "wsolkern", fingerprint(), name)


def built_cuda() -> Path:
    """The CUDA extension's file. One in the cache comes first: who could not write to the package made it.

    Raises:
        ImportError: It is not built, or from other sources than these.
    """
    try:
        in_package, in_cache = _places()
    except BackendUnavailable as error:
        raise ImportError(str(error)) from error
    if in_cache.is_file() and in_cache.stat().st_uid == os.getuid():
        return in_cache
    if not in_package.is_file():
        raise ImportError("it is not built")
    if fingerprint().encode() not in in_package.read_bytes():
        raise ImportError(f"{in_package} was built from the sources of another wsolkern")
    return in_package


def load_cuda() -> ModuleType:
    """The CUDA extension, imported.

    Raises:
        ImportError: As :func:`built_cuda`; or the file does not load.
    """
    if CUDA in sys.modules:
        if sys.modules[CUDA] is None:
            raise ImportError(f"import of {CUDA} is switched off")
        return sys.modules[CUDA]
    spec = spec_from_file_location(CUDA, built_cuda())
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[CUDA] = module
    return module

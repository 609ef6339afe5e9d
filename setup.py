"""Builds the native core, once per instruction set (see csrc/cpu/module.cpp), and with nvcc the CUDA one.

Everything else is in pyproject.toml. With SOURCE_DATE_EPOCH, two builds of one source give the same archives, byte for
byte.
"""

import copy
import gzip
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pybind11
from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

# No contraction into fused multiply-adds: results equal the published float64 arithmetic to the bit.
COMMON = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-pthread"]
# No folder of this computer and no symbol that nobody calls is in the modules.
COMMON += [f"-ffile-prefix-map={folder}=." for folder in (os.getcwd(), pybind11.get_include())]
# WSOLKERN_SANITIZE=address,undefined builds a core that checks itself and stops at the first error.
SANITIZE = []
if os.environ.get("WSOLKERN_SANITIZE"):
    SANITIZE = [f"-fsanitize={os.environ['WSOLKERN_SANITIZE']}", "-fno-sanitize-recover=all", "-O1", "-g"]
# What checks itself keeps its symbols: its messages name functions.
LINK = ["-pthread", *(SANITIZE or ["-Wl,-x" if sys.platform == "darwin" else "-Wl,-s"])]
FLAGS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX2 = ["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]
    FLAGS["avx2"] = AVX2
    FLAGS["avx512"] = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
    if SANITIZE and Path("/proc/cpuinfo").exists() and "avx512bw" not in Path("/proc/cpuinfo").read_text():
        del FLAGS["avx512"]  # what checks itself is for this computer, and building it takes a minute
if "thread" in os.environ.get("WSOLKERN_SANITIZE", ""):
    FLAGS = {"generic": []}  # all instruction sets share the code that starts threads and divides the work
HEADERS = sorted(str(header) for header in Path("csrc").rglob("*.h"))

ALL_CUDA_ARCHS = ["75", "80", "86", "89", "90", "100", "120"]
CUDA = "wsolkern._cuda"
HOST_FLAGS = "-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra"
NVCC_FLAGS = ["-std=c++20", "-O3", "-fmad=false", f"-Xcompiler={HOST_FLAGS}", "--cudart=static", "--threads=0"]
NEEDS_NVCC = "the CUDA toolkit 12.8 or newer, with nvcc on PATH or below CUDA_HOME"

NEEDS_COMPILER = """wsolkern compiles its core, and found no C++ compiler ({looked_for}). Install one:
  Debian, Ubuntu:      apt-get install g++ python3-dev
  Fedora, Rocky Linux: dnf install gcc-c++ python3-devel
  Alpine:              apk add g++ python3-dev
  conda:               conda install -c conda-forge cxx-compiler
  macOS:               xcode-select --install"""


class BuildSideBySide(build_ext):
    """Builds all modules at once; those that share a source file have a folder of their own for objects."""

    def run(self):
        use_a_compiler()
        names = ", ".join(
            described_cuda() if ext.name == CUDA else ext.name.removeprefix("wsolkern.") for ext in self.extensions
        )
        print(f"wsolkern: compiling {names} side by side; about a minute on two cores", file=sys.stderr, flush=True)
        super().run()

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        if ext.name == CUDA:
            return self.build_cuda(ext)
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(own, ext)

    def build_cuda(self, ext):
        """One call of nvcc. Where it fails, an installation that does not insist on CUDA goes on without."""
        out = Path(self.get_ext_fullpath(ext.name))
        out.parent.mkdir(parents=True, exist_ok=True)
        machine_code, ptx = cuda_targets()
        targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in machine_code]
        targets.append(f"-gencode=arch=compute_{ptx},code=compute_{ptx}")
        includes = [f"-I{folder}" for folder in (pybind11.get_include(), *ext.include_dirs, *self.include_dirs)]
        command = [
            nvcc(),
            *NVCC_FLAGS,
            "-DWSOLKERN_MODULE=_cuda",
            *targets,
            *includes,
            "-shared",
            *ext.sources,
            "-o",
            str(out),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            out.unlink(missing_ok=True)
            raise CompileError(f"{' '.join(command)}:\n{done.stdout}\nCUDA is left out; it needs {NEEDS_NVCC}")


class ReproducibleSdist(sdist):
    """With SOURCE_DATE_EPOCH, the archive has this date, sorted names, and nothing of who made it where."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.uid, member.gid, member.uname, member.gname = int(epoch), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        name, folder = f"{base_name}.tar.gz", Path(root_dir or ".")
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", mtime=int(epoch), fileobj=file) as packed,
            tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(folder / base_dir, base_dir, filter=plain)  # sorts the names of each folder
        return name


def use_a_compiler() -> None:
    """Python's own C++ compiler, or the one that CXX names, or else another that is there.

    Raises:
        SystemExit: There is none.
    """
    named = os.environ.get("CXX", "").split()[:1]
    own = (sysconfig.get_config_var("CXX") or "").split()[:1]
    found = [each for each in named or [*own, "c++", "g++", "clang++"] if shutil.which(each)]
    if not found:
        looked_for = f"CXX={named[0]}" if named else "CXX, c++, g++ or clang++"
        raise SystemExit(NEEDS_COMPILER.format(looked_for=looked_for))
    if not named and found[:1] != own:
        os.environ["CXX"] = found[0]
    c_compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[:1]
    if not any(map(shutil.which, c_compiler)):  # setuptools may call it for C++, too, or to link
        os.environ["CC"] = os.environ.get("CXX", found[0])


def nvcc() -> "str | None":
    """Path of the CUDA compiler."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=os.path.join(home, "bin")) if home else shutil.which("nvcc")


def cuda_targets() -> "tuple[list[str], str]":
    """What the CUDA core is built for: architectures with machine code of their own, and that of the PTX for the rest.

    WSOLKERN_CUDA_ARCHS="80 90" is machine code for these, and PTX of the last for what comes after it; "all" is every
    architecture, as CI and wheels have it. By default: the cards of this machine, and PTX of the oldest architecture,
    which a driver compiles for any other card when it first runs there.
    """
    wanted = os.environ.get("WSOLKERN_CUDA_ARCHS", "")
    if named := ALL_CUDA_ARCHS if wanted == "all" else wanted.split():
        return named, named[-1]
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        cards = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
        known = subprocess.run([nvcc(), "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return [], ALL_CUDA_ARCHS[0]  # no driver, no card
    present = sorted({card.strip().replace(".", "") for card in cards.splitlines()})
    return [card for card in present if f"compute_{card}" in known], ALL_CUDA_ARCHS[0]


def described_cuda() -> str:
    machine_code, ptx = cuda_targets()
    return f"_cuda ({', '.join(f'sm_{arch}' for arch in machine_code) or 'no machine code'}, PTX of compute_{ptx})"


def extension(isa: str) -> Pybind11Extension:
    name = f"_native_{isa}"
    return Pybind11Extension(
        f"wsolkern.{name}",
        ["csrc/cpu/module.cpp"],
        include_dirs=["csrc"],
        cxx_std=20,
        define_macros=[("WSOLKERN_MODULE", name)],
        depends=HEADERS,
        extra_compile_args=COMMON + FLAGS[isa] + SANITIZE,
        extra_link_args=LINK,
    )


if sys.platform == "win32":
    raise SystemExit("wsolkern builds with GCC or Clang on Linux and macOS; on Windows use it in WSL")
# WSOLKERN_CUDA: 1 must build the CUDA core, 0 must not; otherwise it is built where nvcc is found.
wanted = os.environ.get("WSOLKERN_CUDA", "")
if wanted == "1" and not nvcc():
    raise SystemExit(f"WSOLKERN_CUDA=1, but nvcc is not found: install {NEEDS_NVCC}")
extensions = [extension(isa) for isa in FLAGS]
if wanted != "0" and nvcc():
    sources = ["csrc/gpu/cuda.cu", "csrc/gpu/module.cpp"]
    how = {"include_dirs": ["csrc"], "depends": HEADERS, "language": "c++", "optional": wanted != "1"}
    extensions.append(Extension(CUDA, sources, **how))
if os.environ.get("SOURCE_DATE_EPOCH"):
    os.umask(0o022)  # archives have the modes of files
setup(ext_modules=extensions, cmdclass={"build_ext": BuildSideBySide, "sdist": ReproducibleSdist})

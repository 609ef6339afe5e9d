"""Builds the native core, once per instruction set (see csrc/cpu/module.cpp), and with nvcc the CUDA one.

Everything else is in pyproject.toml. With SOURCE_DATE_EPOCH, two builds of one source give the same archives, byte for
byte.
"""

import copy
import gzip
import os
import platform
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

import pybind11
from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

if sys.platform == "win32":
    raise SystemExit("wsolkern builds with GCC or Clang on Linux and macOS; on Windows use it in WSL")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wsolkern import building  # noqa: E402
from wsolkern.errors import ArgumentError, BackendUnavailable  # noqa: E402

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


class BuildSideBySide(build_ext):
    """Builds all modules at once; those that share a source file have a folder of their own for objects."""

    def run(self):
        use_a_compiler()
        names = ", ".join(
            f"_cuda ({building.cuda_targets()})" if ext.name == building.CUDA else ext.name.removeprefix("wsolkern.")
            for ext in self.extensions
        )
        print(f"wsolkern: compiling {names} side by side; about a minute on two cores", file=sys.stderr, flush=True)
        super().run()

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        if ext.name == building.CUDA:
            return self.build_cuda(ext)
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(own, ext)

    def build_cuda(self, ext):
        """Where it fails, an installation that does not insist on CUDA goes on without."""
        out = Path(self.get_ext_fullpath(ext.name))
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            building.compile_cuda(out, building.cuda_targets())
        except (ArgumentError, BackendUnavailable) as error:
            raise CompileError(f"{error}\nCUDA is left out") from error


class BuildWithSources(build_py):
    """The package has the sources of the CUDA extension, which can be compiled where it is installed."""

    def run(self):
        super().run()
        for source, target in self._copies():
            self.mkpath(os.path.dirname(target))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *(target for _, target in self._copies())]

    def _copies(self):
        if self.editable_mode:
            return []  # the package is the checkout's, and its sources are beside it
        folder = os.path.join(self.build_lib, "wsolkern", "csrc")
        return [(f"csrc/{each}", os.path.join(folder, each)) for each in building.cuda_sources(Path("csrc"))]


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
    """Has setuptools take the C++ compiler that is there."""
    try:
        found = building.compiler()
    except BackendUnavailable as error:
        raise SystemExit(str(error)) from None
    if not os.environ.get("CXX") and [found] != (sysconfig.get_config_var("CXX") or "").split()[:1]:
        os.environ["CXX"] = found
    c_compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[:1]
    if not any(map(shutil.which, c_compiler)):  # setuptools may call it for C++, too, or to link
        os.environ["CC"] = os.environ.get("CXX", found)


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


# WSOLKERN_CUDA: 1 must build the CUDA extension, 0 must not; otherwise it is built where nvcc is found.
wanted = os.environ.get("WSOLKERN_CUDA", "")
if wanted == "1" and not building.nvcc():
    raise SystemExit(f"WSOLKERN_CUDA=1, but nvcc is not found: install {building.NEEDS_NVCC}")
extensions = [extension(isa) for isa in FLAGS]
if wanted != "0" and building.nvcc():
    try:
        building.cuda_targets()
    except ArgumentError as error:
        raise SystemExit(str(error)) from None
    sources = ["csrc/gpu/cuda.cu", "csrc/gpu/module.cpp"]
    extensions.append(Extension(building.CUDA, sources, depends=HEADERS, language="c++", optional=wanted != "1"))
if os.environ.get("SOURCE_DATE_EPOCH"):
    os.umask(0o022)  # archives have the modes of files
commands = {"build_ext": BuildSideBySide, "build_py": BuildWithSources, "sdist": ReproducibleSdist}
setup(ext_modules=extensions, cmdclass=commands)

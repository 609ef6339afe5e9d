"""Builds the native core, once per instruction set (see csrc/module.cpp). Everything else is in pyproject.toml."""

import copy
import os
import platform
import sys

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

# No contraction into fused multiply-adds: results equal the published float64 arithmetic to the bit.
COMMON = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-pthread"]
# WSOLKERN_SANITIZE=address,undefined builds a core that checks itself and stops at the first error.
SANITIZE = []
if os.environ.get("WSOLKERN_SANITIZE"):
    SANITIZE = [f"-fsanitize={os.environ['WSOLKERN_SANITIZE']}", "-fno-sanitize-recover=all", "-O1", "-g"]
FLAGS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX2 = ["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]
    FLAGS["avx2"] = AVX2
    FLAGS["avx512"] = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]


class BuildSideBySide(build_ext):
    """Builds all modules at once; they share a source file, so each has a folder of its own for objects."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(own, ext)


def extension(isa: str) -> Pybind11Extension:
    name = f"_native_{isa}"
    return Pybind11Extension(
        f"wsolkern.{name}",
        ["csrc/module.cpp"],
        cxx_std=20,
        define_macros=[("WSOLKERN_MODULE", name)],
        depends=sorted(f"csrc/{header}" for header in os.listdir("csrc") if header.endswith(".h")),
        extra_compile_args=COMMON + FLAGS[isa] + SANITIZE,
        extra_link_args=["-pthread", *SANITIZE],
    )


if sys.platform == "win32":
    raise SystemExit("wsolkern builds with GCC or Clang on Linux; on Windows use WSL")
setup(ext_modules=[extension(isa) for isa in FLAGS], cmdclass={"build_ext": BuildSideBySide})

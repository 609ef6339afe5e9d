"""What the tests share: the backends as parameters.

In: the machine that the tests run on. Out: fixtures that choose a backend; test_ops.py names what cannot run here.
Source: none.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from wsolkern import BackendUnavailable
from wsolkern.ops import backends

CSRC = Path(__file__).parent.parent / "csrc"
HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:  # Triton reads it when a kernel is defined
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    ISAS = backends.runnable_isas()[::-1]
except BackendUnavailable:  # then every test that needs one fails and says so
    ISAS = backends.ISAS


@pytest.fixture(params=ISAS, ids=lambda isa: f"cpu-{isa}")
def native(request, monkeypatch):
    """The native module of every instruction set in turn; the backend "cpu" runs on it while the test does."""
    monkeypatch.setenv("WSOLKERN_ISA", request.param)
    return backends.native()


@pytest.fixture(params=["reference", *(f"cpu-{isa}" for isa in ISAS)])
def backend(request, monkeypatch) -> str:
    """Every backend in turn, "cpu" once per instruction set."""
    name, _, isa = request.param.partition("-")
    if name == "cpu":
        monkeypatch.setenv("WSOLKERN_ISA", isa)
    return name


def pytest_collection_modifyitems(items):
    """Tests that need a GPU are skipped by name where there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not HAS_GPU:  # the keywords of an item hold its folder's name, too
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))


@pytest.fixture(scope="session")
def emulated_core(tmp_path_factory) -> Path:
    """The CUDA extension compiled for the host: blocks of real threads; WSOLKERN_EMULATED_FLAGS adds compiler flags."""
    import pybind11

    out = tmp_path_factory.mktemp("emulated") / "_emulated.so"
    flags = [
        "-std=c++20",
        "-O1",
        "-g",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-pthread",
    ]
    flags += shlex.split(os.environ.get("WSOLKERN_EMULATED_FLAGS", ""))
    includes = [f"-I{folder}" for folder in (pybind11.get_include(), sysconfig.get_path("include"), CSRC)]
    sources = [str(CSRC / name) for name in ("device_module.cpp", "emulated.cpp")]
    command = [os.environ.get("CXX", "g++"), *flags, *includes, "-DWSOLKERN_MODULE=_emulated", *sources, "-o", str(out)]
    # A sanitizer that is preloaded into Python is of no use to the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    return out


@pytest.fixture(params=[pytest.param("gpu", marks=pytest.mark.gpu) if HAS_GPU else "emulated"])
def cuda(request, monkeypatch):
    """The backend "cuda": on the device of this machine or, if it has none, on the stand-in for one."""
    pytest.importorskip("triton")
    if request.param == "emulated":
        monkeypatch.setenv(backends.EMULATED, str(request.getfixturevalue("emulated_core")))
        backends.device_module.cache_clear()
        backends.missing_for_cuda.cache_clear()
    yield request.param
    backends.device_module.cache_clear()
    backends.missing_for_cuda.cache_clear()

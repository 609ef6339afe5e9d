"""What the tests share: the backends as parameters.

In: the machine that the tests run on. Out: fixtures that choose a backend; test_ops.py names what cannot run here.
Source: none.
"""

import gc
import os
import random
import sys
from functools import cache

import numpy as np
import pytest
import torch
import torchvision_operators
import typer.testing
from kept import emulated
from shared import slow_but, stand_in

from wsolkern import BackendUnavailable
from wsolkern.ops import backends
from wsolkern.studies import timing

gc.disable()  # until the tests are collected: nothing of what makes them is garbage
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a worker: more threads would only wait, and spin meanwhile
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
torchvision_operators.declare()
HAS_GPU = torch.cuda.is_available()
sys.dont_write_bytecode = False  # or each of the processes that tests start would compile all modules anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if not HAS_GPU:  # Triton reads it when a kernel is defined
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    ISAS = backends.runnable_isas()[::-1]
except BackendUnavailable:  # then every test that needs one fails and says so
    ISAS = backends.ISAS


@pytest.fixture(autouse=True, scope="session")
def no_waste_of_time():
    """What tests write need not outlive a loss of power; they build the commands once, and time no large copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(typer.testing, "_get_command", cache(typer.main.get_command))
        patch.setattr(timing, "_COPIED_BYTES", 1 << 20)
        yield


def pytest_make_parametrize_id(config, val, argname):
    """A test of random things has its seed in its name."""
    return f"seed={val}" if argname == "seed" else None


@pytest.fixture(params=slow_but([0], [0, 1, 2]))
def seed(request) -> int:
    """What random things begin with; a test with others than these is parametrized by ``seed`` itself."""
    return request.param


@pytest.fixture
def rng(seed) -> np.random.Generator:
    """Random arrays."""
    return np.random.default_rng(seed)


@pytest.fixture
def draws(seed) -> random.Random:
    """Random choices."""
    return random.Random(seed)


@pytest.fixture(params=slow_but(ISAS[-1:], ISAS), ids=lambda isa: f"cpu-{isa}")
def native(request, monkeypatch):
    """The native module of every instruction set in turn; the backend "cpu" runs on it while the test does."""
    monkeypatch.setenv("WSOLKERN_ISA", request.param)
    return backends.native()


@pytest.fixture(params=["reference", *slow_but([f"cpu-{ISAS[-1]}"], (f"cpu-{isa}" for isa in ISAS))])
def backend(request, monkeypatch) -> str:
    """Every backend in turn, "cpu" once per instruction set."""
    name, _, isa = request.param.partition("-")
    if name == "cpu":
        monkeypatch.setenv("WSOLKERN_ISA", isa)
    return name


def pytest_collection_finish():
    """What is there now stays, and is not looked at again whenever garbage is collected."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Tests that need a GPU are skipped by name where there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not HAS_GPU:  # the keywords of an item hold its folder's name, too
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))


@pytest.fixture(params=[pytest.param("gpu", marks=pytest.mark.gpu) if HAS_GPU else "emulated"])
def cuda(request, monkeypatch):
    """The backend "cuda": on the device of this machine or, if it has none, on the stand-in for one."""
    pytest.importorskip("triton")
    if request.param == "emulated":
        monkeypatch.setitem(sys.modules, "wsolkern._cuda", stand_in(emulated()))
        backends.device_module.cache_clear()
        backends.missing_for_cuda.cache_clear()
    yield request.param
    backends.device_module.cache_clear()
    backends.missing_for_cuda.cache_clear()

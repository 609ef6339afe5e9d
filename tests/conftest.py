"""What the tests share: the backends as parameters.

In: the machine that the tests run on. Out: fixtures that choose a backend; test_ops.py names what cannot run here.
Source: none.
"""

import pytest

from wsolkern import BackendUnavailable
from wsolkern.ops import backends

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

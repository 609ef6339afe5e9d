"""All operations on fixed maps compute what they have computed since they were first checked against OpenCV."""

import pytest

from benchmarks.digest import digest
from wsolkern.ops import backends


@pytest.mark.parametrize("isa", backends.ISAS)
def test_digest(isa, monkeypatch):
    if isa not in backends.runnable_isas():
        pytest.skip(f"this CPU has no {isa}")
    monkeypatch.setenv("WSOLKERN_ISA", isa)
    assert digest() == "cd8c1a83d5757693"

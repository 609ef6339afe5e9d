"""The documentation's table of architectures is what the benchmark makes.

In: small random networks of timm and transformers. Out: nothing.
Source: none.
"""

import importlib.util

import pytest
from shared import slow_but

from benchmarks import architectures

for package in ("timm", "transformers", "torchcam"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)


@pytest.mark.parametrize("name", slow_but(architectures.QUICK, architectures.ARCHITECTURES))
def test_the_table_says_what_is(name):
    assert architectures.row(name) in architectures.written().splitlines()


def test_the_table_is_whole():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in architectures.written().splitlines()]
    assert rows[2 : 2 + len(architectures.ARCHITECTURES)] == list(architectures.ARCHITECTURES)
    assert len(architectures.ARCHITECTURES) >= 20


def test_wrong_maps_have_no_row(monkeypatch):
    monkeypatch.setattr(architectures, "_CLOSE", 0)
    with pytest.raises(architectures.WrongMaps, match="maps: expected"):
        architectures.row("timm convnext_atto")

"""What setup.py compiles for which card, without compiling it.

In: an environment, and what nvidia-smi and nvcc answer. Out: architectures.
Source: none.
"""

import os
import runpy
from pathlib import Path

import pytest
import setuptools

SETUP = Path(__file__).parent.parent / "setup.py"


@pytest.fixture
def targets(tmp_path, monkeypatch):
    """A function: what the CUDA core is built for on a machine whose nvidia-smi says so, and how that is printed."""
    pytest.importorskip("pybind11")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.chdir(SETUP.parent)

    def program(name: str, lines: str, code: int = 0):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\nprintf '{lines}'\nexit {code}\n")
        path.chmod(0o755)

    program("nvcc", "compute_75\\ncompute_80\\ncompute_90\\n")

    def find(cards: str, code: int = 0, wanted: str = ""):
        program("nvidia-smi", cards, code)
        monkeypatch.setenv("WSOLKERN_CUDA_ARCHS", wanted)
        names = runpy.run_path(str(SETUP), run_name="setup")
        return *names["cuda_targets"](), names["described_cuda"]()

    return find


def test_a_card_has_machine_code_of_its_own_and_any_other_the_oldest_ptx(targets):
    assert targets("9.0\\n9.0\\n") == (["90"], "75", "_cuda (sm_90, PTX of compute_75)")
    assert targets("8.0\\n9.0\\n")[:2] == (["80", "90"], "75")


def test_a_card_that_this_nvcc_does_not_know_runs_the_ptx(targets):
    assert targets("13.7\\n")[:2] == ([], "75")


def test_without_a_driver_there_is_ptx_only(targets):
    found = targets("NVIDIA-SMI has failed\\n", code=9)
    assert found == ([], "75", "_cuda (no machine code, PTX of compute_75)")


def test_the_environment_names_what_is_built(targets):
    assert targets("9.0\\n", wanted="80 86")[:2] == (["80", "86"], "86")
    machine_code, ptx, _ = targets("9.0\\n", wanted="all")
    assert machine_code == ["75", "80", "86", "89", "90", "100", "120"] and ptx == "120"

"""What the CUDA extension is compiled for, where it lies, and what is said where it cannot be compiled.

In: programs in place of nvcc and nvidia-smi, which say what those of another machine would. Out: architectures, files.
Source: none.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from wsolkern import BackendUnavailable, building, studies
from wsolkern.building import ArgumentError

ALL = "compute_75\\ncompute_80\\ncompute_86\\ncompute_89\\ncompute_90\\ncompute_90a\\ncompute_100\\ncompute_120\\n"


class Machine:
    """A folder of programs that is all of PATH but the shell, and a package with its sources."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        self.package, self.cache = folder / "site" / "wsolkern", folder / "cache"
        for each in (folder / "bin", self.package):
            each.mkdir(parents=True)
        for part in ("gpu", "shared"):
            shutil.copytree(building.sources() / part, self.package / "csrc" / part)
        monkeypatch.delitem(sys.modules, building.CUDA, raising=False)
        monkeypatch.setattr(building, "__file__", str(self.package / "building.py"))
        monkeypatch.setattr(building, "fingerprint", building.fingerprint.__wrapped__)
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        monkeypatch.setenv("CXX", "")
        for name in ("CUDA_HOME", "NVCC_CCBIN", "WSOLKERN_CUDA_ARCHS"):
            monkeypatch.delenv(name, raising=False)
        self.has_nvcc()

    def has(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def has_nvcc(self, release: str = "12.8", known: str = ALL, fails: str = "") -> None:
        """Its answers, and for a compilation a file with its arguments."""
        self.has(
            "nvcc",
            f"""case "$1" in
--version) printf 'Cuda compilation tools, release {release}, V{release}.1\\n' ;;
--list-gpu-arch) printf '{known}' ;;
*) {f"echo '{fails}'; exit 1" if fails else 'all="$*"; while [ "$1" != -o ]; do shift; done; echo "$all" > "$2"'} ;;
esac""",
        )

    def has_cards(self, cards: str, code: int = 0) -> None:
        self.has("nvidia-smi", f"printf '{cards}'\nexit {code}")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """With nvcc and g++, and without cards."""
    found = Machine(tmp_path, monkeypatch)
    found.has("g++", "exit 0")
    return found


def described(wanted: str | None = None) -> str:
    return str(building.cuda_targets(wanted))


def test_a_card_has_machine_code_of_its_own_and_any_other_the_oldest_ptx(machine):
    machine.has_cards("9.0\\n9.0\\n")
    assert described() == "sm_90, PTX of compute_75"
    machine.has_cards("12.0\\n8.0\\n")
    assert described() == "sm_80, sm_120, PTX of compute_75"


def test_a_card_that_this_nvcc_does_not_know_runs_the_ptx(machine):
    machine.has_cards("13.7\\n")
    assert described() == "no machine code, PTX of compute_75"
    assert building.build_cuda().is_file()


def test_without_a_driver_there_is_ptx_only(machine):
    machine.has_cards("NVIDIA-SMI has failed\\n", code=9)
    assert described() == "no machine code, PTX of compute_75"


def test_what_is_built_can_be_named(machine, monkeypatch):
    machine.has_cards("9.0\\n")
    assert described("80 8.6") == described("sm_80 sm_86") == "sm_80, sm_86, PTX of compute_86"
    assert building.cuda_targets("all") == building.CudaTargets(building.ALL_CUDA_ARCHS, "120")
    monkeypatch.setenv("WSOLKERN_CUDA_ARCHS", "80 86")
    assert described() == "sm_80, sm_86, PTX of compute_86" and described("75") == "sm_75, PTX of compute_75"


@pytest.mark.parametrize("wanted", ["", "70", "80 x", "90a", "all 80"])
def test_an_architecture_that_nvcc_does_not_know_is_refused(machine, wanted, monkeypatch):
    with pytest.raises(ArgumentError, match=f"^arch: expected .* found '{wanted}', and nvcc knows 75, 80"):
        building.build_cuda(wanted)
    if wanted:
        monkeypatch.setenv("WSOLKERN_CUDA_ARCHS", wanted)
        with pytest.raises(ArgumentError, match="^WSOLKERN_CUDA_ARCHS: expected"):
            building.build_cuda()


def test_without_a_card_somebody_has_to_say_what_for(machine):
    with pytest.raises(ArgumentError, match="arch: expected what to compile for, such as 90: nvidia-smi finds no GPU"):
        building.build_cuda()
    machine.has_cards("6.1\\n7.0\\n")
    with pytest.raises(BackendUnavailable, match="compute capability 7.5 or newer, found 70 at most"):
        building.build_cuda()


def no_nvcc(machine):
    (machine.folder / "bin" / "nvcc").unlink()


def another_nvcc(machine):
    machine.has("nvcc", "echo hello")


def broken_nvcc(machine):
    machine.has("nvcc", "exit 3")


def no_compiler(machine):
    (machine.folder / "bin" / "g++").unlink()
    machine.monkeypatch.setattr(building.sysconfig, "get_config_var", lambda name: "own-c++ -pthread")


def another_compiler(machine):
    machine.monkeypatch.setenv("CXX", "no-such-compiler -O2")


def no_pybind11(machine):
    machine.monkeypatch.setitem(sys.modules, "pybind11", None)


def no_headers(machine):
    machine.monkeypatch.setattr(building.sysconfig, "get_path", lambda name: "/no/include")


def no_sources(machine):
    shutil.rmtree(machine.package / "csrc")


REFUSED = {
    "no_nvcc": (no_nvcc, "nvcc is not found: install the CUDA toolkit 12.8 or newer"),
    "old_nvcc": (lambda machine: machine.has_nvcc("12.6"), "nvcc is release 12.6: install the CUDA toolkit 12.8"),
    "another_nvcc": (another_nvcc, "nvcc is another program: install the CUDA toolkit"),
    "broken_nvcc": (broken_nvcc, "nvcc does not run .*exit status 3.*: install the CUDA toolkit"),
    "no_compiler": (
        no_compiler,
        r"\(no CXX is set, and none of own-c\+\+, c\+\+, g\+\+, clang\+\+ is there\).*apt-get",
    ),
    "another_compiler": (another_compiler, r"found no C\+\+ compiler \(CXX=no-such-compiler\)"),
    "no_pybind11": (no_pybind11, "pybind11.* does not load .*-m pip install pybind11"),
    "no_headers": (no_headers, "/no/include/Python.h is not there: install Python's headers"),
    "no_sources": (no_sources, "csrc: expected the sources of wsolkern._cuda, found none"),
    "error": (
        lambda machine: machine.has_nvcc(fails="no space"),
        "nvcc fails:\n.*gencode=arch=compute_90,code=sm_90.*no space",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_missing_is_named(machine, what):
    change, expected = REFUSED[what]
    change(machine)
    with pytest.raises(BackendUnavailable, match=f"(?s){expected}"):
        building.build_cuda("90")
    assert not list(machine.folder.rglob("_cuda*"))


def test_it_is_built_into_the_package(machine):
    with pytest.raises(ImportError, match="it is not built"):
        building.built_cuda()
    file = building.build_cuda("90")
    assert file == building.built_cuda() and file.parent == machine.package
    arguments = file.read_text()
    assert "-DWSOLKERN_MODULE=_cuda" in arguments and "csrc/gpu/cuda.cu csrc/gpu/module.cpp" in arguments
    assert "-gencode=arch=compute_90,code=sm_90 -gencode=arch=compute_90,code=compute_90" in arguments


def test_a_build_of_other_sources_is_not_used(machine):
    file = building.build_cuda("90")
    header = machine.package / "csrc" / "gpu" / "tree" / "tree.h"
    header.write_text(header.read_text() + "\n// changed\n")
    with pytest.raises(ImportError, match="was built from the sources of another wsolkern"):
        building.built_cuda()
    with pytest.raises(ImportError, match="was built from the sources of another wsolkern"):
        building.load_cuda()
    assert building.build_cuda("90") == building.built_cuda() == file


def test_where_the_package_cannot_be_written_to_it_is_in_the_cache(machine, monkeypatch):
    old = building.build_cuda("80")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != machine.package and access(path, mode))
    file = building.build_cuda("90")
    assert file.is_relative_to(machine.cache) and building.fingerprint() in file.parts
    assert building.built_cuda() == file, "that in the package is the older one"
    monkeypatch.setattr(os, "access", access)
    assert building.build_cuda("90") == building.built_cuda() == old and not file.exists()


def test_nvcc_is_told_of_a_compiler_that_is_not_gcc(machine):
    (machine.folder / "bin" / "g++").rename(machine.folder / "bin" / "clang++")
    assert f"-ccbin={machine.folder}/bin/clang++" in building.build_cuda("90").read_text()


def test_a_build_of_pytorch_for_cpus_is_refused_first(machine, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("torch").version, "cuda", None)
    with pytest.raises(BackendUnavailable, match="is not built for CUDA, .* install a build for CUDA first"):
        studies.build_cuda("90")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert studies.build_cuda("90").parent == machine.package

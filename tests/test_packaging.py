"""What the archives hold, that they can be made again byte for byte, and what is said where there is no compiler.

In: the checkout's files in two folders. Out: an sdist and a wheel of each.
Source: https://reproducible-builds.org/docs/source-date-epoch.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from wsolkern import building

ROOT = Path(__file__).parent.parent
SOURCES = ("csrc", "wsolkern", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
EPOCH = "1700000000"


def copy(folder: Path) -> Path:
    """The sources in another folder, without what was built there."""
    pytest.importorskip("pybind11")
    pytest.importorskip("setuptools")
    for name in (*SOURCES, "constraints.txt"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def setup(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "setup.py", "-q", *arguments]
    own = {"WSOLKERN_CUDA": "0", "SOURCE_DATE_EPOCH": EPOCH, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **own})


def built(folder: Path, command: str) -> Path:
    """The one archive that a command makes."""
    done = setup(folder, command)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (folder / "dist").iterdir()
    return archive


def test_without_a_compiler_one_message_says_what_to_install(tmp_path):
    (tmp_path / "bin").mkdir()
    folder = copy(tmp_path / "sources")
    done = setup(folder, "build_ext", "--inplace", PATH=str(tmp_path / "bin"), CXX="")
    assert done.returncode and "Traceback" not in done.stderr and not list(folder.rglob("*.so"))
    own = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    expected = ", ".join(dict.fromkeys([own, "c++", "g++", "clang++"]))
    assert f"found no C++ compiler (no CXX is set, and none of {expected} is there)" in done.stderr
    for system in ("Debian", "Fedora", "Alpine", "conda", "macOS"):
        assert system in done.stderr
    done = setup(folder, "build_ext", "--inplace", CXX="no-such-compiler")
    assert done.returncode and "found no C++ compiler (CXX=no-such-compiler)" in done.stderr


def test_windows_is_refused_by_name(tmp_path):
    folder = copy(tmp_path / "sources")
    code = "import sys, runpy, setuptools; sys.platform = 'win32'; runpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode and "on Windows use it in WSL" in done.stderr and "Traceback" not in done.stderr


def test_what_only_linux_has_is_not_asked_for_on_macos():
    code = """
import os, runpy, setuptools, sys
sys.platform = "darwin"
del os.sched_getaffinity
setuptools.setup = lambda **how: print(how["ext_modules"][0].extra_link_args)
runpy.run_path("setup.py", run_name="__main__")
from wsolkern import machine
print(machine.num_cores() == os.cpu_count())
"""
    environment = {**os.environ, "WSOLKERN_CUDA": "0", "WSOLKERN_SANITIZE": "", "MACOSX_DEPLOYMENT_TARGET": "12.0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    link, cores = done.stdout.splitlines()
    assert "-Wl,-x" in link and "-Wl,-s" not in link and cores == "True"


def test_an_sdist_has_all_that_is_built_and_is_the_same_made_elsewhere(tmp_path):
    first, second = (built(copy(tmp_path / name), "sdist") for name in ("one", "another folder"))
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {int(EPOCH)} and {member.uid for member in members} == {0}
    found = {Path(*Path(member.name).parts[1:]) for member in members if member.isfile()}
    sources = {
        path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu")
    } | {path.relative_to(ROOT) for path in (ROOT / "wsolkern").rglob("*.py")}
    assert sources | {Path("setup.py"), Path("pyproject.toml"), Path("constraints.txt")} <= found
    assert not [path for path in found if path.suffix == ".so" or path.parts[0] == "tests"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """One for this interpreter."""
    folder = copy(tmp_path_factory.mktemp("one") / "sources")
    if setup(folder, "bdist_wheel", "--help").returncode:
        pytest.skip("setuptools makes wheels from 70.1 on, or with the package wheel")
    return built(folder, "bdist_wheel")


@pytest.mark.slow
def test_a_wheel_has_the_cores_and_is_the_same_made_elsewhere(wheel, tmp_path):
    second = built(copy(tmp_path / "another folder"), "bdist_wheel")
    assert wheel.read_bytes() == second.read_bytes()
    assert wheel.stat().st_size < 5_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        cores = {name: archive.read(name) for name in names if name.endswith(".so")}
    assert any(name.startswith("wsolkern/_native_generic.") for name in cores)
    for folder in (tmp_path, wheel.parents[1]):
        assert not [name for name, content in cores.items() if os.fsencode(folder) in content]
    sources = {path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.*") if "cpu" not in path.parts}
    assert {f"wsolkern/{each}" for each in sources - {Path("csrc/gpu/emulated.cpp")}} == {
        name for name in names if name.startswith("wsolkern/csrc/")
    }
    data = {"py.typed", "demo/photographs.json", "studies/kim2021.csv", "report/page/engine.js"}
    assert {f"wsolkern/{each}" for each in data} <= set(names)
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"wsolkern"}


@pytest.mark.slow
def test_a_wheel_runs_where_there_is_no_compiler(wheel, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    alone = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, env=alone, check=True, timeout=300)
    packages = sysconfig.get_paths(vars={"base": str(environment)})["purelib"]
    others = [each for each in sys.path if each.endswith("site-packages")]  # what wsolkern needs, from where it is
    Path(packages, "others.pth").write_text("\n".join(others))
    how = {"env": alone, "capture_output": True, "text": True, "cwd": tmp_path, "timeout": 300}
    code = "import wsolkern; from wsolkern.ops import backends; print(wsolkern.__file__, backends.runnable_isas())"
    done = subprocess.run([python, "-I", "-c", code], **how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(environment)) and "generic" in done.stdout
    done = subprocess.run([python.parent / "wsolkern", "doctor"], **how)
    assert done.returncode == 0 and str(environment) in done.stdout.replace("\n", ""), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not building.nvcc(), reason="needs nvcc")
def test_the_cuda_extension_is_compiled_from_a_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = """
from wsolkern import building
from wsolkern.ops import backends
file = building.build_cuda("90")
module = backends.device_module()
assert str(file) == module.__file__ and module.fingerprint == building.fingerprint()
print(file)
print(module.works_on)
"""
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 600}
    paths = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=paths, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    file, works_on = done.stdout.splitlines()
    assert Path(file).parent == tmp_path / "installed" / "wsolkern" and works_on == "cuda"
    assert os.fsencode(tmp_path) not in Path(file).read_bytes()

"""What is released: archives that hold what they need, the same bytes each time, and run without a compiler.

In: this checkout's files. Out: verdicts; where packages to build with cannot be had, tests are skipped by name.
Source: none.
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

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
MOST_BYTES = 5_000_000  # of a wheel for the CPU
EPOCH = "1767225600"


def files_of_checkout() -> list[str]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return [each for each in listed.decode().split("\0") if each]
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: what belongs to it is not known")


def copy_to(folder: Path) -> Path:
    """The checkout's files in another place, written now."""
    for name in files_of_checkout():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)
    return folder


def build(folder: Path, *what: str, **environment: str) -> Path:
    """One archive, by setuptools' own backend, as pip and build call it, with what is installed here."""
    out = folder / "dist"
    out.mkdir(exist_ok=True)
    how = {**os.environ, "WSOLKERN_CUDA": "0", "SOURCE_DATE_EPOCH": EPOCH, **environment}
    for each in ("CFLAGS", "PYTHONPATH"):  # with CFLAGS pybind11 keeps debug information
        how.pop(each, None)
    code = f"import setuptools.build_meta as b; print(b.{what[0]}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=how, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist of a copy of the checkout, and the wheel that is built from it alone."""
    sdist = build(copy_to(tmp_path_factory.mktemp("a")), "build_sdist")
    return sdist, build(unpacked(sdist, tmp_path_factory.mktemp("sdist")), "build_wheel")


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


def test_a_wheel_holds_what_it_runs_with_and_nothing_else(first):
    _, wheel = first
    assert wheel.stat().st_size <= MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert f"wsolkern/_native_generic{suffix}" in names
    own = {each for each in files_of_checkout() if each.startswith("wsolkern/")}
    assert own <= names
    others = {each for each in names - own if ".dist-info/" not in each}
    assert all(each.startswith("wsolkern/_native_") and each.endswith(suffix) for each in others), others


def test_a_source_archive_holds_what_it_is_built_from(first):
    sdist, _ = first
    with tarfile.open(sdist) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    needed = [each for each in files_of_checkout() if each.startswith(("csrc/", "wsolkern/"))]
    assert {*needed, "setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_archives_have_the_same_bytes_wherever_they_are_built(first, tmp_path):
    sdist, wheel = first
    again = build(copy_to(tmp_path / "elsewhere" / "b"), "build_sdist")
    assert again.read_bytes() == sdist.read_bytes()
    (tmp_path / "unpacked").mkdir()
    again = build(unpacked(again, tmp_path / "unpacked"), "build_wheel")
    assert again.read_bytes() == wheel.read_bytes()


def test_a_wheel_runs_where_there_is_no_compiler(first, tmp_path):
    _, wheel = first
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    path = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, env=path, check=True, timeout=300)
    packages = sysconfig.get_paths(vars={"base": str(environment)})["purelib"]
    others = [each for each in sys.path if each.endswith("site-packages")]  # what wsolkern needs, from where it is
    Path(packages, "others.pth").write_text("\n".join(others))
    code = "import wsolkern; print(wsolkern.__file__); import wsolkern.ops.backends as b; print(b.runnable_isas())"
    done = subprocess.run(
        [python, "-I", "-c", code], env=path, capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(environment))
    done = subprocess.run(
        [python.parent / "wsolkern", "--version"], env=path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("wsolkern ")


def test_without_a_compiler_the_error_says_what_to_install(tmp_path):
    folder = copy_to(tmp_path / "copy")
    how = {**os.environ, "PATH": str(Path(sys.executable).parent), "WSOLKERN_CUDA": "0"}
    how.pop("CXX", None)
    code = "import setuptools.build_meta as b; b.build_wheel('.')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=how, capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    message = done.stderr[done.stderr.index("wsolkern compiles its core") :]
    for system in ("Debian", "Fedora", "Alpine", "macOS", "conda"):
        assert system in message
    assert "Traceback" not in message

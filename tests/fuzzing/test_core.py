"""The native core's C++ entry points against plain references, with sanitizers: what fuzzing found, and random bytes.

In: bytes. Out: neither a difference nor an error of a sanitizer; libFuzzer looks further, see core.py.
Source: none.
"""

import base64
import os
import shutil
import subprocess

import pytest

from tests.fuzzing import core

pytestmark = pytest.mark.slow


def replay(program, *files):
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run([program, *files], capture_output=True, text=True, env=environment)


@pytest.fixture
def random_files(tmp_path, rng):
    files = [tmp_path / str(number) for number in range(300)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number % 2]) + rng.bytes(2000))
    return files


@pytest.mark.parametrize("name", core.CASES)
def test_what_was_found_is_mended(name, tmp_path):
    (tmp_path / name).write_bytes(base64.b64decode(core.CASES[name]))
    done = replay(core.replaying(), tmp_path / name)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{tmp_path / name}\n"


def test_random_bytes(random_files):
    done = replay(core.replaying(), *random_files)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stderr.splitlines()) == len(random_files)


@pytest.mark.parametrize("seed", [0])
def test_another_order_among_contours_of_one_area_is_noticed(random_files, tmp_path):
    shutil.copytree(core.CSRC, tmp_path / "csrc")
    file = tmp_path / "csrc" / "cpu" / "tree" / "foreground.h"
    right = "area == most && i > winner"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, "area == most && i < winner"))
    done = replay(core.replaying(tmp_path / "csrc", sanitized=False), *random_files)
    assert done.returncode and "the core differs from the plain reference: the largest contour's box" in done.stderr

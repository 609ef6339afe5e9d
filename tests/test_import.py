"""`import wsolkern` stays light, and a missing native module is an error and not a slow answer."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["wsolkern", "wsolkern.ops"])
def test_import_loads_neither_torch_nor_opencv(module):
    heavy = ("torch", "cv2", "scipy", "skimage", "matplotlib", "typer")
    assert run(f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_every_public_name_is_there():
    assert run("import wsolkern; print(all(getattr(wsolkern, name) for name in wsolkern.__all__))") == "True"


def test_normalize_does_not_import_torch():
    code = "wsolkern.normalize(numpy.eye(7), 'max', backend='reference'); print('torch' in sys.modules)"
    assert run(f"import numpy, sys, wsolkern; {code}") == "False"


def test_without_a_native_module_there_is_no_slow_fallback():
    code = """
import sys
sys.modules["wsolkern._native_generic"] = None  # what Python does with a module that cannot be imported
import numpy, wsolkern
try:
    wsolkern.normalize(numpy.eye(7), "max")
except wsolkern.BackendUnavailable as error:
    print(error)
"""
    message = run(code)
    assert "wsolkern._native_generic does not load" in message and "pip install -e ." in message

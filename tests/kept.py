"""What tests compile: built once for its content, by the process that asks first, and kept for later runs.

In: commands, and what their result depends on. Out: files in WSOLKERN_COMPILED_CACHE, or "compiled" in pytest's cache.
Source: none.
"""

import fcntl
import hashlib
import os
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
CXX = os.environ.get("CXX", "g++")
STRICT = ["-std=c++20", "-O1", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra",
          "-Werror"]  # fmt: skip


def folder() -> Path:
    """Where the files are."""
    path = Path(os.environ.get("WSOLKERN_COMPILED_CACHE") or ROOT / ".pytest_cache" / "compiled")
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: bytes | str) -> str:
    """A name for a content."""
    return hashlib.sha256(b"\0".join(p.encode() if isinstance(p, str) else p for p in parts)).hexdigest()[:24]


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A file of the folder; ``make`` writes it first if it is not there. Another process that asks for it waits."""
    path = folder() / name
    if not path.exists():
        with open(path.with_name(f"{name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=folder()) as new:
                    make(Path(new) / name)
                    (Path(new) / name).replace(path)
    return path


def run(command: Sequence[str | Path], **how) -> None:
    """Runs a compiler; a sanitizer that is preloaded into Python is of no use to it."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, env=environment, **how)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _object(name: str, *flags: str, csrc: Path = CSRC) -> Path:
    """A file of csrc/gpu, compiled for the host."""
    import pybind11

    includes = [f"-I{each}" for each in (pybind11.get_include(), sysconfig.get_path("include"), csrc)]
    command = [CXX, *STRICT, *flags, "-DWSOLKERN_MODULE=_emulated", *includes, "-c", str(csrc / "gpu" / f"{name}.cpp")]
    made = f"{name}-{key(content(csrc), *command)}.o"
    return kept(made, lambda path: run([*command, "-o", path]))


def content(csrc: Path = CSRC) -> bytes:
    """All of csrc."""
    return b"".join(each.read_bytes() for each in sorted(csrc.rglob("*")) if each.is_file())


def bindings(*flags: str, csrc: Path = CSRC) -> Path:
    """The object of csrc/gpu/module.cpp, which every stand-in for the device module is linked with."""
    return _object("module", *flags, csrc=csrc)


def emulated() -> Path:
    """The CUDA extension compiled for the host: blocks of real threads; WSOLKERN_EMULATED_FLAGS adds compiler flags."""
    flags = shlex.split(os.environ.get("WSOLKERN_EMULATED_FLAGS", ""))
    objects = [bindings(*flags), _object("emulated", *flags)]
    command = [CXX, "-shared", "-pthread", *flags, *map(str, objects)]
    return kept(f"emulated-{key(*command)}.so", lambda path: run([*command, "-o", path]))

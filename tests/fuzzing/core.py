"""The native core's C++ entry points under libFuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer.

In: core.cpp, which holds the core's counts against plain ones. Out: programs that fuzz it, or run what was found once.
Source: libFuzzer (https://llvm.org/docs/LibFuzzer.html), which comes with Clang.
"""

import base64
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.kept import CSRC, CXX, content, kept, key, run

SOURCE = Path(__file__).with_name("core.cpp")
FLAGS = ["-std=c++20", "-O1", "-g", "-ffp-contract=off", "-fno-math-errno", "-fno-sanitize-recover=all"]
SANITIZERS = "address,undefined"
TARGETS = {"core-generic": []}  # by name: flags of the instruction set
if platform.machine() == "x86_64":
    TARGETS["core-native"] = ["-march=native"]

CASES = {  # what was found, in base64
    "columns_of_a_map_without_a_grid": "AtkAAAAAAQAAAAD7EwQu+wAvAtk=",
}


@cache
def clang() -> str | None:
    """The newest Clang that has libFuzzer, or None."""
    found = [shutil.which(name) for name in ("clang++", *(f"clang++-{version}" for version in range(25, 13, -1)))]
    for name in filter(None, found):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.cpp")
            source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }\n')
            command = [name, f"-fsanitize=fuzzer,{SANITIZERS}", source, "-o", Path(folder, "empty")]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return name
    return None


def _program(name: str, csrc: Path, *command: str) -> Path:
    command = (*command, *FLAGS, f"-I{csrc}", str(SOURCE))
    made = f"{name}-{key(content(csrc), SOURCE.read_bytes(), *command)}"
    return kept(made, lambda path: run([*command, "-o", path]))


def replaying(csrc: Path = CSRC, sanitized: bool = True) -> Path:
    """A program that runs files of bytes once; any compiler makes it."""
    return _program("replaying", csrc, CXX, *[f"-fsanitize={SANITIZERS}"] * sanitized, "-DWSOLKERN_REPLAY")


def fuzzing(name: str) -> Path:
    """The program of a target, by :func:`clang`."""
    return _program(name, CSRC, clang(), *TARGETS[name], f"-fsanitize=fuzzer,{SANITIZERS}")


def fuzz(program: Path, name: str, seconds: int, seed: int, work: Path, findings: Path) -> tuple[str, int]:
    """What libFuzzer printed, and its exit code, which is not 0 if it found something."""
    corpus = work / "corpus"
    corpus.mkdir()
    for case, text in CASES.items():
        (corpus / case).write_bytes(base64.b64decode(text))
    limits = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=2048", "-len_control=0", "-timeout=10"]
    command = [program, *limits, "-print_final_stats=1", f"-artifact_prefix={findings}/{name}-", corpus]
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", env=environment)
    return done.stderr, done.returncode


def why(output: str) -> str:
    """The lines of libFuzzer's output that say what was found."""
    said = re.findall(r"^.*(?:runtime error|ERROR:|differs from|Test unit written).*$", output, re.MULTILINE)
    return "\n  ".join(said) or output[-3000:]

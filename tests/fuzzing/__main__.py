"""Coverage-guided fuzzing of every reader and of the native core: `python -m tests.fuzzing --seconds 600`.

In: the targets of :mod:`tests.fuzzing.targets` and :mod:`tests.fuzzing.core`. Out: a line a target (seconds,
executions, coverage, findings); each finding as a file and the error that it leads to; the exit code is 1 if there was
one.
Source: atheris (libFuzzer for Python, https://github.com/google/atheris), which must be installed for the readers: it
is in no extra. The core needs Clang with libFuzzer, and is skipped by name without.
"""

import argparse
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzzing import core

if TYPE_CHECKING:  # imported by main, which has its branches counted
    from tests.fuzzing.targets import Target

SLOW_SECONDS, MOST_MEGABYTES = 5, 3000  # of one execution


def fuzz(target: "Target", seconds: int, seed: int, work: Path, findings: Path) -> None:
    """The process of one target; libFuzzer ends it."""
    import atheris

    for place, content in enumerate(target.seeds()):
        (work / "corpus" / f"seed{place}").write_bytes(content)
    (work / "folder").mkdir()
    known: set[str] = set()

    def once(content: bytes) -> None:
        try:
            target(work / "folder", content)
        except Exception as error:
            where = place_of(error)
            if where not in known:  # one of a kind, so that the others are found in the same run
                known.add(where)
                path = findings / f"{target.name}-{len(known)}"
                path.write_bytes(content)
                print(f"FINDING {path}: {type(error).__name__} at {where}: {error!s:.400}", flush=True)

    limits = [f"-timeout={SLOW_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-max_total_time={seconds}"]
    quiet = ["-print_final_stats=1", "-verbosity=1", f"-seed={seed}", "-max_len=8192"]
    atheris.Setup([target.name, *limits, *quiet, f"-artifact_prefix={findings}/{target.name}-", str(work / "corpus")],
                  once)  # fmt: skip
    atheris.Fuzz()


def place_of(error: BaseException) -> str:
    """The innermost line of the project that an error went through."""
    found, trace = type(error).__name__, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "wsolkern" in file or "fuzzing" in file:
            found = f"{type(error).__name__} {Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def run(target: "Target", seconds: int, seed: int, findings: Path) -> int:
    """One target in a process of its own; prints its line and returns the number of findings."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as work:
        Path(work, "corpus").mkdir()
        child = os.fork()  # all is imported already, which takes longer than many a run
        if not child:
            try:
                with open(Path(work, "output"), "wb") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                fuzz(target, seconds, seed, Path(work), findings)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        output = Path(work, "output").read_text(errors="replace")
    found = re.findall(r"^FINDING .*", output, re.MULTILINE)
    if status:
        found.append(f"ENDED {target.name} with exit code {os.waitstatus_to_exitcode(status)}:\n{output[-3000:]}")
    return told(target.name, time.monotonic() - start, output, found)


def run_core(name: str, seconds: int, seed: int, findings: Path) -> int:
    """The same for the native core; libFuzzer stops at the first finding."""
    if core.clang() is None:
        print(f"{name:24} skipped: needs Clang with libFuzzer (apt-get install clang)")
        return 0
    program, start = core.fuzzing(name), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        output, code = core.fuzz(program, name, seconds, seed, Path(work), findings)
    return told(name, time.monotonic() - start, output, [f"FINDING {core.why(output)}"] * bool(code))


def told(name: str, seconds: float, output: str, found: list[str]) -> int:
    """Prints the line of a target and its findings; how many there are."""
    executions = re.search(r"stat::number_of_executed_units: (\d+)", output)
    coverage = re.findall(r"cov: (\d+)", output)
    print(
        f"{name:24} {seconds:6.0f} s {int(executions[1]) if executions else 0:9,} executions, "
        f"coverage {int(coverage[0]) if coverage else 0:,} to {int(coverage[-1]) if coverage else 0:,}, "
        f"{len(found)} findings",
        flush=True,
    )
    for each in found:
        print(f"  {each}", flush=True)
    return len(found)


def readers() -> "dict[str, Target]":
    """The targets in Python, whose branches atheris counts."""
    try:
        import atheris
    except ImportError:
        sys.exit("tests.fuzzing needs atheris: pip install atheris")
    with atheris.instrument_imports(include=["wsolkern"], enable_loader_override=False):
        from tests.fuzzing import targets
    targets.quick()
    return targets.targets()


def main() -> int:
    """Runs the command line; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: %(default)s)")
    parser.add_argument(
        "--target", action="append", help='a target, or how several begin, such as "core"; default: all'
    )
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("fuzzing-findings"), help="folder for findings")
    parser.add_argument("--list", action="store_true", help="name the targets")
    arguments = parser.parse_args()
    wanted = arguments.target or [""]
    is_core_alone = all(each.startswith("core") for each in wanted)
    known = {**({} if is_core_alone else readers()), **core.TARGETS}
    if arguments.list:
        print("\n".join(known))
        return 0
    if unknown := [each for each in wanted if not any(name.startswith(each) for name in known)]:
        sys.exit(f"--target: expected some of {', '.join(known)}, found {unknown[0]}")
    names = [name for name in known if name.startswith(tuple(wanted))]
    warnings.simplefilter("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    each, out, found = max(1, arguments.seconds // len(names)), arguments.out.resolve(), 0
    for name in names:
        if name in core.TARGETS:
            found += run_core(name, each, arguments.seed, out)
        else:
            found += run(known[name], each, arguments.seed, out)
    print(f"{len(names)} targets, {found} findings" + (f", in {arguments.out}" if found else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

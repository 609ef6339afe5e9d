"""Coverage-guided fuzzing of every reader and of the native core: `python -m tests.fuzzing`.

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
from dataclasses import dataclass, field
from itertools import islice
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


@dataclass
class Started:
    """A target in a process of its own."""

    name: str
    work: tempfile.TemporaryDirectory
    start: float = field(default_factory=time.monotonic)

    def told(self, status: int) -> int:
        """Prints the line of a target that has ended, with its exit status; the number of findings."""
        with self.work as work:
            output = Path(work, "output").read_text(errors="replace")
        found = re.findall(r"^FINDING .*", output, re.MULTILINE)
        if status:
            found.append(f"ENDED {self.name} with exit code {os.waitstatus_to_exitcode(status)}:\n{output[-3000:]}")
        return told(self.name, time.monotonic() - self.start, output, found)


def start(target: "Target", seconds: int, seed: int, findings: Path) -> tuple[int, Started]:
    """The process of a target, and what is known of it. It is forked: to import all takes longer."""
    started = Started(target.name, tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    work = Path(started.work.name)
    (work / "corpus").mkdir()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            with open(work / "output", "wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            fuzz(target, seconds, seed, work, findings)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child, started


def run(wanted: "list[Target]", seconds: int, seed: int, findings: Path, jobs: int) -> int:
    """Targets, as many at once as there are jobs; prints their lines and returns the number of findings."""
    running: dict[int, Started] = {}
    found = 0
    waiting = iter(wanted)
    while True:
        for target in islice(waiting, jobs - len(running)):
            child, started = start(target, seconds, seed, findings)
            running[child] = started
        if not running:
            return found
        child, status = os.wait()
        found += running.pop(child).told(status)


def run_core(name: str, seconds: int, seed: int, findings: Path) -> int:
    """The same for the native core; libFuzzer stops at the first finding."""
    if core.clang() is None:
        print(f"{name:24} skipped: needs Clang with libFuzzer (apt-get install clang)")
        return 0
    program, began = core.fuzzing(name), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        output, code = core.fuzz(program, name, seconds, seed, Path(work), findings)
    return told(name, time.monotonic() - began, output, [f"FINDING {core.why(output)}"] * bool(code))


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
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="readers at once (default: all cores)")
    parser.add_argument(
        "--target", action="append", help='a target, or how several begin, such as "core"; default: all'
    )
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("fuzzing-findings"), help="folder for findings")
    parser.add_argument("--list", action="store_true", help="name the targets")
    arguments = parser.parse_args()
    if min(arguments.seconds, arguments.jobs) < 1:
        parser.error(f"--seconds and --jobs: expected at least 1, found {arguments.seconds} and {arguments.jobs}")
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
    how = (arguments.seconds, arguments.seed, arguments.out.resolve())
    found = run([known[name] for name in names if name not in core.TARGETS], *how, jobs=arguments.jobs)
    found += sum(run_core(name, *how) for name in names if name in core.TARGETS)
    print(f"{len(names)} targets, {found} findings" + (f", in {arguments.out}" if found else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Coverage-guided fuzzing of every reader: `python -m tests.fuzzing --seconds 600`.

In: the targets of :mod:`tests.fuzzing.targets`. Out: a line a target (seconds, executions, coverage, findings); each
finding as a file and the error that it leads to; the exit code is 1 if there was one.
Source: atheris (libFuzzer for Python, https://github.com/google/atheris), which must be installed: it is in no extra.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

SLOW_SECONDS, MOST_MEGABYTES = 5, 3000  # of one execution


def fuzz(name: str, seconds: int, seed: int, work: Path, findings: Path) -> None:
    """The process of one target; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["wsolkern"], enable_loader_override=False):
        from tests.fuzzing import targets

    targets.quick()
    warnings.simplefilter("ignore")
    target = targets.targets()[name]
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
                path = findings / f"{name}-{len(known)}"
                path.write_bytes(content)
                print(f"FINDING {path}: {type(error).__name__} at {where}: {error!s:.400}", flush=True)

    limits = [f"-timeout={SLOW_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-max_total_time={seconds}"]
    quiet = ["-print_final_stats=1", "-verbosity=1", f"-seed={seed}", "-max_len=8192"]
    atheris.Setup([name, *limits, *quiet, f"-artifact_prefix={findings}/{name}-", str(work / "corpus")], once)
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


def run(name: str, seconds: int, seed: int, findings: Path) -> int:
    """One target in a process of its own; prints its line and returns the number of findings."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as work:
        Path(work, "corpus").mkdir()
        command = [sys.executable, "-m", "tests.fuzzing", "--child", work, "--target", name, "--out", findings]
        command += ["--seconds", seconds, "--seed", seed]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    found = re.findall(r"^FINDING .*", output, re.MULTILINE)
    if done.returncode:
        found.append(f"ENDED {name} with exit code {done.returncode}:\n{output[-3000:]}")
    executions = re.search(r"stat::number_of_executed_units: (\d+)", output)
    coverage = re.findall(r"cov: (\d+)", output)
    print(
        f"{name:24} {time.monotonic() - start:6.0f} s {int(executions[1]) if executions else 0:9,} executions, "
        f"coverage {int(coverage[0]) if coverage else 0:,} to {int(coverage[-1]) if coverage else 0:,}, "
        f"{len(found)} findings",
        flush=True,
    )
    for each in found:
        print(f"  {each}", flush=True)
    return len(found)


def main() -> int:
    """Runs the command line; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: %(default)s)")
    parser.add_argument("--target", action="append", help="one target, also more than once; default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("fuzzing-findings"), help="folder for findings")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        fuzz(arguments.target[0], arguments.seconds, arguments.seed, arguments.child, arguments.out)
        return 0

    from tests.fuzzing.targets import targets

    if arguments.list:
        print("\n".join(targets()))
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.exit("tests.fuzzing needs atheris: pip install atheris (CPython 3.11 to 3.13 on Linux)")
    names = arguments.target or list(targets())
    if unknown := [each for each in names if each not in targets()]:
        sys.exit(f"--target: expected some of {', '.join(targets())}, found {unknown[0]}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    each = max(1, arguments.seconds // len(names))
    found = sum(run(name, each, arguments.seed, arguments.out.resolve()) for name in names)
    print(f"{len(names)} targets, {found} findings" + (f", in {arguments.out}" if found else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""``wsolkern doctor``: what is built, what can run here, and the command that would fix what cannot.

In: this installation and this computer. Out: one line a part; exit code 2 if the native core cannot run, or what was to
be built is not.
Source: none; what is looked at is in :mod:`wsolkern.studies.installation`.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import streams, terminal
from wsolkern.errors import ArgumentError
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.studies.installation import Installation

_COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


def doctor(
    build_cuda: Annotated[
        bool,
        typer.Option(
            "--build-cuda",
            help="First compile the CUDA extension for the GPUs here; needs nvcc 12.8 or newer and a C++ compiler.",
        ),
    ] = False,
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="ARCHS",
            help='With --build-cuda: compile for these instead, such as 90, "80 90" or all.',
        ),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - for standard output.")
    ] = None,
) -> None:
    """Tell what is built and what can run here, and how to fix what cannot."""
    from wsolkern import studies

    with terminal.errors_as_messages():
        check_targets({"--json": json_file})
        if arch is not None and not build_cuda:
            raise ArgumentError("arch", "expected with --build-cuda alone")
        if build_cuda:
            started = time.monotonic()
            file = studies.build_cuda(arch)
            streams.stderr().print(f"built {file} in {time.monotonic() - started:.0f} s")
    found = studies.doctor()

    def finish() -> None:
        if found.is_broken:
            raise typer.Exit(terminal.FAILED)

    terminal.deliver_result(json_file, found.to_dict, lambda: _print(found), finish)


def _print(found: "Installation") -> None:
    width = max(len(each.part) for each in found.findings)
    with streams.printing() as console:
        for each in found.findings:
            console.print(f"{each.state:<7}", style=_COLOURS[each.state], end="")
            console.print(f"  {each.part:<{width}}  {each.detail}")
            if each.fix:
                console.print(f"{'':{width + 11}}fix: {each.fix}", style="bold")

"""``wsolkern demo``: from a real classifier and real photographs to a table of box accuracies, without a download.

In: packages of the ``demo`` extra. Out: a folder with metadata, CAMs, results and a picture, and the table.
Source: Kim et al., arXiv 2107.13221: table 1 (normalizations by MaxBoxAccV2) and figure 3 (the picture).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import streams, terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_folder, check_targets

if TYPE_CHECKING:
    from wsolkern.demo import Demonstration


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to; files of an earlier demo are replaced.")] = Path(
        "wsolkern-demo"
    ),
    resolution: Annotated[
        int,
        typer.Option(
            min=32, max=4096, help="Side of the classifier's input in pixels, a multiple of 32: 448 makes 14x14 CAMs."
        ),
    ] = 448,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw CAMs and boxes.")] = True,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the results there too; - for standard output.")
    ] = None,
) -> None:
    """Evaluate a real classifier on real photographs.

    EfficientNet-Lite0 looks at crops of photographs that came with installed packages. The class activation maps of the
    true classes are evaluated under four normalizations at 1000 thresholds against boxes measured by eye. Takes about
    half a minute on two cores and needs no network.
    """
    with terminal.errors_as_messages():
        from wsolkern.report.drawing import check_picture
        from wsolkern.report.tables import markdown_table

        if resolution % 32:
            raise ValueError(f"--resolution: expected a multiple of 32, found {resolution}")
        check_folder("--out", out)
        with _missing_extra():
            from wsolkern import demo as photographs

            photographs.check_folder(out)
            if picture:
                check_picture(out / "localizations.png")
        out.mkdir(parents=True, exist_ok=True)
        files = [out / name for name in ("results.json", "results.md", *(["localizations.png"] if picture else []))]
        check_targets({"--json": json_file, **{f"--out {each.name}": each for each in files}}, [out])
        with _missing_extra(), terminal.showing_progress() as progress:
            found = photographs.demonstrate(out, resolution, progress=progress)
        picture_file = out / "localizations.png" if picture else None
        terminal.deliver(
            picture_file and (lambda: _draw(picture_file, found)),
            None if json_file == "-" else lambda: _print(out, found, picture_file),
            lambda: terminal.write_json(found.to_dict(), str(out / "results.json")),
            lambda: write_whole(out / "results.md", markdown_table(found.result).encode()),
            json_file and (lambda: terminal.write_json(found.to_dict(), json_file)),
        )


def _draw(path: Path, found: "Demonstration") -> None:
    started = time.perf_counter()
    with _missing_extra():
        from wsolkern.report.pictures import draw_localizations

        draw_localizations(path, found.shown())
    found.seconds["drawing"] = time.perf_counter() - started


def _print(out: Path, found: "Demonstration", picture: Path | None) -> None:
    height, width = found.look.cams.shape[1:]
    title = f"{found.result.num_images} images from {found.num_photographs} photographs, CAMs of {height}x{width}"
    terminal.print_result(found.result, title)
    streams.print_text(f"{found.verdict}\n")
    cams, metadata = out / "cams", out / "metadata"
    halves = [f"--{split} {cams} --{split}-metadata {metadata / split}" for split in ("val", "test")]
    written = {
        "picture": picture,
        "results": f"{out / 'results.json'}, {out / 'results.md'}",
        "CAMs, a store": cams,
        "metadata": f"{metadata}; half of the photographs each: {metadata / 'val'}, {metadata / 'test'}",
        "the same from these files": f"wsolkern evaluate --cams {cams} --metadata {metadata}",
        "all percentiles of IVR": f"wsolkern sweep {cams} --metadata {metadata}",
        "one chosen, and tested": f"wsolkern select {' '.join(halves)}",
    }
    with streams.printing() as console:
        for name, where in written.items():
            if where is not None:
                console.print(f"{name:<26} {where}")
        console.print()
        for name, value in found.seconds.items():
            console.print(f"{name:<26} {value:6.2f} s")
        console.print(f"{'in all':<26} {sum(found.seconds.values()):6.2f} s")


@contextmanager
def _missing_extra() -> Iterator[None]:
    """Adds to a failed import what to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}; install what the demo needs: pip install 'wsolkern[demo]'") from error

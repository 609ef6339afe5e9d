"""``wsolkern demo``: from a real classifier and real photographs to a table of box accuracies, without a download.

In: packages of the ``demo`` extra. Out: a folder with metadata, CAMs, results and a picture, and the table.
Source: Kim et al., arXiv 2107.13221: table 1 (normalizations by MaxBoxAccV2) and figure 3 (the picture).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from wsolkern.cli import terminal
from wsolkern.files import write_whole
from wsolkern.targets import check_folder, check_targets


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
        _run(out, resolution, picture, json_file)


def _run(out: Path, resolution: int, picture: bool, json_file: str | None) -> None:
    """All stages."""
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with stage("loading the libraries"), _missing_extra():
        import torch  # noqa: F401  (so that its share of the time is not the classifier's)

        import wsolkern
        from wsolkern import demo as photographs
        from wsolkern.metrics import Evaluator
        from wsolkern.report.tables import markdown_table

    crops = photographs.load_crops()
    with stage("classifier and CAMs"), _missing_extra(), terminal.progress_bar() as bar:
        task = bar.add_task("class activation maps", total=len(crops))
        found = photographs.crop_cams(crops, resolution, progress=lambda done: bar.update(task, completed=done))
    with stage("writing metadata and CAMs"):
        photographs.write_dataset(out, crops, found)
    with stage("evaluating"):
        boxes = photographs.crop_boxes(crops)
        image_ids = [crop.image_id for crop in crops]
        evaluator = Evaluator(boxes=dict(zip(image_ids, boxes, strict=True)))
        evaluator.update(found.cams, image_ids)
        result = evaluator.compute()

    def draw() -> None:
        with stage("drawing"), _missing_extra():
            from wsolkern.report.pictures import Localized, draw_localizations

            shown = [crop.photograph.name for crop in crops]
            first = sorted({name: shown.index(name) for name in shown}.values())
            images = [
                Localized(crops[i].photograph.class_name, crops[i].pixels(), found.cams[i], boxes[i]) for i in first
            ]
            draw_localizations(out / "localizations.png", images, result)

    def content() -> dict:
        return {
            "wsolkern": wsolkern.__version__,
            "classifier": f"EfficientNet-Lite0 at {resolution} pixels",
            "cam_size": list(found.cams.shape[1:]),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            **result.to_dict(curves=True),
        }

    num_photographs = len(set(crop.photograph.path() for crop in crops))
    steps = [draw] if picture else []
    if json_file != "-":
        steps.append(lambda: _print(out, result, found.cams.shape, num_photographs, picture, seconds))
    steps.append(lambda: terminal.write_json(content(), str(out / "results.json")))
    steps.append(lambda: write_whole(out / "results.md", markdown_table(result).encode()))
    if json_file is not None:
        steps.append(lambda: terminal.write_json(content(), json_file))
    terminal.deliver(*steps)


def _print(out: Path, result, shape, num_photographs: int, picture: bool, seconds: dict[str, float]) -> None:
    title = f"{result.num_images} images from {num_photographs} photographs, CAMs of {shape[1]}x{shape[2]}"
    terminal.print_result(result, title)
    cams, metadata = out / "cams", out / "metadata"
    halves = [f"--{split} {cams} --{split}-metadata {metadata / split}" for split in ("val", "test")]
    written = {
        "picture": out / "localizations.png" if picture else None,
        "results": f"{out / 'results.json'}, {out / 'results.md'}",
        "CAMs, a store": cams,
        "metadata": f"{metadata}; half of the photographs each: {metadata / 'val'}, {metadata / 'test'}",
        "the same from these files": f"wsolkern evaluate --cams {cams} --metadata {metadata}",
        "all percentiles of IVR": f"wsolkern sweep {cams} --metadata {metadata}",
        "one chosen, and tested": f"wsolkern select {' '.join(halves)}",
    }
    console = terminal.stdout()
    with terminal.printing():
        for name, where in written.items():
            if where is not None:
                console.print(f"{name:<26} {where}")
        console.print()
        for name, value in seconds.items():
            console.print(f"{name:<26} {value:6.2f} s")
        console.print(f"{'in all':<26} {sum(seconds.values()):6.2f} s")


@contextmanager
def _missing_extra() -> Iterator[None]:
    """Adds to a failed import what to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}; install what the demo needs: pip install 'wsolkern[demo]'") from error

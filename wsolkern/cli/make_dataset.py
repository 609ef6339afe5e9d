"""``wsolkern make-dataset``: data sets that are made from installed packages, as files.

In: sizes and a seed. Out: images, masks and metadata in the field's own layout.
Source: :mod:`wsolkern.datasets.digits`.
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern.cli import following, streams, terminal
from wsolkern.targets import check_folder

_MOST = 100_000  # images of a split: their names have five digits

app = terminal.group("make-dataset", help="Make a data set from what installed packages hold; nothing is downloaded.")


@app.callback()
def _group() -> None:
    """With it, the one command there is keeps its name."""


@app.command()
def digits(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: an empty one or none yet.", show_default=False)
    ],
    train: Annotated[int, typer.Option(min=0, max=_MOST, help="Images of train-weaksup.")] = 4000,
    val: Annotated[int, typer.Option(min=0, max=_MOST, help="Images of train-fullsup.")] = 500,
    test: Annotated[int, typer.Option(min=0, max=_MOST, help="Images of the test split.")] = 1000,
    size: Annotated[int, typer.Option(min=32, max=4096, help="Side of an image in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Another one, other images.")] = 0,
) -> None:
    """Handwritten digits among pieces of other digits, on photographs of textures.

    OUT/images and OUT/masks hold the pixels; OUT/metadata/digits-boxes and digits-masks the splits train, val and test,
    with boxes or masks. The same numbers give the same files, to the byte.
    """
    with terminal.errors_as_messages():
        from wsolkern.datasets.digits import make_digits

        check_folder("OUT", out)
        counts = {"train": train, "val": val, "test": test}
        total = sum(counts.values())
        with terminal.showing_progress() as progress:
            make_digits(out, counts, size=size, seed=seed, progress=lambda done: progress("digits", done, total))
        with streams.printing() as console:
            console.print(f"{out}: {', '.join(f'{number:,} {name}' for name, number in counts.items())}")
            for kind in ("boxes", "masks"):
                console.print(f"{kind}: {out / 'metadata' / f'digits-{kind}'}")
        masks = out / "masks"
        words = ["train", "--dataset", out / "images", "--metadata", out / "metadata" / "digits-boxes"]
        words += ["--backbone", "tiny", "--method", "cam", "--resize-size", size, "--crop-size", size, "-o", "RUN"]
        following.say_next(*words, note=f"digits-masks: with --mask-root {masks}")

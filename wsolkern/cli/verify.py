"""``wsolkern verify``: does a result hold, made again from the same maps and ground truth?

In: the JSON of evaluate, sweep, select or table; its data. Out: what agrees and what does not; exit code 1 if it fails.
Source: none; what is compared is in :mod:`wsolkern.studies.verification`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, streams, studying, terminal
from wsolkern.targets import check_targets

if TYPE_CHECKING:
    from wsolkern.datasets import Metadata
    from wsolkern.studies.provenance import Data
    from wsolkern.studies.verification import Verification

_COLOURS = {"agrees": "green", "noted": "yellow", "differs": "red"}


def verify(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="The JSON of wsolkern evaluate, sweep, select or table, or the page of report or compare.",
            show_default=False,
        ),
    ],
    maps: options.optional(
        list[str],
        "Where the maps are now, if they moved. If the result names several, OLD=DIR: a path in it, or the beginning "
        "of some; repeatable.",
        metavar="[OLD=]DIR",
    ) = None,
    metadata: options.optional(
        list[str],
        "The same for folders of metadata; of a table it is the folder of DATASET/SPLIT folders.",
        metavar="[OLD=]DIR",
    ) = None,
    mask_root: options.optional(list[str], "The same for folders of masks.", metavar="[OLD=]DIR") = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    run: Annotated[int, typer.Option(min=1, max=2, help="Which run of a page that compares two.")] = 1,
    sample: options.optional(
        int,
        "Look at so many images only (evaluate, sweep): compares the engine with the reference on them, and refutes "
        "figures that they cannot come from. The reference takes about a second an image and normalization, so that "
        "making all again, which is the default, is often quicker.",
        min=1,
    ) = None,
    seed: Annotated[int, typer.Option(min=0, help="What a sample is drawn with.")] = 0,
    device: options.Device = "cpu",
    json_file: options.JsonFile = None,
    threads: options.Threads = None,
) -> None:
    """Tell whether a result holds.

    Compares the hashes of metadata and stores with those in the result, makes its figures again, and compares all of
    them. The exit code is 0 if nothing differs, else 1.

    - wsolkern verify result.json

    - wsolkern verify result.json --maps /data/runs/cub-vgg16-cam-test --metadata metadata/CUB/test

    - wsolkern verify result.json --sample 50
    """
    with terminal.errors_as_messages():
        from wsolkern import studies
        from wsolkern.datasets import load_metadata

        machine.use_threads(threads)
        check_targets({"--json": json_file}, (result,))
        given = {"maps": maps, "metadata": metadata, "mask_root": mask_root}
        places = {name: options.parse_places(name, texts or []) for name, texts in given.items()}

        def load(entry: "Data") -> "Metadata":
            split = load_metadata(entry.metadata, box_format=entry.box_format, box_rounding=entry.box_rounding)
            root = None if entry.mask_root is None else Path(entry.mask_root)
            return studying.expect_ignore_masks(split, root, allow_missing_ignore)

        with studying.running() as progress:
            found = studies.verify(
                result, **places, run=run, sample=sample, seed=seed, load=load, device=device, progress=progress
            )
        terminal.deliver_result(json_file, found.to_dict, lambda: _print(found), lambda: _finish(found))


def _print(found: "Verification") -> None:
    width = min(60, max(len(each.what) for each in found.checks))
    with streams.printing() as console:
        for each in found.checks:
            console.print(f"{each.state:<7}", style=_COLOURS[each.state], end="")
            console.print(f"  {each.what:<{width}}  {each.detail}")
        of = "" if found.sample is None else ", as far as a sample can tell"
        console.print(f"{found.result}: {f'holds{of}' if found.holds else 'does not hold'}", style="bold")


def _finish(found: "Verification") -> None:
    """Raises typer.Exit if it does not hold."""
    if not found.holds:
        raise typer.Exit(terminal.PROBLEMS)

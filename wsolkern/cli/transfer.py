"""``wsolkern store import`` and ``export``: CAM stores from folders of maps, and folders of maps from stores.

In: folders of CAMs or score maps, one file an image; stores. Out: the same; exit code 1 if something was left out.
Source: file names of the folders as in Choe et al.'s evaluation, ``<image id>.npy``.
"""

from pathlib import Path
from typing import Annotated

import typer

from wsolkern.cli import following, options, streams, studying, terminal
from wsolkern.cli.options import optional
from wsolkern.targets import check_folder


def import_(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Maps [h, w]: IMAGE_ID.npy, .npz or .safetensors, the id's own extension kept or left out.",
            show_default=False,
        ),
    ],
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="Store to write; one that is there goes on.", show_default=False)
    ],
    metadata: optional(
        Path,
        "Folder of the split, for image ids and classes; without it, the files' names are the ids.",
        metavar="SPLIT_FOLDER",
    ) = None,
    score_maps: Annotated[
        bool, typer.Option("--score-maps", help="The maps are score maps in [0, 1] of the evaluation size, not CAMs.")
    ] = False,
    dataset: optional(str, "For the manifest, such as CUB.") = None,
    split: optional(str, "For the manifest, such as test.") = None,
    method: optional(str, "For the manifest, such as CAM.") = None,
    backbone: optional(str, "For the manifest, such as ResNet-50.") = None,
) -> None:
    """Make a store from a folder with one map file an image.

    Maps that are missing or unreadable are listed and make the exit code 1. Started again, it goes on with what the
    store does not have yet, or has of an earlier file or of another class.
    """
    with terminal.errors_as_messages():
        from wsolkern.studies.stores import import_folder

        check_folder("STORE", store)
        with terminal.showing_progress("maps") as progress:
            found = import_folder(
                folder,
                store,
                metadata,
                score_maps=score_maps,
                dataset=dataset,
                split=split,
                method=method,
                backbone=backbone,
                on_outdated=lambda old: terminal.list_problems("maps no longer fit and are imported again", old),
                progress=progress,
            )
        streams.say(f"{store}: {found.num_maps:,} maps")
        following.after_maps(store, metadata, score_maps=score_maps)
        studying.finish_shards(f"of {found.num_all:,} maps were left out", found.problems)


def export(
    store: options.Store,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for IMAGE_ID.npy files.", show_default=False)],
    normalization: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            "-n",
            help="Write score maps, float64 of --size, under it: minmax, max, pas:P, ivr:P or ivr:P+pas:P. Without it, "
            "the raw maps as they are stored.",
        ),
    ] = None,
    size: options.Size = "224",
    nwc: options.Nwc = False,
) -> None:
    """Write a store as one .npy file an image, over what is there.

    With a normalization these are the published evaluation's score maps, to the bit. Each file is written whole or not
    at all.
    """
    with terminal.errors_as_messages():
        from wsolkern.studies.stores import export

        check_folder("OUT", out)
        with studying.running() as progress:
            found = export(store, out, normalization, size=options.parse_size(size), nwc=nwc, progress=progress)
        following.after_maps(out, None, score_maps=normalization is not None)
        studying.finish_shards("shards are damaged, their maps are left out", found.problems)

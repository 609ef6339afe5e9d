"""``wsolkern store``: look at CAM stores, check, repair and merge them; `transfer` makes them from folders and back.

In: CAM stores. Out: what is in them; stores; exit code 1 if something was left out.
Source: none; what is done is in :mod:`wsolkern.studies.stores`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import following, options, streams, studying, terminal, transfer
from wsolkern.targets import check_folder, check_targets

if TYPE_CHECKING:
    from wsolkern.studies.stores import StoreInfo


app = terminal.group("store", help="Look at CAM stores, check, merge, import and export them.")
app.callback()(terminal.spell_as_typed)
Stores = Annotated[list[Path], typer.Argument(metavar="STORES...", help="Folders of CAM stores.", show_default=False)]


@app.command()
def info(store: options.Store, json_file: options.JsonFile = None) -> None:
    """Tell which run a store holds, how many maps of which sizes, and what it takes on the disk.

    Reads, and so verifies, all shards. Exit code 1 if some are damaged.
    """
    with terminal.errors_as_messages():
        from wsolkern.studies import stores

        check_targets({"--json": json_file}, [store])
        with terminal.showing_progress("maps") as progress:
            found = stores.info(store, progress=progress)
        studying.warn(found.warnings)
        damaged = "shards are damaged (wsolkern store verify --repair takes them out)"
        terminal.deliver_result(
            json_file, found.to_dict, lambda: _print_info(found), lambda: studying.finish_shards(damaged, found.damaged)
        )


@app.command()
def verify(
    stores: Stores,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take damaged shards out of the index, so that the next run makes exactly their maps again.",
        ),
    ] = False,
) -> None:
    """Read all shards and compare their checksums. Exit code 1 if something is damaged, repaired or not."""
    with terminal.errors_as_messages():
        from wsolkern.errors import DatasetError, PathError
        from wsolkern.studies.stores import verify

        damaged: dict[str, str] = {}
        for path in stores:
            try:
                with terminal.showing_progress("maps") as progress:
                    found = verify(path, repair=repair, progress=progress)
            except DatasetError as error:
                is_named = isinstance(error, PathError) and error.path == path
                damaged[str(path)] = error.reason if is_named else str(error)
                continue
            state = "all is well"
            if found.damaged:
                state = f"{len(found.damaged)} damaged, which held {found.num_lost:,} maps"
                state += " and are taken out: the next run makes these maps again" if repair else ""
            streams.say(f"{path}: {found.num_maps:,} maps in {found.num_shards:,} shards, {state}")
            if found.damaged and not repair:
                following.say_next("store", "verify", "--repair", path)
            damaged |= {os.path.join(path, file): problem for file, problem in found.damaged.items()}
        studying.finish_shards("files are damaged", damaged)


@app.command()
def merge(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Store to write; one that is there goes on.", show_default=False)
    ],
    stores: Stores,
) -> None:
    """Put the maps of several stores of one run into one.

    An image may be in several stores if its maps are the same to the bit. A merge that was interrupted goes on when it
    is started again.
    """
    with terminal.errors_as_messages():
        from wsolkern.studies.stores import merge

        check_folder("OUT", out)
        with terminal.showing_progress("maps") as progress:
            found = merge(out, stores, progress=progress)
        streams.say(f"{out}: {found.num_maps:,} maps")
        following.after_maps(out, None)
        studying.finish_shards("shards are damaged, their maps are left out", found.problems)


app.command("import")(transfer.import_)
app.command()(transfer.export)


def _print_info(found: "StoreInfo") -> None:
    content = found.to_dict()
    counts = ", ".join(f"{count:,} of {size}" for size, count in content["sizes"].items())
    rows = {
        **content["manifest"],
        "maps": f"{content['num_maps']:,}" + (f": {counts}" if counts else ""),
        "shards": f"{content['num_shards']:,}, {content['bytes']:,} bytes",
    }
    with streams.printing() as console:
        for name, value in rows.items():
            shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
            console.print(f"{name:<18} {'-' if shown in (None, '') else shown}")

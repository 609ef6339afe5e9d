"""``wsolkern store``: look at CAM stores, check, repair and merge them, make them from folders of maps and back.

In: CAM stores; folders of CAMs or score maps, one file an image. Out: the same; exit code 1 if something was left out.
Source: file names of the folders as in Choe et al.'s evaluation, ``<image id>.npy``.
"""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import studying, terminal
from wsolkern.cli.options import JsonFile, Nwc, Size, parse_size
from wsolkern.targets import check_folder, check_targets

if TYPE_CHECKING:
    from wsolkern.cams import CamStore


app = typer.Typer(
    name="store",
    help="Look at CAM stores, check, merge, import and export them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.callback()(terminal.spell_as_typed)
Store = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a CAM store.", show_default=False)]
Stores = Annotated[list[Path], typer.Argument(metavar="STORES...", help="Folders of CAM stores.", show_default=False)]


@app.command()
def info(store: Store, json_file: JsonFile = None) -> None:
    """Tell which run a store holds, how many maps of which sizes, and what it takes on the disk.

    Reads, and so verifies, all shards. Exit code 1 if some are damaged.
    """
    with terminal.errors_as_messages():
        from wsolkern.cams import CamStore
        from wsolkern.datasets.scaling import UnitRange

        check_targets({"--json": json_file}, [store])
        opened = CamStore(store)
        sizes: Counter[str] = Counter()
        spans = UnitRange()
        with terminal.progress_bar(unit="maps") as bar:
            task = bar.add_task("reading", total=opened.num_maps)
            for shard, records in opened.contents():
                for part in records:
                    sizes["x".join(map(str, part.cams.shape[1:]))] += len(part.cams)
                    spans.see(part.cams)
                bar.advance(task, shard.num_maps)
        is_scaled = opened.manifest.content == "cams" and bool(spans)
        if is_scaled:
            studying.warn([f"{store}: {spans.NOTE}"])
        content = {
            "store": str(store),
            "manifest": asdict(opened.manifest),
            "num_maps": opened.num_maps,
            "sizes": dict(sizes.most_common()),
            "scaled": is_scaled,
            "num_shards": len(opened.shards),
            "bytes": sum(shard.bytes for shard in opened.shards),
            "damaged": opened.problems,
        }
        damaged = "shards are damaged (wsolkern store verify --repair takes them out)"
        steps = []
        if json_file != "-":
            steps.append(lambda: _print_info(content))
        if json_file is not None:
            steps.append(lambda: terminal.write_json(content, json_file))
        terminal.deliver(*steps, lambda: _finish(damaged, opened.problems))


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

        damaged: dict[str, str] = {}
        for path in stores:
            try:
                store, problems = _verify(path, repair)
            except DatasetError as error:
                is_named = isinstance(error, PathError) and error.path == path
                damaged[str(path)] = error.reason if is_named else str(error)
                continue
            state = "all is well"
            if problems:
                num_maps = sum(shard.num_maps for shard in store.shards if shard.file in problems)
                state = f"{len(problems)} damaged, which held {num_maps:,} maps"
                state += " and are taken out: the next run makes these maps again" if repair else ""
            _say(f"{path}: {store.num_maps:,} maps in {len(store.shards):,} shards, {state}")
            damaged |= {os.path.join(path, file): problem for file, problem in problems.items()}
        _finish("files are damaged", damaged)


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
        from wsolkern.cams import CamStore, merge_stores

        check_folder("OUT", out)
        with terminal.progress_bar(unit="maps") as bar:
            task = bar.add_task("merging", total=sum(CamStore(path).num_maps for path in stores))
            problems = merge_stores(out, stores, progress=lambda done: bar.update(task, completed=done))
        _say(f"{out}: {CamStore(out).num_maps:,} maps")
        _finish("shards are damaged, their maps are left out", problems)


@app.command("import")
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
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="SPLIT_FOLDER",
            help="Folder of the split, for image ids and classes; without it, the files' names are the ids.",
        ),
    ] = None,
    score_maps: Annotated[
        bool, typer.Option("--score-maps", help="The maps are score maps in [0, 1] of the evaluation size, not CAMs.")
    ] = False,
    dataset: Annotated[str | None, typer.Option(help="For the manifest, such as CUB.")] = None,
    split: Annotated[str | None, typer.Option(help="For the manifest, such as test.")] = None,
    method: Annotated[str | None, typer.Option(help="For the manifest, such as CAM.")] = None,
    backbone: Annotated[str | None, typer.Option(help="For the manifest, such as ResNet-50.")] = None,
) -> None:
    """Make a store from a folder with one map file an image.

    Maps that are missing or unreadable are listed and make the exit code 1. Started again, it goes on with what the
    store does not have yet, or has of an earlier file or of another class.
    """
    with terminal.errors_as_messages():
        from wsolkern.cams import CamStore, Manifest
        from wsolkern.cams.transfer import ids_of_files, import_maps
        from wsolkern.datasets import load_metadata
        from wsolkern.datasets.ids import check_image_ids

        if metadata is not None:
            truth = load_metadata(metadata, localization=False)
            image_ids, labels = truth.image_ids, truth.class_labels
        else:
            image_ids, labels = ids_of_files(folder), {}
        check_folder("STORE", store)
        if CamStore.is_at(folder):
            raise ValueError(f"{folder}: is a CAM store already: wsolkern store merge copies it")
        if store.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{store}: expected a store outside of {folder}, whose files are taken for maps")
        content = "score maps" if score_maps else "cams"
        manifest = Manifest(content, dataset, split, method, backbone)
        try:
            check_image_ids(image_ids)
        except ValueError as error:
            raise ValueError(f"{metadata / 'image_ids.txt' if metadata else folder}: {error}") from error
        with terminal.progress_bar(unit="maps") as bar:
            task = bar.add_task("importing", total=len(image_ids))
            problems = import_maps(
                folder,
                store,
                manifest,
                image_ids,
                labels,
                on_outdated=lambda old: terminal.list_problems("maps no longer fit and are imported again", old),
                progress=lambda done: bar.update(task, completed=done),
            )
        num_maps = CamStore(store).num_maps
        if problems and not num_maps:
            first = next(iter(problems))
            raise ValueError(f"{folder}: none of {len(image_ids):,} maps could be read; {first}: {problems[first]}")
        _say(f"{store}: {num_maps:,} maps")
        _finish(f"of {len(image_ids):,} maps were left out", problems)


@app.command()
def export(
    store: Store,
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
    size: Size = "224",
    nwc: Nwc = False,
) -> None:
    """Write a store as one .npy file an image, over what is there.

    With a normalization these are the published evaluation's score maps, to the bit. Each file is written whole or not
    at all.
    """
    with terminal.errors_as_messages():
        from wsolkern.cams import CamStore
        from wsolkern.cams.transfer import export_maps
        from wsolkern.normalization import Normalization

        opened, shape = CamStore(store), parse_size(size)
        if out.resolve().is_relative_to(store.resolve()):
            raise ValueError(f"{out}: expected a folder outside of the store {store}")
        parsed = None if normalization is None else Normalization.parse(normalization)
        check_folder("OUT", out)
        with studying.running() as progress:
            export_maps(
                opened, out, parsed, shape, nwc=nwc, progress=lambda done: progress("exporting", done, opened.num_maps)
            )
        _finish("shards are damaged, their maps are left out", opened.problems)


def _print_info(content: dict) -> None:
    counts = ", ".join(f"{count:,} of {size}" for size, count in content["sizes"].items())
    rows = {
        **content["manifest"],
        "maps": f"{content['num_maps']:,}" + (f": {counts}" if counts else ""),
        "shards": f"{content['num_shards']:,}, {content['bytes']:,} bytes",
    }
    console = terminal.stdout()
    with terminal.printing():
        for name, value in rows.items():
            shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
            console.print(f"{name:<18} {'-' if shown in (None, '') else shown}")


def _say(text: str) -> None:
    with terminal.printing():
        terminal.stdout().print(text)


def _verify(path: Path, repair: bool) -> tuple["CamStore", dict[str, str]]:
    """A store as it was found, and file of a shard -> what is wrong with it."""
    from wsolkern.cams import CamStore, repair_store

    store = CamStore(path)
    with terminal.progress_bar(unit="maps") as bar:
        task = bar.add_task(f"reading {path.name}", total=store.num_maps)

        def progress(num_done: int) -> None:
            bar.update(task, completed=num_done)

        return store, repair_store(path, progress=progress) if repair else store.verify(progress=progress)


def _finish(what: str, problems: dict[str, str]) -> None:
    """Lists what was left out; raises typer.Exit if there is anything."""
    terminal.list_problems(what, problems)
    if problems:
        raise typer.Exit(terminal.PROBLEMS)

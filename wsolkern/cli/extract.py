"""``wsolkern extract``: from images and anyone's classifier to a CAM store.

In: a model, a data root, a split's metadata. Out: a store; exit code 1 if images were left out.
Source: Zhou et al., arXiv 1512.04150 (CAM); the image transform is that of Choe et al., arXiv 2007.04178.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from wsolkern import machine
from wsolkern.cli import options, terminal
from wsolkern.targets import check_folder


def extract(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="package.module:function that returns a torch.nn.Module, such as torchvision.models:resnet50; modules "
            "in the current folder count. Or one that returns a function (images, classes) -> CAMs.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path, typer.Option(metavar="DATA_ROOT", help="Folder that image ids are paths below.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="STORE", help="Store to write; one that is there goes on.", show_default=False
        ),
    ],
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="SPLIT_FOLDER",
            help="Folder of the split, for image ids and classes; without it, each folder in DATA_ROOT is a class.",
        ),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--argument", "-a", metavar="NAME=VALUE", help="For MODEL's function, such as num_classes=200; repeatable."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="State dict of torch or .safetensors; wrappers such as 'state_dict' and 'module.' are found.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Module whose output is pooled, such as layer4; found if left out."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Linear or 1x1 Conv2d that makes the logits, such as fc; found if left out."),
    ] = None,
    classes: Annotated[
        str, typer.Option(metavar="labels|predicted", help="Which class of an image its CAM is of.")
    ] = "labels",
    nwc: Annotated[
        bool, typer.Option("--nwc", help="Make NWC maps (negative classifier weights are 0) from the same pass.")
    ] = False,
    size: Annotated[str, typer.Option(help="Size that images are resized to in pixels, SIDE or HEIGHTxWIDTH.")] = "224",
    interpolation: Annotated[str, typer.Option(help="How, as Pillow names it.")] = "bilinear",
    mean: Annotated[
        str, typer.Option(help="Subtracted from red, green and blue: three numbers or one.")
    ] = "0.485 0.456 0.406",
    std: Annotated[str, typer.Option(help="Divided by then.")] = "0.229 0.224 0.225",
    white: Annotated[
        float, typer.Option(help="What a pixel value of 255 is in units of --mean and --std: 1 or 255.")
    ] = 1.0,
    device: Annotated[
        str, typer.Option(help="cpu or cuda; under torchrun each process takes a GPU of its own.")
    ] = "cpu",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images a forward pass; default: 1 a core on a CPU, 64 on a GPU.")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, or mixed precision with bfloat16 or float16.")] = "float32",
    dataset: Annotated[str | None, typer.Option(help="For the manifest; default: from the metadata's path.")] = None,
    split: Annotated[str | None, typer.Option(help="For the manifest; default: from the metadata's path.")] = None,
    method: Annotated[str, typer.Option(help="For the manifest.")] = "CAM",
    backbone: Annotated[
        str | None, typer.Option(help="For the manifest; default: the model's own word, or its class.")
    ] = None,
    with_hash: Annotated[
        bool,
        typer.Option(
            "--hash", help="Keep the SHA-256 of each image's file, too, and compare by it what is in the store already."
        ),
    ] = False,
    any_image_size: options.AnyImageSize = False,
    allow_missing: options.AllowMissing = False,
) -> None:
    """Make the CAMs of a data set with any classifier, and keep them in a store.

    Where the classifier pools its last feature map, and the linear layer behind that, is found and verified.

    Killed or interrupted, the same command goes on. CAMs whose image has another label now, or another file by size and
    time, are made again. Images that are missing or damaged are listed, left out, and tried again the next time. For
    several processes:

    torchrun --nproc-per-node 2 -m wsolkern extract MODEL ...
    """
    with terminal.errors_as_messages():
        machine.keep_freed_memory()
        from wsolkern.cams import CamStore, CamWriter, Manifest, Ranks, cam_model, outdated, shared_writer
        from wsolkern.cams import extract as extract_cams
        from wsolkern.cams.extraction import num_classes_of
        from wsolkern.datasets import ImageFolder, Preprocessing, class_folders, load_metadata
        from wsolkern.datasets.ids import check_image_ids
        from wsolkern.datasets.labels import check_labels, line_of
        from wsolkern.interrupts import interrupts_raise
        from wsolkern.models.loading import load_model

        check_folder("--out", out)
        preprocessing = Preprocessing(
            options.parse_size(size), interpolation, _parse_three("--mean", mean), _parse_three("--std", std), white
        )
        if classes not in ("labels", "predicted"):
            raise ValueError(f"--classes: expected labels or predicted, found {classes!r}")
        if metadata is not None:
            truth = load_metadata(metadata, localization=False)
            image_ids, labels, sizes = truth.image_ids, truth.class_labels, truth.image_sizes
            *_, dataset_guess, split_guess = ("", *metadata.resolve().parts)
        else:
            labels, sizes = class_folders(images), None
            image_ids, dataset_guess, split_guess = tuple(labels), images.resolve().name, None
        if classes == "labels" and not labels:
            raise ValueError(f"--classes labels: {metadata} has no class_labels.txt; pass --classes predicted")
        labels = labels if classes == "labels" else None
        try:
            check_image_ids(image_ids)
        except ValueError as error:
            raise ValueError(f"{metadata / 'image_ids.txt' if metadata else images}: {error}") from error

        def label_place(image_id: str) -> str:
            if metadata is not None:
                return line_of(metadata / "class_labels.txt", image_id)
            return f"{images}: folder {image_id.partition('/')[0]!r} is class {labels[image_id]} by its name"

        source = ImageFolder(images, image_ids, preprocessing, image_sizes=None if any_image_size else sizes)
        options.find_modules_here()
        network, sha256, note = load_model(model, options.parse_arguments(argument or []), weights)
        with interrupts_raise(), Ranks.joined() as ranks:
            if note and ranks.rank == 0:
                terminal.stderr().print(note)
            if ranks.num_local > 1:
                machine.share_cores(ranks.num_local)
            place = machine.place_of(device, ranks.local_rank)
            if hasattr(network, "to"):
                network = network.to(place)
            looker = cam_model(network, preprocessing.size, features=features, head=head, nwc=nwc)
            if labels is not None:
                num_classes = num_classes_of(looker, preprocessing.size, place)
                labels = check_labels(labels, image_ids, num_classes, place=label_place)
                if metadata is None and ranks.rank == 0:
                    _warn_of_folders(images, 1 + max(labels.values()), num_classes)
            manifest = Manifest(
                dataset=dataset or dataset_guess or None,
                split=split or split_guess,
                method=method,
                backbone=backbone or _backbone(network),
                checkpoint_sha256=sha256,
                # Beside the images' preprocessing what else maps of one run have in common.
                preprocessing={
                    **preprocessing.to_dict(),
                    "classes": classes,
                    "precision": precision,
                    **({"any_image_size": True} if any_image_size else {}),
                    **({"features": str(looker.features), "head": looker.head} if hasattr(looker, "head") else {}),
                },
                nwc=nwc,
            )

            def tell(old: dict[str, str]) -> None:
                if old and ranks.rank == 0:
                    terminal.list_problems("CAMs no longer fit and are made again", old)

            with shared_writer(out, manifest, ranks) as (writer, stored), terminal.progress_bar() as bar:
                if ranks.num_ranks > 1:
                    # The first one alone changes the store that all read.
                    old = {}
                    if ranks.rank == 0:
                        with CamWriter(out, manifest) as main:
                            old = outdated(CamStore(out), source, labels, with_hash=with_hash)
                            tell(old)
                            main.drop(old)
                    stored = stored.difference(ranks.gather(old)[0])
                task = bar.add_task("extracting", total=len(image_ids), visible=ranks.rank == 0)

                def progress(done: int) -> None:
                    # The first rank's share stands for all.
                    bar.update(task, completed=min(done * ranks.num_ranks, len(image_ids)))

                try:
                    mine = extract_cams(
                        looker,
                        source,
                        writer,
                        labels,
                        batch_size=batch_size,
                        device=place,
                        precision=precision,
                        rank=ranks.rank,
                        num_ranks=ranks.num_ranks,
                        skip=stored,
                        with_hash=with_hash,
                        label_place=label_place,
                        on_outdated=tell,
                        progress=progress,
                    )
                except KeyboardInterrupt:
                    writer.flush()
                    bar.stop()
                    text = (
                        f"interrupted: the CAMs of {len(writer.image_ids):,} images are kept; the same command goes on"
                    )
                    terminal.stderr().print(text)
                    raise typer.Exit(terminal.INTERRUPTED) from None
            problems = {image_id: why for each in ranks.gather(mine) for image_id, why in each.items()}
        if ranks.rank == 0:
            _finish(out, image_ids, problems, allow_missing)


def _backbone(network: Callable) -> str:
    """The name that a network gives its backbone, or else its class."""
    name = getattr(network, "backbone", None)
    return name if isinstance(name, str) else type(network).__name__


def _warn_of_folders(images: Path, num_folders: int, num_classes: int | None) -> None:
    """Folders that are fewer than a model's classes are its first ones only by chance."""
    if num_classes is not None and num_folders < num_classes:
        text = (
            f"{images}: the model tells {num_classes:,} classes apart; the {num_folders:,} folders are taken for the "
        )
        text += "first of them in the order of their names; if they are others, --metadata says which ones"
        terminal.stderr().print(text, style="yellow")


def _parse_three(option: str, text: str) -> tuple[float, ...]:
    """Three numbers; one stands for all."""
    try:
        numbers = tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise ValueError(f"{option}: expected three numbers or one, found {text!r}")
    return numbers * (3 // len(numbers))


def _finish(out: Path, image_ids: tuple[str, ...], problems: dict[str, str], allow_missing: bool) -> None:
    """Says what is there and what was left out.

    Raises:
        ValueError: Everything was.
        typer.Exit: Something was, and that is not allowed.
    """
    from wsolkern.cams import CamStore

    store = CamStore(out)
    num_maps = store.num_maps
    if problems and not num_maps:
        first = next(iter(problems))
        raise ValueError(f"none of {len(image_ids):,} images could be read; {first}: {problems[first]}")
    with terminal.printing():
        terminal.stdout().print(f"{out}: {num_maps:,} CAMs")
    wanted = set(image_ids)
    others = [each for _, entries in store.entries() for each in entries.image_ids if each not in wanted]
    if others:
        text = f"{out}: {len(others):,} of them are of images that were not asked for now, such as {others[0]!r}"
        terminal.stderr().print(text)
    terminal.list_problems(f"of {len(image_ids):,} images were left out", problems)
    if problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)

"""``wsolkern extract``: from images and anyone's classifier to a CAM store.

In: a model, a data root, a split's metadata. Out: a store; exit code 1 if images were left out.
Source: Zhou et al., arXiv 1512.04150 (CAM); the image transform is that of Choe et al., arXiv 2007.04178.
"""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import options, terminal

if TYPE_CHECKING:
    import torch


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
            metavar="FILE", help="State dict, also under 'state_dict' and with 'module.' before names; or .safetensors."
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
    allow_missing: options.AllowMissing = False,
) -> None:
    """Make the CAMs of a data set with any classifier, and keep them in a store.

    Where the classifier pools its last feature map, and the linear layer behind that, is found and verified.

    Killed or interrupted, the same command goes on. Images that are missing or damaged are listed, left out, and tried
    again the next time. For several processes:

    torchrun --nproc-per-node 2 -m wsolkern extract MODEL ...
    """
    with terminal.errors_as_messages():
        options.keep_freed_memory()
        from wsolkern.cams import Manifest, Ranks, cam_model, shared_writer
        from wsolkern.cams import extract as extract_cams
        from wsolkern.datasets import ImageFolder, Preprocessing, class_folders, load_metadata
        from wsolkern.interrupts import interrupts_raise

        preprocessing = Preprocessing(
            options.parse_size(size), interpolation, _parse_three("--mean", mean), _parse_three("--std", std), white
        )
        if classes not in ("labels", "predicted"):
            raise ValueError(f"--classes: expected labels or predicted, found {classes!r}")
        if metadata is not None:
            truth = load_metadata(metadata)
            image_ids, labels = truth.image_ids, truth.class_labels
            *_, dataset_guess, split_guess = ("", *metadata.resolve().parts)
        else:
            labels = class_folders(images)
            image_ids, dataset_guess, split_guess = tuple(labels), images.resolve().name, None
        if classes == "labels" and not labels:
            raise ValueError(f"--classes labels: {metadata} has no class_labels.txt; pass --classes predicted")
        source = ImageFolder(images, image_ids, preprocessing)
        network, sha256 = _load(model, argument or [], weights)
        with interrupts_raise(), Ranks.joined() as ranks:
            if ranks.num_local > 1:
                options.share_cores(ranks.num_local)
            place = options.place_of(device, ranks)
            if hasattr(network, "to"):
                network = network.to(place)
            looker = cam_model(network, preprocessing.size, features=features, head=head, nwc=nwc)
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
                    **({"features": str(looker.features), "head": looker.head} if hasattr(looker, "head") else {}),
                },
                nwc=nwc,
            )
            with shared_writer(out, manifest, ranks) as (writer, stored), terminal.progress_bar() as bar:
                task = bar.add_task("extracting", total=len(image_ids), visible=ranks.rank == 0)

                def progress(done: int) -> None:
                    # The first rank's share stands for all.
                    bar.update(task, completed=min(done * ranks.num_ranks, len(image_ids)))

                try:
                    mine = extract_cams(
                        looker,
                        source,
                        writer,
                        labels if classes == "labels" else None,
                        batch_size=batch_size,
                        device=place,
                        precision=precision,
                        rank=ranks.rank,
                        num_ranks=ranks.num_ranks,
                        skip=stored,
                        progress=progress,
                    )
                except KeyboardInterrupt:
                    writer.flush()
                    bar.stop()
                    text = (
                        f"interrupted: the CAMs of {len(writer.image_ids):,} images are kept; the same command goes on"
                    )
                    terminal.stderr().print(text, markup=False)
                    raise typer.Exit(terminal.INTERRUPTED) from None
            problems = {image_id: why for each in ranks.gather(mine) for image_id, why in each.items()}
        if ranks.rank == 0:
            _finish(out, image_ids, problems, allow_missing)


def _load(name: str, arguments: list[str], weights: Path | None) -> tuple[Callable, str | None]:
    """The model that MODEL makes, and the SHA-256 of the file of weights, or else of its parameters and buffers.

    Raises:
        ValueError: There is no such function, it returns something else, or the weights are for another model.
    """
    import torch

    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"MODEL: expected package.module:function, found {name!r}")
    options.find_modules_here()
    function = import_module(module_name)
    for part in function_name.split("."):
        if not hasattr(function, part):
            raise ValueError(f"MODEL: {module_name} has no {function_name}")
        function = getattr(function, part)
    model = function(**options.parse_arguments(arguments))
    if not callable(model):
        raise ValueError(f"MODEL: expected {name} to return a torch.nn.Module or a function, found {model!r}")
    if weights is None:
        return model, _state_sha256(model.state_dict()) if isinstance(model, torch.nn.Module) else None
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"--weights: {name} returns no torch.nn.Module to load them into")
    content = weights.read_bytes()
    try:
        model.load_state_dict(_read_state(weights))
    except RuntimeError as error:
        raise ValueError(f"{weights}: {error}") from error
    return model, hashlib.sha256(content).hexdigest()


def _read_state(path: Path) -> dict[str, "torch.Tensor"]:
    """A state dict without what surrounds it and without DataParallel's prefix."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(f"{path}: expected a file of tensors alone: {error}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected a state dict, found {type(state).__name__}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _state_sha256(state: dict[str, "torch.Tensor"]) -> str:
    """Names and values of all tensors."""
    import torch

    found = hashlib.sha256()
    for name, value in state.items():
        if torch.is_tensor(value):
            found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _backbone(network: Callable) -> str:
    """The name that a network gives its backbone, or else its class."""
    name = getattr(network, "backbone", None)
    return name if isinstance(name, str) else type(network).__name__


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

    num_maps = CamStore(out).num_maps
    if problems and not num_maps:
        first = next(iter(problems))
        raise ValueError(f"none of {len(image_ids):,} images could be read; {first}: {problems[first]}")
    terminal.stdout().print(f"{out}: {num_maps:,} CAMs", markup=False)
    terminal.list_problems(f"of {len(image_ids):,} images were left out", problems)
    if problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)

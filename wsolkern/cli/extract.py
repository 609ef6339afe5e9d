"""``wsolkern extract``: from images and anyone's classifier to a CAM store.

In: a model, a data root, a split's metadata. Out: a store; exit code 1 if images were left out.
Source: Zhou et al., arXiv 1512.04150 (CAM); the image transform is that of Choe et al., arXiv 2007.04178.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import machine
from wsolkern.cli import following, options, streams, studying, terminal
from wsolkern.cli.options import optional
from wsolkern.functions import find_modules_here
from wsolkern.targets import check_folder

if TYPE_CHECKING:
    from wsolkern.models.sources import ModelSource
    from wsolkern.studies.extraction import Extraction

_OWN = "a run's or timm's, else "


def extract(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="The folder of a run of wsolkern train; timm:NAME; or package.module:function that returns a "
            "torch.nn.Module, such as torchvision.models:resnet50 (modules in the current folder count), or a function "
            "(images, classes) -> CAMs.",
            show_default=False,
        ),
    ],
    images: options.DataRoot,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="STORE", help="Store to write; one that is there goes on.", show_default=False
        ),
    ],
    metadata: optional(
        Path,
        "Folder of the split, for image ids and classes; without it, each folder in DATA_ROOT is a class.",
        metavar="SPLIT_FOLDER",
    ) = None,
    arguments: options.arguments("For MODEL's function, such as num_classes=200; repeatable.") = None,
    weights: optional(
        Path,
        "State dict of torch or .safetensors; wrappers such as 'state_dict' and 'module.' are found. Default: of a run "
        "its best checkpoint, else those that MODEL's function makes.",
        metavar="FILE",
    ) = None,
    features: optional(str, "Module whose output is pooled, such as layer4; found if left out.", metavar="PATH") = None,
    head: optional(
        str, "Linear or 1x1 Conv2d that makes the logits, such as fc; found if left out.", metavar="PATH"
    ) = None,
    classes: Annotated[
        str,
        typer.Option(
            metavar="labels|predicted|both",
            help="Which class of an image its CAM is of; both: those predicted go to a second store, STORE.predicted.",
        ),
    ] = "labels",
    nwc: Annotated[
        bool, typer.Option("--nwc", help="Make NWC maps (negative classifier weights are 0) from the same pass.")
    ] = False,
    cam: Annotated[
        str,
        typer.Option(
            metavar="cam|linear|gradcam|layercam|ts-cam|attention|rollout|similarity|pca|ncut",
            help="How a map is made; linear is for networks with more than a linear layer behind the average "
            "(ConvNeXt, MobileNetV3). Which method is for which models: docs/models.md, 'CAM methods'.",
        ),
    ] = "cam",
    prompts: optional(
        Path, "Texts for classes, one a line, in the classes' order: for models such as CLIP.", metavar="FILE"
    ) = None,
    tokenizer: optional(
        Path, "Folder of the tokenizer for --prompts; default: the one the model was loaded from.", metavar="FOLDER"
    ) = None,
    size: optional(
        str, f"Size that images are resized to in pixels, SIDE or HEIGHTxWIDTH. Default: {_OWN}224.", metavar="SIZE"
    ) = None,
    interpolation: optional(str, f"How, as Pillow names it. Default: {_OWN}bilinear.") = None,
    mean: optional(
        str, f"Subtracted from red, green and blue: three numbers or one. Default: {_OWN}'0.485 0.456 0.406'."
    ) = None,
    std: optional(str, f"Divided by then. Default: {_OWN}'0.229 0.224 0.225'.") = None,
    white: optional(float, "What a pixel value of 255 is in units of --mean and --std: 1 or 255. Default: 1.") = None,
    device: options.RankDevice = "cpu",
    batch_size: optional(int, "Images a forward pass; default: 1 a core on a CPU, 64 on a GPU.", min=1) = None,
    precision: Annotated[str, typer.Option(help="float32, or mixed precision with bfloat16 or float16.")] = "float32",
    dataset: optional(str, "For the manifest; default: from the metadata's path.") = None,
    split: optional(str, "For the manifest; default: from the metadata's path.") = None,
    method: optional(str, "For the manifest; default: a run's, else CAM.") = None,
    backbone: optional(str, "For the manifest; default: timm's name, the model's own word, or its class.") = None,
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
        from wsolkern import studies
        from wsolkern.datasets import Preprocessing
        from wsolkern.studies.extraction import predicted_store

        check_folder("--out", out)
        if classes == "both":
            check_folder("--out", predicted_store(out))
        given = {
            "size": None if size is None else options.parse_size(size),
            "interpolation": interpolation,
            "mean": None if mean is None else options.parse_channels("--mean", mean),
            "std": None if std is None else options.parse_channels("--std", std),
            "white": white,
        }
        preprocessing = {name: value for name, value in given.items() if value is not None}
        Preprocessing(**preprocessing)  # what is wrong in it is said first
        find_modules_here()
        source = _source(model)
        try:
            with studying.running() as progress:
                found = studies.extract(
                    source,
                    images,
                    out,
                    metadata=metadata,
                    arguments=options.parse_arguments(arguments or []),
                    weights=weights,
                    features=features,
                    head=head,
                    classes=classes,
                    nwc=nwc,
                    cam=cam,
                    prompts=prompts,
                    tokenizer=tokenizer,
                    preprocessing=preprocessing,
                    device=device,
                    batch_size=batch_size,
                    precision=precision,
                    dataset=dataset,
                    split=split,
                    method=method,
                    backbone=backbone,
                    with_hash=with_hash,
                    any_image_size=any_image_size,
                    on_note=lambda text: streams.stderr().print(text),
                    on_outdated=lambda old: terminal.list_problems("CAMs no longer fit and are made again", old),
                    progress=progress,
                )
        except KeyboardInterrupt as error:
            streams.stderr().print(f"interrupted: {error}; the same command goes on")
            raise typer.Exit(terminal.INTERRUPTED) from None
        if found is not None:
            _finish(found, metadata, allow_missing)


def _source(model: str) -> "str | ModelSource":
    """What MODEL names: a run, read here, or what the study knows by itself."""
    if ":" in model and not os.path.isdir(model):
        return model
    from wsolkern.training import is_run, trained

    return trained(model) if is_run(model) else model


def _finish(found: "Extraction", metadata: Path | None, allow_missing: bool) -> None:
    """Says what is there and what was left out.

    Raises:
        typer.Exit: Something was, and that is not allowed.
    """
    for each in (found, *([found.predicted] if found.predicted else [])):
        streams.say(f"{each.store}: {each.num_maps:,} CAMs")
        if each.others:
            text = f"{each.store}: {len(each.others):,} of them are of images that were not asked for now"
            streams.stderr().print(f"{text}, such as {each.others[0]!r}")
    terminal.list_problems(f"of {found.num_images:,} images were left out", found.problems)
    following.after_maps(found.store, metadata)
    if found.problems and not allow_missing:
        raise typer.Exit(terminal.PROBLEMS)

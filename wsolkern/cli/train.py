"""``wsolkern train``: one of the six methods on a backbone, from images with classes to checkpoints.

In: a data root, a folder of splits, a recipe and what overrides it. Out: a run's folder; exit code 1 if images were
left out.
Source: Choe et al., arXiv 2007.04178, section 5; names and defaults of settings: clovaai/wsolevaluation, config.py.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults, machine
from wsolkern.cli import following, options, streams, studying, terminal
from wsolkern.cli.options import optional
from wsolkern.functions import find_modules_here
from wsolkern.targets import check_folder

if TYPE_CHECKING:
    from wsolkern.training import Outcome


def train(
    dataset: options.DataRoot,
    metadata: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the splits: train (image_ids.txt, class_labels.txt) and val (train-fullsup, with boxes or "
            "masks), such as metadata/CUB.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run; one that is there goes on.")
    ],
    recipe: optional(Path, "TOML with any of the settings below, such as RUN/recipe.toml.", metavar="FILE") = None,
    backbone: optional(
        str, "vgg16, inception_v3, resnet50, tiny, or package.module:function that returns a network."
    ) = None,
    method: optional(str, "cam, has, acol, spg, adl or cutmix.") = None,
    option: options.arguments(
        "A setting of the method by its published name, such as has_grid_size=8; repeatable."
    ) = None,
    num_classes: optional(int, "Default: as many as train has.") = None,
    large_feature_map: optional(bool, "CAMs of 28 x 28 for 224 x 224 pixels.") = None,
    pretrained: optional(
        str, "torchvision (ImageNet, from torch hub's folder) or a file of torchvision's weights.", metavar="FILE"
    ) = None,
    epochs: optional(int, "Default: 40.") = None,
    batch_size: optional(int, "Images a step, over all processes. Default: 64.") = None,
    shards: optional(
        int, "Parts of a batch that are computed apart: a multiple of the number of processes. Default: 1."
    ) = None,
    lr: optional(float, "Learning rate. Default: 0.01.") = None,
    lr_decay_frequency: optional(int, "Epochs between two steps of x 0.1. Default: 30.") = None,
    lr_classifier_ratio: optional(float, "Of the classifier's learning rate. Default: 10.") = None,
    momentum: optional(float, "Nesterov's. Default: 0.9.") = None,
    weight_decay: optional(float, "Default: 0.0001.") = None,
    resize_size: optional(int, "Pixels a side before cropping. Default: 256.") = None,
    crop_size: optional(int, "Pixels a side. Default: 224.") = None,
    flip_rate: optional(float, "Probability of mirroring an image. Default: 0.5.") = None,
    precision: optional(str, "float32, or mixed precision with bfloat16 or float16. Default: float32.") = None,
    seed: optional(int, "Default: 0.") = None,
    normalizations: optional(
        str,
        "What val is evaluated with; the first decides which checkpoint is best. "
        f"Default: '{defaults.NORMALIZATIONS}'.",
    ) = None,
    mask_root: options.MaskRoot = None,
    allow_missing_ignore: options.AllowMissingIgnore = False,
    any_image_size: options.AnyImageSize = False,
    box_format: options.BoxFormat = "xyxy",
    box_rounding: options.BoxRounding = "none",
    device: options.RankDevice = "cpu",
    threads: options.Threads = None,
    workers: optional(int, "Threads that read images; default: one a core.", min=1) = None,
    checkpoint_batches: Annotated[
        int, typer.Option(min=0, help="Batches between two checkpoints; 0: before and after each evaluation only.")
    ] = 0,
    log: optional(
        list[str],
        "Where the log goes, too: tensorboard (events in RUN/tensorboard) or wandb (Weights & Biases, files in "
        "RUN/wandb; WANDB_MODE=offline keeps them here); repeatable.",
        metavar="tensorboard|wandb",
    ) = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="The same as --log tensorboard.")] = False,
    allow_missing: options.AllowMissing = False,
) -> None:
    """Train a network, and evaluate it after each epoch with MaxBoxAccV2 or PxAP on val.

    Killed or interrupted, the same command goes on, on a CPU to the same weights. RUN has recipe.toml, log.csv,
    last_checkpoint.pth.tar and best_checkpoint.pth.tar in the published format. For several processes:

    torchrun --nproc-per-node 2 -m wsolkern train --shards 2 ...
    """
    given = locals()
    with terminal.errors_as_messages():
        from wsolkern.training import Recipe, TrainingData, train_together

        find_modules_here()
        machine.use_threads(threads)
        check_folder("--out", out)
        settings = {each.name: given[each.name] for each in fields(Recipe) if each.name in given}
        chosen = Recipe.read(recipe, settings | options.parse_arguments(option or []))
        boxes = {"box_format": box_format, "box_rounding": box_rounding}
        data = TrainingData.load(dataset, metadata, mask_root, any_image_size=any_image_size, **boxes)
        data = replace(data, val=studying.expect_ignore_masks(data.val, mask_root, allow_missing_ignore))
        try:
            with terminal.progress_bar("batches") as bar:
                task = bar.add_task("training", total=None, visible=False)

                def on_batch(epoch: int, done: int, total: int) -> None:
                    what = f"epoch {epoch}/{chosen.epochs}"
                    bar.update(task, description=what, completed=done, total=total, visible=True)

                outcome = train_together(
                    chosen,
                    data,
                    out,
                    device=device,
                    num_readers=workers,
                    checkpoint_batches=checkpoint_batches,
                    log=log or (),
                    tensorboard=tensorboard,
                    on_remark=lambda text: studying.warn([f"{metadata}: {text}"]),
                    on_batch=on_batch,
                    on_epoch=lambda row: bar.console.print(_line(row)),
                )
        except KeyboardInterrupt as error:
            if str(error):
                streams.stderr().print(f"interrupted: the same command goes on {error}")
            raise typer.Exit(terminal.INTERRUPTED) from None
        if outcome is not None:
            _finish(out, outcome, len(data.labels) + len(data.val.image_ids))
            split = next((each for each in ("test", "val") if (metadata / each / "image_ids.txt").is_file()), "val")
            words = ["extract", out, "--images", dataset, "--metadata", metadata / split]
            words += ["-o", f"{out}-{split}", *(["--any-image-size"] if any_image_size else [])]
            following.say_next(*words)
            if outcome.problems and not allow_missing:
                raise typer.Exit(terminal.PROBLEMS)


def _line(row: dict) -> str:
    """A row of the log for the terminal."""
    figures = [f"{name} {value:.2f}" for name, value in row.items() if " " in name]
    return (
        f"epoch {row['epoch']}: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.2f} "
        f"(val {row['val_accuracy']:.2f}), {', '.join(figures)}, {row['seconds']:.0f} s"
    )


def _finish(out: Path, outcome: "Outcome", num_images: int) -> None:
    """Says what has come of it."""
    best, state = outcome.best, "was finished already" if outcome.was_finished else "is finished"
    figure = f"{outcome.column} {best[outcome.column]:.2f}"
    streams.say(f"{out}: {state}, {len(outcome.log)} epochs; best: epoch {best['epoch']} with {figure}")
    terminal.list_problems(f"of {num_images:,} images were left out", outcome.problems)

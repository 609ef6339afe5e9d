"""``wsolkern import-dataset``: other people's annotations to the field's metadata.

In: a COCO or CSV file, a folder in the layout of VOC, of class folders, of CUB, ILSVRC or OpenImages. Out:
metadata/NAME, masks, what was dropped and why, and the next command.
Source: :mod:`wsolkern.datasets.importing`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern.cli import following, options, streams, terminal
from wsolkern.errors import ArgumentError

if TYPE_CHECKING:
    from wsolkern.datasets.importing import Choices, Imported

app = terminal.group("import-dataset", help="Make metadata of annotations in other formats; nothing is downloaded.")
app.callback()(terminal.spell_as_typed)

Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="METADATA", help="Folder to write, such as metadata/NAME.", show_default=False),
]
Split = Annotated[str, typer.Option(help="Split that images go to whose source names none.")]
Splits = options.optional(
    str,
    "In place of --split: a share of each class for each split, such as 'train=0.6 val=0.2 test=0.2'.",
    metavar="SHARES",
)
Seed = Annotated[int, typer.Option(min=0, help="Another one, other images in the splits of --splits.")]
BoxFormat = Annotated[
    str,
    typer.Option(
        metavar="xyxy|xywh|cxcywh",
        help="What the four numbers of a box are: corners (inclusive), a corner with width and height (x1 is x + "
        "width), or the center with them.",
    ),
]
BoxRounding = Annotated[
    str,
    typer.Option(
        metavar="nearest|floor|outward",
        help="How corners become whole pixels: halves up; down; x0, y0 down and x1, y1 up. What is then at most one "
        "pixel outside the image comes to its first or last pixel.",
    ),
]
Fractions = Annotated[
    bool, typer.Option("--fractions", help="The numbers of a box are fractions of the image's width and height.")
]
Several = Annotated[
    str,
    typer.Option(
        "--several-classes",
        metavar="largest|drop",
        help="An image with objects of several classes has the class with the largest area, and the other objects are "
        "dropped; or the image is dropped.",
    ),
]
ClassOf = options.optional(Path, "CSV with the columns image and class: the class of these images.", metavar="FILE")
Classes = options.optional(
    Path,
    "Names of the classes, a line each: their order gives the numbers, other classes are dropped. Default: those the "
    "source lists, else class_names.txt in METADATA, else all names in order.",
    metavar="FILE",
)
Ids = options.optional(Path, "image_ids.txt with the images to take, in its order.", metavar="FILE")
Images = options.optional(
    Path, "Folder that image ids start from: sizes are read there, missing images dropped.", metavar="DATA_ROOT"
)
Masks = options.optional(
    Path, "Folder to write masks to, which localize the objects instead of boxes.", metavar="MASK_ROOT"
)
Strict = Annotated[bool, typer.Option("--strict", help="Drop nothing: if something would be, write nothing.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace splits and masks that are there.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to read.", show_default=False)]


@app.command()
def coco(
    file: File,
    out: Out,
    split: Split = "test",
    splits: Splits = None,
    seed: Seed = 0,
    box_rounding: BoxRounding = "nearest",
    several: Several = "largest",
    class_of: ClassOf = None,
    classes: Classes = None,
    ids: Ids = None,
    images: Images = None,
    masks: Masks = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:
    """A COCO file: images, annotations, categories.

    With --masks, polygons (drawn by pycocotools) and run lengths become mask files, and iscrowd the ignore mask.
    """
    from wsolkern.datasets.importing import import_coco

    chosen = dict(split=split, seed=seed, box_rounding=box_rounding, several=several, class_of=class_of)
    chosen |= dict(classes=classes, ids=ids, images=images, masks=masks, strict=strict, overwrite=overwrite)
    _run(lambda choices, progress: import_coco(file, out, choices, progress=progress), splits, chosen, json_file)


@app.command()
def csv(
    file: File,
    out: Out,
    split: Split = "test",
    splits: Splits = None,
    seed: Seed = 0,
    box_format: BoxFormat = "xyxy",
    box_rounding: BoxRounding = "nearest",
    fractions: Fractions = False,
    several: Several = "largest",
    class_of: ClassOf = None,
    classes: Classes = None,
    ids: Ids = None,
    images: Images = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:
    """A CSV file with a box a line and a header: image, class, x0, y0, x1, y1, and width, height or --images.

    Other common names of columns are known, and a column split gives the split.
    """
    from wsolkern.datasets.importing import import_csv

    chosen = dict(split=split, seed=seed, box_format=box_format, box_rounding=box_rounding, fractions=fractions)
    chosen |= dict(several=several, class_of=class_of, classes=classes, ids=ids, images=images, strict=strict)
    chosen |= dict(overwrite=overwrite)
    _run(lambda choices, progress: import_csv(file, out, choices, progress=progress), splits, chosen, json_file)


@app.command()
def voc(
    folder: Folder,
    out: Out,
    split: Split = "test",
    splits: Splits = None,
    seed: Seed = 0,
    first_pixel: Annotated[
        int, typer.Option(min=0, max=1, help="What the first pixel of an image is in these files: 1 in VOC's own.")
    ] = 1,
    difficult: Annotated[bool, typer.Option("--difficult", help="Keep objects that are marked difficult.")] = False,
    box_rounding: BoxRounding = "nearest",
    several: Several = "largest",
    class_of: ClassOf = None,
    classes: Classes = None,
    ids: Ids = None,
    images: Images = None,
    masks: Masks = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:
    """A folder in the layout of Pascal VOC: Annotations, JPEGImages, ImageSets/Main.

    With --masks, SegmentationObject gives a mask an object, and its border the ignore mask.
    """
    from wsolkern.datasets.importing import import_voc

    chosen = dict(split=split, seed=seed, box_rounding=box_rounding, several=several, class_of=class_of)
    chosen |= dict(classes=classes, ids=ids, images=images, masks=masks, strict=strict, overwrite=overwrite)
    special = dict(first_pixel=first_pixel, difficult=difficult)
    _run(lambda choices, progress: import_voc(folder, out, choices, **special, progress=progress), splits, chosen,
         json_file)  # fmt: skip


@app.command()
def imagefolder(
    folder: Folder,
    out: Out,
    boxes: options.optional(
        Path, "CSV with a box a line and a header: image, x0, y0, x1, y1; without it nothing is localized.",
        metavar="FILE",
    ) = None,
    split: Split = "test",
    splits: Splits = None,
    seed: Seed = 0,
    box_format: BoxFormat = "xyxy",
    box_rounding: BoxRounding = "nearest",
    fractions: Fractions = False,
    classes: Classes = None,
    ids: Ids = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:  # fmt: skip
    """A folder of class folders, or of train, val and test with class folders in them."""
    from wsolkern.datasets.importing import import_imagefolder

    chosen = dict(split=split, seed=seed, box_format=box_format, box_rounding=box_rounding, fractions=fractions)
    chosen |= dict(classes=classes, ids=ids, strict=strict, overwrite=overwrite)
    _run(
        lambda choices, progress: import_imagefolder(folder, out, choices, boxes=boxes, progress=progress),
        splits, chosen, json_file,
    )  # fmt: skip


@app.command()
def cub(
    folder: Folder,
    out: Out,
    box_rounding: BoxRounding = "nearest",
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:
    """CUB_200_2011 as its archive unpacks: train and test as published."""
    from wsolkern.datasets.importing import import_cub

    chosen = dict(box_rounding=box_rounding, strict=strict, overwrite=overwrite)
    _run(lambda choices, progress: import_cub(folder, out, choices, progress=progress), None, chosen, json_file)


@app.command()
def ilsvrc(
    folder: Folder,
    out: Out,
    v2_boxes: options.optional(
        Path, "ImageNetV2_boxes.txt of the published evaluation, for the split val.", metavar="FILE"
    ) = None,
    ids: Ids = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:
    """ILSVRC 2012 as its archives unpack: its val is test, ImageNetV2 is val, and train if it is there."""
    from wsolkern.datasets.importing import import_ilsvrc

    chosen = dict(ids=ids, strict=strict, overwrite=overwrite)
    _run(
        lambda choices, progress: import_ilsvrc(folder, out, choices, v2_boxes=v2_boxes, progress=progress),
        None, chosen, json_file,
    )  # fmt: skip


@app.command()
def openimages(
    folder: Folder,
    out: Out,
    masks: Annotated[
        Path,
        typer.Option(
            metavar="MASK_ROOT", help="Folder to write masks and links to the images to, such as dataset/OpenImages.",
            show_default=False,
        ),
    ],
    classes: Classes = None,
    ids: Ids = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json_file: options.JsonFile = None,
) -> None:  # fmt: skip
    """OpenImages' tables, masks and images: those of a single class, named as in the published metadata."""
    from wsolkern.datasets.importing import import_openimages

    chosen = dict(masks=masks, classes=classes, ids=ids, strict=strict, overwrite=overwrite)
    _run(lambda choices, progress: import_openimages(folder, out, choices, progress=progress), None, chosen, json_file)


def _run(
    work: Callable[["Choices", Callable], "Imported"], splits: str | None, chosen: dict, json_file: str | None
) -> None:
    """Does an import, and says what became of it.

    Raises:
        typer.Exit: It could not be done.
    """
    with terminal.errors_as_messages():
        from wsolkern.datasets.importing import Choices
        from wsolkern.targets import check_targets

        check_targets({"--json": json_file})
        choices = Choices(splits=parse_shares(splits), **chosen)
        with terminal.showing_progress() as progress:
            found = work(choices, progress)
        terminal.deliver_result(json_file, found.to_dict, lambda: _print(found))


def parse_shares(text: str | None) -> dict[str, float]:
    """The shares of --splits.

    Raises:
        ArgumentError: It is none.
    """
    shares: dict[str, float] = {}
    for each in (text or "").replace(",", " ").split():
        name, _, share = each.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1
        if name in shares or not 0 < value <= 1:
            raise ArgumentError("splits", f"expected NAME=SHARE with shares above 0, each name once, found {each!r}")
        shares[name] = value
    return shares


def _print(found: "Imported") -> None:
    for name, split in found.splits.items():
        what = {"boxes": "boxes", "masks": "masks"}.get(str(split.kind), "classes only")
        streams.say(
            f"{found.folder}/{name}: {len(split.image_ids):,} images, {len(found.class_names):,} classes, {what}"
        )
    if found.dropped.counts:
        streams.stderr().print("dropped:", style="yellow")
        for line in found.dropped.lines():
            streams.stderr().print(f"  {line}")
    name = "test" if "test" in found.splits else next(iter(found.splits))
    model = ["MODEL", "-a", f"num_classes={len(found.class_names)}", "--images", found.image_root or "DATA_ROOT"]
    store = f"runs/{Path(found.folder).name}-{name}"
    following.say_next("extract", *model, "--metadata", f"{found.folder}/{name}", "-o", store)

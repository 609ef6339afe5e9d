"""Options that several commands have, each written down once, and what turns their texts into values.

In: nothing. Out: annotated types for the commands' parameters; parsers that name the option in their errors.
Source: none.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsolkern import defaults
from wsolkern.errors import ArgumentError
from wsolkern.files import read_regular

if TYPE_CHECKING:
    import numpy as np

    from wsolkern.metrics import SelectedThresholds


DEFAULT_IOU_THRESHOLDS = " ".join(map(str, defaults.IOU_THRESHOLDS))
DEFAULT_INTERVAL = 0.001

Metadata = Annotated[
    Path,
    typer.Option(
        help="Folder of one split: image_ids.txt, localization.txt (boxes or masks), image_sizes.txt and "
        "class_labels.txt, such as metadata/CUB/test."
    ),
]
Store = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a CAM store.", show_default=False)]
MaskRoot = Annotated[
    Path | None, typer.Option(help="Folder that the mask paths of localization.txt start from (PxAP).")
]
BoxFormat = Annotated[
    str,
    typer.Option(
        metavar="xyxy|xywh|cxcywh",
        help="What the boxes of localization.txt are: x0,y0,x1,y1 (inclusive), x,y,width,height (x1 is x + width "
        "then), or the center's x,y,width,height (needs a rounding).",
    ),
]
BoxRounding = Annotated[
    str,
    typer.Option(
        metavar="none|nearest|floor|outward",
        help="How their fractions are rounded: none takes integers only; outward is down for x0, y0 and up for x1, y1. "
        "Where boxes are rounded, what is at most one pixel outside the image comes to its edge.",
    ),
]
Nwc = Annotated[
    bool,
    typer.Option("--nwc", help="Take the NWC maps (negative classifier weights are 0) of a store that has them."),
]
Size = Annotated[
    str, typer.Option(help="Evaluation size in pixels, SIDE or HEIGHTxWIDTH; CAMs are resized to it (bicubic).")
]
IouThresholds = Annotated[str, typer.Option(help="IoU thresholds as fractions; MaxBoxAccV2 is the mean over them.")]
BoxRule = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How a box is made of a map and when it hits: choe (the field's evaluation), ts-cam, rethinking, sat, "
        "bas or psol; see the page Box rules.",
    ),
]
Interval = Annotated[
    float,
    typer.Option(
        help="Step between two thresholds on the score map, from 0 up to, not including, 1; 0.00001 is the smallest."
    ),
]
WithoutLogits = Annotated[
    bool,
    typer.Option(
        "--without-logits",
        help="Leave out Top-1, Top-5 and GT-known localization of a store that has the images' logits.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu or cuda: where the maps are evaluated.")]
SharedDevice = Annotated[
    str, typer.Option(help="cpu or cuda: where the maps are evaluated; under torchrun each process takes its own GPU.")
]
DataRoot = Annotated[
    Path, typer.Option(metavar="DATA_ROOT", help="Folder that image ids are paths below.", show_default=False)
]
RankDevice = Annotated[str, typer.Option(help="cpu or cuda; under torchrun each process takes a GPU of its own.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Exit with 0 even if maps are missing or unreadable.")
]
AllowMissingIgnore = Annotated[
    bool,
    typer.Option(
        "--allow-missing-ignore",
        help="Where localization.txt names an ignore mask that is not there, ignore nothing; says how many these are.",
    ),
]
AnyImageSize = Annotated[
    bool,
    typer.Option(
        "--any-image-size",
        help="Take images of other sizes than image_sizes.txt lists, such as a smaller copy of the data set. Sizes "
        "then cannot tell whether a photograph's orientation tag counts: it does not.",
    ),
]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write the results as JSON; - for standard output.")
]
CsvFile = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Threads to compute with; default: all cores, or WSOLKERN_NUM_THREADS."),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="STATE",
        help="File that counts are saved to every few seconds. If it is there already, go on where it ends; maps "
        "that were missing are tried again.",
    ),
]


def optional(kind: type, text: str, *names: str, **how) -> object:
    """The type of an option that may be left out, which its help says what comes of."""
    return Annotated[kind | None, typer.Option(*names, help=text, show_default=False, **how)]


def arguments(text: str) -> object:
    """The type of --argument, repeatable; :func:`parse_arguments` reads it."""
    return optional(list[str], text, "--argument", "-a", metavar="NAME=VALUE")


def normalizations(default: str) -> object:
    """The type of --normalizations, whose help says what is taken by default."""
    return Annotated[
        list[str] | None,
        typer.Option(
            "--normalizations",
            "-n",
            help="How CAMs become score maps: minmax, max, pas:P, ivr:P or ivr:P+pas:P, P a fraction such as 0.45 or "
            "a range such as 0.00..0.95/0.05. Several in one quoted string, or the option several times. Default: "
            f"'{default}'.",
            show_default=False,
        ),
    ]


def parse_at(text: str) -> "float | str | SelectedThresholds":
    """--at: the name of a policy, a threshold, or the thresholds of a file."""
    from wsolkern.metrics.localization import POLICIES, SelectedThresholds

    if text in POLICIES:
        return text
    try:
        return float(text)
    except ValueError:
        pass
    if not text.endswith(".json"):
        raise ArgumentError(
            "at", f"expected {', '.join(POLICIES)}, a threshold such as 0.2, or a file .json", repr(text)
        )
    try:
        return SelectedThresholds.from_json(read_regular(text))
    except ValueError as error:
        raise ArgumentError("at", str(error), text) from error


def check_picture(option: str, path: Path | None) -> None:
    """Does nothing if the picture of an option can be drawn and has the name of one, or none is wanted.

    Raises:
        ValueError: The name is that of no picture.
        ImportError: There is no matplotlib.
    """
    if path is None:
        return
    from wsolkern.report import drawing

    try:
        drawing.check_picture(path)
    except (ImportError, ValueError) as error:
        raise type(error)(f"{option}: {error}") from error


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "224" or "224x320"."""
    from wsolkern.ops.constants import MAX_SIDE

    match = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", text.strip())
    size = match and (int(match[1]), int(match[2] or match[1]))
    if size is None or not (1 <= min(size) and max(size) <= MAX_SIDE):
        raise ValueError(
            f"--size: expected SIDE or HEIGHTxWIDTH in pixels, integers from 1 to {MAX_SIDE}, found {text!r}"
        )
    return size


def parse_channels(name: str, text: str) -> tuple[float, ...]:
    """Three numbers, for red, green and blue; one stands for all. ``name`` is the option's, for the error."""
    try:
        numbers = tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise ValueError(f"{name}: expected three numbers or one, found {text!r}")
    return numbers * (3 // len(numbers))


def parse_fractions(name: str, text: str) -> list[float]:
    """Different fractions in (0, 1] between commas or spaces; ``name`` is the option's, for the error."""
    try:
        found = [float(item) for item in re.split(r"[,\s]+", text) if item]
    except ValueError:
        found = []
    if not found or not all(0 < each <= 1 for each in found):
        raise ValueError(f"{name}: expected fractions such as {DEFAULT_IOU_THRESHOLDS!r}, found {text!r}")
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: expected each fraction once, because the mean is over all of them, found {text!r}")
    return found


def thresholds(interval: float) -> "np.ndarray":
    """The thresholds that --interval asks for, float64 [T]."""
    from wsolkern.ops.inputs import threshold_grid

    return threshold_grid(interval, "--interval")


def evaluation(size: str, iou_thresholds: str, interval: float) -> dict:
    """What --size, --iou-thresholds and --interval say, as studies take it."""
    return {
        "size": parse_size(size),
        "iou_thresholds": parse_fractions("--iou-thresholds", iou_thresholds),
        "thresholds": thresholds(interval),
    }


def by_rule(name: str) -> str:
    """What a title says of a box rule, nothing of the field's own."""
    return "" if name == "choe" else f", box rule {name}"


def parse_arguments(texts: list[str]) -> dict:
    """--argument: values are JSON where they can be, else text."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--argument: expected NAME=VALUE, found {text!r}")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def parse_percentiles(texts: list[str]) -> dict[tuple[str, str] | None, float]:
    """--ivr by data set and backbone; None stands for all."""
    from wsolkern.normalization import Normalization

    given = {}
    for text in texts:
        where, _, percentile = text.rpartition("=")
        try:
            column = tuple(where.split("/")) if where else None
            if column is not None and len(column) != 2:
                raise ValueError(where)
            given[column] = Normalization("ivr", ivr=float(percentile)).ivr
        except ValueError:
            raise ArgumentError("ivr", "expected a fraction in [0, 1), as in 0.45 or CUB/VGG16=0.45", text) from None
    return given


def parse_places(name: str, texts: list[str]) -> "Path | dict[str, Path] | None":
    """DIR alone, or OLD=DIR several times; ``name`` is the argument's, for the error."""
    if len(texts) == 1 and "=" not in texts[0]:
        return Path(texts[0])
    places = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise ArgumentError(name, "expected DIR once, or OLD=DIR for each place that moved", text)
        places[old] = Path(new)
    return places or None


def parse_folders(texts: list[str]) -> dict[str, Path]:
    """--mask-root by data set."""
    from wsolkern.studies import paper

    roots = {}
    for text in texts:
        dataset, equals, folder = text.partition("=")
        if not (dataset and equals and folder):
            raise ArgumentError("mask_roots", "expected DATASET=DIR, as in OpenImages=dataset/OpenImages", text)
        roots[paper.canonical(dataset)] = Path(folder)
    return roots

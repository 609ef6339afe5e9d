"""Options that several commands have, each written down once, and what turns their texts into values.

In: nothing. Out: annotated types for the commands' parameters; parsers that name the option in their errors.
Source: none.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    import torch

    from wsolkern.cams import Ranks
    from wsolkern.datasets import Metadata as Split

DEFAULT_IOU_THRESHOLDS = "0.3 0.5 0.7"
DEFAULT_INTERVAL = 0.001

Metadata = Annotated[
    Path,
    typer.Option(
        help="Folder of one split: image_ids.txt, localization.txt (boxes or masks), image_sizes.txt and "
        "class_labels.txt, such as metadata/CUB/test."
    ),
]
MaskRoot = Annotated[
    Path | None, typer.Option(help="Folder that the mask paths of localization.txt start from (PxAP).")
]
BoxFormat = Annotated[
    str,
    typer.Option(
        metavar="xyxy|xywh",
        help="What the boxes of localization.txt are: x0,y0,x1,y1, or x,y,width,height (x1 is x + width then).",
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
Interval = Annotated[
    float,
    typer.Option(
        help="Step between two thresholds on the score map, from 0 up to, not including, 1; 0.00001 is the smallest."
    ),
]
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


def use_threads(threads: int | None) -> None:
    """Lets the operations of this process use so many threads; None leaves it as it is."""
    if threads is not None:
        os.environ["WSOLKERN_NUM_THREADS"] = str(threads)


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


def find_modules_here() -> None:
    """Lets package.module:function name a module in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def place_of(device: str, ranks: "Ranks") -> "torch.device":
    """The device of this process.

    Raises:
        ValueError: There is no such device.
        BackendUnavailable: It is a GPU that cannot be used.
    """
    import torch

    from wsolkern.errors import BackendUnavailable

    try:
        place = torch.device(device)
        if place.type == "cuda":
            expect_gpu(device)
        torch.empty(0, device=place).numpy(force=True)  # "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if isinstance(error, BackendUnavailable):
            raise
        raise ValueError(f"--device: expected cpu or cuda, found {device!r}, which cannot be used here") from error
    return torch.device("cuda", ranks.local_rank) if device == "cuda" else place


def expect_gpu(device: str) -> None:
    """Does nothing if there is a GPU, which --device asks for.

    Raises:
        BackendUnavailable: There is none that can be used.
    """
    import torch

    from wsolkern.errors import BackendUnavailable

    if not torch.cuda.is_available():
        raise BackendUnavailable(f"--device {device}: torch {torch.__version__} finds no GPU here")


def keep_freed_memory() -> None:
    """Lets glibc keep what a layer frees for the next layer, in this process from now on.

    Otherwise it gives large blocks back to the system again and again: with 448 pixels the forward pass of a small
    network took 100 ms an image on two cores instead of 77, and its time changed from run to run. The most memory that
    is used at a time stays the same.
    """
    import ctypes

    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:  # glibc; other libraries have no such setting
        for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD
            allocator(parameter, value)


def share_cores(num_processes: int) -> None:
    """Leaves this process its share of the threads, unless it was told a number."""
    from wsolkern.ops import backends

    if not os.environ.get("WSOLKERN_NUM_THREADS"):
        os.environ["WSOLKERN_NUM_THREADS"] = str(max(1, backends.num_threads() // num_processes))


def expect_ignore_masks(split: "Split", mask_root: Path | None, allow_missing: bool) -> "Split":
    """The split, without the ignore masks that are not there if that is allowed; says how many these are."""
    import warnings

    from wsolkern.cli import terminal
    from wsolkern.datasets import without_missing_ignore

    if not allow_missing or mask_root is None:
        return split
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split = without_missing_ignore(split, mask_root)
    for each in caught:
        terminal.stderr().print(str(each.message), style="yellow")
    return split

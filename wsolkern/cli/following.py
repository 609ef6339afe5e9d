"""What to type next: each command that makes something ends with the command that takes it.

In: what was made, as paths. Out: a line on standard error, words in capitals for what is not known here.
Source: none.
"""

import shlex
from pathlib import Path

from wsolkern.cli import streams


def say_next(*words: object, note: str = "") -> None:
    """Prints a command as one would type it.

    Args:
        words: What follows "wsolkern".
        note: What is said about it behind it.
    """
    command = shlex.join(["wsolkern", *map(str, words)])
    streams.stderr().print(f"next: {command}{f' ({note})' if note else ''}")


def after_maps(maps: Path | str, metadata: Path | None, *, score_maps: bool = False) -> None:
    """The command for a store or a folder of maps: its evaluation or, where a split has no ground truth, its boxes.

    Args:
        maps: The store, or the folder.
        metadata: The split's folder, if it is known.
        score_maps: The maps are score maps.
    """
    split = "SPLIT_FOLDER" if metadata is None else metadata
    kind = "boxes" if metadata is None else _kind(metadata)
    if kind is None:
        how = ["--score-maps"] if score_maps else ["-n", "ivr:0.45"]
        say_next("boxes", maps, "--metadata", split, *how, "--threshold", 0.2, "-o", f"{maps}-boxes.json")
    else:
        say_next("evaluate", "--score-maps" if score_maps else "--cams", maps, "--metadata", split, *_masks(kind))


def after_boxes(maps: Path, metadata: Path, *how: object) -> None:
    """The picture of boxes beside a split's ground truth; nothing where it has none."""
    kind = _kind(metadata)
    if kind is not None:
        say_next("show", maps, "--metadata", metadata, *_masks(kind), *how)


def _masks(kind: str) -> list[str]:
    return ["--mask-root", "MASK_ROOT"] if kind == "masks" else []


def _kind(metadata: Path) -> str | None:
    """What localizes objects in a split: "boxes", "masks"; None where nothing can be read that does."""
    from wsolkern.datasets.metadata import read_kind
    from wsolkern.datasets.tables import Problems

    try:
        return read_kind(metadata / "localization.txt", Problems())
    except OSError:
        return None

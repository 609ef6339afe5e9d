"""What a CAM store says about the run its maps come from.

In: names, a checkpoint's hash, settings. Out: a value that files keep as JSON and that two stores are compared by.
Source: none.
"""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

import wsolkern

CONTENTS = ("cams", "score maps")
_MAX_DEPTH = 32  # of what is kept as JSON


def _versions() -> dict[str, str]:
    """Of what this process computes with; torch only where it is loaded."""
    found = {"wsolkern": wsolkern.__version__, "python": platform.python_version(), "numpy": np.__version__}
    return found | ({"torch": str(sys.modules["torch"].__version__)} if "torch" in sys.modules else {})


@dataclass(frozen=True)
class Manifest:
    """One run; what is not known is None.

    Raises:
        ValueError: A field is not as below.
    """

    content: str = "cams"
    """"cams", raw maps as the network made them, or "score maps", float64 in [0, 1] of the evaluation size."""
    dataset: str | None = None
    """Such as "CUB"."""
    split: str | None = None
    """Such as "test"."""
    method: str | None = None
    """Such as "CAM" or "ACoL"."""
    backbone: str | None = None
    """Such as "ResNet-50"."""
    checkpoint_sha256: str | None = None
    """Of the file of weights, or of all parameters where there is none; 64 hexadecimal digits."""
    preprocessing: dict = field(default_factory=dict)
    """How images became the network's input, as JSON can hold it."""
    nwc: bool = False
    """Whether each map has an NWC twin, made with negative class weights clamped to 0."""
    versions: dict[str, str] = field(default_factory=_versions)
    """Name -> version of the software; the running one by default. Stores are not compared by it."""

    def __post_init__(self):
        if self.content not in CONTENTS:
            raise ValueError(f"manifest: content: expected one of {', '.join(CONTENTS)}, found {self.content!r}")
        for name in ("dataset", "split", "method", "backbone", "checkpoint_sha256"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"manifest: {name}: expected a string or None, found {getattr(self, name)!r}")
        if not isinstance(self.nwc, bool):
            raise ValueError(f"manifest: nwc: expected True or False, found {self.nwc!r}")
        for name in ("preprocessing", "versions"):
            value = getattr(self, name)
            try:
                # As a file gives it back: a tuple is a list there.
                copy = json.loads(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError) as error:
                raise ValueError(f"manifest: {name}: expected what JSON can hold, found {value!r} ({error})") from error
            except RecursionError:
                copy = None
            if copy is None or not _is_shallow(copy):
                raise ValueError(f"manifest: {name}: expected a dict with at most {_MAX_DEPTH} levels in it")
            if not isinstance(copy, dict):
                raise ValueError(f"manifest: {name}: expected a dict, found {value!r}")
            object.__setattr__(self, name, copy)

    def difference(self, other: "Manifest") -> str | None:
        """All settings that differ, such as "expected method 'CAM', found 'HaS'"; None if only versions do."""
        mine, theirs = (vars(each) | {"versions": None} for each in (self, other))
        return "; ".join(_differences("", mine, theirs)) or None


def _is_shallow(value: object, room: int = _MAX_DEPTH) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return room > 0 and all(_is_shallow(each, room - 1) for each in inner)


def _differences(prefix: str, mine: dict, theirs: dict) -> Iterator[str]:
    for name in {**mine, **theirs}:
        if name not in theirs:
            yield f"expected {prefix}{name} {mine[name]!r}, found none"
        elif name not in mine:
            yield f"expected no {prefix}{name}, found {theirs[name]!r}"
        elif isinstance(mine[name], dict) and isinstance(theirs[name], dict):
            yield from _differences(f"{prefix}{name}.", mine[name], theirs[name])
        elif mine[name] != theirs[name]:
            yield f"expected {prefix}{name} {mine[name]!r}, found {theirs[name]!r}"

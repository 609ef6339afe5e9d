"""Lets torchvision's wheel be imported beside a CPU build of torch, for timm and torchmetrics, which import it.

In: the packages that are installed. Out: the operators that torchvision registers shapes for, declared but not there.
Source: none. PyPI's wheel is linked with CUDA's torch; beside another its library does not load, and its import ends in
an error about an operator. Nothing here calls these operators.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")


@cache
def declare() -> None:
    """Does so where torchvision is installed and its library does not load."""
    found = find_spec("torchvision")
    if found is None:
        return
    library = next(Path(found.origin).parent.glob("_C*.so"), None)
    try:
        if library:
            torch.ops.load_library(library)
    except OSError:
        for name in _OPERATORS:
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

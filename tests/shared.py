"""What tests of several rooms use.

In: parameters of a test; what an image of a split has. Out: the same, most of them left to the slow tests; the files.
Source: none.
"""

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from importlib.util import LazyLoader, find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wsolkern.datasets import Metadata


def slow_but(fast: Collection, parameters: Iterable) -> list:
    """Parameters for ``pytest.mark.parametrize``, of which all but those in ``fast`` are marked slow."""
    parameters = list(parameters)
    assert all(each in parameters for each in fast), "a fast one is no parameter"
    return [
        pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=() if each in fast else pytest.mark.slow)
        for each in parameters
    ]


def write_split(
    folder: str | os.PathLike, ids: Sequence[str], *, size=None, box=None, label=None, mask=None, ignore=None
):
    """The metadata of images, of which each has one box or one mask.

    Args:
        folder: Where to write.
        ids: The images.
        size: Width and height of all images in pixels; this and all below may be a function of an image's number.
        box: Its four numbers.
        label: Its class.
        mask, ignore: Files, below the mask root.

    Returns:
        The folder.
    """

    def each(value, make=lambda one: one) -> dict:
        values = (value(number) if callable(value) else value for number in range(len(ids)))
        return {} if value is None else {image_id: make(one) for image_id, one in zip(ids, values, strict=True)}

    Metadata(
        tuple(ids),
        class_labels=each(label),
        image_sizes=each(size),
        boxes=each(box, lambda one: np.array([one])),
        mask_paths=each(mask, lambda one: (one,)),
        ignore_paths=each(ignore),
    ).write(folder)
    return Path(folder)


def stand_in(library: Path) -> ModuleType:
    """A stand-in for the CUDA extension, to be put in its place among Python's modules.

    Its name has its file's in it: pybind11 gives a name that it knows the module that it has.
    """
    spec = spec_from_file_location(f"{library.stem}._emulated", library)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def later(name: str) -> ModuleType:
    """A module that is imported when it is first used, by the one of pytest's processes that runs the tests of it."""
    if name not in sys.modules:
        spec = find_spec(name)
        spec.loader = LazyLoader(spec.loader)
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]

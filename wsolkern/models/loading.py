"""A model by the name of the function that makes it, with weights from a file.

In: package.module:function, its arguments, a file. Out: the model, what its weights are.
Source: none.
"""

import hashlib
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.models.weights import find_weights, put_weights, read_bytes, read_file

if TYPE_CHECKING:
    import torch


class Loaded(NamedTuple):
    """A model and what its weights are."""

    model: Callable
    """A torch.nn.Module, or a function."""
    sha256: str | None
    """Of the file of weights, or else of the model's parameters and buffers; None for a function."""
    note: str
    """Which of the file's tensors these are, and what else is there; "" where there is nothing to say."""


def load_model(name: str, arguments: Mapping, weights: Path | None = None) -> Loaded:
    """The model that a function makes.

    Args:
        name: package.module:function.
        arguments: The function's, by name.
        weights: A file with weights for the model, of any of the kinds :func:`wsolkern.models.weights.find_weights`
            knows.

    Raises:
        ImportError: There is no such module.
        OSError: The file cannot be read.
        ValueError: There is no such function, it takes other arguments or returns something else, or the weights are
            for another model.
    """
    import torch

    from wsolkern.cams.heads import unwrapped

    function = find_function("MODEL", name)
    content = None if weights is None else read_bytes(weights)
    model = call("MODEL", name, function, arguments)
    if not callable(model):
        raise ValueError(f"MODEL: expected {name} to return a torch.nn.Module or a function, found {model!r}")
    if content is None:
        return Loaded(model, _state_sha256(model.state_dict()) if isinstance(model, torch.nn.Module) else None, "")
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"--weights: {name} returns no torch.nn.Module to load them into")
    network = unwrapped(model)
    found = find_weights(weights, read_file(weights, content), network.state_dict())
    put_weights(network, found)
    return Loaded(model, hashlib.sha256(content).hexdigest(), found.note)


def find_function(what: str, name: str) -> Callable:
    """The function that package.module:function names.

    Args:
        what: What it is called in errors.

    Raises:
        ImportError: There is no such module.
        ValueError: It is no such name, or the module has no such function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"{what}: expected package.module:function, found {name!r}")
    function = import_module(module_name)
    for part in function_name.split("."):
        if not hasattr(function, part):
            raise ValueError(f"{what}: {module_name} has no {function_name}")
        function = getattr(function, part)
    if not callable(function):
        raise ValueError(f"{what}: expected {name} to be a function, found {type(function).__name__}")
    return function


def call(what: str, name: str, function: Callable, arguments: Mapping) -> object:
    """What a function that somebody named returns.

    Args:
        what: What it is called in errors.
        name: Its name, package.module:function.
        function: The function.
        arguments: Its arguments, by name.

    Raises:
        ValueError: It has no such arguments, or it failed; the message says where.
    """
    try:
        taken = signature(function)
    except ValueError:  # of some that are written in C
        taken = None
    if taken is not None:
        try:
            taken.bind(**arguments)
        except TypeError as error:
            raise ValueError(f"{what}: {name}({', '.join(map(str, taken.parameters.values()))}): {error}") from error
    try:
        return function(**arguments)
    except Exception as error:  # whatever anybody's function may raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(
            f"{what}: {name}({given}): {type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
        ) from error


def _state_sha256(state: "dict[str, torch.Tensor]") -> str:
    """Names and values of all tensors."""
    import torch

    found = hashlib.sha256()
    for name, value in state.items():
        if torch.is_tensor(value):
            found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()

"""A model by the name of the function that makes it, with weights from a file.

In: package.module:function, its arguments, a file. Out: the model, what its weights are.
Source: none.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.functions import call, find_function
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


def _state_sha256(state: "dict[str, torch.Tensor]") -> str:
    """Names and values of all tensors."""
    import torch

    found = hashlib.sha256()
    for name, value in state.items():
        if torch.is_tensor(value):
            found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()

"""What passes through a model: tensors by the module or the function that they pass, seen or put in another's place.

In: a torch.nn.Module, images. Out: the tensors of a forward pass by their places.
Source: none.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

FUNCTION_ADVICE = (
    "give a function (images, classes) -> CAMs as MODEL instead (docs/inputs.md, 'CAMs by a function of your own')"
)
AVERAGES = ("mean", "avg_pool2d", "adaptive_avg_pool2d")  # functions of torch that may pool


class Place(NamedTuple):
    """A tensor of a forward pass; of several calls of a module or function, that of the last."""

    name: str
    """A module's path in the model, such as "layer4.2", "" is the model itself; or one of AVERAGES."""
    side: str = "output"
    """A module's "output" or its first "input", or a function's "argument"."""

    def __str__(self) -> str:
        return self.name if self.side == "output" else f"{self.side} of {self.name}"


class ForwardFails(ValueError):
    """A model does not take images of some kind."""


@contextmanager
def record(model: "torch.nn.Module", places: list[Place]) -> Iterator[dict[Place, "torch.Tensor"]]:
    """While the block runs, puts what passes some places into a dict, in the order of the last passing.

    They are the tensors themselves: what a function does to one in place later, shows.
    """
    seen: dict[Place, torch.Tensor] = {}

    def keep(place: Place, value: "torch.Tensor") -> None:
        seen.pop(place, None)
        seen[place] = value

    with at(model, places, keep):
        yield seen


@contextmanager
def at(
    model: "torch.nn.Module", places: list[Place], see: Callable[[Place, "torch.Tensor"], "torch.Tensor | None"]
) -> Iterator[None]:
    """While the block runs, ``see`` is called with each tensor that passes one of some places.

    What it returns, if anything, goes on in the tensor's place.
    """
    import torch

    functions = {name for name, side in places if side == "argument"}

    class Arguments(torch.overrides.TorchFunctionMode):
        """Sees the feature maps that functions average."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            if name in functions and args and getattr(args[0], "ndim", 0) == 4:
                other = see(Place(name, "argument"), args[0])
                args = args if other is None else (other, *args[1:])
            return function(*args, **(kwargs or {}))

    def hook_output(place: Place):
        return lambda _, __, output: see(place, output) if torch.is_tensor(output) else None

    def hook_input(place: Place):
        def hook(_, inputs):
            if inputs and torch.is_tensor(inputs[0]):
                other = see(place, inputs[0])
                return None if other is None else (other, *inputs[1:])

        return hook

    with ExitStack() as stack:
        for place in places:
            if place.side == "output":
                hook = model.get_submodule(place.name).register_forward_hook(hook_output(place))
                stack.callback(hook.remove)
            elif place.side == "input":
                hook = model.get_submodule(place.name).register_forward_pre_hook(hook_input(place))
                stack.callback(hook.remove)
        if functions:
            stack.enter_context(Arguments())
        yield


def places_of(modules: "Collection[str]") -> list[Place]:
    """Where feature maps may be: before and behind each of some modules, and what functions average."""
    found = [Place(path, side) for path in modules for side in ("input", "output")]
    return [*found, *(Place(name, "argument") for name in AVERAGES)]


def open_modules(model: "torch.nn.Module") -> "dict[str, torch.nn.Module]":
    """Path -> module of those that show what passes them: none compiled by TorchScript, nor what is in one."""
    import torch

    modules = dict(model.named_modules())
    closed = tuple(f"{path}." for path, each in modules.items() if isinstance(each, torch.jit.ScriptModule))
    return {path: each for path, each in modules.items() if not f"{path}.".startswith(closed)} if closed else modules


def forward(model: "torch.nn.Module", images: "torch.Tensor"):
    """The model's output.

    Raises:
        ForwardFails: It does not take such images.
    """
    try:
        return model(images)
    except Exception as error:  # whatever a model's code raises
        advice = ""
        if isinstance(error, AttributeError | IndexError | KeyError | TypeError):
            advice = f"; if it needs other arguments than images, {FUNCTION_ADVICE}"
        elif images.element_size() < 4:
            advice = "; model.float() with --precision bfloat16 or float16 computes in mixed precision instead"
        channels = "" if images.shape[1] == 3 else f" and {images.shape[1]} channels"
        sides = f"{images.shape[2]} x {images.shape[3]}"
        raise ForwardFails(f"{name_of(model)}: fails on images of {sides} pixels{channels}: {error}{advice}") from error


def candidates(maps: list[Place], seen: dict[Place, "torch.Tensor"]) -> Iterator[Place]:
    """Maps, the last first; of the places that one tensor passed, the last output first: a name that users can give."""
    tried: set[int] = set()
    for place in reversed(maps):
        if id(seen[place]) not in tried:
            tried.add(id(seen[place]))
            same = [each for each in maps if seen[each] is seen[place]]
            by_side = [[each for each in same if each.side == side][-1:] for side in ("output", "input")]
            yield from dict.fromkeys((*chain(*by_side), *same[::-1]))


def is_map(value: "torch.Tensor", images: "torch.Tensor") -> bool:
    """Floating [N, ...] with three or four axes and more than one pixel, whatever its layout is."""
    if value.ndim not in (3, 4) or len(value) != len(images) or not value.is_floating_point():
        return False
    return value.ndim == 3 or max(value.shape[2] * value.shape[3], value.shape[1] * value.shape[2]) > 1


def name_of(module: "torch.nn.Module") -> str:
    return type(module).__name__

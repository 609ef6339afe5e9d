"""Where anyone's classifier has its class activation maps: the pooled feature map and the linear head behind it.

In: a torch.nn.Module. Out: the names of two modules, whose outputs and weights reproduce the logits.
Source: Zhou et al., arXiv 1512.04150, section 2: global average pooling, then one linear layer.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-4  # of the largest logit: pooling before or after the head rounds differently
_NUM_LISTED = 6  # feature maps and heads that an error lists


_AVERAGES = ("mean", "avg_pool2d", "adaptive_avg_pool2d")  # functions of torch that may pool


class Place(NamedTuple):
    """A tensor of a forward pass; of several calls of a module or function, that of the last."""

    name: str
    """A module's path in the model, such as "layer4.2", "" is the model itself; or one of _AVERAGES."""
    side: str = "output"
    """A module's "output" or its first "input", or a function's "argument"."""

    def __str__(self) -> str:
        return self.name if self.side == "output" else f"{self.side} of {self.name}"


class CamHead(NamedTuple):
    """What CAMs are made from."""

    features: Place
    """The feature map that is pooled, [N, C, h, w]."""
    head: str
    """The path of the Linear or 1x1 Conv2d that makes logits of it, before or after the pooling."""


def find_head(
    model: "torch.nn.Module", images: "torch.Tensor", *, features: str | None = None, head: str | None = None
) -> CamHead:
    """Finds the pooled feature map and the head by a forward pass, and accepts only what reproduces the logits.

    Global average pooling may be a module, a function or a mean. The last feature map is taken whose mean over the
    pixels, put through the head, equals the logits of all images.

    Args:
        model: In evaluation mode; its output is the logits [N, K], or a dict with "logits", or begins with them.
        images: What it is tried on, N >= 1, different from one another; float [N, 3, H, W] on the model's device.
        features: Path of the module whose output is pooled, if it is known.
        head: Path of the head, if it is known; its output, not the model's, is taken as the logits then.

    Raises:
        ValueError: There is no such pair, and the message lists what came close; or the forward pass fails.
    """
    import torch

    modules = dict(model.named_modules())
    for name, path in (("features", features), ("head", head)):
        if path is not None and path not in modules:
            raise ValueError(f"{name}: expected the path of a module of {_name(model)}, found {path!r}")
    if head is not None and not is_head(modules[head]):
        raise ValueError(f"head: expected a Linear or a 1x1 Conv2d, found {head!r}: {_name(modules[head])}")

    with torch.inference_mode():
        places = [Place(path, side) for path in modules for side in ("input", "output")]
        with record(model, places + [Place(name, "argument") for name in _AVERAGES]) as seen:
            try:
                output = model(images)
            except (RuntimeError, TypeError) as error:
                sides = f"{images.shape[2]} x {images.shape[3]}"
                raise ValueError(f"{_name(model)}: fails on images of {sides} pixels: {error}") from error
        heads = [path for path, side in seen if side == "output" and is_head(modules[path])]
        if head is not None and head not in heads:
            raise ValueError(f"head: {head!r} takes no part in a forward pass of {_name(model)}")
        maps = [place for place in seen if _is_map(seen[place], images)]
        if features is not None:
            maps = [place for place in maps if place == Place(features)]
            if not maps:
                found = list(seen[Place(features)].shape) if Place(features) in seen else "none in a forward pass"
                raise ValueError(f"features: expected an output [N, C, h, w] of {features!r}, found {found}")
        # An output has a name that a user can give; the others help where a function made what is pooled.
        maps = [place for side in ("argument", "input", "output") for place in maps if place.side == side]
        for path in [head] if head is not None else reversed(heads):
            logits = pooled(seen[Place(path)]) if head is not None else logits_of(output)
            weights, bias = head_weights(modules[path])
            if not torch.is_tensor(logits) or logits.shape != (len(images), len(weights)):
                continue
            for place in reversed(maps):
                if seen[place].shape[1] == weights.shape[1]:
                    found = torch.nn.functional.linear(seen[place].mean((2, 3)), weights, bias)
                    if (found - logits).abs().max() <= _TOLERANCE * logits.abs().max():
                        return CamHead(place, path)
    raise ValueError(_explain(model, images, output, seen, maps, heads, features, head))


def is_head(module: "torch.nn.Module") -> bool:
    """Whether a module is linear in each pixel: Linear or a 1x1 Conv2d."""
    import torch

    if isinstance(module, torch.nn.Conv2d):
        return module.kernel_size == (1, 1) and module.stride == (1, 1) and module.groups == 1 and _unpadded(module)
    return isinstance(module, torch.nn.Linear)


def head_weights(module: "torch.nn.Module") -> tuple["torch.Tensor", "torch.Tensor | None"]:
    """Weights [K, C] and bias [K] or None of a head."""
    return module.weight.detach().flatten(1), None if module.bias is None else module.bias.detach()


def logits_of(output) -> object:
    """The logits in what a model returns: itself, under "logits", or the first item."""
    if isinstance(output, dict):
        return output.get("logits")
    return output[0] if isinstance(output, tuple | list) and output else output


def pooled(values: "torch.Tensor") -> "torch.Tensor":
    """What a head made, [N, K], of [N, K] or [N, K, h, w]."""
    return values.mean((2, 3)) if values.ndim == 4 else values


@contextmanager
def record(model: "torch.nn.Module", places: list[Place]) -> Iterator[dict[Place, "torch.Tensor"]]:
    """While the block runs, puts what passes some places into a dict, in the order of the last passing."""
    import torch

    seen: dict[Place, torch.Tensor] = {}
    functions = {name for name, side in places if side == "argument"}

    def keep(place: Place, value) -> None:
        if torch.is_tensor(value):
            seen.pop(place, None)
            seen[place] = value

    class Arguments(torch.overrides.TorchFunctionMode):
        """Sees the feature maps that functions average."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            if name in functions and args and getattr(args[0], "ndim", 0) == 4:
                keep(Place(name, "argument"), args[0])
            return function(*args, **(kwargs or {}))

    with ExitStack() as stack:
        for place in places:
            if place.side == "output":
                module = model.get_submodule(place.name)
                hook = module.register_forward_hook(lambda _, __, output, place=place: keep(place, output))
                stack.callback(hook.remove)
            elif place.side == "input":
                module = model.get_submodule(place.name)
                hook = module.register_forward_pre_hook(
                    lambda _, inputs, place=place: keep(place, *inputs[:1] or [None])
                )
                stack.callback(hook.remove)
        if functions:
            stack.enter_context(Arguments())
        yield seen


def _is_map(value: "torch.Tensor", images: "torch.Tensor") -> bool:
    """[N, C, h, w] with more than one pixel."""
    return value.ndim == 4 and len(value) == len(images) and value.shape[2] * value.shape[3] > 1


def _unpadded(module: "torch.nn.Conv2d") -> bool:
    return module.padding in ((0, 0), "same", "valid")


def _name(module: "torch.nn.Module") -> str:
    return type(module).__name__


def _explain(model, images, output, seen, maps, heads, features, head) -> str:
    """Why there is no pair, what came close, and what to do."""

    def listed(items: list[str]) -> str:
        return "; ".join(items[::-1][:_NUM_LISTED]) or "none"

    shown_maps = [f"{place} {list(seen[place].shape[1:])}" for place in maps if place.side == "output"]
    shown_heads = [f"{path} {list(head_weights(model.get_submodule(path))[0].shape)}" for path in heads]
    logits = logits_of(output)
    named = [f"{name} {path!r}" for name, path in (("features", features), ("head", head)) if path is not None]
    given = f" with {' and '.join(named)}" if named else ""
    return (
        f"{_name(model)}: found no feature map whose average, put through a Linear or 1x1 Conv2d, is the logits{given} "
        f"of images of {images.shape[2]} x {images.shape[3]} pixels. Name them with --features and --head. "
        f"The model's output: {list(logits.shape) if hasattr(logits, 'shape') else type(logits).__name__}; "
        f"feature maps [C, h, w], last first: {listed(shown_maps)}; "
        f"heads [K, C], last first: {listed([each for each in shown_heads if head is None or each.startswith(head)])}"
    )

"""Where anyone's classifier has its class activation maps: the pooled feature map and the linear head behind it.

In: a torch.nn.Module. Out: the names of two modules, proved to be all that lies between that map and the logits.
Source: Zhou et al., arXiv 1512.04150, section 2: global average pooling, then one linear layer.

That values agree proves little: with weights of zero, dead features or layers that do nothing yet, they agree for any
layer. So a layer is accepted only if, with random numbers put in the place of its values and in the place of the head's
weights, the logits are the head of the numbers' average: then nothing but the average and the head is behind it.
"""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.cams.layouts import CHANNELS_FIRST, Layout, draw, grids_of, layouts_of, lies_in_rows
from wsolkern.cams.places import (
    FUNCTION_ADVICE,
    Place,
    at,
    candidates,
    forward,
    is_map,
    name_of,
    open_modules,
    places_of,
    record,
)

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-4  # of a sum's bound: pooling before or after the head rounds differently
_NUM_ROUNDINGS = 4  # the same, where a type or TensorFloat-32 on a GPU rounds more coarsely than that
_TENSOR_FLOAT_EPS = 2.0**-10
_NUM_LISTED = 6  # feature maps and heads that an error lists


class CamHead(NamedTuple):
    """What CAMs are made from."""

    features: Place
    """The feature map that is pooled."""
    head: str
    """The path of the Linear or 1x1 Conv2d that makes logits of it, before or after the pooling."""
    layout: Layout = CHANNELS_FIRST
    """What the map's axes are: [N, C, h, w], [N, h, w, C], or tokens."""


def find_head(
    model: "torch.nn.Module", images: "torch.Tensor", *, features: str | None = None, head: str | None = None
) -> CamHead:
    """Finds the pooled feature map and the head by forward passes, and accepts only what is proved.

    Global average pooling may be a module, a function or a mean. The last feature map is taken whose mean over the
    pixels, put through the head, equals the logits of all images, and still does after random numbers have taken the
    place of the map and of the head's weights. So whatever the weights are (zero, not trained yet), nothing but the
    average and the head is behind that map.

    Args:
        model: In evaluation mode; its output is the logits [N, K], or has them as "logits", or begins with them.
        images: What it is tried on, N >= 1, different from one another; float [N, 3, H, W] of the model's type and on
            its device.
        features: Path of the module whose output is pooled, if it is known.
        head: Path of the head, if it is known; its output, not the model's, is taken as the logits then.

    Raises:
        ValueError: There is no such pair, and the message lists what came close; the logits are NaN or infinite; or the
            forward pass fails.
    """
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{name_of(model)}: a TorchScript model does not show its feature maps; load the torch.nn.Module that "
            "it was made from (weights for it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')), or "
            f"{FUNCTION_ADVICE}"
        )
    if first_tensor(model).device.type == "meta":
        raise ValueError(
            f"{name_of(model)}: its weights are on the device meta, where they have no values; load them first"
        )
    modules = open_modules(model)
    for name, path in (("features", features), ("head", head)):
        if path is not None and path not in modules:
            raise ValueError(f"{name}: expected the path of a module of {name_of(model)}, found {path!r}")
    if head is not None and not is_head(modules[head]):
        raise ValueError(f"head: expected a Linear or a 1x1 Conv2d, found {head!r}: {name_of(modules[head])}")

    places = places_of(modules)
    with torch.inference_mode():
        with record(model, places) as seen:
            output = forward(model, images)
        heads = [path for path, side in seen if side == "output" and is_head(modules[path])]
        if head is not None and head not in heads:
            raise ValueError(f"head: {head!r} takes no part in a forward pass of {name_of(model)}")
        heads_of_classes = [path for path in heads if _num_outputs(modules[path]) in _sizes(output)]
        if head is not None and head not in heads_of_classes:
            raise ValueError(
                f"head: {head!r} makes {_num_outputs(modules[head])} numbers an image, and nothing that "
                f"{name_of(model)} returns has as many: {_shown(output)}"
            )
        logits = logits_of(output) if head is None else pooled(seen[Place(head)])
        if torch.is_tensor(logits) and not logits.isfinite().all():
            raise ValueError(f"{name_of(model)}: the logits of images of noise are {_not_finite(model, logits)}")
        all_maps = [place for place in seen if is_map(seen[place], images)]
        grids = grids_of([seen[place] for place in all_maps if seen[place].ndim == 4])
        maps = all_maps
        if features is not None:
            maps = [place for place in maps if place == Place(features)]
            if not maps:
                found = list(seen[Place(features)].shape) if Place(features) in seen else "none in a forward pass"
                raise ValueError(f"features: expected an output [N, C, h, w] of {features!r}, found {found}")

        def search(maps: list[Place], head: str | None) -> CamHead | None:
            places = [(place, layout) for place in candidates(maps, seen) for layout in layouts_of(seen[place], grids)]
            for path in [head] if head is not None else reversed(heads):
                weights, named = head_weights(modules[path]), head is not None
                logits = logits_of(output) if head is None else pooled(seen[Place(path)])
                if not torch.is_tensor(logits) or logits.shape != (len(images), len(weights[0])):
                    continue
                for place, layout in places:
                    found = CamHead(place, path, layout)
                    if _agree(layout.as_map(seen[place]), *weights, logits) and _is_proved(
                        model, images, found, named=named
                    ):
                        return found
            return None

        found = search(maps, head)
        if found is not None:
            return found
        # What naming other parts, or none, would find.
        others = [(None, search(all_maps, None))]
        for path in reversed(heads_of_classes):
            if _orders(output, pooled(seen[Place(path)])):
                others.append((path, search(all_maps, path)))
        named = [f"{name} {path!r}" for name, path in (("features", features), ("head", head)) if path is not None]
    raise ValueError(_explain(model, images, output, seen, all_maps, heads, named, others))


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
    """The logits in what a model returns: itself, under "logits", its attribute of this name, or the first item."""
    if isinstance(output, dict):
        return output.get("logits")
    if hasattr(output, "logits"):
        return output.logits
    return output[0] if isinstance(output, tuple | list) and output else output


def pooled(values: "torch.Tensor") -> "torch.Tensor":
    """What a head made, [N, K], of [N, K] or [N, K, h, w]."""
    return values.mean((2, 3)) if values.ndim == 4 else values


def unwrapped(model: "torch.nn.Module") -> "torch.nn.Module":
    """The network in what DataParallel, DistributedDataParallel and torch.compile make of it."""
    import torch

    while True:
        if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), torch.nn.Module):
            model = model._orig_mod
        else:
            return model


def first_tensor(model: "torch.nn.Module") -> "torch.Tensor":
    """A tensor of the type and on the device that a model wants its images in."""
    import torch

    tensors = chain(model.parameters(), model.buffers())
    return next((each for each in tensors if each.is_floating_point()), torch.empty(0))


def first_channels(model: "torch.nn.Module") -> int | None:
    """Channels that a model's first convolution takes, if it has one."""
    import torch

    return next((each.in_channels for each in model.modules() if isinstance(each, torch.nn.Conv2d)), None)


def expect_explained(
    cams: "torch.Tensor",
    features: "torch.Tensor",
    weights: "torch.Tensor",
    bias: "torch.Tensor | None",
    classes: "torch.Tensor",
    logits: "torch.Tensor",
    image_ids: Sequence[str | None] | None,
    what: str,
) -> None:
    """Does nothing if each CAM's mean plus the class's bias is the class's logit, up to how its types round.

    Args:
        cams: float [N, h, w].
        features, weights, bias: What they were made from: [N, C, h, w], [K, C], [K] or None.
        classes: Class of each CAM, integers [N].
        logits: What the model really made, float [N, K].
        image_ids: For the message; an image whose name is None does not count.
        what: The model, for the message.

    Raises:
        ValueError: It is not; the message names the image.
    """
    classes = classes.to(weights.device).long()
    size = features.shape[2] * features.shape[3]
    offset = 0 if bias is None else bias[classes].to(cams.dtype)
    found = cams.mean((1, 2)) + offset
    real = logits.to(weights.device).gather(1, classes[:, None])[:, 0].to(cams.dtype)
    length = features.flatten(1).to(cams.dtype).norm(dim=1) * weights[classes].to(cams.dtype).norm(dim=1)
    bound = length / size**0.5 + abs(offset)
    fits = ~((found - real).abs() > rounding_of(features, logits) * bound) & found.isfinite()
    for row in range(len(fits)) if not fits.all() else ():
        name = f"image {row} of a batch" if image_ids is None else image_ids[row]
        if not fits[row] and name is not None:
            raise ValueError(
                f"{name}: the mean of the CAM of class {classes[row].item()} plus its bias is {found[row].item():.6g}, "
                f"but its logit is {real[row].item():.6g}: {what}"
            )


def expect_finite(model, logits: "torch.Tensor", image_ids: Sequence[str | None] | None) -> None:
    """Does nothing if logits [N, K] are numbers.

    Args:
        model: The model, to say which of its weights are none; or None.
        logits: Its logits.
        image_ids: For the message; an image whose name is None does not count.

    Raises:
        ValueError: They are not; the message names the image.
    """
    fits = logits.isfinite().flatten(1).all(1)
    for row in range(len(fits)) if not fits.all() else ():
        name = f"image {row} of a batch" if image_ids is None else image_ids[row]
        if not fits[row] and name is not None:
            raise ValueError(f"{name}: its logits are {_not_finite(model, logits[row])}")


def rounding_of(*tensors: "torch.Tensor") -> float:
    """What part of a sum's bound rounding may change, by the coarsest of the types that it was computed in."""
    import torch

    coarsest = max(torch.finfo(each.dtype).eps for each in tensors if each.is_floating_point())
    if any(each.device.type != "cpu" for each in tensors):
        coarsest = max(coarsest, _TENSOR_FLOAT_EPS)
    return max(_TOLERANCE, _NUM_ROUNDINGS * coarsest)


def _agree(features: "torch.Tensor", weights, bias, logits) -> bool:
    """Whether logits [N, K] are the head of the features' average, up to how their types round."""
    import torch

    shape = len(features), len(weights)
    if not torch.is_tensor(logits) or logits.shape != shape or features.shape[1] != weights.shape[1]:
        return False
    tolerance = rounding_of(features, logits)
    features, weights, logits = (
        each.to(torch.promote_types(each.dtype, torch.float32)) for each in (features, weights, logits)
    )
    features = features.to(weights.dtype)
    bias = torch.zeros_like(weights[:, 0]) if bias is None else bias.to(weights.dtype)
    found = torch.nn.functional.linear(features.mean((2, 3)), weights, bias)
    lengths = features.flatten(1).norm(dim=1)[:, None] * weights.norm(dim=1)
    bound = lengths / (features.shape[2] * features.shape[3]) ** 0.5 + bias.abs()
    return bool(((found - logits).abs() <= tolerance * bound).all())


def _is_proved(model: "torch.nn.Module", images: "torch.Tensor", parts: CamHead, *, named: bool) -> bool:
    """Whether random features in a place, and random weights of the head, make the logits that they ought to.

    Args:
        named: The head's output is taken as the logits, not the model's.
    """
    import torch

    place, head, layout = parts
    random = torch.Generator().manual_seed(1)
    module, kept, used = model.get_submodule(head), {}, []

    def replace(where: Place, value: "torch.Tensor") -> "torch.Tensor | None":
        if where == Place(head):
            kept[where] = value
            return None
        if layout.fits(value):
            kept[where] = layout.drawn(value, random)
            return kept[where]
        return None

    tensors = chain(module.named_parameters(), module.named_buffers())
    length = head_weights(module)[0].shape[1] ** 0.5
    weights = {f"{head}.{name}": draw(each, random, 1 / length) for name, each in tensors if each.is_floating_point()}
    hook = module.register_forward_hook(lambda module, *_: used.append(head_weights(module)))
    try:
        with at(model, list({place, Place(head)}), replace):
            output = torch.func.functional_call(model, weights, images)
    except Exception:  # whatever a model's code raises of such features
        return False
    finally:
        hook.remove()
    if place not in kept or Place(head) not in kept:
        return False
    logits = pooled(kept[Place(head)]) if named else logits_of(output)
    if not _agree(layout.as_map(kept[place]), *used[-1], logits):
        return False

    def map_of(images: "torch.Tensor") -> "torch.Tensor":
        with record(model, [place]) as seen:
            model(images)
        return layout.as_map(seen[place])

    return layout.grid is None or lies_in_rows(map_of, images)


def _unpadded(module: "torch.nn.Conv2d") -> bool:
    return module.padding in ((0, 0), "same", "valid")


def _num_outputs(module: "torch.nn.Module") -> int:
    return len(head_weights(module)[0])


def _sizes(output) -> set[int]:
    """How many numbers an image has, of all tensors in what a model returns."""
    if isinstance(output, dict | tuple | list):
        return set().union(*map(_sizes, output.values() if isinstance(output, dict) else output))
    logits = logits_of(output)
    return set(logits.shape[1:2]) if hasattr(logits, "shape") else set()


def _orders(output, logits: "torch.Tensor") -> bool:
    """Whether something that a model returns has the classes in the order of logits [N, K], as probabilities have."""
    if isinstance(output, dict | tuple | list):
        return any(_orders(each, logits) for each in (output.values() if isinstance(output, dict) else output))
    found = logits_of(output)
    if getattr(found, "shape", None) != logits.shape:
        return False
    return bool((found.gather(1, logits.argsort(1)).diff(dim=1) >= 0).all())


def _shown(output) -> str:
    """What a model returns, in short."""
    if isinstance(output, dict):
        return f"a dict of {', '.join(f'{name} {_shown(value)}' for name, value in output.items())}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(map(_shown, output))}"
    return str(list(output.shape)) if hasattr(output, "shape") else type(output).__name__


def _not_finite(model, logits: "torch.Tensor") -> str:
    """What is no number, and why."""
    values = logits[~logits.isfinite()]
    kind = "NaN" if values.isnan().any() else "infinite"
    tensors = chain(model.named_parameters(), model.named_buffers()) if hasattr(model, "named_parameters") else ()
    wrong = next((name for name, each in tensors if each.is_floating_point() and not each.isfinite().all()), None)
    if wrong is not None:
        return f"{kind}, for the weights are: {wrong} has values that are no numbers"
    small = "; float16 ends at 65504: take bfloat16 or float32" if logits.dtype.itemsize < 4 else ""
    return f"{kind}, though all weights are numbers{small}"


def _explain(model, images, output, seen, maps, heads, named, others) -> str:
    """Why there is no pair, what came close, and what to do."""

    def listed(items: list[str]) -> str:
        return "; ".join(items[::-1][:_NUM_LISTED]) or "none"

    shown_maps = [
        f"{place} {list(seen[place].shape[1:])}" for place in maps if place.side == "output" and seen[place].ndim == 4
    ]
    shown_heads = [f"{path} {list(head_weights(model.get_submodule(path))[0].shape)}" for path in heads]
    given = f" with {' and '.join(named)}" if named else ""
    fitting = next(((head, found) for head, found in others if found is not None), None)
    if fitting is None:
        advice = f"Naming parts cannot help: no head of it follows a plain average; {FUNCTION_ADVICE}."
    elif fitting[0] is None:
        advice = f"Without --features and --head they are found: {fitting[1].features} and {fitting[1].head}."
    else:
        place, path, _ = fitting[1]
        option = f"--features {place} " if place.side == "output" else ""
        advice = f"Name them with --features and --head: {option}--head {path}, whose output is then the logits."
    return (
        f"{name_of(model)}: found no feature map whose average, put through a Linear or 1x1 Conv2d, is the logits"
        f"{given} of images of {images.shape[2]} x {images.shape[3]} pixels. {advice} "
        f"The model's output: {_shown(output)}; "
        f"feature maps [C, h, w], last first: {listed(shown_maps)}; heads [K, C], last first: {listed(shown_heads)}"
    )

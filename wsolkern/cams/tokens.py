"""What passes through a vision transformer: its attention, its tokens, and which token stands for which pixels.

In: a torch.nn.Module, images. Out: attention weights and keys of each layer; the layout of its tokens, proved.
Source: Dosovitskiy et al., arXiv 2010.11929, section 3.1 (tokens); Vaswani et al., arXiv 1706.03762, equation 1.

Attention is seen where torch computes it (scaled_dot_product_attention, softmax of a product, MultiheadAttention), so
that neither names of modules nor a library's options matter.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.cams.heads import logits_of
from wsolkern.cams.places import Place, record

if TYPE_CHECKING:
    import torch

_MOST_PREFIX_TOKENS = 64  # class, distillation and register tokens


class Attention(NamedTuple):
    """One layer's self-attention."""

    weights: "torch.Tensor | None"
    """Mean over the heads, float [N, L, L]; each row, a token that looks, sums to 1. None if it was not asked for."""
    keys: "torch.Tensor | None"
    """Of all heads one after another, float [N, L, heads * D]; None where they could not be seen."""


class TokenLayout(NamedTuple):
    """Where in a transformer's tokens an image is."""

    grid: tuple[int, int]
    """Patches in height and width."""
    num_prefix: int
    """Tokens before the patches': the class token, if there is one, is the first of them."""
    num_layers: int
    """Layers with self-attention over all tokens."""
    last: str
    """Path of the last module whose output is all tokens, [N, L, C]."""
    reads_class: bool | None
    """Whether what the model returns changes with the last layer's first token; None where it returns all tokens."""
    reads_patches: bool | None
    """The same of the patches' tokens."""

    def as_map(self, values: "torch.Tensor") -> "torch.Tensor":
        """Values of the patches, [N, h * w], as maps [N, h, w]."""
        return values.reshape(len(values), *self.grid)


@contextmanager
def attentions(
    model: "torch.nn.Module", *, weights: bool = True, alone: tuple[int, int] | None = None
) -> Iterator[list[Attention]]:
    """While the block runs, puts each layer's self-attention into a list.

    Args:
        model: The model; layers whose tokens are not one sequence an image (windows) are not told apart here.
        weights: Compute the weights, too.
        alone: (layer, first): in this layer the tokens from ``first`` on attend to themselves alone.
    """
    import torch

    seen: list[Attention] = []

    def mask(length: int, device) -> "torch.Tensor | None":
        """Which tokens (columns) each token (row) of the next layer may look at; None: all."""
        if alone is None or len(seen) != alone[0]:
            return None
        own = torch.eye(length, dtype=torch.bool, device=device)
        own[: alone[1]] = True
        return own

    class Products(torch.overrides.TorchFunctionMode):
        """Sees attention that is made of functions."""

        keys = None

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            name = getattr(function, "__name__", "")
            if name == "scaled_dot_product_attention":
                return self.fused(function, *args, **kwargs)
            found = function(*args, **kwargs)
            if name in ("matmul", "__matmul__") and _is_square(found) and args[0].shape[-1] == args[1].shape[-2]:
                self.keys = args[1].transpose(-1, -2)
            if name == "softmax" and _is_square(found):
                own = mask(found.shape[-1], found.device)
                if own is not None:
                    found = found * own
                    found = found / found.sum(-1, keepdim=True)
                keys = self.keys if self.keys is not None and self.keys.shape[:3] == found.shape[:3] else None
                seen.append(Attention(found.mean(1) if weights else None, None if keys is None else _joined(keys)))
                self.keys = None
            return found

        def fused(self, function, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **more):
            if query.ndim != 4 or query.shape[-2] != key.shape[-2] or is_causal:
                return function(query, key, value, attn_mask, dropout_p, is_causal, **more)
            own = mask(query.shape[-2], query.device)
            if own is not None:
                if attn_mask is None:
                    attn_mask = own
                elif attn_mask.dtype == torch.bool:
                    attn_mask = attn_mask & own
                else:
                    attn_mask = attn_mask.masked_fill(~own, float("-inf"))
            keys = key if key.shape[1] == query.shape[1] else key.repeat_interleave(query.shape[1] // key.shape[1], 1)
            made = _weights(query, keys, attn_mask, more.get("scale")).mean(1) if weights else None
            seen.append(Attention(made, _joined(keys)))
            return function(query, key, value, attn_mask, dropout_p, is_causal, **more)

    def before(module, args, kwargs):
        query = args[0] if args else kwargs["query"]
        length = query.shape[1 if module.batch_first else 0]
        own = mask(length, query.device)
        changed = {**kwargs, "need_weights": True, "average_attn_weights": True}
        return args, changed if own is None else changed | {"attn_mask": ~own}

    def after(module, args, kwargs, output):
        key = args[1] if len(args) > 1 else kwargs["key"]
        keys = None
        if module.in_proj_weight is not None:
            weight = module.in_proj_weight.chunk(3)[1]
            bias = None if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[1]
            keys = torch.nn.functional.linear(key if module.batch_first else key.transpose(0, 1), weight, bias)
        seen.append(Attention(output[1] if weights else None, keys))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, torch.nn.MultiheadAttention):
                hook = module.register_forward_pre_hook(before, with_kwargs=True)
                stack.callback(hook.remove)
                hook = module.register_forward_hook(after, with_kwargs=True)
                stack.callback(hook.remove)
        stack.enter_context(Products())
        yield seen


def find_tokens(model: "torch.nn.Module", images: "torch.Tensor") -> TokenLayout:
    """Finds by forward passes which token is of which patch, and which of them the output is made of.

    A change of one pixel of the last convolution before the first attention must change the key of one token alone, and
    of the right one. A change of the last tokens shows which of them are read.

    Args:
        model: In evaluation mode.
        images: What it is tried on, float [N >= 2, 3, H, W] of the model's type and on its device.

    Raises:
        ValueError: It has no such tokens; the message says what is missing.
    """
    import torch

    name = type(model).__name__
    convolutions: dict[str, torch.Tensor] = {}
    tokens: dict[str, torch.Tensor] = {}
    with ExitStack() as stack, torch.inference_mode():
        layers = stack.enter_context(attentions(model, weights=False))

        def keep(path: str, module):
            def hook(_, __, output):
                if not torch.is_tensor(output) or len(output) != len(images):
                    return
                if output.ndim == 4 and isinstance(module, torch.nn.Conv2d) and not layers:
                    convolutions.pop(path, None)
                    convolutions[path] = output
                if output.ndim == 3:
                    tokens.pop(path, None)
                    tokens[path] = output

            return hook

        for path, module in model.named_modules():
            stack.callback(module.register_forward_hook(keep(path, module)).remove)
        try:
            whole = _read(model(images))
        except Exception as error:  # whatever a model's code raises
            sides = f"{images.shape[2]} x {images.shape[3]}"
            raise ValueError(f"{name}: fails on images of {sides} pixels: {error}") from error
    if not layers or any(each.keys is None for each in layers):
        raise ValueError(
            f"{name}: found no self-attention that torch computes as scaled_dot_product_attention, MultiheadAttention, "
            f"or softmax of a product"
        )
    shapes = {each.keys.shape[:2] for each in layers}
    length = layers[0].keys.shape[1]
    if len(shapes) > 1 or layers[0].keys.shape[0] != len(images):
        found = ", ".join(str(list(each)) for each in sorted(shapes))
        raise ValueError(
            f"{name}: expected self-attention over one sequence of tokens an image, found keys of {found} for "
            f"{len(images)} images, as of windows or stages"
        )
    fitting = {
        path: value.shape[2:]
        for path, value in convolutions.items()
        if 0 <= length - value.shape[2] * value.shape[3] <= _MOST_PREFIX_TOKENS
    }
    if not fitting:
        found = [list(each.shape[1:]) for each in convolutions.values()]
        raise ValueError(
            f"{name}: found no convolution before the attention whose pixels are its {length} tokens, up to class and "
            f"register tokens; convolutions: {found}"
        )
    path, (height, width) = list(fitting.items())[-1]
    prefix = length - height * width
    for pixel in {1, height * width - 1}:
        changed = _changed_tokens(model, images[:1].repeat(2, 1, 1, 1), path, pixel)
        if changed != [prefix + pixel]:
            raise ValueError(
                f"{name}: expected pixel {pixel} of {path} to be token {prefix + pixel} of {length}, "
                f"found that it changes tokens {changed}"
            )
    last = [path for path, each in tokens.items() if each.shape[1] == length][-1]
    reads_class = reads_patches = None
    if whole is not None:
        reads_class = prefix > 0 and not torch.equal(whole, _with_other_tokens(model, images, last, slice(0, 1)))
        reads_patches = not torch.equal(whole, _with_other_tokens(model, images, last, slice(prefix, None)))
    return TokenLayout((height, width), prefix, len(layers), last, reads_class, reads_patches)


def classifier_logits(model: "torch.nn.Module", output) -> "torch.Tensor | None":
    """The logits in what a model returns; None of a model without a head, whose output is features.

    Args:
        model: The model, for the number of classes that it or its configuration says it tells apart.
        output: What it returned.
    """
    import torch

    found = logits_of(output)
    if not torch.is_tensor(found) or found.ndim != 2:
        return None
    return found if found is not output or getattr(model, "num_classes", 1) != 0 else None


def with_last_tokens(
    model: "torch.nn.Module", images: "torch.Tensor", layout: TokenLayout
) -> "tuple[object, torch.Tensor]":
    """A model's output, and its last tokens, [N, L, C]."""
    with record(model, [Place(layout.last)]) as seen:
        output = model(images)
    return output, seen[Place(layout.last)]


def _is_square(value: "torch.Tensor") -> bool:
    return getattr(value, "ndim", 0) == 4 and value.shape[-1] == value.shape[-2] > 1


def _joined(keys: "torch.Tensor") -> "torch.Tensor":
    """[N, heads, L, D] as [N, L, heads * D]."""
    return keys.transpose(1, 2).flatten(2)


def _weights(query: "torch.Tensor", key: "torch.Tensor", mask: "torch.Tensor | None", scale: float | None):
    """Attention weights [N, heads, L, L], at least in float32: softmax(query key^T / sqrt(D) + mask)."""
    import torch

    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        products = query.to(wide) @ key.to(wide).transpose(-1, -2) * scale
        if mask is not None:
            products = products.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else products + mask
        return products.softmax(-1)


def _read(output) -> "torch.Tensor | None":
    """What a model makes of its tokens, [N, ...]: logits or pooled features; None where it returns all tokens."""
    import torch

    for found in (logits_of(output), getattr(output, "pooler_output", None)):
        if torch.is_tensor(found) and found.ndim == 2:
            return found
    return None


def _changed_tokens(model, images, path: str, pixel: int) -> list[int]:
    """Tokens of the first layer whose keys differ between two equal images, one pixel of a convolution apart."""
    import torch

    def change(_, __, output):
        other = output.clone()
        noise = torch.randn(output.shape[1], generator=torch.Generator().manual_seed(2)).to(output)
        other[1].flatten(1)[:, pixel] += noise * (1 + output.abs().mean())
        return other

    hook = model.get_submodule(path).register_forward_hook(change)
    try:
        with torch.inference_mode(), attentions(model, weights=False) as layers:
            model(images)
    finally:
        hook.remove()
    first, second = layers[0].keys
    return (first != second).any(1).nonzero().flatten().tolist()


def _with_other_tokens(model, images, path: str, which: slice) -> "torch.Tensor":
    """What a model makes of random numbers in the place of some of its last tokens."""
    import torch

    def change(_, __, output):
        other = output.clone()
        noise = torch.randn(output.shape[1:], generator=torch.Generator().manual_seed(3)).to(output)
        other[:, which] = noise[which]
        return other

    hook = model.get_submodule(path).register_forward_hook(change)
    try:
        with torch.inference_mode():
            return _read(model(images))
    finally:
        hook.remove()

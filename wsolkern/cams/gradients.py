"""Grad-CAM and LayerCAM, of any classifier that can be differentiated, by the library torch-cam.

In: a classifier, images, classes. Out: raw maps: not scaled to [0, 1], which torch-cam would do by default.
Source: Selvaraju et al., arXiv 1610.02391, section 3, equations 1 and 2 (Grad-CAM); Jiang et al., LayerCAM, IEEE TIP
30 (2021), section III-B (LayerCAM).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.cams.activation import Look
from wsolkern.cams.heads import find_head, logits_of
from wsolkern.cams.looks import NamedCams
from wsolkern.cams.tokens import classifier_logits, find_tokens
from wsolkern.errors import ArgumentError

if TYPE_CHECKING:
    import torch

EXTRA = "needs the extra gradcam: pip install 'wsolkern[gradcam]' (torch-cam; Python 3.11 or later)"


class GradientCams(NamedCams):
    """Maps of one layer, weighted by the gradient of a class's logit.

    Grad-CAM weighs each channel with the mean of its gradients over the pixels, LayerCAM each value with the positive
    part of its own gradient; both keep the positive part of the sum over channels. Values are at least 0: logits
    (LayerCAM), or logits a pixel (Grad-CAM).

    Args:
        model: A classifier; its output is the logits [N, K], or has them.
        size: Height and width of the images it is tried on, in pixels.
        features: Path of the layer; None takes what a CAM would be made from or, in a transformer, the last
            normalization in which patches still matter to the logits (that before the last attention, if a class token
            is read), or else the last feature map.
        layer_cam: LayerCAM instead of Grad-CAM.

    Raises:
        ArgumentError: The layer is none, or its output is no feature map and no tokens.
        ValueError: The model has no logits, or none that depend on the layer.
        ImportError: torch-cam is not installed.
    """

    needs_gradients = True

    def __init__(
        self,
        model: "torch.nn.Module",
        size: tuple[int, int] = (224, 224),
        *,
        features: str | None = None,
        layer_cam: bool = False,
    ):
        import torch

        super().__init__(model)
        images = self._probe(size)
        with torch.inference_mode():
            if classifier_logits(self.model, self.model(images)) is None:
                raise ValueError(f"{type(self.model).__name__}: expected a classifier with logits [N, K], found none")
        self.features: str = self._find(images) if features is None else self._named(features)
        """The layer's path."""
        shape = self._shape_of(self.features, images)
        self._layout = _layout(self.model, images, shape)
        if self._layout is None:
            raise ArgumentError(
                "features",
                f"expected a layer of {type(self.model).__name__} whose output is a feature map [N, C, h, w] or tokens "
                f"[N, L, C], found {self.features!r}: {list(shape) if shape else 'no tensor'}",
            )
        self._method = _torch_cam("LayerCAM" if layer_cam else "GradCAM")
        self(images)  # so that what is wrong shows before the work

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        return [self._look(images, each) for each in classes]

    def _look(self, images: "torch.Tensor", classes: "torch.Tensor | None") -> Look:
        import torch

        images = images.detach().clone().requires_grad_()
        with self._method(self.model, self.features, reshape_transform=self._layout) as extractor:
            logits = classifier_logits(self.model, self.model(images))
            if logits is None:
                raise ValueError(f"{type(self.model).__name__}: expected a classifier with logits [N, K], found none")
            classes = logits.argmax(1) if classes is None else torch.as_tensor(classes, device=logits.device)
            try:
                (cams,) = extractor(classes.tolist(), logits, normalized=False)
            except RuntimeError as error:
                raise ValueError(f"{type(self.model).__name__}: {self.features}: {error}") from error
        return Look(cams.detach(), classes, logits.detach())

    def _named(self, features: str) -> str:
        if features not in dict(self.model.named_modules()):
            raise ArgumentError("features", f"expected the path of a module of {type(self.model).__name__}", features)
        return features

    def _shape_of(self, path: str, images: "torch.Tensor") -> tuple[int, ...] | None:
        import torch

        return {each: shape for each, shape in _outputs(self.model, images, torch.nn.Module)}.get(path)

    def _find(self, images: "torch.Tensor") -> str:
        """The layer that maps are made of where none is named."""
        import torch

        try:
            place = find_head(self.model, images).features
            if place.side == "output" and place.name:
                return place.name
        except ValueError:
            pass
        outputs = _outputs(self.model, images, torch.nn.Module)
        try:
            length = find_tokens(self.model, images)
        except ValueError:
            maps = [path for path, shape in outputs if path and len(shape) == 4 and shape[2] * shape[3] > 1]
            if maps:
                return maps[-1]
            raise ArgumentError(
                "features", f"found no feature map in {type(self.model).__name__}: name a layer"
            ) from None
        num_tokens = length.num_prefix + length.grid[0] * length.grid[1]
        modules = dict(self.model.named_modules())
        norms = [
            path
            for path, shape in outputs
            if len(shape) == 3 and shape[1] == num_tokens and "norm" in type(modules[path]).__name__.lower()
        ]
        for path in reversed(norms):
            if _matters(self.model, images, path, length.num_prefix):
                return path
        raise ArgumentError(
            "features",
            f"found no normalization of all tokens in {type(self.model).__name__} that its logits depend on: "
            "name a layer",
        )


class _Tokens:
    """Tokens [N, L, C] as feature maps [N, C, h, w], without those before the patches."""

    def __init__(self, grid: tuple[int, int], num_prefix: int):
        self.grid, self.num_prefix = grid, num_prefix

    def __call__(self, tokens: "torch.Tensor") -> "torch.Tensor":
        patches = tokens[:, self.num_prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *self.grid)


def _channels_first(maps: "torch.Tensor") -> "torch.Tensor":
    return maps.permute(0, 3, 1, 2)


def _as_is(maps: "torch.Tensor") -> "torch.Tensor":
    return maps


def _layout(model, images: "torch.Tensor", shape: tuple[int, ...] | None):
    """What makes feature maps [N, C, h, w] of a layer's output of some shape; None if nothing does."""
    aspect = images.shape[2] / images.shape[3]
    if shape is not None and len(shape) == 4 and shape[2] * shape[3] > 1:
        # Channels come last where the two axes before them, and not the last two, have the images' aspect ratio.
        first, last = abs(shape[2] / shape[3] - aspect), abs(shape[1] / shape[2] - aspect)
        return _channels_first if last < first else _as_is
    if shape is not None and len(shape) == 3:
        try:
            found = find_tokens(model, images)
            grid, num_prefix = found.grid, found.num_prefix
        except ValueError:
            height = round((shape[1] * aspect) ** 0.5)
            grid, num_prefix = (height, shape[1] // max(height, 1)), 0
        if grid[0] * grid[1] + num_prefix == shape[1]:
            return _Tokens(grid, num_prefix)
    return None


def _outputs(model, images: "torch.Tensor", kind: type) -> list[tuple[str, tuple[int, ...]]]:
    """Path and output's shape of all modules that give a tensor of all images, in the order of a forward pass."""
    import torch

    seen: dict[str, tuple[int, ...]] = {}

    def keep(path: str):
        def hook(_, __, output):
            if torch.is_tensor(output) and len(output) == len(images):
                seen.pop(path, None)
                seen[path] = tuple(output.shape)

        return hook

    hooks = [each.register_forward_hook(keep(path)) for path, each in model.named_modules() if isinstance(each, kind)]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for each in hooks:
            each.remove()
    return list(seen.items())


def _matters(model, images: "torch.Tensor", path: str, num_prefix: int) -> bool:
    """Whether a class's logit has a gradient at the patches in a layer's output."""
    import torch

    kept: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_hook(lambda _, __, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits = logits_of(model(images.detach().clone().requires_grad_()))
            (gradient,) = torch.autograd.grad(logits[:, 0].sum(), kept[-1], allow_unused=True)
    finally:
        hook.remove()
    return gradient is not None and bool((gradient[:, num_prefix:] != 0).any())


def _torch_cam(name: str):
    """A class of torch-cam.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import torchcam.methods
    except ImportError as error:
        raise ImportError(f"--cam gradcam and layercam: {EXTRA} ({error})") from error
    return getattr(torchcam.methods, name)

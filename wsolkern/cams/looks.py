"""What looks at images with a classifier: CAMs of any that averages, of those that make their own, by named methods.

In: a torch.nn.Module or a function; images, classes. Out: Looks: CAMs, classes, logits.
Source: Zhou et al., arXiv 1512.04150 (CAM); Bae et al., ECCV 2020 (NWC).
"""

import copy
from collections.abc import Callable, Sequence
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING

from wsolkern.cams.activation import Look, class_activation_maps
from wsolkern.cams.heads import (
    expect_explained,
    expect_finite,
    find_head,
    first_channels,
    first_tensor,
    head_weights,
    logits_of,
    pooled,
    unwrapped,
)
from wsolkern.cams.layouts import Layout
from wsolkern.cams.places import FUNCTION_ADVICE, ForwardFails, Place, record

if TYPE_CHECKING:
    import torch


class PooledCams:
    """CAMs of a classifier that ends in global average pooling and a linear layer, or a 1x1 convolution and pooling.

    Calling it with images float [N, 3, H, W] and classes int64 [N], or None for those of the largest logits, gives a
    :class:`Look`. A CAM's mean plus the class's bias is the class's logit: each call compares them with what the model
    really made, so that a model that was changed since is an error.

    Args:
        model: Put into evaluation mode; see :func:`wsolkern.cams.heads.find_head` for which models will do. Its images
            are turned into its type, and moved to its device.
        size: Height and width of the images it is tried on, in pixels.
        features: Path of the module whose output is pooled, such as "layer4"; None finds it.
        head: Path of the linear layer or 1x1 convolution, such as "fc"; None finds it.
        nwc: Make NWC CAMs as well.

    Raises:
        ValueError: The model has no such parts, those named do not belong together, or its logits are no numbers.

    Source: Zhou et al., arXiv 1512.04150, equation 2.
    """

    def __init__(
        self,
        model: "torch.nn.Module",
        size: tuple[int, int] = (224, 224),
        *,
        features: str | None = None,
        head: str | None = None,
        nwc: bool = False,
    ):
        self.model = _in_evaluation(unwrapped(model))
        self.nwc = nwc
        self.channels = 3
        """Of the images it takes."""
        self.features: Place
        """What is pooled."""
        self.head: str
        """The path of the head."""
        self.layout: Layout
        """What the axes of what is pooled are."""
        self._is_named = head is not None
        try:
            self.features, self.head, self.layout = find_head(
                self.model, self._probe(size), features=features, head=head
            )
        except ForwardFails as error:
            self.channels = first_channels(self.model) or 3
            if self.channels == 3:
                raise
            try:
                self.features, self.head, self.layout = find_head(
                    self.model, self._probe(size), features=features, head=head
                )
            except ForwardFails:
                raise error from None

    def __call__(
        self,
        images: "torch.Tensor",
        classes: "torch.Tensor | None" = None,
        image_ids: Sequence[str | None] | None = None,
    ) -> Look:
        """A look at images.

        Args:
            images: float [N, 3, H, W].
            classes: int64 [N]; None: those of the largest logits.
            image_ids: What errors call the images; one whose name is None is not checked.

        Raises:
            ValueError: A logit is no number, or not the CAM's mean plus the bias; the message names the image.
        """
        return self.looks(images, [classes], image_ids)[0]

    def looks(
        self,
        images: "torch.Tensor",
        classes: "Sequence[torch.Tensor | None]",
        image_ids: Sequence[str | None] | None = None,
    ) -> list[Look]:
        """Several looks, of the same images and other classes each, from one forward pass; otherwise as a call.

        Args:
            images: float [N, 3, H, W].
            classes: For each look int64 [N], or None for those of the largest logits.
            image_ids: As for a call.
        """
        import torch

        _evaluating(self.model)
        with torch.inference_mode():
            with record(self.model, [self.features, Place(self.head)]) as seen:
                output = self.model(_as_input(images, self.model))
            made, logits = self.layout.as_map(seen[self.features]), pooled(seen[Place(self.head)])
            real = logits if self._is_named else logits_of(output)
            expect_finite(self.model, real, image_ids)
            weights, bias = head_weights(self.model.get_submodule(self.head))
            weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
            # Also where the network itself computes in mixed precision.
            with torch.autocast(images.device.type, enabled=False):
                features, found = made.to(weights.dtype), []
                changed = (
                    f"{self.features} is not, or no longer, all that {self.head} makes logits of; if the model was "
                    "changed after PooledCams was made, make it again"
                )
                for some in classes:
                    some = logits.argmax(1) if some is None else some
                    cams = class_activation_maps(features, weights, some)
                    nwc_cams = class_activation_maps(features, weights, some, nwc=True) if self.nwc else None
                    expect_explained(cams, made, weights, bias, torch.as_tensor(some), real, image_ids, changed)
                    found.append(Look(cams, some, logits, nwc_cams))
        return found

    @property
    def num_classes(self) -> int:
        """How many classes the head tells apart."""
        return len(head_weights(self.model.get_submodule(self.head))[0])

    def replicate(self) -> "PooledCams":
        """Another one for another thread, with the same weights in memory."""
        return _replicate(self)

    def _probe(self, size: tuple[int, int]) -> "torch.Tensor":
        return _noise(self.model, self.channels, size)


class OwnCams:
    """CAMs of a model that makes them itself, by ``forward(images, labels, return_cam=True)``, as the field's do.

    It is called as :class:`PooledCams` is. A model with a method ``looks(images, labels, nwc)`` that gives a
    :class:`Look` for each of several labels, as those of :mod:`wsolkern.models` have, needs one forward pass for all;
    with ``look(images, labels, nwc)`` for one, a pass for each. Any other needs one for the logits, and for each of
    the labels another one with ``return_cam``, and with ``nwc`` a third one with ``nwc=True``.

    Args:
        model: Put into evaluation mode.
        nwc: Make NWC CAMs as well.
    """

    needs_gradients = False
    """Whether maps are made of gradients."""

    def __init__(self, model: "torch.nn.Module", *, nwc: bool = False):
        self.model = _in_evaluation(unwrapped(model))
        self.nwc = nwc

    def __call__(
        self,
        images: "torch.Tensor",
        classes: "torch.Tensor | None" = None,
        image_ids: Sequence[str | None] | None = None,
    ) -> Look:
        """A look at images; see :meth:`PooledCams.__call__`. Logits, where there are some, must be numbers."""
        return self.looks(images, [classes], image_ids)[0]

    def looks(
        self,
        images: "torch.Tensor",
        classes: "Sequence[torch.Tensor | None]",
        image_ids: Sequence[str | None] | None = None,
    ) -> list[Look]:
        """Several looks, of the same images and other classes each; see :meth:`PooledCams.looks`."""
        import torch

        _evaluating(self.model)
        images = _as_input(images, self.model)
        with torch.inference_mode(not self.needs_gradients), torch.set_grad_enabled(self.needs_gradients):
            found = self._looks(images, classes)
            for each in found:
                if each.logits is not None:
                    expect_finite(self.model, each.logits, image_ids)
            return found

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        """Looks at images of the model's type and on its device."""
        if hasattr(self.model, "looks"):
            return self.model.looks(images, classes, nwc=self.nwc)
        if hasattr(self.model, "look"):
            return [self.model.look(images, each, nwc=self.nwc) for each in classes]
        logits, found = logits_of(self.model(images)), []
        for each in classes:
            each = logits.argmax(1) if each is None else each
            cams = self.model(images, each, return_cam=True)
            nwc_cams = self.model(images, each, return_cam=True, nwc=True) if self.nwc else None
            found.append(Look(cams, each, logits, nwc_cams))
        return found

    @property
    def num_classes(self) -> int | None:
        """How many classes the model says that it tells apart."""
        return _count(getattr(self.model, "num_classes", None))

    def replicate(self) -> "OwnCams":
        """Another one for another thread, with the same weights in memory."""
        return _replicate(self)


class NamedCams(OwnCams):
    """Maps of a model by a named CAM method; each is a subclass in a module of its own, see :mod:`wsolkern.cams.named`.

    It is called as :class:`PooledCams` is.

    Args:
        model: Put into evaluation mode.
    """

    def _looks(self, images: "torch.Tensor", classes: "Sequence[torch.Tensor | None]") -> list[Look]:
        raise NotImplementedError

    def _probe(self, size: tuple[int, int]) -> "torch.Tensor":
        return _noise(self.model, 3, size)


def looks_of_any_class(
    cams: "torch.Tensor", classes: "Sequence[torch.Tensor | None]", logits: "torch.Tensor | None"
) -> list[Look]:
    """Looks of maps that are the same whatever the class is; without logits a class that is not asked for is None."""
    predicted = None if logits is None else logits.argmax(1)
    return [Look(cams, predicted if each is None else each, logits) for each in classes]


def _noise(model: "torch.nn.Module", channels: int, size: tuple[int, int]) -> "torch.Tensor":
    """Images of noise that a model is tried on, [2, channels, H, W], of its type and on its device."""
    import torch

    return _as_input(torch.randn((2, channels, *size), generator=torch.Generator().manual_seed(0)), model)


def _in_evaluation(model: "torch.nn.Module") -> "torch.nn.Module":
    """A model, put into evaluation mode.

    Raises:
        ValueError: It has no modes, as one of torch.export.
    """
    try:
        return model.eval()
    except NotImplementedError as error:
        raise ValueError(
            f"{type(model).__name__}: an exported program does not show its feature maps ({error}); give the "
            f"torch.nn.Module that it was made from, or {FUNCTION_ADVICE}"
        ) from error


def _evaluating(model: "torch.nn.Module") -> None:
    """Puts a model into evaluation mode where somebody has put a part of it into training mode since."""
    if any(each.training for each in model.modules()):
        model.eval()


def _as_input(images: "torch.Tensor", model: "torch.nn.Module") -> "torch.Tensor":
    """Images in the type and on the device of a model."""
    like = first_tensor(model)
    return images.to(like.device, like.dtype)


def cam_model(
    model: Callable,
    size: tuple[int, int] = (224, 224),
    *,
    features: str | None = None,
    head: str | None = None,
    nwc: bool = False,
) -> Callable:
    """What :func:`extract` takes, for a model of any kind.

    Args:
        model: A torch.nn.Module, or any other callable ``model(images, classes)`` that returns CAMs [N, h, w] or a
            :class:`Look`; that is returned as it is.
        size, features, head, nwc: As for :class:`PooledCams`. A Module that makes its CAMs itself becomes
            :class:`OwnCams` if neither features nor head are named.

    Raises:
        ValueError: The model has no CAMs that can be found, or none of NWC.
    """
    import torch

    named = features is not None or head is not None
    if not isinstance(model, torch.nn.Module):
        if not callable(model):
            raise ValueError(f"model: expected a torch.nn.Module or a function, found {type(model).__name__}")
        if named or nwc:
            raise ValueError("features, head, nwc: expected none of them for a function that makes CAMs itself")
        return model
    model = unwrapped(model)
    parameters = {} if isinstance(model, torch.jit.ScriptModule) else signature(model.forward).parameters
    if "return_cam" in parameters and not named:
        if nwc and "nwc" not in parameters:
            raise ValueError(
                f"nwc: {type(model).__name__} makes its CAMs itself: name features and head to make NWC CAMs from"
            )
        return OwnCams(model, nwc=nwc)
    cams = PooledCams(model, size, features=features, head=head, nwc=nwc)
    if cams.channels != 3:
        raise ValueError(
            f"{type(model).__name__} takes images of {cams.channels} channels, and images are read with 3: put a layer "
            "in front of it that makes its channels of red, green and blue (docs/inputs.md, 'One channel')"
        )
    return cams


def num_classes_of(model: Callable, size: tuple[int, int], device: "torch.device") -> int | None:
    """How many classes a model tells apart, before it has seen an image.

    Args:
        model: As for :func:`extract`.
        size: Height and width of its images, in pixels.
        device: Where it is.

    Returns:
        What its attribute ``num_classes`` says, or the number of logits of a black image; None for a function.
    """
    import torch

    found = _count(getattr(model, "num_classes", None))
    if found is None and isinstance(model, OwnCams):
        logits = model(torch.zeros((1, 3, *size), device=device), image_ids=[None]).logits
        found = None if logits is None else logits.shape[1]
    return found


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _replicate(cams):
    """A copy whose model shares all parameters and buffers with the original's.

    Raises:
        ValueError: The model cannot be copied.
    """
    tensors = chain(cams.model.parameters(), cams.model.buffers())
    try:
        return copy.deepcopy(cams, {id(each): each for each in tensors})
    except Exception as error:  # whatever a model's attributes make deepcopy raise
        raise ValueError(
            f"model: {type(cams.model).__name__} cannot be copied for a second thread ({error}): "
            "set WSOLKERN_NUM_THREADS=1 to use it in one"
        ) from error

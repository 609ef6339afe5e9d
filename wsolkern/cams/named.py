"""The CAM methods that a command knows by name.

In: a name, a model. Out: what makes maps of it by that method, or an error that says what the method needs.
Source: each method's own, in its entry and its module.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from wsolkern.errors import ArgumentError

if TYPE_CHECKING:
    import torch


class CamMethod(NamedTuple):
    """One way to make maps."""

    models: str
    """For which models."""
    values: str
    """What a value of a map is."""
    source: str
    """Paper, section, equation."""
    make: Callable | None
    """(model, size, features) -> :class:`wsolkern.cams.NamedCams`; None for the CAM itself."""
    takes_features: bool = False
    """Whether the layer can be named."""
    like: str | None = None
    """The method that works for the same models."""


def _gradient(layer_cam: bool) -> Callable:
    def make(model, size, features):
        from wsolkern.cams.gradients import GradientCams

        return GradientCams(model, size, features=features, layer_cam=layer_cam)

    return make


def _linear(model, size, features):
    from wsolkern.cams.linear import LinearCams

    return LinearCams(model, size, features=features)


def _attention(mean: bool) -> Callable:
    def make(model, size, features):
        from wsolkern.cams.attention import AttentionCams

        return AttentionCams(model, size, mean=mean)

    return make


def _ts_cam(model, size, features):
    from wsolkern.cams.attention import TsCams

    return TsCams(model, size)


def _similarity(model, size, features):
    from wsolkern.cams.similarity import SimilarityCams

    return SimilarityCams(model, size)


def _component(cut: bool) -> Callable:
    def make(model, size, features):
        from wsolkern.cams.components import ComponentCams

        return ComponentCams(model, size, cut=cut)

    return make


_CLASS_TOKEN = "vision transformers with a class token"

CAM_METHODS: dict[str, CamMethod] = {
    "cam": CamMethod(
        "a plain average, then a linear layer; models that make their own",
        "logits: the mean, plus the bias, is the logit",
        "Zhou et al., arXiv 1512.04150, equation 2",
        None,
        True,
    ),
    "linear": CamMethod(
        "a plain average, then any layers, such as a normalization or hidden ones (ConvNeXt, MobileNetV3)",
        "logits: the mean is the logit; linearised at the pooled feature",
        "Zhou et al., arXiv 1512.04150, equation 2, with the gradient of the logit for the weights",
        _linear,
        True,
    ),
    "gradcam": CamMethod(
        "any classifier",
        "logits a pixel, at least 0",
        "Selvaraju et al., arXiv 1610.02391, equations 1 and 2",
        _gradient(False),
        True,
    ),
    "layercam": CamMethod(
        "any classifier",
        "logits, at least 0",
        "Jiang et al., IEEE TIP 30 (2021), section III-B",
        _gradient(True),
        True,
        like="gradcam",
    ),
    "ts-cam": CamMethod(
        f"{_CLASS_TOKEN} and TS-CAM's convolutional head",
        "logits times attention",
        "Gao et al., arXiv 2103.14862, section 3",
        _ts_cam,
    ),
    "attention": CamMethod(
        _CLASS_TOKEN,
        "attention, 0 to 1, whatever the class",
        "Gao et al., arXiv 2103.14862, section 3, without the semantic map",
        _attention(True),
    ),
    "rollout": CamMethod(
        _CLASS_TOKEN,
        "attention, 0 to 1, whatever the class",
        "Abnar & Zuidema, arXiv 2005.00928, section 3, equation 1",
        _attention(False),
        like="attention",
    ),
    "similarity": CamMethod(
        f"{_CLASS_TOKEN} whose head reads it alone; CLIP with prompts",
        "logits without the bias; of CLIP cosines",
        "Zhou et al., arXiv 2112.01071, section 3.2",
        _similarity,
    ),
    "pca": CamMethod(
        "vision transformers, with or without a head",
        "first principal component, mean 0, whatever the class",
        "Oquab et al., arXiv 2304.07193, section 7.5",
        _component(False),
    ),
    "ncut": CamMethod(
        "vision transformers, with or without a head",
        "eigenvector about its mean, whatever the class",
        "Shi & Malik, IEEE TPAMI 22 (2000), equation 6; Wang et al., arXiv 2202.11539, section 3",
        _component(True),
        like="pca",
    ),
}


def check_cam(cam: str, *, features: str | None = None, head: str | None = None, nwc: bool = False) -> None:
    """Does nothing if there is a CAM method of this name that takes these arguments.

    Raises:
        ArgumentError: It carries the argument's name.
    """
    if cam not in CAM_METHODS:
        raise ArgumentError("cam", f"expected one of {', '.join(CAM_METHODS)}, found {cam!r}")
    if cam == "cam":
        return
    if nwc:
        raise ArgumentError(
            "nwc",
            f"it clamps the weights of a linear layer behind an average, which {cam} has not: it is for cam alone",
        )
    if head is not None:
        raise ArgumentError("head", f"expected none for {cam}, which takes the model's own logits", head)
    if features is not None and not CAM_METHODS[cam].takes_features:
        raise ArgumentError("features", f"expected none for {cam}, which is made of all layers or the last", features)


def named_cams(
    cam: str,
    model: Callable,
    size: tuple[int, int] = (224, 224),
    *,
    features: str | None = None,
    head: str | None = None,
    nwc: bool = False,
):
    """What makes maps of a model by a method's name, for :func:`wsolkern.cams.extract`.

    Args:
        cam: A name in CAM_METHODS.
        model: A torch.nn.Module; for "cam" also a function.
        size: Height and width of its images, in pixels.
        features: The layer, for cam, linear, gradcam and layercam; None finds it.
        head, nwc: As for :class:`wsolkern.cams.PooledCams`; for "cam" only.

    Raises:
        ArgumentError: There is no such method, it does not take an argument, or the model is none for it.
        ValueError: The model has not what the method needs; the message says what, and which methods take the model.
        ImportError: An optional library is missing; the message names the extra.
    """
    import torch

    from wsolkern.cams.heads import unwrapped
    from wsolkern.cams.looks import cam_model
    from wsolkern.cams.prompts import is_clip

    check_cam(cam, features=features, head=head, nwc=nwc)
    make = CAM_METHODS[cam].make
    if isinstance(model, torch.nn.Module) and is_clip(unwrapped(model)):
        raise ArgumentError(
            "prompts",
            f"{type(unwrapped(model)).__name__} has texts for classes: give a prompt a class, or its "
            "vision_model as the model",
        )
    if make is not None and (not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule)):
        raise ArgumentError("cam", f"expected a torch.nn.Module for {cam}, found {type(model).__name__}")
    try:
        if make is None:
            return cam_model(model, size, features=features, head=head, nwc=nwc)
        return make(unwrapped(model), size, features)
    except ArgumentError:
        raise
    except ValueError as error:
        names = working(model, size) if isinstance(model, torch.nn.Module) else []
        if not names:
            raise
        raise ValueError(f"{error}. --cam methods that work for it: {', '.join(names)}") from error


def working(model: "torch.nn.Module", size: tuple[int, int] = (224, 224)) -> list[str]:
    """The CAM methods that take a model, in the order of CAM_METHODS, each tried on images of noise.

    Those of an optional library that is not installed have its extra behind their name.
    """
    from wsolkern.cams.heads import unwrapped
    from wsolkern.cams.looks import cam_model

    found: dict[str, str] = {}
    for name, method in CAM_METHODS.items():
        if method.like is not None:
            if method.like in found:
                found[name] = found[method.like]
            continue
        try:
            if method.make is None:
                cam_model(model, size)
            else:
                method.make(unwrapped(model), size, None)
        except ImportError:
            found[name] = f" (pip install 'wsolkern[{name}]')"
        except Exception:  # whatever a model's code raises
            continue
        else:
            found[name] = ""
    return [name + extra for name, extra in found.items()]

"""Where a model comes from: the function that makes it, its arguments and weights, and what its images are like.

In: the name of a function, or timm:NAME for a model of timm. Out: a ModelSource.
Source: timm's data configs: rwightman/pytorch-image-models (Apache-2.0), timm/data/config.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wsolkern.errors import ArgumentError

_TIMM = "timm:"


@dataclass(frozen=True)
class ModelSource:
    """All that is known of a model before it is made. What a caller says beside it comes first; see :meth:`with_`."""

    model: str
    """package.module:function."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The function's, by name."""
    weights: Path | None = None
    """File with the model's weights; None: those that the function makes."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`wsolkern.datasets.Preprocessing` that the model asks for; the others are the defaults."""
    method: str | None = None
    """Such as "HaS", for a manifest."""
    backbone: str | None = None
    """Such as "vit_tiny_patch16_224", for a manifest; None: the model's own word."""
    made_by: Path | None = None
    """The file that says so, whose arguments nobody can change; None: arguments are free."""

    def with_(self, arguments: Mapping[str, Any] | None, weights: Path | None) -> "ModelSource":
        """The same with a caller's arguments and file of weights.

        Raises:
            ArgumentError: The arguments are others than those the weights were made with.
        """
        given = dict(arguments or {})
        for name, value in given.items() if self.made_by is not None else ():
            if name not in self.arguments or self.arguments[name] != value:
                known = repr(self.arguments[name]) if name in self.arguments else "none"
                raise ArgumentError("arguments", f"expected {known}, as {self.made_by} has it, found {value!r}", name)
        return replace(
            self, arguments={**self.arguments, **given}, weights=self.weights if weights is None else weights
        )


def model_source(name: str, arguments: Mapping[str, Any] | None = None) -> ModelSource:
    """What a name says: package.module:function, or timm:NAME with the data config that timm has for NAME.

    An image is resized to the config's input size as a whole: its crop (``crop_pct``) is left out, for boxes and masks
    are of whole images. NAME is one of ``timm.list_models()``, with or without a tag; ``img_size`` in the arguments
    goes before the config's size.

    Raises:
        ArgumentError: timm has no such model.
        ImportError: timm or torchvision, which timm imports, is not installed or does not load.
    """
    if not name.startswith(_TIMM):
        return ModelSource(name)
    wanted = name.removeprefix(_TIMM)
    try:
        import timm
        from timm.data import resolve_data_config
    except (ImportError, RuntimeError) as error:  # torchvision for another torch fails with a RuntimeError
        raise ImportError(
            f"{name}: needs timm and the torchvision that belongs to torch {_torch_version()}, which timm imports: "
            f"pip install 'wsolkern[models]' torchvision ({error})"
        ) from error
    if not timm.is_model(wanted):
        if hasattr(timm, wanted.partition(".")[0]):
            return ModelSource(name)  # such as timm:create_model
        near = get_close_matches(wanted, timm.list_models(), 3) or timm.list_models(f"*{wanted}*")[:3]
        advice = f"; near: {', '.join(near)}" if near else ""
        raise ArgumentError("model", f"expected a model of timm {timm.__version__}{advice}", name)
    try:
        config = resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(wanted).to_dict())
    except RuntimeError as error:  # a tag that there is not
        raise ArgumentError("model", str(error), name) from error
    size = (arguments or {}).get("img_size", config["input_size"][1:])
    known = {
        "size": (size, size) if isinstance(size, int) else tuple(size),
        "interpolation": config["interpolation"],
        "mean": tuple(map(float, config["mean"])),
        "std": tuple(map(float, config["std"])),
    }
    return ModelSource("timm:create_model", {"model_name": wanted}, preprocessing=known, backbone=wanted)


def _torch_version() -> str:
    import torch

    return str(torch.__version__)

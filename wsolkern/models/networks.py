"""The six methods on three backbones, with the parameter names and shapes of the published library; and on a small one.

In: names of a backbone and a method, their options. Out: a torch.nn.Module that gives logits or CAMs.
Source: Choe et al., arXiv 2007.04178, section 5; names, wiring and defaults: clovaai/wsolevaluation (MIT).
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsolkern.models.heads import Network

BACKBONES = ("vgg16", "inception_v3", "resnet50", "tiny")
METHODS = ("cam", "has", "acol", "spg", "adl", "cutmix")

_MODULES = {"vgg16": "vgg", "inception_v3": "inception", "resnet50": "resnet", "tiny": "tiny"}


def build(
    backbone: str, method: str, num_classes: int = 1000, large_feature_map: bool = False, **method_options
) -> "Network":
    """A network as the published library builds it, with random weights.

    Args:
        backbone: "vgg16", "inception_v3" or "resnet50"; or "tiny" (ours), for small images.
        method: "cam", "has", "acol", "spg", "adl" or "cutmix". HaS and CutMix change images; their network is CAM's.
        num_classes: Classes, K of them.
        large_feature_map: CAMs of 28 x 28 for 224 x 224 pixels instead of 14 x 14 (tiny: 56 x 56, not 28 x 28).
        method_options: ACoL: ``acol_threshold`` (0.7), attention that is erased for the second branch. ADL:
            ``adl_drop_rate`` (0.75) and ``adl_threshold`` (0.9). CAM, HaS, CutMix and ADL: ``tap_threshold``, the
            fraction of a channel's maximum for thresholded average pooling (None, the default: plain average).
            Defaults are those of the published config.py.

    Returns:
        A torch.nn.Module; see :meth:`wsolkern.models.heads.Network.forward`.

    Raises:
        ValueError: An unknown name or option, or a value out of range.

    Source: Choe et al., arXiv 2007.04178, section 5.
    """
    for what, name, names in (("backbone", backbone, BACKBONES), ("method", method, METHODS)):
        if name not in names:
            raise ValueError(f"{what}: expected one of {', '.join(names)}, found {name!r}")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an integer of at least 1, found {num_classes!r}")
    kind = "cam" if method in ("has", "cutmix") else method
    options = _default_options()[kind]
    for name, value in method_options.items():
        if name not in options:
            raise ValueError(f"{name}: {method} has no such option; it has {', '.join(options) or 'none'}")
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a value in [0, 1], found {value}")
    networks = importlib.import_module(f"wsolkern.models.{_MODULES[backbone]}").NETWORKS
    return networks[kind](num_classes, large_feature_map, **options | method_options)


def _default_options() -> dict[str, dict[str, float | None]]:
    from wsolkern.methods import acol, adl

    return {
        "cam": {"tap_threshold": None},
        "acol": {"acol_threshold": acol.THRESHOLD},
        "spg": {},
        "adl": {"adl_drop_rate": adl.DROP_RATE, "adl_threshold": adl.THRESHOLD, "tap_threshold": None},
    }

"""wsolkern: exact, fast evaluation of weakly supervised object localization.

In: class activation maps, or score maps, of any model. Out: MaxBoxAcc, MaxBoxAccV2 and PxAP under every normalization.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221 (normalizations).
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Where each public name lives; it is imported at first use, so that `import wsolkern` stays light.
_HOMES = {
    "BackendUnavailable": "errors",
    "BoxRule": "box_rule",
    "DatasetError": "errors",
    "Evaluator": "metrics",
    "Normalization": "normalization",
    "box_hits": "ops",
    "normalize": "ops",
    "pixel_histograms": "ops",
    "threshold_boxes": "ops",
}
__all__ = [
    "BackendUnavailable",
    "BoxRule",
    "DatasetError",
    "Evaluator",
    "Normalization",
    "box_hits",
    "normalize",
    "pixel_histograms",
    "studies",
    "threshold_boxes",
]

if TYPE_CHECKING:
    from wsolkern.box_rule import BoxRule
    from wsolkern.errors import BackendUnavailable, DatasetError
    from wsolkern.metrics import Evaluator
    from wsolkern.normalization import Normalization
    from wsolkern.ops import box_hits, normalize, pixel_histograms, threshold_boxes


def __getattr__(name: str):
    if name == "studies":
        return import_module(f"wsolkern.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'wsolkern' has no attribute {name!r}")
    return getattr(import_module(f"wsolkern.{_HOMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])

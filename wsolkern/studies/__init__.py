"""What a paper's numbers are made by: each study is a function that takes values and gives a value.

In: maps on disk, a split's Metadata, settings. Out: values with ``to_dict()``; progress is a callback, nothing prints.
Source: the protocol of Choe et al., arXiv 2007.04178, section 4; tables and figures of Kim et al., arXiv 2107.13221.

Beside them: `stores` (what `wsolkern store` does). Below them: `counting` (a split into an Evaluator, resumable) and
`passes` (what every study does around that).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Where each study lives; it is imported at first use.
_HOMES = {
    "Interrupted": "passes",
    "NothingCounted": "passes",
    "ProcessLost": "passes",
    "build_cuda": "installation",
    "compare": "reporting",
    "diagnose": "diagnosis",
    "doctor": "installation",
    "evaluate": "evaluation",
    "extract": "extraction",
    "figure": "figures",
    "localizations": "localization",
    "per_image": "images",
    "profile": "timing",
    "profile_function": "timing",
    "report": "reporting",
    "select": "selection",
    "show": "showing",
    "sweep": "evaluation",
    "table": "tabulation",
    "verify": "verification",
}
__all__ = [
    "Interrupted",
    "NothingCounted",
    "ProcessLost",
    "build_cuda",
    "compare",
    "diagnose",
    "doctor",
    "evaluate",
    "extract",
    "figure",
    "localizations",
    "per_image",
    "profile",
    "profile_function",
    "report",
    "select",
    "show",
    "sweep",
    "table",
    "verify",
]

if TYPE_CHECKING:
    from wsolkern.studies.diagnosis import diagnose
    from wsolkern.studies.evaluation import evaluate, sweep
    from wsolkern.studies.extraction import extract
    from wsolkern.studies.figures import figure
    from wsolkern.studies.images import per_image
    from wsolkern.studies.installation import build_cuda, doctor
    from wsolkern.studies.localization import localizations
    from wsolkern.studies.passes import Interrupted, NothingCounted, ProcessLost
    from wsolkern.studies.reporting import compare, report
    from wsolkern.studies.selection import select
    from wsolkern.studies.showing import show
    from wsolkern.studies.tabulation import table
    from wsolkern.studies.timing import profile, profile_function
    from wsolkern.studies.verification import verify


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wsolkern.studies' has no attribute {name!r}")
    return getattr(import_module(f"wsolkern.studies.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

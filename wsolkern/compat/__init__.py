"""Drop-in for projects built on the published evaluator: its modules and names, wsolkern's speed, the same numbers.

In: a project that imports ``evaluation``, ``inference``, ``data_loaders`` and ``util``. Out: those modules from here.
Source: the public names of Choe et al.'s evaluator and of Kim et al.'s ``CAMComputer``; no code is shared.

Either import from here (``from wsolkern.compat.evaluation import BoxEvaluator``), or leave the project as it is and put
``import wsolkern.compat; wsolkern.compat.install()`` before its first import.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType

_NAMES = ("util", "data_loaders", "evaluation", "inference")


def install() -> None:
    """Registers the modules of this package under their bare names, so that ``import evaluation`` gets them.

    What the project's own file of that name defines beyond the names here (its data loader, its logger) stays
    importable: such a name is looked up in that file, which is run when that happens first. Calling it again does
    nothing.

    Raises:
        ImportError: Another module of that name was imported before; nothing is registered then.
    """
    modules = {name: import_module(f"wsolkern.compat.{name}") for name in _NAMES}
    for name, module in modules.items():
        known = sys.modules.get(name, module)
        if known is not module:
            origin = getattr(known, "__file__", None) or "no file"
            raise ImportError(
                f"another module {name!r} is imported already, from {origin}: "
                f"call wsolkern.compat.install() before the first import of it",
                name=name,
            )
    for name, module in modules.items():
        sys.modules[name] = module
        module.__getattr__ = _ProjectFile(name)


class _ProjectFile:
    """Module-level ``__getattr__``: names that only the project's own file of that name defines."""

    def __init__(self, name: str):
        self._name = name
        self._module: ModuleType | None = None

    def __call__(self, attribute: str):
        module = None if attribute.startswith("__") else self._load()
        if not hasattr(module, attribute):
            raise AttributeError(f"module {self._name!r} (wsolkern.compat.{self._name}) has no attribute {attribute!r}")
        return getattr(module, attribute)

    def _load(self) -> ModuleType | None:
        if self._module is None:
            spec = PathFinder.find_spec(self._name)
            if spec is None or spec.loader is None:
                return None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            self._module = module
        return self._module

"""Drop-in for projects built on the published evaluator: its modules and names, wsolkern's speed, the same numbers.

In: a project that imports ``evaluation``, ``inference``, ``data_loaders`` and ``util``, or modules made of them. Out:
these modules, with what is as published replaced by what is here, and what the project has changed left as it is.
Source: the public names of Choe et al.'s evaluator and of Kim et al.'s ``CAMComputer``; no code is shared.

Either import from here (``from wsolkern.compat.evaluation import BoxEvaluator``), or leave the project as it is and put
``import wsolkern.compat; wsolkern.compat.install()`` at its start.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType

from wsolkern.compat.published import CLASSES, FUNCTIONS, compare, difference, equal_to_published

_NAMES = ("util", "data_loaders", "evaluation", "inference")
_EVALUATORS = ("BoxEvaluator", "MaskEvaluator", "CAMComputer")
_stand_ins: dict[int, object] = {}  # by id()
_labels: dict[str, str] = {}  # module.name where a stand-in was put -> where what it stands in for was defined
_reasons: dict[object, str] = {}  # of what was kept
_accelerated: set[type] = set()  # classes that were kept and whose accumulate was as published
_served: set[str] = set()  # modules that were looked at
_said: set[str] = set()


@dataclass(frozen=True)
class Installation:
    """What :func:`install` did; as a text it is one line."""

    replaced: tuple[str, ...]
    """Classes and functions that are as published, as ``module.name``: wsolkern's stand in their place."""
    kept: dict[str, str]
    """Those that a project has changed -> how they differ. The functions that they call may be replaced."""
    missing: tuple[str, ...]
    """Modules that are not there, or have nothing of the published evaluator."""
    provided: tuple[str, ...]
    """Modules that ``import`` now finds here: they are not there, or as published and need a package that is not."""
    others: tuple[str, ...] = ()
    """Imported modules that define an evaluator but were not named."""

    def __str__(self) -> str:
        parts = []
        if self.replaced:
            by_module: dict[str, list[str]] = {}
            for label in self.replaced:
                module, _, name = label.removesuffix(".accumulate").rpartition(".")
                by_module.setdefault(module, []).append(label[len(module) + 1 :])
            parts.append("replaced " + ", ".join(f"{each} ({', '.join(by_module[each])})" for each in by_module))
        if self.kept:
            parts.append("kept " + ", ".join(f"{name} ({why})" for name, why in self.kept.items()))
        if self.provided:
            parts.append(f"provided {', '.join(self.provided)}, which the project does not have or cannot import")
        if self.missing:
            parts.append(f"nothing to serve in {', '.join(self.missing)}")
        if self.others:
            named = ", ".join(map(repr, self.others))
            parts.append(f"not named and not served: install({named})")
        return "wsolkern.compat: " + "; ".join(parts)


def install(*names: str) -> Installation:
    """Puts wsolkern's functions and classes in the place of the published ones, in the modules of a project.

    A definition is replaced if it is as published: by its signature and, where the source is there, by its syntax
    tree. Any other one stays, and the published functions that it calls are the fast ones. What a project patches later
    counts, and so do the methods of its subclasses. One line on standard error says what was done.

    Args:
        names: Modules, such as "libs.evaluation"; they are imported if they were not yet. None: ``util``,
            ``data_loaders``, ``evaluation`` and ``inference``, of which those that define nothing of the published
            evaluator are left alone; those that are not there, or are as published and need a package that is not, are
            provided from here.

    Raises:
        ImportError: A module is there, but importing it fails.
    """
    replaced: dict[str, None] = {}
    kept: dict[str, str] = {}
    missing, provided, new = [], [], {}
    for name in names or _NAMES:
        module = _find(name, only_published=not names)
        ours = import_module(f"wsolkern.compat.{name}") if name in _NAMES else None
        if module is None and not names and _spec(name) is None:
            module = sys.modules[name] = ours
        if module is not None and module is ours:
            provided.append(name)
            continue
        found = {each: value for each, value in vars(module).items() if _is_named(each, value)} if module else {}
        _served.add(name)
        if not found:
            missing.append(name)
        for each, value in found.items():
            label = _labels.setdefault(f"{name}.{each}", f"{value.__module__}.{each}")
            if id(value) in _stand_ins or id(value) in new:
                replaced[label] = None
            elif why := _reasons.get(value) or difference(value):
                kept[label] = _reasons[value] = why
                if inspect.isclass(value) and (value in _accelerated or _accelerate_method(value)):
                    replaced[f"{label}.accumulate"] = None
            elif stand_in := _stand_in(equal_to_published(value)):
                replaced[label] = None
                new[id(value)] = value, stand_in
    _put_in_place(new, kept)
    done = Installation(tuple(replaced), kept, tuple(missing), tuple(provided), _other_modules())
    if str(done) not in _said:
        _said.add(str(done))
        print(done, file=sys.stderr)
    return done


def _find(name: str, only_published: bool) -> ModuleType | None:
    """A module, imported if need be; None if there is none, or nothing published is in a file that was not imported."""
    if name in sys.modules:
        return sys.modules[name]
    spec = _spec(name)
    if spec is None:
        return None
    if only_published:  # running any script that happens to have such a name would be a surprise
        source = spec.loader.get_source(name) if hasattr(spec.loader, "get_source") else None
        found = compare(source) if source else {}
        if not found:
            return None
        try:
            return import_module(name)
        except ModuleNotFoundError:  # OpenCV, munch: what is as published needs them no longer
            if set(found.values()) != {"as published"}:
                raise
            ours = sys.modules[name] = import_module(f"wsolkern.compat.{name}")
            return ours
    return import_module(name)


def _spec(name: str):
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # a package that it would be in
        return None


def _is_named(name: str, value: object) -> bool:
    """Whether it is a function or a class under the name of a published one, defined in the project."""
    kinds = {**dict.fromkeys(FUNCTIONS, inspect.isroutine), **dict.fromkeys(CLASSES, inspect.isclass)}
    return name in kinds and kinds[name](value) and hasattr(value, "__module__")


def _stand_in(original: Callable) -> Callable | None:
    from wsolkern.compat import accelerated  # which imports what a project's own modules may have been mistaken for

    if not inspect.isclass(original):
        return accelerated.accelerate(original, original.__globals__)
    method = next(each for each in vars(original).values() if isinstance(each, FunctionType))
    return accelerated.serve(original, method.__globals__)


def _accelerate_method(definition: type) -> bool:
    from wsolkern.compat import accelerated

    if accelerated.accelerate_method(definition):
        _accelerated.add(definition)
        return True
    return False


def _put_in_place(new: dict[int, tuple], kept: dict[str, str]) -> None:
    """Gives the names of all modules of the project that mean an original to what stands in for it."""
    for original, stand_in in new.values():
        _stand_ins[id(stand_in)] = stand_in
        for derived in original.__subclasses__() if inspect.isclass(original) else ():
            if derived is stand_in:
                continue
            try:  # its own methods stay in front of those that it inherits
                derived.__bases__ = tuple(stand_in if each is original else each for each in derived.__bases__)
            except TypeError as error:
                kept[f"{derived.__module__}.{derived.__name__}"] = f"cannot be derived anew: {error}"
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "wsolkern" or not isinstance(module, ModuleType):
            continue
        for key, value in list(vars(module).items()):
            if id(value) in new and new[id(value)][0] is value:
                setattr(module, key, new[id(value)][1])


def _other_modules() -> tuple[str, ...]:
    """Imported modules that define an evaluator and were not looked at."""
    return tuple(
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] != "wsolkern" and name not in _served and isinstance(module, ModuleType)
        if any(getattr(vars(module).get(each), "__module__", None) == name for each in _EVALUATORS)
    )

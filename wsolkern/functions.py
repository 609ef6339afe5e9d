"""Functions that somebody names on a command line or in a recipe: package.module:function.

In: such a name, arguments. Out: the function; what it returns, its errors as ours.
Source: none.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path


def find_modules_here() -> None:
    """Lets package.module:function name a module in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def find_function(what: str, name: str) -> Callable:
    """The function that package.module:function names.

    Args:
        what: What it is called in errors.

    Raises:
        ImportError: There is no such module.
        ValueError: It is no such name, or the module has no such function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"{what}: expected package.module:function, found {name!r}")
    function = import_module(module_name)
    for part in function_name.split("."):
        if not hasattr(function, part):
            raise ValueError(f"{what}: {module_name} has no {function_name}")
        function = getattr(function, part)
    if not callable(function):
        raise ValueError(f"{what}: expected {name} to be a function, found {type(function).__name__}")
    return function


def call(what: str, name: str, function: Callable, arguments: Mapping) -> object:
    """What a function that somebody named returns.

    Args:
        what: What it is called in errors.
        name: Its name, package.module:function.
        function: The function.
        arguments: Its arguments, by name.

    Raises:
        ValueError: It has no such arguments, or it failed; the message says where.
    """
    try:
        taken = signature(function)
    except ValueError:  # of some that are written in C
        taken = None
    if taken is not None:
        try:
            taken.bind(**arguments)
        except TypeError as error:
            raise ValueError(f"{what}: {name}({', '.join(map(str, taken.parameters.values()))}): {error}") from error
    try:
        return function(**arguments)
    except Exception as error:  # whatever anybody's function may raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(
            f"{what}: {name}({given}): {type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
        ) from error

"""What tests of several rooms use.

In: parameters of a test. Out: the same, most of them left to the slow tests.
Source: none.
"""

from collections.abc import Collection, Iterable

import pytest


def slow_but(fast: Collection, parameters: Iterable) -> list:
    """Parameters for ``pytest.mark.parametrize``, of which all but those in ``fast`` are marked slow."""
    parameters = list(parameters)
    assert all(each in parameters for each in fast), "a fast one is no parameter"
    return [
        pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=() if each in fast else pytest.mark.slow)
        for each in parameters
    ]

"""One operation on every backend: the table that a call chooses from, once.

In: functions that do the same, a backend's name. Out: the one that runs.
Source: none.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from wsolkern.ops.backends import resolve


class Operation(NamedTuple):
    """What an operation does on each backend: functions of the same arguments that return the same bits."""

    reference: Callable[..., Any]
    """Plain numpy and scipy."""
    cpu: Callable[..., Any]
    """The native core."""
    cuda: str
    """A function of :mod:`wsolkern.ops.gpu.evaluation`, which is loaded only where it runs: it needs Triton."""

    def choose(self, backend: str, value: object) -> tuple[str, Callable[..., Any]]:
        """The backend that runs, as :func:`resolve` says, and what it runs."""
        backend = resolve(backend, value)
        if backend == "cuda":
            return backend, getattr(import_module("wsolkern.ops.gpu.evaluation"), self.cuda)
        return backend, self.reference if backend == "reference" else self.cpu

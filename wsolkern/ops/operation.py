"""One operation on every backend: the table that a call chooses from, once.

In: functions that do the same, a backend's name. Out: the one that runs.
Source: none.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from wsolkern.errors import BackendUnavailable
from wsolkern.ops.backends import resolve


class Operation(NamedTuple):
    """What an operation does on each backend: functions of the same arguments that return the same bits."""

    reference: Callable[..., Any]
    """Plain numpy and scipy."""
    cpu: Callable[..., Any]
    """The native core."""
    cuda: str | None
    """A function of :mod:`wsolkern.ops.gpu.evaluation`, which is loaded only where it runs: it needs Triton. None: no
    kernel does this; "auto" then computes what is on a device on the host."""

    def choose(self, backend: str, value: object) -> tuple[str, Callable[..., Any]]:
        """The backend that runs, as :func:`resolve` says, and what it runs.

        Raises:
            BackendUnavailable: As :func:`resolve`, or "cuda" is asked for by name and no kernel does this.
        """
        if self.cuda is None and backend == "cuda":
            raise BackendUnavailable('backend "cuda": no kernel does this; "auto" and "cpu" compute it on the host')
        backend = resolve("cpu" if self.cuda is None and backend == "auto" else backend, value)
        if backend == "cuda" and self.cuda:
            return backend, getattr(import_module("wsolkern.ops.gpu.evaluation"), self.cuda)
        return backend, self.reference if backend == "reference" else self.cpu

"""Every launch on the device, run from compiled code and checked; a complaint of the machine fails whoever launched.

In: an architecture and a seed for the order of threads. Out: a context in which backend "cuda" is the compiled code.
Source: none. Memory of ``torch.empty`` counts as written only where kernels wrote; it begins as bytes 0x5a.
"""

import ctypes
import os
import sys
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch

from benchmarks.compile_table import Launch, launch_of
from tests.shared import stand_in
from wsolkern.ops import backends
from wsolkern.ops.gpu import cutting, histograms, normalizing, resizing, statistics

from . import building

MOST_ACCESSES, MOST_COMPLAINTS = 4_000_000_000, 1000  # of a launch; then it is given up


class Broken(AssertionError):
    """What the machine has to complain of."""


class _Memory(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("written", ctypes.c_void_p)]


class Machine:
    """Runs launches of Triton kernels; ``libraries`` are those that were used, by kernel."""

    def __init__(self, architecture: int, seed: int = 1, turns: int = 16):
        self.architecture, self.seed, self.turns = architecture, seed, turns
        self.deleted: tuple[Launch | str | None, int] = None, -1  # whose barrier, and which of its sites that is
        self.most_accesses = MOST_ACCESSES
        self.libraries: dict[Launch | str, ctypes.CDLL] = {}
        self._fresh: list[tuple[torch.Tensor, np.ndarray]] = []

    def empty(self, *shape, **how) -> torch.Tensor:
        """As ``torch.empty``, noting of every byte whether a kernel wrote it."""
        tensor = _empty(*shape, **how)
        if tensor.device.type == "cpu" and tensor.numel():
            _bytes_of(tensor)[:] = 0x5A
            self._fresh.append((tensor, np.zeros(tensor.nbytes, np.uint8)))
        return tensor

    def configure(self, library: ctypes.CDLL, of: Launch | str) -> None:
        """Gives a library its order of threads, and deletes the barrier that is to be deleted in it."""
        deleted = self.deleted[1] if self.deleted[0] == of else -1
        most_complaints = MOST_COMPLAINTS if self.deleted[0] is None else 1
        library.configure(self.seed, self.turns, deleted, self.most_accesses, most_complaints)

    def launch(self, kernel, grid: tuple[int, ...], *arguments, **constants) -> None:
        """As ``wsolkern.ops.gpu.launching.launch``."""
        if 0 in grid:
            return
        launch = launch_of(kernel, arguments, constants)
        library, shared = building.triton_kernel(launch, self.architecture)
        self.libraries[launch] = library
        self.configure(library, launch)
        parameters = bytearray()
        for value, (_, dtype) in zip(arguments, launch.signature, strict=False):
            if dtype != "constexpr":
                size = 8 if isinstance(value, torch.Tensor) else 4
                parameters += b"\0" * (-len(parameters) % size)
                number = value.data_ptr() if isinstance(value, torch.Tensor) else int(value)
                parameters += number.to_bytes(size, "little", signed=size == 4)
        parameters += b"\0" * (-len(parameters) % 8 + 16)  # two pointers of Triton's own, to nothing
        tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
        memory = (_Memory * len(tensors))(*(self._memory(each) for each in tensors))
        buffer = (ctypes.c_char * (len(parameters) + 16)).from_buffer(parameters + bytearray(16))
        begin = ctypes.addressof(buffer)
        report = library.run(ctypes.c_void_p(begin), *(*grid, 1)[:2], ctypes.c_size_t(shared), memory, len(memory))
        if report:
            raise Broken(report.decode())

    def _memory(self, tensor: torch.Tensor) -> _Memory:
        storage = tensor.untyped_storage()
        begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        written = next((each for fresh, each in self._fresh if fresh.data_ptr() == begin and fresh.numel()), None)
        return _Memory(begin, end, None if written is None else written.ctypes.data)


_empty = torch.empty


def _bytes_of(tensor: torch.Tensor) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * tensor.nbytes).from_address(tensor.data_ptr()))


@contextmanager
def machine(architecture: int, seed: int = 1, turns: int = 16, *, shared_limit: int = 227_000, trees: bool = True):
    """Within it, backend "cuda" and the functions of wsolkern.ops.gpu run the code compiled for an architecture."""
    made = Machine(architecture, seed, turns)
    environment, modules = {"WSOLKERN_EMULATED_SHARED": str(shared_limit)}, {}
    if trees:
        library = building.trees(architecture)
        modules["wsolkern._cuda"] = stand_in(library)
    _forget()
    rooms = (resizing, statistics, normalizing, cutting, histograms)
    try:
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.dict(sys.modules, modules),
            mock.patch.object(torch, "empty", made.empty),
        ):
            for room in rooms:
                room.launch = made.launch
            if trees:
                made.libraries["trees"] = building.opened(str(library))
                made.configure(made.libraries["trees"], "trees")
            yield made
    finally:
        for room in rooms:
            room.launch = _launch
        _forget()


_launch = resizing.launch


def _forget() -> None:
    backends.device_module.cache_clear()
    backends.missing_for_cuda.cache_clear()

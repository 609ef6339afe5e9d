"""What this process uses of the machine: threads, memory and a device.

In: numbers and names, as arguments and options have them. Out: settings of this process; devices of torch.
Source: none.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def num_cores() -> int:
    """The cores that this process may run on; where a system does not say which (macOS), all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(threads: int | None) -> None:
    """Lets the operations of this process use so many threads; None leaves it as it is."""
    if threads is not None:
        os.environ["WSOLKERN_NUM_THREADS"] = str(threads)


def share_cores(num_processes: int) -> None:
    """Leaves this process its share of the threads, unless it was told a number."""
    from wsolkern.ops import backends

    if not os.environ.get("WSOLKERN_NUM_THREADS"):
        os.environ["WSOLKERN_NUM_THREADS"] = str(max(1, backends.num_threads() // num_processes))


def keep_freed_memory() -> None:
    """Lets glibc keep what a layer frees for the next layer, in this process from now on.

    Otherwise it gives large blocks back to the system again and again: with 448 pixels the forward pass of a small
    network took 100 ms an image on two cores instead of 77, and its time changed from run to run. The most memory that
    is used at a time stays the same.
    """
    import ctypes

    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:  # glibc; other libraries have no such setting
        for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD
            allocator(parameter, value)


def place_of(device: str, local_rank: int | None = None) -> "torch.device":
    """A device by its name, looked at before anything is computed there.

    Args:
        device: Such as "cpu", "cuda" or "cuda:1".
        local_rank: Which GPU "cuda" stands for; None for the current one.

    Raises:
        ArgumentError: There is no such device.
        DeviceUnavailable: It is a GPU, and none can be used.
    """
    import torch

    from wsolkern.errors import ArgumentError, DeviceUnavailable

    try:
        place = torch.device(device)
        if place.type == "cuda" and not torch.cuda.is_available():
            raise DeviceUnavailable("device", f"torch {torch.__version__} finds no GPU here", device)
        torch.empty(0, device=place).numpy(force=True)  # "meta" has no values
    except DeviceUnavailable:
        raise
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = f"expected cpu or cuda, found {device!r}, which cannot be used here"
        raise ArgumentError("device", reason) from error
    if device == "cuda" and local_rank is not None and local_rank >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} for process {local_rank} of this machine, counted from 0"
        raise ArgumentError("device", f"expected a GPU for each process, found {found}")
    if device == "cuda":
        return torch.device("cuda", torch.cuda.current_device() if local_rank is None else local_rank)
    return place


def gpu_of(device: str, local_rank: int | None = None) -> "torch.device | None":
    """Where maps are evaluated: a GPU, or None for the CPU, which needs no torch.

    Args:
        device, local_rank: As for :func:`place_of`.

    Raises:
        ArgumentError, DeviceUnavailable: As :func:`place_of`; a device of another kind is one that there is not.
    """
    from wsolkern.errors import ArgumentError

    if device == "cpu":
        return None
    if device.partition(":")[0] != "cuda":
        raise ArgumentError("device", f"expected cpu or cuda, found {device!r}")
    return place_of(device, local_rank)

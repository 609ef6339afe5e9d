"""How every Triton kernel here is started, and constants on a device.

In: a kernel, its grid and its arguments. Out: nothing; the kernel writes into tensors that it was given.
Source: protocol.md of the published evaluation: products and sums are rounded one by one, so fusing them is off.

Loops to a bound that is not a constant are written with while: Triton's interpreter, which the tests run the kernels
in, cannot hand such a bound to range with numpy 2.4.
"""

import numpy as np
import torch
import triton

# Its major and minor release, which layouts and registers depend on.
TRITON = tuple(map(int, triton.__version__.split(".")[:2]))
# Warps of a block, and the most registers of a thread: as few of these as no architecture spills any for (with Triton
# 3.6; with 3.7 two kernels spill two to six), so that more blocks are resident. With four warps a thread has two
# neighbouring columns of a tile, for which it loads weights once.
_SIZES = {"_affine": (8, 80), "_level_image": (4, 104), "_digitize": (4, 96), "_count_scores": (8, 128)}


def options(kernel: str) -> dict:
    """How a kernel is compiled. Without a bound on registers ptxas chooses one itself, and spills a few to keep it."""
    num_warps, registers = _SIZES.get(kernel, (4, 160))
    return {"num_warps": num_warps, "maxnreg": registers, "enable_fp_fusion": False}


def launch(kernel, grid: tuple[int, ...], *arguments, **constants) -> None:
    """Run a kernel on the device of its first argument; an empty grid is no work."""
    if 0 in grid:
        return
    with torch.cuda.device_of(arguments[0]):  # Triton launches on the current device
        kernel[grid](*arguments, **constants, **options(kernel.fn.__name__))


def constant(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy on a device that every stream may read: the copy is complete when this returns.

    What keeps one for later launches keeps it for good: a captured graph reads it whenever it is replayed. Within a
    capture there is no copy to wait for, and CUDA refuses: an evaluation runs once before it is captured.
    """
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)

"""The device code as nvcc and Triton compile it, run on the host: the reference's bits, and not one race.

The interpreter and csrc/gpu/emulated.cpp run what we wrote; this runs what compilers made of it. machine.h says what it
checks, and every complaint is a failure. Here is a case a kernel; test_gpu_compiled_table.py has them all.
"""

import pytest
import torch

from tests.gpu.compiled import building

if building.missing():
    pytest.skip(f"compiled device code: {building.missing()}", allow_module_level=True)

from tests.gpu.compiled import checking  # noqa: E402
from tests.gpu.compiled.running import Broken, machine  # noqa: E402
from wsolkern.ops import inputs  # noqa: E402
from wsolkern.ops.gpu import resizing, statistics  # noqa: E402

OPERATIONS = ["resize", "affine", "normalize", "cut_points", "level_image", "pixel_histograms", "digitize"]
SHARED, SCRATCH = 232_448, 0  # levels and links in shared memory, or all of it in scratch memory
TREES = [("box_hits", SHARED), ("count_box_hits", SCRATCH), ("level_image", SCRATCH), ("threshold_boxes", SHARED)]


@pytest.fixture(autouse=True, scope="module")
def not_optimized():
    """Of a few small cases nearly all of the time is g++'s; the table of all cases runs optimized code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "GXX", [*building.GXX, "-O0"])
        building.forget()
        yield
    building.forget()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_kernel_of_triton(operation):
    with machine(90, seed=2, trees=False):
        checking.check_kernels("cam_14x14", operation)


@pytest.mark.parametrize(("operation", "shared_limit"), TREES, ids=["hits", "counts", "level_image", "boxes"])
def test_every_kernel_of_the_trees(operation, shared_limit):
    with machine(90, seed=3, shared_limit=shared_limit):
        checking.check_trees("plateau", operation)


def test_a_complaint_fails_the_launch():
    """A kernel that reads its neighbour's memory: ranks beyond the pixels of a map."""
    size = checking.size_of("cam_14x14")
    with machine(90, trees=False), pytest.raises(Broken, match="_affine: outside of its memory"):
        resized = resizing.prepare(torch.from_numpy(checking.map_of("cam_14x14")[None]), size)
        tiles = resized.tiles.clone()
        tiles[:, 0] += 10**6
        broken = type(resized)(**{**resized.__dict__, "tiles": tiles})
        statistics.affine(broken, inputs.ranks(checking.NORMALIZATIONS, size[0] * size[1]))

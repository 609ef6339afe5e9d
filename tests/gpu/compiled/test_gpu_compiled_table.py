"""The device code as nvcc and Triton compile it, run on the host: the reference's bits, and not one race.

The interpreter and csrc/gpu/emulated.cpp run what we wrote, and the fast tests run these; this runs what compilers made
of it, on two architectures. machine.h says what it checks, and every complaint is a failure.
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

pytestmark = pytest.mark.slow

ARCHITECTURES = pytest.mark.parametrize("architecture", building.ARCHITECTURES, ids=lambda each: f"sm_{each}")
# Triton's kernels are compiled for each shape of maps, which is most of what this takes, and become nearly the same on
# both architectures: of the older one every sixth case is enough.
OLDER, NEWER = building.ARCHITECTURES
CASES = [(name, NEWER) for name in [*checking.SMALL, checking.FULL]]
CASES += [(name, OLDER) for name in [*checking.SMALL[::6], checking.FULL]]
# What fits in shared memory, and all of it in scratch memory.
PATHS = pytest.mark.parametrize("shared_limit", [232_448, 0], ids=["shared", "scratch"])


def test_order_statistics_at_the_size_of_an_evaluation():
    """PaS and IVR, whose gathered pixels an earlier version wrote outside of its memory."""
    with machine(90, trees=False):
        checking.check_kernels(checking.FULL, "affine")


@pytest.mark.parametrize(
    ("name", "architecture"), CASES, ids=lambda each: f"sm_{each}" if isinstance(each, int) else each
)
def test_the_kernels_of_triton_on_every_case(name, architecture):
    with machine(architecture, seed=architecture + len(name), trees=False):
        checking.check_kernels(name)


@ARCHITECTURES
@PATHS
@pytest.mark.parametrize("name", [*checking.SMALL, checking.FULL])
def test_the_trees_on_every_case(name, shared_limit, architecture):
    with machine(architecture, seed=architecture + len(name), shared_limit=shared_limit):
        checking.check_trees(name)


@ARCHITECTURES
@pytest.mark.parametrize("name", ["cam_13x17", "noise", "plateaus_4_levels", "mixed_magnitudes", "half_inf"])
def test_order_statistics_by_radix(name, architecture, monkeypatch):
    """Cells and groups so small that most ranks are found by radix, and that no group has room but the first."""
    for constant, value in (("CELLS", 16), ("GROUP", 32), ("GATHERED", 32)):
        monkeypatch.setattr(statistics, constant, value)
    with machine(architecture, seed=len(name), trees=False):
        checking.check_kernels(name, "affine")


def test_a_complaint_fails_the_launch():
    """A kernel that reads its neighbour's memory: ranks beyond the pixels of a map."""
    size = checking.size_of("cam_14x14")
    with machine(90, trees=False), pytest.raises(Broken, match="_affine: outside of its memory"):
        resized = resizing.prepare(torch.from_numpy(checking.map_of("cam_14x14")[None]), size)
        tiles = resized.tiles.clone()
        tiles[:, 0] += 10**6
        broken = type(resized)(**{**resized.__dict__, "tiles": tiles})
        statistics.affine(broken, inputs.ranks(checking.NORMALIZATIONS, size[0] * size[1]))

"""The device code as nvcc and Triton compile it, run on the host: the reference's bits, and not one race.

The interpreter and csrc/gpu/emulated.cpp run what we wrote; this runs what compilers made of it. machine.h says what it
checks, and every complaint is a failure. The fast suite has a case a kernel; `pytest -m slow` has the table.
"""

import ctypes
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
import torch

from tests.gpu.compiled import building

if building.missing():
    pytest.skip(f"compiled device code: {building.missing()}", allow_module_level=True)

from benchmarks import device_cost  # noqa: E402
from tests.gpu.compiled import checking, counting, ptx  # noqa: E402
from tests.gpu.compiled.running import Broken, machine  # noqa: E402
from wsolkern.normalization import parse_all  # noqa: E402
from wsolkern.ops import inputs  # noqa: E402
from wsolkern.ops.constants import CONTOURS  # noqa: E402
from wsolkern.ops.gpu import resizing, statistics  # noqa: E402

ARCHITECTURES = pytest.mark.parametrize("architecture", building.ARCHITECTURES, ids=lambda each: f"sm_{each}")
# Levels and links in shared memory, and all of it in scratch memory.
PATHS = pytest.mark.parametrize("shared_limit", [232_448, 0], ids=["shared", "scratch"])
OPERATIONS = ["resize", "affine", "extremes", "normalize", "cut_points", "level_image", "pixel_histograms", "digitize"]


def test_order_statistics_at_the_size_of_an_evaluation():
    """PaS and IVR, whose gathered pixels an earlier version wrote outside of its memory."""
    with machine(90, trees=False):
        checking.check_kernels(checking.FULL, "affine")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_kernel_of_triton(operation):
    with machine(90, seed=2, trees=False):
        checking.check_kernels("cam_14x14", operation)


@PATHS
@pytest.mark.parametrize("operation", ["box_hits", "count_box_hits", "level_image", "threshold_boxes"])
def test_every_kernel_of_the_trees(operation, shared_limit):
    with machine(90, seed=3, shared_limit=shared_limit):
        checking.check_trees("plateau", operation)


@pytest.mark.slow
@ARCHITECTURES
@pytest.mark.parametrize("name", [*checking.SMALL, checking.FULL])
def test_the_kernels_of_triton_on_every_case(name, architecture):
    with machine(architecture, seed=architecture + len(name), trees=False):
        checking.check_kernels(name)


@pytest.mark.slow
@ARCHITECTURES
@PATHS
@pytest.mark.parametrize("name", [*checking.SMALL, checking.FULL])
def test_the_trees_on_every_case(name, shared_limit, architecture):
    with machine(architecture, seed=architecture + len(name), shared_limit=shared_limit):
        checking.check_trees(name)


@pytest.mark.slow
@ARCHITECTURES
@pytest.mark.parametrize("name", ["cam_13x17", "noise", "plateaus_4_levels", "mixed_magnitudes", "half_inf"])
def test_order_statistics_by_radix(name, architecture, monkeypatch):
    """Cells and groups so small that most ranks are found by radix, and that no group has room but the first."""
    for constant, value in (("CELLS", 16), ("GROUP", 32), ("GATHERED", 32)):
        monkeypatch.setattr(statistics, constant, value)
    with machine(architecture, seed=len(name), trees=False):
        checking.check_kernels(name, "affine")


# How csrc/gpu/cuda.cu launches, told by a runtime that writes down what it is asked


@pytest.fixture(scope="module")
def launched():
    """A function that launches the trees for maps of a size on a device, and returns what the runtime was asked."""
    spec = spec_from_file_location("_launching", building.launching())
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    library = ctypes.CDLL(spec.origin)
    library.taken_calls.restype = ctypes.c_char_p

    def launch(side: int, device: int, counts: int = 0) -> list[str]:
        problem = module.BatchProblem()
        problem.num_maps, problem.height, problem.width, problem.most_level = 2, side, side, 255
        problem.num_normalizations, problem.num_iou_thresholds, problem.num_thresholds = 1, 3, 10
        problem.contours = CONTOURS["both"]
        module.box_hits(problem, counts=counts, device=device, stream=0)
        return library.taken_calls().decode().splitlines()

    launch.module = module
    library.taken_calls()
    return launch


def test_a_launch_leaves_the_current_device_as_it_was(launched):
    calls = launched(16, device=1, counts=16)
    launches = [call for call in calls if call.startswith("launch")]
    assert len(launches) == 2 and all(call.endswith("on device 1") for call in launches)
    assert [call for call in calls if call.startswith("set device")] == ["set device 1", "set device 0"]
    assert calls[0] == "set device 1" and calls[-1] == "set device 0"
    assert not [call for call in launched(16, device=0) if call.startswith("set device")]


def test_shared_memory_is_allowed_whatever_the_size_of_the_maps(launched):
    """Two threads launch for maps of two sizes: what one allows must not be too little for the other."""
    small, large = launched(16, device=0), launched(224, device=0)
    allowed = [call for call in small + large if call.startswith("allow")]
    assert allowed == ["allow 232448 bytes"] * 2
    assert small[-1] != large[-1] and small[-1].startswith("launch")


def test_a_device_that_the_code_was_not_built_for_is_told(launched, monkeypatch):
    assert launched.module.fault(0) == ""
    monkeypatch.setenv("WSOLKERN_FAILING_CALL", "look at a kernel")
    assert launched.module.fault(1) == "no kernel image is available for execution on the device"
    with pytest.raises(RuntimeError, match="CUDA: no kernel image is available"):
        launched(16, device=1)


# The machine itself: what it must notice

HEAD = """
.version 8.7
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 memory[];
.visible .entry k(.param .u64 .ptr .global .align 1 k_param_0)
.maxntid 64
{
	.reg .pred %p<4>;
	.reg .b32 %r<9>;
	.reg .b64 %rd<9>;
	ld.param.u64 %rd1, [k_param_0];
	mov.u32 %r1, %tid.x;
	shl.b32 %r2, %r1, 2;
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd3, %rd1, %rd2;
	mov.u32 %r3, memory;
	add.s32 %r4, %r3, %r2;
	setp.lt.u32 %p1, %r1, 32;
	setp.eq.u32 %p2, %r1, 3;
"""


def complaint(body: str, *, num_blocks: int = 1, written: bool = True, most_accesses: int = 10**6, library=None) -> str:
    """What the machine says of a kernel with 256 bytes of shared and 256 of global memory and 64 threads a block."""
    library = library or building.opened(building._library("k", HEAD + body + "ret;\n}\n", "triton.cpp"))
    library.configure(1, 16, -1, most_accesses, 1000)
    memory, flags = np.zeros(64 + 8, np.int32), np.zeros(256, np.uint8)
    begin = -(-memory.ctypes.data // 32) * 32  # whole sectors
    region = (ctypes.c_void_p * 3)(begin, begin + 256, None if written else flags.ctypes.data)
    parameters = (ctypes.c_uint64 * 1)(begin)
    return library.run(parameters, num_blocks, 1, ctypes.c_size_t(256), region, 1).decode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("st.shared.u32 [%r4], %r1; bar.sync 0; ld.shared.u32 %r5, [%r4];", ""),
        ("st.shared.u32 [%r4], %r1; ld.shared.u32 %r5, [memory];", "race"),
        ("st.shared.u32 [%r4], 7; bar.sync 0; ld.shared.u32 %r5, [memory]; bar.sync 0; st.shared.u32 [%r4], %r1;", ""),
        ("st.global.u32 [%rd1], %r1;", "race"),
        ("ld.global.u32 %r5, [%rd1]; @%p2 st.global.u32 [%rd1], %r1;", "race"),
        ("atom.global.add.u32 %r5, [%rd1], 1; ld.global.u32 %r6, [%rd1];", "race"),
        ("atom.global.cta.add.u32 %r5, [%rd1], 1; ld.relaxed.cta.global.u32 %r6, [%rd1];", ""),
        ("@%p2 st.shared.u8 [memory+3], %r1; bar.warp.sync -1; @%p1 ld.shared.u8 %r5, [memory+3];", ""),
        ("@%p2 st.shared.u8 [memory+3], %r1; @%p1 ld.shared.u8 %r5, [memory+3];", "race"),
        ("@%p2 st.shared.u8 [memory+3], %r1; @%p1 ld.shared.u8 %r5, [memory+2];", "reads what nobody wrote"),
        ("ld.shared.u32 %r5, [%r4];", "reads what nobody wrote"),
        ("ld.shared.u32 %r5, [memory+256];", "outside of its memory"),
        ("st.global.u32 [%rd3+4], %r1;", "outside of its memory"),
        ("ld.global.u32 %r5, [%rd1+2];", "not aligned"),
        ("@%p1 bar.sync 0;", "divergent barrier"),
        ("@%p1 bra A; bar.sync 0; bra B; A: bar.sync 0; B:", "divergent barrier"),
        ("@%p2 bar.warp.sync -1;", "waits for lanes that do not come"),
        ("shfl.sync.idx.b32 %r5, %r1, 9, 31, 255;", "is not in the mask that it names"),
        ("A: ld.global.u32 %r5, [%rd1]; bra A;", "does not end"),
    ],
)  # fmt: skip
def test_what_the_machine_notices(body, says):
    found = complaint(body)
    assert (says in found) if says else (found == ""), found


def test_what_the_machine_notices_between_blocks_and_launches():
    add, look = "atom.global.gpu.add.u32 %r5, [%rd1], 1;", "ld.global.u32 %r6, [%rd3];"
    assert complaint(add, num_blocks=2) == ""
    assert "race with another block" in complaint(add.replace("gpu", "cta"), num_blocks=2)
    assert "race with another block" in complaint("st.global.u32 [%rd3], %r1;", num_blocks=2)
    assert complaint(look, num_blocks=2) == ""
    assert "reads what nobody wrote" in complaint(look, written=False)


# What a launch costs


@pytest.mark.parametrize(
    ("body", "slots", "longest", "wavefronts", "sectors", "barriers"),
    [  # each of its two warps executes HEAD's 9 instructions, one of which is 64 bits wide, and a return
        ("", 22, 11, 0, 0, 0),
        ("bar.sync 0; bar.sync 0;", 26, 13, 0, 0, 2),
        ("@%p2 bra A; add.u32 %r5, %r1, 1; A: add.u32 %r5, %r1, 2;", 28, 14, 0, 0, 0),  # one lane of a warp
        ("@%p1 bra A; add.u32 %r5, %r1, 1; A:", 25, 13, 0, 0, 0),  # the first warp as a whole
        ("st.shared.u32 [%r4], %r1;", 24, 12, 2, 0, 0),
        ("and.b32 %r5, %r1, 3; st.shared.u8 [%r5], 1;", 26, 13, 2, 0, 0),
        ("and.b32 %r5, %r1, 1; shl.b32 %r5, %r5, 7; st.shared.u32 [%r5], 1;", 28, 14, 4, 0, 0),  # two words of a bank
        ("ld.global.u32 %r5, [%rd3];", 24, 12, 0, 8, 0),
        ("ld.global.u32 %r5, [%rd1];", 24, 12, 0, 2, 0),
    ],
)  # fmt: skip
def test_what_a_launch_costs(body, slots, longest, wavefronts, sectors, barriers):
    library = building.opened(building._library("k", HEAD + body + "ret;\n}\n", "triton.cpp", counts=True))
    assert complaint(body, library=library) == ""
    total = counting.take(library).total()
    found = total.slots, total.longest_slots, total.wavefronts, total.sectors, total.barriers
    assert found == (slots, longest, wavefronts, sectors, barriers)
    assert counting.take(library).total() == counting.Count()


def test_lanes_that_meet_within_a_phase_are_counted_once_for_each_part():
    """A lane that is done with the first part is in the second before the others are: the parts are not mixed."""
    body = (
        "@%p2 bra A; add.u32 %r5, %r1, 1; A: shfl.sync.idx.b32 %r5, %r1, 0, 31, -1;@%p2 bra B; B: add.u32 %r5, %r1, 1;"
    )
    library = building.opened(building._library("k", HEAD + body + "ret;\n}\n", "triton.cpp", counts=True))
    assert complaint(body, library=library) == ""
    assert counting.take(library).total().slots == 22 + 2 * 5


def test_an_instruction_that_is_not_known_is_refused():
    with pytest.raises(ptx.Unknown, match="sin.approx.f32"):
        ptx.translate(HEAD + "sin.approx.f32 %r5, %r1;\n}\n")


def test_a_complaint_fails_the_launch(monkeypatch):
    """A kernel that reads its neighbour's memory: ranks beyond the pixels of a map."""
    resized = None
    with machine(90, trees=False), pytest.raises(Broken, match="_affine: outside of its memory"):
        resized = resizing.prepare(torch.rand(1, 8, 9, dtype=torch.float64), (8, 9))
        tiles = resized.tiles.clone()
        tiles[:, 0] += 10**6
        statistics.affine(
            type(resized)(**{**resized.__dict__, "tiles": tiles}), inputs.ranks(parse_all("ivr:0.5"), 8 * 9)
        )


def test_maps_per_second_follow_from_what_is_counted():
    """A row of the estimate, bounded by what it has most of, on a device with room for two of its blocks."""
    a_map = dict.fromkeys([each.name for each in fields(counting.Count)] + ["bytes_read", "bytes_written"], 0.0)
    a_map |= {"cycles": 1000.0, "longest_slots": 800.0, "barriers": 10.0, "doubles": 400.0}
    every = {device.architecture for device in device_cost.DEVICES}
    row = device_cost.Row("k", "", "", a_map, dict.fromkeys(every, 32), dict.fromkeys(every, 100 << 10), 1024)
    row.estimate()
    for device in device_cost.DEVICES:
        found = row.cycles[device.name]
        resident = 1 if device.name == "A100" else 2  # by shared memory
        assert found["resident blocks"] == resident
        assert found["latency"] == (800 * device_cost.ARITHMETIC / device_cost.OVERLAP + 300) / resident
        assert found["doubles"] == 200 * 32 / device.double_lanes
        assert row.bound(device.name) == max((found["latency"], "latency"), (1000, "issue"))


@pytest.mark.slow
def test_the_estimate_on_one_map(capsys):
    device_cost.main(["--by", "kernel", "--kind", "CAM-like 7x7", "--maps", "1"])
    assert "estimate" in capsys.readouterr().out

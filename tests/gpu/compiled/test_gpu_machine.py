"""What compiled device code runs on: how csrc/gpu/cuda.cu launches, and what machine.h notices of a broken kernel.

In: a runtime that writes down what it is asked; kernels in PTX. Out: its calls; the machine's complaints.
Source: none.
"""

import ctypes
from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from kept import emulated
from shared import stand_in

from tests.gpu.compiled import building

if building.missing():
    pytest.skip(f"compiled device code: {building.missing()}", allow_module_level=True)

from benchmarks import device_cost  # noqa: E402
from tests.gpu.compiled import counting, ptx  # noqa: E402
from wsolkern.ops.constants import CONTOURS  # noqa: E402

# How csrc/gpu/cuda.cu launches, told by a runtime that writes down what it is asked


@pytest.fixture(scope="module")
def launched():
    """A function that launches the trees for maps of a size on a device, and returns what the runtime was asked."""
    module = stand_in(building.launching())
    library = ctypes.CDLL(str(building.launching()))
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
    assert len(launches) == 3 and all(call.endswith("on device 1") for call in launches)
    assert [call for call in calls if call.startswith("set device")] == ["set device 1", "set device 0"]
    assert calls[0] == "set device 1" and calls[-1] == "set device 0"
    assert not [call for call in launched(16, device=0) if call.startswith("set device")]


def test_shared_memory_is_allowed_whatever_the_size_of_the_maps(launched):
    """Two threads launch for maps of two sizes: what one allows must not be too little for the other.

    A launch for what fits shared memory, and one for the maps that do not.
    """
    small, large = launched(16, device=0), launched(224, device=0)
    allowed = [call for call in small + large if call.startswith("allow")]
    assert allowed == ["allow 232448 bytes"] * 4
    first = [next(call for call in calls if call.startswith("launch")) for calls in (small, large)]
    assert first[0] != first[1]
    assert small[-1] == large[-1] and small[-1].startswith("launch")


def test_a_device_that_the_code_was_not_built_for_is_told(launched, monkeypatch):
    assert launched.module.fault(0) == ""
    monkeypatch.setenv("WSOLKERN_FAILING_CALL", "look at a kernel")
    assert launched.module.fault(1) == "no kernel image is available for execution on the device"
    with pytest.raises(RuntimeError, match="CUDA: no kernel image is available"):
        launched(16, device=1)


def test_every_stand_in_is_a_module_of_its_own(launched):
    """pybind11 gave the second one of a process the first one's functions: sm_80 was tested twice, and sm_90 never."""
    assert launched.module.works_on == "cuda" and stand_in(emulated()).works_on == "cpu"


# The machine itself: what it must notice

MODULE = """
.version 8.7
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 memory[];
"""
HEAD = """
.visible .entry kNUMBER(.param .u64 .ptr .global .align 1 parameter)
.maxntid 64
{
	.reg .pred %p<4>;
	.reg .b32 %r<9>;
	.reg .b64 %rd<9>;
	ld.param.u64 %rd1, [parameter];
	mov.u32 %r1, %tid.x;
	shl.b32 %r2, %r1, 2;
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd3, %rd1, %rd2;
	mov.u32 %r3, memory;
	add.s32 %r4, %r3, %r2;
	setp.lt.u32 %p1, %r1, 32;
	setp.eq.u32 %p2, %r1, 3;
"""


NOTICED = [
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
]  # fmt: skip
ADD, ADD_OF_A_BLOCK = "atom.global.gpu.add.u32 %r5, [%rd1], 1;", "atom.global.cta.add.u32 %r5, [%rd1], 1;"
STORE, LOOK = "st.global.u32 [%rd3], %r1;", "ld.global.u32 %r6, [%rd3];"
BODIES = [*(body for body, _ in NOTICED), ADD, ADD_OF_A_BLOCK, STORE, LOOK]


@cache
def kernels(bodies: tuple[str, ...], counts: bool = False) -> ctypes.CDLL:
    """All of them in one library: each would take g++ a second of its own."""
    code = "".join(f"{HEAD.replace('NUMBER', str(number))}{body}ret;\n}}\n" for number, body in enumerate(bodies))
    return building.opened(building._library("k", MODULE + code, "triton.cpp", counts=counts))


def complaint(
    body: str, *, num_blocks: int = 1, written: bool = True, most_accesses: int = 10**6, library=None, which: int = -1
) -> str:
    """What the machine says of a kernel with 256 bytes of shared and 256 of global memory and 64 threads a block."""
    if library is None:
        library, which = kernels(tuple(BODIES)), BODIES.index(body)
    library.configure(1, 16, -1, most_accesses, 1000)
    memory, flags = np.zeros(64 + 8, np.int32), np.zeros(256, np.uint8)
    begin = -(-memory.ctypes.data // 32) * 32  # whole sectors
    region = (ctypes.c_void_p * 3)(begin, begin + 256, None if written else flags.ctypes.data)
    parameters = (ctypes.c_uint64 * 1)(begin)
    return library.run(parameters, num_blocks, 1, ctypes.c_size_t(256), region, 1, which).decode()


@pytest.mark.parametrize(("body", "says"), NOTICED)
def test_what_the_machine_notices(body, says):
    found = complaint(body)
    assert (says in found) if says else (found == ""), found


def test_what_the_machine_notices_between_blocks_and_launches():
    assert complaint(ADD, num_blocks=2) == ""
    assert "race with another block" in complaint(ADD_OF_A_BLOCK, num_blocks=2)
    assert "race with another block" in complaint(STORE, num_blocks=2)
    assert complaint(LOOK, num_blocks=2) == ""
    assert "reads what nobody wrote" in complaint(LOOK, written=False)


# What a launch costs

COSTS = [  # each of its two warps executes HEAD's 9 instructions, one of which is 64 bits wide, and a return
    ("", 22, 11, 0, 0, 0),
    ("bar.sync 0; bar.sync 0;", 26, 13, 0, 0, 2),
    ("@%p2 bra A; add.u32 %r5, %r1, 1; A: add.u32 %r5, %r1, 2;", 28, 14, 0, 0, 0),  # one lane of a warp
    ("@%p1 bra A; add.u32 %r5, %r1, 1; A:", 25, 13, 0, 0, 0),  # the first warp as a whole
    ("st.shared.u32 [%r4], %r1;", 24, 12, 2, 0, 0),
    ("and.b32 %r5, %r1, 3; st.shared.u8 [%r5], 1;", 26, 13, 2, 0, 0),
    ("and.b32 %r5, %r1, 1; shl.b32 %r5, %r5, 7; st.shared.u32 [%r5], 1;", 28, 14, 4, 0, 0),  # two words of a bank
    ("ld.global.u32 %r5, [%rd3];", 24, 12, 0, 8, 0),
    ("ld.global.u32 %r5, [%rd1];", 24, 12, 0, 2, 0),
]  # fmt: skip
# A lane that is done with the first part is in the second before the others are.
TWO_PARTS = (
    "@%p2 bra A; add.u32 %r5, %r1, 1; A: shfl.sync.idx.b32 %r5, %r1, 0, 31, -1;@%p2 bra B; B: add.u32 %r5, %r1, 1;"
)
COUNTED = [*(body for body, *_ in COSTS), TWO_PARTS]


def cost(body: str) -> counting.Count:
    """What the kernel of :func:`complaint` costs, counted instead of checked."""
    library = kernels(tuple(COUNTED), counts=True)
    assert complaint(body, library=library, which=COUNTED.index(body)) == ""
    total = counting.take(library).total()
    assert counting.take(library).total() == counting.Count()
    return total


@pytest.mark.parametrize(("body", "slots", "longest", "wavefronts", "sectors", "barriers"), COSTS)
def test_what_a_launch_costs(body, slots, longest, wavefronts, sectors, barriers):
    found = cost(body)
    counted = found.slots, found.longest_slots, found.wavefronts, found.sectors, found.barriers
    assert counted == (slots, longest, wavefronts, sectors, barriers)


def test_lanes_that_meet_within_a_phase_are_counted_once_for_each_part():
    """The parts are not mixed."""
    assert cost(TWO_PARTS).slots == 22 + 2 * 5


def test_an_instruction_that_is_not_known_is_refused():
    with pytest.raises(ptx.Unknown, match="sin.approx.f32"):
        ptx.translate(MODULE + HEAD.replace("NUMBER", "0") + "sin.approx.f32 %r5, %r1;\n}\n")


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

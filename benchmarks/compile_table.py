"""Every GPU kernel compiled ahead of time for every architecture: `python -m benchmarks.compile_table [--json FILE]`.

In: nothing; no GPU is needed. Out: a table of registers, shared memory and spills, as text and as JSON.
Source: the launches of the pipeline itself, recorded instead of run, so that what is compiled is what is used; and the
CUDA extension as it is installed.
"""

import argparse
import json
import re
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import triton
from rich import box
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wsolkern import building
from wsolkern.normalization import parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS, inputs
from wsolkern.ops.gpu import cutting, histograms, launching, normalizing, resizing, statistics

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
SIZE = (224, 224)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.uint8: "u8",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One kernel on one architecture."""

    kernel: str
    variant: str
    """What it was compiled for, where that makes a difference."""
    architecture: int
    """Compute capability times ten."""
    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a block."""
    spill_bytes: int
    """Of a thread: its stack, which nothing but spills needs."""
    fused: int
    """Fused multiply-adds of float64 in a Triton kernel's PTX."""


@dataclass(frozen=True)
class Launch:
    """What the pipeline compiles a kernel for."""

    module: str
    kernel: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, object], ...]
    multiples: tuple[int, ...]
    """Which arguments are multiples of 16."""

    @property
    def variant(self) -> str:
        """Resized or not, what is read, and what else makes a difference."""
        constants, signature = dict(self.constants), dict(self.signature)
        what = [] if "IDENTITY" not in constants else [signature["source"][1:]]
        if what:
            what.append("as is" if constants["IDENTITY"] else "resized")
            what += ["8 bits"] if signature.get("bins") == "*u8" else []
        what += [f"up to {2 * constants['FIRST'] - 1} cuts"] if "FIRST" in constants else []
        flags = {"HAS_RANKS": "order statistics", "ARE_SCORES": "score maps"}
        return ", ".join(what + [text for name, text in flags.items() if constants.get(name)])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_table", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    parser.add_argument("--processes", type=int, default=2, help="compilers at a time (default: %(default)s)")
    arguments = parser.parse_args()
    rows = cuda_rows() + triton_rows(arguments.processes)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    show(rows)


def cuda_rows() -> list[Row]:
    """The kernels of the CUDA extension, of those architectures it was built for; none if it is not built."""
    try:
        file = building.built_cuda()
    except ImportError:
        return []
    of_8_bits, of_16_bits, otherwise = building.load_cuda().shared_memory(*SIZE)
    kinds = {  # part of a mangled name -> kernel, variant, shared bytes
        "evaluate_bytes_kernel": ("trees.evaluate_bytes_kernel", "in shared memory", of_8_bits),
        "evaluate_words_kernel": ("trees.evaluate_words_kernel", "in shared memory", of_16_bits),
        "evaluate_left_over_kernel": ("trees.evaluate_left_over_kernel", "in scratch memory", otherwise),
        "list_boxes_kernel": ("trees.list_boxes_kernel", "", otherwise),
        "add_sums_kernel": ("trees.add_sums_kernel", "", 0),
    }
    rows, parts = [], re.split(r"^arch = sm_(\d+)$", _resources(file), flags=re.MULTILINE)
    for architecture, text in zip(parts[1::2], parts[2::2], strict=True):
        for name, registers, stack in re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", text):
            kernel, variant, shared = next(kind for part, kind in kinds.items() if part in name)
            if int(architecture) in ARCHITECTURES:
                rows.append(Row(kernel, variant, int(architecture), int(registers), shared, int(stack), 0))
    return sorted(rows, key=lambda row: (row.kernel, row.variant))


def triton_rows(processes: int) -> list[Row]:
    """Every Triton kernel on every architecture, sorted by name."""
    launches = recorded_launches()
    work = [(launch, architecture) for architecture in ARCHITECTURES for launch in launches]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return sorted(pool.map(compiled, *zip(*work, strict=True)), key=lambda row: (row.kernel, row.variant))


def recorded_launches() -> list[Launch]:
    """The distinct launches of an evaluation and of the public operations."""
    found: dict[Launch, None] = {}

    def record(kernel, grid, *values, **constants):
        found[launch_of(kernel, values, constants)] = None

    rooms = resizing, statistics, normalizing, cutting, histograms
    for room in rooms:
        room.launch = record
    try:
        _pipeline()
    finally:
        for room in rooms:
            room.launch = launching.launch
    return list(found)


def launch_of(kernel, values, constants) -> Launch:
    """What Triton would compile for a launch with these arguments."""
    signature, multiples, constants = [], [], dict(constants)
    for index, (name, value) in enumerate(zip(kernel.arg_names, values, strict=False)):
        if isinstance(value, torch.Tensor):
            signature.append((name, "*" + TYPES[value.dtype]))
            multiples += [index] if value.data_ptr() % 16 == 0 else []
        elif value == 1:  # Triton makes it a constant
            signature.append((name, "constexpr"))
            constants[name] = 1
        else:
            signature.append((name, "i32"))
            multiples += [index] if value % 16 == 0 else []
    signature += [(name, "constexpr") for name in kernel.arg_names[len(values) :]]
    about = tuple(signature), tuple(sorted(constants.items())), tuple(multiples)
    return Launch(kernel.fn.__module__, kernel.fn.__name__, *about)


def _pipeline() -> None:
    """CAMs of 14 x 14 and maps that need no resize, one normalization and 24; without a device nothing of it runs."""
    many = parse_all("minmax max pas:0.9 ivr:0..0.95/0.05 ivr:0.45+pas:0.9")
    masks = torch.zeros(2, *SIZE, dtype=torch.uint8)
    edges = torch.from_numpy(np.append(DEFAULT_THRESHOLDS, 1.0))
    for shape in ((14, 14), SIZE):
        maps = torch.zeros(2, *shape)
        resizing.resize(maps, SIZE)
        resized = resizing.prepare(maps, SIZE)
        numbers = statistics.affine(resized, inputs.ranks(many, SIZE[0] * SIZE[1]))
        cutting.level_image(resized, numbers)
        cutting.level_image(resized, numbers[:, :1])
        histograms.pixel_histograms(resized, numbers, masks, edges, summed=True)
        normalizing.normalize(resized, numbers[:, 0])
        cutting.digitize(resized, numbers[:, :, 0])
    statistics.affine(resized, inputs.ranks(parse_all("minmax"), SIZE[0] * SIZE[1]))
    histograms.pixel_histograms(resized, None, masks, edges, summed=True)


def source_of(launch: Launch) -> ASTSource:
    """What Triton compiles."""
    return ASTSource(
        fn=getattr(import_module(launch.module), launch.kernel),
        signature=dict(launch.signature),
        constexprs=dict(launch.constants),
        attrs={(index,): [["tt.divisibility", 16]] for index in launch.multiples},
    )


def compiled(launch: Launch, architecture: int) -> Row:
    """Compile one kernel for one architecture, and read what it needs from the machine code."""
    result = triton.compile(
        source_of(launch), target=GPUTarget("cuda", architecture, 32), options=launching.options(launch.kernel)
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", _resources(file.name)).groups())
    fused = len(re.findall(r"\bfma\.rn\.f64", result.asm["ptx"]))
    name = f"{launch.module.rpartition('.')[2]}.{launch.kernel}"
    return Row(name, launch.variant, architecture, registers, result.metadata.shared, stack, fused)


def _resources(path: str) -> str:
    """What cuobjdump says of the kernels in a file."""
    return subprocess.run([CUOBJDUMP, "-res-usage", path], capture_output=True, text=True, check=True).stdout


def show(rows: list[Row]) -> None:
    """Print a line for each kernel and variant: registers, shared bytes and spilled bytes per architecture."""
    table = Table("kernel", "variant", box=box.SIMPLE, title="registers / shared bytes / spilled bytes")
    for architecture in ARCHITECTURES:
        table.add_column(f"sm_{architecture}", justify="right")
    by_kernel: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        by_kernel.setdefault((row.kernel, row.variant), {})[row.architecture] = row
    for (kernel, variant), per_architecture in by_kernel.items():
        found = (per_architecture.get(architecture) for architecture in ARCHITECTURES)
        cells = (f"{row.registers}/{row.shared_bytes}/{row.spill_bytes}" if row else "" for row in found)
        table.add_row(kernel, variant, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

"""What a map costs on a device, counted without one: `python -m benchmarks.device_cost`; an **estimate**.

In: the kernels, as nvcc and Triton compile them, run on the host by tests/gpu/compiled. Out: issue cycles, barriers,
wavefronts of shared memory and bytes a map by kernel, and the maps a second that follow for A100, H100, H200 and B200;
with ``--by``, the trees by kernel, file, line or phase. Where there is a device, what it needs stands beside it.
Source: tests/gpu/compiled/counting.h for what is counted; NVIDIA's data sheets and white papers of A100 (2020), H100
(2022), H200 (2023) and B200 (2024); CUDA C++ Programming Guide, tables "Throughput of Native Arithmetic Instructions"
and "Technical Specifications per Compute Capability".

The time that one map takes of a multiprocessor, in cycles, is the sum over the kernels of the largest of

- issue: issue cycles, an instruction a cycle for each of four schedulers, the busiest of them in each phase;
- integers, doubles: 32 lanes a warp over the units of a multiprocessor (64 for integers; float64 by device);
- wavefronts of shared memory, one a cycle;
- latency: what the slowest warp of each phase waits for, over as many blocks as are resident. A dependent instruction
  comes after 4 cycles, a word of shared memory after 30, one of global memory after 40 if L1 has it (counting.h says
  when) and else after 300, and OVERLAP of them are under way at a time; a barrier takes 30. Nothing waits for a write,
  nor for an atomic update whose result nobody reads. These are assumptions near what others have measured (Luo et al.,
  arXiv 2402.13499: about 30 cycles for shared memory, 40 for L1, 260 for L2), not measurements of these kernels;
- memory: distinct sectors of 32 bytes of each launch over the share of the bandwidth, as if no cache outlived a launch.

maps/s = multiprocessors * clock / that sum: no launch is waited for, and no multiprocessor is ever idle. The clock is
the one that the data sheet's float32 rate implies; under load it may be lower.
"""

import argparse
import json
import re
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks import compile_table, harness, inputs
from benchmarks.cpu_rows import IOU_THRESHOLDS, MANY, ONE
from tests.gpu.compiled import building, counting
from tests.gpu.compiled.running import machine
from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops.gpu import cutting, histograms, launching, resizing, statistics, trees

SIZE = (224, 224)
MOST = 32767  # a rank that no level reaches
ARITHMETIC, SHARED, NEAR, FAR, BARRIER, OVERLAP = 4, 30, 40, 300, 30, 2  # cycles; see above
INTEGER_LANES = 64
THREADS, REGISTERS, MOST_BLOCKS, RESERVED = 2048, 65536, 32, 1024  # of a multiprocessor; bytes that a block takes more


@dataclass(frozen=True)
class Device:
    """What the estimate knows of a device."""

    name: str
    architecture: int
    """Compute capability times ten."""
    multiprocessors: int
    clock: float
    """Hz."""
    bandwidth: float
    """Bytes a second."""
    double_lanes: int
    """Of float64, of a multiprocessor."""
    shared_bytes: int
    """Of a multiprocessor."""


DEVICES = (
    Device("A100", 80, 108, 1.41e9, 2.039e12, 32, 164 << 10),
    Device("H100", 90, 132, 1.98e9, 3.35e12, 64, 228 << 10),
    Device("H200", 90, 132, 1.98e9, 4.8e12, 64, 228 << 10),
    Device("B200", 100, 148, 1.98e9, 8e12, 64, 228 << 10),
)


@dataclass
class Row:
    """What one kernel costs; every number is an estimate."""

    kernel: str
    work: str
    kind: str
    a_map: dict[str, float]
    """What counting.Count has, and blocks, bytes_read and bytes_written."""
    registers: dict[int, int]
    """Of a thread, by architecture; so below."""
    shared: dict[int, int]
    """Bytes of a block."""
    threads: int
    """Of a block."""
    cycles: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of a multiprocessor for one map, by device and what bounds them."""

    def estimate(self) -> None:
        """Fills in the cycles."""
        for device in DEVICES:
            registers = -(-self.registers[device.architecture] // 8) * 8
            resident = min(
                THREADS // self.threads,
                REGISTERS // (registers * self.threads),
                device.shared_bytes // (self.shared[device.architecture] + RESERVED),
                MOST_BLOCKS,
            )
            a_map = self.a_map
            waiting = ARITHMETIC * a_map["longest_slots"] + SHARED * a_map["longest_shared"]
            waiting += NEAR * a_map["longest_near"] + FAR * a_map["longest_far"]
            waiting = waiting / OVERLAP + BARRIER * a_map["barriers"]
            bytes_a_cycle = device.bandwidth / device.clock / device.multiprocessors
            self.cycles[device.name] = {
                "issue": a_map["cycles"],
                "integers": a_map["integers"] * 32 / INTEGER_LANES,
                "doubles": a_map["doubles"] / 2 * 32 / device.double_lanes,  # of which ptx.py counts two slots each
                "wavefronts": a_map["wavefronts"],
                "latency": waiting / max(resident, 1),
                "memory": (a_map["bytes_read"] + a_map["bytes_written"]) / bytes_a_cycle,
                "resident blocks": resident,
            }

    def bound(self, device: str) -> tuple[float, str]:
        """Cycles, and what they are for."""
        found = {name: each for name, each in self.cycles[device].items() if name != "resident blocks"}
        return max((each, name) for name, each in found.items())


def main(arguments: "list[str] | None" = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--by", choices=("kernel", "file", "line", "phase"), help="the parts of one kernel")
    parser.add_argument("--kernel", default="trees", help="with --by: which, such as _affine (default: %(default)s)")
    parser.add_argument("--kind", default="demo 14x14", help='such as "white noise" (default: %(default)s)')
    parser.add_argument("--maps", type=int, default=12, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--contours", choices=("all", "largest", "both"), default="all", help="all: V2; both: V1 too")
    parser.add_argument("--many", action="store_true", help=f"with --by: {len(MANY)} normalizations rather than one")
    parser.add_argument("--architecture", type=int, default=90, metavar="90")
    parser.add_argument("--csrc", type=Path, default=building.CSRC, help="other sources than this checkout's")
    parser.add_argument("--save", nargs="?", type=Path, const=harness.RESULTS, metavar="FOLDER", help="write a JSON")
    parser.add_argument("--measure", action="store_true", help="only times on this device, beside the saved estimate")
    options = parser.parse_args(arguments)
    if options.measure:
        if not torch.cuda.is_available():
            raise SystemExit("nothing to measure: PyTorch finds no CUDA device")
        compare(measured(maps_of(options.kind, options.maps)), saved_estimate(), torch.cuda.get_device_name())
        return
    if missing := building.missing():
        raise SystemExit(f"compiled device code: {missing}")
    if options.by:
        kind, normalizations = maps_of(options.kind, options.maps), MANY if options.many else ONE
        if options.kernel == "trees":
            counts = cost_of_trees(kind, normalizations, options.contours, options.architecture, options.csrc)
        else:
            counts = cost_of_triton(kind, normalizations, options.architecture).get(options.kernel)
        if counts is None:
            parser.error(f"--kernel: nothing launches {options.kernel}")
        title = f"estimate, a map: {options.kernel}, {options.kind}, {len(normalizations)} norm."
        title += f", contours {options.contours}" * (options.kernel == "trees")
        show(counts, options.by, len(kind.cams), title)
        return
    rows = []
    for name, number in ((options.kind, options.maps), ("white noise", 1), ("4-level noise", 1)):
        if name != options.kind or not rows:
            rows += rows_of(maps_of(name, number), options.architecture, options.csrc)
    rates = show_estimate(rows)
    if options.save:
        about = harness.describe()
        results = {"machine": about, "is_estimate": True, "devices": [asdict(each) for each in DEVICES]}
        results |= {"maps_per_second": rates, "rows": [asdict(row) for row in rows]}
        if torch.cuda.is_available():
            results["measured"] = measured(maps_of(options.kind, options.maps))
        print(f"written: {harness.save(results, 'device-cost-estimate', options.save)}")
    elif torch.cuda.is_available():
        print(json.dumps(measured(maps_of(options.kind, options.maps)), indent=1))


def rows_of(kind: inputs.Inputs, architecture: int, csrc: Path = building.CSRC) -> list[Row]:
    """What every kernel costs for maps of a kind, with one normalization and with many."""
    num_maps, rows = len(kind.cams), []
    for names in (ONE, MANY):
        work, launches = f"{len(names)} norm.", {}
        for kernel, counts in cost_of_triton(kind, names, architecture, launches).items():
            threads = 32 * launching.options(kernel)["num_warps"]
            rows.append(_row(kernel, work, kind.name, counts, num_maps, _of_triton(launches[kernel]), threads))
        for contours, name in (("all", "trees, V2"), ("both", "trees, V1 and V2")):
            counts = cost_of_trees(kind, names, contours, architecture, csrc)
            rows.append(_row(name, work, kind.name, counts, num_maps, *_of_trees(counts, csrc)))
    return rows


def cost_of_triton(
    kind: inputs.Inputs, normalizations: tuple[str, ...], architecture: int, launches: "dict | None" = None
) -> dict[str, counting.Counts]:
    """CAMs to level images and to histograms, by kernel; ``launches`` gets what each was compiled for."""
    cams, masks = (torch.from_numpy(np.ascontiguousarray(each)) for each in (kind.cams, kind.masks()))
    edges = torch.from_numpy(np.append(ops.DEFAULT_THRESHOLDS, 1.0))
    with machine(architecture, counts=True, trees=False) as made:
        resized = resizing.prepare(cams, SIZE)
        affines = statistics.affine(resized, ops.inputs.ranks(parse_all(normalizations), SIZE[0] * SIZE[1]))
        cutting.level_image(resized, affines)
        histograms.pixel_histograms(resized, affines, masks, edges, summed=True)
        if launches is not None:
            launches |= {launch.kernel: launch for launch in made.libraries}
        return {launch.kernel: counting.take(library) for launch, library in made.libraries.items()}


def _row(kernel: str, work: str, kind: str, counts: counting.Counts, num_maps: int, resources: dict, threads: int):
    moved = {"bytes_read": counts.bytes_read, "bytes_written": counts.bytes_written, "blocks": counts.num_blocks}
    a_map = asdict(counts.total() / num_maps) | {name: each / num_maps for name, each in moved.items()}
    registers, shared = ({each: of[which] for each, of in resources.items()} for which in (0, 1))
    row = Row(kernel, work, kind, a_map, registers, shared, threads)
    row.estimate()
    return row


def _of_triton(launch: compile_table.Launch) -> dict[int, tuple[int, int]]:
    """Registers and shared bytes by architecture."""
    found = {}
    for architecture in {device.architecture for device in DEVICES}:
        row = compile_table.compiled(launch, architecture)
        found[architecture] = row.registers, row.shared_bytes
    return found


def _of_trees(counts: counting.Counts, csrc: Path) -> tuple[dict[int, tuple[int, int]], int]:
    """The same of the kernel that most of the work was done in, and the threads of a block."""
    kernels = ("evaluate_bytes_kernel", "evaluate_words_kernel", "evaluate_left_over_kernel")  # in the module's order
    slots = {kernel: count.slots for kernel, count in counts.by("kernel").items()}
    kernel = max(kernels, key=lambda each: slots.get(each, 0))
    with machine(90, counts=True, csrc=csrc):
        shared = ops.backends.device_module().shared_memory(*SIZE)[kernels.index(kernel)]
    found = {}
    for architecture in {device.architecture for device in DEVICES}:
        usage = subprocess.run(
            [compile_table.CUOBJDUMP, "-res-usage", building.cubin(architecture, csrc)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found[architecture] = int(re.search(rf"{kernel}\S+\s+REG:(\d+)", usage)[1]), shared
    bound = re.search(rf"\.entry \S*{kernel}.*?\.maxntid (\d+)", building.cuda_ptx(90, csrc).read_text(), re.DOTALL)
    return found, int(bound[1])


CHAINS = "V2", "V1 and V2"  # an evaluation launches the trees of one of them, and all else but histograms


def show_estimate(rows: list[Row]) -> list[dict]:
    """Prints a line a kernel, then the maps a second of each chain, and returns these."""
    print("ESTIMATE, a map, from instructions counted on the host; nothing of it was measured on a device")
    columns = ("cycles", "integers", "doubles", "wavefronts", "sectors", "barriers")
    bounds = "".join(f"{device.name + ' by':>24}" for device in DEVICES)
    print(f"{'kernel':18}{'':9}{'maps':15}" + "".join(f"{each:>12}" for each in columns) + f"{'bytes':>10}{bounds}")
    for row in rows:
        cells = "".join(f"{row.a_map[each]:12,.0f}" for each in columns)
        moved = row.a_map["bytes_read"] + row.a_map["bytes_written"]
        each = (row.bound(device.name) for device in DEVICES)
        cells += f"{moved:10,.0f}" + "".join(f"{cycles:13,.0f} {what:>10}" for cycles, what in each)
        print(f"{row.kernel:18}{row.work:9}{row.kind:15}{cells}")
    found = []
    print("\nESTIMATE, maps a second, CAMs to counts" + "".join(f"{device.name:>12}" for device in DEVICES))
    for kind, work in dict.fromkeys((row.kind, row.work) for row in rows):
        for name in CHAINS:
            others = ["_count_scores", *(f"trees, {each}" for each in CHAINS if each != name)]
            chain = [row for row in rows if (row.kind, row.work) == (kind, work) and row.kernel not in others]
            of = {d.name: d.multiprocessors * d.clock / sum(row.bound(d.name)[0] for row in chain) for d in DEVICES}
            print(f"{kind:15} {name:10} {work:12}" + "".join(f"{each:12,.0f}" for each in of.values()))
            found.append({"kind": kind, "work": f"{name}, {work}", "maps_per_second": of})
    return found


def saved_estimate(folder: Path = harness.RESULTS) -> list[dict]:
    """The rows of the newest estimate; none if there is none."""
    files = sorted(folder.glob("*-device-cost-estimate-*.json"))
    return json.loads(files[-1].read_text())["rows"] if files else []


def compare(measured: dict[str, float], rows: list[dict], device: str) -> None:
    """Prints microseconds a map of the whole device: measured, and as estimated for a device of that name."""
    known = next((each for each in DEVICES if each.name in device), None)
    print(f"{device}: us a map{'':22}{'measured':>12}{'ESTIMATE':>12}")
    for name, seconds in measured.items():
        kernel, _, work = name.rpartition(", ")
        row = next((r for r in rows if (r["kernel"], r["work"], r["kind"][:4]) == (kernel, work, "demo")), None)
        estimate = ""
        if row and known:
            cycles = max(each for what, each in row["cycles"][known.name].items() if what != "resident blocks")
            estimate = f"{cycles / known.clock / known.multiprocessors * 1e6:.3f}"
        print(f"{name:40}{seconds * 1e6:12.3f}{estimate:>12}")


def measured(kind: inputs.Inputs, repeats: int = 20, batch: int = 1056) -> dict[str, float]:
    """Seconds a map of each stage on the device that is at hand, medians between CUDA events."""
    many = -(-batch // len(kind.cams))
    cams = torch.from_numpy(np.concatenate([kind.cams] * many)[:batch]).cuda()
    boxes = (kind.boxes * many)[:batch]
    rows, offsets = (torch.from_numpy(each).cuda() for each in ops.inputs.check_boxes(boxes, batch))
    axes = [torch.from_numpy(np.array(each)).cuda() for each in (ops.DEFAULT_THRESHOLDS, IOU_THRESHOLDS)]
    found = {}

    def timed(name, call):
        result, times = call(), []
        for _ in range(repeats):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1000 / batch)
        found[name] = float(np.median(times))
        return result

    for names in (ONE, MANY):
        work, ranks_of = f"{len(names)} norm.", ops.inputs.ranks(parse_all(names), SIZE[0] * SIZE[1])
        resized = timed(f"_widen_rows, {work}", lambda: resizing.prepare(cams, SIZE))
        affines = timed(f"_affine, {work}", lambda r=resized, k=ranks_of: statistics.affine(r, k))
        images, ranks = timed(f"_level_image, {work}", lambda r=resized, a=affines: cutting.level_image(r, a))
        for contours, name in (("all", "V2"), ("both", "V1 and V2")):
            given = (images, 255 * len(names), rows, offsets, *axes, contours)
            how = {"ranks": ranks, "affines": affines, "summed": True}
            timed(f"trees, {name}, {work}", lambda given=given, how=how: trees.box_hits(*given, **how))
    return found


def maps_of(name: str, number: int) -> inputs.Inputs:
    """Some maps of a kind, from all over it."""
    kinds = inputs.demo()[0] if name.startswith("demo") else inputs.synthetic(np.random.default_rng(0), number)
    kind = next(each for each in kinds if each.name == name)
    chosen = np.linspace(0, len(kind.cams) - 1, number).astype(int)
    return inputs.Inputs(name, kind.cams[chosen], [kind.boxes[each] for each in chosen])


def cost_of_trees(
    kind: inputs.Inputs, normalizations: tuple[str, ...], contours: str, architecture: int, csrc: Path = building.CSRC
) -> counting.Counts:
    """Level images to hits; the hits are those of the CPU engine, or it is an error."""
    f = ops.resize(kind.cams, SIZE, backend="cpu")
    levels = np.stack([(ops.normalize(f, each, backend="cpu") * 255).astype(np.uint8) for each in normalizations], 1)
    bins = levels[:, 0] if len(normalizations) == 1 else levels.sum(axis=1, dtype=np.int16)
    ranks = np.full((*levels.shape[:2], 255), MOST, np.int16)
    for n, m in np.ndindex(*levels.shape[:2]):
        order = np.argsort(levels[n, m], axis=None)
        begins = np.searchsorted(levels[n, m].ravel()[order], np.arange(255), side="right")
        lowest = np.minimum.accumulate(bins[n].ravel()[order][::-1])[::-1]
        ranks[n, m, begins < order.size] = lowest[begins[begins < order.size]]
    images, ranks = torch.from_numpy(np.ascontiguousarray(bins)), torch.from_numpy(ranks)
    rows, offsets = (torch.from_numpy(each) for each in ops.inputs.check_boxes(kind.boxes, len(bins)))
    axes = torch.from_numpy(np.array(ops.DEFAULT_THRESHOLDS)), torch.from_numpy(IOU_THRESHOLDS)
    affines = torch.from_numpy(ops.affine(f, normalizations, backend="cpu"))
    with machine(architecture, counts=True, csrc=csrc) as made:
        found = trees.box_hits(
            images, 255 * len(normalizations), rows, offsets, *axes, contours, ranks=ranks, affines=affines, summed=True
        )
        counts = counting.take(made.libraries["trees"])
    how = {"iou_thresholds": IOU_THRESHOLDS, "contours": contours, "size": SIZE, "backend": "cpu"}
    wanted, _ = ops.count_box_hits(kind.cams, kind.boxes, normalizations, **how)
    np.testing.assert_array_equal(found.numpy(), wanted if contours == "both" else wanted[None])
    return counts


COLUMNS = {
    "cycles": "issue cycles", "slots": "issue slots", "barriers": "barriers", "wavefronts": "wavefronts",
    "shared_requests": "of requests", "sectors": "sectors", "global_requests": "of requests", "doubles": "float64",
}  # fmt: skip


def show(counts: counting.Counts, by: str, num_maps: int, title: str) -> None:
    """A line a part, and one for all of it."""
    whole = counts.total()
    several = len({kernel for kernel, _ in counts.lines}) > 1 or by == "kernel"
    print(f"{title}\n{by:40}      %" + "".join(f"{each:>13}" for each in [*COLUMNS.values(), "lanes used"]))
    for name, count in [*counts.by(by).items(), ("all", whole)]:
        a_map = asdict(count / num_maps)
        lanes = f"{count.lanes / count.slots / 32:.0%}" if count.lanes else ""
        cells = [*(f"{a_map[each]:,.0f}" for each in COLUMNS), lanes]
        name = name if several else name.rpartition(" ")[2]
        print(f"{name[:40]:40}{count.cycles / whole.cycles:7.1%}" + "".join(f"{each:>13}" for each in cells))
    print(
        f"{counts.num_blocks} blocks in {counts.num_launches} launches; distinct bytes a map: "
        f"{counts.bytes_read / num_maps:,.0f} read, {counts.bytes_written / num_maps:,.0f} written"
    )


if __name__ == "__main__":
    main()

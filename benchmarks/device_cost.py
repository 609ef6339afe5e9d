"""What a map costs on a device, counted without one: `python -m benchmarks.device_cost`.

In: the kernels, as nvcc and Triton compile them, run on the host by tests/gpu/compiled. Out: an **estimate**: issue
cycles, barriers, wavefronts of shared memory and bytes a map, by kernel, file, line or phase.
Source: tests/gpu/compiled/counting.h for what is counted.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from benchmarks import inputs
from benchmarks.cpu_rows import IOU_THRESHOLDS, MANY, ONE
from tests.gpu.compiled import building, counting
from tests.gpu.compiled.running import machine
from wsolkern import ops
from wsolkern.ops.gpu import trees

SIZE = (224, 224)
MOST = 32767  # a rank that no level reaches


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", choices=("trees",), default="trees")
    parser.add_argument("--by", choices=("kernel", "file", "line", "phase"), default="phase")
    parser.add_argument(
        "--kind", default="demo 14x14", help='kind of maps, such as "white noise" (default: %(default)s)'
    )
    parser.add_argument("--maps", type=int, default=12, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--contours", choices=("all", "largest", "both"), default="all", help="all: V2; both: V1 too")
    parser.add_argument("--many", action="store_true", help=f"{len(MANY)} normalizations rather than one")
    parser.add_argument("--architecture", type=int, default=90, metavar="90")
    parser.add_argument("--csrc", type=Path, default=building.CSRC, help="other sources than this checkout's")
    arguments = parser.parse_args()
    if missing := building.missing():
        raise SystemExit(f"compiled device code: {missing}")
    kind = maps_of(arguments.kind, arguments.maps)
    normalizations = MANY if arguments.many else ONE
    counts = cost_of_trees(kind, normalizations, arguments.contours, arguments.architecture, arguments.csrc)
    title = f"estimate, a map: trees, {arguments.kind}, {arguments.contours}, {len(normalizations)} norm."
    show(counts, arguments.by, len(kind.cams), title)


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

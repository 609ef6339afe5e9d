"""A sweep by one process and by several of one thread each: `python -m benchmarks.processes --metadata CUB/test`.

In: a metadata folder with real boxes, a number of processes. Out: seconds of each, in turn, and their median ratio,
after their figures were equal. Seconds go from the study's first check to its last sum, without starting Python.
Source: the peer is the same command in one process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.cpu_rows import MANY
from benchmarks.harness import WrongResult
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", required=True, help="metadata folder with real boxes, such as CUB/test")
    parser.add_argument("--processes", type=int, default=2, help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of one process and several (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
        store = write_store(arguments.metadata, Path(scratch, "store"))
        command = ["-m", "wsolkern", "sweep", store, "--metadata", arguments.metadata, "--threads", "1"]
        command += ["-n", " ".join(MANY), "--json", "-"]
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(arguments.processes)]
        ratios = []
        try:
            for _ in range(arguments.rounds):
                one, many = seconds([*command]), seconds([*several, *command])
                if one[1] != many[1]:
                    raise WrongResult("several processes: their figures are not those of one")
                ratios.append(one[0] / many[0])
                print(
                    f"one process {one[0]:.2f} s, {arguments.processes} {many[0]:.2f} s: {ratios[-1]:.2f} times as fast"
                )
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
    print(f"median {statistics.median(ratios):.2f}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def write_store(metadata: str, path: Path) -> str:
    """CAM-like maps of a split's images."""
    split = load_metadata(metadata)
    boxes, rng = split.resized_boxes(inputs.SIZE), np.random.default_rng(0)
    with CamWriter(path, Manifest(), maps_per_shard=512) as writer:
        for start in range(0, len(split.image_ids), 64):
            some = split.image_ids[start : start + 64]
            writer.add(some, inputs.cam_like(rng, [boxes[each] for each in some], 14).astype(np.float32))
    return str(path)


def seconds(command: list[str]) -> tuple[float, dict]:
    """What the sweep took, and its JSON without that."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found.pop("seconds"), found


if __name__ == "__main__":
    sys.exit(main())

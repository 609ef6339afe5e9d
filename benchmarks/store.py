"""CAM stores and sweeps: `python -m benchmarks.store --metadata ILSVRC/test`.

In: a metadata folder with real boxes, a number of maps. Out: rate, memory and reading share of `wsolkern sweep` with 24
normalizations on one core, what one more normalization costs, what writing costs next to a classifier's forward pass,
and how fast a store of a million maps opens and streams; each after its figures were equal.
Source: the peers are benchmarks/published.py and benchmarks/levels.py, through benchmarks/measure.py.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import inputs, machine
from benchmarks.__main__ import COUNTS, RESULTS, use_cores
from benchmarks.measure import MANY, WrongResult, batch_seconds, box_row
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets import load_metadata
from wsolkern.ops import count_box_hits
from wsolkern.studies.counting import count_maps, evaluator_for

BATCH = 64  # maps, as the commands read and the extraction writes them
NUM_SWEPT = (4, 14, 24, 34, 44)  # normalizations, for what one more costs
PAIRS = 9

# A process of its own for figures that must not see this one's memory: argv[1:] is its command.
CHILD = """
import json, sys
exec(sys.argv[1])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss would count the parent's, too
print(json.dumps({"peak_bytes": int(status["VmHWM"].split()[0]) * 1024, **found}))
"""
SWEEP = """
from wsolkern.cli import app
try:
    app(sys.argv[2:], standalone_mode=False)
except SystemExit as end:
    assert not end.code, end.code
found = {}
"""
STREAM = """
import time
from wsolkern.cams import CamStore
begun = time.perf_counter()
store = CamStore(sys.argv[2])
opened = time.perf_counter()
num_maps = sum(len(part.image_ids) for part in store.records())
assert not store.problems and num_maps == store.num_maps
found = {"open_seconds": opened - begun, "stream_seconds": time.perf_counter() - opened, "num_maps": num_maps}
"""


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", required=True, help="metadata folder with real boxes, such as ILSVRC/test")
    parser.add_argument("--maps", type=int, default=50_000, help="CAMs in the store (default: %(default)s)")
    parser.add_argument("--million", type=int, default=1_000_000, help="maps of the large store (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(machine.ROOT)}")
    arguments = parser.parse_args()
    progress = Console(stderr=True, highlight=False)
    results = {"machine": machine.describe(), "options": vars(arguments) | {"metadata": None}}
    use_cores(sorted(os.sched_getaffinity(0))[-1:])
    try:
        with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
            for name, measure in (
                ("ops", lambda: measure_ops(arguments)),
                ("sweep", lambda: measure_sweep(arguments, Path(scratch))),
                ("writing", lambda: measure_writing(Path(scratch))),
                ("million", lambda: measure_million(arguments.million, Path(scratch))),
            ):
                progress.print(f"measuring {name}")
                results[name] = measure()
    except WrongResult as error:
        progress.print(f"WRONG RESULT: {error}", style="red")
        return 1
    show(results)
    if arguments.save:
        stamp = results["machine"]["date"].replace(":", "").replace("+0000", "Z")
        path = RESULTS / f"{stamp}-store.json"
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written: {path}")
    return 0


def measure_ops(arguments: argparse.Namespace) -> list[dict]:
    """24 normalizations of a CAM beside the published loop, and what one more normalization costs."""
    rng = np.random.default_rng(arguments.seed)
    boxes = inputs.real_boxes(arguments.metadata, 128, rng)
    kinds = [inputs.Inputs(f"CAM-like {side}x{side}", inputs.cam_like(rng, boxes, side), boxes) for side in (7, 14, 28)]
    found = []
    for kind in [*inputs.demo()[0], *kinds]:
        row = asdict(box_row(f"{COUNTS}, {len(MANY)} norm.", kind, MANY))
        found.append(row | {"us_per_normalization": slope(kind)})
    return found


def slope(kind: inputs.Inputs) -> float:
    """Microseconds a CAM that one more normalization costs: a straight line through NUM_SWEPT, rounds taken in turn."""

    def seconds(number: int) -> float:
        names = [*MANY[:3], *(f"ivr:{index / number:.4f}" for index in range(number - 3))]
        start = time.perf_counter()
        count_box_hits(kind.cams, kind.boxes, names, contours="both", size=inputs.SIZE)
        return time.perf_counter() - start

    rounds = [[seconds(number) for number in NUM_SWEPT] for _ in range(PAIRS + 1)][1:]  # the first warms up
    per_map = np.median(rounds, axis=0) / len(kind.cams) * 1e6
    return float(np.polyfit(NUM_SWEPT, per_map, 1)[0])


def measure_sweep(arguments: argparse.Namespace, scratch: Path) -> dict:
    """`wsolkern sweep` over a store of CAM-like maps with real boxes, and how much of it is reading."""
    split = load_metadata(arguments.metadata)
    image_ids = split.image_ids[: arguments.maps]
    boxes = split.resized_boxes(inputs.SIZE)
    rng = np.random.default_rng(arguments.seed)
    store = scratch / "store"
    with CamWriter(store, Manifest(dataset="ILSVRC", split="test", method="CAM")) as writer:
        for start in range(0, len(image_ids), BATCH):
            some = image_ids[start : start + BATCH]
            writer.add(some, inputs.cam_like(rng, [boxes[each] for each in some], 14).astype(np.float32))

    check(split, store, image_ids[:40])
    results = scratch / "sweep.json"
    options = [str(store), "--metadata", arguments.metadata, "--threads", "1", "--json", str(results), "-n"]
    options += [" ".join(MANY), "--allow-missing", "--resume", str(scratch / "state")]
    whole = child(SWEEP, "sweep", *options)
    found = json.loads(results.read_text())
    if found["num_images"] != len(image_ids):
        raise WrongResult(f"sweep: {found['num_images']} images counted of {len(image_ids)}")
    reading = child(STREAM, str(store))
    return {
        "num_maps": len(image_ids),
        "num_normalizations": len(MANY),
        "sweep_seconds": found["seconds"],
        "cams_per_second": len(image_ids) / found["seconds"],
        "peak_bytes": whole["peak_bytes"],
        "reading_seconds": reading["stream_seconds"],
        "reading_share": reading["stream_seconds"] / found["seconds"],
    }


def check(split, store: Path, image_ids: tuple[str, ...]) -> None:
    """A sweep's counts are those of single evaluations, one normalization and one map at a time."""
    swept = evaluator_for(split, MANY)
    count_maps(swept, CamStore(store).source(image_ids))
    for row, name in enumerate(MANY):
        single = evaluator_for(split, [name])
        for image_id in image_ids:
            single.update(CamStore(store).read(image_id)[None], [image_id])
        if not np.array_equal(single.num_correct[:, 0], swept.num_correct[:, row]):
            raise WrongResult(f"sweep: the counts of {name} differ from those of a single evaluation")


def measure_writing(scratch: Path) -> dict:
    """Writing a map with its NWC twin and logits, next to EfficientNet-Lite0's forward pass for it."""
    from wsolkern.demo import load_crops
    from wsolkern.models import EfficientNetLite0

    model, pixels = EfficientNetLite0(), load_crops()[0].pixels(448)[None]
    forward = batch_seconds(lambda: model.features(pixels))
    cams = np.random.default_rng(0).standard_normal((BATCH, 14, 14), np.float32)
    logits, number = np.zeros((BATCH, 1000), np.float32), 0
    with CamWriter(scratch / "written", Manifest(nwc=True)) as writer:

        def write() -> None:
            nonlocal number
            ids = [f"class/{number + index:08d}.jpg" for index in range(BATCH)]
            number += BATCH
            writer.add(ids, cams, nwc_cams=cams, classes=np.zeros(BATCH, int), logits=logits)
            if number % 1024 == 0:
                writer.flush()

        start = time.perf_counter()
        while number < 20 * 1024:
            write()
        seconds = (time.perf_counter() - start) / number
    return {"forward_seconds": forward, "write_seconds": seconds, "write_share": seconds / forward}


def measure_million(num_maps: int, scratch: Path) -> dict:
    """Opening a large store and streaming it with checksums, in a process of its own."""
    cams = np.random.default_rng(0).standard_normal((1024, 14, 14), np.float32)
    with CamWriter(scratch / "large", Manifest()) as writer:
        for start in range(0, num_maps, 1024):
            some = min(1024, num_maps - start)
            writer.add([f"val/ILSVRC2012_val_{start + index:08d}.JPEG" for index in range(some)], cams[:some])
    return child(STREAM, str(scratch / "large"))


def child(program: str, *arguments: str) -> dict:
    """What the program finds, with the most memory of its process."""
    run = subprocess.run([sys.executable, "-c", CHILD, program, *arguments], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def show(results: dict) -> None:
    """Prints a run."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    about = results["machine"]
    console.print(f"{about['cpu']}, one core, {about['date']}")
    for row in results["ops"]:
        console.print(
            f"{row['work']}, {row['kind']}: {row['ms']:.3f} ms, {1e3 / row['ms']:,.0f} CAMs/s; published loop "
            f"{row['published_ms']:,.0f} ms ({row['published_ms'] / row['ms']:,.0f}x), OpenCV's 255 levels "
            f"{row['levels_ms']:,.0f} ms; one more normalization {row['us_per_normalization']:.1f} us"
        )
    sweep = results["sweep"]
    console.print(
        f"wsolkern sweep, {sweep['num_maps']:,} CAM-like 14x14 CAMs, {sweep['num_normalizations']} normalizations: "
        f"{sweep['sweep_seconds']:.1f} s, {sweep['cams_per_second']:,.0f} CAMs/s, peak memory "
        f"{sweep['peak_bytes'] / 1e6:.0f} MB; reading alone {sweep['reading_seconds']:.2f} s, "
        f"{sweep['reading_share']:.1%} of it"
    )
    writing = results["writing"]
    console.print(
        f"writing {writing['write_seconds'] * 1e6:.0f} us a map, {writing['write_share']:.2%} of EfficientNet-Lite0's "
        f"forward pass at 448 pixels ({writing['forward_seconds'] * 1e3:.0f} ms)"
    )
    large = results["million"]
    console.print(
        f"a store of {large['num_maps']:,}: opened in {large['open_seconds'] * 1e3:.0f} ms, streamed with checksums "
        f"in {large['stream_seconds']:.1f} s ({large['num_maps'] / large['stream_seconds']:,.0f} maps/s), peak memory "
        f"{large['peak_bytes'] / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())

"""A million maps, and what ImageNet's train split would take: `python -m benchmarks.scale --metadata ILSVRC/test`.

In: a metadata folder with real boxes, whose images are repeated until there are a million, each with a CAM-like map.
Out: seconds and peak memory of one evaluation; that one killed in its midst (SIGKILL) and gone on with gives the same
integers, and that these are those of one repetition times their number; ESTIMATES for 1.28 million images.
Source: the estimates extrapolate committed results: rates of a CPU core and of reading, and benchmarks/device_cost.py.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import harness, inputs
from benchmarks.harness import RESULTS, WrongResult
from wsolkern.cams import CamStore, CamWriter, Manifest
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.studies.counting import SplitCount, evaluator_for

BATCH = 64  # maps, as the commands read them
SIDE = 14
IMAGENET_TRAIN = 1_281_167
NUM_CORES = (1, 16, 128)
NUM_GPUS = (1, 8)
WORK_CPU, WORK_GPU, KIND = "CAM -> V1, V2 counts, 24 norm.", "V1 and V2, 24 norm.", "demo 14x14"
SAVE_SECONDS = 5.0

# What counts is a process of its own, which can be killed and whose memory is its own.
CHILD = "import sys; from benchmarks.scale import count; count(*sys.argv[1:])"


def main() -> int:
    """Runs the command line; 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--metadata", help="metadata folder with real boxes, such as ILSVRC/test; without it only the estimates"
    )
    parser.add_argument("--maps", type=int, default=1_000_000, help="maps to evaluate (default: %(default)s)")
    parser.add_argument("-n", "--normalizations", default="minmax", help="in quotes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    results = {"machine": harness.describe(), "options": vars(arguments) | {"metadata": None}}
    if arguments.metadata:
        try:
            with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
                split = load_metadata(arguments.metadata)
                how = arguments.maps, arguments.normalizations, arguments.seed
                results["run"] = measure_run(split, *how, Path(scratch))
        except WrongResult as error:
            console.print(f"WRONG RESULT: {error}", style="red")
            return 1
        show_run(console, results["run"], results["machine"])
        if arguments.save:
            print(f"written: {harness.save(results, 'scale')}")
    show_estimates(console, *estimates())
    return 0


def measure_run(split: Metadata, num_maps: int, normalizations: str, seed: int, scratch: Path) -> dict:
    """Evaluates repeated images in one go, and once more killed halfway.

    Args:
        split: Images with boxes.
        num_maps: How many to evaluate; the split is repeated, under other ids, until there are as many.
        normalizations: What with.
        seed: Of the maps.
        scratch: An empty folder, for some gigabytes a million maps.

    Raises:
        WrongResult: The integers of the two runs differ, or from those of one repetition.
    """
    report = Console(stderr=True, highlight=False)
    report.print(f"writing {num_maps:,} maps")
    num_rounds, rest = divmod(num_maps, len(split.image_ids))
    cams, once, part = _prepare(split, normalizations, num_rounds, rest, seed)
    started = time.perf_counter()
    _write(split, cams, num_maps, scratch)
    write_seconds = time.perf_counter() - started
    num_bytes = sum(path.stat().st_size for path in (scratch / "store").rglob("*") if path.is_file())
    expected = num_rounds * once + part
    report.print("evaluating them in one go")
    whole = _run(scratch, "whole", normalizations)
    report.print(f"{whole}; evaluating them, killed halfway")
    killed_after = _kill(scratch, normalizations, whole["seconds"] / 2)
    report.print("going on")
    rest_of_it = _run(scratch, "killed", normalizations)
    if not 0 < rest_of_it["num_before"] < num_maps:
        raise WrongResult(f"killed after {rest_of_it['num_before']:,} of {num_maps:,} maps, expected between them")
    for name in ("whole", "killed"):
        found = np.load(scratch / f"{name}.npy")
        if not np.array_equal(found, expected):
            raise WrongResult(f"{name}: {(found != expected).sum():,} of {found.size:,} counts are not those expected")
    return {
        "num_maps": num_maps,
        "normalizations": normalizations,
        "store_bytes": num_bytes,
        "write_seconds": write_seconds,
        "seconds": whole["seconds"],
        "load_seconds": whole["load_seconds"],
        "peak_bytes": whole["peak_bytes"],
        "killed_after_seconds": killed_after,
        "num_before": rest_of_it["num_before"],
        "seconds_after": rest_of_it["seconds"],
        "num_counts_compared": int(expected.size),
    }


def _prepare(split: Metadata, normalizations: str, num_rounds: int, rest: int, seed: int):
    """The maps of one repetition, its counts (0 if there is none) and those of its first ``rest`` images."""
    boxes = split.resized_boxes(inputs.SIZE)
    num_needed = len(split.image_ids) if num_rounds else rest
    rng = np.random.default_rng(seed)
    cams = inputs.cam_like(rng, [boxes[each] for each in split.image_ids[:num_needed]], SIDE).astype(np.float32)
    evaluator = evaluator_for(split, normalizations)
    part = evaluator.num_correct
    for start in [*range(0, rest, BATCH), *range(rest, num_needed, BATCH)]:
        stop = min(start + BATCH, rest if start < rest else num_needed)
        evaluator.update(cams[start:stop], split.image_ids[start:stop])
        if stop == rest:
            part = evaluator.num_correct
    return cams, evaluator.num_correct, part


def _write(split: Metadata, cams: np.ndarray, num_maps: int, scratch: Path) -> None:
    """The store and the metadata of the repeated images: ``cams`` in turn."""
    parts: dict[str, dict] = {"class_labels": {}, "image_sizes": {}, "boxes": {}}
    image_ids = []
    with CamWriter(scratch / "store", Manifest(dataset="ILSVRC", split="repeated")) as writer:
        for number in range(-(-num_maps // len(split.image_ids))):
            old = split.image_ids[: num_maps - len(image_ids)]
            new = [f"{number:03d}/{each}" for each in old]
            for name, values in parts.items():
                have = getattr(split, name)
                values |= {to: have[each] for each, to in zip(old, new, strict=True) if each in have}
            for start in range(0, len(new), 1024):
                some = new[start : start + 1024]
                writer.add(some, cams[start : start + len(some)])
            image_ids += new
    Metadata(tuple(image_ids), **parts).write(scratch / "metadata")


def count(folder: str, name: str, normalizations: str) -> None:
    """Evaluates ``folder``/store, going on from a state that is there; prints what it took as JSON."""
    folder = Path(folder)
    started = time.perf_counter()
    split = load_metadata(folder / "metadata")
    evaluator = evaluator_for(split, normalizations)
    counting, state = SplitCount(evaluator, split.image_ids, "scale"), folder / f"{name}.state"
    if state.exists():
        counting.load(state)
    num_before = evaluator.num_images
    load_seconds = time.perf_counter() - started
    problems = counting.run(
        CamStore(folder / "store").source(counting.remaining), state=state, save_seconds=SAVE_SECONDS, batch_size=BATCH
    )
    assert not problems, problems
    np.save(folder / f"{name}.npy", evaluator.num_correct)
    found = {"seconds": time.perf_counter() - started, "load_seconds": load_seconds, "num_before": num_before}
    print(json.dumps(found | {"peak_bytes": harness.memory_bytes()["VmHWM"]}))


def _child(scratch: Path, name: str, normalizations: str) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, str(scratch), name, normalizations]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=harness.ROOT, text=True)


def _run(scratch: Path, name: str, normalizations: str) -> dict:
    with _child(scratch, name, normalizations) as child:
        out, _ = child.communicate()
    if child.returncode:
        raise WrongResult(f"{name}: exit code {child.returncode}")
    return json.loads(out.splitlines()[-1])


def _kill(scratch: Path, normalizations: str, after: float) -> float:
    """Begins an evaluation and kills it ``after`` so many seconds, or when it has saved for the first time."""
    started, state = time.perf_counter(), scratch / "killed.state"
    with _child(scratch, "killed", normalizations) as child:
        while child.poll() is None and (time.perf_counter() - started < after or not state.exists()):
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    if child.returncode != -signal.SIGKILL:
        raise WrongResult(f"killed: exit code {child.returncode}, expected that of SIGKILL")
    return time.perf_counter() - started


def estimates() -> tuple[list[dict], list[str]]:
    """ESTIMATES for ImageNet's train split and 24 normalizations, and the files that they are made of."""
    cpu = _latest("cpu-avx512", lambda found: any(row["work"] == WORK_CPU for row in found["rows"]))
    (rate,) = (1e3 / row["ms"] for row in cpu[1]["rows"] if (row["work"], row["kind"]) == (WORK_CPU, KIND))
    gpu = _latest("device-cost-estimate", lambda found: found["is_estimate"])
    (maps,) = (row for row in gpu[1]["maps_per_second"] if (row["work"], row["kind"]) == (WORK_GPU, KIND))
    store = _latest("store", lambda found: "million" in found)
    reading = store[1]["million"]["num_maps"] / store[1]["million"]["stream_seconds"]
    rows = [{"on": f"{num} CPU core{'s'[: num > 1]}", "rate": rate * num} for num in NUM_CORES]
    for name, each in maps["maps_per_second"].items():
        rows += [{"on": f"{num} {name}", "rate": each * num} for num in NUM_GPUS]
    for row in rows:
        row["seconds"] = IMAGENET_TRAIN / min(row["rate"], reading)
        row["limit"] = "evaluation" if row["rate"] <= reading else "reading the store"
    return rows, [cpu[0], gpu[0], store[0]]


def _latest(subject: str, is_wanted) -> tuple[str, dict]:
    """Name and content of the newest committed result of a subject."""
    for path in sorted(RESULTS.glob(f"*-{subject}-*.json"), reverse=True):
        found = json.loads(path.read_text())
        if found["subject"] == subject and is_wanted(found):
            return path.name, found
    raise FileNotFoundError(f"{RESULTS}: no result of {subject}")


def show_run(console: Console, run: dict, about: dict) -> None:
    """Prints what was measured."""
    rate = run["num_maps"] / (run["seconds"] - run["load_seconds"])
    console.print(
        f"{about['cpu']}, {about['num_cores']} cores, {about['date']}: "
        f"{run['num_maps']:,} CAM-like {SIDE}x{SIDE} maps, {run['normalizations']}\n"
        f"store: {run['store_bytes'] / 1e6:,.0f} MB, {run['store_bytes'] / run['num_maps']:.0f} bytes a map; "
        f"written in {run['write_seconds']:.0f} s with its metadata\n"
        f"evaluated in {run['seconds']:.0f} s ({run['load_seconds']:.1f} s of it metadata), {rate:,.0f} maps/s, "
        f"peak memory {run['peak_bytes'] / 1e6:,.0f} MB\n"
        f"killed (SIGKILL) after {run['killed_after_seconds']:.0f} s, gone on from {run['num_before']:,} maps: "
        f"{run['seconds_after']:.0f} s more; all {run['num_counts_compared']:,} counts equal"
    )


def show_estimates(console: Console, rows: list[dict], files: list[str]) -> None:
    """Prints the estimates, as docs/scale.md has them."""
    console.print(f"ESTIMATES, none measured: {IMAGENET_TRAIN:,} images, 24 normalizations, V1 and V2, {KIND}")
    for row in rows:
        seconds = row["seconds"]
        shown = f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"
        console.print(f"  {row['on']:<14} {shown:>6} s, limited by {row['limit']}")
    console.print("from " + ", ".join(f"benchmarks/results/{each}" for each in files))


if __name__ == "__main__":
    sys.exit(main())

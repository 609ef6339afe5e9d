"""Reports in a browser: `python -m benchmarks.page`, with the extras `report` and `browser`, and Chromium.

In: CAM-like maps with boxes, as many as options say. Out: for each number of images the file's size, seconds to write
it and until it can be used, milliseconds from slider to boxes, and from frame to frame while it scrolls; before that,
how many boxes of the page's engine in the browser were compared with those of the operations: with one that differs
nothing is timed.
Source: the operations of wsolkern.ops.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks import harness, inputs
from benchmarks.harness import RESULTS, WrongResult
from wsolkern import studies
from wsolkern.cams import CamWriter, Manifest
from wsolkern.datasets import load_metadata
from wsolkern.ops import normalize, threshold_boxes
from wsolkern.report.pages import html_of

NORMALIZATIONS = "minmax max pas:0.9 ivr:0.45"
COMPARED = ("minmax", "max", "pas:0.9", "ivr:0.45", "ivr:0.4321", "ivr:0.95", "ivr:0.3+pas:0.87")
NUM_SLIDES = 60  # positions of the slider
NUM_FRAMES = 60
MOST_THUMBNAILS = 2000
BOXES = """({ map, height, width, names, thresholds, contours }) => {
  const prepared = wsolkern.prepare(Float64Array.from(map.flat()), map.length, map[0].length, height, width);
  return names.map((name) => {
    const score = wsolkern.normalized(prepared, name);
    return thresholds.map((each) => Array.from(wsolkern.contourBoxes(score, wsolkern.levelOf(score, each), contours)));
  });
}"""
SLIDE = """async (places) => {
  const slider = document.getElementById("threshold");
  const large = document.getElementById("large");
  const [times, computing] = [[], []];
  for (const place of places) {
    const begin = performance.now();
    slider.value = place;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(done)); // the viewer answers in the same frame, before this
    times.push(performance.now() - begin);
    computing.push(Number(large.dataset.milliseconds));
  }
  return [times, computing];
}"""
SCROLL = """async (frames) => {
  const grid = document.getElementById("grid");
  const top = grid.getBoundingClientRect().top + window.scrollY;
  const times = [];
  let before = await new Promise((done) => requestAnimationFrame(done));
  for (let frame = 1; frame <= frames; frame++) {
    window.scrollTo(0, top + (grid.offsetHeight * frame) / frames);
    const now = await new Promise((done) => requestAnimationFrame(done));
    times.push(now - before);
    before = now;
  }
  return times;
}"""


def chromium() -> str | None:
    """Where the browser is; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def launch(driver: Any, path: str) -> Any:
    """The browser without a window. For root it starts only without its sandbox; it opens files that were made here."""
    return driver.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])


def write_data(folder: Path, num: int, rng: np.random.Generator, *, with_images: bool) -> tuple[Path, Path, Path]:
    """A store of CAM-like maps, its split, and photographs of noise: the store, the metadata, the images."""
    store, metadata, images = folder / "store", folder / "metadata", folder / "images"
    metadata.mkdir()
    boxes = inputs.synthetic_boxes(rng, num)
    ids = [f"{place % 200:03d}/{place:05d}.jpg" for place in range(num)]
    width, height = 500, 375
    scale = np.array([width, height, width, height]) / 224
    lines = {
        "image_ids.txt": ids,
        "class_labels.txt": [f"{each},{place % 200}" for place, each in enumerate(ids)],
        "image_sizes.txt": [f"{each},{width},{height}" for each in ids],
        "localization.txt": [
            f"{each},{','.join(str(int(x)) for x in np.ceil(box[0] * scale))}"
            for each, box in zip(ids, boxes, strict=True)
        ],
    }
    for name, each in lines.items():
        (metadata / name).write_text("\n".join(each) + "\n")
    with CamWriter(store, Manifest(dataset="made up", split="test", method="CAM")) as writer:
        writer.add(ids, inputs.cam_like(rng, boxes, 14).astype(np.float32))
    for each in ids if with_images else ():
        path = images / each
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)
    return store, metadata, images


def compare_boxes(page: Any, rng: np.random.Generator, num_maps: int) -> int:
    """How many maps x normalizations x thresholds x contours the browser has the boxes of the operations for.

    Raises:
        WrongResult: Boxes differ.
    """
    num = 0
    thresholds = np.linspace(0, 0.99, 12)
    kinds = [each for each in inputs.synthetic(rng, num_maps) if each.cams.shape[1] <= 28]
    kinds.append(inputs.Inputs("white noise 14x14", rng.standard_normal((num_maps, 14, 14)), kinds[0].boxes))
    kinds.append(inputs.Inputs("4-level 28x28", rng.integers(0, 4, (num_maps, 28, 28)).astype(float), kinds[0].boxes))
    for kind in kinds:
        expected = {
            (name, contours): threshold_boxes(normalize(kind.cams, name, inputs.SIZE), thresholds, contours=contours)
            for name in COMPARED
            for contours in ("all", "largest")
        }
        for place, cam in enumerate(kind.cams):
            for contours in ("all", "largest"):
                question = {"map": cam.astype(np.float64).tolist(), "height": 224, "width": 224, "names": COMPARED}
                found = page.evaluate(BOXES, {**question, "thresholds": thresholds.tolist(), "contours": contours})
                for name, lists in zip(COMPARED, found, strict=True):
                    for t, flat in enumerate(lists):
                        boxes = sorted(map(tuple, np.reshape(flat, (-1, 4)).tolist()))
                        if boxes != sorted(map(tuple, expected[name, contours][place][t].tolist())):
                            raise WrongResult(f"{kind.name} {place}, {name}, {contours}, {thresholds[t]}: boxes differ")
                        num += 1
    return num


def measure(browser: Any, num: int, seed: int) -> dict[str, Any]:
    """One number of images."""
    rng = np.random.default_rng(seed)
    with_images = num <= MOST_THUMBNAILS
    with tempfile.TemporaryDirectory(prefix="wsolkern-benchmark-") as scratch:
        store, metadata, images = write_data(Path(scratch), num, rng, with_images=with_images)
        begun = time.perf_counter()
        report = studies.report(store, load_metadata(metadata), NORMALIZATIONS, num_resamples=200)
        html = html_of(report, images=images if with_images else None)
        written = time.perf_counter() - begun
        file = Path(scratch, "report.html")
        file.write_text(html, encoding="utf-8")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        begun = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        loaded = time.perf_counter() - begun
        frames = page.evaluate(SCROLL, NUM_FRAMES)
        page.evaluate("document.getElementById('viewer').scrollIntoView()")
        page.locator("#grid button").first.click()
        page.evaluate(SLIDE, list(range(0, 1000, 50)))  # warms up
        times, computing = page.evaluate(SLIDE, [int(each) for each in np.linspace(0, 999, NUM_SLIDES)])
        page.close()
    return {
        "num_images": num,
        "with_thumbnails": with_images,
        "megabytes": len(html.encode()) / 1e6,
        "write_seconds": written,
        "load_seconds": loaded,
        "boxes_ms": [float(np.median(computing)), float(np.max(computing))],
        "frame_ms": [float(np.median(times)), float(np.max(times))],
        "scroll_frame_ms": [float(np.median(frames)), float(np.max(frames))],
    }


def main() -> int:
    """Runs the command line; 1 if a result was wrong, 2 if there is no browser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[114, 500, 5794], help="(default: %(default)s)")
    parser.add_argument("--maps", type=int, default=40, help="maps a kind whose boxes are compared (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="which maps (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write the numbers to {RESULTS.relative_to(harness.ROOT)}")
    arguments = parser.parse_args()
    path = chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        print("needs Chromium, and pip install -e '.[report,browser]'", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    with sync_playwright() as driver:
        browser = launch(driver, path)
        machine = harness.describe() | {"browser": browser.version}
        try:
            page = browser.new_page()
            page.goto("about:blank")
            engine = Path(studies.__file__).parents[1] / "report" / "page" / "engine.js"
            page.add_script_tag(content=engine.read_text(encoding="utf-8"))
            num = compare_boxes(page, np.random.default_rng(arguments.seed), arguments.maps)
            page.close()
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
        console.print(
            f"Chromium {browser.version}: {num:,} maps x normalizations x thresholds x contours, 0 differences"
        )
        rows = [measure(browser, each, arguments.seed) for each in arguments.images]
        browser.close()
    for row in rows:
        boxes, frame, scroll = (
            f"{row[each][0]:.1f} (most {row[each][1]:.1f})" for each in ("boxes_ms", "frame_ms", "scroll_frame_ms")
        )
        pictures = "with" if row["with_thumbnails"] else "without"
        console.print(
            f"{row['num_images']:>6,} images {pictures} thumbnails: {row['megabytes']:.1f} MB, written in "
            f"{row['write_seconds']:.1f} s, loaded in {row['load_seconds']:.2f} s; boxes {boxes} ms, to the frame "
            f"{frame} ms, scrolling {scroll} ms a frame"
        )
    if arguments.save:
        print(f"written: {harness.save({'machine': machine, 'compared': num, 'rows': rows}, 'page')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Pages made from maps by the operations, for tests of the page and of its viewer.

In: CAMs, boxes. Out: Pages of :mod:`wsolkern.report.page`. Source: none.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from wsolkern.ops import DEFAULT_THRESHOLDS, affine, box_ious, normalize, resize, threshold_boxes
from wsolkern.ops.boxes import ious_reference
from wsolkern.report.page import Page, Run, Section, View

SIZE = (224, 224)
NORMALIZATIONS = ("minmax", "max", "pas:0.9", "ivr:0.45")
IOU_THRESHOLDS = (0.3, 0.5, 0.7)


def cams_of(kind: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """Maps of a kind, float64 or float32 [N, h, w]."""
    if kind == "peaks":
        y, x = np.mgrid[:14, :14]
        centre = rng.uniform(2, 12, (3, num, 2, 1, 1))
        width = rng.uniform(1, 4, (3, num, 1, 1))
        peaks = np.exp(-((y - centre[:, :, 0]) ** 2 + (x - centre[:, :, 1]) ** 2) / width**2)
        maps = (rng.uniform(-1, 2, (3, num, 1, 1)) * peaks).sum(0) + 0.05 * rng.standard_normal((num, 14, 14))
        return maps.astype(np.float32)
    if kind == "noise":
        return rng.standard_normal((num, 14, 14))
    if kind == "plateaus":
        return rng.integers(0, 5, (num, 28, 28)).astype(np.float64)
    if kind == "negative":
        return -1 - rng.random((num, 7, 9))
    if kind == "fine":
        return rng.standard_normal((num, 64, 48)).astype(np.float32)
    if kind == "odd values":  # constant, NaN, one peak, infinite, zeros of both signs
        maps = rng.standard_normal((num, 7, 7))
        maps[0] = 3
        maps[1 % num, 2, 2] = np.nan
        maps[2 % num] = 0
        maps[2 % num, 3, 3] = 1
        maps[3 % num, 1, 1] = np.inf
        maps[4 % num] = -0.0
        return maps
    raise ValueError(kind)


def truths_of(num: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One to three boxes a map, int32 [N_i, 4]."""
    truths = []
    for _ in range(num):
        corner = rng.integers(0, 170, (rng.integers(1, 4), 2))
        truths.append(np.concatenate([corner, corner + rng.integers(8, 54, corner.shape)], 1).astype(np.int32))
    return truths


def page_of(
    runs: Mapping[str, np.ndarray],
    truths: Sequence[np.ndarray],
    normalizations: Sequence[str] = NORMALIZATIONS,
    thresholds: np.ndarray = DEFAULT_THRESHOLDS,
    contours: str = "all",
    *,
    with_thumbnails: bool = False,
    with_classes: bool = True,
    ids: Sequence[str] | None = None,
    sections: Sequence[Section] = (),
) -> Page:
    """A page whose every number is the operations'."""
    num = len(truths)
    classes = [f"class {each % 7}" for each in range(num)] if with_classes else None
    return Page(
        title="A test of the page",
        size=SIZE,
        thresholds=np.asarray(thresholds, np.float64),
        iou_thresholds=IOU_THRESHOLDS,
        contours=contours,
        normalizations=normalizations,
        ids=ids or [f"photographs/{each:05d}.jpg" for each in range(num)],
        truths=truths,
        image_sizes=np.tile([[300, 400]], (num, 1)),
        runs=[
            Run(name, [*cams], [_view(cams, truths, each, thresholds, contours) for each in normalizations])
            for name, cams in runs.items()
        ],
        classes=classes,
        thumbnails=[_thumbnail(each) for each in range(num)] if with_thumbnails else None,
        sections=sections,
    )


def _view(cams: np.ndarray, truths: Sequence[np.ndarray], name: str, thresholds: Any, contours: str) -> View:
    curves = box_ious(cams, truths, name, thresholds, contours=contours, size=SIZE)[0]
    chosen = np.array([(curves >= each).sum(0).argmax() for each in IOU_THRESHOLDS])
    found = threshold_boxes(normalize(cams, name, SIZE), np.asarray(thresholds)[chosen], contours=contours)
    boxes = np.empty((len(cams), len(chosen), 4), np.int32)
    for of, each, truth in zip(boxes, found, truths, strict=True):
        for d, some in enumerate(each):
            of[d] = some[ious_reference(some, truth).max(1).argmax()]
    return View(
        chosen=chosen,
        boxes=boxes,
        ious=curves[:, chosen],
        best_ious=curves.max(1),
        curves=curves.astype(np.float32),
        num_contours=np.array([len(each[1]) for each in found]),
        degenerate=affine(resize(cams, SIZE), name)[:, 0, 1] == 0,
        errors=["correct" if each >= 0.5 else "other" for each in curves[:, chosen[1]]],
    )


def _thumbnail(number: int) -> bytes:
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((224, 168), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def slide(page: Any, name: str, value: float) -> None:
    """Moves a slider of the viewer that is open in a browser, as a hand does; what follows of it is seen then."""
    page.locator(f"#{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(value),
    )
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

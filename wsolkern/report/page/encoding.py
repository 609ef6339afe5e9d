"""What the viewer reads: a page's arrays as JSON, small enough to be sent.

In: a Page. Out: JSON that stands inside a script element; arrays in it are deflated and in base64.
Source: none; the browser's side is `unpack` in viewer.js.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsolkern.report.page.values import Page, Run, View


def to_json(page: Page) -> str:
    """The page's data, without its sections; "<" is escaped, so that no text ends the element."""
    truths = [np.asarray(each, np.int32).reshape(-1, 4) for each in page.truths]
    data: dict[str, Any] = {
        "size": list(page.size),
        "thresholds": pack(page.thresholds, "f8"),
        "iouThresholds": [float(each) for each in page.iou_thresholds],
        "contours": page.contours,
        "normalizations": list(page.normalizations),
        "ids": list(page.ids),
        "classes": _named(page.classes),
        "imageSizes": pack(page.image_sizes, "i4"),
        "numTruths": pack([len(each) for each in truths], "i4"),
        "truths": pack(np.concatenate(truths), "i4"),
        "thumbnails": _pictures(page.thumbnails),
        "links": page.links and list(page.links),
        "runs": [_run(each) for each in page.runs],
    }
    return json.dumps(data, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


def pack(values: Any, kind: str) -> dict[str, str]:
    """An array: little-endian numbers of a kind ("f4", "f8", "i4", "u2", "u1") one after another."""
    content = np.ascontiguousarray(values, np.dtype(f"<{kind}")).tobytes()
    return {"kind": kind, "data": base64.b64encode(zlib.compress(content, 9)).decode()}


def change_points(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves float32 [N, T] as runs of equal values: runs int [N] of each, where they begin, their values.

    The IoU of a map over the threshold has at most 256 values, because a map has 256 levels.
    """
    begins = np.ones(curves.shape, bool)
    begins[:, 1:] = curves[:, 1:] != curves[:, :-1]
    return begins.sum(1), np.nonzero(begins)[1], curves[begins]


def _pictures(pictures: Sequence[bytes | None] | None) -> list[str | None] | None:
    if pictures is None:
        return None
    return [None if each is None else base64.b64encode(each).decode() for each in pictures]


def _run(run: Run) -> dict[str, Any]:
    kinds = ["f4" if each.dtype == np.float32 else "f8" for each in run.maps]
    kind = "f4" if all(each == "f4" for each in kinds) else "f8"  # float32 becomes float64 without loss
    return {
        "name": run.name,
        "areScoreMaps": run.are_score_maps,
        "shapes": pack([each.shape for each in run.maps], "i4"),
        "maps": pack(np.concatenate([np.asarray(each).ravel() for each in run.maps]), kind),
        "predicted": _named(run.predicted),
        "views": [_view(each) for each in run.views],
    }


def _view(view: View) -> dict[str, Any]:
    num, begin, value = change_points(np.asarray(view.curves, np.float32))
    return {
        "chosen": [int(each) for each in view.chosen],
        "boxes": pack(view.boxes, "i4"),
        "ious": pack(view.ious, "f8"),
        "bestIous": pack(view.best_ious, "f8"),
        "numContours": pack(view.num_contours, "i4"),
        "degenerate": pack(view.degenerate, "u1"),
        "errors": _named(view.errors),
        "curves": {
            "num": pack(num, "i4"),
            "begin": pack(begin, "u2" if view.curves.shape[1] <= 1 << 16 else "i4"),
            "value": pack(value, "f4"),
        },
    }


def _named(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """A text for every image, by its number among the different ones."""
    if texts is None:
        return None
    names = sorted(set(texts))
    number = {name: place for place, name in enumerate(names)}
    return {"names": names, "of": pack([number[each] for each in texts], "i4")}

"""Pictures of CAMs: where each normalization sees the object, with the boxes that its best thresholds give.

In: images with CAMs and ground-truth boxes, and the Result that names the best thresholds. Out: a PNG file.
Source: figure 3 of Kim et al., arXiv 2107.13221.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsolkern.metrics import Result
from wsolkern.ops import normalize, threshold_boxes
from wsolkern.ops.boxes import ious_reference
from wsolkern.report.plain import visible

_COLOURS = ("#ff3b30", "#34d158", "#2f8fff")  # red, green, blue, as in the paper
_TRUTH = "#ffffff"
_DARK, _FAINT = "#16181d", "#8b909c"


@dataclass(frozen=True, eq=False)
class Localized:
    """An image to draw."""

    title: str
    """What stands above it."""
    pixels: np.ndarray
    """RGB, uint8 [height, width, 3]."""
    cam: np.ndarray
    """Its raw CAM, float [h, w]."""
    boxes: np.ndarray
    """Ground truth, int [n, 4], x0 y0 x1 y1 in pixels of the evaluated map, inclusive."""


@dataclass(frozen=True)
class Found:
    """The box that counts at one best threshold."""

    iou_threshold: float
    box: tuple[int, int, int, int]  # in pixels of the evaluated map
    iou: float  # with the nearest ground-truth box


def draw_localizations(
    path: str | os.PathLike,
    images: Sequence[Localized],
    result: Result,
    *,
    size: tuple[int, int] = (224, 224),
    num_blocks: int = 2,
) -> None:
    """Draws each image and, beside it, its score map under every normalization of a result.

    The box of an IoU threshold is the one that MaxBoxAccV2 counts: of all contours at the best threshold, the one
    nearest to a ground-truth box. Below a score map stands the IoU of each such box, in its colour if it is a hit.

    Args:
        path: File to write, in the format that its name ends in (.png, .pdf, ...).
        images: What to draw, a row each.
        result: Names normalizations and best thresholds; it must have been computed with boxes.
        size: Height and width that maps were evaluated at, in pixels.
        num_blocks: How many images stand side by side.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: There is nothing to draw, the result has no boxes, or the name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from wsolkern.report.drawing import save_picture

    rows = list(result)
    if not images or rows[0].best_threshold_v2 is None:
        raise ValueError("images, result: expected at least one image and a result with boxes")
    num_columns, num_rows = 1 + len(rows), -(-len(images) // num_blocks)
    width, height = 2.0 * num_columns * num_blocks, 1.75 * num_rows + 0.9  # inches
    figure = Figure((width, height), facecolor=_DARK)
    FigureCanvasAgg(figure)
    frame = {"left": 0.005, "right": 0.995, "bottom": 0.3 / height, "top": 1 - 0.8 / height}
    blocks = figure.add_gridspec(1, num_blocks, **frame, wspace=0.03)
    for start in range(0, len(images), num_rows):
        block = blocks[start // num_rows].subgridspec(num_rows, num_columns, wspace=0.04, hspace=0.24)
        for place, image in enumerate(images[start : start + num_rows]):
            axes = [figure.add_subplot(block[place, column]) for column in range(num_columns)]
            _draw_truth(axes[0], image, size)
            for axis, row in zip(axes[1:], rows, strict=True):
                score_map = normalize(image.cam, row.normalization, size)
                found = boxes_that_count(score_map, image.boxes, row.best_threshold_v2)
                _draw_scores(axis, image, score_map, found)
        for column, row in enumerate(rows, start=1):
            cell = block[0, column].get_position(figure)
            middle = (cell.x0 + cell.x1) / 2
            figure.text(middle, 1 - 0.72 / height, row.name, color="white", fontsize=13, ha="center")
    _legend(figure, list(result.iou_thresholds), height)
    quick = {"pil_kwargs": {"compress_level": 4}} if os.fspath(path).lower().endswith(".png") else {}
    save_picture(path, figure, dpi=120, facecolor=_DARK, **quick)


def boxes_that_count(score_map: np.ndarray, truth: np.ndarray, best: dict[float, float]) -> list[Found]:
    """Of all contours at each best threshold, the one nearest to a ground-truth box."""
    found = threshold_boxes(score_map[None], np.array(list(best.values())))[0]
    counted = []
    for iou_threshold, boxes in zip(best, found, strict=True):
        ious = ious_reference(boxes, truth).max(axis=1)
        nearest = int(ious.argmax())
        counted.append(Found(iou_threshold, tuple(boxes[nearest].tolist()), float(ious[nearest])))
    return counted


def _draw_truth(axis, image: Localized, size: tuple[int, int]) -> None:
    from wsolkern.report.drawing import PLAIN

    _show(axis, image.pixels)
    for box in image.boxes:
        _rectangle(axis, image, size, box, _TRUTH, linewidth=2.2)
    axis.annotate(
        visible(image.title),
        (0.5, 0),
        (0, -3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        color="white",
        fontsize=10,
        **PLAIN,
    )


def _draw_scores(axis, image: Localized, score_map: np.ndarray, found: list[Found]) -> None:
    from matplotlib import colormaps

    height, width = image.pixels.shape[:2]
    grey = image.pixels.mean(axis=2, keepdims=True) / 255
    rows = np.arange(height) * score_map.shape[0] // height
    columns = np.arange(width) * score_map.shape[1] // width
    scores = score_map[rows][:, columns, None]
    heat = colormaps["inferno"](scores[..., 0])[..., :3]
    _show(axis, np.clip(0.45 * grey * (1 - 0.55 * scores) + 0.75 * heat * (0.35 + 0.65 * grey), 0, 1))
    for box in image.boxes:
        _rectangle(axis, image, score_map.shape, box, _TRUTH, linewidth=1.2, linestyle=(0, (3, 2)))
    for place, (each, colour) in enumerate(zip(found, _COLOURS, strict=False)):
        _rectangle(axis, image, score_map.shape, each.box, colour, linewidth=2, inset=place)
        hit = each.iou >= each.iou_threshold
        axis.annotate(
            f"{each.iou:.2f}",
            (0.5, 0),
            (30 * (place - 1), -3),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            color=colour if hit else _FAINT,
            fontsize=9,
            fontweight="bold" if hit else "normal",
        )


def _show(axis, pixels: np.ndarray) -> None:
    axis.imshow(pixels, interpolation="nearest")
    axis.set_axis_off()


def _rectangle(axis, image: Localized, size, box, colour: str, *, inset: int = 0, **style) -> None:
    """A box of the evaluated map on the image; ``inset`` keeps equal boxes apart."""
    from matplotlib.patches import Rectangle

    scale = np.array([image.pixels.shape[1] / size[1], image.pixels.shape[0] / size[0]] * 2)
    x0, y0, x1, y1 = (np.asarray(box) + (0, 0, 1, 1)) * scale - 0.5
    inset += 1.5
    corner = x0 + inset, y0 + inset
    axis.add_patch(Rectangle(corner, x1 - x0 - 2 * inset, y1 - y0 - 2 * inset, fill=False, edgecolor=colour, **style))


def _legend(figure, iou_thresholds: list[float], height: float) -> None:
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=_TRUTH, linewidth=2.2, label="ground truth")]
    for iou, colour in zip(iou_thresholds, _COLOURS, strict=False):
        entries.append(Line2D([], [], color=colour, linewidth=2, label=f"box at the best threshold for IoU {iou:g}"))
    legend = figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0, 1 - 0.04 / height),
        ncols=len(entries),
        frameon=False,
        fontsize=11,
    )
    for text in legend.get_texts():
        text.set_color("white")
    note = "below: the boxes' IoU with the ground truth, in colour where it reaches its threshold"
    figure.text(0.995, 1 - 0.26 / height, note, color=_FAINT, fontsize=11, ha="right", va="center")

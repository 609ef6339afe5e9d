"""Pictures of CAMs: where each normalization sees the object, with the boxes that the chosen thresholds give.

In: what :mod:`wsolkern.studies.showing` gives: images with score maps, boxes and IoUs. Out: a PNG, SVG or PDF file.
Source: figure 3 of Kim et al., arXiv 2107.13221.
"""

import os
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern.report import style
from wsolkern.report.plain import visible

if TYPE_CHECKING:
    from wsolkern.studies.showing import Found, Localized, View

_CELL = 1.45  # inches of a column
_LONGEST_TITLE = 22  # characters


def draw_localizations(path: str | os.PathLike, images: "Sequence[Localized]", caption: str = "") -> None:
    """Draws each image and, beside it, its score map under every normalization.

    Below a score map stands the IoU of each of its boxes in the colour of its IoU threshold, bold if it is a hit; of a
    mask the pixel IoU. Images of one group stand below each other, groups side by side; a single group is laid out
    in two columns if it has more than four images.

    Args:
        path: File to write, in the format that its name ends in (.png, .svg, .pdf, ...).
        images: What to draw, a row each; all have the same normalizations and IoU thresholds.
        caption: What stands above all.

    Raises:
        ImportError: matplotlib is not installed (the ``report`` extra).
        ValueError: There is nothing to draw, or the name ends in no format.
        OSError: The file cannot be written; it is as it was then.
    """
    from wsolkern.report.drawing import PLAIN, check_picture

    check_picture(path)
    if not images:
        raise ValueError("images: expected at least one, found none")
    blocks = _blocks(images)
    first = images[0]
    heading = "ground truth" if all(image.pixels is None for image in images) else "image"
    num_columns, num_rows = 1 + len(first.views), max(len(block) for _, block in blocks)
    cell_height = 1.42
    top = 0.62 + (0.24 if caption else 0.0) + (0.26 if any(title for title, _ in blocks) else 0.0)
    width, height = _CELL * num_columns * len(blocks) + 0.2 * (len(blocks) - 1), cell_height * num_rows + top + 0.12
    width = max(width, 7.2)  # of the legend
    figure = style.new_figure(width, height)
    frame = {"left": 0.008, "right": 0.992, "bottom": 0.2 / height, "top": 1 - top / height}
    outer = figure.add_gridspec(1, len(blocks), **frame, wspace=0.04)
    for place, (title, block) in enumerate(blocks):
        grid = outer[place].subgridspec(num_rows, num_columns, wspace=0.05, hspace=0.22)
        for row, image in enumerate(block):
            axes = [figure.add_subplot(grid[row, column]) for column in range(num_columns)]
            _draw_truth(axes[0], image)
            for axis, view in zip(axes[1:], image.views, strict=True):
                _draw_view(axis, image, view)
        for column, name in enumerate((heading, *(view.name for view in first.views))):
            cell = grid[0, column].get_position(figure)
            middle = (cell.x0 + cell.x1) / 2
            figure.text(middle, 1 - (top - 0.06) / height, name, color=style.INK, fontsize=10, ha="center")
        if title:
            left = grid[0, 0].get_position(figure).x0
            figure.text(
                left, 1 - (top - 0.26) / height, visible(title), color=style.INK, fontsize=9, fontweight="bold", **PLAIN
            )
    if caption:
        figure.text(0.008, 1 - 0.06 / height, visible(caption), color=style.INK, fontsize=10, va="top", **PLAIN)
    _legend(figure, first, 1 - (0.24 if caption else 0.02) / height)
    style.save(path, figure)


def _blocks(images: "Sequence[Localized]") -> "list[tuple[str, list[Localized]]]":
    """What stands side by side: (title, images)."""
    groups = [(group, list(some)) for group, some in groupby(images, lambda image: image.group)]
    if len(groups) > 1 or len(images) <= 4:
        return groups
    group, some = groups[0]
    half = -(-len(some) // 2)
    return [(group, some[:half]), ("", some[half:])]


def _draw_truth(axis: Any, image: "Localized") -> None:
    from wsolkern.report.drawing import PLAIN

    scores = image.views[0].score_map
    if image.pixels is None:
        axis.imshow(np.full((*_canvas(image), 3), 0.93))
    else:
        axis.imshow(image.pixels, interpolation="nearest")
    axis.set_axis_off()
    _draw_ground(axis, image, scores.shape, linewidth=1.6)
    name = visible(image.title)
    if len(name) > _LONGEST_TITLE:
        name = "…" + name[1 - _LONGEST_TITLE :]
    _below(axis, name, 0, style.INK, fontsize=7, **PLAIN)


def _draw_view(axis: Any, image: "Localized", view: "View") -> None:
    axis.imshow(_heat(image, view.score_map), interpolation="nearest")
    axis.set_axis_off()
    _draw_ground(axis, image, view.score_map.shape, linewidth=1.0)
    if view.threshold is not None:
        look = style.BOXES[1]
        _outline(axis, image, view.score_map >= view.threshold, look.colour, look.line, 1.4)
        _below(axis, f"IoU {view.iou:.2f}", 0, style.INK, fontsize=8)
    for place, each in enumerate(view.found):
        look = style.BOXES[place]
        _rectangle(axis, image, view.score_map.shape, each.box, look.colour, linewidth=1.5, linestyle=look.line)
        weight = {"fontweight": "bold"} if each.is_hit else {}
        colour = look.colour if each.is_hit else style.FAINT
        offset = 30 * (place - (len(view.found) - 1) / 2)
        _below(axis, f"{each.iou:.2f}" + ("" if each.is_hit else "×"), offset, colour, fontsize=8, **weight)


def _canvas(image: "Localized") -> tuple[int, int]:
    """Height and width of what an image is drawn on."""
    if image.pixels is not None:
        return image.pixels.shape[:2]
    height, width = image.views[0].score_map.shape
    return (height, width) if image.aspect is None else (height, max(1, round(height * image.aspect)))


def _heat(image: "Localized", score_map: np.ndarray) -> np.ndarray:
    """The score map over the image in grey, float [height, width, 3]: the darker, the lower the score."""
    from matplotlib import colormaps

    height, width = _canvas(image)
    rows = np.arange(height) * score_map.shape[0] // height
    columns = np.arange(width) * score_map.shape[1] // width
    scores = score_map[rows][:, columns]
    heat = colormaps["cividis"](scores)[..., :3]
    if image.pixels is None:
        return np.asarray(heat)
    grey = image.pixels.mean(axis=2, keepdims=True) / 255
    return np.asarray(np.clip(heat * (0.45 + 0.7 * grey), 0, 1))


def _draw_ground(axis: Any, image: "Localized", size: tuple[int, ...], linewidth: float) -> None:
    """The ground truth: white, with a dark line around it that is seen on white."""
    if image.boxes is not None:
        for box in image.boxes:
            _rectangle(axis, image, size, box, "white", linewidth=linewidth, linestyle="-")
    if image.mask is not None:
        _outline(axis, image, image.mask == 1, "white", "-", linewidth)


def _rectangle(axis: Any, image: "Localized", size: tuple[int, ...], box: Any, colour: str, **how: Any) -> None:
    """A box of the evaluated map on the image."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    height, width = _canvas(image)
    scale = np.array([width / size[1], height / size[0]] * 2)
    x0, y0, x1, y1 = (np.asarray(box) + (0, 0, 1, 1)) * scale - 0.5
    patch = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, clip_on=False, **how)
    patch.set_path_effects([Stroke(linewidth=how["linewidth"] + 1.2, foreground="black", alpha=0.7), Normal()])
    axis.add_patch(patch)


def _outline(axis: Any, image: "Localized", inside: np.ndarray, colour: str, line: Any, linewidth: float) -> None:
    """Where a region of the evaluated map ends, on the image."""
    if not inside.any() or inside.all():
        return
    height, width = _canvas(image)
    y, x = (
        (np.arange(side) + 0.5) * full / side - 0.5 for side, full in zip(inside.shape, (height, width), strict=True)
    )
    axis.contour(x, y, inside.astype(float), [0.5], colors=[colour], linestyles=[line], linewidths=[linewidth])


def _below(axis: Any, text: str, offset: float, colour: str, **how: Any) -> None:
    axis.annotate(
        text,
        (0.5, 0),
        (offset, -2),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        color=colour,
        **how,
    )


def _legend(figure: Any, first: "Localized", top: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    casing = [Stroke(linewidth=3, foreground="black", alpha=0.7), Normal()]
    entries = [Line2D([], [], color="white", linewidth=1.8, path_effects=casing, label="ground truth")]
    found: Sequence[Found] = first.views[0].found
    for place, each in enumerate(found):
        look = style.BOXES[place]
        label = f"box for IoU {each.iou_threshold:g}"
        entries.append(
            Line2D([], [], color=look.colour, linestyle=look.line, linewidth=1.8, path_effects=casing, label=label)
        )
    if not found:
        look = style.BOXES[1]
        entries.append(
            Line2D([], [], color=look.colour, linestyle=look.line, linewidth=1.8, label="pixels above the threshold")
        )
    figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0, top),
        ncols=len(entries),
        frameon=False,
        fontsize=9,
        handlelength=2.6,
        columnspacing=1.2,
        title="numbers: IoU with the ground truth" + ("; × too low for its threshold" if found else ""),
        title_fontsize=8,
        alignment="left",
    )

"""One style for all pictures: colours that colour-blind readers tell apart, other lines and markers for grey prints.

In: nothing. Out: colours, lines and markers by family of normalizations and by IoU threshold; empty figures.
Source: the palette of M. Okabe and K. Ito, Color Universal Design, 2008 (jfly.uni-koeln.de/color).
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from wsolkern.report.drawing import save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
)  # fmt: skip
INK, FAINT = "#1a1a1a", "#6b6b6b"  # of texts


class Look(NamedTuple):
    """How one thing is drawn."""

    colour: str
    line: Any
    marker: str


FAMILIES = {
    "minmax": Look(BLACK, (0, (1, 1.2)), "v"),
    "max": Look(VERMILLION, (0, (5, 1.5)), "s"),
    "pas": Look(GREEN, (0, (4, 1.2, 1, 1.2)), "^"),
    "ivr": Look(BLUE, "-", "o"),
    "ivr+pas": Look(PURPLE, (0, (6, 1, 1, 1, 1, 1)), "D"),
}
"""By :attr:`Normalization.name`."""
OTHERS = (
    Look(BLUE, "-", "o"),
    Look(ORANGE, (0, (5, 1.5)), "s"),
    Look(GREEN, (0, (1, 1.2)), "^"),
    Look(PURPLE, (0, (4, 1.2, 1, 1.2)), "D"),
    Look(SKY, (0, (6, 1, 1, 1, 1, 1)), "v"),
    Look(VERMILLION, (0, (2, 1)), "P"),
)
"""For what has no look of its own, in this order and again."""
BOXES = (Look(VERMILLION, "-", ""), Look(GREEN, (0, (5, 1.5)), ""), Look(SKY, (0, (1, 1)), ""))
"""Of the first three IoU thresholds: red, green and blue as in the paper, in shades that are told apart."""


def new_figure(width: float, height: float, **how: Any) -> "Figure":
    """An empty figure, in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), facecolor="white", **how)
    FigureCanvasAgg(figure)
    return figure


def finish_axes(axis: Any, xlabel: str, ylabel: str) -> None:
    """Labels, a faint grid, and no frame above and at the right."""
    axis.set_xlabel(xlabel, fontsize=9, color=INK)
    axis.set_ylabel(ylabel, fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=INK)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def save(path: str | os.PathLike, figure: "Figure") -> None:
    """Writes a figure in the format that the name ends in; letters stay letters in PDF and SVG.

    Raises:
        ValueError: The name ends in nothing that matplotlib can write.
        OSError: It cannot be written.
    """
    import matplotlib

    quick = {"pil_kwargs": {"compress_level": 4}} if os.fspath(path).lower().endswith(".png") else {}
    with matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):
        save_picture(path, figure, dpi=150, facecolor="white", **quick)

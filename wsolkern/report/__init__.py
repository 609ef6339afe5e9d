"""Results for people: tables for terminal, Markdown, LaTeX and CSV, curves, pictures of CAMs with their boxes, pages.

In: Results, and for pictures the images and their CAMs. Out: rich tables, texts, PNG files, pages of HTML.
Source: Kim et al., arXiv 2107.13221: `paper` has its tables 1 and 2, `pictures` its figure 3, `curves` its figure 5,
`diagnostics` its figures 4 and 6.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["widget"]

if TYPE_CHECKING:
    from wsolkern.report.notebook import widget


def __getattr__(name: str) -> Any:
    if name != "widget":  # imported at first use: tables need none of what a page needs
        raise AttributeError(f"module 'wsolkern.report' has no attribute {name!r}")
    from wsolkern.report.notebook import widget

    return widget

"""The page of a report in a notebook.

In: one or two runs, a split. Out: an object that Jupyter shows as the page itself.
Source: none.
"""

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from wsolkern import defaults
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.files import write_whole
from wsolkern.report import pages
from wsolkern.studies.reporting import Report, compare, report


@dataclass(frozen=True, eq=False)
class Widget:
    """A page, which a notebook shows in a frame."""

    report: Report = field(repr=False)
    """What it says, as values."""
    html: str = field(repr=False)
    """The page, as it would be in a file."""
    height: int
    """Of the frame, in pixels."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page; links to images, if it has some, start from the current folder."""
        write_whole(path, self.html.encode())

    def _repr_html_(self) -> str:
        """A frame that holds the whole page, and that can reach nothing of the notebook."""
        style = f"width: 100%; height: {self.height}px; border: 1px solid #8888"
        may = "allow-scripts allow-downloads"
        return f'<iframe title="Report" sandbox="{may}" style="{style}" srcdoc="{escape(self.html)}"></iframe>'


def widget(
    maps: str | os.PathLike[str],
    metadata: "Metadata | str | os.PathLike[str]",
    normalizations: Any = defaults.NORMALIZATIONS,
    *,
    second: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    with_thumbnails: bool = True,
    title: str = "",
    height: int = 800,
    **how: Any,
) -> Widget:
    """A run, or two that are compared, as a page within a notebook.

    Args:
        maps: A CAM store, or a folder of maps.
        metadata: The split: its folder, or what :func:`wsolkern.datasets.load_metadata` gave.
        normalizations: As for :func:`wsolkern.studies.report`.
        second: Another run, to be compared with the first.
        images: Folder that image ids are paths below; None: the viewer shows maps alone.
        with_thumbnails: As for :func:`wsolkern.report.pages.page_of`.
        title: What stands above the page.
        height: Of the frame, in pixels.
        how: All else that :func:`wsolkern.studies.report` takes.

    Raises:
        ImportError: jinja2 or matplotlib is not installed (the ``report`` extra).
        ValueError: As from there.
    """
    pages.check_extra()
    split = metadata if isinstance(metadata, Metadata) else load_metadata(Path(metadata))
    runs = [maps] if second is None else [maps, second]
    found = (report if second is None else compare)(*runs, split, normalizations, **how)
    html = pages.html_of(found, images=images, with_thumbnails=with_thumbnails, title=title)
    return Widget(found, html, height)

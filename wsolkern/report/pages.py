"""A report as a page: what its viewer shows of every image, and the sections above it.

In: a Report of :mod:`wsolkern.studies.reporting`, a folder of images if there is one. Out: a Page, or the file's text.
Source: none; figures and tables: :mod:`wsolkern.report.sections`.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from wsolkern.datasets.thumbnails import thumbnails
from wsolkern.files import write_whole
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.report.page import Page, Run, Section, View, render
from wsolkern.report.plain import visible
from wsolkern.report.sections import sections_of

if TYPE_CHECKING:
    from wsolkern.studies.reporting import Report, RunReport

MOST_THUMBNAILS = 6000
"""Images above which a page links to their files."""


def check_extra() -> None:
    """Does nothing if pages can be made here; to be called before long work.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"a page needs jinja2 and matplotlib ({error}): pip install 'wsolkern[report]'") from error


def page_of(
    report: "Report",
    *,
    images: str | os.PathLike[str] | None = None,
    with_thumbnails: bool = True,
    beside: str | os.PathLike[str] = ".",
    title: str = "",
    sections: Sequence[Section] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Page:
    """What the file says, all of it.

    Args:
        report: What was gathered.
        images: Folder that image ids are paths below; None: the viewer shows maps alone.
        with_thumbnails: Put small copies of the images into the page, unless there are more than
            :data:`MOST_THUMBNAILS`; else the page links to the files.
        beside: The folder that the page will be in, which links start from.
        title: What stands above; "": the names of the runs and the split.
        sections: What stands above the viewer, for those who have others; None: what :func:`sections_of` gives.
        progress: Called with "thumbnails", the number of images done and of all.

    Raises:
        ImportError: jinja2 or matplotlib is not installed (the ``report`` extra).
    """
    check_extra()
    protocol, split = report.protocol, report.split
    boxes = split.resized_boxes(protocol.size)
    ids = report.image_ids if split.kind == "boxes" else ()
    small: Sequence[bytes | None] | None = None
    links: list[str | None] | None = None
    if images is not None and ids:
        if with_thumbnails and len(ids) <= MOST_THUMBNAILS:
            small = thumbnails(images, ids, split.image_sizes, progress=progress)
        else:
            links = [_link(images, each, beside) for each in ids]
    sizes = [split.image_sizes.get(each, (0, 0))[::-1] for each in ids]
    classes = None
    if split.class_labels:
        classes = [visible(report.class_name(split.class_labels[each])) for each in ids]
    names = " and ".join(run.name for run in report.runs)
    return Page(
        title=visible(title or f"{names} on {os.path.basename(os.path.normpath(split.folder))}"),
        size=protocol.size,
        thresholds=protocol.thresholds,
        iou_thresholds=protocol.iou_thresholds.tolist(),
        contours=report.contours,
        normalizations=protocol.names,
        ids=[visible(each) for each in ids],
        truths=[np.asarray(boxes[each], np.int32) for each in ids],
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        runs=[_run(report, each) for each in report.runs] if ids else [],
        classes=classes if ids else None,
        thumbnails=small,
        links=links,
        sections=sections_of(report) if sections is None else sections,
    )


def html_of(report: "Report", **how: Any) -> str:
    """The whole file.

    Args:
        report: What was gathered.
        how: All else that :func:`page_of` takes.
    """
    return render(page_of(report, **how))


def write_page(path: str | os.PathLike[str], report: "Report", **how: Any) -> None:
    """Writes the file, whole or not at all; the same bytes each time for the same maps and arguments.

    Args:
        path: Its name.
        report: What was gathered.
        how: All else that :func:`page_of` takes; links to images start from the file's folder.

    Raises:
        ImportError: jinja2 or matplotlib is not installed (the ``report`` extra).
        OSError: It cannot be written; what was there stays as it was.
    """
    write_whole(path, html_of(report, **{"beside": Path(path).parent, **how}).encode())


def _run(report: "Report", run: "RunReport") -> Run:
    looked, places = run.looked, report.places(run)
    is_whole = len(places) == len(looked.image_ids)
    rows: slice | np.ndarray = slice(None) if is_whole else places  # a slice copies nothing
    assert looked.boxes is not None and looked.num_contours is not None
    assert looked.curves is not None and looked.errors is not None
    views = [
        View(
            chosen=looked.chosen[m],
            boxes=looked.boxes[m, rows],
            ious=looked.ious[m, rows],
            best_ious=looked.best_ious[m, rows],
            curves=looked.curves[m, rows],
            num_contours=looked.num_contours[m, rows],
            degenerate=looked.degenerate[m, rows],
            errors=[CATEGORIES[each].replace("_", " ") for each in looked.errors[m, rows].tolist()],
        )
        for m in range(len(report.protocol.names))
    ]
    predicted = None
    if any(each in run.predicted for each in report.image_ids):
        predicted = [visible(_predicted(report, run, each)) for each in report.image_ids]
    return Run(
        name=visible(run.name),
        maps=[looked.maps[place] for place in places.tolist()],
        views=views,
        are_score_maps=report.protocol.normalizations is None,
        predicted=predicted,
    )


def _predicted(report: "Report", run: "RunReport", image_id: str) -> str:
    """What the predicted class is called; a number where it is none of the named ones, "" where it is not known."""
    number = run.predicted.get(image_id, -1)
    if report.class_names is not None and number >= len(report.class_names):
        return str(number)
    return "" if number < 0 else report.class_name(number)


def _link(root: str | os.PathLike[str], image_id: str, beside: str | os.PathLike[str]) -> str:
    """The address of an image's file, from the page's folder."""
    path = os.path.relpath(os.path.abspath(Path(root, image_id)), os.path.abspath(beside))
    return quote(Path(path).as_posix())

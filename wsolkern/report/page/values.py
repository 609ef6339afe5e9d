"""What a report's page is made of: values that a study gathers and that the page writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Section:
    """A part of the page above the viewer: a table, figures, the record of the run."""

    title: str
    html: str
    """Finished HTML; what came from outside (ids, class names, paths) is escaped already."""


@dataclass(frozen=True, eq=False)
class View:
    """Every image of a run under one normalization."""

    chosen: np.ndarray
    """Which threshold was chosen for each IoU threshold, int64 [D], indices of the page's thresholds."""
    boxes: np.ndarray
    """Box nearest to a ground-truth box at the chosen thresholds, int32 [N, D, 4], x0 y0 x1 y1, evaluated pixels."""
    ious: np.ndarray
    """IoU of these boxes with the nearest ground truth, float64 [N, D]."""
    best_ious: np.ndarray
    """Best IoU over all thresholds, float64 [N]."""
    curves: np.ndarray
    """IoU of the nearest box at every threshold, float32 [N, T]: drawn, never compared."""
    num_contours: np.ndarray
    """Contours at the threshold chosen for the middle IoU threshold, int64 [N]."""
    degenerate: np.ndarray
    """Whether the normalization leaves nothing of the map, bool [N]."""
    errors: Sequence[str] | None = None
    """The error breakdown's word for every image, at the middle IoU threshold."""


@dataclass(frozen=True, eq=False)
class Run:
    """A store of CAMs under every normalization of the page."""

    name: str
    maps: Sequence[np.ndarray]
    """Raw CAMs, float32 or float64 [h, w], one an image, as stored; score maps where `are_score_maps`."""
    views: Sequence[View]
    """One a normalization of the page, in its order."""
    are_score_maps: bool = False
    """The maps came normalized: they are shown as they are, and the page has no other normalization."""
    predicted: Sequence[str] | None = None
    """Name of the predicted class of every image, where the store kept logits."""


@dataclass(frozen=True, eq=False)
class Page:
    """One report."""

    title: str
    size: tuple[int, int]
    """Height and width in pixels that maps are resized to: of boxes, overlays and IoUs."""
    thresholds: np.ndarray
    """Fractions of a map's maximum level, float64 [T]."""
    iou_thresholds: Sequence[float]
    """Fractions, D of them."""
    contours: str
    """"all" or "largest"."""
    normalizations: Sequence[str]
    """The listed ones, such as "ivr:0.45"; the viewer has every other by computing it."""
    ids: Sequence[str]
    truths: Sequence[np.ndarray]
    """Ground-truth boxes of every image, int32 [N_i, 4] in evaluated pixels, inclusive."""
    image_sizes: np.ndarray
    """Height and width of every image in its own pixels, int64 [N, 2]."""
    runs: Sequence[Run]
    """One, or two that are compared."""
    classes: Sequence[str] | None = None
    """Name of the class of every image."""
    thumbnails: Sequence[bytes | None] | None = None
    """JPEG of every image, its longer side some 224 pixels; None without a folder of images."""
    links: Sequence[str | None] | None = None
    """Relative addresses of the images' files, where thumbnails are left out."""
    sections: Sequence[Section] = field(default_factory=tuple)

    def check(self) -> None:
        """Does nothing if all parts are about the same images, thresholds and normalizations.

        Raises:
            ValueError: They are not; the message names the part.
        """
        num, num_thresholds = len(self.ids), len(self.thresholds)
        parts: dict[str, Sequence[object] | np.ndarray | None] = {
            "truths": self.truths,
            "image_sizes": self.image_sizes,
            "classes": self.classes,
            "thumbnails": self.thumbnails,
            "links": self.links,
        }
        for run in self.runs:
            parts |= {f"maps of {run.name}": run.maps, f"predicted classes of {run.name}": run.predicted}
            if len(run.views) != len(self.normalizations):
                raise ValueError(f"{run.name}: expected {len(self.normalizations)} views, found {len(run.views)}")
            for name, view in zip(self.normalizations, run.views, strict=True):
                for part in ("boxes", "ious", "best_ious", "curves", "num_contours", "degenerate", "errors"):
                    parts[f"{part} of {run.name}, {name}"] = getattr(view, part)
                if num and view.curves.shape[1] != num_thresholds:
                    found = view.curves.shape[1]
                    raise ValueError(
                        f"curves of {run.name}, {name}: expected {num_thresholds} thresholds, found {found}"
                    )
        for part, values in parts.items():
            if values is not None and len(values) != num:
                raise ValueError(f"{part}: expected {num} images, found {len(values)}")
        if num and not 1 <= len(self.runs) <= 2:
            raise ValueError(f"runs: expected one or two, found {len(self.runs)}")

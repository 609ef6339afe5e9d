"""Figures 1 to 6 of the paper, as values measured on one's own stores.

In: CAM stores whose manifests name data set, split, method and backbone; their ground truth. Out: a PaperFigure.
Source: Kim et al., arXiv 2107.13221, figures 1 to 6.

Figure 2 of the paper is a drawing of an idea, not of data; here it is the same for one map of a store.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import CamStore
from wsolkern.datasets import Metadata, load_metadata
from wsolkern.errors import ArgumentError
from wsolkern.metrics.diagnostics import RunExtremes
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import inputs, normalize, resize
from wsolkern.studies import paper
from wsolkern.studies.diagnosis import diagnose
from wsolkern.studies.evaluation import Sweep, sweep
from wsolkern.studies.passes import Progress
from wsolkern.studies.showing import Shown, show
from wsolkern.studies.tabulation import table

NOTES = {
    1: "mean over the backbones that there are, by method and normalization",
    2: "the paper's figure is a drawing of the idea; this is one map of the store: value before, score after",
    3: "score maps and the boxes at the best thresholds of the split",
    4: "minimum against maximum of each map, and whether its box is right at the best threshold for IoU 0.7",
    5: "accuracy over the percentile of IVR",
    6: "minimum against maximum of each map",
}
_FAMILIES = ("minmax", "max", "pas", "ivr")


@dataclass(frozen=True, eq=False)
class Alignment:
    """What normalizations make of the values of one map (figure 2)."""

    image_id: str
    values: np.ndarray
    """The map's values at the evaluation size, ascending, float64 [H W]."""
    scores: dict[Normalization, np.ndarray]
    """Normalization -> the score of each of them, float64 [H W]."""

    def to_dict(self) -> dict[str, Any]:
        """The range, and how many values each normalization sends to 0 and 1; as JSON can hold it."""
        ends = {str(each): [int((some <= 0).sum()), int((some >= 1).sum())] for each, some in self.scores.items()}
        about = {"minimum": float(self.values[0]), "maximum": float(self.values[-1]), "num_values": len(self.values)}
        return {"image_id": self.image_id, **about, "num_at_0_and_1": ends}


@dataclass(frozen=True, eq=False)
class PaperFigure:
    """What one of the paper's figures shows, of some stores; fields that it has not are empty."""

    number: int
    stores: tuple[str, ...]
    bars: dict[tuple[str, str], dict[str, dict[str, float]]]
    """Figure 1: (data set, metric) -> method -> family of normalizations -> percent."""
    alignment: Alignment | None
    """Figure 2."""
    shown: Shown | None
    """Figure 3."""
    runs: tuple[RunExtremes, ...]
    """Figures 4 and 6, one a store."""
    sweeps: tuple[Sweep, ...]
    """Figure 5, one a store."""
    problems: Mapping[str, Mapping[str, str]]
    """Store -> image id -> why it was left out."""

    @property
    def note(self) -> str:
        """What it shows, in words."""
        return NOTES[self.number]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it but single maps."""
        import wsolkern

        return {
            "wsolkern": wsolkern.__version__,
            "figure": self.number,
            "note": self.note,
            "stores": list(self.stores),
            "bars": [{"dataset": d, "metric": m, "methods": each} for (d, m), each in self.bars.items()],
            "alignment": self.alignment and self.alignment.to_dict(),
            "shown": self.shown and self.shown.to_dict(),
            "extremes": [
                {
                    **run.diagnosis.to_dict(),
                    "store": run.name,
                    "num_localized": {str(each): int(right.sum()) for each, right in run.localized.items()},
                }
                for run in self.runs
            ],
            "percentile_curves": [[each.to_dict() for each in one.percentile_curves] for one in self.sweeps],
            "missing": {store: dict(each) for store, each in self.problems.items() if each},
        }


def figure(
    number: int,
    stores: Sequence[str | os.PathLike[str]],
    metadata_root: str | os.PathLike[str] | None = None,
    *,
    mask_roots: Mapping[str, str | os.PathLike[str]] | None = None,
    images: str | os.PathLike[str] | None = None,
    image_ids: Sequence[str] = (),
    num_resamples: int = 0,
    size: tuple[int, int] = defaults.SIZE,
    progress: Progress | None = None,
) -> PaperFigure:
    """What a figure of the paper shows, measured on stores of one's own.

    Args:
        number: 1 to 6.
        stores: CAM stores; one for the figures 2 and 3.
        metadata_root: Folder of DATASET/SPLIT folders with the ground truth, named as the manifests say; for all
            figures but 2 and 6, which need none.
        mask_roots: Data set -> folder that its mask paths start from.
        images: Figure 3: folder of images.
        image_ids: Figures 2 and 3: which images; none: the store's first one, or some at even distances.
        num_resamples: Figure 5: resamples of the images for the bands; 0: none.
        size: Height and width of the evaluation, in pixels.
        progress: As for the studies that figures are made by: table, show, diagnose, sweep.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DatasetError, ValueError, Interrupted: As from these studies.

    Source: Kim et al., arXiv 2107.13221, figures 1 to 6.
    """
    if number not in NOTES:
        raise ArgumentError("number", f"expected a figure from 1 to 6, found {number}")
    if not stores or (number in (2, 3) and len(stores) != 1):
        raise ArgumentError("stores", f"expected {'one' if number in (2, 3) else 'some'}, found {len(stores)}")
    if metadata_root is None and number not in (2, 6):
        raise ArgumentError("metadata_root", f"needed for figure {number}, found none")
    for name, given, where in (
        ("images", images is not None, (3,)), ("image_ids", bool(image_ids), (2, 3)),
        ("num_resamples", num_resamples > 0, (5,)),
    ):  # fmt: skip
        if given and number not in where:
            raise ArgumentError(name, f"is for figure {' and '.join(map(str, where))}, found figure {number}")
    opened = [CamStore(each) for each in stores]
    roots = {paper.canonical(dataset): root for dataset, root in (mask_roots or {}).items()}
    bars: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    alignment, shown, runs, sweeps = None, None, [], []
    problems: dict[str, Mapping[str, str]] = {}
    if number == 1:
        found = table(stores, metadata_root, mask_roots=mask_roots, size=size, progress=progress)
        bars, problems = _bars(found.tables[0]), dict(found.problems)
    elif number == 2:
        alignment = _alignment(opened[0], image_ids, size)
    else:
        splits = [None if number == 6 else _split(each, Path(str(metadata_root))) for each in opened]
        for store, split in zip(opened, splits, strict=True):
            if number == 4 and split is not None and split.kind != "boxes":
                raise ArgumentError("stores", f"figure 4 is about boxes, found {store.path} with {split.kind}")
        for store, split in zip(opened, splits, strict=True):
            mask_root = roots.get(paper.canonical(store.manifest.dataset or "")) if split is not None else None
            how: dict[str, Any] = {"mask_root": mask_root, "size": size, "progress": progress}
            name = os.fspath(store.path)
            if split is None or number == 4:
                (one,) = diagnose([store.path], split, **how).stores
                runs.append(one.extremes)
                problems[name] = one.problems
            elif number == 3:
                shown = show(store.path, split, images=images, image_ids=image_ids, **how)
                problems[name] = shown.problems
            else:
                sweeps.append(sweep(store.path, split, num_resamples=num_resamples, with_logits=False, **how))
                problems[name] = sweeps[-1].counted.problems
    return PaperFigure(
        number, tuple(os.fspath(each) for each in stores), bars, alignment, shown, tuple(runs), tuple(sweeps), problems
    )


def _split(store: CamStore, root: Path) -> Metadata:
    """The ground truth that a store's manifest names."""
    manifest = store.manifest
    if not manifest.dataset or not manifest.split:
        raise ArgumentError("stores", f"expected a data set and a split in the manifest of {store.path}, found none")
    return load_metadata(root / paper.metadata_folder(manifest.dataset) / manifest.split)


def _bars(found: paper.PaperTable) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """The mean over backbones of each method and family."""
    values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for each in found.figures.values():
        if each.value is not None and each.backbone != "mean":
            methods = values.setdefault((each.dataset, each.metric), {})
            methods.setdefault(each.method, {}).setdefault(each.normalization, []).append(each.value)
    return {
        column: {
            method: {family: float(np.mean(some[family])) for family in _FAMILIES if family in some}
            for method, some in methods.items()
        }
        for column, methods in values.items()
    }


def _alignment(store: CamStore, image_ids: Sequence[str], size: tuple[int, int]) -> Alignment:
    if len(image_ids) > 1:
        raise ArgumentError("image_ids", f"expected one image for figure 2, found {len(image_ids)}")
    known = store.image_ids
    image_id = image_ids[0] if image_ids else known[0]
    if image_id not in known:
        raise ArgumentError("image_ids", f"expected an image of {store.path}, such as {known[0]}, found {image_id!r}")
    cam = store.read(image_id)
    values = np.asarray(inputs.on_host(resize(cam[None], size)))[0].ravel()
    order = np.argsort(values, kind="stable")
    scores = {
        each: np.asarray(inputs.on_host(normalize(cam, each, size))).ravel()[order]
        for each in parse_all(defaults.NORMALIZATIONS)
    }
    return Alignment(image_id, values[order], scores)

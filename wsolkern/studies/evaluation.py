"""Evaluate and sweep: maps and ground truth to the metrics of every normalization, in one pass.

In: a folder or store of CAMs or score maps, a split. Out: an Evaluation; a Sweep has curves over percentile, too.
Source: Choe et al., arXiv 2007.04178 (metrics); Kim et al., arXiv 2107.13221, equations 3-6 and figure 5.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern import defaults
from wsolkern.cams import open_maps
from wsolkern.datasets import Metadata
from wsolkern.errors import DatasetError
from wsolkern.machine import gpu_of
from wsolkern.metrics import Result
from wsolkern.metrics.curves import PercentileCurve, percentile_curves
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS
from wsolkern.studies.counting import SplitCount, evaluator_for, fingerprint, mask_files_of
from wsolkern.studies.passes import Counted, NothingCounted, Progress, about_maps, alone, run_pass
from wsolkern.studies.provenance import Data, Provenance, protocol_dict


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one split's maps."""

    counted: Counted
    """What was counted, and what was left out."""
    result: Result
    """A row a normalization."""
    provenance: Provenance = field(kw_only=True)
    """What it was made of and with."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """All of it as JSON can hold it; thresholds and the arrays over them only if ``curves``."""
        made = {"provenance": self.provenance.to_dict()}
        return self.counted.to_dict() | self.result.to_dict(curves=curves) | made

    def _repr_html_(self) -> str:
        """The result's table, for notebooks."""
        return self.result._repr_html_()


@dataclass(frozen=True, eq=False)
class Sweep(Evaluation):
    """The same with curves over percentile."""

    percentile_curves: tuple[PercentileCurve, ...]
    """Of each normalization that has several percentiles, each metric that was measured."""

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """As :meth:`Evaluation.to_dict`, with the curves over percentile."""
        return super().to_dict(curves=curves) | {
            "percentile_curves": [each.to_dict() for each in self.percentile_curves]
        }


def evaluate(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str | None" = defaults.NORMALIZATIONS,
    *,
    mask_root: str | os.PathLike[str] | None = None,
    nwc: bool = False,
    size: tuple[int, int] = defaults.SIZE,
    thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
    iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
    device: str = "cpu",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates the maps of a split.

    Maps that are missing or unreadable are left out of the counts and listed in the value.

    Args:
        maps: A CAM store, or a folder or file of maps as :class:`wsolkern.datasets.MapFolder` reads them.
        split: The ground truth, from :func:`wsolkern.datasets.load_metadata`.
        normalizations: What to normalize with, strings such as "ivr:0.45"; ranges are expanded. None: the maps are
            score maps, in [0, 1] and of the evaluation size.
        mask_root: Folder that the split's mask paths start from; for masks only.
        nwc: Take the NWC maps of a store that has them.
        size: Height and width, in pixels, that CAMs are resized to.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions, D of them.
        device: "cpu" or "cuda": where maps are evaluated.
        resume: File that counts are saved to every few seconds, and gone on from if it is there.
        progress: Called with "evaluating", the number of images done and the number of images.

    Returns:
        The metrics, and what was left out.

    Raises:
        ArgumentError: An argument is not as above; it carries the argument's name.
        DeviceUnavailable: There is no such device.
        NothingCounted: No map could be read.
        DatasetError: Maps and split do not belong together, or another process counts into ``resume``.
        ValueError: ``resume`` is about something else, or what it counted has changed.
        Interrupted: SIGINT or SIGTERM came.

    Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
    """
    started, place = time.perf_counter(), gpu_of(device)
    state = None if resume is None else Path(resume)
    with alone(resume, {os.fspath(maps): split}, mask_root):
        evaluator = evaluator_for(
            split,
            normalizations,
            mask_root=mask_root,
            size=size,
            thresholds=thresholds,
            iou_thresholds=iou_thresholds,
        )
        about, store = about_maps(maps, "score maps" if normalizations is None else "CAMs", nwc)
        if store is not None:
            _check_kind(maps, store.manifest.content, normalizations is None)
            store.check_split(split)
        job = fingerprint(split, mask_root, about)
        counting = SplitCount(evaluator, split.image_ids, job, mask_files=mask_files_of(split, mask_root))
        if state is not None and state.exists():
            counting.load(state)
        found = run_pass(
            counting,
            lambda remaining: open_maps(maps if store is None else store, remaining, siblings=split.image_ids, nwc=nwc),
            "evaluating",
            state=state,
            device=place,
            progress=progress,
            scaled=None if normalizations is None else os.fspath(maps),
        )
    if not evaluator.num_images:
        raise NothingCounted(maps, found.problems, len(split.image_ids))
    seconds = time.perf_counter() - started
    about_it = os.fspath(maps), split, evaluator.size, evaluator.num_images, found.problems, seconds
    data = Data.of(maps, store, split, mask_root, nwc)
    made = Provenance.of("evaluate", (data,), protocol_dict(evaluator.protocol), device=device)
    return Evaluation(Counted(*about_it, found.warnings, found.save), evaluator.compute(), provenance=made)


def sweep(
    maps: str | os.PathLike[str],
    split: Metadata,
    normalizations: "Iterable[str | Normalization] | str" = defaults.CANDIDATES,
    **how: Any,
) -> Sweep:
    """Evaluates many normalizations and percentiles in one pass; a normalization that is repeated counts once.

    Args:
        maps: As for :func:`evaluate`.
        split: See there.
        normalizations: Such as "max ivr:0.00..0.95/0.05".
        how: All else that :func:`evaluate` takes.

    Raises:
        ValueError: As from there.

    Source: Kim et al., arXiv 2107.13221, figure 5 (accuracy over percentile).
    """
    wanted = tuple(dict.fromkeys(parse_all(normalizations)))
    found = evaluate(maps, split, wanted, **how)
    made = replace(found.provenance, study="sweep")
    return Sweep(found.counted, found.result, tuple(percentile_curves(found.result)), provenance=made)


def _check_kind(maps: str | os.PathLike[str], content: str, wants_score_maps: bool) -> None:
    """Raises DatasetError if a store holds the other kind of maps."""
    if not wants_score_maps and content == "score maps":
        raise DatasetError(
            f"{os.fspath(maps)}: holds score maps, which are normalized already: wsolkern evaluate --score-maps"
        )
    if wants_score_maps and content == "cams":
        raise DatasetError(f"{os.fspath(maps)}: holds raw CAMs, expected score maps: wsolkern evaluate --cams")

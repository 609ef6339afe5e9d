"""The tables of the paper: its layouts, its numbers, and ours in their place.

In: figures (method, normalization, data set, backbone, metric, value). Out: a PaperTable.
Source: Kim et al., arXiv 2107.13221, tables 1 and 2; kim2021.csv beside this file holds their numbers as printed.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from wsolkern.metrics import Metric

if TYPE_CHECKING:
    from wsolkern.metrics import Result
    from wsolkern.metrics.localization import At, LocalizationFigure

PUBLISHED_LAYOUTS = ("backbones", "ious")  # table 1, table 2
LAYOUTS = (*PUBLISHED_LAYOUTS, "localization")  # what other papers print: Top-1, Top-5 and GT-known
NORMALIZATIONS = {"minmax": "min-max", "max": "max", "pas": "PaS", "ivr": "IVR"}  # family -> what the rows are called
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
PAS = 0.9  # the percentile of PaS in all tables
NWC = "+NWC"  # what is appended to a method whose negative classifier weights are clamped to 0

_METHODS = ("CAM", "HaS", "ACoL", "SPG", "ADL", "CutMix")
_DATASETS = ("ImageNet", "CUB", "OpenImages")
_BACKBONES = ("VGG16", "InceptionV3", "ResNet50")
_MEAN = "mean"
_IVR = {
    "ImageNet": {"VGG16": 0.25, "InceptionV3": 0.35, "ResNet50": 0.30},
    "CUB": {"VGG16": 0.45, "InceptionV3": 0.60, "ResNet50": 0.60},
    "OpenImages": {"VGG16": 0.05, "InceptionV3": 0.05, "ResNet50": 0.05},
}
# How else they are spelled: lower case, letters and digits only.
_SPELLINGS = {
    **{name.lower(): name for name in (*_METHODS, *_DATASETS, *_BACKBONES)},
    **dict.fromkeys(("ilsvrc", "ilsvrc2012", "imagenet1k"), "ImageNet"),
    **dict.fromkeys(("cub200", "cub2002011", "cub200201"), "CUB"),
    **dict.fromkeys(("openimages30k", "openimagesv5"), "OpenImages"),
    **dict.fromkeys(("vgg", "vgg16gap"), "VGG16"),
    **dict.fromkeys(("inception", "inceptionv3gap"), "InceptionV3"),
}
_FOLDERS = {"ImageNet": "ILSVRC"}  # where the field's metadata spells a data set differently

Column = tuple[str, str, str]  # data set, backbone, metric
Place = tuple[str, str, str, str, str]  # method, normalization, and a column
_PLACE = ("method", "normalization", "dataset", "backbone", "metric")
COLUMNS = (*_PLACE, "percentile", "value", "published", "difference")


def canonical(name: str) -> str:
    """A method, data set or backbone as the paper spells it ("vgg16" is VGG16, "ILSVRC" is ImageNet).

    Case and punctuation do not matter. A name that the paper does not have comes back as it is.
    """
    return _SPELLINGS.get(re.sub(r"[^a-z0-9]", "", name.lower()), name)


def metadata_folder(dataset: str) -> str:
    """What the field's metadata calls the folder of a data set: ILSVRC for ImageNet."""
    return _FOLDERS.get(canonical(dataset), canonical(dataset))


def ivr_percentile(dataset: str | None, backbone: str | None) -> float | None:
    """The paper's IVR percentile, a fraction: selected with CAM on train-fullsup, used for every method.

    None for a data set or backbone that is not the paper's.
    """
    return _IVR.get(canonical(dataset or ""), {}).get(canonical(backbone or ""))


@dataclass(frozen=True)
class Figure:
    """One number of a table."""

    method: str
    """As in "CAM", or "HaS+NWC"."""
    normalization: str
    """The family: "minmax", "max", "pas" or "ivr"."""
    dataset: str
    """As in "CUB"."""
    backbone: str
    """As in "VGG16"; "mean" for the mean of the backbones; "" where the source names none."""
    metric: str
    """ "MaxBoxAccV2", "PxAP", "BoxAcc@30" (by IoU threshold), "BoxAcc_mean", or "Top-1 Loc", "Top-5 Loc" and "GT-known
    Loc" (MaxBoxAcc's box, IoU 0.5)."""
    value: float | None = None
    """Percent, as measured; None if it was not."""
    percentile: float | None = None
    """Of IVR or PaS, a fraction; None for the others, for means, and where it is not known."""
    published: float | None = None
    """Percent, as the paper prints it; None if it has no such number."""

    @property
    def place(self) -> Place:
        """What tells two figures apart."""
        return self.method, self.normalization, self.dataset, self.backbone, self.metric

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points; None if there are not both."""
        return None if self.value is None or self.published is None else self.value - self.published


@dataclass(frozen=True)
class PaperTable:
    """Figures in the places of one of the paper's tables; :func:`arrange` makes it."""

    layout: str
    """One of :data:`LAYOUTS`."""
    rows: tuple[tuple[str, str], ...]
    """Method and family of normalization, in the paper's order."""
    columns: tuple[Column, ...]
    """Data set, backbone and metric, in the paper's order."""
    figures: dict[Place, Figure]
    """By method, normalization, data set, backbone and metric; not in it is what was neither measured nor printed."""
    measured: bool
    """Whether it is about our figures; else it shows the paper's."""

    def at(self, row: tuple[str, str], column: Column) -> Figure:
        """The figure of a cell, an empty one where there is none."""
        return self.figures.get((*row, *column)) or Figure(*row, *column)

    def is_best(self, row: tuple[str, str], column: Column) -> bool:
        """Whether no normalization of that method prints more in that column."""
        shown = {each: self._shown(each, column) for each in self.rows if each[0] == row[0]}
        return not math.isnan(shown[row]) and shown[row] == max(each for each in shown.values() if each == each)

    def to_dict(self) -> dict[str, Any]:
        """The cells row by row, as JSON can hold them: :data:`COLUMNS`, and whether it is in bold ("best")."""
        cells = []
        for row in self.rows:
            for column in self.columns:
                figure = self.at(row, column)
                cells.append({name: getattr(figure, name) for name in COLUMNS} | {"best": self.is_best(row, column)})
        return {"layout": self.layout, "cells": cells}

    def groups(self) -> list[tuple[tuple[str, ...], list[tuple[str, Column]]]]:
        """The header: (title, [(heading, column), ...]) for neighbours under one title, which has one or two parts."""
        grouped: dict[tuple[str, ...], list[tuple[str, Column]]] = {}
        for column in self.columns:
            dataset, backbone, metric = column
            second, heading = (metric, backbone) if self.layout == "backbones" else (backbone, metric)
            heading = "Mean" if heading in (_MEAN, "BoxAcc_mean") else heading
            grouped.setdefault((dataset, second) if second else (dataset,), []).append((heading, column))
        return list(grouped.items())

    def _shown(self, row: tuple[str, str], column: Column) -> float:
        figure = self.at(row, column)
        value = figure.value if self.measured else figure.published
        return math.nan if value is None else round(value, 2)


def result_figures(result: "Result", *, method: str, dataset: str, backbone: str, at: "At" = "best") -> list[Figure]:
    """All figures of one run.

    Args:
        result: Rows of which each normalization of the paper (:data:`NORMALIZATIONS`) is at most one.
        method: Names as in :class:`Figure`.
        dataset: See above.
        backbone: See above.
        at: Where over thresholds localization with classification is taken: see :meth:`Result.localization`.

    Returns:
        For each row MaxBoxAccV2 and the maximal box accuracy (all contours) by IoU threshold with their mean, or PxAP;
        where images were counted with logits, Top-1, Top-5 and GT-known localization with MaxBoxAcc's box, too.
    """
    found = []
    by_row: Sequence[Sequence[LocalizationFigure]] = [()] * len(result)
    if all(row.localized is not None for row in result):
        by_row = result.localization(at)
    for (normalization, row), localized in zip(result.by_normalization().items(), by_row, strict=True):
        percentile = normalization.pas if normalization.ivr is None else normalization.ivr
        metrics = {} if row.pxap is None else {Metric.PXAP.value: row.pxap}
        if row.max_box_acc_v2 is not None and row.max_box_acc_v2_per_iou is not None:
            metrics |= {Metric.MAX_BOX_ACC_V2.value: row.max_box_acc_v2, "BoxAcc_mean": row.max_box_acc_v2}
            metrics |= {f"BoxAcc@{100 * iou:.6g}": value for iou, value in row.max_box_acc_v2_per_iou.items()}
        metrics |= {f"{each.name} Loc": each.figure for each in localized if each.metric is Metric.MAX_BOX_ACC}
        for metric, value in metrics.items():
            found.append(Figure(method, normalization.name, dataset, backbone, metric, value, percentile))
    return found


@cache
def published_figures() -> tuple[Figure, ...]:
    """The paper's tables 1 and 2, every number as printed; their means differ from their rows by up to 0.09.

    Table 1 is MaxBoxAccV2 and PxAP, table 2 is BoxAcc. The backbone of table 2 is "": kim2021.csv names none.
    """
    found = []
    text = files(__package__).joinpath("kim2021.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(io.StringIO(text)):
        dataset, backbone, family = line["dataset"], line["backbone"], line["norm"]
        percentile = {"pas": PAS, "ivr": ivr_percentile(dataset, backbone)}.get(family)
        place = line["method"], family, dataset, backbone, line["metric"]
        found.append(Figure(*place, percentile=percentile, published=float(line["value"])))
    return tuple(found)


def arrange(figures: Iterable[Figure], layout: str, *, published: bool = False) -> PaperTable:
    """Puts figures into the layout of one of the paper's tables.

    Rows are methods x normalizations and columns data sets x backbones (x IoU thresholds), as far as there are figures;
    what the paper has comes first, in its order, the rest in the order of its appearance. Where a data set has several
    backbones, layout "backbones" adds their mean for every row that has all of them.

    Args:
        figures: As :func:`result_figures` gives them; no two of one place. If there are none, the table is the paper's.
        layout: "backbones" (table 1), "ious" (table 2) or "localization" (Top-1, Top-5, GT-known; not in the paper).
        published: Set the paper's number beside each figure that it has one for. Those of table 2 stand in columns of
            their own, since their backbone is not known.

    Raises:
        ValueError: Another layout; two figures of one place.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected {', '.join(LAYOUTS)}, found {layout!r}")
    shown: dict[Place, Figure] = {}
    for figure in figures:
        if _belongs(figure, layout) and shown.setdefault(figure.place, figure) is not figure:
            raise ValueError(f"figures: expected one of {' '.join(figure.place)}, found two")
    measured = bool(shown)
    papers = {figure.place: figure for figure in published_figures() if _belongs(figure, layout)}
    if layout == "backbones":
        for figure in _means(list(shown.values())):
            shown[figure.place] = figure
    if not measured:
        shown = papers
    elif published:
        for place, figure in papers.items():
            if place in shown and _comparable(figure, shown):
                shown[place] = replace(shown[place], published=figure.published)
            elif not figure.backbone and any(each[:3] == place[:3] for each in shown):
                shown[place] = figure
    datasets = _Order(_DATASETS, (figure.dataset for figure in shown.values()))
    backbones = _Order(_BACKBONES, (figure.backbone for figure in shown.values()))
    methods = _Order(_METHODS, (figure.method.removesuffix(NWC) for figure in shown.values()))
    metrics = _Order((), (figure.metric for figure in shown.values()))

    def row_order(row: tuple[str, str]) -> tuple[int, str, int]:
        return methods[row[0].removesuffix(NWC)], row[0], list(NORMALIZATIONS).index(row[1])

    def column_order(column: Column) -> tuple[int, bool, int, bool, int]:
        dataset, backbone, metric = column
        return datasets[dataset], backbone == _MEAN, backbones[backbone], metric == "BoxAcc_mean", metrics[metric]

    return PaperTable(
        layout,
        tuple(sorted({place[:2] for place in shown}, key=row_order)),
        tuple(sorted({place[2:] for place in shown}, key=column_order)),
        shown,
        measured,
    )


class _Order(dict[str, int]):
    """Name -> its place: the known ones first, then the others as they come."""

    def __init__(self, known: Sequence[str], names: Iterable[str]):
        super().__init__((name, place) for place, name in enumerate(dict.fromkeys((*known, *names))))


def _belongs(figure: Figure, layout: str) -> bool:
    """Whether a layout has a place for it. PxAP has one in both of the paper's, so that no run is dropped."""
    if figure.metric.endswith(" Loc") or layout == "localization":
        return figure.metric.endswith(" Loc") and layout == "localization"
    if figure.value is None and layout == "ious":  # the paper's
        return figure.metric.startswith("BoxAcc")
    return figure.metric == Metric.PXAP or figure.metric.startswith("BoxAcc") == (layout == "ious")


def _comparable(paper: Figure, shown: Mapping[Place, Figure]) -> bool:
    """A mean can be compared with the paper's only if it is over the same backbones."""
    over = {place[3] for place in shown if place[2] == paper.dataset} - {_MEAN}
    return paper.backbone != _MEAN or over == set(_BACKBONES)


def _means(figures: list[Figure]) -> list[Figure]:
    """Means over backbones, for rows that have all those of a data set with several."""
    found = []
    for dataset in dict.fromkeys(figure.dataset for figure in figures):
        backbones = {figure.backbone for figure in figures if figure.dataset == dataset}
        rows: dict[tuple[str, str, str], list[float]] = {}
        for figure in figures:
            if figure.dataset == dataset and figure.value is not None:
                rows.setdefault((figure.method, figure.normalization, figure.metric), []).append(figure.value)
        for (method, normalization, metric), values in rows.items():
            if len(values) == len(backbones) > 1:
                found.append(Figure(method, normalization, dataset, _MEAN, metric, math.fsum(values) / len(values)))
    return found

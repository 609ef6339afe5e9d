"""The parts of a report's page above its viewer: tables, figures, the record of the run, as HTML.

In: a Report of :mod:`wsolkern.studies.reporting`. Out: Sections; every text in them is escaped by the templates.
Source: Kim et al., arXiv 2107.13221, figures 4 and 5; Choe et al., arXiv 2007.04178, section 4.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsolkern.box_rule import CHOE
from wsolkern.metrics.breakdown import CATEGORIES
from wsolkern.metrics.diagnostics import RunExtremes, diagnose, has_range
from wsolkern.metrics.metric import Metric, usual_iou_threshold
from wsolkern.report.inline import inline_svg
from wsolkern.report.page import Section
from wsolkern.report.per_image import group_columns
from wsolkern.report.plain import visible
from wsolkern.report.tables import about_localization, localization_columns
from wsolkern.studies.evaluation import Sweep
from wsolkern.studies.reporting import pairs

if TYPE_CHECKING:
    from wsolkern.metrics.bootstrap import Bootstrap, Difference
    from wsolkern.studies.reporting import Report, RunReport

_MOST_POINTS = 2000  # of a scatter that are single marks; more are a picture
_NUM_APART = 10  # images that a comparison names on either side
_NUM_MISSING = 20  # images that were left out and are named
_FOLDED = 12  # rows from which on a table of groups is folded


@dataclass(frozen=True)
class Table:
    """Cells of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    num_texts: int = 1
    """How many of the columns, from the left, are texts; the others are numbers."""
    folded: str = ""
    """What stands on it while it is closed; "": it is always open."""


@dataclass(frozen=True)
class Drawn:
    """A figure."""

    svg: Any
    caption: str


@dataclass(frozen=True)
class Part:
    """A piece of a section."""

    heading: str = ""
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Drawn] = ()
    facts: Sequence[tuple[str, str]] = ()
    json: Any = None
    json_id: str = ""


@dataclass(eq=False)
class _Figures:
    """Gives figures their keys."""

    num: int = field(default=0)

    def draw(self, figure: Any, label: str, caption: str) -> Drawn:
        self.num += 1
        return Drawn(inline_svg(figure, label, f"figure{self.num}"), caption)


def sections_of(report: "Report") -> list[Section]:
    """All sections, in order.

    Raises:
        ImportError: jinja2 or matplotlib is not installed (the ``report`` extra).
    """
    drawing = _Figures()
    parts: list[tuple[str, list[Part]]] = [("Figures", [*_figures(report)])]
    if report.is_comparison:
        parts.append(("Comparison", [*_comparison(report)]))
    else:
        parts.append(("Differences between normalizations", [*_differences(report)]))
    masks = report.split.kind == "masks"
    parts += [
        ("Precision and recall" if masks else "Accuracy over the threshold", [*_curves(report, drawing)]),
        ("Accuracy over the percentile", [*_percentiles(report, drawing)]),
        ("Minimum and maximum of the maps", [*_extremes(report, drawing)]),
        ("Errors", [*_errors(report)]),
        ("By size and class of the object", [*_groups(report)]),
        ("Record", [*_record(report)]),
    ]
    template = _environment().get_template("section.html")
    return [Section(title, template.render(parts=some)) for title, some in parts if some]


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=PackageLoader("wsolkern.report"), autoescape=True, finalize=shown, keep_trailing_newline=False
    )


def _of(report: "Report", run: "RunReport") -> str:
    """The heading of what is about one of the runs; none where there is one."""
    return run.name if report.is_comparison else ""


def _percent(value: float, interval: tuple[float, float] | None = None) -> str:
    return f"{value:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


def _figures(report: "Report") -> Iterator[Part]:
    protocol = report.protocol
    height, width = protocol.size
    text = (
        f"{len(report.split.image_ids):,} images of {report.split.folder}. Maps are resized to {width} x {height} "
        f"pixels and cut at {len(protocol.thresholds):,} thresholds. All figures are in percent."
    )
    for run in report.runs:
        about = [] if run is not report.runs[0] else [text]
        missing = len(run.evaluation.counted.problems)
        if missing:
            about.append(f"{missing:,} images were left out, because their maps are missing or cannot be read.")
        bootstrap = next(iter(run.bootstraps.values()), None)
        if bootstrap is not None:
            about.append(
                f"In brackets: the {100 * bootstrap.confidence:.6g}% bootstrap interval over "
                f"{len(bootstrap.resampled):,} resamples of the {bootstrap.num_images:,} images."
            )
        else:
            about.append("Score maps have no bootstrap intervals.")
        if run.evaluation.counted.warnings:
            about += [f"Note: {each}." for each in run.evaluation.counted.warnings]
        yield Part(_of(report, run), " ".join(about), [*_metrics(run), *_localization(run)])
    if report.split.kind == "masks":
        yield Part(text="The objects of this split are masks. The box viewer is for boxes, so this page has none.")


def _metrics(run: "RunReport") -> Iterator[Table]:
    """The metrics with their intervals; then what MaxBoxAccV2 is the mean of."""
    head, cells = ["normalization"], [[row.name] for row in run.result]
    parts, lines = ["normalization"], [[row.name] for row in run.result]
    usual = usual_iou_threshold(run.result.iou_thresholds)
    for figures in zip(*(row.measured() for row in run.result), strict=True):
        first = figures[0]
        is_part = first.metric == Metric.MAX_BOX_ACC_V2 and first.iou is not None
        if first.metric == Metric.MAX_BOX_ACC and first.iou != usual:
            continue
        names, rows = (parts, lines) if is_part else (head, cells)
        at_iou = "" if first.iou is None else f"IoU {first.iou:g}"
        names.append(at_iou if is_part else f"{first.metric}{at_iou and f', {at_iou}'}")
        bootstrap = None if is_part else run.bootstraps.get(Metric.parse(first.metric))
        for each, row in zip(figures, rows, strict=True):
            row.append(_percent(each.value, bootstrap and bootstrap[row[0]].interval))
        if first.threshold is not None:
            names.append("at")
            for each, row in zip(figures, rows, strict=True):
                row.append(f"{each.threshold:.6g}")
    if run.result.rows[0].peak_iou is not None:
        head += ["peak IoU", "at"]
        for of, row in zip(run.result, cells, strict=True):
            row += [_percent(of.peak_iou or 0.0), f"{of.peak_iou_threshold:.6g}"]
    head.append("degenerate")
    for of, row in zip(run.result, cells, strict=True):
        row.append(f"{of.num_degenerate:,}")
    yield Table(head, cells)
    if len(parts) > 1:
        yield Table(parts, lines, "what MaxBoxAccV2 is the mean of, each at its best threshold")


def _localization(run: "RunReport") -> list[Table]:
    if run.localization is None:
        return []
    listed = replace(run.evaluation, result=run.result, localization=run.localization)
    columns = localization_columns(listed)
    head = [f"{group} {heading}".strip() for group, heading, _ in columns]
    return [Table(head, [*zip(*(cells for *_, cells in columns), strict=True)], about_localization(listed))]


def _differences(report: "Report") -> Iterator[Part]:
    (run,) = report.runs
    for metric, bootstrap in run.bootstraps.items():
        found = pairs(run, metric)
        if found:
            about = f"{metric}, the first minus the second on the same resamples, in percentage points"
            yield Part(tables=[_difference_table(found, bootstrap, ("first", "second"), about)])


def _difference_table(
    found: "Sequence[Difference]", bootstrap: "Bootstrap", names: tuple[str, ...], caption: str
) -> Table:
    head = [*names, "difference", "low", "high", "first is better in", "excludes 0"]
    rows = [
        [
            *(str(each.first), str(each.second))[: len(names)],
            f"{each.figure:+.2f}",
            *(f"{end:+.2f}" for end in each.interval),
            f"{100 * each.share_above:.1f} %",
            "yes" if each.excludes_zero else "no",
        ]
        for each in found
    ]
    return Table(head, rows, f"{caption}; {100 * bootstrap.confidence:.6g}% intervals", len(names))


def _comparison(report: "Report") -> Iterator[Part]:
    first, second = report.runs
    text = (
        f"First: {first.name}. Second: {second.name}. {len(report.image_ids):,} images have maps in both; differences "
        "are of these, first minus second, each resample the same images for both."
    )
    tables = [
        _difference_table(each, first.bootstraps[metric], ("normalization",), f"{metric}, in percentage points")
        for metric, each in report.differences.items()
    ]
    yield Part(text=text, tables=tables)
    a, b = report.ious(first), report.ious(second)
    right = a >= report.iou_threshold, b >= report.iou_threshold
    rows = [
        [name, *(f"{int(each[m].sum()):,}" for each in (both, only_a, only_b, neither))]
        for both, only_a, only_b, neither in [
            (right[0] & right[1], right[0] & ~right[1], ~right[0] & right[1], ~right[0] & ~right[1])
        ]
        for m, name in enumerate(report.protocol.names)
    ]
    head = ["normalization", "both", "only the first", "only the second", "neither"]
    caption = f"images localized at IoU {report.iou_threshold:g}, each run at its own threshold"
    yield Part(tables=[Table(head, rows, caption)])
    if apart := [*_apart(report, a[0], b[0])]:
        text = f"By IoU under {report.protocol.names[0]}, each run at its own threshold."
        yield Part("Images where they differ most", text, apart)


def _apart(report: "Report", a: np.ndarray, b: np.ndarray) -> Iterator[Table]:
    for sign, name in ((1, "first"), (-1, "second")):
        order = np.argsort(-sign * (a - b), kind="stable")[:_NUM_APART]
        rows = [
            [report.image_ids[place], f"{a[place]:.3f}", f"{b[place]:.3f}", f"{a[place] - b[place]:+.3f}"]
            for place in order.tolist()
            if sign * (a[place] - b[place]) > 0
        ]
        if rows:
            yield Table(["image", "IoU, first", "IoU, second", "difference"], rows, f"the {name} is better")


def _curves(report: "Report", drawing: _Figures) -> Iterator[Part]:
    from wsolkern.report import style

    metrics: list[Metric] = [Metric.PXAP] if report.split.kind == "masks" else [Metric.MAX_BOX_ACC_V2]
    if report.split.kind == "boxes" and report.contours == "largest":
        metrics = [Metric.MAX_BOX_ACC]
    for run in report.runs:
        figures = []
        for metric in metrics:
            num = len(run.result.iou_thresholds) if metric.contours else 1
            figure = style.new_figure(4.2 * num, 3.6, layout="constrained")
            run.result.plot(metric, axes=figure.subplots(1, num, squeeze=False)[0])
            figures.append(drawing.draw(figure, _spoken(run, metric), _about_curves(metric)))
        yield Part(_of(report, run), figures=figures)


def _about_curves(metric: Metric) -> str:
    if metric is Metric.PXAP:
        return "Pixel precision over recall; PxAP is the area below."
    contours = "the largest contour" if metric is Metric.MAX_BOX_ACC else "all contours"
    return f"Box accuracy of {contours} over the threshold, a panel for each IoU threshold; a dot marks the best."


def _spoken(run: "RunReport", metric: Metric) -> str:
    """What a figure of curves shows, in words."""
    figures = ", ".join(f"{row.name} {metric.figure(row):.2f} percent" for row in run.result)
    what = "Precision over recall" if metric is Metric.PXAP else "Box accuracy over the threshold"
    return f"{what} of {run.name}. {metric}: {figures}."


def _percentiles(report: "Report", drawing: _Figures) -> Iterator[Part]:
    from wsolkern.report.curves import percentile_figure

    for run in report.runs:
        found = run.evaluation
        if not isinstance(found, Sweep) or not found.percentile_curves:
            continue
        peaks = ", ".join(
            f"{each.metric} of {each.name} has its peak {each.values[each.peak]:.2f} at {each.percentiles[each.peak]:g}"
            for each in found.percentile_curves
        )
        label = f"Figures of {run.name} over the percentile. {peaks}."
        caption = "Over the percentile P; lines across are normalizations without one. A ring marks the peak."
        figure = percentile_figure(found.percentile_curves, levels=found.levels)
        text = "The peak is that of these images: a percentile is chosen on others (wsolkern select)."
        yield Part(_of(report, run), text, figures=[drawing.draw(figure, label, caption)])


def _extremes(report: "Report", drawing: _Figures) -> Iterator[Part]:
    from wsolkern.report.diagnostics import extremes_figure

    for run in report.runs:
        minima, maxima = run.looked.extremes
        if run.result.rows[0].normalization is None or not has_range(minima, maxima).any():
            continue
        hits = run.looked.ious[..., report.middle] >= report.iou_threshold
        localized = {row.normalization: each for row, each in zip(run.result, hits, strict=True) if row.normalization}
        seen = RunExtremes(run.name, diagnose(minima, maxima), minima, maxima, localized=localized)
        figure = extremes_figure([seen], report.iou_threshold, rasterized=len(minima) > _MOST_POINTS)
        label = (
            f"Minimum and maximum of {seen.diagnosis.num_maps:,} maps of {run.name}, a panel a normalization. Right "
            f"at IoU {report.iou_threshold:g}: "
            + ", ".join(f"{name} {100 * each.mean():.1f} percent" for name, each in localized.items())
            + "."
        )
        kind = "mask" if report.split.kind == "masks" else "box"
        caption = (
            f"A point a map, at the evaluation size before normalization; a cross: its {kind} is wrong at IoU "
            f"{report.iou_threshold:g}. Standard deviation of the maxima over that of the minima: "
            f"{seen.diagnosis.ratio:.2f}."
        )
        yield Part(_of(report, run), figures=[drawing.draw(figure, label, caption)])


def _errors(report: "Report") -> Iterator[Part]:
    for run in report.runs:
        if run.looked.errors is None:
            return
        rows = [
            [name, *(f"{counts[each]:,}" for each in CATEGORIES)]
            for name, counts in zip(report.protocol.names, run.looked.num_errors(), strict=True)
        ]
        which = (
            "of all contours that is nearest to the object" if report.contours == "all" else "of the largest contour"
        )
        caption = f"images by what is wrong with the box {which}, at IoU {report.iou_threshold:g}"
        head = ["normalization", *(each.replace("_", " ") for each in CATEGORIES)]
        yield Part(_of(report, run), tables=[Table(head, rows, caption)])


def _groups(report: "Report") -> Iterator[Part]:
    for run in report.runs:
        tables = []
        for each in run.groupings:
            groups = each.groups
            caption = "in percent; own: at the group's best thresholds, overall: at those of all images"
            if each.size_bounds is not None:
                lower, upper = each.size_bounds
                caption += f"; objects of at most {lower:,} pixels are small, of at most {upper:,} medium"
            else:
                groups = tuple(replace(one, name=report.class_name(int(one.name))) for one in groups)
            columns = group_columns(groups, each.by)
            rows = [*zip(*(cells for _, cells in columns), strict=True)]
            # The name of a group is a text, and so is the third column; the number of images stands last of the texts.
            order = [0, 2, 1, *range(3, len(columns))]
            head, rows = [columns[k][0] for k in order], [[row[k] for k in order] for row in rows]
            folded = f"by {each.by}: {len(groups):,} groups" if len(rows) > _FOLDED else ""
            tables.append(Table(head, rows, f"by {each.by}, {caption}", 2, folded))
        yield Part(_of(report, run), tables=tables)


def _record(report: "Report") -> Iterator[Part]:
    protocol, split = report.protocol, report.split
    thresholds = protocol.thresholds
    facts = [
        ("evaluation size", f"{protocol.size[0]} x {protocol.size[1]} pixels, height x width"),
        ("thresholds", f"{len(thresholds):,}, from {thresholds[0]:g} to {thresholds[-1]:g}"),
        ("IoU thresholds", ", ".join(f"{each:g}" for each in protocol.iou_thresholds.tolist())),
        ("box rule", str(CHOE)),
        ("normalizations", ", ".join(protocol.names)),
        ("metadata", split.folder),
        ("SHA-256 of the metadata", report.runs[0].evaluation.provenance.data[0].metadata_sha256),
    ]
    yield Part("Protocol and ground truth", facts=facts)
    for number, run in enumerate(report.runs):
        made = run.evaluation.provenance
        (data,) = made.data
        facts = [("maps", data.maps), ("NWC maps", "yes" if data.nwc else "no")]
        if run.manifest is not None:
            about = {name: value for name, value in asdict(run.manifest).items() if value not in (None, {}, "")}
            facts += [(name.replace("_", " "), _plain(value)) for name, value in about.items()]
        facts += [
            ("SHA-256 of the manifest", data.manifest_sha256 or "none: the maps are in no store"),
            ("SHA-256 of the index", data.index_sha256 or "none"),
            ("backend", made.backend),
            ("evaluated with", _plain(made.versions)),
        ]
        for metric, bootstrap in run.bootstraps.items():
            num = len(bootstrap.resampled)
            facts.append(
                (f"bootstrap, {metric}", f"{num:,} resamples of {bootstrap.num_images:,}, seed {bootstrap.seed}")
            )
        missing = run.evaluation.counted.problems
        for image_id, reason in [*missing.items()][:_NUM_MISSING]:
            facts.append((f"left out: {image_id}", reason))
        if len(missing) > _NUM_MISSING:
            facts.append(("left out", f"{len(missing) - _NUM_MISSING:,} more; the result below has all"))
        text = "The result is in this file, too: wsolkern verify makes it again from the maps and compares it."
        json_id = "result" if number == 0 else f"result-{number + 1}"
        yield Part(f"Run {run.name}", text, facts=facts, json=_json(run), json_id=json_id)


def _plain(value: Any) -> str:
    """A value of a manifest in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return "yes" if value is True else "no" if value is False else str(value)


def _json(run: "RunReport") -> Any:
    """The evaluation's JSON for a script element, which ends at "</" and knows no other escape than JSON's own."""
    from markupsafe import Markup

    content = {name: value for name, value in run.evaluation.to_dict().items() if name != "seconds"}
    text = json.dumps(content, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))

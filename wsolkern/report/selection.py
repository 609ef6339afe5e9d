"""What was chosen on train-fullsup and how it does on test: one row a normalization, each beside the best one.

In: choices and a Bootstrap of what was chosen. Out: rich tables, Markdown, CSV; all in percent or percentage points.
Source: the protocol of Choe et al., arXiv 2007.04178, section 4; intervals: Efron & Tibshirani, 1993, chapter 13.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsolkern.metrics.selection import best
from wsolkern.report import tables
from wsolkern.report.plain import markdown_text

if TYPE_CHECKING:
    from rich.table import Table

    from wsolkern.metrics.bootstrap import Bootstrap
    from wsolkern.metrics.selection import Choice


def caption(choices: "Sequence[Choice]", bootstrap: "Bootstrap", val: str, test: str, *, fixed: bool) -> list[str]:
    """What the table is about, in a few lines.

    Args:
        choices: What was chosen.
        bootstrap: Its figures on test.
        val: Images that it was chosen on, in words.
        test: Images of the figures on test, in words.
        fixed: Whether thresholds were chosen on val, too.
    """
    chosen = [f"{each.normalization} of {len(each.curve)} candidates" for each in choices if len(each.curve) > 1]
    chosen += ["thresholds"] if fixed else []
    level = f"{100 * bootstrap.confidence:.6g}%"
    return [
        f"{bootstrap.metric} in percent" + (", each split at the thresholds chosen on val" if fixed else ""),
        f"val: {val}; chosen there: {', '.join(chosen) or 'nothing'}",
        f"test: {test}; {level} intervals from {len(bootstrap.resampled):,} resamples of them (seed {bootstrap.seed})",
        *(["*: the interval of the difference does not hold 0"] if len(choices) > 1 else []),
    ]


def columns(choices: "Sequence[Choice]", bootstrap: "Bootstrap", *, fixed: bool) -> list[tuple[str, list[str]]]:
    """What the tables show, column by column: (heading, one cell a normalization).

    Args:
        choices: What was chosen.
        bootstrap: Its figures on test.
        fixed: Whether thresholds were chosen on val, too; then they have a column.
    """
    level, reference = f"{100 * bootstrap.confidence:.6g}%", best(choices).normalization
    chosen = [choice.normalization for choice in choices]
    estimates = [bootstrap[each] for each in chosen]
    differences = [bootstrap.difference(each, reference) for each in chosen]
    found = [("normalization", [*map(str, chosen)]), ("val", [f"{choice.figure:.2f}" for choice in choices])]
    if fixed:
        heading = " ".join(["thresholds", *(f"{iou:g}" for iou in choices[0].thresholds)])
        found.append((heading, [" ".join(f"{t:.6g}" for t in choice.thresholds.values()) for choice in choices]))
    found += [
        ("test", [f"{each.figure:.2f}" for each in estimates]),
        (f"{level} interval", [_interval(each.interval, ".2f") for each in estimates]),
    ]
    if len(choices) > 1:
        marked = [f"{each.figure:+.2f}{'*' if each.excludes_zero else ' '}" for each in differences]
        intervals = [_interval(each.interval, "+.2f") for each in differences]
        for heading, cells in ((f"minus {reference}", marked), (f"{level} interval of it", intervals)):
            found.append((heading, ["" if each == reference else c for each, c in zip(chosen, cells, strict=True)]))
    return found


def rich_tables(shown: list[tuple[str, list[str]]], width: int) -> "list[Table]":
    """Columns as a table for a terminal of ``width`` columns; where it is too wide, differences are a second table."""
    if sum(max(map(len, (heading, *cells))) + 2 for heading, cells in shown) <= width:
        return [_rich_table(shown)]
    first = next(place for place, (heading, _) in enumerate(shown) if heading.endswith("interval")) + 1
    return [_rich_table(shown[:first]), *([_rich_table([shown[0], *shown[first:]])] if shown[first:] else [])]


def markdown(lines: Sequence[str], shown: list[tuple[str, list[str]]]) -> str:
    """The caption's lines and the columns as Markdown."""
    table = [
        [markdown_text(heading) for heading, _ in shown],
        ["---", *["---:"] * (len(shown) - 1)],
        *([markdown_text(cell.strip()) for cell in row] for row in zip(*(cells for _, cells in shown), strict=True)),
    ]
    rows = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join(["  \n".join(map(markdown_text, lines)), "", *rows, ""])


def csv_text(choices: "Sequence[Choice]", bootstrap: "Bootstrap", *, fixed: bool) -> str:
    """One line a normalization, numbers in full; thresholds only where they were chosen on val."""
    reference = best(choices).normalization
    lines = []
    for choice in choices:
        estimate = bootstrap[choice.normalization]
        difference = bootstrap.difference(choice.normalization, reference)
        lines.append(
            {
                "normalization": choice.normalization,
                "family": choice.family,
                "num_candidates": len(choice.curve),
                "metric": bootstrap.metric,
                "val": choice.figure,
                **({f"threshold_{iou:g}": value for iou, value in choice.thresholds.items()} if fixed else {}),
                "test": estimate.figure,
                "test_low": estimate.interval[0],
                "test_high": estimate.interval[1],
                "compared_with": reference,
                "difference": difference.figure,
                "difference_low": difference.interval[0],
                "difference_high": difference.interval[1],
                "excludes_zero": difference.excludes_zero,
                "share_above": difference.share_above,
            }
        )
    return tables.csv_text(lines)


def _interval(ends: tuple[float, float], spec: str) -> str:
    return f"{ends[0]:{spec}} to {ends[1]:{spec}}"


def _rich_table(shown: list[tuple[str, list[str]]]) -> "Table":
    table = tables.plain_table()
    for heading, _ in shown:
        justify = "left" if heading == "normalization" else "right"
        table.add_column(heading, justify=justify, style="bold" if heading == "test" else None, no_wrap=True)
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*row)
    return table

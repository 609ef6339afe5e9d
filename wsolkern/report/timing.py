"""What a profile found, for the terminal: stages by their share of the time, and what limits the run.

In: the findings of :mod:`wsolkern.studies.timing`. Out: a rich table, and lines below it.
Source: none.
"""

import statistics
from typing import TYPE_CHECKING

from wsolkern.report.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from wsolkern.studies.timing import Findings


def rich_table(found: "Findings", what: str) -> "Table":
    """The stages, a row each; ``what`` is what was profiled."""
    table = plain_table(f"{what}: {found.profile.seconds:,.3f} s")
    for heading in ("stage", "on", "threads", "ms", "share", "maps/s", "MB moved", "of copy"):
        table.add_column(heading, justify="left" if heading in ("stage", "on") else "right")
    for row in found.rows:
        stage = row.stage
        table.add_row(
            stage.name,
            stage.place,
            str(stage.num_threads),
            f"{stage.seconds * 1e3:,.1f}",
            f"{row.share:.1%}",
            "" if row.maps_per_second is None else f"{row.maps_per_second:,.0f}",
            f"{stage.num_bytes / 1e6:,.1f}" if stage.num_bytes else "",
            "" if row.copy_fraction is None else f"{row.copy_fraction:.0%}",
        )
    return table


def lines(found: "Findings") -> list[str]:
    """Speed, copy bandwidths, what profiling cost, and what limits the run."""
    said = []
    if found.num_maps:
        said.append(f"  {found.num_maps / found.profile.seconds:,.0f} maps/s in all")
    for place, bandwidth in found.bandwidths.items():
        threads = f" by {found.num_threads} threads" if place == "host" else ""
        said.append(f"  copy bandwidth on {place}{threads}: {bandwidth / 1e9:.1f} GB/s")
    if found.overhead is not None:
        off, on = (statistics.median(each) * 1e3 for each in (found.unprofiled, found.profiled))
        text = f"medians of {len(found.profiled)} alternating passes, {found.overhead:+.1%} in the median pair"
        said.append(f"  profiling off {off:,.1f} ms, on {on:,.1f} ms: {text}")
    return [*said, found.limit()]

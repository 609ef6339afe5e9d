"""One row of the table: check against OpenCV first, time afterwards.

In: maps of one kind and what to evaluate them with. Out: times of wsolkern, of the published loop and of OpenCV on the
distinct levels, all from one run on one core; no time at all if a single hit differs.
Source: benchmarks/published.py and benchmarks/levels.py are the peers and, at the same time, the oracle.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import levels, published
from benchmarks.harness import WrongResult, batch_seconds, seconds
from benchmarks.inputs import SIZE, Inputs
from wsolkern.ops import DEFAULT_THRESHOLDS, count_box_hits, count_pixels

IOU_THRESHOLDS = np.array([0.3, 0.5, 0.7])
ONE = ("ivr:0.45",)
MANY = ("minmax", "max", "pas:0.9", *(f"ivr:{percent / 100}" for percent in range(0, 100, 5)), "ivr:0.45+pas:0.9")

# A peer works through maps until it has spent this long or has seen that many; it always does one.
PUBLISHED_SECONDS, PUBLISHED_MAPS = 4.0, 10
LEVELS_SECONDS, LEVELS_MAPS = 3.0, 25
CHECK_SECONDS = 8.0


@dataclass
class Row:
    """One line of the table. A peer that does not do this work has None."""

    work: str
    kind: str
    num_maps: int
    """Distinct maps that wsolkern was timed on."""
    num_checked: int
    """Of these, maps whose result was compared with OpenCV's."""
    ms: float
    """Milliseconds a map, all maps in one call: the median over calls."""
    ms_alone: float
    """Milliseconds a map, one map a call: the median over maps."""
    published_ms: float | None
    """Milliseconds a map: the median over ``num_published`` maps."""
    num_published: int
    levels_ms: float | None
    """Milliseconds a map: the median over ``num_levels`` maps."""
    num_levels: int
    bytes_read: int
    """Bytes of input a map, which have to be read from memory."""
    copy_fraction: float = 0.0
    """The share of the time that reading them at the speed of a memory copy would take."""
    cpu_share: float = 1.0
    """Processor time over elapsed time while wsolkern was timed; less than 1 if other programs took the core."""


def box_row(work: str, inputs: Inputs, normalizations: Sequence[str] | None) -> Row:
    """Hits of the largest and of all contours, summed over maps; None: from min-max score maps."""
    maps = inputs.cams
    if normalizations is None:
        maps = np.stack([published.score_map(cam, "minmax", SIZE) for cam in inputs.cams])

    def count(some: slice):
        return count_box_hits(
            maps[some],
            inputs.boxes[some],
            normalizations,
            DEFAULT_THRESHOLDS,
            IOU_THRESHOLDS,
            contours="both",
            size=SIZE,
        )[0]

    def score_maps(index: int) -> Iterator[np.ndarray]:
        if normalizations is None:
            yield maps[index]
        for each in normalizations or ():
            yield published.score_map(maps[index], each, SIZE)

    def with_levels(index: int, *, only_occurring: bool = False) -> np.ndarray:  # [2, M, D, T]
        truth = inputs.boxes[index]
        return np.stack(
            [
                levels.hits(scores, truth, DEFAULT_THRESHOLDS, IOU_THRESHOLDS, only_occurring=only_occurring)
                for scores in score_maps(index)
            ],
            axis=1,
        )

    def with_published(index: int) -> np.ndarray:  # [2, M, D, T]
        truth = inputs.boxes[index]
        return np.stack(
            [
                [
                    published.hits(scores, truth, DEFAULT_THRESHOLDS, IOU_THRESHOLDS, contours)
                    for contours in ("largest", "all")
                ]
                for scores in score_maps(index)
            ],
            axis=1,
        )

    by_published, published_seconds = _spend(with_published, len(maps), PUBLISHED_SECONDS, PUBLISHED_MAPS)
    by_levels, levels_seconds = _spend(with_levels, len(maps), LEVELS_SECONDS, LEVELS_MAPS)
    # Not timed: the same without tracing a binary image twice, for as many maps as there is time for.
    expected, _ = _spend(lambda index: with_levels(index, only_occurring=True), len(maps), CHECK_SECONDS, len(maps))
    for peer in (by_published, by_levels):
        for index, pair in enumerate(zip(peer, expected, strict=False)):
            if not np.array_equal(*pair):
                raise WrongResult(f"{work}, {inputs.name}: the peers differ from each other on map {index}")
    _check(f"{work}, {inputs.name}", count, expected)
    return _timed_row(work, inputs, count, len(expected), maps[0].nbytes, published_seconds, levels_seconds)


def pixel_row(work: str, inputs: Inputs, normalizations: Sequence[str]) -> Row:
    """Histograms of object and background pixels, summed over maps."""
    maps, masks = inputs.cams, inputs.masks()

    def count(some: slice):
        return count_pixels(maps[some], masks[some], normalizations, DEFAULT_THRESHOLDS, size=SIZE)[0]

    def with_numpy(index: int) -> np.ndarray:  # [M, 2, T + 2]
        return np.stack(
            [
                published.pixel_histogram(
                    published.score_map(maps[index], each, SIZE), masks[index], DEFAULT_THRESHOLDS
                )
                for each in normalizations
            ]
        )

    expected, numpy_seconds = _spend(with_numpy, len(maps), CHECK_SECONDS, len(maps))
    _check(f"{work}, {inputs.name}", count, expected)
    return _timed_row(work, inputs, count, len(expected), maps[0].nbytes + masks[0].nbytes, numpy_seconds)


def _spend(compute: Callable[[int], np.ndarray], num_maps: int, budget: float, limit: int):
    """Results and seconds of maps 0, 1, ... until ``budget`` seconds are over or ``limit`` maps done; at least one."""
    results, spent = [], []
    while len(results) < min(limit, num_maps) and sum(spent) < budget:
        start = time.perf_counter()
        results.append(compute(len(results)))
        spent.append(time.perf_counter() - start)
    return results, spent


def _check(name: str, count: Callable[[slice], np.ndarray], expected: list[np.ndarray]) -> None:
    """The very calls that are timed, on single maps and on all of them at once, against what is expected."""
    for index, each in enumerate(expected):
        num_wrong = np.count_nonzero(count(slice(index, index + 1)) != each)
        if num_wrong:
            raise WrongResult(f"{name}: {num_wrong} of {each.size} counts of map {index} differ from OpenCV's")
    if not np.array_equal(count(slice(0, len(expected))), np.sum(expected, axis=0)):
        raise WrongResult(f"{name}: the counts of {len(expected)} maps together are not the sum of the single ones")


def _timed_row(
    work: str,
    inputs: Inputs,
    count: Callable[[slice], np.ndarray],
    num_checked: int,
    bytes_read: int,
    published_seconds: list[float],
    levels_seconds: Sequence[float] = (),
) -> Row:
    """The row with the peers' times and wsolkern's."""
    num_maps = len(inputs.cams)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    together = batch_seconds(lambda: count(slice(None))) / num_maps
    alone = [seconds(lambda index=index: count(slice(index, index + 1))) for index in [*range(num_maps)] * 2]
    cpu_share = (time.process_time() - begun_cpu) / (time.perf_counter() - begun)
    return Row(
        work=work,
        kind=inputs.name,
        num_maps=num_maps,
        num_checked=num_checked,
        ms=together * 1e3,
        ms_alone=_median_ms(alone[num_maps:]),  # the first round warms up
        published_ms=_median_ms(published_seconds),
        num_published=len(published_seconds),
        levels_ms=_median_ms(levels_seconds) if levels_seconds else None,
        num_levels=len(levels_seconds),
        bytes_read=bytes_read,
        cpu_share=cpu_share,
    )


def _median_ms(seconds: Sequence[float]) -> float:
    return float(np.median(seconds)) * 1e3

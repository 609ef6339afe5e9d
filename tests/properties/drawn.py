"""What hypothesis draws: maps, boxes, masks, normalizations, box rules, protocols.

In: nothing. Out: strategies; ``often`` sets how many examples a property gets, more of them among the slow tests.
Source: none.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wsolkern import Normalization
from wsolkern.box_rule import _CHOICES, BOX_RULES, BoxRule
from wsolkern.metrics import Protocol

FAST, SLOW = 25, 400  # examples a property


def often(*strategies, **named) -> Callable:
    """``given``, the same examples at every run: a few of them now and many in a slow test of the same name."""

    def decorate(check):
        few, many = (
            settings(
                deadline=None,
                derandomize=True,
                max_examples=num,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
            )
            for num in (FAST, SLOW)
        )
        checked = given(*strategies, **named)

        @pytest.mark.parametrize("num", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
        def run(num):
            (few if num == FAST else many)(checked(check))()

        run.__name__, run.__doc__ = check.__name__, check.__doc__
        return run

    return decorate


def _values(kind: str) -> st.SearchStrategy[float]:
    """Pixels: few levels, so that there are ties and plateaus; or any of 1,536 values."""
    few, many = st.integers(0, 3).map(lambda k: k / 4), st.integers(-512, 1023).map(lambda k: k / 1024)
    return few if kind == "levels" else many


@st.composite
def maps(draw, most: int = 12, least: int = 1, square: bool = False) -> np.ndarray:
    """float64 [h, w], exact in float32, sides of ``least`` to ``most``."""
    height = draw(st.integers(least, most))
    width = height if square else draw(st.integers(least, most))
    values = _values(draw(st.sampled_from(["levels", "numbers"])))
    return draw(arrays.arrays(np.float64, (height, width), elements=values))


@st.composite
def boxes(draw, size: tuple[int, int], most: int = 3) -> np.ndarray:
    """int32 [n, 4], n >= 1, x0 y0 x1 y1 inside a map of that height and width."""
    height, width = size
    found = []
    for _ in range(draw(st.integers(1, most))):
        x, y = (sorted(draw(st.tuples(*[st.integers(0, side - 1)] * 2))) for side in (width, height))
        found.append((x[0], y[0], x[1], y[1]))
    return np.array(found, np.int32)


def masks(size: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    """uint8 [H, W] of 0, 1 and 255."""
    return arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 255]))


sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
"""Heights and widths."""

percentiles = st.one_of(st.integers(0, 99).map(lambda k: k / 100), st.floats(0, 1, exclude_max=True))

normalizations = st.one_of(
    st.sampled_from(["minmax", "max"]).map(Normalization),
    percentiles.map(lambda p: Normalization("pas", pas=p)),
    percentiles.map(lambda p: Normalization("ivr", ivr=p)),
    st.tuples(percentiles, percentiles).map(lambda p: Normalization("ivr+pas", ivr=p[0], pas=p[1])),
)

thresholds = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12).map(lambda each: np.sort(each))
"""float64 [T], non-decreasing."""

iou_thresholds = st.lists(st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]), min_size=1, max_size=3).map(np.array)


@st.composite
def box_rules(draw) -> BoxRule:
    """Published ones, and any whose fields do not contradict each other."""
    if draw(st.booleans()):
        return BOX_RULES[draw(st.sampled_from(sorted(BOX_RULES)))]
    fields = {name: draw(st.sampled_from(values)) for name, values in _CHOICES.items()}
    if fields["connectivity"] == 4 and fields["largest"] == "contour area":
        fields["largest"] = "pixel count"
    if fields["largest"] == "contour area":
        fields["ties"] = "last"
    if fields["interpolation"] == "cubic":
        fields["precision"] = "float64"
    return BoxRule(
        "own",
        **fields,
        normalization=draw(st.none() | normalizations),
        relative_to=draw(st.none() | st.floats(0, 1)),
        hole_borders=fields["connectivity"] == 8 and draw(st.booleans()),
        empty=draw(st.tuples(*[st.integers(0, 9)] * 4)),
        inclusive=draw(st.booleans()),
    )


protocols = st.builds(
    Protocol,
    st.none() | st.lists(normalizations, min_size=1, max_size=4),
    thresholds=thresholds,
    iou_thresholds=iou_thresholds,
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    box_rule=box_rules(),
)

"""The numbers that Python, the native core and the device code agree on.

In: what each module says of itself. Out: no difference.
Source: none.
"""

import pytest

from wsolkern import normalization
from wsolkern.ops import backends, constants

NAMES = {"NUM_LEVELS", "MAX_SIDE", "MAX_IOU_THRESHOLDS", "RANK_ZERO", "RANK_EXTREME", *constants.CONTOURS}


def in_python(name: str) -> int:
    if name in constants.CONTOURS:
        return constants.CONTOURS[name]
    return getattr(normalization if name.startswith("RANK_") else constants, name)


def test_the_native_core_has_pythons_constants(native):
    assert native.constants == {name: in_python(name) for name in NAMES}


def test_the_device_code_has_pythons_constants(cuda):
    found = backends.device_module().constants
    assert found == {name: in_python(name) for name in NAMES if not name.startswith("RANK_")}


@pytest.mark.parametrize("level", range(constants.NUM_LEVELS))
def test_each_level_has_its_smallest_score(level):
    score = constants.LEVEL_SCORES[level]
    assert int(score * constants.NUM_LEVELS) == level + 1
    assert int(constants.np.nextafter(score, 0) * constants.NUM_LEVELS) == level

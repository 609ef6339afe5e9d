"""The energy pointing game's sums: native and reference are equal, whatever counts and whatever has no score map."""

import numpy as np
import pytest
from cases import cams_of_one_size

from wsolkern import BackendUnavailable
from wsolkern.ops import affine
from wsolkern.ops.energies import BESIDE, NOT_COUNTED, ON_OBJECT, energies, energies_cpu, energies_reference


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (24, 33)])
def test_native_equals_reference(size, native):
    rng = np.random.default_rng(size[0])
    maps = cams_of_one_size(40, size, 5)
    maps[3] = -np.inf
    maps[4, 0, 0] = 1e300
    how = np.asarray(affine(maps, ["minmax", "max", "pas:0.5", "ivr:0.4+pas:0.9"]))
    parts = rng.integers(0, 3, maps.shape).astype(np.uint8)
    parts[:3] = np.array([NOT_COUNTED, BESIDE, ON_OBJECT])[:, None, None]
    found = energies_cpu(maps, how, parts)
    np.testing.assert_array_equal(found, energies_reference(maps, how, parts))
    shares = energies(maps, how, parts)
    np.testing.assert_array_equal(shares, energies(maps, how, parts, backend="reference"))
    assert not shares[:, :2].any() and ((shares[:, 2] == 1) | (found[:, 2, 1] == 0)).all()


def test_what_is_wrong_is_named():
    maps, how, parts = np.zeros((2, 3, 4)), np.ones((2, 1, 2)), np.ones((2, 3, 4), np.uint8)
    assert energies(maps, how, parts).shape == (1, 2)
    with pytest.raises(ValueError, match=r"affine: expected float64 \[2, M, 2\], found \(1, 1, 2\)"):
        energies(maps, how[:1], parts)
    with pytest.raises(ValueError, match=r"parts: expected uint8 \(2, 3, 4\), found bool"):
        energies(maps, how, parts.astype(bool))
    with pytest.raises(BackendUnavailable, match="no kernel does this"):
        energies(maps, how, parts, backend="cuda")

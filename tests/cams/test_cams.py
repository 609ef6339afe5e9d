"""CAMs equal their formula, with and without negative class weights.

In: random features and weights. Out: nothing.
Source: Zhou et al., arXiv 1512.04150, equation 2; NWC: Bae et al., ECCV 2020.
"""

import pytest
import torch

from wsolkern.cams import class_activation_maps

CLASSES = (6, 0, 6)


@pytest.fixture
def features_and_weights():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, 4, 6, generator=rng), torch.randn(7, 5, generator=rng)


@pytest.mark.parametrize("nwc", [False, True])
def test_cams_are_weights_times_features(features_and_weights, nwc):
    features, weights = features_and_weights
    expected = torch.zeros(3, 4, 6)
    for n, k in enumerate(CLASSES):
        for c in range(5):
            if not nwc or weights[k, c] > 0:
                expected[n] += weights[k, c] * features[n, c]
    found = class_activation_maps(features, weights, CLASSES, nwc=nwc)
    torch.testing.assert_close(found, expected)  # sums in another order


def test_weights_are_left_as_they_are(features_and_weights):
    features, weights = features_and_weights
    before = weights.clone()
    class_activation_maps(features, weights, CLASSES, nwc=True)
    assert torch.equal(weights, before) and (weights < 0).any()


def test_wrong_arguments_are_named(features_and_weights):
    features, weights = features_and_weights
    for classes in ([0, 1], [0, 1, 7], [0.0, 1.0, 2.0], [-1, 0, 1]):
        with pytest.raises(ValueError, match="classes: expected"):
            class_activation_maps(features, weights, classes)
    with pytest.raises(ValueError, match=r"features, weights: expected \[N, C, h, w\]"):
        class_activation_maps(features, weights[:, 1:], [0, 1, 2])

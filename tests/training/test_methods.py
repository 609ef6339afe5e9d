"""Each method's part equals a plain, slow transcription of its paper's equation, and repeats with its generator.

In: random images, features and maps. Out: nothing.
Source: arXiv 1704.04232 (HaS), 1804.06962 (ACoL), 1807.08902 (SPG), 1908.10028 (ADL), 1905.04899 (CutMix).
"""

import itertools
import math

import numpy as np
import pytest
import torch

from wsolkern.methods import acol, adl, attention, cutmix, has, spg, tap


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cross_entropy(logits, labels) -> float:
    """The mean of -log softmax of the label."""
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    return sum(math.log(sum(map(math.exp, row))) - row[label] for row, label in rows) / len(labels)


@pytest.fixture
def features():
    return torch.randn(3, 5, 4, 6, generator=generator(1))


@pytest.fixture
def images():
    return torch.rand(3, 2, 11, 14, generator=generator(2)) + 0.5


# HaS


@pytest.mark.parametrize(("grid_size", "drop_rate"), [(4, 0.5), (3, 0.2), (1, 0.7), (20, 0.5)])
def test_has_hides_cells(images, grid_size, drop_rate):
    before = images.clone()
    found = has.hide(images, grid_size, drop_rate, generator=generator(3))
    draws = torch.rand((3, 1, -(-11 // grid_size), -(-14 // grid_size)), generator=generator(3))
    expected = images.clone()
    for n, y, x in itertools.product(range(3), range(11), range(14)):
        if draws[n, 0, y // grid_size, x // grid_size] < drop_rate:
            expected[n, :, y, x] = 0
    assert torch.equal(found, expected) and torch.equal(images, before)


def test_has_hides_nothing_everything_or_about_its_rate(images):
    assert torch.equal(has.hide(images, 4, 0.0), images)
    assert not has.hide(images, 4, 1.0).any()
    hidden = has.hide(torch.ones(8, 1, 100, 100), 1, 0.3, generator=generator()) == 0
    assert abs(hidden.float().mean() - 0.3) < 0.01  # 80,000 draws: six standard deviations


def test_has_repeats_with_its_generator(images):
    first, second = (has.hide(images, generator=generator(7)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, has.hide(images, generator=generator(8)))


# ACoL


def test_min_max_scales_every_map(features):
    found = attention.min_max(features)
    for n, c in itertools.product(range(3), range(5)):
        low, high = min(features[n, c].flatten().tolist()), max(features[n, c].flatten().tolist())
        for y, x in itertools.product(range(4), range(6)):
            assert found[n, c, y, x].item() == pytest.approx(
                (features[n, c, y, x].item() - low) / (high - low), abs=1e-6
            )
    assert attention.min_max(torch.ones(2, 3, 3)).isnan().all()


def test_class_maps_are_those_of_the_labels(features):
    found = attention.class_maps(features, torch.tensor([4, 0, 4]))
    assert torch.equal(found, torch.stack([features[0, 4], features[1, 0], features[2, 4]]))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
def test_acol_erases_high_attention(features, threshold):
    looked_at = attention.min_max(torch.randn(3, 4, 6, generator=generator(3)))
    looked_at[2] = torch.nan  # of a constant map
    expected = features.clone()
    for n, y, x in itertools.product(range(3), range(4), range(6)):
        if looked_at[n, y, x] >= threshold:
            expected[n, :, y, x] = 0
    found = acol.erase(features, looked_at, threshold)
    assert torch.equal(found, expected) and torch.equal(found[2], features[2])
    assert (found[:2] == 0).any() and (threshold == 0 or not (found[:2] == 0).all())


def test_acol_adds_the_losses_of_both_branches():
    labels = torch.tensor([1, 0, 3])
    outputs = {name: torch.randn(3, 4, generator=generator(n)) for n, name in enumerate(("logits", "logit_b"))}
    expected = cross_entropy(outputs["logits"], labels) + cross_entropy(outputs["logit_b"], labels)
    assert acol.loss(outputs, labels).item() == pytest.approx(expected, rel=1e-5)  # float32


# ADL


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_adl_maps(features, threshold):
    importance, mask = adl.importance_map(features), adl.drop_mask(features, threshold)
    assert importance.shape == mask.shape == (3, 1, 4, 6)
    for n in range(3):
        mean = [[sum(features[n, c, y, x].item() for c in range(5)) / 5 for x in range(6)] for y in range(4)]
        highest = max(map(max, mean))
        for y, x in itertools.product(range(4), range(6)):
            assert importance[n, 0, y, x].item() == pytest.approx(1 / (1 + math.exp(-mean[y][x])), rel=1e-5)  # float32
            assert mask[n, 0, y, x].item() == (mean[y][x] < highest * threshold)


def test_adl_takes_one_map_for_the_batch(features):
    dropped, emphasized = features * adl.drop_mask(features), features * adl.importance_map(features)
    assert torch.equal(adl.attention_drop(features, 1.0), dropped)
    assert torch.equal(adl.attention_drop(features, 0.0), emphasized)
    draws = generator(5)
    found = [torch.equal(adl.attention_drop(features, 0.75, generator=draws), dropped) for _ in range(400)]
    assert abs(sum(found) / 400 - 0.75) < 0.1  # more than four standard deviations
    draws = generator(5)
    assert found == [bool(torch.rand((), generator=draws) >= 0.25) for _ in range(400)]


def test_adl_works_in_training_only(features):
    layer = adl.ADL(1.0, 0.5)
    assert torch.equal(layer(features), features * adl.drop_mask(features, 0.5))
    assert layer.eval()(features) is features and not layer.state_dict()
    for wrong in ((1.5, 0.5), (0.5, -0.1)):
        with pytest.raises(ValueError, match=r"ADL: expected .* in \[0, 1\], found"):
            adl.ADL(*wrong)


# SPG


def slow_mask(looked_at: list[list[float]], high: float, low: float) -> list[list[float]]:
    """Both thresholds, with the published rule for maps that hardly reach the high threshold."""
    values = [value for row in looked_at for value in row]
    if sum(value > high for value in values) < 30:
        high = 0.7 * max(values)
    return [[0.0 if value < low else 1.0 if value > high else 255.0 for value in row] for row in looked_at]


@pytest.mark.parametrize(("high", "low"), [*spg.THRESHOLDS, (0.3, 0.6), (0.99, 0.01)])
def test_spg_masks(high, low):
    looked_at = torch.rand(3, 1, 10, 12, generator=generator(4), dtype=torch.float64)
    looked_at[1] *= 0.4  # never reaches a high threshold
    found = spg.guidance_mask(looked_at, high, low)
    assert found[:, 0].tolist() == [slow_mask(each, high, low) for each in looked_at[:, 0].tolist()]
    assert found[1].eq(1).any() or low > 0.4


def slow_resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with half-pixel centers and repeated borders."""

    def position(index, new, old):
        place = max((index + 0.5) * old / new - 0.5, 0)
        before = min(int(place), old - 1)
        return before, min(before + 1, old - 1), place - before

    resized = np.empty((height, width))
    for y, x in np.ndindex(height, width):
        y0, y1, dy = position(y, height, values.shape[0])
        x0, x1, dx = position(x, width, values.shape[1])
        above = values[y0, x0] * (1 - dx) + values[y0, x1] * dx
        below = values[y1, x0] * (1 - dx) + values[y1, x1] * dx
        resized[y, x] = above * (1 - dy) + below * dy
    return resized


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@pytest.fixture
def guided(monkeypatch):
    """What an SPG network returns, in float64, with attention of 17 x 19 pixels to keep the loops short."""
    monkeypatch.setattr(spg, "SIZE", (17, 19))
    draws = generator(6)
    maps = torch.randn(2, 4, 5, 6, generator=draws, dtype=torch.float64)
    names = ("logits_b1", "logits_b2", "logits_c")
    outputs = {name: torch.randn(2, 1, 5, 6, generator=draws, dtype=torch.float64) for name in names}
    return maps, outputs | {"logits": maps.mean((2, 3))}, torch.tensor([3, 1])


def test_spg_attention_is_of_the_224_pixels_the_published_code_has():
    assert spg.SIZE == (224, 224)
    assert spg.resize(torch.zeros(1, 2, 7, 9)).shape == (1, 2, 224, 224)


def test_spg_attention(guided):
    maps, outputs, labels = guided
    found, fused = spg.attention_maps(maps.requires_grad_(), labels, outputs["logits_b1"], outputs["logits_b2"])
    assert not found.requires_grad and not fused.requires_grad
    for n in range(2):
        resized = slow_resize(maps[n, labels[n]].detach().numpy(), 17, 19)
        expected = (resized - resized.min()) / (resized.max() - resized.min())
        np.testing.assert_allclose(found[n, 0], expected, atol=1e-12)
        branches = [slow_resize(outputs[name][n, 0].numpy(), 17, 19) for name in ("logits_b1", "logits_b2")]
        np.testing.assert_allclose(fused[n, 0], (sigmoid(branches[0]) + sigmoid(branches[1])) / 2, atol=1e-12)


def test_spg_loss(guided):
    maps, outputs, labels = guided
    outputs["attention"], outputs["fused_attention"] = spg.attention_maps(
        maps, labels, outputs["logits_b1"], outputs["logits_b2"]
    )
    from_b2 = [sigmoid(slow_resize(outputs["logits_b2"][n, 0].numpy(), 17, 19)) for n in range(2)]
    attentions = outputs["attention"][:, 0].numpy(), from_b2, outputs["fused_attention"][:, 0].numpy()
    expected = cross_entropy(outputs["logits"], labels)
    for branch, looked_at, (high, low) in zip(("b2", "b1", "c"), attentions, spg.THRESHOLDS, strict=True):
        entropies = []
        for n in range(2):
            scores = sigmoid(slow_resize(outputs[f"logits_{branch}"][n, 0].numpy(), 17, 19))
            mask = slow_mask(looked_at[n].tolist(), high, low)
            for y, x in np.ndindex(17, 19):
                if mask[y][x] != 255:
                    entropies.append(-math.log(scores[y, x] if mask[y][x] else 1 - scores[y, x]))
        expected += sum(entropies) / len(entropies)
    assert spg.loss(outputs, labels).item() == pytest.approx(expected, rel=1e-12)


def test_spg_masks_guide_without_being_guided(guided):
    maps, outputs, labels = guided
    outputs["attention"], outputs["fused_attention"] = spg.attention_maps(
        maps, labels, outputs["logits_b1"], outputs["logits_b2"]
    )
    only_b1 = ((2.0, -1.0), (0.5, 0.05), (2.0, -1.0))
    outputs["logits_b1"].requires_grad_()
    outputs["logits_b2"].requires_grad_()
    spg.loss(outputs, labels, only_b1).backward()
    assert outputs["logits_b1"].grad.any()  # B2 makes B1's mask, and B1's loss leaves B2 alone
    before = outputs["logits_b2"].grad.clone()
    outputs["logits_b2"].grad = None
    spg.guidance_loss(outputs["logits_b2"], spg.guidance_mask(outputs["attention"], 2.0, -1.0)).backward()
    assert torch.equal(outputs["logits_b2"].grad, before)


def test_spg_without_a_known_pixel_is_no_loss():
    logits = torch.randn(1, 1, 4, 4, generator=generator(), requires_grad=True)
    loss = spg.guidance_loss(logits, torch.full((1, 1, 224, 224), spg.UNKNOWN))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


# CutMix


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("center", [(0, 0), (7, 5), (13, 10)])
def test_cutmix_boxes(share, center):
    height, width = 11, 14
    x0, y0, x1, y1 = cutmix.box(height, width, share, center)
    # Equation 2, halves truncated; the published code has both axes swapped, which a square does not show.
    half_width = int(width * math.sqrt(1 - share)) // 2
    half_height = int(height * math.sqrt(1 - share)) // 2
    inside = {(x, y) for x, y in itertools.product(range(x0, x1), range(y0, y1))}
    expected = set()
    for x, y in itertools.product(range(width), range(height)):
        if -half_width <= x - center[0] < half_width and -half_height <= y - center[1] < half_height:
            expected.add((x, y))
    assert inside == expected


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_mixes(images, seed):
    before, labels = images.clone(), torch.tensor([4, 9, 2])
    mixed = cutmix.mix(images, labels, generator=generator(seed))
    assert torch.equal(images, before) and torch.equal(mixed.labels_a, labels)
    partners = [labels.tolist().index(label) for label in mixed.labels_b.tolist()]
    assert sorted(partners) == [0, 1, 2]
    changed = (mixed.images != images).any(1).any(0)
    if partners != [0, 1, 2] and changed.any():
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert mixed.share == pytest.approx(1 - float((x1 - x0) * (y1 - y0)) / (11 * 14))
        for n, y, x in itertools.product(range(3), range(11), range(14)):
            source = partners[n] if y0 <= y < y1 and x0 <= x < x1 else n
            assert torch.equal(mixed.images[n, :, y, x], images[source, :, y, x])


def test_cutmix_draws_shares_and_probability(images):
    labels, draws = torch.tensor([4, 9, 2]), generator(1)
    found = [cutmix.mix(images, labels, probability=0.6, generator=draws) for _ in range(500)]
    kept = [each for each in found if each.images is images]
    assert abs(len(kept) / 500 - 0.4) < 0.1  # more than four standard deviations
    assert all(each.share == 1 and each.labels_b is labels for each in kept)
    assert all(0 <= each.share <= 1 for each in found)
    assert len({each.share for each in found}) > 30
    never = cutmix.mix(images, labels, probability=0.0)
    assert never.images is images and never.share == 1


def test_cutmix_repeats_with_its_generator(images):
    labels = torch.tensor([4, 9, 2])
    first, second = (cutmix.mix(images, labels, generator=generator(3)) for _ in range(2))
    assert torch.equal(first.images, second.images) and torch.equal(first.labels_b, second.labels_b)
    assert first.share == second.share != cutmix.mix(images, labels, generator=generator(4)).share


def test_cutmix_loss():
    logits, labels = torch.randn(3, 5, generator=generator(), dtype=torch.float64), torch.tensor([4, 0, 2])
    mixed = cutmix.Mixed(torch.empty(0), labels, labels.flip(0), 0.3)
    expected = 0.3 * cross_entropy(logits, labels) + 0.7 * cross_entropy(logits, labels.flip(0))
    assert cutmix.loss(logits, mixed).item() == pytest.approx(expected, rel=1e-12)


# TAP


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.6])
def test_tap(features, threshold):
    features = features.clamp(min=0).double()
    features[0, 1] = 0
    found = tap.pool(features, threshold)
    for n, c in itertools.product(range(3), range(5)):
        values = features[n, c].flatten().tolist()
        active = [value for value in values if value > threshold * max(values)]
        assert found[n, c].item() == pytest.approx(sum(active) / len(active) if active else 0, rel=1e-12)
    assert found[0, 1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda batch: has.hide(batch, 0), "HaS: expected grid_size >= 1"),
        (lambda batch: has.hide(batch, 4, 1.5), "HaS: .*found 4, 1.5"),
        (lambda batch: cutmix.mix(batch, torch.zeros(3), beta=0), "CutMix: expected beta > 0"),
        (lambda batch: cutmix.mix(batch, torch.zeros(3), probability=-1), "CutMix: .*found 1.0, -1"),
        (lambda batch: tap.pool(batch, 1.0), r"TAP: expected a threshold in \[0, 1\), found 1.0"),
    ],
)
def test_wrong_hyper_parameters_are_named(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(images)


def test_defaults_are_the_published_ones():
    assert (has.GRID_SIZE, has.DROP_RATE) == (4, 0.5)
    assert acol.THRESHOLD == 0.7
    assert spg.THRESHOLDS == ((0.7, 0.01), (0.5, 0.05), (0.7, 0.1))
    assert (adl.DROP_RATE, adl.THRESHOLD) == (0.75, 0.9)
    assert (cutmix.BETA, cutmix.PROBABILITY) == (1.0, 1.0)

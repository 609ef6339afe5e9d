"""Every Triton kernel gives the bits of the reference: on a CUDA device, or where there is none in the interpreter.

The interpreter takes about 0.1 ms an operation and block whatever the block's size, so the maps here are small.
"""

import numpy as np
import pytest
import torch
from cases import CASES, FEW_CASES, cams_of_one_size, evaluation_size, mask
from shared import slow_but

pytest.importorskip("triton")

from wsolkern import ops
from wsolkern.normalization import parse_all
from wsolkern.ops import inputs
from wsolkern.ops.cutting import MAX_CUTS, cut_points_reference, digitize_reference
from wsolkern.ops.gpu import cutting, histograms, normalizing, resizing, statistics
from wsolkern.ops.histograms import pixel_histograms_reference
from wsolkern.ops.normalizing import affine_reference, normalize_reference
from wsolkern.ops.resizing import resize_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    *([pytest.mark.gpu] if DEVICE == "cuda" else []),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # the interpreter's numpy meets NaN and infinity
]

NORMALIZATIONS = parse_all("minmax max pas:0.9 ivr:0.45 ivr:0.3+pas:0.8")
MORE_NORMALIZATIONS = parse_all("pas:0.0 ivr:0.97 ivr:0.0 pas:0.999 max ivr:0.97")
SCORES = np.concatenate([ops.LEVEL_SCORES[::5], ops.DEFAULT_THRESHOLDS[::37], [1]])
FEW_THRESHOLDS = np.array([0.1, 0.25, 0.25, 0.5])


def on_device(array) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(DEVICE)


def assert_equal(found: torch.Tensor, wanted: np.ndarray, message: str = ""):
    assert found.device.type == DEVICE
    found = found.cpu().numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted, err_msg=message)


def prepared(maps, size):
    """Maps as the kernels read them, and what the reference makes of them."""
    return resizing.prepare(on_device(maps), size), resize_reference(np.asarray(maps, np.float64), size)


def affine(resized, normalizations):
    return statistics.affine(resized, inputs.ranks(normalizations, resized.size[0] * resized.size[1]))


def levels_of(f, normalizations):
    """uint8 [N, M, H, W]."""
    return np.stack([(normalize_reference(f, each)[0] * 255).astype(np.uint8) for each in normalizations], axis=1)


def assert_decides_levels(bins, ranks, levels):
    """``bins >= ranks[n, m, t]`` is ``levels > t`` for every pixel and level."""
    bins, ranks = bins.cpu().numpy(), ranks.cpu().numpy()
    assert bins.dtype == (np.uint8 if levels.shape[1] == 1 else np.int16)
    assert ranks.dtype == np.int16 and ranks.shape == (*levels.shape[:2], 255)
    np.testing.assert_array_equal(bins, levels.sum(axis=1, dtype=np.int16))
    for n, m in np.ndindex(ranks.shape[:2]):
        assert (np.diff(ranks[n, m]) >= 0).all()
        np.testing.assert_array_equal(np.searchsorted(ranks[n, m], bins[n], side="right"), levels[n, m])


# On every case


@pytest.mark.parametrize("name", slow_but(FEW_CASES, CASES))
def test_a_case(name):
    size, turn = evaluation_size(name), list(CASES).index(name) % len(NORMALIZATIONS)
    normalizations = (NORMALIZATIONS + NORMALIZATIONS)[turn : turn + 3]
    resized, f = prepared(CASES[name][None], size)
    assert_equal(resizing.resize(on_device(CASES[name][None]), size), f)

    numbers, wanted = affine(resized, normalizations), affine_reference(f, normalizations)
    assert_equal(numbers, wanted)
    assert_equal(normalizing.normalize(resized, numbers[:, 2]), normalize_reference(f, normalizations[2])[0])
    assert_equal(cutting.cut_points(numbers[0, 2:], on_device(SCORES)), cut_points_reference(wanted[0, 2:], SCORES))
    assert_decides_levels(*cutting.level_image(resized, numbers[:, :2]), levels_of(f, normalizations[:2]))

    thresholds = ops.DEFAULT_THRESHOLDS if turn % 2 else FEW_THRESHOLDS
    edges, masks = on_device(np.append(thresholds, 1.0)), mask(name)[None]
    histogram = histograms.pixel_histograms(resized, numbers[:, :2], on_device(masks), edges, summed=False)
    wanted, _ = pixel_histograms_reference(CASES[name][None], masks, normalizations[:2], thresholds, size)
    assert_equal(histogram, wanted)


@pytest.mark.parametrize("name", slow_but([*CASES][::30], [*CASES][::3]))
def test_digitize(name):
    resized, f = prepared(CASES[name][None], evaluation_size(name))
    numbers = f[~np.isnan(f)] if not np.isnan(f).all() else np.zeros(1)
    some = np.random.default_rng(0).choice(numbers, (1, 40))
    cuts = np.concatenate([some, np.nextafter(some, np.inf), [[np.inf, -np.inf, 0.0, -0.0, 1e308, 2**-1074]]], axis=1)
    for found, wanted in zip(cutting.digitize(resized, on_device(cuts)), digitize_reference(f, cuts), strict=True):
        assert_equal(found, wanted)


# Order statistics


HARD = ["cam_13x17", "noise", "plateaus_4_levels", "mixed_magnitudes", "denormal_steps", "half_inf"]


@pytest.mark.parametrize(
    "name",
    slow_but(["minus_zero", "half_inf"], [*HARD, "minus_zero", "mostly_maximum", "one_ulp_range", "negative_and_zero"]),
)
def test_order_statistics_of_extreme_percentiles(name):
    resized, f = prepared(CASES[name][None], evaluation_size(name))
    assert_equal(affine(resized, MORE_NORMALIZATIONS), affine_reference(f, MORE_NORMALIZATIONS))


@pytest.mark.parametrize("name", slow_but(["half_inf"], HARD))
def test_order_statistics_that_the_cells_do_not_tell_apart(name, monkeypatch):
    # Cells and groups so small that most ranks are found by radix, and that no group has room but the first.
    monkeypatch.setattr(statistics, "CELLS", 16)
    monkeypatch.setattr(statistics, "GROUP", 32)
    monkeypatch.setattr(statistics, "GATHERED", 32)
    resized, f = prepared(CASES[name][None], evaluation_size(name))
    normalizations = parse_all("ivr:0.001+pas:0.999 ivr:0.5 ivr:0.03+pas:0.9")
    assert_equal(affine(resized, normalizations), affine_reference(f, normalizations))


def test_an_outlier_that_spoils_the_cells(rng):
    f = rng.standard_normal((2, 24, 25))
    f[0, 3, 4], f[1, 5] = 1e300, 1e-300
    f[1, 6:12] = 0
    resized, f = prepared(f, (24, 25))
    assert_equal(affine(resized, NORMALIZATIONS), affine_reference(f, NORMALIZATIONS))


# Batches and sizes


@pytest.mark.parametrize(
    ("num", "shape", "size"),
    slow_but(
        [(2, (1, 1), (1, 1)), (3, (3, 3), (2, 3))],
        [
            (7, (8, 9), (21, 20)),
            (3, (3, 3), (2, 3)),
            (2, (1, 1), (1, 1)),
            (3, (40, 3), (7, 65)),
            (3, (2, 5), (1, 300)),
            (3, (5, 2), (30, 1)),
            (2, (8, 9), (8, 20)),
            (2, (8, 9), (20, 9)),
        ],
    ),
)
def test_batches_with_degenerate_maps(num, shape, size):
    cams = cams_of_one_size(7, shape, seed=3)[-num:]
    resized, f = prepared(cams, size)
    assert_equal(resizing.resize(on_device(cams), size), f)
    numbers = affine(resized, NORMALIZATIONS)
    assert_equal(numbers, affine_reference(f, NORMALIZATIONS))
    levels = levels_of(f, NORMALIZATIONS)
    assert_decides_levels(*cutting.level_image(resized, numbers[:, 1:3]), levels[:, 1:3])
    assert_decides_levels(*cutting.level_image(resized, numbers[:, 3:4]), levels[:, 3:4])


@pytest.mark.parametrize(
    ("dtype", "size"),
    slow_but(
        [(torch.bfloat16, (8, 9))],
        [(torch.float16, (8, 9)), (torch.bfloat16, (19, 12)), (torch.bfloat16, (8, 9)), (torch.float32, (19, 12))],
    ),
)
def test_other_dtypes_and_maps_that_are_not_contiguous(dtype, size):
    cams = on_device(cams_of_one_size(4, (9, 8), seed=2)).to(dtype).transpose(1, 2)[::2]
    resized, f = resizing.prepare(cams, size), resize_reference(cams.to(torch.float64).cpu().numpy(), size)
    assert_equal(resizing.resize(cams, size), f)
    numbers = affine(resized, NORMALIZATIONS[1:3])
    assert_equal(numbers, affine_reference(f, NORMALIZATIONS[1:3]))
    assert_decides_levels(*cutting.level_image(resized, numbers), levels_of(f, NORMALIZATIONS[1:3]))


def test_resize_where_the_scale_rounds():
    f = np.random.default_rng(0).standard_normal((1, 1, 3165))
    assert_equal(resizing.resize(on_device(f), (1, 4096)), resize_reference(f, (1, 4096)))
    tiles, weight = resizing._tiles(3165, 4096, 1, 1, 1, False, torch.device(DEVICE))
    assert len(tiles) == 4096 and weight.shape == (4097, 4)


@pytest.mark.slow
def test_an_evaluation_at_224():
    cams = cams_of_one_size(1, (14, 14), seed=1)
    resized, f = prepared(cams, (224, 224))
    normalizations = parse_all("ivr:0.45 pas:0.9")
    numbers = affine(resized, normalizations)
    assert_equal(numbers, affine_reference(f, normalizations))
    assert_decides_levels(*cutting.level_image(resized, numbers), levels_of(f, normalizations))


def test_an_empty_batch():
    resized = resizing.prepare(on_device(np.empty((0, 7, 7), np.float32)), (21, 20))
    numbers = affine(resized, NORMALIZATIONS)
    assert numbers.shape == (0, 5, 2)
    assert resizing.resize(on_device(np.empty((0, 7, 7))), (21, 20)).shape == (0, 21, 20)
    assert normalizing.normalize(resized, numbers[:, 0]).shape == (0, 21, 20)
    assert [each.shape for each in cutting.level_image(resized, numbers)] == [(0, 21, 20), (0, 5, 255)]
    assert [each.shape for each in cutting.digitize(resized, numbers[..., 0])] == [(0, 21, 20), (0, 5)]
    masks, edges = on_device(np.empty((0, 21, 20), np.uint8)), on_device(np.append(FEW_THRESHOLDS, 1.0))
    assert histograms.pixel_histograms(resized, numbers, masks, edges, summed=False).shape == (5, 0, 2, 6)
    summed = histograms.pixel_histograms(resized, numbers, masks, edges, summed=True)
    assert summed.shape == (5, 2, 6) and not summed.any()


# Cut points


@pytest.mark.slow
def test_cut_points_of_hard_numbers():
    scores = np.array([0, 1e-300, 2**-1074, 0.1, 0.3, 1 - 2**-53, 1, ops.LEVEL_SCORES[76]])
    numbers = np.array(
        [
            (0, 0), (0, 1), (-0.3, 0.7), (1e-300, 1e-310), (-(2**-1074), 2**-1073), (1e308, 7e307), (-1e308, 1.7e308),
            (-1e-20, 1), (1.5, 2**-52), (-0.1, 0.1), (3e-291, 1e-290),
        ]
    )  # fmt: skip
    assert_equal(cutting.cut_points(on_device(numbers), on_device(scores)), cut_points_reference(numbers, scores))


def test_more_scores_than_a_block():
    numbers, scores = np.array([(-0.7, 1.9)]), np.append(ops.DEFAULT_THRESHOLDS, 1.0)
    assert_equal(cutting.cut_points(on_device(numbers), on_device(scores)), cut_points_reference(numbers, scores))


# Level images and digitized maps at their limits


def test_as_many_cuts_as_bins_can_tell_apart():
    f, cuts = np.random.default_rng(0).random((2, 20, 21)), np.random.default_rng(1).random((2, MAX_CUTS))
    f[0, 0, :2], cuts[1, :300] = (0, 1), 0.25
    found = cutting.digitize(resizing.prepare(on_device(f), (20, 21)), on_device(cuts))
    for each, wanted in zip(found, digitize_reference(f, cuts), strict=True):
        assert_equal(each, wanted)
    assert found[0].max() == MAX_CUTS


def test_digitize_without_cuts():
    resized, f = prepared(CASES["noise"][None], CASES["noise"].shape)
    bins, ranks = cutting.digitize(resized, on_device(np.empty((1, 0))))
    assert not bins.any() and bins.shape == f.shape and ranks.shape == (1, 0)


@pytest.mark.slow
def test_a_level_image_of_as_many_normalizations_as_it_takes():
    resized, f = prepared(CASES["noise_16_levels"][None], CASES["noise_16_levels"].shape)
    numbers, levels = np.zeros((1, 128, 2)), np.zeros((1, 128, *f.shape[1:]), np.uint8)
    some = [0, 5, 126, 127]  # the others have no score map
    numbers[:, some] = affine_reference(f, NORMALIZATIONS[:4])
    levels[:, some] = levels_of(f, NORMALIZATIONS[:4])
    assert_decides_levels(*cutting.level_image(resized, on_device(numbers)), levels)
    with pytest.raises(ValueError, match="expected at most 128 normalizations a level image, found 129"):
        cutting.level_image(resized, on_device(np.concatenate([numbers, numbers[:, :1]], axis=1)))


def test_a_pixel_at_infinity_has_the_highest_level():
    f = np.linspace(0, 1, 30).reshape(1, 5, 6)
    f[0, 4, 5], f[0, 0, 0] = np.inf, -np.inf
    resized, f = prepared(f, (5, 6))
    numbers = np.array([[(0.25, 0.5), (0, 0), (0.1, 0.9)]])
    scores = [np.clip((f - offset) / divisor, 0, 1) if divisor else 0 * (f > 2) for offset, divisor in numbers[0]]
    levels = (np.stack(scores, axis=1) * 255).astype(np.uint8)
    assert levels[0, :, 4, 5].tolist() == [255, 0, 255] and not levels[0, :, 0, 0].any()
    assert_decides_levels(*cutting.level_image(resized, on_device(numbers)), levels)


@pytest.mark.parametrize("seed", slow_but([0], range(8)))
def test_levels_where_products_and_quotients_round_apart(seed):
    """Values at and beside every level's cut point, cut points that coincide, divisors whose reciprocal is infinite."""
    rng = np.random.default_rng(seed)
    numbers = np.array(
        [
            (0, 1), (rng.normal(), rng.random()), (0, rng.random()), (1, 3 * 2**-52), (1, 2**-50), (-1, 2), (0, 1),
            (0, 2**-1010), (2**-1060, 2**-1070), (0, 0), (-(2.0**70), 2.0**19), (0, 2**-1074), (-1e300, 1.7e308),
            (-51 * 2**-1074, 255 * 2**-1074), (-102 * 2**-1074, 510 * 2**-1074),
        ]
    )  # fmt: skip
    cuts = cut_points_reference(numbers, ops.LEVEL_SCORES)
    f = rng.choice(cuts[np.isfinite(cuts)], 40 * 40)
    ulps = rng.integers(-2, 3, f.shape)
    for _ in range(2):
        f, ulps = np.where(ulps, np.nextafter(f, np.sign(ulps) * np.inf), f), ulps - np.sign(ulps)
    f[:6] = 0, -0.0, 1, -np.inf, np.inf, 2**-1074
    f = f.reshape(1, 40, 40)
    with np.errstate(all="ignore"):
        scores = [np.clip((f - offset) / divisor, 0, 1) if divisor else 0 * (f > 2) for offset, divisor in numbers]
    levels = (np.stack(scores, axis=1) * 255).astype(np.uint8)
    resized = resizing.prepare(on_device(f), f.shape[1:])
    assert_decides_levels(*cutting.level_image(resized, on_device(numbers[None])), levels)
    for m in (1, 3, 8, 9, 11, 12):
        assert_decides_levels(*cutting.level_image(resized, on_device(numbers[None, m : m + 1])), levels[:, m : m + 1])


# Histograms


@pytest.mark.slow
def test_histograms_of_score_maps_and_their_sum(rng):
    scores = rng.integers(0, 21, (34, 9, 8)) / 20
    scores[0], scores[1] = 0, 1
    masks = rng.choice(np.array([0, 1, 255], np.uint8), scores.shape)
    for thresholds in (np.arange(20) / 20, np.array([0.0, 0.0, 1e-300, 0.05, 0.05, 1 - 2**-53]), np.array([0.5])):
        edges = on_device(np.append(thresholds, 1.0))
        wanted, _ = pixel_histograms_reference(scores, masks, None, thresholds, (9, 8))
        resized = resizing.prepare(on_device(scores), (9, 8))
        if len(thresholds) == 20:
            found = histograms.pixel_histograms(resized, None, on_device(masks), edges, summed=True)
            assert_equal(found, wanted.sum(axis=1))
        some = resizing.prepare(on_device(scores[:3]), (9, 8))
        found = histograms.pixel_histograms(some, None, on_device(masks[:3]), edges, summed=False)
        assert_equal(found, wanted[:, :3])


@pytest.mark.slow
def test_summed_histograms_of_several_normalizations():
    cams, size = cams_of_one_size(7, (8, 9), seed=5), (21, 20)
    masks = np.random.default_rng(5).choice(np.array([0, 1, 255], np.uint8), (7, *size))
    resized, f = prepared(cams, size)
    numbers = on_device(affine_reference(f, NORMALIZATIONS[:3]))
    edges = on_device(np.append(ops.DEFAULT_THRESHOLDS[::7], 1.0))
    found = histograms.pixel_histograms(resized, numbers, on_device(masks), edges, summed=True)
    wanted, _ = pixel_histograms_reference(cams, masks, NORMALIZATIONS[:3], ops.DEFAULT_THRESHOLDS[::7], size)
    assert_equal(found, wanted.sum(axis=1))

"""The one table of named maps that every test and every backend runs on.

In: nothing. Out: CASES, a dict from a name to one float64 map [h, w], and for each its size, boxes and mask; FEW_CASES,
what the fast tests of slow backends run on.
Source: none; what is random is seeded with the case's name, so that a case stays itself when others come and go.
"""

import zlib

import numpy as np

CASES: dict[str, np.ndarray] = {}
FEW_CASES = (
    "rings_rising", "frame_with_gap", "checkerboard", "equal_area_ties", "comb_interlocked", "2x23", "cam_7x7", "nan",
    "half_inf", "mixed_magnitudes", "on_level_edges", "percentile_on_a_tie",
)  # fmt: skip


def case(*names):
    """Register what a function returns: for one name the map itself, for several the map for each of them."""

    def register(make):
        for name in names:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            made = make(name, rng)
            CASES[name] = np.ascontiguousarray(made, dtype=np.float64)
        return make

    return register


def evaluation_size(name: str) -> tuple[int, int]:
    """Height and width: a case whose name says cam is a raw CAM that is resized, every other keeps its size."""
    if not name.startswith("cam_"):
        return CASES[name].shape
    return {"cam_7x7": (56, 56), "cam_13x17": (20, 24)}.get(name, (48, 40))


def truth_boxes(name: str) -> np.ndarray:
    """Ground truth int32 [n, 4]: a box around the upper half, the same a bit off, and one or two anywhere."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    height, width = evaluation_size(name)
    f = np.nan_to_num(CASES[name], posinf=1, neginf=-1)
    ys, xs = np.nonzero(f >= f.min() / 2 + f.max() / 2)
    scale = np.array([width, height, width, height]) / (f.shape[::-1] * 2)
    around = (np.array([xs.min(), ys.min(), xs.max(), ys.max()]) * scale).astype(int)
    boxes = [around, around + rng.integers(0, 3, 4) * (-1, -1, 1, 1)]
    for _ in range(rng.integers(1, 3)):
        x, y = np.sort(rng.integers(0, width + 1, 2)), np.sort(rng.integers(0, height + 1, 2))
        boxes.append(np.array([x[0], y[0], x[1], y[1]]))
    return np.stack(boxes[rng.integers(0, 2) :]).astype(np.int32)


def mask(name: str) -> np.ndarray:
    """uint8 [H, W]: object (1) here and there, background (0), ignored pixels (255)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.choice(np.array([0, 1, 255], np.uint8), evaluation_size(name), p=[0.5, 0.4, 0.1])


def cams_of_one_size(num: int, shape: tuple[int, int], seed: int) -> np.ndarray:
    """A batch [num, h, w] of raw CAMs in which smooth, plateau, noise and degenerate maps take turns."""
    rng = np.random.default_rng(seed)
    kinds = (
        lambda: smooth(rng, *shape),
        lambda: rng.standard_normal(shape),
        lambda: rng.integers(0, 4, shape) / 3,
        lambda: np.abs(smooth(rng, *shape)) - 0.2,
        lambda: np.full(shape, rng.standard_normal()),
        lambda: -(smooth(rng, *shape) ** 2) - 1,
        lambda: np.where(rng.random(shape) < 0.1, np.nan, 1.0),
    )
    return np.stack([kinds[index % len(kinds)]() for index in range(num)])


def batch() -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """CAMs [9, 8, 9], some of them degenerate, with ground-truth boxes and masks for an evaluation size of 21 x 20."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 20, (9, 2, 2)), axis=1).reshape(9, 1, 4)
    boxes = [np.concatenate([box] * (1 + index % 3)) for index, box in enumerate(corners)]
    return cams_of_one_size(9, (8, 9), seed=1), boxes, rng.choice(np.array([0, 1, 255], np.uint8), (9, 21, 20))


def smooth(rng, height: int, width: int) -> np.ndarray:
    """A few Gaussian bumps of either sign on a slope: what a CAM of a real network looks like."""
    y, x = np.mgrid[:height, :width]
    f = 0.1 * rng.standard_normal() * y / height + 0.1 * rng.standard_normal() * x / width
    for _ in range(6):
        cy, cx = rng.random(2) * (height, width)
        sy, sx = (0.06 + 0.25 * rng.random(2)) * (height, width) + 0.3
        f += rng.standard_normal() * np.exp(-(((y - cy) / sy) ** 2) - ((x - cx) / sx) ** 2)
    return f


def _rows(text: str) -> np.ndarray:
    """A map drawn with digits; a dot is 0."""
    return np.array([[int(pixel) for pixel in row] for row in text.replace(".", "0").split()], np.float64)


def _rings(side: int, step: int) -> np.ndarray:
    """Square rings around each other, ``step`` pixels thick and as far apart."""
    y, x = np.mgrid[:side, :side]
    inward = np.minimum(np.minimum(y, side - 1 - y), np.minimum(x, side - 1 - x))
    return (inward // step % 2).astype(float)


def _spiral(side: int) -> np.ndarray:
    """One arm, one pixel wide, one pixel between its turns."""
    f, y, x, dy, dx = np.zeros((side, side)), 0, 0, 0, 1
    f[0, 0] = 1
    for turn in range(2 * side):
        for _ in range(side):
            ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
            if not (0 <= ahead[0] < side and 0 <= ahead[1] < side):
                break
            if 0 <= beyond[0] < side and 0 <= beyond[1] < side and f[beyond] and turn > 2:
                break
            y, x = ahead
            f[y, x] = 1
        dy, dx = dx, -dy
    return f


# Plateaus, rings and holes


@case("plateau", "plateau_touching", "plateau_moat")
def _(name, rng):
    f = np.zeros((30, 34))
    f[3:27, 4:30] = 1
    if name == "plateau_moat":
        f[8:22, 8:26] = 0
        f[11:19, 12:22] = 3
    else:
        f[8:20, 8:20], f[9:12, 22:28], f[22:25, 10:14] = 2, 2, 3
    if name == "plateau_touching":
        f[8:20, 20:23] = 1.5
    return f


@case("plateaus_4_levels", "plateaus_8_levels", "plateaus_blocks")
def _(name, rng):
    if name == "plateaus_blocks":
        return np.kron(rng.integers(0, 4, (9, 11)), np.ones((4, 3)))
    return rng.integers(0, 4 if "4" in name else 8, (40, 36))


@case("ring_in_ring", "rings_two_wide", "rings_inverted", "rings_rising", "rings_falling")
def _(name, rng):
    f = _rings(31, 2 if name == "rings_two_wide" else 1)
    if name == "rings_inverted":
        return 1 - f
    y, x = np.mgrid[:31, :31]
    distance = np.maximum(abs(y - 15), abs(x - 15))
    slope = {"rings_rising": 16 - distance, "rings_falling": distance + 1}.get(name, 1)
    return f * slope


@case("thin_ring", "thin_diamond", "thin_diamond_with_center", "pinched_ring")
def _(name, rng):
    return {
        "thin_ring": _rows("....... .11111. .1...1. .1...1. .1...1. .11111. ......."),
        "thin_diamond": _rows("....... ...1... ..1.1.. .1...1. ..1.1.. ...1... ......."),
        "thin_diamond_with_center": _rows("...1... ..1.1.. .1...1. 1..2..1 .1...1. ..1.1.. ...1..."),
        "pinched_ring": _rows("11.1111 1.11..1 1.1.1.1 1..1..1 1.1.1.1 1..11.1 1111.11"),
    }[name]


@case("holes_touching_diagonally", "hole_at_the_frame", "hole_one_from_the_frame", "frame_only", "frame_with_gap")
def _(name, rng):
    f = np.ones((12, 14))
    if name == "holes_touching_diagonally":
        f[3:6, 3:6] = f[6:9, 6:9] = 0
    elif name == "hole_at_the_frame":
        f[4:8, :5] = 0
    elif name == "hole_one_from_the_frame":
        f[1:11, 1:5], f[3:9, 9:13] = 0, 0.5
    else:
        f[1:-1, 1:-1] = 0
        f[5, 13] = 0.5 if name == "frame_with_gap" else 1
    return f


@case("touching_the_frame", "corners", "everything_but_a_corner")
def _(name, rng):
    f = np.zeros((19, 23))
    if name == "touching_the_frame":
        f[:4, 3:9], f[6:12, :5], f[14:, 8:13], f[5:9, 18:] = 1, 2, 3, 4
    else:
        f[0, 0] = f[0, -1] = f[-1, 0] = 1
        f[-1, -1] = 2
        f = f if name == "corners" else 2 - f
    return f


# Thin and scattered things


@case("checkerboard", "checkerboard_on_a_slope", "checkerboard_2x2_fields", "dots")
def _(name, rng):
    y, x = np.mgrid[:17, :20]
    if name == "checkerboard_2x2_fields":
        return (y // 2 + x // 2) % 2
    if name == "dots":
        return (y % 2) * (x % 2) * (1 + (3 * y + 5 * x) % 7)
    return (y + x) % 2 * (1 + (y * 20 + x) / 340 if name == "checkerboard_on_a_slope" else 1)


@case("one_pixel", "one_pixel_in_a_corner", "one_pixel_missing", "two_pixels_diagonal")
def _(name, rng):
    f = np.zeros((11, 9))
    if name == "one_pixel_in_a_corner":
        f[-1, -1] = 1
    else:
        f[4, 5] = 1
    if name == "two_pixels_diagonal":
        f[5, 6] = 1
    return 1 - f if name == "one_pixel_missing" else f


@case("one_pixel_lines", "lines_crossing", "stripes_diagonal", "stripes_horizontal", "stripes_vertical")
def _(name, rng):
    y, x = np.mgrid[:26, :29]
    if name == "one_pixel_lines":
        f = np.zeros((26, 29))
        f[3, 4:20], f[6:22, 2], f[24, :], f[:, 27] = 1, 2, 3, 2
        f[np.arange(8, 18), np.arange(6, 16)] = 1
        return f
    return {
        "lines_crossing": np.maximum(y % 7 == 3, 2 * (x % 6 == 2)),
        "stripes_diagonal": (y + x) % 4 < 1 + (x > 14),
        "stripes_horizontal": y % 3 * (1 + x // 10),
        "stripes_vertical": x % 3 * (1 + y // 10),
    }[name]


@case("comb", "comb_rising", "comb_interlocked", "spiral", "spiral_rising", "maze")
def _(name, rng):
    if name.startswith("spiral"):
        f = _spiral(33)
        return f * (1 + np.hypot(*(np.mgrid[:33, :33] - 16)) if name == "spiral_rising" else 1)
    if name == "maze":
        f = np.zeros((31, 33))
        f[1::2, 1::2] = 1
        f[1:-1:2, 2:-1:2] = rng.random((15, 15)) < 0.5
        f[2:-1:2, 1:-1:2] = rng.random((14, 16)) < 0.5
        return f
    f = np.zeros((22, 27))
    f[0, :], f[1:18, ::2] = 1, 1
    if name == "comb_rising":
        f[1:18, ::2] += np.arange(14) / 14
    elif name == "comb_interlocked":
        f[:, 1::4], f[21, :] = 0, 0.7
        f[4:, 1::4] = 0.7
    return f


@case("equal_area_ties", "equal_area_ties_of_lines", "equal_area_ties_over_levels", "equal_area_different_shapes")
def _(name, rng):
    f = np.zeros((24, 28))
    if name == "equal_area_ties_of_lines":  # all of them enclose an area of 0
        f[2, 3:20], f[5:20, 2], f[20, 20], f[7, 9:12], f[22, 4] = 1, 1, 1, 1, 1
        f[np.arange(9, 15), np.arange(12, 18)] = 1
    elif name == "equal_area_different_shapes":  # 12 each
        f[1:5, 1:6], f[8:11, 2:9], f[15:22, 3:6], f[13:15, 12:25] = 1, 1, 1, 1
    else:
        for y, x in ((1, 20), (2, 3), (9, 10), (9, 20), (16, 2), (16, 22)):
            f[y : y + 5, x : x + 5] = 1 + (name == "equal_area_ties_over_levels") * ((y * 7 + x) % 3)
    return f


# Sizes


@case("twins", "twins_with_pits", "twins_with_a_pit_each", "twins_with_side_peaks", "twins_on_noise")
def _(name, rng):
    # Two hills of nearly the same area at every level: the largest contour changes sides again and again.
    y, x = np.mgrid[:40, :80]

    def hill(centre, height):
        return height - np.hypot(x - centre, (y - 19.6) * 1.1)

    f = np.maximum(hill(19.3, 20), hill(60.1, 20.02)) + 0.05 * rng.standard_normal((40, 80))
    if name == "twins_with_pits":  # holes at some levels
        f[rng.integers(8, 32, 12), rng.integers(8, 72, 12)] -= rng.uniform(1, 9, 12)
    elif name == "twins_with_a_pit_each":  # and borders whose pixels touch diagonally
        f += 0.35 * rng.standard_normal((40, 80))
        f[19, [19, 60]] -= 12
    elif name == "twins_with_side_peaks":  # components that join them on the way down
        f = np.maximum(f, hill(30.5, 15) + 0.3)
        f = np.maximum(f, hill(49.2, 15) + 0.31)
    elif name == "twins_on_noise":
        f += rng.standard_normal((40, 80))
    return f


@case("1x1", "1x2", "1x23", "23x1", "2x2", "2x23", "23x2", "3x3", "3x3_ring", "3x17", "1x70_comb", "2x70_comb")
def _(name, rng):
    if name == "3x3_ring":
        return _rows("111 1.1 111")
    height, width = (int(side) for side in name.split("_")[0].split("x"))
    f = rng.integers(0, 6, (height, width)) + (0.3 if height * width < 10 else 0) * rng.random((height, width))
    return np.arange(width) % 2 * (f + 1) if name.endswith("comb") else f


@case(*(f"width_{width}" for width in (4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)))
def _(name, rng):
    width = int(name.split("_")[1])
    return np.round(smooth(rng, 9, width) * 12) + (rng.random((9, width)) < 0.2) * rng.integers(0, 4, (9, width))


@case("odd_37x53", "tall_61x11", "wide_11x61")
def _(name, rng):
    height, width = (int(side) for side in name.split("_")[1].split("x"))
    return smooth(rng, height, width) + 0.02 * rng.standard_normal((height, width))


# Raw CAMs and noise


@case("two_towers_with_arms")
def _(name, rng):
    """What reaches furthest right and down joins the higher tower late, and by runs that are all above that level."""
    f = np.zeros((16, 29))
    f[2:9, 2:9] = 1.0
    f[2:9, 9:12] = 0.2
    f[2:9, 12:17] = f[5, 17:] = f[9:, 14] = 0.8
    return f


@case(
    "cam_7x7", "cam_14x14", "cam_28x28", "cam_13x17", "cam_48x40", "cam_constant", "cam_1x1", "cam_3x60", "cam_spike"
)  # fmt: skip
def _(name, rng):
    if name == "cam_spike":  # all other values lie in one of the cells in which values are counted
        f = 1e-6 * smooth(rng, 14, 14)
        f[3, 9] = 1
        return f
    if name == "cam_constant":  # the weights of the resize do not sum to exactly 1
        return np.full((7, 7), 0.7)
    height, width = (int(side) for side in name.split("_")[1].split("x"))
    return smooth(rng, height, width)


@case("noise", "noise_uniform", "noise_16_levels", "noise_sparse", "noise_dense")
def _(name, rng):
    shape = 33, 29
    return {
        "noise": rng.standard_normal(shape),
        "noise_uniform": rng.random(shape),
        "noise_16_levels": rng.integers(0, 16, shape),
        "noise_sparse": (rng.random(shape) < 0.1) * rng.random(shape),
        "noise_dense": np.minimum(1, 0.3 + (rng.random(shape) < 0.85) * rng.random(shape)),
    }[name]


# Values that are hard on the arithmetic


@case("constant", "zero", "negative", "negative_and_zero", "minus_zero", "all_minus_zero_but_one")
def _(name, rng):
    f = smooth(rng, 12, 13)
    return {
        "constant": np.full((6, 5), 0.3),
        "zero": np.zeros((5, 6)),
        "negative": -1 - np.abs(f),  # max normalization is 0/0
        "negative_and_zero": -np.maximum(0, f),
        "minus_zero": np.where(np.abs(f) < 0.3, -0.0, np.where(f > 0.6, f, 0.0)),
        "all_minus_zero_but_one": np.where(np.arange(156).reshape(12, 13) == 77, 1.0, -0.0),
    }[name]


@case("nan", "nan_everywhere", "inf", "minus_inf", "inf_everywhere", "half_inf")
def _(name, rng):
    f = smooth(rng, 9, 10)
    if name.endswith("everywhere"):
        return np.full((4, 7), np.inf if name.startswith("inf") else np.nan)
    if name == "half_inf":
        return np.where(f > np.median(f), np.inf, f)
    f[3, 4] = {"nan": np.nan, "inf": np.inf, "minus_inf": -np.inf}[name]
    return f


@case("denormal", "denormal_steps", "smallest_normal", "tiny_range", "one_ulp_range", "tiny_values", "mixed_magnitudes")
def _(name, rng):
    step, normal = np.nextafter(0, 1), np.finfo(np.float64).tiny
    integers = rng.integers(0, 1000, (14, 15))
    return {
        "denormal": smooth(rng, 14, 15) * 1e-310,
        "denormal_steps": (integers % 7 - 3) * step,
        "smallest_normal": normal + (integers - 500) * step,
        "tiny_range": 1 + integers * np.finfo(np.float64).eps,
        "one_ulp_range": np.where(integers % 2, 1.0, np.nextafter(1, 2)),
        "tiny_values": smooth(rng, 14, 15) * 1e-300,
        "mixed_magnitudes": rng.choice([-1, 1], (14, 15)) * 10.0 ** rng.integers(-320, 300, (14, 15)),
    }[name]


@case("huge", "huge_range_overflows", "huge_range_fits", "huge_and_one")
def _(name, rng):
    f = rng.uniform(-1, 1, (13, 12))
    return {
        "huge": (1 + np.abs(f)) * 8e307,
        "huge_range_overflows": f * 1.79e308,
        "huge_range_fits": f * 8.9e307,
        "huge_and_one": np.where(f > 0.9, 1.7e308, f),
    }[name]


@case("on_level_edges", "beside_level_edges", "on_thousandths", "beside_thousandths", "three_halves")
def _(name, rng):
    denominator = {"three_halves": 2}.get(name, 255 if "level" in name else 1000)
    f = rng.integers(0, denominator + 1, (21, 20)) / denominator
    f[0, 0], f[0, 1] = 0, 1
    if name.startswith("beside"):
        f = np.clip(np.nextafter(f, rng.choice([-1, 2], f.shape)), 0, 1)
    return f * (3 if name == "three_halves" else 1)


@case("mostly_minimum", "mostly_maximum", "percentile_on_a_tie", "below_one_level")
def _(name, rng):
    f = rng.random((20, 18))
    return {
        "mostly_minimum": np.where(f < 0.95, 0.1, f),  # PaS is 0/0
        "mostly_maximum": np.where(f < 0.3, f, 0.3),  # IVR is 0/0
        "percentile_on_a_tie": np.round(f * 4) / 4,
        "below_one_level": np.where(f < 0.9, f / 255 / 300, 1.0),
    }[name]

"""Holes count where they match the ground truth: box hits, for which a bound spares looking for most of them.

In: score maps with holes of all shapes, and ground truth that the box of a contour just reaches, or just not.
Out: the same hits as the boxes of all contours have, which are listed without that bound.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from wsolkern import ops

NUM_LEVELS = 12
THRESHOLDS = (np.arange(NUM_LEVELS) + 0.5) / NUM_LEVELS
SIZES = [(40, 36), (57, 64), (31, 130), (14, 9), (130, 20), (1, 30), (2, 2)]


def pits(rng, height, width):
    """Rectangles below their surroundings, upon each other, and channels from some of them to others or outside."""
    f = np.full((height, width), rng.integers(6, NUM_LEVELS))
    for _ in range(rng.integers(1, 9)):
        y, x = rng.integers(0, height), rng.integers(0, width)
        f[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = rng.integers(0, NUM_LEVELS + 1)
    for _ in range(rng.integers(0, 4)):
        y, x, level = rng.integers(0, height), rng.integers(0, width), rng.integers(0, NUM_LEVELS)
        f[y, x:] = np.minimum(f[y, x:], level) if rng.random() < 0.5 else f[y, x:]
        f[y:, x] = np.minimum(f[y:, x], level) if rng.random() < 0.5 else f[y:, x]
    return f


def rings(rng, height, width):
    """Rings around each other, rising or falling, with gaps."""
    y, x = np.mgrid[:height, :width]
    distance = np.maximum(abs(y - rng.integers(height)), abs(x - rng.integers(width)))
    thick = rng.integers(1, 6)
    f = distance // thick % 2 * np.clip(distance // thick + rng.integers(1, 4), 1, NUM_LEVELS)
    f = f if rng.random() < 0.5 else NUM_LEVELS - f
    gaps = rng.random(f.shape) < 0.01
    return np.where(gaps, rng.integers(0, NUM_LEVELS), f)


def spiral(rng, height, width):
    """A wall, turn by turn, that is higher the further it is from its middle, or lower."""
    f = np.zeros((height, width), int)
    y, x, step, length = height // 2, width // 2, 0, 3
    for turn in range(2 * max(height, width)):
        for _ in range(length):
            if 0 <= y < height and 0 <= x < width:
                f[y, x] = 1 + turn % NUM_LEVELS
            y, x = y + (0, 1, 0, -1)[step % 4], x + (1, 0, -1, 0)[step % 4]
        step, length = step + 1, length + rng.integers(1, 4)
    return f


def rooms(rng, height, width):
    """Rooms with floors and walls of any height, a pixel thick, and doors: holes are one of them or several."""
    f = rng.integers(0, NUM_LEVELS // 2, (height, width)) if rng.random() < 0.3 else np.zeros((height, width), int)
    rows = np.unique(rng.integers(0, height, rng.integers(1, 5)))
    columns = np.unique(rng.integers(0, width, rng.integers(1, 5)))
    for y in range(len(rows) + 1):
        for x in range(len(columns) + 1):
            room = np.s_[[*rows, height][y - 1] if y else 0 :, [*columns, width][x - 1] if x else 0 :]
            f[room] = np.maximum(f[room] * (rng.random() < 0.9), rng.integers(0, NUM_LEVELS // 2))
            f[room][:1], f[room][:, :1] = rng.integers(NUM_LEVELS // 3, NUM_LEVELS + 1, 2)
    doors = (rng.random(f.shape) < 0.01) & (f > NUM_LEVELS // 3)
    return np.where(doors, rng.integers(0, NUM_LEVELS), f)


def smooth(rng, height, width):
    """Bowls and bumps."""
    f = gaussian_filter(rng.normal(size=(height, width)), rng.uniform(1, 6), mode="nearest")
    return np.round((f - f.min()) / np.ptp(f) * NUM_LEVELS).astype(int) if np.ptp(f) else np.zeros(f.shape, int)


def speckled(rng, height, width):
    """Large pits with single pixels in them and around them."""
    speckles = rng.random((height, width)) < 0.05
    return np.where(speckles, rng.integers(0, NUM_LEVELS + 1, (height, width)), pits(rng, height, width))


def ious(boxes, truth):
    """float64 [B]: the best with any box of the truth; both int [., 4], x0 y0 x1 y1, inclusive."""
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    common = np.prod(np.maximum(high - low + 1, 0), axis=2)
    area, other = (np.prod(each[:, 2:] - each[:, :2] + 1, axis=1) for each in (boxes, truth))
    return (common / (area[:, None] + other[None] - common)).max(axis=1)


def near(rng, box, height, width):
    """A box around, within or beside another, within the image."""
    moved = box + rng.integers(-9, 10, 4) * (rng.random(4) < 0.4)
    x0, x1 = np.sort(np.clip(moved[[0, 2]], 0, width - 1))
    y0, y1 = np.sort(np.clip(moved[[1, 3]], 0, height - 1))
    return [x0, y0, x1, y1]


@pytest.mark.parametrize("kind", [pits, rings, spiral, rooms, smooth, speckled])
@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
def test_hits_are_those_of_all_contours(native, kind, size):
    rng = np.random.default_rng([*size, len(kind.__name__)])
    num_hits = 0
    for _ in range(60):
        scores = (kind(rng, *size)[None] + 0.5) / 255
        (boxes,) = ops.threshold_boxes(scores, THRESHOLDS, contours="all")
        every = np.concatenate(boxes)
        some = every[rng.integers(0, len(every), rng.integers(1, 4))]
        truth = np.array([near(rng, box, *size) for box in some], np.int32)
        reached = ious(some, truth)
        # What a box just reaches, what it just does not, and what is asked for most often.
        iou_thresholds = np.clip([reached[0], np.nextafter(reached[0], 2), 0.5, reached[-1]], 0.01, 1)
        found = ops.box_hits(scores, [truth], None, THRESHOLDS, iou_thresholds, contours="all")
        expected = [[ious(each, truth).max() >= least for each in boxes] for least in iou_thresholds]
        np.testing.assert_array_equal(
            found[0, 0], expected, err_msg=f"{truth.tolist()}\n{(scores[0] * 255).astype(int)}"
        )
        num_hits += found.sum()
    assert num_hits

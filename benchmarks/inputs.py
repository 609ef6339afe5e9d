"""What the benchmarks run on: real CAMs, CAM-like maps, white noise and plateaus, at least 100 distinct maps each.

In: a seed, and optionally a metadata folder for real boxes. Out: CAMs with ground-truth boxes and masks.
Source: box statistics are those of the CUB test split (5,794 images), measured after scaling to 224x224.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = (224, 224)

# CUB test boxes at 224x224: width and height (mean, standard deviation, correlation); where the box lies in the room
# that is left, as a fraction (mean, standard deviation) across and down.
_WIDTH, _HEIGHT, _CORRELATION = (124.3, 40.6), (135.3, 38.1), 0.389
_ACROSS, _DOWN = (0.495, 0.230), (0.568, 0.186)


@dataclass(frozen=True)
class Inputs:
    """Maps of one kind with their ground truth."""

    name: str
    cams: np.ndarray  # float32 or float64 [N, h, w], raw
    boxes: list[np.ndarray]  # int32 [n, 4] each, x0 y0 x1 y1 in pixels of the 224x224 map, inclusive

    def masks(self) -> np.ndarray:
        """uint8 [N, H, W]: the ellipse in each first box is the object, a rim around the image is ignored."""
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        masks = np.zeros((len(self.cams), *SIZE), np.uint8)
        for mask, boxes in zip(masks, self.boxes, strict=True):
            x0, y0, x1, y1 = boxes[0]
            across = (columns - (x0 + x1) / 2) / ((x1 - x0 + 1) / 2)
            down = (rows - (y0 + y1) / 2) / ((y1 - y0 + 1) / 2)
            mask[across**2 + down**2 <= 1] = 1
            for rim in (mask[:4], mask[-4:], mask[:, :4], mask[:, -4:]):
                rim[rim == 0] = 255
        return masks


def synthetic_boxes(rng: np.random.Generator, num_boxes: int) -> list[np.ndarray]:
    """One box an image with the statistics of CUB's test split, int32 [1, 4] each."""
    covariance = [[1, _CORRELATION], [_CORRELATION, 1]]
    sides = rng.multivariate_normal([0, 0], covariance, num_boxes) * (_WIDTH[1], _HEIGHT[1]) + (_WIDTH[0], _HEIGHT[0])
    sides = np.clip(sides, 20, 224).astype(int)
    place = rng.normal((_ACROSS[0], _DOWN[0]), (_ACROSS[1], _DOWN[1]), (num_boxes, 2)).clip(0, 1)
    corners = ((224 - sides) * place).astype(int)
    return list(np.concatenate([corners, corners + sides - 1], axis=1).astype(np.int32)[:, None])


def cam_like(rng: np.random.Generator, boxes: list[np.ndarray], side: int) -> np.ndarray:
    """CAMs as a network with a ``side`` x ``side`` feature map makes them, float64 [N, side, side].

    A few Gaussians in the box of the object, one or two elsewhere, low-pass noise, and an offset below zero.
    """
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 224
    cams = np.empty((len(boxes), side, side))
    for cam, truth in zip(cams, boxes, strict=True):
        x0, y0, x1, y1 = truth[0]
        cam[...] = gaussian_filter(rng.normal(0, 1, (side, side)), side / 14) * 0.6
        for where in range(rng.integers(2, 5) + rng.integers(1, 3)):
            inside = where < 2
            width, height = (x1 - x0, y1 - y0) if inside else (120, 120)
            centre = rng.uniform((x0, y0), (x1 + 1, y1 + 1)) if inside else rng.uniform(0, 224, 2)
            spread = rng.uniform(0.15, 0.45, 2) * (width + 1, height + 1)
            peak = rng.uniform(4, 10) if inside else rng.uniform(0.5, 4)
            cam += peak * np.exp(-0.5 * (((x - centre[0]) / spread[0]) ** 2 + ((y - centre[1]) / spread[1]) ** 2))
        cam += rng.uniform(-3, 0)
    return cams


def synthetic(rng: np.random.Generator, num_maps: int, boxes: list[np.ndarray] | None = None) -> list[Inputs]:
    """Every kind that needs no model. ``boxes``: real ones to use, at least ``num_maps``."""
    boxes = synthetic_boxes(rng, num_maps) if boxes is None else boxes[:num_maps]
    smooth = cam_like(rng, boxes, 28)
    smooth = np.stack([gaussian_filter(np.kron(cam, np.ones((8, 8))), 6) for cam in smooth])
    low, high = (edge(smooth, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    return [
        *(Inputs(f"CAM-like {side}x{side}", cam_like(rng, boxes, side), boxes) for side in (7, 14, 28)),
        Inputs("white noise", rng.random((num_maps, *SIZE)), boxes),
        Inputs("4-level noise", rng.integers(0, 4, (num_maps, *SIZE)).astype(np.float64), boxes),
        Inputs("4-level smooth", np.minimum(3, (smooth - low) / (high - low) * 4 // 1), boxes),
    ]


def demo() -> tuple[list[Inputs], str]:
    """Real CAMs of the demo's photographs, 7x7 and 14x14; if they cannot be made, none of them and the reason."""
    try:
        from wsolkern.demo import demo_cams

        found = [demo_cams(resolution=resolution) for resolution in (224, 448)]
    except ImportError as error:
        return [], f"demo CAMs skipped, the demo extra is missing ({error})"
    return [Inputs(f"demo {cams.shape[1]}x{cams.shape[2]}", cams, boxes) for cams, boxes, _ in found], ""


def real_boxes(folder: str, num_maps: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Boxes of ``num_maps`` random images of a metadata folder, scaled to 224x224."""
    from wsolkern.datasets import load_metadata

    boxes = load_metadata(folder).resized_boxes(SIZE)
    chosen = rng.choice(sorted(boxes), num_maps, replace=False)
    return [boxes[each] for each in chosen.tolist()]

"""From CAMs to counts on the device, for every normalization at once.

In: maps [N, h, w] on a device, ground truth on the host. Out: hits or histograms on the device; the host never waits.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
"""

from functools import cache

import numpy as np
import torch

from wsolkern.normalization import Normalization
from wsolkern.ops import inputs
from wsolkern.ops.constants import MAX_IOU_THRESHOLDS, NUM_LEVELS
from wsolkern.ops.gpu import cutting, histograms, normalizing, resizing, statistics, trees
from wsolkern.ops.gpu.launching import constant
from wsolkern.ops.sharing import per_threshold
from wsolkern.stages import stage


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps of any float dtype [N, h, w] at another size, float64 [N, H, W]."""
    return resizing.resize(maps, size)


def normalize(maps: torch.Tensor, normalization: Normalization, size: tuple[int, int]) -> torch.Tensor:
    """Score maps, float64 [N, H, W]."""
    resized, affines = _prepare(maps, (normalization,), size)
    return normalizing.normalize(resized, affines[:, 0])


def affine(maps: torch.Tensor, normalizations: tuple[Normalization, ...]) -> torch.Tensor:
    """Offset and divisor, float64 [N, M, 2], of maps at the evaluation size."""
    num_pixels = maps.shape[1] * maps.shape[2]
    return statistics.affine(resizing.prepare(maps, tuple(maps.shape[1:])), inputs.ranks(normalizations, num_pixels))


def cut_points(maps: torch.Tensor, normalizations: tuple[Normalization, ...], scores: np.ndarray) -> torch.Tensor:
    """Where each score [K] is reached, float64 [N, M, K]."""
    numbers = affine(maps, normalizations)
    points = cutting.cut_points(numbers.reshape(-1, 2), inputs.to_device(scores, maps.device))
    return points.reshape(*numbers.shape[:2], len(scores))


def digitize(maps: torch.Tensor, cuts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Bins int16 [N, H, W] and ranks int16 [N, C] of cuts float64 [N, C]."""
    return cutting.digitize(resizing.prepare(maps, tuple(maps.shape[1:])), inputs.to_device(cuts, maps.device))


def box_hits(
    maps: torch.Tensor,  # any float dtype [N, h, w]
    boxes: np.ndarray,  # int32 [B, 4] of all maps
    box_offsets: np.ndarray,  # int64 [N + 1], where each map's boxes begin
    normalizations: tuple[Normalization, ...],  # none: the maps are score maps
    thresholds: np.ndarray,  # float64 [T]
    iou_thresholds: np.ndarray,  # float64 [D]
    contours: str,
    size: tuple[int, int],
    summed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hits bool [C, M, N, D, T], or int64 [C, M, D, T] summed over the maps; and bool [M, N], which are degenerate."""
    device = maps.device
    truth = inputs.to_device(boxes, device), inputs.to_device(box_offsets, device), _constant(thresholds, device)
    deltas = np.split(iou_thresholds, range(MAX_IOU_THRESHOLDS, len(iou_thresholds), MAX_IOU_THRESHOLDS))

    def hits(images: torch.Tensor, most_level: int, **where) -> torch.Tensor:
        with stage("tree", device) as timer:
            timer.moved(images.nbytes, len(images))
            each = [
                trees.box_hits(images, most_level, *truth, _constant(some, device), contours, **where, summed=summed)
                for some in deltas
            ]
            return each[0] if len(each) == 1 else torch.cat(each, dim=-2)

    num_levels, most = NUM_LEVELS, cutting.MOST_NORMALIZATIONS
    if not normalizations:
        with stage("digitize", device):
            images = _score_levels(maps)
        return hits(images, num_levels), torch.zeros(1, len(maps), dtype=torch.bool, device=device)
    resized, affines = _prepare(maps, normalizations, size)
    found = []
    for begin in range(0, len(normalizations), most):
        some = affines[:, begin : begin + most].contiguous()
        with stage("digitize", device) as timer:
            images, ranks = cutting.level_image(resized, some)
            timer.moved(resized.source.nbytes + images.nbytes, len(maps))
        found.append(hits(images, num_levels * some.shape[1], ranks=ranks, affines=some))
    return found[0] if len(found) == 1 else torch.cat(found, dim=1), _degenerate(affines)


def threshold_boxes(
    score_maps: torch.Tensor,  # any float dtype [N, H, W]
    thresholds: np.ndarray,  # float64 [T]
    largest: bool,
) -> list[list[torch.Tensor]]:
    """Boxes int32 [B, 4] per map and threshold, on the device; the host waits for their numbers."""
    with stage("digitize", score_maps.device):
        images = _score_levels(score_maps)
    with stage("tree", score_maps.device) as timer:
        timer.moved(images.nbytes, len(images))
        boxes, counts = trees.threshold_boxes(images, _constant(thresholds, images.device), largest)
    max_levels = images.flatten(1).amax(1) if len(images) else images.new_empty(0)
    return per_threshold(boxes, counts.cpu().numpy(), max_levels.cpu().numpy(), thresholds)


def pixel_histograms(
    maps: torch.Tensor,  # any float dtype [N, h, w]
    masks: np.ndarray,  # uint8 [N, H, W]
    normalizations: tuple[Normalization, ...],  # none: the maps are score maps
    thresholds: np.ndarray,  # float64 [T]
    size: tuple[int, int],
    summed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Histograms int64 [M, N, 2, T + 2], or [M, 2, T + 2] summed; and bool [M, N], which maps are degenerate."""
    device = maps.device
    edges = _constant(np.append(thresholds, 1.0), device)
    resized, affines = _prepare(maps, normalizations, size)
    with stage("gather", device) as timer:
        timer.moved(resized.source.nbytes + masks.nbytes, len(maps))
        counts = histograms.pixel_histograms(resized, affines, inputs.to_device(masks, device), edges, summed=summed)
    if affines is None:
        return counts, torch.zeros(1, len(maps), dtype=torch.bool, device=device)
    return counts, _degenerate(affines)


def _prepare(maps: torch.Tensor, normalizations: tuple[Normalization, ...], size: tuple[int, int]):
    """The resized maps, and offset and divisor of every normalization, float64 [N, M, 2], or None without any."""
    with stage("resize", maps.device) as timer:
        resized = resizing.prepare(maps, size)
        timer.moved(maps.nbytes + resized.source.nbytes, len(maps))
    if not normalizations:
        return resized, None
    with stage("statistics", maps.device) as timer:
        affines = statistics.affine(resized, inputs.ranks(normalizations, size[0] * size[1]))
        timer.moved(resized.source.nbytes, len(maps))
    return resized, affines


def _score_levels(score_maps: torch.Tensor) -> torch.Tensor:
    """8-bit levels, uint8 [N, H, W]."""
    return (score_maps.double() * NUM_LEVELS).to(torch.uint8).contiguous()


def _degenerate(affines: torch.Tensor) -> torch.Tensor:
    return (affines[..., 1] == 0).T


def _constant(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A float64 array on the device, copied there once."""
    return _constant_of(values.tobytes(), device)


@cache
def _constant_of(values: bytes, device: torch.device) -> torch.Tensor:
    return constant(np.frombuffer(values).copy(), device)

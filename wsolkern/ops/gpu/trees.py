"""The component trees of a batch of level images on the device: which thresholds localize the object.

In: level images [N, H, W], boxes, where each normalization's levels lie. Out: hits, or counts over the batch; boxes.
Source: csrc/gpu/tree/ (the algorithm), csrc/gpu/evaluate.h, boxes.h; Choe et al., arXiv 2007.04178, section 4.2.
"""

import torch

from wsolkern.ops.backends import device_module
from wsolkern.ops.constants import CONTOURS, NUM_LEVELS


def box_hits(
    images: torch.Tensor,  # [N, H, W], levels from 0 to most_level: uint8 if that is at most 255, else int16
    most_level: int,
    boxes: torch.Tensor,  # int32 [B, 4] of all maps
    box_offsets: torch.Tensor,  # int64 [N + 1], where each map's boxes begin
    thresholds: torch.Tensor,  # float64 [T]
    iou_thresholds: torch.Tensor,  # float64 [D], at most 32
    contours: str,
    *,
    ranks: torch.Tensor | None = None,  # int16 [N, M, 255], "8-bit level > t" is "level >= rank"; None: they are 8-bit
    affines: torch.Tensor | None = None,  # float64 [N, M, 2], with ranks: a divisor of 0 has no score map
    summed: bool = False,
) -> torch.Tensor:  # bool [C, M, N, D, T], or int64 [C, M, D, T] summed over the maps
    """Launches on the current stream and returns at once; all tensors are contiguous and on one device.

    Raises:
        RuntimeError: CUDA refuses the launch.
    """
    device, num_maps = images.device, len(images)
    axes = (2 if contours == "both" else 1), 1 if ranks is None else ranks.shape[1]
    last = len(iou_thresholds), len(thresholds)
    if summed:
        out = torch.zeros(*axes, *last, dtype=torch.int64, device=device)
    else:
        out = torch.empty(*axes, num_maps, *last, dtype=torch.uint8, device=device)
    if num_maps:
        module = device_module()
        problem = _problem(images, most_level, thresholds, CONTOURS[contours])
        problem.num_normalizations, problem.num_iou_thresholds = axes[1], last[0]
        problem.boxes, problem.box_offsets = boxes.data_ptr(), box_offsets.data_ptr()
        problem.iou_thresholds = iou_thresholds.data_ptr()
        if ranks is not None:
            problem.ranks, problem.affines = ranks.data_ptr(), affines.data_ptr()
        scratch, sums = (
            torch.empty(size, dtype=torch.uint8, device=device)
            for size in module.plan(problem, is_summed=summed, device=_index(device))
        )
        problem.scratch = scratch.data_ptr()
        if summed:
            problem.sums = sums.data_ptr()
        else:
            problem.hits = out.data_ptr()
        counts = out.data_ptr() if summed else 0
        module.box_hits(problem, counts=counts, device=_index(device), stream=_stream(device))
    return out if summed else out.view(torch.bool)


def threshold_boxes(
    images: torch.Tensor,  # uint8 [N, H, W]
    thresholds: torch.Tensor,  # float64 [T], fractions of a map's maximum level
    largest: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # int32 [B, 4], int64 [N, 255]
    """The boxes of each level "> t" of each map that a threshold comes to, in lexicographic order; how many they are.

    Counts them, waits for the sum, and lists them. All tensors are contiguous and on one device.

    Raises:
        RuntimeError: CUDA refuses the launch.
    """
    device, num_maps = images.device, len(images)
    counts = torch.zeros(num_maps, NUM_LEVELS, dtype=torch.int32, device=device)
    if not num_maps:
        return torch.empty(0, 4, dtype=torch.int32, device=device), counts.long()
    module = device_module()
    problem = _problem(images, NUM_LEVELS, thresholds, CONTOURS["largest" if largest else "all"])
    problem.num_normalizations = 1
    scratch = torch.empty(module.box_plan(problem, device=_index(device)), dtype=torch.uint8, device=device)
    problem.scratch = scratch.data_ptr()

    def launch(begins: torch.Tensor | None, boxes: torch.Tensor | None) -> None:
        module.threshold_boxes(
            problem,
            counts=counts.data_ptr(),
            begins=0 if begins is None else begins.data_ptr(),
            boxes=0 if boxes is None else boxes.data_ptr(),
            device=_index(device),
            stream=_stream(device),
        )

    launch(None, None)
    totals = counts.flatten().long()
    ends = totals.cumsum(0)
    boxes = torch.empty(int(ends[-1]), 4, dtype=torch.int32, device=device)
    counts.zero_()
    launch(ends - totals, boxes)
    # Sides are at most 4096: a box is one number of 48 bits. Sorted by it, then by level, each level keeps its places.
    x0, y0, x1, y1 = boxes.long().unbind(1)
    order = (((x0 << 12 | y0) << 12 | x1) << 12 | y1).argsort()
    level = torch.repeat_interleave(torch.arange(len(totals), device=device), totals)
    return boxes[order[level[order].argsort(stable=True)]], totals.view_as(counts)


def _problem(images: torch.Tensor, most_level: int, thresholds: torch.Tensor, contours: int):
    """What all launches are about, as csrc/gpu/evaluate.h has it."""
    problem = device_module().BatchProblem()
    problem.num_maps, problem.height, problem.width = images.shape
    problem.images, problem.most_level = images.data_ptr(), most_level
    problem.thresholds, problem.num_thresholds = thresholds.data_ptr(), len(thresholds)
    problem.contours = contours
    return problem


def _index(device: torch.device) -> int:
    return 0 if device.index is None else device.index


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0

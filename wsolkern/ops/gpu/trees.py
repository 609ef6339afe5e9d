"""The component trees of a batch of level images on the device: which thresholds localize the object.

In: level images int16 [N, H, W], boxes, where each normalization's levels lie. Out: hits, or counts over the batch.
Source: csrc/block_tree.h (the algorithm), csrc/block_evaluate.h; metrics: Choe et al., arXiv 2007.04178, section 4.2.
"""

import torch

from wsolkern.ops.backends import device_module
from wsolkern.ops.inputs import CONTOURS


def box_hits(
    images: torch.Tensor,  # int16 [N, H, W], levels from 0 to most_level
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
    device, (num_maps, height, width) = images.device, images.shape
    axes = (2 if contours == "both" else 1), 1 if ranks is None else ranks.shape[1]
    last = len(iou_thresholds), len(thresholds)
    if summed:
        out = torch.zeros(*axes, *last, dtype=torch.int64, device=device)
    else:
        out = torch.empty(*axes, num_maps, *last, dtype=torch.uint8, device=device)
    if num_maps:
        index = 0 if device.index is None else device.index
        module = device_module()
        shape = {
            "num_maps": num_maps,
            "height": height,
            "width": width,
            "most_level": most_level,
            "num_normalizations": axes[1],
            "num_iou_thresholds": last[0],
            "num_thresholds": last[1],
            "contours": CONTOURS[contours],
            "device": index,
        }
        scratch, sums = (
            torch.empty(size, dtype=torch.uint8, device=device) for size in module.plan(**shape, is_summed=summed)
        )
        module.box_hits(
            **shape,
            images=images.data_ptr(),
            boxes=boxes.data_ptr(),
            box_offsets=box_offsets.data_ptr(),
            thresholds=thresholds.data_ptr(),
            iou_thresholds=iou_thresholds.data_ptr(),
            ranks=0 if ranks is None else ranks.data_ptr(),
            affines=0 if affines is None else affines.data_ptr(),
            hits=0 if summed else out.data_ptr(),
            counts=out.data_ptr() if summed else 0,
            scratch=scratch.data_ptr(),
            sums=sums.data_ptr(),
            stream=torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0,
        )
    return out if summed else out.view(torch.bool)

"""Small checks under the published evaluator's names.

In: a torch tensor, a score map, boxes. Out: a float64 array, or an error that says what is wrong.
Source: the module ``util`` of Choe et al.'s evaluator: names, signatures and kinds of errors.
"""

import numpy as np

from wsolkern.compat.published import equal_to_published
from wsolkern.ops.inputs import on_host, plain


@equal_to_published
def t2n(t) -> np.ndarray:
    """A torch tensor on any device as a float64 numpy array."""
    return on_host(t, "t").astype(np.float64)


@equal_to_published
def check_scoremap_validity(scoremap: np.ndarray) -> None:
    """Accepts a score map: numpy float64 [H, W], every value in [0, 1].

    Raises:
        TypeError: Not a numpy array, or another dtype.
        ValueError: Another number of axes, a NaN, a value outside [0, 1].
    """
    scoremap = plain(scoremap, "scoremap")
    if not isinstance(scoremap, np.ndarray):
        raise TypeError(f"scoremap: expected a numpy array, found {type(scoremap).__name__}")
    if scoremap.dtype != np.float64:
        raise TypeError(f"scoremap: expected float64, found {scoremap.dtype}")
    if scoremap.ndim != 2 or scoremap.size == 0:
        raise ValueError(f"scoremap: expected shape [H, W], found {scoremap.shape}")
    low, high = scoremap.min(), scoremap.max()
    if np.isnan(low):
        raise ValueError("scoremap: expected numbers, found NaN")
    if low < 0 or high > 1:
        raise ValueError(f"scoremap: expected values in [0, 1], found {low} to {high}")


@equal_to_published
def check_box_convention(boxes: np.ndarray, convention: str) -> None:
    """Accepts boxes [4] or [num_boxes, 4] that follow a convention, ``"x0y0x1y1"`` or ``"xywh"``.

    Raises:
        RuntimeError: A negative number, one that is not finite, another shape, or a box that ends before it begins.
        ValueError: No such convention.
    """
    boxes = plain(boxes, "boxes")
    if (boxes < 0).any():
        raise RuntimeError(f"boxes: expected no negative number, found {boxes.min()}")
    if not np.isfinite(boxes).all():
        raise RuntimeError("boxes: expected finite numbers, found NaN or infinity")
    if boxes.ndim not in (1, 2) or boxes.shape[-1] != 4:
        raise RuntimeError(f"boxes: expected shape [4] or [num_boxes, 4], found {boxes.shape}")
    if convention not in ("x0y0x1y1", "xywh"):
        raise ValueError(f'convention: expected "x0y0x1y1" or "xywh", found {convention!r}')
    # Sides of "xywh" are not negative: that was the first check.
    if convention == "x0y0x1y1" and (boxes[..., 2:] < boxes[..., :2]).any():
        wrong = boxes.reshape(-1, 4)
        wrong = wrong[(wrong[:, 2:] < wrong[:, :2]).any(axis=1)][0]
        raise RuntimeError(f"boxes: expected x0 <= x1 and y0 <= y1, found x0 y0 x1 y1 = {wrong.tolist()}")

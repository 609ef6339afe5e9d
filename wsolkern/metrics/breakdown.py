"""What is wrong with the boxes that miss: every image is in one of seven categories.

In: a box an image, its ground truth, whether its class is wrong. Out: categories.
Source: after the error analysis of Gao et al., TS-CAM, ICCV 2021 (arXiv 2103.14862); docs/per-image.md has
the definitions, and says what is ours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from wsolkern.box_rule import CHOE, BoxRule

CATEGORIES = ("right", "classification", "several", "whole_part", "part", "more", "other")
"""Right; classification error; several objects; a part that lies whole in the object; part of the object; more than the
object; other. In the order in which they are tried, but for the first, which a wrong class precedes."""


@dataclass(frozen=True)
class ErrorRule:
    """What tells the categories apart.

    With I the pixels that a box shares with a ground-truth box: IoG is I over the pixels of the ground-truth box, IoP
    is I over those of the predicted one. Widths are those of the box rule's IoU.
    """

    right: float = 0.5
    """IoU with the nearest ground truth from which on a box is right."""
    several: float = 0.3
    """IoG with at least two ground-truth boxes above which it is on several objects."""
    part: float = 0.5
    """IoP above which it is a part of the object."""
    more: float = 0.7
    """IoG above which it is more than the object."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= 1:
                raise ValueError(f"{name}: expected a fraction in (0, 1], found {value!r}")

    def categories(
        self,
        boxes: np.ndarray,
        found: np.ndarray,
        ious: np.ndarray,
        truth: Sequence[np.ndarray],
        misclassified: np.ndarray,
        box_rule: BoxRule = CHOE,
    ) -> np.ndarray:
        """The category of each box.

        Args:
            boxes: int [M, N, 4], x0 y0 x1 y1.
            found: Which of them a contour has, bool [M, N]: the box of an empty foreground is none.
            ious: Their IoU with the nearest ground truth, float64 [M, N].
            truth: Ground truth per map, int [N_i, 4] each.
            misclassified: Whether another class was predicted, bool [N]; False where that is not known.
            box_rule: What boxes were made by: it has the widths, and says which IoUs are hits.

        Returns:
            int8 [M, N], places in ``CATEGORIES``.
        """
        if not truth:
            return np.empty(ious.shape, np.int8)
        num_each = [len(each) for each in truth]
        starts = np.concatenate([[0], np.cumsum(num_each)[:-1]]).astype(np.int64)
        per_object, per_box = _shares(boxes.repeat(num_each, axis=1), np.concatenate(truth), box_rule.inclusive)

        def number(which: np.ndarray) -> np.ndarray:
            """Of how many ground-truth boxes of each map it holds, [M, N] from bool [M, B]."""
            return np.add.reduceat(which, starts, axis=1, dtype=np.int64)

        conditions = {
            "classification": np.broadcast_to(misclassified, ious.shape),
            "right": box_rule.reaches(ious, self.right),
            "other": ~found,
            "several": number(per_object > self.several) >= 2,
            "whole_part": number(per_box == 1) > 0,
            "part": number(per_box > self.part) > 0,
            "more": number(per_object > self.more) > 0,
        }
        places = [np.int8(CATEGORIES.index(name)) for name in conditions]
        return np.select([*conditions.values()], places, np.int8(CATEGORIES.index("other")))


def _shares(boxes: np.ndarray, truth: np.ndarray, one: int) -> tuple[np.ndarray, np.ndarray]:
    """IoG and IoP of boxes [M, B, 4], each with its ground truth, [B, 4]: float64 [M, B] each; 0 where a box has no
    pixel. Widths are x1 - x0 + ``one``."""
    a, b = boxes.astype(np.int64), truth[None].astype(np.int64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + one
    shared = np.maximum(sides, 0).prod(axis=-1)

    def share(of: np.ndarray) -> np.ndarray:
        pixels = np.maximum(of[..., 2:] - of[..., :2] + one, 0).prod(axis=-1)
        return np.asarray(np.where(pixels > 0, shared / np.maximum(pixels, 1), 0.0))

    return share(b), share(a)

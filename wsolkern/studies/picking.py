"""Which images of a split are shown: named, the worst, the best, those that two normalizations differ on, or some.

In: what was asked for; the IoUs of the images that were looked at. Out: image ids in groups, with the reason of each.
Source: none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsolkern.datasets import Metadata
from wsolkern.errors import ArgumentError
from wsolkern.metrics.protocol import Protocol


@dataclass(frozen=True)
class Agreement:
    """On how many images two normalizations localize the object, each at its own threshold."""

    first: str
    second: str
    iou_threshold: float
    both: int
    only_first: int
    only_second: int
    neither: int


def wanted_images(
    split: Metadata,
    image_ids: Sequence[str],
    worst: int,
    best: int,
    between: object,
    num: int,
) -> tuple[str, ...]:
    """The images that have to be looked at before it is known which are shown."""
    given = {"image_ids": bool(image_ids), "worst": worst != 0, "best": best != 0, "between": between is not None}
    if given["image_ids"] + given["between"] + (given["worst"] or given["best"]) > 1:
        raise ArgumentError(tuple(name for name, is_given in given.items() if is_given), "expected one of them")
    for name, value in (("worst", worst), ("best", best), ("num", num - 1)):
        if value < 0:
            raise ArgumentError(name, f"expected a number of images, found {value}")
    if image_ids:
        known = set(split.image_ids)
        for each in image_ids:
            if each not in known:
                example = split.image_ids[0]
                raise ArgumentError(
                    "image_ids", f"expected images of {split.folder}, such as {example}, found {each!r}"
                )
        return tuple(dict.fromkeys(image_ids))
    if any(given.values()):
        return split.image_ids
    places = np.linspace(0, len(split.image_ids) - 1, min(num, len(split.image_ids))).round().astype(int)
    return tuple(split.image_ids[place] for place in places)


def pick(
    names: Sequence[str],
    ious: np.ndarray,
    protocol: Protocol,
    of_boxes: bool,
    image_ids: Sequence[str],
    worst: int,
    best: int,
    between: object,
    num: int,
) -> tuple[list[tuple[str, list[str]]], Agreement | None]:
    """(why, image ids) of those that are shown, in order; and how two normalizations agree.

    Args:
        names: The images that were looked at.
        ious: Theirs under each normalization, float64 [N, M, D]; D is 1 for masks.
        protocol: With these normalizations and IoU thresholds.
        of_boxes: Whether the IoUs are of boxes.
        image_ids, worst, best, between, num: As for :func:`wsolkern.studies.show`.
    """
    if image_ids:
        have = set(names)
        return [("images that were named", [each for each in dict.fromkeys(image_ids) if each in have])], None
    if between is not None:
        deltas = protocol.iou_thresholds.tolist() if of_boxes else [0.5]
        place = deltas.index(0.5) if 0.5 in deltas else 0
        delta = deltas[place]
        first, second = ious[:, 0, place], ious[:, 1, place]
        hits = first >= delta, second >= delta
        a, b = protocol.names
        groups = []
        for one, name, other, sign in ((hits[0] & ~hits[1], a, b, 1), (hits[1] & ~hits[0], b, a, -1)):
            order = np.argsort(sign * (second - first), kind="stable")
            ids = [names[index] for index in order if one[index]][:num]
            groups.append((f"{name} localizes, {other} does not (IoU {delta:g}): {int(one.sum()):,} images", ids))
        both, neither = int((hits[0] & hits[1]).sum()), int((~hits[0] & ~hits[1]).sum())
        only_a, only_b = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
        return groups, Agreement(a, b, delta, both, only_a, only_b, neither)
    if worst or best:
        order = np.argsort(ious[:, 0].mean(axis=1), kind="stable")
        of = f"{'mean IoU' if of_boxes else 'IoU'} under {protocol.names[0]}"
        groups = []
        if worst:
            groups.append((f"lowest {of}", [names[index] for index in order[:worst]]))
        if best:
            order = np.argsort(-ious[:, 0].mean(axis=1), kind="stable")
            groups.append((f"highest {of}", [names[index] for index in order[:best]]))
        return groups, None
    return [("images at even distances in the split", list(names))], None

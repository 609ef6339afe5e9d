"""What is counted, as two values: how maps are evaluated, and what they are compared with.

In: normalizations, thresholds, IoU thresholds and a size; boxes and masks by image id. Out: the same, checked.
Source: Choe et al., arXiv 2007.04178, section 4; normalizations: Kim et al., arXiv 2107.13221, equations 3-6.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from wsolkern import defaults
from wsolkern.box_rule import CHOE, BoxRule
from wsolkern.errors import ArgumentError, ImageError
from wsolkern.metrics.result import SCORE_MAPS, shorten_list
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops import DEFAULT_THRESHOLDS, inputs
from wsolkern.ops.rules import check_num_thresholds

# Held by image id, of any hashable type; what is held is checked by the operations.
Boxes: TypeAlias = Mapping[Any, Any]
Masks: TypeAlias = Mapping[Any, Any] | Callable[[Any], Any]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Protocol:
    """How maps are evaluated. Protocols are equal if all that is in them is; counts of equal ones add up.

    Args:
        normalizations: What to normalize with, M of them, strings such as "ivr:0.45"; None for score maps, M = 1.
        thresholds: Fractions of a map's maximum level, float64 [T], in [0, 1).
        iou_thresholds: Fractions in (0, 1], float64 [D].
        size: Height and width, in pixels, that CAMs are resized to; score maps must have it.
        box_rule: How a box is made of a map and when it hits, or the name of a published rule such as "ts-cam"; masks
            have nothing to do with it.

    Raises:
        ValueError: An argument is not as above, or the box rule cannot have so many thresholds.
    """

    normalizations: tuple[Normalization, ...] | None
    thresholds: np.ndarray
    iou_thresholds: np.ndarray
    size: tuple[int, int]
    box_rule: BoxRule

    def __init__(
        self,
        normalizations: Iterable[str | Normalization] | str | None = defaults.NORMALIZATIONS,
        *,
        thresholds: Sequence[float] | np.ndarray = DEFAULT_THRESHOLDS,
        iou_thresholds: Sequence[float] | np.ndarray = defaults.IOU_THRESHOLDS,
        size: tuple[int, int] = defaults.SIZE,
        box_rule: str | BoxRule = "choe",
    ):
        checked: dict[str, Any] = {
            "normalizations": None if normalizations is None else parse_all(normalizations),
            "thresholds": _frozen(inputs.check_thresholds(thresholds)),
            "iou_thresholds": _frozen(inputs.check_iou_thresholds(iou_thresholds)),
            "size": inputs.check_size(size),
            "box_rule": BoxRule.parse(box_rule),
        }
        check_num_thresholds(checked["box_rule"], checked["thresholds"])
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> list[str]:
        """What the M rows are called: the normalizations as strings, or "score maps"."""
        return [SCORE_MAPS] if self.normalizations is None else [str(each) for each in self.normalizations]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "normalizations": None if self.normalizations is None else self.names,
            "thresholds": self.thresholds.tolist(),
            "iou_thresholds": self.iou_thresholds.tolist(),
            "size": list(self.size),
            "box_rule": self.box_rule.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Protocol":
        """What :meth:`to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        return cls(**{**content, "size": tuple(content["size"]), "box_rule": BoxRule.from_dict(content["box_rule"])})

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Protocol) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        ious = ", ".join(shorten_list([f"{iou:g}" for iou in self.iou_thresholds.tolist()]))
        names = ", ".join(shorten_list(self.names))
        size = f"{self.size[0]}x{self.size[1]}"
        rule = "" if self.box_rule == CHOE else f"; box rule {self.box_rule}"
        return f"Protocol({names}; {len(self.thresholds)} thresholds; IoU {ious}; size {size}{rule})"

    def _key(self) -> tuple[object, ...]:
        fractions = tuple(self.thresholds.tolist()), tuple(self.iou_thresholds.tolist())
        return self.normalizations, *fractions, self.size, self.box_rule


@dataclass(frozen=True, eq=False, repr=False)
class GroundTruth:
    """What maps are compared with, by image id.

    Args:
        boxes: Image id -> int [n, 4], n >= 1, x0 y0 x1 y1 in pixels of the resized map, inclusive.
        masks: Image id -> uint8 [H, W] (1 object, 0 background, 255 ignored), as a mapping or a function that loads
            it; asked for when an image is counted and not kept.

    Raises:
        ValueError: There are neither boxes nor masks.
    """

    boxes: Boxes | None = None
    masks: Masks | None = None

    def __post_init__(self) -> None:
        if self.boxes is None and self.masks is None:
            raise ValueError("boxes, masks: expected at least one of them, found None for both")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which there are: "boxes", "masks" or both."""
        return tuple(name for name, held in vars(self).items() if held is not None)

    def check_ids(self, image_ids: Sequence[Any], num_maps: int) -> list[Any]:
        """The ids of a batch as a list.

        Raises:
            ValueError: They are not as many as maps, not distinct, or some are not in the ground truth.
        """
        image_ids = check_ids(image_ids, num_maps)
        for name, held in vars(self).items():
            unknown = [each for each in image_ids if each not in held] if isinstance(held, Mapping) else []
            if unknown:
                raise ValueError(
                    f"image_ids: {len(unknown)} of {num_maps} are not in {name}, the first is {unknown[0]!r}; "
                    f"{name} holds {len(held)} ids"
                )
        return image_ids

    def boxes_of(self, image_ids: Sequence[Any]) -> list[Any]:
        """The boxes of some images, in their order, as they are held; the operations check them."""
        assert self.boxes is not None
        return [self.boxes[each] for each in image_ids]

    def masks_of(self, image_ids: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
        """The masks of some images, uint8 [N, H, W]; the operations check their values.

        Raises:
            ImageError: One is no array of numbers, of another dtype or not of that size; it names the image.
            Exception: Whatever the function that loads masks raises.
        """
        assert self.masks is not None
        load = self.masks.__getitem__ if isinstance(self.masks, Mapping) else self.masks
        masks = np.empty((len(image_ids), *size), np.uint8)
        for image_id, out in zip(image_ids, masks, strict=True):
            held = load(image_id)
            try:
                mask = np.asarray(inputs.on_host(held, "mask"))
            except ArgumentError as error:
                raise ImageError(image_id, str(error)) from error
            if mask.dtype != np.uint8 or mask.shape != size:
                raise ImageError(image_id, f"expected a mask uint8 {size}, found {mask.dtype} {mask.shape}")
            out[...] = mask
        return masks

    def __repr__(self) -> str:
        held = (
            f"{name} of {len(value)} images" if isinstance(value, Mapping) else f"{name} from a function"
            for name, value in vars(self).items()
            if value is not None
        )
        return f"GroundTruth({', '.join(held)})"


def check_ids(image_ids: Sequence[Any], num_maps: int) -> list[Any]:
    """The ids of a batch as a list.

    Raises:
        ValueError: They are not as many as maps, or not distinct.
    """
    if isinstance(image_ids, (str, bytes)):
        raise ValueError(f"image_ids: expected a sequence of {num_maps} ids, found the single string {image_ids!r}")
    image_ids = list(image_ids)
    if len(image_ids) != num_maps:
        raise ValueError(f"image_ids: expected {num_maps}, one for each map, found {len(image_ids)}")
    if len(set(image_ids)) != num_maps:
        twice = next(each for index, each in enumerate(image_ids) if each in image_ids[:index])
        raise ValueError(f"image_ids: expected distinct ids, found {twice!r} more than once")
    return image_ids


def check_batch(protocol: Protocol, truth: GroundTruth, cams: Any, image_ids: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The maps [N, h, w] and the ids of a batch that is to be counted.

    Raises:
        ValueError: Maps are no such array, or score maps of another size; ids are not as :meth:`GroundTruth.check_ids`
            expects them.
    """
    cams = inputs.plain(cams, "cams")
    if getattr(cams, "ndim", None) != 3:
        raise ValueError(f"cams: expected an array [N, h, w], found {describe(cams)}")
    image_ids = truth.check_ids(image_ids, len(cams))
    if protocol.normalizations is None and tuple(cams.shape[1:]) != protocol.size:
        raise ValueError(f"cams: expected score maps of size {protocol.size}, found {tuple(cams.shape[1:])}")
    return cams, image_ids


def describe(value: Any) -> str:
    """An array's dtype and shape, or a value's type."""
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def _frozen(values: np.ndarray) -> np.ndarray:
    """A copy that nobody changes."""
    values = values.copy()
    values.flags.writeable = False
    return values

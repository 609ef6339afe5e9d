"""Which images a classifier gets right, among its first k classes.

In: logits [N, C] and labels [N], or what is right already. Out: bool [N] by k; groups [N] that images are summed in.
Source: Russakovsky et al., arXiv 1409.0575, section 4.2 (top-5); localization with it: Zhou et al., arXiv 1512.04150.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from wsolkern.errors import ArgumentError, MapError
from wsolkern.ops import inputs

TOP = (1, 5)
"""The k that are counted where there are logits."""

Correct: TypeAlias = Mapping[int, Any]  # k -> bool [N], an array or a tensor


def top_k(logits: Any, labels: Any, top: Sequence[int] = TOP) -> dict[int, Any]:
    """Whether each image's class is among the classes of its k largest logits.

    Of equal logits the one of the smaller class is the larger: a class is among the first k if fewer than k others have
    a larger logit, or the same and a smaller index, as in a stable descending sort. So a network whose logits are all
    equal is right about class 0 only. With k or fewer classes every image is right.

    Args:
        logits: Of all classes, numbers [N, C], numpy or torch; infinities are numbers.
        labels: Classes of the images, integers [N] in [0, C).
        top: The k, at least 1.

    Returns:
        k -> bool [N], for each k in rising order; tensors on the device of ``logits`` if these are one.

    Raises:
        ValueError: A shape or type is not as above.
        MapError: A label is none of the classes, or one of an image's logits is NaN.
    """
    logits = _numbers("logits", logits)
    if logits.ndim != 2 or not logits.shape[1]:
        raise ArgumentError("logits", f"expected numbers [N, C], a row an image, found shape {tuple(logits.shape)}")
    num_images, num_classes = logits.shape
    labels = inputs.check_integers("labels", labels, num_images)
    if inputs.is_tensor(logits):
        labels = inputs.to_device(labels, logits.device).long()
    else:
        labels = np.asarray(inputs.on_host(labels)).astype(np.int64)

    def is_outside(place: int, found: float) -> MapError:
        expected = f"expected a class in [0, {num_classes}), as there are logits of {num_classes}"
        return MapError("labels", place, f"{expected}, found {int(found)}")

    def is_nan(place: int, found: float) -> MapError:
        return MapError("logits", place // num_classes, f"expected numbers, found NaN for class {place % num_classes}")

    inputs.check_all((labels >= 0) & (labels < num_classes), labels, is_outside)
    inputs.check_all(logits == logits, logits, is_nan)  # noqa: PLR0124 (NaN is not itself)
    known = labels.clip(0, num_classes - 1)[:, None]  # on a device they may turn out to be none later

    def pick(each: Any) -> Any:
        return each.gather(1, known) if inputs.is_tensor(each) else np.take_along_axis(each, known, 1)

    own = pick(logits)
    place = (logits > own).sum(1) + pick((logits == own).cumsum(1))[:, 0]  # from 1
    return {k: place <= k for k in _rising(top)}


def stored_top_k(classes: np.ndarray, logits: np.ndarray, labels: Sequence[int]) -> dict[int, np.ndarray]:
    """:func:`top_k` of the five largest logits that a CAM store keeps.

    Args:
        classes: Classes of the largest logits, largest first, int64 [N, 5]; -1 where there are fewer.
        logits: These logits, float32 [N, 5].
        labels: Classes of the images, N of them.

    Raises:
        MapError: A logit is NaN, there are none of an image, or its label is none of the classes.
    """
    wanted, is_there = np.array(labels, np.int64).reshape(-1, 1), classes >= 0
    num_classes = is_there.sum(1)  # all of them where they are fewer than five
    for place in np.flatnonzero((is_there & np.isnan(logits)).any(1)).tolist():
        raise MapError("logits", place, "expected numbers, found NaN")
    for place in np.flatnonzero(num_classes == 0).tolist():
        raise MapError("logits", place, "expected some, found none in the store")
    for place in np.flatnonzero((num_classes < TOP[-1]) & (wanted[:, 0] >= num_classes)).tolist():
        found, num = int(wanted[place, 0]), int(num_classes[place])
        raise MapError("labels", place, f"expected a class in [0, {num}), as there are logits of {num}, found {found}")
    return {k: (classes[:, :k] == wanted).any(1) for k in TOP}


def check_correct(correct: Any, num_images: int) -> dict[int, Any]:
    """What :meth:`Evaluator.update` is told of a batch, by k in rising order.

    Args:
        correct: k -> bool [N]; or bool [N], for k = 1.
        num_images: N.

    Raises:
        ValueError: It is something else.
        MapError: An image is right among fewer classes and wrong among more.
    """
    by_k = correct if isinstance(correct, Mapping) else {1: correct}
    found = {k: _truths("correct", by_k[k], num_images) for k in _rising(by_k)}
    if len({str(getattr(each, "device", "")) for each in found.values()}) > 1:
        found = {k: inputs.on_host(each) for k, each in found.items()}
    ks = list(found)
    for few, many in zip(ks, ks[1:], strict=False):

        def is_lost(place: int, _: float, few: int = few, many: int = many) -> MapError:
            return MapError("correct", place, f"expected True for {many} where it is for {few}, found False")

        inputs.check_all(~found[few] | found[many], found[many], is_lost)
    return found


def top_of(logits: Any, labels: Any, correct: Any) -> tuple[int, ...]:
    """The k that a batch is classified for, rising; none where it is not classified.

    Raises:
        ArgumentError: There are logits or labels without the other, or beside what is right already; or no such k.
    """
    if correct is not None and (logits is not None or labels is not None):
        raise ArgumentError(("correct", "logits", "labels"), "expected correct, or logits with labels, found more")
    if (logits is None) != (labels is None):
        raise ArgumentError(("logits", "labels"), "expected both or none of them, found one")
    if correct is not None:
        return tuple(_rising(correct)) if isinstance(correct, Mapping) else (1,)
    return TOP if logits is not None else ()


def expect_images(correct: Correct, num_images: int) -> None:
    """Does nothing if :func:`top_k` was given so many images.

    Raises:
        ArgumentError: It was given another number.
    """
    found = len(next(iter(correct.values())))
    if found != num_images:
        raise ArgumentError("logits", f"expected {num_images} rows, one for each map, found {found}")


def num_correct_of(correct: Correct) -> Any:
    """How many images are right by k, int64 [K], of the kind of ``correct``."""
    each = list(correct.values())
    if inputs.is_tensor(each[0]):
        return sys.modules["torch"].stack(each).sum(1)
    return np.sum(each, axis=1, dtype=np.int64)


def groups_of(correct: Correct) -> Any:
    """Of each image the place, in rising order, of the first k that it is right for; how many k there are, if none.

    The images that are right for a k are those of its own group and of all groups before it.

    Returns:
        int64 [N], of the kind of ``correct``.
    """
    wrong = [~each for each in correct.values()]
    return sys.modules["torch"].stack(wrong).sum(0) if inputs.is_tensor(wrong[0]) else np.sum(wrong, axis=0)


def _rising(top: Sequence[int] | Correct) -> list[int]:
    found = sorted(k for k in top if isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1)
    if not found or len(set(found)) != len(top):
        raise ArgumentError("top", f"expected different integers of at least 1, found {list(top)}")
    return [int(k) for k in found]


def _numbers(name: str, values: Any) -> Any:
    """An array or a tensor of real numbers.

    Raises:
        ValueError: Something else.
    """
    values = inputs.plain(values, name)
    if inputs.is_tensor(values):
        is_real = not values.is_complex() and values.dtype != sys.modules["torch"].bool
        found = values
    else:
        found = np.asarray(values)
        is_real = found.dtype.kind in "fiu"
    if not is_real:
        raise ArgumentError(name, f"expected numbers, found {found.dtype}")
    return found


def _truths(name: str, values: Any, num_images: int) -> Any:
    """bool [N], an array or a tensor.

    Raises:
        ValueError: Something else.
    """
    values = inputs.plain(values, name)
    found = values if inputs.is_tensor(values) else np.asarray(values, bool if len(values) == 0 else None)
    if str(found.dtype).removeprefix("torch.") != "bool" or tuple(found.shape) != (num_images,):
        raise ArgumentError(name, f"expected {num_images} truth values, found {found.dtype} {tuple(found.shape)}")
    return found

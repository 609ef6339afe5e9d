"""What the operations accept, checked and converted in one place.

In: arguments of the public functions, numpy arrays or torch tensors. Out: C-contiguous arrays of one dtype each.
Source: none; a message names the argument, the map and the value, and says what was expected.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from wsolkern import defaults
from wsolkern.errors import ArgumentError, MapError
from wsolkern.normalization import Normalization, parse_all
from wsolkern.ops.backends import device_of
from wsolkern.ops.constants import CONTOURS, DEFAULT_THRESHOLDS, MAX_COORDINATE, MAX_SIDE, MAX_THRESHOLDS

Normalizations: TypeAlias = str | Normalization | Iterable[str | Normalization]
Array: TypeAlias = Any  # a numpy array or a torch tensor; whatever else is given is refused when it is checked

_FLOATS = ("float16", "bfloat16", "float32", "float64")
# What comes with nearly every call, checked already; nobody can write to them.
_DEFAULT_THRESHOLDS = np.asarray(DEFAULT_THRESHOLDS)
_DEFAULT_IOU_THRESHOLDS = np.frombuffer(np.array(defaults.IOU_THRESHOLDS, np.float64).tobytes())


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def same_kind(value: Array) -> Callable[[Any], Any]:
    """What turns a result, an array or a tensor, into the kind of ``value``: a tensor on its device, or an array."""

    def convert(result: Array) -> Array:
        if not is_tensor(value):
            return on_host(result)
        tensor = result if is_tensor(result) else sys.modules["torch"].from_numpy(result)
        return tensor.to(value.device)

    return convert


def plain(value: Array, name: str) -> Array:
    """``value`` itself; a tensor without its graph, and with the conjugation and sign that a view of it only notes.

    Raises:
        ArgumentError: A masked array, whose mask would be lost, or a tensor that is no dense array of numbers.
    """
    if is_tensor(value):
        torch = sys.modules["torch"]
        kinds = {
            "a masked": hasattr(value, "get_mask"),
            "a nested": value.is_nested,
            "a sparse": value.layout != torch.strided,
            "a quantized": value.is_quantized,
            "a meta": value.is_meta,
        }
        if kind := next((kind for kind, is_so in kinds.items() if is_so), None):
            raise ArgumentError(name, f"expected a dense tensor of numbers, found {kind} one")
        return value.detach().resolve_conj().resolve_neg()
    # numpy.ma's arrays and those of others who keep a mask.
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray and hasattr(value, "mask"):
        raise ArgumentError(
            name,
            f"expected an array without a mask, found a masked one ({type(value).__name__}): fill in what it hides, or "
            "leave it out",
        )
    return value


def on_host(value: Array, name: str = "values") -> Array:
    """``value`` itself, or the numpy array of a torch tensor.

    Raises:
        ArgumentError: As :func:`plain`, or numpy has no such array.
    """
    value = plain(value, name)
    if not is_tensor(value):
        return value
    try:
        return value.cpu().numpy()
    except (RuntimeError, TypeError) as error:  # bfloat16, float8; tensors of a transformation such as vmap
        raise ArgumentError(name, f"expected numbers that numpy can hold, found {value.dtype} ({error})") from error


def check_maps(value: Array, name: str, ndims: tuple[int, ...] = (3,), backend: str = "cpu") -> Array:
    """Maps as a backend takes them; a single [h, w] becomes [1, h, w] if allowed.

    Returns:
        float64 [N, h, w], a numpy array; for "cuda" a tensor of the same dtype as ``value`` on the device.

    Raises:
        TypeError: Not an array.
        ValueError: Not float16, bfloat16, float32 or float64, another number of axes, a side of 0 or of more than
            MAX_SIDE pixels.
    """
    value = plain(value, name)
    if is_tensor(value):
        is_real = str(value.dtype).removeprefix("torch.") in _FLOATS
    elif isinstance(value, np.ndarray):
        is_real = value.dtype.kind == "f" and value.itemsize <= 8
    else:
        raise TypeError(f"{name}: expected a numpy array or a torch tensor, found {type(value).__name__}")
    ndim = value.ndim
    if not is_real:
        raise ValueError(f"{name}: expected float16, bfloat16, float32 or float64, found {value.dtype}")
    if ndim not in ndims:
        axes = {2: "[h, w]", 3: "[N, h, w]"}
        raise ValueError(f"{name}: expected {' or '.join(axes[n] for n in ndims)}, found shape {tuple(value.shape)}")
    if min(value.shape[-2:]) < 1 or max(value.shape[-2:]) > MAX_SIDE:
        raise ValueError(f"{name}: expected maps of 1 to {MAX_SIDE} pixels a side, found shape {tuple(value.shape)}")
    if backend == "cuda":
        maps = to_device(value, device_of(value)).contiguous()
    else:
        if is_tensor(value):
            value = on_host(value.to("cpu", sys.modules["torch"].float64), name)
        maps = np.ascontiguousarray(value, dtype=np.float64)
    return maps[None] if ndim == 2 else maps


def to_device(value: Array, device: Any) -> Any:
    """An array or a tensor on a device. A copy from the host is queued, the host does not wait for it."""
    import torch

    if is_tensor(value):
        tensor = value.detach()
    else:  # torch takes neither another byte order nor what is read-only
        tensor = torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class DeviceCheck:
    """What a device finds of a batch, known when its stream has come there."""

    is_valid: Any
    """bool [] on the device."""
    first: Any
    """float64 [3] on the host: whether all is valid, the place of the first that is not, and its value."""
    describe: Callable[[int, float], MapError]
    """The error that such a place and value are."""

    def error(self) -> MapError | None:
        """The error that the batch is; for who has waited for the stream."""
        is_valid, place, found = self.first.tolist()
        return None if is_valid else self.describe(int(place), found)


_deferred: ContextVar[list[DeviceCheck] | None] = ContextVar("deferred", default=None)


@contextmanager
def deferring_checks() -> Iterator[list[DeviceCheck]]:
    """Within it :func:`check_all` of values on a CUDA device does not wait: it lists what is to be asked later."""
    checks: list[DeviceCheck] = []
    token = _deferred.set(checks)
    try:
        yield checks
    finally:
        _deferred.reset(token)


def check_all(valid: Array, values: Array, describe: Callable[[int, float], MapError]) -> None:
    """Does nothing if all is valid.

    Of what is on a device this is found there, and waited for, so that nothing of a bad batch is counted; unless within
    :func:`deferring_checks`.

    Args:
        valid: bool, of any shape, an array or a tensor.
        values: Numbers of the same shape.
        describe: Of the place among all of them, in raster order, and of the number there the error that it is.

    Raises:
        MapError: Some is not; of the first such.
    """
    checks = _deferred.get()
    if checks is not None and is_tensor(valid) and valid.device.type == "cuda" and valid.numel():
        import torch

        place = valid.flatten().to(torch.uint8).argmin(keepdim=True)  # the first that is not valid
        is_valid = valid.all()
        first = torch.cat([is_valid.double()[None], place.double(), values.flatten()[place].double()])
        checks.append(DeviceCheck(is_valid, to_host_later(first), describe))
    elif not valid.all():
        place = int(np.flatnonzero(~on_host(valid))[0])
        raise describe(place, float(values.reshape(-1)[place]))


def to_host_later(tensor: Any) -> Any:
    """A copy on the host, to be read when the current stream has come there."""
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def check_scores(maps: Array, name: str) -> None:
    """Every value of [N, H, W] lies in [0, 1]; the native core checks that while it reads them, and has this say where.

    Raises:
        MapError: A value is NaN or outside [0, 1], as :func:`check_all` finds it; the message names the map, the pixel
            and the value.
    """
    shape = tuple(maps.shape)
    check_all((maps >= 0) & (maps <= 1), maps, lambda at, found: _no_score(name, np.unravel_index(at, shape), found))


@contextmanager
def naming_scores(maps: Array, name: str, *, are_scores: bool = True) -> Iterator[None]:
    """What the native core refuses in the block is an error of :func:`check_scores`, if that finds the score it is."""
    try:
        yield
    except ValueError:
        if are_scores:
            check_scores(maps, name)
        raise


def _no_score(name: str, place: tuple[Any, ...], found: float) -> MapError:
    index, y, x = place
    return MapError(
        name,
        index,
        f"expected a score map with values in [0, 1], found {found} at row {y}, column {x}; "
        f"name a normalization to evaluate raw class activation maps",
    )


def check_size(value: Any, name: str = "size") -> tuple[int, int]:
    """(height, width), each from 1 to MAX_SIDE pixels."""
    try:
        height, width = value
        sides = height, width
        if all(isinstance(side, (int, np.integer)) and side is not True and 1 <= side <= MAX_SIDE for side in sides):
            return int(height), int(width)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name}: expected (height, width), integers from 1 to {MAX_SIDE}, found {value!r}")


def check_evaluation(
    cams: Array, normalizations: Normalizations | None, size: object, backend: str
) -> tuple[Any, tuple[Normalization, ...], tuple[int, int]]:
    """Maps, normalizations and evaluation size; without normalizations the maps are score maps and keep their size."""
    if normalizations is None:  # the values are checked where they are read: in the native core or the reference
        maps = check_maps(cams, "cams", backend=backend)
        return maps, (), tuple(maps.shape[1:])
    return check_maps(cams, "cams", backend=backend), parse_all(normalizations), check_size(size)


def check_thresholds(value: object, *, sorted_: bool = False) -> np.ndarray:
    """float64 [T], T >= 1, fractions in [0, 1), not decreasing where ``sorted_`` is asked for."""
    if value is DEFAULT_THRESHOLDS:
        return _DEFAULT_THRESHOLDS
    thresholds = _fractions(value, "thresholds")
    if not (thresholds.min() >= 0 and thresholds.max() < 1):
        bad = thresholds[~((thresholds >= 0) & (thresholds < 1))][0]
        raise ValueError(f"thresholds: expected fractions in [0, 1), found {bad!s}")
    if sorted_ and (thresholds[1:] < thresholds[:-1]).any():
        at = int(np.flatnonzero(thresholds[1:] < thresholds[:-1])[0])
        raise ValueError(
            f"thresholds: expected them in increasing order, found {thresholds[at]!s} before {thresholds[at + 1]!s}"
        )
    return thresholds


def check_thresholds_of_each(value: object, num_normalizations: int) -> np.ndarray:
    """float64 [M, T] of thresholds [T], the same for every normalization, or [M, T], each its own."""
    thresholds = real_numbers(value, "thresholds", "fractions")
    if thresholds.ndim == 2 and len(thresholds) != num_normalizations:
        raise ValueError(
            f"thresholds: expected [T], or [M, T] with a row for each of {num_normalizations} normalizations, found "
            f"shape {thresholds.shape}"
        )
    if thresholds.ndim != 2:
        return np.tile(check_thresholds(thresholds), (num_normalizations, 1))
    return check_thresholds(thresholds.ravel()).reshape(thresholds.shape)


def threshold_grid(interval: float, name: str = "interval") -> np.ndarray:
    """The fractions from 0 up to, not including, 1 in steps of ``interval``, float64 [T], as ``np.arange`` makes them.

    Raises:
        ValueError: The interval is not in (0, 1], or so small that there are more than MAX_THRESHOLDS.
    """
    if not (0 < interval <= 1 and 1 / interval < MAX_THRESHOLDS + 0.5):
        raise ValueError(
            f"{name}: expected a fraction in (0, 1] that gives at most {MAX_THRESHOLDS:,} thresholds, found {interval}"
        )
    return np.arange(0, 1, interval)


def check_iou_thresholds(value: object) -> np.ndarray:
    """float64 [D], D >= 1, fractions in (0, 1]."""
    if value is defaults.IOU_THRESHOLDS:
        return _DEFAULT_IOU_THRESHOLDS
    thresholds = _fractions(value, "iou_thresholds")
    if not (thresholds.min() > 0 and thresholds.max() <= 1):
        bad = thresholds[~((thresholds > 0) & (thresholds <= 1))][0]
        raise ValueError(f"iou_thresholds: expected fractions in (0, 1], found {bad!s}")
    return thresholds


def check_contours(value: str, allowed: tuple[str, ...] = tuple(CONTOURS)) -> str:
    """One of the names in ``allowed``."""
    if value not in allowed:
        expected = " or ".join(f'"{name}"' for name in allowed)
        raise ValueError(f"contours: expected {expected}, found {value!r}")
    return value


def check_boxes(value: Iterable[Any], num_maps: int) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth of a batch: int32 [B, 4] of all maps together, and int64 [N + 1] where each map's rows begin.

    Raises:
        TypeError: Not a sequence.
        ValueError: Not one array a map.
        MapError: Not integers [n, 4] with n >= 1, or a box that ends before it begins.
    """
    if not isinstance(value, Iterable):
        raise TypeError(f"boxes: expected a sequence of arrays, found {type(value).__name__}")
    per_map = list(on_host(value, "boxes"))
    if len(per_map) != num_maps:
        raise ValueError(f"boxes: expected one array a map, {num_maps} of them, found {len(per_map)}")
    for index, boxes in enumerate(per_map):
        if type(boxes) is not np.ndarray:
            try:
                boxes = per_map[index] = _array(boxes, "boxes")
            except ArgumentError as error:
                raise MapError("boxes", index, error.reason) from error
        if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) == 0:
            raise MapError("boxes", index, f"expected [n, 4] with n >= 1, found shape {boxes.shape}")
        if boxes.dtype.kind not in "iu":
            raise MapError("boxes", index, f"expected integers, found {boxes.dtype}")
        if boxes.dtype.kind == "u" and boxes.itemsize == 8 and boxes.max() > MAX_COORDINATE:  # int64 would wrap around
            raise MapError(
                "boxes",
                index,
                f"expected coordinates within {MAX_COORDINATE} pixels of the origin, found {boxes.max()}",
            )
    offsets = np.array([0, *accumulate(map(len, per_map))], np.int64)
    if num_maps == 0:
        return np.empty((0, 4), np.int32), offsets
    together = np.concatenate(per_map, dtype=np.int64, casting="unsafe")
    end_early = together[:, 2:] < together[:, :2]
    if end_early.any() or together.max() > MAX_COORDINATE or together.min() < -MAX_COORDINATE:
        wrong = end_early.any(axis=1) | ((together > MAX_COORDINATE) | (together < -MAX_COORDINATE)).any(axis=1)
        row = int(np.flatnonzero(wrong)[0])
        index = int(np.searchsorted(offsets, row, side="right")) - 1
        raise MapError(
            "boxes",
            index,
            f"expected x0 <= x1 and y0 <= y1, within {MAX_COORDINATE} pixels of the origin, "
            f"found x0 y0 x1 y1 = {together[row].tolist()}",
            row - int(offsets[index]),
        )
    return np.ascontiguousarray(together, np.int32), offsets


def check_integers(name: str, value: Array, num_maps: int) -> Array:
    """Integers [N], a numpy array, or a tensor where it is.

    Raises:
        ArgumentError: Something else.
    """
    found = plain(value, name) if is_tensor(value) else _array(value, name)
    dtype = str(found.dtype).removeprefix("torch.")
    is_integer = re.fullmatch("u?int[0-9]+", dtype) is not None or not num_maps
    if not is_integer or tuple(found.shape) != (num_maps,):
        raise ArgumentError(name, f"expected {num_maps} integers, found {dtype} {tuple(found.shape)}")
    return found


def check_masks(value: object, num_maps: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [N, H, W] of 1 (object), 0 (background) and 255 (ignore).

    Raises:
        ValueError: Another dtype or shape.
        MapError: Another value.
    """
    masks = on_host(value, "masks")
    if not isinstance(masks, np.ndarray):
        raise TypeError(f"masks: expected a numpy array or a torch tensor, found {type(value).__name__}")
    if masks.dtype != np.uint8:
        raise ValueError(f"masks: expected uint8, found {masks.dtype}")
    if masks.shape != (num_maps, *size):
        raise ValueError(f"masks: expected shape {(num_maps, *size)}, found {masks.shape}")
    # Modulo 256 the values 255, 0 and 1 are neighbours: shifted by 2 they are 253, 254 and 255.
    if masks.size and (masks - np.uint8(2)).min() < 253:
        index, y, x = np.argwhere((masks > 1) & (masks < 255))[0]
        raise MapError(
            "masks",
            index,
            f"expected 1 (object), 0 (background) or 255 (ignore), found {masks[index, y, x]} at row {y}, column {x}",
        )
    return np.ascontiguousarray(masks)


def ranks(normalizations: tuple[Normalization, ...], num_pixels: int) -> np.ndarray:
    """int64 [M, 2], the order statistics that give offset and divisor; M = 0 tells the native core "score maps"."""
    return np.array([each.ranks(num_pixels) for each in normalizations], np.int64).reshape(-1, 2)


def _array(value: object, name: str) -> np.ndarray:
    """What numpy makes of an array, a tensor or nested lists.

    Raises:
        ArgumentError: Nothing of one shape; or as :func:`on_host`.
    """
    found = on_host(value, name)
    try:
        return np.asarray(found)
    except (TypeError, ValueError) as error:
        raise ArgumentError(name, f"expected an array, found {type(value).__name__} ({error})") from error


def real_numbers(value: object, name: str, expected: str) -> np.ndarray:
    """A C-contiguous float64 array of any real numbers; ``expected`` is what the message calls them.

    Raises:
        ValueError: Something else.
    """
    found = on_host(value, name)
    try:
        found = np.asarray(found)
        if found.dtype.kind in "fiuO":
            return np.asarray(found, np.float64, order="C")
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name}: expected {expected}, found {value!r}")


def _fractions(value: object, name: str) -> np.ndarray:
    fractions = real_numbers(value, name, "fractions")
    if fractions.ndim != 1 or fractions.size == 0:
        raise ValueError(f"{name}: expected one axis with at least one fraction, found shape {fractions.shape}")
    return fractions

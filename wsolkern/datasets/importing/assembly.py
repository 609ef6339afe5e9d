"""From annotated images to the files of a data set: classes, splits, whole pixels, masks; checked by reading back.

In: Pictures of any source, and what its user chose. Out: a data set's metadata folder, mask files, an account.
Source: the file layout of Choe et al., arXiv 2007.04178; one class an image, as in all its data sets.
"""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wsolkern.datasets import box_formats
from wsolkern.datasets.folders import path_below
from wsolkern.datasets.importing.publishing import Staging
from wsolkern.datasets.importing.records import Dropped, Instance, Picture, expect_id, image_size, number
from wsolkern.datasets.importing.texts import read_csv
from wsolkern.datasets.metadata import Metadata, load_metadata
from wsolkern.datasets.tables import ImageIds, Problems, read_texts
from wsolkern.errors import ArgumentError, DatasetError, PathError
from wsolkern.files import read_regular

SEVERAL = ("largest", "drop")
CLASS_NAMES = "class_names.txt"
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Choices:
    """What a user decides about an import.

    Raises:
        ArgumentError: A field is not as below.
    """

    split: str = "test"
    """The split that images go to whose source names none."""
    splits: Mapping[str, float] = field(default_factory=dict)
    """Split -> share of the images, in place of ``split``; the shares' sum is 1. Each class is shared out by itself."""
    seed: int = 0
    """Another one, other images in the splits of ``splits``."""
    box_format: str = "xyxy"
    """What the four numbers of a box are: "xyxy", "xywh" or "cxcywh"; x1 is x + width, y1 is y + height. Corners are
    inclusive: the pixel x1, y1 belongs to the box."""
    box_rounding: str = "nearest"
    """How corners become whole pixels: "nearest" (halves up), "floor" or "outward" (x0, y0 down, x1, y1 up). What is at
    most one pixel outside the image, and x1 = width, come to its first or last pixel, as in the published metadata;
    what is further outside is dropped."""
    fractions: bool = False
    """The four numbers are fractions of the image's width and height, not pixels."""
    several: str = "largest"
    """What becomes of an image with objects of several classes: "largest": it has the class whose objects are the
    largest together, and the others' are dropped; "drop": it is dropped, as OpenImages30k was chosen."""
    class_of: str | os.PathLike[str] | None = None
    """CSV with the columns image and class: the class of these images, before any other rule."""
    classes: str | os.PathLike[str] | None = None
    """Names of the classes, a line each (or class_names.txt of an import): their order gives the numbers, and what is
    of another class is dropped. None: those of the source if it lists them; else class_names.txt of the folder that is
    written to, unless that is overwritten; else all names in alphabetical order."""
    ids: str | os.PathLike[str] | None = None
    """image_ids.txt of the images to take, in its order; others are left out. None: all."""
    images: str | os.PathLike[str] | None = None
    """Folder that image ids start from: sizes are read from the images, and those that are not there are dropped."""
    masks: str | os.PathLike[str] | None = None
    """Folder to write masks to, which then localize the objects instead of boxes."""
    strict: bool = False
    """Nothing may be dropped."""
    overwrite: bool = False
    """Splits and masks that are there are replaced."""

    def __post_init__(self) -> None:
        try:
            box_formats.check_format(self.box_format, self.box_rounding)
        except ValueError as error:
            name, _, reason = str(error).partition(": ")
            raise ArgumentError(name, reason) from None
        if self.box_rounding == "none":
            raise ArgumentError("box_rounding", "expected nearest, floor or outward, found 'none'")
        if self.several not in SEVERAL:
            raise ArgumentError("several", f"expected {' or '.join(SEVERAL)}, found {self.several!r}")
        for name in (self.split, *self.splits):
            if not name or name in (".", "..") or set(name) & set("/\\\0\r\n"):
                raise ArgumentError("split", f"expected the name of a folder, found {name!r}")
        shares = list(self.splits.values())
        if shares and not (min(shares) > 0 and abs(sum(shares) - 1) < 1e-6):
            raise ArgumentError("splits", f"expected shares above 0 with the sum 1, found {dict(self.splits)}")


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    folder: str
    """The data set's metadata folder."""
    splits: Mapping[str, Metadata]
    """Name -> the split, as it was read back."""
    class_names: tuple[str, ...]
    """Of class 0, 1, 2, ..."""
    dropped: Dropped
    """What was left out and why."""
    image_root: str | None
    """The folder that image ids start from, if it is known."""
    mask_root: str | None
    """The folder that mask paths start from; None for boxes."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        splits = {
            name: {"images": len(each.image_ids), "localization": each.kind} for name, each in self.splits.items()
        }
        return {
            "folder": self.folder,
            "splits": splits,
            "classes": list(self.class_names),
            "dropped": self.dropped.to_dict(),
            "image_root": self.image_root,
            "mask_root": self.mask_root,
        }


class _Kept:
    """One image that is kept."""

    def __init__(self, picture: Picture, size: tuple[int, int] | None, name: str):
        self.image_id, self.size, self.class_name, self.split = picture.image_id, size, name, picture.split
        self.boxes: list[list[int]] = []
        self.mask_paths: list[str] = []
        self.ignore_path: str | None = None


def assemble(
    pictures: Iterable[Picture],
    out: str | os.PathLike[str],
    choices: Choices,
    *,
    dropped: Dropped | None = None,
    class_names: Sequence[str] | None = None,
    image_root: str | os.PathLike[str] | None = None,
    check_images: bool = False,
    progress: Progress | None = None,
    total: int = 0,
) -> Imported:
    """Writes the metadata of annotated images, and their masks.

    Args:
        pictures: The images, each once.
        out: Folder of the data set, such as ``metadata/CUB``.
        choices: What the user decided.
        dropped: Takes what is left out, and has what the source itself left out.
        class_names: In the order of their numbers; None: all that occur, in alphabetical order.
        image_root: Where the images are, if the source says so.
        check_images: Images that are not below the image root are dropped.
        progress: Called with what is done, how many images are, and of how many.
        total: How many pictures there are, for that.

    Returns:
        What was written, as it was read back.

    Raises:
        DatasetError: A file is not as its format says, nothing is left, something was dropped under ``strict``, or what
            would be written is there already. Nothing is written then.
    """
    dropped = Dropped() if dropped is None else dropped
    root = choices.images if choices.images is not None else image_root
    if choices.images is not None and not Path(choices.images).is_dir():
        raise ArgumentError("images", f"expected a folder of images, found {os.fspath(choices.images)}")
    names = _class_names(choices, out, class_names)
    known = None if names is None else set(names)
    class_of, wanted = _read_class_of(choices.class_of), _read_ids(choices.ids)
    kept: dict[str, _Kept] = {}
    seen: set[str] = set()
    with Staging(out, choices.masks, choices.overwrite) as staging:
        for num, picture in enumerate(pictures, start=1):
            expect_id(picture.image_id, picture.where)
            if picture.image_id in seen:
                raise DatasetError(f"{picture.where}: image {picture.image_id!r} is there twice")
            seen.add(picture.image_id)
            if wanted is None or picture.image_id in wanted:
                picture = picture._replace(category=class_of.get(picture.image_id, picture.category))
                one = _one(picture, choices, root, check_images or choices.images is not None, known, dropped, staging)
                if one is not None:
                    kept[one.image_id] = one
            if progress is not None:
                progress("images", num, max(total, num))
        if wanted is not None:
            for image_id in wanted:
                if image_id not in seen:
                    dropped.add("images of --ids are not in the source", image_id)
        if not kept:
            said = "".join(f"\n  {line}" for line in dropped.lines())
            raise DatasetError(f"{os.fspath(out)}: no image is left{said}")
        if choices.strict and dropped.counts:
            said = "".join(f"\n  {line}" for line in dropped.lines())
            raise DatasetError(f"{os.fspath(out)}: nothing may be dropped (strict), but there are{said}")
        names = sorted({each.class_name for each in kept.values()}) if names is None else names
        if odd := next((each for each in names if set(each) & set("\n\r") or not each), None):
            raise DatasetError(f"{os.fspath(out)}: expected names of classes of one line, found {odd!r:.60}")
        images = list(kept.values()) if wanted is None else [kept[each] for each in wanted if each in kept]
        splits = _written(images, names, choices, staging)
        _expect_same_numbers(Path(out), names, splits)
        staging.write(CLASS_NAMES, "".join(f"{each}\n" for each in names).encode())
        staging.publish(list(splits))
    splits = {name: _read_back(Path(out, name), bool(each.kind)) for name, each in splits.items()}
    mask_root = None if choices.masks is None else os.fspath(choices.masks)
    return Imported(os.fspath(out), splits, tuple(names), dropped, None if root is None else os.fspath(root), mask_root)


def _one(
    picture: Picture,
    choices: Choices,
    root: str | os.PathLike[str] | None,
    check_images: bool,
    known: set[str] | None,
    dropped: Dropped,
    staging: Staging,
) -> _Kept | None:
    """An image with its class, size and objects; None if it is dropped."""
    here, size = f"{picture.image_id} ({picture.where})", picture.size
    file = picture.file or (None if root is None else path_below(root, picture.image_id))
    if file is not None and (check_images or picture.file or (size is None and picture.located)):
        try:
            if picture.located:
                stored = image_size(file)
                # A photograph may be listed as it is displayed: turned by its orientation tag.
                if size is not None and sorted(size) != sorted(stored):
                    listed = f"{size[0]} x {size[1]} listed, {stored[0]} x {stored[1]} stored"
                    dropped.add("images of another size than listed", f"{here}: {listed}")
                    return None
                size = stored if size is None else size
            elif not os.path.exists(file):
                raise FileNotFoundError
        except FileNotFoundError:
            dropped.add("images whose file is not there", here)
            return None
        except (OSError, ValueError) as error:
            dropped.add("images whose file cannot be read", f"{here}: {error}")
            return None
    if not picture.located:
        if picture.category is None or (known is not None and picture.category not in known):
            dropped.add("images of no known class", here)
            return None
        staging.link(picture.file, picture.image_id)
        return _Kept(picture, size, picture.category)
    if size is None:
        dropped.add("images of unknown size (give the folder of the images)", here)
        return None

    found = list(_usable(picture, size, choices, known, dropped))
    areas: Counter[str] = Counter()
    for instance, shape in found:
        if not instance.ignored:
            areas[instance.category] += _area(shape)
    if not areas:
        dropped.add("images without an object", here)
        return None
    name = picture.category
    if name is None:
        if len(areas) > 1 and choices.several == "drop":
            dropped.add("images with objects of several classes", here)
            return None
        name = min(areas, key=lambda each: (-areas[each], each))
    if known is not None and name not in known:
        dropped.add("images of no known class", here)
        return None
    if name not in areas:
        dropped.add("images without an object of their class", f"{here}: {name}")
        return None
    one = _Kept(picture, size, name)
    ignored = np.zeros(size[::-1], bool) if choices.masks is not None else None
    for instance, shape in found:
        if instance.ignored:
            ignored |= shape
        elif instance.category != name:
            dropped.add("objects of another class than their image's", f"{instance.where}: {instance.category}")
        elif choices.masks is None:
            one.boxes.append([int(each) for each in shape])
        else:
            one.mask_paths.append(staging.add_mask(picture.image_id, instance.name, shape))
    if ignored is not None and ignored.any():
        one.ignore_path = staging.add_mask(picture.image_id, "ignore", ignored)
    staging.link(picture.file, picture.image_id)
    return one


def _usable(
    picture: Picture, size: tuple[int, int], choices: Choices, known: set[str] | None, dropped: Dropped
) -> Iterator[tuple[Instance, np.ndarray]]:
    """Objects with their box in whole pixels, int64 [4], or their mask, bool [H, W]; what is no such is dropped."""
    for instance in picture.instances:
        if known is not None and instance.category not in known and not instance.ignored:
            dropped.add("objects of no known class", f"{instance.where}: {instance.category}")
        elif choices.masks is not None:
            if instance.mask is None:
                dropped.add("objects without a mask", instance.where)
                continue
            try:
                mask = instance.mask()
            except ValueError as error:
                dropped.add("masks that cannot be drawn", f"{instance.where}: {error}")
                continue
            if mask.shape != size[::-1]:
                found = f"{instance.where}: {mask.shape[1]} x {mask.shape[0]} in {size[0]} x {size[1]}"
                dropped.add("masks of another size than their image", found)
            elif not mask.any():
                dropped.add("masks without a pixel", instance.where)
            else:
                yield instance, mask
        elif instance.ignored:
            dropped.add("regions to ignore (boxes have none: they are kept with masks)", instance.where)
        elif problem := _box_problem(instance, size, choices):
            dropped.add(problem, f"{instance.where}: {str(instance.box)[:80]} in {size[0]} x {size[1]}")
        else:
            # The last pixel is width - 1: no corner of the published metadata is beyond it, which are clipped so.
            yield instance, np.minimum(_corners(instance, size, choices)[0], np.tile(size, 2) - 1)


def _corners(instance: Instance, size: tuple[int, int], choices: Choices) -> np.ndarray:
    numbers = np.array([[number(each) for each in instance.box or ()]], np.float64)
    if choices.fractions:
        numbers = numbers * np.tile(size, 2)
    return box_formats.to_corners(numbers, np.array([size]), choices.box_format, choices.box_rounding)


def _box_problem(instance: Instance, size: tuple[int, int], choices: Choices) -> str | None:
    """Why a box cannot be taken; None if it can."""
    if instance.box is None:
        return "objects without a box"
    numbers = [found for found in map(number, instance.box) if found is not None]
    if len(numbers) != 4 or len(instance.box) != 4:
        return "boxes that are not four finite numbers"
    if choices.box_format != "xyxy" and min(numbers[2:]) <= 0:
        return "boxes without width or height"
    corners = _corners(instance, size, choices)
    if box_formats.is_backwards(corners).any():
        return "boxes that end before they begin"
    if not box_formats.is_inside(corners, np.array([size])).all():
        return "boxes outside their image"
    return None


def _area(shape: np.ndarray) -> int:
    """Pixels of a mask, or of a box with inclusive corners."""
    if shape.dtype == bool:
        return int(np.count_nonzero(shape))
    return int((shape[2] - shape[0] + 1) * (shape[3] - shape[1] + 1))


def _written(images: list[_Kept], names: Sequence[str], choices: Choices, staging: Staging) -> dict[str, Metadata]:
    """The splits, written beside their place and read back from there."""
    number_of = {name: place for place, name in enumerate(names)}
    in_split: dict[str, list[_Kept]] = {}
    split_of = _shared_out(images, choices)
    for each in images:
        in_split.setdefault(split_of.get(each.image_id) or each.split or choices.split, []).append(each)
    splits = {}
    for name, some in in_split.items():
        located = any(each.boxes or each.mask_paths for each in some)
        sized = all(each.size for each in some)
        split = Metadata(
            tuple(each.image_id for each in some),
            class_labels={each.image_id: number_of[each.class_name] for each in some},
            image_sizes={each.image_id: each.size for each in some if each.size} if sized else {},
            boxes={each.image_id: np.array(each.boxes) for each in some if each.boxes},
            mask_paths={each.image_id: tuple(each.mask_paths) for each in some if each.mask_paths},
            ignore_paths={each.image_id: each.ignore_path for each in some} if choices.masks and located else {},
        )
        folder = staging.folder / name
        split.write(folder)
        if _read_back(folder, located).sha256() != split.sha256():
            raise DatasetError(f"{name}: what was written is not what is read")
        splits[name] = split
    return splits


def _read_back(folder: Path, located: bool) -> Metadata:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a suspicion about the boxes: their format was chosen
        return load_metadata(folder, localization=located)


def _shared_out(images: list[_Kept], choices: Choices) -> dict[str, str]:
    """Image id -> split: the images of each class, in an order that the seed and their id alone decide, are cut."""
    if not choices.splits:
        return {}
    by_class: dict[str, list[str]] = {}
    for each in images:
        by_class.setdefault(each.class_name, []).append(each.image_id)
    split_of = {}
    for ids in by_class.values():
        ids.sort(key=lambda each: hashlib.sha256(f"{choices.seed}:{each}".encode()).digest())
        ends = np.floor(np.cumsum(list(choices.splits.values())) * len(ids) + 0.5).astype(int)
        for name, some in zip(choices.splits, np.split(np.array(ids, object), ends[:-1]), strict=True):
            split_of.update(dict.fromkeys(some, name))
    return split_of


def _class_names(choices: Choices, out: str | os.PathLike[str], given: Sequence[str] | None) -> list[str] | None:
    """The names of the classes by number, if they are settled before the images are read."""
    path = choices.classes
    if path is None and given is None and Path(out, CLASS_NAMES).exists() and not choices.overwrite:
        path = Path(out, CLASS_NAMES)
    if path is None:
        return None if given is None else list(given)
    return read_class_names(path)


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """The names in a file of classes, such as class_names.txt of an import, by number.

    Raises:
        PathError: It is none, or has a name twice.
    """
    try:
        names = _read_names(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PathError(path, f"expected names of classes, a line each: {error}") from None
    if not names or "" in names or len(set(names)) != len(names):
        raise PathError(path, "expected names of classes, a line each, each once")
    return names


def _read_names(path: Path) -> list[str]:
    text = read_regular(path).decode("utf-8-sig").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def _expect_same_numbers(out: Path, names: Sequence[str], splits: Iterable[str]) -> None:
    """Raises DatasetError if another split of the data set stays, with other numbers for its classes."""
    if not (out / CLASS_NAMES).exists() or _read_names(out / CLASS_NAMES) == list(names):
        return
    for each in sorted(out.iterdir()):
        if (each / "class_labels.txt").exists() and each.name not in splits:
            raise DatasetError(
                f"{each}: would have other numbers for its classes than what is imported now, whose names are not "
                f"those of {out / CLASS_NAMES}: name that file for the classes (--classes), or another folder"
            )


def _read_class_of(path: str | os.PathLike[str] | None) -> dict[str, str]:
    if path is None:
        return {}
    return {record["image"]: record["class"] for _, record in read_csv(path, ("image", "class"))}


def _read_ids(path: str | os.PathLike[str] | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    problems = Problems()
    _, (ids,) = read_texts(Path(path), ("id",), problems)
    problems.raise_if_any(Path(path).parent)
    return ImageIds(tuple(dict.fromkeys(ids))).listed

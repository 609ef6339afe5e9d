"""The files that somebody wants written: looked at before the work, so that its result has where to go.

In: options and the paths that were given for them; the paths that are read. Out: nothing, or an error naming both.
Source: none.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wsolkern.errors import message
from wsolkern.files import check_target

if TYPE_CHECKING:
    from wsolkern.datasets import Metadata

Targets = Mapping[str, "str | os.PathLike[str] | None"]  # option, as it was typed -> its file; None: left out

# What may be read in a folder of maps, a store or a folder of metadata.
_READ_NAMES = {
    "image_ids.txt",
    "image_ids_proxy.txt",
    "class_labels.txt",
    "image_sizes.txt",
    "localization.txt",
    "manifest.json",
    "index.json",
}
_READ_SUFFIXES = {".npy", ".npz", ".safetensors"}


def check_targets(targets: Targets, inputs: Iterable[str | os.PathLike[str] | None] = ()) -> None:
    """Does nothing if all files can be written, and none of them is another one or belongs to what is read.

    Args:
        targets: The files; "-" is standard output.
        inputs: Files and folders that are read; stores, folders of maps and of metadata keep their own files.

    Raises:
        ValueError: Two of them are one file, or a file is an input.
        OSError: A file cannot be written there.
    """
    roots = [Path(os.path.realpath(each)) for each in inputs if each is not None]
    names: dict[Path, str] = {}
    for option, path in _files(targets):
        try:
            check_target(path)
        except OSError as error:
            raise OSError(f"{option}: {message(error)}") from error
        target = Path(os.path.realpath(path))
        if target in names:
            raise ValueError(f"{names[target]}, {option}: expected two files, found {os.fspath(path)} for both")
        names[target] = option
        if any(_is_read(target, root) for root in roots):
            raise ValueError(f"{option}: {os.fspath(path)} is a file that the command reads; name another one")


def check_folder(option: str, path: str | os.PathLike[str]) -> None:
    """Does nothing if files can be written into a folder, be it there already or not.

    Raises:
        OSError: Something else is in its place, or nothing can be written there.
    """
    place = Path(os.path.realpath(path))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{option}: {os.fspath(path)}: expected a folder, found a file: {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{option}: {os.fspath(path)}: nothing can be written to {place}")


def check_masks(targets: Targets, split: "Metadata", mask_root: str | os.PathLike[str] | None) -> None:
    """Does nothing if none of the files is a mask of the split.

    Raises:
        ValueError: One is.
    """
    if mask_root is None:
        return
    root = os.path.realpath(mask_root)
    masks = None
    for option, path in _files(targets):
        target = os.path.realpath(path)
        if not target.startswith(root + os.sep):
            continue
        if masks is None:
            named = [*split.ignore_paths.values(), *(each for paths in split.mask_paths.values() for each in paths)]
            masks = {os.path.normpath(os.path.join(root, each)) for each in named if each}
        if target in masks:
            raise ValueError(f"{option}: {os.fspath(path)} is a mask that the command reads; name another file")


def _files(targets: Targets) -> list[tuple[str, str | os.PathLike[str]]]:
    return [(option, path) for option, path in targets.items() if path is not None and path != "-"]


def _is_read(target: Path, root: Path) -> bool:
    if target == root:
        return True
    is_one = target.name in _READ_NAMES or target.suffix in _READ_SUFFIXES
    return is_one and target.is_relative_to(root)

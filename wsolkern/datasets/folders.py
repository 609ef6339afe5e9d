"""Files below a data set's folders: never outside them, and with a look at what is there under another spelling.

In: a root, and names that metadata gives. Out: paths below the root; the names of files that come nearest.
Source: none.
"""

import os
from collections.abc import Iterable

from wsolkern.datasets.spelling import nearest_spellings
from wsolkern.errors import DatasetError


def path_below(root: str | os.PathLike, name: str) -> str:
    """The path of a file below a root. Symbolic links below it may lead anywhere: who laid out the data made them.

    Args:
        root: The folder.
        name: The file's path from there; ``..`` takes back the part before it, also where that is a symbolic link.

    Raises:
        DatasetError: The name is an absolute path, or leaves the root.
    """
    if name.startswith("/") or ".." in name:
        inside = os.path.normpath(name)
        if inside.startswith("/") or inside == ".." or inside.startswith("../"):
            raise DatasetError(f"{os.fspath(root)}: expected a path inside this folder, found {name!r}")
        if ".." in name.split("/"):
            name = inside
    return f"{os.fspath(root)}/{name}"


def nearest_files(root: str | os.PathLike, names: Iterable[str], suffixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Which files are there in place of some that are not; each folder on the way is listed once.

    Args:
        root: The folder.
        names: Paths from there of files that are not there.
        suffixes: If given, only files that end so count, and names are without these endings.

    Returns:
        Name -> path from the root of the file whose name is another spelling of it, for those that have one; see
        :func:`wsolkern.datasets.spelling.nearest_spellings`.
    """
    found: dict[str, str] = {}

    def look(folder: str, wanted: list[tuple[str, list[str]]]) -> None:
        """``wanted``: names, and the parts of their paths from ``folder`` on."""
        try:
            with os.scandir(f"{os.fspath(root)}/{folder}") as entries:
                present = [entry.name for entry in entries]
        except OSError:
            return
        folders: dict[str, list[tuple[str, list[str]]]] = {}
        files: dict[str, list[str]] = {}
        for name, parts in wanted:
            if len(parts) > 1:
                folders.setdefault(parts[0], []).append((name, parts[1:]))
            else:
                files.setdefault(parts[0], []).append(name)
        if folders:
            near = nearest_spellings(folders, present)
            there = set(present)
            for part, below in folders.items():
                if part in there or part in near:
                    look(f"{folder}{part if part in there else near[part]}/", below)
        if files:
            whole = {_without(suffixes, each): each for each in present if not suffixes or each.endswith(suffixes)}
            near = nearest_spellings(files, whole)
            for part, same in files.items():
                if part in whole or part in near:
                    found.update(dict.fromkeys(same, folder + whole[part if part in whole else near[part]]))

    parts = ((name, [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]) for name in names)
    look("", [(name, each) for name, each in parts if each and ".." not in each and not name.startswith("/")])
    return found


def _without(suffixes: tuple[str, ...], name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix)), name)

"""Files that are there whole or not at all, whenever a process is killed or a machine stops.

In: a path and its new content. Out: the file, replaced in one step.
Source: none.
"""

import os
from pathlib import Path

UNFINISHED = ".unfinished"


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Replaces a file: written beside it, forced to the disk, renamed. One process at a time may write a path.

    A kill leaves at most a file whose name ends in UNFINISHED, which the next call replaces.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: str | os.PathLike) -> None:
    """Forces the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

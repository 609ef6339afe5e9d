"""What tells a file from a later one of the same name: size, time of modification and, where it is asked for, a hash.

In: paths. Out: stamps, to keep beside what was made from the files, and whether they still fit.
Source: SHA-256 as in FIPS 180-4.
"""

import hashlib
import os
import stat
from typing import NamedTuple

from wsolkern.files import open_regular

_CHUNK = 1 << 20  # bytes


class FileStamp(NamedTuple):
    """A file as it was."""

    bytes: int
    mtime_ns: int
    """When it was last modified, in nanoseconds since 1970."""
    sha256: bytes | None = None
    """Of its content, 32 bytes; None is unknown."""


def stamp(path: str | os.PathLike, *, with_hash: bool = False) -> FileStamp | None:
    """A file's stamp; None if there is no such regular file. Take it before the file is read.

    A file that changes while it is hashed has no hash here.
    """
    found = _stat(path)
    if found is None or not with_hash:
        return found
    sha256 = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
    except OSError:
        return found
    return found._replace(sha256=sha256.digest()) if _stat(path) == found else found


def fits(kept: FileStamp, path: str | os.PathLike, *, with_hash: bool = False) -> bool:
    """Whether a file is the one that a stamp was taken of.

    Equal size and time will do, unless ``with_hash`` is asked for and the stamp has one. Where only the time differs, a
    stamp with a hash fits if the hash does, and one without does not. A file that is gone contradicts nothing.
    """
    found = _stat(path)
    if found is None:
        return True
    if found.bytes != kept.bytes:
        return False
    if kept.sha256 is None:
        return found.mtime_ns == kept.mtime_ns
    if found.mtime_ns == kept.mtime_ns and not with_hash:
        return True
    found = stamp(path, with_hash=True)
    return found is None or found.sha256 == kept.sha256


def _stat(path: str | os.PathLike) -> FileStamp | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return FileStamp(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

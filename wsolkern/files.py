"""The one place where files are opened, replaced and locked.

In: paths, which may name anything. Out: regular files only; files that are there whole or not at all, whenever a
process is killed, a disk is full or a machine stops; one process at a time where there must not be two.
Source: none.
"""

import errno
import fcntl
import hashlib
import os
import platform
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from wsolkern.errors import DatasetError

UNFINISHED = ".unfinished"
MAP_SUFFIXES = (".npy", ".npz", ".safetensors")
"""What files of maps end in."""
_NAME_BYTES = 120  # of a target's name in its unfinished file's: names have at most 255
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def open_regular(path: str | os.PathLike, *, buffering: int = -1) -> BinaryIO:
    """Opens a file for reading; a FIFO, which would wait for a writer for ever, and all else is an error.

    Raises:
        FileNotFoundError: No such file.
        IsADirectoryError: It is a folder.
        OSError: It is something else, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        expect_regular(path, os.fstat(descriptor))
        return open(descriptor, "rb", buffering=buffering)
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def readers(num_threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads of a generator that reads files ahead; at its end nobody waits for what they still read.

    A generator that was left half-way may end in the garbage collector, which may be at work under any lock, also under
    one that a thread needs to end: who waited for threads there would wait for ever.
    """
    pool = ThreadPoolExecutor(num_threads, name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def read_regular(path: str | os.PathLike) -> bytes:
    """All of a file; see :func:`open_regular`. One that does not fit in memory is an OSError, too."""
    with open_regular(path) as file:
        try:
            return file.read()
        except MemoryError:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), os.fspath(path)) from None


def stamp(paths: Iterable[str | os.PathLike]) -> int:
    """What tells later whether files are still those they are now: a number of 64 bits for all of them, never 0.

    It is made of their sizes and times of modification. A file that is missing is one without either.
    """
    mark = 0
    for path in paths:
        try:
            found = os.stat(path)
            size, time_ns = found.st_size, found.st_mtime_ns
        except OSError:
            size = time_ns = -1
        # Odd factors: two times of one size never give the same.
        mark = ((mark + size) * 0x9E3779B97F4A7C15 + time_ns * 0xC2B2AE3D27D4EB4F) & 0xFFFFFFFFFFFFFFFF
    return mark or 1


def expect_regular(path: str | os.PathLike, found: os.stat_result) -> None:
    """Does nothing for what ``os.stat`` says of a regular file.

    Raises:
        IsADirectoryError: It is a folder.
        OSError: It is something else.
    """
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "something else")
        error = IsADirectoryError if stat.S_ISDIR(found.st_mode) else OSError
        raise error(f"{os.fspath(path)}: expected a regular file, found {kind}")


def write_whole(path: str | os.PathLike, content: bytes, *, one_of_many: bool = False) -> None:
    """Replaces a file: written beside it, forced to the disk, renamed. A symbolic link's target is replaced.

    Of ``one_of_many`` thousands in a folder each is whole, too, but not forced to the disk one by one, and what kills
    left is not looked for.

    A kill leaves at most a file whose name ends in UNFINISHED, which the next call for the same path removes. Each
    process and thread has a name of its own for that, so that of two at once the last one wins, and both succeed.

    Raises:
        OSError: It cannot be written, and is as it was; the message names the path.
    """
    target = _target(path)
    try:
        with _replacing(target, one_of_many) as file:
            file.write(content)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that is written bit by bit and replaces another when the block ends, as :func:`write_whole` does it.

    If the block ends with an error, the file that was there is as it was.

    Raises:
        OSError: It cannot be written; what the file itself raises in the block does not name the path.
    """
    with _replacing(_target(path), False) as file:
        yield file


@contextmanager
def _replacing(target: Path, one_of_many: bool) -> Iterator[BinaryIO]:
    unfinished = _unfinished(target)
    try:
        if not one_of_many:
            _remove_abandoned(target)  # before: it may take the room that is needed
        with open(_create(unfinished), "wb") as file:
            yield file
            file.flush()
            if not one_of_many:
                os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(unfinished, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(unfinished, target)
        if not one_of_many:
            sync_folder(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_from(path: str | os.PathLike, start: int, blocks: Iterable[bytes]) -> None:
    """Writes the end of a file anew, from a place on, and forces it to the disk; what is before stays.

    Args:
        path: The file; it is made if it is not there.
        start: The place, in bytes.
        blocks: What to write there.

    Raises:
        OSError: It cannot be written; the message names it. What was before ``start`` is as it was.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(_target(path), flags, 0o666)
        with open(descriptor, "wb") as file:
            expect_regular(path, os.fstat(descriptor))
            file.seek(start)
            file.writelines(blocks)
            file.truncate()
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


def check_target(path: str | os.PathLike) -> None:
    """Does nothing if :func:`write_whole` can write there: for use before long work whose result goes there.

    Raises:
        OSError: The folder is not there or cannot be written to, or what is to be replaced is no regular file; the
            message names the path.
    """
    target = _target(path)
    unfinished = _unfinished(target)
    try:
        os.close(_create(unfinished))
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike) -> None:
    """Forces the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_one(lock: str | os.PathLike, what: str) -> Iterator[None]:
    """Keeps other processes and threads out of what a lock file stands for, until the end or this process's death.

    Processes forked in the block do not hold the lock, however long they live. The file is removed at the end.

    Args:
        lock: The lock file's path, in a folder that is there.
        what: What others see, such as "runs/cub: another process is writing this CAM store".

    Raises:
        DatasetError: Somebody else holds it; the message is ``what``, and who that is.
        OSError: The file cannot be made, or its file system knows no locks; the message names it.
    """
    descriptor = _locked(Path(lock), what)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a forked child
            with suppress(FileNotFoundError):
                os.unlink(lock)
            _held.discard(descriptor)
            os.close(descriptor)


@contextmanager
def only_one_at(path: str | os.PathLike, what: str) -> Iterator[None]:
    """:func:`only_one` for a file that is or will be there, under whichever of its names: the lock is beside it.

    Raises:
        DatasetError: Somebody else holds it.
        OSError: As of :func:`only_one`; or there is no folder for the file, or something else in its place.
    """
    target = _target(path)
    name = os.fsencode(target.name)
    short = target.name if len(name) <= _NAME_BYTES else hashlib.sha256(name).hexdigest()
    with only_one(target.with_name(f".{short}.lock"), what):
        yield


_held: set[int] = set()  # descriptors of locks


def _let_go() -> None:
    """In a forked child: a lock is its parent's alone."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def _locked(lock: Path, what: str) -> int:
    """A descriptor of the lock file, locked; the file says who holds it."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            expect_regular(lock, os.fstat(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have removed the file since it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                    os.ftruncate(descriptor, 0)
                    since = time.strftime("%Y-%m-%d %H:%M:%S")
                    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()} since {since}".encode(), 0)
                    return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DatasetError(f"{what}: {holder}" if holder else what) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                raise OSError(
                    f"{lock}: this file system has no locks ({error.strerror}), which keep two writers apart: "
                    "take a folder on another one"
                ) from error
            raise
        os.close(descriptor)


def _target(path: str | os.PathLike) -> Path:
    """Where a file is or will be, behind symbolic links.

    Raises:
        OSError: Something else is there, or there is no folder for it.
    """
    target = Path(os.path.realpath(path))
    try:
        expect_regular(path, os.stat(target))
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{os.fspath(path)}: no such folder: {target.parent}") from None
    return target


def _unfinished(target: Path) -> Path:
    name = f"{_mark(target)}{os.getpid()}-{threading.get_native_id()}{UNFINISHED}"
    return target.with_name(name)


def _mark(target: Path) -> str:
    """What the names of a target's unfinished files begin with on this machine."""
    name = target.name.encode(sys.getfilesystemencoding(), "surrogateescape")[:_NAME_BYTES].decode(errors="ignore")
    return f"{name}.{platform.node()[:40]}-"


def _create(unfinished: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(unfinished, flags, 0o666)


def _remove_abandoned(target: Path) -> None:
    """Removes what killed processes of this machine left of a target."""
    mark = _mark(target)
    with suppress(OSError), os.scandir(target.parent) as entries:
        for name in [each.name for each in entries if each.name.endswith(UNFINISHED) and each.name.startswith(mark)]:
            process = name[len(mark) :].partition("-")[0]
            if process.isdigit() and not _is_alive(int(process)):
                target.with_name(name).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True

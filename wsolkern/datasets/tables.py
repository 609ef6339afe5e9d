"""The lines of a metadata file as columns, and a list of what is wrong with them.

In: a file of records, one a line, fields between commas. Out: for each record its line, the place of its image id, and
its numbers. Files are read in blocks: one without anything odd takes a few operations on all of it, any other one is
read record by record, by the same rules.
Source: the file layout of Choe et al., arXiv 2007.04178; quotation marks as in RFC 4180.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsolkern.datasets.ids import id_problem
from wsolkern.errors import DatasetError
from wsolkern.files import open_regular

_BLOCK_BYTES = 1 << 20
_NUM_LISTED = 10  # problems that one error spells out; it counts the rest
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # what UTF-16 and UTF-32 begin with
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)  # what int() takes and 64 bits hold, in ASCII digits
_DECIMAL = re.compile(r"\s*[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,2})?\s*", re.ASCII | re.IGNORECASE)
_NO_SEPARATORS = bytes(sorted(set(range(256)) - set(b",\n")))


class Problems:
    """What is wrong with some files: the first problems in words, the others as a number."""

    def __init__(self) -> None:
        self.num = 0
        """All of them."""
        self.listed: list[str] = []
        """The first."""
        self.guesses: list[str] = []
        """What may be behind them."""

    def add(self, template: str, *values: object) -> None:
        """One more; the template takes the values only if somebody will read it."""
        if len(self.listed) < _NUM_LISTED:
            self.listed.append(template.format(*values))
        self.num += 1

    def add_all(self, num: int, texts: Iterable[str]) -> None:
        """So many more, of which only the first are put in words."""
        self.listed += islice(texts, _NUM_LISTED - len(self.listed))
        self.num += num

    def raise_if_any(self, where: str | os.PathLike) -> None:
        """Raises one DatasetError about all of them; does nothing if there are none."""
        if self.num:
            raise DatasetError(self.message(where))

    def message(self, where: str | os.PathLike) -> str:
        """All of them, a line each."""
        more = self.num - len(self.listed)
        count = "1 problem" if self.num == 1 else f"{self.num:,} problems"
        lines = [f"{os.fspath(where)}: {count}", *self.listed, *([f"and {more:,} more"] if more else [])]
        return "\n  ".join(lines + self.guesses)


class ImageIds:
    """Image ids and their numbers, from 0 in the order in which they came.

    Args:
        listed: Those of image_ids.txt, distinct; other files may bring more.
    """

    def __init__(self, listed: tuple[str, ...] = ()):
        self.listed = listed
        self.places = dict(zip(listed, range(len(listed)), strict=True))
        """Id -> its number."""

    def places_of(self, image_ids: list[str], first: int) -> np.ndarray:
        """The numbers of some ids, int32 [n]; those that are new get the next numbers.

        Args:
            image_ids: The ids, n of them.
            first: The number of the first if the file that they are from has the order of ``listed``.
        """
        num = len(image_ids)
        if self.listed[first : first + num] == tuple(image_ids):
            return np.arange(first, first + num, dtype=np.int32)
        found = np.fromiter(map(self.places.get, image_ids, repeat(-1)), np.int32, num)
        for row in np.flatnonzero(found < 0).tolist():
            found[row] = self.places.setdefault(image_ids[row], len(self.places))
        return found

    def at(self, place: int) -> str:
        """The id of a number, for messages."""
        return next(islice(self.places, place, None))

    def forget_others(self) -> None:
        """Leaves only the listed ids."""
        while len(self.places) > len(self.listed):
            self.places.popitem()


class Table(NamedTuple):
    """The records of a file."""

    lines: np.ndarray
    """The line of each, from 1; int32 [n]."""
    places: np.ndarray
    """The place of its image id; int32 [n]."""
    numbers: np.ndarray
    """Its numbers; [n, columns], int32, int64 if one needs that, float64 if some are no integers; NaN for no number."""
    good: np.ndarray
    """Whether the numbers are what was asked for; bool [n]."""


class _Block(NamedTuple):
    """Some records of a file, each with as many fields as there are columns."""

    lines: np.ndarray  # int32 [n]
    columns: list[list[str]]  # n texts each


def read_numbers(
    path: Path,
    names: tuple[str, ...],
    ids: ImageIds,
    problems: Problems,
    *,
    optional: bool = False,
    fractions: bool = False,
) -> Table:
    """A file of an id and numbers.

    Args:
        path: The file.
        names: Of its columns, the id first.
        ids: Gives the places, and takes the ids that it does not have yet.
        problems: Takes what is wrong. A record with a wrong number of columns is none.
        optional: The file may be missing or empty.
        fractions: Numbers may have a fractional part; otherwise such a number is a problem, and read nevertheless.
    """
    none = np.empty(0, np.int32)
    tables = [Table(none, none, np.empty((0, len(names) - 1), np.int32), np.empty(0, bool))]
    num = 0
    for block in _blocks(path, names, problems, optional):
        image_ids, *columns = block.columns
        numbers, good = _integers(columns, len(block.lines)), np.ones(len(block.lines), bool)
        if numbers is None:
            numbers, good = _numbers(path.name, block.lines, columns, problems, fractions)
        tables.append(Table(block.lines, ids.places_of(image_ids, num), numbers, good))
        num += len(block.lines)
    return Table(*map(np.concatenate, zip(*tables, strict=True)))


def read_texts(path: Path, names: tuple[str, ...], problems: Problems, *, optional: bool = False) -> _Block:
    """A file of texts alone: lines, and one list for each of the columns, the id first."""
    blocks = list(_blocks(path, names, problems, optional))
    columns = [[text for block in blocks for text in block.columns[place]] for place in range(len(names))]
    return _Block(np.concatenate([np.empty(0, np.int32), *(block.lines for block in blocks)]), columns)


def first_fields(path: Path, problems: Problems) -> Iterator[tuple[int, list[str], str]]:
    """Line, fields and text of each record, whatever its number of columns; for a look at the first ones."""
    for first, content in _pieces(path, problems, optional=False):
        for line, text in enumerate(content.decode(errors="replace").split("\n"), start=first):
            if text:
                yield line, _fields(text), text


def find_line(path: Path, image_id: str) -> int | None:
    """The first line that is about an image; None if there is none or the file cannot be read."""
    return next((line for line, fields, _ in first_fields(path, Problems()) if fields[0] == image_id), None)


def shorten(text: str) -> str:
    """A text in quotation marks, for a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def join_fields(fields: Iterable[object]) -> str:
    """A record as one line, which is read as these fields again.

    Raises:
        ValueError: A field has what ends a line, or a NUL; or UTF-8 cannot hold it.
    """
    texts = [str(each) for each in fields]
    for text in texts:
        if any(each in text for each in "\r\n\0") or text.encode(errors="replace").decode() != text:
            raise ValueError(f"expected text of one line that UTF-8 can hold, found {text!r}")
    # A mark of byte order would be taken for the file's own.
    return ",".join('"' + each.replace('"', '""') + '"' if set(each) & set(',"\ufeff') else each for each in texts)


def _blocks(path: Path, names: tuple[str, ...], problems: Problems, optional: bool) -> Iterator[_Block]:
    """The records of a file; what is wrong with others goes into ``problems``."""
    found, before = False, problems.num
    for first, content in _pieces(path, problems, optional):
        found = found or bool(content.strip(b"\n"))
        block = _plain_block(content, first, len(names)) or _odd_block(path.name, content, first, names, problems)
        if len(block.lines):
            yield block
    if not found and not optional and problems.num == before:
        problems.add("{}: is empty", path.name)


def _pieces(path: Path, problems: Problems, optional: bool) -> Iterator[tuple[int, bytes]]:
    """A file as pieces of whole lines that end in a line feed each, with the number of each piece's first line."""
    try:
        with open_regular(path) as file:
            start = file.read(len(_BYTE_ORDER_MARK))
            if start.startswith(_WIDE_MARKS):
                problems.add("{}: expected UTF-8, found UTF-16: save it as UTF-8", path.name)
                return
            line, rest = 1, b"" if start == _BYTE_ORDER_MARK else start
            while more := file.read(_BLOCK_BYTES):
                whole, newline, rest = (rest + more).rpartition(b"\n")
                if newline:
                    piece = _line_feeds(whole + newline)
                    yield line, piece
                    line += piece.count(b"\n")
            if rest:
                yield line, _line_feeds(rest + b"\n")
    except FileNotFoundError:
        if not optional:
            problems.add("{}: no such file", path.name)
    except OSError as error:
        problems.add("{}: cannot be read: {}", path.name, error)


def _line_feeds(piece: bytes) -> bytes:
    """Whole lines, whatever ends them, with a line feed behind each."""
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece


def _plain_block(content: bytes, first: int, width: int) -> _Block | None:
    """The records of a piece in which every line has the right number of fields and nothing needs a second look."""
    separators = b"," * (width - 1) + b"\n"
    num_lines = content.count(b"\n")
    if content.translate(None, _NO_SEPARATORS) != separators * num_lines:
        return None
    if any(each in content for each in (b'"', b"\0", b"..", b"\n/", b"\n,", b"\n\n")) or content[0] in b"/,\n":
        return None
    try:
        text = content[:-1].decode()
    except UnicodeDecodeError:
        return None
    fields = text.replace("\n", ",").split(",")
    return _Block(
        np.arange(first, first + num_lines, dtype=np.int32), [fields[column::width] for column in range(width)]
    )


def _odd_block(name: str, content: bytes, first: int, names: tuple[str, ...], problems: Problems) -> _Block:
    """The same for any piece, line by line."""
    lines, records = [], []
    for line, each in enumerate(content[:-1].split(b"\n"), start=first):
        if not each:
            continue
        if b"\0" in each:
            problems.add("{}:{}: expected text in UTF-8, found a NUL byte", name, line)
            continue
        try:
            text = each.decode()
        except UnicodeDecodeError as error:
            problems.add("{}:{}: expected UTF-8, found the byte {:#04x}", name, line, each[error.start])
            continue
        fields = _fields(text)
        if len(fields) != len(names):
            quoted = ""
            if len(names) == 1 and len(fields) > 1:
                quoted = "; an id with commas is put in quotation marks"
            problems.add(
                "{}:{}: expected {}, found {} columns in {}{}",
                name, line, ",".join(names), len(fields), shorten(text), quoted,
            )  # fmt: skip
        elif problem := id_problem(fields[0]):
            problems.add("{}:{}: id: {}", name, line, problem)
        else:
            lines.append(line)
            records.append(fields)
    columns = [list(column) for column in zip(*records, strict=True)] or [[] for _ in names]
    return _Block(np.array(lines, np.int32), columns)


def _fields(text: str) -> list[str]:
    """The fields of a line; one that begins with a quotation mark ends with the next that is not doubled."""
    if text.startswith('"') or ',"' in text:
        try:
            return next(csv.reader([text], strict=True))
        except csv.Error:
            pass
    return text.split(",")


def _integers(columns: list[list[str]], num: int) -> np.ndarray | None:
    """int32 [n, columns]; None if a text is anything but a small integer of the format."""
    # int() also takes underscores and the digits of all scripts.
    together = ["".join(column) for column in columns]
    if not all(each.isascii() and "_" not in each for each in together):
        return None
    try:
        numbers = np.empty((num, len(columns)), np.int32)
        for place, column in enumerate(columns):
            numbers[:, place] = np.fromiter(map(int, column), np.int32, num)
        return numbers
    except (ValueError, OverflowError):
        return None


def _numbers(
    name: str, lines: np.ndarray, columns: list[list[str]], problems: Problems, fractions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """[n, columns] and bool [n] as in a :class:`Table`, record by record."""
    expected = "numbers" if fractions else "integers"
    rows, good = np.full((len(lines), len(columns)), np.nan), np.ones(len(lines), bool)
    whole = True
    for row, texts in enumerate(zip(*columns, strict=True)):
        if all(map(_INTEGER.fullmatch, texts)):
            rows[row] = list(map(int, texts))
            continue
        whole = False
        if all(map(_DECIMAL.fullmatch, texts)):
            rows[row] = list(map(float, texts))
            if fractions:
                continue
        good[row], line = False, int(lines[row])
        header = " (a header line? take it out)" if line == 1 and not any(map(_has_digit, texts)) else ""
        problems.add("{}:{}: expected {}, found {}{}", name, line, expected, shorten(",".join(texts)), header)
    return rows.astype(np.int64) if whole else rows, good


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))

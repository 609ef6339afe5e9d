"""Annotation files as records with their line: CSV, words, JSON and XML, from anyone.

In: files. Out: records; what is wrong is an error that names file and line.
Source: RFC 4180 (CSV), RFC 8259 (JSON, without NaN), XML 1.0 without a document type: no entity is ever expanded.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any
from xml.parsers import expat

from wsolkern.errors import DatasetError, PathError
from wsolkern.files import open_regular, read_regular

_MAX_XML_BYTES = 1 << 22
_MAX_XML_DEPTH = 50


def read_words(path: str | os.PathLike[str], names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of a file of fields between spaces; the last one takes what is left of the line.

    Raises:
        DatasetError: The file cannot be read, or a line has too few fields.
    """
    for line, text in enumerate(_text(path).splitlines(), start=1):
        if text.strip():
            fields = text.split(None, len(names) - 1)
            if len(fields) != len(names):
                raise PathError(path, f"line {line}: expected {' '.join(names)}, found {text[:80]!r}")
            yield line, [each.strip() for each in fields]


def read_csv(path: str | os.PathLike[str], needed: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and record of a CSV file with a header line; it is read as it is asked for.

    Raises:
        DatasetError: The file cannot be read, a column is missing, or a record has another number of fields.
    """
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            rows = csv.reader(text, strict=True)
            header = [each.strip() for each in next(rows, [])]
            if missing := [each for each in needed if each not in header]:
                raise PathError(path, f"line 1: expected the columns {', '.join(needed)}, without {', '.join(missing)}")
            if not header or len(set(header)) != len(header):
                raise PathError(path, f"line 1: expected names of columns, each once, found {','.join(header)[:80]!r}")
            for fields in rows:
                if not fields:
                    continue
                if len(fields) != len(header):
                    reason = f"expected {len(header)} columns, found {len(fields)}"
                    raise PathError(path, f"line {rows.line_num}: {reason}")
                yield rows.line_num, dict(zip(header, map(str.strip, fields), strict=True))
    except UnicodeDecodeError:
        raise PathError(path, "expected UTF-8") from None
    except csv.Error as error:
        raise PathError(path, f"line {rows.line_num}: {error}") from None
    except FileNotFoundError:
        raise PathError(path, "no such file") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetError: It cannot be read, is none, or has NaN or infinity in it.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"expected numbers, found {name}")

    try:
        return json.loads(_text(path), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise PathError(path, f"line {error.lineno}: expected JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise PathError(path, f"expected JSON: {error}") from None


class Node:
    """An element of an XML file."""

    def __init__(self, tag: str, line: int):
        self.tag, self.line = tag, line
        self.text = ""
        self.children: list[Node] = []

    def all(self, tag: str) -> list["Node"]:
        """The elements in it of that name."""
        return [each for each in self.children if each.tag == tag]

    def get(self, *path: str) -> str | None:
        """The text of the first element on a path of names; None if there is none."""
        node = self
        for tag in path:
            found = node.all(tag)
            if not found:
                return None
            node = found[0]
        return node.text.strip()


def read_xml(path: str | os.PathLike[str]) -> Node:
    """The root element of an XML file.

    Raises:
        DatasetError: It cannot be read, is no XML, has a document type (which may name entities and other files), or is
            larger or deeper than an annotation.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_XML_BYTES + 1)
    except FileNotFoundError:
        raise PathError(path, "no such file") from None
    if len(content) > _MAX_XML_BYTES:
        raise PathError(path, f"expected an annotation of at most {_MAX_XML_BYTES >> 20} MiB")
    parser = expat.ParserCreate()
    top = Node("", 0)
    open_nodes = [top]

    def refuse(*_: object) -> None:
        raise PathError(path, f"line {parser.CurrentLineNumber}: expected no document type (<!DOCTYPE>)")

    def start(tag: str, _: object) -> None:
        if len(open_nodes) > _MAX_XML_DEPTH:
            raise PathError(path, f"line {parser.CurrentLineNumber}: expected at most {_MAX_XML_DEPTH} nested elements")
        node = Node(tag, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def text(more: str) -> None:
        open_nodes[-1].text += more

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda _: open_nodes.pop()
    parser.buffer_text = True
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise PathError(path, f"line {error.lineno}: expected XML: {expat.errors.messages[error.code]}") from None
    return top.children[0]


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PathError(path, f"expected UTF-8, found the byte {error.object[error.start]:#04x}") from None
    except FileNotFoundError:
        raise PathError(path, "no such file") from None

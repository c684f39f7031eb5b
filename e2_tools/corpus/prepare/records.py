# SPDX-License-Identifier: Apache-2.0
"""The records of the inputs, one by one, broken ones included."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from e2_common.errors import UserError
from e2_tools.corpus.compression import DAMAGE, decompressed
from e2_tools.corpus.inputs import PARQUET, STANDARD_INPUT, TEXT, Source
from e2_tools.corpus.lines import BOM, TooLong, is_blank, lines_of
from e2_tools.corpus.prepare.array import CutShort, Elements
from e2_tools.corpus.table import read_rows

_CHUNK = 256 * 1024  # bytes of lines read at a time
_ROWS = 256  # rows of a table read at a time
_HEAD = 4096  # bytes read to see whether it is an array


class Broken(Exception):
    """Why a record cannot be used; its text is the reason, the same for all of a kind."""


class Record(NamedTuple):
    """A record and its place.

    Attributes:
        where: file and line, for a message.
        value: what JSON gives, or a text; or why neither can be had.
        file_bytes: bytes of the file on disk read since the record before.
    """

    where: str
    value: Any
    file_bytes: int


def read_records(source: Source) -> Iterator[Record]:
    """Yield the records of JSON lines, a JSON array or a Parquet file, or a text file's only one.

    Raises:
        UserError: the file cannot be read to its end.
    """
    if source.size == 0:
        return
    if source.kind == PARQUET:
        yield from _rows(source)
        return
    with _open(source) as (raw, stream):
        if source.kind == TEXT:
            yield Record(source.name, _text(stream.read().removeprefix(BOM)), source.size or 0)
            return
        content, before = _Joined(stream), 0
        values = _elements if content.begins_an_array() else _lines
        for where, value in values(source, content):
            # A pipe does not tell its position.
            position = content.passed if source.size is None else raw.tell()
            yield Record(f"{source.name}, {where}", value, position - before)
            before = position


def _rows(source: Source) -> Iterator[Record]:
    passed = 0
    for batch in read_rows(source.path, None, 0, None, _ROWS):
        position = int(batch.share * source.size)
        for number, row in batch.rows:
            yield Record(f"{source.name}, row {number}", row, position - passed)
            passed = position


def _lines(source: Source, content: "_Joined") -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each line."""
    for number, line in enumerate(lines_of(io.BufferedReader(content, _CHUNK)), start=1):
        if isinstance(line, TooLong):
            yield f"line {number}", Broken("longer than any line may be")
        elif not is_blank(line):
            yield f"line {number}", _json(line.removeprefix(BOM))


def _elements(source: Source, content: "_Joined") -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each element."""
    number = 0
    try:
        for number, value in enumerate(Elements(content.read, _json), start=1):
            yield f"element {number}", value
    except CutShort:
        raise UserError(
            f"{source.name}: the JSON array is cut short or damaged after element {number}; "
            "fetch the file again"
        ) from None


class _Joined(io.RawIOBase):
    """A stream whose beginning was looked at and whose byte order mark was dropped.

    Attributes:
        passed: bytes read.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._head = stream.read(_HEAD)
        self._head = self._head.removeprefix(BOM)
        self.passed = 0

    def begins_an_array(self) -> bool:
        """Whether the first thing to read is a bracket."""
        while not self._head.strip() and (more := self._stream.read(_HEAD)):
            self._head += more
        return self._head.lstrip()[:1] == b"["

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(data) :]
        self.passed += len(data)
        buffer[: len(data)] = data
        return len(data)


def _text(content: bytes) -> Any:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return Broken("not UTF-8")


def _json(content: bytes) -> Any:
    text = _text(content)
    try:
        return text if isinstance(text, Broken) else json.loads(text)
    except (ValueError, RecursionError):
        return Broken("not JSON")


@contextlib.contextmanager
def _open(source: Source) -> Iterator[tuple[Any, Any]]:
    """Yield the file as it lies on disk, and the stream of its content."""
    try:
        with contextlib.ExitStack() as stack:
            if source.path == STANDARD_INPUT:
                yield sys.stdin.buffer, sys.stdin.buffer
                return
            raw = stack.enter_context(open(source.path, "rb"))
            yield raw, decompressed(raw, source.compression, stack)
    except DAMAGE as error:
        raise UserError(f"{source.name}: damaged, or cut short ({error})") from error
    except OSError as error:
        raise UserError(f"{source.name}: cannot be read ({error.strerror or error})") from error

# SPDX-License-Identifier: Apache-2.0
"""Read the documents of the inputs in batches small enough to stream."""

import contextlib
import io
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

from e2_common.errors import UserError, on_one_line
from e2_tools.corpus import table
from e2_tools.corpus.compression import DAMAGE, decompressed
from e2_tools.corpus.inputs import (
    JSON_LINES,
    PARQUET,
    STANDARD_INPUT,
    TEXT,
    Piece,
    Source,
    no_documents,
    note_empty,
)
from e2_tools.corpus.lines import LONGEST, TooLong, is_blank, lines_of, skip_line

# A batch ends at whichever comes first. Small enough that the batches in flight stay a few
# megabytes, large enough that sending one to a worker costs little beside tokenising it.
BATCH_LINES = 256
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True)
class Batch:
    """Consecutive records of one source.

    Attributes:
        path: the source, as a message names it.
        records: (number from 1, record): a line's undecoded bytes or a :class:`TooLong`, a text
            file's undecoded bytes, or a Parquet row as a dictionary. Blank lines are left out.
        blank_lines: how many blank lines were left out.
        text_bytes: bytes of the records, after decompression.
        file_bytes: bytes of the file read since the batch before, compressed if the file is.
        kind: the source's kind.
        begin: the byte of the file that the lines are counted from.
    """

    path: str
    records: list[tuple[int, Any]]
    blank_lines: int
    text_bytes: int
    file_bytes: int
    kind: str = JSON_LINES
    begin: int = 0

    def load(self) -> "Batch":
        """Return the batch with its records in memory, as it is."""
        return self

    def where(self, number: int) -> str:
        """Return the place of a record, for a message."""
        if self.kind == TEXT:
            return self.path
        place = f"{self.path}, {'row' if self.kind == PARQUET else 'line'} {number}"
        return f"{place} counted from byte {self.begin}" if self.begin else place


@dataclass(frozen=True)
class LineRange:
    """Consecutive lines of a plain file, still on disk: whoever encodes them reads them.

    Attributes:
        path: the file.
        offset: the byte at which the first line begins.
        file_bytes: bytes of the lines.
        first: the number of the first line.
        begin: the byte of the file that the lines are counted from.
    """

    path: str
    offset: int
    file_bytes: int
    first: int
    begin: int

    def load(self) -> Batch:
        """Read the lines.

        Raises:
            UserError: the file can no longer be read, or has become shorter.
        """
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.file_bytes)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        if len(data) < self.file_bytes:
            raise UserError(f"{self.path}: has become shorter while it was read")
        records, lines = [], self.first
        for lines, line in enumerate(io.BytesIO(data), self.first):  # noqa: B007
            if not is_blank(line):
                records.append((lines, line))
        blank_lines = lines + 1 - self.first - len(records)
        size = self.file_bytes
        return Batch(self.path, records, blank_lines, size, size, JSON_LINES, self.begin)


def read_batches(pieces: Sequence[Piece], keys: Sequence[str]) -> Iterator[Batch | LineRange]:
    """Yield the records in order; a batch never spans two sources.

    Of plain JSON lines only the line breaks are looked for here, which leaves the process that
    calls this little to do.

    Args:
        pieces: what to read.
        keys: the columns wanted of Parquet files.

    Raises:
        UserError: a file cannot be read or is not what its name says, or none holds a record.
    """
    empty = []
    for piece in pieces:
        any_record = False
        with _naming_the_file(piece.source):
            for batch, holds_record in _read_piece(piece, keys):
                any_record = any_record or holds_record
                yield batch
        if piece.whole and not any_record:
            empty.append(piece.source)
    if empty and len(empty) == len(pieces):
        raise no_documents(empty[0])
    note_empty(empty)


def count_records(source: Source) -> int:
    """Return the number of lines, blank ones included, of rows, or of text files (1).

    Raises:
        UserError: the file cannot be read to its end.
    """
    if source.kind == TEXT:
        return 1
    with _naming_the_file(source), ExitStack() as stack:
        if source.kind == PARQUET:
            return table.count_rows(source.path)
        stream = _open(source, stack)[1]
        lines, last = 0, b"\n"
        while chunk := stream.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
        return lines + (last != b"\n")


@contextlib.contextmanager
def _naming_the_file(source: Source) -> Iterator[None]:
    """Turn what goes wrong while a source is read into one line that names it."""
    try:
        yield
    except DAMAGE as error:
        kind = {".gz": "gzip", ".zst": "zstandard", ".xz": "xz"}[source.compression]
        reason = on_one_line(error).rstrip(".")
        raise UserError(f"{source.name}: damaged or not a {kind} file ({reason})") from error
    except OSError as error:
        raise UserError(f"{source.name}: cannot be read ({error.strerror or error})") from error


def _open(source: Source, stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """Return the file as it lies on disk and the stream of its content."""
    if source.path == STANDARD_INPUT:
        return sys.stdin.buffer, sys.stdin.buffer
    raw = stack.enter_context(open(source.path, "rb"))  # noqa: SIM115
    return raw, decompressed(raw, source.compression, stack)


def _read_piece(piece: Piece, keys: Sequence[str]) -> Iterator[tuple[Batch | LineRange, bool]]:
    """Yield batches, and whether each holds a record."""
    source = piece.source
    if source.size == 0:
        return
    with ExitStack() as stack:
        if source.seekable and source.path != STANDARD_INPUT:
            yield from _find_lines(piece, _open(source, stack)[0])
            return
        if source.kind == PARQUET:
            batches = _read_rows(piece, keys)
        elif source.kind == TEXT:
            text = _open(source, stack)[1].read()
            batches = [Batch(source.name, [(1, text)], 0, len(text), source.size or 0, TEXT)]
        else:
            batches = _read_lines(piece, *_open(source, stack))
        for batch in batches:
            yield batch, bool(batch.records)


def _find_lines(piece: Piece, stream: BinaryIO) -> Iterator[tuple[LineRange, bool]]:
    if piece.begin:
        # A line belongs to the part in which it begins: one byte back, its neighbour's newline.
        stream.seek(piece.begin - 1)
        stream.readline()
    offset, first = stream.tell(), 1
    while piece.end is None or offset < piece.end:
        most = BATCH_BYTES if piece.end is None else min(BATCH_BYTES, piece.end - offset)
        data = stream.read(most)
        if not data:
            return
        holds_record, lines, size = not is_blank(data), data.count(b"\n"), len(data)
        if data[-1:] != b"\n":
            whole = data.rfind(b"\n") + 1  # the lines before the one that is cut
            rest = stream.readline(max(1, LONGEST - (size - whole)))
            if size - whole + len(rest) >= LONGEST and rest[-1:] != b"\n":
                if whole:
                    yield _range(piece, offset, whole, first), not is_blank(data[:whole])
                line = skip_line(stream, size - whole + len(rest))
                yield _too_long(piece, first + lines, line), True
                offset, first = offset + whole + line.size, first + lines + 1
                continue
            holds_record = holds_record or not (rest.isspace() or not rest)
            lines, size = lines + 1, size + len(rest)
        yield _range(piece, offset, size, first), holds_record
        offset, first = offset + size, first + lines


def _too_long(piece: Piece, number: int, line: TooLong) -> Batch:
    size, records = line.size, [(number, line)]
    return Batch(piece.source.path, records, 0, size, size, JSON_LINES, piece.begin)


def _range(piece: Piece, offset: int, size: int, first: int) -> LineRange:
    return LineRange(piece.source.path, offset, size, first, piece.begin)


def _read_lines(piece: Piece, raw: BinaryIO, stream: BinaryIO) -> Iterator[Batch]:
    """Read what cannot be entered in the middle: an archive, or standard input."""
    known = piece.source.size is not None  # standard input need not tell its position
    position = 0
    records: list[tuple[int, bytes]] = []
    blank_lines = text_bytes = 0

    def batch() -> Batch:
        read = raw.tell() - position if known else text_bytes
        return Batch(piece.source.name, records, blank_lines, text_bytes, read)

    lines = itertools.islice(lines_of(stream), piece.begin, piece.end)
    for number, line in enumerate(lines, start=piece.begin + 1):
        text_bytes += line.size if isinstance(line, TooLong) else len(line)
        if is_blank(line):
            blank_lines += 1
        else:
            records.append((number, line))
        if text_bytes >= BATCH_BYTES or len(records) >= BATCH_LINES:
            yield batch()
            records, blank_lines, text_bytes = [], 0, 0
            position = raw.tell() if known else 0
    yield batch()


def _read_rows(piece: Piece, keys: Sequence[str]) -> Iterator[Batch]:
    done = 0
    for batch in table.read_rows(piece.source.path, keys, piece.begin, piece.end, BATCH_LINES):
        share = int(batch.share * (piece.disk_bytes or 0))
        yield Batch(piece.source.name, batch.rows, 0, batch.text_bytes, share - done, PARQUET)
        done = share

# SPDX-License-Identifier: Apache-2.0
"""What --input names: files by pattern, their kind by suffix, and one node's part of them."""

import glob
import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2_common.errors import UserError
from e2_tools.corpus.compression import check_packages, suffix_of

STANDARD_INPUT = "-"
JSON_LINES, PARQUET, TEXT = "JSON lines", "Parquet", "text"


@dataclass(frozen=True)
class Source:
    """One input.

    Attributes:
        path: the file as the user named it, or ``STANDARD_INPUT``.
        kind: ``JSON_LINES``, ``PARQUET`` or ``TEXT``.
        compression: the suffix that says how it is compressed, or None.
        size: bytes on disk; None for standard input.
    """

    path: str
    kind: str
    compression: str | None
    size: int | None

    @property
    def name(self) -> str:
        """The source in a message."""
        return "standard input" if self.path == STANDARD_INPUT else self.path

    @property
    def seekable(self) -> bool:
        """Whether lines can be read from any byte on."""
        return self.kind == JSON_LINES and self.compression is None


@dataclass(frozen=True)
class Piece:
    """Consecutive documents of one source.

    Attributes:
        source: the source.
        begin: where they begin: a byte of the file if it is seekable, else a record from 0.
        end: where they end, in the same unit; None for the end of the source.
        disk_bytes: bytes of the file to read for them; None for standard input.
    """

    source: Source
    begin: int
    end: int | None
    disk_bytes: int | None

    @property
    def whole(self) -> bool:
        """Whether the piece is the whole source."""
        return self.begin == 0 and self.end is None


def find_sources(patterns: Sequence[str]) -> list[Source]:
    """Return the inputs in the order given, the files of a pattern by name.

    Args:
        patterns: paths, glob patterns (``**`` included), or ``STANDARD_INPUT``.

    Raises:
        UserError: nothing matches, all files are empty, or one is none or may not be read.
    """
    if list(patterns).count(STANDARD_INPUT) > 1:
        raise UserError("--input: `-`, standard input, can be read only once")
    sources = [_source(path) for pattern in patterns for path in _paths(pattern)]
    if sources and not any(source.size != 0 for source in sources):
        raise no_documents(sources[0])
    return sources


def no_documents(source: Source) -> UserError:
    """Return the error of a source that holds nothing."""
    need = {JSON_LINES: "one JSON object a line", PARQUET: "at least one row"}
    return UserError(
        f"{source.name}: holds no documents; it needs {need.get(source.kind, 'some text')}"
    )


def note_empty(sources: Sequence[Source]) -> None:
    """Say which sources among others held nothing; one empty part of many is no mistake."""
    if sources:
        names = ", ".join(source.name for source in sources[:3])
        more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
        print(f"note: no documents in {names}{more}", file=sys.stderr)


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, N) of a ``--shard`` flag i/N with 0 <= i < N.

    Raises:
        UserError: it is not of that form.
    """
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--shard {text}: must be i/N with i from 0 to N - 1, such as 0/8")
    return int(match[1]), int(match[2])


def whole(sources: Sequence[Source]) -> list[Piece]:
    """Return everything."""
    return [Piece(source, 0, None, source.size) for source in sources]


def cut(
    sources: Sequence[Source], shard: int, shards: int, count: Callable[[Source], int]
) -> list[Piece]:
    """Return one of ``shards`` contiguous parts of the inputs, alike in bytes on disk.

    The parts 0 ... shards - 1 hold every document once, in order, and depend on nothing but the
    files. A cut in plain JSON lines falls on the first line after it. In any other file it falls
    at the same fraction of its records, which ``count`` must tell; it is asked for the at most two
    files that a part shares with its neighbours.

    Args:
        sources: the inputs.
        shard: which part, from 0.
        shards: how many parts.
        count: the number of records in a source.

    Raises:
        UserError: standard input is among the sources.
    """
    if any(source.size is None for source in sources):
        raise UserError("--shard: standard input cannot be cut in parts; give files")
    total = sum(source.size for source in sources)
    first, last = total * shard // shards, total * (shard + 1) // shards
    pieces = []
    for source in sources:
        begin, end = max(first, 0), min(last, source.size)
        first, last = first - source.size, last - source.size
        if begin < end:
            pieces.append(_piece(source, begin, end, count))
    return [piece for piece in pieces if piece.begin != piece.end]


def _piece(source: Source, begin: int, end: int, count: Callable[[Source], int]) -> Piece:
    """Return the documents between two bytes of the file as it lies on disk."""
    stop = None if end == source.size else end
    if source.seekable:
        return Piece(source, begin, stop, end - begin)
    records = count(source) if begin or stop else 0
    # Everything before the part has to be read too, except in a Parquet file.
    disk_bytes = end - begin if source.kind == PARQUET else end
    first = records * begin // source.size
    if stop is not None:
        stop = records * stop // source.size
    return Piece(source, first, records if begin and stop is None else stop, disk_bytes)


def _paths(pattern: str) -> list[str]:
    if pattern == STANDARD_INPUT or Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not paths:
        raise UserError(f"{pattern}: no file matches; check --input")
    return paths


def _source(path: str) -> Source:
    if path == STANDARD_INPUT:
        return Source(path, JSON_LINES, None, None)
    try:
        if not Path(path).exists():
            raise UserError(f"{path}: no such file; check --input")
        if Path(path).is_dir():
            raise UserError(f"{path}: not a file; name its files, for instance {path}/*.jsonl")
        if not Path(path).is_file():  # a pipe, for instance of <(zcat FILE)
            raise UserError(
                f"{path}: a pipe or device, which cannot be read by parts; send JSON lines to "
                "standard input instead: … | … --input -"
            )
        with open(path, "rb") as stream:
            size = stream.seek(0, io.SEEK_END)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    compression = suffix_of(path)
    stem = path.removesuffix(compression or "")
    kind = {".parquet": PARQUET, ".txt": TEXT}.get(Path(stem).suffix, JSON_LINES)
    # An empty text is an empty document, which must not fall between two parts.
    source = Source(path, kind, compression, max(size, 1) if kind == TEXT else size)
    if kind == PARQUET and compression:
        raise UserError(f"{path}: decompress it first; Parquet files compress their own columns")
    check_packages(compression, path)
    return source

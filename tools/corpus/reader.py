# SPDX-License-Identifier: Apache-2.0
"""Read JSON-lines files, plain or gzipped, in batches small enough to stream."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from megatron_patches.errors import UserError

# A batch ends at whichever comes first. Small enough that the batches in flight stay a few
# megabytes, large enough that sending one to a worker costs little beside tokenising it.
BATCH_LINES = 256
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True)
class Batch:
    """Consecutive records of one file.

    Attributes:
        path: the file, as the user named it.
        records: (line number from 1, the line's undecoded bytes); blank lines are left out.
        blank_lines: how many blank lines were left out.
        text_bytes: bytes of the lines, after decompression.
        file_bytes: bytes of the file read since the batch before, compressed if the file is.
    """

    path: str
    records: list[tuple[int, bytes]]
    blank_lines: int
    text_bytes: int
    file_bytes: int


def check_inputs(paths: Sequence[str]) -> int:
    """Return the total size of the files in bytes.

    Raises:
        UserError: a file is missing, is not a file, is empty or may not be read.
    """
    total = 0
    for path in paths:
        try:
            if not Path(path).exists():
                raise UserError(f"{path}: no such file; check --input")
            if not Path(path).is_file():
                raise UserError(f"{path}: not a file; --input takes .jsonl or .jsonl.gz files")
            with open(path, "rb") as stream:
                size = stream.seek(0, io.SEEK_END)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if size == 0:
            raise _no_documents(path)
        total += size
    return total


def read_batches(paths: Sequence[str]) -> Iterator[Batch]:
    """Yield the records of the files in order; a batch never spans two files.

    Raises:
        UserError: a file cannot be read, is not the gzip file its name says, or holds no record.
    """
    for path in paths:
        any_record = False
        try:
            for batch in _read_file(path):
                any_record = any_record or bool(batch.records)
                yield batch
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            reason = str(error).rstrip(".")
            raise UserError(f"{path}: damaged or not a gzip file ({reason})") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if not any_record:
            raise _no_documents(path)


def _read_file(path: str) -> Iterator[Batch]:
    with ExitStack() as stack:
        # Positions in the file as it lies on disk drive the progress bar, hence `raw`.
        raw: BinaryIO = stack.enter_context(open(path, "rb"))
        stream: BinaryIO = raw
        if path.endswith(".gz"):
            stream = stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=raw)))
        records: list[tuple[int, bytes]] = []
        blank_lines = text_bytes = position = 0

        def batch() -> Batch:
            return Batch(path, records, blank_lines, text_bytes, raw.tell() - position)

        for number, line in enumerate(stream, start=1):
            text_bytes += len(line)
            if line.isspace():
                blank_lines += 1
            else:
                records.append((number, line))
            if text_bytes >= BATCH_BYTES or len(records) >= BATCH_LINES:
                yield batch()
                records, blank_lines, text_bytes, position = [], 0, 0, raw.tell()
        yield batch()


def _no_documents(path: str) -> UserError:
    return UserError(f"{path}: holds no documents; it needs one JSON object a line")

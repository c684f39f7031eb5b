# SPDX-License-Identifier: Apache-2.0
"""The .idx file of Megatron's indexed datasets: write it in a stream, read it, check it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from e2_common.errors import UserError

# Layout: magic, version (u64), type code (u8), number of sequences (u64), number of documents + 1
# (u64), then tokens of each sequence (i32), its first byte in .bin (i64), and the sequence at
# which each document begins, closed by the number of sequences (i64).
_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_HEADER_BYTES = len(_MAGIC) + 8 + 1 + 8 + 8
_TYPES = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    6: np.float64,
    7: np.float32,
    8: np.uint16,
}
_CODES = {kind: code for code, kind in _TYPES.items()}
_LARGEST_OF_UINT16 = 65500  # as megatron.core.datasets.indexed_dataset.DType has it
# Entries handled at a time, so that memory does not grow with the corpus.
_CHUNK = 1 << 18


def token_type(vocab_size: int) -> type[np.number]:
    """The type that Megatron's tools store tokens of a vocabulary in."""
    return np.uint16 if vocab_size < _LARGEST_OF_UINT16 else np.int32


class IndexWriter:
    """An .idx in the making; what it holds so far lies in unnamed files, not in memory.

    Args:
        folder: where those files go.

    Attributes:
        sequences: sequences so far.
        documents: documents so far, empty ones included.
    """

    def __init__(self, folder: Path):
        self.sequences = self.documents = 0
        self._stack = contextlib.ExitStack()
        self._lengths, self._ends = (
            self._stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
            for _ in range(2)
        )

    def add(self, lengths: np.ndarray, sequences: np.ndarray) -> None:
        """Append documents.

        Args:
            lengths: tokens of each sequence, shape (sequences,), int32.
            sequences: sequences of each document, shape (documents,), integers.
        """
        ends = np.cumsum(sequences, dtype=np.int64) + self.sequences
        self._lengths.write(lengths.astype("<i4").tobytes())
        self._ends.write(ends.astype("<i8").tobytes())
        self.sequences += len(lengths)
        self.documents += len(sequences)

    def write(self, path: Path, dtype: type[np.number]) -> None:
        """Write the index of ids of this type.

        Raises:
            OSError: the disk refuses.
        """
        with open(path, "wb") as stream:
            stream.write(_MAGIC + np.array(_VERSION, "<u8").tobytes() + bytes([_CODES[dtype]]))
            stream.write(np.array([self.sequences, self.documents + 1], "<u8").tobytes())
            for lengths in _chunks(self._lengths, "<i4"):
                stream.write(lengths.data)
            pointer = 0
            for lengths in _chunks(self._lengths, "<i4"):
                ends = np.cumsum(lengths, dtype=np.int64) * np.dtype(dtype).itemsize + pointer
                stream.write(np.concatenate([[pointer], ends[:-1]]).astype("<i8").data)
                pointer = int(ends[-1])
            stream.write(np.array(0, "<i8").tobytes())
            for ends in _chunks(self._ends, "<i8"):
                stream.write(ends.data)

    def close(self) -> None:
        """Free the unnamed files."""
        self._stack.close()


def _chunks(stream: IO[bytes], dtype: str) -> Iterator[np.ndarray]:
    stream.seek(0)
    while data := stream.read(_CHUNK * np.dtype(dtype).itemsize):
        yield np.frombuffer(data, dtype)


@dataclass(frozen=True)
class Index:
    """A dataset's index, mapped from its file.

    Attributes:
        prefix: the path of the dataset, less .bin or .idx.
        dtype: the integer type of the ids on disk.
        lengths: tokens of each sequence, shape (sequences,), int32.
        pointers: first byte of each sequence in .bin, shape (sequences,), int64.
        document_starts: sequence at which each document begins, then the number of sequences,
            shape (documents + 1,), int64.
    """

    prefix: str
    dtype: type[np.number]
    lengths: np.ndarray
    pointers: np.ndarray
    document_starts: np.ndarray

    @property
    def documents(self) -> int:
        """The number of documents, empty ones included."""
        return len(self.document_starts) - 1

    @property
    def tokens(self) -> int:
        """The number of ids."""
        return int(self.lengths.sum(dtype=np.int64))


def begins_as_index(path: str | Path) -> bool:
    """Whether a file's first bytes are those of an .idx, of any version.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def prefix_of(path: str) -> str:
    """Return a dataset's path less its suffix, whichever of prefix, .bin or .idx is given."""
    return path.removesuffix(".bin").removesuffix(".idx")


def read_index(prefix: str) -> Index:
    """Return the index of ``prefix``.bin, after checks that both are whole and belong together.

    Raises:
        UserError: a file is missing, cannot be read, is cut short, or does not fit the other.
    """
    paths = [f"{prefix}.idx", f"{prefix}.bin"]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise UserError(f"{' and '.join(missing)}: no such file; a dataset is a .bin and an .idx")
    try:
        index = _map(prefix, paths[0])
        data_bytes = os.path.getsize(paths[1])
    except OSError as error:
        raise UserError(f"{prefix}: cannot be read ({error.strerror})") from error
    _check(index, data_bytes)
    return index


def _map(prefix: str, path: str) -> Index:
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise _damaged(path, "it does not begin as the index of a Megatron dataset")
    fields = np.frombuffer(header, np.dtype("<u8,u1,<u8,<u8"), offset=len(_MAGIC))[0].tolist()
    version, code, sequences, starts = fields
    if version != _VERSION or code not in _TYPES:
        raise _damaged(path, f"unknown version {version} or type code {code}")
    need = _HEADER_BYTES + 12 * sequences + 8 * starts
    if size != need:
        raise _damaged(path, f"{size:,} bytes, not the {need:,} that its header asks for")
    if not issubclass(_TYPES[code], np.integer):
        raise _damaged(path, f"its numbers are {_TYPES[code].__name__}, and ids are integers")
    data = np.memmap(path, mode="r")
    splits = _HEADER_BYTES + np.array([4 * sequences, 12 * sequences])
    lengths, pointers, document_starts = np.split(data[:need], splits)
    return Index(
        prefix,
        _TYPES[code],
        lengths[_HEADER_BYTES:].view("<i4"),
        pointers.view("<i8"),
        document_starts.view("<i8"),
    )


def _check(index: Index, data_bytes: int) -> None:
    path, itemsize = f"{index.prefix}.idx", np.dtype(index.dtype).itemsize
    pointer = 0
    for start in range(0, len(index.lengths), _CHUNK):
        lengths = index.lengths[start : start + _CHUNK]
        if (lengths < 0).any():
            raise _damaged(path, "a sequence of negative length")
        ends = np.cumsum(lengths, dtype=np.int64) * itemsize + pointer
        expected = np.concatenate([[pointer], ends[:-1]])
        wrong = np.flatnonzero(index.pointers[start : start + _CHUNK] != expected)
        if len(wrong):
            where = start + int(wrong[0])
            raise _damaged(path, f"sequence {where} does not begin where the one before ends")
        pointer = int(ends[-1])
    if pointer != data_bytes:
        raise _damaged(
            f"{index.prefix}.bin",
            f"{data_bytes:,} bytes, not the {pointer:,} that its .idx counts; they are not a pair",
        )
    starts = index.document_starts
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(index.lengths):
        raise _damaged(path, "its documents do not cover its sequences")
    for start in range(0, len(starts), _CHUNK):
        if (np.diff(starts[start : start + _CHUNK + 1]) < 0).any():
            raise _damaged(path, "a document ends before it begins")


def _damaged(path: str, reason: str) -> UserError:
    return UserError(f"{path}: damaged ({reason}); write it again")

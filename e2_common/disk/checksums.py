# SPDX-License-Identifier: Apache-2.0
"""Compares the checksums in a ``torch_dist`` checkpoint with what they are the sums of.

A piece is what ``torch.save`` wrote: a zip archive, with a CRC-32 of every record in it. torch
writes these sums and does not look at them when it reads (2.11), so that a flipped bit becomes a
weight.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch.distributed.checkpoint.metadata import MetadataIndex

from e2_common.disk.torch_dist_index import FlawError, is_torch_dist, read_index

try:
    from isal.isal_zlib import crc32  # several times as fast
except ImportError:  # no wheel for this kind of processor
    from zlib import crc32

BLOCK = 1 << 20  # bytes: stays in the processor's cache
LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip archive's record; then its name and extra field


def wrong_sum(folder: Path, share: int, shares: int) -> str | None:
    """Compare the CRC-32 of every record in a share of the pieces with the one stored beside it.

    Args:
        folder: of one iteration, without a :func:`flaw`.
        share: from 0 on; the pieces are dealt out by size.
        shares: how many there are.

    Returns:
        The first flaw, or None.
    """
    try:
        if not is_torch_dist(folder):
            return None
        pieces = read_index(folder).storage_data.items()
        # The largest first, so that all shares get about the same number of bytes.
        ordered = sorted(pieces, key=lambda item: (-item[1].length, *_place(item[1])))
        mine = sorted(ordered[share::shares], key=lambda item: _place(item[1]))
        for key, place in mine:
            _check_sum(folder, key, place)
    except FlawError as error:
        return str(error)
    return None


def _place(storage: object) -> tuple[str, int]:
    return storage.relative_path, storage.offset


def _check_sum(folder: Path, key: MetadataIndex, place: object) -> None:
    name = place.relative_path
    try:
        with (folder / name).open("rb") as file:
            check_piece(file, place.offset, place.length, name, key.fqn)
    except OSError as error:
        raise FlawError(name, f"cannot be read ({error.strerror})") from error


def check_piece(
    file: IO[bytes],
    offset: int,
    length: int,
    name: str,
    what: str,
    loaded: torch.Tensor | None = None,
) -> None:
    """Compare the CRC-32 of every record of a piece with the one stored beside it.

    Args:
        file: that holds the piece, open for reading in binary.
        offset: where it begins, in bytes.
        length: its bytes.
        name: of the file, to name.
        what: the piece holds, to name.
        loaded: the tensor that torch read from the piece: its bytes are taken instead of the
            file's, which are then read once.

    Raises:
        FlawError: a sum is another one, or the archive is none.
        OSError: the file cannot be read.
    """
    piece = io.BufferedReader(_Window(file, offset, length))
    try:
        with zipfile.ZipFile(piece) as archive:
            wrong = any(
                _sum(_bytes_of(archive, piece, info, loaded)) != info.CRC
                for info in archive.infolist()
            )
    except OSError:
        raise
    except Exception as error:  # what zipfile raises for a broken archive varies
        raise FlawError(name, f"is damaged, in {what}") from error
    if wrong:
        raise FlawError(name, f"is damaged, in {what}: its checksum is another one")


def _sum(blocks: Iterator[bytes | memoryview]) -> int:
    value = 0
    for block in blocks:
        value = crc32(block, value)
    return value


def _bytes_of(
    archive: zipfile.ZipFile,
    piece: io.BufferedReader,
    info: zipfile.ZipInfo,
    loaded: torch.Tensor | None,
) -> Iterator[bytes | memoryview]:
    """The bytes of a record, by blocks."""
    if info.compress_type != zipfile.ZIP_STORED:
        yield archive.read(info)
        return
    left = info.file_size
    if loaded is not None and info.filename.endswith("/data/0"):
        storage = loaded.untyped_storage()
        if storage.nbytes() == left:
            yield torch.tensor([], dtype=torch.uint8).set_(storage).numpy().data
            return
    piece.seek(info.header_offset)
    piece.seek(sum(LOCAL_HEADER.unpack(piece.read(LOCAL_HEADER.size))), os.SEEK_CUR)
    while left:
        block = piece.read(min(left, BLOCK))
        if not block:
            raise EOFError("the record ends before its size")
        left -= len(block)
        yield block


class _Window(io.RawIOBase):
    """A part of a file, read as if it were a file (torch's own view cannot seek from its end)."""

    def __init__(self, file: io.BufferedReader, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be moved in."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to ``offset`` from the start, from here, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError("before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        """Read as many bytes as fit and are left."""
        wanted = max(0, min(len(buffer), self._length - self._at))
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._at += count
        return count

# SPDX-License-Identifier: Apache-2.0
"""Compares the checksums in a ``torch_dist`` checkpoint with what they are the sums of.

A piece is what ``torch.save`` wrote: a zip archive, with a CRC-32 of every record in it. torch
writes these sums and does not look at them when it reads (2.11), so that a flipped bit becomes a
weight.
"""

import io
import os
import zipfile
from pathlib import Path

from torch.distributed.checkpoint.metadata import MetadataIndex

from e2_common.disk.torch_dist_index import FlawError, is_torch_dist, read_index


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
            piece = io.BufferedReader(_Window(file, place.offset, place.length))
            with zipfile.ZipFile(piece) as archive:
                wrong = archive.testzip()
    except OSError as error:
        raise FlawError(name, f"cannot be read ({error.strerror})") from error
    except Exception as error:  # what zipfile raises for a broken archive varies
        raise FlawError(name, f"is damaged, in {key.fqn}") from error
    if wrong is not None:
        raise FlawError(name, f"is damaged, in {key.fqn}: its checksum is another one")


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

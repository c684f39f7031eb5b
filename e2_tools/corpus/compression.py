# SPDX-License-Identifier: Apache-2.0
"""Read and write .gz, .zst and .xz files as a stream; an archive cut short is an error."""

import gzip
import io
import lzma
import zlib
from contextlib import ExitStack
from typing import Any, BinaryIO

from e2_common.errors import UserError

SUFFIXES = (".gz", ".zst", ".xz")
# Compressed bytes taken at a time; few, because repetition can grow ten-thousandfold.
_CHUNK = 16 * 1024


class ZstandardError(Exception):
    """What is read is not zstandard, or is damaged."""


# What reading a damaged archive raises, whichever kind it is.
DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ZstandardError)


def suffix_of(path: str) -> str | None:
    """Return which of ``SUFFIXES`` the path ends with, or None if it is not compressed."""
    return next((suffix for suffix in SUFFIXES if path.endswith(suffix)), None)


def decompressed(raw: BinaryIO, suffix: str | None, stack: ExitStack) -> BinaryIO:
    """Return a stream of what ``raw`` holds, closed with ``stack``.

    Reading it raises one of ``DAMAGE`` where the archive is damaged or ends early.

    Args:
        raw: the file as it lies on disk.
        suffix: one of ``SUFFIXES``, or None to return ``raw`` itself.
        stack: what closes the stream.

    Raises:
        UserError: the package that reads this kind is not installed.
    """
    if suffix is None:
        return raw
    openers = {".gz": _open_gzip, ".zst": _ZstandardReader, ".xz": lzma.LZMAFile}
    return stack.enter_context(io.BufferedReader(openers[suffix](raw), 256 * 1024))


def compressing(raw: BinaryIO, suffix: str | None, stack: ExitStack) -> BinaryIO:
    """Return a stream whose bytes go to ``raw`` compressed, finished when ``stack`` is closed.

    Equal content gives equal bytes: no name and no time is stored.

    Args:
        raw: the file to write.
        suffix: one of ``SUFFIXES``, or None to return ``raw`` itself.
        stack: what finishes the stream, not the file.

    Raises:
        UserError: the package that writes this kind is not installed.
    """
    if suffix is None:
        return raw
    if suffix == ".gz":
        stream = gzip.GzipFile("", "wb", 6, raw, mtime=0)
    elif suffix == ".xz":
        stream = lzma.LZMAFile(raw, "wb")  # noqa: SIM115  (the stack closes it)
    else:
        try:
            import zstandard
        except ImportError as error:
            raise UserError(
                "--output: .zst needs the package zstandard (pip install zstandard)"
            ) from error
        compressor = zstandard.ZstdCompressor(write_checksum=True)
        stream = compressor.stream_writer(raw, closefd=False)
    return stack.enter_context(stream)


def check_packages(suffix: str | None, path: str) -> None:
    """Check that files ending in ``suffix`` can be read here.

    Raises:
        UserError: a package is missing.
    """
    if suffix == ".zst":
        _zstandard(path)


def _open_gzip(raw: BinaryIO) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw)


def _zstandard(path: str) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise UserError(
            f"{path}: .zst needs the package zstandard (pip install zstandard), or decompress "
            "it and pass `-`: zstd -dc FILE | tools/preprocess_data.py --input - ..."
        ) from error
    return zstandard


class _ZstandardReader(io.RawIOBase):
    """The frames of a zstandard file, end to end.

    The package's own reader takes a file that ends within a frame for whole; this one does not.
    """

    def __init__(self, raw: BinaryIO):
        self._zstandard = _zstandard("--input")
        self._raw = raw
        self._frame: Any = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._compressed = self._compressed or self._raw.read(_CHUNK)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError("ends before the end of its last frame")
                return 0
            self._ready = memoryview(self._decompress())
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decompress(self) -> bytes:
        if self._frame is None:
            # The Pile and others are made with windows above the package's default limit.
            maximum = 1 << 31
            decompressor = self._zstandard.ZstdDecompressor(max_window_size=maximum)
            self._frame = decompressor.decompressobj()
        try:
            ready = self._frame.decompress(self._compressed)
        except self._zstandard.ZstdError as error:
            raise ZstandardError(str(error)) from error
        self._compressed = b""
        if self._frame.eof:
            self._compressed = self._frame.unused_data
            self._frame = None
        return ready

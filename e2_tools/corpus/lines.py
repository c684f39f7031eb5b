# SPDX-License-Identifier: Apache-2.0
"""Lines of bytes, of which none fills the memory; what is no text of a line."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

LONGEST = 256 << 20  # bytes; a few megabytes of an archive may hold a line of gigabytes
_CHUNK = 1 << 20
BOM = codecs.BOM_UTF8  # a mark that some editors put before a text; it is no part of it


class TooLong(NamedTuple):
    """A line that was not read whole.

    Attributes:
        size: its bytes, the line break included.
    """

    size: int

    @property
    def reason(self) -> str:
        """What is wrong with it, for people."""
        return (
            f"a line of {self.size / 1e6:,.0f} MB, and {LONGEST / 1e6:,.0f} MB is the limit; "
            "are its line breaks missing?"
        )


def lines_of(stream: BinaryIO) -> Iterator[bytes | TooLong]:
    """The lines of a stream with their breaks; of one above :data:`LONGEST` its size."""
    while line := stream.readline(LONGEST):
        yield line if len(line) < LONGEST or line.endswith(b"\n") else skip_line(stream, len(line))


def skip_line(stream: BinaryIO, read: int) -> TooLong:
    """Read on to the end of a line.

    Args:
        stream: in the middle of it.
        read: bytes of it that were read already.
    """
    while rest := stream.readline(_CHUNK):
        read += len(rest)
        if rest.endswith(b"\n"):
            break
    return TooLong(read)


def is_blank(line: bytes | TooLong) -> bool:
    """Whether a line holds nothing but white space, or a mark."""
    if isinstance(line, TooLong):
        return False
    return line.isspace() or (len(line) <= 8 and line.strip() == BOM)

# SPDX-License-Identifier: Apache-2.0
"""Take a JSON array apart element by element, broken elements included."""

import re
from collections.abc import Callable, Iterator
from typing import Any

_CHUNK = 1 << 20  # bytes read at a time, unless an element is longer
# A string, whose closing quote may not be read yet, or a character of JSON's structure.
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{},]', re.S)
_BEGINS = re.compile(rb"[^\s,]")
_OPENER = {b"]": b"[", b"}": b"{"}


class CutShort(Exception):
    """The bytes end within an array."""


class Elements:
    """The elements of an array, one in memory at a time.

    The end of an element is found by its brackets and strings alone, so an element that is not
    JSON does not hide the next. What follows the array, another array or a value a line, is taken
    apart as well.

    Args:
        read: returns at most so many bytes of what begins with the array, none at its end.
        parse: returns the value of some bytes, or an exception if they are no JSON.
    """

    def __init__(self, read: Callable[[int], bytes], parse: Callable[[bytes], Any]):
        self._read = read
        self._parse = parse
        self._buffer = b""
        self._in_array = False

    def __iter__(self) -> Iterator[Any]:
        """Yield what ``parse`` returns of each element.

        One whose brackets or quotes do not match may seem to go on over others. They are told
        apart all the same if each begins a line.

        Raises:
            CutShort: at the end, if nothing closes the array.
        """
        at = 0
        while (begin := self._begin(at)) is not None:
            if self._buffer[begin : begin + 1] == (b"]" if self._in_array else b"["):
                self._in_array = not self._in_array
                at = begin + 1
                continue
            line = self._buffer.rfind(b"\n", 0, begin) + 1
            indent = self._buffer[line:begin]
            begin, at, whole = self._end(begin)
            element = self._buffer[begin:at].rstrip()
            value = self._parse(element)
            if indent.strip() or not isinstance(value, Exception):
                yield value
                continue
            if not whole and re.search(rb"\n\]$", element):
                element, self._in_array = element[:-1], False
            for part in re.split(rb"\n" + indent + rb"(?=\{)", element):
                yield self._parse(part.rstrip(b" \t\r\n,"))
        if self._in_array:
            raise CutShort

    def _more(self, keep: int) -> bool:
        """Read more, and drop what lies before ``keep``."""
        self._buffer = self._buffer[keep:]
        chunk = self._read(max(_CHUNK, len(self._buffer)))
        self._buffer += chunk
        return bool(chunk)

    def _begin(self, at: int) -> int | None:
        """Return where the next element, or a bracket, begins; None at the end."""
        while True:
            found = _BEGINS.search(self._buffer, at)
            if found:
                return found.start()
            # From the last line break on, since __iter__ wants the element's indentation.
            keep = max(self._buffer.rfind(b"\n"), at)
            at = len(self._buffer) - keep
            if not self._more(keep):
                return None

    def _end(self, begin: int) -> tuple[int, int, bool]:
        """Return where the element begins now and ends, and whether its end was found."""
        if not self._in_array and self._buffer[begin : begin + 1] not in (b"{", b"["):
            return self._end_of_line(begin)
        open_: list[bytes] = []
        at = begin
        while True:
            mark = _MARK.search(self._buffer, at)
            if mark is None or (mark[0][:1] == b'"' and not mark[1]):
                at = (len(self._buffer) if mark is None else mark.start()) - begin
                if not self._more(begin):
                    return 0, len(self._buffer), False
                begin = 0
                continue
            at, what = mark.end(), mark[0]
            if what in (b"[", b"{"):
                open_.append(what)
            elif what in _OPENER and _OPENER[what] in open_:
                while open_.pop() != _OPENER[what]:
                    pass  # nothing closed it
                if not open_ and not self._in_array:
                    return begin, at, True
            elif what in (b",", b"]") and not open_ and self._in_array:
                return begin, mark.start(), True

    def _end_of_line(self, begin: int) -> tuple[int, int, bool]:
        while (end := self._buffer.find(b"\n", begin)) < 0:
            if not self._more(begin):
                return 0, len(self._buffer), True
            begin = 0
        return begin, end, True

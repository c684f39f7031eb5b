# SPDX-License-Identifier: Apache-2.0
"""The records of the inputs, one by one, the broken ones among them."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from megatron_patches.errors import UserError
from tools.corpus.compression import DAMAGE, decompressed
from tools.corpus.inputs import JSON_LINES, STANDARD_INPUT, TEXT, Source, whole
from tools.corpus.reader import read_batches

_CHUNK = 1 << 20


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
    """Yield the records of JSON lines, of one JSON array, or a text file's only one.

    Raises:
        UserError: the file cannot be read to its end.
    """
    if source.kind == JSON_LINES and _begins_an_array(source):
        yield from _array(source)
        return
    if source.kind not in (JSON_LINES, TEXT):
        raise UserError(f"{source.name}: {source.kind} is not what this corpus is released as")
    for batch in read_batches(whole([source]), []):
        left = batch.file_bytes
        for number, content in batch.records:
            yield Record(batch.where(number), _parsed(content, source.kind), left)
            left = 0


def _parsed(content: bytes, kind: str) -> Any:
    try:
        text = content.decode("utf-8")
        return text if kind == TEXT else json.loads(text)
    except UnicodeDecodeError:
        return Broken("not UTF-8")
    except (ValueError, RecursionError):
        return Broken("not JSON")


@contextlib.contextmanager
def _open(source: Source) -> Iterator[tuple[Any, Any]]:
    """Yield the file as it lies on disk, and the stream of its content."""
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(open(source.path, "rb"))
            yield raw, decompressed(raw, source.compression, stack)
    except DAMAGE as error:
        raise UserError(f"{source.name}: damaged, or cut short ({error})") from error
    except OSError as error:
        raise UserError(f"{source.name}: cannot be read ({error.strerror or error})") from error


def _begins_an_array(source: Source) -> bool:
    if source.path == STANDARD_INPUT:
        return False
    with _open(source) as (_, stream):
        while chunk := stream.read(_CHUNK):
            if chunk.strip():
                return chunk.strip()[:1] == b"["
    return False


def _array(source: Source) -> Iterator[Record]:
    """Yield the elements of a JSON array without holding more than one and a piece of the file."""
    decoder = json.JSONDecoder()
    with _open(source) as (raw, stream):
        text, at, number, position, is_open = "", 0, 0, 0, False
        pending = b""
        while True:
            chunk = stream.read(_CHUNK)
            # A character may be cut in two by the end of the piece.
            data = pending + chunk
            try:
                more, pending = data.decode("utf-8"), b""
            except UnicodeDecodeError as error:
                if error.start < len(data) - 3 or not chunk:
                    raise UserError(
                        f"{source.name}: not UTF-8 after element {number}; convert the file"
                    ) from error
                more, pending = data[: error.start].decode("utf-8"), data[error.start :]
            text, at = text[at:] + more, 0
            while True:
                at = _skip(text, at, " \t\r\n," if is_open else " \t\r\n\ufeff[")
                is_open = is_open or at > 0
                if text[at : at + 1] in ("", "]"):
                    break
                try:
                    value, end = decoder.raw_decode(text, at)
                except ValueError:
                    break  # it goes on in the next piece, or the file is damaged
                if end == len(text) and chunk and not isinstance(value, dict | list | str):
                    break  # a number may go on
                number, at = number + 1, end
                done, position = raw.tell() - position, raw.tell()
                yield Record(f"{source.name}, element {number}", value, done)
            if text[at : at + 1] == "]":
                return
            if not chunk:
                raise UserError(
                    f"{source.name}: the JSON array is cut short or damaged after element "
                    f"{number}; fetch the file again"
                )


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at

# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a text count in the loss, from the spans of characters that do."""

from typing import Any

import numpy as np

from e2_common.errors import UserError
from e2_tools.corpus.broken import BrokenRecord
from e2_tools.corpus.tokenizer import Tokenizer

Spans = list[tuple[int, int]]


def spans_of(record: dict[str, Any], key: str, text: str, where: str) -> Spans:
    """Return the spans of a record: first character and the one after the last, in order.

    Args:
        record: the record.
        key: its key of the spans, pairs of indices into ``text``.
        text: what they are of.
        where: the record's place, for a message.

    Raises:
        BrokenRecord: there are none under the key, or they overlap, or leave order or text.
    """
    if key not in record:
        raise BrokenRecord(f"{where}: no key {key!r}; see --loss-mask-key")
    spans, last = record[key], 0
    good = isinstance(spans, list)
    for span in spans if good else []:
        good = good and isinstance(span, list) and len(span) == 2
        good = good and all(type(index) is int for index in span)
        good = good and last <= span[0] < span[1] <= len(text)
        if not good:
            break
        last = span[1]
    if not good:
        raise BrokenRecord(
            f"{where}: the value of {key!r} must be a list of [begin, end], ascending and apart, "
            f"within the {len(text)} characters of the text"
        )
    return [tuple(span) for span in spans]


def encode_with_mask(tokenizer: Tokenizer, text: str, spans: Spans) -> tuple[list[int], np.ndarray]:
    """Encode a text and say of each token whether it counts.

    A token counts if one of its characters lies in a span: also one that begins before it, and
    every part of a character that is several tokens. What the tokenizer adds (BOS) does not.

    Args:
        tokenizer: the tokenizer.
        text: the text.
        spans: from :func:`spans_of`.

    Returns:
        The ids, those of ``tokenizer.encode``, and their mask, shape (tokens,), uint8.

    Raises:
        UserError: the tokenizer cannot say which characters its tokens are.
    """
    ids = list(tokenizer.encode(text))
    offsets = _offsets(tokenizer.model, text, ids)
    inside = np.zeros(len(text) + 1, np.int64)
    for begin, end in spans:
        inside[begin + 1 : end + 1] = 1
    before = np.cumsum(inside)  # characters of spans before each index
    begins, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    return ids, (before[ends] > before[begins]).astype(np.uint8)


def _offsets(model: Any, text: str, ids: list[int]) -> list[tuple[int, int]]:
    """Return the characters [begin, end) of each token."""
    library = model._tokenizer.tokenizer
    found: list[int] | None = None
    if getattr(library, "is_fast", False):
        encoded = library(text, return_offsets_mapping=True)
        found, offsets = encoded["input_ids"], encoded["offset_mapping"]
    elif hasattr(library, "is_byte"):
        pieces = library.encode(text, return_type="proto").pieces
        found, offsets = [piece.id for piece in pieces], _piece_offsets(library, pieces, text)
    elif hasattr(library, "decode_tokens_bytes"):
        found, offsets = ids, _byte_offsets(library.decode_tokens_bytes(ids), text)
    if found is None or list(found) != ids:
        raise UserError(
            "--loss-mask-key: this tokenizer does not tell which characters its tokens are; "
            "use a fast Hugging Face tokenizer (tokenizer.json)"
        )
    return offsets


def _piece_offsets(library: Any, pieces: Any, text: str) -> list[tuple[int, int]]:
    """Return the characters of SentencePiece's pieces, which it gives in bytes.

    SentencePiece may spell a character in bytes, a piece each, and then gives the character to the
    last of them only. Here each of them gets it.
    """
    character = _characters(text)
    offsets, end = [], 0
    for piece in reversed(pieces):
        is_part = piece.begin == piece.end and library.is_byte(piece.id)
        end = end if is_part else piece.end
        offsets.append((int(character[piece.begin]), int(character[end])))
    return offsets[::-1]


def _byte_offsets(tokens: list[bytes], text: str) -> list[tuple[int, int]]:
    """Return the characters of tiktoken's tokens, whose bytes are those of the text."""
    character = _characters(text)
    ends = np.cumsum([len(token) for token in tokens])
    return [
        (int(character[end - len(token)]), int(character[end - 1]) + 1)
        for token, end in zip(tokens, ends, strict=True)
    ]


def _characters(text: str) -> np.ndarray:
    """Return the index of the character of each byte, and of the end; shape (bytes + 1,)."""
    starts = [(byte & 0xC0) != 0x80 for byte in text.encode()]
    return np.concatenate([np.cumsum(starts) - 1, [len(text)]]).astype(np.int64)

# SPDX-License-Identifier: Apache-2.0
"""Turn a batch of JSON records into token ids: what each worker runs."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from e2_common.errors import UserError
from e2_tools.corpus.broken import SKIP, STOP, BrokenRecord
from e2_tools.corpus.inputs import JSON_LINES, TEXT
from e2_tools.corpus.lines import BOM, TooLong
from e2_tools.corpus.reader import Batch, LineRange
from e2_tools.corpus.spans import Spans, encode_with_mask, spans_of
from e2_tools.corpus.table import NotUtf8
from e2_tools.corpus.tokenizer import TextRefused, Tokenizer

LOSS_MASK = "<loss mask>"  # among the keys of a batch; no key of JSON that anyone tokenises


@dataclass(frozen=True)
class EncodedText:
    """The documents of one batch under one key.

    Attributes:
        tokens: the ids of all documents end to end, shape (tokens,).
        lengths: tokens of each sequence, shape (sequences,), int32.
        sequences: sequences of each document, 0 if it is empty, shape (documents,), int32.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    sequences: np.ndarray


@dataclass(frozen=True)
class EncodedBatch:
    """A batch's tokens by JSON key, and the batch's sizes as in :class:`Batch`.

    ``records`` are those encoded; ``broken`` says what is wrong with each of the others; ``counts``
    is what the tokenizer counted.
    """

    by_key: dict[str, EncodedText]
    records: int
    broken: list[str]
    blank_lines: int
    text_bytes: int
    file_bytes: int
    counts: Counter[str]


class Encoder:
    """A function from a :class:`Batch` to an :class:`EncodedBatch`.

    Args:
        tokenizer: the tokenizer.
        keys: the JSON keys to encode.
        append_eod: whether each document that has a token ends with the end-of-document id.
        split: a function from a text to its sentences, or None to keep documents whole.
        mask_key: the key of the spans that count in the loss, of the only text key; or None. The
            mask then stands beside the tokens, under :data:`LOSS_MASK`.
        on_error: ``STOP`` or, to leave broken records out, ``SKIP``.

    Raises:
        UserError: on construction, if ``append_eod`` asks for an id the tokenizer lacks; on a
            call, if a record is not what it should be.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        keys: Sequence[str],
        append_eod: bool,
        split: Callable[[str], list[str]] | None = None,
        mask_key: str | None = None,
        on_error: str = STOP,
    ):
        if append_eod and tokenizer.eod is None:
            raise UserError(
                "--append-eod: the tokenizer has no EOS token; add one to it or leave the flag out"
            )
        self.tokenizer = tokenizer
        self.keys = keys
        self.eod = tokenizer.eod if append_eod else None
        self.split = split
        self.mask_key = mask_key
        self.on_error = on_error
        self.dtype = tokenizer.dtype

    def __call__(self, batch: Batch | LineRange) -> EncodedBatch:
        """Encode every record of the batch."""
        batch = batch.load()
        collected = {key: _Collected(self.dtype) for key in self.keys}
        if self.mask_key is not None:
            collected[LOSS_MASK] = _Collected(np.uint8)
        broken: list[str] = []
        for where, texts, spans in self._good(batch, broken):
            try:
                documents = self._documents(texts, spans)
            except TextRefused as error:
                self._give_up(BrokenRecord(f"{where}: {error}"), broken)
            else:
                for key, document in documents.items():
                    collected[key].add(*document)
        counts = self.tokenizer.counts.copy()
        self.tokenizer.counts.clear()
        return EncodedBatch(
            {key: texts.encoded() for key, texts in collected.items()},
            len(batch.records) - len(broken),
            broken,
            batch.blank_lines,
            batch.text_bytes,
            batch.file_bytes,
            counts,
        )

    def texts(self, batch: Batch | LineRange) -> Iterator[str]:
        """Yield what would be given to the tokenizer."""
        for _, texts, _ in self._good(batch.load(), []):
            for text in texts.values():
                yield from [text] if self.split is None else self.split(text)

    def _good(
        self, batch: Batch, broken: list[str]
    ) -> Iterator[tuple[str, dict[str, str], Spans | None]]:
        """Yield place, texts by key, and spans of each record that is whole."""
        for number, content in batch.records:
            where = batch.where(number)
            try:
                record = _record(content, batch.kind, where)
                texts = {key: _text_of(record, key, where) for key in self.keys}
                spans = None
                for text in texts.values():
                    _check_unicode(text, where)
                    if self.mask_key is not None:
                        spans = spans_of(record, self.mask_key, text, where)
            except BrokenRecord as error:
                self._give_up(error, broken)
            else:
                yield where, texts, spans

    def _give_up(self, error: BrokenRecord, broken: list[str]) -> None:
        if self.on_error != SKIP:
            raise error
        broken.append(str(error))

    def _documents(
        self, texts: dict[str, str], spans: Spans | None
    ) -> dict[str, tuple[list[np.ndarray], list[int]]]:
        """Return by key the ids of a record's texts, in pieces, and the lengths of sequences."""
        if spans is None:
            return {key: self._document(text) for key, text in texts.items()}
        ((key, text),) = texts.items()
        ids, mask = encode_with_mask(self.tokenizer, text, spans)
        array = self._to_array(ids)
        if len(array) and self.eod is not None:
            array = np.append(array, np.array([self.eod], self.dtype))
            # The EOD counts if the last span ends the text.
            mask = np.append(mask, np.uint8(bool(spans) and spans[-1][1] == len(text)))
        lengths = [len(array)] * bool(len(array))
        return {key: ([array], lengths), LOSS_MASK: ([mask], lengths)}

    def _document(self, text: str) -> tuple[list[np.ndarray], list[int]]:
        pieces, lengths = [], []
        for sentence in [text] if self.split is None else self.split(text):
            ids = self._to_array(self.tokenizer.encode(sentence))
            if len(ids):
                pieces.append(ids)
                lengths.append(len(ids))
        if lengths and self.eod is not None:
            pieces.append(np.array([self.eod], dtype=self.dtype))
            lengths[-1] += 1
        return pieces, lengths

    def _to_array(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        try:
            array = np.asarray(ids) if isinstance(ids, np.ndarray) else np.array(ids, self.dtype)
            # Unlike a list, an array of wider integers would wrap around in silence.
            if array.dtype != self.dtype:
                if len(array) and array.max() > np.iinfo(self.dtype).max:
                    raise OverflowError
                array = array.astype(self.dtype)
        except OverflowError as error:
            raise UserError(
                f"--tokenizer-model: gave the id {max(ids)}, beyond its own vocabulary of "
                f"{self.tokenizer.vocab_size}; its ids must run from 0 without gaps"
            ) from error
        return array


@dataclass
class _Collected:
    """An :class:`EncodedText` in the making."""

    dtype: type[np.number]
    tokens: list[np.ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def add(self, pieces: list[np.ndarray], lengths: list[int]) -> None:
        """Append a document."""
        self.tokens += pieces
        self.lengths += lengths
        self.sequences.append(len(lengths))

    def encoded(self) -> EncodedText:
        tokens = np.concatenate(self.tokens) if self.tokens else np.empty(0, self.dtype)
        return EncodedText(
            tokens, np.array(self.lengths, np.int32), np.array(self.sequences, np.int32)
        )


def _record(content: Any, kind: str, where: str) -> dict[str, Any]:
    """Return the record by key: a text file is its content under the key `text`."""
    if kind == JSON_LINES:
        return _parse(content, where)
    if kind == TEXT:
        try:
            return {"text": content.removeprefix(BOM).decode("utf-8")}
        except UnicodeDecodeError as error:
            raise _not_utf8(error, where) from error
    return content


def _parse(line: bytes | TooLong, where: str) -> dict[str, Any]:
    if isinstance(line, TooLong):
        raise BrokenRecord(f"{where}: {line.reason}")
    try:
        record = json.loads(line.removeprefix(BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _not_utf8(error, where) from error
    except json.JSONDecodeError as error:
        raise BrokenRecord(
            f"{where}: not JSON ({error.msg}, column {error.colno}); "
            "each line must be one JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BrokenRecord(f"{where}: not JSON that can be read ({error})") from error
    if not isinstance(record, dict):
        raise BrokenRecord(f"{where}: {_kind(record)}, not a JSON object")
    return record


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BrokenRecord(
            f"{where}: an unpaired surrogate (\\ud800 to \\udfff) at character "
            f"{error.start + 1} of the text; remove it"
        ) from error


def _not_utf8(error: UnicodeDecodeError, where: str) -> BrokenRecord:
    return BrokenRecord(f"{where}: not UTF-8 (byte {error.start + 1}); convert the file")


def _text_of(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        keys = ", ".join(repr(key[:40]) for key in list(record)[:8]) or "none"
        raise BrokenRecord(f"{where}: no key {key!r}, its keys: {keys}; see --json-keys")
    value = record[key]
    if isinstance(value, NotUtf8):
        raise BrokenRecord(f"{where}: the value of {key!r} is not UTF-8; convert the file")
    if not isinstance(value, str):
        raise BrokenRecord(f"{where}: the value of {key!r} is {_kind(value)}, not a string")
    return value


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "an array", str: "a string", bytes: "binary data"}
    return names.get(type(value), "a number")

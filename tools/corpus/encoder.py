# SPDX-License-Identifier: Apache-2.0
"""Turn a batch of JSON records into token ids: what each worker runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from megatron_patches.errors import UserError
from tools.corpus.reader import Batch
from tools.corpus.tokenizer import Tokenizer


@dataclass
class EncodedText:
    """The documents of one batch under one key.

    Attributes:
        tokens: the ids of all documents end to end, shape (tokens,).
        documents: for each document the lengths of its sentences; no length if it is empty.
    """

    tokens: np.ndarray
    documents: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class EncodedBatch:
    """A batch's tokens by JSON key, and the batch's sizes as in :class:`Batch`."""

    by_key: dict[str, EncodedText]
    records: int
    blank_lines: int
    text_bytes: int
    file_bytes: int


class Encoder:
    """A function from a :class:`Batch` to an :class:`EncodedBatch`.

    Args:
        tokenizer: the tokenizer.
        keys: the JSON keys to encode.
        append_eod: whether each document that has a token ends with the end-of-document id.
        split: a function from a text to its sentences, or None to keep documents whole.

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
    ):
        if append_eod and tokenizer.eod is None:
            raise UserError(
                "--append-eod: the tokenizer has no EOS token; add one to it or leave the flag out"
            )
        self.tokenizer = tokenizer
        self.keys = keys
        self.eod = tokenizer.eod if append_eod else None
        self.split = split
        self.dtype = tokenizer.dtype

    def __call__(self, batch: Batch) -> EncodedBatch:
        """Encode every record of the batch."""
        ids: dict[str, list[int]] = {key: [] for key in self.keys}
        documents: dict[str, list[list[int]]] = {key: [] for key in self.keys}
        for number, line in batch.records:
            where = f"{batch.path}, line {number}"
            record = _parse(line, where)
            for key in self.keys:
                lengths = self._encode_text(_text_of(record, key, where), ids[key], where)
                documents[key].append(lengths)
        return EncodedBatch(
            {key: EncodedText(self._to_array(ids[key]), documents[key]) for key in self.keys},
            len(batch.records),
            batch.blank_lines,
            batch.text_bytes,
            batch.file_bytes,
        )

    def _encode_text(self, text: str, ids: list[int], where: str) -> list[int]:
        """Append the document's ids to ``ids``; return the lengths of its sentences."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where}: an unpaired surrogate (\\ud800 to \\udfff) at character "
                f"{error.start + 1} of the text; remove it"
            ) from error
        lengths = []
        for sentence in [text] if self.split is None else self.split(text):
            sentence_ids = self.tokenizer.encode(sentence)
            if sentence_ids:
                ids.extend(sentence_ids)
                lengths.append(len(sentence_ids))
        if lengths and self.eod is not None:
            ids.append(self.eod)
            lengths[-1] += 1
        return lengths

    def _to_array(self, ids: list[int]) -> np.ndarray:
        try:
            return np.array(ids, dtype=self.dtype)
        except OverflowError as error:
            raise UserError(
                f"--tokenizer-model: gave the id {max(ids)}, beyond its own vocabulary of "
                f"{self.tokenizer.vocab_size}; its ids must run from 0 without gaps"
            ) from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1}); convert the file") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); "
            "each line must be one JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON that can be read ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: {_kind(record)}, not a JSON object")
    return record


def _text_of(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        keys = ", ".join(map(repr, list(record)[:8])) or "none"
        raise UserError(f"{where}: no key {key!r}, its keys: {keys}; see --json-keys")
    if not isinstance(record[key], str):
        raise UserError(f"{where}: the value of {key!r} is {_kind(record[key])}, not a string")
    return record[key]


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "an array", str: "a string"}
    return names.get(type(value), "a number")

# SPDX-License-Identifier: Apache-2.0
"""Documents to score: the records of a JSON lines file, as token ids."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_patches.errors import UserError


@dataclass
class Corpus:
    """Tokenized documents and where they come from."""

    path: str
    sha256: str  # of the whole file
    bos: bool  # does each document begin with the tokenizer's BOS?
    documents: list[list[int]]  # token ids, BOS included

    @property
    def tokens(self) -> int:
        """Tokens of all documents, BOS included."""
        return sum(len(document) for document in self.documents)


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of the model in ``path``.

    Raises:
        UserError: it is missing or broken.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # transformers raises about anything here
        raise UserError(
            f"{path}: no tokenizer that transformers can load ({brief(error)})"
        ) from error
    tokenizer.model_max_length = 10**12  # documents are long on purpose: no warning
    return tokenizer


def brief(error: BaseException) -> str:
    """Return the first line of an error, for use inside a one-line message."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def adds_bos(tokenizer: Any) -> bool:
    """Tell whether the tokenizer has a BOS and puts it before a text by default."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a").input_ids[:1] == [bos]


def load_corpus(
    path: Path,
    tokenizer: Any,
    *,
    key: str = "text",
    bos: bool = True,
    max_tokens: int | None = None,
    max_documents: int | None = None,
    min_document_tokens: int = 2,
    max_document_tokens: int | None = None,
) -> Corpus:
    """Read and tokenize a JSON lines file.

    Args:
        path: one JSON object a line.
        tokenizer: a transformers tokenizer.
        key: which value of a record is the text.
        bos: begin each document with the BOS, if the tokenizer does so by default; there is never
            any other special token.
        max_tokens: stop after so many tokens in all; the last document is cut there.
        max_documents: stop after so many documents.
        min_document_tokens: leave out documents with fewer tokens.
        max_document_tokens: keep only so many tokens from the beginning of each document.

    Raises:
        UserError: the file is missing, empty or malformed, or leaves no document to score.
    """
    bos = bos and adds_bos(tokenizer)
    prefix = [tokenizer.bos_token_id] if bos else []
    documents: list[list[int]] = []
    left = max_tokens if max_tokens is not None else float("inf")
    for text in _texts(path, key):
        ids = prefix + tokenizer(text, add_special_tokens=False).input_ids
        if len(ids) < max(2, min_document_tokens):
            continue
        ids = ids[: int(min(len(ids), left, max_document_tokens or len(ids)))]
        if len(ids) >= 2:
            documents.append(ids)
        left -= len(ids)
        if left < 2 or len(documents) == max_documents:
            break
    if not documents:
        raise UserError(
            f"{path}: no document has {max(2, min_document_tokens)} tokens or more; "
            "lower --min-document-tokens or use longer documents"
        )
    return Corpus(str(path), _sha256(path), bos, documents)


def _texts(path: Path, key: str) -> Iterator[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a JSON lines file with --data")
    empty = True
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            empty = False
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}: line {number} is not JSON ({brief(error)})") from error
            if not isinstance(record, dict) or not isinstance(record.get(key), str):
                raise UserError(
                    f"{path}: line {number} has no text under {key!r}; name its key with --json-key"
                )
            yield record[key]
    if empty:
        raise UserError(f"{path}: is empty; put one JSON object a line into it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""Documents to score: the records of a JSON lines file, as token ids."""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from e2_common.errors import UserError
from e2_common.files import sha256_of
from e2_common.json_file import parse_json_line
from e2_common.progress import Bar, progress_bar
from e2_tools.evaluation.perplexity.sampling import draw_sample


class Text(NamedTuple):
    """A record of the file."""

    line: int  # from 1 on
    text: str
    sha256: str  # of the text in UTF-8


class Document(NamedTuple):
    """A tokenized record of the file."""

    line: int
    sha256: str  # of the whole text in UTF-8
    tokens: NDArray[np.int32]  # BOS included


class Sample(NamedTuple):
    """Which documents to draw, see :mod:`e2_tools.evaluation.perplexity.sampling`."""

    documents: int
    seed: int


@dataclass
class Corpus:
    """Tokenized documents and where they come from."""

    path: str
    sha256: str  # of the whole file
    bos: bool  # does each document begin with the tokenizer's BOS?
    documents: list[Document]

    @property
    def tokens(self) -> int:
        """Tokens of all documents, BOS included."""
        return sum(len(document.tokens) for document in self.documents)


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
    min_document_tokens: int = 1,
    max_document_tokens: int | None = None,
    shortest: int = 2,
    sample: Sample | None = None,
) -> Corpus:
    """Read and tokenize a JSON lines file, with a progress bar if that takes long.

    Args:
        path: one JSON object a line.
        tokenizer: a transformers tokenizer.
        key: which value of a record is the text.
        bos: begin each document with the BOS, if the tokenizer does so by default; there is never
            any other special token.
        max_tokens: stop after so many tokens in all; the last document is cut there.
        max_documents: stop after so many documents.
        min_document_tokens: leave out documents with fewer tokens, not counting a BOS.
        max_document_tokens: keep only so many tokens from the beginning of each document.
        shortest: leave out documents with fewer tokens, counting a BOS; for most protocols a token
            that is scored needs one before it.
        sample: draw so many of the documents instead of taking the first.

    Raises:
        UserError: the file is missing, empty or malformed, leaves no document to score, or fewer
            than to be drawn.
    """
    bos = bos and adds_bos(tokenizer)
    prefix = [tokenizer.bos_token_id] if bos else []
    least = max(min_document_tokens, shortest - len(prefix))

    def tokenize(text: Text) -> Document | None:
        ids = tokenizer(text.text, add_special_tokens=False).input_ids
        if len(ids) < least:
            return None
        ids = np.array((prefix + ids)[:max_document_tokens], dtype=np.int32)
        return Document(text.line, text.sha256, ids)

    texts = texts_of(path, key)
    if sample:
        documents = draw_sample(texts, sample.documents, sample.seed, tokenize)
    else:
        documents = list(_first(map(tokenize, texts), max_documents, max_tokens, shortest))
    too_few = (
        f"{path}: {len(documents) or 'no'} document{'s have' if len(documents) > 1 else ' has'} "
    )
    too_few += f"{least} tokens or more; "
    if not documents:
        raise UserError(f"{too_few}lower --min-document-tokens or use longer documents")
    if sample and len(documents) < sample.documents:
        raise UserError(f"{too_few}lower --sample-documents, now {sample.documents}")
    return corpus_of(path, bos, documents)


def corpus_of(path: Path, bos: bool, documents: list[Document]) -> Corpus:
    """Put documents of a file together, with the file's own SHA-256."""
    with _bar(path, "hashing") as bar:
        digest = sha256_of(path, bar.update)
    return Corpus(str(path), digest, bos, documents)


def sample_of(args: argparse.Namespace) -> Sample | None:
    """Return the sample that ``evaluate_perplexity.py``'s command line asks for."""
    return Sample(args.sample_documents, args.seed or 0) if args.sample_documents else None


def load_selected(args: argparse.Namespace, tokenizer: Any, *, bos: bool, shortest: int) -> Corpus:
    """Load what ``evaluate_perplexity.py``'s command line takes, see :func:`load_corpus`."""
    return load_corpus(
        args.data,
        tokenizer,
        key=args.json_key,
        bos=bos,
        max_tokens=args.max_tokens,
        max_documents=args.max_documents,
        min_document_tokens=args.min_document_tokens,
        max_document_tokens=args.max_document_tokens,
        shortest=shortest,
        sample=sample_of(args),
    )


def _first(
    documents: Iterator[Document | None],
    max_documents: int | None,
    max_tokens: int | None,
    shortest: int,
) -> Iterator[Document]:
    """Yield documents until there are enough of them or of their tokens."""
    left = max_tokens if max_tokens is not None else float("inf")
    taken = 0
    for document in documents:
        if document is None:
            continue
        tokens = document.tokens[: int(min(len(document.tokens), left))]
        if len(tokens) >= shortest:
            yield document._replace(tokens=tokens)
            taken += 1
        left -= len(tokens)
        if left < shortest or taken == max_documents:
            return


def texts_of(path: Path, key: str) -> Iterator[Text]:
    """Yield the records of a JSON lines file.

    Args:
        path: of the file.
        key: which value of a record is the text.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a JSON lines file with --data")
    empty = True
    with path.open("rb") as file, _bar(path, "tokenizing") as bar:
        for number, line in enumerate(file, 1):
            if line.strip():
                empty = False
                text = _text(path, number, line, key)
                yield Text(
                    number, text, hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
                )
            bar.update(len(line))
    if empty:
        raise UserError(f"{path}: is empty; put one JSON object a line into it")


def _bar(path: Path, label: str) -> Bar:
    """A bar over a file's bytes, for as long as that takes more than a moment."""
    return progress_bar(path.stat().st_size, "B", label, delay=2.0, leave=False)


def _text(path: Path, number: int, line: bytes, key: str) -> str:
    record = parse_json_line(line, path, number)
    if not isinstance(record, dict) or not isinstance(record.get(key), str):
        raise UserError(
            f"{path}: line {number} has no text under {key!r}; name its key with --json-key"
        )
    return record[key]

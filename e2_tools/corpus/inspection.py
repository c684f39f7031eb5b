# SPDX-License-Identifier: Apache-2.0
"""Say what a dataset holds: counts, a histogram of lengths, and some documents."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from e2_common.disk.indexed_dataset import Index
from e2_common.errors import UserError
from e2_tools.corpus.tiktoken import TIKTOKEN, TiktokenOptions
from e2_tools.corpus.tokenizer import (
    HUGGING_FACE,
    SENTENCE_PIECE,
    Tokenizer,
    load_megatron_tokenizer,
)

BAR_CHARACTERS = 40
SAMPLE_TOKENS = 64
# Ids looked at together when all of them are compared with the vocabulary.
_CHUNK = 1 << 22


def document_lengths(index: Index) -> np.ndarray:
    """Return the tokens of each document, shape (documents,), int64."""
    bounds = np.append(index.pointers, index.tokens * np.dtype(index.dtype).itemsize)
    return np.diff(bounds[index.document_starts]) // np.dtype(index.dtype).itemsize


def describe(index: Index) -> Iterator[str]:
    """Yield lines with the dataset's counts and a histogram of its documents' lengths."""
    lengths = document_lengths(index)
    yield f"documents  {index.documents:,} ({np.count_nonzero(lengths == 0):,} of them empty)"
    if len(index.lengths) != np.count_nonzero(lengths):
        yield f"sequences  {len(index.lengths):,}"
    yield f"tokens     {index.tokens:,} ({index.dtype.__name__})"
    if len(lengths):
        yield (
            f"length     mean {lengths.mean():,.1f}, median {np.median(lengths):,.0f}, "
            f"longest {lengths.max():,} tokens (document {lengths.argmax():,})"
        )
        yield from histogram(lengths)


def histogram(lengths: np.ndarray) -> Iterator[str]:
    """Yield a bar for each power of two: how many documents, and their share of all tokens.

    Args:
        lengths: tokens of each document, shape (documents,), at least one.
    """
    # 0 -> 0, 1 -> 1, 2-3 -> 2, 4-7 -> 3, ...
    bins = np.frexp(lengths)[1]
    counts = np.bincount(bins)
    shares = np.bincount(bins, weights=lengths) / max(lengths.sum(), 1)
    width = len(f"{2 ** (len(counts) - 1) - 1:,}") if len(counts) > 1 else 1
    yield f"{'tokens':>{2 * width + 3}}  {'documents':>12}  of tokens"
    for bin_, (count, share) in enumerate(zip(counts.tolist(), shares, strict=True)):
        if count == 0 and not counts[:bin_].any():
            continue
        low, high = (2 ** (bin_ - 1), 2**bin_ - 1) if bin_ else (0, 0)
        label = f"{low:>{width},} - {high:>{width},}"
        # A bin that holds something shows something.
        bar = "#" * -(-count * BAR_CHARACTERS // int(counts.max()))
        yield f"{label}  {count:>12,}  {share:>9.1%}  {bar}"


def load_tokenizer_at(path: str, tiktoken: TiktokenOptions | None = None) -> Tokenizer:
    """Load a Hugging Face folder, a SentencePiece file or a tiktoken .json, whichever it is.

    Raises:
        UserError: it is missing or does not load.
    """
    if is_tiktoken(path):
        return load_megatron_tokenizer(TIKTOKEN, path, tiktoken)
    return load_megatron_tokenizer(SENTENCE_PIECE if Path(path).is_file() else HUGGING_FACE, path)


def is_tiktoken(path: str) -> bool:
    """Whether a path is the name of a tiktoken vocabulary."""
    return path.endswith(".json") and Path(path).is_file()


def check_vocabulary(index: Index, tokenizer: Tokenizer, path: str) -> None:
    """Check that the tokenizer knows every id.

    Args:
        index: the dataset.
        tokenizer: the tokenizer.
        path: where it comes from, for the message.

    Raises:
        UserError: it does not.
    """
    data = _data(index)
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        outside = np.flatnonzero((chunk < 0) | (chunk >= tokenizer.vocab_size))
        if len(outside):
            where = start + int(outside[0])
            raise UserError(
                f"{index.prefix}.bin: token {where:,} is {int(data[where])}, beyond the vocabulary "
                f"of {tokenizer.vocab_size:,} of --tokenizer-model {path}; name the tokenizer that "
                "made it"
            )


def samples(index: Index, count: int, tokenizer: Tokenizer | None) -> Iterator[str]:
    """Yield the beginnings of documents spread over the dataset, decoded if there is a tokenizer.

    Args:
        index: the dataset.
        count: how many documents at most.
        tokenizer: what decodes them, or None to show ids.
    """
    data = _data(index)
    lengths = document_lengths(index)
    ends = np.cumsum(lengths)
    count = min(count, index.documents)
    for document in (i * index.documents // count for i in range(count)):
        start = int(ends[document] - lengths[document])
        ids = data[start : min(start + SAMPLE_TOKENS, int(ends[document]))].tolist()
        more = " ..." if lengths[document] > SAMPLE_TOKENS else ""
        text = repr(tokenizer.decode(ids)) if tokenizer and ids else str(ids)
        yield f"document {document:,} ({lengths[document]:,} tokens): {text}{more}"


def _data(index: Index) -> np.ndarray:
    # A file of no bytes cannot be mapped.
    if index.tokens == 0:
        return np.empty(0, index.dtype)
    return np.memmap(f"{index.prefix}.bin", index.dtype, "r")

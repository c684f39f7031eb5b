# SPDX-License-Identifier: Apache-2.0
"""Tokenise text into Megatron datasets: the stages, joined."""

import contextlib
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2_common.disk.loss_mask import SUFFIX, mask_files
from e2_common.errors import UserError
from e2_tools.corpus.broken import STOP
from e2_tools.corpus.encoder import LOSS_MASK, Encoder
from e2_tools.corpus.fast import (
    AUTO,
    BY_REFERENCE,
    COMPARED,
    DIFFERED,
    GIGATOKEN,
    REFERENCE,
    Refused,
    use_fast,
)
from e2_tools.corpus.inputs import Piece, cut, find_sources, parse_shard, whole
from e2_tools.corpus.pool import ordered_map
from e2_tools.corpus.progress import Progress
from e2_tools.corpus.reader import Batch, LineRange, count_records, read_batches
from e2_tools.corpus.sentences import load_splitter
from e2_tools.corpus.spill import SpilledBatch, SpillingEncoder
from e2_tools.corpus.tiktoken import TiktokenOptions
from e2_tools.corpus.tokenizer import HUGGING_FACE, check_tokenizer_path, load_megatron_tokenizer
from e2_tools.corpus.writer import CorpusWriter, check_output, open_writer, output_prefix

SHOWN = 5  # broken records that are named


@dataclass(frozen=True)
class Options:
    """What to tokenise, how and where to; the command's flags of the same names."""

    input: Sequence[str]
    output_prefix: str
    tokenizer_type: str
    tokenizer_model: str
    json_keys: Sequence[str]
    append_eod: bool
    split_sentences: bool
    workers: int
    shard: str | None = None
    encoder: str = AUTO
    loss_mask_key: str | None = None
    on_error: str = STOP
    tiktoken: TiktokenOptions = TiktokenOptions()


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        documents: records encoded.
        broken: records left out.
        tokens: ids written, over all keys.
        empty: texts without a token, over all keys.
        blank_lines: input lines passed over.
        text_bytes: input read, after decompression.
        seconds: the time it took, loading the tokenizer left out.
        encoder: the library that encoded.
        by_reference: texts that gigatoken left to the tokenizer's own library.
        dtype: the name of the ids' type on disk.
        paths: the files.
    """

    documents: int
    broken: int
    tokens: int
    empty: int
    blank_lines: int
    text_bytes: int
    seconds: float
    encoder: str
    by_reference: int
    dtype: str
    paths: list[str]

    def __str__(self) -> str:
        seconds = max(self.seconds, 1e-9)
        speed = f"{self.text_bytes / 1e6 / seconds:.1f} MB/s"
        broken = f", left out {self.broken:,} broken records" if self.broken else ""
        speed += f", {self.tokens / 1e6 / seconds:.2f} M tokens/s ({self.encoder}"
        if self.by_reference:
            speed += f", {self.by_reference:,} of the texts {HUGGING_FACE}"
        return (
            f"Wrote {self.documents:,} documents, {self.tokens:,} tokens ({self.dtype}); skipped "
            f"{self.empty:,} empty documents and {self.blank_lines:,} blank lines{broken}; "
            f"{speed}). Files: {', '.join(self.paths)}"
        )


def preprocess(options: Options) -> Summary:
    """Write ``P_<key>_document`` (or ``_sentence``) .bin and .idx for each key.

    With ``shard`` i/N the prefix P is followed by ``_i-of-N``, with five digits each.

    Raises:
        UserError: anything the user can mend; nothing is left behind.
    """
    # The cheap checks come first: importing Megatron takes seconds.
    _check_mask(options)
    if options.workers < 1:
        raise UserError(f"--workers {options.workers}: must be at least 1")
    shard = None if options.shard is None else parse_shard(options.shard)
    sources = find_sources(options.input)
    prefix = options.output_prefix
    check_output(prefix)
    check_tokenizer_path(options.tokenizer_type, options.tokenizer_model)
    split = load_splitter() if options.split_sentences else None
    if shard is None:
        pieces = whole(sources)
    else:
        pieces = cut(sources, *shard, count_records)
        prefix += f"_{shard[0]:05}-of-{shard[1]:05}"
    tokenizer = load_megatron_tokenizer(
        options.tokenizer_type, options.tokenizer_model, options.tiktoken
    )
    keys = list(dict.fromkeys(options.json_keys))
    masked = options.loss_mask_key is not None
    encoder = Encoder(
        tokenizer, keys, options.append_eod, split, options.loss_mask_key, options.on_error
    )
    columns = [*keys, options.loss_mask_key] if masked else keys
    batches, library = read_batches(pieces, columns), options.tokenizer_type
    if options.encoder != REFERENCE and not masked:  # gigatoken knows no characters of tokens
        batches, library = _choose(encoder, batches, options)

    paths = [output_prefix(prefix, key, options.split_sentences) for key in keys]
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        writers = {
            # A mask of the dataset that stood there before would mask the new one.
            key: stack.enter_context(
                open_writer(path, encoder.dtype, () if masked and place == 0 else mask_files(path))
            )
            for place, (key, path) in enumerate(zip(keys, paths, strict=True))
        }
        everything = writers.copy()
        if masked:
            path = paths[0] + SUFFIX
            paths.append(path)
            everything[LOSS_MASK] = stack.enter_context(open_writer(path, np.uint8))
        documents, broken, blank_lines, text_bytes, counts = _write(
            encoder, batches, pieces, options.workers, everything
        )
        # Part of a corpus may well hold nothing; the whole is a mistake.
        for writer in writers.values():
            if writer.tokens == 0 and shard is None:
                raise UserError(
                    f"--input: none of the {documents} documents holds a token; "
                    f"{writer.path} would be empty"
                )
    _note_differences(counts)
    return Summary(
        documents,
        broken,
        sum(writer.tokens for writer in writers.values()),
        sum(writer.empty for writer in writers.values()),
        blank_lines,
        text_bytes,
        time.monotonic() - start,
        library,
        counts[BY_REFERENCE],
        encoder.dtype.__name__,
        [f"{path}.{suffix}" for path in paths for suffix in ("bin", "idx")],
    )


def _check_mask(options: Options) -> None:
    """Refuse what cannot go with a loss mask."""
    if options.loss_mask_key is None:
        return
    for wrong, flag in (
        (len(set(options.json_keys)) > 1, "several --json-keys"),
        (options.split_sentences, "--split-sentences"),
        (options.encoder == GIGATOKEN, f"--encoder {GIGATOKEN}"),
    ):
        if wrong:
            raise UserError(f"--loss-mask-key {options.loss_mask_key}: not with {flag}")


def _choose(
    encoder: Encoder, batches: Iterator[Batch | LineRange], options: Options
) -> tuple[Iterator[Batch | LineRange], str]:
    """Make the encoder fast if it stays exact; return the batches, unread, and its library."""
    library = options.tokenizer_type
    if library != HUGGING_FACE:
        if options.encoder == GIGATOKEN:
            raise UserError(f"--encoder {GIGATOKEN}: only with --tokenizer-type {HUGGING_FACE}")
        return batches, library
    first = list(itertools.islice(batches, 1))
    try:
        texts = (text for batch in first for text in encoder.texts(batch))
        encoder.tokenizer = use_fast(encoder.tokenizer, texts)
        library = GIGATOKEN
    except Refused as refused:
        if options.encoder == GIGATOKEN:
            raise UserError(f"--encoder {GIGATOKEN}: it {refused}; choose {REFERENCE}") from refused
        if refused.installed:
            print(f"note: encoding with {library}: gigatoken {refused}", file=sys.stderr)
    return itertools.chain(first, batches), library


def _note_differences(counts: Counter[str]) -> None:
    if counts[DIFFERED]:
        share = f"{counts[DIFFERED]:,} of {counts[COMPARED]:,}"
        print(
            f"note: gigatoken gave other ids for {share} texts "
            "compared; the reference took their like from there on, but earlier ones may be wrong; "
            f"--encoder {REFERENCE} is exact",
            file=sys.stderr,
        )


def _write(
    encoder: Encoder,
    batches: Iterator[Batch | LineRange],
    pieces: Sequence[Piece],
    workers: int,
    writers: dict[str, CorpusWriter],
) -> tuple[int, int, int, int, Counter[str]]:
    """Encode the pieces; return documents, broken, blank lines, bytes of text, other counts."""
    documents = broken = blank_lines = text_bytes = 0
    counts: Counter[str] = Counter()
    sizes = [piece.disk_bytes for piece in pieces]
    output = Path(next(iter(writers.values())).path)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(".tmp", f".{output.name}.", output.parent)
        )
        progress = Progress(None if None in sizes else sum(sizes))
        stack.callback(progress.close)
        # Closed by the stack, so that an error in the loop ends the workers before the files go.
        results = ordered_map(SpillingEncoder(encoder, Path(folder)), batches, workers)
        for batch in stack.enter_context(contextlib.closing(results)):
            _append(batch, writers)
            documents += batch.records
            for message in batch.broken[: max(0, SHOWN - broken)]:
                print(f"skipped {message}", file=sys.stderr)
            broken += len(batch.broken)
            blank_lines += batch.blank_lines
            text_bytes += batch.text_bytes
            counts += batch.counts
            tokens = sum(writer.tokens for key, writer in writers.items() if key != LOSS_MASK)
            progress.update(batch.file_bytes, documents, text_bytes, tokens)
    return documents, broken, blank_lines, text_bytes, counts


def _append(batch: SpilledBatch, writers: dict[str, CorpusWriter]) -> None:
    with open(batch.path, "rb") as stream:
        for key, text in batch.by_key.items():
            writers[key].add(stream.fileno(), text.offset, text.size, text.lengths, text.sequences)
    batch.path.unlink()

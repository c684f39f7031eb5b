# SPDX-License-Identifier: Apache-2.0
"""Tokenise JSON-lines files into Megatron datasets: the stages, joined."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from megatron_patches.errors import UserError
from tools.corpus.encoder import Encoder
from tools.corpus.pool import ordered_map
from tools.corpus.reader import check_inputs, read_batches
from tools.corpus.sentences import load_splitter
from tools.corpus.tokenizer import check_tokenizer_path, load_tokenizer
from tools.corpus.writer import check_output, open_writer, output_prefix


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


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        documents: records read.
        tokens: ids written, over all keys.
        empty: texts without a token, over all keys.
        blank_lines: input lines passed over.
        text_bytes: input read, after decompression.
        seconds: the time it took, loading the tokenizer left out.
        dtype: the name of the ids' type on disk.
        paths: the files.
    """

    documents: int
    tokens: int
    empty: int
    blank_lines: int
    text_bytes: int
    seconds: float
    dtype: str
    paths: list[str]

    def __str__(self) -> str:
        speed = self.text_bytes / 1e6 / max(self.seconds, 1e-9)
        return (
            f"Wrote {self.documents:,} documents, {self.tokens:,} tokens ({self.dtype}); skipped "
            f"{self.empty:,} empty documents and {self.blank_lines:,} blank lines; "
            f"{speed:.1f} MB/s. Files: {', '.join(self.paths)}"
        )


class _Bar(tqdm):
    """A progress bar without tqdm's thread, since the workers are forked beside it."""

    monitor_interval = 0


def preprocess(options: Options) -> Summary:
    """Write ``P_<key>_document`` (or ``_sentence``) .bin and .idx for each key.

    Raises:
        UserError: anything the user can mend; nothing is left behind.
    """
    # The cheap checks come first: importing Megatron takes seconds.
    if options.workers < 1:
        raise UserError(f"--workers {options.workers}: must be at least 1")
    total_bytes = check_inputs(options.input)
    check_output(options.output_prefix)
    check_tokenizer_path(options.tokenizer_type, options.tokenizer_model)
    split = load_splitter() if options.split_sentences else None
    tokenizer = load_tokenizer(options.tokenizer_type, options.tokenizer_model)
    keys = list(dict.fromkeys(options.json_keys))
    encoder = Encoder(tokenizer, keys, options.append_eod, split)

    paths = [output_prefix(options.output_prefix, key, options.split_sentences) for key in keys]
    documents = blank_lines = text_bytes = 0
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(open_writer(path, encoder.dtype)) for path in paths]
        # disable=None: a bar on a terminal, nothing in a log file.
        bar = stack.enter_context(
            _Bar(total=total_bytes, unit="B", unit_scale=True, leave=False, disable=None)
        )
        # Closed by the stack, so that an error in the loop ends the workers before the files go.
        results = stack.enter_context(
            contextlib.closing(ordered_map(encoder, read_batches(options.input), options.workers))
        )
        for batch in results:
            for key, writer in zip(keys, writers, strict=True):
                writer.add(batch.by_key[key])
            documents += batch.records
            blank_lines += batch.blank_lines
            text_bytes += batch.text_bytes
            bar.update(batch.file_bytes)
    return Summary(
        documents,
        sum(writer.tokens for writer in writers),
        sum(writer.empty for writer in writers),
        blank_lines,
        text_bytes,
        time.monotonic() - start,
        encoder.dtype.__name__,
        [f"{path}.{suffix}" for path in paths for suffix in ("bin", "idx")],
    )

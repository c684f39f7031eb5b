# SPDX-License-Identifier: Apache-2.0
"""Join datasets into one by copying bytes, in memory that does not grow with them."""

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2_common.disk.indexed_dataset import Index, prefix_of, read_index
from e2_common.disk.loss_mask import SUFFIX, has_loss_mask, mask_files, require_same_sequences
from e2_common.errors import UserError
from e2_common.files import writing
from e2_common.outputs import same_file
from e2_tools.corpus.writer import CorpusWriter, check_output, open_writer

# Documents whose lengths are in memory at a time.
_CHUNK = 1 << 18
_ONES = b"\x01" * (1 << 20)


@dataclass(frozen=True)
class Merged:
    """What was written.

    Attributes:
        datasets: datasets joined.
        documents: documents in them.
        tokens: ids in them.
        dtype: the name of the ids' type.
        loss_mask: whether a mask was written beside it.
    """

    datasets: int
    documents: int
    tokens: int
    dtype: str
    loss_mask: bool


def merge(paths: Sequence[str], output: str) -> Merged:
    """Write the documents of all datasets, in the order given, as ``output``.bin and .idx.

    The result is what one run of ``tools/preprocess_data.py`` over all of the text writes. If a
    loss mask lies beside one of them, the result has one, too; what has none counts whole.

    Args:
        paths: the datasets: prefixes, or names of their .bin or .idx, as a shell pattern gives both
            of one. A dataset that is named twice alike is there twice.
        output: the path to write, less .bin or .idx.

    Raises:
        UserError: a dataset is missing or damaged, they hold ids of different types, or a shard
            is missing or out of order.
    """
    prefixes = _named(paths)
    output = prefix_of(output)
    for prefix in prefixes:
        if same_file(Path(f"{output}.bin"), Path(f"{prefix}.bin")):
            raise UserError(f"--output-prefix {output}: is one of the datasets to merge ({prefix})")
    check_output(output)
    _check_shards(prefixes)
    indices = [read_index(prefix) for prefix in prefixes]
    first = indices[0]
    for index in indices[1:]:
        if index.dtype != first.dtype:
            raise UserError(
                f"{index.prefix}: holds {index.dtype.__name__}, but {first.prefix} holds "
                f"{first.dtype.__name__}; merge what one tokenizer made"
            )
    masks = [_mask_of(index) for index in indices]
    masked = any(masks)
    with contextlib.ExitStack() as stack:
        replaces = () if masked else mask_files(output)
        writer = stack.enter_context(open_writer(output, first.dtype, replaces))
        for index in indices:
            _append(index, writer)
        if masked:
            mask_writer = stack.enter_context(open_writer(output + SUFFIX, np.uint8))
            for index, mask in zip(indices, masks, strict=True):
                _append(mask, mask_writer) if mask else _append_ones(index, mask_writer)
        return Merged(len(indices), writer.documents, writer.tokens, first.dtype.__name__, masked)


def _named(paths: Sequence[str]) -> list[str]:
    """The prefix of every dataset, as often as it is named by one of its three spellings."""
    often: dict[str, Counter[str]] = {}
    for path in paths:
        often.setdefault(prefix_of(path), Counter())[path] += 1
    main = {prefix: counts.most_common(1)[0][0] for prefix, counts in often.items()}
    return [prefix_of(path) for path in paths if path == main[prefix_of(path)]]


def _mask_of(index: Index) -> Index | None:
    if not has_loss_mask(index.prefix):
        return None
    mask = read_index(index.prefix + SUFFIX)
    require_same_sequences(index.prefix, index.lengths, mask.lengths)
    return mask


def _append_ones(index: Index, writer: CorpusWriter) -> None:
    """A mask with which every token counts."""
    written = 0
    with (
        writing(f"{writer.path}.bin"),
        tempfile.TemporaryFile(dir=Path(writer.path).parent) as ones,
    ):
        for size, lengths, sequences in _pieces(index):
            while written < size:
                written += ones.write(_ONES)
            ones.flush()
            writer.add(ones.fileno(), 0, size, lengths, sequences)


def _append(index: Index, writer: CorpusWriter) -> None:
    itemsize = np.dtype(index.dtype).itemsize
    offset = 0
    try:
        stream = open(f"{index.prefix}.bin", "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{index.prefix}.bin: cannot be read ({error.strerror})") from error
    with stream:
        for tokens, lengths, sequences in _pieces(index):
            size = tokens * itemsize
            writer.add(stream.fileno(), offset, size, lengths, sequences)
            offset += size


def _pieces(index: Index) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Of some documents at a time: their tokens, lengths of sequences, sequences of documents."""
    for begin in range(0, index.documents, _CHUNK):
        starts = np.array(index.document_starts[begin : begin + _CHUNK + 1])
        lengths = np.array(index.lengths[starts[0] : starts[-1]])
        yield int(lengths.sum(dtype=np.int64)), lengths, np.diff(starts)


def _check_shards(prefixes: Sequence[str]) -> None:
    """Check that the parts of one ``--shard`` run are all there, in order."""
    matches = [re.fullmatch(r"(.*)_(\d{5})-of-(\d{5})_(.*)", prefix) for prefix in prefixes]
    if None in matches or len({(m[1], m[3], m[4]) for m in matches}) > 1:
        return
    total = int(matches[0][3])
    given = [int(match[2]) for match in matches]
    missing = sorted(set(range(total)) - set(given))
    if missing:
        names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise UserError(f"{prefixes[0]}: of its {total} shards these are not given: {names}")
    if given != sorted(given):
        raise UserError(f"{prefixes[0]}: the shards are out of order; give them from 0 on")

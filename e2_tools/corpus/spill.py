# SPDX-License-Identifier: Apache-2.0
"""Hand tokens from a worker to the parent through a file, which the kernel copies."""

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2_common.files import writing
from e2_tools.corpus.encoder import EncodedBatch
from e2_tools.corpus.reader import Batch, LineRange

# Where the kernel cannot copy between two files, or only after a real error says so.
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class SpilledText:
    """The documents of one batch under one key, its ids in the batch's file.

    Attributes:
        tokens: how many ids.
        offset: their first byte in the file.
        size: their bytes.
        lengths: tokens of each sequence, shape (sequences,), int32.
        sequences: sequences of each document, shape (documents,), int32.
    """

    tokens: int
    offset: int
    size: int
    lengths: np.ndarray
    sequences: np.ndarray


@dataclass(frozen=True)
class SpilledBatch:
    """An :class:`EncodedBatch` whose ids are in the file ``path``."""

    path: Path
    by_key: dict[str, SpilledText]
    records: int
    broken: list[str]
    blank_lines: int
    text_bytes: int
    file_bytes: int
    counts: Counter[str]


class SpillingEncoder:
    """A function from a :class:`Batch` to a :class:`SpilledBatch`: what each worker runs.

    The parent that puts the pieces together then sees no token, only the lengths, and its work
    does not grow into the bottleneck as workers are added.

    Args:
        encode: the encoder.
        folder: where the files go; whoever reads a file removes it.

    Raises:
        UserError: on a call, as the encoder, or if the disk refuses.
    """

    def __init__(self, encode: Callable[[Batch | LineRange], EncodedBatch], folder: Path):
        self.encode = encode
        self.folder = folder

    def __call__(self, batch: Batch | LineRange) -> SpilledBatch:
        """Encode the batch and write its ids, those of one key after those of another."""
        encoded = self.encode(batch)
        texts = {}
        offset = 0
        with writing(self.folder):
            handle, path = tempfile.mkstemp(dir=self.folder)
            with open(handle, "wb", buffering=0) as stream:
                for key, text in encoded.by_key.items():
                    _write_all(stream.fileno(), text.tokens.view(np.uint8).data)
                    size = text.tokens.nbytes
                    texts[key] = SpilledText(
                        len(text.tokens), offset, size, text.lengths, text.sequences
                    )
                    offset += size
        return SpilledBatch(
            Path(path),
            texts,
            encoded.records,
            encoded.broken,
            encoded.blank_lines,
            encoded.text_bytes,
            encoded.file_bytes,
            encoded.counts,
        )


def copy_bytes(source: int, offset: int, size: int, target: int) -> None:
    """Append part of an open file to another, within the kernel where it can.

    Args:
        source: the descriptor to read.
        offset: the first byte to read.
        size: bytes to copy.
        target: the descriptor to write, at its present position.

    Raises:
        OSError: either disk refuses, or the source ends early.
    """
    in_kernel = hasattr(os, "copy_file_range")
    while size:
        if in_kernel:
            try:
                count = os.copy_file_range(source, target, size, offset)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(size, _CHUNK), offset)
            count = len(data)
            _write_all(target, memoryview(data))
        if count == 0:
            if in_kernel:  # some file systems say so instead of refusing
                in_kernel = False
                continue
            raise OSError(errno.EIO, "shorter than its index says")
        offset += count
        size -= count


def _write_all(target: int, data: memoryview) -> None:
    while data:
        data = data[os.write(target, data) :]

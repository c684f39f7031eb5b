# SPDX-License-Identifier: Apache-2.0
"""Write token ids as Megatron's .bin and .idx files, whole or not at all."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from e2_common.disk.indexed_dataset import IndexWriter
from e2_common.files import atomic_file, writing
from e2_common.outputs import check_folder
from e2_tools.corpus.spill import copy_bytes


def output_prefix(prefix: str, key: str, split_sentences: bool) -> str:
    """Return the path, less .bin or .idx, of what is written for ``key``."""
    return f"{prefix}_{key}_{'sentence' if split_sentences else 'document'}"


def check_output(prefix: str) -> None:
    """Check, before any work, that files can be made beside ``prefix``.

    Raises:
        UserError: they cannot.
    """
    check_folder(Path(f"{prefix}_").absolute().parent, f"--output-prefix {prefix}")


class CorpusWriter:
    """One dataset being written; see :func:`open_writer`.

    Attributes:
        path: the final path, less .bin or .idx.
        documents: documents so far, empty ones included.
        empty: documents so far without any token. They hold no sequence, but the index counts
            them, as Megatron's does.
        tokens: ids so far.
    """

    def __init__(self, path: str, bin_path: Path, dtype: type[np.number]):
        self.path = path
        self.dtype = dtype
        self.empty = self.tokens = 0
        with writing(f"{self.path}.bin"):
            self._data = open(bin_path, "wb", buffering=0)  # noqa: SIM115  (see close)
            self._index = IndexWriter(bin_path.parent)

    @property
    def documents(self) -> int:
        """Documents so far, empty ones included."""
        return self._index.documents

    def add(
        self, source: int, offset: int, size: int, lengths: np.ndarray, sequences: np.ndarray
    ) -> None:
        """Append documents.

        Args:
            source: the descriptor of a file that holds their ids.
            offset: the first byte of the ids in it.
            size: bytes of the ids.
            lengths: tokens of each sequence, shape (sequences,), int32.
            sequences: sequences of each document, shape (documents,), integers.
        """
        with writing(f"{self.path}.bin"):
            copy_bytes(source, offset, size, self._data.fileno())
        with writing(f"{self.path}.idx"):
            self._index.add(lengths, sequences)
        self.empty += int(np.count_nonzero(sequences == 0))
        self.tokens += size // np.dtype(self.dtype).itemsize

    def finish(self, idx_path: Path) -> None:
        """Write the index.

        Raises:
            UserError: the disk refuses.
        """
        with writing(f"{self.path}.bin"):
            self._data.close()
        with writing(f"{self.path}.idx"):
            self._index.write(idx_path, self.dtype)

    def close(self) -> None:
        """Close the files; harmless after :meth:`finish`."""
        # Only reached unfinished when another error is already on its way.
        with contextlib.suppress(OSError):
            self._data.close()
        self._index.close()


@contextlib.contextmanager
def open_writer(
    path: str, dtype: type[np.number], replaces: Sequence[str] = ()
) -> Iterator[CorpusWriter]:
    """Yield a writer of ``path``.bin and ``path``.idx, which appear only if the body succeeds.

    Args:
        path: the path less its suffix.
        dtype: the integer type of the ids on disk.
        replaces: files that belong to the dataset that stood there, and go with it.

    Raises:
        UserError: the files cannot be written.
    """
    # The .idx appears last and goes first: killed in between, no .bin stands beside a stranger's.
    with atomic_file(f"{path}.idx") as idx_path, atomic_file(f"{path}.bin") as bin_path:
        writer = CorpusWriter(path, bin_path, dtype)
        try:
            yield writer
            writer.finish(idx_path)
        finally:
            writer.close()
        for stale in (f"{path}.idx", *replaces):
            Path(stale).unlink(missing_ok=True)

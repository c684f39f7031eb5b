# SPDX-License-Identifier: Apache-2.0
"""Write token ids as Megatron's .bin and .idx files, whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from megatron_patches.errors import UserError
from tools.corpus.encoder import EncodedText
from tools.corpus.quiet import quiet_imports
from tools.files import atomic_file


def output_prefix(prefix: str, key: str, split_sentences: bool) -> str:
    """Return the path, less .bin or .idx, of what is written for ``key``."""
    return f"{prefix}_{key}_{'sentence' if split_sentences else 'document'}"


def check_output(prefix: str) -> None:
    """Check, before any work, that files can be made beside ``prefix``.

    Raises:
        UserError: they cannot.
    """
    folder = Path(f"{prefix}_").absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"--output-prefix {prefix}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output-prefix {prefix}: {folder} is not writable")


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
        with quiet_imports():
            from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
        self.path = path
        self.documents = self.empty = self.tokens = 0
        with self._naming_the_file("bin"):
            self._builder = IndexedDatasetBuilder(str(bin_path), dtype=dtype)

    def add(self, text: EncodedText) -> None:
        """Append the documents of one batch."""
        start = 0
        with self._naming_the_file("bin"):
            for lengths in text.documents:
                end = start + sum(lengths)
                self._builder.add_document(text.tokens[start:end], lengths)
                start = end
        self.documents += len(text.documents)
        self.empty += sum(not lengths for lengths in text.documents)
        self.tokens += len(text.tokens)

    def finish(self, idx_path: Path) -> None:
        """Write the index.

        Raises:
            UserError: no document holds a token, or the disk refuses.
        """
        if self.tokens == 0:
            raise UserError(
                f"--input: none of the {self.documents} documents holds a token; "
                f"{self.path} would be empty"
            )
        with self._naming_the_file("idx"):
            self._builder.finalize(str(idx_path))

    def close(self) -> None:
        """Close the data file; harmless after :meth:`finish`."""
        # Only reached unfinished when another error is already on its way.
        with contextlib.suppress(OSError):
            self._builder.data_file.close()

    @contextlib.contextmanager
    def _naming_the_file(self, suffix: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path}.{suffix}: cannot be written ({error.strerror})"
            ) from error


@contextlib.contextmanager
def open_writer(path: str, dtype: type[np.number]) -> Iterator[CorpusWriter]:
    """Yield a writer of ``path``.bin and ``path``.idx, which appear only if the body succeeds.

    Args:
        path: the path less its suffix.
        dtype: the integer type of the ids on disk.

    Raises:
        UserError: the files cannot be written, or nothing was added.
    """
    with atomic_file(f"{path}.bin") as bin_path, atomic_file(f"{path}.idx") as idx_path:
        writer = CorpusWriter(path, bin_path, dtype)
        try:
            yield writer
            writer.finish(idx_path)
        finally:
            writer.close()

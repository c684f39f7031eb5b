# SPDX-License-Identifier: Apache-2.0
"""Reads a Megatron ``torch_dist`` checkpoint on the CPU: no process group, no GPU, no launcher.

The run's arguments lie in ``common.pt`` or, from Megatron-core 0.19 on, in the object
``common_state`` among the ``*.distcp`` files. Both are pickles, which may name what Megatron and
torch write, and nothing else.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.utils import _create_file_view

from e2_common.disk.checksums import check_piece
from e2_common.disk.pickles import importing_quietly
from e2_common.disk.torch_dist_index import (
    FORMAT,
    FlawError,
    check_files,
    check_object,
    read_index,
    saved_format,
)
from e2_common.errors import UserError

DAMAGED = "damaged or incomplete; use another --iteration or copy the checkpoint again"


class TorchDistReader:
    """One iteration's global tensors, read on demand.

    Args:
        folder: of the iteration, with ``metadata.json`` and ``.metadata``.

    Raises:
        UserError: it is of another format, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _no_flaw(folder):
            _require_torch_dist(folder)
            self._metadata = read_index(folder)
        self._checked: set[str] = set()
        self._kept: dict[str, tuple[ChunkStorageMetadata, Tensor]] = {}

    @property
    def tensors(self) -> dict[str, TensorStorageMetadata]:
        """Every global tensor's metadata (``size``, ``properties.dtype``) by name."""
        items = self._metadata.state_dict_metadata.items()
        return {name: info for name, info in items if isinstance(info, TensorStorageMetadata)}

    def common(self) -> dict[str, Any]:
        """Return what is not a tensor: the run's ``args``, ``iteration`` and the like."""
        path = self.folder / "common.pt"
        if path.exists():
            return self._load_piece(path, 0, path.stat().st_size, path.name, weights_only=False)
        for index in self._metadata.storage_data:
            if index.fqn.startswith("common_state/"):
                # Megatron wraps a sharded object into a list of one.
                return self._load(index, weights_only=False)[0]
        raise UserError(f"{path}: no such file, and no common_state either; checkpoint {DAMAGED}")

    def require_whole(self, names: Iterable[str]) -> None:
        """Check that every byte of these tensors is there, without reading them.

        The checks are those of a run that starts from the checkpoint.

        Raises:
            UserError: pieces are missing, or a file is missing or too short.
        """
        unchecked = set(names) - self._checked
        with _no_flaw(self.folder):
            check_files(self.folder, self._metadata, sorted(unchecked))
        self._checked |= unchecked

    def read(self, name: str, layer: int | None = None) -> Tensor:
        """Read one global tensor.

        Args:
            name: one of :attr:`tensors`.
            layer: for a tensor that stacks all layers along axis 0, the layer wanted.

        Returns:
            the whole tensor, or without its first axis if ``layer`` is given; stored dtype.

        Raises:
            UserError: a file is damaged, or pieces are missing.
        """
        self.require_whole([name])
        info = self._metadata.state_dict_metadata[name]
        start, stop = [0] * len(info.size), list(info.size)
        if layer is not None:
            start[0], stop[0] = layer, layer + 1
        shape = [high - low for low, high in zip(start, stop, strict=True)]
        for chunk in info.chunks:  # the common case: one piece is all that was asked for
            if list(chunk.offsets) == start and list(chunk.sizes) == shape:
                data = self._chunk(name, chunk, keep=False)
                return data if layer is None else data[0]
        result = torch.empty(shape, dtype=info.properties.dtype)
        for chunk in info.chunks:
            inside = _overlap(chunk, start, stop)
            if inside is None:
                continue
            data = self._chunk(name, chunk, keep=layer is not None and chunk.sizes[0] > 1)
            result[_slices(inside, start)].copy_(data[_slices(inside, chunk.offsets)])
        return result if layer is None else result[0]

    def _chunk(self, name: str, chunk: ChunkStorageMetadata, keep: bool) -> Tensor:
        # Megatron writes a piece per layer. A piece of several layers is asked for once per
        # layer, so it stays in memory rather than being read again each time.
        kept = self._kept.get(name)
        if kept is not None and kept[0] == chunk:
            return kept[1]
        index = MetadataIndex(name, chunk.offsets)
        data = self._load(index, weights_only=True)
        if not isinstance(data, Tensor) or data.numel() != math.prod(chunk.sizes):
            path = self.folder / self._metadata.storage_data[index].relative_path
            raise UserError(f"{path}: {name} is not as announced; checkpoint {DAMAGED}")
        data = data.reshape(chunk.sizes)
        if keep:
            self._kept[name] = (chunk, data)
        return data

    def _load(self, index: MetadataIndex, weights_only: bool) -> Any:
        place = self._metadata.storage_data[index]
        path = self.folder / place.relative_path
        if getattr(place, "transform_descriptors", None):
            raise UserError(f"{path}: compressed checkpoints are not supported; save it plainly")
        return self._load_piece(path, place.offset, place.length, index.fqn, weights_only)

    def _load_piece(
        self, path: Path, offset: int, length: int, what: str, weights_only: bool
    ) -> Any:
        """What torch.save wrote into a part of a file, after a look at its checksums."""
        try:
            with _no_flaw(self.folder), path.open("rb") as file:
                if not weights_only:  # a pickle: before it is looked into
                    check_piece(file, offset, length, path.name, what)
                    check_object(path, offset, length, what)
                # A view of the file, not its bytes: torch then reads right into the tensor.
                data = self._unpickle(_create_file_view(file, offset, length), path, weights_only)
                if weights_only:  # the tensor's own bytes are summed: the file is read once
                    loaded = data if isinstance(data, Tensor) else None
                    check_piece(file, offset, length, path.name, what, loaded)
                return data
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; checkpoint {DAMAGED}") from error

    @staticmethod
    def _unpickle(data: IO[bytes], path: Path, weights_only: bool) -> Any:
        try:
            with importing_quietly():
                return torch.load(data, map_location="cpu", weights_only=weights_only)
        except ImportError as error:
            raise UserError(f"{path}: needs the Python package {error.name}; install it") from error
        except Exception as error:  # whatever a broken pickle or zip archive happens to raise
            raise UserError(f"{path}: cannot be read; checkpoint {DAMAGED}") from error


@contextlib.contextmanager
def _no_flaw(folder: Path) -> Iterator[None]:
    """Turn a flaw of the checkpoint in ``folder`` into a :class:`UserError`."""
    try:
        yield
    except FlawError as error:
        path = folder / error.file
        raise UserError(f"{path}: {error.reason}; checkpoint {DAMAGED}") from error


def _require_torch_dist(folder: Path) -> None:
    found, path = saved_format(folder), folder / "metadata.json"
    if found is None:
        raise UserError(
            f"{path}: no such file, so this is no torch_dist checkpoint; "
            "save with --ckpt-format torch_dist"
        )
    if found != FORMAT:
        raise UserError(
            f"{path}: format {found!r} cannot be read; save with --ckpt-format torch_dist"
        )


def _overlap(
    chunk: ChunkStorageMetadata, start: list[int], stop: list[int]
) -> list[tuple[int, int]] | None:
    """What a piece and the region [start, stop) share: (low, high) per axis, or None."""
    shared = [
        (max(offset, low), min(offset + size, high))
        for offset, size, low, high in zip(chunk.offsets, chunk.sizes, start, stop, strict=True)
    ]
    return shared if all(low < high for low, high in shared) else None


def _slices(region: list[tuple[int, int]], origin: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(low - o, high - o) for (low, high), o in zip(region, origin, strict=True))

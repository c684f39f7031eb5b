# SPDX-License-Identifier: Apache-2.0
"""Is a ``torch_dist`` checkpoint whole? Nothing here needs Megatron or a process group.

``.metadata`` says which bytes of which file hold which piece of which tensor. A piece is what
``torch.save`` wrote: a zip archive, with a CRC-32 of every record in it. torch writes these sums
and does not look at them when it reads (2.11), so that a flipped bit becomes a weight.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

TRACKER = "latest_checkpointed_iteration.txt"
RELEASE = "release"  # what the tracker holds for a converted checkpoint


class FlawError(Exception):
    """What is wrong with a checkpoint: a file's name and a phrase."""


def tracked(load: Path) -> int | str | None:
    """What the tracker file names: an iteration, ``release``, or None if it is not readable."""
    try:
        text = (load / TRACKER).read_text(errors="replace").strip()
    except OSError:
        return None
    if text == RELEASE:
        return text
    return int(text) if text.isascii() and text.isdigit() else None


def track(load: Path, iteration: int) -> None:
    """Let the tracker file name an iteration; any number of processes may do it at once."""
    temporary = load / f".{TRACKER}.{os.uname().nodename}.{os.getpid()}.tmp"
    temporary.write_text(str(iteration))
    os.replace(temporary, load / TRACKER)


def folder_of(load: Path, checkpoint: int | str) -> Path:
    """Where Megatron keeps an iteration, or the release."""
    return load / (checkpoint if isinstance(checkpoint, str) else f"iter_{checkpoint:07d}")


def iterations(load: Path) -> list[int]:
    """All iterations with a folder, whole or not, the newest first."""
    names = [path.name.removeprefix("iter_") for path in load.glob("iter_*") if path.is_dir()]
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def newest_whole(load: Path, below: int | None = None) -> int | None:
    """The newest iteration without a flaw, among those before ``below`` if it is given."""
    found = (i for i in iterations(load) if below is None or i < below)
    return next((i for i in found if flaw(folder_of(load, i)) is None), None)


def flaw(folder: Path) -> str | None:
    """Look for what can be wrong with a checkpoint without reading its tensors.

    Finds files that are missing or too short, and pieces that do not make up their tensor.

    Args:
        folder: of one iteration.

    Returns:
        The first flaw, or None. A checkpoint of another format than torch_dist is not looked into.
    """
    if not folder.is_dir():
        return "no such folder"
    try:
        if _is_torch_dist(folder):
            _check_files(folder, _read_metadata(folder))
    except FlawError as error:
        return str(error)
    return None


def wrong_sum(folder: Path, share: int, shares: int) -> str | None:
    """Compare the CRC-32 of every record in a share of the pieces with the one stored beside it.

    Args:
        folder: of one iteration, without a :func:`flaw`.
        share: from 0 on; the pieces are dealt out by size.
        shares: how many there are.

    Returns:
        The first flaw, or None.
    """
    try:
        if not _is_torch_dist(folder):
            return None
        pieces = _read_metadata(folder).storage_data.items()
        # The largest first, so that all shares get about the same number of bytes.
        ordered = sorted(pieces, key=lambda item: (-item[1].length, *_place(item[1])))
        mine = sorted(ordered[share::shares], key=lambda item: _place(item[1]))
        for index, place in mine:
            _check_sum(folder, index, place)
    except FlawError as error:
        return str(error)
    return None


def empty(folder: str | Path) -> None:
    """Remove the files of a checkpoint, those that make it one first."""
    for pattern in ("metadata.json", ".metadata", "integrity.json", "common.pt", "*.distcp"):
        for path in Path(folder).glob(pattern):
            path.unlink(missing_ok=True)


def size(folder: Path) -> int:
    """Bytes of a checkpoint's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _place(storage: object) -> tuple[str, int]:
    return storage.relative_path, storage.offset


def _is_torch_dist(folder: Path) -> bool:
    path = folder / "metadata.json"
    if not path.is_file():
        # Only formats of another kind do without it; they bring files of their own.
        if any(folder.glob("mp_rank_*")):
            return False
        raise FlawError("metadata.json is missing")
    try:
        return json.loads(path.read_text())["sharded_backend"] == "torch_dist"
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FlawError("metadata.json cannot be read") from error


def _read_metadata(folder: Path) -> Metadata:
    try:
        metadata = FileSystemReader(folder).read_metadata()
    except FileNotFoundError as error:
        raise FlawError(".metadata is missing") from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise FlawError(".metadata cannot be read") from error
    if not isinstance(metadata, Metadata) or not metadata.storage_data:
        raise FlawError(".metadata cannot be read")
    return metadata


def _check_files(folder: Path, metadata: Metadata) -> None:
    try:
        for index in _indices(metadata):
            if index not in metadata.storage_data:
                raise FlawError(f".metadata is damaged: no place for {index.fqn}")
        ends: dict[str, int] = {}
        for place in metadata.storage_data.values():
            name = place.relative_path
            ends[name] = max(ends.get(name, 0), place.offset + place.length)
        for name, end in sorted(ends.items()):
            path = folder / name
            if not path.is_file():
                raise FlawError(f"{name} is missing")
            there = path.stat().st_size
            if there < end:
                raise FlawError(f"{name} is too short: {there:,} of {end:,} bytes")
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise FlawError(".metadata is damaged") from error


def _indices(metadata: Metadata) -> Iterator[MetadataIndex]:
    """The key of every piece; checks that the pieces of a tensor make up the whole of it."""
    for name, info in metadata.state_dict_metadata.items():
        if not isinstance(info, TensorStorageMetadata):
            yield MetadataIndex(name)
            continue
        if not _covers(info.chunks, info.size):
            raise FlawError(f".metadata is damaged: {name} is not made up by its pieces")
        for chunk in info.chunks:
            yield MetadataIndex(name, chunk.offsets)


def _covers(chunks: list[ChunkStorageMetadata], shape: Sequence[int]) -> bool:
    """Whether boxes cover every element of a tensor, and none twice."""
    # Between two neighbouring edges of any box all elements are alike: one cell stands for them.
    edges = [
        sorted({0, extent, *(c.offsets[axis] for c in chunks)}) for axis, extent in enumerate(shape)
    ]
    cells = [{edge: cell for cell, edge in enumerate(axis)} for axis in edges]
    count = np.zeros([len(axis) - 1 for axis in edges], dtype=np.int32)
    for chunk in chunks:
        box = []
        for cell, low, extent in zip(cells, chunk.offsets, chunk.sizes, strict=True):
            if low + extent not in cell:  # ends where no box begins, nor the tensor ends
                return False
            box.append(slice(cell[low], cell[low + extent]))
        count[tuple(box)] += 1
    return bool((count == 1).all())


def _check_sum(folder: Path, index: MetadataIndex, place: object) -> None:
    name = place.relative_path
    try:
        with (folder / name).open("rb") as file:
            piece = io.BufferedReader(_Window(file, place.offset, place.length))
            with zipfile.ZipFile(piece) as archive:
                wrong = archive.testzip()
    except OSError as error:
        raise FlawError(f"{name} cannot be read ({error.strerror})") from error
    except Exception as error:  # what zipfile raises for a broken archive varies
        raise FlawError(f"{name} is damaged, in {index.fqn}") from error
    if wrong is not None:
        raise FlawError(f"{name} is damaged, in {index.fqn}: its checksum is another one")


class _Window(io.RawIOBase):
    """A part of a file, read as if it were a file (torch's own view cannot seek from its end)."""

    def __init__(self, file: io.BufferedReader, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be moved in."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to ``offset`` from the start, from here, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError("before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        """Read as many bytes as fit and are left."""
        wanted = max(0, min(len(buffer), self._length - self._at))
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._at += count
        return count

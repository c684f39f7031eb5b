# SPDX-License-Identifier: Apache-2.0
"""What a ``torch_dist`` checkpoint says of itself, and whether its files hold it.

``metadata.json`` names the format, ``.metadata`` says which bytes of which ``*.distcp`` file hold
which piece of which global tensor. Nothing here reads a tensor, or needs Megatron or a process
group. ``.metadata`` and objects are pickles: what they name is looked at before they are loaded.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

from e2_common.disk.checkpoint_folder import folder_of, iterations
from e2_common.disk.pickles import ForeignNameError, check_names, check_names_of_archive

FORMAT = "torch_dist"


class FlawError(Exception):
    """What is wrong with a checkpoint.

    As a string it is the file's name and the phrase.

    Args:
        file: name of the file that shows it.
        phrase: goes on from the file's name, such as "is missing".
        reason: says it after a colon, such as "no such file"; default: the phrase.
    """

    def __init__(self, file: str, phrase: str, reason: str | None = None) -> None:
        super().__init__(f"{file} {phrase}")
        self.file, self.reason = file, reason or phrase


def saved_format(folder: Path) -> str | None:
    """The format that metadata.json names; None without this file.

    Raises:
        FlawError: it cannot be read.
    """
    path = folder / "metadata.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())["sharded_backend"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise FlawError(path.name, "cannot be read") from error


def read_index(folder: Path) -> Metadata:
    """Read .metadata.

    Raises:
        FlawError: it is missing, or cannot be read.
    """
    name, unreadable = ".metadata", "cannot be read"
    try:
        check_names((folder / name).read_bytes())
        index = FileSystemReader(folder).read_metadata()
    except FileNotFoundError as error:
        raise FlawError(name, "is missing", "no such file") from error
    except ForeignNameError as error:
        raise _foreign(name, error) from error
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError) as error:
        raise FlawError(name, unreadable) from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise FlawError(name, unreadable, f"{unreadable} ({error})") from error
    if not isinstance(index, Metadata) or not index.storage_data:
        raise FlawError(name, unreadable)
    return index


def check_files(folder: Path, index: Metadata, names: Iterable[str] | None = None) -> None:
    """Check that pieces make up what they belong to, and that every byte of them is there.

    Args:
        folder: of one iteration.
        index: of it, from :func:`read_index`.
        names: of the tensors and objects that are wanted; by default all.

    Raises:
        FlawError: pieces do not make up their tensor, or a file is missing or too short.
    """
    try:
        ends: dict[str, int] = {}
        for key in _pieces(index, index.state_dict_metadata if names is None else names):
            place = index.storage_data.get(key)
            if place is None:
                raise _damaged(f"no place for {key.fqn}", f"{key.fqn} has no place")
            name = place.relative_path
            ends[name] = max(ends.get(name, 0), place.offset + place.length)
        for name, end in sorted(ends.items()):
            path = folder / name
            if not path.is_file():
                raise FlawError(name, "is missing", "no such file")
            there = path.stat().st_size
            if there < end:
                phrase = f"is too short: {there:,} of {end:,} bytes"
                raise FlawError(name, phrase, "too short")
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise FlawError(".metadata", "is damaged", "cannot be read") from error


def check_objects(folder: Path, index: Metadata) -> None:
    """Look at what the pickles of a checkpoint name, without loading them.

    Tensors are read by torch in a way that calls nothing.

    Args:
        folder: of one iteration, whose files :func:`check_files` has found whole.
        index: of it, from :func:`read_index`.

    Raises:
        FlawError: a pickle names what no checkpoint needs, or cannot be read.
    """
    if (folder / "common.pt").is_file():
        check_object(folder / "common.pt", 0, (folder / "common.pt").stat().st_size, "")
    for key, place in index.storage_data.items():
        if isinstance(index.state_dict_metadata.get(key.fqn), BytesStorageMetadata):
            check_object(folder / place.relative_path, place.offset, place.length, key.fqn)


def check_object(path: Path, offset: int, length: int, what: str) -> None:
    """See :func:`check_objects`, for one that ``torch.save`` wrote into a part of a file.

    Raises:
        FlawError: see there.
    """
    inside = f", in {what}" if what else ""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        if data:  # Megatron writes empty ones for what a layer does not have
            check_names_of_archive(data)
    except ForeignNameError as error:
        raise _foreign(path.name, error) from error
    except Exception as error:  # what zipfile and pickle raise for damage varies
        raise FlawError(path.name, f"is damaged{inside}") from error


def _foreign(name: str, error: ForeignNameError) -> FlawError:
    return FlawError(
        name,
        f"would call {error}, which no checkpoint of Megatron's needs; do not load what you do not "
        "trust",
    )


def flaw(folder: Path) -> str | None:
    """Look for what can be wrong with a checkpoint without reading its tensors.

    Finds files that are missing or too short, and pieces that do not make up their tensor.

    Args:
        folder: of one iteration.

    Returns:
        The first flaw, or None. A checkpoint of one file a rank is not looked into.
    """
    if not folder.is_dir():
        return "no such folder"
    try:
        if is_torch_dist(folder):
            index = read_index(folder)
            check_files(folder, index)
            check_objects(folder, index)
    except FlawError as error:
        return str(error)
    return None


def newest_whole(save_folder: Path, below: int | None = None) -> int | None:
    """The newest iteration without a flaw, among those before ``below`` if it is given."""
    found = (i for i in iterations(save_folder) if below is None or i < below)
    return next((i for i in found if flaw(folder_of(save_folder, i)) is None), None)


def is_torch_dist(folder: Path) -> bool:
    """Whether a checkpoint is of this format, not of one without metadata.json.

    Raises:
        FlawError: that cannot be told, as metadata.json is missing or cannot be read; or it names
            a format that Megatron 0.19.2 does not read any more, such as zarr.
    """
    found = saved_format(folder)
    # Only formats of another kind do without metadata.json; they bring files of their own.
    if found is None and not any(folder.glob("mp_rank_*")):
        raise FlawError("metadata.json", "is missing", "no such file")
    if found not in (None, FORMAT):
        raise FlawError("metadata.json", f"names the format {str(found)[:40]!r}, not {FORMAT}")
    return found == FORMAT


def _pieces(index: Metadata, names: Iterable[str]) -> Iterator[MetadataIndex]:
    """The key of every piece; checks that the pieces of a tensor make up the whole of it."""
    for name in names:
        info = index.state_dict_metadata.get(name)
        if info is None:
            raise _damaged(f"it has no {name}", f"has no {name}")
        if not isinstance(info, TensorStorageMetadata):
            yield MetadataIndex(name)
            continue
        if not _covers(info.chunks, info.size):
            reason = f"pieces of {name} are missing"
            raise _damaged(f"{name} is not made up by its pieces", reason)
        for chunk in info.chunks:
            yield MetadataIndex(name, chunk.offsets)


def _damaged(phrase: str, reason: str) -> FlawError:
    return FlawError(".metadata", f"is damaged: {phrase}", reason)


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

# SPDX-License-Identifier: Apache-2.0
"""Damage to a checkpoint's files: nothing of it is loaded as if it were right."""

import io
import json
import os
import random
import shutil
import zlib

import pytest
import torch
from torch.distributed.checkpoint import (
    CheckpointException,
    FileSystemReader,
    FileSystemWriter,
    SavePlan,
    SavePlanner,
    load,
    save,
)
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from e2_common.disk.checkpoint_folder import (
    TRACKER,
    empty,
    find_iteration,
    folder_of,
    has_tracker,
    iterations,
    track,
    tracked,
)
from e2_common.disk.checksums import wrong_sum
from e2_common.disk.torch_dist_index import flaw, newest_whole
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError


class Quarters(SavePlanner):
    """Writes each tensor in four pieces and one object, as ranks of a larger world would."""

    def __init__(self, tensors):
        self.tensors = tensors

    def set_up_planner(self, state_dict, storage_meta=None, is_coordinator=False):
        pass

    def create_local_plan(self):
        items = [WriteItem(MetadataIndex("common"), WriteItemType.BYTE_IO)]
        for name, tensor in self.tensors.items():
            rows, columns = (size // 2 for size in tensor.shape)
            for offsets in ((0, 0), (0, columns), (rows, 0), (rows, columns)):
                chunk = ChunkStorageMetadata(torch.Size(offsets), torch.Size((rows, columns)))
                data = TensorWriteData(chunk, TensorProperties(tensor.dtype), tensor.shape)
                index = MetadataIndex(name, chunk.offsets)
                items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
        return SavePlan(items)

    def create_global_plan(self, all_plans):
        return create_default_global_save_plan(all_plans)

    def finish_plan(self, new_plan):
        return new_plan

    def resolve_data(self, write_item):
        if write_item.type == WriteItemType.BYTE_IO:
            buffer = io.BytesIO()
            torch.save(["an object"], buffer)
            return buffer
        tensor, (row, column) = self.tensors[write_item.index.fqn], write_item.index.offset
        rows, columns = write_item.tensor_data.chunk.sizes
        return tensor[row : row + rows, column : column + columns].clone()


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(0)
    names = ("weight", "optimizer.exp_avg", "optimizer.exp_avg_sq")
    return {name: torch.randn(16, 12, generator=generator) for name in names}


@pytest.fixture(scope="module")
def good(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "iter_0000004"
    writer = FileSystemWriter(folder, thread_count=2)
    save({}, storage_writer=writer, planner=Quarters(tensors), no_dist=True)
    (folder / "metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist"}))
    return folder


@pytest.fixture
def copied(good, tmp_path):
    shutil.copytree(good, tmp_path / good.name)
    return tmp_path / good.name


def first_wrong_sum(folder, shares=3):
    return next(filter(None, (wrong_sum(folder, share, shares) for share in range(shares))), None)


def read(folder, tensors):
    """The tensors as torch's own loader gives them; what it does not fill stays NaN."""
    found = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}
    load(found, storage_reader=FileSystemReader(folder), no_dist=True)
    return found


def read_as_the_exporter(folder, tensors):
    """The tensors and the object as the converters read them, one by one."""
    reader = TorchDistReader(folder)
    return {name: reader.read(name) for name in tensors}


def flip(path, at, bit):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_a_whole_checkpoint_has_no_flaw(good, tensors):
    assert flaw(good) is None
    assert first_wrong_sum(good) is None
    assert all(torch.equal(read(good, tensors)[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "metadata.json").unlink(), "metadata.json is missing"),
        (lambda f: (f / "metadata.json").write_text(""), "metadata.json cannot be read"),
        (lambda f: (f / ".metadata").unlink(), ".metadata is missing"),
        (lambda f: os.truncate(f / ".metadata", 500), ".metadata cannot be read"),
        (lambda f: (f / ".metadata").write_bytes(b""), ".metadata cannot be read"),
        (lambda f: (f / "__0_1.distcp").unlink(), "__0_1.distcp is missing"),
        (lambda f: os.truncate(f / "__0_1.distcp", 99), "__0_1.distcp is too short: 99 of"),
        (shutil.rmtree, "no such folder"),
        (empty, "metadata.json is missing"),
    ],
)
def test_what_is_missing_is_named(copied, damage, words):
    damage(copied)
    assert words in flaw(copied)


def test_a_flipped_bit_of_a_tensor_is_found_by_one_share(copied, tensors):
    """torch loads it without a word; that is why sums are compared."""
    place = FileSystemReader(copied).read_metadata().storage_data
    piece = place[MetadataIndex("weight", torch.Size((8, 6)))]
    data = tensors["weight"][8:, 6:].contiguous().numpy().tobytes()
    path = copied / piece.relative_path
    at = path.read_bytes().index(data) + 40
    flip(path, at, 6)
    assert not torch.equal(read(copied, tensors)["weight"], tensors["weight"])
    assert flaw(copied) is None
    found = [wrong_sum(copied, share, 4) for share in range(4)]
    (reason,) = filter(None, found)
    assert path.name in reason
    assert "weight" in reason


def test_no_flipped_bit_is_loaded(good, tensors, tmp_path):
    """Anywhere in any file: refused here, refused by torch, or without effect."""
    random_numbers = random.Random(5)
    names = sorted(path.name for path in good.iterdir() if path.name != "metadata.json")
    outcomes = []
    exporters = []
    for number in range(250):
        copy = tmp_path / str(number)
        shutil.copytree(good, copy)
        path = copy / random_numbers.choice(names)
        flip(path, random_numbers.randrange(path.stat().st_size), random_numbers.randrange(8))
        if flaw(copy) or first_wrong_sum(copy):
            outcomes.append("found")
        else:
            try:
                found = read(copy, tensors)
            except (Exception, CheckpointException):
                outcomes.append("refused by torch")
            else:
                assert all(torch.equal(found[name], tensors[name]) for name in tensors), path
                outcomes.append("without effect")
        try:
            exported = read_as_the_exporter(copy, tensors)
        except UserError:
            exporters.append("refused")
        else:
            exporters.append("without effect")
            assert all(torch.equal(exported[name], tensors[name]) for name in tensors), path
        shutil.rmtree(copy)
    assert outcomes.count("found") > 120  # the rest hits what fills up a zip archive
    assert exporters.count("refused") > 110


def test_sums_are_the_same_without_the_fast_library(good, monkeypatch):
    monkeypatch.setattr("e2_common.disk.checksums.crc32", zlib.crc32)
    assert first_wrong_sum(good) is None


def test_the_newest_whole_iteration(good, tmp_path):
    assert (tracked(tmp_path), newest_whole(tmp_path)) == (None, None)
    for iteration in (2, 4, 6, 8):
        shutil.copytree(good, folder_of(tmp_path, iteration))
    (folder_of(tmp_path, 8) / ".metadata").unlink()
    (tmp_path / "iter_elsewhere").mkdir()
    assert iterations(tmp_path) == [8, 6, 4, 2]
    assert newest_whole(tmp_path) == 6
    assert newest_whole(tmp_path, below=6) == 4
    assert newest_whole(tmp_path, below=2) is None


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        *(
            ("12\n", 12),
            ("release", "release"),
            ("", None),
            ("1x", None),
            ("²", None),
            ("-1", None),
        ),
        *(("1" * 300, None), ("1" * 5000, None), ("1 2", None), ("0x10", None), ("\x00", None)),
    ],
    ids=lambda value: str(value)[:12] or "empty",
)
def test_the_tracker(tmp_path, text, meaning):
    (tmp_path / TRACKER).write_text(text)
    assert tracked(tmp_path) == meaning
    track(tmp_path, 7)
    assert tracked(tmp_path) == 7
    assert [path.name for path in tmp_path.iterdir()] == [TRACKER]


def test_a_folder_in_the_trackers_place(tmp_path):
    (tmp_path / TRACKER).mkdir()
    for asks in (has_tracker, find_iteration):
        with pytest.raises(UserError, match=f"{TRACKER}: is a folder"):
            asks(tmp_path)
    (tmp_path / "iter_²").mkdir()
    assert iterations(tmp_path) == []
    with pytest.raises(UserError, match="--iteration 1111"):
        find_iteration(tmp_path, int("1" * 300))


@pytest.mark.parametrize("named", ["zarr", "fsdp_dtensor", 5, ["torch_dist"]])
def test_another_format_is_not_whole(copied, named):
    (copied / "metadata.json").write_text(json.dumps({"sharded_backend": named}))
    assert flaw(copied).startswith(f"metadata.json names the format {str(named)!r}")

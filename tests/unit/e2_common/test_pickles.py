# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's pickles call nothing but what Megatron and torch write."""

import argparse
import collections
import io
import json
import os
import pickle
import random
import shutil
import signal
import zipfile

import numpy as np
import pytest
import torch
from megatron.core.transformer.enums import AttnBackend
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, save
from torch.distributed.checkpoint.metadata import MetadataIndex

from e2_common.disk.pickles import ForeignNameError, check_names, check_names_of_archive
from e2_common.disk.torch_dist_index import flaw
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError


class Calls:
    """Loads as a call of a function."""

    def __init__(self, function, *arguments):
        self.of = function, arguments

    def __reduce__(self):
        return self.of


def hostile(path):
    return Calls(os.mkdir, str(path))


def torch_saved(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


GOOD = {
    "args": argparse.Namespace(
        a=1, backend=AttnBackend.auto, dtype=torch.bfloat16, at=signal.SIGTERM
    ),
    "state": collections.OrderedDict(x=torch.arange(3), y=np.arange(3.0), z=np.float32(1)),
    "rng": [random.getstate(), np.random.RandomState(1).get_state(), torch.get_rng_state()],
    "plain": [None, 1, 2.0, "s", b"b", {3}, frozenset([4]), (5,), torch.Size([6])],
}


def test_what_a_checkpoint_holds_is_allowed():
    check_names_of_archive(torch_saved(GOOD))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        check_names(pickle.dumps(GOOD["args"], protocol))


@pytest.mark.parametrize(
    "thing",
    [
        Calls(os.system, "true"),
        Calls(eval, "1"),
        Calls(getattr, [], "append"),
        Calls(torch.load, "x"),
        Calls(torch.hub.load, "x"),
        Calls(np.load, "x"),
        Calls(shutil.rmtree, "x"),
        Calls(pickle.loads, b""),
        Calls(argparse.ArgumentParser),
        {"args": [argparse.Namespace(deep=(Calls(os.getcwd),))]},
    ],
)
def test_anything_else_is_named_and_not_called(thing):
    for protocol in (2, 4):
        with pytest.raises(ForeignNameError, match=r"\w+\.\w+"):
            check_names(pickle.dumps(thing, protocol))


def test_names_that_are_put_together_while_loading():
    # The name of the function is a result of calls that are allowed.
    name = b"c_codecs\nencode\n(Vsystem\nVlatin1\ntR"
    with pytest.raises(pickle.UnpicklingError):
        check_names(b"\x80\x04\x8c\x02os" + name + b"\x93.")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "iter_0000004"
    state = {"weight": torch.ones(4, 3), "common_state/shard_0_1": torch_saved([{"args": 1}])}
    state["common_state/shard_0_1"] = io.BytesIO(state["common_state/shard_0_1"])
    save(state, storage_writer=FileSystemWriter(folder), no_dist=True)
    (folder / "metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist"}))
    return folder


def object_piece(folder):
    index = FileSystemReader(folder).read_metadata()
    return index, index.storage_data[MetadataIndex("common_state/shard_0_1")]


def hostile_index(folder, made):
    (folder / ".metadata").write_bytes(pickle.dumps(hostile(made)))


def hostile_common(folder, made):
    (folder / "common.pt").write_bytes(torch_saved({"args": hostile(made)}))


def hostile_object(folder, made):
    index, place = object_piece(folder)
    path = folder / place.relative_path
    data = torch_saved([hostile(made)])
    at = path.stat().st_size
    path.write_bytes(path.read_bytes() + data)
    place.offset, place.length = at, len(data)
    (folder / ".metadata").write_bytes(pickle.dumps(index))


@pytest.mark.parametrize("attack", [hostile_index, hostile_common, hostile_object])
def test_a_hostile_checkpoint_is_refused_before_it_is_loaded(checkpoint, tmp_path, attack):
    assert flaw(checkpoint) is None
    assert torch.equal(TorchDistReader(checkpoint).read("weight"), torch.ones(4, 3))
    made = tmp_path / "made"
    attack(checkpoint, made)
    assert "posix.mkdir" in flaw(checkpoint)
    with pytest.raises(UserError, match="posix.mkdir"):
        TorchDistReader(checkpoint).common()
    assert not made.exists()
    if attack is hostile_index:  # it would have been: this is what loading does
        pickle.loads((checkpoint / ".metadata").read_bytes())
        assert made.exists()


def test_a_damaged_archive_is_no_traceback(checkpoint):
    with zipfile.ZipFile(checkpoint / "common.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x04no pickle")
    assert "common.pt is damaged" in flaw(checkpoint)

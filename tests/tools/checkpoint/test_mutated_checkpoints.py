# SPDX-License-Identifier: Apache-2.0
"""A damaged checkpoint is refused in one line, or what was damaged made no difference."""

import json
import random
import shutil

import pytest

from e2_common.errors import UserError
from e2_tools.checkpoint.export import ExportOptions, export
from tests.helpers.families import make_model
from tests.tools.checkpoint.conversions import assert_same_bytes, convert, tensors

FAST, SLOW = range(60), range(60, 1000)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a model, its checkpoint, and what the export of that gives."""
    folder = tmp_path_factory.mktemp("good")
    make_model("qwen2").save_pretrained(folder / "hf")
    convert(folder / "hf", folder / "megatron")
    export(ExportOptions(folder / "megatron", folder / "back", hf_model=folder / "hf"))
    return folder, tensors(folder / "back")


def flip(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def fill(data, draw):
    at, length = draw.randrange(len(data)), draw.choice([1, 7, 64, 4096])
    filler = bytes(length) if draw.random() < 0.5 else draw.randbytes(length)
    return data[:at] + filler[: len(data) - at] + data[at + length :]


def cut(data, draw):
    return data[: draw.randrange(len(data))]


def lengthen(data, draw):
    return data + draw.randbytes(draw.choice([1, 100]))


def shift(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.choice([1, 8]) :]


def empty(data, draw):
    return b""


def change_text(data, draw):
    """Another value in a JSON file; another number in a tracker."""
    try:
        content = json.loads(data)
    except ValueError:
        return draw.choice([b"", b"0", b"-1", b"release\n", b"\xff", "²".encode(), b"9" * 300])
    if not isinstance(content, dict):
        return b"[1]"
    name = draw.choice(list(content))
    content[name] = draw.choice([None, 0, "x", [], {"a": 1}, 10**400])
    return json.dumps(content).encode()


DAMAGE = [flip, flip, flip, fill, fill, cut, lengthen, shift, empty, change_text]


def damaged(folder, draw):
    """Damage one file of a checkpoint, weights more often than others; say which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = max(files, key=lambda p: p.stat().st_size) if draw.random() < 0.6 else draw.choice(files)
    if draw.random() < 0.05:
        path.unlink()
        return f"{path.name} removed"
    damage = draw.choice(DAMAGE)
    path.write_bytes(damage(path.read_bytes(), draw))
    return f"{path.name}: {damage.__name__}"


def check(good, tmp_path, seeds):
    source, expected = good
    for seed in seeds:
        copied, save = tmp_path / "copied", tmp_path / "save"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.rmtree(save, ignore_errors=True)
        shutil.copytree(source / "megatron", copied)
        done = damaged(copied, random.Random(seed))
        refusal = exported(copied, save, source / "hf")
        if refusal is not None:
            assert isinstance(refusal, UserError), (seed, done, refusal)
            assert "\n" not in str(refusal), (seed, done)
            assert len(str(refusal)) < 2000, (seed, done)
            assert not save.exists(), (seed, done)
            continue
        try:
            assert_same_bytes(expected, tensors(save))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {done}: another weight") from error


def exported(load, save, base):
    """Export a checkpoint; what it raised, if anything."""
    try:
        export(ExportOptions(load, save, hf_model=base))
    except Exception as error:
        return error


def test_damage_is_refused_or_without_effect(good, tmp_path):
    check(good, tmp_path, FAST)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_times(good, tmp_path):
    check(good, tmp_path, SLOW)

# SPDX-License-Identifier: Apache-2.0
"""Runs and checkpoints that convert_megatron_to_hf.py refuses: places, damage, other models."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from tests.helpers.commands import refused
from tests.tools.checkpoint.megatron_save import QUIET, convert, fuse, save_megatron, tiny_llama

pytestmark = QUIET


def refuse(capsys, load: Path, save: Path, *flags: object) -> str:
    """The refusal; there may be warnings before it."""
    given = [load, save, *flags]
    return refused(capsys, (), convert, *given, untouched=save.parent, alone=False)


@pytest.fixture(scope="module")
def good_run(tmp_path_factory) -> Path:
    return save_megatron(tmp_path_factory.mktemp("good") / "run", tiny_llama())


@pytest.fixture
def run_copy(good_run, tmp_path) -> Path:
    return Path(shutil.copytree(good_run, tmp_path / "run"))


def test_bad_places(run_copy, tmp_path, capsys):
    def error(load: Path, *flags: object) -> str:
        return refuse(capsys, load, tmp_path / "hf", *flags)

    assert "no such folder" in error(tmp_path / "absent")
    assert "iter_0000005" in error(run_copy, "--iteration", 5)
    assert "iter_0000100" in error(run_copy, "--iteration", 5)
    assert "--iteration" in error(run_copy / "iter_0000100", "--iteration", 5)
    assert "--tokenizer" in error(run_copy, "--tokenizer", tmp_path / "absent")
    assert "absent/config.json" in error(run_copy, "--hf-model", tmp_path / "absent")
    assert "--max-shard-size" in error(run_copy, "--max-shard-size", "much")
    assert "--window 0" in error(run_copy, "--window", 0)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/precious").touch()
    assert "already exists" in error(run_copy)
    (run_copy / "latest_checkpointed_iteration.txt").unlink()
    assert "latest_checkpointed_iteration.txt" in error(run_copy)


def test_another_format(run_copy, tmp_path, capsys):
    path = run_copy / "iter_0000100/metadata.json"
    path.write_text('{"sharded_backend": "zarr"}')
    assert "zarr" in refuse(capsys, run_copy, tmp_path / "hf")
    path.unlink()
    assert "--ckpt-format torch_dist" in refuse(capsys, run_copy, tmp_path / "hf")


@pytest.mark.parametrize("file", [".metadata", "metadata.json", "common.pt", "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "garble", "remove"])
def test_damaged_files(run_copy, tmp_path, capsys, file, damage):
    path = run_copy / "iter_0000100" / file
    data = path.read_bytes()
    broken = {"truncate": data[: len(data) // 4], "empty": b"", "garble": b"\x93" * len(data)}
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    assert file in refuse(capsys, run_copy, tmp_path / "hf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("normalization", "LayerNorm"),
        ("swiglu", False),
        ("add_bias_linear", True),
        ("position_embedding_type", "learned_absolute"),
        ("num_experts", 8),
        ("rotary_percent", 0.5),
        ("multi_latent_attention", True),
    ],
)
def test_of_no_family(run_copy, tmp_path, capsys, name, value):
    path = run_copy / "iter_0000100/common.pt"
    common = torch.load(path, weights_only=False)
    setattr(common["args"], name, value)
    torch.save(common, path)
    error = refuse(capsys, run_copy, tmp_path / "hf")
    assert f"{name}={value!r}" in error


def test_every_wrong_tensor_is_named(run_copy, tmp_path, capsys):
    iteration = run_copy / "iter_0000100"
    tensors = fuse(tiny_llama(), stacked=False, local_names=False)
    for name in ("decoder.layers.1.mlp.linear_fc2.weight", "decoder.final_layernorm.weight"):
        del tensors[name]
    tensors["decoder.layers.0.mlp.router.weight"] = torch.zeros(2)
    tensors["decoder.layers.2.self_attention.linear_proj.weight"] = torch.zeros(3, 3)
    dcp.save(tensors, checkpoint_id=iteration, no_dist=True)
    error = refuse(capsys, run_copy, tmp_path / "hf")
    assert "missing decoder.layers.1.mlp.linear_fc2.weight" in error
    assert "missing decoder.final_layernorm.weight" in error
    assert "unknown decoder.layers.0.mlp.router.weight" in error
    assert "decoder.layers.2.self_attention.linear_proj.weight has shape (3, 3)" in error
    assert error.count("decoder.") == 4


def test_fp16_overflow_is_refused(run_copy, tmp_path, capsys):
    tensors = fuse(tiny_llama(), stacked=True, local_names=False)
    tensors["decoder.final_layernorm.weight"] += 1e6
    dcp.save(tensors, checkpoint_id=run_copy / "iter_0000100", no_dist=True)
    error = refuse(capsys, run_copy, tmp_path / "hf", "--dtype", "fp16")
    assert "--dtype fp16: model.norm.weight" in error


def test_check_finds_a_wrong_tensor(run_copy, tmp_path, monkeypatch, capsys):
    from e2_tools.checkpoint.safetensors_stream import SafetensorsStream

    write = SafetensorsStream.write

    def write_wrongly(self, name, tensor):
        write(self, name, tensor + (name == "model.layers.1.mlp.up_proj.weight"))

    monkeypatch.setattr(SafetensorsStream, "write", write_wrongly)
    error = refuse(capsys, run_copy, tmp_path / "hf", "--check")
    assert "model.layers.1.mlp.up_proj.weight" in error


@pytest.mark.parametrize("left", [0.5, 0.99])
def test_damaged_arguments_among_the_tensors(megatron, tmp_path, capsys, left):
    load = Path(shutil.copytree(megatron / "gqa", tmp_path / "run"))
    path = load / "iter_0000007/__0_0.distcp"
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert str(path) in refuse(capsys, load, tmp_path / "hf")

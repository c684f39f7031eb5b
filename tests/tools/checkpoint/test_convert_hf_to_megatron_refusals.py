# SPDX-License-Identifier: Apache-2.0
"""Models that convert_hf_to_megatron.py refuses: RoPE, tensors, files, a full disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import torch
from safetensors.torch import load_file, save_file

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_tools.checkpoint.export import ExportOptions, export
from tests.helpers import ROOT
from tests.helpers.commands import refused_by, run_command
from tests.helpers.families import make_model
from tests.tools.checkpoint.conversions import (
    change_config,
    convert,
    refuse,
)


def test_a_scaled_source_needs_a_choice(sources, tmp_path):
    refuse(sources / "llama3", tmp_path / "m", "llama3", "factor 4", "--rope-scaling")
    reader = TorchDistReader(
        find_iteration(convert(sources / "llama3", tmp_path / "o", rope_scaling="original"))
    )
    args = reader.common()["args"]
    assert (args.position_method, args.max_position_embeddings) == ("none", 32)
    megatron = convert(sources / "llama3", tmp_path / "k", rope_scaling="keep")
    export(ExportOptions(load=megatron, save=tmp_path / "back"))
    found = json.loads((tmp_path / "back" / "config.json").read_text())["rope_parameters"]
    source = json.loads((sources / "llama3" / "config.json").read_text())["rope_parameters"]
    assert found == source


def test_rope_that_megatron_cannot_do(llama, tmp_path):
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    change_config(llama, rope_parameters=dynamic)
    refuse(llama, tmp_path / "m", "config.json", "'dynamic'")
    change_config(llama, rope_parameters={"rope_type": "default", "rope_theta": 10000.5})
    refuse(llama, tmp_path / "m", "config.json", "10000.5")
    yarn = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0, "beta_fast": 16.0}
    change_config(llama, rope_parameters=yarn)
    refuse(llama, tmp_path / "m", "beta_fast=16.0", rope_scaling="keep")


def test_sliding_windows(sources, tmp_path):
    source = shutil.copytree(sources / "mistral", tmp_path / "mistral")
    change_config(source, sliding_window=16)
    refuse(source, tmp_path / "m", "sliding_window is 16", "--full-attention")
    megatron = convert(source, tmp_path / "m", full_attention=True)
    assert TorchDistReader(find_iteration(megatron)).common()["args"].max_position_embeddings == 16
    export(ExportOptions(load=megatron, hf_model=source, save=tmp_path / "back"))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (config["sliding_window"], config["max_position_embeddings"]) == (None, 16)


def test_every_missing_and_unknown_tensor_is_named(llama, tmp_path):
    content = load_file(llama / "model.safetensors")
    del content["model.norm.weight"], content["model.layers.2.mlp.up_proj.weight"]
    content["model.layers.1.mlp.extra.weight"] = torch.ones(2)
    content["lm_head.weight"] = content["lm_head.weight"][:200].clone()
    save_file(content, llama / "model.safetensors", metadata={"format": "pt"})
    refuse(
        *(llama, tmp_path / "m", "missing model.norm.weight"),
        *("missing model.layers.2.mlp.up_proj.weight", "unknown model.layers.1.mlp.extra.weight"),
        "lm_head.weight has shape (200, 64), expected (256, 64)",
    )


def test_another_vocabulary_than_config_says(llama, tmp_path):
    change_config(llama, vocab_size=300)
    refuse(llama, tmp_path / "m", "model.embed_tokens.weight", "(256, 64)", "(300, 64)")


def test_truncated_and_corrupt_files(llama, tmp_path):
    path = llama / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refuse(llama, tmp_path / "m", str(path), "truncated or corrupt")
    path.write_bytes(b"\xff" * 64 + content[64:])
    refuse(llama, tmp_path / "m", str(path), "truncated or corrupt")
    path.unlink()
    refuse(llama, tmp_path / "m", str(llama), "no weights")
    (llama / "pytorch_model.bin").write_bytes(b"nonsense")
    refuse(llama, tmp_path / "m", "pytorch_model.bin", "truncated or corrupt")


def test_a_missing_shard(tmp_path):
    source = tmp_path / "source"
    make_model("llama").save_pretrained(source, max_shard_size="50KB")
    lost = sorted(source.glob("*.safetensors"))[1]
    lost.unlink()
    refuse(source, tmp_path / "m", lost.name)


def test_tied_output_has_to_be_the_embedding(sources, tmp_path):
    source = shutil.copytree(sources / "smollm2", tmp_path / "s")
    content = load_file(source / "model.safetensors")
    content["lm_head.weight"] = content["model.embed_tokens.weight"].clone()
    save_file(content, source / "model.safetensors", metadata={"format": "pt"})
    convert(source, tmp_path / "fine")
    content["lm_head.weight"][5, 5] += 1
    save_file(content, source / "model.safetensors", metadata={"format": "pt"})
    refuse(source, tmp_path / "m", "lm_head.weight", "tie_word_embeddings")


def test_unknown_models(llama, tmp_path):
    change_config(llama, model_type="gemma")
    refuse(llama, tmp_path / "m", "'gemma'", "qwen3")
    change_config(llama, model_type="llama", attention_bias=True)
    refuse(llama, tmp_path / "m", "attention_bias is True")
    refuse(tmp_path / "nowhere", tmp_path / "m", "no such folder")


def test_no_space_left(sources, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refuse(sources / "llama", tmp_path / "m", "--save", "free")


def test_a_disk_that_fills_up_while_writing(sources, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.distributed.checkpoint.filesystem, "_write_item", full)
    refuse(sources / "llama", tmp_path / "m", "--save", "No space left on device")


def test_killed_in_the_middle_nothing_looks_complete(tmp_path):
    source, target = tmp_path / "source", tmp_path / "out" / "megatron"
    make_model("llama").save_pretrained(source)
    code = (
        "import time, e2_tools.checkpoint.import_hf as it\n"
        "make = it._make\n"
        "def slow(*args):\n    time.sleep(0.3)\n    return make(*args)\n"
        "it._make = slow\n"
        "from pathlib import Path\n"
        f"it.import_model(it.ImportOptions(hf_model=Path({str(source)!r}),"
        f" save=Path({str(target)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(target.parent.glob(".megatron.*/release/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    assert not target.exists()
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".megatron.")
    assert not (left / "latest_checkpointed_iteration.txt").exists()
    convert(source, target)  # and what is left is in nobody's way


def test_the_command_refuses_with_one_line_and_exit_code_2(llama, tmp_path):
    (llama / "config.json").write_text("{")
    flags = ["--hf-model", llama, "--save", tmp_path / "m"]
    refused_by(run_command("tools/convert_hf_to_megatron.py", *flags, code=2), "config.json")

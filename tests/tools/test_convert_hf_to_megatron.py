# SPDX-License-Identifier: Apache-2.0
"""Hugging Face to Megatron and back: every byte, every family, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.families import FAMILIES, make_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A folder with one tiny model a family, fp32."""
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        make_model(name).save_pretrained(folder / name)
    return folder


@pytest.fixture
def llama(sources, tmp_path):
    """A copy of the plain Llama, to damage."""
    return shutil.copytree(sources / "llama", tmp_path / "llama")


def convert(source, target, **flags):
    import_model(ImportOptions(hf_model=source, save=target, **flags))
    return target


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def assert_same_bytes(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor.view(torch.uint8), other[name].view(torch.uint8)), name


def refused(source, target, *words, **flags):
    with pytest.raises(UserError) as error:
        convert(source, target, **flags)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)
    assert not target.exists()
    assert not list(target.parent.glob(".*tmp"))


# --- there and back ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_there_and_back_is_byte_equal(sources, tmp_path, name, dtype):
    source = sources / name
    if dtype != torch.float32:
        source = tmp_path / "source"
        make_model(name, dtype).save_pretrained(source)
    megatron = convert(source, tmp_path / "megatron", **FAMILIES[name][2])
    export(ExportOptions(load=megatron, hf_model=source, save=tmp_path / "back"))
    assert_same_bytes(tensors(source), tensors(tmp_path / "back"))


def test_without_the_source_at_hand_the_family_is_known_from_the_arguments(sources, tmp_path):
    for name, model_type in (("qwen2", "qwen2"), ("qwen3", "qwen3"), ("llama", "llama")):
        megatron = convert(sources / name, tmp_path / f"{name}-m")
        export(ExportOptions(load=megatron, save=tmp_path / name))
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["model_type"] == model_type
        assert_same_bytes(tensors(sources / name), tensors(tmp_path / name))


@pytest.mark.parametrize("kind", ["sharded safetensors", "bin", "sharded bin"])
def test_every_kind_of_file_reads_alike(sources, tmp_path, kind):
    source = tmp_path / "source"
    model = make_model("qwen2")
    model.save_pretrained(source, max_shard_size="50KB" if "sharded" in kind else "5GB")
    if "bin" in kind:
        to_bin(source)
    expected = convert(sources / "qwen2", tmp_path / "a")
    found = convert(source, tmp_path / "b")
    readers = [TorchDistReader(find_iteration(path)) for path in (expected, found)]
    for name in readers[0].tensors:
        assert torch.equal(readers[0].read(name), readers[1].read(name))


def to_bin(folder):
    """Rewrite a folder's safetensors as pickles, with a buffer that old models carry."""
    for path in folder.glob("*.safetensors"):
        content = load_file(path)
        content["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
        torch.save(content, folder / path.name.replace("model", "pytorch_model").replace(
            ".safetensors", ".bin"))  # fmt: skip
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        text = index.read_text().replace("model-", "pytorch_model-").replace("safetensors", "bin")
        index.unlink()
        (folder / "pytorch_model.bin.index.json").write_text(text)


def test_dtype_is_chosen_or_that_of_the_source(sources, tmp_path):
    megatron = convert(sources / "llama", tmp_path / "m", dtype="bf16")
    reader = TorchDistReader(find_iteration(megatron))
    assert {info.properties.dtype for info in reader.tensors.values()} == {torch.bfloat16}
    expected = load_file(sources / "llama" / "model.safetensors")["model.norm.weight"]
    assert torch.equal(reader.read("decoder.final_layernorm.weight"), expected.bfloat16())


# --- arguments ---


def test_the_printed_arguments_are_megatrons(sources, tmp_path, capsys):
    """Megatron's own parser reads them; what it makes of them is what the checkpoint stores."""
    import_model(ImportOptions(hf_model=sources / "qwen3", print_args=True))
    words = capsys.readouterr().out.replace("\\\n", " ").split()
    code = (
        "import json, sys\n"
        "from megatron_patches.runtime import cpu, fixes\n"
        "from e2_llm import arguments as ours_\n"
        "cpu.install()\n"
        "from megatron.training import arguments\n"
        "def ours(parser):\n"
        "    fixes.escape_percent_signs(parser)\n"
        "    return ours_.add_arguments(parser)\n"
        "args = arguments.parse_args(ours)\n"
        "print(json.dumps({k: v for k, v in vars(args).items() if type(v) in (int, float, bool)}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    parsed = json.loads(run.stdout.splitlines()[-1])
    reader = TorchDistReader(find_iteration(convert(sources / "qwen3", tmp_path / "m")))
    stored = vars(reader.common()["args"])
    assert parsed["num_layers"] == 4
    assert parsed["qk_layernorm"]
    assert parsed["kv_channels"] == 24
    shared = (parsed.keys() & stored.keys()) - {"seq_length", "padded_vocab_size"}
    assert len(shared) >= 15
    assert {name: stored[name] for name in shared} == {name: parsed[name] for name in shared}


def test_tokenizer_stands_in_the_arguments(llama, capsys):
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(llama)
    import_model(ImportOptions(hf_model=llama, print_args=True))
    assert f"--tokenizer-model {llama}" in capsys.readouterr().out


# --- RoPE ---


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_linear_source_composes(sources, tmp_path):
    megatron = convert(sources / "linear", tmp_path / "m")
    export(ExportOptions(load=megatron, save=tmp_path / "back", window=256))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["rope_parameters"]["factor"] == 2.0 * 256 / 64
    assert config["rope_scaling"]["factor"] == 8.0
    assert config["max_position_embeddings"] == 256


def test_a_scaled_source_needs_a_choice(sources, tmp_path):
    refused(sources / "llama3", tmp_path / "m", "llama3", "factor 4", "--rope-scaling")
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
    refused(llama, tmp_path / "m", "config.json", "'dynamic'")
    change_config(llama, rope_parameters={"rope_type": "default", "rope_theta": 10000.5})
    refused(llama, tmp_path / "m", "config.json", "10000.5")
    yarn = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0, "beta_fast": 16.0}
    change_config(llama, rope_parameters=yarn)
    refused(llama, tmp_path / "m", "beta_fast=16.0", rope_scaling="keep")


def test_an_exported_model_comes_back_to_where_its_training_was(sources, tmp_path):
    megatron = convert(sources / "llama", tmp_path / "m")
    export(ExportOptions(load=megatron, save=tmp_path / "served", window=512))
    again = convert(tmp_path / "served", tmp_path / "again")
    args = TorchDistReader(find_iteration(again)).common()["args"]
    assert args.max_position_embeddings == 64
    assert not hasattr(args, "rotary_seq_len_interpolation_factor")


# --- refusals ---


def test_sliding_windows(sources, tmp_path):
    source = shutil.copytree(sources / "mistral", tmp_path / "mistral")
    change_config(source, sliding_window=16)
    refused(source, tmp_path / "m", "sliding_window is 16", "--full-attention")
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
    refused(
        *(llama, tmp_path / "m", "missing model.norm.weight"),
        *("missing model.layers.2.mlp.up_proj.weight", "unknown model.layers.1.mlp.extra.weight"),
        "lm_head.weight has shape (200, 64), expected (256, 64)",
    )


def test_another_vocabulary_than_config_says(llama, tmp_path):
    change_config(llama, vocab_size=300)
    refused(llama, tmp_path / "m", "model.embed_tokens.weight", "(256, 64)", "(300, 64)")


def test_truncated_and_corrupt_files(llama, tmp_path):
    path = llama / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refused(llama, tmp_path / "m", str(path), "truncated or corrupt")
    path.write_bytes(b"\xff" * 64 + content[64:])
    refused(llama, tmp_path / "m", str(path), "truncated or corrupt")
    path.unlink()
    refused(llama, tmp_path / "m", str(llama), "no weights")
    (llama / "pytorch_model.bin").write_bytes(b"nonsense")
    refused(llama, tmp_path / "m", "pytorch_model.bin", "truncated or corrupt")


def test_a_missing_shard(tmp_path):
    source = tmp_path / "source"
    make_model("llama").save_pretrained(source, max_shard_size="50KB")
    lost = sorted(source.glob("*.safetensors"))[1]
    lost.unlink()
    refused(source, tmp_path / "m", lost.name)


def test_tied_output_has_to_be_the_embedding(sources, tmp_path):
    source = shutil.copytree(sources / "smollm2", tmp_path / "s")
    content = load_file(source / "model.safetensors")
    content["lm_head.weight"] = content["model.embed_tokens.weight"].clone()
    save_file(content, source / "model.safetensors", metadata={"format": "pt"})
    convert(source, tmp_path / "fine")
    content["lm_head.weight"][5, 5] += 1
    save_file(content, source / "model.safetensors", metadata={"format": "pt"})
    refused(source, tmp_path / "m", "lm_head.weight", "tie_word_embeddings")


def test_unknown_models(llama, tmp_path):
    change_config(llama, model_type="gemma")
    refused(llama, tmp_path / "m", "'gemma'", "qwen3")
    change_config(llama, model_type="llama", attention_bias=True)
    refused(llama, tmp_path / "m", "attention_bias is True")
    refused(tmp_path / "nowhere", tmp_path / "m", "no such folder")


def test_no_space_left(sources, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(sources / "llama", tmp_path / "m", "--save", "free")


def test_a_disk_that_fills_up_while_writing(sources, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.distributed.checkpoint.filesystem, "_write_item", full)
    refused(sources / "llama", tmp_path / "m", "--save", "No space left on device")


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
    run = subprocess.run(
        [sys.executable, "tools/convert_hf_to_megatron.py", "--hf-model", str(llama)]
        + ["--save", str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1

# SPDX-License-Identifier: Apache-2.0
"""Hugging Face to Megatron and back: every byte, every family, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.helpers.commands import run_command
from tests.helpers.families import FAMILIES, make_model
from tests.tools.checkpoint.conversions import (
    assert_same_bytes,
    convert,
    tensors,
)

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
        "from e2_llm.arguments import add_arguments\n"
        "cpu.install()\n"
        "from megatron.training import arguments\n"
        "def ours(parser):\n"
        "    fixes.escape_percent_signs(parser)\n"
        "    return add_arguments(parser)\n"
        "args = arguments.parse_args(ours)\n"
        "print(json.dumps({k: v for k, v in vars(args).items() if type(v) in (int, float, bool)}))"
    )
    parsed = json.loads(run_command("-c", code, *words).stdout.splitlines()[-1])
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


def test_a_linear_source_composes(sources, tmp_path):
    megatron = convert(sources / "linear", tmp_path / "m")
    export(ExportOptions(load=megatron, save=tmp_path / "back", window=256))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["rope_parameters"]["factor"] == 2.0 * 256 / 64
    assert config["rope_scaling"]["factor"] == 8.0
    assert config["max_position_embeddings"] == 256


def test_an_exported_model_comes_back_to_where_its_training_was(sources, tmp_path):
    megatron = convert(sources / "llama", tmp_path / "m")
    export(ExportOptions(load=megatron, save=tmp_path / "served", window=512))
    again = convert(tmp_path / "served", tmp_path / "again")
    args = TorchDistReader(find_iteration(again)).common()["args"]
    assert args.max_position_embeddings == 64
    assert not hasattr(args, "rotary_seq_len_interpolation_factor")

# SPDX-License-Identifier: Apache-2.0
"""The export against two references: Megatron's own model, and transformers' own model."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.commands import refused
from tests.tools.checkpoint.megatron_save import (
    QUIET,
    VOCAB,
    WINDOW,
    convert,
    logits,
    save_megatron,
    save_tokenizer,
    tiny_llama,
    written,
)

pytestmark = QUIET


@pytest.mark.parametrize(
    ("groups", "tied", "stacked", "local_names", "dtype"),
    [
        (2, False, True, False, torch.float32),
        (4, False, False, False, torch.float32),
        (1, True, True, True, torch.bfloat16),
        (2, True, False, True, torch.float32),
    ],
)
def test_tensors_and_logits_equal_the_hf_model(tmp_path, groups, tied, stacked, local_names, dtype):
    model = tiny_llama(dtype, groups, tied)
    load = save_megatron(tmp_path / "run", model, stacked, local_names)
    convert(load, tmp_path / "hf", "--check")
    expected = model.state_dict()
    if tied:
        del expected["lm_head.weight"]
    result = written(tmp_path / "hf")
    assert result.keys() == expected.keys()
    for name, tensor in expected.items():
        assert result[name].dtype == dtype
        assert torch.equal(result[name], tensor), name
    tokens = torch.arange(WINDOW)[None]
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert exported.dtype == dtype
    model.save_pretrained(tmp_path / "own")  # .to(bfloat16) above also rounded RoPE's frequencies
    own = AutoModelForCausalLM.from_pretrained(tmp_path / "own")
    assert torch.equal(logits(exported, tokens), logits(own, tokens))


def test_config(tmp_path):
    load = save_megatron(tmp_path / "run", tiny_llama(), e2_base_window=24)
    convert(load / "iter_0000100", tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "linear", "factor": 1.0, "rope_theta": 5000.0}
    assert config["max_position_embeddings"] == 24
    assert config["e2_llm"] == {
        "method": "e2",
        "frequencies": "linear",
        "rope_theta": 5000.0,
        "base_window": 24,
        "train_window": 16,
        "max_scale": 20,
        "keep_first": 4,
        "iteration": 100,
    }


def test_window_gives_linear_scaling(tmp_path):
    model = tiny_llama()
    load = save_megatron(tmp_path / "run", model)
    convert(load, tmp_path / "hf", "--window", 4 * WINDOW)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert exported.config.rope_parameters["factor"] == 4.0
    tokens = torch.arange(WINDOW)[None]
    with torch.no_grad():
        scaled = model(tokens, position_ids=torch.arange(WINDOW)[None] / 4).logits
    torch.testing.assert_close(logits(exported, tokens), scaled, atol=1e-5, rtol=0)


def test_window_beyond_the_trained_scales_is_noted(tmp_path, capsys):
    load = save_megatron(tmp_path / "run", tiny_llama())
    convert(load, tmp_path / "hf", "--window", 21 * WINDOW)
    assert "beyond the trained scales 1..20" in capsys.readouterr().out


def test_linear_method_keeps_its_factor(tmp_path, capsys):
    linear = {"position_method": "linear", "e2_factor": 4.0}
    load = save_megatron(tmp_path / "run", tiny_llama(), **linear)
    error = refused(capsys, (), convert, load, tmp_path / "hf", "--window", 64, untouched=tmp_path)
    assert "--window 64" in error
    convert(load, tmp_path / "hf", "--window", 128)
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_parameters"]["factor"] == 4.0
    assert config["max_position_embeddings"] == 128


def test_fixed_scale_is_the_default(tmp_path):
    load = save_megatron(tmp_path / "run", tiny_llama(), e2_fixed_scale=2.5)
    convert(load, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_parameters"]["factor"] == 2.5
    assert config["max_position_embeddings"] == 80


def test_plain_megatron_run(tmp_path):
    load = save_megatron(tmp_path / "run", tiny_llama())
    path = load / "iter_0000100/common.pt"
    common = torch.load(path, weights_only=False)
    for name in [name for name in vars(common["args"]) if name.startswith(("e2_", "position_m"))]:
        delattr(common["args"], name)
    torch.save(common, path)
    convert(load, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["e2_llm"]["method"] == "none"
    assert config["e2_llm"]["base_window"] == config["max_position_embeddings"] == WINDOW


def test_shards_and_dtype(tmp_path):
    model = tiny_llama()
    load = save_megatron(tmp_path / "run", model)
    flags = ("--max-shard-size", "20KB", "--dtype", "bf16", "--check")
    convert(load, tmp_path / "hf", *flags)
    index = json.loads((tmp_path / "hf/model.safetensors.index.json").read_text())
    assert (
        len(set(index["weight_map"].values())) == len(list((tmp_path / "hf").glob("model-*"))) > 2
    )
    result = written(tmp_path / "hf")
    for name, tensor in model.state_dict().items():
        assert torch.equal(result[name], tensor.bfloat16()), name


@pytest.mark.parametrize("by", ["flag", "run"])
def test_vocabulary_and_special_tokens_from_the_tokenizer(tmp_path, capsys, by):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", VOCAB)
    known = str(tokenizer) if by == "run" else None
    extra = {"vocab_size": None, "tokenizer_model": known}
    load = save_megatron(tmp_path / "run", tiny_llama(), **extra)
    if by == "flag":
        error = refused(capsys, (), convert, load, tmp_path / "hf", untouched=tmp_path)
        assert "--tokenizer or --hf-model" in error
    convert(load, tmp_path / "hf", *(["--tokenizer", tokenizer] if not known else []))
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (VOCAB, 1)
    assert (tmp_path / "hf/tokenizer.json").read_bytes() == (
        tokenizer / "tokenizer.json"
    ).read_bytes()


def test_hf_model_is_the_starting_point(tmp_path, capsys):
    model = tiny_llama(bos_token_id=7)
    base = tmp_path / "base"
    model.save_pretrained(base)
    path = base / "config.json"
    config = json.loads(path.read_text()) | {"custom": 1}
    path.write_text(json.dumps(config))
    save_tokenizer(base, VOCAB)
    load = save_megatron(tmp_path / "run", model, vocab_size=None)
    convert(load, tmp_path / "hf", "--hf-model", base, "--check")
    result = json.loads((tmp_path / "hf/config.json").read_text())
    assert ("custom" in result, result["bos_token_id"]) == (False, 7)
    assert (tmp_path / "hf/tokenizer.json").exists()
    for field, value in {"hidden_size": 64, "rms_norm_eps": 1e-6, "vocab_size": 200}.items():
        path.write_text(json.dumps(config | {field: value}))
        error = refused(
            capsys, (), convert, load, tmp_path / "hf2", "--hf-model", base, untouched=tmp_path
        )
        assert field in error
        assert str(path) in error


@pytest.mark.parametrize("name", ["gqa", "mha_tied"])
@pytest.mark.parametrize("factor", [1, 2])
def test_logits_equal_megatrons(megatron, tmp_path, name, factor):
    flags = ("--window", factor * WINDOW, "--check")
    convert(megatron / name, tmp_path / "hf", *flags)
    reference = torch.load(megatron / name / "logits.pt")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert exported.config.vocab_size == VOCAB
    got = logits(exported, reference["tokens"])[0]  # [tokens, vocabulary]
    want = reference["logits"][factor][:, :VOCAB]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert not torch.allclose(want, reference["logits"][3 - factor][:, :VOCAB], atol=1e-2)

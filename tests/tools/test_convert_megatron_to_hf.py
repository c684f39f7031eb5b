# SPDX-License-Identifier: Apache-2.0
"""The export against two references: Megatron's own model, and transformers' own model."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from e2_tools.commands.convert_megatron_to_hf import main

VOCAB, PADDED_VOCAB, WINDOW = 101, 128, 32

# dcp.save says that it writes without a process group and over an older checkpoint; both meant.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:Detected an existing checkpoint"),
]


def convert(monkeypatch, load: Path, save: Path, *flags: object) -> None:
    argv = ["convert", "--load", load, "--save", save, *flags]
    monkeypatch.setattr(sys, "argv", [str(item) for item in argv])
    main()


def refused(monkeypatch, capsys, load: Path, save: Path, *flags: object) -> str:
    """The one line on standard error; nothing may be left behind."""
    before = sorted(save.parent.iterdir())
    with pytest.raises(SystemExit) as stop:
        convert(monkeypatch, load, save, *flags)
    assert stop.value.code == 2
    assert sorted(save.parent.iterdir()) == before
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert lines[-1:] == errors
    return errors[0]


# A random transformers model, laid out as Megatron's global tensors head by head.


def fuse(model: LlamaForCausalLM, stacked: bool, local_names: bool) -> dict[str, Tensor]:
    config, weights = model.config, model.state_dict()
    size, groups = config.head_dim, config.num_key_value_heads
    per_group = config.num_attention_heads // groups
    result = {
        "embedding.word_embeddings.weight": pad(weights["model.embed_tokens.weight"]),
        "decoder.final_layernorm.weight": weights["model.norm.weight"],
    }
    if not config.tie_word_embeddings:
        result["output_layer.weight"] = pad(weights["lm_head.weight"])
    layers = []
    for number in range(config.num_hidden_layers):
        old = {
            name.removeprefix(f"model.layers.{number}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{number}.")
        }
        rows = []
        for group in range(groups):
            for head in range(group * per_group, (group + 1) * per_group):
                rows.append(old["self_attn.q_proj.weight"][head * size : (head + 1) * size])
            rows.append(old["self_attn.k_proj.weight"][group * size : (group + 1) * size])
            rows.append(old["self_attn.v_proj.weight"][group * size : (group + 1) * size])
        first, second = (
            ("input_layernorm.weight", "pre_mlp_layernorm.weight")
            if local_names
            else (
                "self_attention.linear_qkv.layer_norm_weight",
                "mlp.linear_fc1.layer_norm_weight",
            )
        )
        gate_up = [old["mlp.gate_proj.weight"], old["mlp.up_proj.weight"]]
        layers.append(
            {
                first: old["input_layernorm.weight"],
                "self_attention.linear_qkv.weight": torch.cat(rows),
                "self_attention.linear_proj.weight": old["self_attn.o_proj.weight"],
                second: old["post_attention_layernorm.weight"],
                "mlp.linear_fc1.weight": torch.cat(gate_up),
                "mlp.linear_fc2.weight": old["mlp.down_proj.weight"],
            }
        )
    for name in layers[0]:
        if stacked:
            result[f"decoder.layers.{name}"] = torch.stack([layer[name] for layer in layers])
        else:
            for number, layer in enumerate(layers):
                result[f"decoder.layers.{number}.{name}"] = layer[name]
    return {name: tensor.clone() for name, tensor in result.items()}


def pad(rows: Tensor) -> Tensor:
    padding = torch.full((PADDED_VOCAB - VOCAB, rows.shape[1]), torch.nan, dtype=rows.dtype)
    return torch.cat([rows, padding])


def megatron_arguments(config: LlamaConfig, dtype: torch.dtype, **extra) -> argparse.Namespace:
    values = {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "ffn_hidden_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "group_query_attention": config.num_key_value_heads != config.num_attention_heads,
        "num_query_groups": config.num_key_value_heads,
        "kv_channels": config.head_dim,
        "layernorm_epsilon": config.rms_norm_eps,
        "normalization": "RMSNorm",
        "swiglu": True,
        "add_bias_linear": False,
        "position_embedding_type": "rope",
        "rotary_base": int(config.rope_parameters["rope_theta"]),
        "rotary_percent": 1.0,
        "untie_embeddings_and_output_weights": not config.tie_word_embeddings,
        "vocab_size": VOCAB,
        "padded_vocab_size": PADDED_VOCAB,
        "max_position_embeddings": WINDOW,
        "seq_length": WINDOW // 2,
        "params_dtype": dtype,
        "num_experts": None,
        "tokenizer_model": None,
        "position_method": "e2",
        "e2_base_window": 0,
        "e2_max_scale": 20,
        "e2_keep_first": 4,
        "e2_fixed_scale": None,
        "e2_factor": 1.0,
    }
    return argparse.Namespace(**(values | extra))


def tiny_llama(dtype: torch.dtype = torch.float32, groups: int = 2, tied: bool = False, **extra):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=groups,
        max_position_embeddings=WINDOW,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        **extra,
    )
    model = LlamaForCausalLM(config).to(dtype).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    return model


def save_megatron(
    folder: Path, model: LlamaForCausalLM, stacked: bool = True, local_names: bool = False, **extra
) -> Path:
    """Write a save folder with iteration 100 and return it."""
    iteration = folder / "iter_0000100"
    tensors = fuse(model, stacked, local_names)
    optimizer = {f"optimizer.state.exp_avg.{name}": tensor for name, tensor in tensors.items()}
    dcp.save(tensors | optimizer, checkpoint_id=iteration, no_dist=True)
    common = {"args": megatron_arguments(model.config, model.dtype, **extra), "iteration": 100}
    torch.save(common, iteration / "common.pt")
    metadata = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    (iteration / "metadata.json").write_text(json.dumps(metadata))
    (folder / "latest_checkpointed_iteration.txt").write_text("100\n")
    return folder


def written(folder: Path) -> dict[str, Tensor]:
    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors


def logits(model, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens).logits


@pytest.mark.parametrize(
    ("groups", "tied", "stacked", "local_names", "dtype"),
    [
        (2, False, True, False, torch.float32),
        (4, False, False, False, torch.float32),
        (1, True, True, True, torch.bfloat16),
        (2, True, False, True, torch.float32),
    ],
)
def test_tensors_and_logits_equal_the_hf_model(
    tmp_path, monkeypatch, groups, tied, stacked, local_names, dtype
):
    model = tiny_llama(dtype, groups, tied)
    load = save_megatron(tmp_path / "run", model, stacked, local_names)
    convert(monkeypatch, load, tmp_path / "hf", "--check")
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


def test_config(tmp_path, monkeypatch):
    load = save_megatron(tmp_path / "run", tiny_llama(), e2_base_window=24)
    convert(monkeypatch, load / "iter_0000100", tmp_path / "hf")
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


def test_window_gives_linear_scaling(tmp_path, monkeypatch):
    model = tiny_llama()
    load = save_megatron(tmp_path / "run", model)
    convert(monkeypatch, load, tmp_path / "hf", "--window", 4 * WINDOW)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert exported.config.rope_parameters["factor"] == 4.0
    tokens = torch.arange(WINDOW)[None]
    with torch.no_grad():
        scaled = model(tokens, position_ids=torch.arange(WINDOW)[None] / 4).logits
    torch.testing.assert_close(logits(exported, tokens), scaled, atol=1e-5, rtol=0)


def test_window_beyond_the_trained_scales_is_noted(tmp_path, monkeypatch, capsys):
    load = save_megatron(tmp_path / "run", tiny_llama())
    convert(monkeypatch, load, tmp_path / "hf", "--window", 21 * WINDOW)
    assert "beyond the trained scales 1..20" in capsys.readouterr().out


def test_linear_method_keeps_its_factor(tmp_path, monkeypatch, capsys):
    linear = {"position_method": "linear", "e2_factor": 4.0}
    load = save_megatron(tmp_path / "run", tiny_llama(), **linear)
    error = refused(monkeypatch, capsys, load, tmp_path / "hf", "--window", 64)
    assert "--window 64" in error
    convert(monkeypatch, load, tmp_path / "hf", "--window", 128)
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_parameters"]["factor"] == 4.0
    assert config["max_position_embeddings"] == 128


def test_fixed_scale_is_the_default(tmp_path, monkeypatch):
    load = save_megatron(tmp_path / "run", tiny_llama(), e2_fixed_scale=2.5)
    convert(monkeypatch, load, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_parameters"]["factor"] == 2.5
    assert config["max_position_embeddings"] == 80


def test_plain_megatron_run(tmp_path, monkeypatch):
    load = save_megatron(tmp_path / "run", tiny_llama())
    path = load / "iter_0000100/common.pt"
    common = torch.load(path, weights_only=False)
    for name in [name for name in vars(common["args"]) if name.startswith(("e2_", "position_m"))]:
        delattr(common["args"], name)
    torch.save(common, path)
    convert(monkeypatch, load, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["e2_llm"]["method"] == "none"
    assert config["e2_llm"]["base_window"] == config["max_position_embeddings"] == WINDOW


def test_shards_and_dtype(tmp_path, monkeypatch):
    model = tiny_llama()
    load = save_megatron(tmp_path / "run", model)
    flags = ("--max-shard-size", "20KB", "--dtype", "bf16", "--check")
    convert(monkeypatch, load, tmp_path / "hf", *flags)
    index = json.loads((tmp_path / "hf/model.safetensors.index.json").read_text())
    assert (
        len(set(index["weight_map"].values())) == len(list((tmp_path / "hf").glob("model-*"))) > 2
    )
    result = written(tmp_path / "hf")
    for name, tensor in model.state_dict().items():
        assert torch.equal(result[name], tensor.bfloat16()), name


def save_tokenizer(folder: Path, tokens: int) -> Path:
    folder.mkdir(exist_ok=True)
    words = {f"w{number}": number for number in range(tokens)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


@pytest.mark.parametrize("by", ["flag", "run"])
def test_vocabulary_and_special_tokens_from_the_tokenizer(tmp_path, monkeypatch, capsys, by):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", VOCAB)
    known = str(tokenizer) if by == "run" else None
    extra = {"vocab_size": None, "tokenizer_model": known}
    load = save_megatron(tmp_path / "run", tiny_llama(), **extra)
    if by == "flag":
        error = refused(monkeypatch, capsys, load, tmp_path / "hf")
        assert "--tokenizer or --hf-model" in error
    convert(monkeypatch, load, tmp_path / "hf", *(["--tokenizer", tokenizer] if not known else []))
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (VOCAB, 1)
    assert (tmp_path / "hf/tokenizer.json").read_bytes() == (
        tokenizer / "tokenizer.json"
    ).read_bytes()


def test_hf_model_is_the_starting_point(tmp_path, monkeypatch, capsys):
    model = tiny_llama(bos_token_id=7)
    base = tmp_path / "base"
    model.save_pretrained(base)
    path = base / "config.json"
    config = json.loads(path.read_text()) | {"custom": 1}
    path.write_text(json.dumps(config))
    save_tokenizer(base, VOCAB)
    load = save_megatron(tmp_path / "run", model, vocab_size=None)
    convert(monkeypatch, load, tmp_path / "hf", "--hf-model", base, "--check")
    result = json.loads((tmp_path / "hf/config.json").read_text())
    assert (result["custom"], result["bos_token_id"]) == (1, 7)
    assert (tmp_path / "hf/tokenizer.json").exists()
    for field, value in {"hidden_size": 64, "rms_norm_eps": 1e-6, "vocab_size": 200}.items():
        path.write_text(json.dumps(config | {field: value}))
        error = refused(monkeypatch, capsys, load, tmp_path / "hf2", "--hf-model", base)
        assert field in error
        assert str(path) in error


# Bad input.


@pytest.fixture(scope="module")
def good_run(tmp_path_factory) -> Path:
    return save_megatron(tmp_path_factory.mktemp("good") / "run", tiny_llama())


@pytest.fixture
def run_copy(good_run, tmp_path) -> Path:
    return Path(shutil.copytree(good_run, tmp_path / "run"))


def test_bad_places(run_copy, tmp_path, monkeypatch, capsys):
    def error(load: Path, *flags: object) -> str:
        return refused(monkeypatch, capsys, load, tmp_path / "hf", *flags)

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


def test_another_format(run_copy, tmp_path, monkeypatch, capsys):
    path = run_copy / "iter_0000100/metadata.json"
    path.write_text('{"sharded_backend": "zarr"}')
    assert "zarr" in refused(monkeypatch, capsys, run_copy, tmp_path / "hf")
    path.unlink()
    assert "--ckpt-format torch_dist" in refused(monkeypatch, capsys, run_copy, tmp_path / "hf")


@pytest.mark.parametrize("file", [".metadata", "metadata.json", "common.pt", "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "garble", "remove"])
def test_damaged_files(run_copy, tmp_path, monkeypatch, capsys, file, damage):
    path = run_copy / "iter_0000100" / file
    data = path.read_bytes()
    broken = {"truncate": data[: len(data) // 4], "empty": b"", "garble": b"\x93" * len(data)}
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    assert file in refused(monkeypatch, capsys, run_copy, tmp_path / "hf")


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
def test_of_no_family(run_copy, tmp_path, monkeypatch, capsys, name, value):
    path = run_copy / "iter_0000100/common.pt"
    common = torch.load(path, weights_only=False)
    setattr(common["args"], name, value)
    torch.save(common, path)
    error = refused(monkeypatch, capsys, run_copy, tmp_path / "hf")
    assert f"{name}={value!r}" in error


def test_every_wrong_tensor_is_named(run_copy, tmp_path, monkeypatch, capsys):
    iteration = run_copy / "iter_0000100"
    tensors = fuse(tiny_llama(), stacked=False, local_names=False)
    for name in ("decoder.layers.1.mlp.linear_fc2.weight", "decoder.final_layernorm.weight"):
        del tensors[name]
    tensors["decoder.layers.0.mlp.router.weight"] = torch.zeros(2)
    tensors["decoder.layers.2.self_attention.linear_proj.weight"] = torch.zeros(3, 3)
    dcp.save(tensors, checkpoint_id=iteration, no_dist=True)
    error = refused(monkeypatch, capsys, run_copy, tmp_path / "hf")
    assert "missing decoder.layers.1.mlp.linear_fc2.weight" in error
    assert "missing decoder.final_layernorm.weight" in error
    assert "unknown decoder.layers.0.mlp.router.weight" in error
    assert "decoder.layers.2.self_attention.linear_proj.weight has shape (3, 3)" in error
    assert error.count("decoder.") == 4


def test_fp16_overflow_is_refused(run_copy, tmp_path, monkeypatch, capsys):
    tensors = fuse(tiny_llama(), stacked=True, local_names=False)
    tensors["decoder.final_layernorm.weight"] += 1e6
    dcp.save(tensors, checkpoint_id=run_copy / "iter_0000100", no_dist=True)
    error = refused(monkeypatch, capsys, run_copy, tmp_path / "hf", "--dtype", "fp16")
    assert "--dtype fp16: model.norm.weight" in error


def test_check_finds_a_wrong_tensor(run_copy, tmp_path, monkeypatch, capsys):
    from e2_tools.checkpoint.safetensors_stream import SafetensorsStream

    write = SafetensorsStream.write

    def write_wrongly(self, name, tensor):
        write(self, name, tensor + (name == "model.layers.1.mlp.up_proj.weight"))

    monkeypatch.setattr(SafetensorsStream, "write", write_wrongly)
    error = refused(monkeypatch, capsys, run_copy, tmp_path / "hf", "--check")
    assert "model.layers.1.mlp.up_proj.weight" in error


# Megatron's own model, saved by Megatron.


@pytest.fixture(scope="module")
def megatron(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("megatron")
    script = Path(__file__).with_name("save_megatron_reference.py")
    subprocess.run([sys.executable, script, folder], check=True, timeout=200)
    return folder


@pytest.mark.parametrize("name", ["gqa", "mha_tied"])
@pytest.mark.parametrize("factor", [1, 2])
def test_logits_equal_megatrons(megatron, tmp_path, monkeypatch, name, factor):
    flags = ("--window", factor * WINDOW, "--check")
    convert(monkeypatch, megatron / name, tmp_path / "hf", *flags)
    reference = torch.load(megatron / name / "logits.pt")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert exported.config.vocab_size == VOCAB
    got = logits(exported, reference["tokens"])[0]  # [tokens, vocabulary]
    want = reference["logits"][factor][:, :VOCAB]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert not torch.allclose(want, reference["logits"][3 - factor][:, :VOCAB], atol=1e-2)


@pytest.mark.parametrize("left", [0.5, 0.99])
def test_damaged_arguments_among_the_tensors(megatron, tmp_path, monkeypatch, capsys, left):
    load = Path(shutil.copytree(megatron / "gqa", tmp_path / "run"))
    path = load / "iter_0000007/__0_0.distcp"
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert str(path) in refused(monkeypatch, capsys, load, tmp_path / "hf")

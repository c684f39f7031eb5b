# SPDX-License-Identifier: Apache-2.0
"""A random Llama saved as Megatron saves, laid out head by head from transformers' own tensors."""

import argparse
import json
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from e2_tools.commands.convert_megatron_to_hf import main
from tests.helpers.commands import call

VOCAB, PADDED_VOCAB, WINDOW = 101, 128, 32
# dcp.save says that it writes without a process group and over an older checkpoint; both meant.
QUIET = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:Detected an existing checkpoint"),
]


def convert(load: Path, save: Path, *flags: object) -> None:
    call(main, "--load", load, "--save", save, *flags)


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


def save_tokenizer(folder: Path, tokens: int) -> Path:
    folder.mkdir(exist_ok=True)
    words = {f"w{number}": number for number in range(tokens)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder

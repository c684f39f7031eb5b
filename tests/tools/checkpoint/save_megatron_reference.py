# SPDX-License-Identifier: Apache-2.0
"""Run by a test in its own process: Megatron's own GPT model, its checkpoint and its logits.

Usage: save_megatron_reference.py FOLDER. Writes FOLDER/NAME/iter_0000007 as megatron.training
lays it out, and FOLDER/NAME/logits.pt: by RoPE factor, fp32 logits [tokens, padded vocabulary].
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from megatron_patches.runtime import cpu as cpu_runtime

MODELS = {"gqa": {"groups": 2, "tied": False}, "mha_tied": {"groups": 4, "tied": True}}
VOCAB, PADDED_VOCAB, WINDOW, TOKENS = 101, 128, 32, 24


def main(folder: Path) -> None:
    if cpu_runtime.is_needed():
        cpu_runtime.install()
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    store = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    model_parallel_cuda_manual_seed(1)
    torch.manual_seed(1)
    tokens = torch.randint(0, VOCAB, (1, TOKENS))
    for name, shape in MODELS.items():
        iteration = folder / name / "iter_0000007"
        iteration.mkdir(parents=True)
        model = build(**shape, factor=None)
        for parameter in model.parameters():  # norms too: ones would hide a swapped pair
            torch.nn.init.normal_(parameter.data, mean=0.5 * (parameter.dim() == 1), std=0.2)
        state = {"model": model.sharded_state_dict(), "args": arguments(**shape), "iteration": 7}
        dist_checkpointing.save(state, str(iteration))
        (folder / name / "latest_checkpointed_iteration.txt").write_text("7")
        stretched = build(**shape, factor=2.0)
        stretched.load_state_dict(model.state_dict())
        logits = {1: run(model, tokens), 2: run(stretched, tokens)}
        torch.save({"tokens": tokens, "logits": logits}, folder / name / "logits.pt")


def build(groups: int, tied: bool, factor: float | None) -> torch.nn.Module:
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig

    config = TransformerConfig(
        num_layers=3,
        hidden_size=64,
        ffn_hidden_size=80,
        num_attention_heads=4,
        num_query_groups=groups,
        kv_channels=16,
        normalization="RMSNorm",
        layernorm_epsilon=1e-5,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
    )
    return GPTModel(
        config,
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        vocab_size=PADDED_VOCAB,
        max_sequence_length=WINDOW,
        position_embedding_type="rope",
        rotary_base=5000,
        seq_len_interpolation_factor=factor,
        share_embeddings_and_output_weights=tied,
    ).eval()


def arguments(groups: int, tied: bool) -> argparse.Namespace:
    from megatron.core.transformer.enums import AttnBackend

    return argparse.Namespace(
        num_layers=3,
        hidden_size=64,
        ffn_hidden_size=80,
        num_attention_heads=4,
        group_query_attention=groups != 4,
        num_query_groups=groups if groups != 4 else 1,
        kv_channels=16,
        layernorm_epsilon=1e-5,
        normalization="RMSNorm",
        swiglu=True,
        add_bias_linear=False,
        position_embedding_type="rope",
        rotary_base=5000,
        rotary_percent=1.0,
        untie_embeddings_and_output_weights=not tied,
        vocab_size=VOCAB,
        padded_vocab_size=PADDED_VOCAB,
        max_position_embeddings=WINDOW,
        seq_length=16,
        params_dtype=torch.float32,
        num_experts=None,
        attention_backend=AttnBackend.auto,  # a Megatron class in the pickle, as in real ones
    )


def run(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    length = tokens.shape[1]
    positions = torch.arange(length)[None]
    mask = torch.ones(1, 1, length, length, dtype=torch.bool).triu(1)  # True: may not look
    with torch.no_grad():
        return model(tokens, positions, mask)[0].float()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

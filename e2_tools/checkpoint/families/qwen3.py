# SPDX-License-Identifier: Apache-2.0
"""Qwen3 (dense): Llama with an RMSNorm of every head's query and key."""

from e2_tools.checkpoint.families import family as names

QWEN3 = names.Family(
    title="Qwen3",
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    layer_rules=(
        names.INPUT_NORM,
        names.QKV,
        names.QUERY_NORM,
        names.KEY_NORM,
        names.ATTENTION_OUTPUT,
        names.MLP_NORM,
        names.GATE_UP,
        names.DOWN,
    ),
    megatron={"qk_layernorm": True},
    config={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
)

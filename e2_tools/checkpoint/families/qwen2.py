# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5: Llama with a bias of query, key and value."""

from e2_tools.checkpoint.families import family as names

QWEN2 = names.Family(
    title="Qwen2",
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    layer_rules=(
        names.INPUT_NORM,
        names.QKV,
        names.QKV_BIAS,
        names.ATTENTION_OUTPUT,
        names.MLP_NORM,
        names.GATE_UP,
        names.DOWN,
    ),
    megatron={"add_qkv_bias": True},
    config={"hidden_act": "silu", "use_sliding_window": False},
)

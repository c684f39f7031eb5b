# SPDX-License-Identifier: Apache-2.0
"""Llama 1, 2 and 3, and what shares their model type: SmolLM, SmolLM2, Vicuna, TinyLlama, …"""

from e2_tools.checkpoint.families import family as names

LLAMA = names.Family(
    title="Llama",
    model_type="llama",
    architecture="LlamaForCausalLM",
    layer_rules=(
        names.INPUT_NORM,
        names.QKV,
        names.ATTENTION_OUTPUT,
        names.MLP_NORM,
        names.GATE_UP,
        names.DOWN,
    ),
    config={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
)

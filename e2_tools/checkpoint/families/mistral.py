# SPDX-License-Identifier: Apache-2.0
"""Mistral: Llama's tensors; early versions see a sliding window only."""

from e2_tools.checkpoint.families import family as names
from e2_tools.checkpoint.families.llama import LLAMA

MISTRAL = names.Family(
    title="Mistral",
    model_type="mistral",
    architecture="MistralForCausalLM",
    layer_rules=LLAMA.layer_rules,
    config={"hidden_act": "silu", "sliding_window": None},
)

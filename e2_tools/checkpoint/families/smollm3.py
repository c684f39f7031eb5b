# SPDX-License-Identifier: Apache-2.0
"""SmolLM3: Llama with layers that rotate nothing (NoPE), every fourth one."""

from e2_tools.checkpoint.families import family as names
from e2_tools.checkpoint.families.llama import LLAMA

SMOLLM3 = names.Family(
    title="SmolLM3",
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    layer_rules=LLAMA.layer_rules,
    config={**LLAMA.config, "use_sliding_window": False},
    layers_without_rope=True,
)

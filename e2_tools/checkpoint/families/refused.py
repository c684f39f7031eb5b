# SPDX-License-Identifier: Apache-2.0
"""Families that people ask for and that are not converted: why."""

_NORMS = "it norms what attention and feed-forward give, which layers of Megatron 0.19.2 do not"
_EXPERTS = "it has experts, for whose tensors the converters have no names"
_OTHER_ROPE = "it has a second RoPE base for its layers of local attention"
_NO_ROPE = "it has no RoPE, so there is no scale to change"

# Model type of config.json -> the reason.
REASONS = {
    "olmo2": _NORMS,
    "olmo3": f"{_NORMS}, and YaRN in its layers of full attention only",
    "gemma2": f"{_NORMS}, and it caps logits",
    "gemma3": f"{_NORMS}; {_OTHER_ROPE}",
    "gemma3_text": f"{_NORMS}; {_OTHER_ROPE}",
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "gpt_oss": _EXPERTS,
    "deepseek_v2": f"{_EXPERTS}, and multi-latent attention",
    "deepseek_v3": f"{_EXPERTS}, and multi-latent attention",
    "llama4": _EXPERTS,
    "llama4_text": _EXPERTS,
    "phi3": "its fused tensors and longrope factors are not known here",
    "modernbert": "it is an encoder: its attention sees what comes after",
    "bert": _NO_ROPE,
    "gpt2": _NO_ROPE,
    "opt": _NO_ROPE,
}

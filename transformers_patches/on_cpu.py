# SPDX-License-Identifier: Apache-2.0
"""transformers' attention ``sdpa`` on CPUs in bf16, by blocks of queries.

The attention keeps its name, so that whoever asks for it, or asks whether a model has it,
need not know. Anything else than causal attention of a whole text in bf16 on a CPU, without a mask,
goes to transformers' own.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from e2_common.cpu.attention import causal_attention

NAME = "sdpa"


def install() -> None:
    """Let all models of this process read so; call where one is to run on the CPU."""
    AttentionInterface.register(NAME, _attention)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Queries [b, heads, q, d] and keys [b, groups, k, d] to outputs [b, q, heads, d]."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    whole = attention_mask is None and causal and 1 < query.shape[2] == key.shape[2]
    by_blocks = whole and query.device.type == "cpu" and kind == torch.bfloat16
    if not by_blocks or dropout or more.get("position_bias") is not None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            **more,
        )
    query, key, value = (states.to(kind) for states in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        output = causal_attention(query, key, value, scaling)
    return output.transpose(1, 2).contiguous(), None

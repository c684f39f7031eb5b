# SPDX-License-Identifier: Apache-2.0
"""Attention of many tokens that follow others, without a mask.

Where queries are fewer than keys, transformers hands torch a mask [queries, keys], which takes
memory and its fast path. A softmax over two sets of keys is the mean of the softmaxes over each,
weighted by their sums. So the keys before the queries are attended to as a whole, those of the
queries causally, and both are put together. In bf16 our attention by blocks of queries is faster,
and takes keys before the queries as it comes.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv

from e2_common.cpu.attention import causal_attention

NAME = "e2_continued"
KERNEL = "_scaled_dot_product_flash_attention_for_cpu"  # not of torch's public interface


@contextlib.contextmanager
def continued_attention(model: PreTrainedModel) -> Iterator[bool]:
    """Let a model read so while the body runs; gives whether it does.

    On a CPU only, whose kernel tells the sums, and only models that ask transformers for their
    attention: others would take this one's name for another of theirs. No padding is allowed then.
    """
    config = model.config
    before = config._attn_implementation
    possible = model.device.type == "cpu" and before == "sdpa" and not hasattr(config, "v_head_dim")
    possible = possible and hasattr(torch.ops.aten, KERNEL) and model._supports_attention_backend
    if possible:
        config._attn_implementation = NAME
    try:
        yield possible
    finally:
        config._attn_implementation = before


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Queries [b, heads, q, d] and keys [b, groups, k, d] to outputs [b, q, heads, d]."""
    if query.dtype == torch.bfloat16:
        return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    past = key.shape[2] - query.shape[2]
    output, sums = _kernel(query, key[:, :, past:], value[:, :, past:], scaling, causal=True)
    if past:
        before, their = _kernel(query, key[:, :, :past], value[:, :, :past], scaling, causal=False)
        weight = torch.sigmoid(their - sums)[..., None]
        output = torch.lerp(output, before, weight.to(output.dtype))
    return output.transpose(1, 2).contiguous(), None


def _kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None,
    *,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [b, heads, q, d], and the logarithms of the softmax's sums [b, heads, q] in fp32."""
    return getattr(torch.ops.aten, KERNEL)(query, key, value, 0.0, causal, scale=scale)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)

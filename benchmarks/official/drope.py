# SPDX-License-Identifier: Apache-2.0
"""DroPE's attention without rotation (arXiv 2512.12167)."""

import inspect
import logging
from collections.abc import Iterator

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, absolutely
from e2_llm.frequencies import RULES

LENGTH = 64


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """What a layer's attention gives: theirs, and transformers' at the RoPE that we export."""
    given = {"inspect": inspect, "torch": torch, "nn": nn, "logger": logging.getLogger("drope")}
    nope = clone.run("custom_models/attention.py", "nope", **given).nope
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    plain = LlamaConfig(**sizes, attn_implementation="eager")
    exported = RULES["drope"].to_hf(32, 10000.0, 8.0, 128)
    exported = {key: value for key, value in exported.items() if "mscale" not in key}  # for vLLM
    ours = LlamaConfig(**sizes, max_position_embeddings=1024, rope_parameters=exported)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        attention = LlamaAttention(plain, 0)
        hidden = torch.randn(1, LENGTH, 64)
        theirs = nope(LlamaAttention).from_source(attention, plain)
        at = torch.arange(LENGTH)[None]
        given = {"attention_mask": None}
        rotated = attention(hidden, LlamaRotaryEmbedding(ours)(hidden, at), **given)[0]
        unrotated = theirs(hidden, LlamaRotaryEmbedding(plain)(hidden, at), **given)[0]
    yield absolutely("attention of a layer at the exported RoPE", rotated, unrotated, 1e-6)

# SPDX-License-Identifier: Apache-2.0
"""CoPE's soft clip (arXiv 2602.05258)."""

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding
from benchmarks.official.frequency_rules import GRID, on_grid
from e2_llm.frequencies import RULES, Frequencies, rope


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Frequencies for heads of 128, where their 20 clipped ones are ours."""

    def larger_base(config: SimpleNamespace, device: None) -> tuple[Tensor, float]:
        return rope(config.dim, config.theta), 1.0

    name = "LlamaRotaryEmbedding"
    given = {"torch": torch, "nn": nn, "ROPE_INIT_FUNCTIONS": {"default": larger_base}}
    rotary = getattr(clone.run("modeling_cope.py", name, **given), name)

    def official(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        config = SimpleNamespace(
            max_position_embeddings=window,
            use_cope=True,
            dim=dim,
            theta=RULES["ntk"].theta(dim, theta, scale),
        )
        it = rotary(config)
        return Frequencies(it.inv_freq, it.attention_scaling)

    yield on_grid("cope", official, [case for case in GRID if case[0] == 128])

# SPDX-License-Identifier: Apache-2.0
"""Position interpolation, the NTK-aware base and YaRN (arXiv 2309.00071), by YaRN's authors."""

import math
from collections.abc import Iterator

import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, absolutely
from benchmarks.official.frequency_rules import on_grid
from e2_llm.frequencies import RULES, Frequencies

FOLDER = "scaled_rope"
YARN = ("find_correction_dim", "find_correction_range", "linear_ramp_mask", "get_mscale")


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Frequencies and attention factors; for interpolation their cosines."""
    name = "LlamaYaRNScaledRotaryEmbedding"
    yarn = getattr(clone.run(f"{FOLDER}/{name}.py", *YARN, name, torch=torch, math=math), name)
    name = "LlamaNTKScaledRotaryEmbedding"
    ntk = getattr(clone.run(f"{FOLDER}/{name}.py", name, torch=torch), name)
    name = "LlamaLinearScaledRotaryEmbedding"
    linear = getattr(clone.run(f"{FOLDER}/{name}.py", name, torch=torch), name)

    def of_yarn(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        it = yarn(dim, 1, theta, scale, original_max_position_embeddings=window)
        return Frequencies(it.inv_freq, it.mscale)

    def of_ntk(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        return Frequencies(ntk(dim, 1, theta, alpha=scale).inv_freq)

    yield on_grid("yarn", of_yarn)
    yield on_grid("ntk", of_ntk)
    mine, their = [], []
    for scale in (1.0, 2.0, 3.7, 16.0):
        cosines = linear(64, 128, 10000.0, scale=scale).cos_cached[0, 0, :, :32]
        inverse = RULES["linear"].frequencies(64, 10000.0, scale, 128).inverse
        mine.append(torch.outer(torch.arange(128.0), inverse).cos().numpy())
        their.append(cosines.numpy())
    yield absolutely("`linear`, cosines", mine, their, 1e-5)

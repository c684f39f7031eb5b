# SPDX-License-Identifier: Apache-2.0
"""LongRoPE's factor lists (arXiv 2402.13753) and LongRoPE2's, of Llama-3-8B (2502.20082)."""

import json
import math
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, closely
from e2_llm.frequencies import RULES
from e2_llm.frequencies.longrope import canonical

WINDOWS = ((64, 10000.0, 4096, 8.0), (128, 10000.0, 4096, 32.0), (128, 500000.0, 8192, 16.0))


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Frequencies and attention factors of a list, at its scale and at 1."""
    name = "LongRoPEScaledRotaryEmbedding"
    rotary = getattr(clone.run("rope/longrope.py", name, torch=torch, math=math), name)
    mine, their = [], []
    for dim, theta, window, most in WINDOWS:
        factors = np.geomspace(1, most, dim // 2).round(4).tolist()
        rule = RULES["longrope"].with_settings(
            {"longrope_factors": {"long_factor": factors, "factor": most}}
        )
        for scale, listed in ((most, factors), (1.0, [1.0] * (dim // 2))):
            it = rotary(dim, listed, scale, int(scale * window), window, theta)
            inverse, factor = rule.frequencies(dim, theta, scale, window)
            mine += [inverse.numpy(), [factor]]
            their += [it._calc_inv_freq(window, "cpu").numpy(), [it.mscale]]
    what = f"`longrope` at g = G and g = 1, {len(WINDOWS)} lists"
    yield closely(what, np.concatenate(mine), np.concatenate(their))


def compare_two(clone: Clone, draws: int) -> Iterator[Finding]:
    """The frequencies of LongRoPE2's own list, for long texts and for short ones."""
    name, folder = "get_longrope_inv_freq", "examples/longrope2"
    official = getattr(clone.run(f"{folder}/rope_modifier.py", name, torch=torch), name)
    config = json.loads(clone.read(f"{folder}/llama3_8b_longrope2_config.json"))
    rope, window = config["rope_scaling"], config["original_max_position_embeddings"]
    most = config["max_position_embeddings"] / window
    dim = config["hidden_size"] // config["num_attention_heads"]
    settings = {**rope, "factor": most, "original_max_position_embeddings": window}
    rule = RULES["longrope"].with_settings(
        {"longrope_factors": json.loads(canonical(settings, "their list"))}
    )
    mine, their = [], []
    for scale, length in ((most, window + 1), (1.0, window)):
        lists = rope["long_factor"], rope["short_factor"]
        found = official(torch.arange(length), config["rope_theta"], dim, window, *lists)
        their.append(found.numpy())
        mine.append(rule.frequencies(dim, config["rope_theta"], scale, window).inverse.numpy())
    what = f"`longrope` with their list, at g = {most:g} and g = 1"
    yield closely(what, np.concatenate(mine), np.concatenate(their))

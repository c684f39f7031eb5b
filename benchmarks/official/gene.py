# SPDX-License-Identifier: Apache-2.0
"""GeNE's draw of the scale and its frequencies (Findings of ACL 2024)."""

import math
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, absolutely, alike, closely
from benchmarks.official.ours import SEED, method
from e2_llm.frequencies import RULES

PATH = "gene/gene_rope.py"
EVEN = 1 << 14  # words, evenly over all 64 bits
# L, R, G. Their own recipes are the second and third.
RUNS = (
    (4096, 4096, 16), (4096, 16384, 16), (4096, 4096, 4), (4096, 16384, 64), (4096, 8192, 20),
    (4096, 6000, 21), (4096, 4096, 5), (128, 64, 16),
)  # fmt: skip
SHAPES = [
    (dim, theta, window, scale)
    for dim in (32, 64, 128)
    for theta in (10000.0, 500000.0)
    for window in (128, 4096, 8192)
    for scale in (1.0, 2.0, 7.0, 16.0)
]


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Shares of the scales, scales as drawn, and frequencies."""
    names = ("RandomScale", "InverseAngularVelocity")
    theirs = clone.run(PATH, *names, math=math, np=np, torch=torch, nn=nn)
    mine, their = [], []
    for run in RUNS:
        shares = shares_of(theirs.RandomScale, *run)
        ours = our_shares(*run)
        for scale in sorted({*ours, *shares}):
            mine.append(ours[scale])
            their.append(shares.get(scale, 0.0))
    yield absolutely("share of each scale, by L, R and G", mine, their, 1 / EVEN)
    for name, (base, train, most) in (("R = L", RUNS[0]), ("R = 2 L", RUNS[4])):
        it = method("gene", base, train, max_scale=most)
        ours = [it.draw(SEED, index).scale for index in range(draws)]
        yield alike(f"scale, {name}", ours, drawn(theirs, base, train, most, draws))
    frequencies = [
        (RULES["gene"].frequencies(dim, theta, scale, window).inverse, official(theirs, *shape))
        for shape in SHAPES
        for dim, theta, window, scale in [shape]
    ]
    ours, others = (np.concatenate(each) for each in zip(*frequencies, strict=True))
    yield closely(f"frequencies, {len(SHAPES)} shapes", ours, others)


def settings(base: int, most: float, dim: int = 128, theta: float = 10000.0) -> SimpleNamespace:
    """Their configuration of a model of one head."""
    return SimpleNamespace(
        max_position_embeddings=base,
        hidden_size=dim,
        num_attention_heads=1,
        rope_theta=theta,
        rope_scaling={"factor": float(most), "training_seq_len": base},
    )


def shares_of(random_scale: Any, base: int, train: int, most: int) -> dict[float, float]:
    """Their share of every scale that a window of ``train`` tokens is trained at.

    What they draw is multiplied by the windows of L that R needs.
    """
    it = random_scale(settings(base, most))
    it.get_random_scale(train)
    shares = zip(it.scales * math.ceil(train / base), it.p, strict=True)
    return {float(scale): float(share) for scale, share in shares}


def our_shares(base: int, train: int, most: int) -> Counter:
    """Our share of every scale, over words that lie evenly."""
    it = method("gene", base, train, max_scale=most)
    words = ((2 * step + 1) << 63 >> 14 for step in range(EVEN))
    counts = Counter(it.draw_scale(word, 0) for word in words)
    return Counter({scale: count / EVEN for scale, count in counts.items()})


def drawn(theirs: Any, base: int, train: int, most: int, draws: int) -> list[float]:
    """Scales as they draw them in training."""
    it = theirs.RandomScale(settings(base, most))
    before = np.random.get_state()
    np.random.seed(1)
    try:
        return [float(it.get_random_scale(train) * math.ceil(train / base)) for _ in range(draws)]
    finally:
        np.random.set_state(before)


def official(theirs: Any, dim: int, theta: float, window: int, scale: float) -> torch.Tensor:
    """Their frequencies [d / 2], of the method without learned parameters."""
    it = theirs.InverseAngularVelocity(settings(window, scale, dim, theta))
    wavelengths = theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    return 1.0 / it(torch.tensor([scale], dtype=torch.float32), wavelengths)

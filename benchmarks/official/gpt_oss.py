# SPDX-License-Identifier: Apache-2.0
"""YaRN whose ramp has its ends where they fall, as gpt-oss has it."""

import math
from collections.abc import Iterator

import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding
from benchmarks.official.frequency_rules import GRID, on_grid
from e2_llm.frequencies import Frequencies


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Frequencies and attention factors, where their bounds allow it: L of thousands."""
    name = "RotaryEmbedding"
    given = {"torch": torch, "math": math}
    rotary = getattr(clone.run("gpt_oss/torch/model.py", name, **given), name)

    def official(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        it = rotary(dim, theta, torch.float32, window, scale)
        factor, inverse = it._compute_concentration_and_inv_freq()
        return Frequencies(inverse, factor)

    yield on_grid("yarn-untruncated", official, [case for case in GRID if case[3] > 128])

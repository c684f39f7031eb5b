# SPDX-License-Identifier: Apache-2.0
"""The scaling of Llama 3.1, and that of Llama 4, which has the factors as arguments."""

import math
from collections.abc import Iterator

import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding
from benchmarks.official.frequency_rules import GRID, on_grid
from e2_llm.frequencies import Frequencies, rope

WINDOW, FACTOR, HIGH = 8192, 8.0, 4  # built into theirs; the second into Llama 3's alone


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Frequencies."""
    three = clone.run("models/llama3/model.py", "apply_scaling", torch=torch).apply_scaling
    given = {"torch": torch, "math": math}
    four = clone.run("models/llama4/model.py", "apply_scaling", **given).apply_scaling

    def of_three(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        return Frequencies(three(rope(dim, theta)))

    def of_four(dim: int, theta: float, scale: float, window: int) -> Frequencies:
        return Frequencies(four(rope(dim, theta), scale, HIGH))

    yield on_grid("llama3", of_three, [(128, 500000.0, FACTOR, WINDOW)])
    yield on_grid("llama3", of_four, [case for case in GRID if case[3] == WINDOW])

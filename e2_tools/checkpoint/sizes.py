# SPDX-License-Identifier: Apache-2.0
"""The sizes of a model; needs nothing heavy."""

import math
from dataclasses import dataclass

LARGEST_TP = 8  # up to which the suggested padding leaves the vocabulary alone, if it can


@dataclass(frozen=True)
class Sizes:
    """Everything that shapes are made of.

    ``vocab`` is the true vocabulary; Megatron's tensors hold ``padded_vocab`` rows of it.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    vocab: int
    padded_vocab: int
    tied: bool


def vocab_divisor(vocab: int) -> int:
    """The suggested ``--make-vocab-size-divisible-by``: layouts up to TP 8 then pad alike."""
    return max(1, math.gcd(vocab, 1024) // LARGEST_TP)

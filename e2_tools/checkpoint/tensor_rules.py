# SPDX-License-Identifier: Apache-2.0
"""How a Megatron tensor is made of Hugging Face tensors, and taken apart into them.

Megatron fuses query, key and value by group and gate above up; both rotate halves in RoPE, so no
row is permuted. Shapes: h hidden, d head size, n heads, k groups (of keys and values), f the
feed-forward size, v the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2_common.model_sizes import ModelSizes

Shape = tuple[int, ...]
Split = Callable[[Tensor, ModelSizes], list[Tensor]]
Join = Callable[[Sequence[Tensor], ModelSizes], Tensor]


def split_qkv(fused: Tensor, sizes: ModelSizes) -> list[Tensor]:
    """Take apart [k * (n/k + 2) * d, h], per group its queries, key, value; a bias has no h.

    Returns:
        query [n * d, h], key [k * d, h], value [k * d, h].
    """
    per_group = sizes.heads // sizes.groups
    rest = fused.shape[1:]
    grouped = fused.view(sizes.groups, per_group + 2, sizes.head_dim, *rest)  # [k, n/k + 2, d, h]
    parts = grouped.split((per_group, 1, 1), dim=1)
    return [part.reshape(-1, *rest) for part in parts]


def join_qkv(parts: Sequence[Tensor], sizes: ModelSizes) -> Tensor:
    """Undo :func:`split_qkv`."""
    rest = parts[0].shape[1:]
    grouped = [part.view(sizes.groups, -1, sizes.head_dim, *rest) for part in parts]
    return torch.cat(grouped, dim=1).view(-1, *rest)


def split_gate_up(fused: Tensor, sizes: ModelSizes) -> list[Tensor]:
    """Take apart [2f, h]: gate [f, h] above up [f, h]."""
    return list(fused.split(sizes.ffn, dim=0))


def join_gate_up(parts: Sequence[Tensor], sizes: ModelSizes) -> Tensor:
    """Undo :func:`split_gate_up`."""
    return torch.cat(list(parts), dim=0)


def cut_vocab(padded: Tensor, sizes: ModelSizes) -> list[Tensor]:
    """Drop the rows that only pad the vocabulary: [padded v, h] to [v, h]."""
    return [padded[: sizes.vocab]]


def whole(tensor: Tensor, sizes: ModelSizes) -> list[Tensor]:
    """Return a tensor that is the same in both worlds."""
    return [tensor]


def join_whole(parts: Sequence[Tensor], sizes: ModelSizes) -> Tensor:
    """Undo :func:`whole`; the padding that :func:`cut_vocab` dropped stays dropped."""
    return parts[0]


@dataclass(frozen=True)
class Rule:
    """One Megatron tensor (any of its names), the Hugging Face tensors in it, and its shape.

    The first of the Megatron names is the one to write: every layer specification loads it.
    """

    megatron: tuple[str, ...]
    hf: tuple[str, ...]
    shape: Callable[[ModelSizes], Shape]
    split: Split = whole
    join: Join = join_whole

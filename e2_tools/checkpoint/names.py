# SPDX-License-Identifier: Apache-2.0
"""Which Megatron tensor is which Hugging Face tensor, how one is made of the other.

The names themselves are data, see :mod:`e2_tools.checkpoint.families`. Megatron fuses query, key
and value by group and gate above up; both rotate halves in RoPE, so no row is permuted. Shapes: h
hidden, d head size, n heads, k groups (of keys and values), f the feed-forward size, v the
vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from e2_common.errors import UserError
from e2_tools.checkpoint.sizes import Sizes

if TYPE_CHECKING:
    from e2_tools.checkpoint.families import Family


Shape = tuple[int, ...]
Split = Callable[[Tensor, Sizes], list[Tensor]]
Join = Callable[[Sequence[Tensor], Sizes], Tensor]


def split_qkv(fused: Tensor, sizes: Sizes) -> list[Tensor]:
    """Take apart [k * (n/k + 2) * d, h], per group its queries, key, value; a bias has no h.

    Returns:
        query [n * d, h], key [k * d, h], value [k * d, h].
    """
    per_group = sizes.heads // sizes.groups
    rest = fused.shape[1:]
    grouped = fused.view(sizes.groups, per_group + 2, sizes.head_dim, *rest)  # [k, n/k + 2, d, h]
    parts = grouped.split((per_group, 1, 1), dim=1)
    return [part.reshape(-1, *rest) for part in parts]


def join_qkv(parts: Sequence[Tensor], sizes: Sizes) -> Tensor:
    """Undo :func:`split_qkv`."""
    rest = parts[0].shape[1:]
    grouped = [part.view(sizes.groups, -1, sizes.head_dim, *rest) for part in parts]
    return torch.cat(grouped, dim=1).view(-1, *rest)


def split_gate_up(fused: Tensor, sizes: Sizes) -> list[Tensor]:
    """Take apart [2f, h]: gate [f, h] above up [f, h]."""
    return list(fused.split(sizes.ffn, dim=0))


def join_gate_up(parts: Sequence[Tensor], sizes: Sizes) -> Tensor:
    """Undo :func:`split_gate_up`."""
    return torch.cat(list(parts), dim=0)


def cut_vocab(padded: Tensor, sizes: Sizes) -> list[Tensor]:
    """Drop the rows that only pad the vocabulary: [padded v, h] to [v, h]."""
    return [padded[: sizes.vocab]]


def whole(tensor: Tensor, sizes: Sizes) -> list[Tensor]:
    """Return a tensor that is the same in both worlds."""
    return [tensor]


def join_whole(parts: Sequence[Tensor], sizes: Sizes) -> Tensor:
    """Undo :func:`whole`; the padding that :func:`cut_vocab` dropped stays dropped."""
    return parts[0]


@dataclass(frozen=True)
class Rule:
    """One Megatron tensor (any of its names), the Hugging Face tensors in it, and its shape.

    The first of the Megatron names is the one to write: every layer specification loads it.
    """

    megatron: tuple[str, ...]
    hf: tuple[str, ...]
    shape: Callable[[Sizes], Shape]
    split: Split = whole
    join: Join = join_whole


@dataclass(frozen=True)
class Move:
    """A Megatron tensor, or one layer of a stacked one, on its way to Hugging Face tensors."""

    source: str
    layer: int | None
    targets: tuple[str, ...]
    rule: Rule
    sizes: Sizes

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """Return the Hugging Face tensors by name; they may be views of ``tensor``."""
        return dict(zip(self.targets, self.rule.split(tensor, self.sizes), strict=True))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo :meth:`split`, but for the rows that padded the vocabulary."""
        return self.rule.join(parts, self.sizes)

    def target_shapes(self) -> dict[str, Shape]:
        """Return the shapes of :meth:`split`'s result without any data."""
        shapes = self.split(torch.empty(self.rule.shape(self.sizes), device="meta"))
        return {name: tuple(tensor.shape) for name, tensor in shapes.items()}


def plan_moves(stored: Mapping[str, Shape], sizes: Sizes, family: "Family") -> list[Move]:
    """Map every stored Megatron tensor to Hugging Face names, in the order of the model.

    Args:
        stored: shapes of the checkpoint's model tensors by name. Layers are either stacked,
            ``decoder.layers.X`` with a leading layer axis, or apart, ``decoder.layers.N.X``.
        sizes: of the model.
        family: whose names to use.

    Raises:
        UserError: tensors are missing, unknown or of another shape; all are named.
    """
    moves, problems = [], []
    used: set[str] = set()
    for rule, layer in family.rules(sizes):
        names = [(name, None) for name in _apart(rule, layer)]
        if layer is not None:
            names += [(name, layer) for name in _stacked(rule)]
        found = next((item for item in names if item[0] in stored), None)
        if found is None:
            problems.append(f"missing {names[0][0]}")
            continue
        source, index = found
        used.add(source)
        wanted = rule.shape(sizes) if index is None else (sizes.layers, *rule.shape(sizes))
        if tuple(stored[source]) != wanted:
            problems.append(f"{source} has shape {tuple(stored[source])}, expected {wanted}")
            continue
        moves.append(Move(source, index, _targets(rule, layer), rule, sizes))
    problems += [f"unknown {name}" for name in stored if name not in used]
    if problems:
        listed = "; ".join(dict.fromkeys(problems))  # a stacked tensor is met once per layer
        raise UserError(
            f"--load: the checkpoint is not a {family.title} of its arguments' sizes: {listed}"
        )
    return moves


def plan_import(stored: Mapping[str, Shape], sizes: Sizes, family: "Family") -> list[Move]:
    """Map every Hugging Face tensor to stacked Megatron names, in the order of the model.

    Args:
        stored: shapes of the model's tensors by name.
        sizes: of the model; the vocabulary is not padded.
        family: whose names to use.

    Raises:
        UserError: tensors are missing, unknown or of another shape; all are named.
    """
    moves, problems = [], []
    used: set[str] = set()
    for rule, layer in family.rules(sizes):
        source = (_apart(rule, None) if layer is None else _stacked(rule))[0]
        move = Move(source, layer, _targets(rule, layer), rule, sizes)
        moves.append(move)
        used.update(move.targets)
        for name, wanted in move.target_shapes().items():
            if name not in stored:
                problems.append(f"missing {name}")
            elif tuple(stored[name]) != wanted:
                problems.append(f"{name} has shape {tuple(stored[name])}, expected {wanted}")
    problems += [f"unknown {name}" for name in stored if name not in used]
    if problems:
        raise UserError(
            f"--hf-model: not a {family.title} of its config.json's sizes: {'; '.join(problems)}"
        )
    return moves


def _apart(rule: Rule, layer: int | None) -> list[str]:
    prefix = "" if layer is None else f"decoder.layers.{layer}."
    return [f"{prefix}{name}" for name in rule.megatron]


def _stacked(rule: Rule) -> list[str]:
    return [f"decoder.layers.{name}" for name in rule.megatron]


def _targets(rule: Rule, layer: int | None) -> tuple[str, ...]:
    prefix = "" if layer is None else f"model.layers.{layer}."
    return tuple(f"{prefix}{name}" for name in rule.hf)

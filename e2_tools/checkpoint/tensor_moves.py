# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a checkpoint become which of the other kind; all are named that do not fit.

The names themselves are data, see :mod:`e2_tools.checkpoint.families`; how one tensor is made of
others is said in :mod:`e2_tools.checkpoint.tensor_rules`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes
from e2_tools.checkpoint.families import Family
from e2_tools.checkpoint.tensor_rules import Rule, Shape

MOST = 20  # problems in one message
NAME = 80  # characters of a name in a message


@dataclass(frozen=True)
class Move:
    """A Megatron tensor, or one layer of a stacked one, on its way to Hugging Face tensors."""

    source: str
    layer: int | None
    targets: tuple[str, ...]
    rule: Rule
    sizes: ModelSizes

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


def plan_moves(stored: Mapping[str, Shape], sizes: ModelSizes, family: Family) -> list[Move]:
    """Map every stored Megatron tensor to Hugging Face names, in the order of the model.

    Args:
        stored: shapes of the checkpoint's model tensors by name. Layers are either stacked,
            ``decoder.layers.X`` with a leading layer axis, or apart, ``decoder.layers.N.X``.
        sizes: of the model.
        family: whose names to use.

    Raises:
        UserError: tensors are missing, unknown or of another shape; the first 20 are named.
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
        listed = _listed(dict.fromkeys(problems))  # a stacked tensor is met once per layer
        raise UserError(
            f"--load: the checkpoint is not a {family.title} of its arguments' sizes: {listed}"
        )
    return moves


def plan_import(stored: Mapping[str, Shape], sizes: ModelSizes, family: Family) -> list[Move]:
    """Map every Hugging Face tensor to stacked Megatron names, in the order of the model.

    Args:
        stored: shapes of the model's tensors by name.
        sizes: of the model; the vocabulary is not padded.
        family: whose names to use.

    Raises:
        UserError: tensors are missing, unknown or of another shape; the first 20 are named.
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
            f"--hf-model: not a {family.title} of its config.json's sizes: "
            f"{_other_names(stored, used) or _listed(problems)}"
        )
    return moves


def _listed(problems: Iterable[str]) -> str:
    """All problems, or the first ones and how many more there are."""
    problems = list(problems)
    more = len(problems) - MOST
    return "; ".join(problems[:MOST]) + (f"; and {more} more" if more > 0 else "")


def _other_names(stored: Mapping[str, Shape], wanted: Collection[str]) -> str | None:
    """Say in short that all tensors have names of another kind, if they have."""
    if not stored or any(name in wanted for name in stored):
        return None
    found, expected = min(stored)[:NAME], min(wanted)
    named = f"its {len(stored)} tensors are named like {found!r} instead of {expected!r}"
    if all(f"model.{name}" in wanted for name in stored):
        return (
            f"{named}: it was saved without the output layer, as the base of another model; save "
            "it from AutoModelForCausalLM of transformers"
        )
    return f"{named}: another program's names; save it with save_pretrained of transformers"


def _apart(rule: Rule, layer: int | None) -> list[str]:
    prefix = "" if layer is None else f"decoder.layers.{layer}."
    return [f"{prefix}{name}" for name in rule.megatron]


def _stacked(rule: Rule) -> list[str]:
    return [f"decoder.layers.{name}" for name in rule.megatron]


def _targets(rule: Rule, layer: int | None) -> tuple[str, ...]:
    prefix = "" if layer is None else f"model.layers.{layer}."
    return tuple(f"{prefix}{name}" for name in rule.hf)

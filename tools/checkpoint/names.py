# SPDX-License-Identifier: Apache-2.0
"""Llama's weights in both worlds: which Megatron tensor is which Hugging Face tensor, as data.

Megatron fuses query, key and value by group and gate above up; both rotate halves in RoPE, so no
row is permuted. Shapes: h hidden, d head size, n heads, k groups (of keys and values), f the
feed-forward size, v the vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megatron_patches.errors import UserError


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


Shape = tuple[int, ...]
Split = Callable[[Tensor, Sizes], list[Tensor]]
Join = Callable[[Sequence[Tensor], Sizes], Tensor]


def split_qkv(fused: Tensor, sizes: Sizes) -> list[Tensor]:
    """Take apart [k * (n/k + 2) * d, h], per group its queries, key, value.

    Returns:
        query [n * d, h], key [k * d, h], value [k * d, h].
    """
    per_group = sizes.heads // sizes.groups
    hidden = fused.shape[-1]
    grouped = fused.view(sizes.groups, per_group + 2, sizes.head_dim, hidden)  # [k, n/k + 2, d, h]
    parts = grouped.split((per_group, 1, 1), dim=1)
    return [part.reshape(-1, hidden) for part in parts]


def join_qkv(parts: Sequence[Tensor], sizes: Sizes) -> Tensor:
    """Undo :func:`split_qkv`."""
    hidden = parts[0].shape[-1]
    grouped = [part.view(sizes.groups, -1, sizes.head_dim, hidden) for part in parts]
    return torch.cat(grouped, dim=1).view(-1, hidden)


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
    """One Megatron tensor (any of its names), the Hugging Face tensors in it, and its shape."""

    megatron: tuple[str, ...]
    hf: tuple[str, ...]
    shape: Callable[[Sizes], Shape]
    split: Split = whole
    join: Join = join_whole


# The first name is that of Transformer Engine's layers, which fuse the norm into what follows it;
# Megatron's local layers also save under it. The second is the local layers' own.
LAYER_RULES = (
    Rule(
        ("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight"),
        ("input_layernorm.weight",),
        lambda s: (s.hidden,),
    ),
    Rule(
        ("self_attention.linear_qkv.weight",),
        ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
        lambda s: ((s.heads + 2 * s.groups) * s.head_dim, s.hidden),
        split_qkv,
        join_qkv,
    ),
    Rule(
        ("self_attention.linear_proj.weight",),
        ("self_attn.o_proj.weight",),
        lambda s: (s.hidden, s.heads * s.head_dim),
    ),
    Rule(
        ("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight"),
        ("post_attention_layernorm.weight",),
        lambda s: (s.hidden,),
    ),
    Rule(
        ("mlp.linear_fc1.weight",),
        ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        lambda s: (2 * s.ffn, s.hidden),
        split_gate_up,
        join_gate_up,
    ),
    Rule(
        ("mlp.linear_fc2.weight",),
        ("mlp.down_proj.weight",),
        lambda s: (s.hidden, s.ffn),
    ),
)
EMBEDDING = Rule(
    ("embedding.word_embeddings.weight",),
    ("model.embed_tokens.weight",),
    lambda s: (s.padded_vocab, s.hidden),
    cut_vocab,
)
FINAL_NORM = Rule(
    ("decoder.final_layernorm.weight",), ("model.norm.weight",), lambda s: (s.hidden,)
)
OUTPUT = Rule(
    ("output_layer.weight",),
    ("lm_head.weight",),
    lambda s: (s.padded_vocab, s.hidden),
    cut_vocab,
)


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


def plan_moves(stored: Mapping[str, Shape], sizes: Sizes) -> list[Move]:
    """Map every stored tensor to Hugging Face names, in the order of the model.

    Args:
        stored: shapes of the checkpoint's model tensors by name. Layers are either stacked,
            ``decoder.layers.X`` with a leading layer axis, or apart, ``decoder.layers.N.X``.
        sizes: of the model.

    Raises:
        UserError: tensors are missing, unknown or of another shape; all are named.
    """
    moves, problems = [], []
    used: set[str] = set()

    def add(rule: Rule, prefix: str, hf_prefix: str, layer: int | None) -> None:
        stacked = f"{prefix}layers." if layer is not None else ""
        names = [
            (f"{stacked}{layer}.{name}" if stacked else f"{prefix}{name}", None)
            for name in rule.megatron
        ]
        if stacked:
            names += [(f"{stacked}{name}", layer) for name in rule.megatron]
        found = next((item for item in names if item[0] in stored), None)
        if found is None:
            problems.append(f"missing {names[0][0]}")
            return
        source, index = found
        used.add(source)
        wanted = rule.shape(sizes) if index is None else (sizes.layers, *rule.shape(sizes))
        if tuple(stored[source]) != wanted:
            problems.append(f"{source} has shape {tuple(stored[source])}, expected {wanted}")
            return
        targets = tuple(f"{hf_prefix}{name}" for name in rule.hf)
        moves.append(Move(source, index, targets, rule, sizes))

    add(EMBEDDING, "", "", None)
    for layer in range(sizes.layers):
        for rule in LAYER_RULES:
            add(rule, "decoder.", f"model.layers.{layer}.", layer)
    add(FINAL_NORM, "", "", None)
    if not sizes.tied:
        add(OUTPUT, "", "", None)
    problems += [f"unknown {name}" for name in stored if name not in used]
    if problems:
        listed = "; ".join(dict.fromkeys(problems))  # a stacked tensor is met once per layer
        raise UserError(f"--load: the checkpoint is not a Llama of its arguments' sizes: {listed}")
    return moves

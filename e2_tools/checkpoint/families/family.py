# SPDX-License-Identifier: Apache-2.0
"""What a family of models is, and the rules that most families share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from e2_common.model_sizes import ModelSizes
from e2_tools.checkpoint.tensor_rules import (
    Rule,
    cut_vocab,
    join_gate_up,
    join_qkv,
    split_gate_up,
    split_qkv,
)
from megatron_patches.checkpoint.model_arguments import NO_ROPE

# The first name is that of Transformer Engine's layers, which fuse the norm into what follows it;
# Megatron's local layers also save under it. The second is the local layers' own.
INPUT_NORM = Rule(
    ("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight"),
    ("input_layernorm.weight",),
    lambda s: (s.hidden,),
)
QKV = Rule(
    ("self_attention.linear_qkv.weight",),
    ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    lambda s: ((s.heads + 2 * s.groups) * s.head_dim, s.hidden),
    split_qkv,
    join_qkv,
)
QKV_BIAS = Rule(
    ("self_attention.linear_qkv.bias",),
    ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    lambda s: ((s.heads + 2 * s.groups) * s.head_dim,),
    split_qkv,
    join_qkv,
)
QUERY_NORM = Rule(
    ("self_attention.q_layernorm.weight",), ("self_attn.q_norm.weight",), lambda s: (s.head_dim,)
)
KEY_NORM = Rule(
    ("self_attention.k_layernorm.weight",), ("self_attn.k_norm.weight",), lambda s: (s.head_dim,)
)
ATTENTION_OUTPUT = Rule(
    ("self_attention.linear_proj.weight",),
    ("self_attn.o_proj.weight",),
    lambda s: (s.hidden, s.heads * s.head_dim),
)
MLP_NORM = Rule(
    ("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight"),
    ("post_attention_layernorm.weight",),
    lambda s: (s.hidden,),
)
GATE_UP = Rule(
    ("mlp.linear_fc1.weight",),
    ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    lambda s: (2 * s.ffn, s.hidden),
    split_gate_up,
    join_gate_up,
)
DOWN = Rule(("mlp.linear_fc2.weight",), ("mlp.down_proj.weight",), lambda s: (s.hidden, s.ffn))
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


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that differ in sizes only; everything here is data.

    Attributes:
        title: for messages.
        model_type: in config.json, and with ``architecture`` what transformers builds.
        layer_rules: the tensors of one layer, in the order in which they are read and written.
        megatron: Megatron's arguments that make this family, beside those that all families share.
        config: what config.json must say to be of the plain kind that Megatron builds.
        layers_without_rope: whether ``no_rope_layers`` of config.json, Megatron's
            ``--no-rope-freq``, says which layers rotate nothing.
    """

    title: str
    model_type: str
    architecture: str
    layer_rules: tuple[Rule, ...]
    megatron: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    layers_without_rope: bool = False

    @property
    def kind(self) -> frozenset[str]:
        """The arguments of Megatron that tell it from other families."""
        return frozenset(self.megatron) | ({NO_ROPE} if self.layers_without_rope else frozenset())

    def rules(self, sizes: ModelSizes) -> Iterator[tuple[Rule, int | None]]:
        """Every tensor of a model of these sizes: its rule, and its layer or None."""
        yield EMBEDDING, None
        for layer in range(sizes.layers):
            for rule in self.layer_rules:
                yield rule, layer
        yield FINAL_NORM, None
        if not sizes.tied:
            yield OUTPUT, None

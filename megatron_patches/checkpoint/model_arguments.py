# SPDX-License-Identifier: Apache-2.0
"""Megatron's arguments that make a model, as a run has them and a checkpoint stores them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelArgument:
    """One of them.

    Attributes:
        name: attribute of Megatron's arguments. Other versions of Megatron may lack it.
        flag: how the command line says it. None: a run is not compared with its checkpoint in it.
        known: the values that the known families of models have a place for; empty: any.
        tells_families: whether it tells these families apart.
        forgotten: whether Megatron's ``--use-checkpoint-args`` forgets to take it over.
    """

    name: str
    flag: str | None = None
    known: tuple[object, ...] = ()
    tells_families: bool = False
    forgotten: bool = False


MODEL_ARGUMENTS = (
    ModelArgument("num_layers", "--num-layers"),
    ModelArgument("hidden_size", "--hidden-size"),
    ModelArgument("ffn_hidden_size", "--ffn-hidden-size"),
    ModelArgument("num_attention_heads", "--num-attention-heads"),
    ModelArgument("group_query_attention", "--group-query-attention"),
    ModelArgument("num_query_groups", "--num-query-groups"),
    ModelArgument("kv_channels", "--kv-channels"),
    ModelArgument("untie_embeddings_and_output_weights", "--untie-embeddings-and-output-weights"),
    ModelArgument("swiglu", "--swiglu", known=(True,)),
    ModelArgument("normalization", "--normalization", known=("RMSNorm",)),
    ModelArgument("add_bias_linear", "--disable-bias-linear", known=(False,)),
    ModelArgument("add_qkv_bias", "--add-qkv-bias", tells_families=True),
    ModelArgument("qk_layernorm", "--qk-layernorm", tells_families=True, forgotten=True),
    ModelArgument("position_embedding_type", "--position-embedding-type", known=("rope",)),
    ModelArgument("rotary_base", "--rotary-base"),
    ModelArgument("rotary_percent", "--rotary-percent", known=(1,)),
    ModelArgument("rotary_interleaved", "--rotary-interleaved", known=(False,)),
    ModelArgument(
        "rotary_seq_len_interpolation_factor",
        "--rotary-seq-len-interpolation-factor",
        forgotten=True,
    ),
    ModelArgument("use_rope_scaling", "--use-rope-scaling", forgotten=True),
    ModelArgument("rope_scaling_factor", "--rope-scaling-factor", forgotten=True),
    ModelArgument("layernorm_epsilon", "--norm-epsilon", forgotten=True),
    ModelArgument("no_rope_freq", known=(None,)),
    ModelArgument("num_experts", known=(None, 0)),
    ModelArgument("multi_latent_attention", known=(False,)),
    ModelArgument("qk_l2_norm", known=(False,)),
    ModelArgument("softmax_type", known=("vanilla",)),
    ModelArgument("window_size", known=(None,)),
    ModelArgument("attention_output_gate", known=(False,)),
    ModelArgument("experimental_attention_variant", known=(None,)),
    ModelArgument("layernorm_zero_centered_gamma", known=(False,)),
    ModelArgument("apply_layernorm_1p", known=(False,)),
    ModelArgument("apply_residual_connection_post_layernorm", known=(False,)),
    ModelArgument("activation_func_clamp_value", known=(None,)),
    ModelArgument("glu_linear_offset", known=(0,)),
    ModelArgument("use_mup", known=(False,)),
    ModelArgument("mtp_num_layers", known=(None, 0)),
    ModelArgument("hybrid_layer_pattern", known=(None,)),
    ModelArgument("heterogeneous_layers_config_path", known=(None,)),
)

# Name -> flag, of those in which a run and its checkpoint are compared.
COMPARED = {one.name: one.flag for one in MODEL_ARGUMENTS if one.flag}
# Name -> values, of those that can make a model of no known family.
KNOWN = {one.name: one.known for one in MODEL_ARGUMENTS if one.known}
TELL_FAMILIES = tuple(one.name for one in MODEL_ARGUMENTS if one.tells_families)
FORGOTTEN = tuple(one.name for one in MODEL_ARGUMENTS if one.forgotten)
# What a model is run at, and does not change its weights.
WINDOWS = ("max_position_embeddings", "seq_length")

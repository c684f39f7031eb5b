# SPDX-License-Identifier: Apache-2.0
"""Which of Megatron's arguments make the function that a checkpoint's weights are trained in.

Found in Megatron: what its model configurations are filled from, less what is named here as a
matter of the machine, of precision or of training alone. So an argument that a later Megatron adds
to a model counts as one of the model until it is named here. ``--use-checkpoint-args`` takes all of
them over (Megatron's own leaves out many that no tensor's shape shows), and a run is compared with
its checkpoint in all of them.
"""

import argparse
import ast
import fnmatch
import inspect
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import fields
from functools import lru_cache

# A name that ends in ``*`` stands for all that begin so.
THE_MACHINE = (
    *("account_for_*", "activation_offload_*", "apply_rope_fusion", "attention_backend"),
    *("batch_invariant_mode", "bias_*_fusion", "cache_mla_latents", "clone_scatter_output_*"),
    *("config_logger_dir", "cp_comm_type", "cuda_graph_*", "decoder_first_*", "decoder_last_*"),
    *("delay_offload_*", "delta_offload_*", "distribute_saved_activations", "dsa_kernel_backend"),
    *("enable_cuda_graph", "external_cuda_graph", "fine_grained_*", "flash_*", "fused_*"),
    *("high_priority_*", "inference_*", "init_model_with_meta_device", "kitchen_*"),
    *("log_max_attention_logit", "masked_softmax_fusion", "min_offloaded_*", "mlp_chunks_*"),
    *("mla_down_proj_fusion", "moe_deepep_*", "moe_enable_*", "moe_flex_*", "moe_grouped_gemm"),
    *("moe_hybridep_*", "moe_layer_recompute", "moe_ncclep_*", "moe_pad_*", "moe_paged_*"),
    *("moe_per_layer_logging", "moe_permute_*", "moe_router_fusion", "moe_router_padding_*"),
    *("moe_shared_expert_overlap", "moe_single_*", "moe_token_dispatcher_type"),
    *("nccl_all_reduce_for_prefill", "no_persist_layer_norm", "offload_modules"),
    *("pipeline_model_parallel_layout", "recompute_*", "spec", "symmetric_ar_type", "test_mode"),
    *("tp_comm_overlap_cfg", "transformer_impl", "use_fused_*", "use_grouped_gemm_*"),
    *("use_kitchen_attention", "use_mamba_mem_eff_path", "use_te_*", "use_transformer_engine_*"),
    "yaml_cfg",
)
PRECISION = (
    *("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "disable_bf16_*", "dsa_*_fp32"),
    *("first_last_layers_bf16", "fp16_*", "fp32_*", "fp4*", "fp8*", "mamba_training_*"),
    *("moe_router_dtype", "num_layers_at_*", "te_precision_config_file"),
)
TRAINING = (
    *("*_dropout", "calculate_per_token_loss", "dsa_indexer_loss_coeff", "*init_method_*"),
    *("dsa_indexer_use_sparse_loss", "moe_aux_loss_coeff", "moe_expert_*", "moe_input_jitter_eps"),
    *("moe_router_bias_update_rate", "moe_router_force_*", "moe_router_load_balancing_type"),
    *("moe_router_quantile_*", "moe_token_drop_policy", "moe_z_loss_coeff", "mtp_detach_heads"),
    *("mtp_loss_scaling_factor", "qk_clip*", "seed"),
)
# The rows of the vocabulary have a check of their own, and windows are the run's.
SIZES = ("make_vocab_size_divisible_by", "max_position_embeddings", "*vocab_size", "seq_length")
# Paths and other spellings of what other arguments say.
SAID_ELSEWHERE = ("heterogeneous_layers_config_path", "is_hybrid_model", "rope_type")
NOT_THE_MODEL = (*THE_MACHINE, *PRECISION, *TRAINING, *SIZES, *SAID_ELSEWHERE)

# Those that begin so mean nothing without the argument that they belong to.
BELONG_TO = {
    "dsa_": "experimental_attention_variant",
    "kv_lora_rank": "multi_latent_attention",
    "mamba_": "hybrid_layer_pattern",
    "linear_": "experimental_attention_variant",
    "moe_": "num_experts",
    "mscale": "multi_latent_attention",
    "mtp_": "mtp_num_layers",
    "mup_": "use_mup",
    "q_lora_rank": "multi_latent_attention",
    "qk_head_dim": "multi_latent_attention",
    "qk_pos_emb_head_dim": "multi_latent_attention",
    "rope_scaling_factor": "use_rope_scaling",
    "rotary_scaling_factor": "multi_latent_attention",
    "v_head_dim": "multi_latent_attention",
    "window_attn_skip_freq": "window_size",
}


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is among patterns, whose ``*`` stands for anything."""
    return _matcher(tuple(patterns))(name) is not None


@lru_cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match


def fed_to_models(arguments: Container[str]) -> frozenset[str]:
    """The arguments that Megatron's configurations of a GPT model are filled from.

    Args:
        arguments: every name that its parser knows.
    """
    return frozenset(name for name in _fields() if name in arguments)


@lru_cache(maxsize=1)
def _fields() -> frozenset[str]:
    from megatron.core.model_parallel_config import ModelParallelConfig
    from megatron.core.transformer.heterogeneous.heterogeneous_config import (
        HeterogeneousTransformerConfig,
    )
    from megatron.core.transformer.transformer_config import MLATransformerConfig
    from megatron.training import argument_utils
    from megatron.training.models.gpt import GPTModelConfig

    kinds = (MLATransformerConfig, HeterogeneousTransformerConfig, GPTModelConfig)
    names = {field.name for kind in kinds for field in fields(kind)}
    for function in (
        argument_utils.core_transformer_config_from_args,
        argument_utils.gpt_config_from_args,
    ):
        names |= {
            node.attr
            for node in ast.walk(ast.parse(inspect.getsource(function)))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "args"
        }
    return frozenset(names - {field.name for field in fields(ModelParallelConfig)})


def of_the_model(arguments: Container[str]) -> list[str]:
    """The arguments that make the model, in order of their names.

    Args:
        arguments: every name that Megatron's parser knows.
    """
    return sorted(name for name in fed_to_models(arguments) if not is_named(name, NOT_THE_MODEL))


def counts(name: str, *runs: argparse.Namespace) -> bool:
    """Whether an argument of the model means anything in one of these runs."""
    for beginning, owner in BELONG_TO.items():
        if name.startswith(beginning) and name != owner:
            return any(getattr(run, owner, None) for run in runs)
    return True

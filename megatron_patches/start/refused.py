# SPDX-License-Identifier: Apache-2.0
"""Arguments that Megatron's parser takes and this program would do nothing with.

They are refused where the command line names them: what was asked for would silently not happen.
``benchmarks/arguments`` finds in the source what nothing reads, and its tests hold these tables.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from e2_common.errors import UserError

# Groups of the parser that belong to another program, but for the arguments in ``KEPT``.
GROUPS: dict[str, str] = {
    "rl": "reinforcement learning has a training loop of its own, Megatron's train_rl.py",
    "biencoder": "retrievers are trained by another script of Megatron's",
    "vision": "models of images are trained by another script of Megatron's",
    "inference": "is about serving; export the model and serve it with what you like",
    "straggler": "upstream's forward step is timed for it, this one is not; see --log-throughput",
    "In-process restart": "needs a wrapper that only upstream's pretrain_gpt.py puts around the "
    "training; torchrun --max-restarts starts all ranks again",
    "sft": "only upstream's pretrain_gpt.py packs conversations; prepare_corpus.py makes them "
    "texts with loss masks",
}
KEPT = frozenset({"cuda_graph_modules", "cuda_graph_scope_deprecated", "data_sharding"})

_FIM = "only upstream's pretrain_gpt.py fills in the middle; rearrange the texts beforehand"
_DISTILLATION = "only upstream's pretrain_gpt.py has a loss of stored logits"
_OTHER_MODEL = "is about a model that this program does not build"
_NOWHERE = "Megatron 0.19.2 reads it nowhere"
_LAYOUT = "needs a forward step that only upstream's pretrain_gpt.py has"
_LATENT = "is for --multi-latent-attention, whose rotation no position method reaches"
_PACKED = "needs packed sequences, of which only upstream's pretrain_gpt.py makes batches"

# Whatever the run is like; ``name=value`` stands for that value alone, ``*`` for anything.
ALWAYS: dict[str, str] = {
    # positions
    "reset_position_ids": "RoPE of Megatron's GPT takes no position ids; --reset-attention-mask "
    "keeps documents apart, and RoPE knows distances only",
    "multi_latent_attention": "its layers rotate by themselves, which no position method reaches",
    "q_lora_rank": _LATENT,
    "kv_lora_rank": _LATENT,
    "qk_head_dim": _LATENT,
    "qk_pos_emb_head_dim": _LATENT,
    "v_head_dim": _LATENT,
    "cache_mla_latents": _LATENT,
    "mla_down_proj_fusion": _LATENT,
    "dsa_*": _LATENT,
    "experimental_attention_variant=dsa": _LATENT,
    "rope_type": "is for --multi-latent-attention; --position-method chooses the frequencies",
    "rotary_scaling_factor": "is for Megatron's own YaRN; use --e2-factor or --e2-max-scale",
    "mscale": "is for Megatron's own YaRN; see --e2-frequencies yarn",
    "mscale_all_dim": "is for Megatron's own YaRN; see --e2-frequencies yarn",
    "yarn_original_max_position_embeddings": "is for Megatron's own YaRN; use --e2-base-window",
    "yarn_beta_fast": "is for Megatron's own YaRN; see --e2-frequencies yarn",
    "yarn_beta_slow": "is for Megatron's own YaRN; see --e2-frequencies yarn",
    "yarn_correction_range_round_to_int": "is for Megatron's own YaRN; see --e2-frequencies yarn",
    "mrope_section": "is for positions of images",
    "relative_attention_num_buckets": "is for T5; this program trains RoPE models",
    "relative_attention_max_distance": "is for T5; this program trains RoPE models",
    # layers
    "hybrid_layer_pattern": "Mamba and other hybrid layers are built by pretrain_hybrid.py",
    "hybrid_override_pattern": "Mamba and other hybrid layers are built by pretrain_hybrid.py",
    "mtp_hybrid_override_pattern": "hybrid layers are built by pretrain_hybrid.py",
    "mamba_*": "Mamba and other hybrid layers are built by pretrain_hybrid.py",
    "use_mamba_mem_eff_path": "Mamba and other hybrid layers are built by pretrain_hybrid.py",
    "is_hybrid_model": "hybrid layers are built by pretrain_hybrid.py",
    "apply_residual_connection_post_layernorm": f"{_NOWHERE}: residuals are before the norm",
    "encoder_num_layers": "is for models with an encoder; use --num-layers",
    "decoder_num_layers": "is for models with an encoder; use --num-layers",
    "openai_gelu": f"{_NOWHERE}: GELU is what it is without --swiglu",
    "yaml_cfg": "takes the place of the command line, and of this program's flags",
    # data
    "fim_data": _FIM,
    "fim_rate": _FIM,
    "fim_spm_rate": _FIM,
    "fim_split_sample": _FIM,
    "fim_fragment_rate": _FIM,
    "fim_no_prefix": _FIM,
    "fim_prefix_token": _FIM,
    "fim_middle_token": _FIM,
    "fim_suffix_token": _FIM,
    "fim_pad_token": _FIM,
    "fim_eod_token": _FIM,
    "dataloader_inter_document_masking": f"{_PACKED}; --reset-attention-mask keeps documents apart",
    "per_dataset_sequences_path": "only upstream's pretrain_gpt.py reads it; every index is read "
    "and checked before the start anyway",
    "sample_rate": _OTHER_MODEL,
    "mask_prob": "is for BERT; this program predicts the next token",
    "short_seq_prob": "is for BERT; this program predicts the next token",
    "decoder_seq_length": "is for models with an encoder; use --seq-length",
    "encoder_seq_length": "is for models with an encoder; use --seq-length",
    "vocab_extra_ids": "is for T5; --make-vocab-size-divisible-by pads the vocabulary",
    "logits_load_dir": _DISTILLATION,
    "logits_load_decode_threads": _DISTILLATION,
    "logits_load_prefetch_factor": _DISTILLATION,
    "logits_load_msc_prefetch_depth": _DISTILLATION,
    "logits_load_kd_loss_alpha": _DISTILLATION,
    "logits_load_ignore_errors": _DISTILLATION,
    # batch, schedule, layout
    "batch_size": "is gone; use --micro-batch-size",
    "checkpoint_activations": "is gone; use --recompute-activations",
    "warmup": "is gone; use --lr-warmup-fraction",
    "model_parallel_size": "is gone; use --tensor-model-parallel-size",
    "rampup_batch_size": f"{_NOWHERE}; --step-batch-size-schedule does it",
    "hybrid_context_parallel": _PACKED,
    "max_seqlen_per_dp_cp_rank": _PACKED,
    "overlap_moe_expert_parallel_comm": _LAYOUT,
    "ep_overlap_early_attn_memory_release": _LAYOUT,
    "overlap_dispatch_backward_with_experts_wgrad": _LAYOUT,
    "delay_wgrad_compute": _LAYOUT,
    "exit_signal_handler_for_dataloader": f"{_NOWHERE}; see --exit-signal-handler",
    "enable_full_sharding_in_hsdp": f"{_NOWHERE}; see --outer-dp-sharding-strategy",
    "dataloader_type=external": "needs a loader of your own; use single or cyclic",
    # checkpoints
    "dist_ckpt_save_pre_mcore_014": f"{_NOWHERE}: checkpoints have the present format",
    # serving
    "transformer_impl=inference_optimized": GROUPS["inference"],
    "inference_*": GROUPS["inference"],
    "nccl_all_reduce_for_prefill": GROUPS["inference"],
    "moe_pad_experts_for_cuda_graph_inference": GROUPS["inference"],
    "mlp_chunks_for_prefill": GROUPS["inference"],
    "flash_decode": GROUPS["inference"],
}

_FP = "low precision is within Transformer Engine's layers"
_TE = "is within Transformer Engine's layers"
_ATTENTION = "needs Transformer Engine's attention"

# Where the layers are Megatron's local ones. Transformer Engine's layers have all of it.
LOCAL_LAYERS: dict[str, str] = {
    "fp8*": _FP,
    "fp4*": _FP,
    "first_last_layers_bf16": _FP,
    "num_layers_at_start_in_bf16": _FP,
    "num_layers_at_end_in_bf16": _FP,
    "te_precision_config_file": _FP,
    "reuse_grad_buf_for_mxfp8_param_ag": _FP,
    "keep_fp8_transpose_cache": _FP,
    "moe_router_padding_for_quantization": _FP,
    "moe_router_padding_for_fp8": _FP,
    "tp_comm*": f"{_TE}; the local ones overlap nothing",
    "fused_residual_rmsnorm": _TE,
    "use_te_activation_func": _TE,
    "use_transformer_engine_op_fuser": _TE,
    "use_grouped_gemm_for_dense_mlp": _TE,
    "use_grouped_gemm_for_shared_expert": _TE,
    "moe_grouped_gemm": f"{_TE}; the local ones compute expert after expert",
    "moe_single_grouped_weight": _TE,
    "moe_single_grouped_bias": _TE,
    "flash_attention_version": _ATTENTION,
    "window_size": _ATTENTION,
    "window_attn_skip_freq": _ATTENTION,
    "softmax_type": _ATTENTION,
    "qk_clip": _ATTENTION,
    "qk_clip_alpha": _ATTENTION,
    "qk_clip_threshold": _ATTENTION,
    "log_max_attention_logit": _ATTENTION,
    "cp_comm_type": _ATTENTION,
    "hierarchical_context_parallel_sizes": _ATTENTION,
    "experimental_attention_variant": "Megatron builds it of Transformer Engine's layers only",
    "linear_*": "Megatron builds it of Transformer Engine's layers only",
    "layernorm_zero_centered_gamma": "needs Transformer Engine's norm",
    "symmetric_ar_type": _TE,
}

# Nothing reads them; what they ask for is so anyway, or cannot be otherwise. They are told.
NO_EFFECT: dict[str, str] = {
    "add_position_embedding": "a RoPE model has none",
    "onnx_safe": "the exporter needs nothing of it",
    "bert_binary_head": "GPT has none",
    "use_flash_attn": "--kernel-attention chooses the attention",
    "deprecated_use_mcore_models": "there are no others",
    "use_dist_ckpt_deprecated": "--ckpt-format says it",
    "dist_ckpt_format_deprecated": "--ckpt-format says it",
    "ckpt_fully_parallel_save_deprecated": "it is so by default",
}


@dataclass(frozen=True)
class Typed:
    """An argument that the command line sets to another value than its default.

    Attributes:
        dest: its name among the arguments.
        flag: as it was typed.
        group: the parser's group.
        value: what it is set to.
    """

    dest: str
    flag: str
    group: str
    value: object = None


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Name -> flag, of every argument that a parser knows."""
    return {
        action.dest: action.option_strings[0]
        for action in reversed(parser._actions)  # of two flags for one name the first
        if action.option_strings
    }


def typed(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[Typed]:
    """What the command line sets.

    Args:
        parser: with the defaults that hold without a command line.
        args: as it parsed them.
    """
    words = _words()
    return [
        Typed(action.dest, flags[0], group.title or "", getattr(args, action.dest, None))
        for group in parser._action_groups
        for action in group._group_actions
        if (flags := [flag for flag in action.option_strings if flag in words])
        and getattr(args, action.dest, None) != parser.get_default(action.dest)
    ]


def _words() -> set[str]:
    return {word.partition("=")[0] for word in sys.argv[1:]}


def refuse_yaml() -> None:
    """Refuse ``--yaml-cfg`` before Megatron's parsing reads the file.

    Raises:
        UserError: it is on the command line.
    """
    if "--yaml-cfg" in _words():
        raise UserError(f"--yaml-cfg: {ALWAYS['yaml_cfg']}; drop it")


def taken_over(parser: argparse.ArgumentParser, model: Mapping[str, object]) -> list[Typed]:
    """What ``--use-checkpoint-args`` sets as if the command line did.

    Args:
        parser: with the defaults that hold without a command line.
        model: the arguments that it takes over.
    """
    flags = flags_of(parser)
    return [
        Typed(name, f"--use-checkpoint-args takes over {flags[name]}", "", value)
        for name, value in model.items()
        if value != parser.get_default(name)
    ]


def refuse_ignored(told: list[Typed]) -> list[str]:
    """Refuse what would do nothing, whatever the run is like.

    Args:
        told: what the command line sets.

    Returns:
        A line for each argument that has no effect and need not be refused.

    Raises:
        UserError: an argument would be ignored.
    """
    for one in told:
        reason = reason_to_refuse(one)
        if reason:
            raise UserError(f"{one.flag}: {reason}; drop it")
    return list(_without_effect(told))


def refuse_without_te(told: list[Typed], transformer_impl: str) -> None:
    """Refuse what only Transformer Engine's layers have, where the layers are Megatron's own.

    Args:
        told: what the command line sets.
        transformer_impl: the layers of the run.

    Raises:
        UserError: an argument would be ignored.
    """
    if transformer_impl != "local":
        return
    for one in told:
        reason = te_reason(one.dest)
        if reason:
            raise UserError(
                f"{one.flag}: {reason}, and this run has Megatron's local ones; "
                "install Transformer Engine, or drop it"
            )


def refuse_overruled(
    told: list[Typed], args: argparse.Namespace, stored: argparse.Namespace
) -> None:
    """Refuse what ``--use-checkpoint-args`` has replaced by what the checkpoint says.

    Args:
        told: what the command line sets.
        args: Megatron's, validated.
        stored: the checkpoint's, if they were taken over.

    Raises:
        UserError: an argument of the command line is no longer what it was set to.
    """
    for one in told:
        value = getattr(args, one.dest, one.value)
        if value != one.value and value == getattr(stored, one.dest, one.value):
            raise UserError(
                f"{one.flag} {one.value}: --use-checkpoint-args takes the checkpoint's {value}; "
                "drop one of the two"
            )


def reason_to_refuse(one: Typed) -> str | None:
    """Why an argument is refused in every run; None if it is not."""
    reason = _reason(ALWAYS, one.dest) or ALWAYS.get(f"{one.dest}={one.value}")
    if reason or one.dest in KEPT:
        return reason
    return GROUPS.get(one.group)


def te_reason(dest: str) -> str | None:
    """Why an argument is refused with local layers; None if it is not."""
    return _reason(LOCAL_LAYERS, dest)


def _reason(table: Mapping[str, str], dest: str) -> str | None:
    return next((reason for name, reason in table.items() if matches(name, dest)), None)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is meant by an entry of a table, in which ``*`` stands for anything."""
    return fnmatchcase(name, pattern)


def _without_effect(told: list[Typed]) -> Iterator[str]:
    for one in told:
        if one.dest in NO_EFFECT:
            yield f"{one.flag}: Megatron 0.19.2 reads it nowhere: {NO_EFFECT[one.dest]}"

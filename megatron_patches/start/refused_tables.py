# SPDX-License-Identifier: Apache-2.0
"""Which arguments of Megatron's this program would do nothing with, and why."""

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
_BREAKS = "Megatron 0.19.2 breaks on it at the first evaluation"
_NOWHERE = "Megatron 0.19.2 reads it nowhere"
_LAYOUT = "needs a forward step that only upstream's pretrain_gpt.py has"
_LATENT = "is for --multi-latent-attention, whose rotation no position method reaches"
_PACKED = "needs packed sequences, of which only upstream's pretrain_gpt.py makes batches"

# Whatever the run is like; ``name=value`` stands for that value alone, ``*`` for anything.
ALWAYS: dict[str, str] = {
    # positions
    "reset_position_ids": "RoPE of Megatron's GPT takes no position ids; "
    "--dataloader-inter-document-masking begins anew in every document",
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
    "full_validation": f"{_BREAKS}; use --eval-iters N, so that N x the global batch is the split",
    "multiple_validation_sets": f"{_BREAKS}; use --eval-iters N and a blend",
    "validation_set_names": "is for --multiple-validation-sets, which is refused",
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

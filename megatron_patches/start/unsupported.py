# SPDX-License-Identifier: Apache-2.0
"""What Megatron would take and then break on, at the first step or at the first evaluation."""

import argparse
from importlib.util import find_spec

from e2_common.errors import UserError

AT_LEAST_ONE = ("log_interval", "eval_interval", "tensorboard_log_interval", "rotary_base")


def check(args: argparse.Namespace, on_cpu: bool) -> None:
    """Refuse it.

    Args:
        args: Megatron's, validated.
        on_cpu: whether the CPU runtime is installed.

    Raises:
        UserError: naming the flag.
    """
    _check_numbers(args)
    _check_heads(args)
    if args.dataloader_inter_document_masking:
        _check_documents(args)
    stages = args.pipeline_model_parallel_size * (args.virtual_pipeline_model_parallel_size or 1)
    if args.reset_attention_mask and stages > 2:
        raise UserError(
            f"--reset-attention-mask: of {stages} pipeline stages only the first and the last get "
            "the mask; use --dataloader-inter-document-masking"
        )
    if args.dataloader_type == "external":
        raise UserError(
            "--dataloader-type external: takes data from a loader of one's own, and this project "
            "builds Megatron's datasets; use single or cyclic"
        )
    if on_cpu and args.cuda_graph_impl != "none":
        raise UserError(f"--cuda-graph-impl {args.cuda_graph_impl}: needs a CUDA device")
    layout = args.pipeline_model_parallel_layout
    if args.mtp_num_layers and isinstance(layout, str) and "m" in layout.rpartition("|")[0]:
        raise UserError(
            f"--pipeline-model-parallel-layout {layout}: the layers of --mtp-num-layers need the "
            "text, which only the first and the last stage have; put every m into the last stage"
        )


def check_wandb(args: argparse.Namespace) -> None:
    """Refuse what Weights & Biases cannot be started with, or would then be told nothing.

    Args:
        args: Megatron's, parsed.

    Raises:
        UserError: naming the flag.
    """
    if not args.wandb_project:
        return
    project = f"--wandb-project {args.wandb_project}"
    if find_spec("wandb") is None:
        raise UserError(f"{project}: install wandb")
    if not args.wandb_exp_name:
        raise UserError(f"{project}: name the run with --wandb-exp-name")
    if not (args.wandb_save_dir or args.save):
        raise UserError(f"{project}: name a folder with --wandb-save-dir, or --save")
    if not args.tensorboard_dir:
        raise UserError(f"{project}: Megatron sends it what it writes to --tensorboard-dir; add it")


def _check_numbers(args: argparse.Namespace) -> None:
    for name in AT_LEAST_ONE:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"{_flag(name)} {value}: must be at least 1")
    if args.num_experts and args.moe_router_topk > args.num_experts:
        raise UserError(
            f"--moe-router-topk {args.moe_router_topk}: there are only --num-experts "
            f"{args.num_experts}"
        )
    for name in ("attention_dropout", "hidden_dropout"):
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f"{_flag(name)} {getattr(args, name)}: must be between 0 and 1")


def _check_heads(args: argparse.Namespace) -> None:
    if args.group_query_attention and args.num_attention_heads % args.num_query_groups:
        raise UserError(
            f"--num-query-groups {args.num_query_groups}: --num-attention-heads "
            f"{args.num_attention_heads} is not a multiple of it"
        )
    rotated = int(args.kv_channels * args.rotary_percent)
    if rotated < 2 or rotated % 2:
        raise UserError(
            f"--kv-channels {args.kv_channels} x --rotary-percent {args.rotary_percent:g}: RoPE "
            f"rotates pairs of channels, and {rotated} is not a positive even number"
        )


def _check_documents(args: argparse.Namespace) -> None:
    """What keeps documents apart by itself, or cannot."""
    cannot = {
        f"--context-parallel-size {args.context_parallel_size}": args.context_parallel_size > 1,
        "--reset-attention-mask": args.reset_attention_mask,
        "--mtp-num-layers": args.mtp_num_layers,
        "--spec": args.spec is not None,
        "--transformer-impl transformer_engine": args.transformer_impl != "local",
        f"--cuda-graph-impl {args.cuda_graph_impl}": args.cuda_graph_impl != "none",
    }
    for flag, is_asked in cannot.items():
        if is_asked:
            raise UserError(
                f"--dataloader-inter-document-masking: does not work with {flag}; it needs this "
                "project's attention in Megatron's local layers (--transformer-impl local)"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

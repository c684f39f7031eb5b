# SPDX-License-Identifier: Apache-2.0
"""What a run is about to do, a line a finding, before anything is built.

A wrong layout, a slow kernel or a missing package is then seen in the first seconds of the log.
"""

import argparse
import os
from collections.abc import Iterator

import torch

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from megatron_patches.kernels.choice import Choice
from megatron_patches.kernels.facts import Facts
from megatron_patches.start import training_time


def findings(
    args: argparse.Namespace, config: E2Config, facts: Facts, choice: Choice
) -> Iterator[str]:
    """Yield the report.

    Args:
        args: Megatron's, validated.
        config: of the positions.
        facts: of the machine, its packages and the model.
        choice: the kernel of every part.
    """
    yield f"devices: {_devices(args, facts.on_cpu)}"
    yield f"layout: {_layout(args)}"
    yield f"kernels: {choice.report()}"
    for line in choice.missing(facts):
        yield f"missing: {line}"
    yield f"positions: {method_for(config).summary()}"
    gpu = None if facts.on_cpu else training_time.known_gpu(torch.cuda.get_device_name())
    yield f"work: {_work(args, gpu)}"


def _devices(args: argparse.Namespace, on_cpu: bool) -> str:
    backend = args.distributed_backend
    if on_cpu:
        return f"{args.world_size} x CPU, {torch.get_num_threads()} threads each, {backend}"
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    text = f"{args.world_size} x {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {backend}"
    if backend == "nccl":
        text += " " + ".".join(map(str, torch.cuda.nccl.version()))
    peers = range(1, torch.cuda.device_count())
    if all(torch.cuda.can_device_access_peer(0, peer) for peer in peers):
        return text
    return text + ", without peer access between the GPUs of a node"


def _layout(args: argparse.Namespace) -> str:
    parts = [
        f"TP {args.tensor_model_parallel_size}" + " with SP" * args.sequence_parallel,
        f"PP {args.pipeline_model_parallel_size}",
        f"CP {args.context_parallel_size}",
        f"DP {args.data_parallel_size}"
        + " (distributed optimizer)" * args.use_distributed_optimizer,
    ]
    virtual = args.virtual_pipeline_model_parallel_size
    if virtual:
        parts[1] += f" x {virtual} virtual"
    recompute = args.recompute_granularity
    return " x ".join(parts) + (f", {recompute} recompute" if recompute else ", no recompute")


def _work(args: argparse.Namespace, gpu: training_time.Gpu | None) -> str:
    tokens = args.global_batch_size * args.seq_length
    micro = args.global_batch_size // (args.micro_batch_size * args.data_parallel_size)
    text = (
        f"{tokens:,} tokens an iteration ({args.global_batch_size} windows of {args.seq_length}, "
        f"{micro} micro-batches a rank)"
    )
    if args.train_iters:
        text += f", {args.train_iters:,} iterations, {tokens * args.train_iters:,} tokens in all"
        text += _planned_hours(args, gpu)
    return text


def _planned_hours(args: argparse.Namespace, gpu: training_time.Gpu | None) -> str:
    """FLOPs of the run, and on GPUs whose speed is known its hours; of dense models only."""
    if args.num_experts is not None:
        return ""
    shape, layout = _shape(args), _parallelism(args)
    flops = args.train_iters * layout.tokens * shape.flops(args.seq_length)
    text = f", {flops:.3g} FLOPs"
    if gpu is None or not (args.bf16 or args.fp16):
        return text
    mfu = training_time.reached_mfu(shape, layout, gpu)
    speed = training_time.tokens_per_second(shape, layout, gpu, mfu)
    hours = args.train_iters * layout.tokens / speed / 3600
    return text + f", about {hours:.1f} h at {mfu:.0%} of {gpu.peak / 1e12:.0f} TFLOP/s"


def _shape(args: argparse.Namespace) -> training_time.Shape:
    return training_time.Shape(
        layers=args.num_layers,
        hidden=args.hidden_size,
        ffn=args.ffn_hidden_size,
        heads=args.num_attention_heads,
        groups=args.num_query_groups or args.num_attention_heads,
        head_dim=args.kv_channels,
        vocab=args.padded_vocab_size,
        gated=args.swiglu,
    )


def _parallelism(args: argparse.Namespace) -> training_time.Layout:
    return training_time.Layout(
        tensor=args.tensor_model_parallel_size,
        pipeline=args.pipeline_model_parallel_size,
        virtual=args.virtual_pipeline_model_parallel_size or 1,
        context=args.context_parallel_size,
        data=args.data_parallel_size,
        sequence_parallel=args.sequence_parallel,
        recompute=args.recompute_granularity or "none",
        micro_batch=args.micro_batch_size,
        micro_batches=args.global_batch_size // (args.micro_batch_size * args.data_parallel_size),
        window=args.seq_length,
        gpus_per_node=int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size)),
    )

# SPDX-License-Identifier: Apache-2.0
"""What a run is about to do, a line a finding, before anything is built.

A wrong layout, a slow kernel or a missing package is then seen in the first seconds of the log.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from e2_common.model_sizes import ModelSizes
from e2_common.training_time.gpus import Gpu, known_gpu
from e2_common.training_time.layout import Layout
from e2_common.training_time.step_time import reached_mfu, tokens_per_second
from e2_llm import distances
from e2_llm.arguments import own_rope
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from megatron_patches.kernels.choice import Choice
from megatron_patches.kernels.facts import Facts
from megatron_patches.start.batch_sizes import Phase, phases


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
    method = method_for(config)
    yield f"positions: {method.summary()}"
    if method.draws():
        yield f"distances trained: {distances.summary(method, args.seed)}"
    own = own_rope(args)
    if not own.is_plain:
        yield f"the model's own RoPE: {own.scaling()}, which every scale acts on"
    if args.dataloader_inter_document_masking:
        yield "documents: apart, each placed as a window of its own length"
    gpu = None if facts.on_cpu else known_gpu(torch.cuda.get_device_name())
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


def _work(args: argparse.Namespace, gpu: Gpu | None) -> str:
    sizes = phases(args)
    ranks = args.micro_batch_size * args.data_parallel_size
    numbers = [
        _range(phase.windows * args.seq_length for phase in sizes),
        _range(phase.windows for phase in sizes),
        _range(phase.windows // ranks for phase in sizes),
    ]
    text = (
        f"{numbers[0]} tokens an iteration ({numbers[1]} windows of {args.seq_length}, "
        f"{numbers[2]} micro-batches a rank)"
    )
    if all(phase.iterations is not None for phase in sizes):
        iterations = sum(phase.iterations for phase in sizes)
        tokens = sum(phase.iterations * phase.windows for phase in sizes) * args.seq_length
        text += f", {iterations:,} iterations, {tokens:,} tokens in all"
        text += _planned_hours(args, sizes, gpu)
    return text


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return " to ".join(f"{number:,}" for number in dict.fromkeys((found[0], found[-1])))


def _planned_hours(args: argparse.Namespace, phases: list[Phase], gpu: Gpu | None) -> str:
    """FLOPs of the run, and on GPUs whose speed is known its hours; of dense models only."""
    if args.num_experts is not None:
        return ""
    sizes, layout = ModelSizes.from_arguments(args), Layout.from_arguments(args)
    windows = sum(phase.windows * phase.iterations for phase in phases)
    text = f", {windows * args.seq_length * sizes.flops(args.seq_length):.3g} FLOPs"
    if gpu is None or not (args.bf16 or args.fp16):
        return text
    seconds = flops = 0.0
    for phase in phases:
        micro_batches = phase.windows // (layout.micro_batch * layout.data)
        step = replace(layout, micro_batches=micro_batches)
        mfu = reached_mfu(sizes, step, gpu)
        speed = tokens_per_second(sizes, step, gpu, mfu)
        seconds += phase.iterations * step.tokens / speed
        flops += phase.iterations * step.tokens * sizes.flops(args.seq_length)
    reached = flops / (layout.world * gpu.peak * seconds)
    return (
        text + f", about {seconds / 3600:.1f} h at {reached:.0%} of {gpu.peak / 1e12:.0f} TFLOP/s"
    )

# SPDX-License-Identifier: Apache-2.0
"""What a run is about to do, a line a finding, before it does it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from e2_llm import distances
from e2_llm.config import E2Config
from e2_llm.frequencies import OwnRope
from e2_llm.methods import method_for
from e2_tools.tuning.data import Data
from e2_tools.tuning.model import trained_parameters


def findings(
    args: argparse.Namespace,
    config: E2Config,
    model: Any,
    own: OwnRope,
    data: Data,
    world: int,
    resumed: Path | None,
) -> Iterator[str]:
    """Yield the report.

    Args:
        args: of the command line, checked.
        config: of the positions.
        model: to train.
        own: its RoPE.
        data: to train on.
        world: number of processes.
        resumed: the checkpoint that the run goes on from; None at its beginning.
    """
    yield f"engine: transformers {transformers.__version__}, {_device(world)}"
    precision = "bf16" if args.bf16 else "fp32"
    again = ", gradient checkpointing" if args.gradient_checkpointing else ""
    yield f"model: {args.model}, {args.attention} attention, {precision}{again}"
    if args.lora:
        beside = "".join(f", {what} whole" for what in args.lora_train_whole)
        yield (
            f"LoRA: rank {args.lora}, alpha {args.lora_alpha:g}, {', '.join(args.lora_targets)}"
            f"{beside}: {trained_parameters(model)}"
        )
    method = method_for(config)
    yield f"positions: {method.summary()}"
    if method.draws():
        yield f"distances trained: {distances.summary(method, args.seed)}"
    if not own.is_plain:
        yield f"the model's own RoPE: {own.scaling()}, which every scale acts on"
    if args.dataloader_inter_document_masking:
        yield "documents: apart, each placed as a window of its own length"
    for part in data.parts:
        yield f"data: {part}"
    if data.joints:
        yield f"joints: {data.joints}"
    windows = args.global_batch_size
    yield (
        f"work: {windows * config.train_window:,} tokens an iteration ({windows} windows of "
        f"{config.train_window}, {windows // (args.micro_batch_size * world)} micro-batches a "
        f"process), {args.train_iters:,} iterations"
    )
    if resumed is not None:
        yield f"goes on from {resumed}"


def _device(world: int) -> str:
    if not torch.cuda.is_available():
        return f"{world} x CPU, {torch.get_num_threads()} threads each"
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{world} x {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"

# SPDX-License-Identifier: Apache-2.0
"""How a training step is spread over GPUs."""

import argparse
import os
from dataclasses import dataclass

RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True)
class Layout:
    """How a step is spread over GPUs.

    Attributes:
        tensor: tensor-parallel size.
        pipeline: number of stages.
        virtual: model chunks of a stage.
        context: context-parallel size.
        data: data-parallel size.
        sequence_parallel: with tensor parallel, split norms and residuals too.
        recompute: ``none``, ``selective`` (attention's core) or ``full`` (every layer).
        micro_batch: samples.
        micro_batches: of an iteration, each rank.
        window: tokens of a sample.
        gpus_per_node: ranks that share the fast links.
    """

    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    context: int = 1
    data: int = 1
    sequence_parallel: bool = False
    recompute: str = "none"
    micro_batch: int = 1
    micro_batches: int = 1
    window: int = 4096
    gpus_per_node: int = 8

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> "Layout":
        """The layout of this run, from Megatron's validated arguments and torchrun's variables."""
        micro_batch, data = args.micro_batch_size, args.data_parallel_size
        return cls(
            tensor=args.tensor_model_parallel_size,
            pipeline=args.pipeline_model_parallel_size,
            virtual=args.virtual_pipeline_model_parallel_size or 1,
            context=args.context_parallel_size,
            data=data,
            sequence_parallel=args.sequence_parallel,
            recompute=args.recompute_granularity or "none",
            micro_batch=micro_batch,
            micro_batches=args.global_batch_size // (micro_batch * data),
            window=args.seq_length,
            gpus_per_node=int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size)),
        )

    @property
    def world(self) -> int:
        """GPUs."""
        return self.tensor * self.pipeline * self.context * self.data

    @property
    def tokens(self) -> int:
        """Of an iteration."""
        return self.window * self.micro_batch * self.micro_batches * self.data

    def __str__(self) -> str:
        parts = [f"TP {self.tensor}", f"PP {self.pipeline}", f"DP {self.data}"]
        if self.virtual > 1:
            parts[1] += f" x {self.virtual} virtual"
        if self.context > 1:
            parts.insert(2, f"CP {self.context}")
        return " x ".join(parts)

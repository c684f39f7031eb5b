# SPDX-License-Identifier: Apache-2.0
"""How long a training step takes: compute at a share of the peak, and what a layout loses."""

from dataclasses import dataclass

from e2_common.model_sizes import ModelSizes
from e2_common.training_time.gpus import Gpu
from e2_common.training_time.layout import Layout

COMPUTE_MFU = 0.55
"""Share of the peak that a step reaches before a layout's losses, causal convention.

Published for dense 7-8B models in bf16 without recompute: 62.5 % on A100 (IBM/Meta fms-fsdp README,
Llama-2-7B at 4,096, 4,550 tokens/s a GPU), 55.6 % on H100 (NVIDIA's DGX Cloud benchmarking recipes
25.04, Llama-3.1-8B at 8,192, 10,682 tokens/s a GPU), 41.6 % on H100 (fms-fsdp, 9,600).
"""


@dataclass(frozen=True)
class StepTime:
    """Where the seconds of an iteration go, as estimated by :func:`step_time`."""

    compute: float
    recompute: float
    bubble: float
    tensor: float
    pipeline: float
    data: float

    @property
    def total(self) -> float:
        """All of them, seconds."""
        parts = (self.compute, self.recompute, self.bubble, self.tensor, self.pipeline, self.data)
        return sum(parts)


def step_time(sizes: ModelSizes, layout: Layout, gpu: Gpu, mfu: float = COMPUTE_MFU) -> StepTime:
    """Estimate an iteration's time: compute at a share of the peak, plus what the layout loses.

    Losses: recomputed FLOPs at the same speed; the pipeline's bubble, (p - 1) / (v m) of the
    compute (Narayanan et al. 2021); communication at the links' nominal speed, none of it hidden
    (Megatron's default without the overlap flags): per layer and micro-batch two all-reduces of
    the hidden states forward and two backward (two more when recomputed), the hidden states
    between stages, and for each iteration fp32 gradients and bf16 weights over data parallel.
    Ranks are numbered as Megatron does: tensor innermost, then context and data, then pipeline.

    Args:
        sizes: of the model.
        layout: of the step.
        gpu: all are alike.
        mfu: share of the peak during compute.
    """
    tokens = layout.window * layout.micro_batch * layout.micro_batches  # of a model replica
    ranks = layout.world // layout.data
    compute = tokens * sizes.flops(layout.window) / (ranks * gpu.peak * mfu)
    again = {
        "none": 0.0,
        "selective": sizes.attention_flops(layout.window) / 3,
        "full": sizes.layer_flops(layout.window) / 3,
    }[layout.recompute]
    recompute = tokens * sizes.layers * again / (ranks * gpu.peak * mfu)
    chunks = layout.virtual * layout.micro_batches
    bubble = (compute + recompute) * (layout.pipeline - 1) / chunks

    def speed(size: int, stride: int) -> float:
        """Of a ring of ``size`` ranks, ``stride`` apart: it leaves a node by all its members."""
        if size * stride <= layout.gpus_per_node:
            return gpu.link
        members = max(1, min(size, layout.gpus_per_node // stride))
        return min(gpu.link, members * gpu.network)

    tp, dp = layout.tensor, layout.data * layout.context
    hidden = 2 * tokens * sizes.hidden / layout.context  # bytes of all micro-batches, bf16
    passes = 6 if layout.recompute == "full" else 4
    layers = sizes.layers / layout.pipeline
    tensor = layers * passes * 2 * hidden * (tp - 1) / tp / speed(tp, 1)
    # Forward and backward; under sequence parallel each tensor rank sends its share.
    crossings = 2 * layout.virtual * (layout.pipeline > 1)
    share = tp if layout.sequence_parallel else 1
    pipeline = crossings * hidden / share / speed(layout.pipeline, tp * dp)
    parameters = (layers * sizes.layer_parameters + sizes.hidden * sizes.padded_vocab) / tp
    data = (4 + 2) * parameters * (dp - 1) / dp / speed(dp, tp)
    return StepTime(compute, recompute, bubble, tensor, pipeline, data)


def reached_mfu(sizes: ModelSizes, layout: Layout, gpu: Gpu) -> float:
    """Share of the peak that model FLOPs are expected to reach, all losses deducted, causal."""
    flops = layout.tokens * sizes.flops(layout.window)
    return flops / (layout.world * gpu.peak * step_time(sizes, layout, gpu).total)


def tokens_per_second(sizes: ModelSizes, layout: Layout, gpu: Gpu, mfu: float) -> float:
    """Of all GPUs, when model FLOPs (causal) reach the share ``mfu`` of the peak."""
    return layout.world * gpu.peak * mfu / sizes.flops(layout.window)

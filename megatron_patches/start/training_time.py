# SPDX-License-Identifier: Apache-2.0
"""How long training takes: FLOPs of a model, peaks of known GPUs, what a layout loses.

Used by the start-up report and by ``tools/plan_memory.py``; needs neither torch nor Megatron.

Model FLOPs count every matrix product three times (forward, and backward for inputs and weights),
2 FLOPs a multiply-add, and nothing that is recomputed. Two conventions for attention are in use:
``causal`` counts the half of the score matrix that a causal mask leaves (Megatron's own counter),
``full`` all of it (the PaLM paper, NVIDIA's published figures).
"""

from dataclasses import dataclass

COMPUTE_MFU = 0.55
"""Share of the peak that a step reaches before a layout's losses, causal convention.

Published for dense 7-8B models in bf16 without recompute: 62.5 % on A100 (IBM/Meta fms-fsdp README,
Llama-2-7B at 4,096, 4,550 tokens/s a GPU), 55.6 % on H100 (NVIDIA's DGX Cloud benchmarking recipes
25.04, Llama-3.1-8B at 8,192, 10,682 tokens/s a GPU), 41.6 % on H100 (fms-fsdp, 9,600).
"""
RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True)
class Gpu:
    """A GPU whose speed is known.

    Attributes:
        name: as ``--gpu`` takes it.
        torch_names: what ``torch.cuda.get_device_name`` says.
        peak: dense bf16, FLOP/s.
        memory: bytes that torch sees.
        link: to GPUs of the node, bytes/s in one direction.
        network: to other nodes, bytes/s in one direction.
        source: of peak and links.
    """

    name: str
    torch_names: tuple[str, ...]
    peak: float
    memory: int
    link: float
    network: float
    source: str


# Networks are those of NVIDIA's DGX of that generation: one 200 or 400 Gbit/s port for each GPU.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            "A100-80GB",
            ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
            312e12,
            int(79.1 * 2**30),
            300e9,
            25e9,
            "NVIDIA A100 datasheet: 312 TFLOP/s, NVLink 600 GB/s both ways; DGX: 200 Gbit/s",
        ),
        Gpu(
            "H100",
            ("NVIDIA H100 80GB HBM3",),
            989e12,
            int(79.1 * 2**30),
            450e9,
            50e9,
            "NVIDIA H100 SXM datasheet: 989 TFLOP/s, NVLink 900 GB/s both ways; DGX: 400 Gbit/s",
        ),
        Gpu(
            "H200",
            ("NVIDIA H200",),
            989e12,
            int(139.7 * 2**30),
            450e9,
            50e9,
            "NVIDIA H200 SXM datasheet: 989 TFLOP/s, NVLink 900 GB/s both ways; DGX: 400 Gbit/s",
        ),
    )
}


def known_gpu(torch_name: str) -> Gpu | None:
    """The GPU that torch calls so; None if its speed is not known here."""
    return next((gpu for gpu in GPUS.values() if torch_name in gpu.torch_names), None)


@dataclass(frozen=True)
class Shape:
    """What the FLOPs of a dense GPT model depend on.

    Attributes:
        layers: number of them.
        hidden: h.
        ffn: f, of the feed-forward part.
        heads: of queries.
        groups: of keys and values.
        head_dim: d.
        vocab: rows of the output layer, padding included.
        gated: whether the feed-forward part has three matrices (SwiGLU) or two.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    vocab: int
    gated: bool = True

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.groups)
        return attention + (3 if self.gated else 2) * self.hidden * self.ffn

    def attention_flops(self, window: int, causal: bool = True) -> float:
        """Of a layer's scores and their product with the values, a token, forward and backward."""
        return 12 * self.heads * self.head_dim * window / (2 if causal else 1)

    def layer_flops(self, window: int, causal: bool = True) -> float:
        """Of a layer, a token, forward and backward."""
        return 6 * self.layer_parameters + self.attention_flops(window, causal)

    def flops(self, window: int, causal: bool = True) -> float:
        """Of the model, a token of a window of ``window`` tokens, forward and backward."""
        return self.layers * self.layer_flops(window, causal) + 6 * self.hidden * self.vocab


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


def step_time(shape: Shape, layout: Layout, gpu: Gpu, mfu: float = COMPUTE_MFU) -> StepTime:
    """Estimate an iteration's time: compute at a share of the peak, plus what the layout loses.

    Losses: recomputed FLOPs at the same speed; the pipeline's bubble, (p - 1) / (v m) of the
    compute (Narayanan et al. 2021); communication at the links' nominal speed, none of it hidden
    (Megatron's default without the overlap flags): per layer and micro-batch two all-reduces of
    the hidden states forward and two backward (two more when recomputed), the hidden states
    between stages, and for each iteration fp32 gradients and bf16 weights over data parallel.
    Ranks are numbered as Megatron does: tensor innermost, then context and data, then pipeline.

    Args:
        shape: of the model.
        layout: of the step.
        gpu: all are alike.
        mfu: share of the peak during compute.
    """
    tokens = layout.window * layout.micro_batch * layout.micro_batches  # of a model replica
    ranks = layout.world // layout.data
    compute = tokens * shape.flops(layout.window) / (ranks * gpu.peak * mfu)
    again = {
        "none": 0.0,
        "selective": shape.attention_flops(layout.window) / 3,
        "full": shape.layer_flops(layout.window) / 3,
    }[layout.recompute]
    recompute = tokens * shape.layers * again / (ranks * gpu.peak * mfu)
    chunks = layout.virtual * layout.micro_batches
    bubble = (compute + recompute) * (layout.pipeline - 1) / chunks

    def speed(size: int, stride: int) -> float:
        """Of a ring of ``size`` ranks, ``stride`` apart: it leaves a node by all its members."""
        if size * stride <= layout.gpus_per_node:
            return gpu.link
        members = max(1, min(size, layout.gpus_per_node // stride))
        return min(gpu.link, members * gpu.network)

    tp, dp = layout.tensor, layout.data * layout.context
    hidden = 2 * tokens * shape.hidden / layout.context  # bytes of all micro-batches, bf16
    passes = 6 if layout.recompute == "full" else 4
    layers = shape.layers / layout.pipeline
    tensor = layers * passes * 2 * hidden * (tp - 1) / tp / speed(tp, 1)
    # Forward and backward; under sequence parallel each tensor rank sends its share.
    crossings = 2 * layout.virtual * (layout.pipeline > 1)
    share = tp if layout.sequence_parallel else 1
    pipeline = crossings * hidden / share / speed(layout.pipeline, tp * dp)
    parameters = (layers * shape.layer_parameters + shape.hidden * shape.vocab) / tp
    data = (4 + 2) * parameters * (dp - 1) / dp / speed(dp, tp)
    return StepTime(compute, recompute, bubble, tensor, pipeline, data)


def reached_mfu(shape: Shape, layout: Layout, gpu: Gpu) -> float:
    """Share of the peak that model FLOPs are expected to reach, all losses deducted, causal."""
    flops = layout.tokens * shape.flops(layout.window)
    return flops / (layout.world * gpu.peak * step_time(shape, layout, gpu).total)


def tokens_per_second(shape: Shape, layout: Layout, gpu: Gpu, mfu: float) -> float:
    """Of all GPUs, when model FLOPs (causal) reach the share ``mfu`` of the peak."""
    return layout.world * gpu.peak * mfu / shape.flops(layout.window)

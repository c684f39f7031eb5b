# SPDX-License-Identifier: Apache-2.0
"""The parts of a training step and the kernels that can compute each, best first.

A kernel's ``blocked`` says why it cannot run, in words that follow ``--kernel-x y:``, or None.
What it ``gives`` is what is expected on a GPU; docs/performance.md says what was measured.
"""

from dataclasses import dataclass

import torch

from megatron_patches.kernels.blocked import (
    Blocked,
    any_of,
    apex_optimizer,
    cpu_dropout,
    cudnn_head,
    flash_head,
    fp32_main_grad,
    local_layers,
    needs_compile,
    needs_cpu,
    needs_cuda,
    needs_half,
    needs_package,
    never,
    no_bias,
    no_dropout,
    no_fsdp,
    no_mask,
    not_deterministic,
    off_by_flag,
    on_by_flag,
    on_gpu,
    one_rotation,
    te_if_interleaved,
    te_layers,
    te_optimizer,
)
from megatron_patches.kernels.facts import APEX, LIGER, TE, TRITON, WGRAD


@dataclass(frozen=True)
class Kernel:
    """One way to compute a part."""

    name: str
    gives: str
    blocked: Blocked
    package: str | None = None  # the optional package it is from


@dataclass(frozen=True)
class Part:
    """A part of a training step.

    Attributes:
        name: as in the flag, with underscores.
        title: in the start-up report.
        kernels: best first; ``auto`` takes the first that is not blocked.
        on_cpu: the names that ``auto`` considers on the CPU.
        on_cpu_half: those it considers there besides, where activations are not fp32. The digits of
            fp32 on a CPU are what everything else is compared with, so they stay torch's.
        absent: given the facts, why the run has no such part, or None.
    """

    name: str
    title: str
    kernels: tuple[Kernel, ...]
    on_cpu: tuple[str, ...] = ("plain",)
    on_cpu_half: tuple[str, ...] = ()
    absent: Blocked = lambda facts: None

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return f"--kernel-{self.name.replace('_', '-')}"

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name."""
        return next(kernel for kernel in self.kernels if kernel.name == name)


ATTENTION = Part(
    "attention",
    "attention",
    (
        Kernel(
            "te",
            "Transformer Engine's, on cuDNN; the only one for context parallelism",
            te_layers,
            TE,
        ),
        Kernel(
            "cudnn",
            "cuDNN through torch: no s x s matrix, the fastest of torch's on Hopper",
            any_of(
                local_layers,
                needs_cuda,
                needs_half,
                no_mask,
                cudnn_head,
                no_dropout,
                not_deterministic,
            ),
        ),
        Kernel(
            "blocks",
            "matrix products over blocks of queries, for CPUs: no s x s matrix",
            any_of(local_layers, needs_cpu, no_mask, cpu_dropout),
        ),
        Kernel(
            "flash",
            "FlashAttention 2 through torch: no s x s matrix",
            any_of(
                local_layers, on_gpu(needs_half), on_gpu(no_mask), on_gpu(flash_head), cpu_dropout
            ),
        ),
        Kernel(
            "efficient",
            "torch's memory-efficient kernel: no s x s matrix, also fp32 and masks",
            any_of(local_layers, needs_cuda),
        ),
        Kernel("math", "matrix products with the s x s scores in memory", local_layers),
    ),
    on_cpu=("flash", "math"),
    on_cpu_half=("blocks",),
)
NORM = Part(
    "norm",
    "norm",
    (
        Kernel("te", "one kernel, fused with the linear layer behind it", te_layers, TE),
        Kernel(
            "liger",
            "one Triton kernel each way",
            any_of(local_layers, needs_package(LIGER)),
            LIGER,
        ),
        Kernel(
            "compile", "torch.compile's one kernel each way", any_of(local_layers, needs_compile)
        ),
        Kernel("plain", "torch.nn.RMSNorm", local_layers),
    ),
    absent=lambda facts: (
        None if facts.normalization == "RMSNorm" else "Megatron's " + facts.normalization
    ),
)
SWIGLU = Part(
    "swiglu",
    "SwiGLU",
    (
        Kernel(
            "liger",
            "one Triton kernel each way",
            any_of(off_by_flag("swiglu"), needs_package(LIGER), no_bias),
            LIGER,
        ),
        Kernel(
            "compile",
            "Megatron's fusion by torch.compile",
            any_of(off_by_flag("swiglu"), needs_compile),
        ),
        Kernel(
            "te",
            "Transformer Engine's activation function",
            any_of(off_by_flag("swiglu"), te_layers),
            TE,
        ),
        Kernel("plain", "chunk, SiLU and product, a kernel each", never),
    ),
    absent=lambda facts: None if facts.swiglu else "none",
)
CROSS_ENTROPY = Part(
    "cross_entropy",
    "cross entropy",
    (
        Kernel(
            "te",
            "Transformer Engine's",
            lambda facts: "megatron-core 0.19.2 switched it off as unstable; take another",
        ),
        Kernel(
            "liger",
            "two Triton kernels over the vocabulary of a tensor rank",
            any_of(on_by_flag("cross_entropy"), needs_package(LIGER)),
            LIGER,
        ),
        Kernel(
            "compile",
            "Megatron's fusion by torch.compile; gradients in bf16",
            any_of(
                lambda facts: (
                    None
                    if facts.dtype is torch.bfloat16
                    else "returns bf16 gradients; needs --bf16"
                ),
                # Who asks for it by Megatron's own flag gets it, on the CPU uncompiled.
                lambda facts: None if "cross_entropy" in facts.on else needs_compile(facts),
            ),
        ),
        Kernel("plain", "Megatron's, a torch function a step", on_by_flag("cross_entropy")),
    ),
    on_cpu=("compile", "plain"),
)
ROPE = Part(
    "rope",
    "RoPE",
    (
        Kernel(
            "te",
            "one kernel each for queries and keys; one (g, t) a micro-batch",
            any_of(off_by_flag("rope"), needs_package(TE), one_rotation),
            TE,
        ),
        Kernel(
            "triton",
            "one kernel each for queries and keys, in fp32; a (g, t) for every sample",
            any_of(off_by_flag("rope"), needs_package(TRITON), te_if_interleaved),
            TRITON,
        ),
        Kernel("plain", "Megatron's: cos, sin, halves and products, a kernel each", never),
    ),
)
ADAMW = Part(
    "adamw",
    "AdamW",
    (
        Kernel("te", "Transformer Engine's FusedAdam", needs_package(TE), TE),
        Kernel("apex", "apex's FusedAdam", any_of(te_optimizer, needs_package(APEX)), APEX),
        Kernel("fused", "torch's: one kernel for many parameters, no temporaries", apex_optimizer),
        Kernel(
            "foreach",
            "torch's: a kernel a step of the formula, with temporaries of the parameters' size",
            apex_optimizer,
        ),
        Kernel("plain", "torch's: one parameter after the other", apex_optimizer),
    ),
    on_cpu_half=("fused",),
    absent=lambda facts: None if facts.optimizer == "adam" else f"none, but {facts.optimizer}",
)
WEIGHT_GRADIENTS = Part(
    "weight_gradients",
    "weight gradients",
    (
        Kernel(
            "te",
            "added up within Transformer Engine's matrix products; the output layer as by addmm",
            any_of(off_by_flag("weight_gradients"), te_layers, no_fsdp, fp32_main_grad),
            TE,
        ),
        Kernel(
            "apex",
            "added up in fp32 within the matrix product, by apex's CUDA extension",
            any_of(off_by_flag("weight_gradients"), local_layers, needs_package(WGRAD), no_fsdp),
            WGRAD,
        ),
        Kernel(
            "addmm",
            "added up in fp32 within the matrix product, by torch.addmm",
            any_of(off_by_flag("weight_gradients"), local_layers, no_fsdp),
        ),
        Kernel("plain", "a bf16 gradient of each weight, then added to the fp32 sum", never),
    ),
)
PARTS = (ATTENTION, NORM, SWIGLU, CROSS_ENTROPY, ROPE, ADAMW, WEIGHT_GRADIENTS)
# The kernels that fuse nothing; they run on any machine.
PLAIN = {part.name: part.kernels[-1].name for part in PARTS}

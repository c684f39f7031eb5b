# SPDX-License-Identifier: Apache-2.0
"""The parts of a training step and the kernels that can compute each, best first.

A kernel's ``blocked`` says why it cannot run, in words that follow ``--kernel-x y:``, or None.
What it ``gives`` is what is expected on a GPU; docs/performance.md says what was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from megatron_patches.kernels.facts import APEX, LIGER, TE, TRITON, WGRAD, Facts

Blocked = Callable[[Facts], str | None]
HALF = (torch.bfloat16, torch.float16)
INSTALL = {
    TE: "install Transformer Engine (transformer_engine[pytorch])",
    LIGER: "install liger-kernel",
    TRITON: "install triton",
    APEX: "build NVIDIA's apex (PyPI's apex is another project)",
    WGRAD: "build NVIDIA's apex with its CUDA extensions",
}


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
        absent: given the facts, why the run has no such part, or None.
    """

    name: str
    title: str
    kernels: tuple[Kernel, ...]
    on_cpu: tuple[str, ...] = ("plain",)
    absent: Blocked = lambda facts: None

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return f"--kernel-{self.name.replace('_', '-')}"

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name."""
        return next(kernel for kernel in self.kernels if kernel.name == name)


def _any_of(*checks: Blocked) -> Blocked:
    """The first reason that one of ``checks`` gives."""
    return lambda facts: next((reason for check in checks if (reason := check(facts))), None)


def _needs(package: str) -> Blocked:
    def blocked(facts: Facts) -> str | None:
        reason = facts.missing.get(package)
        if reason and reason.endswith("is not installed"):
            return f"{reason}; {INSTALL[package]}"
        return reason

    return blocked


def _te_layers(facts: Facts) -> str | None:
    reason = _needs(TE)(facts)
    if reason or facts.te_layers:
        return reason
    return "is part of Transformer Engine's layers; this run has the local ones"


def _local_layers(facts: Facts) -> str | None:
    return "Transformer Engine's layers bring their own" if facts.te_layers else None


def _cuda(facts: Facts) -> str | None:
    return "needs a CUDA device" if facts.on_cpu else None


def _compiles(facts: Facts) -> str | None:
    return "torch.compile is off on the CPU, where it costs a minute" if facts.on_cpu else None


def _half(facts: Facts) -> str | None:
    return None if facts.dtype in HALF else "needs --bf16 or --fp16"


def _no_mask(facts: Facts) -> str | None:
    return "is causal only, --reset-attention-mask needs a mask" if facts.masked else None


def _cpu_dropout(facts: Facts) -> str | None:
    return "has no dropout on the CPU" if facts.on_cpu and facts.dropout else None


def _flash_head(facts: Facts) -> str | None:
    return "needs heads of at most 256 channels" if facts.head_dim > 256 else None


def _cudnn_head(facts: Facts) -> str | None:
    fits = facts.head_dim <= 128 and facts.head_dim % 8 == 0
    return None if fits else "needs heads of at most 128 channels, a multiple of 8"


def _one_rotation(facts: Facts) -> str | None:
    if facts.per_sample:
        return "rotates all samples of a micro-batch alike, not by --e2-draw-per sample"
    return None


def _te_if_interleaved(facts: Facts) -> str | None:
    if facts.interleaved and TE in facts.missing:
        return "Megatron fuses --rotary-interleaved only where Transformer Engine is installed"
    return None


def _on_gpu(check: Blocked) -> Blocked:
    return lambda facts: None if facts.on_cpu else check(facts)


def _no_bias(facts: Facts) -> str | None:
    return "has no bias; add --disable-bias-linear" if facts.mlp_bias else None


def _fp32_main_grad(facts: Facts) -> str | None:
    if facts.fp32_main_grad:
        return None
    return "is not tried with --grad-reduce-in-bf16"


def _no_fsdp(facts: Facts) -> str | None:
    return "does not work with FSDP" if facts.fsdp else None


def _off(part: str) -> Blocked:
    return lambda facts: f"{facts.off[part]} says otherwise" if part in facts.off else None


def _on(part: str) -> Blocked:
    return lambda facts: f"{facts.on[part]} says otherwise" if part in facts.on else None


def _te_optimizer(facts: Facts) -> str | None:
    # Megatron decides at import: Transformer Engine's, else apex's, else torch's.
    return None if TE in facts.missing else "Megatron takes Transformer Engine's where it finds it"


def _apex_optimizer(facts: Facts) -> str | None:
    return _te_optimizer(facts) or (
        None if APEX in facts.missing else "Megatron takes apex's where it finds it"
    )


def _nothing(facts: Facts) -> None:
    return None


ATTENTION = Part(
    "attention",
    "attention",
    (
        Kernel(
            "te",
            "Transformer Engine's, on cuDNN; the only one for context parallelism",
            _te_layers,
            TE,
        ),
        Kernel(
            "cudnn",
            "cuDNN through torch: no s x s matrix, the fastest of torch's on Hopper",
            _any_of(_local_layers, _cuda, _half, _no_mask, _cudnn_head),
        ),
        Kernel(
            "flash",
            "FlashAttention 2 through torch: no s x s matrix",
            _any_of(
                _local_layers, _on_gpu(_half), _on_gpu(_no_mask), _on_gpu(_flash_head), _cpu_dropout
            ),
        ),
        Kernel(
            "efficient",
            "torch's memory-efficient kernel: no s x s matrix, also fp32 and masks",
            _any_of(_local_layers, _cuda),
        ),
        Kernel("math", "matrix products with the s x s scores in memory", _local_layers),
    ),
    on_cpu=("flash", "math"),
)
NORM = Part(
    "norm",
    "norm",
    (
        Kernel("te", "one kernel, fused with the linear layer behind it", _te_layers, TE),
        Kernel(
            "liger",
            "one Triton kernel each way",
            _any_of(_local_layers, _needs(LIGER)),
            LIGER,
        ),
        Kernel("compile", "torch.compile's one kernel each way", _any_of(_local_layers, _compiles)),
        Kernel("plain", "torch.nn.RMSNorm", _local_layers),
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
            _any_of(_off("swiglu"), _needs(LIGER), _no_bias),
            LIGER,
        ),
        Kernel(
            "compile",
            "Megatron's fusion by torch.compile",
            _any_of(_off("swiglu"), _compiles),
        ),
        Kernel(
            "te",
            "Transformer Engine's activation function",
            _any_of(_off("swiglu"), _te_layers),
            TE,
        ),
        Kernel("plain", "chunk, SiLU and product, a kernel each", _nothing),
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
            _any_of(_on("cross_entropy"), _needs(LIGER)),
            LIGER,
        ),
        Kernel(
            "compile",
            "Megatron's fusion by torch.compile; gradients in bf16",
            _any_of(
                lambda facts: (
                    None
                    if facts.dtype is torch.bfloat16
                    else "returns bf16 gradients; needs --bf16"
                ),
                # Who asks for it by Megatron's own flag gets it, on the CPU uncompiled.
                lambda facts: None if "cross_entropy" in facts.on else _compiles(facts),
            ),
        ),
        Kernel("plain", "Megatron's, a torch function a step", _on("cross_entropy")),
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
            _any_of(_off("rope"), _needs(TE), _one_rotation),
            TE,
        ),
        Kernel(
            "triton",
            "one kernel each for queries and keys, in fp32; a (g, t) for every sample",
            _any_of(_off("rope"), _needs(TRITON), _te_if_interleaved),
            TRITON,
        ),
        Kernel("plain", "Megatron's: cos, sin, halves and products, a kernel each", _nothing),
    ),
)
ADAMW = Part(
    "adamw",
    "AdamW",
    (
        Kernel("te", "Transformer Engine's FusedAdam", _needs(TE), TE),
        Kernel("apex", "apex's FusedAdam", _any_of(_te_optimizer, _needs(APEX)), APEX),
        Kernel("fused", "torch's: one kernel for many parameters, no temporaries", _apex_optimizer),
        Kernel(
            "foreach",
            "torch's: a kernel a step of the formula, with temporaries of the parameters' size",
            _apex_optimizer,
        ),
        Kernel("plain", "torch's: one parameter after the other", _apex_optimizer),
    ),
    absent=lambda facts: None if facts.optimizer == "adam" else f"none, but {facts.optimizer}",
)
WEIGHT_GRADIENTS = Part(
    "weight_gradients",
    "weight gradients",
    (
        Kernel(
            "te",
            "added up within Transformer Engine's matrix products; the output layer as by addmm",
            _any_of(_off("weight_gradients"), _te_layers, _no_fsdp, _fp32_main_grad),
            TE,
        ),
        Kernel(
            "apex",
            "added up in fp32 within the matrix product, by apex's CUDA extension",
            _any_of(_off("weight_gradients"), _local_layers, _needs(WGRAD), _no_fsdp),
            WGRAD,
        ),
        Kernel(
            "addmm",
            "added up in fp32 within the matrix product, by torch.addmm",
            _any_of(_off("weight_gradients"), _local_layers, _no_fsdp),
        ),
        Kernel("plain", "a bf16 gradient of each weight, then added to the fp32 sum", _nothing),
    ),
)
PARTS = (ATTENTION, NORM, SWIGLU, CROSS_ENTROPY, ROPE, ADAMW, WEIGHT_GRADIENTS)
# Nothing fused, on any machine.
PLAIN = {part.name: part.kernels[-1].name for part in PARTS}

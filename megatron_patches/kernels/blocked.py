# SPDX-License-Identifier: Apache-2.0
"""Why a kernel cannot run here, in words that follow ``--kernel-x y:``; None if it can.

"It" in a docstring is the kernel that is asked about.
"""

from collections.abc import Callable

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


def any_of(*checks: Blocked) -> Blocked:
    """The first reason that one of ``checks`` gives."""
    return lambda facts: next((reason for check in checks if (reason := check(facts))), None)


def needs_package(package: str) -> Blocked:
    """It is from an optional package that is absent, too old or of another make."""

    def blocked(facts: Facts) -> str | None:
        reason = facts.missing.get(package)
        if reason and reason.endswith("is not installed"):
            return f"{reason}; {INSTALL[package]}"
        return reason

    return blocked


def te_layers(facts: Facts) -> str | None:
    """It is within Transformer Engine's layers, and the run has Megatron's local ones."""
    reason = needs_package(TE)(facts)
    if reason or facts.te_layers:
        return reason
    return "is part of Transformer Engine's layers; this run has the local ones"


def local_layers(facts: Facts) -> str | None:
    """It replaces a part of Megatron's local layers, and the run has Transformer Engine's."""
    return "Transformer Engine's layers bring their own" if facts.te_layers else None


def needs_cuda(facts: Facts) -> str | None:
    """It has no code for the CPU."""
    return "needs a CUDA device" if facts.on_cpu else None


def needs_cpu(facts: Facts) -> str | None:
    """It would run on a GPU, slowly."""
    return None if facts.on_cpu else "is for CPUs"


def needs_compile(facts: Facts) -> str | None:
    """It is made by torch.compile."""
    return "torch.compile is off on the CPU, where it costs a minute" if facts.on_cpu else None


def needs_half(facts: Facts) -> str | None:
    """It has no fp32 form."""
    return None if facts.dtype in HALF else "needs --bf16 or --fp16"


def no_mask(facts: Facts) -> str | None:
    """It knows the causal mask only."""
    return "is causal only, --reset-attention-mask needs a mask" if facts.masked else None


def cpu_dropout(facts: Facts) -> str | None:
    """Its CPU form has no dropout."""
    return "has no dropout on the CPU" if facts.on_cpu and facts.dropout else None


def no_dropout(facts: Facts) -> str | None:
    """cuDNN keeps the probability in four bits: 0.1 becomes 0.125 there, or 0.0625."""
    return "rounds the probability of --attention-dropout to a sixteenth" if facts.dropout else None


def not_deterministic(facts: Facts) -> str | None:
    """torch runs none of it under deterministic algorithms."""
    return "does not run under --deterministic-mode" if facts.deterministic else None


def flash_head(facts: Facts) -> str | None:
    """FlashAttention's bound on the channels of a head."""
    return "needs heads of at most 256 channels" if facts.head_dim > 256 else None


def cudnn_head(facts: Facts) -> str | None:
    """cuDNN's bound on the channels of a head."""
    fits = facts.head_dim <= 128 and facts.head_dim % 8 == 0
    return None if fits else "needs heads of at most 128 channels, a multiple of 8"


def one_rotation(facts: Facts) -> str | None:
    """It takes one table of angles for all samples of a micro-batch."""
    if facts.per_sample:
        return (
            "rotates all samples of a micro-batch alike, not by --e2-draw-per sample or documents"
        )
    return None


def te_if_interleaved(facts: Facts) -> str | None:
    """Without Transformer Engine Megatron fuses only one of the two orders of channels."""
    if facts.interleaved and TE in facts.missing:
        return "Megatron fuses --rotary-interleaved only where Transformer Engine is installed"
    return None


def on_gpu(check: Blocked) -> Blocked:
    """The reason that ``check`` gives on a GPU; on the CPU it does not matter."""
    return lambda facts: None if facts.on_cpu else check(facts)


def no_bias(facts: Facts) -> str | None:
    """It has no term for a bias of the feed-forward network."""
    return "has no bias; add --disable-bias-linear" if facts.mlp_bias else None


def fp32_main_grad(facts: Facts) -> str | None:
    """It adds into fp32 gradients."""
    if facts.fp32_main_grad:
        return None
    return "is not tried with --grad-reduce-in-bf16"


def no_fsdp(facts: Facts) -> str | None:
    """It needs whole gradients on every rank."""
    return "does not work with FSDP" if facts.fsdp else None


def off_by_flag(part: str) -> Blocked:
    """One of Megatron's own flags switches the part off."""
    return lambda facts: f"{facts.off[part]} says otherwise" if part in facts.off else None


def on_by_flag(part: str) -> Blocked:
    """One of Megatron's own flags asks for the part's fusion."""
    return lambda facts: f"{facts.on[part]} says otherwise" if part in facts.on else None


def te_optimizer(facts: Facts) -> str | None:
    """Megatron decides at import: Transformer Engine's, else apex's, else torch's."""
    return None if TE in facts.missing else "Megatron takes Transformer Engine's where it finds it"


def apex_optimizer(facts: Facts) -> str | None:
    """As :func:`te_optimizer`; and Megatron takes apex's before torch's."""
    return te_optimizer(facts) or (
        None if APEX in facts.missing else "Megatron takes apex's where it finds it"
    )


def never(facts: Facts) -> None:
    """It runs everywhere."""
    return

# SPDX-License-Identifier: Apache-2.0
"""What decides which kernels can run: the machine, its packages, the model, the draws."""

import argparse
import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from e2_common.errors import brief
from e2_llm.config import E2Config
from megatron_patches.runtime import transformer_engine

TE, LIGER, TRITON = "transformer_engine", "liger_kernel", "triton"
APEX, WGRAD = "apex", "fused_weight_gradient_mlp_cuda"
# The module whose import tells that a package works, not only that its folder is there. Each
# needs a device when it loads its kernels; Triton's interpreter is the exception.
_PROBES = {
    TE: "transformer_engine.pytorch",
    LIGER: "liger_kernel.megatron",
    TRITON: "triton",
    APEX: "apex.optimizers",  # another project of that name on PyPI has no such module
    WGRAD: WGRAD,
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the kernels of the registry ask about.

    Attributes:
        on_cpu: the CPU runtime is installed.
        interpreted: Triton's interpreter is on (``TRITON_INTERPRET=1``): its kernels run on the
            CPU, slowly, for tests.
        missing: optional package -> why it cannot be used.
        te_layers: the layers are Transformer Engine's.
        dtype: of the activations.
        head_dim: d, of a head.
        dropout: of the attention.
        deterministic: only kernels may run that give the same digits every time.
        masked: attention gets a mask, because documents of a window are kept apart.
        per_sample: the samples of a micro-batch are rotated differently, because each has its own
            draw or its own documents.
        interleaved: RoPE rotates neighbouring channels together (``--rotary-interleaved``).
        normalization: Megatron's ``--normalization``.
        swiglu: the MLP is a SwiGLU.
        mlp_bias: it has biases.
        fp32_main_grad: gradients are accumulated in fp32.
        optimizer: Megatron's ``--optimizer``, with ``, offloaded`` behind it.
        fsdp: torch's or Megatron's FSDP shards the parameters.
        off: parts whose fusion a flag of Megatron switched off, and that flag.
        on: parts whose fusion by torch.compile a flag of Megatron switched on, and that flag.
    """

    on_cpu: bool
    interpreted: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)
    te_layers: bool = False
    dtype: torch.dtype = torch.bfloat16
    head_dim: int = 128
    dropout: float = 0.0
    deterministic: bool = False
    masked: bool = False
    per_sample: bool = False
    interleaved: bool = False
    normalization: str = "RMSNorm"
    swiglu: bool = True
    mlp_bias: bool = False
    fp32_main_grad: bool = True
    optimizer: str = "adam"
    fsdp: bool = False
    off: Mapping[str, str] = field(default_factory=dict)
    on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Switches:
    """Megatron's own flags about fusions that were typed, by the part they are about."""

    off: Mapping[str, str]
    on: Mapping[str, str]


@lru_cache
def missing_packages(on_cpu: bool, interpreted: bool) -> dict[str, str]:
    """Optional packages that cannot be used here, each with the reason.

    Args:
        on_cpu: whether the CPU runtime is installed; nothing is then imported.
        interpreted: whether Triton's interpreter is on.
    """
    missing = {}
    hidden = transformer_engine.reason()
    for package, probe in _PROBES.items():
        if package == TE and hidden:
            missing[package] = hidden
        elif importlib.util.find_spec(package) is None:
            missing[package] = f"{package} is not installed"
        elif on_cpu and not (interpreted and package in (LIGER, TRITON)):
            missing[package] = "needs a CUDA device"
        else:
            try:
                importlib.import_module(probe)
            except Exception as error:  # a shared library can fail in any way
                missing[package] = f"{package} is installed but does not load: {brief(error)}"
    return missing


def _largest_micro_batch(args: argparse.Namespace) -> int:
    return max(args.micro_batch_size, args.eval_micro_batch_size or 1)


def is_interpreted() -> bool:
    """Whether Triton's interpreter is on; Triton reads it once, when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def gather(args: argparse.Namespace, config: E2Config, on_cpu: bool, switches: Switches) -> Facts:
    """Ask the machine and Megatron's validated arguments.

    Args:
        args: Megatron's, validated.
        config: of the positions.
        on_cpu: whether the CPU runtime is installed.
        switches: what the user typed of Megatron's own flags.
    """
    interpreted = is_interpreted()
    return Facts(
        on_cpu=on_cpu,
        interpreted=interpreted,
        missing=missing_packages(on_cpu, interpreted),
        te_layers=args.transformer_impl == "transformer_engine",
        dtype=args.params_dtype,
        head_dim=args.kv_channels,
        dropout=args.attention_dropout,
        deterministic=args.deterministic_mode,
        masked=bool(args.reset_attention_mask),
        per_sample=(config.draw_per == "sample" and args.micro_batch_size > 1)
        or (args.dataloader_inter_document_masking and _largest_micro_batch(args) > 1),
        interleaved=args.rotary_interleaved,
        normalization=args.normalization,
        swiglu=args.swiglu,
        mlp_bias=args.add_bias_linear,
        fp32_main_grad=not getattr(args, "grad_reduce_in_bf16", False),
        optimizer=args.optimizer + ", offloaded" * bool(args.optimizer_cpu_offload),
        fsdp=bool(args.use_torch_fsdp2 or args.use_megatron_fsdp),
        off=switches.off,
        on=switches.on,
    )


def typed_switches(early: argparse.Namespace) -> Switches:
    """Read them off arguments that were parsed with Megatron's own defaults.

    Args:
        early: parsed, not validated, and before any default of ours.
    """
    off = {
        part: flag
        for part, name, flag in (
            ("rope", "apply_rope_fusion", "--no-rope-fusion"),
            ("swiglu", "bias_swiglu_fusion", "--no-bias-swiglu-fusion"),
            (
                "weight_gradients",
                "gradient_accumulation_fusion",
                "--no-gradient-accumulation-fusion",
            ),
        )
        if not getattr(early, name)
    }
    on = {}
    if early.cross_entropy_loss_fusion:
        on["cross_entropy"] = "--cross-entropy-loss-fusion"
    return Switches(off, on)

# SPDX-License-Identifier: Apache-2.0
"""What has to happen before ``megatron.training`` is imported."""

import os
import sys
from collections.abc import Sequence

FSDP = ("--use-torch-fsdp2", "--use-megatron-fsdp")


def is_fsdp(argv: Sequence[str]) -> bool:
    """Whether a command line asks for fully sharded data parallel, which wants many connections."""
    # argparse takes a flag by any beginning of its own.
    return any(
        word.startswith("--use-") and flag.startswith(word) for word in argv for flag in FSDP
    )


def prepare() -> bool:
    """Make Megatron ready for this machine; call before importing anything of ``megatron``.

    Installs the CPU runtime where there is no CUDA device, hides a Transformer Engine that cannot
    be used, mends Megatron's defects and wraps its loading and saving.

    Returns:
        Whether the run is on the CPU.
    """
    from megatron_patches.runtime import cpu, transformer_engine

    if not is_fsdp(sys.argv):
        # Megatron insists on it for tensor parallel: keeps the order of overlapping kernels.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    on_cpu = cpu.is_needed()
    transformer_engine.settle(on_cpu)
    # What these import of Megatron must find the package settled.
    from megatron_patches.checkpoint import hooks
    from megatron_patches.kernels import multi_tensor
    from megatron_patches.runtime import fixes

    if on_cpu:
        cpu.install()
    fixes.apply()
    multi_tensor.install()
    hooks.install()
    return on_cpu

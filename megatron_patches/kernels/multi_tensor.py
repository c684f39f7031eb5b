# SPDX-License-Identifier: Apache-2.0
"""Norm and scaling of many tensors without Transformer Engine and apex, which bring kernels of it.

Megatron's stand-ins take one tensor after the other: the norm waits for the device once for each
parameter, and the scaling makes a copy of each gradient. These have the same arguments.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from megatron_patches.runtime.replace import replace_everywhere

Lists = Sequence[Sequence[Tensor]]


def l2_norm(
    chunk_size: int, noop_flag: Tensor, tensor_lists: Lists, per_tensor: bool, *others: Any
) -> tuple[Tensor, None]:
    """The norm of all tensors together, on their device and without waiting for it.

    Args:
        chunk_size: unused, as in Megatron's.
        noop_flag: unused.
        tensor_lists: one list, of tensors of any shape.
        per_tensor: unused; the norm of each is not returned.
        others: unused.

    Returns:
        fp32 [1], and None.
    """
    norms = torch._foreach_norm([tensor for tensors in tensor_lists for tensor in tensors])
    return torch.stack(norms).float().norm().view(1), None


def scale(chunk_size: int, noop_flag: Tensor, tensor_lists: Lists, factor: float) -> None:
    """Write every tensor of the first list times a factor over that of the second.

    Args:
        chunk_size: unused, as in Megatron's.
        noop_flag: unused.
        tensor_lists: sources and targets, which may be the same tensors, or of another dtype.
        factor: of all.
    """
    sources, targets = (list(tensors) for tensors in tensor_lists)
    if not sources:
        return
    if factor == 1:
        torch._foreach_copy_(targets, sources)
    elif any(source.dtype != torch.float32 for source in sources):
        for source, target in zip(sources, targets, strict=True):  # foreach rounds the factor first
            target.copy_(source * factor)
    elif all(source is target for source, target in zip(sources, targets, strict=True)):
        torch._foreach_mul_(targets, factor)
    else:
        torch._foreach_copy_(targets, torch._foreach_mul(sources, factor))


def install() -> None:
    """Take the place of Megatron's stand-ins, where it uses them."""
    from megatron.core import utils

    if utils.local_multi_tensor_scale is scale:
        return
    replace_everywhere(utils, "local_multi_tensor_l2_norm", l2_norm)
    replace_everywhere(utils, "local_multi_tensor_scale", scale)

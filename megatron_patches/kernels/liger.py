# SPDX-License-Identifier: Apache-2.0
"""Liger's SwiGLU and cross entropy in the shape in which Megatron calls its own."""

from typing import Any

import torch
from liger_kernel.megatron import LigerMegatronCrossEntropy
from liger_kernel.ops import LigerFusedGateUpSiLUMulFunction
from torch import Tensor

_cross_entropy = LigerMegatronCrossEntropy()


class SwiGLU:
    """Stands in for Megatron's ``SwiGLUFunction``."""

    @staticmethod
    def apply(states: Tensor, fp8_input_store: bool, cpu_offload_input: bool) -> Tensor:
        """SiLU(gate) * up.

        Args:
            states: gate and up side by side [tokens, 2 f].
            fp8_input_store: must be false.
            cpu_offload_input: must be false.

        Returns:
            [tokens, f].
        """
        if fp8_input_store or cpu_offload_input:
            raise ValueError(
                "--kernel-swiglu liger keeps its input on the GPU, as it is: drop "
                "--activation-func-fp8-input-store and CPU offloading, or use --kernel-swiglu plain"
            )
        return LigerFusedGateUpSiLUMulFunction.apply(states, False)


def cross_entropy(logits: Tensor, target: Tensor, tp_group: Any = None) -> Tensor:
    """Stands in for Megatron's ``fused_vocab_parallel_cross_entropy``.

    Args:
        logits: of this tensor rank's part of the vocabulary [s, b, v / tp].
        target: ids of the whole vocabulary [s, b].
        tp_group: over which the vocabulary is split.

    Returns:
        Losses [s, b], fp32.
    """
    return _cross_entropy(logits, target.to(torch.int64), tp_group=tp_group)

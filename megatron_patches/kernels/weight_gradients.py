# SPDX-License-Identifier: Apache-2.0
"""Weight gradients added up within the matrix product, without apex.

Megatron's linear layers write their gradients by apex's ``fused_weight_gradient_mlp_cuda`` where
it exists; the functions here have the names and arguments of that module. Without it every layer
makes a bf16 gradient of its weight first, which is then read, added to the fp32 sum, and dropped.
"""

import torch
from torch import Tensor


def wgrad_gemm_accum_fp32(states: Tensor, gradient: Tensor, main_grad: Tensor) -> None:
    """Add ``gradient.T @ states`` to an fp32 sum, which the product accumulates into.

    Args:
        states: input of the linear layer [tokens, in].
        gradient: of its output [tokens, out].
        main_grad: fp32 [out, in], changed in place.
    """
    if states.dtype == torch.float32:
        main_grad.addmm_(gradient.t(), states)
    elif main_grad.is_cuda:
        torch.addmm(main_grad, gradient.t(), states, out_dtype=torch.float32, out=main_grad)
    else:  # torch has no mixed product on the CPU: the same sums, through copies
        main_grad.addmm_(gradient.t().float(), states.float())


def wgrad_gemm_accum_fp16(states: Tensor, gradient: Tensor, main_grad: Tensor) -> None:
    """The same, into a sum of the activations' own dtype (``--grad-reduce-in-bf16``)."""
    main_grad.addmm_(gradient.t(), states)

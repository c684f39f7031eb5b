# SPDX-License-Identifier: Apache-2.0
"""The types that weights are stored in: their names, and from one to another."""

import torch
from torch import Tensor

from e2_common.errors import UserError

# By the names that ``--dtype`` takes.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# By the names that safetensors files use.
SAFETENSORS = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
}


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Return the tensor in ``dtype``, itself where it is so already.

    Raises:
        UserError: a finite value would become infinite.
    """
    result = tensor.to(dtype)
    if dtype == torch.float16 and result.isinf().any() and not tensor.isinf().any():
        raise UserError(f"--dtype fp16: {name} holds values too large for it; take bf16 or fp32")
    return result

# SPDX-License-Identifier: Apache-2.0
"""RMSNorm for the local layer spec; unlike Megatron's torch wrapper it allows sequence parallel."""

import torch
from megatron.core.transformer import TransformerConfig


class RMSNorm(torch.nn.RMSNorm):
    """``torch.nn.RMSNorm`` over the hidden dimension, its weight marked for sequence parallel.

    Under sequence parallel each tensor rank normalises its own tokens [s / tp, b, h], so the
    weight's gradient is a partial sum; Megatron all-reduces the gradients of parameters whose
    ``sequence_parallel`` attribute is true (``finalize_model_grads``).

    Args:
        config: of the transformer.
        hidden_size: h.
        eps: added to the mean square.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        if config.layernorm_zero_centered_gamma:
            raise ValueError(
                "--apply-layernorm-1p needs --transformer-impl transformer_engine "
                "(this RMSNorm has no zero-centred weight)"
            )
        super().__init__(hidden_size, eps=eps)
        self.weight.sequence_parallel = config.sequence_parallel

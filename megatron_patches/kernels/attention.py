# SPDX-License-Identifier: Apache-2.0
"""Core attention: a backend of ``scaled_dot_product_attention`` that is named, or our blocks.

s: tokens, b: samples, n: query heads of this tensor rank, g: their key/value groups, d: head size.
"""

import math
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from megatron.core import tensor_parallel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from e2_common.cpu.attention import causal_attention
from e2_common.errors import UserError
from megatron_patches.data.documents import Documents

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
BLOCKS = "blocks"  # of e2_common.cpu.attention
# Backends that want as many key heads as query heads.
WITHOUT_GROUPS = ("efficient",)


class SDPACoreAttention(MegatronModule):
    """Drop-in for Megatron's ``DotProductAttention`` in the local layer spec.

    Args:
        config: of the transformer.
        layer_number: from 1; unused, SDPA needs no per-layer scaling.
        attn_mask_type: causal masks are built into the kernel, others come as a tensor.
        attention_type: unused, self-attention only.
        attention_dropout: overrides the configuration's.
        softmax_scale: overrides 1 / sqrt(d).
        cp_comm_type: unused, context parallel is refused.
        pg_collection: unused, heads are already split when they arrive here.
        backend: key of ``BACKENDS``, where torch raises if it cannot do what is asked; or
            ``BLOCKS``, which is causal and has no dropout.

    Raises:
        UserError: the configuration asks for something this attention does not do.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: ProcessGroupCollection | None = None,
        *,
        backend: str,
    ) -> None:
        super().__init__(config=config)
        unsupported = {
            "--context-parallel-size above 1": config.context_parallel_size > 1,
            "--window-size": config.window_size is not None,
            "--softmax-type other than vanilla": config.softmax_type != "vanilla",
        }
        for flag, asked in unsupported.items():
            if asked:
                raise UserError(f"{flag} needs Transformer Engine's attention")
        self.backend = backend
        self.attn_mask_type = attn_mask_type
        self.softmax_scale = softmax_scale or 1.0 / math.sqrt(config.kv_channels)
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: PackedSeqParams | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: [s, b, n, d].
            key: [s, b, g, d].
            value: [s, b, g, d].
            attention_mask: [b or 1, 1, s, s], true where attention is forbidden; None for causal.
            attn_mask_type: overrides the constructor's.
            attention_bias: must be None.
            packed_seq_params: the documents of the window, if they are apart; then only causal.

        Returns:
            [s, b, n * d].
        """
        apart = isinstance(packed_seq_params, Documents)
        if attention_bias is not None or (packed_seq_params is not None and not apart):
            raise ValueError("attention bias and packed sequences need Transformer Engine")
        mask_type = attn_mask_type or self.attn_mask_type
        causal = attention_mask is None and mask_type == AttnMaskType.causal
        dropout = self.dropout if self.training else 0.0
        # Megatron draws attention dropout per tensor rank, except under sequence parallel,
        # where the caller's generator is already the rank's own.
        own_generator = dropout > 0 and not self.config.sequence_parallel
        tracker = tensor_parallel.get_cuda_rng_tracker()
        groups = query.size(2) // key.size(2)
        if groups > 1 and self.backend in WITHOUT_GROUPS:
            key, value = (states.repeat_interleave(groups, dim=2) for states in (key, value))
        mask = None if attention_mask is None else ~attention_mask
        attend = partial(self._attend, mask=mask, causal=causal, dropout=dropout)
        with (
            tracker.fork() if own_generator else nullcontext(),
            nullcontext() if self.backend == BLOCKS else sdpa_kernel(BACKENDS[self.backend]),
        ):
            if not apart or all(len(lengths) == 1 for lengths in packed_seq_params.lengths):
                return attend(query, key, value)
            if not causal:
                raise ValueError("documents are apart under a causal mask only")
            samples = []
            for number, lengths in enumerate(packed_seq_params.lengths):
                states = (one[:, number : number + 1] for one in (query, key, value))
                documents = zip(*(one.split(list(lengths)) for one in states), strict=True)
                samples.append(torch.cat([attend(*document) for document in documents]))
            return torch.cat(samples, dim=1)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        dropout: float,
    ) -> Tensor:
        """Attend within one window, or one document of it; see :meth:`forward` for shapes."""
        # [s, b, n, d] -> [b, n, s, d], and g likewise
        query, key, value = (states.permute(1, 2, 0, 3) for states in (query, key, value))
        if self.backend == BLOCKS:
            if not causal or dropout:
                raise ValueError(f"attention {BLOCKS} is causal and has no dropout")
            context = causal_attention(query, key, value, self.softmax_scale)
        else:
            context = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=causal,
                scale=self.softmax_scale,
                enable_gqa=query.size(1) != key.size(1),
            )  # [b, n, s, d]
        return context.permute(2, 0, 1, 3).flatten(2)  # [s, b, n * d]

# SPDX-License-Identifier: Apache-2.0
"""Self-attention whose scores are multiplied by a factor that comes with the rotary angles.

YaRN multiplies cosines and sines by m(g), so scores by m². When g is drawn for each micro-batch, m
is no constant of the model: it has to travel with the angles, or a pipeline stage that recomputes
an earlier micro-batch would take the factor of a later one.
"""

import weakref
from typing import Any

import torch
from megatron.core.models.common.embeddings import rope_utils
from megatron.core.transformer.attention import SelfAttention
from torch import Tensor

from megatron_patches.kernels.rope import rotate


class _WithoutFactor:
    """The angles of a tensor [s, b, 1, d + 1]: one copy for all layers of a micro-batch.

    A kernel that keeps what it computed from a tensor knows it again by its identity.
    """

    def __init__(self) -> None:
        self.of: weakref.ref[Tensor] | None = None
        self.angles: Tensor | None = None

    def __call__(self, with_factor: Tensor) -> Tensor:
        """Angles [s, b, 1, d], contiguous."""
        if self.of is None or self.of() is not with_factor:
            self.of = weakref.ref(with_factor)
            self.angles = with_factor[..., :-1].contiguous()
        return self.angles


without_factor = _WithoutFactor()


class TemperatureSelfAttention(SelfAttention):
    """Megatron's self-attention; takes m² off the last channel of the angles [s, b, 1, d + 1].

    m multiplies what RoPE rotates and nothing else: of a head that is rotated in part the first d
    channels, of a layer without RoPE none.
    """

    _score_factor: Tensor | None = None

    def forward(
        self,
        hidden_states: Tensor,
        *args: Any,
        rotary_pos_emb: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """See ``SelfAttention.forward``.

        Args:
            hidden_states: [s, b, h].
            args: passed on.
            rotary_pos_emb: angles and, in the last channel, the factor of the scores.
            kwargs: passed on.
        """
        self._score_factor = None
        angles: Tensor | tuple[Tensor, Tensor] | None = None
        if rotary_pos_emb is not None:
            angles = without_factor(rotary_pos_emb)
            self._rotated = angles.size(-1)
            without = self.config.no_rope_freq
            if self.config.apply_rope_fusion and rope_utils.fused_apply_rotary_pos_emb is rotate:
                angles = (rotary_pos_emb, angles)  # of queries, of keys: the kernel multiplies
            elif not (without and without[self.layer_number - 1]):
                # The factor is the same for all tokens: [1, b, 1, 1].
                self._score_factor = rotary_pos_emb[:1, :, :, -1:]
        return super().forward(hidden_states, *args, rotary_pos_emb=angles, **kwargs)

    def get_query_key_value_tensors(self, *args: Any, **kwargs: Any) -> Any:
        """Queries already multiplied by the factor: rotation and scores are linear in them."""
        query, *others = super().get_query_key_value_tensors(*args, **kwargs)
        if self._score_factor is not None:
            rotated = query[..., : self._rotated] * self._score_factor  # [s, b, n, d]
            rest = query[..., self._rotated :]
            query = torch.cat((rotated.to(query.dtype), rest), -1) if rest.size(-1) else rotated
            query = query.to(rest.dtype)  # rounded once
        return (query, *others)

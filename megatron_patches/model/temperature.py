# SPDX-License-Identifier: Apache-2.0
"""Self-attention whose scores are multiplied by a factor that comes with the rotary angles.

YaRN multiplies cosines and sines by m(g), so scores by m². When g is drawn for each micro-batch, m
is no constant of the model: it has to travel with the angles, or a pipeline stage that recomputes
an earlier micro-batch would take the factor of a later one.
"""

from typing import Any

import torch
from megatron.core.transformer.attention import SelfAttention
from torch import Tensor


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
        if rotary_pos_emb is not None:
            without = self.config.no_rope_freq
            if not (without and without[self.layer_number - 1]):
                # The factor is the same for all tokens: [1, b, 1, 1].
                self._score_factor = rotary_pos_emb[:1, :, :, -1:]
            rotary_pos_emb = rotary_pos_emb[..., :-1].contiguous()
            self._rotated = rotary_pos_emb.size(-1)
        return super().forward(hidden_states, *args, rotary_pos_emb=rotary_pos_emb, **kwargs)

    def get_query_key_value_tensors(self, *args: Any, **kwargs: Any) -> Any:
        """Queries already multiplied by the factor: rotation and scores are linear in them."""
        query, *others = super().get_query_key_value_tensors(*args, **kwargs)
        if self._score_factor is not None:
            rotated = query[..., : self._rotated] * self._score_factor  # [s, b, n, d]
            rest = query[..., self._rotated :]
            query = torch.cat((rotated.to(query.dtype), rest), -1) if rest.size(-1) else rotated
            query = query.to(rest.dtype)  # rounded once
        return (query, *others)

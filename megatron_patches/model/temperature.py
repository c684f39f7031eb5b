# SPDX-License-Identifier: Apache-2.0
"""Self-attention whose scores are multiplied by a factor that comes with the rotary angles.

YaRN multiplies cosines and sines by m(g), so scores by m². When g is drawn for each micro-batch, m
is no constant of the model: it has to travel with the angles, or a pipeline stage that recomputes
an earlier micro-batch would take the factor of a later one.
"""

from typing import Any

from megatron.core.transformer.attention import SelfAttention
from torch import Tensor


class TemperatureSelfAttention(SelfAttention):
    """Megatron's self-attention; takes m² off the last channel of the angles [s, b, 1, d + 1]."""

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
            # The factor is the same for all tokens: [1, b, 1, 1].
            self._score_factor = rotary_pos_emb[:1, :, :, -1:]
            rotary_pos_emb = rotary_pos_emb[..., :-1].contiguous()
        return super().forward(hidden_states, *args, rotary_pos_emb=rotary_pos_emb, **kwargs)

    def get_query_key_value_tensors(self, *args: Any, **kwargs: Any) -> Any:
        """Queries already multiplied by the factor: rotation and scores are linear in them."""
        query, *others = super().get_query_key_value_tensors(*args, **kwargs)
        if self._score_factor is not None:
            query = (query * self._score_factor).to(query.dtype)  # [s, b, n, d], rounded once
        return (query, *others)

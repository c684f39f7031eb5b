# SPDX-License-Identifier: Apache-2.0
"""The rotary embedding that takes the sampled positions of a micro-batch.

Megatron's own module caches its result by length (``lru_cache``), so a scale changed in place is
ignored; its ``offset`` argument shifts all tokens alike, which RoPE cancels. This one asks the
position method on every call; only the frequencies of a scale are kept.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import (
    RotaryEmbedding,
    get_pos_emb_on_this_cp_rank,
)
from torch import Tensor

from e2_common.errors import UserError
from e2_llm.documents import window_positions
from e2_llm.frequencies import Frequencies, OwnRope
from e2_llm.methods import PositionMethod
from e2_llm.sampler import Draw


class E2RotaryEmbedding(RotaryEmbedding):
    """Takes the place of the ``RotaryEmbedding`` object that a built model holds.

    Call :meth:`set_draws` before each forward pass of the model. Context-parallel group and
    interleaving are those of the module it replaces.

    Args:
        original: Megatron's module, as the model built it.
        method: turns draws into positions and frequencies.
        own: the RoPE of the model, which the method scales, or the base of a plain one.

    Raises:
        UserError: ``original`` computes another RoPE than ``own``.
    """

    def __init__(
        self, original: RotaryEmbedding, method: PositionMethod, own: OwnRope | float
    ) -> None:
        torch.nn.Module.__init__(self)  # not the parent's: it would build frequencies again
        self.dim = 2 * len(original.inv_freq)
        self.own = OwnRope.of(own)
        _require_equal(original, self.own.inverse(self.dim))
        self.rotary_interleaved = original.rotary_interleaved
        self.seq_len_interpolation_factor = None
        self.inv_freq = original.inv_freq  # [d / 2], for other code; not used here
        self.cp_group = original.cp_group
        self.method = method
        self.draws: Sequence[Draw] = (method.validation_draw(),)
        self.documents: Sequence[Sequence[int]] | None = None
        self.joints: Sequence[Mapping[str, Sequence[int]]] | None = None
        self._frequencies = lru_cache(maxsize=64)(self._make_frequencies)

    def set_draws(
        self,
        draws: Sequence[Draw],
        documents: Sequence[Sequence[int]] | None = None,
        joints: Sequence[Mapping[str, Sequence[int]]] | None = None,
    ) -> None:
        """Choose the scale and offset of the next forward passes.

        Args:
            draws: one for all samples of the micro-batch, or one for each.
            documents: of each sample the lengths of its documents, if they are apart; each is then
                placed as a window of its own length.
            joints: of each sample, kind -> its joints, ascending; where none are given, nothing is
                cut at any.
        """
        self.draws = tuple(draws)
        different = documents or joints
        if different and len(draws) == 1:
            self.draws *= len(different)
        self.documents, self.joints = documents, joints

    def get_freqs_non_repeated(self, max_seq_len: int, offset: int = 0) -> Tensor:
        """Angles of every position, fp32 [s, b, d / 2]; b is 1 when the samples share them."""
        if offset:
            raise ValueError("a uniform offset cancels out in RoPE; use set_draws")
        device = torch.cuda.current_device()
        windows = self.documents or [[max_seq_len]] * len(self.draws)
        joints = self.joints or [{}] * len(self.draws)
        angles = [
            window_positions(self.method, draw, lengths, found, device)[:, None]  # [s, 1]
            * self._frequencies(draw.scale).inverse
            for draw, lengths, found in zip(self.draws, windows, joints, strict=True)
        ]
        return torch.stack(angles, dim=1)  # [s, b, d / 2]

    def _make_frequencies(self, scale: float) -> Frequencies:
        inverse, factor = self.method.frequencies(Draw(scale, 0), self.dim, self.own)
        if torch.cuda.is_available():  # from there the copy does not wait for the device
            inverse = inverse.pin_memory()
        device = torch.cuda.current_device()
        return Frequencies(inverse.to(device, non_blocking=True), factor)

    def get_cos_sin(self, max_seq_len: int, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Cosines and sines [s, d / 2] of the shared draw, as Megatron's inference path wants."""
        freqs = self.get_freqs_non_repeated(max_seq_len, offset)[:, 0]
        factor = self._frequencies(self.draws[0].scale).attention_factor
        return freqs.cos() * factor, freqs.sin() * factor

    def get_emb(self, max_seq_len: int, offset: int = 0) -> Tensor:
        """Angles laid out for Megatron's rotation, fp32 [s, b, 1, d].

        Angles cannot carry an attention factor m, as YaRN has. With it the result is
        [s, b, 1, d + 1]: the last channel is m², the factor of the scores, which
        :class:`TemperatureSelfAttention` takes off again. As part of this tensor it survives
        pipelining and activation recompute.
        """
        freqs = self.get_freqs_non_repeated(max_seq_len, offset)  # [s, b, d / 2]
        if self.rotary_interleaved:
            freqs = freqs.repeat_interleave(2, dim=-1)  # [s, b, d], pairs side by side
        else:
            freqs = torch.cat((freqs, freqs), dim=-1)  # [s, b, d], halves
        if self.method.rule.has_attention_factor:
            factors = [self._frequencies(draw.scale).attention_factor for draw in self.draws]
            # Filled on the device: copying numbers there would wait for it.
            shape = (freqs.size(0), 1, 1)  # [s, 1, 1]
            squares = [freqs.new_full(shape, factor * factor) for factor in factors]
            freqs = torch.cat((freqs, torch.cat(squares, dim=1)), dim=-1)
        return freqs[:, :, None, :]  # [s, b, 1, d or d + 1]

    def forward(
        self,
        max_seq_len: int,
        offset: int = 0,
        packed_seq: bool = False,
        cp_group: torch.distributed.ProcessGroup | None = None,
    ) -> Tensor:
        """Angles of a window's positions under the current draws.

        Args:
            max_seq_len: tokens of the window, over all context-parallel ranks.
            offset: must be 0.
            packed_seq: sequences are packed; the angles are then not sliced here.
            cp_group: context-parallel group; default: the model's.

        Returns:
            fp32 [s, b, 1, d], with YaRN [s, b, 1, d + 1]: this context-parallel rank's part, b 1
            when samples share a draw and are one document each.
        """
        emb = self.get_emb(max_seq_len, offset)
        cp_group = cp_group or self.cp_group
        if cp_group is not None and cp_group.size() > 1 and not packed_seq:
            # Last of all, so that the kept tokens are those of the whole window.
            emb = get_pos_emb_on_this_cp_rank(emb, 0, cp_group)
        return emb


def _require_equal(original: RotaryEmbedding, own: Tensor) -> None:
    """Refuse to take the place of a module that computes what we do not know of.

    Whatever argument of Megatron scales its frequencies, it would be lost without a word.
    """
    factor = original.seq_len_interpolation_factor or 1
    theirs = (original.inv_freq / factor).cpu()  # [d / 2]
    if theirs.shape != own.shape or not torch.allclose(theirs, own, rtol=1e-5, atol=0):
        raise UserError(
            "the RoPE that Megatron built is not that of --rotary-base, --use-rope-scaling, "
            "--rope-scaling-factor and --rotary-seq-len-interpolation-factor: another argument "
            "scales it, which --position-method would drop; drop that argument"
        )

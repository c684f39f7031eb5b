# SPDX-License-Identifier: Apache-2.0
"""The rotary module that takes draws, in place of that of a transformers model.

transformers computes the frequencies once, when a model is built, and multiplies them by the
positions of every call. This module asks the position method on every call of a training model.
Only the frequencies of a scale are kept. It has no parameters, so data parallelism of any kind
leaves it alone, and a model calls it once a forward pass, outside of the layers that gradient
checkpointing runs again.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from e2_common.errors import UserError
from e2_llm.documents import window_positions
from e2_llm.frequencies import Frequencies, OwnRope
from e2_llm.methods import PositionMethod
from e2_llm.sampler import Draw

KEPT = 64  # scales whose frequencies are kept


class E2RotaryEmbedding(nn.Module):
    """Takes the place of the rotary module that a built model holds.

    In training mode the positions are those of :meth:`set_draws`. In evaluation mode they are the
    plain ones at the scale of one fixed draw, :attr:`evaluated`.

    Args:
        original: the module of the model, with its frequencies ``inv_freq`` [d / 2].
        method: turns draws into positions and frequencies.
        own: the RoPE of the model, which the method scales.

    Attributes:
        evaluated: the draw of evaluation; as Megatron validates, until another is set.
        window: in its place, that of the next evaluation alone; None for none.
    """

    def __init__(self, original: nn.Module, method: PositionMethod, own: OwnRope) -> None:
        super().__init__()
        self.register_buffer("inv_freq", original.inv_freq, persistent=False)  # for other code
        self.attention_scaling = 1.0
        self.own = own
        self.set_method(method)
        self.evaluated = method.validation_draw()
        self.window: Draw | None = None
        self.draws: Sequence[Draw] = ()
        self.documents: Sequence[Sequence[int]] | None = None
        self.joints: Sequence[Mapping[str, Sequence[int]]] | None = None

    def set_method(self, method: PositionMethod) -> None:
        """Turn draws into positions and frequencies by another method from now on."""
        self.method = method
        self._kept: dict[tuple[float, torch.device], Frequencies] = {}

    def set_draws(
        self,
        draws: Sequence[Draw],
        documents: Sequence[Sequence[int]] | None = None,
        joints: Sequence[Mapping[str, Sequence[int]]] | None = None,
    ) -> None:
        """Choose scales and places of the next forward passes of a training model.

        Args:
            draws: one for all samples of the micro-batch, or one for each.
            documents: of each sample the lengths of its documents, if they are apart; each is then
                placed as a window of its own length.
            joints: of each sample, kind -> its joints, ascending; where none are given, nothing is
                cut at any.
        """
        self.draws, self.documents, self.joints = tuple(draws), documents, joints

    @torch.compiler.disable  # else it would be compiled anew for every draw
    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, as attention multiplies queries and keys by them.

        Args:
            x: hidden states [b, s, h], of which the shape, the device and the type count.
            position_ids: [b or 1, s]; in training they say no more than where documents begin,
                which :meth:`set_draws` has been told.

        Returns:
            Two tensors [b or 1, s, d] of the type of ``x``, both with the attention factor m in
            them; one row where the samples share their positions.

        Raises:
            UserError: a training model was given no draws, too few, or a window that is longer
                than the draws were made for.
        """
        if not self.training:
            return self._laid_out(x, self._evaluation_rows(position_ids))
        return self._laid_out(x, self._training_rows(x))

    def _training_rows(self, x: Tensor) -> list[tuple[Tensor, Draw]]:
        """Positions [s] and the draw of each sample; a single pair where all share them."""
        rows, length = x.shape[:2]
        draws = self.draws
        if not draws:
            raise UserError(
                "the model is trained before anything was drawn: set_samples names the samples of "
                "a micro-batch before its forward pass, E2Callback does so within a Trainer"
            )
        of_each = self.method.config.draw_per == "sample"
        if of_each or self.documents or self.joints:
            draws = draws[:rows] if of_each else draws * rows  # the last batch may be small
            if len(draws) < rows:
                raise UserError(
                    f"a micro-batch of {rows} samples and {len(draws)} draws: set_samples has to "
                    "name every sample of it"
                )
        documents = self.documents or [[length]] * len(draws)
        longest, room = max(map(max, documents)), self.method.config.train_window
        if longest > room and self.method.draws():
            raise UserError(
                f"a window of {longest} tokens: the draws are for windows of at most {room} "
                "(train_window, R); cut the texts, or raise it"
            )
        joints = self.joints or [{}] * len(draws)
        return [
            (window_positions(self.method, draw, lengths, found, x.device), draw)
            for draw, lengths, found in zip(draws, documents, joints, strict=True)
        ]

    def _evaluation_rows(self, position_ids: Tensor) -> list[tuple[Tensor, Draw]]:
        """Positions [s] of each row of position ids; they begin behind what a cache holds."""
        draw = self.window or self.evaluated
        table = self.method.positions(draw, int(position_ids.max()) + 1, position_ids.device)
        return [(table[row], draw) for row in position_ids]

    def _laid_out(self, x: Tensor, rows: list[tuple[Tensor, Draw]]) -> tuple[Tensor, Tensor]:
        cosines, sines = [], []
        for positions, draw in rows:
            inverse, factor = self._frequencies(draw.scale, x.device)
            angles = positions[:, None] * inverse  # fp32 [s, d / 2]
            angles = torch.cat((angles, angles), dim=-1)  # [s, d], halves
            cosines.append(angles.cos() * factor)
            sines.append(angles.sin() * factor)
        return torch.stack(cosines).to(x.dtype), torch.stack(sines).to(x.dtype)

    def _frequencies(self, scale: float, device: torch.device) -> Frequencies:
        """Those of a scale, which are made once while few scales are in use."""
        key = scale, device
        if key not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.clear()
            dim = 2 * len(self.inv_freq)
            inverse, factor = self.method.frequencies(Draw(scale, 0), dim, self.own)
            self._kept[key] = Frequencies(inverse.to(device), factor)
        return self._kept[key]

# SPDX-License-Identifier: Apache-2.0
"""E2-LLM's arithmetic: scale and offset to rotary positions.

Notation (arXiv 2401.06951): L is the pre-trained window, R the window of training, g the scale,
t the offset, all lengths in tokens. A served window W has g = W / L.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def max_offset(scale: float, base_window: int, train_window: int) -> int:
    """The largest offset t_max = g * L - R for a scale, in tokens (section 4.1, below Eq 7).

    The paper's "maximum interpolated window minus the trained window". With R > g * L, which the
    paper leaves undefined, there is no room and t is 0.

    Args:
        scale: g.
        base_window: L, in tokens.
        train_window: R, in tokens.
    """
    return max(0, int(scale * base_window) - train_window)


def rotary_positions(
    length: int,
    scale: float = 1.0,
    offset: int = 0,
    keep_first: int = 4,
    device: "torch.device | str | None" = None,
) -> "Tensor":
    """Positions p(m) = m / g for the first ``keep_first`` tokens, (m + t) / g after (Eq 5 and 7).

    RoPE is relative, so the offset moves only the scores between later tokens and the kept ones
    (Eq 8); with ``keep_first=0`` it cancels out.

    Args:
        length: number of tokens of the window.
        scale: g >= 1.
        offset: t >= 0, in tokens of the extended window.
        keep_first: how many leading tokens keep t = 0.
        device: where to put the result.

    Returns:
        fp32 tensor [length]; with t <= :func:`max_offset` its largest value is below L.
    """
    import torch

    positions = torch.arange(length, dtype=torch.float32, device=device)  # [length], m
    positions[keep_first:] += offset
    return positions / scale

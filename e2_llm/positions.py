# SPDX-License-Identifier: Apache-2.0
"""E2-LLM's arithmetic: scale and offset to rotary positions. Needs torch and nothing else.

Notation (arXiv 2401.06951): L is the pre-trained window, R the window of training, g the scale,
t the offset, all lengths in tokens. A served window W has g = W / L.
"""

import math

import torch
from torch import Tensor


def scale_for_window(window: int, base_window: int) -> float:
    """The scale g = W / L that makes a window of ``window`` tokens fit into the pre-trained one.

    Windows up to L need no scaling: g is never below 1.

    Args:
        window: W, the window to serve, in tokens.
        base_window: L, the window of pre-training, in tokens.
    """
    return max(1.0, window / base_window)


def e2_scale_for(length: int, base_window: int) -> int:
    """The smallest whole g >= 1 at which ``length`` tokens fit: max(1, ceil(length / L)).

    What evaluation and generation choose, since E2-LLM trains on whole scales (Eq 6). It equals
    :func:`scale_for_window` for multiples of L.

    Args:
        length: in tokens, of a window, or of a prompt and its longest answer together.
        base_window: L, the window of pre-training, in tokens.
    """
    return max(1, math.ceil(length / base_window))


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
    device: torch.device | str | None = None,
) -> Tensor:
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
    positions = torch.arange(length, dtype=torch.float32, device=device)  # [length], m
    positions[keep_first:] += offset
    return positions / scale

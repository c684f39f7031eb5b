# SPDX-License-Identifier: Apache-2.0
"""Positions of a training window that may hold several documents, each placed by itself."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from e2_llm.methods.base import PositionMethod
from e2_llm.sampler import Draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def window_positions(
    method: PositionMethod,
    draw: Draw,
    lengths: Sequence[int],
    joints: Mapping[str, Sequence[int]],
    device: "torch.device | None" = None,
) -> "Tensor":
    """Positions of documents one after another; each begins anew, as a window of its own length.

    Args:
        method: of the run.
        draw: of the window, which all of its documents share.
        lengths: of the documents, in tokens; one number for a window whose documents see each
            other.
        joints: kind -> the joints of the whole window, ascending.
        device: where to put the result.

    Returns:
        fp32 [s], s the sum of the lengths.
    """
    import numpy as np
    import torch

    parts, first = [], 0
    kind = method.placement(draw.placement).joints
    found = np.asarray(joints.get(kind, ()), dtype=np.int64)
    for length in lengths:
        own = found[(found > first) & (found < first + length)] - first
        parts.append(method.positions(draw, length, device, own))
        first += length
    return torch.cat(parts)

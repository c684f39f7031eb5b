# SPDX-License-Identifier: Apache-2.0
"""Which distances between two tokens a run trains: what a placement is for.

RoPE sees distances only. A distance in the extended window that no training window holds is left to
extrapolation, whatever the scale.
"""

from typing import TYPE_CHECKING

from e2_llm.methods.base import PositionMethod
from e2_llm.placements import PLACEMENTS
from e2_llm.sampler import random_fractions

if TYPE_CHECKING:
    import numpy as np

_PAIRS = 512  # looked at in a window


def sampled_distances(
    method: PositionMethod, seed: int, draws: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Distances of random pairs of tokens, and the scales at which they are trained.

    Joints of a window are made up, since no text is read.

    Args:
        method: of the run.
        seed: of its draws.
        draws: how many of them to look at; the first, or with a curriculum some of the whole run.

    Returns:
        Distances [draws, pairs] in tokens of the extended window, and scales [draws].
    """
    import numpy as np

    length = method.config.train_window
    step = max(1, method.config.planned_samples // draws)
    distances, scales = np.empty((draws, _PAIRS)), np.empty(draws)
    for row in range(draws):
        draw = method.draw(seed, row * step)
        places = method.tokens(draw, length, joints=method.example_joints(draw, length)).numpy()
        pairs = (random_fractions(row, 2 * _PAIRS) * length).astype(np.int64).reshape(2, -1)
        distances[row] = abs(places[pairs[0]] - places[pairs[1]])
        scales[row] = draw.scale
    return distances, scales


def summary(method: PositionMethod, seed: int, draws: int = 200) -> str:
    """The shares of pairs up to L apart, up to 2 L, up to 4 L and so on, in one line.

    Args:
        method: of the run.
        seed: of its draws.
        draws: how many of them to look at.
    """
    distances, _ = sampled_distances(method, seed, draws)
    units = distances / method.config.base_window
    parts, low, high = [], 0, 1
    while low < method.largest_scale:
        share = ((units >= low) & (units < high)).mean()
        parts.append(f"to {'' if high == 1 else f'{high} '}L {share:.1%}")
        low, high = high, 2 * high
    placed = [PLACEMENTS[name] for name in method.placements]
    apart = [str(placement.apart) for placement in placed if placement.joints]
    made_up = f", if joints are about {' and '.join(apart)} tokens apart" if apart else ""
    return "pairs of tokens apart " + ", ".join(parts) + made_up

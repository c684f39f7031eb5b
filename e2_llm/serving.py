# SPDX-License-Identifier: Apache-2.0
"""The scale g at which a window is served: training, export and evaluation all ask here."""

import math


def serving_scale(window: float, base_window: int, *, whole: bool) -> float:
    """The smallest scale, of those that training draws, at which ``window`` tokens fit.

    A model that met whole scales only (Eq 6) is served at max(1, ceil(W / L)), any other at
    max(1, W / L). The two agree at multiples of L.

    Args:
        window: W in tokens: of a served window, or of a prompt and its longest answer together.
        base_window: L, the window of pre-training, in tokens.
        whole: whether training drew whole scales.
    """
    scale = window / base_window
    return max(1.0, float(math.ceil(scale)) if whole else scale)

# SPDX-License-Identifier: Apache-2.0
"""A picture of the distances between tokens that a method trains."""

from itertools import pairwise
from typing import TYPE_CHECKING

from e2_common.errors import UserError
from e2_llm.distances import sampled_distances
from e2_llm.methods import method_for
from e2_llm.scales import scale_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from e2_llm.config import E2Config

_DRAWS = 3000
_BINS = 40


def distance_picture(config: "E2Config", seed: int) -> "Figure":
    """Draw how often which distance is trained, a line for each range of scales.

    Args:
        config: of the method.
        seed: of its draws.

    Raises:
        UserError: the method extends no window.
    """
    import numpy as np
    from matplotlib.figure import Figure

    method = method_for(config)
    if method.largest_scale == float("inf"):
        raise UserError(f"--distances: --method {method.name} extends no window; choose another")
    distances, scales = sampled_distances(method, seed, _DRAWS)
    units = distances / config.base_window
    edges = scale_edges(method.largest_scale)
    bins = np.geomspace(1 / 16, method.largest_scale, _BINS + 1)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for low, high in pairwise(edges):
        last = high == edges[-1]
        chosen = units[(scales >= low) & ((scales <= high) if last else (scales < high))]
        if chosen.size:
            counts, _ = np.histogram(chosen, bins)
            share = np.where(counts > 0, counts / chosen.size, np.nan)
            axes.stairs(share, bins, label=f"g {low:g} to {high:g}", linewidth=1.8)
    axes.axvline(1, color="#777777", linestyle=(0, (4, 3)), linewidth=1.2)
    axes.annotate(
        "L", (1, 1), xycoords=("data", "axes fraction"), xytext=(4, -12),
        textcoords="offset points", color="#555555",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("distance of two tokens of a window, in units of L")
    axes.set_ylabel("share of pairs")
    axes.set_title(method.summary(), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure

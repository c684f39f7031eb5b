# SPDX-License-Identifier: Apache-2.0
"""The picture of a retrieval test: accuracy by window and depth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from e2_tools.plotting import INK, tick_label

LABELLED_CELLS = 150  # beyond it numbers in cells cannot be read


def draw_heat_map(
    windows: Sequence[int],
    depths: Sequence[float],
    accuracies: Sequence[Sequence[float | None]],
    title: str | None = None,
    hidden: str = "key",
) -> Figure:
    """Draw accuracies as colours, windows to the right and depths downwards.

    Args:
        windows: in tokens, one a column.
        depths: in percent of the text, one a row.
        accuracies: [depth][window], from 0 to 1; None leaves a cell grey.
        title: above the picture.
        hidden: what was to be found, for the axis.
    """
    values = np.array(accuracies, dtype=float)  # None becomes NaN
    size = (max(5.0, 1.8 + 0.75 * len(windows)), max(2.8, 1.6 + 0.42 * len(depths)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#DDDDDD")
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(windows)), [tick_label(window) for window in windows])
    axes.set_yticks(range(len(depths)), [f"{depth:g} %" for depth in depths])
    axes.set_xlabel("window (tokens)", color=INK)
    axes.set_ylabel(f"depth of the {hidden}", color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    if values.size <= LABELLED_CELLS:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < 0.6 else "black"  # viridis is dark below
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"], color=INK)
    bar.set_label("retrieved", color=INK)
    bar.outline.set_visible(False)
    if title:
        axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")
    return figure

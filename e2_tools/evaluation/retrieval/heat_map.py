# SPDX-License-Identifier: Apache-2.0
"""The picture of a retrieval test: accuracy by window and depth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from e2_tools.plotting import INK, tick_label

LABELLED_CELLS = 150  # beyond it numbers in cells cannot be read
Row = float | str  # a depth in percent, or the name of a task
Grid = tuple[Sequence[int], Sequence[Row], Sequence[Sequence[float | None]]]


def draw_heat_map(
    windows: Sequence[int],
    depths: Sequence[Row],
    accuracies: Sequence[Sequence[float | None]],
    title: str | None = None,
    hidden: str = "key",
) -> Figure:
    """Draw accuracies as colours, windows to the right and depths downwards.

    Args:
        windows: in tokens, one a column.
        depths: in percent of the text, one a row; or names.
        accuracies: [depth][window], from 0 to 1; None leaves a cell grey.
        title: above the picture.
        hidden: what was to be found, for the axis.
    """
    return draw_heat_maps({title or "": (windows, depths, accuracies)}, hidden)


def draw_heat_maps(grids: dict[str, Grid], hidden: str = "key", columns: int = 2) -> Figure:
    """Draw several such pictures beside each other, with one bar of colours.

    Args:
        grids: title -> windows, depths and accuracies, see :func:`draw_heat_map`.
        hidden: what was to be found, for the axes.
        columns: pictures in a row.
    """
    columns = min(columns, len(grids))
    rows = -(-len(grids) // columns)
    wide = max(0.75 * len(windows) for windows, _, _ in grids.values())
    high = max(0.42 * len(depths) for _, depths, _ in grids.values())
    size = (max(5.0, 1.8 + columns * (wide + 0.4)), max(2.8, 1.6 + rows * (high + 0.6) - 0.6))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    used = list(zip(panels.flat, grids.items(), strict=False))
    for axes, (title, grid) in used:
        image = _panel(axes, grid, title)
    for axes in panels.flat[len(used) :]:
        axes.set_axis_off()
    for number, (axes, (_, grid)) in enumerate(used):
        if number + columns >= len(used):
            axes.set_xlabel("window (tokens)", color=INK)
        if number % columns == 0 and not any(isinstance(row, str) for row in grid[1]):
            axes.set_ylabel(f"depth of the {hidden}", color=INK)
    bar = figure.colorbar(image, ax=panels, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"], color=INK)
    bar.set_label("retrieved", color=INK)
    bar.outline.set_visible(False)
    return figure


def row_name(row: Row) -> str:
    """Return how pictures and tables call a row."""
    return row if isinstance(row, str) else f"{row:g} %"


def _panel(axes: Axes, grid: Grid, title: str) -> AxesImage:
    windows, depths, accuracies = grid
    values = np.array(accuracies, dtype=float)  # None becomes NaN
    axes.set_facecolor("#DDDDDD")
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(windows)), [tick_label(window) for window in windows])
    axes.set_yticks(range(len(depths)), list(map(row_name, depths)))
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    if values.size <= LABELLED_CELLS:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < 0.6 else "black"  # viridis is dark below
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    if title:
        axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")
    return image

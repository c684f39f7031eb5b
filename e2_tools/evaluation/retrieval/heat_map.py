# SPDX-License-Identifier: Apache-2.0
"""The picture of a retrieval test: accuracy by window and depth."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from e2_tools.plotting import INK, tick_label, wrapped

LABELLED_CELLS = 150  # beyond it numbers in cells cannot be read
# In inches: the size of a cell, what all cells of a panel may take, and what a label needs.
CELL, ALL, LABEL = (0.75, 0.42), (8.0, 7.5), (0.55, 0.17)
CHARACTERS = 9  # of a title, in an inch
Row = float | str  # a depth in percent, or the name of a task


class Grid(NamedTuple):
    """What a panel shows.

    Attributes:
        windows: in tokens, one a column.
        rows: depths in percent, or names.
        accuracies: [row][window], from 0 to 1; None leaves a cell grey.
        served: window -> at which scale, in words.
        base_window: L, in tokens, to be marked; None if it is not known.
    """

    windows: Sequence[int]
    rows: Sequence[Row]
    accuracies: Sequence[Sequence[float | None]]
    served: dict[int, str] = {}
    base_window: int | None = None

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height of the cells together: of many, each is smaller."""
        counts = len(self.windows), len(self.rows)
        width, height = (min(n * c, most) for n, c, most in zip(counts, CELL, ALL, strict=True))
        return width, height


def draw_heat_maps(grids: dict[str, Grid], hidden: str = "key", columns: int = 2) -> Figure:
    """Draw accuracies as colours, windows to the right and rows downwards, with one bar of colours.

    Args:
        grids: title -> what its panel shows.
        hidden: what was to be found, for the axes.
        columns: pictures in a row.
    """
    columns = min(columns, len(grids))
    rows = -(-len(grids) // columns)
    wide = max(grid.inches[0] for grid in grids.values())
    high = max(grid.inches[1] for grid in grids.values())
    width = max(30, int(CHARACTERS * wide))
    titles = ["\n".join(wrapped(line, width) for line in told.splitlines()) for told in grids]
    lines = 1 + max(title.count("\n") for title in titles)
    size = (
        max(5.0, 1.8 + columns * (wide + 0.4)),
        max(2.8, 1.4 + rows * (high + 0.6 + 0.25 * lines) - 0.6),
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    shown = zip(titles, grids.values(), strict=True)
    used = list(zip(panels.flat, shown, strict=False))
    for axes, (title, grid) in used:
        image = _panel(axes, grid, title)
    for axes in panels.flat[len(used) :]:
        axes.set_axis_off()
    for number, (axes, (_, grid)) in enumerate(used):
        if number + columns >= len(used):
            axes.set_xlabel("window (tokens)", color=INK)
        if number % columns == 0 and not any(isinstance(row, str) for row in grid.rows):
            axes.set_ylabel(f"depth of the {hidden}", color=INK)
    bar = figure.colorbar(image, ax=panels, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"], color=INK)
    bar.set_label("retrieved", color=INK)
    bar.outline.set_visible(False)
    return figure


def row_name(row: Row) -> str:
    """Return how pictures and tables call a row."""
    return row if isinstance(row, str) else f"{row:.4g} %"


def _panel(axes: Axes, grid: Grid, title: str) -> AxesImage:
    values = np.array(grid.accuracies, dtype=float)  # None becomes NaN
    axes.set_facecolor("#DDDDDD")
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    columns, rows = (
        range(0, count, math.ceil(count * label / size))
        for count, label, size in zip(values.shape[::-1], LABEL, grid.inches, strict=True)
    )
    axes.set_xticks(columns, [_column(grid, grid.windows[place]) for place in columns])
    axes.set_yticks(rows, [row_name(grid.rows[place]) for place in rows])
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    if values.size <= LABELLED_CELLS and len(columns) == len(grid.windows):
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < 0.6 else "black"  # viridis is dark below
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    if grid.base_window is not None:
        _mark(axes, grid.windows, grid.base_window)
    if title:
        pad = 6 if grid.base_window is None else 18
        axes.set_title(title, loc="left", pad=pad, fontsize=12, color=INK, fontweight="bold")
    return image


def _column(grid: Grid, window: int) -> str:
    """A window and below it at which scale it was served."""
    return "\n".join(filter(None, (tick_label(window), grid.served.get(window))))


def _mark(axes: Axes, windows: Sequence[int], base_window: int) -> None:
    """A line behind the windows that the base model has; at the edge if it is all or none."""
    at = sum(window <= base_window for window in windows) - 0.5
    axes.axvline(at, color="white", linewidth=2.6, clip_on=False)
    axes.axvline(at, color="#D55E00", linestyle=(0, (4, 3)), linewidth=1.6, clip_on=False)
    axes.annotate(
        f"L = {base_window:,}",
        (at, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="left" if at < 0 else "right" if at == len(windows) - 0.5 else "center",
        fontsize=9,
        color="#D55E00",
        annotation_clip=False,
    )

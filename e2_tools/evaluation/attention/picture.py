# SPDX-License-Identifier: Apache-2.0
"""Figure 6's picture: a panel per window and layer, input to the right, generated tokens down."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from e2_tools.evaluation.attention.by_window import FIRST
from e2_tools.evaluation.conditions import told_scale
from e2_tools.plotting import INK, tick_label, wrapped

TITLE = 60  # characters a line
FAINTEST = 1e-4  # weights below have the darkest colour
MARK = "#D55E00"
PAIR = "#777777"


def draw_attention(results: dict[str, Any]) -> Figure:
    """Draw what :func:`e2_tools.evaluation.attention.run.evaluate` found.

    Args:
        results: of schema ``e2-llm/attention/1``.
    """
    rows, layers = results["results"], results["layers"]
    size = (3.2 + 5.6 * len(layers), 1.6 + 2.3 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(layers), squeeze=False)
    image = None
    for row, line in zip(rows, grid, strict=True):
        for layer, axes in zip(layers, line, strict=True):
            image = _panel(axes, row, layer)
        asked = row["value_span"] is not None
        line[0].set_ylabel("generated token" if asked else "token of the text", color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("input (tokens)", color=INK)
    bar = figure.colorbar(image, ax=grid, extend="min", aspect=16 * len(rows))
    heads = results["heads"]
    which = "all heads" if heads is None else f"heads {', '.join(map(str, heads))}"
    bar.set_label(
        f"attention, mean of {which},\n{results['pool']} over each bin of tokens", color=INK
    )
    bar.ax.tick_params(colors=INK)
    bar.outline.set_visible(False)
    marks = [
        Line2D([], [], marker=marker, color=color, linestyle="", label=text)
        for marker, color, text in (("v", MARK, "the value asked for"), ("|", PAIR, "three pairs"))
    ]
    if any(row["value_span"] for row in rows):
        figure.legend(
            handles=marks,
            loc="outside lower left",
            ncols=2,
            frameon=False,
            labelcolor=INK,
            fontsize=9,
        )
    figure.suptitle(
        wrapped(results["label"], TITLE),
        x=0.01,
        ha="left",
        fontsize=13,
        color=INK,
        fontweight="bold",
    )
    return figure


def scale_and_verdict(row: dict[str, Any]) -> tuple[str, str]:
    """Return in words at which scale a window was served, and whether its answer is right.

    The second is empty where nothing was asked.
    """
    return told_scale(row["scale"]), {True: "right", False: "wrong", None: ""}[row["correct"]]


def _panel(axes: Axes, row: dict[str, Any], layer: int) -> Any:
    found = row["layers"][str(layer)]
    weights = np.array(found["rows"])
    extent = (0, row["prompt_tokens"], len(weights) - 0.5, -0.5)
    image = axes.imshow(
        np.maximum(weights, FAINTEST),
        norm=LogNorm(FAINTEST, 1),
        cmap="magma",
        aspect="auto",
        interpolation="none",
        extent=extent,
    )
    scale, verdict = scale_and_verdict(row)
    told = (
        f"answer {verdict}, {_percent(found['on_value'])} on the value"
        if verdict
        else f"{_percent(found['on_first'])} on the first {FIRST} tokens"
    )
    axes.set_title(
        f"{tick_label(row['window'])}, {scale}, layer {layer}: {told}",
        loc="left",
        fontsize=10,
        color=INK,
        pad=18,
    )
    for begin, end in row["pair_spans"]:
        _mark(axes, (begin + end) / 2, PAIR, "|")
    if verdict:
        _mark(axes, sum(row["value_span"]) / 2, MARK, "v")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(colors=INK, length=3)
    axes.spines[:].set_visible(False)
    return image


def _mark(axes: Axes, at: float, color: str, marker: str) -> None:
    """A mark above the panel, so that it hides nothing."""
    axes.plot(
        at,
        1.05,
        marker=marker,
        markersize=7,
        color=color,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"

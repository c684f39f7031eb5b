# SPDX-License-Identifier: Apache-2.0
"""The look of all pictures: colours, axes, ticks, the file."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2_common.files import atomic_file

# Okabe and Ito's palette, readable for the colour-blind, less its yellow, too pale on white.
COLORS = ("#E69F00", "#D55E00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#000000")
# As many as have no divisor in common with the colours: 105 lines before a pair comes again.
MARKERS = "osD^vPX<>ph*d8H"
STYLES = ("-", "--", ":")
INK = "#333333"
BESIDE, CHARACTER = 0.75, 0.12  # inches: left of a title, and of a character of 13 point bold


def line_look(number: int) -> dict[str, Any]:
    """Return colour, style and mark of a line by its number, from 0: another pair for each."""
    repeated = number >= len(COLORS) * len(MARKERS)
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number // len(COLORS) % len(STYLES)],
        "marker": f"${number}$" if repeated else MARKERS[number % len(MARKERS)],
    }


class Looks:
    """The looks of lines by their names, the same in all pictures that share this object.

    Args:
        names: those that take the first looks, in this order.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}

    def of(self, name: str) -> dict[str, Any]:
        """Return the look of a name, see :func:`line_look`; a new one gets the next."""
        return line_look(self._numbers.setdefault(name, len({*self._numbers.values()})))

    def share(self, name: str, other: str) -> None:
        """Give a name the look of another from now on."""
        self.of(other)
        self._numbers[name] = self._numbers[other]


def plain(text: str) -> str:
    """Return somebody's text for a picture: matplotlib would read formulas, and hide ``_names``."""
    shown = text.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def wrapped(text: str, width: int) -> str:
    """Return somebody's text for a picture in lines of at most so many characters."""
    return plain(textwrap.fill(text, width))


def title_lines(title: str, figure: Figure) -> str:
    """Return somebody's title in lines that fit beside a figure's axis, in 13 point bold."""
    return wrapped(title, int((figure.get_figwidth() - BESIDE) / CHARACTER))


def title_above(axes: Axes, figure: Figure, title: str, pad: float) -> None:
    """Set somebody's title above a figure's only panel, ``pad`` points from it."""
    lines = title_lines(title, figure)
    axes.set_title(lines, loc="left", pad=pad, fontsize=13, color=INK, fontweight="bold")


def save_png(figure: Figure, path: Path) -> None:
    """Save a figure as PNG, 150 dpi, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def tick_label(window: int) -> str:
    """Write a window in tokens for the axis: 512, 4k, 128k, with k = 1024."""
    return f"{window // 1024}k" if window >= 1024 and window % 1024 == 0 else str(window)


def style_axes(axes: Axes) -> None:
    """Give axes the look of all pictures: a light grid, no box, grey ink."""
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(colors=INK, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)

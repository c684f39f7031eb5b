# SPDX-License-Identifier: Apache-2.0
"""The curves of training runs, read from TensorBoard's event files and drawn."""

from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2_tools.plotting import INK, Looks, line_look, style_axes, wrapped

SIZE = (5.0, 3.3)  # inches
MARKS = 6  # on a curve
LEGEND = 40  # characters a line
INSIDE, LINE = 4, 0.18  # names that have room inside the axes; inches of a line below them
SMOOTH_ABOVE = 100  # points beyond which a curve is drawn as a mean over neighbours, too


class Curve(NamedTuple):
    """A scalar of a run: ``values`` at ``steps`` (iterations)."""

    steps: list[int]
    values: list[float]


Scalars = dict[str, Curve]


class Panel(NamedTuple):
    """A diagram: one tag of every run, or of one run all tags with a prefix."""

    title: str
    tag: str
    is_prefix: bool = False
    log: bool = False


# Tags as Megatron and megatron_patches (validation, draw_statistics) write them.
PANELS = (
    Panel("training loss", "lm loss"),
    Panel("validation loss by window", "lm loss validation/window ", is_prefix=True),
    Panel("what a window's first half gives", "context gain/", is_prefix=True),
    Panel("training loss by scale", "lm loss by scale/", is_prefix=True),
    Panel("norm of the gradient", "grad-norm", log=True),
    Panel("learning rate", "learning-rate"),
    Panel("mean scale g", "e2 scale"),
)

ENDS = ("lm loss validation/", "context gain/")  # tags whose last values are results


def read_scalars(folder: Path) -> Scalars:
    """Read every scalar of a folder of event files, steps in order, the newest value of each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        # A resumed run does some iterations again. TensorBoard reads files by name, and the names
        # of two that began in one second do not tell which was the later.
        by_time = sorted(events.Scalars(tag), key=attrgetter("wall_time"))
        points = {event.step: event.value for event in by_time}
        steps = sorted(points)
        scalars[tag] = Curve(steps, [points[step] for step in steps])
    return scalars


def draw_curves(runs: dict[str, Scalars], looks: Looks | None = None) -> dict[str, Figure]:
    """Draw a diagram for each quantity that a run logged more than once.

    Args:
        runs: name -> its scalars.
        looks: of the names, where other pictures have them too.

    Returns:
        what a diagram shows -> the diagram.
    """
    looks = looks or Looks()
    for name in runs:
        looks.of(name)  # in this order, whatever a panel has
    figures = {}
    for panel in PANELS:
        if lines := list(_lines(panel, runs)):
            figure = figures[panel.title] = Figure(figsize=SIZE, layout="constrained")
            _draw(figure.add_subplot(), panel, lines, looks)
    return figures


class _Line(NamedTuple):
    run: str
    part: str  # of a panel's tags, such as a window; "" of the only one
    curve: Curve


def _lines(panel: Panel, runs: dict[str, Scalars]) -> Iterable[_Line]:
    for name, scalars in runs.items():
        for tag, curve in scalars.items():
            if len(curve.steps) < 2:
                continue
            if panel.is_prefix and tag.startswith(panel.tag):
                yield _Line(name, tag.removeprefix(panel.tag), curve)
            elif tag == panel.tag:
                yield _Line(name, "", curve)


def _look(line: _Line, lines: list[_Line], looks: Looks) -> dict[str, Any]:
    """A run keeps its look from panel to panel; its parts keep its colour where others are there.

    Of a single run the parts take looks in turn.
    """
    if not line.part:
        return looks.of(line.run)
    parts = list(dict.fromkeys(each.part for each in lines))
    own = line_look(parts.index(line.part))
    several = len({each.run for each in lines}) > 1
    return {**own, "color": looks.of(line.run)["color"]} if several else own


def _draw(axes: Axes, panel: Panel, lines: list[_Line], looks: Looks) -> None:
    several = len({line.run for line in lines}) > 1
    for number, line in enumerate(lines):
        curve = line.curve
        told = (line.run, line.part) if several or not line.part else (line.part,)
        name = ", ".join(filter(None, told))
        style = _look(line, lines, looks) | {"markersize": 5}
        # A few marks are enough, and not those of all lines above each other.
        apart = max(1, len(curve.steps) // MARKS)
        style["markevery"] = (number * apart // len(lines), apart)
        if len(curve.steps) > SMOOTH_ABOVE:
            axes.plot(*curve, color=style["color"], linewidth=0.8, alpha=0.3)
            curve = _smooth(curve)
        axes.plot(*curve, **style, linewidth=1.6, label=wrapped(name, LEGEND))
    axes.set_title(panel.title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel("iteration")
    if panel.log:
        axes.set_yscale("log")
    style_axes(axes)
    looks_of_legend = {"frameon": False, "fontsize": 8, "labelcolor": INK}
    if len(lines) > INSIDE:  # they would cover the curves
        figure = axes.get_figure()
        figure.set_figheight(SIZE[1] + LINE * -(-len(lines) // 2))
        figure.legend(loc="outside lower center", ncols=2, **looks_of_legend)
    elif len(lines) > 1 or panel.is_prefix:
        axes.legend(**looks_of_legend)


def _smooth(curve: Curve) -> Curve:
    """Average over a hundredth of the curve on either side."""
    reach = max(1, len(curve.steps) // SMOOTH_ABOVE)
    values = [
        sum(near) / len(near)
        for near in (
            curve.values[max(0, n - reach) : n + reach + 1] for n in range(len(curve.values))
        )
    ]
    return Curve(curve.steps, values)

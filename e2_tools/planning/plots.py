# SPDX-License-Identifier: Apache-2.0
"""Pictures of plans: bytes by part, and memory by window."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from e2_tools.planning.memory import PARTS
from e2_tools.planning.plan import Plan
from e2_tools.plotting import COLORS, INK, line_look, plain, tick_label

GIB = 2**30
CROSSES = "x+1234"  # marks of published points
SHADES = {
    "weights": "#0072B2",
    "copies of weights": "#009E73",
    "gradients": "#56B4E9",
    "main parameters": "#6A51A3",
    "optimizer states": "#CC79A7",
    "activations": "#E69F00",
    "logits and loss": "#D55E00",
    "workspace": "#B3B3B3",
    "overhead": "#DDDDDD",
}


def draw_parts(plans: Sequence[Plan]) -> Figure:
    """Stacked bars of bytes by part: of one plan a bar a stage, of several their fullest stage."""
    if len(plans) == 1:
        bars = {f"stage {stage.number}": stage for stage in plans[0].stages}
        heading = plans[0].title
    else:
        bars = {f"{plan.run.layout}, {plan.recompute}": plan.fullest for plan in plans}
        layout = plans[0].run.layout
        heading = f"{plans[0].model.name} on {layout.world} x {plans[0].gpu.name}, fullest stage"
    figure = Figure(figsize=(9, 1.9 + 0.42 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    for row, stage in enumerate(bars.values()):
        left = 0.0
        for part in PARTS:
            size = stage.parts[part] / GIB
            axes.barh(row, size, left=left, height=0.7, color=SHADES[part])
            left += size
        axes.annotate(
            f"{left:.1f}", (left, row), (4, 0), textcoords="offset points", va="center", color=INK
        )
    shown = [part for part in PARTS if any(stage.parts[part] for stage in bars.values())]
    for part in shown:
        axes.barh(0, 0, color=SHADES[part], label=part)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel("GiB on a GPU, at the fullest moment of an iteration")
    _mark_memory(axes, plans[0], vertical=True)
    _clean(axes)
    axes.set_title(plain(heading), loc="left", fontsize=10, color=INK, pad=18)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
    return figure


def draw_by_window(
    series: Mapping[str, Sequence[Plan]],
    points: Mapping[str, Mapping[int, float]] | None = None,
    heading: str | None = None,
    label_of_windows: str = "training window (tokens)",
) -> Figure:
    """Memory of a GPU by training window, a line for each series of plans.

    Args:
        series: label -> plans, one a window; what does not fit is drawn hollow.
        points: label -> window -> published bytes, drawn as crosses.
        heading: default: of the first plan.
        label_of_windows: below the axis.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    windows: set[int] = set()
    for number, (label, plans) in enumerate(series.items()):
        look = line_look(number)
        color = look["color"]
        x = [plan.window for plan in plans]
        y = [plan.fullest.total / GIB for plan in plans]
        windows.update(x)
        axes.plot(x, y, **look, markersize=0, linewidth=2)
        if label:  # with its mark
            axes.plot([], [], **look, markersize=7, linewidth=2, label=plain(label))
        for plan, window, size in zip(plans, x, y, strict=True):
            axes.plot(
                window,
                size,
                look["marker"],
                color=color,
                markerfacecolor=color if plan.fits else "white",
                markersize=7,
            )
    for number, (label, values) in enumerate((points or {}).items()):
        color = COLORS[(number + len(series)) % len(COLORS)]
        mark = CROSSES[number // len(COLORS) % len(CROSSES)]
        sizes = [size / GIB for size in values.values()]
        axes.plot(list(values), sizes, mark, color=color, markersize=9, mew=2.5, label=plain(label))
        windows.update(values)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(windows), [tick_label(window) for window in sorted(windows)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label_of_windows, color=INK)
    axes.set_ylabel("GiB on the fullest GPU (hollow: does not fit)", color=INK)
    first = next(iter(series.values()))[0]
    _mark_memory(axes, first, vertical=False)
    axes.set_ylim(bottom=0)
    _clean(axes)
    axes.set_title(
        plain(heading or first.title.replace(": ", "\n")), loc="left", fontsize=10, color=INK
    )
    if len(series) > 1 or points:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    return figure


def _mark_memory(axes: Axes, plan: Plan, vertical: bool) -> None:
    memory = plan.gpu.memory / GIB
    style = {"color": "#777777", "linestyle": (0, (4, 3)), "linewidth": 1.2}
    text = {"textcoords": "offset points", "fontsize": 9, "color": "#555555"}
    label = f"{plan.gpu.name}: {memory:.1f} GiB"
    if vertical:
        axes.axvline(memory, **style)
        place = axes.get_xaxis_transform()
        axes.annotate(label, (memory, 1), (0, 4), xycoords=place, ha="center", **text)
    else:
        axes.axhline(memory, **style)
        place = axes.get_yaxis_transform()
        axes.annotate(label, (0, memory), (6, 4), xycoords=place, ha="left", **text)


def _clean(axes: Axes) -> None:
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, length=3)

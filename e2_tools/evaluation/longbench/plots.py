# SPDX-License-Identifier: Apache-2.0
"""LongBench scores by training iteration (the paper's Figure 4) and by variant (Tables 4 and 5)."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from e2_tools.evaluation.longbench.origin import KINDS
from e2_tools.evaluation.longbench.summaries import Summary, common_kind, common_means
from e2_tools.plotting import COLORS, INK, MARKERS, Looks, style_axes, title_above, wrapped

LOOKS = {
    "EN": COLORS[3],
    "ZH": COLORS[0],
    "All": "#555555",
}  # blue, orange: apart for the colour-blind
BAR = 0.26  # width, of 1 for a group
LINE = 18  # characters of a variant's name on one line


def draw_iterations(summaries: list[Summary], title: str | None = None) -> Figure:
    """Draw the means by training iteration, a line each.

    Args:
        summaries: of one run, each with its iteration, in their order.
        title: above the picture.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    iterations = [summary.iteration for summary in summaries]
    for number, (name, values) in enumerate(common_means(summaries).items()):
        axes.plot(
            iterations,
            values,
            label=_legend(name),
            color=LOOKS.get(name, COLORS[2]),
            marker=MARKERS[number],
            linewidth=2,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=1,
            clip_on=False,
            zorder=3,
        )
    axes.set_xlabel("training iterations")
    axes.set_ylabel(_measured(summaries))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlim(left=min(0, *iterations))
    style_axes(axes)
    return _finish(figure, title)


def draw_means(summaries: list[Summary], looks: Looks) -> Figure:
    """Draw the means of several models, a group of bars for each mean, from zero on.

    Args:
        summaries: one a model, in the order to draw them in.
        looks: of the labels: other pictures have their colours too.
    """
    means = common_means(summaries)
    figure = Figure(figsize=(5.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(summaries)
    for number, summary in enumerate(summaries):
        shift = (number - (len(summaries) - 1) / 2) * width
        places = [group + shift for group in range(len(means))]
        color, values = looks.of(summary.label)["color"], [each[number] for each in means.values()]
        bars = axes.bar(places, values, 0.9 * width, label=wrapped(summary.label, 50), color=color)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8.5, color=INK)
    axes.set_xticks(range(len(means)), [wrapped(_full_name(name), 30) for name in means])
    return _bars_finished(figure, summaries, 1)


def draw_ablation(summaries: list[Summary], title: str | None = None) -> Figure:
    """Draw the means of several variants, a group of bars each, from zero on.

    Args:
        summaries: one a variant, in the order to draw them in.
        title: above the picture.
    """
    means = common_means(summaries)
    figure = Figure(figsize=(max(6.0, 1.2 + 1.6 * len(summaries)), 4.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(means.items()):
        shift = (number - (len(means) - 1) / 2) * (BAR + 0.02)
        places = [group + shift for group in range(len(values))]
        color = LOOKS.get(name, COLORS[2])
        bars = axes.bar(places, values, BAR, label=_legend(name), color=color)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8.5, color=INK)
    names = [wrapped(summary.label, LINE) for summary in summaries]
    axes.set_xticks(range(len(summaries)), names)
    axes.set_xlim(-0.6, len(summaries) - 0.4)
    return _bars_finished(figure, summaries, 3, title)


def _bars_finished(
    figure: Figure, summaries: list[Summary], columns: int, title: str | None = None
) -> Figure:
    (axes,) = figure.axes
    axes.set_ylabel(wrapped(_measured(summaries), 40))
    axes.margins(y=0.1)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))  # all may be zero
    style_axes(axes)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    return _finish(figure, title, columns)


def _measured(summaries: list[Summary]) -> str:
    """What is up the axis: LongBench's score, or that of other records."""
    kind = common_kind(summaries)
    return "LongBench score (%)" if kind == "longbench" else f"{KINDS[kind].title}: score (%)"


def _full_name(name: str) -> str:
    means = {"EN": "EN (14 tasks)", "ZH": "ZH (4 tasks)", "All": "All (18 tasks)"}
    return means.get(name, name)


def _legend(name: str) -> str:
    return wrapped(_full_name(name), 90)


def _finish(figure: Figure, title: str | None, columns: int = 3) -> Figure:
    if title:
        (axes,) = figure.axes
        title_above(axes, figure, title, pad=14)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)
    return figure

# SPDX-License-Identifier: Apache-2.0
"""The picture of perplexities: by window, a line per result file."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from e2_common.errors import UserError
from e2_tools.evaluation.conditions import conditions_of_all, test_name, told_scales
from e2_tools.evaluation.perplexity.results import KEY_TOKENS
from e2_tools.evaluation.result_file import Results
from e2_tools.plotting import INK, Looks, style_axes, tick_label, title_above, wrapped

LOG_ABOVE = 4.0  # largest / smallest value beyond which a linear y axis hides the small ones
_LABELS = {
    "perplexity": "perplexity",
    "perplexity_full_context": "perplexity (full context)",
    KEY_TOKENS: "perplexity (key tokens)",
    "on_first": "attention on the first tokens",
    "on_last": "attention on the last tokens",
}
SHARES = ("accuracy", "on_first", "on_last")  # from 0 to 1
CAPTION, LEGEND = 100, 55  # characters a line, of a picture of the usual width
WIDTH, HEIGHT = 8.0, 5.0  # inches
LINE, LINES = 0.2, 3  # inches of a line of the legend, and how many have room
NARROW = 6.0  # inches below which the legend has one column
APART = 1.035  # of the places of two files' intervals at one window


def draw(
    files: dict[str, Results],
    metric: str = "perplexity",
    title: str | None = None,
    train_window: int | None = None,
    intervals: bool = False,
    looks: Looks | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw a metric by window, the paper's Figure 5; below it what the numbers depend on.

    Args:
        files: label -> results.
        metric: one of :data:`e2_tools.evaluation.perplexity.results.METRICS`, ``accuracy``,
            ``on_first`` or ``on_last``.
        title: above the picture.
        train_window: R, in tokens, to mark as the trained window.
        intervals: with the 95 % intervals over documents as bars.
        looks: of the labels, where other pictures have them too.
        width: in inches.

    Raises:
        UserError: a file has no value of this metric, or no interval.
    """
    narrower = width / WIDTH
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    looks = looks or Looks()
    values: list[float] = []
    windows: set[int] = set()
    for number, (label, results) in enumerate(files.items()):
        points = sorted(
            (row["window"], row[metric])
            for row in results["results"]
            if row.get(metric) is not None
        )
        if not points:
            why = (
                "it was made without --key-tokens"
                if metric == KEY_TOKENS
                else "its documents are shorter than its largest window"
            )
            raise UserError(
                f"--metric {metric}: {label!r} has no value of it ({why}); use --metric perplexity"
            )
        x, y = zip(*points, strict=True)
        values += y
        windows.update(x)
        look = looks.of(label)
        color = look["color"]
        _band(axes, results, metric, color)
        if intervals:
            # Beside each other: bars upon bars cannot be read.
            aside = APART ** (number - (len(files) - 1) / 2)
            x = [aside * window for window in x]
            values += _bars(axes, label, results, metric, color, aside)
        axes.plot(
            x,
            y,
            label=wrapped(_legend(label, results), LEGEND),
            **look,
            linewidth=2,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=1,
            clip_on=False,
            zorder=3,
        )
    _style(axes, sorted(windows), values)
    axes.set_ylabel(_measured(files, metric))
    if told := wrapped(conditions_of_all(list(files.values())), int(CAPTION * narrower)):
        axes.set_xlabel(f"window (tokens)\n{told}")
    if metric in SHARES:
        axes.set_yscale("linear")
        axes.set_ylim(-0.02, 1.02 if metric == "accuracy" else None)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    if train_window is not None:
        _mark_trained(axes, train_window)
    if title:
        title_above(axes, figure, title, pad=24)
    # Below the axes: inside, it sooner or later covers a line.
    columns = 2 if len(files) > 1 and width >= NARROW else 1
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)
    lines = (
        sum(1 + line.get_label().count("\n") for line in axes.lines if line.get_label()) / columns
    )
    figure.set_figheight(HEIGHT + max(0.0, lines - LINES) * LINE)
    return figure


def _legend(label: str, results: Results) -> str:
    return ", ".join(filter(None, (label, told_scales(results))))


def _measured(files: dict[str, Results], metric: str) -> str:
    """What is up the axis; of a retrieval test its name."""
    names = list(dict.fromkeys(test_name(results) for results in files.values()))
    return f"{', '.join(names)}: retrieved" if metric == "accuracy" else _LABELS[metric]


def _band(axes: Axes, results: Results, metric: str, color: str) -> None:
    """Shade from the least to the largest value of several seeds, where there are several."""
    bands = sorted(
        (row["window"], *row[f"{metric}_range"])
        for row in results["results"]
        if f"{metric}_range" in row
    )
    if bands:
        x, least, largest = zip(*bands, strict=True)
        axes.fill_between(x, least, largest, color=color, alpha=0.2, linewidth=0)


def _bars(
    axes: Axes, label: str, results: Results, metric: str, color: str, aside: float
) -> list[float]:
    """Draw the intervals of a file; return their ends."""
    rows = [row for row in results["results"] if row.get(metric) is not None]
    ends = [row.get(f"{metric}_interval") for row in rows]
    if None in ends:
        raise UserError(
            f"--intervals: {label!r} has none (one document, or a file of an older version); "
            "evaluate more documents anew"
        )
    low, high = zip(*ends, strict=True)
    x = [row["window"] * aside for row in rows]
    axes.vlines(x, low, high, color=color, linewidth=1.6, alpha=0.75, zorder=2)
    return [*low, *high]


def _style(axes: Axes, windows: list[int], values: list[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(windows, [tick_label(window) for window in windows])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(windows[0] / 1.15, windows[-1] * 1.15)
    axes.set_xlabel("window (tokens)")
    if max(values) > LOG_ABOVE * min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    style_axes(axes)


def _mark_trained(axes: Axes, window: int) -> None:
    left, right = axes.get_xlim()
    left, right = min(left, window / 1.15), max(right, window * 1.15)
    axes.set_xlim(left, right)
    axes.axvspan(left, window, color="#0072B2", alpha=0.06, linewidth=0, zorder=0)
    axes.axvline(window, color="#777777", linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    axes.annotate(
        f"trained here ({window} tokens)",
        xy=(window, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        color="#555555",
    )

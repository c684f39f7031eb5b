# SPDX-License-Identifier: Apache-2.0
"""The result file of a retrieval test: settings, and a cell per window and depth.

A cell has ``window`` and ``prompt_tokens`` (the longest prompt) in tokens, ``depth`` in percent,
``scale`` (g; None for the model's own RoPE), ``trials``, ``correct``, ``accuracy`` from 0 to 1 and
``wrong``, what was hidden and what was answered in each trial that failed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from e2_common.errors import UserError
from e2_common.json_file import read_json_object
from e2_tools.evaluation.conditions import conditions, in_words, test_name
from e2_tools.evaluation.result_file import (
    MODEL,
    Results,
    remember_commands,
    require_same_scale,
    require_same_settings,
)
from e2_tools.evaluation.retrieval.heat_map import Grid, Row, draw_heat_maps
from e2_tools.evaluation.ruler.tasks import task_order
from e2_tools.evaluation.table import aligned_text
from e2_tools.plotting import INK, title_lines

Cell = dict[str, Any]

# What has to be the same for cells of two runs to belong into one file, besides a test's own.
_SETTINGS = (*MODEL, "trials", "seed", "chat")


def cells_to_keep(
    path: Path,
    results: Results,
    own_settings: Iterable[str],
    scale_of: Callable[[int], float | None],
) -> list[Cell]:
    """Return the cells that ``path`` already holds, to go on from there.

    Args:
        path: a result file, or nothing yet.
        results: the schema and settings of the run to come; learns by which commands the cells
            were made.
        own_settings: names of the test's own settings, which have to be the same too.
        scale_of: gives the scale that a window, in tokens, is served at in the run to come.

    Raises:
        UserError: it is no result file of this test, or was made with other settings.
    """
    if not path.exists():
        return []
    before = read_json_object(path, "drop --resume")
    schema = before.get("schema")
    if schema != results["schema"] or not isinstance(before.get("results"), list):
        raise UserError(
            f"{path}: has schema {schema!r}, not {results['schema']!r}; name another --output"
        )
    before.setdefault("chat", False)  # a file of an older version
    require_same_settings(path, before, results, (*_SETTINGS, *own_settings))
    for cell in before["results"]:
        if not isinstance(cell, dict) or not {"window", "scale", "accuracy"} <= cell.keys():
            raise UserError(f"{path}: a cell is incomplete; drop --resume")
        require_same_scale(path, cell, scale_of(cell["window"]))
    remember_commands(before, results)
    return before["results"]


def grid(results: Results) -> Grid:
    """Return what a heat map of a result file shows."""
    return _grid([results])


def _where(cell: Cell) -> tuple[int, Row]:
    """Window and row of a cell: its depth or its task."""
    return cell["window"], cell["task"] if "task" in cell else cell["depth"]


def _place(row: Row) -> tuple[float, str]:
    return task_order(row) if isinstance(row, str) else (row, "")


def _grid(runs: list[Results]) -> Grid:
    """The mean over runs, such as seeds, of each cell."""
    found: dict[tuple[int, Row], list[float]] = {}
    served: dict[int, list[str]] = {}
    for cell in (cell for run in runs for cell in run["results"]):
        found.setdefault(_where(cell), []).append(cell["accuracy"])
        if "scale" in cell:
            served.setdefault(cell["window"], []).append(_short(cell["scale"]))
    windows = sorted({window for window, _ in found})
    rows = sorted({row for _, row in found}, key=_place)
    means = {place: fmean(values) for place, values in found.items()}
    bases = {run.get("base_window") for run in runs}
    return Grid(
        windows,
        rows,
        [[means.get((window, row)) for window in windows] for row in rows],
        {window: " / ".join(dict.fromkeys(told)) for window, told in served.items()},
        bases.pop() if len(bases) == 1 else None,
    )


def _short(scale: float | None) -> str:
    """A scale below the tick of its window, where there is room for few characters."""
    return "own" if scale is None else f"g {scale:.4g}"


def heading(runs: list[Results]) -> str:
    """Return what stands above a heat map: the test, whose it is, and under which conditions."""
    test = test_name(runs[0])
    trials = sum(run["trials"] for run in runs)
    told = conditions(runs[0]) | {"trials a cell": f"{trials:,}"}
    if len(runs) > 1:
        told["runs"] = str(len(runs))
    return f"{test}: {runs[0]['label']}\n{in_words(told)}"


def draw_results(results: Results) -> Figure:
    """Draw a result file's accuracies by window and depth, under its test and label."""
    return draw_heat_maps({heading([results]): grid(results)}, _hidden(results))


def _hidden(results: Results) -> str:
    test = results["schema"].split("/")[1]
    return {"needle": "needle", "recall": "span"}.get(test, "key")


def draw_by_depth(runs: list[Results], title: str | None = None) -> Figure:
    """Draw the accuracies of several result files, those of one test and label as their mean.

    Args:
        runs: what result files hold.
        title: above all of it.
    """
    of_label: dict[tuple[str, str], list[Results]] = {}
    for run in runs:
        of_label.setdefault((test_name(run), run["label"]), []).append(run)
    grids = {heading(ours): _grid(ours) for ours in of_label.values()}
    hidden = {_hidden(run) for run in runs}
    figure = draw_heat_maps(grids, hidden.pop() if len(hidden) == 1 else "hidden text")
    if title:
        figure.suptitle(
            title_lines(title, figure), x=0.01, ha="left", fontsize=13, color=INK, fontweight="bold"
        )
    return figure


def accuracy_table(results: Results) -> str:
    """Return the accuracies in percent as aligned text, a row a depth, a column a window.

    Below several depths stands their mean, RULER's score of a window.
    """
    windows, depths, accuracies, *_ = grid(results)
    rows = [["depth", *map(str, windows)]]
    rows += [
        [f"{depth:g} %", *("-" if value is None else f"{100 * value:.0f}" for value in row)]
        for depth, row in zip(depths, accuracies, strict=True)
    ]
    if len(depths) > 1:
        columns = [[v for v in column if v is not None] for column in zip(*accuracies, strict=True)]
        rows.append(["mean", *(f"{100 * fmean(column):.1f}" for column in columns)])
    return aligned_text(rows)

# SPDX-License-Identifier: Apache-2.0
"""The result file of RULER: settings, and a cell per window and task.

A cell has ``window`` and ``prompt_tokens`` (the longest prompt) in tokens, ``task``, ``scale`` (g;
None for the model's own RoPE), ``trials``, ``scores`` (from 0 to 1, one a trial), ``correct``
(their sum), ``accuracy`` (their mean), ``score`` (RULER's, in percent) and ``wrong``: number,
references, answer and score of each trial below 1.
"""

from statistics import fmean
from typing import TYPE_CHECKING, Any

from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.ruler.score import THRESHOLD, effective_window
from e2_tools.evaluation.ruler.tasks import task_order
from e2_tools.evaluation.table import aligned_text, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "e2-llm/ruler/1"
Cell = dict[str, Any]


def in_order(cell: Cell) -> tuple[int, tuple[int, str]]:
    """Sort cells by window, and by task as RULER lists them."""
    return cell["window"], task_order(cell["task"])


def means(results: Results) -> dict[int, float]:
    """Return the mean over the tasks in percent, of the windows that were asked all of them."""
    by_window: dict[int, dict[str, float]] = {}
    for cell in results["results"]:
        by_window.setdefault(cell["window"], {})[cell["task"]] = 100 * cell["accuracy"]
    tasks = {cell["task"] for cell in results["results"]}
    return {
        window: fmean(scores.values())
        for window, scores in sorted(by_window.items())
        if scores.keys() == tasks
    }


def told_effective(window: int | None) -> str:
    """Return how tables show an effective window."""
    return "-" if window is None else str(window)


def rows(results: Results) -> list[list[str]]:
    """Return the table: a row a task, a column a window; the head first, then g, at last the mean.

    Scores are RULER's, in percent. Where a task is missing stands "-".
    """
    cells = {(cell["task"], cell["window"]): cell for cell in results["results"]}
    windows = sorted({window for _, window in cells})
    tasks = sorted({task for task, _ in cells}, key=task_order)
    scales = {cell["window"]: cell["scale"] for cell in results["results"]}
    found, of_tasks = means(results), f"mean of {len(tasks)}"
    return [
        ["task", *map(str, windows)],
        ["g", *(number(scales[window], "g") for window in windows)],
        *(
            [task, *(number(cells.get((task, window), {}).get("score")) for window in windows)]
            for task in tasks
        ),
        [of_tasks, *(number(found.get(window)) for window in windows)],
    ]


def score_table(results: Results) -> str:
    """Return :func:`rows` as aligned text, and the effective window below."""
    effective = told_effective(effective_window(means(results)))
    table = aligned_text(rows(results), left=1)
    return f"{table}\neffective window: {effective} (means above {THRESHOLD} up to there)"


def draw_scores(results: Results) -> "Figure":
    """Draw the scores by window and task, the mean below, under the file's label."""
    from e2_tools.evaluation.retrieval.heat_map import draw_heat_maps  # matplotlib is slow
    from e2_tools.evaluation.retrieval.results import grid, heading

    shown, found = grid(results), means(results)
    mean = [found[window] / 100 if window in found else None for window in shown.windows]
    shown = shown._replace(rows=[*shown.rows, "mean"], accuracies=[*shown.accuracies, mean])
    effective = told_effective(effective_window(found))
    return draw_heat_maps({f"{heading([results])}\neffective window: {effective}": shown})

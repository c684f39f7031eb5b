# SPDX-License-Identifier: Apache-2.0
"""Results of retrieval tests by window alone, in the form in which perplexities are drawn."""

from pathlib import Path
from statistics import pvariance

from e2_common.errors import UserError
from e2_common.json_file import is_number, read_json_object
from e2_tools.evaluation.intervals import share_interval
from e2_tools.evaluation.result_file import Results, comparable
from e2_tools.evaluation.ruler.results import told_effective
from e2_tools.evaluation.ruler.score import effective_window
from e2_tools.evaluation.ruler.tasks import task_order

METRIC = "accuracy"
ERROR = f"{METRIC}_error"
INTERVAL = f"{METRIC}_interval"
# Settings of the tests, in the order in which notes name them: each draws other questions.
SHARED = ("schema", "seed", "among", "haystack", "values", "depths", "tasks", "words")
SHARED += ("english_words", "squad", "hotpotqa", "babi", "data")
_RULER = "e2-llm/ruler/"
_SCHEMAS = (
    *("e2-llm/recall/", "e2-llm/needle/", "e2-llm/passkey/", _RULER),
    *("e2-llm/babilong/", "e2-llm/mrcr/"),
)


def is_retrieval(schema: object) -> bool:
    """Whether a result file of this schema is one of a retrieval test."""
    return isinstance(schema, str) and schema.startswith(_SCHEMAS)


def is_ruler(results: Results) -> bool:
    """Whether results, or rows by window, are RULER's."""
    return str(results.get("schema")).startswith(_RULER)


def read_by_window(path: Path, *, unfinished: bool = False) -> Results:
    """Read a result file of a retrieval test; depths, or tasks, of one window count together.

    Args:
        path: of the file.
        unfinished: whether it may have no window that was asked everything.

    Returns:
        The file's settings, and as ``results`` a row for each window with ``scale``, ``trials``,
        ``accuracy`` from 0 to 1, ``accuracy_error``, its standard error, and its 95 % interval
        ``accuracy_interval``. ``depths``, or of a test by task ``tasks``, says what all windows
        were asked; those that were not asked all of them, as in an unfinished file, are
        ``left_out``.

    Raises:
        UserError: it is missing, not JSON, or of another kind.
    """
    results = read_json_object(path, "name a result file of a retrieval test")
    cells = results.get("results")
    if not is_retrieval(results.get("schema")) or not isinstance(cells, list) or not cells:
        raise UserError(
            f"{path}: holds no results of a retrieval test; name a file of evaluate_recall.py, "
            "evaluate_needle.py, evaluate_passkey.py, evaluate_ruler.py, evaluate_babilong.py or "
            "evaluate_mrcr.py"
        )
    if not all(map(_is_whole, cells)):
        raise UserError(f"{path}: a cell is incomplete; evaluate again")
    try:
        of_window: dict[int, list[dict]] = {}
        for cell in sorted(cells, key=lambda cell: cell["window"]):
            of_window.setdefault(cell["window"], []).append(cell)
        label = str(results["label"])
        where = "task" if "task" in cells[0] else "depth"
        asked = {cell[where] for cell in cells}
        whole = {w: own for w, own in of_window.items() if len(own) == len(asked)}
        results[f"{where}s"] = sorted(asked, key=task_order if where == "task" else None)
        if of_window.keys() != whole.keys():
            results["left_out"] = sorted(of_window.keys() - whole.keys())
        rows = [_row(window, own) for window, own in whole.items()]
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{path}: a cell is incomplete ({error}); evaluate again") from error
    if not rows and not unfinished:
        raise UserError(f"{path}: no window was asked all its {where}s; go on with --resume")
    return {**results, "label": label, "results": rows}


def _is_whole(cell: object) -> bool:
    """Whether a cell has the numbers that every test's have."""
    numbers = ("window", "trials", "correct", METRIC)
    return (
        isinstance(cell, dict)
        and all(is_number(cell.get(name)) for name in numbers)
        and cell["trials"] > 0
        and (cell.get("scale") is None or is_number(cell["scale"]))
    )


def _row(window: int, cells: list[dict]) -> dict:
    trials, correct = (sum(cell[name] for cell in cells) for name in ("trials", "correct"))
    share = correct / trials
    return {
        "window": window,
        "scale": cells[0]["scale"],
        "trials": trials,
        METRIC: share,
        ERROR: _error(share, trials, cells),
        INTERVAL: share_interval(correct, trials),
    }


def _error(share: float, trials: int, cells: list[dict]) -> float:
    """The standard error of a share; of scores by task that of the mean of the tasks' means."""
    if "scores" not in cells[0]:
        return (share * (1 - share) / trials) ** 0.5
    variances = (pvariance(cell["scores"]) / cell["trials"] for cell in cells)
    return sum(variances) ** 0.5 / len(cells)


def effective_windows(files: dict[str, Results]) -> list[str]:
    """Return the effective window of each label, as tables show it."""
    return [
        told_effective(
            effective_window({row["window"]: 100 * row[METRIC] for row in results["results"]})
        )
        for results in files.values()
    ]


def settings_that_count(run: Results) -> Results:
    """Return the settings that only comparable results share, of data the content, not the place.

    They say which questions were asked, but not how many.
    """
    return {name: comparable(run.get(name)) for name in SHARED} | {"chat": bool(run.get("chat"))}


def differences(runs: list[Results]) -> list[str]:
    """Settings in which results differ that only comparable ones share."""
    each = [settings_that_count(run) for run in runs]
    found = [name for name in each[0] if len({str(settings[name]) for settings in each}) > 1]
    # Collections of older versions do not say their depths.
    if "depths" in found and any(settings["depths"] is None for settings in each):
        found.remove("depths")
    # A model that was served as it is has no L, and an old file no type.
    for name in ("base_window", "dtype"):
        if len({run.get(name) for run in runs} - {None}) > 1:
            found.append(name)
    windows = {str([row["window"] for row in run["results"]]) for run in runs}
    # A collection does not have them by window.
    trials = {str([row.get("trials") for row in run["results"]]) for run in runs if _counted(run)}
    return found + ["windows or trials"] * (max(len(windows), len(trials)) > 1)


def _counted(run: Results) -> bool:
    return all("trials" in row for row in run["results"])


def percent_rows(
    files: dict[str, Results], metric: str = METRIC
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: a row per label, a column per window, in percent.

    Behind ± stands the standard deviation over seeds, or of one run the standard error.

    Args:
        files: label -> results.
        metric: key of their rows, a share.
    """
    windows = sorted({row["window"] for results in files.values() for row in results["results"]})
    rows = []
    for label, results in files.items():
        cells = {}
        for row in results["results"]:
            spread = row.get(f"{metric}_std")
            spread = row.get(f"{metric}_error") if spread is None else spread
            cell = f"{100 * row[metric]:.1f}"
            cells[row["window"]] = cell if spread is None else f"{cell} ± {100 * spread:.1f}"
        rows.append([label, *(cells.get(window, "-") for window in windows)])
    return ["window", *map(str, windows)], rows

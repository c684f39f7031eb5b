# SPDX-License-Identifier: Apache-2.0
"""Results of retrieval tests by window alone, in the form in which perplexities are drawn."""

from pathlib import Path

from e2_common.errors import UserError
from e2_common.json_file import read_json_object
from e2_tools.evaluation.result_file import Results

METRIC = "accuracy"
ERROR = f"{METRIC}_error"
_SCHEMAS = ("e2-llm/recall/", "e2-llm/needle/", "e2-llm/passkey/")


def is_retrieval(schema: object) -> bool:
    """Whether a result file of this schema is one of a retrieval test."""
    return isinstance(schema, str) and schema.startswith(_SCHEMAS)


def read_by_window(path: Path) -> Results:
    """Read a result file of a retrieval test; depths of one window count together.

    Returns:
        The file's settings, and as ``results`` a row for each window with ``scale``, ``trials``,
        ``accuracy`` from 0 to 1 and ``accuracy_error``, its standard error.

    Raises:
        UserError: it is missing, not JSON, or of another kind.
    """
    results = read_json_object(path, "name a result file of a retrieval test")
    cells = results.get("results")
    if not is_retrieval(results.get("schema")) or not isinstance(cells, list) or not cells:
        raise UserError(
            f"{path}: holds no results of a retrieval test; name a file of evaluate_recall.py, "
            "evaluate_needle.py or evaluate_passkey.py"
        )
    try:
        windows = sorted({cell["window"] for cell in cells})
        rows = [
            _row(window, [cell for cell in cells if cell["window"] == window]) for window in windows
        ]
        label = str(results["label"])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{path}: a cell is incomplete ({error}); evaluate again") from error
    return {**results, "label": label, "results": rows}


def _row(window: int, cells: list[dict]) -> dict:
    trials, correct = (sum(cell[name] for cell in cells) for name in ("trials", "correct"))
    share = correct / trials
    return {
        "window": window,
        "scale": cells[0]["scale"],
        "trials": trials,
        METRIC: share,
        ERROR: (share * (1 - share) / trials) ** 0.5,
    }


def differences(runs: list[Results]) -> list[str]:
    """Settings in which results differ that only comparable ones share."""
    shared = ("schema", "seed", "among", "haystack", "values")
    found = [name for name in shared if len({str(run.get(name)) for run in runs}) > 1]
    # A model that was served as it is has none.
    if len({run.get("base_window") for run in runs} - {None}) > 1:
        found.append("base_window")
    asked = {str([(row["window"], row["trials"]) for row in run["results"]]) for run in runs}
    return found + ["windows or trials"] * (len(asked) > 1)


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

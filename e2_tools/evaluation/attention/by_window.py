# SPDX-License-Identifier: Apache-2.0
"""How much attention lies on the first and on the last tokens, in the form of other results."""

from pathlib import Path
from statistics import fmean
from typing import Any

from e2_common.errors import UserError
from e2_tools.evaluation.result_file import Results, read_schema
from e2_tools.evaluation.table import markdown_table

SCHEMA = "e2-llm/attention/1"
METRICS = ("on_first", "on_last")
FIRST = 4  # tokens that the paper's offset leaves alone
LAST = 32


def read_by_window(path: Path) -> Results:
    """Read a file of ``plot_attention.py``; its layers count together, each alike.

    Returns:
        The file's settings, and as ``results`` a row for each window with ``scale``, ``on_first``
        and ``on_last``, from 0 to 1.

    Raises:
        UserError: it is missing, not JSON, of another kind, or has no such shares.
    """
    results = read_schema(path, SCHEMA, "plot_attention.py")
    try:
        rows = [
            {"window": row["window"], "scale": row["scale"], **_means(row["layers"])}
            for row in results["results"]
        ]
        label = str(results["label"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: a window is incomplete ({error}); draw it again") from error
    if not rows:
        raise UserError(f"{path}: has no windows; draw it again")
    return {**results, "label": label, "results": rows}


def _means(layers: dict[str, Any]) -> dict[str, float]:
    return {metric: fmean(found[metric] for found in layers.values()) for metric in METRICS}


def differences(runs: list[Results]) -> list[str]:
    """Settings in which results differ that only comparable ones share."""
    shared = ("text", "pairs", "layers", "heads")
    return [name for name in shared if len({str(run.get(name)) for run in runs}) > 1]


def shares_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of a result file: a row for each window and layer, in percent."""
    head = ["window", "scale", "layer", f"on the first {FIRST}", f"on the last {LAST}"]
    rows = [
        [
            str(row["window"]),
            "own" if row["scale"] is None else f"{row['scale']:g}",
            layer,
            *(f"{100 * found[metric]:.1f}" for metric in METRICS),
        ]
        for row in results["results"]
        for layer, found in row["layers"].items()
    ]
    return markdown_table(head, rows)

# SPDX-License-Identifier: Apache-2.0
"""Repetitions of one run under several seeds, put together: mean, standard deviation, range."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from e2_common.errors import UserError
from e2_tools.evaluation.conditions import told_scale
from e2_tools.evaluation.result_file import Results


def over_seeds(files: list[tuple[Path, Results]], metrics: tuple[str, ...]) -> dict[str, Results]:
    """Put the files of one label together.

    Args:
        files: path and results of every run.
        metrics: keys of their rows.

    Returns:
        label -> results whose rows hold each metric's mean over the runs and, beside it,
        ``<metric>_std`` (the sample standard deviation, None of one run) and
        ``<metric>_range`` (least, largest); in the order in which the labels came first.

    Raises:
        UserError: runs of one label have different windows or scales.
    """
    groups: dict[str, list[tuple[Path, Results]]] = {}
    for path, results in files:
        groups.setdefault(results["label"], []).append((path, results))
    return {label: _together(label, group, metrics) for label, group in groups.items()}


def _together(label: str, group: list[tuple[Path, Results]], metrics: tuple[str, ...]) -> Results:
    first_path, first = group[0]
    windows = _windows(first)
    for path, results in group[1:]:
        if _windows(results) != windows:
            raise UserError(
                f"{path}: has other windows than {first_path} of the same label, {label!r}; "
                "evaluate the windows that are missing"
            )
        for row, other in zip(results["results"], first["results"], strict=True):
            if row["scale"] != other["scale"]:
                raise UserError(
                    f"{path}: window {row['window']} at {told_scale(row['scale'])}, in "
                    f"{first_path} of the same label, {label!r}, at {told_scale(other['scale'])}: "
                    "these are no seeds of one run; tell them apart with --labels"
                )
    rows = []
    for number, row in enumerate(first["results"]):
        together: dict[str, Any] = {"window": row["window"], "scale": row["scale"]}
        for metric in metrics:
            values = [run["results"][number].get(metric) for _, run in group]
            together |= _statistics(metric, values)
        rows.append(together)
    return {**first, "results": rows, "runs": len(group)}


def _windows(results: Results) -> list[int]:
    return [row["window"] for row in results["results"]]


def _statistics(metric: str, values: list[float | None]) -> dict[str, Any]:
    if None in values:  # no token with full context, or no key tokens chosen
        return {metric: None}
    return {
        metric: fmean(values),
        f"{metric}_std": stdev(values) if len(values) > 1 else None,
        f"{metric}_range": (min(values), max(values)),
    }

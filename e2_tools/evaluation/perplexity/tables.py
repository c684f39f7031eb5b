# SPDX-License-Identifier: Apache-2.0
"""Perplexities as text: of an evaluation, of several result files, and how these differ."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from e2_tools.evaluation.intervals import told_percent
from e2_tools.evaluation.perplexity.results import KEY_TOKENS
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.table import aligned_text, number

if TYPE_CHECKING:  # numpy is slow to import
    from e2_tools.evaluation.perplexity.changes import Change


def run_table(results: Results) -> str:
    """Return the windows of one result file as an aligned table, a row a window."""
    full_context = results["full_context_from"] is not None
    key_tokens = results.get("key_tokens") is not None
    head = ["label", "window", "scale", "tokens", "perplexity", "95 % over documents"]
    rows = [
        [
            results["label"],
            str(row["window"]),
            number(row["scale"], "g"),
            str(row["tokens"]),
            number(row["perplexity"]),
            interval(row.get("perplexity_interval")),
            *([number(row["perplexity_full_context"])] if full_context else []),
            *([number(row[KEY_TOKENS]), str(row["tokens_key_tokens"])] if key_tokens else []),
        ]
        for row in results["results"]
    ]
    head += ["full context"] * full_context + ["on key tokens", "key tokens"] * key_tokens
    return aligned_text([head, *rows], left=1)


def perplexity_rows(
    files: dict[str, Results], metric: str, intervals: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table: a row per label, a column per window; over seeds with ±.

    Args:
        files: label -> results, see :func:`by_label`.
        metric: one of :data:`e2_tools.evaluation.perplexity.results.METRICS`.
        intervals: with the 95 % intervals over documents.
    """
    windows = sorted({row["window"] for results in files.values() for row in results["results"]})
    rows = []
    for label, results in files.items():
        values = {row["window"]: _cell(row, metric, intervals) for row in results["results"]}
        rows.append([label, *(values.get(window, "-") for window in windows)])
    return ["window", *map(str, windows)], rows


def _cell(row: dict[str, Any], metric: str, intervals: bool) -> str:
    cell = number(row.get(metric))
    if row.get(f"{metric}_std") is not None:
        cell += f" ± {row[f'{metric}_std']:.2f}"
    if intervals and row.get(f"{metric}_interval"):
        cell += f" ({interval(row[f'{metric}_interval'])})"
    return cell


def interval(ends: list[float] | None) -> str:
    """Format an interval for a table; "-" if there is none."""
    return "-" if ends is None else f"{ends[0]:.2f} … {ends[1]:.2f}"


def change_rows(
    reference: str, files: Mapping[str, Mapping[int, "Change"]], metric: str, names: list[str]
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of changes in percent: a row per label, a column per window.

    Args:
        reference: the label of what was compared with.
        files: label -> window -> change, see :mod:`e2_tools.evaluation.perplexity.changes`.
        metric: what was compared.
        names: of the documents, for a row of each behind its label's; none for no such rows.
    """
    windows = sorted({window for changes in files.values() for window in changes})
    rows = []
    for label, changes in files.items():
        cells = {window: _told_change(change) for window, change in changes.items()}
        rows.append([label, *(cells.get(window, "-") for window in windows)])
        for place, name in enumerate(names):
            cells = {window: _told_document(change, place) for window, change in changes.items()}
            rows.append([f"{label}, {name}", *(cells.get(window, "-") for window in windows)])
    title = f"{metric.replace('_', ' ')}, % from {reference}".replace("|", "\\|")
    return [title, *map(str, windows)], rows


def _told_change(change: "Change") -> str:
    if change.interval is None:
        return _told(change.percent)
    low, high = map(_told, change.interval)
    return f"{_told(change.percent)} ({low} … {high})"


def _told_document(change: "Change", place: int) -> str:
    return _told(change.documents[place]) if place < len(change.documents) else "-"


def _told(percent: float | None) -> str:
    """A change in percent with its sign, with more decimals where it would round to none."""
    if percent is None:
        return "-"
    told = told_percent(percent / 100, marks=(0.0,))
    if not told.strip("-0."):
        return "0.0"
    return f"+{told}" if percent > 0 else told

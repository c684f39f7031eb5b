# SPDX-License-Identifier: Apache-2.0
"""The result file of a perplexity evaluation, and which of several can be compared.

``results`` has an object per window, the smallest first, with ``window`` and ``tokens`` in
tokens, ``scale`` (g, None for a RoPE that is neither default nor linear), and what
:func:`e2_tools.evaluation.perplexity.scoring.evaluate_jobs` returns. ``documents`` at the top says
which lines of the data were taken, in the order of the lists in every window's ``documents``. Files
from before there were documents, intervals and provenance lack these and can be read.
"""

from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.json_file import is_number
from e2_tools.evaluation.result_file import (
    MODEL,
    Results,
    comparable,
    read_schema,
    remember_commands,
    require_same_scale,
    require_same_settings,
)

SCHEMA = "e2-llm/perplexity/1"
DIFFERENCES_SCHEMA = "e2-llm/perplexity-differences/1"  # of compare_perplexities.py
ALWAYS = ("perplexity", "perplexity_full_context")  # of every file
KEY_TOKENS = "perplexity_key_tokens"  # with --key-tokens only
METRICS = (*ALWAYS, KEY_TOKENS)

# What has to be the same for windows of two runs to belong into one file.
_SETTINGS = (
    *MODEL,
    "data",
    "documents",
    "protocol",
    "stride",
    "bos",
    "full_context_from",
    "key_tokens",
)

# What has to be the same for the perplexities of two files to be compared.
_COUNT = ("data", "protocol", "stride", "bos", "documents")


def read_results(path: Path) -> Results:
    """Read a result file.

    Raises:
        UserError: it is missing, not JSON, of another schema, or holds no usable results.
    """
    results = read_schema(path, SCHEMA, "evaluate_perplexity.py")
    rows = results.get("results")
    complete = (
        isinstance(results.get("label"), str)
        and isinstance(rows, list)
        and rows
        and all(
            isinstance(row, dict) and {"window", "scale", *ALWAYS} <= row.keys() for row in rows
        )
        and all(map(_is_of_numbers, rows))
    )
    if not complete:
        raise UserError(
            f"{path}: has no complete results; make it anew with evaluate_perplexity.py"
        )
    return results


def _is_of_numbers(row: dict[str, Any]) -> bool:
    values = (row.get(name) for name in ("scale", *METRICS))
    return is_number(row["window"]) and all(value is None or is_number(value) for value in values)


def rows_to_keep(
    path: Path, results: Results, scales: dict[int, float | None]
) -> list[dict[str, Any]]:
    """Return the windows that ``path`` already holds, to go on from there.

    Args:
        path: a result file, or nothing yet.
        results: the settings of the run to come; learns by which commands the windows were made.
        scales: window -> g of the run to come.

    Raises:
        UserError: the file's settings are not those of ``results``, so that its windows cannot
            stand beside the new ones.
    """
    if not path.exists():
        return []
    before = read_results(path)
    settings = list(_SETTINGS)
    if "documents" not in before:  # a file of an older version
        settings.remove("documents")
    require_same_settings(path, before, results, settings)
    for row in before["results"]:
        require_same_scale(path, row, scales.get(row["window"], row["scale"]))
    remember_commands(before, results)
    return before["results"]


def settings_that_count(results: Results) -> Results:
    """Return the settings that only comparable perplexities share, of data the content."""
    return {name: comparable(results.get(name)) for name in _COUNT}


def settings_to_share(files: list[Results], metric: str) -> list[str]:
    """Name the settings that have to be the same for perplexities of these files to be compared."""
    settings = list(_COUNT)
    if not all("documents" in results for results in files):  # not in files of older versions
        settings.remove("documents")
    if metric == "perplexity_full_context":
        settings.append("full_context_from")
    if metric == KEY_TOKENS:
        settings.append("key_tokens")
    if all("dtype" in results for results in files):
        settings.append("dtype")
    return settings


def differences(files: list[Results], metric: str) -> list[str]:
    """Name the settings that make perplexities of several files incomparable."""
    first, *others = files
    return [
        setting
        for setting in settings_to_share(files, metric)
        if any(comparable(o.get(setting)) != comparable(first.get(setting)) for o in others)
    ]

# SPDX-License-Identifier: Apache-2.0
"""By how much perplexities differ from a reference's on the same documents."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_common.json_file import is_number
from e2_tools.evaluation.perplexity.bootstrap import (
    LEVEL,
    RESAMPLES,
    SEED,
    interval_of_difference,
)
from e2_tools.evaluation.perplexity.protocols import PROTOCOLS, Protocol
from e2_tools.evaluation.perplexity.results import (
    DIFFERENCES_SCHEMA,
    differences,
    settings_to_share,
)
from e2_tools.evaluation.result_file import Results

_LARGEST = 700.0  # nats; beyond it exp() overflows, and evaluate_perplexity.py writes no such loss


class ResultFile(NamedTuple):
    """A result file that was read."""

    path: Path
    results: Results


class Change(NamedTuple):
    """How a window's perplexity differs from the reference's; changes are in percent of that.

    Attributes:
        reference: the reference's perplexity.
        perplexity: the other's.
        percent: the change; negative is better.
        interval: the ends of its 95 % interval over documents; None of a single document.
        documents: the change of each document alone, None of one without a scored token.
    """

    reference: float
    perplexity: float
    percent: float
    interval: tuple[float, float] | None
    documents: list[float | None]


class _Losses(NamedTuple):
    """Of each document: the sum of its losses in nats, and what that is over."""

    sums: list[float]
    counts: list[float]


def changes_by_window(reference: ResultFile, other: ResultFile, metric: str) -> dict[int, Change]:
    """Return the changes at every window that both files have, the smallest first.

    Args:
        reference: what is compared with.
        other: what is compared.
        metric: ``perplexity`` or ``perplexity_full_context``.

    Raises:
        UserError: the files were not evaluated alike or have no window in common, or one does not
            hold the losses of its documents.
    """
    unlike = differences([reference.results, other.results], metric)
    if unlike:
        raise UserError(
            f"{other.path}: differs from {reference.path} in {', '.join(unlike)}, so their "
            "perplexities do not compare; evaluate both alike"
        )
    protocol = _protocol(reference)
    ours, theirs = (
        {row["window"]: row for row in file.results["results"]} for file in (reference, other)
    )
    changes = {}
    for window in sorted(ours.keys() & theirs.keys()):
        before = _losses(reference, ours[window], metric)
        after = _losses(other, theirs[window], metric)
        if before is None or after is None:
            continue
        if before.counts != after.counts:
            raise UserError(
                f"{other.path}: window {window} scores other tokens than that of {reference.path}; "
                "compare models of one tokenizer on the same documents"
            )
        if any(before.counts):
            changes[window] = _change(before, after, protocol)
    if not changes:
        raise UserError(
            f"{other.path}: has no window with a {metric} in common with {reference.path}; "
            "evaluate both at the same --windows"
        )
    return changes


def names_of_documents(files: list[ResultFile], changes: list[dict[int, Change]]) -> list[str]:
    """Name each document by its line in the data, or by its number if no file tells the lines.

    Args:
        files: the reference and the others, of the same documents.
        changes: of each of the others.

    Raises:
        UserError: the files tell of other documents than their windows have.
    """
    numbers = {len(change.documents) for windows in changes for change in windows.values()}
    path, told = _told_documents(files)
    if told is None:
        return [f"document {number}" for number in range(1, max(numbers) + 1)]
    lines = told.get("line") if isinstance(told, dict) else None
    if not isinstance(lines, list) or numbers != {len(lines)}:
        raise UserError(
            f"{path}: its `documents` are not those of its windows; make it anew with "
            "evaluate_perplexity.py"
        )
    return [f"line {line}" for line in lines]


def _told_documents(files: list[ResultFile]) -> tuple[Path, Any]:
    """The first file that tells lines, tokens and SHA-256 of the documents, and these."""
    told = ((path, results.get("documents")) for path, results in files)
    return next((each for each in told if each[1] is not None), (files[0].path, None))


def differences_file(
    files: list[ResultFile], changes: list[dict[int, Change]], metric: str
) -> Results:
    """Return what ``compare_perplexities.py --output`` writes, less the provenance.

    Args:
        files: the reference and the others.
        changes: of each of the others.
        metric: what was compared.
    """
    (_, reference), *others = files
    settings = settings_to_share([results for _, results in files], metric)
    return {
        "schema": DIFFERENCES_SCHEMA,
        "label": f"change from {reference['label']}",
        "metric": metric,
        "files": [
            {
                "path": str(path),
                **{name: results.get(name) for name in ("label", "model", "weights")},
            }
            for path, results in files
        ],
        **{name: reference.get(name) for name in settings},
        "documents": _told_documents(files)[1],
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
        "results": [
            {"label": other.results["label"], "window": window, **_as_json(change)}
            for other, windows in zip(others, changes, strict=True)
            for window, change in windows.items()
        ],
    }


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "reference_perplexity": change.reference,
        "perplexity": change.perplexity,
        "percent": change.percent,
        "percent_interval": change.interval and [*change.interval],
        "documents": {"percent": change.documents},
    }


def _protocol(file: ResultFile) -> Protocol:
    name = file.results.get("protocol")
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise UserError(
            f"{file.path}: is of protocol {name!r}, not {', '.join(PROTOCOLS)}; make it anew with "
            "evaluate_perplexity.py"
        )
    return PROTOCOLS[name]


def _losses(file: ResultFile, row: dict[str, Any], metric: str) -> _Losses | None:
    """The losses of a window; None if its protocol has no such perplexity."""
    documents = row.get("documents")
    if not isinstance(documents, dict):
        raise UserError(
            f"{file.path}: window {row['window']} does not hold the losses of its documents, as in "
            "files of an older version; evaluate again"
        )
    suffix = metric.removeprefix("perplexity")
    sums, counts = (documents.get(f"{name}{suffix}") for name in ("nll_sum", "count"))
    if sums is None and counts is None:
        return None
    whole = (
        isinstance(sums, list)
        and isinstance(counts, list)
        and len(sums) == len(counts)
        and all(map(is_number, (*sums, *counts)))
        and all(
            n == 0 or (n > 0 and 0 <= s / n < _LARGEST) for s, n in zip(sums, counts, strict=True)
        )
    )
    if not whole:
        raise UserError(
            f"{file.path}: window {row['window']} holds no usable losses of its documents; make "
            "it anew with evaluate_perplexity.py"
        )
    return _Losses(sums, counts)


def _change(before: _Losses, after: _Losses, protocol: Protocol) -> Change:
    """The change of a window that scored at least one token."""

    def percent(nats: float) -> float:
        return 100 * math.expm1(nats * math.log(protocol.base))

    counts = before.counts
    ends = interval_of_difference(before.sums, after.sums, counts)
    told = [
        percent((new - old) / count) if count else None
        for old, new, count in zip(before.sums, after.sums, counts, strict=True)
    ]
    total = sum(counts)
    return Change(
        protocol.perplexity(sum(before.sums) / total),
        protocol.perplexity(sum(after.sums) / total),
        percent((sum(after.sums) - sum(before.sums)) / total),
        ends and (percent(ends[0]), percent(ends[1])),
        told,
    )

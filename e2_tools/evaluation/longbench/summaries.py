# SPDX-License-Identifier: Apache-2.0
"""Several ``summary.json`` of ``evaluate_longbench.py score`` beside each other."""

from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_llm.exported import trained_iterations
from e2_tools.evaluation.longbench.origin import KINDS, Origin, worst
from e2_tools.evaluation.longbench.tasks import AVERAGES
from e2_tools.evaluation.result_file import read_schema

SCHEMA = "e2-llm/longbench/1"


class Summary(NamedTuple):
    """What is drawn of one file."""

    path: Path
    label: str
    iteration: int | None  # of training, if the file knows
    averages: dict[str, float | None]  # EN, ZH, All; None while a task is missing
    scores: dict[str, float]  # task -> score in percent
    kind: str  # whose the records are, a key of KINDS; "unknown" of an older file
    records: dict[str, str]  # task -> how many of how many
    errors: dict[str, float | None] = {}  # task -> standard error in percent; not of older files


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``.

    Raises:
        UserError: it is missing, not JSON, of another schema, or without scores.
    """
    content = read_schema(path, SCHEMA, "summary.json of evaluate_longbench.py score")
    averages = content.get("averages", content)
    scores = content.get("scores", content.get("tasks"))
    if not isinstance(averages, dict) or not isinstance(scores, dict) or not scores:
        raise UserError(f"{path}: has no scores; make it anew with evaluate_longbench.py score")
    config = (content.get("provenance") or {}).get("model_config") or {}
    iteration = content.get("iteration") or trained_iterations(config)
    kind = content.get("kind")
    try:
        origins = {task: Origin(**each) for task, each in content.get("records", {}).items()}
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path}: its records are damaged; score the predictions again") from error
    return Summary(
        path=path,
        label=content.get("label") or path.resolve().parent.name,
        iteration=iteration,
        averages={name: averages.get(name) for name in AVERAGES},
        scores=scores,
        kind=kind if kind in KINDS else "unknown",
        records={task: origin.told for task, origin in origins.items()},
        errors=content.get("standard_errors") or {},
    )


def common_kind(summaries: list[Summary]) -> str:
    """Return whose records all files have: the worst of their kinds."""
    return worst(summary.kind for summary in summaries)


def differences(summaries: list[Summary]) -> list[str]:
    """Name what makes the scores of several files incomparable."""
    kinds = {summary.kind for summary in summaries}
    counts = [
        {summary.records[task] for summary in summaries if task in summary.records}
        for task in summaries[0].records
    ]
    return ["records"] if len(kinds) > 1 or any(len(each) > 1 for each in counts) else []


def common_means(summaries: list[Summary]) -> dict[str, list[float]]:
    """Return the means that all files have, by name: those of the paper, EN, ZH and All.

    Where tasks are missing for all three, it is the plain mean over the tasks that all files have.

    Raises:
        UserError: no task is in all files.
    """
    means: dict[str, Any] = {
        name: [summary.averages[name] for summary in summaries] for name in AVERAGES
    }
    means = {name: values for name, values in means.items() if None not in values}
    if means:
        return means
    tasks = [
        task for task in summaries[0].scores if all(task in summary.scores for summary in summaries)
    ]
    if not tasks:
        raise UserError("no task is in all of these files; score the same tasks for each")
    name = tasks[0] if len(tasks) == 1 else f"mean of {len(tasks)} tasks ({', '.join(tasks)})"
    return {name: [fmean(summary.scores[task] for task in tasks) for summary in summaries]}


def with_iterations(summaries: list[Summary], iterations: list[int] | None) -> list[Summary]:
    """Return the files in the order of their training iterations.

    Args:
        summaries: in any order.
        iterations: one a file, in place of those that the files name.

    Raises:
        UserError: a number is missing, or two files have the same.
    """
    if iterations is not None:
        if len(iterations) != len(summaries):
            raise UserError(
                f"--iterations: names {len(iterations)}, but there are {len(summaries)} files"
            )
        pairs = zip(summaries, iterations, strict=True)
        summaries = [summary._replace(iteration=number) for summary, number in pairs]
    ordered: dict[int, Summary] = {}
    for summary in summaries:
        if summary.iteration is None:
            raise UserError(
                f"{summary.path}: does not say after how many iterations; name them with "
                "--iterations, a number a file, or compare variants with --kind ablation"
            )
        if summary.iteration in ordered:
            other = ordered[summary.iteration].path
            raise UserError(
                f"{summary.path}: is of iteration {summary.iteration} like {other}; name others "
                "with --iterations, or compare variants with --kind ablation"
            )
        ordered[summary.iteration] = summary
    return [ordered[number] for number in sorted(ordered)]

# SPDX-License-Identifier: Apache-2.0
"""Score prediction files as LongBench does, and average as the E2-LLM paper does."""

import math
import operator
from functools import reduce
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import write_json
from e2_common.provenance import provenance
from e2_llm.exported import trained_iterations
from e2_tools.evaluation.longbench.answered import read_settings
from e2_tools.evaluation.longbench.metrics import METRICS
from e2_tools.evaluation.longbench.origin import KINDS, Origin, origin_of, worst
from e2_tools.evaluation.longbench.predictions import Record, read_records
from e2_tools.evaluation.longbench.summaries import SCHEMA
from e2_tools.evaluation.longbench.tasks import AVERAGES, BUCKETS, TASKS, Task, find_task
from e2_tools.evaluation.table import number

FIELDS = {"pred": str, "answers": list, "all_classes": (list, type(None))}
Scores = dict[str, Any]  # task -> score, or bucket -> score with LongBench-E
Origins = dict[str, Origin]  # task -> whose its records are
Errors = dict[str, float | None]  # task -> standard error of its score; None of a single record


class Scored(NamedTuple):
    """What a folder of predictions is worth, by task, in LongBench's order of tasks.

    Attributes:
        scores: mean scores in percent, to two decimals; of LongBench-E a dictionary each, bucket ->
            that, None for an empty bucket.
        origins: whose the records are.
        errors: standard errors of the scores over records, in percent; of LongBench-E none.
    """

    scores: Scores
    origins: Origins
    errors: Errors


def score_folder(folder: Path, *, longbench_e: bool = False) -> Scored:
    """Score every ``<task>.jsonl`` of a folder.

    Raises:
        UserError: the folder has no prediction file, or one of an unknown task, or a bad one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with --predictions")
    files = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if not files:
        raise UserError(f"{folder}: has no prediction file <task>.jsonl; run predict first")
    tasks = {find_task(name, str(path), longbench_e=longbench_e) for name, path in files.items()}
    data = (read_settings(folder) or {}).get("records")
    data = data if isinstance(data, dict) else {}  # not of older versions
    found = Scored({}, {}, {})
    for task in (task for task in TASKS.values() if task in tasks):
        records = _read(task, files[task.name], longbench_e)
        values = record_scores(task, records)
        if longbench_e:
            found.scores[task.name] = bucket_scores(values, records)
        else:
            found.scores[task.name] = mean_score(values)
            found.errors[task.name] = _error(values)
        found.origins[task.name] = origin_of(
            task, records, longbench_e=longbench_e, data=data.get(task.name)
        )
    return found


def doubts(origins: Origins) -> list[str]:
    """Return what should be said of the records before their scores are believed, a line each."""
    found = [
        f"{task}.jsonl: {origin.records} records, {origin.repeated} of them repeated; expected "
        f"{origin.of}: was it appended to?"
        for task, origin in origins.items()
        if origin.repeated
    ]
    kind = worst(origin.kind for origin in origins.values())
    return found if kind == "longbench" else [*found, f"{KINDS[kind].title}. {KINDS[kind].about}"]


def mean_score(scores: list[float]) -> float:
    """Return the mean score of a task's records in percent, rounded to two decimals."""
    # One by one, as LongBench: sum() compensates rounding, which can change the last digit.
    return round(100 * reduce(operator.add, scores, 0.0) / len(scores), 2)


def _error(scores: list[float]) -> float | None:
    """The standard error of :func:`mean_score` in percent.

    None of one record, and of equal scores: zeros alone do not tell how others would vary.
    """
    if len(set(scores)) < 2:
        return None
    return 100 * stdev(scores) / math.sqrt(len(scores))


def bucket_scores(scores: list[float], records: list[Record]) -> dict[str, float | None]:
    """Return the mean score of each of LongBench-E's buckets of length, None if one is empty."""
    buckets: dict[str, list[float]] = {name: [] for name in BUCKETS}
    for record, score in zip(records, scores, strict=True):
        name = next(name for name, bound in BUCKETS.items() if record["length"] < bound)
        buckets[name].append(score)
    # numpy's mean and rounding, as LongBench: Python's can differ in the last digit.
    return {
        name: float(round(100 * np.mean(scores), 2)) if scores else None
        for name, scores in buckets.items()
    }


def averages(scores: dict[str, float]) -> dict[str, float | None]:
    """Return the paper's EN, ZH and All: plain means over 14, 4 and 18 tasks.

    None where a task is missing: a mean over fewer tasks would not compare.
    """
    return {
        name: round(fmean(scores[task] for task in tasks), 2) if scores.keys() >= {*tasks} else None
        for name, tasks in AVERAGES.items()
    }


def write_scores(
    folder: Path,
    scores: Scores,
    origins: Origins,
    *,
    errors: Errors | None = None,
    longbench_e: bool = False,
    label: str | None = None,
) -> None:
    """Write ``result.json``, as LongBench does, and with it ``summary.json``.

    The summary has the paper's means and where they come from: ``label``, the model's training
    ``iteration`` if its config names one, ``tasks`` (task -> score), ``standard_errors`` of these,
    ``EN``, ``ZH``, ``All``, what is ``missing`` for All, whose the records are (``kind``, and
    ``records`` by task, see :class:`e2_tools.evaluation.longbench.origin.Origin`), ``predictions``
    (what predict recorded) and ``provenance``.

    Args:
        folder: of the predictions.
        scores: from :func:`score_folder`.
        origins: from there too.
        errors: from there too.
        longbench_e: LongBench-E has no such means: no summary.
        label: for plots; by default the name of the model's folder, or of this one.

    Raises:
        UserError: a file cannot be written, or predict's ``settings.json`` is damaged.
    """
    predictions = read_settings(folder)
    _write(folder / "result.json", scores)
    if longbench_e:
        return
    own = (predictions or {}).get("provenance") or {}
    config = own.get("model_config") or {}
    model = Path((predictions or {}).get("model") or folder)
    summary = {
        "schema": SCHEMA,
        "label": label or model.resolve().name,
        "iteration": trained_iterations(config),
        **averages(scores),
        "tasks": scores,
        "standard_errors": errors or {},
        "missing": [task for task in AVERAGES["All"] if task not in scores],
        "kind": worst(origin.kind for origin in origins.values()),
        "records": {task: origin._asdict() for task, origin in origins.items()},
        "predictions": predictions,
        "provenance": provenance() | {"model_config": config or None},
    }
    _write(folder / "summary.json", summary)


def score_table(scores: Scores, origins: Origins, *, longbench_e: bool = False) -> str:
    """Return the scores as aligned text, a row a task with its records, the averages below."""
    if longbench_e:
        rows = [["task", "records", *BUCKETS]]
        rows += [
            [task, origins[task].told, *map(number, buckets.values())]
            for task, buckets in scores.items()
        ]
    else:
        rows = [["task", "records", "score"]]
        rows += [[task, origins[task].told, number(score)] for task, score in scores.items()]
        for name, mean in averages(scores).items():
            missing = [task for task in AVERAGES[name] if task not in scores]
            note = f"   (of {len(AVERAGES[name])} tasks {len(missing)} are missing)"
            rows.append([name, "", number(mean).rjust(6) + (note if missing else "")])
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        f"{row[0].ljust(widths[0])}  {row[1].rjust(widths[1])}  "
        + "  ".join(value.rjust(6) for value in row[2:])
        for row in rows
    )


def record_scores(task: Task, records: list[Record]) -> list[float]:
    """Return the best score over the answers of each record, from 0 to 1."""
    metric = METRICS[task.metric]
    classes = records[-1]["all_classes"] or []  # of the last record for all, as LongBench does
    scores = []
    for record in records:
        prediction = record["pred"]
        if task.first_line:
            prediction = prediction.lstrip("\n").split("\n")[0]
        scores.append(
            max((metric(prediction, answer, classes) for answer in record["answers"]), default=0.0)
        )
    return scores


def _read(task: Task, path: Path, longbench_e: bool) -> list[Record]:
    fields = FIELDS | ({"length": int} if longbench_e else {})
    records = read_records(path, fields)
    if task.metric == "classification" and not records[-1]["all_classes"]:
        raise UserError(f"{path}: its last line has no classes in 'all_classes'; add them")
    if task.metric in ("retrieval", "retrieval_zh"):
        _check_paragraphs(task, path, records)
    return records


def _check_paragraphs(task: Task, path: Path, records: list[Record]) -> None:
    for line, record in enumerate(records, 1):
        for answer in record["answers"]:
            try:
                METRICS[task.metric]("", answer, ())
            except ValueError as error:
                raise UserError(f"{path}: record {line}: {error}; mend it") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        write_json(temporary, content, indent=4)  # as LongBench does

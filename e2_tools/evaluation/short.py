# SPDX-License-Identifier: Apache-2.0
"""Short tasks before and after: two outputs of lm-eval, compared task by task.

``results`` of the file has an object per task and metric: ``before`` and ``after`` with their
standard errors, and their ``difference``, whose standard error is over the questions' own
differences where lm-eval wrote every question's score (``paired``). Scores are shares, 0 to 1,
but of metrics such as perplexities. ``mean`` is over each task's first metric that is a share, and
None if there is none. ``before`` and ``after`` say which model was asked, at which window and scale
its files served it (``max_length``, ``scale``), and by which ``command``.
"""

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_common.json_file import parse_json_line, read_json_object
from e2_llm.window import rope_parameters
from e2_tools.checkpoint.config_types import read_config
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.table import number

SCHEMA = "e2-llm/short/1"
_ANEW = "run lm-eval anew with --log_samples"
_AS_REPORTED = 1e-9  # of a mean over questions: else the metric is no mean


class Run(NamedTuple):
    """An output of lm-eval.

    Attributes:
        path: of its ``results_*.json``.
        content: of it.
        command: that made it, if ``examples/evaluation/short.sh`` left it beside.
    """

    path: Path
    content: Results
    command: str | None

    def scores(self, task: str, metric: str, kind: str) -> dict[tuple[Any, ...], float] | None:
        """Return each question's score by what identifies it; None if these were not written."""
        date = self.path.stem.removeprefix("results_")
        path = self.path.with_name(f"samples_{task}_{date}.jsonl")
        if not path.is_file():
            return None
        found = {}
        with path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                row = parse_json_line(text, path, line)
                if row.get("filter", kind) == kind and isinstance(row.get(metric), int | float):
                    found[row.get("doc_id"), row.get("doc_hash")] = float(row[metric])
        return found


def read_run(folder: Path) -> Run:
    """Read the newest output of lm-eval below a folder.

    Raises:
        UserError: there is none, or it is none of lm-eval's.
    """
    found = sorted(folder.rglob("results_*.json"), key=lambda path: path.name)
    if not found:
        raise UserError(f"{folder}: holds no results_*.json of lm-eval; name its --output_path")
    content = read_json_object(found[-1], _ANEW)
    tables = ("results", "n-samples", "n-shot", "config", "higher_is_better")
    if not all(isinstance(content.get(name), dict) for name in tables) or not content["n-samples"]:
        raise UserError(f"{found[-1]}: is no whole result of lm-eval; {_ANEW}")
    told = folder / "command"
    command = read_text(told, "command").strip() if told.is_file() else None
    return Run(found[-1], content, command or None)


def compare(before: Run, after: Run, labels: tuple[str, str]) -> Results:
    """Return the content of a result file, less its provenance.

    Raises:
        UserError: the two did not ask the same.
    """
    _require_same(before, after)
    rows = [row for task in before.content["n-samples"] for row in _rows_of(task, before, after)]
    if not rows:
        raise UserError(f"{before.path}: has no score; {_ANEW}")
    return {
        "schema": SCHEMA,
        "label": labels[1],
        "before": _described(before, labels[0]),
        "after": _described(after, labels[1]),
        "lm_eval": before.content.get("lm_eval_version"),
        "limit": before.content["config"].get("limit"),
        "results": rows,
        "mean": _mean(rows),
    }


def _require_same(before: Run, after: Run) -> None:
    for name in ("n-samples", "n-shot", "versions", "task_hashes", "lm_eval_version"):
        old, new = (run.content.get(name) for run in (before, after))
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            tasks = [task for task in {**old, **new} if old.get(task) != new.get(task)]
            name = f"{name} of {', '.join(tasks)}"
        raise UserError(
            f"{after.path}: differs from {before.path} in {name}: the two were not asked the "
            "same; ask both anew"
        )


def _rows_of(task: str, before: Run, after: Run) -> list[dict[str, Any]]:
    old, new = (run.content["results"].get(task, {}) for run in (before, after))
    rows = []
    for key, value in old.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        if not isinstance(new.get(key), int | float):
            raise UserError(f"{after.path}: has no {metric} of {task}; ask both anew")
        errors = [_stderr(scores, metric, kind) for scores in (old, new)]
        error, paired = _error_of_difference(task, metric, kind, (before, after), errors)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "filter": kind,
                "higher_is_better": _is_higher_better(before, task, metric),
                "shots": before.content["n-shot"].get(task),
                "questions": before.content["n-samples"][task].get("effective"),
                "before": value,
                "before_stderr": errors[0],
                "after": new[key],
                "after_stderr": errors[1],
                "difference": new[key] - value,
                "difference_stderr": error,
                "paired": paired,
            }
        )
    return rows


def _is_higher_better(run: Run, task: str, metric: str) -> bool | None:
    return (run.content["higher_is_better"].get(task) or {}).get(metric)


def is_share(row: dict[str, Any]) -> bool:
    """Whether a row's scores are shares of questions, which percents can be made of."""
    shares = all(0 <= row[each] <= 1 for each in ("before", "after"))
    return shares and row.get("higher_is_better") is not False


def _stderr(scores: dict[str, Any], metric: str, kind: str) -> float | None:
    found = scores.get(f"{metric}_stderr,{kind}")
    return float(found) if isinstance(found, int | float) else None  # lm-eval writes "N/A"


def _error_of_difference(
    task: str, metric: str, kind: str, runs: tuple[Run, Run], errors: list[float | None]
) -> tuple[float | None, bool]:
    """The standard error of a difference, and whether it is over the questions' differences."""
    old, new = (run.scores(task, metric, kind) for run in runs)
    if old and new and old.keys() == new.keys() and len(old) > 1:
        reported = [run.content["results"][task][f"{metric},{kind}"] for run in runs]
        means = [fmean(old.values()), fmean(new.values())]
        if all(
            math.isclose(mean, value, abs_tol=_AS_REPORTED)
            for mean, value in zip(means, reported, strict=True)
        ):
            differences = [new[question] - old[question] for question in old]
            return stdev(differences) / math.sqrt(len(differences)), True
    if None in errors:
        return None, False
    return math.hypot(*errors), False


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of each task's first metric that is a share; tasks are independent of each other."""
    first = list({row["task"]: row for row in reversed(rows) if is_share(row)}.values())
    if not first:
        return None
    errors = [row["difference_stderr"] for row in first]
    error = None if None in errors else math.hypot(*errors) / len(first)
    means = {name: fmean(row[name] for row in first) for name in ("before", "after", "difference")}
    of_models = {name: _error_of_mean(first, name) for name in ("before_stderr", "after_stderr")}
    return {"tasks": len(first), **means, **of_models, "difference_stderr": error}


def _error_of_mean(rows: list[dict[str, Any]], name: str) -> float | None:
    errors = [row[name] for row in rows]
    return None if None in errors else math.hypot(*errors) / len(rows)


def _described(run: Run, label: str) -> dict[str, Any]:
    config = run.content["config"]
    model = run.content.get("model_name")
    return {
        "label": label,
        "model": model,
        "dtype": config.get("model_dtype"),
        "max_length": run.content.get("max_length"),
        "scale": _served_scale(model),
        "command": run.command,
    }


def _served_scale(model: str | None) -> float | None:
    """The scale of the model's own files, which lm-eval serves; None if they do not say it."""
    try:
        return rope_parameters(read_config(Path(model or "", "config.json")))["factor"]
    except (UserError, KeyError):
        return None


def read_short(path: Path, content: Results) -> Results:
    """Check that a file of this schema is whole, and return it.

    Raises:
        UserError: it is not.
    """
    try:
        rows(content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not whole; compare anew") from error
    return content


def rows(content: Results) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table: a row per task and metric, the mean last.

    Shares are in percent, other scores, such as perplexities, as they are.
    """
    head = ["task", "questions", content["before"]["label"], content["after"]["label"]]
    found = []
    for row in content["results"]:
        several = sum(other["task"] == row["task"] for other in content["results"]) > 1
        name = f"{row['task']} {row['metric']}" if several else row["task"]
        unit = 100 if is_share(row) else 1
        told = [
            _percent(row[each], row[f"{each}_stderr"], unit=unit) for each in ("before", "after")
        ]
        found.append([name, str(row["questions"]), *told, _difference(row, unit)])
    if mean := content["mean"]:
        told = [_percent(mean[each], mean.get(f"{each}_stderr")) for each in ("before", "after")]
        found.append([f"mean of {mean['tasks']}", "", *told, _difference(mean)])
    return [*head, "difference"], found


def _percent(value: float, error: float | None, kind: str = ".2f", unit: float = 100) -> str:
    told = format(unit * value, kind)
    return told if error is None else f"{told} ± {number(unit * error)}"


def _difference(row: dict[str, Any], unit: float = 100) -> str:
    return _percent(row["difference"], row["difference_stderr"], "+.2f", unit)


def conditions(content: Results) -> str:
    """Return under which conditions the two were asked, in one line."""
    shots = sorted({row["shots"] for row in content["results"]})
    told = [f"{' and '.join(map(str, shots))} examples before a question"]
    if content["limit"] is not None:
        told.append(f"the first {content['limit']:g} questions of a task")
    told.append(f"lm-eval {content['lm_eval']}")
    unpaired = [row["task"] for row in content["results"] if not row["paired"]]
    if unpaired:
        told.append(f"differences of {', '.join(dict.fromkeys(unpaired))} not paired")
    return ", ".join(told)

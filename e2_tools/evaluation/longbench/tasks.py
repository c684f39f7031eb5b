# SPDX-License-Identifier: Apache-2.0
"""The 21 tasks of LongBench v1, from ``tasks.json``: prompt, answer length, metric.

Prompts and answer lengths are LongBench's own, to the character: a space more changes scores.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError

# The upper bounds of LongBench-E's buckets, in words (characters in Chinese); the last has none.
BUCKETS = {"0-4k": 4000, "4-8k": 8000, "8k+": float("inf")}


class Records(NamedTuple):
    """A set of records, see :mod:`e2_tools.evaluation.longbench.origin`."""

    count: int
    sha256: str  # of their answers, classes and lengths, in any order


@dataclass(frozen=True)
class Task:
    """How one task is asked and scored."""

    name: str
    prompt: str  # with {context} and, in most tasks, {input}
    max_new_tokens: int
    metric: str  # a name in e2_tools.evaluation.longbench.metrics.METRICS
    average: str | None  # EN or ZH of the paper's tables; None for the three synthetic tasks
    chat: bool  # is the prompt put into a chat model's template?
    first_line: bool  # does only the first line of a prediction count?
    longbench_e: bool  # has it a LongBench-E set?
    records: Records  # LongBench's
    records_e: Records | None  # LongBench-E's


def _load() -> dict[str, Task]:
    tasks = json.loads(Path(__file__).with_name("tasks.json").read_bytes())["tasks"]
    return {name: Task(name=name, **_typed(fields)) for name, fields in tasks.items()}


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    sets = {key: fields[key] and Records(**fields[key]) for key in ("records", "records_e")}
    return fields | sets


TASKS = _load()
AVERAGES = {
    "EN": [task.name for task in TASKS.values() if task.average == "EN"],
    "ZH": [task.name for task in TASKS.values() if task.average == "ZH"],
    "All": [task.name for task in TASKS.values() if task.average is not None],
}


def find_task(name: str, where: str, *, longbench_e: bool = False) -> Task:
    """Return the task called ``name``.

    Args:
        name: as LongBench writes it, ``repobench-p`` for instance.
        where: the flag or file that names it, for the error.
        longbench_e: is it to be one of LongBench-E's 13?

    Raises:
        UserError: there is no such task.
    """
    known = [task.name for task in TASKS.values() if task.longbench_e or not longbench_e]
    if name not in known:
        kind = "LongBench-E" if longbench_e else "LongBench"
        raise UserError(f"{where}: {name!r} is no task of {kind}; use one of {', '.join(known)}")
    return TASKS[name]

# SPDX-License-Identifier: Apache-2.0
"""The parts of a report on LongBench, or on records in its format: a section for each kind."""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from e2_tools.evaluation.longbench.origin import KINDS
from e2_tools.evaluation.longbench.plots import draw_iterations, draw_means
from e2_tools.evaluation.longbench.summaries import (
    SCHEMA,
    Summary,
    common_means,
    differences,
    read_summary,
)
from e2_tools.evaluation.longbench.tasks import AVERAGES
from e2_tools.evaluation.table import by_label, number
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.collect import kind_of
from e2_tools.reporting.page import Cell, Section, Table

KIND = kind_of(SCHEMA)
# Of predictions: how prompts were made and answered.
_COUNT = ("max_length", "chat", "limit")


def groups(page: Page) -> dict[str, list[Summary]]:
    """Return the summaries, named as their checkpoints, by whose records they are and how asked."""
    found: dict[str, list[Summary]] = {}
    for path, content in page.of(KIND):
        summary = read_summary(path)._replace(label=content["label"])
        asked = [f"{name} {value}" for name, value in _asked(content).items()]
        found.setdefault(f"{summary.kind}\n{', '.join(asked)}", []).append(summary)
    return {key: found[key] for key in sorted(found, key=lambda key: [*KINDS].index(_kind(key)))}


def told_asked(key: str) -> str:
    """Return how the records of a group of :func:`groups` were asked, in words."""
    return key.partition("\n")[2]


def title(key: str) -> str:
    """Return what the records of a group of :func:`groups` are called."""
    return KINDS[_kind(key)].title


def mean_cell(summary: Summary, name: str, tasks: tuple[str, ...]) -> Cell:
    """Return a mean over tasks with its standard error, and how many records it is over."""
    errors = [summary.errors.get(task) for task in tasks]
    known = None not in errors
    value = sum(summary.scores[task] for task in tasks) / len(tasks)
    value = summary.averages.get(name) if summary.averages.get(name) is not None else value
    small = [f"± {number(math.hypot(*errors) / len(tasks))}"] if known else []
    counts = [summary.records[task].split()[0] for task in tasks if task in summary.records]
    asked = f"{sum(map(int, counts)):,} records" if len(counts) == len(tasks) else ""
    return Cell(number(value), tuple(filter(None, (*small, asked))))


def common_tasks(summaries: list[Summary]) -> tuple[str, tuple[str, ...]]:
    """Return the widest mean that all summaries have: its name, and the tasks that it is over.

    Raises:
        UserError: no task is in all of them.
    """
    name = list(common_means(summaries))[-1]
    if name in AVERAGES:
        return name, tuple(AVERAGES[name])
    everywhere = [t for t in summaries[0].scores if all(t in each.scores for each in summaries)]
    return name, tuple(everywhere)


def predicted_by(page: Page, summary: Summary) -> str | None:
    """Return the command that answered the records, if the file says it."""
    content = next(each.content for each in page.of(KIND) if each.path == summary.path)
    predictions = content.get("predictions") or {}
    return (predictions.get("provenance") or {}).get("command")


def sections(page: Page) -> list[Section]:
    """Return a section for each kind of records and way of asking them."""
    return [_section(page, key, found) for key, found in groups(page).items()]


def _section(page: Page, key: str, summaries: list[Summary]) -> Section:
    names = list(by_label([(each.path, {"label": each.label}) for each in summaries]))
    summaries = [each._replace(label=name) for each, name in zip(summaries, names, strict=True)]
    contents = dict(page.of(KIND))
    tasks = list(dict.fromkeys(task for each in summaries for task in each.scores))
    rows: list[list[str | Cell]] = [
        [task, *(_score(each, task) for each in summaries)] for task in tasks
    ]
    rows += [
        [f"mean {name}", *(_average(each, name, of) for each in summaries)]
        for name, of in AVERAGES.items()
        if any(each.averages.get(name) is not None for each in summaries)
    ]
    heads = [
        page.head(each.label, _served(contents[each.path]), sources=(page.number(each.path),))
        for each in summaries
    ]
    kind = KINDS[_kind(key)]
    alike = [each for each in groups(page) if title(each) == kind.title]
    made = Section(
        kind.title if len(alike) == 1 else f"{kind.title}, {told_asked(key)}",
        f"{kind.about} Scores in percent by LongBench's metrics, ± the standard error over "
        "records. EN is over 14 tasks, ZH over 4, All over these 18, plain means, none while a "
        "task is missing.",
        figures=_picture(page, summaries, contents),
        tables=[Table(["task", *heads], rows, told_asked(key))],
    )
    for setting in differences(summaries):
        made.notes.append(f"These files differ in {setting}: do not compare their numbers.")
    return made


def _picture(
    page: Page, summaries: list[Summary], contents: dict[Path, dict[str, Any]]
) -> list[tuple[str, Figure]]:
    """The means of one run by iteration, or of several models beside each other."""
    if not set.intersection(*(set(each.scores) for each in summaries)):
        return []
    iterations = {each.iteration for each in summaries}
    own = {contents[each.path]["own_label"] for each in summaries}
    if len(own) == 1 and len(iterations) == len(summaries) > 1 and None not in iterations:
        ordered = sorted(summaries, key=lambda each: each.iteration or 0)
        return [("Means by training iteration.", draw_iterations(ordered))]
    caption = "Means of the tasks that all checkpoints have."
    return [(caption, draw_means(summaries, page.looks))]


def _score(summary: Summary, task: str) -> Cell:
    if task not in summary.scores:
        return Cell("-")
    error = summary.errors.get(task)
    told = f" ± {number(error)}" if error is not None else ""
    records = summary.records.get(task, "?")
    return Cell(f"{number(summary.scores[task])}{told}", (f"{records} records",))


def _average(summary: Summary, name: str, tasks: tuple[str, ...]) -> Cell:
    if summary.averages.get(name) is None:
        return Cell("-")
    return mean_cell(summary, name, tuple(tasks))


def _asked(content: dict[str, Any]) -> dict[str, Any]:
    """The settings of predictions that change scores; none of predictions that others made."""
    predictions = content.get("predictions") or {}
    return {name: predictions[name] for name in _COUNT if predictions.get(name) is not None}


def _served(content: dict[str, Any]) -> str:
    predictions = content.get("predictions") or {}
    scale, dtype = predictions.get("scale"), predictions.get("dtype")
    told = {"auto": "g by request", "none": "own RoPE", None: ""}.get(scale, f"g = {scale}")
    return ", ".join(filter(None, (told, dtype)))


def _kind(key: str) -> str:
    return key.partition("\n")[0]

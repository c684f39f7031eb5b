# SPDX-License-Identifier: Apache-2.0
"""The part of a report on short tasks: what was kept of them."""

from typing import Any

from e2_tools.evaluation.conditions import told_scale
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.short import SCHEMA, conditions, read_short, rows
from e2_tools.evaluation.table import number
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.collect import kind_of
from e2_tools.reporting.page import Cell, Section, Table

KIND = kind_of(SCHEMA)


def section(page: Page) -> list[Section]:
    """Return the section, if there are such results: a table per file, before and after.

    Raises:
        UserError: a file is not whole.
    """
    found = page.of(KIND)
    if not found:
        return []
    made = Section(
        "Short tasks",
        "lm-eval's scores in percent before and after, ± standard errors; that of a difference is "
        "over the differences of the questions. The mean is over each task's first metric.",
    )
    for path, content in found:
        (*_, last), table = rows(read_short(path, content))
        both = [
            page.head(content[each]["label"], *served(content[each]))
            for each in ("before", "after")
        ]
        origin = Cell("task", sources=(page.number(path),))
        head = [origin, "questions", *both, last]
        made.tables.append(Table(head, [[*row] for row in table], f"{conditions(content)}."))
    return [made]


def served(model: dict[str, Any]) -> tuple[str, ...]:
    """Return how lm-eval was served a model: scale, window and precision, as far as known."""
    scale, window, dtype = (model.get(name) for name in ("scale", "max_length", "dtype"))
    told = [told_scale(scale) if scale is not None else "", f"window {window:,}" if window else ""]
    return tuple(filter(None, (", ".join(filter(None, told)), str(dtype or ""))))


def mean_cell(content: Results, name: str) -> Cell | None:
    """Return a checkpoint's mean over the tasks, with what it depends on; None if it has none."""
    mean = content["mean"]
    for each in ("before", "after"):
        if mean is not None and content[each]["label"] == name:
            error = mean.get(f"{each}_stderr")
            small = [f"± {number(100 * error)}"] if error is not None else []
            if each == "after":
                told, error = mean["difference"], mean["difference_stderr"]
                of = f" ± {number(100 * error)}" if error is not None else ""
                small.append(f"{100 * told:+.2f}{of}")
            return Cell(f"{100 * mean[each]:.2f} %", (*small, *served(content[each])[:1]))
    return None


def told_questions(content: Results) -> str:
    """Return how many questions of how many tasks there are."""
    asked = {row["task"]: row["questions"] or 0 for row in content["results"]}
    return f"{sum(asked.values()):,} questions of {len(asked)} tasks"

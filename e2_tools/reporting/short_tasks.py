# SPDX-License-Identifier: Apache-2.0
"""The part of a report on short tasks: what was kept of them."""

from pathlib import Path

from e2_tools.evaluation.short import conditions, read_short, rows
from e2_tools.reporting.collect import Result
from e2_tools.reporting.page import Section, Table


def short_tasks(folder: Path, results: list[Result]) -> list[Section]:
    """Return the section: a table per file, before and after.

    Args:
        folder: of the run; files are named from there.
        results: files of ``examples/evaluation/short_table.py``.

    Raises:
        UserError: a file is not whole.
    """
    section = Section(
        "Short tasks",
        "lm-eval's scores in percent before and after, with standard errors; that of a difference "
        "is over the differences of the questions. The mean is over each task's first metric.",
    )
    for path, content in results:
        head, table = rows(read_short(path, content))
        caption = f"{content['label']} ({path.relative_to(folder)}): {conditions(content)}"
        section.tables.append(Table(head, table, caption))
    return [section]

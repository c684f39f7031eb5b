# SPDX-License-Identifier: Apache-2.0
"""The part of a report on training: the curves, and where they ended."""

import os
from pathlib import Path

from e2_tools.evaluation.intervals import told_value
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.curves import ENDS, Scalars, draw_curves, read_scalars
from e2_tools.reporting.page import Cell, Section, Table

_EXPORT = "-hf"  # ends the folders that the examples export to


def section(page: Page) -> list[Section]:
    """Return the section, if a run has logged anything more than once."""
    if not page.run.events:
        return []
    # Names without what they share: tensorboard/base, tensorboard/e2 -> base, e2.
    above = Path(os.path.commonpath([folder.parent for folder in page.run.events]))
    runs = {str(folder.relative_to(above)): read_scalars(folder) for folder in page.run.events}
    for run in runs:  # the export of a run is named after it
        for name in (name for name in page.names if name in (run, f"{run}{_EXPORT}")):
            page.looks.share(run, name)
    figures = draw_curves(runs, page.looks)
    if not figures:
        return []
    about = "From the TensorBoard files of the run; of an iteration done twice the later one."
    shown = [(f"{title}.", figure) for title, figure in figures.items()]
    return [Section("Training", about, figures=shown, tables=_last_values(page, runs))]


def _last_values(page: Page, runs: dict[str, Scalars]) -> list[Table]:
    """The last losses and gains of each run, and at which iteration they were taken."""
    tags = [
        tag
        for start in ENDS
        for tag in dict.fromkeys(tag for scalars in runs.values() for tag in scalars)
        if tag.startswith(start)
    ]
    if not tags:
        return []
    rows = [
        [page.head(name), *(_last(scalars, tag) for tag in tags)] for name, scalars in runs.items()
    ]
    return [Table(["run", *tags], rows, "Last values, each of one validation.")]


def _last(scalars: Scalars, tag: str) -> Cell:
    if tag not in scalars:
        return Cell("-")
    curve = scalars[tag]
    return Cell(told_value(curve.values[-1]), (f"iteration {curve.steps[-1]:,}",))
